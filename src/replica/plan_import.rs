//! Decides what follows from a backup of queued mutations: all that is not known here is taken over,
//! or nothing.
//!
//! A mutation keeps its id on the wire, because the backend may have seen it already. One that is
//! known is left out, so that the same backup may come twice, and one that this database has made and
//! settled since is left out as well. A record with changes of its own, or a local-only one, is in
//! the way of a mutation from elsewhere: nothing is taken over then, and the message says what to do.
//!
//! A rescue copy may still have mutations that were confirmed right before a tab was closed. They show by
//! later ones of their record, which would not be there, or not so, had they not gone. Of a rescue copy what
//! can be taken over is, in the state that the database would have it in: also of collections that are not
//! declared any more. The rest is told ([`Left`]), and stays in the copy.

use super::collection::Record;
use super::plan::{Now, Plan, checked_key};
use super::{Replica, Step};
use crate::error::{Code, Error, Result};
use crate::model::{
    Action, Held, Key, Mutation, MutationNo, MutationState, Name, Version, parse_wire_id, wire_id,
};
use crate::ordered::{Numbers, Ordered};
use crate::store::Fact;
use crate::value::Value;
use std::cell::RefCell;
use std::rc::Rc;

/// The largest gap in our numbers that a backup may leave: a made-up one must not use them up.
const GAP_MAX: MutationNo = 1_000_000;

/// What can be queued of one record's mutations, which come in the order of their numbers: a head, and
/// one behind it.
fn alive(of_record: &[(usize, bool)]) -> Vec<usize> {
    let head = of_record.iter().rposition(|(_, behind)| !behind);
    let (before, after) = of_record.split_at(head.map_or(0, |head| head + 1));
    match (head, after) {
        // It has become the head since.
        (_, [.., second, last]) => vec![second.0, last.0],
        (Some(head), [last]) => vec![of_record[head].0, last.0],
        (None, after) => after.iter().map(|(at, _)| *at).collect(),
        // The head was queued again, under a later number.
        (Some(head), []) => {
            let behind = before.iter().rfind(|(_, behind)| *behind);
            let behind = behind.map(|(at, _)| *at);
            [Some(of_record[head].0), behind]
                .into_iter()
                .flatten()
                .collect()
        }
    }
}

/// What of a rescue copy could not be taken over: numbers there, and why it was the first of them.
#[derive(Debug, Default)]
pub struct Left {
    /// The numbers.
    pub nos: Vec<MutationNo>,
    /// The first fault.
    pub why: Option<Error>,
}

/// Queued mutations from elsewhere.
#[derive(Debug, Clone)]
pub struct Import<V> {
    /// The database they were queued in.
    pub client: Rc<str>,
    /// The mutations, first in, first out.
    pub mutations: Vec<Held<V>>,
    /// Whether it may have mutations that were confirmed meanwhile.
    pub late: bool,
    /// Gets what cannot be taken over; without it that refuses all.
    pub left: Option<Rc<RefCell<Left>>>,
    /// What is to be known of versions of the data first: see [`Replica::migrate_import`].
    pub schema: Option<Fact<V>>,
}

/// One import under way.
struct Taking {
    import: (Rc<str>, bool),
    first_no: MutationNo,
    /// What was queued here before, by its ids on the wire.
    known: Vec<Rc<str>>,
    taken: Numbers,
    /// Whether the backend's side of a record came with it. No page from here on tells that such a
    /// record is gone, unless all are pulled anew.
    unpulled: bool,
}

fn bad(at: usize, what: &str) -> Error {
    let message = format!("backup: mutations[{at}]: {what}");
    Error::new(Code::InvalidOptions, message)
}

impl<V: Value> Replica<V> {
    fn held_of(&self, mutation: &Mutation<V>, record: &Record<V>) -> Held<V> {
        Held {
            shadow: record.remote().cloned(),
            version: record.version,
            confirmed: self.confirmed_of(&mutation.collection, &mutation.key),
            mutation: mutation.clone(),
        }
    }

    /// One queued mutation as it stands.
    #[must_use]
    pub fn held(&self, no: MutationNo) -> Option<Held<V>> {
        let mutation = self.outbox.get(no)?;
        let c = self.position(&mutation.collection)?;
        let record = self.collections[c].record(&mutation.key)?;
        Some(self.held_of(mutation, record))
    }

    /// The mutation of such a step of the commit under way as it was before, if it was there. What is said of
    /// its record may be newer: that is the backend's, whether the commit succeeds or not.
    #[must_use]
    pub fn held_before(&self, step: usize) -> Option<Held<V>> {
        let steps = &self.undo.as_ref()?.steps;
        let Step::Mutation(_, Some(mutation)) = steps.get(step)? else {
            return None;
        };
        let at = self.position(&mutation.collection)?;
        // What the commit takes away altogether, or moves to another key, it does along with the mutation.
        let undone = || {
            let steps = steps[step.saturating_sub(2)..].iter();
            steps.into_iter().find_map(|step| match step {
                Step::Record(c, key, Some(record)) if *c == at && *key == mutation.key => {
                    Some(&**record)
                }
                _ => None,
            })
        };
        let record = self.collections[at].record(&mutation.key);
        Some(self.held_of(mutation, record.or_else(undone)?))
    }

    /// Every record in what [`Self::held`] answers.
    pub fn each_value_of(&self, no: MutationNo, visit: &mut dyn FnMut(&V)) {
        let Some(mutation) = self.outbox.get(no) else {
            return;
        };
        mutation.each_value(visit);
        let collection = self.position(&mutation.collection);
        let record = collection.and_then(|c| self.collections[c].record(&mutation.key));
        if let Some(shadow) = record.and_then(Record::remote) {
            visit(shadow);
        }
    }

    /// Everything that is queued, first in, first out, but the mutation at the head of a record before
    /// the one behind it, also where it was queued again under a later number.
    #[must_use]
    pub fn all_held(&self) -> Vec<Held<V>> {
        let all = self.outbox.iter().filter_map(|m| self.held(m.no));
        let mut all: Vec<Held<V>> = all.collect();
        all.sort_by_cached_key(|held| {
            let m = &held.mutation;
            let c = self.position(&m.collection);
            let record = c.and_then(|c| self.collections[c].record(&m.key));
            let head = record.and_then(|r| r.pending.as_ref()).map(|p| p.head);
            (head.map_or(m.no, |head| head.max(m.no)), m.behind)
        });
        all
    }

    /// The number of the queued mutation with this id on the wire.
    #[must_use]
    pub fn find_mutation(&self, id: &str) -> Option<MutationNo> {
        let is_it = |m: &&Mutation<V>| m.wire_id(&self.client) == id;
        let own = parse_wire_id(&self.client, id).and_then(|no| self.outbox.get(no));
        let found = own.filter(is_it).or_else(|| {
            let foreign = |m: &&Mutation<V>| m.origin.as_deref() == Some(id);
            self.outbox.iter().find(foreign)
        });
        found.map(|m| m.no)
    }

    /// Those of a backup that were queued when it was made, under present keys, and their places in it.
    fn alive_in(&self, mutations: Vec<Held<V>>, late: bool) -> Vec<(usize, Held<V>)> {
        if !late {
            let present = |held| self.held_with_present_keys(held);
            return mutations.into_iter().map(present).enumerate().collect();
        }
        let mut all: Vec<Option<Held<V>>> = Vec::with_capacity(mutations.len());
        let mut records: Ordered<(Name, Key), Vec<(usize, bool)>> = Ordered::default();
        for (at, held) in mutations.into_iter().enumerate() {
            let held = self.held_with_present_keys(held);
            let m = &held.mutation;
            let record = (m.collection.clone(), m.key.clone());
            let place = (at, m.behind);
            match records.get_mut(&record) {
                Some(known) => known.push(place),
                None => {
                    records.insert(record, vec![place]);
                }
            }
            all.push(Some(held));
        }
        // In their order, but a head before the one behind it.
        let mut places: Vec<(usize, usize, usize)> = Vec::with_capacity(all.len());
        for (_, of_record) in &records {
            let alive = alive(of_record);
            let ordered = alive.iter().is_sorted();
            let first = alive.first().copied().unwrap_or_default();
            let place = |(nth, at): (usize, usize)| match ordered {
                true => (at, 0, at),
                false => (first, nth, at),
            };
            places.extend(alive.into_iter().enumerate().map(place));
        }
        places.sort_unstable();
        let taken = places
            .into_iter()
            .filter_map(|(.., at)| Some((at, all[at].take()?)));
        taken.collect()
    }

    #[inline(never)]
    pub(super) fn plan_import(
        &mut self,
        import: Import<V>,
        now: Now,
        plan: &mut Plan<V>,
    ) -> Result<()> {
        let known = self.outbox.iter().map(|m| m.wire_id(&self.client).into());
        let mut known: Vec<Rc<str>> = known.collect();
        known.sort();
        let mut taking = Taking {
            import: (import.client, import.late),
            first_no: self.next_no,
            known,
            taken: Numbers::default(),
            unpulled: false,
        };
        if let Some(schema) = import.schema {
            self.put_true(schema, now, plan);
        }
        // It may be decided for the second time.
        let mut left = Left::default();
        for (at, held) in self.alive_in(import.mutations, import.late) {
            let no = held.mutation.no;
            // What is in the way of one is in the way of all of its record.
            if let Err(error) = self.take_over(at, held, &mut taking, now, plan) {
                if import.left.is_none() {
                    return Err(error);
                }
                left.nos.push(no);
                left.why.get_or_insert(error);
            }
        }
        if let Some(told) = &import.left {
            told.replace(left);
        }
        if taking.unpulled && self.checkpoint().is_some() {
            self.put_true(self.no_checkpoint(), now, plan);
        }
        Ok(())
    }

    fn take_over(
        &mut self,
        at: usize,
        mut held: Held<V>,
        taking: &mut Taking,
        now: Now,
        plan: &mut Plan<V>,
    ) -> Result<()> {
        let m = &mut held.mutation;
        let (client, late) = &taking.import;
        // The log, too, keeps what an app does not declare any more, or under another key field.
        if !late {
            let collection = self.declared_collection(&m.collection)?;
            if let Some(value) = &m.value {
                let key = checked_key(&collection.spec.key, value)?;
                if key != m.key {
                    return Err(bad(at, "the record has another key"));
                }
            }
        }
        let id = m.origin.clone();
        let id = id.unwrap_or_else(|| wire_id(client, m.no).into());
        let own = parse_wire_id(&self.client, &id);
        if taking.known.binary_search(&id).is_ok() || own.is_some_and(|no| no < taking.first_no) {
            return Ok(());
        }
        let c = self.position(&m.collection);
        let record = c.and_then(|c| self.collections[c].record(&m.key));
        let record_version = record.map_or(Version(0), |r| r.version);
        let pending = record.and_then(|r| r.pending.as_ref());
        if record.is_some_and(|r| r.local.is_some()) {
            let what = "the record is local-only here: promote or delete it first";
            return Err(bad(at, what));
        }
        if let Some(pending) = pending {
            let ours = taking.taken.contains(&pending.head);
            if ours && (pending.tail.is_some() || !m.behind) {
                return Err(bad(at, "the record has too many mutations"));
            }
            let newer = |no: MutationNo| {
                self.outbox
                    .get(no)
                    .is_some_and(|m| follows(m.origin.as_deref(), &id))
            };
            if !ours && (newer(pending.head) || pending.tail.is_some_and(newer)) {
                return Ok(()); // a later change from the same place is here: this one was settled
            }
            if !ours {
                let what = "the record has unsynced changes here: sync or discard them first";
                return Err(bad(at, what));
            }
        }
        // What is known here of the backend's record may be newer.
        if let Some(record) = record.filter(|r| r.version >= held.version && r.version > Version(0))
        {
            held.shadow = record.remote().cloned();
            held.version = record.version;
        }
        if m.behind && pending.is_none() {
            // The one before it was confirmed meanwhile.
            m.base.clone_from(&held.shadow);
            m.base_version = held.version;
            if m.action == Action::Update && held.version == Version(0) {
                // Or another tab was killed before it handed it over, and nobody has it. If it has been sent,
                // this meets a conflict with its own past.
                m.action = Action::Create;
                m.changed = None;
            }
        }
        m.behind = pending.is_some();
        // It may have left from there since: what is written now must not travel under its id.
        m.sent |= m.state == MutationState::Pending && !m.behind;
        let fresh = self.next_no;
        let kept = own.filter(|no| (fresh..fresh + GAP_MAX).contains(no));
        m.no = kept.unwrap_or(fresh);
        // What is behind another carries no mark: that its id has been elsewhere tells its origin.
        m.origin = (kept.is_none() || m.behind).then_some(id);
        // Not by the device's own clock, which may be wrong by hours.
        self.hlc = self.hlc.witness(m.at, now.hlc.ms);
        taking.taken.insert(m.no, 0);
        plan.count += 1;
        taking.unpulled |= held.shadow.is_some() && record_version < held.version;
        self.put_true(Fact::Held(Box::new(held)), now, plan);
        Ok(())
    }
}

/// Whether one id is a later one of the same client.
fn follows(later: Option<&str>, id: &str) -> bool {
    let parts = |id: &str| {
        let (client, no) = id.rsplit_once('.')?;
        Some((client.to_owned(), no.parse::<u64>().ok()?))
    };
    match (later.and_then(parts), parts(id)) {
        (Some((a, m)), Some((b, n))) => a == b && m > n,
        _ => false,
    }
}

#[cfg(all(test, not(target_family = "wasm")))]
mod tests {
    use super::alive;

    /// Places of what is left; `true`: behind another.
    fn of(behind: &[bool]) -> Vec<usize> {
        alive(&behind.iter().copied().enumerate().collect::<Vec<_>>())
    }

    #[test]
    fn what_has_gone_shows_by_what_came_later() {
        assert_eq!(of(&[]), [0; 0]);
        assert_eq!(of(&[false]), [0]);
        assert_eq!(of(&[false, true]), [0, 1]);
        assert_eq!(of(&[false, false]), [1], "the first was confirmed");
        assert_eq!(of(&[false, false, true]), [1, 2]);
        assert_eq!(
            of(&[false, true, true]),
            [1, 2],
            "the second has become the head"
        );
        assert_eq!(of(&[true, false]), [1, 0], "the head was queued again");
        assert_eq!(of(&[false, true, false]), [2, 1]);
        assert_eq!(of(&[true]), [0], "the one before it was confirmed");
        assert_eq!(of(&[true, true]), [0, 1]);
    }
}
