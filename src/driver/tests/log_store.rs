//! Properties of the log as a store: whatever is written, compacted, reopened, evicted or appended
//! by a second tab, what can be read equals a plain map, and the queue equals a plain list.
//!
//! The model below shares no code with the engine. Records that compaction has moved are evicted
//! as often as the story says; looking at one that is not in memory panics.

use super::rig::{pass, run};
use crate::driver::{Backend, Call, Clock, Listener, Manager, OutboxFilter, PushAnswer, Settings};
use crate::engine::{Config, Event, Failure};
use crate::error::{Code, Error, Result};
use crate::model::{Action, Change, MutationNo, Name, Page, Pulled, Refusal, Verdict, Version};
use crate::options::CollectionSpec;
use crate::replica::plan::{Intent, Notice, Transaction, Write, WriteOptions};
use crate::store::memory::MemoryStore;
use crate::store::{AppendError, Base, Entry, Place, ReadEntry, SegmentId, Seq, Store, Tail};
use crate::value::{Scalar, Value};
use futures_channel::oneshot;
use proptest::prelude::*;
use serde_json::{Value as Json, json};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::rc::{Rc, Weak};

/// A record that can be out of memory.
#[derive(Debug, Clone)]
struct Slot(Rc<Content>);

#[derive(Debug)]
struct Content {
    json: Rc<Json>,
    resident: Cell<bool>,
}

impl Slot {
    fn new(json: Json) -> Self {
        Self::of(Rc::new(json))
    }

    fn of(json: Rc<Json>) -> Self {
        let resident = Cell::new(true);
        Self(Rc::new(Content { json, resident }))
    }

    fn json(&self) -> &Rc<Json> {
        assert!(
            self.0.resident.get(),
            "looked at a record that is not in memory"
        );
        &self.0.json
    }
}

impl Value for Slot {
    fn text(&self, field: &str) -> Option<Rc<str>> {
        self.json().text(field)
    }
    fn scalar(&self, field: &str) -> Option<Scalar> {
        self.json().scalar(field)
    }
    fn names(&self) -> Vec<Rc<str>> {
        self.json().names()
    }
    fn patched(&self, patch: &Self, names: &[Rc<str>]) -> Self {
        Self::of(self.json().patched(patch.json(), names))
    }
    fn picked(&self, names: &[Rc<str>]) -> Self {
        Self::of(self.json().picked(names))
    }
    fn with_text(&self, field: &str, text: &str) -> Self {
        Self::of(self.json().with_text(field, text))
    }
    fn same_field(&self, other: &Self, field: &str) -> bool {
        self.json().same_field(other.json(), field)
    }
    fn weight_bytes(&self) -> usize {
        self.json().weight_bytes()
    }
    fn is(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }
    fn is_resident(&self) -> bool {
        self.0.resident.get()
    }
}

/// The memory store; each tab's records from segments are its own, and can be evicted.
struct Evicting {
    disk: MemoryStore<Slot>,
    homed: RefCell<Vec<(SegmentId, Weak<Content>)>>,
    fetch_fails: Cell<bool>,
    /// What the segments have cannot be read any more.
    lost: Cell<bool>,
    /// Nor can the record with this key.
    torn: Cell<Option<&'static str>>,
    /// The next fetch takes until the other end is used or dropped.
    held: RefCell<Option<oneshot::Receiver<()>>>,
    /// What the rescue copy was given.
    handed: Rc<RefCell<Vec<String>>>,
    /// So many reads of the log work, then one fails.
    reads: Cell<Option<u32>>,
}

impl Evicting {
    fn new(disk: &MemoryStore<Slot>) -> Self {
        Self {
            disk: disk.clone(),
            homed: RefCell::default(),
            fetch_fails: Cell::new(false),
            lost: Cell::new(false),
            torn: Cell::default(),
            held: RefCell::default(),
            handed: Rc::default(),
            reads: Cell::new(None),
        }
    }

    fn evict_all(&self) {
        for (_, content) in self.homed.borrow().iter() {
            if let Some(content) = content.upgrade() {
                content.resident.set(false);
            }
        }
    }

    fn renew(&self, id: SegmentId, value: &mut Option<Slot>) {
        if let Some(slot) = value {
            *slot = Slot::of(slot.0.json.clone());
            self.homed.borrow_mut().push((id, Rc::downgrade(&slot.0)));
        }
    }

    /// Whether it is needed.
    fn holds(&self, id: SegmentId) -> bool {
        let homed = self.homed.borrow();
        let mut needed = homed.iter().filter(|(_, slot)| slot.strong_count() > 0);
        needed.any(|(of, _)| *of == id)
    }

    fn home(&self, id: SegmentId, mut entry: Entry<Slot>) -> Entry<Slot> {
        entry.facts = crate::store::singles(&entry.facts);
        for fact in &mut entry.facts {
            if let crate::store::Fact::Remote { value, .. } = fact {
                self.renew(id, value);
            }
        }
        entry.facts = crate::store::runs(entry.facts);
        entry
    }
}

impl Store<Slot> for Evicting {
    async fn tail(&self) -> Result<Tail> {
        self.disk.tail().await
    }
    async fn read(
        &self,
        after: Seq,
        limit: u32,
    ) -> Result<impl IntoIterator<Item = ReadEntry<Slot>>> {
        let left = self.reads.take();
        self.reads.set(left.and_then(|left| left.checked_sub(1)));
        if left == Some(0) {
            return Err(Error::new(Code::StorageFailed, "no answer"));
        }
        self.disk.read(after, limit).await
    }
    async fn append(
        &self,
        after: Seq,
        entries: &[Entry<Slot>],
    ) -> std::result::Result<(), AppendError> {
        for entry in entries {
            entry.each_value(|slot| drop(slot.json().clone()));
        }
        self.disk.append(after, entries).await
    }
    async fn quarantine(&self, place: Place, reason: &str) -> Result<()> {
        self.disk.quarantine(place, reason).await
    }
    async fn read_segments(&self, ids: &[SegmentId]) -> Result<Vec<ReadEntry<Slot>>> {
        let read = self.disk.read_segments(ids).await?;
        let home = |(id, entry): ReadEntry<Slot>| (id, entry.map(|e| self.home(id, e)));
        Ok(read.into_iter().map(home).collect())
    }
    async fn write_segments(&self, new: &[Entry<Slot>]) -> Result<Vec<(SegmentId, Entry<Slot>)>> {
        for entry in new {
            entry.each_value(|slot| drop(slot.json().clone()));
        }
        let written = self.disk.write_segments(new).await?;
        Ok(written
            .into_iter()
            .map(|(id, e)| (id, self.home(id, e)))
            .collect())
    }
    async fn switch(&self, base: &Base) -> Result<bool> {
        self.disk.switch(base).await
    }
    async fn sweep(&self, generation: u64, read: Seq) -> Result<()> {
        self.disk.sweep_but(generation, read, &|id| self.holds(id));
        Ok(())
    }
    async fn fetch(&self, values: &[Slot]) -> Result<()> {
        if self.fetch_fails.take() {
            return Err(Error::new(Code::StorageFailed, "no answer"));
        }
        let held = self.held.take();
        if let Some(held) = held {
            // Used or dropped: it goes on.
            let _ = held.await;
        }
        let torn = self.torn.get().map(Json::from);
        let is_torn = |slot: &Slot| torn.is_some() && slot.0.json.get("id") == torn.as_ref();
        if self.lost.get() && !values.is_empty() || values.iter().any(is_torn) {
            return Err(Error::new(Code::DatabaseDamaged, "a segment is damaged"));
        }
        for slot in values {
            let homed = self.homed.borrow();
            let home = homed
                .iter()
                .find(|(_, it)| it.as_ptr() == Rc::as_ptr(&slot.0));
            let there = home.is_none_or(|(id, _)| self.disk.has_segment(*id));
            if !there {
                return Err(Error::new(Code::DatabaseDamaged, "the segment is gone"));
            }
            drop(homed);
            slot.0.resident.set(true);
        }
        Ok(())
    }
}

struct Nowhere;

impl Backend<Slot> for Nowhere {
    async fn push(
        &self,
        _: &[Change<Slot>],
        _: &Call,
    ) -> std::result::Result<PushAnswer<Slot>, Failure> {
        Err(Failure::Cancelled)
    }
    async fn pull(
        &self,
        _: Option<&str>,
        _: usize,
        _: &Call,
    ) -> std::result::Result<Page<Slot>, Failure> {
        Err(Failure::Cancelled)
    }
}

struct Still;

impl Clock for Still {
    fn now_ms(&self) -> f64 {
        1_763_000_000_000.0
    }
    fn random(&self) -> f64 {
        0.5
    }
    async fn sleep(&self, _: f64) {
        std::future::pending::<()>().await;
    }
    fn spawn(&self, task: Pin<Box<dyn Future<Output = ()>>>) {
        tokio::task::spawn_local(task);
    }
}

struct Deaf(Rc<RefCell<Vec<String>>>);

impl Listener<Slot> for Deaf {
    fn committed(&self, _: &[Name], _: &[Notice<Slot>], _: bool) {}
    fn status_changed(&self) {}
    fn failed(&self, error: &Error) {
        assert_eq!(error.message, "no answer");
    }
    /// Writes the mutations down, for which they have to be in memory.
    fn rescue(&self, batch: crate::driver::RescueBatch<Slot>) -> Pin<Box<dyn Future<Output = ()>>> {
        for held in &batch.put {
            held.each_value(&mut |slot| drop(slot.json().clone()));
        }
        let put: Vec<MutationNo> = batch.put.iter().map(|held| held.mutation.no).collect();
        let text = format!("put {put:?} all below {}", batch.next_no);
        self.0.borrow_mut().push(text);
        Box::pin(async {})
    }
}

type Tab = Manager<Slot, Evicting, Nowhere, Still>;

/// Data without versions.
fn same() -> crate::driver::Migrate<Slot> {
    Box::new(|_, record, _| Ok(record.clone()))
}

fn things() -> Vec<CollectionSpec> {
    let mut spec = CollectionSpec::new("things", "id");
    spec.indexes = vec![vec!["n".into()]];
    spec.references = vec![("of".into(), "things".into())];
    vec![spec]
}

async fn open(disk: &MemoryStore<Slot>) -> Tab {
    open_with(disk, things(), None).await
}

async fn open_with(
    disk: &MemoryStore<Slot>,
    collections: Vec<CollectionSpec>,
    backend: Option<Nowhere>,
) -> Tab {
    open_on(Evicting::new(disk), collections, backend).await
}

async fn open_on(
    store: Evicting,
    collections: Vec<CollectionSpec>,
    backend: Option<Nowhere>,
) -> Tab {
    let settings = Settings {
        collections,
        engine: Config {
            interval_ms: 0.0,
            has_backend: backend.is_some(),
            auto_start: backend.is_some(),
        },
        max_attempts: 3,
        strict_rescue: false,
        version: 1,
    };
    let ear = Box::new(Deaf(store.handed.clone()));
    let tab: Tab = Manager::open(settings, store, backend, Still, true, ear, same())
        .await
        .unwrap();
    tab.signal(Event::Leader(true));
    tab
}

async fn submit(tab: &Tab, intent: Intent<Slot>) -> Result<usize> {
    let (tell, told) = oneshot::channel();
    tab.submit(intent, Box::new(move |result| drop(tell.send(result))));
    told.await.unwrap()
}

#[derive(Debug, Clone)]
enum Op {
    Put(u8, u8, u32),
    Update(u8, u8, u32),
    Delete(u8, u8),
    Many(u8, u8, u32),
    Send(u8),
    Ack(u8),
    Rekey(u8),
    Fold,
    Sweep,
    Evict(u8),
    Reopen(u8),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let (tab, key, n) = (0..2_u8, 0..12_u8, 0..1000_u32);
    let op = prop_oneof![
        4 => (tab.clone(), key.clone(), n.clone()).prop_map(|(t, k, n)| Op::Put(t, k, n)),
        4 => (tab.clone(), key.clone(), n.clone()).prop_map(|(t, k, n)| Op::Update(t, k, n)),
        2 => (tab.clone(), key.clone()).prop_map(|(t, k)| Op::Delete(t, k)),
        1 => (tab.clone(), key.clone(), n).prop_map(|(t, k, n)| Op::Many(t, k, n)),
        3 => tab.clone().prop_map(Op::Send),
        3 => tab.clone().prop_map(Op::Ack),
        2 => tab.clone().prop_map(Op::Rekey),
        3 => Just(Op::Fold),
        1 => Just(Op::Sweep),
        2 => tab.clone().prop_map(Op::Evict),
        2 => tab.prop_map(Op::Reopen),
    ];
    prop::collection::vec(op, 1..60)
}

/// One queued change of the model.
#[derive(Debug, Clone)]
struct Queued {
    action: Action,
    sent: bool,
}

/// What should be: records as a map, changes as a list for each record.
#[derive(Debug, Default)]
struct Model {
    shown: BTreeMap<String, u32>,
    /// Whether the backend has the record.
    remote: BTreeMap<String, bool>,
    queue: BTreeMap<String, Vec<Queued>>,
    /// Keys that stand for others.
    aliases: BTreeMap<String, String>,
}

impl Model {
    fn present(&self, key: &str) -> String {
        let queued = self.queue.get(key).is_some_and(|q| !q.is_empty());
        if queued || self.shown.contains_key(key) {
            return key.to_owned();
        }
        match self.aliases.get(key) {
            Some(to) => self.present(to),
            None => key.to_owned(),
        }
    }

    fn rekey(&mut self, from: &str, to: &str) {
        self.aliases.insert(from.to_owned(), to.to_owned());
        if let Some(n) = self.shown.remove(from) {
            self.shown.insert(to.to_owned(), n);
        }
        let queue = self.queue.remove(from).unwrap();
        self.queue.insert(to.to_owned(), queue);
    }

    fn write(&mut self, key: &str, value: Option<u32>) {
        let key = &self.present(key);
        let had = self.shown.contains_key(key);
        match value {
            Some(n) => self.shown.insert(key.to_owned(), n),
            None => self.shown.remove(key),
        };
        let new = match (had, value) {
            (false, Some(_)) => Action::Create,
            (true, Some(_)) => Action::Update,
            (_, None) => Action::Delete,
        };
        let there = self.remote.get(key).copied().unwrap_or(false);
        let queue = self.queue.entry(key.to_owned()).or_default();
        let alone = queue.len() == 1;
        match queue.last_mut().filter(|last| !last.sent) {
            None => queue.push(Queued {
                action: new,
                sent: false,
            }),
            Some(last) => match (last.action, new) {
                (Action::Create, Action::Delete) => {
                    queue.pop();
                }
                (Action::Create, _) => {}
                (Action::Delete, Action::Create) if alone && !there => last.action = Action::Create,
                (Action::Delete, Action::Create) => last.action = Action::Update,
                (_, Action::Delete) => last.action = Action::Delete,
                _ => last.action = Action::Update,
            },
        }
    }

    /// What of the queue there is, one line a change.
    fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for (key, queue) in &self.queue {
            for it in queue {
                lines.push(format!("{key} {} {}", it.action.as_str(), it.sent));
            }
        }
        lines.sort();
        lines
    }
}

struct Story {
    disk: MemoryStore<Slot>,
    tabs: Vec<Tab>,
    model: Model,
    version: u64,
}

impl Story {
    async fn new() -> Self {
        let disk = MemoryStore::new("c");
        let tabs = vec![open(&disk).await, open(&disk).await];
        Self {
            disk,
            tabs,
            model: Model::default(),
            version: 0,
        }
    }

    async fn write(&mut self, tab: u8, writes: Vec<Write<Slot>>) -> Result<usize> {
        let tab = &self.tabs[usize::from(tab)];
        submit(
            tab,
            Intent::Write("things".into(), writes, WriteOptions::default()),
        )
        .await
    }

    fn heads(&self, sent: bool) -> Vec<(MutationNo, String)> {
        let entries = self.tabs[0].outbox(&OutboxFilter::default());
        let mut seen = Vec::new();
        let mut heads = Vec::new();
        for entry in entries {
            let key = entry.mutation.key.to_string();
            if !seen.contains(&key) {
                if entry.mutation.sent == sent {
                    heads.push((entry.mutation.no, key.clone()));
                }
                seen.push(key);
            }
        }
        heads
    }

    async fn play(&mut self, op: &Op) {
        let record = |key: &str, n: u32| Slot::new(json!({ "id": key, "n": n, "k": [n, key] }));
        match op {
            Op::Put(tab, key, n) => {
                let key = format!("k{key}");
                let write = Write::Put(record(&key, *n));
                self.write(*tab, vec![write]).await.unwrap();
                self.model.write(&key, Some(*n));
            }
            Op::Many(tab, key, n) => {
                let keys: Vec<String> = (*key..*key + 4).map(|k| format!("k{k}")).collect();
                let writes = keys.iter().map(|k| Write::Put(record(k, *n))).collect();
                self.write(*tab, writes).await.unwrap();
                for key in keys {
                    self.model.write(&key, Some(*n));
                }
            }
            Op::Update(tab, key, n) => {
                let key = format!("k{key}");
                let write = Write::Update {
                    key: key.as_str().into(),
                    patch: record(&key, *n),
                    changed: Rc::from([Rc::from("n"), Rc::from("k")]),
                };
                let done = self.write(*tab, vec![write]).await;
                let there = self.model.shown.contains_key(&self.model.present(&key));
                assert_eq!(done.is_ok(), there, "an update of {key}");
                if there {
                    self.model.write(&key, Some(*n));
                }
            }
            Op::Delete(tab, key) => {
                let key = format!("k{key}");
                let write = Write::Delete(key.as_str().into());
                self.write(*tab, vec![write]).await.unwrap();
                if self.model.shown.contains_key(&self.model.present(&key)) {
                    self.model.write(&key, None);
                }
            }
            Op::Send(tab) => {
                self.catch_up().await;
                let heads = self.heads(false);
                let nos = heads.iter().map(|(no, _)| *no).collect();
                let tab = &self.tabs[usize::from(*tab)];
                submit(tab, Intent::MarkSent(nos)).await.unwrap();
                for (_, key) in heads {
                    self.model.queue.get_mut(&key).unwrap()[0].sent = true;
                }
            }
            Op::Ack(tab) => {
                self.catch_up().await;
                let mut verdicts = Vec::new();
                for (no, key) in self.heads(true) {
                    self.version += 1;
                    let version = Version(self.version);
                    verdicts.push((
                        no,
                        Verdict::Success {
                            version,
                            data: None,
                        },
                    ));
                    let gone = self.model.queue.get_mut(&key).unwrap().remove(0);
                    self.model.remote.insert(key, gone.action != Action::Delete);
                }
                let tab = &self.tabs[usize::from(*tab)];
                submit(tab, Intent::Verdicts(verdicts)).await.unwrap();
            }
            Op::Rekey(tab) => {
                self.catch_up().await;
                let mut verdicts = Vec::new();
                for (no, key) in self.heads(true) {
                    if self.model.queue[&key][0].action != Action::Create {
                        continue;
                    }
                    self.version += 1;
                    let version = Version(self.version);
                    let to = format!("r{}", self.version);
                    let then = Box::new(Verdict::Success {
                        version,
                        data: None,
                    });
                    let key_there = Name::from(to.as_str());
                    let verdict = Verdict::Rekeyed {
                        key: key_there,
                        then,
                    };
                    verdicts.push((no, verdict));
                    self.model.rekey(&key, &to);
                    self.model.queue.get_mut(&to).unwrap().remove(0);
                    self.model.remote.insert(to, true);
                }
                let tab = &self.tabs[usize::from(*tab)];
                submit(tab, Intent::Verdicts(verdicts)).await.unwrap();
            }
            Op::Fold => {
                self.tabs[0].fold().await.unwrap();
            }
            Op::Sweep => {
                // Nobody else has it open.
                self.tabs.truncate(1);
                self.tabs[0].sweep().await.unwrap();
                self.tabs.push(open(&self.disk).await);
            }
            Op::Evict(tab) => self.tabs[usize::from(*tab)].store().evict_all(),
            Op::Reopen(tab) => self.tabs[usize::from(*tab)] = open(&self.disk).await,
        }
    }

    async fn catch_up(&self) {
        for tab in &self.tabs {
            tab.submit_catch_up();
            let (tell, told) = oneshot::channel();
            tab.settle(Box::new(move || {
                let _ = tell.send(());
            }));
            told.await.unwrap();
        }
    }

    async fn check(&self) {
        self.catch_up().await;
        for tab in &self.tabs {
            let mut values = Vec::new();
            tab.each("things", |v| values.push(v.clone())).unwrap();
            let missing = values.iter().filter(|v| !v.is_resident()).cloned();
            tab.fetch_values(missing.collect()).await.unwrap();
            let all: BTreeMap<String, u32> = values
                .iter()
                .map(|v| {
                    let n = v.json()["n"].as_u64().unwrap() as u32;
                    let key = v.json()["id"].as_str().unwrap().to_owned();
                    // Its second part is the key that it was written with.
                    assert_eq!(v.json()["k"][0], json!(n), "torn");
                    (key, n)
                })
                .collect();
            assert_eq!(all, self.model.shown);
            for key in self.model.aliases.keys() {
                let found = tab.get("things", key).unwrap();
                let found = found.map(|v| v.json()["n"].as_u64().unwrap() as u32);
                let there = self.model.shown.get(&self.model.present(key));
                assert_eq!(found.as_ref(), there, "{key}");
            }
            let query = crate::replica::index::Query {
                index: Some(vec!["n".into()]),
                ..Default::default()
            };
            let missing = tab.missing_for_query("things", &query);
            tab.fetch_values(missing).await.unwrap();
            assert_eq!(tab.count("things", &query).unwrap(), all.len());
            let entries = tab.outbox(&OutboxFilter::default());
            let line = |e: &crate::driver::OutboxView<Slot>| {
                let m = &e.mutation;
                format!("{} {} {}", m.key, m.action.as_str(), m.sent)
            };
            let mut lines: Vec<String> = entries.iter().map(line).collect();
            lines.sort();
            assert_eq!(lines, self.model.lines());
            assert_eq!(tab.status().pending, lines.len());
            assert_eq!(tab.status().collections[0].count, all.len());
        }
    }
}

fn play(ops: &[Op]) {
    run(async {
        let mut story = Story::new().await;
        for op in ops {
            story.play(op).await;
            story.check().await;
        }
        // What a new process reads is the same.
        story.tabs = vec![open(&story.disk).await];
        story.check().await;
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_log_equals_a_map_and_a_list(ops in ops()) {
        play(&ops);
    }
}

#[test]
fn what_is_swept_is_neither_needed_nor_written_again() {
    run(async {
        let mut story = Story::new().await;
        for n in 0..40_u32 {
            story.play(&Op::Put(0, (n % 10) as u8, n)).await;
        }
        story.play(&Op::Send(0)).await;
        story.play(&Op::Ack(0)).await;
        let before = story.disk.sizes();
        story.play(&Op::Fold).await;
        story.play(&Op::Sweep).await;
        let (entries, segments) = story.disk.sizes();
        assert!(before.0 >= 42 && entries == 0, "{before:?}, then {entries}");
        assert!(segments > 0);
        story.check().await;
        // Numbers go on where they were: an id is never given twice.
        story.play(&Op::Put(1, 3, 77)).await;
        let numbers = story.tabs[1].outbox(&OutboxFilter::default());
        assert!(numbers[0].mutation.no > 10, "{}", numbers[0].mutation.no);
        story.check().await;
    });
}

/// A record that both tabs have from a segment.
async fn synced() -> Story {
    let mut story = Story::new().await;
    let ops = [Op::Put(0, 1, 5), Op::Send(0), Op::Ack(0), Op::Fold];
    for op in ops.into_iter().chain([Op::Reopen(0), Op::Reopen(1)]) {
        story.play(&op).await;
    }
    story.check().await;
    story
}

/// What it shows after the only change that is queued for it is discarded.
async fn discarded(tab: &Tab, no: MutationNo) -> Json {
    submit(tab, Intent::Discard(no)).await.unwrap();
    let shown = tab.get("things", "k1").unwrap().unwrap();
    tab.fetch_values(vec![shown.clone()]).await.unwrap();
    (**shown.json()).clone()
}

#[test]
fn what_a_change_was_made_on_outlives_its_segment() {
    run(async {
        let mut story = synced().await;
        for op in [Op::Update(0, 1, 6), Op::Fold, Op::Sweep, Op::Evict(0)] {
            story.play(&op).await;
        }
        let queued = story.tabs[0].outbox(&OutboxFilter::default());
        let shown = discarded(&story.tabs[0], queued[0].mutation.no).await;
        assert_eq!(shown["n"], 5);
    });
}

#[test]
fn what_a_rewritten_change_was_made_on_is_stored_with_it() {
    run(async {
        let mut story = synced().await;
        story.play(&Op::Put(0, 2, 7)).await;
        let [parent] = &story.tabs[0].outbox(&OutboxFilter::default())[..] else {
            panic!("one change");
        };
        let parent = parent.mutation.no;
        let update = Write::Update {
            key: "k1".into(),
            patch: Slot::new(json!({ "of": "k2" })),
            changed: Rc::from([Rc::from("of")]),
        };
        story.write(0, vec![update]).await.unwrap();
        let tab = &story.tabs[0];
        submit(tab, Intent::MarkSent(vec![parent])).await.unwrap();
        tab.store().evict_all();
        let then = Box::new(Verdict::Success {
            version: Version(9),
            data: None,
        });
        let key = "r".into();
        let rekeyed = Verdict::Rekeyed { key, then };
        let verdicts = Intent::Verdicts(vec![(parent, rekeyed)]);
        submit(tab, verdicts).await.unwrap();
        story.play(&Op::Reopen(1)).await;
        story.catch_up().await;
        for tab in &story.tabs {
            let queued = tab.outbox(&OutboxFilter::default());
            let m = &queued[0].mutation;
            assert_eq!(m.value.as_ref().unwrap().json()["of"], "r");
            tab.fetch_values(vec![m.base.clone().unwrap()])
                .await
                .unwrap();
            assert_eq!(m.base.as_ref().unwrap().json()["n"], 5);
        }
    });
}

#[test]
fn what_could_not_be_fetched_is_taken_in_the_next_time() {
    run(async {
        let mut story = synced().await;
        story.play(&Op::Update(0, 1, 2)).await;
        story.check().await;
        story.play(&Op::Update(0, 1, 3)).await;
        let store = story.tabs[1].store();
        store.evict_all();
        store.fetch_fails.set(true);
        story.catch_up().await;
        assert!(!story.tabs[1].store().fetch_fails.get(), "it was asked for");
        story.check().await;
        // Nor is it folded away by the tab that had no luck.
        story.play(&Op::Update(0, 1, 4)).await;
        let store = story.tabs[1].store();
        store.evict_all();
        store.fetch_fails.set(true);
        story.catch_up().await;
        story.tabs.remove(0);
        story.tabs[0].fold().await.unwrap();
        story.tabs = vec![open(&story.disk).await];
        story.check().await;
    });
}

#[test]
fn the_rescue_copy_is_given_whole_mutations() {
    run(async {
        let mut story = Story::new().await;
        for op in [Op::Put(0, 1, 5), Op::Send(0), Op::Ack(0), Op::Fold] {
            story.play(&op).await;
        }
        // Its base is in a segment, which is let go.
        story.play(&Op::Update(0, 1, 6)).await;
        let tab = &story.tabs[0];
        tab.start_rescue(0, crate::hlc::Hlc::default(), false);
        tab.store().evict_all();
        tab.rescue_now().await;
    });
}

/// A tab with three records in segments, whose rescue copy has all of the queue: it is empty.
async fn rescued() -> Story {
    let mut story = Story::new().await;
    let puts = [Op::Put(0, 1, 5), Op::Put(0, 2, 5), Op::Put(0, 3, 5)];
    for op in puts.iter().chain(&[Op::Send(0), Op::Ack(0), Op::Fold]) {
        story.play(op).await;
    }
    let tab = &story.tabs[0];
    tab.start_rescue(1, crate::hlc::Hlc::default(), false);
    tab.rescue_now().await;
    tab.store().handed.take();
    story
}

#[test]
fn nothing_is_missing_in_the_rescue_copy_only_when_nobody_reads_for_it() {
    run(async {
        let mut story = rescued().await;
        story.play(&Op::Update(0, 1, 6)).await;
        let store = story.tabs[0].store();
        store.evict_all();
        let (go, held) = oneshot::channel();
        store.held.replace(Some(held));
        let first = story.tabs[0].clone();
        let first = tokio::task::spawn_local(async move { first.rescue_now().await });
        pass(1).await;
        // Another batch is made meanwhile: a kill now must not make it the last word.
        story.play(&Op::Put(0, 9, 7)).await;
        let second = story.tabs[0].clone();
        let second = tokio::task::spawn_local(async move { second.rescue_now().await });
        pass(1).await;
        let told = story.tabs[0].store().handed.clone();
        let handed = || told.take();
        assert_eq!(handed(), ["put [5] all below 4"]);
        go.send(()).unwrap();
        first.await.unwrap();
        second.await.unwrap();
        assert_eq!(handed(), ["put [4] all below 6"]);
    });
}

#[test]
fn what_is_damaged_keeps_nothing_else_from_the_rescue_copy() {
    run(async {
        let mut story = rescued().await;
        for op in [Op::Update(0, 1, 6), Op::Update(0, 2, 6)] {
            story.play(&op).await;
        }
        let store = story.tabs[0].store();
        store.evict_all();
        store.torn.set(Some("k1"));
        story.tabs[0].rescue_now().await;
        let told = story.tabs[0].store().handed.clone();
        let handed = || told.take();
        assert_eq!(handed(), ["put [5] all below 4"]);
        story.play(&Op::Put(0, 9, 7)).await;
        story.tabs[0].rescue_now().await;
        assert_eq!(handed(), ["put [6] all below 4"]);
        // It can be read again.
        story.tabs[0].store().torn.set(None);
        story.tabs[0].rescue_now().await;
        assert_eq!(handed(), ["put [4] all below 7"]);
    });
}

#[test]
fn what_a_query_looks_at_is_fetched_first() {
    run(async {
        let mut story = Story::new().await;
        for op in [Op::Put(0, 1, 5), Op::Send(0), Op::Ack(0), Op::Fold] {
            story.play(&op).await;
        }
        let tab = &story.tabs[0];
        tab.store().evict_all();
        let query = crate::replica::index::Query {
            index: Some(vec!["n".into()]),
            ..Default::default()
        };
        let missing = tab.missing_for_query("things", &query);
        assert_eq!(missing.len(), 1);
        tab.fetch_values(missing).await.unwrap();
        assert_eq!(tab.count("things", &query), Ok(1));
        assert!(tab.missing_for_query("things", &query).is_empty());
    });
}

#[test]
fn a_deletion_does_not_wait_for_what_refers_to_something_else() {
    run(async {
        let mut notes = CollectionSpec::new("notes", "id");
        notes.references = vec![("siteId".into(), "sites".into())];
        let specs = vec![CollectionSpec::new("sites", "id"), notes];
        let tab = open_with(&MemoryStore::new("c"), specs, Some(Nowhere)).await;
        let pulled = |collection: &str, key: &str, data| Pulled {
            collection: collection.into(),
            key: key.into(),
            version: Version(1),
            data: Some(Slot::new(data)),
            at: None,
        };
        let page = Page {
            changes: vec![
                pulled("sites", "s", json!({ "id": "s" })),
                pulled("notes", "n", json!({ "id": "n", "siteId": "other" })),
            ],
            checkpoint: "1".into(),
            has_more: false,
            server_ms: None,
        };
        submit(&tab, Intent::Page(None, page)).await.unwrap();
        tab.fold().await.unwrap();
        tab.store().evict_all();
        let write = |collection: &str, write| {
            let options = WriteOptions::default();
            submit(&tab, Intent::Write(collection.into(), vec![write], options))
        };
        let create = Write::Create(Slot::new(json!({ "id": "new" })));
        write("sites", create).await.unwrap();
        let put = Write::Put(Slot::new(json!({ "id": "n", "siteId": "new" })));
        write("notes", put).await.unwrap();
        write("sites", Write::Delete("s".into())).await.unwrap();
        let refusal = Refusal {
            code: "no".into(),
            message: "no".into(),
        };
        let retryable = false;
        let refused = Verdict::Failed { refusal, retryable };
        submit(&tab, Intent::Verdicts(vec![(1, refused)]))
            .await
            .unwrap();
        let waits = || tab.outbox(&OutboxFilter::default()).remove(2).waits_for;
        assert_eq!(waits().as_deref(), Some("c.2"), "what it was is not read");
        tab.signal(Event::Sync);
        pass(1).await;
        assert_eq!(waits(), None);
    });
}

#[test]
fn what_cannot_be_fetched_refuses_only_whoever_needs_it() {
    run(async {
        let mut story = Story::new().await;
        for op in [Op::Put(0, 1, 5), Op::Send(0), Op::Ack(0), Op::Fold] {
            story.play(&op).await;
        }
        let tab = &story.tabs[0];
        tab.store().evict_all();
        tab.store().lost.set(true);
        let write = |write| Intent::Write("things".into(), vec![write], WriteOptions::default());
        let record = |key| Slot::new(json!({ "id": key, "n": 7 }));
        let patch = Write::Update {
            key: "k1".into(),
            patch: record("k1"),
            changed: Rc::from([Rc::from("n")]),
        };
        let writes = [
            Write::Create(record("a")),
            patch,
            Write::Create(record("b")),
        ];
        let told = writes.map(|one| submit(tab, write(one)));
        let told = futures_util::future::join_all(told).await;
        let codes: Vec<_> = told.into_iter().map(|r| r.map_err(|e| e.code)).collect();
        assert_eq!(codes, [Ok(1), Err(Code::DatabaseDamaged), Ok(1)]);
    });
}

#[test]
fn what_all_that_is_parked_shows_on_is_fetched_first() {
    run(async {
        let mut story = Story::new().await;
        for op in [Op::Put(0, 1, 5), Op::Send(0), Op::Ack(0), Op::Fold] {
            story.play(&op).await;
        }
        let tab = &story.tabs[0];
        let patch = |optimistic, n| {
            let write = Write::Update {
                key: "k1".into(),
                patch: Slot::new(json!({ "n": n })),
                changed: Rc::from([Rc::from("n")]),
            };
            let options = WriteOptions {
                local_only: None,
                optimistic: Some(optimistic),
            };
            Intent::Write("things".into(), vec![write], options)
        };
        tab.submit(patch(false, 6), Box::new(|_| {}));
        submit(tab, patch(true, 7)).await.unwrap();
        let refusal = Refusal {
            code: "no".into(),
            message: "no".into(),
        };
        let retryable = false;
        let no = tab.outbox(&OutboxFilter::default())[0].mutation.no;
        let refused = Verdict::Failed { refusal, retryable };
        submit(tab, Intent::Verdicts(vec![(no, refused)]))
            .await
            .unwrap();
        tab.store().evict_all();
        assert_eq!(submit(tab, Intent::Retry(None)).await, Ok(1));
    });
}

#[test]
fn a_first_reading_that_fails_half_way_goes_on_where_it_ended() {
    run(async {
        let mut story = Story::new().await;
        let (update, send, ack) = (|n| Op::Update(0, 1, n), Op::Send(0), Op::Ack(0));
        let folded = [Op::Put(0, 1, 1), send.clone(), Op::Fold];
        let after = [update(2), ack, send, update(3)];
        for op in folded.into_iter().chain(after) {
            story.play(&op).await;
        }
        for n in 0..20 {
            story.play(&Op::Put(0, 2, n)).await;
        }
        let store = Evicting::new(&story.disk);
        store.reads.set(Some(1));
        story.tabs = vec![open_on(store, things(), None).await];
        story.catch_up().await;
        assert_eq!(story.tabs[0].store().reads.get(), None, "it was read");
        story.check().await;
        story.play(&Op::Ack(0)).await;
        story.play(&Op::Send(0)).await;
        story.check().await;
    });
}

/// An update of some fields of a record.
fn patch(key: &str, optimistic: bool, patch: Json) -> (Name, Write<Slot>, WriteOptions) {
    let names = patch.as_object().unwrap().keys();
    let write = Write::Update {
        key: key.into(),
        changed: names.map(|n| Rc::from(n.as_str())).collect(),
        patch: Slot::new(patch),
    };
    let options = WriteOptions {
        local_only: None,
        optimistic: Some(optimistic),
    };
    ("things".into(), write, options)
}

#[test]
fn what_shows_on_top_of_a_record_is_shown_in_other_tabs() {
    run(async {
        let story = synced().await;
        let (one, other) = (&story.tabs[0], &story.tabs[1]);
        other.store().evict_all();
        let hidden = patch("k1", false, json!({ "n": 6 }));
        for (name, write, options) in [hidden, patch("k1", true, json!({ "m": 7 }))] {
            let write = Intent::Write(name, vec![write], options);
            one.submit(write, Box::new(|_| {}));
        }
        story.catch_up().await;
        let shown = other.get("things", "k1").unwrap().unwrap();
        let both = json!({ "id": "k1", "n": 5, "k": [5, "k1"], "m": 7 });
        assert_eq!(**shown.json(), both);
    });
}

#[test]
fn what_shows_on_top_of_a_record_joins_another_group() {
    run(async {
        let mut story = synced().await;
        story.tabs.truncate(1);
        let tab = &story.tabs[0];
        let new = |key: &str| {
            let write = Write::Create(Slot::new(json!({ "id": key, "n": 1 })));
            ("things".into(), write, WriteOptions::default())
        };
        let transact = |writes| {
            let (reads, grouped) = (Vec::new(), true);
            let transaction = Transaction {
                writes,
                reads,
                grouped,
            };
            tab.submit(Intent::Transaction(transaction), Box::new(|_| {}));
        };
        transact(vec![new("k2"), new("k3")]);
        let hidden = patch("k1", false, json!({ "n": 6 }));
        transact(vec![
            hidden,
            patch("k1", true, json!({ "m": 7 })),
            new("k4"),
        ]);
        story.catch_up().await;
        tab.store().evict_all();
        let of_both = ["k2", "k4"].map(|key| patch(key, true, json!({ "n": 2 })));
        transact(of_both.into());
        story.catch_up().await;
        let queued = tab.outbox(&OutboxFilter::default()).into_iter();
        let groups: Vec<_> = queued.map(|e| e.mutation.group.unwrap()).collect();
        assert!(groups.len() == 4 && groups.iter().all(|g| *g == groups[0]));
    });
}

/// The backend's answer tells of the key, or a page where the answer was lost.
#[test]
fn what_shows_on_top_of_a_record_comes_to_refer_to_a_present_key() {
    run(async {
        for by_page in [false, true] {
            let mut story = synced().await;
            story.tabs.truncate(1);
            let tab = &story.tabs[0];
            let write = |(name, write, options)| Intent::Write(name, vec![write], options);
            let parent = Write::Create(Slot::new(json!({ "id": "p", "n": 1 })));
            let parent = write(("things".into(), parent, WriteOptions::default()));
            submit(tab, parent).await.unwrap();
            let created = tab.outbox(&OutboxFilter::default()).remove(0).mutation;
            let hidden = patch("k1", false, json!({ "n": 6 }));
            tab.submit(write(hidden), Box::new(|_| {}));
            let refers = patch("k1", true, json!({ "of": "p" }));
            submit(tab, write(refers)).await.unwrap();
            submit(tab, Intent::MarkSent(vec![created.no]))
                .await
                .unwrap();
            tab.store().evict_all();
            let moved = if by_page {
                let change = Pulled {
                    collection: "things".into(),
                    key: "q".into(),
                    version: Version(9),
                    data: Some(Slot::new(json!({ "id": "q", "n": 1 }))),
                    at: Some(created.at_text(&tab.client()).into()),
                };
                let page = Page {
                    changes: vec![change],
                    checkpoint: "9".into(),
                    has_more: false,
                    server_ms: None,
                };
                Intent::Page(None, page)
            } else {
                let (version, data) = (Version(9), None);
                let verdict = Verdict::Rekeyed {
                    key: "q".into(),
                    then: Box::new(Verdict::Success { version, data }),
                };
                Intent::Verdicts(vec![(created.no, verdict)])
            };
            submit(tab, moved).await.unwrap();
            let shown = tab.get("things", "k1").unwrap().unwrap();
            let both = json!({ "id": "k1", "n": 5, "k": [5, "k1"], "of": "q" });
            assert_eq!(**shown.json(), both);
        }
    });
}
