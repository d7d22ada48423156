//! What all clients share: time, chance, the server, the account of what was promised.

use super::chance::{Chance, Trace};
use super::disk::Disk;
use super::exec::Exec;
use super::net::Fault;
use super::oracle::{Oracle, Whose};
use super::server::Server;
use landfall::store::memory::MemoryStore;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

/// Virtual time begins here, ms since 1970.
pub(crate) const EPOCH_MS: f64 = 1_763_000_000_000.0;

/// A promise that was not kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Violation {
    /// Which.
    pub(crate) name: &'static str,
    /// How it showed.
    pub(crate) detail: String,
}

/// A device: what does not go with its tabs.
pub(crate) struct Client {
    /// Of the database; another one has another.
    pub(crate) id: RefCell<Rc<str>>,
    databases: Cell<u32>,
    /// Of the app's data, as the tabs to come know it.
    pub(crate) version: Cell<u32>,
    pub(crate) user: usize,
    pub(crate) disk: Disk,
    /// The device's clock minus the true time, and how often it was set.
    pub(crate) skew_ms: Cell<f64>,
    pub(crate) clock_set: Cell<u64>,
    /// What the browser says of the network.
    pub(crate) online: Cell<bool>,
    /// What is true.
    pub(crate) cut: Cell<bool>,
    /// What happens to the requests to come.
    pub(crate) faults: RefCell<VecDeque<Fault>>,
    pub(crate) expired: Cell<bool>,
    /// Fresh credentials are refused as well.
    pub(crate) locked_out: Cell<bool>,
    /// Requests under way, by tab.
    pub(crate) live: RefCell<BTreeMap<usize, usize>>,
    /// For each tab the setting of the clock that the server has corrected, and when.
    pub(crate) corrected: RefCell<BTreeMap<usize, (u64, u64)>>,
}

impl Client {
    /// The database is gone; the next tab makes another.
    pub(crate) fn new_database(&self) {
        let number = self.databases.get() + 1;
        self.databases.set(number);
        let old = self.id.borrow().clone();
        let device = old.split('x').next().unwrap_or_default();
        let id: Rc<str> = format!("{device}x{number}").into();
        self.disk.log.replace(MemoryStore::new(&id));
        self.disk.forget_power();
        self.id.replace(id);
    }
}

/// Everything.
pub(crate) struct World {
    pub(crate) exec: Rc<Exec>,
    pub(crate) chance: Chance,
    pub(crate) trace: Trace,
    pub(crate) server: RefCell<Server>,
    pub(crate) oracle: RefCell<Oracle>,
    pub(crate) clients: Vec<Client>,
    pub(crate) page_max: usize,
    pub(crate) latency_ms: u64,
    /// Requests that are late, or come twice, and have not arrived yet.
    pub(crate) ghosts: Cell<usize>,
    /// References that have to be put right by what follows: of whose record, and the old key.
    pub(crate) late_references: RefCell<BTreeMap<Whose, Rc<str>>>,
    /// Acknowledged means flushed and rescued.
    pub(crate) strict: Cell<bool>,
    /// The server applies the changes of a group together or not at all.
    pub(crate) atomic: Cell<bool>,
    /// The server gives records keys of its own.
    pub(crate) assigns: bool,
    violation: RefCell<Option<Violation>>,
}

impl World {
    pub(crate) fn new(
        seed: u64,
        users: &[usize],
        (page_max, latency_ms): (usize, u64),
        in_words: bool,
    ) -> Rc<Self> {
        let chance = Chance::new(seed);
        let client = |(i, user): (usize, &usize)| {
            let id: Rc<str> = format!("c{i}").into();
            Client {
                disk: Disk {
                    log: RefCell::new(MemoryStore::new(&id)),
                    full: Cell::new(false),
                    aborts: Cell::new(0),
                    unflushed: Cell::new(None),
                },
                id: RefCell::new(id),
                databases: Cell::new(0),
                version: Cell::new(1),
                user: *user,
                skew_ms: Cell::new(0.0),
                clock_set: Cell::new(0),
                online: Cell::new(true),
                cut: Cell::new(false),
                faults: RefCell::default(),
                expired: Cell::new(false),
                locked_out: Cell::new(false),
                live: RefCell::default(),
                corrected: RefCell::default(),
            }
        };
        let clients: Vec<Client> = users.iter().enumerate().map(client).collect();
        let oracle = Oracle::new(clients.len());
        Rc::new(Self {
            exec: Exec::new(chance.clone()),
            chance,
            trace: Trace::new(in_words),
            server: RefCell::default(),
            oracle: RefCell::new(oracle),
            clients,
            page_max,
            latency_ms,
            ghosts: Cell::new(0),
            late_references: RefCell::default(),
            strict: Cell::new(false),
            atomic: Cell::new(false),
            // No kept seed is among them: their stories stay what they were.
            assigns: seed.is_multiple_of(5),
            violation: RefCell::new(None),
        })
    }

    /// A broken promise; the first counts.
    pub(crate) fn violated(&self, name: &'static str, detail: impl FnOnce() -> String) {
        let mut violation = self.violation.borrow_mut();
        if violation.is_none() {
            let detail = detail();
            self.trace.say(|| format!("VIOLATION {name}: {detail}"));
            *violation = Some(Violation { name, detail });
        }
    }

    pub(crate) fn violation(&self) -> Option<Violation> {
        self.violation.borrow().clone()
    }

    /// The true time, ms since 1970.
    pub(crate) fn true_ms(&self) -> f64 {
        EPOCH_MS + self.exec.now_ms() as f64
    }

    /// A line for people, with the time.
    pub(crate) fn say(&self, line: impl FnOnce() -> String) {
        let now = self.exec.now_ms();
        self.trace.say(|| format!("{now:>8} {}", line()));
    }
}
