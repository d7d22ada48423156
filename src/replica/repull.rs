//! Pulling everything anew: records that do not come any more are forgotten.
//!
//! A backend that does not know a checkpoint (any more) has forgotten tombstones, or shows us less than
//! before. So when a pull from the beginning is over, what the backend had confirmed and what no page has
//! brought is gone there. What is queued for such a record stays queued.
//!
//! Until the last page is stored the checkpoint stays at the beginning, and how far the pull has got is
//! kept in memory only: another tab, or the next start, begins anew rather than with half of an answer to
//! what is still there. A first pull has nothing to forget, and can be taken up where it ended: unless
//! there are records already, of mutations that came from elsewhere.
//!
//! A backend may hold back what was committed after a transaction that is still open, whoever committed
//! it. So what no page has brought is missed for a while first: the pulls go on where the pages ended, and
//! what was held back comes with them.

use super::Replica;
use super::plan::{Now, Plan};
use crate::model::{Key, MutationState, Name, Pulled, Refusal, Version};
use crate::ordered::Ordered;
use crate::store::Fact;
use crate::value::Value;
use std::cell::Cell;
use std::rc::Rc;

/// A pull from the beginning over records that are here already.
#[derive(Debug, Default)]
pub(super) struct Repull {
    /// What the backend had confirmed when it began, and no page has brought yet.
    missed: Ordered<(usize, Key), Version>,
    /// Where its pages ended; a page may be planned more than once.
    reached: Vec<Rc<str>>,
    /// The last page has come,
    ended: bool,
    /// so long ago that what is missed is given up.
    over: Rc<Cell<bool>>,
}

impl<V: Value> Replica<V> {
    /// From here on all is pulled anew.
    pub(super) fn no_checkpoint(&self) -> Fact<V> {
        Fact::Checkpoint {
            checkpoint: None,
            collections: self.declared(),
        }
    }

    /// Where the next page begins.
    #[must_use]
    pub fn pull_position(&self) -> Option<Rc<str>> {
        let reached = self.repull.as_ref().and_then(|r| r.reached.last());
        reached.cloned().or_else(|| self.checkpoint())
    }

    /// Whether a page may tell something by what it does not bring.
    #[must_use]
    pub fn misses_records(&self) -> bool {
        self.repull.is_some()
    }

    /// Once the last page has come: what is to be set [`crate::limits::MISSED_MS`] later, before one more pull. Nothing
    /// here looks at the device's clock for that: it may jump.
    #[must_use]
    pub fn begin_to_miss(&self) -> Option<Rc<Cell<bool>>> {
        let repull = self.repull.as_ref()?;
        let is_new = repull.ended && Rc::strong_count(&repull.over) == 1;
        is_new.then(|| repull.over.clone())
    }

    /// A page of it could not be stored, or a checkpoint was: the next pull begins there.
    pub fn end_repull(&mut self) {
        self.repull = None;
    }

    /// Whether a page that was asked for with `since` goes on where we are.
    pub(super) fn goes_on(&mut self, since: Option<&Rc<str>>) -> bool {
        let Some(since) = since else {
            let from_the_beginning = self.checkpoint().is_none();
            if from_the_beginning {
                self.begin_repull();
            }
            return from_the_beginning;
        };
        match &self.repull {
            Some(repull) => repull.reached.contains(since),
            None => self.checkpoint().as_ref() == Some(since),
        }
    }

    fn begin_repull(&mut self) {
        let mut missed = Ordered::default();
        for (c, collection) in self.collections.iter().enumerate() {
            for (key, record) in collection.records() {
                // What is not declared may be kept from us; it is pulled anew once it is.
                if collection.declared && record.remote().is_some() {
                    missed.insert((c, key.clone()), record.version);
                }
            }
        }
        self.repull = (!missed.is_empty()).then_some(Repull {
            missed,
            reached: Vec::new(),
            ended: false,
            over: Rc::default(),
        });
    }

    pub(super) fn note_pulled(&mut self, change: &Pulled<V>) {
        if self.repull.is_none() {
            return;
        }
        let position = self.position(&change.collection);
        if let (Some(repull), Some(c)) = (&mut self.repull, position) {
            repull.missed.remove(&(c, change.key.clone()));
        }
    }

    /// Notes where a page has ended; whether it was the last one, so that its checkpoint holds.
    pub(super) fn end_page(
        &mut self,
        checkpoint: &Rc<str>,
        has_more: bool,
        now: Now,
        plan: &mut Plan<V>,
    ) -> bool {
        let Some(repull) = &mut self.repull else {
            return true;
        };
        if !repull.reached.contains(checkpoint) {
            repull.reached.push(checkpoint.clone());
        }
        if has_more {
            return false;
        }
        repull.ended = true;
        if !repull.missed.is_empty() && !repull.over.get() {
            return false;
        }
        let missed = self.repull.take().map(|repull| repull.missed);
        for ((c, key), version) in &missed.unwrap_or_default() {
            self.forget(*c, key, *version, now, plan);
        }
        true
    }

    /// What the backend has of damaged records is pulled anew, what is queued for them is parked: the rest goes on.
    #[inline(never)]
    pub(super) fn plan_heal(&mut self, name: &Name, now: Now, plan: &mut Plan<V>) {
        let Some(c) = self.position(name) else {
            return;
        };
        let is_damaged = |value: Option<&V>| value.is_some_and(|value| !value.is_sound());
        let (mut gone, mut stuck) = (Vec::new(), Vec::new());
        for (key, record) in self.collections[c].records() {
            let head = record.pending.as_ref().map(|pending| pending.head);
            if let Some(m) = head.and_then(|no| self.outbox.get(no)) {
                if m.state != MutationState::Failed && is_damaged(m.value.as_ref()) {
                    stuck.push(m.clone());
                }
            } else if record.local.is_none() && is_damaged(record.remote()) {
                gone.push((key.clone(), record.version));
            }
        }
        for m in stuck {
            let error = super::damaged(name);
            let (code, message) = (error.code.as_str().into(), error.message.into());
            self.plan_refusal(&m, Refusal { code, message }, false, now, plan);
        }
        if !gone.is_empty() {
            // A pull that is under way may have passed them.
            self.end_repull();
            for (key, version) in gone {
                self.forget(c, &key, version, now, plan);
            }
            self.put_true(self.no_checkpoint(), now, plan);
        }
    }

    /// Its version stays with it: a page that still has it is from before. The same version with
    /// content tells that it is back.
    fn forget(&mut self, c: usize, key: &Key, version: Version, now: Now, plan: &mut Plan<V>) {
        let collection = &self.collections[c];
        let same = |r: &super::collection::Record<V>| r.version == version && r.remote().is_some();
        if !collection.record(key).is_some_and(same) {
            return; // confirmed anew meanwhile, or moved to another key
        }
        let name = collection.spec.name.clone();
        let fact = Fact::Remote {
            collection: name.clone(),
            key: key.clone(),
            value: None,
            version,
        };
        plan.count += 1;
        self.put_true(fact, now, plan);
        self.tell_waiting(&name, key, plan);
    }
}
