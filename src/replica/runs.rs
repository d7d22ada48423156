//! Many facts of one kind at once.
//!
//! What was stored together and concerns records of which nothing is known goes into memory as it is: a
//! record and its mutation are made when somebody looks at one of them, or at one near it. A database
//! is opened in the time that its texts take.

use super::Replica;
use super::collection::{Pending, Record};
use crate::hlc::Hlc;
use crate::model::{Mutation, Version};
use crate::store::{Queued, Run, Said};
use crate::value::Value;
use std::any::Any;
use std::rc::Rc;

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
        if let Said::Queued(queued) = &run.said {
            let numbers: Vec<_> = (0..run.values.len()).map(|at| queued.no(at)).collect();
            let last = numbers.last().copied().unwrap_or_default();
            self.next_no = self.next_no.max(last + 1);
            self.touch(numbers);
            self.add_mutations(c, run, queued, at_ms, hlc);
        }
        self.add_records(c, run);
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

    fn add_mutations(&mut self, c: usize, run: &Rc<Run<V>>, queued: &Queued, at_ms: f64, hlc: Hlc) {
        let priority = self.collections[c].spec.priority;
        let (of, each) = (run.clone(), queued.clone());
        let make = move |at: usize| Mutation {
            priority,
            ..each.mutation(&of, at, at_ms, hlc)
        };
        let each = queued.clone();
        let no = move |at: usize| each.no(at);
        let made_of: Rc<dyn Any> = run.clone();
        self.outbox
            .add_run(&made_of, run.values.len(), priority, no, make);
    }

    fn add_records(&mut self, c: usize, run: &Rc<Run<V>>) {
        let (of, home) = (run.clone(), self.reading);
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
        self.collections[c].add_run(run, make);
    }
}
