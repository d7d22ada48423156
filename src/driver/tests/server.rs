//! A model of the server that docs/PROTOCOL.md describes, with faults, and the way to it.

use super::rig::{Chance, Record, pass, true_ms};
use crate::driver::{Backend, Call, PushAnswer};
use crate::engine::Failure;
use crate::error::{Code, Error};
use crate::model::{Action, Change, Page, Pulled, Refusal, Verdict, Version};
use serde_json::{Value as Json, json};
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::rc::Rc;
use tokio::time::Instant;

/// What happens to one request.
#[derive(Debug, Clone)]
pub(super) enum Fault {
    /// It never arrives.
    Lost,
    /// It arrives, but the answer does not come back.
    AnswerLost,
    /// This status comes instead; nothing is applied.
    Status(u16, Option<f64>),
    /// Nothing ever comes back.
    Hangs,
    /// It is applied, but one result is missing.
    ShortAnswer,
    /// It is applied, but the results belong to other changes.
    ForeignAnswer,
}

#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) version: u64,
    seq: u64,
    pub(super) data: Option<Record>,
    pub(super) at: String,
}

/// What a server that gives keys of its own makes of references to the keys of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Assigns {
    /// It stores them as they come.
    Blindly,
    /// It puts its own keys in their place, and answers with what it has stored.
    Resolving,
    /// It refuses what refers to a record that it does not have.
    Checking,
}

/// A model of docs/PROTOCOL.md.
#[derive(Default)]
pub(super) struct Server {
    pub(super) rows: BTreeMap<(String, String), Row>,
    seq: u64,
    /// Checkpoints of another one are unknown.
    pub(super) generation: u64,
    answered: HashMap<String, Verdict<Record>>,
    /// Ids in the order in which they took effect, and how often.
    pub(super) effects: Vec<String>,
    pub(super) requests: usize,
    pub(super) pulls: usize,
    /// Faults of the requests to come.
    pub(super) faults: VecDeque<Fault>,
    /// Refuses these keys: for good, or as retryable.
    pub(super) poison: HashMap<String, bool>,
    /// Whole requests with more changes than this are answered 413.
    pub(super) batch_max: Option<usize>,
    /// Refuse credentials that are not fresh.
    pub(super) stale_token: bool,
    /// Answers say what the time is; this is when it began.
    pub(super) clock: Option<Instant>,
    /// Answers say it in a unit of so many to a millisecond.
    pub(super) unit: Option<f64>,
    pub(super) down: bool,
    /// Of 100 requests so many fail with 500; of the others, of 100 answers so many are lost.
    pub(super) unsteady: Option<(u64, u64)>,
    /// Changes in each push that came, and the largest number of pushes under way at once.
    pub(super) batches: Vec<usize>,
    pub(super) under_way: usize,
    pub(super) most_under_way: usize,
    /// Bytes of the records in the heaviest push.
    pub(super) heaviest: usize,
    /// Refuses every push that has this key, with this status.
    pub(super) culprit: Option<(String, u16)>,
    /// Pushes that have something of this collection are answered 500.
    pub(super) broken: Option<String>,
    /// Every pull fails.
    pub(super) no_pulls: bool,
    /// Pushes that have one of these collections never come back.
    pub(super) stuck: Vec<String>,
    /// The server adds a field of its own to what it stores, and answers with it.
    pub(super) stamps: bool,
    /// The server gives created records keys of its own.
    pub(super) assigns: Option<Assigns>,
    /// The key that it has given to each key of a device.
    pub(super) assigned: HashMap<String, String>,
    /// What it was sent, in the order in which it came: id, key, collection, data.
    pub(super) received: Vec<(String, String, String, Option<Record>)>,
    /// Of neighbours with one group all take effect, or none.
    pub(super) all_or_none: bool,
    /// The newest batch's ids.
    pub(super) last_batch: Vec<String>,
    /// The groups in each batch that had any.
    pub(super) groups_of_batches: Vec<Vec<String>>,
}

impl Server {
    pub(super) fn put(&mut self, collection: &str, data: Json, at: &str) {
        let key = data["id"].as_str().unwrap().to_owned();
        self.store(collection, &key, Some(Rc::new(data)), at);
    }

    pub(super) fn delete(&mut self, collection: &str, key: &str, at: &str) {
        self.store(collection, key, None, at);
    }

    fn store(&mut self, collection: &str, key: &str, data: Option<Record>, at: &str) -> u64 {
        self.seq += 1;
        let seq = self.seq;
        let row = self
            .rows
            .entry((collection.to_owned(), key.to_owned()))
            .or_insert(Row {
                version: 0,
                seq,
                data: None,
                at: String::new(),
            });
        *row = Row {
            version: row.version + 1,
            seq,
            data,
            at: at.to_owned(),
        };
        row.version
    }

    fn apply(&mut self, change: &Change<Record>) -> Verdict<Record> {
        if let Some(known) = self.answered.get(&change.id) {
            return known.clone();
        }
        let verdict = match self.assigns {
            Some(how) => self.decide_assigning(change, how),
            None => self.decide(change),
        };
        let said = match &verdict {
            Verdict::Rekeyed { then, .. } => then,
            said => said,
        };
        if let Verdict::Success { .. } = said {
            self.effects.push(change.id.clone());
        }
        if !matches!(
            said,
            Verdict::Failed {
                retryable: true,
                ..
            }
        ) {
            self.answered.insert(change.id.clone(), verdict.clone());
        }
        verdict
    }

    /// Neighbours of one group, where it takes all or none.
    fn apply_part(&mut self, part: &[Change<Record>]) -> Vec<(Rc<str>, Verdict<Record>)> {
        if !self.all_or_none {
            let answer = |c: &Change<Record>| (c.id.as_str().into(), self.apply(c));
            return part.iter().map(answer).collect();
        }
        let before = (self.rows.clone(), self.seq, self.effects.len());
        let known = self.answered.clone();
        let mut results: Vec<(Rc<str>, Verdict<Record>)> = part
            .iter()
            .map(|c| (c.id.as_str().into(), self.apply(c)))
            .collect();
        let taken = |v: &Verdict<Record>| matches!(v, Verdict::Success { .. });
        if results.iter().all(|(_, v)| taken(v)) {
            return results;
        }
        (self.rows, self.seq) = (before.0, before.1);
        self.effects.truncate(before.2);
        for (id, verdict) in results.iter_mut().filter(|(_, v)| taken(v)) {
            if !known.contains_key(&**id) {
                self.answered.remove(&**id);
                let refusal = Refusal {
                    code: "aborted".into(),
                    message: "another change of its transaction was refused".into(),
                };
                let retryable = true;
                *verdict = Verdict::Failed { refusal, retryable };
            }
        }
        results
    }

    fn decide_assigning(&mut self, change: &Change<Record>, how: Assigns) -> Verdict<Record> {
        use crate::value::Value;
        let mut change = change.clone();
        let parent = change.data.as_ref().and_then(|d| d.text("siteId"));
        if let Some(parent) = parent.filter(|p| !self.has("sites", p)) {
            match (how, self.assigned.get(&*parent)) {
                (Assigns::Resolving, Some(own)) => {
                    change.data = change.data.map(|d| d.with_text("siteId", own));
                }
                (Assigns::Checking, _) => {
                    let refusal = Refusal {
                        code: "no-parent".into(),
                        message: "there is no such site".into(),
                    };
                    let retryable = false;
                    return Verdict::Failed { refusal, retryable };
                }
                _ => {}
            }
        }
        // A key of its own, or no creation.
        if change.action != Action::Create || self.has(&change.collection, &change.key) {
            return self.decide(&change);
        }
        let offline = change.key.to_string();
        let key: Rc<str> = format!("srv-{}", self.seq + 1).into();
        change.key = key.clone();
        change.data = change.data.map(|d| d.with_text("id", &key));
        change.version = Version(0);
        let mut then = self.decide(&change);
        if let Verdict::Success { data, .. } = &mut then {
            self.assigned.insert(offline, key.to_string());
            *data = change.data.filter(|_| how == Assigns::Resolving);
        }
        let then = Box::new(then);
        Verdict::Rekeyed { key, then }
    }

    /// Answers a change so, whatever it says.
    pub(super) fn say(&mut self, id: &str, verdict: Verdict<Record>) {
        self.answered.insert(id.to_owned(), verdict);
    }

    pub(super) fn has(&self, collection: &str, key: &str) -> bool {
        let row = self.rows.get(&(collection.to_owned(), key.to_owned()));
        row.is_some_and(|r| r.data.is_some())
    }

    fn decide(&mut self, change: &Change<Record>) -> Verdict<Record> {
        if let Some(&retryable) = self.poison.get(change.key.as_ref()) {
            let refusal = Refusal {
                code: "invalid".into(),
                message: "no good".into(),
            };
            return Verdict::Failed { refusal, retryable };
        }
        let (collection, key) = (change.collection.to_string(), change.key.to_string());
        let row = self.rows.get(&(collection.clone(), key.clone())).cloned();
        let current = row.as_ref().map_or(0, |r| r.version);
        let there = row.as_ref().and_then(|r| r.data.clone());
        if change.action == Action::Delete && there.is_none() {
            return Verdict::Success {
                version: Version(current),
                data: None,
            };
        }
        if change.action == Action::Update && row.is_none() {
            let refusal = Refusal {
                code: "not-found".into(),
                message: "no such record".into(),
            };
            return Verdict::Failed {
                refusal,
                retryable: false,
            };
        }
        let other = row.is_some() && change.version.0 != current;
        if other || (change.action == Action::Create && there.is_some()) {
            let at = row.map(|r| Rc::from(r.at.as_str()));
            return Verdict::Conflict {
                version: Version(current),
                data: there,
                at,
            };
        }
        let data = match (change.action, &change.changed, &there) {
            (Action::Delete, ..) => None,
            (Action::Update, Some(names), Some(there)) => {
                use crate::value::Value;
                change.data.as_ref().map(|d| there.patched(d, names))
            }
            _ => change.data.clone(),
        };
        let mut data = data;
        if self.stamps {
            data = data.map(|d| {
                let mut fields = d.as_object().cloned().unwrap();
                fields.insert("seen".into(), json!(self.seq));
                Rc::new(Json::Object(fields))
            });
        }
        let stamped = data.clone().filter(|_| self.stamps);
        let version = self.store(&collection, &key, data, &change.at);
        Verdict::Success {
            version: Version(version),
            data: stamped,
        }
    }

    /// Takes a record away without a tombstone, as a purge or the end of an assignment does.
    pub(super) fn lose(&mut self, collection: &str, key: &str) -> Row {
        self.generation += 1;
        let key = (collection.to_owned(), key.to_owned());
        self.rows.remove(&key).unwrap()
    }

    /// Shows it again, as it was.
    pub(super) fn show_again(&mut self, collection: &str, key: &str, row: Row) {
        self.seq += 1;
        let seq = self.seq;
        let key = (collection.to_owned(), key.to_owned());
        self.rows.insert(key, Row { seq, ..row });
    }

    fn knows(&self, checkpoint: Option<&str>) -> bool {
        let known = |c: &str| c.starts_with(&format!("{}.", self.generation));
        checkpoint.is_none_or(known)
    }

    fn page(&self, checkpoint: Option<&str>, limit: usize) -> Page<Record> {
        let since = checkpoint.and_then(|c| c.split_once('.'));
        let since: u64 = since.map_or(0, |(_, seq)| seq.parse().unwrap());
        let mut rows: Vec<_> = self.rows.iter().filter(|(_, r)| r.seq > since).collect();
        rows.sort_by_key(|(_, r)| r.seq);
        let has_more = rows.len() > limit;
        rows.truncate(limit);
        let changes = rows.iter().map(|((collection, key), row)| Pulled {
            collection: collection.as_str().into(),
            key: key.as_str().into(),
            version: Version(row.version),
            data: row.data.clone(),
            at: Some(row.at.as_str().into()),
        });
        let last = rows
            .last()
            .map_or(since.max(self.seq * u64::from(!has_more)), |(_, r)| r.seq);
        let checkpoint = format!("{}.{last}", self.generation).into();
        Page {
            changes: changes.collect(),
            checkpoint,
            has_more,
            server_ms: None,
        }
    }

    /// Live records of a collection, as text.
    pub(super) fn dump(&self, collection: &str) -> Vec<String> {
        let rows = self.rows.iter().filter(|((c, _), _)| c == collection);
        rows.filter_map(|(_, r)| r.data.as_ref().map(ToString::to_string))
            .collect()
    }
}

#[derive(Clone)]
pub(super) struct TestBackend {
    pub(super) server: Rc<RefCell<Server>>,
    /// Each way of a request takes up to so long; 0: none at all.
    pub(super) latency_ms: u64,
    pub(super) page: usize,
    pub(super) chance: Chance,
}

impl TestBackend {
    fn time(&self) -> Option<f64> {
        let server = self.server.borrow();
        let unit = server.unit.unwrap_or(1.0);
        server.clock.map(|clock| true_ms(clock) * unit)
    }

    async fn travel(&self) {
        if self.latency_ms > 0 {
            pass(1 + self.chance.below(self.latency_ms)).await;
        }
    }

    async fn arrive(&self, call: &Call) -> std::result::Result<Option<Fault>, Failure> {
        self.travel().await;
        let fault = {
            let mut server = self.server.borrow_mut();
            server.requests += 1;
            if server.down {
                return Err(no_answer());
            }
            if server.stale_token && !call.refresh {
                return Err(Failure::Auth);
            }
            if call.refresh {
                server.stale_token = false;
            }
            let unsteady = server.unsteady.and_then(|(failing, losing)| {
                if self.chance.below(100) < failing {
                    Some(Fault::Status(500, None))
                } else {
                    (self.chance.below(100) < losing).then_some(Fault::AnswerLost)
                }
            });
            server.faults.pop_front().or(unsteady)
        };
        match fault {
            Some(Fault::Lost) => Err(no_answer()),
            Some(Fault::Status(status, after)) => {
                Err(Failure::from_status(status, after, "", "a fault"))
            }
            Some(Fault::Hangs) => std::future::pending().await,
            other => Ok(other),
        }
    }
}

/// A push that has not come back.
struct UnderWay(Rc<RefCell<Server>>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.borrow_mut().under_way -= 1;
    }
}

fn no_answer() -> Failure {
    Failure::NoAnswer(Error::new(Code::Network, "cut"))
}

impl Backend<Record> for TestBackend {
    async fn push(
        &self,
        changes: &[Change<Record>],
        call: &Call,
    ) -> std::result::Result<PushAnswer<Record>, Failure> {
        let stuck = {
            let mut server = self.server.borrow_mut();
            server.batches.push(changes.len());
            let data = changes.iter().filter_map(|c| c.data.as_ref());
            let bytes = data.map(|d| d.to_string().len()).sum();
            server.heaviest = server.heaviest.max(bytes);
            server.under_way += 1;
            server.most_under_way = server.most_under_way.max(server.under_way);
            let stuck = |c: &Change<Record>| server.stuck.iter().any(|s| **s == *c.collection);
            changes.iter().any(stuck)
        };
        let _under_way = UnderWay(self.server.clone());
        if stuck {
            std::future::pending::<()>().await;
        }
        let fault = self.arrive(call).await?;
        let mut results: Vec<(Rc<str>, Verdict<Record>)> = {
            let mut server = self.server.borrow_mut();
            if let Some(broken) = &server.broken
                && changes.iter().any(|c| **broken == *c.collection)
            {
                return Err(Failure::from_status(500, None, "", "a fault"));
            }
            if let Some((key, status)) = &server.culprit
                && changes.iter().any(|c| **key == *c.key)
            {
                return Err(Failure::from_status(*status, None, "", "a fault"));
            }
            if server.batch_max.is_some_and(|max| changes.len() > max) {
                return Err(Failure::from_status(413, None, "too-large", "too large"));
            }
            server.received.extend(changes.iter().map(|c| {
                let (key, name) = (c.key.to_string(), c.collection.to_string());
                (c.id.clone(), key, name, c.data.clone())
            }));
            server.last_batch = changes.iter().map(|c| c.id.clone()).collect();
            let groups = changes.iter().filter_map(|c| c.group.as_deref());
            let groups: Vec<String> = groups.map(str::to_owned).collect();
            if !groups.is_empty() {
                server.groups_of_batches.push(groups);
            }
            let parts = changes.chunk_by(|a, b| a.group.is_some() && a.group == b.group);
            parts.flat_map(|part| server.apply_part(part)).collect()
        };
        match fault {
            Some(Fault::AnswerLost) => return Err(no_answer()),
            Some(Fault::ShortAnswer) => {
                results.pop();
            }
            Some(Fault::ForeignAnswer) => results[0].0 = "somebody.7".into(),
            _ => {}
        }
        self.travel().await;
        Ok(PushAnswer {
            results,
            server_ms: self.time(),
        })
    }

    async fn pull(
        &self,
        checkpoint: Option<&str>,
        limit: usize,
        call: &Call,
    ) -> std::result::Result<Page<Record>, Failure> {
        let fault = self.arrive(call).await?;
        if self.server.borrow().no_pulls {
            return Err(Failure::from_status(500, None, "", "a fault"));
        }
        if !self.server.borrow().knows(checkpoint) {
            return Err(Failure::CheckpointUnknown);
        }
        let mut page = self.server.borrow().page(checkpoint, limit.min(self.page));
        page.server_ms = self.time();
        self.server.borrow_mut().pulls += 1;
        if fault.is_some() {
            return Err(no_answer());
        }
        self.travel().await;
        Ok(page)
    }
}
