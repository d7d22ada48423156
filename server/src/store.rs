//! Where records live, behind one trait. A store keeps these promises, and `conformance` tests
//! them for each:
//!
//! - **Durable before it answers.** What [`Store::push`] answers has been committed.
//! - **One effect per mutation.** A mutation's first result is stored in the transaction that
//!   applied it; a repeat, also a concurrent one or one after a restart, gets that result. Only a
//!   failure that is worth another try is not remembered.
//! - **Each change by itself.** A change that fails leaves the others of its batch alone.
//! - **Users apart.** Nothing is read or written but under the given user.
//! - **Checkpoints never skip.** A row that commits later has a higher position than every
//!   position that a reader has been told.

pub mod checkpoint;
#[cfg(test)]
mod conformance;
pub mod postgres;
pub mod sqlite;

use std::error::Error;
use std::pin::Pin;
use std::sync::Arc;

use crate::change::{Change, Failure};
use crate::data::RecordData;
use crate::ids::{ClientId, MutationId, RecordId, RecordType, Stamp, UnixMillis, UserId, Version};
use crate::wire::PulledRecord;

/// What a store's method returns: boxed, so that a server can hold any store (`dyn Store`).
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// Records, mutations and conflicts of all users.
pub trait Store: Send + Sync + 'static {
    /// Applies the changes in their order and answers with one verdict for each.
    fn push<'a>(
        &'a self,
        user: &'a UserId,
        changes: Vec<Change>,
        now: UnixMillis,
    ) -> Answer<'a, Vec<Verdict>>;

    /// The user's records that changed after a checkpoint, in the order of their commits.
    fn pull<'a>(&'a self, user: &'a UserId, query: PullQuery) -> Answer<'a, Page>;

    /// Where the user's data stands.
    fn standing<'a>(&'a self, user: &'a UserId) -> Answer<'a, Standing>;

    /// The user's conflict log, oldest first, at most `limit` entries.
    fn conflicts<'a>(&'a self, user: &'a UserId, limit: usize) -> Answer<'a, Vec<ConflictEntry>>;

    /// Imports records of one type, all or none, unless the user has any of that type, tombstones
    /// included.
    fn seed<'a>(
        &'a self,
        user: &'a UserId,
        record_type: &'a RecordType,
        records: Vec<(RecordId, RecordData)>,
        now: UnixMillis,
    ) -> Answer<'a, Seeded>;
}

/// What became of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It took effect, or needed none; the record's version now.
    Success(Version),
    /// It was made on another version; the record as it stood then.
    Conflict {
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
    /// Whether there was more when the page was read.
    pub has_more: bool,
}

/// Where a user's data stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The newest checkpoint.
    pub checkpoint: String,
    /// Conflicts not settled.
    pub conflicts: u64,
}

/// One detected conflict: both versions, who, when, outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConflictEntry {
    /// Its number in this store.
    pub id: i64,
    /// The collection.
    pub record_type: RecordType,
    /// The record.
    pub record: RecordId,
    /// The mutation that was refused.
    pub mutation: MutationId,
    /// The version that the mutation was made on.
    pub base: Version,
    /// The record's version then.
    pub version: Version,
    /// What the mutation carried.
    pub local: Option<RecordData>,
    /// The record's content then; `None` for a tombstone.
    pub remote: Option<RecordData>,
    /// Who sent the mutation.
    pub client: ClientId,
    /// When it was detected, by the server's clock.
    pub detected_at: UnixMillis,
    /// `open` until it is settled.
    pub outcome: String,
}

/// What became of a seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seeded {
    /// So many records were imported.
    Imported(usize),
    /// The user has records of that type: nothing was done.
    Present,
}

/// Why a store cannot do what it was asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// The checkpoint is from another database, from a later state of this one, or no checkpoint.
    #[error("the checkpoint is not from this database")]
    CheckpointUnknown,
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
