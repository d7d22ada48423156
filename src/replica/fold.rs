//! Compaction: the whole state in as few facts as possible, and where each record is kept.
//!
//! A record remembers the segment whose facts say what it is (its *home*); a change takes it home
//! to the log. A fold writes what is at home in the log, and what is in segments that are mostly
//! superseded, into new segments. What stays untouched stays where it is: the cost follows what was
//! changed, not how much there is.

use super::Replica;
use super::collection::{Pending, Record};
use super::runs::Part;
use crate::limits;
use crate::model::{Held, Key, MutationNo, Name};
use crate::ordered::Numbers;
use crate::store::{Entry, Fact, SegmentId, Summary, singles};
use crate::value::Value;
use std::ops::Range;

/// What a compaction writes.
#[derive(Debug)]
pub struct Fold<V> {
    /// New segments.
    pub entries: Vec<Entry<V>>,
    /// Segments that stay.
    pub kept: Vec<SegmentId>,
    /// The counts at this moment.
    pub summary: Summary,
}

/// Facts under construction: parts of runs that have not changed are told as they are.
struct Facts<'a, V> {
    facts: Vec<Fact<V>>,
    /// The newest of them, as long as it may go on.
    part: Option<Part<'a, V>>,
}

impl<'a, V: Value> Facts<'a, V> {
    fn new() -> Self {
        Self {
            facts: Vec::new(),
            part: None,
        }
    }

    fn add(&mut self, fact: Fact<V>) {
        self.end_part();
        self.facts.push(fact);
    }

    fn add_part(&mut self, part: Part<'a, V>) {
        if !self.part.as_mut().is_some_and(|last| last.extend(&part)) {
            self.end_part();
            self.part = Some(part);
        }
    }

    fn end_part(&mut self) {
        let Some(part) = self.part.take() else { return };
        let Range { start, end } = part.range;
        for from in (start..end).step_by(limits::SEGMENT_FACTS_MAX) {
            let to = (from + limits::SEGMENT_FACTS_MAX).min(end);
            self.facts.push(part.fact(from..to));
        }
    }

    fn finish(mut self) -> Vec<Fact<V>> {
        self.end_part();
        self.facts
    }
}

/// How many facts each segment has.
pub type Sizes = Numbers;

impl<V: Value> Replica<V> {
    /// From here on, what is applied comes from this segment; 0 is the log.
    pub fn read_from(&mut self, segment: SegmentId) {
        self.reading = segment;
    }

    /// Numbers from here on are free: nothing below may be given again.
    pub fn reserve_no(&mut self, next_no: MutationNo) {
        self.next_no = self.next_no.max(next_no);
    }

    /// The state as segments. `sizes` are those of the segments there are.
    #[must_use]
    pub fn fold(&self, sizes: &Sizes) -> Fold<V> {
        let kept = self.healthy(sizes);
        let (mut facts, mut state) = (Facts::new(), Facts::new());
        for collection in &self.collections {
            let name = &collection.spec.name;
            for list in collection.lists() {
                match list {
                    Ok(records) => {
                        for (key, record) in records {
                            if record.pending.is_none() && !kept.contains(&record.home) {
                                tell(name, key, record, &mut facts, &mut state);
                            }
                        }
                    }
                    Err(part) => {
                        if part.is_remote() && !kept.contains(&part.placed.home) {
                            facts.add_part(part);
                        }
                    }
                }
            }
        }
        // In the order of their numbers, in which they are alike most often; by collection.
        let mut queued: Vec<_> = self.collections.iter().map(|_| Facts::new()).collect();
        for list in self.outbox.by_lists() {
            match list {
                Err(part) if self.is_whole(&part) => {
                    if let Some(c) = self.position(&part.placed.run.collection) {
                        queued[c].add_part(part);
                    }
                }
                Err(part) => {
                    for at in part.range.clone() {
                        self.hold_head(part.placed.no(at), &mut queued);
                    }
                }
                Ok(mutations) => {
                    for (no, _) in mutations {
                        self.hold_head(Some(*no), &mut queued);
                    }
                }
            }
        }
        let (facts, mut state) = (facts.finish(), state.finish());
        state.extend(queued.into_iter().flat_map(Facts::finish));
        state.extend(self.told_aliases());
        state.extend(self.told_confirmed());
        state.extend(self.conflicts.iter().cloned().map(Fact::Conflicted));
        if self.data_version > 0 {
            state.push(Fact::Schema {
                version: self.data_version,
                older: self.older.clone(),
            });
        }
        let summary = self.summary();
        let entry = |facts, at_ms| Entry {
            at_ms,
            hlc: self.hlc,
            facts,
            summary: summary.clone(),
        };
        let pulled_ms = self.pulled_ms.unwrap_or_default();
        let mut entries = Vec::with_capacity(facts.len() / limits::SEGMENT_FACTS_MAX + 3);
        // Apart: a segment is kept for its records, and what was queued once must not come back.
        for facts in [facts, state] {
            let mut part = entry(Vec::new(), pulled_ms);
            let mut room = limits::SEGMENT_FACTS_MAX;
            for fact in facts {
                if fact.weight() > room {
                    entries.push(std::mem::replace(&mut part, entry(Vec::new(), pulled_ms)));
                    room = limits::SEGMENT_FACTS_MAX;
                }
                room -= fact.weight();
                part.facts.push(fact);
            }
            entries.extend(Some(part).filter(|part| !part.facts.is_empty()));
        }
        // A checkpoint dates the newest pull by its entry. Where nothing is told at all, an entry has the clock's
        // last reading.
        let checkpoint = self.pulled_ms.map(|_| Fact::Checkpoint {
            checkpoint: self.checkpoint.clone(),
            collections: self.checkpoint_collections.clone(),
        });
        if checkpoint.is_some() || entries.is_empty() {
            entries.push(entry(checkpoint.into_iter().collect(), pulled_ms));
        }
        Fold {
            entries,
            kept,
            summary,
        }
    }

    /// The segments that are worth keeping: at least half of what they say is still so.
    fn healthy(&self, sizes: &Sizes) -> Vec<SegmentId> {
        let mut live = Sizes::default();
        let mut count = |home, records| match live.get_mut(&home) {
            _ if home == 0 => {}
            Some(live) => *live += records,
            None => drop(live.insert(home, records)),
        };
        for collection in &self.collections {
            for list in collection.lists() {
                match list {
                    Ok(records) => {
                        for (_, record) in records {
                            if record.pending.is_none() {
                                count(record.home, 1);
                            }
                        }
                    }
                    Err(part) if part.is_remote() => count(part.placed.home, part.range.len()),
                    Err(_) => {}
                }
            }
        }
        sizes
            .iter()
            .filter(|(id, size)| {
                let live = live.get(id).copied().unwrap_or(0);
                **size > 0 && live * 2 >= **size && live >= limits::SEGMENT_FACTS_MAX / 4
            })
            .map(|(id, _)| *id)
            .collect()
    }

    /// Whether the records of a run's mutations are as they came, too.
    fn is_whole(&self, part: &Part<'_, V>) -> bool {
        let collection = self.collection(&part.placed.run.collection);
        collection.is_some_and(|collection| collection.has_part(part))
    }

    /// Holds what is queued for a record, if this is the mutation at its head.
    fn hold_head(&self, no: Option<MutationNo>, queued: &mut [Facts<'_, V>]) {
        if let Some(mutation) = no.and_then(|no| self.outbox.get(no))
            && let Some(c) = self.position(&mutation.collection)
            && let Some(record) = self.collections[c].record(&mutation.key)
            && let Some(pending) = &record.pending
            && pending.head == mutation.no
        {
            self.hold(record, pending, &mut queued[c]);
        }
    }

    fn hold(&self, record: &Record<V>, pending: &Pending<V>, facts: &mut Facts<'_, V>) {
        for no in std::iter::once(pending.head).chain(pending.tail) {
            if let Some(mutation) = self.outbox.get(no) {
                facts.add(Fact::Held(Box::new(Held {
                    mutation: mutation.clone(),
                    shadow: pending.shadow.clone(),
                    version: record.version,
                    confirmed: self.confirmed_of(&mutation.collection, &mutation.key),
                })));
            }
        }
    }

    /// Takes the values of a written segment, where the record has not changed meanwhile: they can
    /// be fetched again. `was` is the entry as it was folded.
    pub fn rehome(&mut self, segment: SegmentId, was: &Entry<V>, written: &Entry<V>) {
        for (was, written) in singles(&was.facts).into_iter().zip(singles(&written.facts)) {
            let (
                Fact::Remote {
                    collection,
                    key,
                    value: old,
                    version,
                },
                Fact::Remote { value: new, .. },
            ) = (was, written)
            else {
                continue;
            };
            let Some(c) = self.position(&collection) else {
                continue;
            };
            self.collections[c].rehome(&key, segment, |record| {
                let same = match (&record.value, &old) {
                    (Some(a), Some(b)) => a.is(b),
                    (None, None) => true,
                    _ => false,
                };
                let unchanged = record.pending.is_none()
                    && record.local.is_none()
                    && record.version == version
                    && same;
                if unchanged {
                    record.value = new;
                }
                unchanged
            });
        }
    }

    /// Contents of a record's queued changes, and what they were made on, that are not in memory.
    pub fn missing_of(&self, collection: &str, key: &str, missing: &mut Vec<V>) {
        let Some(c) = self.position(collection) else {
            return;
        };
        let collection = &self.collections[c];
        let Some(record) = collection.record(collection.present(key)) else {
            return;
        };
        let mut look = |value: Option<&V>| {
            missing.extend(value.filter(|v| !v.is_resident()).cloned());
        };
        look(record.value.as_ref());
        look(record.remote());
        if let Some(pending) = &record.pending {
            for no in std::iter::once(pending.head).chain(pending.tail) {
                if let Some(m) = self.outbox.get(no) {
                    look(m.value.as_ref());
                    look(m.base.as_ref());
                }
            }
        }
    }

    /// Every content that is not in memory.
    #[must_use]
    pub fn missing_at_all(&self) -> Vec<V> {
        let mut missing = Vec::new();
        for collection in &self.collections {
            for (key, _) in collection.records() {
                self.missing_of(&collection.spec.name, key, &mut missing);
            }
        }
        for known in &self.conflicts {
            known.missing(&mut missing);
        }
        missing
    }

    /// The same for the record of a mutation.
    pub fn missing_of_no(&self, no: MutationNo, missing: &mut Vec<V>) {
        if let Some(m) = self.outbox.get(no) {
            self.missing_of(&m.collection, &m.key, missing);
        }
    }
}

/// How many facts of a segment can be superseded one by one; none where it says anything else than
/// what the backend has, for then it is written anew each time.
#[must_use]
pub fn size_of<V>(entry: &Entry<V>) -> usize {
    if entry.facts.iter().all(Fact::is_remote) {
        entry.weight()
    } else {
        0
    }
}

/// A record without queued changes in facts: what the backend has, and what is local only.
fn tell<V: Value>(
    collection: &Name,
    key: &Key,
    record: &Record<V>,
    facts: &mut Facts<'_, V>,
    state: &mut Facts<'_, V>,
) {
    let (collection, key) = (collection.clone(), key.clone());
    if record.local.is_none() || record.version.0 > 0 {
        facts.add(Fact::Remote {
            collection: collection.clone(),
            key: key.clone(),
            value: record.remote().cloned(),
            version: record.version,
        });
    }
    if record.local.is_some() {
        state.add(Fact::Local {
            collection,
            key,
            value: record.value.clone(),
        });
    }
}
