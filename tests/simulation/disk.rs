//! A browser profile's disk: the memory store behind transactions that take their time, can be
//! aborted, find the disk full, or vanish with the tab that made them. What gets stored is read by
//! the oracle as it is stored.

use super::chance::Chance;
use super::oracle::{self, Device};
use super::record::{Content, Record};
use super::world::World;
use landfall::error::{Code, Error};
use landfall::store::memory::{MemoryStore, State};
use landfall::store::{
    AppendError, Base, Entry, Fact, Place, ReadEntry, SegmentId, Seq, Store, Tail,
};
use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};

type Result<T, E = Error> = std::result::Result<T, E>;

/// What survives every tab.
pub(crate) struct Disk {
    pub(crate) log: RefCell<MemoryStore<Record>>,
    pub(crate) full: Cell<bool>,
    /// So many of the next transactions are aborted.
    pub(crate) aborts: Cell<u32>,
    /// Where power can be lost: what the disk was before each transaction that is not flushed, and
    /// when.
    pub(crate) unflushed: Cell<Option<Vec<Before>>>,
}

/// What a disk was, when, and what the account knew of it.
pub(crate) type Before = (u64, State<Record>, Device);

impl Disk {
    /// From now on what is not flushed can be lost.
    pub(crate) fn fear_power(&self) {
        self.unflushed.set(Some(Vec::new()));
    }

    /// Nothing of before can be lost any more.
    pub(crate) fn forget_power(&self) {
        let known = self.unflushed.take();
        self.unflushed.set(known.map(|_| Vec::new()));
    }

    /// The power is lost: answers from when the disk is, if something of it is gone.
    pub(crate) fn lose_power(&self, chance: &Chance) -> Option<(u64, Device)> {
        let mut states = self.unflushed.take()?;
        self.unflushed.set(Some(Vec::new()));
        let at = chance.index(states.len() + 1);
        let (moment, state, device) = (at < states.len()).then(|| states.swap_remove(at))?;
        self.log.borrow().put_back(state);
        Some((moment, device))
    }
}

/// One tab's connection.
pub(crate) struct SimStore {
    world: Rc<World>,
    client: usize,
    tab: usize,
    strict: bool,
    log: MemoryStore<Record>,
    homed: RefCell<Vec<Weak<Content>>>,
    chance: Chance,
}

impl SimStore {
    pub(crate) fn new(world: &Rc<World>, client: usize, tab: usize) -> Self {
        Self {
            world: world.clone(),
            client,
            tab,
            strict: world.strict.get(),
            log: world.clients[client].disk.log.borrow().clone(),
            homed: RefCell::default(),
            chance: world.chance.clone(),
        }
    }

    fn disk(&self) -> &Disk {
        &self.world.clients[self.client].disk
    }

    /// Lets everything go that can be fetched again.
    pub(crate) fn evict_all(&self) {
        for content in self.homed.borrow().iter().filter_map(Weak::upgrade) {
            content.resident.set(false);
        }
    }

    fn home(&self, mut entry: Entry<Record>) -> Entry<Record> {
        entry.facts = landfall::store::singles(&entry.facts);
        for fact in &mut entry.facts {
            if let Fact::Remote {
                value: Some(record),
                ..
            } = fact
            {
                *record = Record::of(record.0.json.clone());
                self.homed.borrow_mut().push(Rc::downgrade(&record.0));
            }
        }
        entry.facts = landfall::store::runs(entry.facts);
        entry
    }

    fn write(&self) -> Result<()> {
        let disk = self.disk();
        if disk.aborts.get() > 0 {
            disk.aborts.set(disk.aborts.get() - 1);
            return Err(Error::new(
                Code::StorageFailed,
                "the transaction was aborted",
            ));
        }
        if disk.full.get() {
            return Err(Error::new(Code::QuotaExceeded, "the disk is full"));
        }
        Ok(())
    }

    /// A transaction is about to be stored. What must not be lost is flushed with all before it.
    fn remember(&self) {
        let disk = self.disk();
        let Some(mut states) = disk.unflushed.take() else {
            return;
        };
        // Now and then the system flushes by itself.
        if self.chance.percent(12) {
            states.clear();
        }
        let oracle = self.world.oracle.borrow();
        states.push((oracle.now(), self.log.state(), oracle.device(self.client)));
        disk.unflushed.set(Some(states));
    }

    async fn moment(&self) {
        self.world.exec.moment().await;
    }
}

impl Store<Record> for SimStore {
    async fn tail(&self) -> Result<Tail> {
        self.moment().await;
        let tail = self.log.tail().await;
        self.moment().await;
        tail
    }

    async fn read(
        &self,
        after: Seq,
        limit: u32,
    ) -> Result<impl IntoIterator<Item = ReadEntry<Record>>> {
        self.moment().await;
        self.log.read(after, limit).await
    }

    async fn append(&self, after: Seq, entries: &[Entry<Record>]) -> Result<(), AppendError> {
        self.moment().await;
        self.write()?;
        let trace = &self.world.trace;
        self.remember();
        self.log.append(after, entries).await?;
        if self.strict || entries.iter().any(Entry::must_be_flushed) {
            self.disk().forget_power();
        }
        for entry in entries {
            trace.mark(entry.facts.len() as u64);
        }
        trace.mark(after);
        self.world.say(|| {
            let (c, t) = (self.client, self.tab);
            let facts = entries.iter().flat_map(|e| e.facts.iter().map(name));
            let facts: Vec<_> = facts.collect();
            let left = entries.last().map(|e| e.summary.pending);
            format!(
                "c{c} tab {t} stores {} at {}: pending {left:?}",
                facts.join(" "),
                after + 1
            )
        });
        oracle::stored(&self.world, self.client, self.tab, entries);
        self.moment().await;
        Ok(())
    }

    async fn quarantine(&self, place: Place, reason: &str) -> Result<()> {
        self.log.quarantine(place, reason).await
    }

    async fn read_segments(&self, ids: &[SegmentId]) -> Result<Vec<ReadEntry<Record>>> {
        self.moment().await;
        let read = self.log.read_segments(ids).await?;
        let home = |(id, entry): ReadEntry<Record>| (id, entry.map(|e| self.home(e)));
        Ok(read.into_iter().map(home).collect())
    }

    async fn write_segments(
        &self,
        new: &[Entry<Record>],
    ) -> Result<Vec<(SegmentId, Entry<Record>)>> {
        self.moment().await;
        self.write()?;
        self.remember();
        let written = self.log.write_segments(new).await?;
        self.moment().await;
        let home = |(id, entry)| (id, self.home(entry));
        Ok(written.into_iter().map(home).collect())
    }

    async fn switch(&self, base: &Base) -> Result<bool> {
        self.moment().await;
        self.write()?;
        self.remember();
        let switched = self.log.switch(base).await;
        self.moment().await;
        switched
    }

    async fn sweep(&self, generation: u64, read: Seq) -> Result<()> {
        self.moment().await;
        self.remember();
        self.log.sweep(generation, read).await
    }

    async fn fetch(&self, values: &[Record]) -> Result<()> {
        self.moment().await;
        for record in values {
            record.0.resident.set(true);
        }
        Ok(())
    }

    fn evict(&self) {
        if self.chance.percent(10) {
            self.evict_all();
        }
    }
}

/// A fact in a word or two.
fn name(fact: &Fact<Record>) -> String {
    match fact {
        Fact::Queued { no, .. } => format!("queued-{no}"),
        Fact::Run(run) => format!("run-of-{}", run.values.len()),
        Fact::Held(held) => format!("held-{}", held.mutation.no),
        Fact::Local { key, .. } => format!("local-{key}"),
        Fact::Schema { version, .. } => format!("schema-{version}"),
        Fact::Cancelled { no, why } => format!("cancelled-{no}-{why:?}"),
        Fact::Sent { nos } => format!("sent-{nos:?}"),
        Fact::Acked { no, .. } => format!("acked-{no}"),
        Fact::Refused { no, .. } => format!("refused-{no}"),
        Fact::Rebased { no } => format!("rebased-{no}"),
        Fact::Rekeyed { from, to, .. } => format!("rekeyed-{from}-{to}"),
        Fact::Aliases { pairs, .. } => format!("aliases-{pairs:?}"),
        Fact::Confirmed { key, confirmed, .. } => format!("confirmed-{key}-{}", confirmed.at),
        Fact::Waits { no } => format!("waits-{no}"),
        Fact::Remote { key, version, .. } => format!("remote-{key}-{}", version.0),
        Fact::Checkpoint { checkpoint, .. } => format!("checkpoint-{checkpoint:?}"),
        Fact::Conflicted(conflict) => format!("conflict-{}", conflict.key),
        Fact::ConflictsCleared => "conflicts-cleared".into(),
    }
}
