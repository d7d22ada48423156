//! A model of the backend, as docs/PROTOCOL.md describes it: results kept by mutation id, versions,
//! tombstones, checkpoints that a late commit cannot slip behind, users apart.

use super::oracle::Effect;
use super::record::Record;
use super::rule::{Ruling, Standing, Wish, rule};
use super::world::EPOCH_MS;
use landfall::model::{Action, Change, Page, Pulled, Refusal, Verdict, Version};
use landfall::value::Value;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// User, collection, key.
pub(crate) type Address = (usize, Rc<str>, Rc<str>);

#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) version: u64,
    pub(crate) seq: u64,
    pub(crate) data: Option<Record>,
    pub(crate) at: Rc<str>,
    client: Rc<str>,
}

/// Why a record is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Poison {
    /// For good.
    Invalid,
    /// The same change may succeed later.
    Later,
    /// Whatever request it is in is refused as a whole.
    Request,
}

/// A real server that decides beside the model. What it says is what the devices hear; where the model
/// says something else, one of the two is wrong.
pub(crate) trait Core {
    fn push(
        &self,
        user: usize,
        client: &str,
        change: &Change<Record>,
        now_ms: f64,
    ) -> Verdict<Record>;

    /// A page; none where the checkpoint is not known.
    fn pull(&self, user: usize, since: Option<&str>, limit: usize) -> Option<Page<Record>>;
}

#[derive(Default)]
pub(crate) struct Server {
    pub(crate) core: Option<Box<dyn Core>>,
    /// The first thing in which the two differ.
    pub(crate) differs: RefCell<Option<String>>,
    pub(crate) rows: BTreeMap<Address, Row>,
    seq: u64,
    /// Positions that open transactions have taken: no page goes beyond the first of them.
    open: BTreeSet<u64>,
    /// Verdicts by mutation id, with the record that it is about.
    answered: BTreeMap<String, (Address, Verdict<Record>)>,
    pub(crate) effects: Vec<Effect>,
    /// How often a mutation was blamed.
    pub(crate) blamed: BTreeMap<String, u32>,
    pub(crate) poison: BTreeMap<Rc<str>, Poison>,
    pub(crate) batch_max: Option<usize>,
    pub(crate) down: bool,
    /// The checkpoint's generation; another one is unknown.
    generation: u64,
    /// The newest version of a tombstone that was purged: what is made anew begins above it.
    purged: u64,
}

fn wish(action: Action) -> Wish {
    match action {
        Action::Create => Wish::Create,
        Action::Update => Wish::Update,
        Action::Delete => Wish::Delete,
    }
}

/// What a verdict says, to be compared.
fn told(verdict: &Verdict<Record>) -> String {
    let text = |data: &Option<Record>| data.as_ref().map(Record::words);
    match verdict {
        Verdict::Success { version, .. } => format!("success {}", version.0),
        Verdict::Conflict { version, data, at } => {
            format!("conflict {} {:?} {at:?}", version.0, text(data))
        }
        Verdict::Failed { refusal, .. } => format!("failed {}", refusal.code),
        Verdict::Rekeyed { .. } => "another key".into(),
    }
}

impl Server {
    /// Tombstones are purged, and checkpoints from before are not known any more. What was answered
    /// before a record was deleted is older than its tombstone, and is forgotten with it.
    pub(crate) fn purge(&mut self) {
        self.generation += 1;
        let gone = self.rows.values().filter(|r| r.data.is_none());
        let newest = gone.map(|r| r.version).max();
        self.purged = self.purged.max(newest.unwrap_or(0));
        let rows = &self.rows;
        let purged = |address: &Address| rows.get(address).is_some_and(|r| r.data.is_none());
        self.answered.retain(|_, (address, _)| !purged(address));
        self.rows.retain(|_, row| row.data.is_some());
    }

    /// How often it has purged.
    pub(crate) fn purges(&self) -> u64 {
        self.generation
    }

    fn take_seq(&mut self) -> u64 {
        self.seq += 1;
        self.seq
    }

    /// Another writer's transaction takes its position now and commits later.
    pub(crate) fn begin(&mut self) -> u64 {
        let seq = self.take_seq();
        self.open.insert(seq);
        seq
    }

    /// The end of [`Server::begin`]'s transaction.
    pub(crate) fn commit(&mut self, seq: u64, address: Address, data: Option<Record>, at: &str) {
        self.open.remove(&seq);
        let mut seq = seq;
        if self.core.is_some() {
            if data.is_none() && self.rows.get(&address).is_none_or(|r| r.data.is_none()) {
                return; // there is nothing to delete
            }
            self.commit_in_core(seq, &address, data.clone(), at);
            seq = self.take_seq();
        }
        let known = self.rows.get(&address).map(|r| r.version);
        let version = known.unwrap_or(self.purged) + 1;
        // Where somebody was faster the row keeps the later position.
        let seq = self.rows.get(&address).map_or(seq, |r| r.seq.max(seq));
        self.rows.insert(
            address,
            Row {
                version,
                seq,
                data,
                at: at.into(),
                client: "elsewhere".into(),
            },
        );
    }

    fn commit_in_core(&self, no: u64, address: &Address, data: Option<Record>, at: &str) {
        let row = self.rows.get(address);
        let action = match (&data, row.map(|r| r.data.is_some())) {
            (None, _) => Action::Delete,
            (Some(_), Some(true)) => Action::Update,
            (Some(_), _) => Action::Create,
        };
        let change = Change {
            id: format!("elsewhere.{no}"),
            no,
            collection: address.1.clone(),
            action,
            key: address.2.clone(),
            version: Version(row.map_or(0, |r| r.version)),
            data,
            changed: None,
            at: at.into(),
            group: None,
        };
        if let Some(core) = &self.core {
            let verdict = core.push(address.0, "elsewhere", &change, 0.0);
            if !matches!(verdict, Verdict::Success { .. }) {
                self.differ(|| format!("{change:?}: {verdict:?}"));
            }
        }
    }

    fn differ(&self, how: impl FnOnce() -> String) {
        self.differs.borrow_mut().get_or_insert_with(how);
    }

    /// Whether a transaction has not committed yet.
    pub(crate) fn is_open(&self) -> bool {
        !self.open.is_empty()
    }

    /// Whether a change has a result that is kept.
    pub(crate) fn has_answered(&self, id: &str) -> bool {
        self.answered.contains_key(id)
    }

    /// Which of these, applied together, would be refused.
    pub(crate) fn refuses(
        &self,
        user: usize,
        client: &Rc<str>,
        changes: &[Change<Record>],
    ) -> Vec<bool> {
        let mut after: BTreeMap<Address, Standing> = BTreeMap::new();
        let refused = changes.iter().map(|change| {
            if let Some(known) = self.answered.get(&change.id) {
                return !matches!(known.1, Verdict::Success { .. });
            }
            let address = (user, change.collection.clone(), change.key.clone());
            let row = self.rows.get(&address).map(|r| Standing {
                version: r.version,
                live: r.data.is_some(),
                own: r.client == *client,
            });
            let there = after.get(&address).copied().or(row);
            match rule(wish(change.action), change.version.0, there) {
                _ if self.poison.contains_key(&change.key) => true,
                Ruling::NotFound | Ruling::Conflict => true,
                Ruling::Nothing(_) => false,
                Ruling::Write(version) => {
                    let (live, own) = (change.action != Action::Delete, true);
                    after.insert(address, Standing { version, live, own });
                    false
                }
            }
        });
        refused.collect()
    }

    /// One change; `client` is the batch's.
    pub(crate) fn apply(
        &mut self,
        (user, client, index): (usize, &Rc<str>, usize),
        change: &Change<Record>,
        now_ms: u64,
    ) -> Verdict<Record> {
        if let Some(known) = self.answered.get(&change.id) {
            let known = known.1.clone();
            if matches!(known, Verdict::Failed { .. }) {
                *self.blamed.entry(change.id.clone()).or_default() += 1;
            }
            return known;
        }
        let mut verdict = self.decide((user, client, index), change, now_ms);
        let refused =
            matches!(&verdict, Verdict::Failed { refusal, .. } if &*refusal.code == "invalid");
        if let Some(core) = self.core.as_ref().filter(|_| !refused) {
            let real = core.push(user, client, change, EPOCH_MS + now_ms as f64);
            if told(&real) != told(&verdict) {
                self.differ(|| format!("{change:?}: {real:?}, the model {verdict:?}"));
            }
            verdict = real;
        }
        if let Verdict::Failed { retryable, .. } = &verdict {
            *self.blamed.entry(change.id.clone()).or_default() += 1;
            if *retryable {
                return verdict;
            }
        }
        let address = (user, change.collection.clone(), change.key.clone());
        self.answered
            .insert(change.id.clone(), (address, verdict.clone()));
        verdict
    }

    fn decide(
        &mut self,
        (user, client, index): (usize, &Rc<str>, usize),
        change: &Change<Record>,
        now_ms: u64,
    ) -> Verdict<Record> {
        let failed = |code: &str, retryable| Verdict::Failed {
            refusal: Refusal {
                code: code.into(),
                message: "no".into(),
            },
            retryable,
        };
        match self.poison.get(&change.key) {
            Some(Poison::Invalid) => return failed("invalid", false),
            Some(Poison::Later) => return failed("invalid", true),
            _ => {}
        }
        let address = (user, change.collection.clone(), change.key.clone());
        let row = self.rows.get(&address);
        let there = row.map(|r| Standing {
            version: r.version,
            live: r.data.is_some(),
            own: r.client == *client,
        });
        let version = match rule(wish(change.action), change.version.0, there) {
            Ruling::NotFound => return failed("not-found", false),
            Ruling::Nothing(version) => {
                let (version, data) = (Version(version), None);
                return Verdict::Success { version, data };
            }
            Ruling::Conflict => {
                return Verdict::Conflict {
                    version: Version(row.map_or(0, |r| r.version)),
                    data: row.and_then(|r| r.data.clone()),
                    at: row.map(|r| r.at.clone()),
                };
            }
            Ruling::Write(version) if there.is_none() => version.max(self.purged + 1),
            Ruling::Write(version) => version,
        };
        let data = match (&change.data, &change.changed, row) {
            (Some(patch), Some(names), Some(row)) if change.action == Action::Update => {
                row.data.as_ref().map(|old| old.patched(patch, names))
            }
            (data, ..) => data.clone(),
        };
        let seq = self.take_seq();
        self.rows.insert(
            address.clone(),
            Row {
                version,
                seq,
                data: data.clone(),
                at: change.at.as_str().into(),
                client: client.clone(),
            },
        );
        self.effects.push(Effect {
            at_ms: now_ms,
            client: index,
            address,
            action: change.action,
            data,
            sent: change.data.clone(),
        });
        let (version, data) = (Version(version), None);
        Verdict::Success { version, data }
    }

    /// A page; none where the checkpoint is not known.
    pub(crate) fn page(
        &self,
        user: usize,
        since: Option<&str>,
        limit: usize,
    ) -> Option<Page<Record>> {
        let begins = since;
        let since = match since {
            None => 0,
            Some(text) => self.position(text)?,
        };
        // A real one takes its positions as it commits.
        let open = self.open.first().filter(|_| self.core.is_none());
        let end = open.map_or(self.seq, |open| open - 1);
        let wanted = |(_, r): &(&Address, &Row)| r.seq > since && r.seq <= end;
        let rows = self.rows.range((user, "".into(), "".into())..);
        let rows = rows.take_while(|(address, _)| address.0 == user);
        let mut rows: Vec<_> = rows.filter(wanted).collect();
        rows.sort_by_key(|(_, r)| r.seq);
        let has_more = rows.len() > limit;
        rows.truncate(limit);
        let changes = rows.iter().map(|((_, collection, key), row)| Pulled {
            collection: collection.clone(),
            key: key.clone(),
            version: Version(row.version),
            data: row.data.clone(),
            at: Some(row.at.clone()),
        });
        let changes: Vec<_> = changes.collect();
        let last = rows.last().filter(|_| has_more);
        let through = last.map_or(end.max(since), |(_, r)| r.seq);
        let checkpoint = format!("{}:{through}", self.generation);
        let page = Page {
            changes,
            checkpoint: checkpoint.into(),
            has_more,
            server_ms: None,
        };
        match &self.core {
            Some(core) => self.real_page(core.as_ref(), user, begins, limit, &page),
            None => Some(page),
        }
    }

    /// The real server's page. Its checkpoint travels behind the model's, which the account reads.
    fn real_page(
        &self,
        core: &dyn Core,
        user: usize,
        since: Option<&str>,
        limit: usize,
        model: &Page<Record>,
    ) -> Option<Page<Record>> {
        let since = since.and_then(|text| Some(text.split_once('|')?.1));
        let Some(real) = core.pull(user, since, limit) else {
            self.differ(|| format!("{since:?} is not known"));
            return None;
        };
        let rows = |page: &Page<Record>| -> Vec<String> {
            let rows = page.changes.iter();
            rows.map(|r| {
                let data = r.data.as_ref().map(Record::words);
                let (version, at) = (r.version.0, &r.at);
                format!("{}/{} {version} {data:?} {at:?}", r.collection, r.key)
            })
            .collect()
        };
        let (ours, theirs) = (rows(model), rows(&real));
        if ours != theirs || model.has_more != real.has_more {
            self.differ(|| format!("a page of {theirs:?}, the model's {ours:?}"));
        }
        let checkpoint = format!("{}|{}", model.checkpoint, real.checkpoint).into();
        Some(Page { checkpoint, ..real })
    }

    /// What a checkpoint of this generation stands for.
    pub(crate) fn position(&self, checkpoint: &str) -> Option<u64> {
        let model = checkpoint.split('|').next()?;
        let (generation, seq) = model.split_once(':')?;
        let known = generation.parse() == Ok(self.generation);
        seq.parse().ok().filter(|_| known)
    }

    /// The records of a collection that a user has, by key.
    pub(crate) fn live(
        &self,
        user: usize,
        collection: &str,
    ) -> impl Iterator<Item = (&Rc<str>, &Record)> {
        let of = move |(u, c, _): &Address| *u == user && **c == *collection;
        let rows = self.rows.iter().filter(move |(address, _)| of(address));
        rows.filter_map(|((_, _, key), row)| Some((key, row.data.as_ref()?)))
    }
}
