//! Keys that the backend gives: a record that was created here moves to the key under which the
//! backend keeps it, and the key that it had goes on standing for it.
//!
//! | who comes with the old key | what happens |
//! |---|---|
//! | a read, an update, a deletion, a transaction's read | finds the record under its present key |
//! | `put`, `create` of a record with the old key | as with the present one: no second record |
//! | a declared reference, written later | is written with the present key |
//! | a declared reference, queued and not sent | is rewritten at once, as is one of a local-only record |
//! | a declared reference in what may have been sent | stays; an update of the field is queued behind it |
//! | the same, and the backend answers with the present key in `data` | that update is dropped |
//!
//! A mutation that may have been sent is never rewritten ([`super::plan_write`]): a backend that has
//! stored the old reference is told of the present one, and one that has refused it gets both as one.
//! What the backend itself has sent is never rewritten either: its records are the truth.
//!
//! A record under the very key that is asked for comes before what the key stands for.

use super::Replica;
use super::collection::{Collection, Pending, Record};
use super::index::Query;
use super::plan::{Notice, Now, Plan};
use super::plan_write::{Write, WriteOptions};
use crate::hlc::Hlc;
use crate::limits;
use crate::model::{
    Action, Held, Key, Mutation, MutationNo, Name, Pulled, Refusal, Verdict, Version,
};
use crate::options::CollectionSpec;
use crate::shown::Shown;
use crate::store::{Fact, Gone};
use crate::value::{Scalar, Value};
use std::borrow::Cow;

/// Why a creation is put off whose record has changes under another key.
pub(super) const MEETING: &str = "changed-elsewhere";

impl<V: Value> Collection<V> {
    /// The key under which the record is that this key stands for; mostly itself.
    #[must_use]
    pub fn present<'a>(&'a self, key: &'a str) -> &'a str {
        if self.aliases.is_empty() {
            return key;
        }
        let mut key = key;
        // A record that was deleted and created again may have been given another key each time.
        for _ in 0..=self.aliases.len() {
            let there = self.record(key);
            if there.is_some_and(|r| r.value.is_some() || r.pending.is_some()) {
                return key;
            }
            match self.aliases.get(key) {
                Some(to) => key = to,
                None => return key,
            }
        }
        key
    }

    /// Whether the backend has given keys of its own here.
    #[must_use]
    pub fn is_rekeyed(&self) -> bool {
        !self.aliases.is_empty()
    }

    pub(super) fn set_alias(&mut self, from: &Key, to: Option<Key>) {
        match to {
            Some(to) => self.aliases.insert(from.clone(), to),
            None => self.aliases.remove(from),
        };
    }
}

impl<V: Value> Mutation<V> {
    /// The same for its record under another key.
    fn under(mut self, field: &str, key: &Key) -> Self {
        let moved = |value: &V| value.with_text(field, key);
        self.key = key.clone();
        self.value = self.value.as_ref().map(moved);
        self.base = self.base.as_ref().map(moved);
        self.shows = match self.shows {
            Shown::Record(record) => Shown::Record(record.as_ref().map(moved)),
            // The key is not among what an update changes.
            Shown::Patch(patch, names) => Shown::Patch(patch, names),
            shows => shows,
        };
        self
    }
}

impl<V: Value> Replica<V> {
    fn knows_aliases(&self) -> bool {
        self.collections.iter().any(Collection::is_rekeyed)
    }

    /// The key under which a record is that this key stands for.
    #[must_use]
    pub fn present_key(&self, name: &str, key: &str) -> Key {
        let collection = self.collection(name);
        collection.map_or(key, |c| c.present(key)).into()
    }

    /// A query that asks for old keys, among a collection's keys or in its declared references, with
    /// the present ones in their place.
    #[must_use]
    pub fn present_query<'a>(&self, name: &str, query: &'a Query) -> Cow<'a, Query> {
        let Some(collection) = self.collection(name).filter(|_| self.knows_aliases()) else {
            return Cow::Borrowed(query);
        };
        let spec = &collection.spec;
        let own = [spec.key.clone()];
        let fields = query.index.as_deref().unwrap_or(&own);
        let mut present = Cow::Borrowed(query);
        for (at, field) in fields.iter().enumerate().take(query.equals.len()) {
            let referred = spec.references.iter().find(|(f, _)| f == field);
            let of = match referred {
                _ if spec.key == *field => Some(collection),
                Some((_, parent)) => self.collection(parent),
                None => None,
            };
            if let (Some(of), Scalar::Text(key)) = (of, &query.equals[at])
                && *of.present(key) != **key
            {
                present.to_mut().equals[at] = Scalar::Text(of.present(key).into());
            }
        }
        present
    }

    pub(super) fn set_alias(&mut self, c: usize, from: &Key, to: &Key) {
        let collection = &mut self.collections[c];
        let before = collection.aliases.insert(from.clone(), to.clone());
        if let Some(undo) = &mut self.undo {
            undo.steps.push(super::Step::Alias(c, from.clone(), before));
        }
    }

    pub(super) fn apply_rekeyed(&mut self, collection: &Name, field: &str, from: &Key, to: &Key) {
        let c = self.intern(collection);
        self.set_alias(c, from, to);
        let Some(mut old) = self.collections[c].record(from).cloned() else {
            return;
        };
        let mut new = self.collections[c].record(to).cloned().unwrap_or_default();
        let taken = new.pending.is_some() || new.local.is_some();
        let (Some(pending), false) = (old.pending.take(), taken) else {
            return; // never planned
        };
        for no in [Some(pending.head), pending.tail].into_iter().flatten() {
            if let Some(m) = self.outbox.get(no).cloned() {
                self.set_mutation(no, Some(m.under(field, to)));
            }
        }
        new.pending = Some(Box::new(Pending {
            shadow: new.value.take(),
            ..*pending.clone()
        }));
        // Versions of the old key say nothing about the new one.
        let left = Record {
            value: pending.shadow,
            version: old.version,
            ..Record::default()
        };
        self.set_record(c, from, left);
        self.show(c, to, new);
    }

    /// All aliases as facts, for a segment.
    pub(super) fn told_aliases(&self) -> Vec<Fact<V>> {
        let mut facts = Vec::new();
        for collection in &self.collections {
            let pairs = collection.aliases.iter();
            let pairs: Vec<(Key, Key)> = pairs.map(|(a, b)| (a.clone(), b.clone())).collect();
            facts.extend(pairs.chunks(limits::SEGMENT_FACTS_MAX).map(|pairs| {
                let collection = collection.spec.name.clone();
                Fact::Aliases {
                    collection,
                    pairs: pairs.to_vec(),
                }
            }));
        }
        facts
    }

    /// The backend's verdicts on one batch. Records that it keeps under keys of its own move first, so
    /// that the queue is searched once for references to them.
    #[inline(never)]
    pub(super) fn plan_verdicts(
        &mut self,
        verdicts: Vec<(MutationNo, Verdict<V>)>,
        now: Now,
        plan: &mut Plan<V>,
    ) {
        let mut moved: Vec<Name> = Vec::new();
        let mut later = Vec::new();
        for (no, verdict) in &verdicts {
            let Verdict::Rekeyed { key, then } = verdict else {
                continue;
            };
            let Some(name) = self.outbox.get(*no).map(|m| m.collection.clone()) else {
                continue;
            };
            let there = self.collection(&name).and_then(|c| c.record(key));
            let known = |r: &Record<V>| r.pending.is_some() || r.version > Version(0);
            let met = there.is_some_and(|r| r.local.is_none() && known(r));
            let done = match &**then {
                Verdict::Success { version, data } if met => {
                    self.plan_meeting(*no, key, (*version, data.as_ref()), now, plan)
                }
                Verdict::Conflict { .. } if self.is_one_under(*no, key) => {
                    self.plan_made_again(*no, key, now, plan)
                }
                Verdict::Conflict { .. } if self.is_changed_under(*no, key) => {
                    self.plan_later(*no, key, now, plan);
                    later.push(*no);
                    false
                }
                _ => self.plan_rekey(*no, key, now, plan),
            };
            if done && !moved.contains(&name) {
                moved.push(name);
            }
        }
        self.plan_references(&moved, now, plan);
        for (no, verdict) in verdicts {
            if later.contains(&no) {
                continue;
            }
            let verdict = match verdict {
                Verdict::Rekeyed { then, .. } => self.under_its_key(no, *then),
                verdict => verdict,
            };
            self.plan_verdict(no, verdict, now, plan);
        }
    }

    /// Whether a creation's record has changes of its own that are queued under another key, so that it
    /// cannot move there.
    fn is_changed_under(&self, no: MutationNo, key: &Key) -> bool {
        let Some(m) = self.outbox.get(no).filter(|m| m.action == Action::Create) else {
            return false;
        };
        let there = self
            .collection(&m.collection)
            .and_then(|c| c.record(key))
            .is_some_and(|r| r.pending.is_some());
        there && m.key != *key && !m.behind
    }

    /// Whether the creation must not wait for these changes: the newest is a deletion, which may wait for another
    /// record's reference to what is made; or all of them are to be applied together.
    fn is_one_under(&self, no: MutationNo, key: &Key) -> bool {
        let is_one = || {
            let m = self.outbox.get(no)?;
            let there = self.collection(&m.collection)?.record(key)?;
            let pending = there.pending.as_ref()?;
            let newest = self.outbox.get(pending.tail.unwrap_or(pending.head))?;
            let with = |no: MutationNo| {
                let other = self.outbox.get(no);
                m.group.is_some() && other.is_some_and(|other| other.group == m.group)
            };
            let together = with(pending.head) || pending.tail.is_some_and(with);
            Some(newest.action == Action::Delete || together)
        };
        self.is_changed_under(no, key) && is_one().unwrap_or(false)
    }

    /// A record that was written under the key that the backend has for it, and made under the old one: as if
    /// both had been written under the same key.
    fn plan_made_again(&mut self, no: MutationNo, to: &Key, now: Now, plan: &mut Plan<V>) -> bool {
        let Some(m) = self.outbox.get(no).cloned() else {
            return false;
        };
        let before = self.version_of(&m.collection, &m.key);
        let newest = self.tail_of(&m).unwrap_or_else(|| m.clone());
        let Some(why) = self.put_over(&newest, to, now, plan) else {
            return false;
        };
        if newest.no != no {
            self.put_true(Fact::Cancelled { no, why }, now, plan);
        }
        self.leave_key(&m.collection, (m.key, before), to, now, plan);
        true
    }

    /// A conflict with such a record is settled when those changes are: the backend is asked once more
    /// then, and tells the same.
    fn plan_later(&mut self, no: MutationNo, key: &Key, now: Now, plan: &mut Plan<V>) {
        let attempts = self.outbox.get(no).map_or(0, |m| m.attempts);
        let fact = Fact::Refused {
            no,
            refusal: Refusal {
                code: MEETING.into(),
                message: format!(
                    "the backend has this record under the key {key}, where changes are queued: \
                     they go first"
                )
                .into(),
            },
            attempts,
            next_attempt_ms: Some(now.at_ms + limits::MEETING_PAUSE_MS),
        };
        self.put_true(fact, now, plan);
    }

    /// The same verdict, its record under the key that its mutation has.
    fn under_its_key(&self, no: MutationNo, mut verdict: Verdict<V>) -> Verdict<V> {
        if let Verdict::Success { data, .. } | Verdict::Conflict { data, .. } = &mut verdict
            && let Some(m) = self.outbox.get(no)
            && let Some(collection) = self.collection(&m.collection)
        {
            let field = &collection.spec.key;
            *data = data.take().map(|data| data.with_text(field, &m.key));
        }
        verdict
    }

    /// Moves the record of a creation to the key that the backend has given it; answers whether.
    pub(super) fn plan_rekey(
        &mut self,
        no: MutationNo,
        to: &Key,
        now: Now,
        plan: &mut Plan<V>,
    ) -> bool {
        let Some(m) = self.outbox.get(no) else {
            return false;
        };
        let Some(collection) = self.collection(&m.collection) else {
            return false;
        };
        let there = collection.record(to);
        let taken = there.is_some_and(|r| r.pending.is_some() || r.local.is_some());
        if m.action != Action::Create || m.behind || m.key == *to || taken {
            return false;
        }
        let (collection, field, from) = (
            m.collection.clone(),
            collection.spec.key.clone(),
            m.key.clone(),
        );
        plan.notices.push(Notice::Rekeyed(
            collection.clone(),
            from.clone(),
            to.clone(),
        ));
        let to = to.clone();
        let fact = Fact::Rekeyed {
            collection,
            field,
            from,
            to,
        };
        self.put_true(fact, now, plan);
        true
    }

    /// The same where a pull has brought the record under its new key before, and that may have been
    /// changed since: what is queued under the old key goes on top of it.
    fn plan_meeting(
        &mut self,
        no: MutationNo,
        to: &Key,
        (version, data): (Version, Option<&V>),
        now: Now,
        plan: &mut Plan<V>,
    ) -> bool {
        let Some(m) = self.outbox.get(no).cloned() else {
            return false;
        };
        if m.action != Action::Create || m.behind || m.key == *to {
            return false;
        }
        let name = m.collection.clone();
        let Some(collection) = self.collection(&name) else {
            return false;
        };
        let field = collection.spec.key.clone();
        let known = collection.record(to).map_or(Version(0), |r| r.version);
        if let Some(tail) = self.tail_of(&m)
            && self.put_over(&tail, to, now, plan).is_none()
        {
            return false;
        }
        let stored = data.cloned().or_else(|| m.value.clone());
        let stored = stored.map(|v| v.with_text(&field, to));
        let id = m.wire_id(&self.client).into();
        let acked = Fact::Acked {
            no,
            version,
            value: data.cloned(),
        };
        // As it was: a segment may tell of what was there.
        let before = self.version_of(&name, &m.key);
        self.put_true(acked, now, plan);
        self.leave_key(&name, (m.key.clone(), before), to, now, plan);
        // What a copy has brought back may be older than what has arrived: the next page tells.
        if version > known && (data.is_some() || !self.is_unsure(&m)) {
            let remote = Fact::Remote {
                collection: name.clone(),
                key: to.clone(),
                value: stored,
                version,
            };
            self.put_true(remote, now, plan);
        }
        let confirmed = Notice::Confirmed(no, id, name, to.clone(), m.action);
        plan.notices.push(confirmed);
        true
    }

    fn version_of(&self, name: &Name, key: &Key) -> Version {
        let record = self.collection(name).and_then(|c| c.record(key));
        record.map_or(Version(0), |r| r.version)
    }

    /// What is queued under one key goes on top of what is under another. Answers what has become of it; none
    /// if it cannot be.
    fn put_over(
        &mut self,
        m: &Mutation<V>,
        to: &Key,
        now: Now,
        plan: &mut Plan<V>,
    ) -> Option<Gone> {
        let name = &m.collection;
        let field = self.collection(name)?.spec.key.clone();
        let options = WriteOptions {
            optimistic: Some(m.shows.is_own()),
            ..WriteOptions::default()
        };
        let value = m.value.as_ref().map(|v| v.with_text(&field, to));
        let put = |value: &V| Write::Put(value.clone());
        let write = match (&value, &m.changed) {
            (None, _) => Write::Delete(to.clone()),
            (Some(value), Some(names)) if self.newest(name, to).is_some() => Write::Update {
                key: to.clone(),
                patch: value.picked(names),
                changed: names.clone(),
            },
            (Some(value), _) => put(value),
        };
        // Deleted, or written as a whole under the other key since: nothing of it is left.
        let there = self.collection(name).and_then(|c| c.record(to));
        let newest = there.and_then(|r| r.pending.as_ref());
        let newest = newest.and_then(|p| self.outbox.get(p.tail.unwrap_or(p.head)));
        let is_over = newest.is_some_and(|n| n.changed.is_none() && n.at >= m.at && n.no > m.no);
        if !is_over {
            self.plan_write(name, write, options, now, plan).ok()?;
        }
        let pending = self.collection(name).and_then(|c| c.record(to));
        let pending = pending.and_then(|r| r.pending.as_ref());
        let into = pending.map(|p| p.tail.unwrap_or(p.head));
        let why = into.map_or(Gone::Discarded, Gone::Joined);
        let goes_on = into.filter(|_| !is_over).and_then(|no| self.held(no));
        if let Some(mut held) = goes_on {
            let group = self.joined(&held.mutation, m, now, plan).group;
            if group != held.mutation.group {
                held.mutation.group = group;
                self.put_true(Fact::Held(Box::new(held)), now, plan);
            }
        }
        self.put_true(Fact::Cancelled { no: m.no, why }, now, plan);
        Some(why)
    }

    /// Nothing is under this key any more, which stands for another.
    fn leave_key(
        &mut self,
        name: &Name,
        (from, version): (Key, Version),
        to: &Key,
        now: Now,
        plan: &mut Plan<V>,
    ) {
        let gone = Fact::Remote {
            collection: name.clone(),
            key: from.clone(),
            value: None,
            version,
        };
        self.put_true(gone, now, plan);
        let alias = Fact::Aliases {
            collection: name.clone(),
            pairs: vec![(from.clone(), to.clone())],
        };
        self.put_true(alias, now, plan);
        plan.notices
            .push(Notice::Rekeyed(name.clone(), from, to.clone()));
    }

    /// Whether a pulled record may be one that was created here, under a key that is not known yet. Nearly all
    /// changes are of others.
    pub(crate) fn may_move(&self, change: &Pulled<V>) -> bool {
        let collection = self.collection(&change.collection);
        let is_new = |c: &Collection<V>| c.record(&change.key).is_none();
        change.at.as_ref().is_some_and(|at| self.is_by_us(at)) && collection.is_some_and(is_new)
    }

    /// The creation that a pulled record comes from, where its answer was lost and the backend keeps the
    /// record under a key of its own: the same clock reading, and what was sent is in it. Several
    /// records written in one commit have the same reading; where that leaves more than one, the
    /// answer to the next push will tell.
    ///
    /// What was sent may have been migrated since. Then it is the only one that is like the record in what
    /// both have, and it is not confirmed (`false`): what it has become goes on top. So does what was
    /// written on it where both are queued as one, after it was refused.
    pub(super) fn create_behind(&self, change: &Pulled<V>) -> Option<(MutationNo, bool)> {
        let (data, at) = (change.data.as_ref()?, change.at.as_ref()?);
        if !self.may_move(change) {
            return None;
        }
        let (at, client) = Hlc::parse(at)?;
        let collection = self.collection(&change.collection)?;
        let spec = &collection.spec;
        let sent_then = |m: &Mutation<V>| {
            m.may_have_arrived() && m.at == at && *m.author(&self.client) == *client
        };
        let of_it = |m: &&Mutation<V>| {
            m.action == Action::Create && !m.behind && m.collection == change.collection
        };
        let whole = |first: &&Mutation<V>| {
            sent_then(first) && likeness(spec, first, data) == Likeness::Whole
        };
        let how = |m: &Mutation<V>| match sent_then(m) {
            true => Some((m.no, likeness(spec, m, data))),
            false => {
                let first = self.tries.get(&m.no).filter(whole);
                first.map(|_| (m.no, Likeness::Part))
            }
        };
        let like: Vec<(MutationNo, Likeness)> =
            self.outbox.iter().filter(of_it).filter_map(how).collect();
        [Likeness::Whole, Likeness::Part]
            .into_iter()
            .find_map(|wanted| {
                let mut found = like.iter().filter(|(_, how)| *how >= wanted);
                let (no, how) = found.next()?;
                let alone = found.next().is_none();
                alone.then_some((*no, *how == Likeness::Whole))
            })
    }

    /// A write of the app, which may know old keys, with the present ones.
    pub(super) fn with_present_keys(
        &self,
        collection: &Collection<V>,
        write: Write<V>,
    ) -> Write<V> {
        if !self.knows_aliases() {
            return write;
        }
        let spec = &collection.spec;
        let present = |key: Key| match collection.present(&key) {
            same if *same == *key => key,
            other => other.into(),
        };
        let whole = |value: V| {
            let value = match value.text(&spec.key) {
                Some(key) if *collection.present(&key) != *key => {
                    value.with_text(&spec.key, collection.present(&key))
                }
                _ => value,
            };
            self.with_present_references(spec, value)
        };
        match write {
            Write::Create(value) => Write::Create(whole(value)),
            Write::Put(value) => Write::Put(whole(value)),
            Write::Update {
                key,
                patch,
                changed,
            } => Write::Update {
                key: present(key),
                patch: whole(patch),
                changed,
            },
            Write::Delete(key) => Write::Delete(present(key)),
            Write::Promote(key) => Write::Promote(present(key)),
        }
    }

    /// A queued mutation from elsewhere, with the present keys.
    pub(super) fn held_with_present_keys(&self, mut held: Held<V>) -> Held<V> {
        let Some(collection) = self.collection(&held.mutation.collection) else {
            return held;
        };
        let spec = &collection.spec;
        let present = collection.present(&held.mutation.key);
        if *present != *held.mutation.key {
            let key = present.into();
            held.mutation = held.mutation.under(&spec.key, &key);
        }
        let value = held.mutation.value.take();
        held.mutation.value = value.map(|value| self.with_present_references(spec, value));
        held
    }
}

/// How much of a creation is in a record.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Likeness {
    /// Nothing, or there is something else in a field of the same name.
    None,
    /// What both have is the same.
    Part,
    /// All that was sent.
    Whole,
}

/// Keys that the backend may have given say nothing.
fn likeness<V: Value>(spec: &CollectionSpec, m: &Mutation<V>, data: &V) -> Likeness {
    let Some(value) = &m.value else {
        return Likeness::None;
    };
    let given =
        |name: &str| *spec.key == *name || spec.references.iter().any(|(f, _)| **f == *name);
    let (there, mut names) = (data.names(), value.names());
    names.retain(|name| !given(name));
    let (both, missing): (Vec<_>, Vec<_>) = names.iter().partition(|name| there.contains(name));
    if !both.iter().all(|name| value.same_field(data, name)) {
        Likeness::None
    } else if missing.is_empty() {
        Likeness::Whole
    } else if both.is_empty() {
        Likeness::None
    } else {
        Likeness::Part
    }
}
