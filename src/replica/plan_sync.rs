//! Decides which facts follow from what the backend says: verdicts on pushed changes, and pages.

use super::Replica;
use super::collection::Record;
use super::plan::{Notice, Now, Plan, check_key, checked_key};
use super::plan_conflict::Settled;
use super::plan_outbox::Content;
use super::plan_write::coalesce;
use crate::backoff;
use crate::conflict::{Outcome, Sides, same, settle};
use crate::error::{Code, Error, Result};
use crate::hlc::Hlc;
use crate::model::{
    Action, Mutation, MutationNo, MutationState, Page, Pulled, Refusal, Verdict, Version,
};
use crate::options::Strategy;
use crate::planted::{self, Bug};
use crate::shown::Shown;
use crate::store::{Fact, Gone};
use crate::value::Value;
use std::rc::Rc;

/// What a backend says of a change that it would take, had it not refused another one of its group.
const ABORTED: &str = "aborted";

impl<V: Value> Replica<V> {
    pub(super) fn plan_verdict(
        &mut self,
        no: MutationNo,
        verdict: Verdict<V>,
        now: Now,
        plan: &mut Plan<V>,
    ) {
        // Confirmed by a pull meanwhile, or discarded: the verdict changes nothing here.
        let Some(m) = self.outbox.get(no).cloned() else {
            return;
        };
        match verdict {
            Verdict::Success { version, data } => {
                let (tail, stored) = (self.tail_of(&m), data.clone());
                let fact = match data {
                    None if self.is_unsure(&m) => {
                        self.answer_to_imported(&m, version, tail.is_some())
                    }
                    value => Fact::Acked { no, version, value },
                };
                self.put_true(fact, now, plan);
                self.drop_if_stored(tail, stored.as_ref(), now, plan);
                let id = m.wire_id(&self.client).into();
                plan.notices
                    .push(Notice::Confirmed(no, id, m.collection, m.key, m.action));
            }
            Verdict::Conflict { version, data, at } => {
                self.plan_conflict(&m, version, data.as_ref(), at.as_ref(), now, plan);
            }
            // A late answer from before its conflict: that one waits for the app.
            Verdict::Failed { .. } if m.state == MutationState::Conflict => {}
            Verdict::Failed { refusal, retryable } => {
                self.plan_refusal(&m, refusal, retryable, now, plan);
            }
            // Of two keys in one answer neither can be believed.
            Verdict::Rekeyed { then, .. } => self.plan_verdict(no, *then, now, plan),
        }
    }

    pub(super) fn tail_of(&self, m: &Mutation<V>) -> Option<Mutation<V>> {
        let record = self.collection(&m.collection)?.record(&m.key)?;
        self.outbox.get(record.pending.as_ref()?.tail?).cloned()
    }

    pub(super) fn plan_refusal(
        &mut self,
        m: &Mutation<V>,
        refusal: Refusal,
        retryable: bool,
        now: Now,
        plan: &mut Plan<V>,
    ) {
        // Another one of its group is to blame.
        let blamed = m.group.is_none() || !retryable || *refusal.code != *ABORTED;
        let attempts = m.attempts + u32::from(blamed);
        let again = retryable && attempts < self.max_attempts;
        let pause_ms = backoff::pause_ms(attempts.max(1), now.random);
        let next_attempt_ms = again.then_some(now.at_ms + pause_ms);
        let fact = Fact::Refused {
            no: m.no,
            refusal,
            attempts,
            next_attempt_ms,
        };
        self.put_true(fact, now, plan);
        if again {
            return;
        }
        // What was written meanwhile may be the cure: both go as one, under a new id.
        if let Some(tail) = self.tail_of(m) {
            let (no, why) = (tail.no, Gone::Joined(m.no));
            self.put_true(Fact::Cancelled { no, why }, now, plan);
            // What was sent and then deleted may be there, whatever was heard.
            let both = coalesce(m, tail.action, tail.changed.clone());
            let (action, changed) = both.unwrap_or((Action::Delete, None));
            let joined = self.joined(m, &tail, now, plan);
            let content = Content {
                action,
                shows: shown_of_both(m, &tail),
                value: tail.value,
                changed,
            };
            let no = self.requeue(&joined, content, now, plan);
            self.keep_date(no, tail.at, now, plan);
        } else {
            plan.notices.push(Notice::Parked(m.no));
        }
    }

    fn plan_conflict(
        &mut self,
        m: &Mutation<V>,
        version: Version,
        remote: Option<&V>,
        remote_at: Option<&Rc<str>>,
        now: Now,
        plan: &mut Plan<V>,
    ) {
        let (collection, key) = (m.collection.clone(), m.key.clone());
        let strategy = self
            .collection(&collection)
            .map(|c| c.spec.strategy)
            .unwrap_or_default();
        let known = self
            .collection(&collection)
            .and_then(|c| c.record(&key))
            .map(|r| r.version);
        if known > Some(version) && known > Some(m.base_version) {
            // A page has brought a newer state since it was made: ask again on the same base, under a
            // new id, and hear about that one. Not at once: a backend whose answers lag behind its pages would
            // be asked without end.
            let no = self.requeue(m, Content::of(m), now, plan);
            self.keep_date(no, m.at, now, plan);
            let refusal = Refusal {
                code: Code::Conflict.as_str().into(),
                message: "the backend's answer was older than what a pull has brought".into(),
            };
            let fact = Fact::Refused {
                no,
                refusal,
                attempts: 0,
                next_attempt_ms: Some(now.at_ms + backoff::pause_ms(1, now.random)),
            };
            self.put_true(fact, now, plan);
            return;
        }
        let newest = self.tail_of(m);
        let local = newest
            .as_ref()
            .map_or_else(|| m.value.clone(), |t| t.value.clone());
        let local_at = self.local_at(newest.as_ref().unwrap_or(m), now);
        let made = self.dated(newest.as_ref().unwrap_or(m).at, now);
        self.hear(remote_at, now);
        let fact = Fact::Remote {
            collection,
            key,
            value: remote.cloned(),
            version,
        };
        self.put_true(fact, now, plan);

        // Our own earlier change, whose answer was lost: no conflict, only a newer base.
        let follows = self.was_imported(m, remote_at);
        let again = self.tries.get(&m.no).filter(|first| first.at == m.at);
        let author = again.unwrap_or(m).author(&self.client);
        let own = remote_at
            .and_then(|at| Hlc::parse(at))
            .is_some_and(|(_, c)| *c == *author)
            || follows
            || self.was_tried(m.no, remote_at);
        // What a copy has brought back may be older than what was sent after the copy was made. What was
        // written on it goes on top of that.
        let head_at = m.at_text(&self.client);
        let as_it_came = m.origin.is_some() || again.is_some();
        let is_past = own && !follows && as_it_came && remote_at.is_some_and(|at| **at > *head_at);
        if is_past && newest.is_some() {
            self.end_import(&m.collection, &m.key);
            let (no, why) = (m.no, Gone::Lost);
            self.put_true(Fact::Cancelled { no, why }, now, plan);
            return;
        }
        let both = newest.as_ref().map(|tail| {
            let (no, why) = (tail.no, Gone::Joined(m.no));
            self.put_true(Fact::Cancelled { no, why }, now, plan);
            self.joined(m, tail, now, plan)
        });
        let m = both.as_ref().unwrap_or(m);

        self.end_import(&m.collection, &m.key);
        let shows = newest.as_ref().map(|tail| shown_of_both(m, tail));
        if same(local.as_ref(), remote) {
            if m.origin.is_some() && newest.is_some() {
                // The answer may be a repeat, and old: what was written here is asked for by itself.
                let action = local.as_ref().map_or(Action::Delete, |_| Action::Update);
                let content = Content {
                    action,
                    value: local,
                    changed: None,
                    shows: shows.unwrap_or_else(|| m.shows.clone()),
                };
                let no = self.requeue(m, content, now, plan);
                self.put_true(Fact::Rebased { no }, now, plan);
                self.keep_date(no, made, now, plan);
                return;
            }
            let (no, why) = (m.no, Gone::Same);
            self.put_true(Fact::Cancelled { no, why }, now, plan);
            plan.notices.push(Notice::Confirmed(
                m.no,
                m.wire_id(&self.client).into(),
                m.collection.clone(),
                m.key.clone(),
                m.action,
            ));
            return;
        }
        let sides = Sides {
            base: m.base.as_ref(),
            local: local.as_ref(),
            remote,
            local_at: &local_at,
            remote_at: remote_at.map(|at| match self.is_misdated(at, now) {
                true => "",
                false => at.as_ref(),
            }),
        };
        let settled = if is_past {
            Some((Outcome::Remote, remote.cloned()))
        } else if own {
            Some((Outcome::Local, local.clone()))
        } else {
            settle(strategy, &sides)
        };
        let Some((outcome, result)) = settled else {
            return self.plan_waits(m, local, shows, now, plan);
        };
        let goes_on = self.carry_out(m, outcome, result.clone(), shows, now, plan);
        if let Some(no) = goes_on
            && outcome == Outcome::Local
            && (own || strategy == Strategy::LastWriteWins)
        {
            self.keep_date(no, made, now, plan);
        }
        if !own {
            let settled = Settled {
                strategy,
                outcome,
                result,
            };
            self.log_conflict(m, local, settled, now, plan);
        }
    }

    /// What is written after reading a remote change must be later than it.
    fn hear(&mut self, at: Option<&Rc<str>>, now: Now) {
        if let Some((remote, _)) = at.and_then(|at| Hlc::parse(at)) {
            // Not by the device's own clock, which may be wrong by hours.
            self.hlc = self.hlc.witness(remote, now.hlc.ms);
        }
    }

    #[inline(never)]
    pub(super) fn plan_page(
        &mut self,
        since: Option<&Rc<str>>,
        page: Page<V>,
        now: Now,
        plan: &mut Plan<V>,
    ) -> Result<()> {
        if !self.goes_on(since) {
            // Another tab has pulled meanwhile: this page would set the checkpoint back.
            return Err(Error::new(
                Code::Aborted,
                "the page was fetched from an old checkpoint",
            ));
        }
        plan.facts.reserve(page.changes.len() + 1);
        // What is of a time that has not come yet keeps nobody else from being heard.
        let end = now.hlc.end_of_drift();
        let dates = page.changes.iter().filter_map(|c| c.at.as_ref());
        let newest = dates.filter(|at| ***at < *end).max().cloned();
        self.hear(newest.as_ref(), now);
        for change in page.changes {
            self.plan_pulled(change, now, plan)?;
        }
        if self.end_page(&page.checkpoint, page.has_more, now, plan) {
            let fact = Fact::Checkpoint {
                checkpoint: Some(page.checkpoint),
                collections: self.declared(),
            };
            self.put_true(fact, now, plan);
        }
        if plan.count > 0 {
            plan.notices.push(Notice::Pulled(plan.count));
        }
        Ok(())
    }

    fn plan_pulled(&mut self, change: Pulled<V>, now: Now, plan: &mut Plan<V>) -> Result<()> {
        let Some(collection) = self.collection(&change.collection) else {
            return Ok(()); // not declared here: pulled from the beginning once it is
        };
        let name = &collection.spec.name;
        let odd = |what: String| Error::new(Code::ProtocolError, what);
        check_key(&change.key).map_err(|e| odd(format!("pulled {name}: {e}")))?;
        if let Some(value) = &change.data {
            let key = checked_key(&collection.spec.key, value)
                .map_err(|e| odd(format!("pulled {name}: {e}")))?;
            if key != change.key {
                return Err(odd(format!("pulled {name}: id and key field differ")));
            }
        }
        let record = collection.record(&change.key);
        // Of the same version with content in place of none: it was forgotten, and is back. Or nobody has
        // told yet what it is.
        let back = |r: &Record<V>| {
            let back = r.remote().is_none() && change.data.is_some();
            r.version == change.version && (back || self.is_untold(&change))
        };
        let seen = record.is_some_and(|r| r.version >= change.version && !back(r));
        let mut queued = record.is_some_and(|r| r.pending.is_some());
        let known = record.is_some();
        self.note_pulled(&change);
        if seen {
            return Ok(()); // our own change, or an older state
        }
        if !queued {
            self.end_import(&change.collection, &change.key);
        }
        let mut confirms = true;
        if !known && let Some((no, whole)) = self.create_behind(&change) {
            self.plan_rekey(no, &change.key, now, plan);
            self.plan_references(std::slice::from_ref(&change.collection), now, plan);
            (queued, confirms) = (true, whole);
        }
        let collection = self.collection(&change.collection).filter(|_| queued);
        let head = collection
            .and_then(|c| c.record(&change.key))
            .and_then(|r| r.pending.as_ref())
            .and_then(|p| self.outbox.get(p.head));
        if let Some(head) = head.filter(|_| confirms)
            && head.may_have_arrived()
            && let Some(at) = &change.at
            && **at == *head.at_text(&self.client)
        {
            // The answer to our push was lost; the pull confirms it.
            let (no, action) = (head.no, head.action);
            let id = head.wire_id(&self.client).into();
            let (tail, stored) = (self.tail_of(head), change.data.clone());
            let fact = Fact::Acked {
                no,
                version: change.version,
                value: change.data,
            };
            self.put_true(fact, now, plan);
            self.drop_if_stored(tail, stored.as_ref(), now, plan);
            let (collection, key) = (change.collection, change.key);
            plan.notices
                .push(Notice::Confirmed(no, id, collection, key, action));
            return Ok(());
        }
        if planted::is(Bug::PullOverPending)
            && let Some(no) = head.map(|m| m.no)
        {
            self.put_true(
                Fact::Cancelled {
                    no,
                    why: Gone::Lost,
                },
                now,
                plan,
            );
        }
        plan.count += 1;
        let Pulled {
            collection,
            key,
            version,
            data,
            ..
        } = change;
        self.put_true(
            Fact::Remote {
                collection: collection.clone(),
                key: key.clone(),
                value: data,
                version,
            },
            now,
            plan,
        );
        self.tell_waiting(&collection, &key, plan);
        Ok(())
    }
}

/// What shows of a mutation and the one behind it, when one takes the place of both.
fn shown_of_both<V: Value>(first: &Mutation<V>, tail: &Mutation<V>) -> Shown<V> {
    let (own, changed) = (first.value.as_ref(), first.changed.as_ref());
    first.shows.followed_by(own, changed, &tail.shows)
}
