//! The state of one database in memory: what the log says, replayed.
//!
//! [`Replica::apply`] makes a fact true and never fails; it is the same for a live commit, for a
//! reopened database and for what another tab has written. [`plan`] decides which facts follow from
//! an intent. Facts of a commit under way are applied at once and undone if it fails, so each
//! intent of a group is decided on what those before it have left.

mod apply;
mod batch;
mod clock;
pub mod collection;
pub mod fold;
mod imported;
pub mod index;
mod lanes;
pub mod outbox;
pub mod plan;
pub mod plan_conflict;
pub mod plan_import;
mod plan_migrate;
mod plan_outbox;
mod plan_sync;
mod plan_write;
mod references;
mod rekey;
mod repull;
mod runs;
mod stuck;
#[cfg(all(test, not(target_family = "wasm")))]
mod tests;
mod waits;

use crate::conflict::Conflict;
use crate::error::{Code, Error};
use crate::hlc::Hlc;
use crate::limits;
use crate::model::{Confirmed, Key, Mutation, MutationNo, MutationState, Name};
use crate::options::CollectionSpec;
use crate::ordered::{Gap, Numbers, Ordered};
use crate::store::{Fact, Older, SegmentId, Summary};
use crate::value::Value;
use collection::{Collection, Record};
use outbox::Outbox;
use std::cell::RefCell;
use std::rc::Rc;

/// What is said where a stored record cannot be read.
pub(crate) fn damaged(collection: &str) -> Error {
    let message = format!("{collection}: a stored record is damaged");
    Error::new(Code::DatabaseDamaged, message)
}

/// The version of data that says nothing of its version.
pub const FIRST_VERSION: u32 = 1;

/// One database's state.
#[derive(Debug)]
pub struct Replica<V> {
    client: Rc<str>,
    pub(crate) collections: Vec<Collection<V>>,
    /// Positions in `collections`, in the order of the names.
    by_name: Vec<usize>,
    /// The name that was looked for last, and where: facts come in runs of one collection.
    interned: Option<(Name, usize)>,
    /// Queued changes.
    pub outbox: Outbox<V>,
    conflicts: Vec<Rc<Conflict<V>>>,
    checkpoint: Option<Rc<str>>,
    checkpoint_collections: Rc<[Name]>,
    hlc: Hlc,
    next_no: MutationNo,
    pulled_ms: Option<f64>,
    data_version: u32,
    older: Older,
    max_attempts: u32,
    /// The server's clock minus ours, once it is known.
    offset_ms: Option<f64>,
    /// What the device's clock said when it was last asked, ms since 1970.
    seen_ms: f64,
    undo: Option<Undo<V>>,
    /// The segment that is being read; 0 for the log and for what is new.
    reading: SegmentId,
    /// Mutations that came, changed or went since they were last asked for, if anybody asks.
    touched: Option<Vec<MutationNo>>,
    referrers: RefCell<Option<waits::Referrers>>,
    /// Where atomic groups go as a whole, and where each of their members goes as it can.
    stuck: [RefCell<stuck::Stuck>; 2],
    unanswered: Numbers,
    /// Atomic groups that no request can hold.
    apart: Vec<Rc<str>>,
    lanes: lanes::Lanes,
    repull: Option<repull::Repull>,
    imported: imported::Imported,
    /// Creations as they may have arrived first, by the numbers under which they are queued again.
    tries: Ordered<MutationNo, Mutation<V>>,
}

/// Of the mutations with numbers below this one, those are in the queue that are in a stretch, from its first
/// number to its last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alive {
    /// What comes from here on is not spoken of.
    pub below: MutationNo,
    /// In order.
    pub stretches: Vec<(MutationNo, MutationNo)>,
}

/// What it takes to go back to where a commit began.
#[derive(Debug)]
struct Undo<V> {
    steps: Vec<Step<V>>,
    /// What the commit adds to the mutations of that name in [`Replica`].
    touched: Vec<MutationNo>,
    conflicts: Vec<Rc<Conflict<V>>>,
    checkpoint: Option<Rc<str>>,
    checkpoint_collections: Rc<[Name]>,
    hlc: Hlc,
    next_no: MutationNo,
    pulled_ms: Option<f64>,
    data_version: u32,
    older: Older,
}

#[derive(Debug)]
enum Step<V> {
    /// What was known of a record.
    Record(usize, Key, Option<Box<Record<V>>>),
    Mutation(MutationNo, Option<Box<Mutation<V>>>),
    Alias(usize, Key, Option<Key>),
    Try(MutationNo, Option<Box<Mutation<V>>>),
    Confirmed((Name, Key), Option<Confirmed>),
}

impl<V: Value> Replica<V> {
    /// An empty state of this client.
    #[must_use]
    pub fn new(client: Rc<str>, specs: &[CollectionSpec], max_attempts: u32) -> Self {
        let mut replica = Self {
            client,
            collections: Vec::new(),
            by_name: Vec::new(),
            interned: None,
            outbox: Outbox::new(),
            conflicts: Vec::new(),
            checkpoint: None,
            checkpoint_collections: Rc::from([]),
            hlc: Hlc::default(),
            next_no: 1,
            pulled_ms: None,
            data_version: 0,
            older: Rc::from([]),
            max_attempts,
            offset_ms: None,
            seen_ms: 0.0,
            undo: None,
            reading: 0,
            touched: None,
            referrers: RefCell::default(),
            stuck: Default::default(),
            unanswered: Numbers::default(),
            apart: Vec::new(),
            lanes: lanes::Lanes::default(),
            repull: None,
            imported: imported::Imported::default(),
            tries: Ordered::default(),
        };
        for spec in specs {
            replica.declare(spec.clone(), true);
        }
        replica
    }

    /// The client's id.
    #[must_use]
    pub fn client(&self) -> &Rc<str> {
        &self.client
    }

    /// A declared collection.
    #[must_use]
    pub fn collection(&self, name: &str) -> Option<&Collection<V>> {
        let collection = &self.collections[self.position(name)?];
        collection.declared.then_some(collection)
    }

    fn search(&self, name: &str) -> std::result::Result<usize, usize> {
        self.by_name
            .binary_search_by(|&at| (*self.collections[at].spec.name).cmp(name))
    }

    /// Where a collection is, declared or not.
    fn position(&self, name: &str) -> Option<usize> {
        Some(self.by_name[self.search(name).ok()?])
    }

    /// Adds a collection, or replaces one of the same name.
    fn declare(&mut self, spec: CollectionSpec, declared: bool) -> usize {
        let at = self.collections.len();
        self.interned = None;
        match self.search(&spec.name) {
            Ok(known) => self.by_name[known] = at,
            Err(place) => self.by_name.insert(place, at),
        }
        self.collections.push(Collection::new(spec, declared));
        at
    }

    /// The conflict log, oldest first.
    #[must_use]
    pub fn conflicts(&self) -> &[Rc<Conflict<V>>] {
        &self.conflicts
    }

    /// Where the next pull begins. A collection declared since the last one starts it over.
    #[must_use]
    pub fn checkpoint(&self) -> Option<Rc<str>> {
        let covered = self
            .collections
            .iter()
            .filter(|c| c.declared)
            .all(|c| self.checkpoint_collections.contains(&c.spec.name));
        self.checkpoint.clone().filter(|_| covered)
    }

    /// Declared collections of which nothing was pulled since they were declared.
    #[must_use]
    pub fn unpulled(&self) -> Vec<Name> {
        let pulled =
            |name: &Name| self.checkpoint.is_some() && self.checkpoint_collections.contains(name);
        self.collections
            .iter()
            .filter(|c| c.declared && !pulled(&c.spec.name))
            .map(|c| c.spec.name.clone())
            .collect()
    }

    /// The version of the app's data; 0 until one was stored.
    #[must_use]
    pub fn data_version(&self) -> u32 {
        self.data_version
    }

    /// The version of the app's data, and collections that are of an older one.
    #[must_use]
    pub fn data_versions(&self) -> (u32, Older) {
        (self.data_version.max(FIRST_VERSION), self.older.clone())
    }

    /// The version of a collection's data; the first one until another was stored.
    #[must_use]
    pub fn data_version_of(&self, name: &str) -> u32 {
        let older = self.older.iter().find(|(older, _)| **older == *name);
        older.map_or(self.data_version.max(FIRST_VERSION), |(_, version)| {
            *version
        })
    }

    /// The clock's last reading.
    #[must_use]
    pub fn hlc(&self) -> Hlc {
        self.hlc
    }

    /// Moves the clock: by a tick for what is written next, or because of a remote reading.
    pub fn set_hlc(&mut self, hlc: Hlc) {
        self.hlc = hlc;
    }

    /// The counts to store with an entry.
    #[must_use]
    pub fn summary(&self) -> Summary {
        let counts = self.outbox.counts();
        Summary {
            pending: counts.pending,
            conflict: counts.conflict,
            failed: counts.failed,
            next_no: self.next_no,
            counts: self
                .collections
                .iter()
                .map(|c| (c.spec.name.clone(), c.count()))
                .collect(),
            pulled_ms: self.pulled_ms,
        }
    }

    /// From here on, changes can be undone.
    pub fn begin(&mut self) {
        self.undo = Some(Undo {
            steps: Vec::new(),
            touched: Vec::new(),
            conflicts: self.conflicts.clone(),
            checkpoint: self.checkpoint.clone(),
            checkpoint_collections: self.checkpoint_collections.clone(),
            hlc: self.hlc,
            next_no: self.next_no,
            pulled_ms: self.pulled_ms,
            data_version: self.data_version,
            older: self.older.clone(),
        });
    }

    /// The changes since [`Self::begin`] stay.
    pub fn commit(&mut self) {
        if let Some(undo) = self.undo.take() {
            self.touch(undo.touched);
        }
    }

    /// The changes since [`Self::begin`] never were.
    pub fn rollback(&mut self) {
        let Some(undo) = self.undo.take() else { return };
        self.take_back(undo.steps);
        self.conflicts = undo.conflicts;
        self.checkpoint = undo.checkpoint;
        self.checkpoint_collections = undo.checkpoint_collections;
        self.hlc = undo.hlc;
        self.next_no = undo.next_no;
        self.pulled_ms = undo.pulled_ms;
        self.data_version = undo.data_version;
        self.older = undo.older;
    }

    /// Whether all of these are marked as sent by what is stored. A mark that is being stored may
    /// still be taken back, and the mutation rewritten by another tab.
    #[must_use]
    pub fn is_marked(&self, nos: &[MutationNo]) -> bool {
        let now = |no: &MutationNo| self.outbox.get(*no).is_none_or(|m| m.sent);
        let mut sorted = nos.to_vec();
        sorted.sort_unstable();
        let open = |step: &Step<V>| match step {
            Step::Mutation(no, before) => {
                !before.as_ref().is_some_and(|m| m.sent) && sorted.binary_search(no).is_ok()
            }
            _ => false,
        };
        let undo = self.undo.as_ref();
        nos.iter().all(now) && !undo.is_some_and(|u| u.steps.iter().any(open))
    }

    /// A point within a commit to go back to, for an intent that fails half-way.
    fn mark(&self) -> usize {
        self.undo.as_ref().map_or(0, |u| u.steps.len())
    }

    fn rollback_to(&mut self, mark: usize) {
        let Some(mut undo) = self.undo.take() else {
            return;
        };
        let steps = undo.steps.split_off(mark);
        self.take_back(steps);
        self.undo = Some(undo);
    }

    fn take_back(&mut self, steps: Vec<Step<V>>) {
        for step in steps.into_iter().rev() {
            match step {
                Step::Record(c, key, record) => {
                    self.collections[c].set(&key, record.map(|record| *record));
                }
                Step::Mutation(no, mutation) => {
                    let before = self.outbox.set(no, mutation);
                    self.note_change(no, before.map(|m| m.priority));
                }
                Step::Alias(c, from, before) => self.collections[c].set_alias(&from, before),
                // What has the number, or is confirmed, may be another one the next time.
                Step::Try(no, before) => self.set_try(no, before.map(|first| *first)),
                Step::Confirmed(place, before) => self.set_confirmed(place, before),
            }
        }
    }

    fn intern(&mut self, name: &Name) -> usize {
        if let Some((last, at)) = &self.interned
            && Rc::ptr_eq(last, name)
        {
            return *at;
        }
        // Otherwise left behind by an older version of the app: kept, but out of sight.
        let at = self
            .position(name)
            .unwrap_or_else(|| self.declare(CollectionSpec::new(name, "id"), false));
        self.interned = Some((name.clone(), at));
        at
    }

    /// Adds what is known of a record that nothing was known of.
    fn add_record(&mut self, c: usize, gap: Gap, key: &Key, mut record: Record<V>) {
        record.home = self.reading;
        if record.is_blank() {
            return;
        }
        self.collections[c].add(gap, key, record);
        if let Some(undo) = &mut self.undo {
            undo.steps.push(Step::Record(c, key.clone(), None));
        }
    }

    fn set_record(&mut self, c: usize, key: &Key, mut record: Record<V>) {
        record.home = self.reading;
        let before = self.collections[c].set(key, Some(record));
        if let Some(undo) = &mut self.undo {
            undo.steps
                .push(Step::Record(c, key.clone(), before.map(Box::new)));
        }
    }

    /// The mutations that came, changed or went since this was last asked.
    pub fn take_touched(&mut self) -> Vec<MutationNo> {
        self.touched
            .as_mut()
            .map(std::mem::take)
            .unwrap_or_default()
    }

    /// The mutations that the commit under way has changed, each with its first step there.
    #[must_use]
    pub fn undecided(&self) -> Numbers {
        let mut first = Numbers::default();
        let steps = self.undo.iter().flat_map(|undo| &undo.steps);
        for (step, at) in steps.zip(0..) {
            if let Step::Mutation(no, _) = step
                && !first.contains(no)
            {
                first.insert(*no, at);
            }
        }
        first
    }

    /// Which mutations are in the queue by what is stored. What a commit under way ends is not over yet.
    #[must_use]
    pub fn alive(&self) -> Alive {
        let undo = self.undo.as_ref();
        let below = undo.map_or(self.next_no, |undo| undo.next_no);
        let undone = undo.into_iter().flat_map(|undo| &undo.steps);
        let ended = undone.filter_map(|step| match step {
            Step::Mutation(no, Some(_)) => Some(*no),
            _ => None,
        });
        let mut nos: Vec<_> = self.outbox.iter().map(|m| m.no).chain(ended).collect();
        nos.sort_unstable();
        nos.dedup();
        let mut stretches: Vec<(MutationNo, MutationNo)> = Vec::new();
        for no in nos.into_iter().filter(|no| *no < below) {
            match stretches.last_mut() {
                Some((_, last)) if *last + 1 == no => *last = no,
                _ => stretches.push((no, no)),
            }
        }
        Alive { below, stretches }
    }

    /// Whether the commit under way brings, changes or ends any.
    #[must_use]
    pub fn is_undecided(&self) -> bool {
        let undo = self.undo.as_ref();
        undo.is_some_and(|undo| !undo.touched.is_empty())
    }

    /// Whether any came, changed or went that was not dealt with.
    #[must_use]
    pub fn has_touched(&self) -> bool {
        self.touched.as_ref().is_some_and(|nos| !nos.is_empty())
    }

    /// These were not dealt with yet.
    pub fn touch(&mut self, nos: Vec<MutationNo>) {
        if let Some(touched) = &mut self.touched {
            touched.extend(nos);
        }
    }

    /// From now on it is known which mutations came, changed or went.
    pub fn watch_mutations(&mut self) {
        self.touched.get_or_insert_default();
    }

    /// These were not dealt with yet either.
    pub fn touch_where(&mut self, wanted: impl Fn(&Mutation<V>) -> bool) {
        let known = self.outbox.iter().filter(|m| wanted(m)).map(|m| m.no);
        self.touch(known.collect());
    }

    /// Number of the next mutation.
    #[must_use]
    pub fn next_no(&self) -> MutationNo {
        self.next_no
    }

    /// What may have arrived first of a creation, where anything is known of it.
    fn set_try(&mut self, no: MutationNo, first: Option<Mutation<V>>) {
        let is_known = first.is_some();
        let before = match first {
            Some(first) => self.tries.insert(no, first),
            None => self.tries.remove(&no),
        };
        if let Some(undo) = self.undo.as_mut().filter(|_| is_known || before.is_some()) {
            undo.steps.push(Step::Try(no, before.map(Box::new)));
        }
    }

    fn set_mutation(&mut self, no: MutationNo, mutation: Option<Mutation<V>>) {
        if let Some(touched) = &mut self.touched {
            // What is not stored yet may be taken back.
            let touched = self.undo.as_mut().map_or(touched, |undo| &mut undo.touched);
            touched.push(no);
        }
        let before = self.outbox.set(no, mutation.map(Box::new));
        self.note_change(no, before.as_ref().map(|m| m.priority));
        if let Some(undo) = &mut self.undo {
            undo.steps.push(Step::Mutation(no, before));
        }
    }

    /// Makes a fact true. `at_ms` and `hlc` are those of its entry.
    pub fn apply(&mut self, fact: &Fact<V>, at_ms: f64, hlc: Hlc) {
        match fact {
            Fact::Queued { .. } => self.apply_queued(fact, at_ms, hlc),
            Fact::Cancelled { no, .. } => self.apply_gone(*no, None),
            Fact::Acked { no, version, value } => self.apply_gone(*no, Some((*version, value))),
            Fact::Sent { nos } => {
                // The rescue copy does without: what comes from there counts as sent anyway.
                let touched = self.touched.take();
                for no in nos {
                    self.edit(*no, |m| m.sent = true);
                }
                self.touched = touched;
            }
            Fact::Refused {
                no,
                refusal,
                attempts,
                next_attempt_ms,
            } => self.edit(*no, |m| {
                m.error = Some(refusal.clone());
                m.attempts = *attempts;
                m.last_attempt_ms = Some(at_ms);
                m.next_attempt_ms = *next_attempt_ms;
                if next_attempt_ms.is_none() {
                    m.state = MutationState::Failed;
                    m.sent = false;
                }
            }),
            Fact::Waits { no } => self.edit(*no, |m| {
                m.state = MutationState::Conflict;
                m.last_attempt_ms = Some(at_ms);
                m.next_attempt_ms = None;
                m.error = None;
                m.sent = false;
            }),
            Fact::Rebased { no } => {
                let Some(mutation) = self.outbox.get(*no) else {
                    return;
                };
                let collection = self.position(&mutation.collection);
                let record = collection.and_then(|c| self.collections[c].record(&mutation.key));
                let Some(record) = record else { return };
                let shadow = record.pending.as_ref().and_then(|p| p.shadow.clone());
                let version = record.version;
                self.edit(*no, |m| {
                    m.base = shadow;
                    m.base_version = version;
                });
            }
            Fact::Remote {
                collection,
                key,
                value,
                version,
            } => {
                let c = self.intern(collection);
                let mut record = Record {
                    version: *version,
                    ..Record::default()
                };
                if let Some(gap) = self.collections[c].gap(key) {
                    record.value.clone_from(value);
                    self.add_record(c, gap, key, record);
                    return;
                }
                let mut is_told = false;
                if let Some(known) = self.collections[c].record(key) {
                    // A migration says the same version again.
                    is_told = known.pending.is_none() && *version > known.version;
                    record = Record {
                        version: *version,
                        ..known.clone()
                    };
                }
                match (&mut record.pending, &mut record.local) {
                    (Some(pending), _) => pending.shadow.clone_from(value),
                    (None, Some(aside)) => aside.shadow.clone_from(value),
                    (None, None) => record.value.clone_from(value),
                }
                self.show(c, key, record);
                if is_told {
                    self.end_import(collection, key);
                }
            }
            Fact::Checkpoint {
                checkpoint,
                collections,
            } => {
                self.checkpoint.clone_from(checkpoint);
                self.checkpoint_collections = collections.clone();
                self.pulled_ms = Some(at_ms);
                self.end_repull();
            }
            Fact::Rekeyed {
                collection,
                field,
                from,
                to,
            } => self.apply_rekeyed(collection, field, from, to),
            Fact::Aliases { collection, pairs } => {
                let c = self.intern(collection);
                for (from, to) in pairs {
                    self.set_alias(c, from, to);
                }
            }
            Fact::Confirmed {
                collection,
                key,
                confirmed,
            } => {
                let place = (collection.clone(), key.clone());
                self.set_confirmed(place, Some(confirmed.clone()));
            }
            Fact::Conflicted(conflict) => {
                self.conflicts.retain(|known| known.id != conflict.id);
                self.conflicts.push(conflict.clone());
                let over = self
                    .conflicts
                    .len()
                    .saturating_sub(limits::CONFLICTS_KEPT_MAX);
                self.conflicts.drain(..over);
            }
            Fact::ConflictsCleared => self.conflicts.clear(),
            Fact::Held(held) => self.apply_held(held),
            Fact::Local {
                collection,
                key,
                value,
            } => self.apply_local(collection, key, value.as_ref()),
            Fact::Schema { version, older } => {
                self.data_version = *version;
                self.older = older.clone();
            }
            Fact::Run(run) => self.apply_run(run, at_ms, hlc),
        }
    }

    fn edit(&mut self, no: MutationNo, change: impl FnOnce(&mut Mutation<V>)) {
        if let Some(mut mutation) = self.outbox.get(no).cloned() {
            change(&mut mutation);
            self.set_mutation(no, Some(mutation));
        }
    }
}
