//! The state of one database in memory: what the log says, replayed.
//!
//! [`Replica::apply`] makes a fact true and never fails; it is the same for a live commit, for a
//! reopened database and for what another tab has written. [`plan`] decides which facts follow from
//! an intent. Facts of a commit under way are applied at once and undone if it fails, so each
//! intent of a group is decided on what those before it have left.

mod batch;
pub mod collection;
pub mod index;
pub mod outbox;
pub mod plan;
mod plan_sync;

use crate::conflict::Conflict;
use crate::hlc::Hlc;
use crate::limits;
use crate::model::{Action, Key, Mutation, MutationNo, MutationState, Name, Version};
use crate::options::CollectionSpec;
use crate::store::{Fact, Summary};
use crate::value::Value;
use collection::{Collection, Pending, Record};
use outbox::Outbox;
use std::collections::HashMap;
use std::rc::Rc;

/// One database's state.
#[derive(Debug)]
pub struct Replica<V> {
    client: Rc<str>,
    pub(crate) collections: Vec<Collection<V>>,
    by_name: HashMap<Name, usize>,
    /// Queued changes.
    pub outbox: Outbox<V>,
    conflicts: Vec<Rc<Conflict<V>>>,
    checkpoint: Option<Rc<str>>,
    checkpoint_collections: Rc<[Name]>,
    hlc: Hlc,
    next_no: MutationNo,
    pulled_ms: Option<f64>,
    max_attempts: u32,
    undo: Option<Undo<V>>,
}

/// What it takes to go back to where a commit began.
#[derive(Debug)]
struct Undo<V> {
    steps: Vec<Step<V>>,
    conflicts: Vec<Rc<Conflict<V>>>,
    checkpoint: Option<Rc<str>>,
    checkpoint_collections: Rc<[Name]>,
    hlc: Hlc,
    next_no: MutationNo,
    pulled_ms: Option<f64>,
}

#[derive(Debug)]
enum Step<V> {
    Record(usize, Key, Option<Record<V>>),
    Mutation(MutationNo, Option<Mutation<V>>),
}

impl<V: Value> Replica<V> {
    /// An empty state of this client.
    #[must_use]
    pub fn new(client: Rc<str>, specs: &[CollectionSpec], max_attempts: u32) -> Self {
        let mut replica = Self {
            client,
            collections: Vec::new(),
            by_name: HashMap::new(),
            outbox: Outbox::new(),
            conflicts: Vec::new(),
            checkpoint: None,
            checkpoint_collections: Rc::from([]),
            hlc: Hlc::default(),
            next_no: 1,
            pulled_ms: None,
            max_attempts,
            undo: None,
        };
        for spec in specs {
            replica
                .by_name
                .insert(spec.name.clone(), replica.collections.len());
            replica
                .collections
                .push(Collection::new(spec.clone(), true));
        }
        replica
    }

    /// The client's id.
    #[must_use]
    pub fn client(&self) -> &Rc<str> {
        &self.client
    }

    /// A declared collection.
    #[must_use]
    pub fn collection(&self, name: &str) -> Option<&Collection<V>> {
        self.by_name
            .get(name)
            .map(|&i| &self.collections[i])
            .filter(|c| c.declared)
    }

    /// The conflict log, oldest first.
    #[must_use]
    pub fn conflicts(&self) -> &[Rc<Conflict<V>>] {
        &self.conflicts
    }

    /// Where the next pull begins. A collection declared since the last one starts it over.
    #[must_use]
    pub fn checkpoint(&self) -> Option<Rc<str>> {
        let covered = self
            .collections
            .iter()
            .filter(|c| c.declared)
            .all(|c| self.checkpoint_collections.contains(&c.spec.name));
        self.checkpoint.clone().filter(|_| covered)
    }

    /// When the newest page was stored.
    #[must_use]
    pub fn pulled_ms(&self) -> Option<f64> {
        self.pulled_ms
    }

    /// The clock's last reading.
    #[must_use]
    pub fn hlc(&self) -> Hlc {
        self.hlc
    }

    /// Moves the clock: by a tick for what is written next, or because of a remote reading.
    pub fn set_hlc(&mut self, hlc: Hlc) {
        self.hlc = hlc;
    }

    /// The counts to store with an entry.
    #[must_use]
    pub fn summary(&self) -> Summary {
        let counts = self.outbox.counts();
        Summary {
            pending: counts.pending,
            conflict: counts.conflict,
            failed: counts.failed,
            next_no: self.next_no,
            counts: self
                .collections
                .iter()
                .map(|c| (c.spec.name.clone(), c.count()))
                .collect(),
            pulled_ms: self.pulled_ms,
        }
    }

    /// From here on, changes can be undone.
    pub fn begin(&mut self) {
        self.undo = Some(Undo {
            steps: Vec::new(),
            conflicts: self.conflicts.clone(),
            checkpoint: self.checkpoint.clone(),
            checkpoint_collections: self.checkpoint_collections.clone(),
            hlc: self.hlc,
            next_no: self.next_no,
            pulled_ms: self.pulled_ms,
        });
    }

    /// The changes since [`Self::begin`] stay.
    pub fn commit(&mut self) {
        self.undo = None;
    }

    /// The changes since [`Self::begin`] never were.
    pub fn rollback(&mut self) {
        let Some(undo) = self.undo.take() else { return };
        self.take_back(undo.steps);
        self.conflicts = undo.conflicts;
        self.checkpoint = undo.checkpoint;
        self.checkpoint_collections = undo.checkpoint_collections;
        self.hlc = undo.hlc;
        self.next_no = undo.next_no;
        self.pulled_ms = undo.pulled_ms;
    }

    /// A point within a commit to go back to, for an intent that fails half-way.
    fn mark(&self) -> usize {
        self.undo.as_ref().map_or(0, |u| u.steps.len())
    }

    fn rollback_to(&mut self, mark: usize) {
        let Some(mut undo) = self.undo.take() else {
            return;
        };
        let steps = undo.steps.split_off(mark);
        self.take_back(steps);
        self.undo = Some(undo);
    }

    fn take_back(&mut self, steps: Vec<Step<V>>) {
        for step in steps.into_iter().rev() {
            match step {
                Step::Record(c, key, record) => {
                    self.collections[c].set(&key, record);
                }
                Step::Mutation(no, mutation) => {
                    self.outbox.set(no, mutation);
                }
            }
        }
    }

    fn intern(&mut self, name: &Name) -> usize {
        if let Some(&at) = self.by_name.get(name) {
            return at;
        }
        // Left behind by an older version of the app: kept, but out of sight.
        let at = self.collections.len();
        self.by_name.insert(name.clone(), at);
        self.collections
            .push(Collection::new(CollectionSpec::new(name, "id"), false));
        at
    }

    fn set_record(&mut self, c: usize, key: &Key, record: Record<V>) {
        let before = self.collections[c].set(key, Some(record));
        if let Some(undo) = &mut self.undo {
            undo.steps.push(Step::Record(c, key.clone(), before));
        }
    }

    fn set_mutation(&mut self, no: MutationNo, mutation: Option<Mutation<V>>) {
        let before = self.outbox.set(no, mutation);
        if let Some(undo) = &mut self.undo {
            undo.steps.push(Step::Mutation(no, before));
        }
    }

    /// Makes a fact true. `at_ms` and `hlc` are those of its entry.
    pub fn apply(&mut self, fact: &Fact<V>, at_ms: f64, hlc: Hlc) {
        match fact {
            Fact::Queued { .. } => self.apply_queued(fact, at_ms, hlc),
            Fact::Cancelled { no } => self.apply_gone(*no, None),
            Fact::Acked { no, version, value } => self.apply_gone(*no, Some((*version, value))),
            Fact::Sent { nos } => {
                for no in nos {
                    self.edit(*no, |m| m.sent = true);
                }
            }
            Fact::Refused {
                no,
                refusal,
                attempts,
                next_attempt_ms,
            } => self.edit(*no, |m| {
                m.error = Some(refusal.clone());
                m.attempts = *attempts;
                m.last_attempt_ms = Some(at_ms);
                m.next_attempt_ms = *next_attempt_ms;
                if next_attempt_ms.is_none() {
                    m.state = MutationState::Failed;
                    m.sent = false;
                }
            }),
            Fact::Rebased { no } => {
                let Some(mutation) = self.outbox.get(*no) else {
                    return;
                };
                let (c, key) = (self.by_name[&mutation.collection], mutation.key.clone());
                let Some(record) = self.collections[c].record(&key) else {
                    return;
                };
                let shadow = record.pending.as_ref().and_then(|p| p.shadow.clone());
                let version = record.version;
                self.edit(*no, |m| {
                    m.base = shadow;
                    m.base_version = version;
                });
            }
            Fact::Remote {
                collection,
                key,
                value,
                version,
            } => {
                let c = self.intern(collection);
                let mut record = self.collections[c].record(key).cloned().unwrap_or_default();
                record.version = *version;
                match &mut record.pending {
                    Some(pending) => pending.shadow.clone_from(value),
                    None => record.value.clone_from(value),
                }
                self.set_record(c, key, record);
            }
            Fact::Checkpoint {
                checkpoint,
                collections,
            } => {
                self.checkpoint.clone_from(checkpoint);
                self.checkpoint_collections = collections.clone();
                self.pulled_ms = Some(at_ms);
            }
            Fact::Conflicted(conflict) => {
                self.conflicts.push(conflict.clone());
                let over = self
                    .conflicts
                    .len()
                    .saturating_sub(limits::CONFLICTS_KEPT_MAX);
                self.conflicts.drain(..over);
            }
            Fact::ConflictsCleared => self.conflicts.clear(),
        }
    }

    fn edit(&mut self, no: MutationNo, change: impl FnOnce(&mut Mutation<V>)) {
        if let Some(mut mutation) = self.outbox.get(no).cloned() {
            change(&mut mutation);
            self.set_mutation(no, Some(mutation));
        }
    }

    fn apply_queued(&mut self, fact: &Fact<V>, at_ms: f64, hlc: Hlc) {
        let Fact::Queued {
            no,
            replaces,
            collection,
            key,
            action,
            value,
            changed,
        } = fact
        else {
            return;
        };
        let c = self.intern(collection);
        self.next_no = self.next_no.max(no + 1);
        let mut record = self.collections[c].record(key).cloned().unwrap_or_default();
        let old = replaces
            .or(Some(*no))
            .and_then(|n| self.outbox.get(n))
            .cloned();
        let new_content = Mutation {
            no: *no,
            collection: collection.clone(),
            key: key.clone(),
            action: *action,
            value: value.clone(),
            changed: changed.clone(),
            base_version: record.version,
            base: None,
            priority: 0,
            behind: false,
            at: hlc,
            created_ms: at_ms,
            sent: false,
            state: MutationState::Pending,
            attempts: 0,
            last_attempt_ms: None,
            next_attempt_ms: None,
            error: None,
        };
        let mutation = match (&old, &mut record.pending) {
            (Some(old), Some(pending)) => {
                if let Some(replaced) = replaces {
                    self.set_mutation(*replaced, None);
                    if pending.head == *replaced {
                        pending.head = *no;
                    } else {
                        pending.tail = Some(*no);
                    }
                }
                Mutation {
                    base_version: old.base_version,
                    base: old.base.clone(),
                    created_ms: old.created_ms,
                    ..new_content
                }
            }
            (_, Some(pending)) => {
                // Behind one that is in flight; its base comes with the acknowledgement.
                pending.tail = Some(*no);
                Mutation {
                    base_version: Version(0),
                    ..new_content
                }
            }
            (_, None) => {
                let shadow = record.value.take();
                let base = shadow.clone();
                record.pending = Some(Box::new(Pending {
                    shadow,
                    head: *no,
                    tail: None,
                }));
                Mutation {
                    base,
                    ..new_content
                }
            }
        };
        record.value.clone_from(value);
        let behind = record.pending.as_ref().is_some_and(|p| p.tail == Some(*no));
        let priority = self.collections[c].spec.priority;
        self.set_record(c, key, record);
        self.set_mutation(
            *no,
            Some(Mutation {
                priority,
                behind,
                ..mutation
            }),
        );
    }

    /// A mutation leaves: confirmed (`acked`), or given up.
    fn apply_gone(&mut self, no: MutationNo, acked: Option<(Version, &Option<V>)>) {
        let Some(gone) = self.outbox.get(no).cloned() else {
            return;
        };
        self.set_mutation(no, None);
        let c = self.intern(&gone.collection);
        let Some(mut record) = self.collections[c].record(&gone.key).cloned() else {
            return;
        };
        let Some(mut pending) = record.pending.take() else {
            return;
        };
        // What the backend had right after it: the base of what was written on top of it. A page
        // may have brought a newer state since; then the next push meets a conflict, as it should.
        let mut base = (pending.shadow.clone(), record.version);
        if let Some((version, stored)) = acked {
            let value = stored.clone().or_else(|| gone.value.clone());
            base = (value.filter(|_| gone.action != Action::Delete), version);
            if version >= record.version {
                (pending.shadow, record.version) = base.clone();
            }
        }
        if pending.tail == Some(no) {
            record.value = self.outbox.get(pending.head).and_then(|h| h.value.clone());
            pending.tail = None;
            record.pending = Some(pending);
        } else if let Some(next) = pending.tail.take() {
            pending.head = next;
            let as_sent = matches!(acked, Some((_, None)));
            self.edit(next, |m| {
                m.behind = false;
                // Changed fields go on top of what the backend has, where that is something else
                // than what they were written on.
                if let (false, Some(names), Some(on)) = (as_sent, &m.changed, &base.0) {
                    m.value = m.value.as_ref().map(|value| on.patched(value, names));
                }
                (m.base, m.base_version) = base;
            });
            record.value = self.outbox.get(next).and_then(|m| m.value.clone());
            record.pending = Some(pending);
        } else {
            record.value = pending.shadow.take();
        }
        self.set_record(c, &gone.key, record);
    }
}
