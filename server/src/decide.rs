//! The rule of the server: what a change does to the record as it stands. No I/O, no clock: the
//! store calls it inside its transaction, a simulation may call it with a map.
//!
//! | | no record | live record | tombstone |
//! |---|---|---|---|
//! | `create` | write (1) | conflict | write, when the base is 0 and the tombstone is the client's own, or the base is the tombstone's version; else conflict without data |
//! | `update` | failed `not-found` | write when the base is the record's version, else conflict | conflict without data |
//! | `delete` | nothing, version 0 | tombstone when the base is the record's version, else conflict | nothing, the tombstone's version |
//!
//! (1) With a base other than 0 the server once knew the record and has lost it (an older backup
//! was restored). Taking it back is the only answer that loses nothing; its version goes on from
//! the base, so that it still only ever rises for those who knew the record.

use crate::change::{Change, Edit, Failure, FailureCode};
use crate::data::RecordData;
use crate::ids::{ClientId, Stamp, Version};

/// A record as it stands. A tombstone is one without data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Raised at each change; positive.
    pub version: Version,
    /// The content; `None` once it is deleted.
    pub data: Option<RecordData>,
    /// When the last change was made, by its client's clock.
    pub at: Stamp,
    /// Who made the last change.
    pub client: ClientId,
}

/// What becomes of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The record becomes this one.
    Write(Record),
    /// What it asks for is so already; the record's version, or 0 where there is none.
    Nothing(Version),
    /// It was made on another version. Nothing changes; the answer is the record as it stands.
    Conflict(Record),
    /// It cannot take effect.
    Fail(Failure),
}

/// Decides what `change` does to `current`.
pub fn decide(change: &Change, current: Option<&Record>) -> Decision {
    match (&change.edit, current) {
        (Edit::Create(data), None) => write(change, change.base.next(), Some(data.clone())),
        (Edit::Create(data), Some(record)) if may_revive(change, record) => {
            write(change, record.version.next(), Some(data.clone()))
        }

        (Edit::Replace(_) | Edit::Patch { .. }, None) => Decision::Fail(Failure {
            code: FailureCode::NotFound,
            message: "the record does not exist".into(),
        }),

        (Edit::Delete, None) => Decision::Nothing(Version::NONE),
        (
            Edit::Delete,
            Some(Record {
                data: None,
                version,
                ..
            }),
        ) => Decision::Nothing(*version),

        (Edit::Create(_), Some(record)) => Decision::Conflict(record.clone()),
        (_, Some(record)) if record.version != change.base || record.data.is_none() => {
            Decision::Conflict(record.clone())
        }

        (Edit::Replace(data), Some(record)) => {
            write(change, record.version.next(), Some(data.clone()))
        }
        (
            Edit::Patch {
                data: patch,
                changed,
            },
            Some(record),
        ) => {
            let Some(old) = &record.data else {
                return Decision::Conflict(record.clone());
            };
            match old.merged(patch, changed) {
                Ok(merged) => write(change, record.version.next(), Some(merged)),
                Err(fault) => Decision::Fail(fault.into()),
            }
        }
        (Edit::Delete, Some(record)) => write(change, record.version.next(), None),
    }
}

/// Whether a create may take the place of what is there.
fn may_revive(change: &Change, record: &Record) -> bool {
    let own = change.base == Version::NONE && record.client == change.client;
    record.data.is_none() && (own || change.base == record.version)
}

fn write(change: &Change, version: Version, data: Option<RecordData>) -> Decision {
    Decision::Write(Record {
        version,
        data,
        at: change.at.clone(),
        client: change.client.clone(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::*;
    use crate::access::Sharing;
    use crate::ids::{MutationId, RecordId, RecordType};
    use crate::limits;

    const AT: &str = "1763690000000-0000-c1";

    fn data(text: &str) -> RecordData {
        RecordData::check(RawValue::from_string(text.into()).unwrap()).unwrap()
    }

    fn change(edit: Edit, base: u64) -> Change {
        Change {
            mutation: MutationId::new("m1").unwrap(),
            client: ClientId::new("c1").unwrap(),
            record_type: RecordType::new("sites").unwrap(),
            record: RecordId::new("s1").unwrap(),
            base: Version(base),
            at: Stamp::new(AT).unwrap(),
            sharing: Sharing::Private,
            edit,
        }
    }

    fn record(version: u64, text: Option<&str>, client: &str) -> Record {
        Record {
            version: Version(version),
            data: text.map(data),
            at: Stamp::new("1763680000000-0000-c0").unwrap(),
            client: ClientId::new(client).unwrap(),
        }
    }

    fn written(version: u64, text: Option<&str>) -> Decision {
        Decision::Write(Record {
            version: Version(version),
            data: text.map(data),
            at: Stamp::new(AT).unwrap(),
            client: ClientId::new("c1").unwrap(),
        })
    }

    fn create() -> Edit {
        Edit::Create(data(r#"{"n":1}"#))
    }

    fn replace() -> Edit {
        Edit::Replace(data(r#"{"n":2}"#))
    }

    fn patch(text: &str, changed: &[&str]) -> Edit {
        let changed = changed.iter().map(ToString::to_string).collect();
        Edit::Patch {
            data: data(text),
            changed,
        }
    }

    fn live() -> Record {
        record(7, Some(r#"{"n":1,"m":1}"#), "c2")
    }

    fn tombstone(client: &str) -> Record {
        record(7, None, client)
    }

    #[test]
    fn create_without_a_record_writes() {
        assert_eq!(
            decide(&change(create(), 0), None),
            written(1, Some(r#"{"n":1}"#))
        );
    }

    #[test]
    fn create_of_a_record_that_was_lost_goes_on_from_its_base() {
        assert_eq!(
            decide(&change(create(), 7), None),
            written(8, Some(r#"{"n":1}"#))
        );
    }

    #[test]
    fn create_on_a_live_record_conflicts_whatever_the_base() {
        for base in [0, 6, 7, 8] {
            assert_eq!(
                decide(&change(create(), base), Some(&live())),
                Decision::Conflict(live())
            );
        }
    }

    #[test]
    fn create_on_a_tombstone_needs_its_version_or_its_author() {
        let revived = written(8, Some(r#"{"n":1}"#));
        let own = tombstone("c1");
        let foreign = tombstone("c2");
        assert_eq!(decide(&change(create(), 0), Some(&own)), revived);
        assert_eq!(decide(&change(create(), 7), Some(&own)), revived);
        assert_eq!(decide(&change(create(), 7), Some(&foreign)), revived);
        assert_eq!(
            decide(&change(create(), 0), Some(&foreign)),
            Decision::Conflict(foreign.clone())
        );
        assert_eq!(
            decide(&change(create(), 6), Some(&own)),
            Decision::Conflict(own.clone())
        );
        assert_eq!(
            decide(&change(create(), 6), Some(&foreign)),
            Decision::Conflict(foreign.clone())
        );
    }

    #[test]
    fn update_without_a_record_fails() {
        for edit in [replace(), patch("{}", &[])] {
            let Decision::Fail(failure) = decide(&change(edit, 0), None) else {
                panic!()
            };
            assert_eq!(failure.code, FailureCode::NotFound);
            assert!(!failure.code.retryable());
        }
    }

    #[test]
    fn update_of_a_live_record_needs_its_version() {
        assert_eq!(
            decide(&change(replace(), 7), Some(&live())),
            written(8, Some(r#"{"n":2}"#))
        );
        for base in [0, 6, 8] {
            assert_eq!(
                decide(&change(replace(), base), Some(&live())),
                Decision::Conflict(live())
            );
            let partial = change(patch(r#"{"n":2}"#, &["n"]), base);
            assert_eq!(decide(&partial, Some(&live())), Decision::Conflict(live()));
        }
    }

    #[test]
    fn partial_update_changes_the_named_fields() {
        let partial = change(patch(r#"{"n":2}"#, &["n", "m"]), 7);
        assert_eq!(
            decide(&partial, Some(&live())),
            written(8, Some(r#"{"n":2}"#))
        );
    }

    #[test]
    fn partial_update_cannot_outgrow_the_limits() {
        let half = format!("\"{}\"", "x".repeat(limits::RECORD_BYTES_MAX / 2));
        let record = record(7, Some(&format!("{{\"a\":{half}}}")), "c1");
        let partial = change(patch(&format!("{{\"b\":{half}}}"), &["b"]), 7);
        let Decision::Fail(failure) = decide(&partial, Some(&record)) else {
            panic!()
        };
        assert_eq!(failure.code, FailureCode::TooLarge);
    }

    #[test]
    fn update_of_a_tombstone_conflicts_whatever_the_base() {
        for base in [0, 6, 7] {
            for edit in [replace(), patch("{}", &[])] {
                for client in ["c1", "c2"] {
                    let decision = decide(&change(edit.clone(), base), Some(&tombstone(client)));
                    assert_eq!(decision, Decision::Conflict(tombstone(client)));
                }
            }
        }
    }

    #[test]
    fn delete_of_nothing_is_done_already() {
        for base in [0, 7] {
            assert_eq!(
                decide(&change(Edit::Delete, base), None),
                Decision::Nothing(Version(0))
            );
        }
        for base in [0, 6, 7, 8] {
            let decision = decide(&change(Edit::Delete, base), Some(&tombstone("c2")));
            assert_eq!(decision, Decision::Nothing(Version(7)));
        }
    }

    #[test]
    fn delete_of_a_live_record_needs_its_version() {
        assert_eq!(
            decide(&change(Edit::Delete, 7), Some(&live())),
            written(8, None)
        );
        for base in [0, 6, 8] {
            assert_eq!(
                decide(&change(Edit::Delete, base), Some(&live())),
                Decision::Conflict(live())
            );
        }
    }
}
