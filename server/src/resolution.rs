//! What a resolution does to the record: no I/O, no clock. Like [`crate::decide`], for the conflict
//! log: the store asks for the step, and then [`crate::ruling::rule`] whether it may be taken.

use crate::change::{Change, Edit, Failure};
use crate::data::RecordData;
use crate::ids::{Stamp, UnixMillis, Version};
use crate::ruling::Located;
use crate::store::{Choice, ConflictEntry, Outcome, Resolution};

/// What is to be done.
#[derive(Clone, Debug)]
pub enum Step {
    /// The record stays as it is, at this version.
    Stay(Version),
    /// This change is to be applied; its base is the record as it stands.
    Apply(Box<Change>),
    /// It cannot be done.
    Refuse(Failure),
}

impl Choice {
    /// What the conflict's outcome will be.
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::Local => Outcome::Local,
            Self::Remote => Outcome::Remote,
            Self::Merged(_) => Outcome::Merged,
        }
    }

    /// The content that the record is to have.
    pub fn merged(&self) -> Option<&str> {
        match self {
            Self::Merged(data) => Some(data.as_str()),
            Self::Local | Self::Remote => None,
        }
    }
}

/// The step that settles `entry` with the record as it stands.
pub fn step(
    entry: &ConflictEntry,
    resolution: &Resolution,
    current: Option<&Located>,
    now: UnixMillis,
) -> Step {
    let record = current.map(|current| &current.record);
    let base = record.map_or(Version::NONE, |record| record.version);
    let live = record.is_some_and(|record| record.data.is_some());
    let whole = |data: &RecordData| {
        if live {
            Edit::Replace(data.clone())
        } else {
            Edit::Create(data.clone())
        }
    };
    let edit = match (&resolution.choice, &entry.local, &entry.changed) {
        (Choice::Remote, _, _) => return Step::Stay(base),
        (Choice::Merged(data), _, _) | (Choice::Local, Some(data), None) => whole(data),
        (Choice::Local, None, _) => Edit::Delete,
        (Choice::Local, Some(data), Some(changed)) if live => Edit::Patch {
            data: data.clone(),
            changed: changed.clone(),
        },
        (Choice::Local, Some(_), Some(_)) => {
            let message = "the record was deleted, and of the change only some fields are known: \
                           choose `merged` with the whole record";
            return Step::Refuse(Failure::invalid(message));
        }
    };
    Step::Apply(Box::new(Change {
        mutation: entry.mutation.clone(),
        client: entry.client.clone(),
        record_type: entry.record_type.clone(),
        record: entry.record.clone(),
        base,
        at: Stamp::at(now, &entry.client),
        sharing: resolution.sharing.clone(),
        edit,
    }))
}
