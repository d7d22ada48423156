//! A batch, worked out in memory: what was loaded under the locks goes in, what is to be stored
//! comes out. So a batch of a hundred changes takes as many statements as one of one change.
//!
//! Each change sees what those before it have made of the records. No I/O, no clock.

use std::collections::{BTreeMap, HashMap};

use crate::access::{Access, Space};
use crate::change::{Change, Failure};
use crate::decide::Record;
use crate::ids::{MutationId, RecordId, RecordType, Stamp, UnixMillis, Version};
use crate::ruling::{Located, Ruling, rule};
use crate::store::checkpoint::Seq;
use crate::store::{ConflictId, Verdict};

/// Which record, in the realm of its type for this user.
pub(super) type Key = (RecordType, RecordId);

/// A mutation's first result, and what it was a mutation of.
#[derive(Clone, Debug)]
pub(super) struct Remembered {
    pub(super) key: Key,
    pub(super) verdict: Verdict,
}

/// What the database held under the locks.
#[derive(Clone, Debug, Default)]
pub(super) struct Loaded {
    /// The newest position of each locked space.
    pub(super) heads: BTreeMap<Space, Seq>,
    pub(super) records: HashMap<Key, Located>,
    pub(super) memory: HashMap<MutationId, Remembered>,
    /// By realm, the newest version of all tombstones that were purged.
    pub(super) purged: HashMap<String, Version>,
}

/// A change leads into a space that is not locked: all is to be done again under its lock as well.
#[derive(Debug)]
pub(super) struct Unlocked(pub(super) Space);

/// A record's new state.
#[derive(Clone, Debug)]
pub(super) struct Written {
    pub(super) realm: String,
    pub(super) located: Located,
    pub(super) seq: Seq,
    /// The version that the database holds; none where the record is new to it.
    pub(super) replaces: Option<Version>,
}

/// Word of a record that has left a space.
#[derive(Clone, Debug)]
pub(super) struct Departure {
    pub(super) seq: Seq,
    pub(super) version: Version,
    pub(super) at: Stamp,
}

/// An accepted change, which may settle conflicts of its client with that record.
#[derive(Clone, Debug)]
pub(super) struct Accepted {
    pub(super) key: Key,
    pub(super) client: String,
    pub(super) base: Version,
    pub(super) version: Version,
}

/// A conflict, for the log.
#[derive(Debug)]
pub(super) struct Logged<'a> {
    pub(super) change: &'a Change,
    pub(super) found: Located,
    /// The version with which a later change of the same batch has made up for it.
    pub(super) settled: Option<Version>,
}

/// What is to be stored.
#[derive(Debug)]
pub(super) struct Draft<'a> {
    pub(super) access: &'a Access,
    pub(super) now: UnixMillis,
    loaded: Loaded,
    pub(super) records: HashMap<Key, Written>,
    /// By the space that was left: word of it, or that it is not true any more.
    pub(super) departures: BTreeMap<(Space, Key), Option<Departure>>,
    /// See [`placeholder`].
    pub(super) conflicts: Vec<Logged<'a>>,
    /// What is to be remembered.
    pub(super) mutations: Vec<(&'a Change, Verdict)>,
    pub(super) accepted: Vec<Accepted>,
    /// Where there are new changes, up to which position.
    pub(super) moved: BTreeMap<Space, Seq>,
}

impl<'a> Draft<'a> {
    pub(super) fn new(access: &'a Access, now: UnixMillis, loaded: Loaded) -> Self {
        Self {
            access,
            now,
            loaded,
            records: HashMap::new(),
            departures: BTreeMap::new(),
            conflicts: Vec::new(),
            mutations: Vec::new(),
            accepted: Vec::new(),
            moved: BTreeMap::new(),
        }
    }

    /// Another one that begins where this one has begun; to be asked before the first change.
    pub(super) fn fork(&self) -> Self {
        Self::new(self.access, self.now, self.loaded.clone())
    }

    /// Applies a change on top of those before it.
    pub(super) fn apply(&mut self, change: &'a Change) -> Result<Verdict, Unlocked> {
        if let Some(verdict) = self.recall(change) {
            return Ok(verdict);
        }
        let key = key(change);
        let current = self.loaded.records.get(&key);
        let verdict = match rule(self.access, change, current) {
            Ruling::Write(mut located) => {
                if current.is_none() {
                    let realm = change.sharing.realm(self.access.user());
                    let purged = self.loaded.purged.get(realm).copied();
                    located.begin_after(purged.unwrap_or(Version::NONE));
                }
                let version = located.record.version;
                self.put(change, key, located)?;
                self.accept(change, version);
                Verdict::Success(version)
            }
            Ruling::Nothing(version) => {
                self.accept(change, version);
                Verdict::Success(version)
            }
            Ruling::Conflict(located) => self.log_conflict(change, located),
            Ruling::Fail(failure) => Verdict::Failed(failure),
        };
        self.remember(change, &verdict);
        Ok(verdict)
    }

    /// A change of a batch that has no effect: `first` is what it came to on top of those before
    /// it. What it comes to by itself, where that is a refusal, is a real outcome.
    pub(super) fn refuse(&mut self, change: &'a Change, first: Verdict) -> Verdict {
        if let Some(verdict) = self.recall(change) {
            return verdict;
        }
        match first {
            Verdict::Success(_) => return Verdict::Failed(Failure::aborted()),
            Verdict::Failed(failure) if failure.code.retryable() => {
                return Verdict::Failed(failure);
            }
            _ => {}
        }
        let verdict = match rule(self.access, change, self.loaded.records.get(&key(change))) {
            Ruling::Conflict(located) => self.log_conflict(change, located),
            Ruling::Fail(failure) => Verdict::Failed(failure),
            // Were it `aborted` like the rest, the same batch would be sent for ever.
            Ruling::Write(_) | Ruling::Nothing(_) => Verdict::Failed(Failure::invalid(
                "it cannot take effect after the changes before it in the batch",
            )),
        };
        self.remember(change, &verdict);
        verdict
    }

    /// The first result of a mutation that was here before, also in this batch.
    fn recall(&self, change: &Change) -> Option<Verdict> {
        let remembered = self.loaded.memory.get(&change.mutation)?;
        if remembered.key == key(change) {
            return Some(remembered.verdict.clone());
        }
        // Answering with the other record's result would acknowledge a change that is lost.
        let failure = Failure::invalid("`id` belongs to a change of another record");
        Some(Verdict::Failed(failure))
    }

    fn remember(&mut self, change: &'a Change, verdict: &Verdict) {
        if matches!(verdict, Verdict::Failed(failure) if failure.code.retryable()) {
            return;
        }
        self.mutations.push((change, verdict.clone()));
        let remembered = Remembered {
            key: key(change),
            verdict: verdict.clone(),
        };
        self.loaded
            .memory
            .insert(change.mutation.clone(), remembered);
    }

    pub(super) fn put(
        &mut self,
        change: &Change,
        key: Key,
        located: Located,
    ) -> Result<(), Unlocked> {
        let before = self.loaded.records.get(&key);
        let stored = before.map(|before| before.record.version);
        if let Some(left) = before.map(|before| before.space.clone())
            && left != located.space
        {
            // Word in the old space; none any more in the new one, if it was there before.
            let back = (located.space.clone(), key.clone());
            self.departures.insert(back, None);
            let departure = Departure {
                seq: self.next(&left)?,
                version: located.departed(),
                at: located.record.at.clone(),
            };
            self.departures.insert((left, key.clone()), Some(departure));
        }
        let seq = self.next(&located.space)?;
        let replaces = match self.records.get(&key) {
            Some(written) => written.replaces,
            None => stored,
        };
        let written = Written {
            realm: change.sharing.realm(self.access.user()).to_owned(),
            located: located.clone(),
            seq,
            replaces,
        };
        self.records.insert(key.clone(), written);
        self.loaded.records.insert(key, located);
        Ok(())
    }

    /// The next position in a space.
    fn next(&mut self, space: &Space) -> Result<Seq, Unlocked> {
        let head = self.loaded.heads.get_mut(space);
        let head = head.ok_or_else(|| Unlocked(space.clone()))?;
        *head = head.saturating_add(1);
        self.moved.insert(space.clone(), *head);
        Ok(*head)
    }

    /// A change was accepted, which makes up for conflicts of its client with that record on the
    /// version that it was made on, or an older one.
    fn accept(&mut self, change: &Change, version: Version) {
        for logged in &mut self.conflicts {
            let same = key(logged.change) == key(change) && logged.change.client == change.client;
            let covered = logged.found.record.version <= change.base;
            if same && covered && logged.settled.is_none() {
                logged.settled = Some(version);
            }
        }
        self.accepted.push(Accepted {
            key: key(change),
            client: change.client.as_str().to_owned(),
            base: change.base,
            version,
        });
    }

    fn log_conflict(&mut self, change: &'a Change, located: Located) -> Verdict {
        let id = placeholder(self.conflicts.len());
        let Record {
            version, data, at, ..
        } = located.record.clone();
        self.conflicts.push(Logged {
            change,
            found: located,
            settled: None,
        });
        Verdict::Conflict {
            id,
            version,
            data,
            at,
        }
    }
}

/// A conflict's number until it has one of the database's: negative, which those are not.
pub(super) fn placeholder(place: usize) -> ConflictId {
    ConflictId(-1 - i64::try_from(place).unwrap_or(i64::MAX - 1))
}

pub(super) fn key(change: &Change) -> Key {
    (change.record_type.clone(), change.record.clone())
}
