//! Decides which facts follow from an intent: what somebody wants becomes what is true.
//!
//! Local writes are in [`super::plan_write`], what the backend says in [`super::plan_sync`], what the
//! user does with the queue in [`super::plan_outbox`], how conflicts go on in [`super::plan_conflict`], a
//! backup in [`super::plan_import`].

use super::Replica;
pub use super::plan_conflict::{Decided, Edit};
use super::plan_import::Import;
pub use super::plan_write::{Read, Transaction, Write, WriteOptions};
use crate::conflict::Choice;
use crate::error::{Code, Error, Result};
use crate::hlc::Hlc;
use crate::limits;
use crate::model::{Action, Key, Mutation, MutationNo, MutationState, Name, Page, Verdict};
use crate::store::Fact;
use crate::value::Value;
use std::rc::Rc;

/// Something that somebody wants to become true.
#[derive(Debug, Clone)]
pub enum Intent<V> {
    /// Local writes to one collection: all or none.
    Write(Name, Vec<Write<V>>, WriteOptions),
    /// Local writes to several collections: all or none, and only on top of what was read.
    Transaction(Transaction<V>),
    /// Queued mutations from elsewhere: those that are not known are taken over, all or none.
    Import(Import<V>),
    /// These are about to be sent.
    MarkSent(Vec<MutationNo>),
    /// The backend's verdicts.
    Verdicts(Vec<(MutationNo, Verdict<V>)>),
    /// A pulled page, fetched from this checkpoint.
    Page(Option<Rc<str>>, Page<V>),
    /// The backend does not know our checkpoint any more.
    ForgetCheckpoint,
    /// Records of this collection have turned out to be damaged.
    Heal(Name),
    /// The user queues a parked mutation again; none: all of them.
    Retry(Option<MutationNo>),
    /// The user gives a mutation up.
    Discard(MutationNo),
    /// The user changes the content of a queued mutation.
    Edit(Edit<V>),
    /// The user settles the conflict with this id: one that waits, or one that was settled before.
    Resolve(Rc<str>, Choice<V>),
    /// The app's function has answered.
    Decided(Decided<V>),
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
    /// A record moved to the key that the backend has given it: collection, old key, new key.
    Rekeyed(Name, Key, Key),
    /// A conflict was met and waits, or was settled.
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
    /// Mutations that were written without showing: whoever asked waits for their confirmation.
    pub hidden: Vec<MutationNo>,
}

impl<V> Default for Plan<V> {
    fn default() -> Self {
        Self {
            facts: Vec::new(),
            notices: Vec::new(),
            count: 0,
            collections: Vec::new(),
            hidden: Vec::new(),
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
        let (data_version, older) = (self.data_version, self.older.clone());
        let mut plan = Plan::default();
        let done = self.plan_into(intent, now, &mut plan);
        if let Err(error) = done {
            self.rollback_to(mark);
            self.hlc = hlc;
            self.next_no = next_no;
            (self.data_version, self.older) = (data_version, older);
            return Err(error);
        }
        Ok(plan)
    }

    // What this calls is not inlined (`#[inline(never)]` there): a browser would compile all of it for the first
    // write of a page.
    fn plan_into(&mut self, intent: Intent<V>, now: Now, plan: &mut Plan<V>) -> Result<()> {
        match intent {
            Intent::Write(name, writes, options) => {
                plan.facts.reserve(writes.len());
                plan.count = writes.len();
                for write in writes {
                    self.plan_write(&name, write, options, now, plan)?;
                }
                Ok(())
            }
            Intent::Transaction(transaction) => self.plan_transaction(transaction, now, plan),
            Intent::Import(import) => self.plan_import(import, now, plan),
            Intent::MarkSent(mut nos) => {
                // They were chosen before: what has these numbers now may be behind another. What was
                // settled or parked meanwhile is not sent, and may be rewritten.
                let goes =
                    |m: &Mutation<V>| !m.sent && !m.behind && m.state == MutationState::Pending;
                nos.retain(|no| self.outbox.get(*no).is_some_and(goes));
                self.plan_dates(&nos, now, plan);
                plan.count = nos.len();
                if !nos.is_empty() {
                    self.put_true(Fact::Sent { nos }, now, plan);
                }
                Ok(())
            }
            Intent::Verdicts(verdicts) => {
                self.plan_verdicts(verdicts, now, plan);
                Ok(())
            }
            Intent::Page(since, page) => self.plan_page(since.as_ref(), page, now, plan),
            Intent::ForgetCheckpoint => {
                self.put_true(self.no_checkpoint(), now, plan);
                Ok(())
            }
            Intent::Heal(name) => {
                self.plan_heal(&name, now, plan);
                Ok(())
            }
            Intent::Retry(no) => self.plan_retry(no, now, plan),
            Intent::Discard(no) => self.plan_discard(no, now, plan),
            Intent::Edit(edit) => self.plan_edit(edit, now, plan),
            Intent::Resolve(id, choice) => self.plan_resolve(&id, choice, now, plan),
            Intent::Decided(decided) => {
                self.plan_decided(decided, now, plan);
                Ok(())
            }
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
            | Fact::Local { collection, .. }
            | Fact::Rekeyed { collection, .. }
            | Fact::Aliases { collection, .. } => Some(collection),
            Fact::Held(held) => Some(&held.mutation.collection),
            Fact::Run(run) => Some(&run.collection),
            Fact::Cancelled { no, .. }
            | Fact::Acked { no, .. }
            | Fact::Refused { no, .. }
            | Fact::Waits { no }
            | Fact::Rebased { no } => of(no),
            Fact::Sent { nos } => nos.first().and_then(of),
            _ => None,
        };
        if let Some(name) = name
            && !collections
                .iter()
                .any(|known| Rc::ptr_eq(known, name) || known == name)
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
}

/// A record's key, if it is one.
pub(super) fn checked_key<V: Value>(field: &str, value: &V) -> Result<Key> {
    let key = value.text(field).ok_or_else(|| {
        Error::new(
            Code::InvalidKey,
            format!("the record has no string in its key field \"{field}\""),
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
