//! Decides which facts follow from local writes, alone or as a transaction.
//!
//! What a write changes is the *newest content* of its record: what is queued, whether it shows or
//! not. What the record shows meanwhile follows from whether the writes were optimistic
//! ([`crate::shown`]). A local-only record is never queued, and stays local until it is promoted.
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
use super::collection::Record;
use super::plan::{Now, Plan, checked_key};
use crate::conflict::same;
use crate::error::{Code, Error, Result};
use crate::model::{Action, Key, Mutation, MutationNo, MutationState, Name};
use crate::options::CollectionSpec;
use crate::ordered::Numbers;
use crate::planted::{self, Bug};
use crate::shown::{Names, Shown};
use crate::store::{Fact, Gone};
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
        changed: Names,
    },
    /// The record goes.
    Delete(Key),
    /// A local-only record is queued and becomes an ordinary one.
    Promote(Key),
}

/// How a write is to be done; what is not said is as the collection declares.
#[derive(Debug, Clone, Copy, Default)]
pub struct WriteOptions {
    /// A new record is local-only.
    pub local_only: Option<bool>,
    /// The record shows the change at once.
    pub optimistic: Option<bool>,
}

/// What was read before a transaction was decided.
#[derive(Debug, Clone)]
pub struct Read<V> {
    /// The record's collection.
    pub collection: Name,
    /// The record's key.
    pub key: Key,
    /// What was there.
    pub value: Option<V>,
    /// Whether that was the newest content, with hidden changes, and not what shows.
    pub newest: bool,
}

/// Writes to several collections that are stored together or not at all.
#[derive(Debug, Clone)]
pub struct Transaction<V> {
    /// The writes, in order.
    pub writes: Vec<(Name, Write<V>, WriteOptions)>,
    /// What must still be there.
    pub reads: Vec<Read<V>>,
    /// Whether the mutations form an atomic group.
    pub grouped: bool,
}

/// A change to one record, all that was there before included.
struct Change<V> {
    key: Key,
    value: Option<V>,
    /// The patch and its fields, where it is an update.
    patch: Option<(V, Names)>,
}

impl<V: Value> Replica<V> {
    /// The newest content of a record: what the next change is made on, whether it shows or not.
    #[must_use]
    pub fn newest(&self, name: &str, key: &str) -> Option<&V> {
        let collection = self.collection(name)?;
        self.newest_of(collection.record(collection.present(key))?)
    }

    fn newest_of<'a>(&'a self, record: &'a Record<V>) -> Option<&'a V> {
        match self.last_of(record) {
            Some(last) => last.value.as_ref(),
            None => record.value.as_ref(),
        }
    }

    fn last_of(&self, record: &Record<V>) -> Option<&Mutation<V>> {
        let pending = record.pending.as_ref()?;
        self.outbox.get(pending.tail.unwrap_or(pending.head))
    }

    #[inline(never)]
    pub(super) fn plan_transaction(
        &mut self,
        transaction: Transaction<V>,
        now: Now,
        plan: &mut Plan<V>,
    ) -> Result<()> {
        for read in &transaction.reads {
            let collection = self.declared_collection(&read.collection)?;
            let there = if read.newest {
                self.newest(&read.collection, &read.key)
            } else {
                collection.get(collection.present(&read.key))
            };
            if !same(there, read.value.as_ref()) && !planted::is(Bug::TransactionOnStaleReads) {
                let (name, key) = (&read.collection, &read.key);
                let message = format!("{name}: the record \"{key}\" was changed meanwhile");
                return Err(Error::new(Code::WriteContention, message));
            }
        }
        plan.count = transaction.writes.len();
        for (name, write, options) in transaction.writes {
            self.plan_write(&name, write, options, now, plan)?;
        }
        if transaction.grouped {
            self.group(now, plan);
        }
        Ok(())
    }

    /// Makes one atomic group of what a transaction has queued. Where it has rewritten mutations of
    /// earlier groups, these become part of it: none of them may be torn apart.
    fn group(&mut self, now: Now, plan: &mut Plan<V>) {
        let (mut nos, mut members) = (Vec::new(), Numbers::default());
        for fact in &plan.facts {
            if let Fact::Queued { no, .. } = fact
                && self.outbox.get(*no).is_some()
                && members.insert(*no, 0).is_none()
            {
                nos.push(*no);
            }
        }
        let (Some(first), true) = (nos.first(), nos.len() > 1) else {
            return;
        };
        let mut earlier: Vec<Rc<str>> = nos
            .iter()
            .filter_map(|no| self.outbox.get(*no)?.group.clone())
            .collect();
        earlier.sort_unstable();
        earlier.dedup();
        let size = |id: &&Rc<str>| self.outbox.members(id).count();
        let largest = match &earlier[..] {
            [one] => Some(one),
            // Of the same size, the first.
            several => several.iter().rev().max_by_key(size),
        };
        let id = match (largest, self.outbox.get(*first)) {
            (Some(id), _) => id.clone(),
            (None, Some(m)) => m.wire_id(&self.client).into(),
            (None, None) => return,
        };
        for fact in &mut plan.facts {
            if let Fact::Queued { no, group, .. } = fact
                && members.contains(no)
            {
                *group = Some(id.clone());
            }
        }
        for no in &nos {
            self.edit(*no, |m| m.group = Some(id.clone()));
        }
        self.join_groups(&earlier, &id, now, plan);
    }

    /// A mutation as part of which the one behind it goes on: what goes with either goes with both.
    pub(super) fn joined(
        &mut self,
        m: &Mutation<V>,
        tail: &Mutation<V>,
        now: Now,
        plan: &mut Plan<V>,
    ) -> Mutation<V> {
        let mut groups = [m.group.as_ref(), tail.group.as_ref()];
        if let [Some(one), Some(other)] = groups
            && self.outbox.members(one).count() < self.outbox.members(other).count()
        {
            groups.reverse();
        }
        if let [Some(id), Some(other)] = groups {
            self.join_groups(std::slice::from_ref(other), id, now, plan);
        }
        let group = groups.into_iter().flatten().next().cloned();
        Mutation { group, ..m.clone() }
    }

    /// Makes the members of these groups members of another, the largest of them: it costs a rewriting of
    /// all that join it. They stay as they are otherwise: whoever is parked, or was sent, keeps all of them.
    fn join_groups(&mut self, earlier: &[Rc<str>], id: &Rc<str>, now: Now, plan: &mut Plan<V>) {
        let mut torn: Vec<MutationNo> = Vec::new();
        for other in earlier.iter().filter(|other| *other != id) {
            torn.extend(self.outbox.members(other).map(|m| m.no));
        }
        torn.sort_unstable();
        for no in torn {
            if let Some(mut held) = self.held(no) {
                held.mutation.group = Some(id.clone());
                self.put_true(Fact::Held(Box::new(held)), now, plan);
            }
        }
    }

    pub(super) fn declared_collection(
        &self,
        name: &Name,
    ) -> Result<&super::collection::Collection<V>> {
        self.collection(name).ok_or_else(|| {
            Error::new(
                Code::UnknownCollection,
                format!("there is no collection \"{name}\""),
            )
        })
    }

    pub(super) fn plan_write(
        &mut self,
        name: &Name,
        write: Write<V>,
        options: WriteOptions,
        now: Now,
        plan: &mut Plan<V>,
    ) -> Result<()> {
        let collection = self.declared_collection(name)?;
        let spec = &collection.spec;
        let write = self.with_present_keys(collection, write);
        if let Write::Promote(key) = write {
            return self.plan_promote(name, key, now, plan);
        }
        let optimistic = options.optimistic.unwrap_or(spec.optimistic);
        let local_only = options.local_only.unwrap_or(spec.local_only);
        if let (false, Write::Create(value) | Write::Put(value)) = (local_only, &write) {
            let key = checked_key(&spec.key, value)?;
            if collection.record(&key).is_none() {
                self.queue_new(name, key, value.clone(), optimistic, now, plan);
                return Ok(());
            }
        }
        let again = match &write {
            Write::Delete(key) if !optimistic => collection
                .record(key)
                .and_then(|r| self.last_of(r))
                .map(|m| m.no),
            _ => None,
        };
        let Some(change) = self.changed_by(spec, write, optimistic)? else {
            // Deleted already, and the backend has not decided: that is waited for.
            plan.hidden.extend(again);
            return Ok(());
        };
        let record = collection.record(&change.key);
        if record.is_some_and(|r| r.local.is_some()) {
            self.put_local(name, change, now, plan);
            return Ok(());
        }
        let is_known = record.is_some_and(|r| r.value.is_some() || r.pending.is_some());
        // What a collection declares is about new records: one that was promoted, or pulled, is an ordinary one.
        if local_only && (!is_known || options.local_only.is_some()) {
            if is_known {
                let key = &change.key;
                let message = format!(
                    "{name}: the record \"{key}\" is synced, so it cannot be written with localOnly"
                );
                return Err(Error::new(Code::InvalidOptions, message));
            }
            self.put_local(name, change, now, plan);
            return Ok(());
        }
        self.queue(name, change, optimistic, now, plan);
        Ok(())
    }

    /// What a write makes of the newest content; none where there is nothing to do.
    fn changed_by(
        &self,
        spec: &CollectionSpec,
        write: Write<V>,
        optimistic: bool,
    ) -> Result<Option<Change<V>>> {
        let name = &spec.name;
        let key_of = |value: &V| checked_key(spec.key.as_ref(), value);
        let whole = |key, value| Change {
            key,
            value,
            patch: None,
        };
        Ok(Some(match write {
            Write::Create(value) => {
                let key = key_of(&value)?;
                if self.newest(name, &key).is_some() {
                    let message = format!("{name} has a record \"{key}\" already");
                    return Err(Error::new(Code::AlreadyExists, message));
                }
                whole(key, Some(value))
            }
            Write::Put(value) => whole(key_of(&value)?, Some(value)),
            Write::Update {
                key,
                patch,
                changed,
            } => {
                let Some(current) = self.newest(name, &key) else {
                    return Err(no_record(name, &key));
                };
                if changed.is_empty() {
                    return Ok(None);
                }
                if !current.is_sound() {
                    return Err(super::damaged(name));
                }
                let value = current.patched(&patch, &changed);
                if key_of(&value)? != key {
                    let field = &spec.key;
                    let message = format!("{field} is the key and cannot be changed");
                    return Err(Error::new(Code::InvalidKey, message));
                }
                Change {
                    key,
                    value: Some(value),
                    patch: Some((patch, changed)),
                }
            }
            Write::Delete(key) => {
                let shows = self.collection(name).and_then(|c| c.get(&key)).is_some();
                if self.newest(name, &key).is_none() && !(optimistic && shows) {
                    return Ok(None);
                }
                whole(key, None)
            }
            Write::Promote(_) => return Ok(None),
        }))
    }

    fn put_local(&mut self, name: &Name, change: Change<V>, now: Now, plan: &mut Plan<V>) {
        let fact = Fact::Local {
            collection: name.clone(),
            key: change.key,
            value: change.value,
        };
        self.put_true(fact, now, plan);
    }

    fn plan_promote(&mut self, name: &Name, key: Key, now: Now, plan: &mut Plan<V>) -> Result<()> {
        let record = self.collection(name).and_then(|c| c.record(&key));
        let Some(local) = record.filter(|r| r.local.is_some()) else {
            return Err(match record.and_then(|r| r.value.as_ref()) {
                None => no_record(name, &key),
                Some(_) => Error::new(
                    Code::InvalidOptions,
                    format!("{name}: the record \"{key}\" is not local-only"),
                ),
            });
        };
        let action = if local.remote().is_some() {
            Action::Update
        } else {
            Action::Create
        };
        let fact = Fact::Queued {
            no: self.fresh_no(),
            replaces: None,
            collection: name.clone(),
            value: local.value.clone(),
            key,
            action,
            shows: Shown::Own,
            changed: None,
            group: None,
            origin: None,
        };
        self.put_true(fact, now, plan);
        Ok(())
    }

    /// Queues a record of which nothing is known.
    fn queue_new(
        &mut self,
        name: &Name,
        key: Key,
        value: V,
        optimistic: bool,
        now: Now,
        plan: &mut Plan<V>,
    ) {
        let no = self.fresh_no();
        let shows = if optimistic {
            Shown::Own
        } else {
            plan.hidden.push(no);
            Shown::Before
        };
        let fact = Fact::Queued {
            no,
            replaces: None,
            collection: name.clone(),
            key,
            action: Action::Create,
            value: Some(value),
            shows,
            changed: None,
            group: None,
            origin: None,
        };
        self.put_true(fact, now, plan);
    }

    /// Queues a local change, coalescing it with what is queued.
    fn queue(
        &mut self,
        name: &Name,
        change: Change<V>,
        optimistic: bool,
        now: Now,
        plan: &mut Plan<V>,
    ) {
        let Change { key, value, patch } = change;
        let record = self.collection(name).and_then(|c| c.record(&key));
        let exists = record.is_some_and(|r| self.newest_of(r).is_some());
        let last = record.and_then(|r| self.last_of(r));
        let action = match (exists, value.is_some()) {
            (_, false) => Action::Delete,
            (true, true) => Action::Update,
            (false, true) => Action::Create,
        };
        let changed = patch.as_ref().map(|(_, names)| names.clone());
        let mut no = self.fresh_no();
        let (mut replaces, mut group, mut origin) = (None, None, None);
        let (mut action, mut changed) = (action, changed);
        let shows;
        match last {
            Some(last) if !last.sent || planted::is(Bug::CoalescingAcrossInFlight) => {
                // A creation cannot annul itself where the server has a record under this key: it has met a
                // conflict, or a page has brought one.
                let waits = last.state == MutationState::Conflict;
                let creates = last.action == Action::Create && !last.behind;
                let there = creates && record.is_some_and(|r| r.remote().is_some());
                let whole = || (waits || there).then_some((Action::Delete, None));
                let Some(both) = coalesce(last, action, changed).or_else(whole) else {
                    let (no, why) = (last.no, Gone::Discarded);
                    self.put_true(Fact::Cancelled { no, why }, now, plan);
                    return;
                };
                (action, changed) = both;
                group.clone_from(&last.group);
                if last.may_be_remembered() && !waits {
                    replaces = Some(last.no);
                } else {
                    no = last.no;
                    origin.clone_from(&last.origin);
                }
                shows = match (optimistic, &patch) {
                    (true, None) => Shown::Own,
                    (true, Some((patch, names))) => last.shows.patched(patch, names),
                    // The backend's record shows through only where it did.
                    (false, _) => {
                        let names = last.changed.as_ref().filter(|_| last.behind);
                        last.shows.frozen(last.value.as_ref(), names)
                    }
                };
            }
            in_flight => {
                let through = in_flight.is_none_or(|m| m.shows.is_own());
                shows = match (optimistic, &patch) {
                    (false, _) => Shown::Before,
                    (true, Some((patch, names))) if !through => Shown::Before.patched(patch, names),
                    (true, _) => Shown::Own,
                };
            }
        }
        if !optimistic && !plan.hidden.contains(&no) {
            plan.hidden.push(no);
        }
        let fact = Fact::Queued {
            no,
            replaces,
            collection: name.clone(),
            key,
            action,
            value,
            shows,
            changed,
            group,
            origin,
        };
        self.put_true(fact, now, plan);
    }
}

fn no_record(name: &Name, key: &Key) -> Error {
    Error::new(Code::NotFound, format!("{name} has no record \"{key}\""))
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
        (Action::Create, Action::Delete) if first.may_have_arrived() => {
            Some((Action::Delete, None))
        }
        (Action::Create, Action::Delete) => None,
        (Action::Update, Action::Delete) if planted::is(Bug::LostDelete) => None,
        (Action::Create, _) => Some((Action::Create, None)),
        (Action::Delete, Action::Delete) | (Action::Update, Action::Delete) => {
            Some((Action::Delete, None))
        }
        // Without a base there is nothing that could be updated, whatever version that was.
        (Action::Delete, _) if first.base.is_none() && !first.behind => {
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
