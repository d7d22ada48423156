//! The store of native tests: a vector that several "tabs" share and that can be made to fail.

use super::{AppendError, Base, Entry, Place, ReadEntry, SegmentId, Seq, Store, Tail};
use crate::error::{Code, Error};
use futures_channel::oneshot;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
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
    entries: RefCell<BTreeMap<Seq, Entry<V>>>,
    segments: RefCell<BTreeMap<SegmentId, Entry<V>>>,
    base: RefCell<Base>,
    damaged: RefCell<Vec<Place>>,
    quarantined: RefCell<Vec<Place>>,
    fault: Cell<Fault>,
    unreadable: Cell<bool>,
    held: RefCell<Option<oneshot::Receiver<()>>>,
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
            entries: RefCell::new(BTreeMap::new()),
            segments: RefCell::new(BTreeMap::new()),
            base: RefCell::new(Base::default()),
            damaged: RefCell::new(Vec::new()),
            quarantined: RefCell::new(Vec::new()),
            fault: Cell::new(Fault::None),
            unreadable: Cell::new(false),
            held: RefCell::default(),
            appends: Cell::new(0),
        }))
    }

    /// Decides what the next append does.
    pub fn fail_next(&self, fault: Fault) {
        self.0.fault.set(fault);
    }

    /// The log cannot be read the next time.
    pub fn fail_next_read(&self) {
        self.0.unreadable.set(true);
    }

    /// Sweeps, but keeps what rows are needed of.
    pub fn sweep_but(&self, generation: u64, read: Seq, needed: &dyn Fn(SegmentId) -> bool) {
        let base = self.0.base.borrow();
        if base.generation != generation {
            return;
        }
        let mut entries = self.0.entries.borrow_mut();
        entries.retain(|seq, _| *seq > base.through.min(read));
        let mut segments = self.0.segments.borrow_mut();
        segments.retain(|id, _| base.segments.contains(id) || needed(*id));
    }

    /// Whether a segment is there.
    #[must_use]
    pub fn has_segment(&self, id: SegmentId) -> bool {
        self.0.segments.borrow().contains_key(&id)
    }

    /// The next append takes until the answer's other end is used or dropped.
    pub fn hold_next(&self) -> oneshot::Sender<()> {
        let (go, held) = oneshot::channel();
        self.0.held.replace(Some(held));
        go
    }

    /// Makes an entry unreadable.
    pub fn damage(&self, place: Place) {
        self.0.damaged.borrow_mut().push(place);
    }

    /// Entries that were set aside.
    #[must_use]
    pub fn quarantined(&self) -> Vec<Place> {
        self.0.quarantined.borrow().clone()
    }

    /// Transactions so far.
    #[must_use]
    pub fn appends(&self) -> usize {
        self.0.appends.get()
    }
}

/// What a store holds, to be put back: a disk that has lost power is as it was before.
#[derive(Clone)]
pub struct State<V> {
    entries: BTreeMap<Seq, Entry<V>>,
    segments: BTreeMap<SegmentId, Entry<V>>,
    base: Base,
}

impl<V: Clone> MemoryStore<V> {
    /// What it holds now.
    #[must_use]
    pub fn state(&self) -> State<V> {
        State {
            entries: self.0.entries.borrow().clone(),
            segments: self.0.segments.borrow().clone(),
            base: self.0.base.borrow().clone(),
        }
    }

    /// The power is lost: what came after the last entry that had to be flushed is gone.
    pub fn lose_power(&self) {
        let mut entries = self.0.entries.borrow_mut();
        let flushed = entries.iter().rfind(|(_, entry)| entry.must_be_flushed());
        let flushed = flushed.map_or(0, |(seq, _)| *seq);
        entries.retain(|seq, _| *seq <= flushed);
    }

    /// It holds this again.
    pub fn put_back(&self, state: State<V>) {
        self.0.entries.replace(state.entries);
        self.0.segments.replace(state.segments);
        self.0.base.replace(state.base);
    }
}

impl<V> MemoryStore<V> {
    /// The entries of the log, and the number of segments.
    #[must_use]
    pub fn sizes(&self) -> (usize, usize) {
        let entries = self.0.entries.borrow().len();
        (entries, self.0.segments.borrow().len())
    }

    fn newest(&self) -> Seq {
        let entries = self.0.entries.borrow();
        let last = entries.last_key_value().map_or(0, |(seq, _)| *seq);
        last.max(self.0.base.borrow().through)
    }
}

impl<V: Clone> MemoryStore<V> {
    fn readable(&self, place: Place, entry: &Entry<V>) -> Result<Entry<V>, Error> {
        if self.0.damaged.borrow().contains(&place) {
            return Err(Error::new(Code::DatabaseDamaged, format!("{place:?}")));
        }
        Ok(entry.clone())
    }

    fn fail(&self) -> Result<Fault, Error> {
        match self.0.fault.take() {
            Fault::Full => Err(Error::new(Code::QuotaExceeded, "the disk is full")),
            other => Ok(other),
        }
    }
}

impl<V: Clone + 'static> Store<V> for MemoryStore<V> {
    async fn tail(&self) -> Result<Tail, Error> {
        let entries = self.0.entries.borrow();
        let base = self.0.base.borrow().clone();
        let newest = entries.last_key_value().map(|(_, e)| e.summary.clone());
        let folded = (base.through > 0).then(|| base.summary.clone());
        Ok(Tail {
            client: self.0.client.clone(),
            seq: self.newest(),
            summary: newest.or(folded),
            base,
        })
    }

    async fn read(
        &self,
        after: Seq,
        limit: u32,
    ) -> Result<impl IntoIterator<Item = ReadEntry<V>>, Error> {
        if self.0.unreadable.take() {
            return Err(Error::new(Code::StorageFailed, "the disk cannot be read"));
        }
        let entries = self.0.entries.borrow();
        let page = entries.range(after + 1..).take(limit as usize);
        let read = |(seq, entry): (&Seq, &Entry<V>)| {
            let entry = self.readable(Place::Log(*seq), entry);
            // As the browser's store reads what it has written.
            let entry = entry.map(|entry| Entry {
                facts: super::runs(entry.facts),
                ..entry
            });
            (*seq, entry)
        };
        Ok(page.map(read).collect::<Vec<_>>())
    }

    async fn append(&self, after: Seq, new: &[Entry<V>]) -> Result<(), AppendError> {
        let held = self.0.held.take();
        if let Some(held) = held {
            // Used or dropped: it goes on.
            let _ = held.await;
        }
        let fault = self.fail()?;
        {
            // As in IndexedDB: only a taken position refuses.
            let mut entries = self.0.entries.borrow_mut();
            let taken = (after + 1..)
                .zip(new)
                .any(|(seq, _)| entries.contains_key(&seq));
            if taken {
                return Err(AppendError::Taken);
            }
            entries.extend((after + 1..).zip(new.iter().cloned()));
        }
        self.0.appends.set(self.0.appends.get() + 1);
        if fault == Fault::LostAfterCommit {
            std::future::pending::<()>().await;
        }
        Ok(())
    }

    async fn quarantine(&self, place: Place, _reason: &str) -> Result<(), Error> {
        let mut quarantined = self.0.quarantined.borrow_mut();
        if !quarantined.contains(&place) {
            quarantined.push(place);
        }
        Ok(())
    }

    async fn read_segments(&self, ids: &[SegmentId]) -> Result<Vec<ReadEntry<V>>, Error> {
        let segments = self.0.segments.borrow();
        let read = |id: &SegmentId| match segments.get(id) {
            Some(entry) => (*id, self.readable(Place::Segment(*id), entry)),
            None => (
                *id,
                Err(Error::new(Code::DatabaseDamaged, "a segment is missing")),
            ),
        };
        Ok(ids.iter().map(read).collect())
    }

    async fn write_segments(&self, new: &[Entry<V>]) -> Result<Vec<(SegmentId, Entry<V>)>, Error> {
        self.fail()?;
        let mut segments = self.0.segments.borrow_mut();
        let next = segments.last_key_value().map_or(1, |(id, _)| id + 1);
        let written: Vec<_> = (next..).zip(new.iter().cloned()).collect();
        segments.extend(written.iter().cloned());
        Ok(written)
    }

    async fn switch(&self, base: &Base) -> Result<bool, Error> {
        self.fail()?;
        let mut stored = self.0.base.borrow_mut();
        if stored.generation + 1 != base.generation {
            return Ok(false);
        }
        *stored = base.clone();
        Ok(true)
    }

    async fn sweep(&self, generation: u64, read: Seq) -> Result<(), Error> {
        self.sweep_but(generation, read, &|_| false);
        Ok(())
    }

    async fn fetch(&self, _values: &[V]) -> Result<(), Error> {
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
