//! The protocol's documents (`docs/PROTOCOL.md`), as they are read and written. Nothing here has
//! been checked beyond its form, and nothing here is meant for a log.

pub mod conflicts;

use std::fmt;

use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use crate::change::Failure;
use crate::data::RecordData;
use crate::ids::{RecordId, RecordType, Stamp, Version};
use crate::limits;
use crate::store::Verdict;

/// The version of the protocol that is spoken here.
pub const PROTOCOL: u64 = 1;

/// The body of `POST /batch`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BatchRequest {
    /// [`PROTOCOL`].
    #[serde(deserialize_with = "whole")]
    pub protocol: u64,
    /// Who sends it.
    pub client_id: String,
    /// The changes, in the order in which they are to be applied.
    pub changes: Vec<WireChange>,
}

/// One change as it travels.
#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WireChange {
    /// The mutation's id.
    pub id: String,
    /// The collection.
    #[serde(rename = "type")]
    pub record_type: String,
    /// What is done.
    pub action: Action,
    /// The key that the device chose.
    pub offline_id: String,
    /// The key that the server uses, where the client knows it.
    pub server_id: Option<String>,
    /// The version the change was made on; 0 for none.
    #[serde(deserialize_with = "whole")]
    pub version_number: u64,
    /// The record, or what changed of it.
    pub data: Option<Box<RawValue>>,
    /// The fields that changed, where `data` is partial.
    pub changed: Option<Vec<String>>,
    /// The hybrid clock's reading.
    pub at: String,
    /// Changes of one transaction of the app have the same.
    pub group: Option<String>,
}

/// Reads a whole number, also one that is written as `7.0` or `7e0`, as JSON's own integers may be.
pub(crate) fn whole<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    struct Whole;

    impl Visitor<'_> for Whole {
        type Value = u64;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a whole number that is not negative")
        }

        fn visit_u64<E: Error>(self, value: u64) -> Result<u64, E> {
            Ok(value)
        }

        fn visit_f64<E: Error>(self, value: f64) -> Result<u64, E> {
            // Beyond that, a float is whole only because it is not exact.
            let exact = value.fract() == 0.0 && (0.0..=limits::VERSION_MAX as f64).contains(&value);
            match exact {
                true => Ok(value as u64),
                false => Err(E::invalid_type(Unexpected::Float(value), &self)),
            }
        }
    }

    deserializer.deserialize_any(Whole)
}

/// What a change does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// A new record.
    Create,
    /// A record anew, whole or in part.
    Update,
    /// The end of a record.
    Delete,
}

/// The answer to `POST /batch`. It has no `checkpoint`: the newest checkpoint after a push is not
/// one up to which this client has pulled, and taking it for that would skip the changes of others.
#[derive(Serialize)]
pub struct BatchAnswer {
    /// One for each change, in the order of the request.
    pub results: Vec<ChangeResult>,
}

/// What became of one change.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ChangeResult {
    id: String,
    offline_id: String,
    server_id: String,
    status: Status,
    #[serde(skip_serializing_if = "Option::is_none")]
    version_number: Option<Version>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<RecordData>,
    #[serde(skip_serializing_if = "Option::is_none")]
    conflict_id: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    deleted: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<Stamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retryable: Option<bool>,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    Success,
    Conflict,
    Failed,
}

/// What a result repeats from its change, whether the change is valid or not.
pub struct Echo {
    id: String,
    offline_id: String,
    server_id: String,
}

impl Echo {
    /// Takes it from the change as it arrived.
    pub fn of(wire: &WireChange) -> Self {
        Self {
            id: wire.id.clone(),
            offline_id: wire.offline_id.clone(),
            server_id: wire.server_id.as_ref().unwrap_or(&wire.offline_id).clone(),
        }
    }

    /// The result for it.
    pub fn result(self, verdict: Verdict) -> ChangeResult {
        let mut result = ChangeResult {
            id: self.id,
            offline_id: self.offline_id,
            server_id: self.server_id,
            status: Status::Success,
            version_number: None,
            data: None,
            conflict_id: None,
            deleted: false,
            at: None,
            message: None,
            code: None,
            retryable: None,
        };
        match verdict {
            Verdict::Success(version) => result.version_number = Some(version),
            Verdict::Conflict {
                id,
                version,
                data,
                at,
            } => {
                result.status = Status::Conflict;
                result.conflict_id = Some(id.to_string());
                result.version_number = Some(version);
                result.deleted = data.is_none();
                result.data = data;
                result.at = Some(at);
            }
            Verdict::Failed(Failure { code, message }) => {
                result.status = Status::Failed;
                result.message = Some(message);
                result.code = Some(code.as_str());
                result.retryable = Some(code.retryable());
            }
        }
        result
    }
}

/// The answer to `GET /pull`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PullAnswer {
    /// In the order in which they were committed, each record once, with its newest state.
    pub changes: Vec<PulledRecord>,
    /// Where the next pull goes on.
    pub checkpoint: String,
    /// Whether there is more by now.
    pub has_more: bool,
}

/// One record of a page.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PulledRecord {
    /// The collection.
    #[serde(rename = "type")]
    pub record_type: RecordType,
    /// The record's key.
    pub id: RecordId,
    /// Its version.
    pub version_number: Version,
    /// Whether it is a tombstone.
    pub deleted: bool,
    /// Its content, unless it is a tombstone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<RecordData>,
    /// When it was last changed, by that client's clock.
    pub at: Stamp,
}

/// The answer to `GET /status`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StatusAnswer {
    /// [`PROTOCOL`].
    pub protocol: u64,
    /// RFC 3339, UTC, with milliseconds.
    pub server_time: String,
    /// The newest checkpoint: a client that has pulled up to it has everything.
    pub checkpoint: String,
    /// What the server accepts.
    pub limits: StatusLimits,
    /// Conflicts of this user that are not settled in the server's log.
    pub conflicts: u64,
}

/// The limits that a client should know.
#[derive(Serialize)]
pub struct StatusLimits {
    /// Changes in a batch.
    pub changes: usize,
    /// Bytes of a batch.
    pub bytes: usize,
    /// Records in a page.
    pub page: usize,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{ClientId, UnixMillis};
    use crate::store::ConflictId;

    fn echo() -> Echo {
        Echo {
            id: "m".into(),
            offline_id: "o".into(),
            server_id: "o".into(),
        }
    }

    fn json(verdict: Verdict) -> String {
        serde_json::to_string(&echo().result(verdict)).unwrap()
    }

    #[test]
    fn whole_numbers_are_whole_however_they_are_written() {
        let read = |text: &str| {
            let mut json = serde_json::Deserializer::from_str(text);
            whole(&mut json).map_err(|error| error.to_string())
        };
        for (text, value) in [("0", 0), ("7", 7), ("7.0", 7), ("7e0", 7), ("70e-1", 7)] {
            assert_eq!(read(text), Ok(value), "{text}");
        }
        for wrong in ["7.5", "-1", "-1.0", "1e300", "\"7\"", "null", "[7]", "1e17"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn results_have_only_the_fields_of_their_status() {
        let head = r#"{"id":"m","offlineId":"o","serverId":"o","status":"#;
        let at = Stamp::at(UnixMillis(1), &ClientId::new("c").unwrap());
        assert_eq!(
            json(Verdict::Success(Version(7))),
            format!(r#"{head}"success","versionNumber":7}}"#)
        );
        assert_eq!(
            json(Verdict::Conflict {
                id: ConflictId(3),
                version: Version(7),
                data: None,
                at
            }),
            format!(
                r#"{head}"conflict","versionNumber":7,"conflictId":"3","deleted":true,"at":"0000000000001-0000-c"}}"#
            )
        );
        assert_eq!(
            json(Verdict::Failed(Failure::invalid("why"))),
            format!(r#"{head}"failed","message":"why","code":"invalid","retryable":false}}"#)
        );
    }
}
