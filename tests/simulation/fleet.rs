//! Devices and their tabs: opened, closed, killed; who leads, and who hears of what was written.
//!
//! As in `npm/tabs.js`: a lock makes one tab the leader, a channel tells the others to catch up (or
//! is lost, then they learn of it later), and nothing is swept while another tab is open.

use super::app;
use super::disk::SimStore;
use super::exec::{Group, WORLD};
use super::keep::{self, Boat};
use super::keys;
use super::net::SimBackend;
use super::oracle::{self};
use super::record::Record;
use super::wide::Wide;
use super::world::{EPOCH_MS, World};
use futures_channel::oneshot;
use landfall::conflict::{Answer, Question};
use landfall::driver::{Clock, Listener, Manager, OutboxFilter, OutboxView, RescueBatch, Settings};
use landfall::engine::{Config, Event};
use landfall::error::Error;
use landfall::model::{Held, Name};
use landfall::options::{CollectionSpec, Strategy};
use landfall::replica::plan::{Intent, Notice};
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::{Rc, Weak};

pub(crate) type Tabs = Manager<Record, SimStore, SimBackend, SimClock>;

/// Tabs of one device at once.
const TABS_MAX: usize = 3;

pub(crate) struct SimClock {
    world: Rc<World>,
    client: usize,
    tab: Group,
}

impl Clock for SimClock {
    fn now_ms(&self) -> f64 {
        let skew_ms = self.world.clients[self.client].skew_ms.get();
        EPOCH_MS + skew_ms + self.world.exec.now_ms() as f64
    }

    fn random(&self) -> f64 {
        self.world.chance.share()
    }

    async fn sleep(&self, ms: f64) {
        self.world.exec.sleep(ms.ceil().max(0.0) as u64).await;
    }

    fn spawn(&self, task: Pin<Box<dyn Future<Output = ()>>>) {
        self.world.exec.spawn_boxed(self.tab, task);
    }
}

/// A tab.
#[derive(Clone)]
pub(crate) struct Tab {
    pub(crate) id: Group,
    /// None until it is open.
    pub(crate) manager: Option<Tabs>,
    pub(crate) closing: bool,
}

#[derive(Default)]
pub(crate) struct Device {
    pub(crate) tabs: Vec<Tab>,
    pub(crate) leader: Option<Group>,
    sweeping: bool,
    pub(crate) paused: bool,
}

pub(crate) struct Fleet {
    pub(crate) world: Rc<World>,
    pub(crate) devices: RefCell<Vec<Device>>,
    strategies: [Strategy; 3],
    pub(crate) wide: Wide,
    next: Cell<Group>,
    pub(crate) healing: Cell<bool>,
    /// The rescue copy of each device.
    pub(crate) boats: RefCell<Vec<Boat>>,
    /// What was exported.
    pub(crate) backups: RefCell<Vec<Backup>>,
}

/// What is not synced, handed out.
pub(crate) struct Backup {
    /// The device, and its database then.
    pub(crate) from: usize,
    pub(crate) client: Rc<str>,
    pub(crate) mutations: Vec<Held<Record>>,
    /// The database that has taken it in.
    pub(crate) taken: Option<Rc<str>>,
}

struct Ear {
    fleet: Weak<Fleet>,
    client: usize,
    tab: Group,
    /// Whether its last batch for the rescue copy has arrived: none is faster than the one before it.
    arrived: RefCell<Option<oneshot::Receiver<()>>>,
}

impl Listener<Record> for Ear {
    fn committed(&self, touched: &[Name], notices: &[Notice<Record>], own: bool) {
        let Some(fleet) = self.fleet.upgrade() else {
            return;
        };
        fleet.world.trace.mark(touched.len() as u64);
        fleet.world.trace.mark(notices.len() as u64);
        if own {
            fleet.check_shown(self.client, self.tab);
            fleet.broadcast(self.client, self.tab);
        }
    }

    fn status_changed(&self) {}

    fn rescue(&self, batch: RescueBatch<Record>) -> Pin<Box<dyn Future<Output = ()>>> {
        let Some(fleet) = self.fleet.upgrade() else {
            return Box::pin(async {});
        };
        let (arrives, arrived) = oneshot::channel();
        let turn = (self.arrived.replace(Some(arrived)), arrives);
        Box::pin(keep::rescue(fleet, (self.client, self.tab), batch, turn))
    }

    fn decide(
        &self,
        question: Question<Record>,
    ) -> Pin<Box<dyn Future<Output = Result<Answer<Record>, Error>>>> {
        match self.fleet.upgrade() {
            Some(fleet) => Box::pin(app::decide(fleet, (self.client, self.tab), question)),
            None => Box::pin(async { Ok(Answer::Park) }),
        }
    }

    fn failed(&self, error: &Error) {
        let Some(fleet) = self.fleet.upgrade() else {
            return;
        };
        let (client, tab) = (self.client, self.tab);
        fleet.world.say(|| {
            let Error { code, message, .. } = error;
            format!("c{client} tab {tab}: {} ({message})", code.as_str())
        });
    }
}

impl Fleet {
    pub(crate) fn new(world: &Rc<World>, strategies: [Strategy; 3], wide: &Wide) -> Rc<Self> {
        let devices = world.clients.iter().map(|_| Device::default()).collect();
        Rc::new(Self {
            world: world.clone(),
            devices: RefCell::new(devices),
            strategies,
            wide: wide.clone(),
            next: Cell::new(WORLD + 1),
            healing: Cell::new(false),
            boats: RefCell::new(world.clients.iter().map(|_| Boat::default()).collect()),
            backups: RefCell::default(),
        })
    }

    fn appends(&self, client: usize) -> usize {
        self.world.clients[client].disk.log.borrow().appends()
    }

    fn specs(&self) -> Vec<CollectionSpec> {
        let spec = |name: &str, strategy| CollectionSpec {
            strategy,
            ..CollectionSpec::new(name, "id")
        };
        let [first, second, third] = self.strategies;
        let notes = CollectionSpec {
            references: vec![("siteId".into(), "sites".into())],
            indexes: vec![vec!["siteId".into()]],
            priority: 1,
            ..spec("notes", second)
        };
        let blocks = CollectionSpec {
            optimistic: false,
            ..spec("blocks", third)
        };
        let drafts = CollectionSpec {
            local_only: true,
            ..spec("drafts", first)
        };
        vec![spec("sites", first), notes, blocks, drafts]
    }

    /// An open tab that is not about to close: the `i`th, counted round.
    pub(crate) fn tab(&self, client: usize, i: usize) -> Option<(Group, Tabs)> {
        let devices = self.devices.borrow();
        let open = devices.get(client)?.tabs.iter();
        let open: Vec<_> = open
            .filter(|t| !t.closing)
            .filter_map(|t| Some((t.id, t.manager.clone()?)))
            .collect();
        (!open.is_empty()).then(|| open[i % open.len()].clone())
    }

    pub(crate) fn managers(&self, client: usize) -> Vec<(Group, Tabs)> {
        let devices = self.devices.borrow();
        let open = devices[client].tabs.iter().filter(|t| !t.closing);
        open.filter_map(|t| Some((t.id, t.manager.clone()?)))
            .collect()
    }

    pub(crate) fn leader(&self, client: usize) -> Option<Tabs> {
        let devices = self.devices.borrow();
        let device = devices.get(client)?;
        let leads = |t: &&Tab| Some(t.id) == device.leader;
        device.tabs.iter().find(leads)?.manager.clone()
    }

    /// Opens a tab; its futures are a group of their own.
    pub(crate) fn open(self: &Rc<Self>, client: usize) {
        let id = self.next.get();
        {
            let mut devices = self.devices.borrow_mut();
            let Some(device) = devices.get_mut(client) else {
                return;
            };
            if device.tabs.len() >= TABS_MAX || device.sweeping {
                return;
            }
            device.tabs.push(Tab {
                id,
                manager: None,
                closing: false,
            });
        }
        self.next.set(id + 1);
        let fleet = self.clone();
        self.world.say(|| format!("c{client} opens tab {id}"));
        let appends = self.appends(client);
        self.world.exec.spawn(id, async move {
            let version = fleet.world.clients[client].version.get();
            fleet.world.oracle.borrow_mut().opens(id, version);
            let opened = fleet.connect(client, id).await;
            if let Some(manager) = opened.as_ref().ok().filter(|_| fleet.wide.rescue) {
                keep::start(&fleet, (client, id), manager).await;
            }
            let mut devices = fleet.devices.borrow_mut();
            let device = &mut devices[client];
            match opened {
                Ok(manager) => {
                    if device.paused {
                        manager.signal(Event::Pause);
                    }
                    fleet.check_first_status(client, &manager, appends);
                    if let Some(tab) = device.tabs.iter_mut().find(|t| t.id == id) {
                        tab.manager = Some(manager);
                    }
                }
                Err(_) => device.tabs.retain(|t| t.id != id),
            }
            drop(devices);
            fleet.grant(client);
        });
    }

    /// A manager over the device's disk.
    pub(crate) async fn connect(self: &Rc<Self>, client: usize, id: Group) -> Result<Tabs, Error> {
        let world = &self.world;
        let version = world.clients[client].version.get();
        let settings = Settings {
            collections: self.specs(),
            engine: Config {
                interval_ms: 30_000.0,
                has_backend: true,
                auto_start: true,
            },
            max_attempts: 3,
            strict_rescue: self.wide.strict,
            version,
        };
        let clock = SimClock {
            world: world.clone(),
            client,
            tab: id,
        };
        let ear = Ear {
            fleet: Rc::downgrade(self),
            client,
            tab: id,
            arrived: RefCell::default(),
        };
        let store = SimStore::new(world, client, id);
        let backend = SimBackend::new(world, client, id);
        let online = world.clients[client].online.get();
        let specs = settings.collections.clone();
        let migrated = Rc::new(Cell::new(false));
        let told = migrated.clone();
        let migrate = Box::new(move |_: &Name, value: &Record, _| {
            told.set(true);
            Ok(keep::migrate(value, version))
        });
        let opened = Manager::open(
            settings,
            store,
            Some(backend),
            clock,
            online,
            Box::new(ear),
            migrate,
        )
        .await;
        let own = world.oracle.borrow().migrated_by(client) == Some(id);
        if let (Ok(manager), true) = (&opened, migrated.get() && own) {
            keep::check_migrated(self, (client, version), manager, &specs);
        }
        opened
    }

    /// What the newest entry alone says is what all of them say.
    fn check_first_status(&self, client: usize, manager: &Tabs, appends: usize) {
        let (first, world, same) = (manager.status(), self.world.clone(), manager.clone());
        manager.settle(Box::new(move || {
            let then = same.status();
            let now = world.clients[client].disk.log.borrow().appends();
            if now != appends || same.unread().is_some() {
                return;
            }
            let counts = |s: &landfall::driver::Status| {
                let seen: Vec<usize> = s.collections.iter().map(|c| c.count).collect();
                (s.pending + s.syncing, s.conflict, s.failed, seen)
            };
            if counts(&first) != counts(&then) {
                world.violated("status counts differ from the store", || {
                    let (first, then) = (counts(&first), counts(&then));
                    format!("c{client}: at first {first:?}, loaded {then:?}")
                });
            }
        }));
    }

    /// Gives the lead to the first tab in the queue, if nobody has it.
    pub(crate) fn grant(self: &Rc<Self>, client: usize) {
        let fleet = self.clone();
        self.world.exec.spawn(WORLD, async move {
            fleet.world.exec.sleep(1).await;
            let manager = {
                let mut devices = fleet.devices.borrow_mut();
                let device = &mut devices[client];
                if device.leader.is_some() {
                    return;
                }
                let mut open = device.tabs.iter().filter(|t| !t.closing);
                let Some(tab) = open.find(|t| t.manager.is_some()) else {
                    return;
                };
                device.leader = Some(tab.id);
                tab.manager.clone()
            };
            if let Some(manager) = manager {
                manager.signal(Event::Leader(true));
            }
        });
    }

    /// The leader goes to the end of the queue.
    pub(crate) fn hand_over(self: &Rc<Self>, client: usize) {
        let manager = {
            let mut devices = self.devices.borrow_mut();
            let Some(device) = devices.get_mut(client) else {
                return;
            };
            let Some(i) = device.tabs.iter().position(|t| Some(t.id) == device.leader) else {
                return;
            };
            let tab = device.tabs.remove(i);
            device.leader = None;
            device.tabs.push(tab.clone());
            tab.manager
        };
        if let Some(manager) = manager {
            manager.signal(Event::Leader(false));
        }
        self.grant(client);
    }

    fn forget(self: &Rc<Self>, client: usize, id: Group) {
        {
            let mut devices = self.devices.borrow_mut();
            let device = &mut devices[client];
            device.tabs.retain(|t| t.id != id);
            if device.leader == Some(id) {
                device.leader = None;
            }
            device.sweeping &= !device.tabs.is_empty();
        }
        self.world.clients[client].live.borrow_mut().remove(&id);
        let now_ms = self.world.exec.now_ms();
        self.world.oracle.borrow_mut().killed(client, id, now_ms);
        self.grant(client);
    }

    /// A tab is gone with all its futures.
    pub(crate) fn kill(self: &Rc<Self>, client: usize, i: usize) {
        let id = {
            let devices = self.devices.borrow();
            let Some(device) = devices.get(client).filter(|d| !d.tabs.is_empty()) else {
                return;
            };
            device.tabs[i % device.tabs.len()].id
        };
        self.world.say(|| format!("c{client} tab {id} is killed"));
        self.world.exec.kill(id);
        self.forget(client, id);
    }

    /// The browser is gone with all its tabs.
    pub(crate) fn kill_all(self: &Rc<Self>, client: usize) {
        while self
            .devices
            .borrow()
            .get(client)
            .is_some_and(|d| !d.tabs.is_empty())
        {
            self.kill(client, 0);
        }
    }

    /// A tab closes as it should: what it was asked is stored first.
    pub(crate) fn close(self: &Rc<Self>, client: usize, i: usize) {
        let Some((id, manager)) = self.tab(client, i) else {
            return;
        };
        if let Some(tab) = self.devices.borrow_mut()[client]
            .tabs
            .iter_mut()
            .find(|t| t.id == id)
        {
            tab.closing = true;
        }
        self.world.say(|| format!("c{client} tab {id} closes"));
        manager.signal(Event::Close);
        let (fleet, closing) = (self.clone(), manager.clone());
        closing.settle(Box::new(move || {
            let world = fleet.world.clone();
            let (tell, told) = oneshot::channel::<()>();
            world.exec.spawn(id, async move {
                manager.rescue_last().await;
                drop(tell);
            });
            world.exec.spawn(WORLD, async move {
                fleet.world.exec.moment().await;
                // Dropped when it is through, or killed.
                let _ = told.await;
                fleet.world.exec.kill(id);
                fleet.check_answered(client, id);
                fleet.forget(client, id);
            });
        }));
    }

    /// Tabs with an older version of the app than the device's newest are closed.
    pub(crate) fn reload(self: &Rc<Self>, client: usize) {
        let newest = self.world.clients[client].version.get();
        loop {
            let open = self.managers(client);
            let older = open.iter().position(|(id, _)| {
                let oracle = self.world.oracle.borrow();
                oracle.losses.versions.get(id).is_some_and(|v| *v < newest)
            });
            let Some(i) = older else { return };
            self.close(client, i);
        }
    }

    /// After a close nobody is left without an answer.
    fn check_answered(&self, client: usize, id: Group) {
        let oracle = self.world.oracle.borrow();
        let waits = |op: &&oracle::Op| {
            op.client == client && op.tab == id && op.end == oracle::End::Waiting
        };
        if let Some(op) = oracle.ops.iter().find(waits) {
            self.world
                .violated("somebody waits for ever", || format!("{op:?}"));
        }
    }

    /// Tells the other tabs to catch up; now and then nobody hears it.
    fn broadcast(self: &Rc<Self>, client: usize, from: Group) {
        let others = self.devices.borrow()[client].tabs.len() > 1;
        if !others || self.world.chance.percent(8) {
            return;
        }
        let fleet = self.clone();
        self.world.exec.spawn(WORLD, async move {
            fleet.world.exec.moment().await;
            for (id, manager) in fleet.managers(client) {
                if id != from {
                    manager.submit_catch_up();
                }
            }
        });
    }

    /// What was acknowledged here and not sent yet goes on showing, whatever is pulled.
    fn check_shown(&self, client: usize, tab: Group) {
        let Some(manager) = self.managers(client).into_iter().find(|(id, _)| *id == tab) else {
            return;
        };
        let shown = self.world.oracle.borrow().shown_by(client, tab);
        for ((collection, key), n, field) in shown {
            // Under its own key where the device was not told of another: the creation that had got it
            // was discarded before its answer.
            let plain = manager.1.get(&collection, &key).ok().flatten();
            if plain.as_ref().and_then(|r| r.mark(field)) == Some(n) {
                continue;
            }
            let key = keys::known(&self.world, &manager.1, &collection, &key);
            let there = manager.1.get(&collection, &key).ok().flatten();
            if there.as_ref().and_then(|r| r.mark(field)) != Some(n) {
                self.world
                    .violated("a pull went over a pending change", || {
                        let there = there.map(|r| r.anyhow().to_string());
                        format!("c{client} {collection}/{key}: {field} was {n}, shows {there:?}")
                    });
            }
        }
    }

    /// Folds the log where the device's leader can.
    pub(crate) fn fold(&self, client: usize) {
        if let Some(manager) = self.leader(client) {
            let id = self.devices.borrow()[client].leader.unwrap_or(WORLD);
            self.world.exec.spawn(id, async move {
                // It is tried again later; nothing is lost by a failure.
                let _ = manager.fold().await;
            });
        }
    }

    /// Deletes what compaction has left, if one tab is all there is.
    pub(crate) fn sweep(self: &Rc<Self>, client: usize) {
        let Some((id, manager)) = self.tab(client, 0) else {
            return;
        };
        {
            let mut devices = self.devices.borrow_mut();
            if devices[client].tabs.len() > 1 || devices[client].sweeping {
                return;
            }
            devices[client].sweeping = true;
        }
        let fleet = self.clone();
        self.world.exec.spawn(id, async move {
            let _ = manager.sweep().await;
            fleet.devices.borrow_mut()[client].sweeping = false;
        });
    }

    /// Counts are what the list says.
    pub(crate) fn check_status(&self, client: usize) {
        for (id, manager) in self.managers(client) {
            if !manager.is_settled() {
                continue;
            }
            let status = manager.status();
            let list = manager.outbox(&OutboxFilter::default());
            let of = |state: &str| list.iter().filter(|e| e.state == state).count();
            let counted = [
                status.pending,
                status.syncing,
                status.conflict,
                status.failed,
            ];
            let listed = [of("pending"), of("syncing"), of("conflict"), of("failed")];
            if counted != listed {
                self.world
                    .violated("status counts differ from the list", || {
                        format!("c{client} tab {id}: counts {counted:?}, list {listed:?}")
                    });
            }
        }
    }

    /// Retries or gives up what is parked; the oracle is told of what is given up.
    pub(crate) fn retry(&self, client: usize) {
        if let Some((_, manager)) = self.tab(client, 0) {
            manager.submit(Intent::Retry(None), Box::new(|_| {}));
        }
    }

    /// Gives up what is parked, or (`any`) the first that is queued.
    pub(crate) fn discard(self: &Rc<Self>, client: usize, any: bool) {
        let Some((_, manager)) = self.tab(client, 0) else {
            return;
        };
        if !manager.is_settled() {
            return; // an app is shown the list when it is
        }
        let list = manager.outbox(&OutboxFilter::default());
        for entry in list.iter().filter(|e| any || e.state == "failed") {
            self.give_up(client, &manager, entry);
            if any {
                return;
            }
        }
    }

    /// The user gives up what is queued; the oracle is told.
    pub(crate) fn give_up(&self, client: usize, manager: &Tabs, entry: &OutboxView<Record>) {
        let mutation = &entry.mutation;
        let place = (mutation.collection.clone(), keys::plain(&mutation.key));
        let world = self.world.clone();
        self.world
            .say(|| format!("c{client} discards {} ({place:?})", entry.id));
        // At once: what the promise says of it comes later than what it does.
        world.oracle.borrow_mut().discarded(client, &place);
        manager.submit(
            Intent::Discard(mutation.no),
            Box::new(move |_| world.oracle.borrow_mut().discarded(client, &place)),
        );
    }

    /// What is queued and does not wait for a conflict that nobody settles.
    pub(crate) fn left(&self, manager: &Tabs) -> usize {
        let list = manager.outbox(&OutboxFilter::default());
        let manual = |name: &Name| {
            let mut specs = self.specs().into_iter();
            specs.any(|s| s.name == *name && s.strategy == Strategy::Manual)
        };
        let waits = |e: &&OutboxView<Record>| match e.state {
            "conflict" => manual(&e.mutation.collection),
            _ => e.waits_for.is_some(),
        };
        list.len() - list.iter().filter(waits).count()
    }

    /// Ends everything, so that nothing holds anything.
    pub(crate) fn end(&self) {
        self.world.exec.clear();
        self.devices.borrow_mut().clear();
    }
}
