//! Decides what follows when the user retries or gives up what is queued.

use super::Replica;
use super::plan::{Now, Plan};
use crate::error::{Code, Error, Result};
use crate::model::{Action, Mutation, MutationNo, MutationState};
use crate::shown::{Names, Shown};
use crate::store::{Fact, Gone};
use crate::value::Value;

/// What a mutation does, all that was queued before included.
#[derive(Debug)]
pub(super) struct Content<V> {
    pub(super) action: Action,
    pub(super) value: Option<V>,
    pub(super) changed: Option<Names>,
    pub(super) shows: Shown<V>,
}

impl<V: Clone> Content<V> {
    pub(super) fn of(m: &Mutation<V>) -> Self {
        Self {
            action: m.action,
            value: m.value.clone(),
            changed: m.changed.clone(),
            shows: m.shows.clone(),
        }
    }
}

impl<V: Value> Replica<V> {
    #[inline(never)]
    pub(super) fn plan_retry(
        &mut self,
        no: Option<MutationNo>,
        now: Now,
        plan: &mut Plan<V>,
    ) -> Result<()> {
        let parked = |m: &&Mutation<V>| m.state == MutationState::Failed;
        // One that waits for the app to settle its conflict meets it anew; not all of them at once, for
        // nothing may have changed.
        let stands = |m: &&Mutation<V>| m.state != MutationState::Pending;
        let chosen: Vec<Mutation<V>> = match no {
            None => self.outbox.iter().filter(parked).cloned().collect(),
            Some(no) => {
                let found = self.outbox.get(no).filter(stands).cloned();
                let missing = || Error::new(Code::NotFound, "there is no such parked mutation");
                vec![found.ok_or_else(missing)?]
            }
        };
        plan.count = chosen.len();
        for m in chosen {
            self.requeue(&m, Content::of(&m), now, plan);
        }
        Ok(())
    }

    /// Queues a mutation again under a new id: the backend may remember the old one's result.
    pub(super) fn requeue(
        &mut self,
        old: &Mutation<V>,
        content: Content<V>,
        now: Now,
        plan: &mut Plan<V>,
    ) -> MutationNo {
        let no = self.fresh_no();
        let (collection, key) = (old.collection.clone(), old.key.clone());
        let replaces = Some(old.no);
        let fact = Fact::Queued {
            no,
            replaces,
            collection,
            key,
            action: content.action,
            value: content.value,
            shows: content.shows,
            changed: content.changed,
            group: old.group.clone(),
            origin: None,
        };
        self.put_true(fact, now, plan);
        no
    }

    #[inline(never)]
    pub(super) fn plan_discard(
        &mut self,
        no: MutationNo,
        now: Now,
        plan: &mut Plan<V>,
    ) -> Result<()> {
        let missing = || Error::new(Code::NotFound, "there is no such mutation");
        let m = self.outbox.get(no).cloned().ok_or_else(missing)?;
        let record = self
            .collection(&m.collection)
            .and_then(|c| c.record(&m.key));
        let tail = record.and_then(|r| r.pending.as_ref()).and_then(|p| p.tail);
        // What was written on top of a discarded change goes with it.
        if let Some(tail) = tail.filter(|t| *t != no) {
            self.put_true(
                Fact::Cancelled {
                    no: tail,
                    why: Gone::Discarded,
                },
                now,
                plan,
            );
        }
        self.put_true(
            Fact::Cancelled {
                no,
                why: Gone::Discarded,
            },
            now,
            plan,
        );
        self.log_given_up(&m, now, plan);
        plan.count = 1;
        Ok(())
    }
}
