//! Runs the engine over a store, a backend and a clock.
//!
//! [`writer`] turns intents into durable entries, one transaction at a time (group commit);
//! [`sync`] runs the engine's effects. Everything is on one thread; the state is never borrowed
//! across an await.

mod fold;
mod migrate;
#[cfg(feature = "planted")]
mod planted;
mod reads;
mod rescue;
mod settle;
mod sync;
#[cfg(all(test, not(target_family = "wasm")))]
mod tests;
mod watch;
mod writer;

pub use migrate::Migrate;
pub use reads::{CollectionStatus, OutboxFilter, OutboxView, Status};
pub use rescue::RescueBatch;
pub use writer::Done;

use crate::backoff::lasts_until;
use crate::conflict::{Answer, Question};
use crate::engine::{Config, Engine, Event, Failure, Phase, View};
use crate::error::{Code, Error, Result};
use crate::hlc::Hlc;
use crate::limits;
use crate::model::{Change, MutationNo, Name, Page, Verdict};
use crate::options::{self, CollectionSpec};
use crate::ordered::Numbers;
use crate::replica::fold::Sizes;
use crate::replica::plan::Notice;
use crate::replica::{FIRST_VERSION, Replica};
use crate::store::{Base, Seq, Store, Summary};
use crate::value::Value;
use futures_channel::oneshot;
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;

/// What a backend is told with each request.
#[derive(Debug, Clone)]
pub struct Call {
    /// This database's id.
    pub client: Rc<str>,
    /// Ask the app for fresh credentials.
    pub refresh: bool,
}

/// A backend's answer to a push.
#[derive(Debug, Clone)]
pub struct PushAnswer<V> {
    /// One verdict a change, with the change's id.
    pub results: Vec<(Rc<str>, Verdict<V>)>,
    /// The server's clock, ms since 1970.
    pub server_ms: Option<f64>,
}

/// Where mutations go. A dropped future gives its request up.
#[allow(async_fn_in_trait, reason = "one thread, in the browser as in tests")]
pub trait Backend<V>: 'static {
    /// Sends changes; each must take effect once, however often it is sent.
    async fn push(
        &self,
        changes: &[Change<V>],
        call: &Call,
    ) -> std::result::Result<PushAnswer<V>, Failure>;

    /// Fetches what has changed after `checkpoint`.
    async fn pull(
        &self,
        checkpoint: Option<&str>,
        limit: usize,
        call: &Call,
    ) -> std::result::Result<Page<V>, Failure>;
}

/// Time, chance and tasks.
#[allow(async_fn_in_trait, reason = "one thread, in the browser as in tests")]
pub trait Clock: 'static {
    /// Milliseconds since 1970.
    fn now_ms(&self) -> f64;
    /// A number in `[0, 1)`.
    fn random(&self) -> f64;
    /// Resolves after so many milliseconds.
    async fn sleep(&self, ms: f64);
    /// Resolves as soon as what was begun before has had its turn.
    async fn pause(&self) {
        self.sleep(0.0).await;
    }
    /// Runs a task.
    fn spawn(&self, task: Pin<Box<dyn Future<Output = ()>>>);
}

/// Who is told what happens.
pub trait Listener<V>: 'static {
    /// A commit is durable and visible: the collections it touched, and what there is to tell.
    fn committed(&self, collections: &[Name], notices: &[Notice<V>], own: bool);
    /// Something in the status may have changed.
    fn status_changed(&self);
    /// An error that no call can carry.
    fn failed(&self, error: &Error);
    /// A compaction has left something behind that can be swept away once no other tab is open.
    fn folded(&self) {}
    /// Waits for this tab's turn, and has the others wait for theirs. None where turns cannot be had.
    fn turn(&self) -> Pin<Box<dyn Future<Output = Option<WriteTurn>>>> {
        Box::pin(async { None })
    }
    /// Asks the app's function about a conflict.
    fn decide(&self, _question: Question<V>) -> Pin<Box<dyn Future<Output = Result<Answer<V>>>>> {
        Box::pin(async { Ok(Answer::Park) })
    }
    /// Keeps what has changed in the rescue copy; resolves when it is there.
    fn rescue(&self, _batch: RescueBatch<V>) -> Pin<Box<dyn Future<Output = ()>>> {
        Box::pin(async {})
    }
}

/// One tab's turn of writing. It is over when this is dropped.
pub type WriteTurn = Box<dyn std::any::Any>;

/// What an app sets when it opens a database.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The collections.
    pub collections: Vec<CollectionSpec>,
    /// The engine's part.
    pub engine: Config,
    /// Answers that blame a mutation as retryable before it is parked.
    pub max_attempts: u32,
    /// An acknowledgement waits until the rescue copy has the change as well.
    pub strict_rescue: bool,
    /// The version of the app's data.
    pub version: u32,
}

/// How far a direction has come in this cycle.
#[derive(Debug, Clone, Copy, Default)]
struct Progress {
    pushed: usize,
    pulled: usize,
}

struct Inner<V, S, B, C> {
    store: S,
    backend: Option<B>,
    clock: C,
    listener: Box<dyn Listener<V>>,
    replica: RefCell<Replica<V>>,
    engine: RefCell<Engine>,
    writer: writer::Writer<V>,
    /// The newest entry that this tab has taken in.
    seq: Cell<Seq>,
    loaded: Cell<bool>,
    base: RefCell<Base>,
    /// How many facts each segment of the base has.
    sizes: RefCell<Sizes>,
    /// Entries and facts in the log that no segment has.
    unfolded: Cell<(usize, usize)>,
    /// When the log last grew.
    written_ms: Cell<f64>,
    /// For so many turns this tab waits among those that write at the same time.
    turns: Cell<u32>,
    /// Its turn, and the groups that are left of it.
    turn: RefCell<Option<(WriteTurn, u32)>>,
    folding: Cell<bool>,
    /// A compaction or a sweep is under way: one would delete what the other has just written.
    compacting: Rc<Cell<bool>>,
    rescuing: Cell<bool>,
    rescue_due: Cell<bool>,
    /// Nobody sees the page: its timers are late, and it may be stopped at any time.
    hidden: Cell<bool>,
    /// The next batch is not cut.
    rescue_whole: Cell<bool>,
    /// What the rescue copy has: the numbers below, and the changes up to this reading.
    rescued: Cell<(MutationNo, Hlc)>,
    /// What it had when it was last asked what the copy may lack.
    rescue_lacks: Cell<Option<(MutationNo, Hlc)>>,
    /// The copy was not told yet which mutations there are at all.
    rescue_untold: Cell<bool>,
    handing: rescue::Handing,
    /// What the newest entry said, until everything is loaded.
    summary: RefCell<Summary>,
    in_flight: RefCell<Numbers>,
    /// Conflicts that the app's function was asked about.
    asking: RefCell<Numbers>,
    cancels: RefCell<Vec<oneshot::Sender<()>>>,
    /// Where the page after the last one fetched begins.
    next_page: RefCell<Option<Rc<str>>>,
    progress: Cell<Progress>,
    /// Collections whose first pull is under way.
    filling: RefCell<Vec<Name>>,
    /// Pulls that have failed since a page was stored.
    failed_pulls: Cell<u32>,
    timer: Cell<u64>,
    wake_at_ms: Cell<Option<f64>>,
    store_error: RefCell<Option<(Error, f64)>>,
    watchers: RefCell<watch::Watchers>,
    /// The version of the app's data, as this app knows it.
    version: u32,
    /// The data is of a newer version: nothing is written any more.
    migrate: Migrate<V>,
    outdated: Cell<bool>,
    error_at_ms: Cell<f64>,
    strict_rescue: bool,
}

/// A value that a callback will bring; none where the callback is dropped. However many types of
/// values there are, what waits is the same.
fn later<T: 'static>() -> (impl FnOnce(T), impl Future<Output = Option<T>>) {
    let slot = Rc::new(Cell::new(None));
    let (tell, told) = oneshot::channel::<()>();
    let brought = slot.clone();
    let bring = move |value| {
        slot.set(Some(value));
        // Nobody waits any more.
        let _ = tell.send(());
    };
    let wait = async move {
        // Dropped or not: what counts is whether there is a value.
        let _ = told.await;
        brought.take()
    };
    (bring, wait)
}

/// One open database.
pub struct Manager<V, S, B, C>(Rc<Inner<V, S, B, C>>);

impl<V, S, B, C> Clone for Manager<V, S, B, C> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<V: Value, S: Store<V>, B: Backend<V>, C: Clock> Manager<V, S, B, C> {
    /// Opens a store: reads its newest entry, then the rest in the background. An app whose data
    /// has versions waits for the rest, and for its migration.
    ///
    /// # Errors
    /// `invalid-options`, `database-newer`, `migration-failed`, or what the store reports.
    pub async fn open(
        settings: Settings,
        store: S,
        backend: Option<B>,
        clock: C,
        online: bool,
        listener: Box<dyn Listener<V>>,
        migrate: Migrate<V>,
    ) -> Result<Self> {
        options::check(&settings.collections)?;
        if settings.max_attempts == 0 {
            return Err(Error::new(Code::InvalidOptions, "maxAttempts: at least 1"));
        }
        if settings.version == 0 {
            return Err(Error::new(Code::InvalidOptions, "version: at least 1"));
        }
        let tail = store.tail().await?;
        let replica = Replica::new(tail.client, &settings.collections, settings.max_attempts);
        let manager = Self(Rc::new(Inner {
            store,
            backend,
            clock,
            listener,
            replica: RefCell::new(replica),
            engine: RefCell::new(Engine::new(settings.engine, online)),
            writer: writer::Writer::default(),
            seq: Cell::new(0),
            loaded: Cell::new(false),
            base: RefCell::new(tail.base),
            sizes: RefCell::default(),
            unfolded: Cell::new((0, 0)),
            written_ms: Cell::new(0.0),
            turns: Cell::new(0),
            turn: RefCell::new(None),
            folding: Cell::new(false),
            compacting: Rc::default(),
            rescuing: Cell::new(false),
            rescue_due: Cell::new(false),
            hidden: Cell::new(false),
            rescue_whole: Cell::new(false),
            rescued: Cell::default(),
            rescue_lacks: Cell::default(),
            rescue_untold: Cell::new(false),
            handing: rescue::Handing::default(),
            summary: RefCell::new(tail.summary.unwrap_or_default()),
            in_flight: RefCell::default(),
            asking: RefCell::default(),
            cancels: RefCell::new(Vec::new()),
            next_page: RefCell::new(None),
            progress: Cell::new(Progress::default()),
            filling: RefCell::default(),
            failed_pulls: Cell::new(0),
            timer: Cell::new(0),
            wake_at_ms: Cell::new(None),
            store_error: RefCell::new(None),
            watchers: RefCell::default(),
            version: settings.version,
            migrate,
            outdated: Cell::new(false),
            error_at_ms: Cell::new(0.0),
            strict_rescue: settings.strict_rescue,
        }));
        if tail.seq == 0 {
            manager.0.loaded.set(true);
        } else if manager.0.version > FIRST_VERSION {
            // Whether the data is of this version shows only when all of it is read.
            crate::rare(manager.migrate()).await?;
        } else {
            manager.submit_catch_up();
        }
        Ok(manager)
    }

    /// Reports an event to the engine and runs what it answers.
    pub fn signal(&self, event: Event) {
        if matches!(event, Event::Close) {
            self.end_waits(watch::CLOSED);
        } else if self.0.outdated.get() {
            return;
        }
        if matches!(event, Event::Online | Event::Resume | Event::Sync) {
            self.0.replica.borrow_mut().forget_trouble();
        }
        if matches!(event, Event::Visible) {
            self.0.hidden.set(false);
            // What other tabs could not tell of shows at the latest when somebody looks.
            self.submit_catch_up();
        }
        self.run(event);
    }

    /// Another tab was overtaken: who writes takes turns for a while.
    pub fn take_turns(&self) {
        self.0.turns.set(limits::TURNS);
    }

    /// This database's id.
    #[must_use]
    pub fn client(&self) -> Rc<str> {
        self.0.replica.borrow().client().clone()
    }

    /// The store, to let it go.
    #[must_use]
    pub fn store(&self) -> &S {
        &self.0.store
    }

    /// Whether nothing was ever stored here.
    #[must_use]
    pub fn is_fresh(&self) -> bool {
        self.0.loaded.get() && self.0.seq.get() == 0
    }

    fn is_closed(&self) -> bool {
        !self.is_open()
    }

    /// Whether it was not closed, by the app or because its store is gone for good.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.0.engine.borrow().phase() != Phase::Closed
    }

    fn now_ms(&self) -> f64 {
        self.0.clock.now_ms()
    }

    fn view(&self) -> View {
        if !self.0.loaded.get() {
            return View::default();
        }
        let replica = self.0.replica.borrow();
        let in_flight = self.0.in_flight.borrow();
        let now_ms = self.now_ms();
        let ready = !replica
            .next_batch(now_ms, &in_flight, 1, usize::MAX)
            .is_empty();
        let dues = replica.outbox.dues().chain(replica.troubles_over_ms());
        let dues = dues.map(|at| lasts_until(at, now_ms).unwrap_or(now_ms));
        View {
            ready,
            // What is due and cannot go must not hide what will be due.
            due_ms: dues.filter(|at| ready || *at > now_ms).reduce(f64::min),
        }
    }
}
