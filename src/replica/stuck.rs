//! What of the queue waits for a creation that was queued before it, or for the user, or for another member of its
//! atomic group that does: it is not looked at again until something of it changes.
//!
//! What can be sent is asked for at every event, and a refused parent may have thousands of children. Each of
//! them would be looked at, for every write of the app.

use super::Replica;
use super::outbox::Place;
use crate::limits;
use crate::model::{Action, Mutation, MutationNo};
use crate::ordered::Numbers;
use crate::value::Value;
use std::rc::Rc;

/// Stretches of the queue in which everything waits.
#[derive(Debug, Default)]
pub(super) struct Stuck {
    /// Their first and last places, in order.
    stretches: Vec<(Place, Place)>,
    /// What is waited for.
    parents: Numbers,
}

impl Stuck {
    fn at(&self, place: Place) -> usize {
        self.stretches.partition_point(|(_, last)| *last < place)
    }

    /// Where the stretch ends that a place is in.
    pub(super) fn end(&self, place: Place) -> Option<Place> {
        let (first, last) = self.stretches.get(self.at(place))?;
        (*first <= place).then_some(*last)
    }

    /// What is here waits as well; `before` is the place just before it, if it is in a stretch.
    pub(super) fn add(&mut self, before: Option<Place>, place: Place, on: &[MutationNo]) {
        for no in on {
            self.parents.insert(*no, 0);
        }
        let at = self.at(place);
        // What was taken out of a stretch makes one of its parts again.
        let next = self.stretches.get(at).copied();
        let next = next.filter(|(first, _)| *first == (place.0, place.1 + 1));
        let last = next.map_or(place, |(_, last)| last);
        if next.is_some() {
            self.stretches.remove(at);
        }
        match at.checked_sub(1).and_then(|at| self.stretches.get_mut(at)) {
            Some((_, end)) if Some(*end) == before => *end = last,
            _ => self.stretches.insert(at, (place, last)),
        }
    }

    /// The mutation at this place came, changed or went.
    fn changed(&mut self, place: Place) {
        let (priority, no) = place;
        if self.parents.contains(&no) {
            *self = Self::default();
        } else if self.end(place).is_some() {
            let at = self.at(place);
            let (first, last) = self.stretches[at];
            let parts = [
                (first, (priority, no.saturating_sub(1))),
                ((priority, no + 1), last),
            ];
            let parts = parts.into_iter().filter(|(first, last)| first <= last);
            self.stretches.splice(at..=at, parts);
        }
    }
}

impl<V: Value> Replica<V> {
    /// The creation that keeps a mutation from going, whatever else is in a batch, until one of the two changes.
    pub(super) fn stuck_on(&self, m: &Mutation<V>) -> Option<MutationNo> {
        let mut creations = self.creations(m).into_iter();
        creations.find(|no| *no < m.no && !self.is_with(m, *no) && self.is_plain(*no))
    }

    /// Whether two are members of one atomic group.
    fn is_with(&self, m: &Mutation<V>, no: MutationNo) -> bool {
        let other = self.outbox.get(no);
        m.group.is_some() && other.is_some_and(|other| other.group == m.group)
    }

    /// What keeps an atomic group from going together, until one of these changes: a member, and what it waits for.
    pub(super) fn keeps(&self, group: &Rc<str>) -> Option<[MutationNo; 2]> {
        self.outbox.group(group).find_map(|m| {
            let on = match m.behind {
                true => self.waits_for(m).filter(|no| !self.is_with(m, *no)),
                false => self.stuck_on(m),
            };
            Some([m.no, on?])
        })
    }

    /// Whether nothing but a change of this mutation ends that another waits for it, or what it waits for itself:
    /// with a deletion there may be other reasons.
    pub(super) fn is_plain(&self, no: MutationNo) -> bool {
        let m = self.outbox.get(no);
        m.is_some_and(|m| !m.behind && m.action != Action::Delete)
    }

    /// Whether all that could go between two places is stuck, as it is thought to be.
    pub(super) fn is_stuck(&self, first: Place, last: Place, together: bool) -> bool {
        let mut places = self
            .outbox
            .ready(None)
            .filter(|place| (first..=last).contains(place));
        let mutations = |(_, no)| self.outbox.get(no);
        let is_kept = |m| {
            let group = self.held_together(m).filter(|_| together);
            let blocked = |group| {
                self.outbox
                    .group(group)
                    .any(|m| self.blocked_by(m).is_some())
            };
            group.is_some_and(|group| self.keeps(group).is_some() || blocked(group))
        };
        places.all(|place| {
            mutations(place).is_some_and(|m| {
                let on = self.stuck_on(m).or_else(|| self.blocked_by(m));
                on.is_some() || is_kept(m)
            })
        })
    }

    /// A mutation came, changed or went; it had this priority.
    pub(super) fn note_change(&mut self, no: MutationNo, before: Option<i32>) {
        let now = self.outbox.get(no);
        let priorities = [before, now.map(|m| m.priority)];
        let group = now.and_then(|m| m.group.as_ref());
        for stuck in &mut self.stuck {
            let stuck = stuck.get_mut();
            for priority in priorities.into_iter().flatten() {
                stuck.changed((-priority, no));
            }
            // A group that has become too large is not kept together any more.
            if let Some(group) = group.filter(|_| !stuck.stretches.is_empty())
                && !self.outbox.group_fits(group, limits::BATCH_CHANGES_MAX)
            {
                *stuck = Stuck::default();
            }
        }
        self.note_referrer(no);
    }
}

#[cfg(all(test, not(target_family = "wasm")))]
mod tests {
    use super::Stuck;

    #[test]
    fn stretches_grow_are_split_and_go_with_what_they_wait_for() {
        let mut stuck = Stuck::default();
        for no in [5, 6, 8] {
            stuck.add(Some((0, no - 1)), (0, no), &[1]);
        }
        stuck.add(Some((0, 8)), (3, 2), &[4]);
        let ends = |stuck: &Stuck| [4, 5, 6, 7, 8].map(|no| stuck.end((0, no)).is_some());
        assert_eq!(ends(&stuck), [false, true, true, false, true]);
        assert_eq!(stuck.end((0, 5)), Some((0, 6)));
        assert_eq!(stuck.end((0, 8)), Some((3, 2)), "over priorities");
        stuck.changed((0, 6));
        stuck.changed((1, 7));
        assert_eq!(ends(&stuck), [false, true, false, false, true]);
        assert_eq!(stuck.end((0, 5)), Some((0, 5)));
        assert_eq!(stuck.end((1, 7)), None);
        assert_eq!(stuck.end((2, 9)), Some((3, 2)));
        stuck.add(Some((0, 5)), (0, 6), &[1]);
        stuck.add(Some((0, 6)), (0, 7), &[1]);
        stuck.add(Some((1, 6)), (1, 7), &[1]);
        assert_eq!(stuck.stretches, [((0, 5), (3, 2))]);
        stuck.changed((0, 2));
        assert!(stuck.end((0, 5)).is_some());
        stuck.changed((9, 4));
        assert!(
            stuck.end((0, 5)).is_none(),
            "a parent, whatever its priority"
        );
    }
}
