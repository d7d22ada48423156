//! What a mutation waits for before it can be sent.
//!
//! | mutation | waits for |
//! |---|---|
//! | any | the one before it on the same record |
//! | with a declared reference | the creation of the record that it refers to |
//! | the deletion of a record | what was queued before it for records that refer to it, or did |
//! | a member of an atomic group | what the other members wait for, and any of them that is parked |
//!
//! Waiting ends with the backend's confirmation: in one batch with its parent, a child would stay where
//! the parent is refused. Only the members of a group travel together.
//!
//! What it waits for may be parked; then it waits for the user, and so does what waits for it, and
//! nothing else. A deletion does not wait for what is parked: the backend has refused that. Two
//! creations that refer to each other cannot both be second: the one that was queued first goes.

use super::Replica;
use crate::model::{Action, Key, Mutation, MutationNo, MutationState};
use crate::ordered::Ordered;
use crate::value::Value;
use std::ops::Bound;

/// How far chains of references are followed.
const CHAIN_MAX: usize = 64;

/// Which queued mutations refer to a record, or did before: made when a record is deleted that
/// others can refer to, and kept up from then on.
#[derive(Debug, Default)]
pub(super) struct Referrers {
    /// Position of the parent's collection, its key, the mutation. An empty key: some record of it.
    by_parent: Ordered<(usize, Key, MutationNo), ()>,
    parents: Ordered<MutationNo, Vec<(usize, Key)>>,
}

impl Referrers {
    fn forget(&mut self, no: MutationNo) {
        for (c, key) in self.parents.remove(&no).unwrap_or_default() {
            self.by_parent.remove(&(c, key, no));
        }
    }

    fn note(&mut self, no: MutationNo, parents: Vec<(usize, Key)>) {
        for (c, key) in &parents {
            self.by_parent.insert((*c, key.clone(), no), ());
        }
        if !parents.is_empty() {
            self.parents.insert(no, parents);
        }
    }

    fn of(&self, c: usize, key: &Key) -> Vec<MutationNo> {
        let (first, last) = ((c, key.clone(), 0), (c, key.clone(), MutationNo::MAX));
        let (first, last) = (Bound::Included(&first), Bound::Included(&last));
        let found = self.by_parent.range(first, last);
        found.map(|((_, _, no), ())| *no).collect()
    }
}

impl<V: Value> Replica<V> {
    /// A mutation came, changed or went.
    pub fn note_referrer(&mut self, no: MutationNo) {
        let Some(mut referrers) = self.referrers.take() else {
            return;
        };
        referrers.forget(no);
        if let Some(m) = self.outbox.get(no) {
            referrers.note(no, self.parents_of(m));
        }
        self.referrers.replace(Some(referrers));
    }

    /// Changes that may refer to any record, because what they were made on was not in memory when it was
    /// looked at.
    #[must_use]
    pub fn unread_referrers(&self) -> Vec<MutationNo> {
        let referrers = self.referrers.borrow();
        let all = |c| referrers.iter().flat_map(move |r| r.of(c, &Key::default()));
        (0..self.collections.len()).flat_map(all).collect()
    }

    /// The records that a mutation's record refers to, now or before it.
    fn parents_of(&self, m: &Mutation<V>) -> Vec<(usize, Key)> {
        let mut parents = Vec::new();
        let Some(collection) = self.collection(&m.collection) else {
            return parents;
        };
        for (field, parent) in &collection.spec.references {
            let Some(c) = self.position(parent) else {
                continue;
            };
            for value in [&m.value, &m.base].into_iter().flatten() {
                // What is not in memory may refer to any of them.
                let key = match value.is_resident() {
                    true => value.text(field),
                    false => Some(Key::default()),
                };
                if let Some(key) = key.filter(|key| !parents.contains(&(c, key.clone()))) {
                    parents.push((c, key));
                }
            }
        }
        parents
    }

    /// The first mutation that has to be confirmed before this one can be sent.
    #[must_use]
    pub fn waits_for(&self, m: &Mutation<V>) -> Option<MutationNo> {
        self.awaits(m, &|_| false)
    }

    /// The same, but for those that are `covered`: that go before it in the same group, say.
    pub(super) fn awaits(
        &self,
        m: &Mutation<V>,
        covered: &dyn Fn(MutationNo) -> bool,
    ) -> Option<MutationNo> {
        if m.behind {
            let record = self.collection(&m.collection)?.record(&m.key)?;
            return Some(record.pending.as_ref()?.head);
        }
        let creation = self.creations(m).into_iter().find(|head| {
            let first_of_circle = || m.no < *head && self.leads_back(*head, m.no);
            !covered(*head) && !first_of_circle()
        });
        let before = || self.before_deletion(m).into_iter().find(|no| !covered(*no));
        creation.or_else(before)
    }

    /// The creations of the records that a mutation's record refers to.
    pub(super) fn creations(&self, m: &Mutation<V>) -> Vec<MutationNo> {
        let collection = self.collection(&m.collection);
        let (Some(collection), Some(value)) = (collection, &m.value) else {
            return Vec::new();
        };
        let references = collection.spec.references.iter();
        let heads = references.filter_map(|(field, parent)| {
            let parent = self.collection(parent)?;
            let pending = parent.record(&value.text(field)?)?.pending.as_ref()?;
            let head = self.outbox.get(pending.head)?;
            // Behind a deletion that is under way it is created again; one that waits may wait for this.
            let tail = pending
                .tail
                .filter(|_| self.before_deletion(head).is_empty());
            let mut queued = std::iter::once(pending.head).chain(tail);
            let creates = |no: &MutationNo| {
                let found = self.outbox.get(*no);
                found.is_some_and(|m| m.action == Action::Create)
            };
            queued.find(creates).filter(|no| *no != m.no)
        });
        heads.collect()
    }

    /// Whether following the creations that a creation waits for leads to this one, by later ones only.
    fn leads_back(&self, from: MutationNo, to: MutationNo) -> bool {
        let mut seen = vec![from];
        let mut at = 0;
        while at < seen.len() && at < CHAIN_MAX {
            let parents = self.outbox.get(seen[at]).map(|m| self.creations(m));
            for no in parents.unwrap_or_default() {
                if no == to {
                    return true;
                }
                if no > to && !seen.contains(&no) {
                    seen.push(no);
                }
            }
            at += 1;
        }
        false
    }

    /// What goes before the deletion of a record that others can refer to.
    fn before_deletion(&self, m: &Mutation<V>) -> Vec<MutationNo> {
        let refers = |name: &crate::model::Name| {
            let mut all = self.collections.iter().filter(|c| c.declared);
            all.any(|c| c.spec.references.iter().any(|(_, parent)| parent == name))
        };
        let Some(c) = self.position(&m.collection) else {
            return Vec::new();
        };
        if m.action != Action::Delete || !refers(&m.collection) {
            return Vec::new();
        }
        let mut referrers = self.referrers.borrow_mut();
        let referrers = referrers.get_or_insert_with(|| {
            let mut referrers = Referrers::default();
            for m in self.outbox.iter() {
                referrers.note(m.no, self.parents_of(m));
            }
            referrers
        });
        let earlier = |no: &MutationNo| {
            self.outbox.get(*no).is_some_and(|other| {
                let of_it = other.collection == m.collection && other.key == m.key;
                let before = (other.created_ms, other.no) < (m.created_ms, m.no);
                other.state == MutationState::Pending && before && !of_it
            })
        };
        let unknown = Key::default();
        let all = [&m.key, &unknown].map(|key| referrers.of(c, key));
        all.into_iter().flatten().filter(earlier).collect()
    }

    /// What another member of a mutation's atomic group waits for.
    #[must_use]
    pub fn group_waits_for(&self, m: &Mutation<V>) -> Option<MutationNo> {
        let group = self.held_together(m)?;
        if let Some(stopped) = self.outbox.stopped(group).filter(|other| other.no != m.no) {
            return Some(stopped.no);
        }
        let inside = |no| {
            let other = self.outbox.get(no);
            other.is_some_and(|o| o.group.as_ref() == Some(group))
        };
        let mut members = self.outbox.group(group);
        members.find_map(|member| self.awaits(member, &inside).filter(|no| !inside(*no)))
    }

    /// The mutation that is parked, or waits for the app to settle a conflict, and keeps this one from
    /// being sent, directly or through what it waits for.
    #[must_use]
    pub fn blocked_by(&self, m: &Mutation<V>) -> Option<MutationNo> {
        self.blocked_along(m)?.last().copied()
    }

    /// The same, with all that was looked at on the way: as long as none of it changes, that is so.
    pub(super) fn blocked_along(&self, m: &Mutation<V>) -> Option<Vec<MutationNo>> {
        let mut seen = vec![m.no];
        let mut at = 0;
        while at < seen.len() && at < CHAIN_MAX {
            let m = self.outbox.get(seen[at])?;
            if m.state != MutationState::Pending && at > 0 {
                seen.truncate(at + 1);
                return Some(seen);
            }
            let mut next = self.creations(m);
            next.extend(self.before_deletion(m));
            next.extend(self.waits_for(m).filter(|_| m.behind));
            next.extend(self.group_waits_for(m));
            for no in next {
                if !seen.contains(&no) {
                    seen.push(no);
                }
            }
            at += 1;
        }
        None
    }
}
