//! Asks the app's own function how to settle conflicts.
//!
//! Only the tab that leads asks, each conflict by itself, off the path of everything else: syncing goes
//! on, other conflicts are settled, and the record can be written to meanwhile. What the function
//! answers is an intent like any other, checked against what is true when it arrives; where that is no
//! longer what was asked about, the question is put again. A function that throws, answers nonsense or
//! does not answer leads to a parked mutation with the reason, never to a lost one.

use super::{Backend, Clock, Manager};
use crate::conflict::Answer;
use crate::error::{Code, Error, Result};
use crate::limits;
use crate::model::{MutationNo, MutationState};
use crate::options::Strategy;
use crate::replica::plan::{Decided, Intent};
use crate::store::Store;
use crate::value::Value;
use futures_util::future::{Either, select};
use std::future::Future;
use std::pin::pin;

impl<V: Value, S: Store<V>, B: Backend<V>, C: Clock> Manager<V, S, B, C> {
    /// Asks about what waits and was not asked about yet.
    pub(super) fn ask_about_conflicts(&self) {
        let replica = self.0.replica.borrow();
        if replica.outbox.counts().conflict == 0 || !self.may_ask() {
            return;
        }
        let mut asking = self.0.asking.borrow_mut();
        let room = limits::CONFLICTS_ASKED_MAX.saturating_sub(asking.len());
        let waiting = replica.outbox.waiting().filter_map(|m| {
            let strategy = replica.collection(&m.collection)?.spec.strategy;
            let chosen = strategy != Strategy::Manual && !asking.contains(&m.no);
            chosen.then_some((m.no, strategy))
        });
        let waiting: Vec<_> = waiting.take(room).collect();
        for (no, strategy) in waiting {
            asking.insert(no, 0);
            let manager = self.clone();
            self.0.clock.spawn(Box::pin(async move {
                if strategy == Strategy::Function {
                    manager.ask(no).await;
                } else {
                    // The app used to settle it and now has a rule, which needs the server's word.
                    manager.hand_in(Intent::Retry(Some(no)), no);
                }
            }));
        }
    }

    fn may_ask(&self) -> bool {
        self.0.loaded.get() && self.0.engine.borrow().leader() && !self.0.outdated.get()
    }

    async fn ask(&self, no: MutationNo) {
        let mut missing = Vec::new();
        self.0.replica.borrow().missing_of_no(no, &mut missing);
        let fetched = self.fetch_values(missing).await;
        let question = self.0.replica.borrow().question(no);
        let (Ok(()), Some((question, seen))) = (fetched, question) else {
            self.0.asking.borrow_mut().remove(&no);
            return;
        };
        let answer = self.0.listener.decide(question);
        let answer = self.in_time(answer).await;
        if !self.may_ask() {
            // Another tab leads now, and asks for itself.
            self.0.asking.borrow_mut().remove(&no);
            return;
        }
        self.hand_in(Intent::Decided(Decided { no, seen, answer }), no);
    }

    fn hand_in(&self, intent: Intent<V>, no: MutationNo) {
        let manager = self.clone();
        self.submit(
            intent,
            Box::new(move |result| {
                manager.0.asking.borrow_mut().remove(&no);
                let waits = manager.0.replica.borrow().outbox.get(no).map(|m| m.state);
                // A store that has failed is not asked for more at once; the next event does.
                if result.is_ok() && waits == Some(MutationState::Conflict) {
                    manager.ask_about_conflicts();
                }
            }),
        );
    }

    /// The answer, or an error when it takes too long. Counted in steps: a device that slept does not
    /// wake up to questions that have all timed out.
    async fn in_time(&self, answer: impl Future<Output = Result<Answer<V>>>) -> Result<Answer<V>> {
        let mut answer = pin!(answer);
        for _ in 0..limits::CONFLICT_STEPS_MAX {
            let step = pin!(self.0.clock.sleep(limits::CONFLICT_STEP_MS));
            match select(answer, step).await {
                Either::Left((answer, _)) => return answer,
                Either::Right(((), unanswered)) => answer = unanswered,
            }
        }
        // Whole seconds: to print a fraction would take the module 8 KB of code.
        let limit_s = limits::CONFLICT_STEPS_MAX * limits::CONFLICT_STEP_MS as u32 / 1_000;
        let message = format!("the conflict handler has not answered within {limit_s} s");
        Err(Error::new(Code::ConflictHandler, message))
    }
}
