//! Whoever has written without showing (`optimistic: false`) hears when the backend has decided.
//!
//! A watcher follows mutations by their numbers through the facts of the log, so it does not matter
//! which tab syncs: a mutation that is rewritten under a new number is followed there, one that joins
//! another too. What was decided counts at the end of a commit, because a commit may refuse a
//! mutation and queue it again in one go.

use super::writer::Done;
use crate::error::{Code, Error, Result};
use crate::model::MutationNo;
use crate::replica::outbox::Outbox;
use crate::store::{Fact, Gone};

/// What those hear who wait when the app closes.
pub(super) const CLOSED: &str = "the manager was closed; the change is stored and will be sent";

struct Watcher {
    waits_for: Vec<MutationNo>,
    failed: Option<(MutationNo, Error)>,
    count: usize,
    done: Done,
}

/// All who wait.
#[derive(Default)]
pub(super) struct Watchers(Vec<Watcher>);

impl Watchers {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Waits for the backend's word on these.
    pub(super) fn add(&mut self, waits_for: Vec<MutationNo>, count: usize, done: Done) {
        self.0.push(Watcher {
            waits_for,
            failed: None,
            count,
            done,
        });
    }

    /// Follows what a fact says.
    pub(super) fn note<V>(&mut self, fact: &Fact<V>) {
        match fact {
            Fact::Queued {
                no,
                replaces: Some(old),
                ..
            } => self.moved(*old, *no),
            Fact::Acked { no, .. } => self.confirmed(*no),
            Fact::Cancelled { no, why } => match why {
                Gone::Joined(into) => self.moved(*no, *into),
                Gone::Same => self.confirmed(*no),
                Gone::Lost => {
                    let message = "the backend's record was changed meanwhile and stays";
                    self.failed(*no, Code::Conflict, message);
                }
                Gone::Discarded => self.failed(*no, Code::Aborted, "the change was discarded"),
            },
            Fact::Refused {
                no,
                refusal,
                next_attempt_ms: None,
                ..
            } => self.failed(*no, Code::Rejected, &refusal.message),
            _ => {}
        }
    }

    fn of(&mut self, no: MutationNo) -> impl Iterator<Item = &mut Watcher> {
        self.0.iter_mut().filter(move |w| w.waits_for.contains(&no))
    }

    fn moved(&mut self, from: MutationNo, to: MutationNo) {
        for watcher in self.of(from) {
            watcher.failed.take_if(|(no, _)| *no == from);
            watcher.waits_for.retain(|no| *no != from && *no != to);
            watcher.waits_for.push(to);
        }
    }

    fn confirmed(&mut self, no: MutationNo) {
        for watcher in self.of(no) {
            watcher.waits_for.retain(|n| *n != no);
        }
    }

    fn failed(&mut self, no: MutationNo, code: Code, message: &str) {
        for watcher in self.of(no) {
            let error = || (no, Error::new(code, message));
            watcher.failed.get_or_insert_with(error);
        }
    }

    /// Those whose wait is over, with what they are told.
    pub(super) fn settled<V>(&mut self, outbox: &Outbox<V>) -> Vec<(Done, Result<usize>)> {
        let mut over = Vec::new();
        let (waiting, ended): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.0).into_iter().partition(|w| {
                w.failed.is_none() && w.waits_for.iter().any(|no| outbox.get(*no).is_some())
            });
        self.0 = waiting;
        for watcher in ended {
            let result = match watcher.failed {
                Some((_, error)) => Err(error),
                None if watcher.waits_for.is_empty() => Ok(watcher.count),
                // It is gone and no fact has said why: another tab has settled it long ago.
                None => Err(Error::new(
                    Code::Aborted,
                    "the change was settled in another tab; read the record to see how",
                )),
            };
            over.push((watcher.done, result));
        }
        over
    }

    /// Everybody, because the manager closes.
    pub(super) fn closed(&mut self, why: &str) -> Vec<(Done, Result<usize>)> {
        let all = std::mem::take(&mut self.0).into_iter();
        all.map(|w| (w.done, Err(Error::new(Code::Closed, why))))
            .collect()
    }
}
