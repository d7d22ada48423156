//! When to push, when to pull, and how long to wait: a state machine without I/O.
//!
//! Events go in, effects come out; time and randomness are arguments, so every schedule can be
//! replayed. The driver runs the effects and reports back.
//!
//! | event | leads to |
//! |---|---|
//! | `Resume`, `Sync`, `Online`, `Visible` | a cycle at once; what was waited for after failures is forgotten |
//! | `Wrote` | a cycle after a short quiet time, also where one waited for the store to have room |
//! | `Poke` | a cycle, at least 500 ms after the last pull |
//! | `Tick` | a cycle if one is due |
//! | `Pause`, `Offline`, `Leader(false)`, `Close` | requests are given up, nothing starts |
//! | `Pushed`, `Pulled`, `Stored` | the cycle goes on: pushes first, then pages, then rest |
//! | `Failed` | by class: wait, ask for credentials, halve the batch, or park (see [`Failure`]) |
//!
//! One cycle runs at a time; triggers during a cycle cause one more, not many.

mod failure;
mod step;
#[cfg(all(test, not(target_family = "wasm")))]
mod tests;

pub use failure::Failure;

use crate::error::Error;
use crate::limits;

/// What the engine cannot know by itself.
#[derive(Debug, Clone, Copy, Default)]
pub struct View {
    /// Whether a mutation could be pushed now.
    pub ready: bool,
    /// When a mutation that was put off is due, ms since 1970.
    pub due_ms: Option<f64>,
}

/// What has happened.
#[derive(Debug, Clone)]
pub enum Event {
    /// Time has passed, or the view has changed.
    Tick,
    /// The app wants syncing to go on (or to start).
    Resume,
    /// The app wants it to stop.
    Pause,
    /// Somebody asks for a cycle by hand.
    Sync,
    /// A local write is durable.
    Wrote,
    /// The backend hints at a change.
    Poke,
    /// The browser says that there is a network.
    Online,
    /// The browser says that there is none.
    Offline,
    /// The page can be seen again.
    Visible,
    /// Whether this tab is the one that syncs.
    Leader(bool),
    /// A push was answered; its verdicts are being stored.
    Pushed,
    /// A page came; it is being stored.
    Pulled {
        /// Whether there is more.
        has_more: bool,
    },
    /// Verdicts or a page are durable.
    Stored,
    /// They could not be stored.
    NotStored(Error),
    /// A request failed.
    Failed {
        /// Which lane.
        lane: Lane,
        /// How.
        failure: Failure,
        /// Changes in the request; 0 for a pull.
        size: usize,
        /// Whether it was sent with fresh credentials.
        refreshed: bool,
    },
    /// The manager is closed.
    Close,
}

/// The two directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// To the backend.
    Push,
    /// From the backend.
    Pull,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Effect {
    /// Send the next batch of at most `max` changes, then report [`Event::Tick`].
    Push {
        /// Changes at most.
        max: usize,
        /// Ask the app for fresh credentials.
        refresh: bool,
    },
    /// Fetch a page: the one after the last page fetched, or the one after the checkpoint.
    Pull {
        /// Whether it follows the last page of this cycle.
        continues: bool,
        /// Ask the app for fresh credentials.
        refresh: bool,
    },
    /// Forget the checkpoint, then report [`Event::Stored`].
    ForgetCheckpoint,
    /// Report [`Event::Tick`] then; none: no timer.
    WakeAt(Option<f64>),
    /// Give up all requests; each reports [`Failure::Cancelled`].
    CancelRequests,
}

/// What the engine is set to.
#[derive(Debug, Clone, Copy)]
pub struct Config {
    /// Pull at least this often; 0 switches it off.
    pub interval_ms: f64,
    /// Whether there is a backend at all.
    pub has_backend: bool,
    /// Whether syncing starts by itself.
    pub auto_start: bool,
}

/// What the engine is at, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Nothing to do.
    Idle,
    /// A cycle runs.
    Syncing,
    /// No network, or no server.
    Offline,
    /// The app paused it.
    Paused,
    /// Fresh credentials are needed.
    NeedsAuth,
    /// The last cycle failed; another follows.
    Error,
    /// Closed.
    Closed,
}

impl Phase {
    /// The name in the status.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Syncing => "syncing",
            Self::Offline => "offline",
            Self::Paused => "paused",
            Self::NeedsAuth => "needs-auth",
            Self::Error => "error",
            Self::Closed => "closed",
        }
    }
}

/// The network, as far as is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// Requests are answered, or have not failed yet.
    Online,
    /// The browser says so.
    Offline,
    /// There is a network, but the server does not answer.
    Unreachable,
}

impl Network {
    /// The name in the status.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Online => "online",
            Self::Offline => "offline",
            Self::Unreachable => "unreachable",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Auth {
    Fine,
    /// The next request asks for fresh credentials.
    Refresh,
    /// One such request is under way.
    Refreshing,
    /// They were refused as well.
    Needed,
}

/// One cycle: everything up, then everything down.
#[derive(Debug, Clone)]
struct Cycle {
    started_ms: f64,
    want_pull: bool,
    /// A push was answered after the pull had begun: it may have missed the effect.
    pushed_since: bool,
    continues: bool,
    pulling: bool,
    pushes: usize,
    storing: usize,
    /// The checkpoint was unknown to the backend, and is forgotten.
    forgot: bool,
    /// Nothing new starts; it ends when what is under way has come back.
    failed: bool,
}

/// The state machine.
#[derive(Debug, Clone)]
pub struct Engine {
    config: Config,
    paused: bool,
    online: bool,
    leader: bool,
    closed: bool,
    auth: Auth,
    /// A sync was asked for while fresh credentials were: there may be fresher ones since.
    asked_again: bool,
    unreachable: bool,
    /// What went wrong last was our own store.
    store_failed: bool,
    failures: u32,
    error: Option<Error>,
    blocked_until_ms: Option<f64>,
    due_ms: Option<f64>,
    cycle: Option<Cycle>,
    batch_max: usize,
    last_pull_ms: f64,
    /// When the last event came, by the device's clock.
    seen_ms: f64,
    synced_ms: Option<f64>,
    synced_through_ms: Option<f64>,
}

impl Engine {
    /// At rest.
    #[must_use]
    pub fn new(config: Config, online: bool) -> Self {
        Self {
            config,
            paused: !config.auto_start,
            online,
            leader: false,
            closed: false,
            auth: Auth::Fine,
            asked_again: false,
            unreachable: false,
            store_failed: false,
            failures: 0,
            error: None,
            blocked_until_ms: None,
            due_ms: Some(0.0),
            cycle: None,
            batch_max: limits::BATCH_CHANGES_MAX,
            last_pull_ms: 0.0,
            seen_ms: 0.0,
            synced_ms: None,
            synced_through_ms: None,
        }
    }

    /// What the app is shown.
    #[must_use]
    pub fn phase(&self) -> Phase {
        if self.closed {
            Phase::Closed
        } else if self.paused {
            Phase::Paused
        } else if self.auth == Auth::Needed {
            Phase::NeedsAuth
        } else if !self.online {
            Phase::Offline
        } else if self.cycle.as_ref().is_some_and(|c| !c.failed) {
            Phase::Syncing
        } else if self.unreachable {
            Phase::Offline
        } else if self.error.is_some() {
            Phase::Error
        } else {
            Phase::Idle
        }
    }

    /// The network, as far as is known.
    #[must_use]
    pub fn network(&self) -> Network {
        match (self.online, self.unreachable) {
            (false, _) => Network::Offline,
            (true, true) => Network::Unreachable,
            (true, false) => Network::Online,
        }
    }

    /// Whether this tab syncs.
    #[must_use]
    pub fn leader(&self) -> bool {
        self.leader
    }

    /// The direction of what is under way.
    #[must_use]
    pub fn lane(&self) -> Option<Lane> {
        let cycle = self.cycle.as_ref()?;
        Some(if cycle.pushes > 0 || !cycle.want_pull {
            Lane::Push
        } else {
            Lane::Pull
        })
    }

    /// When the last cycle ended well, ms since 1970.
    #[must_use]
    pub fn synced_ms(&self) -> Option<f64> {
        self.synced_ms
    }

    /// When the last cycle that ended well had begun: everything before is synced.
    #[must_use]
    pub fn synced_through_ms(&self) -> Option<f64> {
        self.synced_through_ms
    }

    /// When the next cycle is due.
    #[must_use]
    pub fn next_ms(&self) -> Option<f64> {
        let due = self.due_ms?;
        Some(self.blocked_until_ms.map_or(due, |b| b.max(due))).filter(|_| self.can_run())
    }

    /// What went wrong last, until it goes right.
    #[must_use]
    pub fn error(&self) -> Option<&Error> {
        self.error.as_ref()
    }

    fn can_run(&self) -> bool {
        self.config.has_backend
            && !self.paused
            && self.online
            && self.leader
            && !self.closed
            && self.auth != Auth::Needed
    }
}
