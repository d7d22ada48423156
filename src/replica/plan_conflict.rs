//! Conflicts that wait for the app, and what comes of every conflict.
//!
//! A conflict that a rule cannot settle leaves its mutation in the queue, in the state `conflict`
//! ([`Fact::Waits`]). Nothing of it has to be kept apart: the base is the mutation's, the device's side
//! its content, and the server's side what the backend has of the record. So both sides stay what they
//! are *now*: a later write goes into the mutation, a page into the other side, and a reopened database
//! has them all.
//!
//! Who settles it, a person or the app's function, hands in an intent. A person's choice of a side means
//! that side as it is when the choice arrives. A function has seen both sides as they were when it was
//! asked: if either has changed since, its answer ([`Decided`]) means nothing any more, and the driver asks
//! again.
//!
//! | outcome | what is queued then |
//! |---|---|
//! | remote | nothing: the record is the server's |
//! | local, merged | the chosen record under a new id, on top of the server's version |
//! | parked | the mutation, refused with the reason, until it is retried, resolved, edited or given up |
//!
//! Settling a conflict of the log once more is an ordinary write on top of what is there now.

use super::Replica;
use super::plan::{Notice, Now, Plan, WriteOptions, checked_key};
use super::plan_outbox::Content;
use super::plan_write::Write;
use crate::conflict::{Answer, Choice, Conflict, Outcome, Question, Seen, same};
use crate::error::{Code, Error, Result};
use crate::model::{Action, Mutation, MutationNo, MutationState, Name, Refusal};
use crate::options::Strategy;
use crate::planted::{self, Bug};
use crate::shown::{Names, Shown};
use crate::store::{Fact, Gone};
use crate::value::Value;
use std::rc::Rc;

/// New values for some fields of what is queued.
#[derive(Debug, Clone)]
pub struct Edit<V> {
    /// The mutation.
    pub no: MutationNo,
    /// The new values.
    pub patch: V,
    /// The fields concerned.
    pub changed: Names,
    /// The content that the patch was checked on, if it was.
    pub on: Option<V>,
}

/// What the app's function has answered.
#[derive(Debug, Clone)]
pub struct Decided<V> {
    /// The mutation that waits.
    pub no: MutationNo,
    /// What the function was asked about.
    pub seen: Seen,
    /// The answer, or why there is none.
    pub answer: Result<Answer<V>>,
}

/// How a conflict was settled.
pub(super) struct Settled<V> {
    pub(super) strategy: Strategy,
    pub(super) outcome: Outcome,
    pub(super) result: Option<V>,
}

impl<V: Value> Replica<V> {
    fn remote_of(&self, m: &Mutation<V>) -> Option<&V> {
        self.collection(&m.collection)?.record(&m.key)?.remote()
    }

    fn strategy_of(&self, collection: &str) -> Strategy {
        let collection = self.collection(collection);
        collection.map_or_else(Strategy::default, |c| c.spec.strategy)
    }

    /// A mutation's conflict that is not settled.
    #[must_use]
    pub fn open_conflict(&self, m: &Mutation<V>) -> Option<Conflict<V>> {
        let outcome = open(m)?;
        Some(Conflict {
            id: m.wire_id(&self.client).into(),
            collection: m.collection.clone(),
            key: m.key.clone(),
            at_ms: m.last_attempt_ms.unwrap_or(m.created_ms),
            strategy: self.strategy_of(&m.collection),
            outcome,
            base: m.base.clone(),
            local: m.value.clone(),
            remote: self.remote_of(m).cloned(),
            result: None,
        })
    }

    /// What to ask the app's function about a mutation; none where it does not wait for it.
    #[must_use]
    pub fn question(&self, no: MutationNo) -> Option<(Question<V>, Seen)> {
        let m = self.outbox.get(no)?;
        if m.state != MutationState::Conflict {
            return None;
        }
        let version = self.collection(&m.collection)?.record(&m.key)?.version;
        let question = Question {
            collection: m.collection.clone(),
            key: m.key.clone(),
            base: m.base.clone(),
            local: m.value.clone(),
            remote: self.remote_of(m).cloned(),
        };
        let there = question.remote.is_some();
        let seen = Seen {
            at: m.at,
            version,
            there,
        };
        Some((question, seen))
    }

    /// A conflict was met that the app has to settle. `shows` is set where what was queued behind the
    /// mutation has become part of it.
    pub(super) fn plan_waits(
        &mut self,
        m: &Mutation<V>,
        local: Option<V>,
        shows: Option<Shown<V>>,
        now: Now,
        plan: &mut Plan<V>,
    ) {
        let no = match shows {
            Some(shows) => {
                let action = match (&local, m.action) {
                    (None, _) => Action::Delete,
                    (Some(_), Action::Create) => Action::Create,
                    (Some(_), _) => Action::Update,
                };
                let content = Content {
                    action,
                    value: local,
                    changed: None,
                    shows,
                };
                self.requeue(m, content, now, plan)
            }
            None => m.no,
        };
        self.put_true(Fact::Waits { no }, now, plan);
        self.tell_waiting(&m.collection, &m.key, plan);
    }

    /// Tells the app of a record's conflict that waits, because it is new or because a side of it is.
    pub(super) fn tell_waiting(&self, collection: &Name, key: &str, plan: &mut Plan<V>) {
        let record = self.collection(collection).and_then(|c| c.record(key));
        let head = record.and_then(|r| r.pending.as_ref()).map(|p| p.head);
        let m = head.and_then(|no| self.outbox.get(no));
        if let Some(m) = m.filter(|m| m.state == MutationState::Conflict)
            && let Some(conflict) = self.open_conflict(m)
        {
            plan.notices.push(Notice::Conflict(Rc::new(conflict)));
        }
    }

    /// Queues what a conflict has come to, and answers its number, or drops what has lost.
    pub(super) fn carry_out(
        &mut self,
        m: &Mutation<V>,
        outcome: Outcome,
        result: Option<V>,
        shows: Option<Shown<V>>,
        now: Now,
        plan: &mut Plan<V>,
    ) -> Option<MutationNo> {
        let remote = self.remote_of(m);
        let why = match outcome {
            Outcome::Remote => Some(Gone::Lost),
            Outcome::Local if planted::is(Bug::ResolvedTheOtherWay) => Some(Gone::Lost),
            _ => same(result.as_ref(), remote).then_some(Gone::Same),
        };
        if let Some(why) = why {
            self.put_true(Fact::Cancelled { no: m.no, why }, now, plan);
            return None;
        }
        let action = match (&result, remote) {
            (None, _) => Action::Delete,
            (Some(_), None) => Action::Create,
            (Some(_), Some(_)) => Action::Update,
        };
        // The backend's record may refer to what has another key since.
        let spec = self.collection(&m.collection).map(|c| &c.spec);
        let result = match (result, spec) {
            (Some(value), Some(spec)) => Some(self.with_present_references(spec, value)),
            (result, _) => result,
        };
        let content = Content {
            action,
            value: result,
            changed: None,
            shows: shows.unwrap_or_else(|| m.shows.clone()),
        };
        let no = self.requeue(m, content, now, plan);
        self.put_true(Fact::Rebased { no }, now, plan);
        Some(no)
    }

    /// Writes down how a conflict was settled, after it was carried out.
    pub(super) fn log_conflict(
        &mut self,
        m: &Mutation<V>,
        local: Option<V>,
        settled: Settled<V>,
        now: Now,
        plan: &mut Plan<V>,
    ) {
        let conflict = Rc::new(Conflict {
            id: m.wire_id(&self.client).into(),
            collection: m.collection.clone(),
            key: m.key.clone(),
            at_ms: now.at_ms,
            strategy: settled.strategy,
            outcome: settled.outcome,
            base: m.base.clone(),
            local,
            remote: self.remote_of(m).cloned(),
            result: settled.result,
        });
        self.put_true(Fact::Conflicted(conflict.clone()), now, plan);
        plan.notices.push(Notice::Conflict(conflict));
    }

    /// Settles a conflict that waits.
    fn settle_open(
        &mut self,
        m: &Mutation<V>,
        choice: Choice<V>,
        strategy: Strategy,
        now: Now,
        plan: &mut Plan<V>,
    ) {
        let (local, remote) = (m.value.as_ref(), self.remote_of(m));
        let (outcome, result) = choice.outcome(local, remote);
        // What somebody has chosen shows; what nobody has seen yet goes on hiding.
        let hides = outcome == Outcome::Local || matches!(m.shows, Shown::Before);
        let shows = (!hides).then_some(Shown::Own);
        self.carry_out(m, outcome, result.clone(), shows, now, plan);
        let settled = Settled {
            strategy,
            outcome,
            result,
        };
        self.log_conflict(m, m.value.clone(), settled, now, plan);
        plan.count += 1;
    }

    /// A conflict that waits is settled for the server, because its mutation was given up.
    pub(super) fn log_given_up(&mut self, m: &Mutation<V>, now: Now, plan: &mut Plan<V>) {
        if open(m).is_some() {
            let settled = Settled {
                strategy: Strategy::Manual,
                outcome: Outcome::Remote,
                result: self.remote_of(m).cloned(),
            };
            self.log_conflict(m, m.value.clone(), settled, now, plan);
        }
    }

    /// A choice that fits a record, referring to present keys: whoever has made it may know old ones.
    fn checked_choice(&self, collection: &Name, key: &str, choice: Choice<V>) -> Result<Choice<V>> {
        let spec = &self.declared_collection(collection)?.spec;
        let Choice::Record(Some(record)) = choice else {
            return Ok(choice);
        };
        if *checked_key(&spec.key, &record)? != *key {
            let message = format!(
                "{collection}: the record is of another key than \"{key}\", whose conflict this is"
            );
            return Err(Error::new(Code::InvalidKey, message));
        }
        let there = self.collection(collection).and_then(|c| c.record(key));
        // What the backend has sent is the truth as it is.
        let is_remote = same(Some(&record), there.and_then(|r| r.remote()));
        let record = match is_remote {
            true => record,
            false => self.with_present_references(spec, record),
        };
        Ok(Choice::Record(Some(record)))
    }

    #[inline(never)]
    pub(super) fn plan_resolve(
        &mut self,
        id: &str,
        choice: Choice<V>,
        now: Now,
        plan: &mut Plan<V>,
    ) -> Result<()> {
        let found = self.find_mutation(id).and_then(|no| self.outbox.get(no));
        if let Some(m) = found.filter(|m| open(m).is_some()).cloned() {
            let choice = self.checked_choice(&m.collection, &m.key, choice)?;
            self.settle_open(&m, choice, Strategy::Manual, now, plan);
            return Ok(());
        }
        let Some(known) = self.conflicts.iter().find(|c| *c.id == *id).cloned() else {
            return Err(Error::new(Code::NotFound, "there is no such conflict"));
        };
        let choice = self.checked_choice(&known.collection, &known.key, choice)?;
        let (outcome, result) = choice.outcome(known.local.as_ref(), known.remote.as_ref());
        if !same(self.newest(&known.collection, &known.key), result.as_ref()) {
            let write = match &result {
                Some(record) => Write::Put(record.clone()),
                None => Write::Delete(known.key.clone()),
            };
            let options = WriteOptions {
                local_only: Some(false),
                optimistic: Some(true),
            };
            self.plan_write(&known.collection, write, options, now, plan)?;
        }
        let conflict = Rc::new(Conflict {
            at_ms: now.at_ms,
            strategy: Strategy::Manual,
            outcome,
            result,
            ..(*known).clone()
        });
        self.put_true(Fact::Conflicted(conflict.clone()), now, plan);
        plan.notices.push(Notice::Conflict(conflict));
        plan.count = 1;
        Ok(())
    }

    #[inline(never)]
    pub(super) fn plan_decided(&mut self, decided: Decided<V>, now: Now, plan: &mut Plan<V>) {
        let asked = self.question(decided.no).map(|(_, seen)| seen);
        let Some(m) = self.outbox.get(decided.no).cloned() else {
            return;
        };
        if asked != Some(decided.seen) {
            return; // it was asked about something that is no longer so
        }
        let answer = decided.answer.and_then(|answer| match answer {
            Answer::Record(record) => {
                let choice = Choice::Record(record);
                let checked = self.checked_choice(&m.collection, &m.key, choice);
                let odd = |e: Error| Error::new(Code::ConflictHandler, e.message);
                checked.map(Some).map_err(odd)
            }
            Answer::Park => Ok(None),
        });
        let error = match answer {
            Ok(Some(choice)) => {
                return self.settle_open(&m, choice, Strategy::Function, now, plan);
            }
            Ok(None) => {
                let message = "the conflict handler has parked this change";
                Error::new(Code::ConflictParked, message)
            }
            Err(error) => error,
        };
        let refusal = Refusal {
            code: error.code.as_str().into(),
            message: error.message.into(),
        };
        let fact = Fact::Refused {
            no: m.no,
            refusal,
            attempts: m.attempts,
            next_attempt_ms: None,
        };
        self.put_true(fact, now, plan);
        plan.notices.push(Notice::Parked(m.no));
        plan.count = 1;
    }

    #[inline(never)]
    pub(super) fn plan_edit(&mut self, edit: Edit<V>, now: Now, plan: &mut Plan<V>) -> Result<()> {
        let missing = |what| Error::new(Code::NotFound, what);
        let m = self.outbox.get(edit.no);
        let m = m.ok_or_else(|| missing("there is no such mutation"))?;
        if m.value.is_none() {
            return Err(missing("a deletion has no content to change"));
        }
        let (collection, key) = (m.collection.clone(), m.key.clone());
        let newest = self.newest(&collection, &key);
        if edit.on.is_some() && !same(newest, edit.on.as_ref()) {
            let message = format!("{collection}: the record \"{key}\" was changed meanwhile");
            return Err(Error::new(Code::WriteContention, message));
        }
        let options = WriteOptions {
            local_only: None,
            optimistic: Some(m.shows.is_own()),
        };
        let write = Write::Update {
            key,
            patch: edit.patch,
            changed: edit.changed,
        };
        self.plan_write(&collection, write, options, now, plan)?;
        plan.count = 1;
        // Whoever waits for the confirmation of what is edited goes on waiting; this call does not.
        plan.hidden.clear();
        Ok(())
    }
}

/// Whether a mutation has met a conflict that is not settled, and what it waits for.
fn open<V>(m: &Mutation<V>) -> Option<Outcome> {
    let given_up = [Code::ConflictHandler, Code::ConflictParked];
    match m.state {
        MutationState::Conflict => Some(Outcome::Waiting),
        MutationState::Failed => {
            let code = &m.error.as_ref()?.code;
            let by_handler = given_up.iter().any(|known| *known.as_str() == **code);
            by_handler.then_some(Outcome::Parked)
        }
        MutationState::Pending => None,
    }
}
