//! Many facts of one kind at once.
//!
//! What was stored together and concerns records of which nothing is known goes into memory as it is: a
//! record and its mutation are made when somebody looks at one of them, or at one near it. A database
//! is opened in the time that its texts take.

use super::Replica;
use super::collection::{Pending, Record};
use crate::hlc::Hlc;
use crate::model::{Mutation, MutationState, Version};
use crate::shown::Shown;
use crate::store::{Run, Said};
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
        if let Said::Queued { first, .. } = &run.said {
            let (first, next) = (*first, first + run.values.len() as u64);
            self.next_no = self.next_no.max(next);
            self.touch((first..next).collect());
            self.add_mutations(c, run, at_ms, hlc);
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
            Said::Queued { first, .. } => {
                let all_there = run.values.iter().all(Option::is_some);
                let last = first + (count as u64).saturating_sub(1);
                all_there && self.outbox.has_room(*first, last, collection.spec.priority)
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

    fn add_mutations(&mut self, c: usize, run: &Rc<Run<V>>, at_ms: f64, hlc: Hlc) {
        let Said::Queued {
            first,
            action,
            changed,
        } = &run.said
        else {
            return;
        };
        let (first, action, priority) = (*first, *action, self.collections[c].spec.priority);
        let (of, shared) = (run.clone(), changed.clone());
        let make = move |at: usize| Mutation {
            no: first + at as u64,
            collection: of.collection.clone(),
            key: of.key(at),
            action,
            value: of.values[at].clone(),
            shows: Shown::Own,
            changed: shared.clone(),
            base_version: Version(0),
            base: None,
            priority,
            behind: false,
            at: hlc,
            created_ms: at_ms,
            sent: false,
            state: MutationState::Pending,
            attempts: 0,
            last_attempt_ms: None,
            next_attempt_ms: None,
            error: None,
            group: None,
            origin: None,
        };
        let made_of: Rc<dyn Any> = run.clone();
        self.outbox
            .add_run(&made_of, first, run.values.len(), priority, make);
    }

    fn add_records(&mut self, c: usize, run: &Rc<Run<V>>) {
        let (of, home) = (run.clone(), self.reading);
        let make = move |at: usize| {
            let (version, pending) = match &of.said {
                Said::Queued { first, .. } => {
                    let pending = Pending {
                        shadow: None,
                        head: first + at as u64,
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
