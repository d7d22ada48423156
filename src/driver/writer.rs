//! Group commit: what is asked for while a transaction is open joins the next one.
//!
//! Each intent is decided on top of those before it, all facts go into the log in one transaction,
//! and only then do the callers hear of it. If another tab was faster, its entries are taken in and
//! everything is decided again. If the store fails, nothing has happened.

use super::watch::CLOSED;
use super::{Backend, Clock, Manager};
use crate::engine::Event;
use crate::error::{Code, Error, Result};
use crate::hlc::Hlc;
use crate::limits;
use crate::model::{MutationNo, Name};
use crate::ordered::Numbers;
use crate::planted::{self, Bug};
use crate::replica::plan::{Intent, Notice, Now, Plan};
use crate::store::{AppendError, Entry, Fact, Place, Store, Summary};
use crate::value::Value;
use std::cell::{Cell, RefCell};

/// Called once, when an intent is durable or refused; the number is how much was concerned.
pub type Done = Box<dyn FnOnce(Result<usize>)>;

enum Job<V> {
    Intent(Intent<V>, Done),
    /// Take in what other tabs have written.
    CatchUp,
    /// Called when everything before it is done.
    Settle(Box<dyn FnOnce()>),
}

pub(super) struct Writer<V> {
    queue: RefCell<Vec<Job<V>>>,
    running: Cell<bool>,
}

impl<V> Default for Writer<V> {
    fn default() -> Self {
        Self {
            queue: RefCell::new(Vec::new()),
            running: Cell::new(false),
        }
    }
}

/// One decided commit.
struct Commit<V> {
    entries: Vec<Entry<V>>,
    results: Vec<Result<usize>>,
    /// What each intent has written without showing.
    hidden: Vec<Vec<MutationNo>>,
    notices: Vec<Notice<V>>,
    collections: Vec<Name>,
    wrote: bool,
}

impl<V> Commit<V> {
    /// What was refused stays refused; what had nothing to do may have had.
    fn failed(mut self, error: &Error) -> Self {
        for result in self.results.iter_mut().filter(|r| r.is_ok()) {
            *result = Err(error.clone());
        }
        self
    }
}

impl<V: Value, S: Store<V>, B: Backend<V>, C: Clock> Manager<V, S, B, C> {
    /// Hands in an intent; `done` is called when it is durable or refused.
    pub fn submit(&self, intent: Intent<V>, done: Done) {
        self.enqueue(Job::Intent(intent, done));
    }

    /// Takes in what other tabs have written.
    pub fn submit_catch_up(&self) {
        self.enqueue(Job::CatchUp);
    }

    /// Whether a read sees every write that was asked for before it.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.0.loaded.get() && !self.0.writer.running.get()
    }

    /// Calls back once everything asked for so far is durable (or refused) and loaded.
    pub fn settle(&self, done: Box<dyn FnOnce()>) {
        if self.is_settled() {
            done();
        } else {
            self.enqueue(Job::Settle(done));
        }
    }

    /// Why the store has not been read yet, where it was tried: a read must not answer that there is
    /// nothing.
    #[must_use]
    pub fn unread(&self) -> Option<Error> {
        if self.0.loaded.get() {
            return None;
        }
        let noted = self.0.store_error.borrow();
        let error = noted.as_ref().map(|(error, _)| error.clone());
        let message = "the database has not been read yet";
        error.or_else(|| Some(Error::new(Code::StorageFailed, message)))
    }

    fn enqueue(&self, job: Job<V>) {
        self.0.writer.queue.borrow_mut().push(job);
        if !self.0.writer.running.replace(true) {
            let manager = self.clone();
            self.0
                .clock
                .spawn(Box::pin(async move { manager.write_all().await }));
        }
    }

    async fn write_all(self) {
        loop {
            let jobs = std::mem::take(&mut *self.0.writer.queue.borrow_mut());
            if jobs.is_empty() {
                self.0.writer.running.set(false);
                return self.end_turn();
            }
            self.write_group(jobs).await;
            self.use_turn();
        }
    }

    async fn write_group(&self, jobs: Vec<Job<V>>) {
        let must_read = !self.0.loaded.get() || jobs.iter().any(|j| matches!(j, Job::CatchUp));
        let mut failed = None;
        if must_read && let Err(error) = self.hear_others().await {
            failed = Some(error);
        }
        let mut intents = Vec::new();
        let mut dones = Vec::new();
        let mut settles = Vec::new();
        for job in jobs {
            match job {
                Job::Intent(intent, done) => {
                    intents.push(intent);
                    dones.push(done);
                }
                Job::CatchUp => {}
                Job::Settle(done) => settles.push(done),
            }
        }
        match failed {
            _ if intents.is_empty() => {}
            Some(error) => refuse(dones, &error),
            // Reads get by without it.
            None => crate::rare(self.commit(&intents, dones, must_read)).await,
        }
        self.0.store.evict();
        self.tell_watchers();
        for done in settles {
            done();
        }
    }

    async fn commit(&self, intents: &[Intent<V>], mut dones: Vec<Done>, mut is_current: bool) {
        for _ in 0..limits::APPEND_RETRIES_MAX {
            if self.0.turns.get() > 0 && self.0.turn.borrow().is_none() {
                match crate::rare(self.take_turn()).await {
                    Ok(taken) => is_current |= taken,
                    Err(error) => return refuse(dones, &error),
                }
            }
            if self.0.outdated.get() {
                return refuse(dones, &self.newer());
            }
            if let Err(error) = self.fetch_for(intents).await {
                if intents.len() > 1 && error.code == Code::DatabaseDamaged {
                    return crate::rare(self.commit_each(intents, dones, is_current)).await;
                }
                return refuse(dones, &error);
            }
            let commit = self.decide(intents);
            if commit.entries.is_empty() {
                // Nothing has happened: not even the clock has been used.
                self.0.replica.borrow_mut().rollback();
                if is_current || !intents.iter().any(is_local) {
                    return self.answer(commit, dones);
                }
                // So it is by what this tab knows; a commit would have met what others have written.
                is_current = true;
                let known = self.0.seq.get();
                if let Err(error) = self.hear_others().await {
                    return self.answer(commit.failed(&error), dones);
                }
                if self.0.seq.get() == known {
                    return self.answer(commit, dones);
                }
                continue;
            }
            #[cfg(feature = "planted")]
            self.checkpoint_first(&commit.entries).await;
            let after = self.0.seq.get();
            if planted::is(Bug::AckBeforeCommit) {
                dones.drain(..).for_each(|done| done(Ok(1)));
            }
            // What a fact takes over unseen, such as the base of what is rewritten, may not be in memory.
            let appended = match self.fetch_entries(&commit.entries).await {
                Ok(()) => self.0.store.append(after, &commit.entries).await,
                Err(error) => Err(error.into()),
            };
            match appended {
                Ok(()) => {
                    self.0.replica.borrow_mut().commit();
                    self.0.seq.set(after + commit.entries.len() as u64);
                    self.logged(commit.entries.iter().map(|e| e.facts.len()));
                    if self.0.strict_rescue {
                        if self.0.rescuing.get() {
                            // Others can write while this one waits for the copy.
                            self.0.turn.take();
                        }
                        self.rescue_now().await;
                    } else {
                        self.schedule_rescue();
                    }
                    self.committed(&commit.collections, &commit.notices, true);
                    let wrote = commit.wrote;
                    self.answer(commit, dones);
                    if wrote {
                        self.run(Event::Wrote);
                    }
                    return;
                }
                Err(AppendError::Taken) => {
                    self.0.replica.borrow_mut().rollback();
                    self.take_turns();
                    if let Err(error) = self.hear_others().await {
                        return refuse(dones, &error);
                    }
                }
                Err(AppendError::Failed(error)) => {
                    self.0.replica.borrow_mut().rollback();
                    self.note(&error);
                    return refuse(dones, &error);
                }
            }
        }
        let error = Error::new(
            Code::WriteContention,
            "other tabs were faster too many times",
        );
        refuse(dones, &error);
    }

    /// Waits for this tab's turn, and takes in what was written until then. Without turns, whoever has just
    /// written is ahead of those who have to read that first, again and again.
    async fn take_turn(&self) -> Result<bool> {
        self.0.turns.update(|left| left - 1);
        let Some(turn) = self.0.listener.turn().await else {
            self.0.turns.set(0);
            return Ok(false);
        };
        self.0.turn.replace(Some((turn, limits::TURN_GROUPS)));
        self.hear_others().await.map(|()| true)
    }

    /// Ends this tab's turn when it is used up.
    fn use_turn(&self) {
        let mut turn = self.0.turn.borrow_mut();
        if let Some((_, left)) = &mut *turn {
            *left -= 1;
        }
        turn.take_if(|(_, left)| *left == 0);
    }

    /// Ends this tab's turn, if nothing is written by those who have just heard that what they wrote is stored.
    fn end_turn(&self) {
        if self.0.turn.borrow().is_none() {
            return;
        }
        let manager = self.clone();
        self.0.clock.spawn(Box::pin(async move {
            manager.0.clock.pause().await;
            if !manager.0.writer.running.get() {
                manager.0.turn.take();
            }
        }));
    }

    /// One after the other: only whoever needs what is damaged is refused.
    async fn commit_each(&self, intents: &[Intent<V>], dones: Vec<Done>, is_current: bool) {
        for (intent, done) in intents.iter().zip(dones) {
            let one = std::slice::from_ref(intent);
            self.commit(one, vec![done], is_current).await;
        }
    }

    /// Tells who has asked, or lets them wait for the backend's word.
    fn answer(&self, commit: Commit<V>, dones: Vec<Done>) {
        let mut over = Vec::new();
        for ((done, result), hidden) in dones.into_iter().zip(commit.results).zip(commit.hidden) {
            match result {
                Ok(count) if !hidden.is_empty() => {
                    self.0.watchers.borrow_mut().add(hidden, count, done);
                }
                result => over.push((done, result)),
            }
        }
        // What was written may have been decided by what came after it in this very commit.
        let facts = commit.entries.iter().flat_map(|entry| &entry.facts);
        self.follow(facts);
        over.into_iter().for_each(|(done, result)| done(result));
    }

    fn follow<'a>(&self, facts: impl Iterator<Item = &'a Fact<V>>) {
        let mut watchers = self.0.watchers.borrow_mut();
        if !watchers.is_empty() {
            facts.for_each(|fact| watchers.note(fact));
        }
    }

    fn tell_watchers(&self) {
        if self.0.watchers.borrow().is_empty() {
            return;
        }
        if self.is_closed() {
            return self.end_waits(CLOSED);
        }
        let over = {
            let replica = self.0.replica.borrow();
            self.0.watchers.borrow_mut().settled(&replica.outbox)
        };
        over.into_iter().for_each(|(done, result)| done(result));
    }

    /// Decides all intents on top of each other; their facts are true until committed or undone.
    #[inline(never)]
    fn decide(&self, intents: &[Intent<V>]) -> Commit<V> {
        let mut replica = self.0.replica.borrow_mut();
        let at_ms = self.now_ms();
        replica.begin();
        let mut hlc = replica.next_hlc(at_ms);
        if planted::is(Bug::RawClientClock) {
            hlc = Hlc::default().tick(at_ms);
        }
        replica.set_hlc(hlc);
        let mut facts = Vec::new();
        let mut commit = Commit {
            entries: Vec::new(),
            results: Vec::with_capacity(intents.len()),
            hidden: Vec::with_capacity(intents.len()),
            notices: Vec::new(),
            collections: Vec::new(),
            wrote: false,
        };
        for intent in intents {
            let now = Now {
                at_ms,
                hlc,
                random: self.0.clock.random(),
            };
            let local = is_local(intent);
            match replica.plan(intent.clone(), now) {
                Ok(Plan {
                    facts: new,
                    notices,
                    count,
                    collections,
                    hidden,
                }) => {
                    for name in collections {
                        if !commit.collections.contains(&name) {
                            commit.collections.push(name);
                        }
                    }
                    commit.wrote |= local && !new.is_empty();
                    if facts.is_empty() {
                        facts = new;
                    } else {
                        facts.extend(new);
                    }
                    commit.notices.extend(notices);
                    commit.results.push(Ok(count));
                    commit.hidden.push(hidden);
                }
                Err(error) => {
                    commit.results.push(Err(error));
                    commit.hidden.push(Vec::new());
                }
            }
        }
        if !facts.is_empty() {
            facts.extend(self.first_version(
                &mut replica,
                Now {
                    at_ms,
                    hlc,
                    random: 0.0,
                },
            ));
            drop_superseded(&mut facts);
        }
        commit.entries = entries(facts, at_ms, hlc, &replica.summary());
        commit
    }

    /// Takes in what other tabs have written. Into a new database one with an older app may have written first,
    /// while this one was open: that is migrated, too.
    async fn hear_others(&self) -> Result<()> {
        self.catch_up().await?;
        let is_older = self.0.replica.borrow().needs_migration(self.0.version);
        if is_older && self.0.seq.get() > 0 {
            let migrated = crate::rare(self.migrate()).await;
            return migrated.inspect_err(|error| self.note(error));
        }
        Ok(())
    }

    /// Takes in everything after the newest entry that this tab knows.
    pub(super) async fn catch_up(&self) -> Result<()> {
        let mut collections = Vec::new();
        let mut queued = false;
        let first = !self.0.loaded.get();
        // Not once more, where reading what follows has failed: it was taken in on top of the base.
        if first && self.0.seq.get() == 0 {
            self.load_base()
                .await
                .inspect_err(|error| self.note(error))?;
        }
        if let Err(error) = self.read_on(&mut collections, &mut queued).await {
            self.note(&error);
            if !first && !collections.is_empty() {
                self.committed(&collections, &[], false);
            }
            return Err(error);
        }
        self.0.loaded.set(true);
        self.0.store.evict();
        self.check_version();
        if first {
            self.watch_for_rescue();
            let replica = self.0.replica.borrow();
            collections = replica
                .collections
                .iter()
                .map(|c| c.spec.name.clone())
                .collect();
        }
        if !collections.is_empty() {
            self.committed(&collections, &[], false);
            // What another tab has queued, or does not keep back any more, is pushed as soon as what was
            // written here.
            self.run(if queued && !first {
                Event::Wrote
            } else {
                Event::Tick
            });
        }
        Ok(())
    }

    async fn read_on(&self, collections: &mut Vec<Name>, queued: &mut bool) -> Result<()> {
        let mut more = true;
        while more {
            let after = self.0.seq.get();
            let page = self.0.store.read(after, limits::READ_ENTRIES_MAX).await?;
            for (seq, entry) in page {
                // Fails before anything says that this entry is known.
                if let Ok(entry) = &entry {
                    self.fetch_for_facts(&entry.facts).await?;
                }
                self.0.seq.set(seq);
                let facts = entry.as_ref().map_or(0, Entry::weight);
                self.logged(std::iter::once(facts));
                match entry {
                    Ok(entry) => {
                        // What is given up may have kept something from going.
                        let frees = |fact: &Fact<V>| matches!(fact, Fact::Cancelled { .. });
                        let mut facts = entry.facts.iter();
                        *queued |= facts.any(|fact| fact.is_queued() || frees(fact));
                        self.take_in(&entry, collections);
                    }
                    Err(error) => self.set_aside(Place::Log(seq), &error).await,
                }
            }
            // A page that is not full goes to the end, as it was when this was asked.
            more = self.0.seq.get() >= after + u64::from(limits::READ_ENTRIES_MAX);
        }
        Ok(())
    }

    /// Keeps a copy of what cannot be read, tells the app, and pulls everything once more: what the
    /// backend has is not lost with it.
    pub(super) async fn set_aside(&self, place: Place, error: &Error) {
        self.note(error);
        if let Err(error) = self.0.store.quarantine(place, &error.message).await {
            self.note(&error);
        }
        if !self.0.loaded.get() {
            self.submit(Intent::ForgetCheckpoint, Box::new(|_| {}));
        }
    }

    pub(super) fn take_in(&self, entry: &Entry<V>, collections: &mut Vec<Name>) {
        self.follow(entry.facts.iter());
        let mut replica = self.0.replica.borrow_mut();
        // Whoever wrote it sees to its rescue.
        let touched = replica.take_touched();
        for fact in &entry.facts {
            replica.note_touched(fact, collections);
            replica.apply(fact, entry.at_ms, entry.hlc);
        }
        replica.take_touched();
        replica.touch(touched);
        // Far behind ours, it is of a tab that has come back from the future.
        if entry.hlc > replica.hlc() || replica.hlc().is_ahead(entry.hlc.ms) {
            replica.set_hlc(entry.hlc);
        }
    }

    pub(super) fn committed(&self, collections: &[Name], notices: &[Notice<V>], own: bool) {
        if own {
            self.0
                .store_error
                .borrow_mut()
                .take_if(|(e, _)| e.code != Code::DatabaseDamaged);
        }
        self.0.listener.committed(collections, notices, own);
        self.0.listener.status_changed();
    }

    /// The store is gone for good: shows why, and stops as if closed. What is in memory can still
    /// be read.
    pub fn lose(&self, error: &Error) {
        self.note(error);
        self.end_waits(&error.message);
        self.run(Event::Close);
    }

    /// Nobody will hear the backend's word here any more.
    pub(super) fn end_waits(&self, why: &str) {
        let over = self.0.watchers.borrow_mut().closed(why);
        over.into_iter().for_each(|(done, result)| done(result));
    }

    /// Shows an error of the store in the status. It is news once, however often it comes.
    pub(super) fn note(&self, error: &Error) {
        let now = Some((error.clone(), self.now_ms()));
        let before = self.0.store_error.replace(now);
        if before.is_none_or(|(known, _)| known != *error) {
            self.0.listener.failed(error);
        }
        self.0.listener.status_changed();
    }
}

/// Whether the app asks for it, and not the backend.
fn is_local<V>(intent: &Intent<V>) -> bool {
    matches!(
        intent,
        Intent::Write(..)
            | Intent::Transaction(_)
            | Intent::Import(_)
            | Intent::Retry(_)
            | Intent::Discard(_)
            | Intent::Edit(_)
            | Intent::Resolve(..)
            | Intent::Decided(_)
    )
}

/// Of several writes that became one mutation within one commit, only the last needs to be stored.
#[inline(never)]
fn drop_superseded<V>(facts: &mut Vec<Fact<V>>) {
    // What the backend says in between changes what a mutation is on top of, or its key: the first one counts.
    let is_local = |fact: &Fact<V>| {
        matches!(
            fact,
            Fact::Queued { .. }
                | Fact::Cancelled { .. }
                | Fact::Sent { .. }
                | Fact::Local { .. }
                | Fact::Schema { .. }
        )
    };
    if !facts.iter().all(is_local) {
        return;
    }
    let queued = |fact: &Fact<V>| match fact {
        Fact::Queued { no, .. } => Some(*no),
        _ => None,
    };
    // Mostly each has a new number.
    if facts.iter().filter_map(queued).is_sorted_by(|a, b| a < b) {
        return;
    }
    let mut last = Numbers::default();
    for (i, fact) in facts.iter().enumerate() {
        if let Some(no) = queued(fact) {
            last.insert(no, i);
        }
    }
    // Only where nothing else was said of them in between.
    for fact in facts.iter() {
        match fact {
            Fact::Queued {
                replaces: Some(no), ..
            }
            | Fact::Cancelled { no, .. } => {
                last.remove(no);
            }
            Fact::Sent { nos } => nos.iter().for_each(|no| {
                last.remove(no);
            }),
            _ => {}
        }
    }
    let mut i = 0;
    facts.retain(|fact| {
        let at = i;
        i += 1;
        match fact {
            Fact::Queued {
                no, replaces: None, ..
            } => last.get(no).is_none_or(|last| *last == at),
            _ => true,
        }
    });
}

/// The entries of one commit, none of them too large.
pub(super) fn entries<V>(
    facts: Vec<Fact<V>>,
    at_ms: f64,
    hlc: Hlc,
    summary: &Summary,
) -> Vec<Entry<V>> {
    let entry = |facts| Entry {
        at_ms,
        hlc,
        facts,
        summary: summary.clone(),
    };
    // Mostly there is one.
    if (1..=limits::ENTRY_FACTS_MAX).contains(&facts.len()) {
        return vec![entry(facts)];
    }
    let mut facts = facts.into_iter().peekable();
    let mut entries = Vec::new();
    while facts.peek().is_some() {
        entries.push(entry(
            facts.by_ref().take(limits::ENTRY_FACTS_MAX).collect(),
        ));
    }
    entries
}

fn refuse(dones: Vec<Done>, error: &Error) {
    for done in dones {
        done(Err(error.clone()));
    }
}
