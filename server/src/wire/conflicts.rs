//! The documents of the conflict log.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::data::RecordData;
use crate::ids::{ClientId, MutationId, RecordId, RecordType, Version};

/// The answer to `GET /conflicts`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConflictsAnswer {
    /// The oldest first.
    pub conflicts: Vec<LoggedConflict>,
    /// Whether there may be more after the last one.
    pub has_more: bool,
}

/// One entry of the log.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LoggedConflict {
    /// Its id, as a batch's result has it.
    pub conflict_id: String,
    /// The collection.
    #[serde(rename = "type")]
    pub record_type: RecordType,
    /// The record.
    pub id: RecordId,
    /// The change that was refused.
    pub mutation: MutationId,
    /// What it was to do.
    pub action: String,
    /// The version it was made on.
    pub base: Version,
    /// The record's version then.
    pub version_number: Version,
    /// What the change carried.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub local: Option<RecordData>,
    /// The fields that `local` changes, where it is not the whole record.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub changed: Option<Vec<String>>,
    /// Whether the record was a tombstone then.
    pub deleted: bool,
    /// The record's content then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote: Option<RecordData>,
    /// Who sent the change.
    pub client_id: ClientId,
    /// When it was detected: RFC 3339, UTC.
    pub detected_at: String,
    /// What has become of it.
    pub outcome: &'static str,
}

/// The body of `POST /resolve`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ResolveRequest {
    /// Which.
    pub conflict_id: String,
    /// How.
    pub choice: WireChoice,
    /// The record's content, where it is merged.
    pub data: Option<Box<RawValue>>,
}

/// The ways to settle a conflict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WireChoice {
    /// Apply the refused change after all.
    Local,
    /// Leave the record as it is.
    Remote,
    /// Neither: give it the content in `data`.
    Merged,
}

/// The answer to `POST /resolve`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ResolveAnswer {
    /// Which.
    pub conflict_id: String,
    /// How.
    pub choice: WireChoice,
    /// The record's version then; 0 where there is none.
    pub version_number: Version,
}
