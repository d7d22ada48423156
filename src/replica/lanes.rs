//! A lane of its own for each collection that is in trouble.
//!
//! A backend may keep collections in different places, and one of them may be slow or broken: each push
//! with something of it runs into the time limit or a 5xx. That must keep nobody else. As long as
//! there is such a collection, a batch holds records of one collection only; the one in trouble has one
//! request at a time and a pause of its own after each failure. Which collection it is shows by
//! itself: all of a failed batch are under suspicion, and what succeeds is free of it.
//!
//! All of this is forgotten when the page is closed. Where only one collection is queued there is nobody
//! to be kept, and the engine's own pause is enough.

use super::Replica;
use crate::backoff;
use crate::model::{MutationNo, MutationState, Name};
use crate::ordered::Numbers;
use crate::value::Value;

/// A collection whose pushes fail.
#[derive(Debug)]
struct Trouble {
    collection: Name,
    failures: u32,
    until_ms: f64,
}

/// The collections in trouble.
#[derive(Debug, Default)]
pub(super) struct Lanes(Vec<Trouble>);

impl Lanes {
    /// Whether anything is in trouble: then each batch is of one collection.
    pub(super) fn apart(&self) -> bool {
        !self.0.is_empty()
    }

    fn of(&self, name: &Name) -> Option<&Trouble> {
        self.0.iter().find(|t| t.collection == *name)
    }
}

impl<V: Value> Replica<V> {
    fn collections_of(&self, nos: &[MutationNo]) -> Vec<Name> {
        let mut names: Vec<Name> = Vec::new();
        for m in nos.iter().filter_map(|no| self.outbox.get(*no)) {
            if !names.contains(&m.collection) {
                names.push(m.collection.clone());
            }
        }
        names
    }

    /// A push of these came to nothing on the server's side.
    pub fn note_trouble(&mut self, nos: &[MutationNo], now_ms: f64, random: f64) {
        let names = self.collections_of(nos);
        let others = self.outbox.iter().any(|m| {
            let waits = m.state == MutationState::Pending;
            waits && !names.contains(&m.collection)
        });
        if !others && names.len() < 2 && !self.lanes.apart() {
            return;
        }
        for collection in names {
            let known = self.lanes.of(&collection).map_or(0, |t| t.failures);
            let failures = known + 1;
            let until_ms = now_ms + backoff::pause_ms(failures, random);
            self.lanes.0.retain(|t| t.collection != collection);
            self.lanes.0.push(Trouble {
                collection,
                failures,
                until_ms,
            });
        }
    }

    /// A push of these was answered.
    pub fn note_health(&mut self, nos: &[MutationNo]) {
        if self.lanes.apart() {
            let names = self.collections_of(nos);
            self.lanes.0.retain(|t| !names.contains(&t.collection));
        }
    }

    /// The person or the network wants it tried at once: nothing is known any more.
    pub fn forget_trouble(&mut self) {
        self.lanes = Lanes::default();
    }

    /// When each of the collections in trouble is tried again, ms since 1970.
    pub fn troubles_over_ms(&self) -> impl Iterator<Item = f64> {
        self.lanes.0.iter().map(|t| t.until_ms)
    }

    /// Whether a collection has to wait because it is in trouble.
    pub(super) fn is_in_trouble(&self, name: &Name, now_ms: f64, in_flight: &Numbers) -> bool {
        self.lanes.of(name).is_some_and(|trouble| {
            let probing = |no: &MutationNo| {
                let m = self.outbox.get(*no);
                m.is_some_and(|m| m.collection == *name)
            };
            backoff::lasts_until(trouble.until_ms, now_ms).is_some()
                || in_flight.iter().any(|(no, _)| probing(no))
        })
    }
}
