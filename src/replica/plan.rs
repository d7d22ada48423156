//! Decides which facts follow from an intent: local writes and what the user does with the outbox.
//!
//! Coalescing, for a mutation that has not been sent:
//!
//! | queued | then | leaves |
//! |---|---|---|
//! | create | update | create with the newest data |
//! | create | delete | nothing |
//! | update | update | update, changed fields united, first base kept |
//! | update | delete | delete, first base kept |
//! | delete | create | update (full), first base kept |
//!
//! One that may have been sent is never rewritten: a later change becomes a new entry behind it.

use super::Replica;
use crate::error::{Code, Error, Result};
use crate::hlc::Hlc;
use crate::limits;
use crate::model::{
    Action, Key, Mutation, MutationNo, MutationState, Name, Page, Verdict, Version,
};
use crate::shown::{Names, Shown};
use crate::store::Fact;
use crate::value::Value;
use std::rc::Rc;

/// One local write.
#[derive(Debug, Clone)]
pub enum Write<V> {
    /// A record whose key must be free.
    Create(V),
    /// A record that replaces what was there.
    Put(V),
    /// New values for some fields; a name without a value in `patch` is removed.
    Update {
        /// The record's key.
        key: Key,
        /// The new values.
        patch: V,
        /// The fields concerned.
        changed: Rc<[Rc<str>]>,
    },
    /// The record goes.
    Delete(Key),
}

/// Something that somebody wants to become true.
#[derive(Debug, Clone)]
pub enum Intent<V> {
    /// Local writes to one collection: all or none.
    Write(Name, Vec<Write<V>>),
    /// These are about to be sent.
    MarkSent(Vec<MutationNo>),
    /// The backend's verdicts.
    Verdicts(Vec<(MutationNo, Verdict<V>)>),
    /// A pulled page, fetched from this checkpoint.
    Page(Option<Rc<str>>, Page<V>),
    /// The backend does not know our checkpoint any more.
    ForgetCheckpoint,
    /// The user queues a parked mutation again; none: all of them.
    Retry(Option<MutationNo>),
    /// The user gives a mutation up.
    Discard(MutationNo),
    /// The user empties the conflict log.
    ClearConflicts,
}

/// What the app is told about once the commit is durable.
#[derive(Debug, Clone)]
pub enum Notice<V> {
    /// A mutation was confirmed: its number, id on the wire, collection, key and action.
    Confirmed(MutationNo, Rc<str>, Name, Key, Action),
    /// A mutation was parked.
    Parked(MutationNo),
    /// A conflict was settled.
    Conflict(Rc<crate::conflict::Conflict<V>>),
    /// A page changed so many records.
    Pulled(usize),
}

/// The facts that an intent leads to, and what came of it.
#[derive(Debug)]
pub struct Plan<V> {
    /// To be stored.
    pub facts: Vec<Fact<V>>,
    /// To be told.
    pub notices: Vec<Notice<V>>,
    /// How many mutations or records were concerned.
    pub count: usize,
    /// Collections whose records or mutations were concerned.
    pub collections: Vec<Name>,
}

impl<V> Default for Plan<V> {
    fn default() -> Self {
        Self {
            facts: Vec::new(),
            notices: Vec::new(),
            count: 0,
            collections: Vec::new(),
        }
    }
}

/// Circumstances of a decision.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// The device's clock, ms since 1970.
    pub at_ms: f64,
    /// The hybrid logical clock of this commit.
    pub hlc: Hlc,
    /// A random number in `[0, 1)`.
    pub random: f64,
}

impl<V: Value> Replica<V> {
    /// Decides an intent and makes its facts true, within [`Replica::begin`] and
    /// [`Replica::commit`]. A refused intent leaves nothing behind.
    ///
    /// # Errors
    /// As the intent may be refused: see the calls of the JavaScript interface.
    pub fn plan(&mut self, intent: Intent<V>, now: Now) -> Result<Plan<V>> {
        let mark = self.mark();
        let (hlc, next_no) = (self.hlc, self.next_no);
        let mut plan = Plan::default();
        let done = self.plan_into(intent, now, &mut plan);
        if let Err(error) = done {
            self.rollback_to(mark);
            self.hlc = hlc;
            self.next_no = next_no;
            return Err(error);
        }
        Ok(plan)
    }

    fn plan_into(&mut self, intent: Intent<V>, now: Now, plan: &mut Plan<V>) -> Result<()> {
        match intent {
            Intent::Write(name, writes) => {
                plan.facts.reserve(writes.len());
                plan.count = writes.len();
                for write in writes {
                    self.plan_write(&name, write, now, plan)?;
                }
                Ok(())
            }
            Intent::MarkSent(mut nos) => {
                nos.retain(|no| self.outbox.get(*no).is_some_and(|m| !m.sent));
                plan.count = nos.len();
                if !nos.is_empty() {
                    self.put_true(Fact::Sent { nos }, now, plan);
                }
                Ok(())
            }
            Intent::Verdicts(verdicts) => {
                for (no, verdict) in verdicts {
                    self.plan_verdict(no, verdict, now, plan);
                }
                Ok(())
            }
            Intent::Page(since, page) => self.plan_page(since.as_ref(), page, now, plan),
            Intent::ForgetCheckpoint => {
                let collections = self.declared();
                self.put_true(
                    Fact::Checkpoint {
                        checkpoint: None,
                        collections,
                    },
                    now,
                    plan,
                );
                Ok(())
            }
            Intent::Retry(no) => self.plan_retry(no, now, plan),
            Intent::Discard(no) => self.plan_discard(no, now, plan),
            Intent::ClearConflicts => {
                self.put_true(Fact::ConflictsCleared, now, plan);
                Ok(())
            }
        }
    }

    /// Records a fact and makes it true at once, so that what follows is decided on top of it.
    pub(super) fn put_true(&mut self, fact: Fact<V>, now: Now, plan: &mut Plan<V>) {
        // Before it is applied: afterwards a mutation may be gone, and with it its collection.
        self.note_touched(&fact, &mut plan.collections);
        self.apply(&fact, now.at_ms, now.hlc);
        plan.facts.push(fact);
    }

    /// Adds the collection that a fact concerns, if it is not in the list.
    pub(crate) fn note_touched(&self, fact: &Fact<V>, collections: &mut Vec<Name>) {
        let of = |no: &MutationNo| self.outbox.get(*no).map(|m| &m.collection);
        let name = match fact {
            Fact::Queued { collection, .. }
            | Fact::Remote { collection, .. }
            | Fact::Local { collection, .. } => Some(collection),
            Fact::Held(held) => Some(&held.mutation.collection),
            Fact::Cancelled { no }
            | Fact::Acked { no, .. }
            | Fact::Refused { no, .. }
            | Fact::Rebased { no } => of(no),
            Fact::Sent { nos } => nos.first().and_then(of),
            _ => None,
        };
        if let Some(name) = name
            && !collections.contains(name)
        {
            collections.push(name.clone());
        }
    }

    pub(super) fn fresh_no(&self) -> MutationNo {
        self.next_no
    }

    pub(super) fn declared(&self) -> Rc<[Name]> {
        self.collections
            .iter()
            .filter(|c| c.declared)
            .map(|c| c.spec.name.clone())
            .collect()
    }

    fn plan_write(
        &mut self,
        name: &Name,
        write: Write<V>,
        now: Now,
        plan: &mut Plan<V>,
    ) -> Result<()> {
        let collection = self.collection(name).ok_or_else(|| {
            Error::new(
                Code::UnknownCollection,
                format!("there is no collection {name:?}"),
            )
        })?;
        let key_of = |value: &V| checked_key(collection.spec.key.as_ref(), value);
        let (key, value, changed) = match write {
            Write::Create(value) => {
                let key = key_of(&value)?;
                if collection.get(&key).is_some() {
                    let message = format!("{name} has a record {key:?} already");
                    return Err(Error::new(Code::AlreadyExists, message));
                }
                (key, Some(value), None)
            }
            Write::Put(value) => (key_of(&value)?, Some(value), None),
            Write::Update {
                key,
                patch,
                changed,
            } => {
                let current = collection.get(&key).ok_or_else(|| {
                    Error::new(Code::NotFound, format!("{name} has no record {key:?}"))
                })?;
                if changed.is_empty() {
                    return Ok(());
                }
                let value = current.patched(&patch, &changed);
                if key_of(&value)? != key {
                    let field = &collection.spec.key;
                    let message = format!("{field} is the key and cannot be changed");
                    return Err(Error::new(Code::InvalidKey, message));
                }
                (key, Some(value), Some(changed))
            }
            Write::Delete(key) => {
                if collection.get(&key).is_none() {
                    return Ok(());
                }
                (key, None, None)
            }
        };
        self.queue(name, &key, value, changed, now, plan);
        Ok(())
    }

    /// Queues a local change, coalescing it with what is queued.
    fn queue(
        &mut self,
        name: &Name,
        key: &Key,
        value: Option<V>,
        changed: Option<Names>,
        now: Now,
        plan: &mut Plan<V>,
    ) {
        let record = self.collection(name).and_then(|c| c.record(key));
        let exists = record.is_some_and(|r| r.value.is_some());
        let last = record
            .and_then(|r| r.pending.as_ref())
            .map(|p| p.tail.unwrap_or(p.head));
        let last = last.and_then(|no| self.outbox.get(no));
        let action = match (exists, value.is_some()) {
            (_, false) => Action::Delete,
            (true, true) => Action::Update,
            (false, true) => Action::Create,
        };
        let fresh = self.fresh_no();
        let (no, replaces, action, changed) = match last {
            Some(last) if !last.sent => {
                let Some((action, changed)) = coalesce(last, action, changed) else {
                    let no = last.no;
                    self.put_true(Fact::Cancelled { no }, now, plan);
                    return;
                };
                // The backend may remember a parked one's id together with its refusal.
                let parked = last.state == MutationState::Failed;
                let no = if parked { fresh } else { last.no };
                (no, parked.then_some(last.no), action, changed)
            }
            _ => (fresh, None, action, changed),
        };
        let kept = last.filter(|_| replaces.is_none());
        let origin = kept.filter(|m| m.no == no).and_then(|m| m.origin.clone());
        let group = last.filter(|m| !m.sent).and_then(|m| m.group.clone());
        let (collection, key) = (name.clone(), key.clone());
        let fact = Fact::Queued {
            no,
            replaces,
            collection,
            key,
            action,
            value,
            shows: Shown::Own,
            changed,
            group,
            origin,
        };
        self.put_true(fact, now, plan);
    }

    fn plan_retry(&mut self, no: Option<MutationNo>, now: Now, plan: &mut Plan<V>) -> Result<()> {
        let parked = |m: &&Mutation<V>| m.state == MutationState::Failed;
        let chosen: Vec<Mutation<V>> = match no {
            None => self.outbox.iter().filter(parked).cloned().collect(),
            Some(no) => {
                let found = self.outbox.get(no).filter(parked).cloned();
                let missing = || Error::new(Code::NotFound, "there is no such parked mutation");
                vec![found.ok_or_else(missing)?]
            }
        };
        plan.count = chosen.len();
        for m in chosen {
            let (value, changed) = (m.value.clone(), m.changed.clone());
            self.requeue(&m, m.action, value, changed, m.shows.clone(), now, plan);
        }
        Ok(())
    }

    /// Queues a mutation again under a new id: the backend may remember the old one's result.
    pub(super) fn requeue(
        &mut self,
        old: &Mutation<V>,
        action: Action,
        value: Option<V>,
        changed: Option<Names>,
        shows: Shown<V>,
        now: Now,
        plan: &mut Plan<V>,
    ) -> MutationNo {
        let no = self.fresh_no();
        let (collection, key) = (old.collection.clone(), old.key.clone());
        let replaces = Some(old.no);
        let fact = Fact::Queued {
            no,
            replaces,
            collection,
            key,
            action,
            value,
            shows,
            changed,
            group: old.group.clone(),
            origin: None,
        };
        self.put_true(fact, now, plan);
        no
    }

    fn plan_discard(&mut self, no: MutationNo, now: Now, plan: &mut Plan<V>) -> Result<()> {
        let missing = || Error::new(Code::NotFound, "there is no such mutation");
        let m = self.outbox.get(no).ok_or_else(missing)?;
        let record = self
            .collection(&m.collection)
            .and_then(|c| c.record(&m.key));
        let tail = record.and_then(|r| r.pending.as_ref()).and_then(|p| p.tail);
        // What was written on top of a discarded change goes with it.
        if let Some(tail) = tail.filter(|t| *t != no) {
            self.put_true(Fact::Cancelled { no: tail }, now, plan);
        }
        self.put_true(Fact::Cancelled { no }, now, plan);
        plan.count = 1;
        Ok(())
    }
}

/// One mutation in place of two; none where they annul each other.
#[allow(clippy::type_complexity, reason = "one return value, used twice")]
pub(super) fn coalesce<V>(
    first: &Mutation<V>,
    then: Action,
    changed: Option<Names>,
) -> Option<(Action, Option<Names>)> {
    match (first.action, then) {
        // Behind a delete in flight the create has a base to go back to: the deletion.
        (Action::Create, Action::Delete) => None,
        (Action::Create, _) => Some((Action::Create, None)),
        (Action::Delete, Action::Delete) | (Action::Update, Action::Delete) => {
            Some((Action::Delete, None))
        }
        (Action::Delete, _) if first.base_version == Version(0) && !first.behind => {
            Some((Action::Create, None))
        }
        (Action::Delete, _) => Some((Action::Update, None)),
        (Action::Update, _) => {
            let united = match (&first.changed, changed) {
                (Some(a), Some(b)) => {
                    let mut names: Vec<Rc<str>> = a.to_vec();
                    names.extend(b.iter().filter(|n| !a.contains(n)).cloned());
                    Some(names.into())
                }
                _ => None,
            };
            Some((Action::Update, united))
        }
    }
}

/// A record's key, if it is one.
pub(super) fn checked_key<V: Value>(field: &str, value: &V) -> Result<Key> {
    let key = value.text(field).ok_or_else(|| {
        Error::new(
            Code::InvalidKey,
            format!("the record has no string in its key field {field:?}"),
        )
    })?;
    check_key(&key)?;
    Ok(key)
}

/// Refuses an empty or oversized key.
///
/// # Errors
/// `invalid-key`.
pub fn check_key(key: &str) -> Result<()> {
    if key.is_empty() || key.len() > limits::KEY_BYTES_MAX {
        let message = format!(
            "a key has 1 to {} bytes; this one has {}",
            limits::KEY_BYTES_MAX,
            key.len()
        );
        return Err(Error::new(Code::InvalidKey, message));
    }
    if key.contains('\0') {
        return Err(Error::new(
            Code::InvalidKey,
            "a key must not contain the character U+0000",
        ));
    }
    Ok(())
}
