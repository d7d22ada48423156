//! All mutations that the backend has not confirmed: first in, first out, by priority.

use crate::model::{Mutation, MutationNo, MutationState};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;

/// How many mutations are in which state. `pending` includes those in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Waiting to be pushed, or in flight.
    pub pending: usize,
    /// Waiting for the app to settle a conflict.
    pub conflict: usize,
    /// Parked.
    pub failed: usize,
}

/// The queue.
#[derive(Debug)]
pub struct Outbox<V> {
    entries: BTreeMap<MutationNo, Mutation<V>>,
    /// Pending heads in the order in which they are pushed: negated priority, then number.
    ready: BTreeSet<(i32, MutationNo)>,
    /// Those that were put off, and until when; few at any time.
    deferred: BTreeMap<MutationNo, f64>,
    /// The mutations of each atomic group.
    groups: HashMap<Rc<str>, BTreeSet<MutationNo>>,
    counts: Counts,
}

impl<V> Outbox<V> {
    pub(super) fn new() -> Self {
        Self {
            entries: BTreeMap::new(),
            ready: BTreeSet::new(),
            deferred: BTreeMap::new(),
            groups: HashMap::new(),
            counts: Counts::default(),
        }
    }

    /// A mutation by its number.
    #[must_use]
    pub fn get(&self, no: MutationNo) -> Option<&Mutation<V>> {
        self.entries.get(&no)
    }

    /// All of them, first in, first out.
    pub fn iter(&self) -> impl Iterator<Item = &Mutation<V>> {
        self.entries.values()
    }

    /// What could be pushed now but for references, pauses and what is in flight.
    pub fn ready(&self) -> impl Iterator<Item = &Mutation<V>> {
        self.ready.iter().filter_map(|(_, no)| self.entries.get(no))
    }

    /// The pending mutations of an atomic group, in order.
    pub fn group<'a>(&'a self, group: &str) -> impl Iterator<Item = &'a Mutation<V>> {
        let members = self.groups.get(group).into_iter().flatten();
        let members = members.filter_map(|no| self.entries.get(no));
        members.filter(|m| m.state == MutationState::Pending)
    }

    /// How many mutations an atomic group has.
    #[must_use]
    pub fn group_size(&self, group: &str) -> usize {
        self.groups.get(group).map_or(0, BTreeSet::len)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many there are of each state.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// When the first of those that were put off is due, ms since 1970.
    #[must_use]
    pub fn next_due_ms(&self) -> Option<f64> {
        self.deferred.values().copied().reduce(f64::min)
    }

    pub(super) fn set(
        &mut self,
        no: MutationNo,
        mutation: Option<Mutation<V>>,
    ) -> Option<Mutation<V>> {
        let before = self.entries.remove(&no);
        if let Some(m) = &before {
            self.ready.remove(&(-m.priority, no));
            self.deferred.remove(&no);
            *self.count_of(m.state) -= 1;
            if let Some(group) = &m.group
                && let Some(members) = self.groups.get_mut(group)
            {
                members.remove(&no);
                if members.is_empty() {
                    self.groups.remove(group);
                }
            }
        }
        if let Some(m) = mutation {
            if m.state == MutationState::Pending && !m.behind {
                self.ready.insert((-m.priority, no));
                if let Some(at_ms) = m.next_attempt_ms {
                    self.deferred.insert(no, at_ms);
                }
            }
            *self.count_of(m.state) += 1;
            if let Some(group) = &m.group {
                self.groups.entry(group.clone()).or_default().insert(no);
            }
            self.entries.insert(no, m);
        }
        before
    }

    fn count_of(&mut self, state: MutationState) -> &mut usize {
        match state {
            MutationState::Pending => &mut self.counts.pending,
            MutationState::Conflict => &mut self.counts.conflict,
            MutationState::Failed => &mut self.counts.failed,
        }
    }
}
