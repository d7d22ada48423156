//! Compaction, and what is not in memory.
//!
//! The state at one position is written as segments, a few at a time, while writing goes on; then
//! the base is switched in one small transaction. Nothing is deleted before that, and log entries
//! only while no other tab is open ([`Manager::sweep`]): one that is behind would append where they
//! have been.

use super::{Backend, Clock, Manager};
use crate::error::Result;
use crate::limits;
use crate::model::{Key, Name, Verdict};
use crate::replica::fold::{Fold, size_of};
use crate::replica::plan::{Intent, Write};
use crate::shown::Shown;
use crate::store::{Base, Entry, Fact, Place, Seq, Store};
use crate::value::Value;
use std::cell::Cell;
use std::rc::Rc;

/// The right to compact, until it is dropped.
struct Turn(Rc<Cell<bool>>);

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

impl<V: Value, S: Store<V>, B: Backend<V>, C: Clock> Manager<V, S, B, C> {
    /// Nobody sweeps while segments are written that no base names yet, nor the other way round.
    fn turn(&self) -> Option<Turn> {
        let compacting = &self.0.compacting;
        (!compacting.replace(true)).then(|| Turn(compacting.clone()))
    }

    /// Reads the segments of the base.
    pub(super) async fn load_base(&self) -> Result<()> {
        let base = self.0.base.borrow().clone();
        let mut collections = Vec::new();
        for ids in base.segments.chunks(limits::SEGMENTS_READ_AT_ONCE) {
            for (id, entry) in self.0.store.read_segments(ids).await? {
                match entry {
                    Ok(entry) => {
                        self.0.sizes.borrow_mut().insert(id, size_of(&entry));
                        self.0.replica.borrow_mut().read_from(id);
                        self.take_in(&entry, &mut collections);
                        self.0.replica.borrow_mut().read_from(0);
                    }
                    Err(error) => self.set_aside(Place::Segment(id), &error).await,
                }
            }
            self.0.store.evict();
        }
        if base.through > 0 {
            let mut replica = self.0.replica.borrow_mut();
            replica.reserve_no(base.summary.next_no);
            self.0.seq.set(base.through);
        }
        Ok(())
    }

    /// Takes account of entries that are in the log now.
    pub(super) fn logged(&self, facts: impl Iterator<Item = usize>) {
        let (mut entries, mut count) = self.0.unfolded.get();
        for facts in facts {
            entries += 1;
            count += facts;
        }
        self.0.unfolded.set((entries, count));
        self.0.written_ms.set(self.now_ms());
        if entries >= limits::FOLD_ENTRIES_MIN || count >= limits::FOLD_FACTS_MIN {
            self.schedule_fold();
        }
    }

    fn schedule_fold(&self) {
        if self.0.folding.replace(true) {
            return;
        }
        let manager = self.clone();
        self.0.clock.spawn(Box::pin(async move {
            for _ in 0..limits::FOLD_WAITS_MAX {
                let quiet_ms = manager.now_ms() - manager.0.written_ms.get();
                if !(0.0..limits::FOLD_QUIET_MS).contains(&quiet_ms) {
                    break;
                }
                let rest_ms = limits::FOLD_QUIET_MS - quiet_ms;
                manager.0.clock.sleep(rest_ms).await;
            }
            // It is tried again after the next write; the log is whole without it.
            let folded = manager.fold().await;
            manager.0.folding.set(false);
            if folded.is_ok_and(|folded| folded) {
                manager.0.listener.folded();
            }
        }));
    }

    /// Folds the log into segments; answers whether it did. Only the tab that syncs does, so that two
    /// do not do the same work.
    ///
    /// # Errors
    /// What the store reports. Nothing is lost by it.
    pub async fn fold(&self) -> Result<bool> {
        let folded = self.write_base().await;
        // Segments that no base names may be left: on a disk that is full they would keep everything else out.
        folded.inspect_err(|_| self.0.listener.folded())
    }

    async fn write_base(&self) -> Result<bool> {
        let leads = self.0.engine.borrow().leader() && !self.is_closed();
        if !leads {
            return Ok(false);
        }
        let Some(_turn) = self.turn() else {
            return Ok(false);
        };
        let (tell, told) = super::later();
        let manager = self.clone();
        // Between two commits: what is folded is what the log says.
        self.settle(Box::new(move || {
            tell(manager.capture());
        }));
        let Some((through, unfolded, fold)) = told.await else {
            return Ok(false);
        };
        if self.is_closed() {
            return Ok(false);
        }
        let old = self.0.base.borrow().clone();
        let mut written = Vec::with_capacity(fold.entries.len());
        for part in fold.entries.chunks(limits::SEGMENTS_AT_ONCE) {
            self.fetch_entries(part).await?;
            written.extend(self.0.store.write_segments(part).await?);
            self.0.store.evict();
        }
        let new = written.iter().map(|(id, _)| *id);
        let base = Base {
            generation: old.generation + 1,
            through,
            segments: fold.kept.iter().copied().chain(new).collect(),
            summary: fold.summary,
        };
        if !self.0.store.switch(&base).await? {
            // Another tab has folded meanwhile.
            *self.0.base.borrow_mut() = self.0.store.tail().await?.base;
            return Ok(false);
        }
        let mut replica = self.0.replica.borrow_mut();
        let mut sizes = self.0.sizes.borrow_mut();
        let gone = sizes.iter().map(|(id, _)| *id);
        let gone: Vec<_> = gone.filter(|id| !fold.kept.contains(id)).collect();
        for id in gone {
            sizes.remove(&id);
        }
        for (was, (id, entry)) in fold.entries.iter().zip(&written) {
            sizes.insert(*id, size_of(entry));
            replica.rehome(*id, was, entry);
        }
        *self.0.base.borrow_mut() = base;
        let now = self.0.unfolded.get();
        self.0
            .unfolded
            .set((now.0 - unfolded.0.min(now.0), now.1 - unfolded.1.min(now.1)));
        Ok(true)
    }

    fn capture(&self) -> (Seq, (usize, usize), Fold<V>) {
        let fold = self.0.replica.borrow().fold(&self.0.sizes.borrow());
        (self.0.seq.get(), self.0.unfolded.get(), fold)
    }

    /// Deletes what a compaction has left behind. Only while no other tab has the database open.
    /// Nothing happens while this tab compacts, or where another one has compacted since; what is left
    /// then goes with the next sweep.
    ///
    /// # Errors
    /// What the store reports.
    pub async fn sweep(&self) -> Result<()> {
        let Some(_turn) = self.turn() else {
            return Ok(());
        };
        let generation = self.0.base.borrow().generation;
        self.0.store.sweep(generation, self.0.seq.get()).await
    }

    /// Whether nothing is ever let go: only what is in a segment is.
    fn keeps_everything(&self) -> bool {
        self.0.base.borrow().segments.is_empty()
    }

    /// Brings into memory what deciding these intents looks at.
    pub(super) async fn fetch_for(&self, intents: &[Intent<V>]) -> Result<()> {
        if self.keeps_everything() {
            return Ok(());
        }
        let mut missing = Vec::new();
        {
            let replica = self.0.replica.borrow();
            for intent in intents {
                replica.missing_for(intent, &mut missing);
            }
        }
        self.fetch_values(missing).await
    }

    /// The same for facts that another tab has decided.
    pub(super) async fn fetch_for_facts(&self, facts: &[Fact<V>]) -> Result<()> {
        if self.keeps_everything() {
            return Ok(());
        }
        let mut missing = Vec::new();
        {
            let replica = self.0.replica.borrow();
            for fact in facts {
                match fact {
                    Fact::Acked { no, .. } | Fact::Cancelled { no, .. } => {
                        replica.missing_of_no(*no, &mut missing);
                    }
                    // What shows as a patch does so on top of the record, queued for or not.
                    Fact::Queued {
                        collection,
                        key,
                        shows: Shown::Patch(..),
                        ..
                    } => replica.missing_of(collection, key, &mut missing),
                    Fact::Queued {
                        collection, key, ..
                    }
                    | Fact::Remote {
                        collection, key, ..
                    } if replica.has_pending(collection, key) => {
                        replica.missing_of(collection, key, &mut missing);
                    }
                    Fact::Run(run) if !replica.is_news(run) => {
                        for key in run.keys.iter() {
                            if replica.has_pending(&run.collection, key) {
                                replica.missing_of(&run.collection, key, &mut missing);
                            }
                        }
                    }
                    Fact::Rekeyed {
                        collection,
                        from,
                        to,
                        ..
                    } => {
                        replica.missing_of(collection, from, &mut missing);
                        replica.missing_of(collection, to, &mut missing);
                    }
                    _ => {}
                }
            }
        }
        self.fetch_values(missing).await
    }

    /// Brings into memory what is to be written. Nothing may be awaited between this and the writing.
    pub(super) async fn fetch_entries(&self, entries: &[Entry<V>]) -> Result<()> {
        let mut missing = Vec::new();
        if !self.keeps_everything() {
            for entry in entries {
                entry.each_value(|v| missing.extend((!v.is_resident()).then(|| v.clone())));
            }
        }
        self.fetch_values(missing).await
    }

    /// Brings values into memory, where they are until whoever asked awaits something else.
    ///
    /// # Errors
    /// What the store reports.
    pub async fn fetch_values(&self, missing: Vec<V>) -> Result<()> {
        if missing.is_empty() {
            return Ok(());
        }
        self.0.store.fetch(&missing).await
    }
}

impl<V: Value> crate::replica::Replica<V> {
    fn has_pending(&self, collection: &str, key: &str) -> bool {
        let collection = self.collection(collection);
        let record = collection.and_then(|c| c.record(c.present(key)));
        record.is_some_and(|r| r.pending.is_some())
    }

    fn missing_for_write(&self, name: &Name, write: &Write<V>, missing: &mut Vec<V>) {
        let Some(collection) = self.collection(name) else {
            return;
        };
        let (key, looks): (Option<Key>, bool) = match write {
            Write::Create(value) | Write::Put(value) => (value.text(&collection.spec.key), false),
            Write::Update { key, .. } | Write::Promote(key) => (Some(key.clone()), true),
            Write::Delete(key) => (Some(key.clone()), false),
        };
        if let Some(key) = key
            && (looks || self.has_pending(name, &key))
        {
            self.missing_of(name, &key, missing);
        }
    }

    fn missing_for_conflict(&self, id: &str, missing: &mut Vec<V>) {
        if let Some(no) = self.find_mutation(id) {
            self.missing_of_no(no, missing);
        } else if let Some(known) = self.conflicts().iter().find(|c| *c.id == *id) {
            self.missing_of(&known.collection, &known.key, missing);
            known.missing(missing);
        }
    }

    /// Where two atomic groups become one, or a record moves to another key, mutations are written down anew
    /// whose records nobody has named: members, or (`all`) whatever refers to that record.
    fn missing_of_patches(&self, all: bool, missing: &mut Vec<V>) {
        for m in self.outbox.patches() {
            if all || m.group.is_some() {
                self.missing_of(&m.collection, &m.key, missing);
            }
        }
    }

    /// What deciding an intent looks at and is not in memory.
    fn missing_for(&self, intent: &Intent<V>, missing: &mut Vec<V>) {
        match intent {
            Intent::Write(name, writes, _) => {
                for write in writes {
                    self.missing_for_write(name, write, missing);
                }
            }
            Intent::Transaction(transaction) => {
                for (name, write, _) in &transaction.writes {
                    self.missing_for_write(name, write, missing);
                }
                for read in &transaction.reads {
                    self.missing_of(&read.collection, &read.key, missing);
                }
                self.missing_of_patches(false, missing);
            }
            Intent::Import(import) => {
                for held in &import.mutations {
                    self.missing_of(&held.mutation.collection, &held.mutation.key, missing);
                }
            }
            Intent::Verdicts(verdicts) => {
                let mut moves = false;
                for (no, verdict) in verdicts {
                    self.missing_of_no(*no, missing);
                    if let (Verdict::Rekeyed { key, .. }, Some(m)) = (verdict, self.outbox.get(*no))
                    {
                        moves = true;
                        self.missing_of(&m.collection, key, missing);
                    }
                }
                self.missing_of_patches(moves, missing);
            }
            Intent::Page(_, page) => {
                let mut moves = false;
                for change in &page.changes {
                    if self.has_pending(&change.collection, &change.key) {
                        self.missing_of(&change.collection, &change.key, missing);
                    }
                    moves |= self.may_move(change);
                }
                if moves {
                    self.missing_of_patches(true, missing);
                }
            }
            Intent::Retry(None) => {
                for m in self.outbox.parked() {
                    self.missing_of(&m.collection, &m.key, missing);
                }
            }
            Intent::Retry(Some(no)) | Intent::Discard(no) => self.missing_of_no(*no, missing),
            Intent::Edit(edit) => self.missing_of_no(edit.no, missing),
            Intent::Decided(decided) => self.missing_of_no(decided.no, missing),
            Intent::Resolve(id, _) => self.missing_for_conflict(id, missing),
            _ => {}
        }
    }
}
