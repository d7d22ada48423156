//! The store of native tests: a vector that several "tabs" share and that can be made to fail.

use super::{AppendError, Entry, ReadEntry, Seq, Store, Tail};
use crate::error::{Code, Error};
use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// What the next append does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fault {
    /// It works.
    #[default]
    None,
    /// The disk is full: nothing is stored.
    Full,
    /// It is stored, but the writer never hears of it: a crash right after the commit.
    LostAfterCommit,
}

struct Disk<V> {
    client: Rc<str>,
    entries: RefCell<Vec<Entry<V>>>,
    damaged: RefCell<Vec<Seq>>,
    quarantined: RefCell<Vec<Seq>>,
    fault: Cell<Fault>,
    appends: Cell<usize>,
}

/// A handle on a shared log; clones are further tabs, and survive a "crash" of any of them.
#[derive(Clone)]
pub struct MemoryStore<V>(Rc<Disk<V>>);

impl<V> MemoryStore<V> {
    /// An empty log of this client.
    #[must_use]
    pub fn new(client: &str) -> Self {
        Self(Rc::new(Disk {
            client: client.into(),
            entries: RefCell::new(Vec::new()),
            damaged: RefCell::new(Vec::new()),
            quarantined: RefCell::new(Vec::new()),
            fault: Cell::new(Fault::None),
            appends: Cell::new(0),
        }))
    }

    /// Decides what the next append does.
    pub fn fail_next(&self, fault: Fault) {
        self.0.fault.set(fault);
    }

    /// Makes an entry unreadable.
    pub fn damage(&self, seq: Seq) {
        self.0.damaged.borrow_mut().push(seq);
    }

    /// Entries that were set aside.
    #[must_use]
    pub fn quarantined(&self) -> Vec<Seq> {
        self.0.quarantined.borrow().clone()
    }

    /// Transactions so far.
    #[must_use]
    pub fn appends(&self) -> usize {
        self.0.appends.get()
    }
}

impl<V: Clone + 'static> Store<V> for MemoryStore<V> {
    async fn tail(&self) -> Result<Tail, Error> {
        let entries = self.0.entries.borrow();
        Ok(Tail {
            client: self.0.client.clone(),
            seq: entries.len() as Seq,
            summary: entries.last().map(|e| e.summary.clone()),
        })
    }

    async fn read(&self, after: Seq, limit: u32) -> Result<Vec<ReadEntry<V>>, Error> {
        let entries = self.0.entries.borrow();
        let damaged = self.0.damaged.borrow();
        let from = (after as usize).min(entries.len());
        let page = entries[from..].iter().take(limit as usize).enumerate();
        Ok(page
            .map(|(i, entry)| {
                let seq = after + 1 + i as Seq;
                if damaged.contains(&seq) {
                    (
                        seq,
                        Err(Error::new(Code::DatabaseDamaged, format!("entry {seq}"))),
                    )
                } else {
                    (seq, Ok(entry.clone()))
                }
            })
            .collect())
    }

    async fn append(&self, after: Seq, new: &[Entry<V>]) -> Result<(), AppendError> {
        let fault = self.0.fault.take();
        if fault == Fault::Full {
            return Err(Error::new(Code::QuotaExceeded, "the disk is full").into());
        }
        if self.0.entries.borrow().len() as Seq != after {
            return Err(AppendError::Taken);
        }
        self.0.entries.borrow_mut().extend_from_slice(new);
        self.0.appends.set(self.0.appends.get() + 1);
        if fault == Fault::LostAfterCommit {
            std::future::pending::<()>().await;
        }
        Ok(())
    }

    async fn quarantine(&self, seq: Seq, _reason: &str) -> Result<(), Error> {
        let mut quarantined = self.0.quarantined.borrow_mut();
        if !quarantined.contains(&seq) {
            quarantined.push(seq);
        }
        Ok(())
    }
}

#[cfg(all(test, not(target_family = "wasm")))]
mod tests {
    use super::MemoryStore;
    use crate::store::conformance;
    use serde_json::{Value as Json, json};
    use std::rc::Rc;

    #[test]
    fn conforms() {
        let store = MemoryStore::<Rc<Json>>::new("c1");
        let other = store.clone();
        let record = |n: u32| Rc::new(json!({ "id": format!("r{n}"), "n": n }));
        futures_executor::block_on(conformance::run(store, other, record));
    }
}
