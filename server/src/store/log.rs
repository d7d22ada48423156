//! The conflict log: its entries, and how they are settled.

use std::fmt;

use crate::access::Sharing;
use crate::change::Failure;
use crate::data::RecordData;
use crate::ids::{ClientId, MutationId, RecordId, RecordType, UnixMillis, Version};

/// An entry of the conflict log. Positive; says nothing by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConflictId(pub i64);

impl fmt::Display for ConflictId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One detected conflict: both versions, who, when, outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConflictEntry {
    /// Its number in this store.
    pub id: ConflictId,
    /// The collection.
    pub record_type: RecordType,
    /// The record.
    pub record: RecordId,
    /// The mutation that was refused.
    pub mutation: MutationId,
    /// What it was to do: `create`, `update`, `delete`.
    pub action: String,
    /// The version that the mutation was made on.
    pub base: Version,
    /// The record's version then.
    pub version: Version,
    /// What the mutation carried.
    pub local: Option<RecordData>,
    /// The fields that `local` changes, where it is not the whole record.
    pub changed: Option<Vec<String>>,
    /// The record's content then; `None` for a tombstone.
    pub remote: Option<RecordData>,
    /// Who sent the mutation.
    pub client: ClientId,
    /// When it was detected, by the server's clock.
    pub detected_at: UnixMillis,
    /// What has become of it.
    pub outcome: Outcome,
}

impl ConflictEntry {
    /// Bytes of record data in it.
    pub fn bytes(&self) -> usize {
        let both = [&self.local, &self.remote].into_iter().flatten();
        both.map(|data| data.as_str().len()).sum()
    }
}

/// What has become of a conflict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing yet.
    Open,
    /// Settled: the refused change was applied.
    Local,
    /// Settled: the record stays as it is.
    Remote,
    /// Settled with content of its own.
    Merged,
    /// Its client has since changed the record on top of the version it collided with.
    Rebased,
}

impl Outcome {
    /// The outcome on the wire and in the store.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Local => "local",
            Self::Remote => "remote",
            Self::Merged => "merged",
            Self::Rebased => "rebased",
        }
    }

    /// Reads what [`Self::as_str`] wrote.
    pub fn parse(text: &str) -> Option<Self> {
        [
            Self::Open,
            Self::Local,
            Self::Remote,
            Self::Merged,
            Self::Rebased,
        ]
        .into_iter()
        .find(|outcome| outcome.as_str() == text)
    }
}

/// How a conflict is to be settled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolution {
    /// Which.
    pub conflict: ConflictId,
    /// How.
    pub choice: Choice,
    /// How the records of its type are shared.
    pub sharing: Sharing,
}

/// The ways to settle a conflict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// Apply the refused change on top of the record as it stands.
    Local,
    /// Leave the record as it stands.
    Remote,
    /// Give the record this content.
    Merged(RecordData),
}

/// What became of a resolution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolved {
    /// It is settled so, now or since an equal resolution before; the record's version then.
    Settled(Version),
    /// It has been settled otherwise.
    Already(Outcome),
    /// The asker has no such conflict.
    Unknown,
    /// The record cannot become that.
    Refused(Failure),
}
