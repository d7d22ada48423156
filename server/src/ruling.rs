//! The rule of the server with its question before it: may this user? No I/O, no clock; every store
//! calls it inside its transaction.
//!
//! A private record is its user's alone, so only [`decide`] has a say. For a record of a shared
//! type:
//!
//! | | answer |
//! |---|---|
//! | its new content names no entity | failed `invalid` |
//! | its new content names an entity that is not open to the user | failed `forbidden` |
//! | it lives in an entity that is not open to the user | failed `forbidden` |
//! | an update or a delete of a record that does not exist | failed `forbidden` |
//! | all else | as [`decide`] says; it lives where its new content says |
//!
//! Whatever is to be written, private or shared, keeps to its type's schema: failed `invalid` if not.
//!
//! Every `forbidden` is the same, word for word, so that an answer does not tell a foreign record
//! from one that does not exist, nor a foreign entity from one that does not. The one thing that
//! cannot be hidden is that a free id is free: a create in an entity of one's own takes it.

use crate::access::{Access, Sharing, Space};
use crate::change::{Change, Edit, Failure};
use crate::decide::{Decision, Record, decide};
use crate::ids::Version;

/// A record, and where it lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    /// Where.
    pub space: Space,
    /// The record, or its tombstone.
    pub record: Record,
}

impl Located {
    /// For a record that comes to be: its version is newer than the newest that was purged, since a
    /// client may still hold the tombstone of an earlier record of its id.
    pub fn begin_after(&mut self, purged: Version) {
        self.record.version = self.record.version.max(purged.next());
    }

    /// The version of the tombstone that those get who see only the place that this record has
    /// left. Newer than all they have seen, and older than the record, so that they see it again
    /// where its new place is opened to them.
    pub fn departed(&self) -> Version {
        Version(self.record.version.0.saturating_sub(1))
    }
}

/// What becomes of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ruling {
    /// The record becomes this one. Where its space is another than before it moves, and those who
    /// see only the old one are told of a tombstone (see [`Located::departed`]).
    Write(Located),
    /// What it asks for is so already; the record's version, or 0 where there is none.
    Nothing(Version),
    /// It was made on another version. Nothing changes; the answer is the record as it stands.
    Conflict(Located),
    /// It cannot take effect.
    Fail(Failure),
}

/// Rules on a change to `current`.
pub fn rule(access: &Access, change: &Change, current: Option<&Located>) -> Ruling {
    let shared = change.sharing != Sharing::Private;
    if shared && let Err(failure) = may(access, change, current) {
        return Ruling::Fail(failure);
    }
    match decide(change, current.map(|current| &current.record)) {
        Decision::Write(mut record) => match settle(access, change, &record, current) {
            Ok(space) => {
                if current.is_some_and(|current| current.space != space) {
                    // One for the tombstone at the old place, one for the record at the new one.
                    record.version = record.version.next();
                }
                Ruling::Write(Located { space, record })
            }
            Err(failure) => Ruling::Fail(failure),
        },
        Decision::Nothing(version) => Ruling::Nothing(version),
        Decision::Conflict(_) => match current {
            Some(current) => Ruling::Conflict(current.clone()),
            None => Ruling::Fail(Failure::internal()),
        },
        Decision::Fail(failure) => Ruling::Fail(failure),
    }
}

fn may(access: &Access, change: &Change, current: Option<&Located>) -> Result<(), Failure> {
    // What the change says of itself comes first: that answer depends on no record.
    if let Some(data) = change.edit.entity_source(&change.sharing) {
        open(access, change.sharing.space(access.user(), data)?)?;
    }
    match (&change.edit, current) {
        (_, Some(current)) if !access.may(&current.space) => Err(Failure::forbidden()),
        (Edit::Replace(_) | Edit::Patch { .. } | Edit::Delete, None) => Err(Failure::forbidden()),
        _ => Ok(()),
    }
}

/// Whether the record may be as it would become, and where it is to live. The schema is asked of the
/// whole record, which only here is known where the change is partial; and last, so that its answer
/// tells nothing of a record that is not the asker's.
fn settle(
    access: &Access,
    change: &Change,
    record: &Record,
    current: Option<&Located>,
) -> Result<Space, Failure> {
    let space = home(access, change, record, current)?;
    if let Some(data) = &record.data {
        access.admits(&change.record_type, data)?;
    }
    Ok(space)
}

/// Where the record is to live. Asked again of the whole record: a partial change may have left the
/// entity as it was.
fn home(
    access: &Access,
    change: &Change,
    record: &Record,
    current: Option<&Located>,
) -> Result<Space, Failure> {
    match (&record.data, current) {
        (Some(data), _) => open(access, change.sharing.space(access.user(), data)?),
        // A tombstone stays where its record died.
        (None, Some(current)) => Ok(current.space.clone()),
        (None, None) => Err(Failure::internal()),
    }
}

fn open(access: &Access, space: Space) -> Result<Space, Failure> {
    if access.may(&space) {
        Ok(space)
    } else {
        Err(Failure::forbidden())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::*;
    use crate::change::FailureCode;
    use crate::data::RecordData;
    use crate::ids::{ClientId, EntityId, MutationId, RecordId, RecordType, Stamp, UserId};

    fn access(entities: &[&str]) -> Access {
        let entities = entities.iter().map(|name| EntityId::new(*name).unwrap());
        Access::new(UserId::new("ann").unwrap(), entities.collect()).unwrap()
    }

    fn data(text: &str) -> RecordData {
        RecordData::check(RawValue::from_string(text.into()).unwrap()).unwrap()
    }

    fn change(base: u64, edit: Edit) -> Change {
        Change {
            mutation: MutationId::new("m1").unwrap(),
            client: ClientId::new("c1").unwrap(),
            record_type: RecordType::new("tasks").unwrap(),
            record: RecordId::new("t").unwrap(),
            base: Version(base),
            at: Stamp::new("1763690000000-0000-c1").unwrap(),
            sharing: Sharing::Entity("site".into()),
            edit,
        }
    }

    /// The record at a site, at version 4.
    fn located(site: &str, text: Option<&str>) -> Located {
        Located {
            space: Space::Entity(EntityId::new(site).unwrap()),
            record: Record {
                version: Version(4),
                data: text.map(data),
                at: Stamp::new("1763680000000-0000-c2").unwrap(),
                client: ClientId::new("c2").unwrap(),
            },
        }
    }

    fn written(ruling: Ruling) -> (String, u64) {
        match ruling {
            Ruling::Write(located) => (located.space.to_string(), located.record.version.0),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_record_lives_where_its_content_says() {
        let ann = access(&["s1", "s2"]);
        let here = located("s1", Some(r#"{"site":"s1"}"#));
        let at = |site: &str| data(&format!("{{\"site\":\"{site}\"}}"));
        let create = rule(&ann, &change(0, Edit::Create(at("s2"))), None);
        assert_eq!(written(create), ("e:s2".into(), 1));
        let stay = rule(&ann, &change(4, Edit::Replace(at("s1"))), Some(&here));
        assert_eq!(written(stay), ("e:s1".into(), 5));
        let delete = rule(&ann, &change(4, Edit::Delete), Some(&here));
        assert_eq!(written(delete), ("e:s1".into(), 5));
    }

    #[test]
    fn a_move_has_two_versions() {
        let ann = access(&["s1", "s2"]);
        let here = located("s1", Some(r#"{"site":"s1","n":1}"#));
        let changed = vec!["site".into()];
        let patch = Edit::Patch {
            data: data(r#"{"site":"s2"}"#),
            changed,
        };
        let Ruling::Write(moved) = rule(&ann, &change(4, patch), Some(&here)) else {
            panic!()
        };
        assert_eq!(moved.departed(), Version(5));
        assert_eq!(written(Ruling::Write(moved)), ("e:s2".into(), 6));
        // A tombstone that is taken to another place as well.
        let dead = located("s1", None);
        let create = change(4, Edit::Create(data(r#"{"site":"s2"}"#)));
        let revived = rule(&ann, &create, Some(&dead));
        assert_eq!(written(revived), ("e:s2".into(), 6));
    }

    #[test]
    fn what_is_forbidden_is_forbidden_before_anything_is_compared() {
        let ann = access(&["s1"]);
        let at = |site: &str| data(&format!("{{\"site\":\"{site}\"}}"));
        let forbidden = Ruling::Fail(Failure::forbidden());
        let foreign = located("s2", Some(r#"{"site":"s2"}"#));
        let own = located("s1", Some(r#"{"site":"s1"}"#));
        for base in [0, 3, 4] {
            for edit in [
                Edit::Create(at("s1")),
                Edit::Replace(at("s1")),
                Edit::Delete,
            ] {
                let ruling = rule(&ann, &change(base, edit), Some(&foreign));
                assert_eq!(ruling, forbidden);
            }
            let away = rule(&ann, &change(base, Edit::Replace(at("s2"))), Some(&own));
            assert_eq!(away, forbidden);
        }
        let nameless = rule(&ann, &change(4, Edit::Replace(data("{}"))), Some(&foreign));
        let Ruling::Fail(failure) = nameless else {
            panic!()
        };
        assert_eq!(failure.code, FailureCode::Invalid);
    }

    #[test]
    fn what_comes_to_be_begins_after_what_was_purged() {
        for (purged, version) in [(0, 4), (3, 4), (4, 5), (9, 10)] {
            let mut record = located("s1", None);
            record.begin_after(Version(purged));
            assert_eq!(record.record.version, Version(version));
        }
    }
}
