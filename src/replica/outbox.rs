//! All mutations that the backend has not confirmed: first in, first out, by priority.

use super::runs::{self, OrPart};
use crate::model::{Mutation, MutationNo, MutationState};
use crate::ordered::{LazilyOrdered, Numbers, Ordered};
use crate::shown::Shown;
use crate::value::Value;
use std::any::Any;
use std::ops::Bound;
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
    entries: LazilyOrdered<MutationNo, Box<Mutation<V>>>,
    lists: Lists,
}

/// Where a mutation is in the queue: negated priority, then number.
pub(super) type Place = (i32, MutationNo);

/// Numbers of mutations that have something in common.
#[derive(Debug, Default)]
struct Lists {
    /// Pending heads in the order in which they are pushed.
    ready: LazilyOrdered<Place, ()>,
    /// Those that were put off; few at any time.
    deferred: Numbers,
    /// Those that have met a conflict and wait for the app.
    waiting: Numbers,
    /// Those that are parked.
    parked: Numbers,
    /// Those that show as fields on top of a record.
    patches: Numbers,
    /// The mutations of each atomic group.
    groups: Ordered<(Rc<str>, MutationNo), ()>,
    counts: Counts,
}

impl<V> Outbox<V> {
    pub(super) fn new() -> Self {
        Self {
            entries: LazilyOrdered::default(),
            lists: Lists::default(),
        }
    }

    /// A mutation by its number.
    #[must_use]
    pub fn get(&self, no: MutationNo) -> Option<&Mutation<V>> {
        self.entries.get(&no).map(Box::as_ref)
    }

    /// All of them, first in, first out.
    pub fn iter(&self) -> impl Iterator<Item = &Mutation<V>> {
        self.entries.iter().map(|(_, m)| &**m)
    }

    /// The same by lists: of those that came in a run and have not changed, the run and which part of it.
    pub(super) fn by_lists(
        &self,
    ) -> impl Iterator<Item = OrPart<'_, MutationNo, Box<Mutation<V>>, V>>
    where
        V: Value,
    {
        self.entries.chunks().map(runs::changed_or_part)
    }

    /// What could be pushed now but for references, pauses and what is in flight: their places after this one.
    pub(super) fn ready(&self, after: Option<Place>) -> impl Iterator<Item = Place> {
        let after = after.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let ready = self.lists.ready.range(after, Bound::Unbounded);
        ready.map(|(place, ())| *place)
    }

    /// What has met a conflict and waits for the app, in order.
    pub fn waiting(&self) -> impl Iterator<Item = &Mutation<V>> {
        let waiting = self.lists.waiting.iter();
        waiting.filter_map(|(no, _)| self.get(*no))
    }

    /// What is parked, in order.
    pub fn parked(&self) -> impl Iterator<Item = &Mutation<V>> {
        let parked = self.lists.parked.iter();
        parked.filter_map(|(no, _)| self.get(*no))
    }

    /// The mutations of an atomic group, in order.
    pub fn members(&self, group: &Rc<str>) -> impl Iterator<Item = &Mutation<V>> {
        let members = self.lists.members(group);
        members.filter_map(|((_, no), ())| self.get(*no))
    }

    /// Those of them that are pending.
    pub fn group(&self, group: &Rc<str>) -> impl Iterator<Item = &Mutation<V>> {
        let members = self.members(group);
        members.filter(|m| m.state == MutationState::Pending)
    }

    /// The first mutation of an atomic group that waits for the user.
    #[must_use]
    pub fn stopped(&self, group: &Rc<str>) -> Option<&Mutation<V>> {
        let mut members = self.members(group);
        members.find(|m| m.state != MutationState::Pending)
    }

    /// Those that show as fields on top of a record: whoever writes one down anew looks at that.
    pub(crate) fn patches(&self) -> impl Iterator<Item = &Mutation<V>> {
        let patches = self.lists.patches.iter();
        patches.filter_map(|(no, _)| self.get(*no))
    }

    /// Whether an atomic group has at most so many mutations.
    #[must_use]
    pub fn group_fits(&self, group: &Rc<str>, max: usize) -> bool {
        self.lists.members(group).nth(max).is_none()
    }

    /// How many there are.
    #[must_use]
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// When the oldest of them was made, ms since 1970. That is not always the first: what was queued again
    /// stands at the end.
    #[must_use]
    pub fn oldest_ms(&self) -> Option<f64>
    where
        V: Value,
    {
        let oldest = |list: OrPart<'_, _, Box<Mutation<V>>, V>| match list {
            Ok(entries) => entries.iter().map(|(_, m)| m.created_ms).reduce(f64::min),
            Err(part) => part.oldest_ms(),
        };
        self.by_lists().filter_map(oldest).reduce(f64::min)
    }

    /// How many there are of each state.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.lists.counts
    }

    /// Those that were put off.
    pub fn deferred(&self) -> impl Iterator<Item = &Mutation<V>> {
        let deferred = self.lists.deferred.iter();
        deferred.filter_map(|(no, _)| self.get(*no))
    }

    /// When each of those that were put off is due, ms since 1970.
    pub fn dues(&self) -> impl Iterator<Item = f64> {
        self.deferred().filter_map(|m| m.next_attempt_ms)
    }
}

impl<V: 'static> Outbox<V> {
    /// Whether there is no mutation with a number between these, they included.
    pub(super) fn has_room(&self, first: MutationNo, last: MutationNo, priority: i32) -> bool {
        let (low, high) = ((-priority, first), (-priority, last));
        self.entries.has_room(&first, &last) && self.lists.ready.has_room(&low, &high)
    }

    /// Adds pending mutations that there is room for; `no` tells the number of one of them, by its place,
    /// `make` makes it.
    pub(super) fn add_run(
        &mut self,
        of: &Rc<dyn Any>,
        count: usize,
        priority: i32,
        no: impl Fn(usize) -> MutationNo + Clone + 'static,
        make: impl Fn(usize) -> Mutation<V> + 'static,
    ) {
        self.lists.counts.pending += count;
        let made = move |at| {
            let mutation = make(at);
            (mutation.no, Box::new(mutation))
        };
        self.entries.add_lazily(of, count, no.clone(), made);
        let ready = move |at: usize| (-priority, no(at));
        let make = {
            let ready = ready.clone();
            move |at| (ready(at), ())
        };
        self.lists.ready.add_lazily(of, count, ready, make);
    }
}

impl<V> Outbox<V> {
    pub(super) fn set(
        &mut self,
        no: MutationNo,
        mutation: Option<Box<Mutation<V>>>,
    ) -> Option<Box<Mutation<V>>> {
        let gap = self.entries.gap(&no);
        if let (None, Some(m)) = (&gap, self.entries.get(&no)) {
            self.lists.forget(m);
        }
        match (mutation, gap) {
            (Some(m), Some(gap)) => {
                self.lists.note(&m);
                self.entries.fill(gap, no, m);
                None
            }
            (Some(m), None) => {
                self.lists.note(&m);
                self.entries.insert(no, m)
            }
            (None, _) => self.entries.remove(&no),
        }
    }
}

impl Lists {
    fn members(&self, group: &Rc<str>) -> impl Iterator<Item = (&(Rc<str>, MutationNo), &())> {
        let (first, last) = ((group.clone(), 0), (group.clone(), MutationNo::MAX));
        let (first, last) = (Bound::Included(&first), Bound::Included(&last));
        self.groups.range(first, last)
    }

    fn note<V>(&mut self, m: &Mutation<V>) {
        if m.state == MutationState::Pending && !m.behind {
            self.ready.insert((-m.priority, m.no), ());
            if m.next_attempt_ms.is_some() {
                self.deferred.insert(m.no, 0);
            }
        }
        match m.state {
            MutationState::Pending => {}
            MutationState::Conflict => drop(self.waiting.insert(m.no, 0)),
            MutationState::Failed => drop(self.parked.insert(m.no, 0)),
        }
        if matches!(m.shows, Shown::Patch(..)) {
            self.patches.insert(m.no, 0);
        }
        *self.count_of(m.state) += 1;
        if let Some(group) = &m.group {
            self.groups.insert((group.clone(), m.no), ());
        }
    }

    fn forget<V>(&mut self, m: &Mutation<V>) {
        self.ready.remove(&(-m.priority, m.no));
        self.deferred.remove(&m.no);
        self.waiting.remove(&m.no);
        self.parked.remove(&m.no);
        self.patches.remove(&m.no);
        *self.count_of(m.state) -= 1;
        if let Some(group) = &m.group {
            self.groups.remove(&(group.clone(), m.no));
        }
    }

    fn count_of(&mut self, state: MutationState) -> &mut usize {
        match state {
            MutationState::Pending => &mut self.counts.pending,
            MutationState::Conflict => &mut self.counts.conflict,
            MutationState::Failed => &mut self.counts.failed,
        }
    }
}
