//! Runs the engine's effects: requests, timers, and what is done with the answers.

use super::{Backend, Call, Clock, Manager, PushAnswer};
use crate::engine::{Effect, Event, Failure, Lane};
use crate::error::{Code, Error};
use crate::limits;
use crate::model::{Change, MutationNo, Page, Refusal, Verdict};
use crate::planted::{self, Bug};
use crate::replica::plan::{Intent, check_key};
use crate::store::Store;
use crate::value::Value;
use futures_channel::oneshot;
use futures_util::future::{Either, select};
use std::future::Future;
use std::pin::pin;
use std::rc::Rc;

/// A server's `Date` has whole seconds: smaller differences mean nothing.
const OFFSET_NOISE_MS: f64 = 2_000.0;

/// Resolves when a request is not wanted any more.
type Stop = oneshot::Receiver<()>;

impl<V: Value, S: Store<V>, B: Backend<V>, C: Clock> Manager<V, S, B, C> {
    pub(super) fn run(&self, event: Event) {
        let before = self.0.engine.borrow().phase();
        let failing = self.0.engine.borrow().error().is_some();
        let (now_ms, random, view) = (self.now_ms(), self.0.clock.random(), self.view());
        self.0.replica.borrow_mut().look_at_clock(now_ms);
        let effects = self
            .0
            .engine
            .borrow_mut()
            .handle(now_ms, random, view, event);
        let engine = self.0.engine.borrow();
        let error = engine.error().cloned();
        if error.is_some() && (!failing || engine.phase() != before) {
            self.0.error_at_ms.set(now_ms);
        }
        drop(engine);
        if let Some(error) = error.filter(|_| !failing) {
            self.0.listener.failed(&error);
        }
        for effect in effects {
            self.perform(effect);
        }
        self.ask_about_conflicts();
        self.0.listener.status_changed();
    }

    fn perform(&self, effect: Effect) {
        match effect {
            Effect::Push { max, refresh } => self.start_push(max, refresh),
            Effect::Pull { continues, refresh } => {
                let (manager, stop) = (self.clone(), self.stop());
                self.spawn(async move { manager.pull(continues, refresh, stop).await });
            }
            Effect::ForgetCheckpoint => {
                self.0.next_page.replace(None);
                let manager = self.clone();
                self.submit(
                    Intent::ForgetCheckpoint,
                    Box::new(move |result| manager.stored(result.map(|_| ()))),
                );
            }
            Effect::WakeAt(at_ms) => self.set_timer(at_ms),
            Effect::CancelRequests => self.0.cancels.borrow_mut().clear(),
        }
    }

    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        self.0.clock.spawn(Box::pin(task));
    }

    fn set_timer(&self, at_ms: Option<f64>) {
        if self.0.wake_at_ms.get() == at_ms {
            return;
        }
        self.0.wake_at_ms.set(at_ms);
        let number = self.0.timer.get() + 1;
        self.0.timer.set(number);
        let Some(at_ms) = at_ms else { return };
        let manager = self.clone();
        self.spawn(async move {
            let wait_ms = (at_ms - manager.now_ms()).max(0.0);
            manager.0.clock.sleep(wait_ms).await;
            if manager.0.timer.get() == number {
                manager.0.wake_at_ms.set(None);
                manager.run(Event::Tick);
            }
        });
    }

    /// Runs a request within its time limit. One that was given up before it began does not begin.
    async fn within_limits<T>(
        &self,
        request: impl Future<Output = Result<T, Failure>>,
        stop: Stop,
    ) -> Result<T, Failure> {
        match select(pin!(self.limit(stop)), pin!(request)).await {
            Either::Left((failure, _)) => Err(failure),
            Either::Right((answer, _)) => answer,
        }
    }

    /// Resolves when a request has to be given up.
    async fn limit(&self, stop: Stop) -> Failure {
        let timeout = pin!(self.0.clock.sleep(limits::REQUEST_TIMEOUT_MS));
        match select(stop, timeout).await {
            Either::Left(_) => Failure::Cancelled,
            Either::Right(_) => {
                let message = "the backend did not answer in time";
                Failure::NoAnswer(Error::new(Code::Timeout, message))
            }
        }
    }

    /// Resolves when what is decided now is not wanted any more: from the decision on, not only from
    /// the request on, or a tab would send after it has stopped leading.
    fn stop(&self) -> Stop {
        let (cancel, cancelled) = oneshot::channel();
        let mut cancels = self.0.cancels.borrow_mut();
        cancels.retain(|c| !c.is_canceled());
        cancels.push(cancel);
        cancelled
    }

    fn call(&self, refresh: bool) -> Call {
        Call {
            client: self.client(),
            refresh,
        }
    }

    fn start_push(&self, max: usize, refresh: bool) {
        let batch = {
            let replica = self.0.replica.borrow();
            let mut in_flight = self.0.in_flight.borrow_mut();
            let bytes = limits::BATCH_BYTES_MAX;
            let batch = replica.next_batch(self.now_ms(), &in_flight, max, bytes);
            for no in &batch {
                in_flight.insert(*no, 0);
            }
            batch
        };
        let (manager, stop) = (self.clone(), self.stop());
        self.spawn(async move { manager.push(batch, refresh, stop).await });
        self.run(Event::Tick);
    }

    async fn push(self, batch: Vec<MutationNo>, refresh: bool, stop: Stop) {
        let refreshed = refresh;
        let size = batch.len();
        let outcome = match self.mark_sent(&batch).await {
            Ok(()) => self.send(&batch, refresh, stop).await,
            Err(error) => Err(Failure::Store(error)),
        };
        let verdicts = match outcome {
            Ok(verdicts) => verdicts,
            // Alone in its request, so it is the one that is meant. A group alone is meant as a whole: half of a
            // transaction must not take effect.
            Err(Failure::Refused {
                code,
                message,
                too_large,
            }) if size == 1 || (!too_large && self.0.replica.borrow().is_one_group(&batch)) => {
                let refusal = Refusal { code, message };
                let retryable = false;
                let refused = Verdict::Failed { refusal, retryable };
                batch.iter().map(|no| (*no, refused.clone())).collect()
            }
            Err(failure) => {
                #[cfg(feature = "planted")]
                self.blame(&batch, &failure);
                self.land(&batch);
                self.note_failure(&batch, &failure);
                let lane = Lane::Push;
                self.run(Event::Failed {
                    lane,
                    failure,
                    size,
                    refreshed,
                });
                return;
            }
        };
        self.0.replica.borrow_mut().note_health(&batch);
        let manager = self.clone();
        let done = move |result: Result<usize, Error>| {
            let mut progress = manager.0.progress.get();
            progress.pushed += size;
            manager.0.progress.set(progress);
            manager.land(&batch);
            manager.stored(result.map(|_| ()));
        };
        self.submit(Intent::Verdicts(verdicts), Box::new(done));
        self.run(Event::Pushed);
    }

    /// The mutations of a request are not in flight any more.
    fn land(&self, batch: &[MutationNo]) {
        let mut in_flight = self.0.in_flight.borrow_mut();
        for no in batch {
            in_flight.remove(no);
        }
    }

    fn stored(&self, result: Result<(), Error>) {
        match result {
            Ok(()) => self.run(Event::Stored),
            Err(error) => self.run(Event::NotStored(error)),
        }
    }

    /// Makes sure that the log knows what may reach the backend, before it can. A crash must not
    /// let a mutation be rewritten that the backend has already seen.
    async fn mark_sent(&self, batch: &[MutationNo]) -> Result<(), Error> {
        let unmarked = {
            let replica = self.0.replica.borrow();
            if replica.is_marked(batch) {
                return Ok(());
            }
            // Marks the batches that follow as well, so that they need no commit of their own.
            let in_flight = self.0.in_flight.borrow();
            let ahead = limits::SENT_MARK_MAX;
            let mut nos = batch.to_vec();
            if in_flight.len() > batch.len() || self.0.progress.get().pushed > 0 {
                nos.extend(replica.next_batch(self.now_ms(), &in_flight, ahead, usize::MAX));
            }
            nos
        };
        let (tell, told) = super::later();
        self.submit(Intent::MarkSent(unmarked), Box::new(tell));
        match told.await {
            Some(result) => result.map(|_| ()),
            None => Err(Error::new(Code::Closed, "closed")),
        }
    }

    async fn send(
        &self,
        batch: &[MutationNo],
        refresh: bool,
        stop: Stop,
    ) -> Result<Vec<(MutationNo, Verdict<V>)>, Failure> {
        let mut changes: Vec<Change<V>> = {
            let replica = self.0.replica.borrow();
            // The mark may have come before what has the number now.
            if !replica.still_goes(batch) || !replica.is_marked(batch) {
                return Ok(Vec::new()); // chosen anew, in the same cycle
            }
            batch.iter().filter_map(|no| replica.change(*no)).collect()
        };
        let Some(backend) = &self.0.backend else {
            return Err(Failure::Cancelled);
        };
        if changes.is_empty() {
            return Ok(Vec::new()); // discarded while the mark was stored
        }
        let call = self.call(refresh);
        let sent_ms = self.now_ms();
        if planted::is(Bug::RetryWithANewId) {
            changes
                .iter_mut()
                .for_each(|c| c.id = format!("{}-{sent_ms}", c.id));
        }
        let request = backend.push(&changes, &call);
        let answer = self.within_limits(request, stop).await?;
        self.correct_clock(answer.server_ms, sent_ms);
        matched(&changes, answer)
    }

    async fn pull(self, continues: bool, refresh: bool, stop: Stop) {
        let since = {
            let replica = self.0.replica.borrow();
            let next = self.0.next_page.borrow();
            if continues {
                next.clone()
            } else {
                replica.pull_position()
            }
        };
        if !continues {
            if since.is_none() {
                // Until the last page is stored, also where that takes several tries.
                self.0.filling.replace(self.0.replica.borrow().unpulled());
            }
            let pushed = self.0.progress.get().pushed;
            self.0.progress.set(super::Progress { pulled: 0, pushed });
        }
        self.read_referrers().await;
        match self.fetch(since.as_deref(), refresh, stop).await {
            Ok(page) => {
                let has_more = page.has_more;
                self.0.next_page.replace(Some(page.checkpoint.clone()));
                let mut progress = self.0.progress.get();
                progress.pulled += page.changes.len();
                if !has_more {
                    progress.pushed = 0;
                }
                self.0.progress.set(progress);
                let nothing = page.changes.is_empty()
                    && !has_more
                    && since.as_ref() == Some(&page.checkpoint)
                    && !continues
                    && !self.0.replica.borrow().misses_records();
                let manager = self.clone();
                if nothing {
                    // No commit for "still the same". A commit would have met what other tabs have
                    // written, if they could not tell: one was closed right after it, say.
                    self.submit_catch_up();
                    self.ask_again();
                    self.run(Event::Pulled { has_more });
                    self.run(Event::Stored);
                    return;
                }
                let done = Box::new(move |result| manager.page_stored(has_more, result));
                let store = || self.submit(Intent::Page(since, page), done);
                // The last of several may have come before the one ahead of it was dealt with.
                if !has_more && !continues {
                    store();
                    return self.run(Event::Pulled { has_more });
                }
                // The next page is asked for before this one is dealt with: the server has it ready then.
                self.run(Event::Pulled { has_more });
                self.0.clock.pause().await;
                if self.is_open() {
                    store();
                }
            }
            Err(failure) => {
                self.note_failed_pull();
                let (lane, size, refreshed) = (Lane::Pull, 0, refresh);
                self.run(Event::Failed {
                    lane,
                    failure,
                    size,
                    refreshed,
                });
            }
        }
    }

    /// A deletion would wait for what only may refer to its record, perhaps for ever.
    async fn read_referrers(&self) {
        let nos = self.0.replica.borrow().unread_referrers();
        let mut missing = Vec::new();
        for no in &nos {
            self.0.replica.borrow().missing_of_no(*no, &mut missing);
        }
        // If it fails, the next pull tries again.
        if self.fetch_values(missing).await.is_ok() {
            let mut replica = self.0.replica.borrow_mut();
            nos.into_iter().for_each(|no| replica.note_referrer(no));
        }
    }

    /// What follows from a failed push for what was in it.
    fn note_failure(&self, batch: &[MutationNo], failure: &Failure) {
        let mut replica = self.0.replica.borrow_mut();
        match failure {
            Failure::NoAnswer(_) => replica.note_unanswered(batch),
            Failure::Refused { .. } if replica.is_one_group(batch) => replica.take_apart(batch),
            _ => {}
        }
        let theirs = match failure {
            Failure::NoAnswer(error) => error.code == Code::Timeout,
            Failure::Server(_) => true,
            _ => false,
        };
        if theirs {
            replica.note_trouble(batch, self.now_ms(), self.0.clock.random());
        }
    }

    /// A page could not be had, or not be stored.
    fn note_failed_pull(&self) {
        let failed = self.0.failed_pulls.get() + 1;
        self.0.failed_pulls.set(failed);
        if failed >= limits::FAILED_PULLS_MAX {
            self.ask_again();
        }
    }

    /// What was sent without an answer can be sent again.
    fn ask_again(&self) {
        self.0.failed_pulls.set(0);
        self.0.replica.borrow_mut().ask_again();
    }

    fn page_stored(&self, has_more: bool, result: Result<usize, Error>) {
        if result.is_err() {
            self.0.replica.borrow_mut().end_repull();
            self.note_failed_pull();
        } else {
            self.0.failed_pulls.set(0);
        }
        if !has_more {
            self.ask_again();
            if result.is_ok() {
                self.0.filling.take();
            }
            self.miss_for_a_while();
        }
        self.stored(result.map(|_| ()));
    }

    /// What a pull from the beginning has not brought may still come.
    fn miss_for_a_while(&self) {
        let Some(over) = self.0.replica.borrow().begin_to_miss() else {
            return;
        };
        let manager = self.clone();
        self.0.clock.spawn(Box::pin(async move {
            manager.0.clock.sleep(limits::MISSED_MS).await;
            over.set(true);
            if Rc::strong_count(&over) > 1 {
                manager.run(Event::Poke);
            }
        }));
    }

    async fn fetch(
        &self,
        since: Option<&str>,
        refresh: bool,
        stop: Stop,
    ) -> Result<Page<V>, Failure> {
        let Some(backend) = &self.0.backend else {
            return Err(Failure::Cancelled);
        };
        let call = self.call(refresh);
        let sent_ms = self.now_ms();
        let request = backend.pull(since, limits::PAGE_CHANGES_MAX, &call);
        let page = self.within_limits(request, stop).await?;
        self.correct_clock(page.server_ms, sent_ms);
        if page.changes.len() > limits::PAGE_ACCEPTED_MAX {
            return Err(Failure::Protocol("the page has too many changes".into()));
        }
        if page.has_more && since == Some(page.checkpoint.as_ref()) {
            return Err(Failure::Protocol(
                "there is more, but the checkpoint stands still".into(),
            ));
        }
        Ok(page)
    }

    fn correct_clock(&self, server_ms: Option<f64>, sent_ms: f64) {
        if let Some(server_ms) = server_ms.filter(|ms| limits::SERVER_MS.contains(ms)) {
            let now_ms = self.now_ms();
            if now_ms < sent_ms {
                return; // set back meanwhile: nobody knows when
            }
            let offset_ms = server_ms - (sent_ms + now_ms) / 2.0;
            let known = offset_ms.abs() > OFFSET_NOISE_MS;
            let offset_ms = if known { offset_ms } else { 0.0 };
            self.0.replica.borrow_mut().set_offset(offset_ms, now_ms);
        }
    }
}

/// The verdicts of an answer, if it is one to this request: one result a change, in order.
fn matched<V>(
    changes: &[Change<V>],
    answer: PushAnswer<V>,
) -> Result<Vec<(MutationNo, Verdict<V>)>, Failure> {
    if answer.results.len() != changes.len() {
        let (got, want) = (answer.results.len(), changes.len());
        let message: Rc<str> = format!("{got} results for {want} changes").into();
        return Err(Failure::Protocol(message));
    }
    let mut verdicts = Vec::with_capacity(changes.len());
    for (change, (id, verdict)) in changes.iter().zip(answer.results) {
        if *id != *change.id {
            return Err(Failure::Protocol(
                "a result belongs to no change of the request".into(),
            ));
        }
        if let Verdict::Rekeyed { key, .. } = &verdict
            && let Err(error) = check_key(key)
        {
            let message = format!("a result's serverId: {}", error.message);
            return Err(Failure::Protocol(message.into()));
        }
        verdicts.push((change.no, verdict));
    }
    Ok(verdicts)
}
