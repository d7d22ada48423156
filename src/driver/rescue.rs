//! Feeds the rescue copy: every unsynced mutation once more, in a place of its own.
//!
//! Off the path of the acknowledgement: what came, changed or went is handed over in one batch a
//! moment after the commit. With strict durability the acknowledgement waits for it.

use super::{Backend, Clock, Manager};
use crate::error::Code;
use crate::hlc::Hlc;
use crate::limits;
use crate::model::{Held, MutationNo};
use crate::planted::{self, Bug};
use crate::replica::Alive;
use crate::store::{Older, Seq, Store};
use crate::value::Value;
use futures_channel::oneshot;
use futures_util::future::select;
use std::cell::{Cell, RefCell};
use std::pin::pin;
use std::rc::Rc;

/// What has changed since the last batch.
#[derive(Debug)]
pub struct RescueBatch<V> {
    /// Mutations as they stand now.
    pub put: Vec<Held<V>>,
    /// Mutations that have left the outbox.
    pub gone: Vec<MutationNo>,
    /// What there is at all, told once after a start: a crash may have kept from the copy what has gone.
    pub alive: Option<Alive>,
    /// With this batch the copy has all that this tab changed before this reading of the clock,
    pub stamp: Hlc,
    /// and all mutations with a lower number.
    pub next_no: MutationNo,
    /// The newest entry of the log that this tab knows: of two tabs that hand over the same mutation, the
    /// one that knows more has its newer state.
    pub seq: Seq,
    /// Mutations in the outbox.
    pub left: usize,
    /// The version of the data in it, and collections that are of an older one.
    pub versions: (u32, Older),
}

/// Batches on their way into the copy, and who waits for each.
#[derive(Debug, Default)]
pub(super) struct Handing {
    all: Rc<RefCell<Vec<(u64, Waiters)>>>,
    /// Calls that have taken what they hand over, and are reading it. One that is dropped stays: what it had
    /// taken is missing until the next start.
    reading: Cell<usize>,
}

type Waiters = Vec<oneshot::Sender<()>>;

/// One batch on its way, until it is dropped.
struct OnItsWay(Rc<RefCell<Vec<(u64, Waiters)>>>, u64);

impl Handing {
    fn begin(&self) -> OnItsWay {
        let mut all = self.all.borrow_mut();
        let id = all.last().map_or(0, |(last, _)| last + 1);
        all.push((id, Waiters::new()));
        OnItsWay(self.all.clone(), id)
    }

    /// Resolves when what is on its way now has arrived.
    async fn ended(&self) {
        let mut waits = Vec::new();
        for (_, waiters) in self.all.borrow_mut().iter_mut() {
            let (tell, told) = oneshot::channel();
            waiters.push(tell);
            waits.push(told);
        }
        for told in waits {
            // Told, or dropped with the batch: over in both cases.
            let _ = told.await;
        }
    }
}

impl Drop for OnItsWay {
    fn drop(&mut self) {
        self.0.borrow_mut().retain(|(id, _)| *id != self.1);
    }
}

impl<V: Value, S: Store<V>, B: Backend<V>, C: Clock> Manager<V, S, B, C> {
    /// From now on the listener is given what the rescue copy needs. What the copy has is told by its
    /// newest batch (zeros for an empty copy); a crash may have kept later changes from it, so they are
    /// handed over first; all of them, where they are few. `whole`: the first batch takes the place of
    /// another database's copy.
    pub fn start_rescue(&self, next_no: MutationNo, stamp: Hlc, whole: bool) {
        self.0.rescuing.set(true);
        self.0.rescue_whole.set(whole);
        self.0.rescued.set((next_no, stamp));
        self.watch_for_rescue();
        if whole {
            // Until then the next start would take the other copy in once more, and what was made of it
            // meanwhile may have been confirmed.
            self.rescue_soon();
        }
    }

    /// Notes what the copy may lack. Before all is loaded there is nothing to see; this is called again then.
    pub(super) fn watch_for_rescue(&self) {
        if !self.0.rescuing.get() {
            return;
        }
        self.0.replica.borrow_mut().watch_mutations();
        self.0.rescue_lacks.set(Some(self.0.rescued.get()));
        self.schedule_rescue();
    }

    pub(super) fn schedule_rescue(&self) {
        if self.0.hidden.get() {
            self.rescue_soon();
        } else if self.0.rescuing.get() && !self.0.rescue_due.replace(true) {
            let manager = self.clone();
            self.0.clock.spawn(Box::pin(async move {
                manager.0.clock.sleep(limits::RESCUE_DELAY_MS).await;
                manager.0.rescue_due.set(false);
                manager.rescue_now().await;
            }));
        }
    }

    fn rescue_soon(&self) {
        let manager = self.clone();
        self.0
            .clock
            .spawn(Box::pin(async move { manager.rescue_now().await }));
    }

    /// Nobody sees the page any more, and it may never run again: hands over at once, until it is seen.
    pub fn hide(&self) {
        self.0.hidden.set(true);
        self.rescue_soon();
    }

    /// Hands over what the copy lacks, before the store is let go. A copy that does not answer is not waited
    /// for: at the next start it is made good.
    pub async fn rescue_last(&self) {
        let limit = self.0.clock.sleep(limits::RESCUE_CLOSE_MS);
        select(pin!(self.rescue_now()), pin!(limit)).await;
    }

    /// Hands over what has changed; resolves when it is kept.
    pub async fn rescue_now(&self) {
        while self.0.rescuing.get() {
            let on_its_way = self.0.handing.begin();
            let (nos, missing, alive) = self.next_touched();
            let reading = &self.0.handing.reading;
            reading.update(|calls| calls + 1);
            let fetched = self.fetch_values(missing.clone()).await;
            if fetched.is_err_and(|error| error.code == Code::DatabaseDamaged) {
                // What is damaged does not keep the rest from being read.
                crate::rare(self.fetch_each(missing)).await;
            }
            reading.update(|calls| calls - 1);
            let Some((batch, more)) = self.rescue_batch(nos, alive) else {
                break;
            };
            self.0.listener.rescue(batch).await;
            drop(on_its_way);
            if !more {
                break;
            }
        }
        // Another call may have taken what this one was made for, and not be through.
        self.0.handing.ended().await;
    }

    async fn fetch_each(&self, missing: Vec<V>) {
        for value in missing {
            // What cannot be read does not go into the batch.
            let _ = self.fetch_values(vec![value]).await;
        }
    }

    /// What goes into the next batch, and what of it is not in memory. A large one is cut, so that no
    /// turn of the event loop is felt.
    fn next_touched(&self) -> (Vec<MutationNo>, Vec<V>, Option<Alive>) {
        let mut replica = self.0.replica.borrow_mut();
        // Not when it was loaded: somebody waits for that.
        if let Some((next_no, stamp)) = self.0.rescue_lacks.take() {
            let few = replica.outbox.len() <= limits::RESCUE_AGAIN_MAX;
            replica.touch_where(|m| few || m.no >= next_no || m.at > stamp);
            // An empty copy has nothing that could have gone.
            self.0.rescue_untold.set(self.0.loaded.get() && next_no > 0);
        }
        let alive = self.0.rescue_untold.take().then(|| replica.alive());
        // What another tab has written, it hands over itself; here it may only be seen as gone.
        let mut nos = replica.take_touched();
        if !nos.is_sorted() {
            nos.sort_unstable();
        }
        nos.dedup();
        // What takes the place of another database's copy must do so at once: a kill in between
        // would leave neither.
        let most = if self.0.rescue_whole.get() {
            usize::MAX
        } else {
            limits::RESCUE_BATCH_MAX
        };
        let rest = nos.split_off(nos.len().min(most));
        replica.touch(rest);
        let undecided = replica.undecided();
        let mut missing = Vec::new();
        for no in &nos {
            let mut miss =
                |value: &V| missing.extend((!value.is_resident()).then(|| value.clone()));
            match undecided.get(no) {
                Some(step) => {
                    let before = replica.held_before(*step);
                    before.iter().for_each(|held| held.each_value(&mut miss));
                }
                None => replica.each_value_of(*no, &mut miss),
            }
        }
        (nos, missing, alive)
    }

    /// These as they stand, and whether there are more.
    fn rescue_batch(
        &self,
        nos: Vec<MutationNo>,
        alive: Option<Alive>,
    ) -> Option<(RescueBatch<V>, bool)> {
        let mut replica = self.0.replica.borrow_mut();
        // A mutation is kept whole. What cannot be read now is tried with the next commit.
        let is_whole = |held: &Held<V>| {
            let mut is_whole = true;
            held.each_value(&mut |value| is_whole &= value.is_resident());
            is_whole
        };
        // What is not stored yet may be refused: until its commit has ended, the copy has what was there
        // before.
        let undecided = replica.undecided();
        let mut again = Vec::new();
        let (mut put, mut gone) = (Vec::new(), Vec::new());
        for no in nos {
            if let Some(step) = undecided.get(&no) {
                match replica.held_before(*step).filter(is_whole) {
                    Some(held) => put.push(held),
                    None => again.push(no),
                }
                continue;
            }
            match replica.held(no) {
                Some(held) if is_whole(&held) => put.push(held),
                Some(_) => again.push(no),
                // A number of a commit that failed may be given again: it has not gone.
                None if no < replica.next_no() => gone.push(no),
                None => {}
            }
        }
        let more = replica.has_touched();
        // Only the last batch of several says that nothing is missing, those of other calls included.
        let is_last = !more
            && again.is_empty()
            && !replica.is_undecided()
            && self.0.handing.reading.get() == 0;
        replica.touch(again);
        if put.is_empty() && gone.is_empty() && alive.is_none() {
            return None;
        }
        self.0.rescue_whole.set(false);
        if is_last {
            self.0.rescued.set((replica.next_no(), replica.hlc()));
        }
        let (next_no, stamp) = self.0.rescued.get();
        // Zero is what an empty copy says, from which nothing can have gone; there is no number below one.
        let least = MutationNo::from(!planted::is(Bug::CopyThatSaysEmpty));
        let next_no = next_no.max(least);
        let batch = RescueBatch {
            put,
            gone,
            alive,
            stamp,
            next_no,
            seq: self.0.seq.get(),
            left: replica.outbox.len(),
            versions: replica.data_versions(),
        };
        Some((batch, more))
    }
}
