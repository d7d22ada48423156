//! What the tests stand on: a clock on virtual time, the model of the server, and a client that can
//! crash.

pub(super) use super::server::*;

use crate::conflict::{Answer, Question};
use crate::driver::{
    Clock, Listener, Manager, OutboxFilter, OutboxView, RescueBatch, Settings, Status, WriteTurn,
};
use crate::engine::{Config, Event};
use crate::error::{Error, Result};
use crate::model::{MutationNo, Name};
use crate::options::CollectionSpec;
use crate::replica::plan::{Intent, Notice, Write, WriteOptions};
use crate::store::memory::MemoryStore;
use futures_channel::oneshot;
use serde_json::{Value as Json, json};
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use tokio::time::{Duration, Instant, sleep};

pub(super) type Record = Rc<Json>;
pub(super) type TestManager = Manager<Record, MemoryStore<Record>, TestBackend, TestClock>;

/// Runs a test on virtual time: sleeping costs nothing.
pub(super) fn run(test: impl Future<Output = ()>) {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_time().start_paused(true).build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, test);
}

/// Lets so many virtual milliseconds pass.
pub(super) async fn pass(ms: u64) {
    sleep(Duration::from_millis(ms)).await;
}

/// A small generator of chance, the same for the same seed (xorshift).
#[derive(Clone)]
pub(super) struct Chance(Rc<Cell<u64>>);

impl Chance {
    pub(super) fn new(seed: u64) -> Self {
        Self(Rc::new(Cell::new(
            seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
        )))
    }

    pub(super) fn next(&self) -> u64 {
        let mut x = self.0.get();
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.0.set(x);
        x >> 11
    }

    pub(super) fn below(&self, n: u64) -> u64 {
        self.next() % n
    }
}

pub(super) struct TestClock {
    start: Instant,
    skew_ms: Rc<Cell<f64>>,
    chance: Chance,
}

impl Clock for TestClock {
    fn now_ms(&self) -> f64 {
        true_ms(self.start) + self.skew_ms.get()
    }

    fn random(&self) -> f64 {
        self.chance.below(1_000_000) as f64 / 1_000_000.0
    }

    async fn sleep(&self, ms: f64) {
        // Whole milliseconds, upwards: a timer that fires early would be set again without end.
        sleep(Duration::from_millis(ms.ceil() as u64)).await;
    }

    async fn pause(&self) {
        // Not at once: what needs no time is faster.
        pass(1).await;
    }

    fn spawn(&self, task: Pin<Box<dyn Future<Output = ()>>>) {
        tokio::task::spawn_local(task);
    }
}

/// What the time really is.
pub(super) fn true_ms(start: Instant) -> f64 {
    1_763_000_000_000.0 + start.elapsed().as_secs_f64() * 1000.0
}

/// What listeners were told, in order.
#[derive(Default)]
pub(super) struct Told(pub(super) RefCell<Vec<String>>);

/// What is told, who decides, and how long the rescue copy takes, ms.
struct Ear(Rc<Told>, Decide, u64);

/// The app's function for conflicts: what it is asked, and its answer.
pub(super) type Decide = Rc<dyn Fn(Question<Record>) -> Decision>;
pub(super) type Decision = Pin<Box<dyn Future<Output = Result<Answer<Record>>>>>;

/// A function that answers at once.
pub(super) fn at_once(
    answer: impl Fn(Question<Record>) -> Result<Answer<Record>> + 'static,
) -> Decide {
    Rc::new(move |question| Box::pin(std::future::ready(answer(question))))
}

/// Tells when a turn of writing begins and ends.
struct Turn(Rc<Told>);

impl Turn {
    fn new(told: Rc<Told>) -> Self {
        told.0.borrow_mut().push("turn".into());
        Self(told)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.0.borrow_mut().push("turn over".into());
    }
}

impl Listener<Record> for Ear {
    fn committed(&self, touched: &[Name], notices: &[Notice<Record>], own: bool) {
        if own {
            self.0
                .0
                .borrow_mut()
                .push(format!("touched {}", touched.join(" ")));
        }
        for notice in notices {
            let text = match notice {
                Notice::Confirmed(no, ..) => format!("confirmed {no}"),
                Notice::Parked(no) => format!("parked {no}"),
                Notice::Rekeyed(name, from, to) => format!("rekeyed {name} {from} {to}"),
                Notice::Conflict(c) => format!("conflict {} {}", c.key, c.outcome.as_str()),
                Notice::Pulled(n) => format!("pulled {n}"),
            };
            self.0.0.borrow_mut().push(text);
        }
    }

    fn status_changed(&self) {}

    fn failed(&self, error: &Error) {
        self.0
            .0
            .borrow_mut()
            .push(format!("error {}", error.code.as_str()));
    }

    fn folded(&self) {
        self.0.0.borrow_mut().push("folded".into());
    }

    fn decide(&self, question: Question<Record>) -> Decision {
        self.1(question)
    }

    fn turn(&self) -> Pin<Box<dyn Future<Output = Option<WriteTurn>>>> {
        let turn = Turn::new(self.0.clone());
        Box::pin(async { Some(Box::new(turn) as WriteTurn) })
    }

    fn rescue(&self, batch: RescueBatch<Record>) -> Pin<Box<dyn Future<Output = ()>>> {
        let put: Vec<MutationNo> = batch.put.iter().map(|held| held.mutation.no).collect();
        let (gone, next_no) = (&batch.gone, batch.next_no);
        let text = format!("rescue put {put:?} gone {gone:?} all below {next_no}");
        self.0.0.borrow_mut().push(text);
        if let Some(alive) = &batch.alive {
            let text = format!("alive {:?} below {}", alive.stretches, alive.below);
            self.0.0.borrow_mut().push(text);
        }
        for m in batch.put.iter().map(|held| &held.mutation) {
            let n = m.value.as_ref().map(|value| &value["n"]);
            let text = format!("holds {} with {n:?}", m.no);
            self.0.0.borrow_mut().push(text);
        }
        let (told, takes_ms) = (self.0.clone(), self.2);
        Box::pin(async move {
            if takes_ms > 0 {
                pass(takes_ms).await;
                told.0.borrow_mut().push(format!("kept {put:?}"));
            }
        })
    }
}

pub(super) type TestMigrate = Rc<dyn Fn(&Name, &Record, u32) -> Result<Record>>;

/// A browser profile: a disk that survives crashes, and tabs on it.
pub(super) struct Device {
    pub(super) store: MemoryStore<Record>,
    pub(super) backend: TestBackend,
    pub(super) specs: Vec<CollectionSpec>,
    pub(super) told: Rc<Told>,
    chance: Chance,
    pub(super) skew_ms: Rc<Cell<f64>>,
    pub(super) version: u32,
    pub(super) strict: bool,
    pub(super) rescue_ms: u64,
    pub(super) migrate: TestMigrate,
    pub(super) decide: Decide,
    start: Instant,
}

pub(super) fn specs() -> Vec<CollectionSpec> {
    let mut notes = CollectionSpec::new("notes", "id");
    notes.references = vec![("siteId".into(), "sites".into())];
    notes.indexes = vec![vec!["siteId".into()]];
    notes.priority = 1;
    vec![CollectionSpec::new("sites", "id"), notes]
}

impl Device {
    pub(super) fn new(client: &str, server: &Rc<RefCell<Server>>, seed: u64) -> Self {
        let chance = Chance::new(seed);
        let server = server.clone();
        Self {
            store: MemoryStore::new(client),
            backend: TestBackend {
                server,
                latency_ms: 20,
                page: 7,
                chance: chance.clone(),
            },
            specs: specs(),
            told: Rc::default(),
            chance,
            skew_ms: Rc::default(),
            version: 1,
            strict: false,
            rescue_ms: 0,
            migrate: Rc::new(|_, value, _| Ok(value.clone())),
            decide: at_once(|_| Ok(Answer::Park)),
            start: Instant::now(),
        }
    }

    /// Opens a tab that leads and syncs.
    pub(super) async fn open(&self) -> TestManager {
        let manager = self.open_idle().await;
        manager.signal(Event::Leader(true));
        manager
    }

    /// Opens a tab that does not sync (yet).
    pub(super) async fn open_idle(&self) -> TestManager {
        self.try_open().await.unwrap()
    }

    /// Opens a tab that does not sync, or learns why it cannot.
    pub(super) async fn try_open(&self) -> Result<TestManager> {
        let settings = Settings {
            collections: self.specs.clone(),
            engine: Config {
                interval_ms: 30_000.0,
                has_backend: true,
                auto_start: true,
            },
            max_attempts: 3,
            strict_rescue: self.strict,
            version: self.version,
        };
        let clock = TestClock {
            start: self.start,
            skew_ms: self.skew_ms.clone(),
            chance: self.chance.clone(),
        };
        let ear = Box::new(Ear(self.told.clone(), self.decide.clone(), self.rescue_ms));
        let (store, backend) = (self.store.clone(), Some(self.backend.clone()));
        let migrate = self.migrate.clone();
        let migrate = Box::new(move |name: &Name, value: &Record, from| migrate(name, value, from));
        Manager::open(settings, store, backend, clock, true, ear, migrate).await
    }
}

/// Hands in an intent and waits for its end.
pub(super) async fn submit(manager: &TestManager, intent: Intent<Record>) -> Result<usize> {
    let (tell, told) = oneshot::channel();
    manager.submit(intent, Box::new(move |result| drop(tell.send(result))));
    told.await.unwrap()
}

pub(super) async fn create(m: &TestManager, collection: &str, data: Json) -> Result<usize> {
    submit(
        m,
        Intent::Write(
            collection.into(),
            vec![Write::Create(Rc::new(data))],
            WriteOptions::default(),
        ),
    )
    .await
}

pub(super) async fn put(m: &TestManager, collection: &str, data: Json) -> Result<usize> {
    submit(
        m,
        Intent::Write(
            collection.into(),
            vec![Write::Put(Rc::new(data))],
            WriteOptions::default(),
        ),
    )
    .await
}

pub(super) async fn update(m: &TestManager, c: &str, key: &str, patch: Json) -> Result<usize> {
    let changed = patch
        .as_object()
        .unwrap()
        .keys()
        .map(|k| Rc::from(k.as_str()))
        .collect();
    let write = Write::Update {
        key: key.into(),
        patch: Rc::new(patch),
        changed,
    };
    submit(
        m,
        Intent::Write(c.into(), vec![write], WriteOptions::default()),
    )
    .await
}

pub(super) async fn delete(m: &TestManager, collection: &str, key: &str) -> Result<usize> {
    submit(
        m,
        Intent::Write(
            collection.into(),
            vec![Write::Delete(key.into())],
            WriteOptions::default(),
        ),
    )
    .await
}

/// Waits until everything is loaded and stored.
pub(super) async fn settle(m: &TestManager) {
    let (tell, told) = oneshot::channel();
    m.settle(Box::new(move || {
        let _ = tell.send(());
    }));
    told.await.unwrap();
}

/// All records of a collection, as text.
pub(super) async fn dump(m: &TestManager, collection: &str) -> Vec<String> {
    settle(m).await;
    let mut all = Vec::new();
    m.each(collection, |v| all.push(v.to_string())).unwrap();
    all
}

/// The queue in short: `1 create pending`.
pub(super) fn queue(m: &TestManager) -> Vec<String> {
    let entries: Vec<OutboxView<Record>> = m.outbox(&OutboxFilter::default());
    let short = |e: &OutboxView<Record>| {
        format!(
            "{} {} {}",
            e.mutation.no,
            e.mutation.action.as_str(),
            e.state
        )
    };
    entries.iter().map(short).collect()
}

/// Waits until a status, or fails after ten virtual minutes.
pub(super) async fn until(m: &TestManager, what: &str, wanted: impl Fn(&Status) -> bool) {
    for _ in 0..12_000 {
        if wanted(&m.status()) {
            return;
        }
        pass(10).await;
    }
    panic!(
        "never: {what}; the status is {:#?}, the queue {:?}",
        m.status(),
        queue(m)
    );
}

/// Waits until nothing is queued and a pull has followed.
pub(super) async fn synced(m: &TestManager) {
    settle(m).await;
    pass(1).await;
    m.signal(Event::Sync);
    let since = m.now_ms();
    until(m, "synced", |s| {
        s.pending + s.syncing == 0 && s.synced_through_ms.is_some_and(|at| at >= since)
    })
    .await;
}

pub(super) fn site(id: &str, n: u64) -> Json {
    json!({ "id": id, "n": n })
}
