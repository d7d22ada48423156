//! Which mutations can be pushed next, and what is sent of them.

use super::Replica;
use super::rekey::MEETING;
use crate::backoff::lasts_until;
use crate::limits;
use crate::model::{Action, Change, Mutation, MutationNo, MutationState};
use crate::ordered::{Iter, Numbers, Ordered};
use crate::value::Value;
use std::rc::Rc;

/// A batch under construction.
struct Batch<'a> {
    nos: Vec<MutationNo>,
    bytes: usize,
    now_ms: f64,
    in_flight: &'a Numbers,
    max: usize,
    bytes_max: usize,
}

/// What mutations weigh in a request; not worked out where that does not matter.
fn weight<V: Value>(mutations: &[&Mutation<V>], bytes_max: usize) -> usize {
    if bytes_max == usize::MAX {
        return 0;
    }
    let values = mutations.iter().filter_map(|m| m.value.as_ref());
    values.map(Value::weight_bytes).sum()
}

/// What is in flight, asked for in the order of the queue: by number within a priority.
struct Flying<'a> {
    all: &'a Numbers,
    rest: Iter<'a, MutationNo, usize>,
    next: Option<MutationNo>,
    asked: MutationNo,
}

impl<'a> Flying<'a> {
    fn new(all: &'a Numbers) -> Self {
        let mut flying = Self {
            all,
            rest: all.iter(),
            next: None,
            asked: 0,
        };
        flying.step();
        flying
    }

    fn step(&mut self) {
        self.next = self.rest.next().map(|(no, _)| *no);
    }

    fn contains(&mut self, no: MutationNo) -> bool {
        if no < self.asked {
            *self = Self::new(self.all);
        }
        self.asked = no;
        while self.next.is_some_and(|next| next < no) {
            self.step();
        }
        self.next == Some(no)
    }
}

/// Why the members of an atomic group do not all go now.
enum Kept {
    /// One waits for something that is under way or will come; for a change of one of these, if they are known.
    Waits(Vec<MutationNo>),
    /// One is parked, or waits for a mutation that is: for the user, or a change of one of these.
    Parked(Vec<MutationNo>),
}

impl<V: Value> Replica<V> {
    /// The next mutations to push, in order: heads that are not in flight, not put off, and that wait
    /// for nothing. The members of an atomic group go together, where a batch can hold them.
    #[must_use]
    pub fn next_batch(
        &self,
        now_ms: f64,
        in_flight: &Numbers,
        max: usize,
        bytes_max: usize,
    ) -> Vec<MutationNo> {
        let mut batch = Batch {
            nos: Vec::new(),
            bytes: 0,
            now_ms,
            in_flight,
            max,
            bytes_max,
        };
        self.fill(&mut batch, true);
        // Two groups that wait for each other would wait for ever: then each goes as it can.
        let waits = !in_flight.is_empty()
            || !self.unanswered.is_empty()
            || self.lanes.apart()
            || self
                .outbox
                .dues()
                .any(|at| lasts_until(at, now_ms).is_some())
                && !self.only_meetings();
        if batch.nos.is_empty() && !waits {
            self.fill(&mut batch, false);
        }
        batch.nos
    }

    /// Whether a batch can still go as it was chosen. It was chosen from what was known then, part of
    /// which may not have been stored: meanwhile another tab may have been faster, so that numbers mean
    /// other mutations, or one may have been rewritten to refer to another parent.
    #[must_use]
    pub fn still_goes(&self, batch: &[MutationNo]) -> bool {
        batch.iter().enumerate().all(|(i, no)| {
            // What is gone is not sent.
            self.outbox.get(*no).is_none_or(|m| {
                let same_group = |no| {
                    let other = self.outbox.get(no);
                    other.is_some_and(|other| m.group.is_some() && other.group == m.group)
                };
                let covered = |no: MutationNo| batch[..i].contains(&no) && same_group(no);
                let free = self.awaits(m, &covered).is_none();
                m.state == MutationState::Pending && !m.behind && free
            })
        })
    }

    /// These were sent and nothing came back. Whether they have arrived tells a pull, for nearly all of
    /// them at once: until then the rest goes first.
    pub fn note_unanswered(&mut self, nos: &[MutationNo]) {
        for no in nos {
            self.unanswered.insert(*no, 0);
        }
    }

    /// A pull has told what it could, or is not to be waited for: what is left is sent again.
    pub fn ask_again(&mut self) {
        self.unanswered = Numbers::default();
    }

    /// The atomic group that a mutation goes with, if a request can hold it.
    pub(super) fn held_together<'a>(&self, m: &'a Mutation<V>) -> Option<&'a Rc<str>> {
        let group = m.group.as_ref();
        group.filter(|group| {
            let fits = self.outbox.group_fits(group, limits::BATCH_CHANGES_MAX);
            fits && !self.apart.contains(*group)
        })
    }

    /// Whether these go together as one atomic group, and nothing else with them.
    #[must_use]
    pub fn is_one_group(&self, nos: &[MutationNo]) -> bool {
        let group = |no: &MutationNo| self.held_together(self.outbox.get(*no)?);
        let first = nos.first().and_then(group);
        nos.len() > 1 && first.is_some() && nos.iter().all(|no| group(no) == first)
    }

    /// No request can hold this group: its members go one by one.
    pub fn take_apart(&mut self, nos: &[MutationNo]) {
        let group = nos
            .first()
            .and_then(|no| self.outbox.get(*no)?.group.clone());
        self.apart.extend(group);
        self.stuck = Default::default();
    }

    /// Whether all that is put off waits for changes of its record under another key, and none of those
    /// for the user. If they cannot go either, it is because they wait for what is put off.
    fn only_meetings(&self) -> bool {
        let counts = self.outbox.counts();
        let meets = |m: &Mutation<V>| m.error.as_ref().is_some_and(|e| *e.code == *MEETING);
        counts.failed + counts.conflict == 0 && self.outbox.deferred().all(meets)
    }

    fn fill(&self, batch: &mut Batch<'_>, together: bool) {
        let mut flying = Flying::new(batch.in_flight);
        let mut stuck = self.stuck[usize::from(!together)].borrow_mut();
        let mut places = self.outbox.ready(None);
        // The place just before, if what is there is stuck.
        let mut before = None;
        // Groups that are put off (true) or not held together: their other members are not asked for that again.
        let mut seen = Ordered::<Rc<str>, bool>::default();
        while let Some(place) = places.next() {
            if batch.nos.len() >= batch.max {
                return;
            }
            if let Some(last) = stuck.end(place) {
                debug_assert!(self.is_stuck(place, last, together));
                before = Some(last);
                places = self.outbox.ready(before);
                continue;
            }
            let (just_before, no) = (before.take(), place.1);
            // What is in flight stands first, and is passed over at every look.
            if flying.contains(no) {
                continue;
            }
            let Some(m) = self.outbox.get(no) else {
                continue;
            };
            // The rest of a group came with its first.
            let came = m.group.is_some() && batch.nos.contains(&no);
            if came || self.is_apart(m, batch) {
                continue;
            }
            let found;
            let mut members = std::slice::from_ref(&m);
            // A group that no batch can hold is not held together.
            let known = m.group.as_ref().and_then(|group| seen.get(group));
            let all = match known {
                Some(true) => Some(Err(Kept::Waits(Vec::new()))),
                Some(false) => None,
                None => {
                    let held = self.held_together(m);
                    let all = held.map(|group| self.members(group, batch, together));
                    let pauses = all
                        .as_ref()
                        .map(|all| matches!(all, Err(Kept::Waits(on)) if on.is_empty()));
                    if let (Some(group), None | Some(true)) = (&m.group, pauses) {
                        seen.insert(group.clone(), pauses.is_some());
                    }
                    all
                }
            };
            match all {
                Some(Ok(all)) => {
                    found = all;
                    members = &found;
                }
                Some(Err(Kept::Waits(_))) if !together && self.may_go(m, batch, &[]) => {}
                None if self.may_go(m, batch, &[]) => {}
                kept => {
                    let on = match kept {
                        Some(Err(Kept::Parked(along)))
                            if along.iter().all(|no| self.is_plain(*no)) =>
                        {
                            along
                        }
                        Some(Err(Kept::Waits(on))) if !on.is_empty() => on,
                        _ => self.stuck_on(m).into_iter().collect(),
                    };
                    if !on.is_empty() {
                        stuck.add(just_before, place, &on);
                        before = Some(place);
                    }
                    continue;
                }
            }
            let mut bytes = weight(members, batch.bytes_max);
            let room = batch.nos.len() + members.len() <= batch.max
                && batch.bytes + bytes <= batch.bytes_max;
            if !room && !batch.nos.is_empty() {
                return;
            }
            // A culprit is looked for by smaller batches; a group that has one is refused as a whole.
            if !room && members.len() > 1 && bytes > batch.bytes_max {
                members = &members[..1]; // no batch can hold them all
                bytes = weight(members, batch.bytes_max);
            }
            batch.bytes += bytes;
            batch.nos.extend(members.iter().map(|m| m.no));
        }
    }

    /// Whether a mutation's collection cannot be in this batch: see [`super::lanes`].
    fn is_apart(&self, m: &Mutation<V>, batch: &Batch<'_>) -> bool {
        let first = batch.nos.first().and_then(|no| self.outbox.get(*no));
        let other = first.is_some_and(|first| first.collection != m.collection);
        let in_trouble = || self.is_in_trouble(&m.collection, batch.now_ms, batch.in_flight);
        self.lanes.apart() && (other || in_trouble())
    }

    /// Whether nothing but its group keeps a mutation; `with` go before it in the batch.
    fn may_go(&self, m: &Mutation<V>, batch: &Batch<'_>, with: &[&Mutation<V>]) -> bool {
        let covered = |no: MutationNo| with.iter().any(|m| m.no == no);
        !batch.in_flight.contains(&m.no)
            && !self.unanswered.contains(&m.no)
            && m.next_attempt_ms
                .is_none_or(|at| lasts_until(at, batch.now_ms).is_none())
            && self.awaits(m, &covered).is_none()
            && !m.behind
    }

    /// The members of a group in an order in which they can go. A backend that takes all or none leaves
    /// the others here when it has refused one: without it, half a transaction would take effect.
    fn members(
        &self,
        group: &Rc<str>,
        batch: &Batch<'_>,
        together: bool,
    ) -> Result<Vec<&Mutation<V>>, Kept> {
        if let Some(stopped) = self.outbox.stopped(group) {
            return Err(Kept::Parked(vec![stopped.no]));
        }
        let mut left: Vec<&Mutation<V>> = self.outbox.group(group).collect();
        let inside = |no: MutationNo| {
            self.outbox
                .get(no)
                .is_some_and(|m| m.group.as_ref() == Some(group))
        };
        left.retain(|m| {
            let behind_own = m.behind && self.waits_for(m).is_some_and(inside);
            !behind_own && !batch.in_flight.contains(&m.no) && !batch.nos.contains(&m.no)
        });
        // It would take what else is of their collections down with it, each time that they are tried.
        let in_trouble =
            |m: &&Mutation<V>| self.is_in_trouble(&m.collection, batch.now_ms, batch.in_flight);
        if self.lanes.apart() && left.iter().any(in_trouble) {
            return Err(Kept::Waits(Vec::new()));
        }
        let mut ordered: Vec<&Mutation<V>> = Vec::with_capacity(left.len());
        while !left.is_empty() {
            let before = ordered.len();
            left.retain(|m| {
                let goes = self.may_go(m, batch, &ordered);
                if goes {
                    ordered.push(m);
                }
                !goes
            });
            if ordered.len() == before {
                if together && let Some(on) = self.keeps(group) {
                    return Err(Kept::Waits(on.into()));
                }
                let parked = left.iter().find_map(|m| self.blocked_along(m));
                return Err(parked.map_or(Kept::Waits(Vec::new()), Kept::Parked));
            }
        }
        Ok(ordered)
    }

    /// A mutation as it travels.
    #[must_use]
    pub fn change(&self, no: MutationNo) -> Option<Change<V>> {
        let m = self.outbox.get(no)?;
        let partial = m.changed.as_ref().filter(|_| m.action == Action::Update);
        let data = match (&m.value, partial) {
            (Some(value), Some(names)) => Some(value.picked(names)),
            (value, _) => value.clone(),
        };
        Some(Change {
            id: m.wire_id(&self.client),
            no,
            collection: m.collection.clone(),
            action: m.action,
            key: m.key.clone(),
            version: m.base_version,
            data,
            changed: partial.cloned(),
            at: m.at_text(&self.client),
            group: m.group.clone(),
        })
    }
}
