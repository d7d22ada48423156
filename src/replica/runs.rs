//! Many facts of one kind at once.
//!
//! What was stored together and concerns records of which nothing is known goes into memory as it is: a
//! record and its mutation are made when somebody looks at one of them, or at one near it. A database
//! is opened in the time that its texts take.

use super::Replica;
use super::collection::{Pending, Record};
use crate::hlc::Hlc;
use crate::model::{Mutation, MutationNo, Version};
use crate::ordered::{Lazy, List};
use crate::store::{Fact, Keys, Made, Queued, Run, Said, SegmentId};
use crate::value::Value;
use std::any::Any;
use std::ops::Range;
use std::rc::Rc;

/// A run that records and mutations are made of.
#[derive(Debug)]
pub(super) struct Placed<V> {
    pub(super) run: Rc<Run<V>>,
    /// The segment that has it; 0 is the log.
    pub(super) home: SegmentId,
    /// Of the entry that has it.
    at_ms: f64,
    hlc: Hlc,
}

/// A part of such a run.
#[derive(Debug)]
pub(super) struct Part<'a, V> {
    pub(super) placed: &'a Placed<V>,
    pub(super) range: Range<usize>,
}

impl<V> Placed<V> {
    /// The number of one of its mutations.
    pub(super) fn no(&self, at: usize) -> Option<MutationNo> {
        match &self.run.said {
            Said::Queued(queued) => Some(queued.no(at)),
            Said::Remote(_) => None,
        }
    }
}

impl<'a, V: Value> Part<'a, V> {
    /// What a list is made of, where nothing in it has changed.
    pub(super) fn of<K, T>(list: &'a Lazy<K, T>) -> Option<Self> {
        let (of, range) = list.source()?;
        let placed = of.downcast_ref()?;
        Some(Self { placed, range })
    }

    /// Whether it is the same.
    pub(super) fn is(&self, other: &Self) -> bool {
        std::ptr::eq(self.placed, other.placed) && self.range == other.range
    }

    /// Whether the backend's versions are in it, and no mutations.
    pub(super) fn is_remote(&self) -> bool {
        matches!(self.placed.run.said, Said::Remote(_))
    }

    /// When the oldest of its mutations was made, ms since 1970.
    pub(super) fn oldest_ms(&self) -> Option<f64> {
        let Placed {
            run, at_ms, hlc, ..
        } = self.placed;
        let Said::Queued(queued) = &run.said else {
            return None;
        };
        let made = |at| queued.made_at(at, *at_ms, *hlc).created_ms;
        self.range.clone().map(made).reduce(f64::min)
    }

    /// Takes in what follows it, if this is it.
    pub(super) fn extend(&mut self, next: &Self) -> bool {
        let goes_on = std::ptr::eq(self.placed, next.placed) && self.range.end == next.range.start;
        if goes_on {
            self.range.end = next.range.end;
        }
        goes_on
    }

    /// A piece of it as a fact that needs no entry of a certain date.
    pub(super) fn fact(&self, range: Range<usize>) -> Fact<V> {
        let Placed {
            run, at_ms, hlc, ..
        } = self.placed;
        let mut keys = String::new();
        for at in range.clone() {
            keys.push_str(run.keys.get(at).unwrap_or_default());
            keys.push('\0');
        }
        let said = match &run.said {
            Said::Remote(versions) => Said::Remote(versions[range.clone()].to_vec()),
            Said::Queued(queued) => {
                let made = range.clone().map(|at| queued.made_at(at, *at_ms, *hlc));
                let made = Made::Before(made.collect());
                Said::Queued(Queued {
                    made,
                    ..queued.clone()
                })
            }
        };
        Fact::Run(Rc::new(Run {
            collection: run.collection.clone(),
            keys: Rc::new(Keys::new(&keys)),
            values: run.values[range].to_vec(),
            said,
        }))
    }
}

/// The entries of a list, or what they are made of where none has changed.
pub(super) type OrPart<'a, K, T, V> = Result<&'a [(K, T)], Part<'a, V>>;

pub(super) fn changed_or_part<K, T, V: Value>(list: &Lazy<K, T>) -> OrPart<'_, K, T, V> {
    match Part::of(list) {
        Some(part) => Err(part),
        None => Ok(list.entries().as_slice()),
    }
}

impl<V: Value> Replica<V> {
    pub(super) fn apply_run(&mut self, run: &Rc<Run<V>>, at_ms: f64, hlc: Hlc) {
        let c = self.intern(&run.collection);
        // A change that may be undone is noted record by record.
        let at_once = self.undo.is_none() && self.referrers.get_mut().is_none();
        if !at_once || !self.stands_alone(c, run) {
            for at in 0..run.values.len() {
                self.apply(&run.fact(at), at_ms, hlc);
            }
            return;
        }
        self.stuck = Default::default();
        if let Said::Queued(queued) = &run.said {
            let numbers: Vec<_> = (0..run.values.len()).map(|at| queued.no(at)).collect();
            let last = numbers.last().copied().unwrap_or_default();
            self.next_no = self.next_no.max(last + 1);
            self.touch(numbers);
        }
        let placed = Rc::new(Placed {
            run: run.clone(),
            home: self.reading,
            at_ms,
            hlc,
        });
        if let Said::Queued(queued) = &run.said {
            self.add_mutations(c, &placed, queued);
        }
        self.add_records(c, &placed);
    }

    /// Whether nothing is known of any of its records, as far as that shows at once.
    pub(crate) fn is_news(&self, run: &Run<V>) -> bool {
        self.position(&run.collection)
            .is_none_or(|c| self.stands_alone(c, run))
    }

    /// Whether nothing stands between the first and the last of its records, nor of its mutations.
    fn stands_alone(&self, c: usize, run: &Run<V>) -> bool {
        let (count, collection) = (run.values.len(), &self.collections[c]);
        let goes = match &run.said {
            Said::Queued(queued) => {
                let all_there = run.values.iter().all(Option::is_some);
                let numbers = || (0..count).map(|at| queued.no(at));
                let priority = collection.spec.priority;
                let room = |first, last| self.outbox.has_room(first, last, priority);
                queued.is_of(count)
                    && all_there
                    && numbers().is_sorted_by(|a, b| a < b)
                    && numbers()
                        .next()
                        .zip(numbers().next_back())
                        .is_some_and(|(first, last)| room(first, last))
            }
            Said::Remote(versions) => {
                versions.len() == count && versions.iter().all(|version| version.0 > 0)
            }
        };
        goes && count > 0
            && count == run.keys.len()
            && collection.has_room(&run.key(0), &run.key(count - 1))
            && run.keys.iter().is_sorted_by(|a, b| a < b)
    }

    fn add_mutations(&mut self, c: usize, placed: &Rc<Placed<V>>, queued: &Queued) {
        let priority = self.collections[c].spec.priority;
        let (of, each) = (placed.clone(), queued.clone());
        let make = move |at: usize| Mutation {
            priority,
            ..each.mutation(&of.run, at, of.at_ms, of.hlc)
        };
        let each = queued.clone();
        let no = move |at: usize| each.no(at);
        let made_of: Rc<dyn Any> = placed.clone();
        let count = placed.run.values.len();
        self.outbox.add_run(&made_of, count, priority, no, make);
    }

    fn add_records(&mut self, c: usize, placed: &Rc<Placed<V>>) {
        let (of, home) = (placed.run.clone(), placed.home);
        let make = move |at: usize| {
            let (version, pending) = match &of.said {
                Said::Queued(queued) => {
                    let pending = Pending {
                        shadow: None,
                        head: queued.no(at),
                        tail: None,
                    };
                    (Version(0), Some(Box::new(pending)))
                }
                Said::Remote(versions) => (versions[at], None),
            };
            let record = Record {
                value: of.values[at].clone(),
                version,
                pending,
                local: None,
                home,
            };
            (of.key(at), record)
        };
        self.collections[c].add_run(placed, make);
    }
}
