//! The store: an append-only log, kept by IndexedDB in the browser and by a vector in tests.
//!
//! One commit is one or more *entries*, appended in ONE transaction at the explicit sequence
//! numbers that follow the last one the writer knows. An entry is a list of *facts*: what has
//! become true, already decided. Replaying all entries in order gives the state, in every tab and
//! after every crash; deciding happens before, in [`crate::replica`].
//!
//! Compaction folds the log into *segments*: entries again, whose facts are the state at one
//! position, in as few words as possible. The *base* names that position and the segments; the state
//! is the base's segments and the log after it. Segments are written first and the base is switched
//! in one transaction, so an interrupted compaction leaves only what [`Store::sweep`] removes.
//!
//! `conformance` is the one suite that every store has to pass.

#[cfg(test)]
pub mod conformance;
#[cfg(not(target_family = "wasm"))]
mod gather;
#[cfg(not(target_family = "wasm"))]
pub mod memory;
mod run;

#[cfg(not(target_family = "wasm"))]
pub use gather::runs;
pub use run::{Keys, Made, MadeAt, Queued, Run, Said, singles};

use crate::conflict::Conflict;
use crate::error::Error;
use crate::hlc::Hlc;
use crate::model::{Action, Confirmed, Held, Key, MutationNo, Name, Refusal, Version};
use crate::shown::{Names, Shown};
use std::rc::Rc;

/// The format of entries; a store with a higher one is refused.
pub const FORMAT: u32 = 4;

/// Position of an entry in the log; the first is 1.
pub type Seq = u64;
/// Number of a segment; the first is 1.
pub type SegmentId = u64;

/// What compaction has folded: the state at `through` is what these segments say.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Base {
    /// How many times the base was switched; tells two compactions apart.
    pub generation: u64,
    /// The newest entry that the segments contain; 0 where nothing was folded yet.
    pub through: Seq,
    /// The segments, in the order in which they are read.
    pub segments: Vec<SegmentId>,
    /// The counts at that position.
    pub summary: Summary,
}

/// Why a mutation is gone that the backend has not applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gone {
    /// The user gave it up, or it annulled itself before it was sent.
    Discarded,
    /// A conflict was settled against it.
    Lost,
    /// The backend has the same content already.
    Same,
    /// It is part of this mutation from now on.
    Joined(MutationNo),
}

/// Collections whose data is of an older version than the rest, and the version that it is of.
pub type Older = Rc<[(Name, u32)]>;

/// One thing that has become true.
#[derive(Debug, Clone)]
pub enum Fact<V> {
    /// A local change is queued and shows in its record.
    Queued {
        /// The mutation's number.
        no: MutationNo,
        /// The number it had before, where a queued mutation was rewritten under a new id.
        replaces: Option<MutationNo>,
        /// The record's collection.
        collection: Name,
        /// The record's key.
        key: Key,
        /// What the mutation does, all that was queued before included.
        action: Action,
        /// The record after it.
        value: Option<V>,
        /// What the record shows until the backend has confirmed.
        shows: Shown<V>,
        /// Fields changed by an update that did not replace the record.
        changed: Option<Names>,
        /// The atomic group the mutation belongs to.
        group: Option<Rc<str>>,
        /// The mutation's id on the wire, where it comes from another database. A mutation that is
        /// rewritten under a new number has none.
        origin: Option<Rc<str>>,
    },
    /// A queued mutation as it stands: nothing follows from it that is not in it. It brings one over
    /// from elsewhere (a backup, a rescue copy, a compacted log, a migration); the one at the head
    /// of a record comes before the one behind it.
    Held(Box<Held<V>>),
    /// A local-only record: never queued, and no page changes it.
    Local {
        /// The record's collection.
        collection: Name,
        /// The record's key.
        key: Key,
        /// The record; none: it is gone, and what the backend has shows again.
        value: Option<V>,
    },
    /// The version of the app's data from here on.
    Schema {
        /// The version.
        version: u32,
        /// Collections that are of an older one, because whoever migrated did not declare them.
        older: Older,
    },
    /// A mutation is gone; its record is what the backend has.
    Cancelled {
        /// The mutation.
        no: MutationNo,
        /// Why: whoever waits for it learns from this, in every tab.
        why: Gone,
    },
    /// These are about to be sent: from now on they are not rewritten.
    Sent {
        /// The mutations.
        nos: Vec<MutationNo>,
    },
    /// The backend has applied a mutation.
    Acked {
        /// The mutation.
        no: MutationNo,
        /// The record's version from now on.
        version: Version,
        /// What the backend stored, where it differs.
        value: Option<V>,
    },
    /// The backend has refused a mutation.
    Refused {
        /// The mutation.
        no: MutationNo,
        /// Why.
        refusal: Refusal,
        /// Answers that blamed it, this one included.
        attempts: u32,
        /// When to try again; none parks it.
        next_attempt_ms: Option<f64>,
    },
    /// A mutation was decided anew, on top of what the backend has now.
    Rebased {
        /// The mutation.
        no: MutationNo,
    },
    /// A mutation has met a conflict that waits for the app.
    Waits {
        /// The mutation.
        no: MutationNo,
    },
    /// What the backend has for a record.
    Remote {
        /// The record's collection.
        collection: Name,
        /// The record's key.
        key: Key,
        /// The record; none for a tombstone.
        value: Option<V>,
        /// Its version.
        version: Version,
    },
    /// How far this database has pulled.
    Checkpoint {
        /// The backend's checkpoint; none starts from the beginning.
        checkpoint: Option<Rc<str>>,
        /// The collections that were declared then: a new one has to be pulled from the beginning.
        collections: Rc<[Name]>,
    },
    /// A record that was created here is kept by the backend under a key of its own: it moves there
    /// with all that is queued for it, and the key that it had goes on standing for it.
    Rekeyed {
        /// The record's collection.
        collection: Name,
        /// The field that holds the key.
        field: Rc<str>,
        /// The key that it had.
        from: Key,
        /// The key that it has.
        to: Key,
    },
    /// Keys that stand for others, each with the one it stands for. Nothing moves because of it.
    Aliases {
        /// The collection.
        collection: Name,
        /// The old key and the present one.
        pairs: Vec<(Key, Key)>,
    },
    /// What came from elsewhere was confirmed, and no page has told yet what the backend made of it. Only a
    /// compaction says so; otherwise it follows from the confirmation.
    Confirmed {
        /// The record's collection.
        collection: Name,
        /// The record's key.
        key: Key,
        /// What was confirmed.
        confirmed: Confirmed,
    },
    /// A conflict was settled, or settled once more, which takes the place of what was there.
    Conflicted(Rc<Conflict<V>>),
    /// The conflict log was emptied.
    ConflictsCleared,
    /// Many facts as they were stored together, or are to be by a compaction. It is never decided.
    Run(Rc<Run<V>>),
}

impl<V> Fact<V> {
    /// Whether a mutation comes with it.
    #[must_use]
    pub fn is_queued(&self) -> bool {
        match self {
            Self::Queued { .. } | Self::Held(_) => true,
            Self::Run(run) => matches!(run.said, Said::Queued(_)),
            _ => false,
        }
    }

    /// Whether it is what the backend has, of a record or many.
    #[must_use]
    pub fn is_remote(&self) -> bool {
        match self {
            Self::Remote { .. } => true,
            Self::Run(run) => matches!(run.said, Said::Remote(_)),
            _ => false,
        }
    }

    /// How many facts it is.
    #[must_use]
    pub fn weight(&self) -> usize {
        match self {
            Self::Run(run) => run.values.len(),
            _ => 1,
        }
    }
}

/// Counts after an entry, so that a cold open knows them from the newest entry alone.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Summary {
    /// Mutations waiting to be pushed.
    pub pending: usize,
    /// Mutations waiting for the app to settle a conflict.
    pub conflict: usize,
    /// Parked mutations.
    pub failed: usize,
    /// Number of the next mutation.
    pub next_no: MutationNo,
    /// Records that can be seen, for each collection.
    pub counts: Vec<(Name, usize)>,
    /// When the newest page was stored, ms since 1970.
    pub pulled_ms: Option<f64>,
}

/// One value of the log.
#[derive(Debug, Clone)]
pub struct Entry<V> {
    /// When it was written, ms since 1970, by the device's clock.
    pub at_ms: f64,
    /// The hybrid logical clock of every local change in it.
    pub hlc: Hlc,
    /// What has become true.
    pub facts: Vec<Fact<V>>,
    /// The counts after it.
    pub summary: Summary,
}

impl<V> Entry<V> {
    /// Whether it has to be on the disk, and not only on its way there, before anybody hears of it,
    /// however durable other entries are. What is marked as sent is known to the backend by its number
    /// from then on: were the mark lost with the power, the number would be given again, and the
    /// backend would take another change for the one that it has.
    #[must_use]
    pub fn must_be_flushed(&self) -> bool {
        self.facts.iter().any(|fact| match fact {
            Fact::Sent { .. } => true,
            // It came from another database, with its mark.
            Fact::Held(held) => held.mutation.sent,
            _ => false,
        })
    }

    /// The same without facts.
    #[must_use]
    pub fn bare(&self) -> Self {
        Self {
            at_ms: self.at_ms,
            hlc: self.hlc,
            facts: Vec::new(),
            summary: self.summary.clone(),
        }
    }

    /// How many facts are in it.
    #[must_use]
    pub fn weight(&self) -> usize {
        self.facts.iter().map(Fact::weight).sum()
    }

    /// Every record in it.
    pub fn each_value<'a>(&'a self, mut visit: impl FnMut(&'a V)) {
        for fact in &self.facts {
            match fact {
                Fact::Queued { value, .. }
                | Fact::Acked { value, .. }
                | Fact::Local { value, .. }
                | Fact::Remote { value, .. } => value.iter().for_each(&mut visit),
                Fact::Conflicted(c) => {
                    let sides = [&c.base, &c.local, &c.remote, &c.result];
                    sides.into_iter().flatten().for_each(&mut visit);
                }
                Fact::Held(held) => held.each_value(&mut visit),
                Fact::Run(run) => run.values.iter().flatten().for_each(&mut visit),
                _ => {}
            }
        }
    }
}

/// What is known right after opening.
#[derive(Debug, Clone)]
pub struct Tail {
    /// Id of this database: part of the id of each mutation.
    pub client: Rc<str>,
    /// The newest entry's position; 0 for an empty log.
    pub seq: Seq,
    /// The newest entry's counts; none where it cannot be read.
    pub summary: Option<Summary>,
    /// Where replaying begins.
    pub base: Base,
}

/// Why an append did not happen. In every case nothing of it is stored.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AppendError {
    /// Another writer has taken the position: read what it wrote, decide again, append again.
    #[error("another tab was faster")]
    Taken,
    /// The store has failed.
    #[error(transparent)]
    Failed(#[from] Error),
}

/// Where an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In the log.
    Log(Seq),
    /// In the segments.
    Segment(SegmentId),
}

/// An entry as read; one that cannot be understood takes none of the others down.
pub type ReadEntry<V> = (Seq, Result<Entry<V>, Error>);

/// A log that survives the process.
///
/// Strictly serialisable: an append at `n` succeeds for one writer only, in one transaction, and a
/// read that starts after it has resolved sees it.
#[allow(async_fn_in_trait, reason = "one thread, in the browser as in tests")]
pub trait Store<V>: 'static {
    /// Identity and newest entry.
    async fn tail(&self) -> Result<Tail, Error>;
    /// Up to `limit` entries after `after`, in order. Each is understood when it is its turn: the facts
    /// of one at a time are in memory.
    async fn read(
        &self,
        after: Seq,
        limit: u32,
    ) -> Result<impl IntoIterator<Item = ReadEntry<V>>, Error>;
    /// Appends all `entries` at `after + 1` and following, or none.
    async fn append(&self, after: Seq, entries: &[Entry<V>]) -> Result<(), AppendError>;
    /// Keeps a copy of an entry that could not be read, with the reason.
    async fn quarantine(&self, place: Place, reason: &str) -> Result<(), Error>;
    /// Reads segments, in the given order. Their values can be fetched again.
    async fn read_segments(&self, ids: &[SegmentId]) -> Result<Vec<ReadEntry<V>>, Error>;
    /// Writes segments that the base does not name yet. The answer has the same entries, with values
    /// that can be fetched again; those without anything that the backend has may be without their facts.
    async fn write_segments(
        &self,
        entries: &[Entry<V>],
    ) -> Result<Vec<(SegmentId, Entry<V>)>, Error>;
    /// Makes `base` the base, if the stored one is of the generation before it; answers whether.
    async fn switch(&self, base: &Base) -> Result<bool, Error>;
    /// Deletes what the base of this generation does not need, if it is the stored one, and of the log no
    /// more than was read. Only while no other tab has the database open: whoever is behind would
    /// append where entries have been.
    async fn sweep(&self, generation: u64, read: Seq) -> Result<(), Error>;
    /// Brings values into memory that are not there.
    async fn fetch(&self, values: &[V]) -> Result<(), Error>;
    /// Lets the values go that were not used for the longest time, until what is held is within the
    /// budget. Only what can be fetched again goes.
    fn evict(&self) {}
}
