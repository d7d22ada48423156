//! Where records live, behind one trait. A store keeps these promises, and `conformance` tests
//! them for each:
//!
//! - **Durable before it answers.** What [`Store::push`] answers has been committed.
//! - **One effect per mutation.** A mutation's first result is stored in the transaction that
//!   applied it; a repeat, also a concurrent one or one after a restart, gets that result. Only a
//!   failure that is worth another try is not remembered.
//! - **Each change by itself**, unless they are asked to stand together: a change that fails leaves
//!   the others of its batch alone.
//! - **Spaces apart.** Nothing is read or written but in the spaces of the given [`Access`], and no
//!   answer tells what others hold.
//! - **Checkpoints never skip.** A row that commits later has a higher position in its space than
//!   every position that a reader has been told. What was purged before a reader came to it makes
//!   its checkpoint unknown.

pub mod checkpoint;
#[cfg(test)]
mod concurrency;
#[cfg(test)]
pub(crate) mod conformance;
pub mod feed;
mod log;
pub mod media;
pub mod postgres;
pub mod sqlite;

use std::collections::BTreeSet;
use std::error::Error;
use std::pin::Pin;
use std::sync::Arc;

use self::feed::Feed;
pub use self::log::{Choice, ConflictEntry, ConflictId, Outcome, Resolution, Resolved};
use crate::access::{Access, Sharing};
use crate::change::{Change, Failure};
use crate::data::RecordData;
use crate::ids::{EntityId, RecordId, RecordType, Stamp, UnixMillis, UserId, Version};
use crate::limits;
use crate::wire::PulledRecord;

/// What a store's method returns: boxed, so that a server can hold any store (`dyn Store`).
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// Records, mutations and conflicts of all users.
pub trait Store: Send + Sync + 'static {
    /// Applies the changes in their order and answers with one verdict for each.
    fn push<'a>(
        &'a self,
        access: &'a Access,
        changes: Vec<Change>,
        mode: Mode,
        now: UnixMillis,
    ) -> Answer<'a, Vec<Verdict>>;

    /// The records of the asker's spaces that changed after a checkpoint; within a space in the
    /// order of their commits.
    fn pull<'a>(&'a self, access: &'a Access, query: PullQuery) -> Answer<'a, Page>;

    /// Batches that wait for their turn to be written, where the store has such a queue.
    fn queued(&self) -> usize {
        0
    }

    /// Where the asker's data stands.
    fn standing<'a>(&'a self, access: &'a Access) -> Answer<'a, Standing>;

    /// The asker's conflict log after an entry (0: from the beginning), oldest first: `limit`
    /// entries, or fewer once they hold [`limits::PAGE_BYTES_MAX`]. Only what lies in spaces that
    /// are open to the asker now.
    fn conflicts<'a>(
        &'a self,
        access: &'a Access,
        after: ConflictId,
        limit: usize,
    ) -> Answer<'a, Vec<ConflictEntry>>;

    /// Settles one of the asker's conflicts, once.
    fn resolve<'a>(
        &'a self,
        access: &'a Access,
        resolution: Resolution,
        now: UnixMillis,
    ) -> Answer<'a, Resolved>;

    /// The entities that a user is assigned to in the store; a token may name others.
    fn assignments<'a>(&'a self, user: &'a UserId) -> Answer<'a, BTreeSet<EntityId>>;

    /// Assigns a user to an entity; whether that is new. At most [`limits::ENTITIES_MAX`].
    fn assign<'a>(&'a self, user: &'a UserId, entity: &'a EntityId) -> Answer<'a, bool>;

    /// Takes an assignment back; whether there was one.
    fn unassign<'a>(&'a self, user: &'a UserId, entity: &'a EntityId) -> Answer<'a, bool>;

    /// Deletes some of what is older than its horizon and needed no longer: tombstones, results of
    /// mutations, conflicts. To be called until nothing is left.
    fn purge(&self, horizons: Horizons) -> Answer<'_, Purged>;

    /// Imports records of one type, all or none, unless there are any of that type (of a private
    /// one: of this user), tombstones included. For operators: nobody's access is asked.
    fn seed<'a>(
        &'a self,
        user: &'a UserId,
        record_type: &'a RecordType,
        sharing: Sharing,
        records: Vec<(RecordId, RecordData)>,
        now: UnixMillis,
    ) -> Answer<'a, Seeded>;

    /// Where the store tells which spaces have new changes.
    fn feed(&self) -> &Feed;

    /// Where files are kept, if this store keeps any.
    fn media(&self) -> Option<&dyn media::MediaStore> {
        None
    }
}

/// How the changes of a batch depend on each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Not at all: each takes effect or fails by itself.
    Each,
    /// All take effect, or none: where one is refused, the others are `aborted`.
    Together,
    /// As [`Mode::Together`], where it is known already that one is refused (it is not even valid):
    /// none may take effect.
    Doomed,
}

/// What became of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It took effect, or needed none; the record's version now.
    Success(Version),
    /// It was made on another version; the record as it stood then.
    Conflict {
        /// Its entry in the conflict log.
        id: ConflictId,
        /// The record's version.
        version: Version,
        /// Its content; `None` for a tombstone.
        data: Option<RecordData>,
        /// When it was last changed.
        at: Stamp,
    },
    /// It cannot take effect.
    Failed(Failure),
}

/// What to pull.
#[derive(Clone, Debug)]
pub struct PullQuery {
    /// A checkpoint of this store; from the beginning without one.
    pub since: Option<String>,
    /// Records at most.
    pub limit: usize,
    /// Only these collections; all without.
    pub types: Option<Vec<RecordType>>,
}

/// A page of records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The records.
    pub records: Vec<PulledRecord>,
    /// Where the next page begins.
    pub checkpoint: String,
    /// Whether there may be more than this page held when it was read.
    pub has_more: bool,
}

/// Where somebody's data stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The newest checkpoint.
    pub checkpoint: String,
    /// Conflicts not settled.
    pub conflicts: u64,
}

/// How far back the past is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Horizons {
    /// Of tombstones, results of mutations, and conflicts that are settled: by when they were.
    pub past: UnixMillis,
    /// Of conflicts that nobody has settled: by when they were detected. One whose mutation's
    /// result is still remembered stays, for that result tells of it.
    pub open_conflicts: UnixMillis,
}

/// What a step of a purge has deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Purged {
    /// Tombstones, and traces of records that have moved to another entity.
    pub tombstones: usize,
    /// Results of mutations.
    pub mutations: usize,
    /// Conflicts, settled or not.
    pub conflicts: usize,
    /// Whether there may be more.
    pub more: bool,
}

/// What became of a seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seeded {
    /// So many records were imported.
    Imported(usize),
    /// There are records of that type: nothing was done.
    Present,
}

/// Why a store cannot do what it was asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// The checkpoint is from another database, from a later state of this one, from before what was
    /// purged, of spaces that are no longer the asker's, or no checkpoint.
    #[error("the checkpoint is not known here, or no longer")]
    CheckpointUnknown,
    /// The user has [`limits::ENTITIES_MAX`] entities already.
    #[error("a user is assigned to at most {} entities", limits::ENTITIES_MAX)]
    TooManyEntities,
    /// A seed's record names no entity.
    #[error("the record {0} names no entity")]
    NoEntity(RecordId),
    /// Too much is waiting already; try again soon.
    #[error("too many writes are waiting")]
    Overloaded,
    /// The database cannot be reached, or was busy for too long; the log says more.
    #[error("the database is not available")]
    Unavailable,
    /// The store is closing.
    #[error("the store is closed")]
    Closed,
    /// The database was written by a newer server.
    #[error(
        "the database has schema version {found}, this server knows up to {known}: \
         use a newer server"
    )]
    NewerSchema {
        /// The database's.
        found: i64,
        /// The newest this server knows.
        known: i64,
    },
    /// The database is another program's.
    #[error("the database is not one of landfall-server, and is not empty")]
    ForeignDatabase,
    /// Something stored cannot be read back.
    #[error("stored data is damaged: {0}")]
    Damaged(&'static str),
    /// The database's own error. Shared, since one failed commit fails all who waited for it.
    #[error("the database failed: {0}")]
    Engine(Arc<dyn Error + Send + Sync>),
}

impl StoreError {
    /// Whether the same request may succeed in a moment, without anyone doing something.
    pub fn passing(&self) -> bool {
        matches!(self, Self::Overloaded | Self::Unavailable | Self::Closed)
    }
}
