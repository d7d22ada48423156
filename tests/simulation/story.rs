//! Plays a plan, lets it heal, and has the promises checked.

use super::app;
use super::checks;
use super::exec::WORLD;
use super::fleet::{Fleet, Tabs};
use super::keep;
use super::keys;
use super::losses::{self, RESCUED_MS};
use super::oracle::{self, Kind, Place};
use super::plan::{Act, Do, Key, Plan, Then};
use super::record::{Record, whole};
use super::server::Core;
use super::world::{Violation, World};
use landfall::engine::Event;
use landfall::limits;
use landfall::replica::plan::{Intent, Transaction, Write, WriteOptions};
use serde_json::json;
use std::rc::Rc;

/// Longest time that healing may take, virtual ms.
const HEAL_MAX_MS: u64 = 4 * 3_600_000;
/// What is parked is sent again so often before it is given up.
const RETRIES: u32 = 3;
/// One look at whether it has healed.
const LOOK_MS: u64 = 250;

/// What came of a story.
#[derive(Debug, Clone)]
pub(crate) struct Ending {
    pub(crate) violation: Option<Violation>,
    /// The hash of everything that happened.
    pub(crate) trace: u64,
    /// The same in words, where that was asked for.
    pub(crate) words: Vec<String>,
}

struct Story {
    world: Rc<World>,
    fleet: Rc<Fleet>,
}

/// Plays a plan from the beginning to its end or first broken promise.
pub(crate) fn play(plan: &Plan, in_words: bool, core: Option<Box<dyn Core>>) -> Ending {
    let sizes = (plan.page_max, plan.latency_ms);
    let world = World::new(plan.seed, &plan.users, sizes, in_words);
    for (client, skew) in world.clients.iter().zip(&plan.skews_ms) {
        client.skew_ms.set(*skew);
    }
    world.strict.set(plan.wide.strict);
    world.atomic.set(plan.wide.atomic);
    if plan.wide.power {
        world.clients.iter().for_each(|c| c.disk.fear_power());
    }
    world.server.borrow_mut().core = core;
    let fleet = Fleet::new(&world, plan.strategies, &plan.wide);
    let story = Story {
        world: world.clone(),
        fleet: fleet.clone(),
    };
    story.run(plan);
    // Nothing of it may be left, and nothing of it is looked at any more.
    let (violation, trace) = (world.violation(), world.trace.hash());
    fleet.end();
    Ending {
        violation,
        trace,
        words: world.trace.words(),
    }
}

/// A device and its tab.
pub(crate) type Asker = (usize, usize);

pub(crate) fn name(key: Key, client: usize) -> Rc<str> {
    match key {
        Key::Own(n) => format!("o{client}-{n}"),
        Key::Shared(n) => format!("s{n}"),
        Key::Local(n) => format!("l{client}-{n}"),
    }
    .into()
}

/// The write as the manager takes it, and its mark.
pub(crate) fn prepare(
    world: &World,
    (who, manager): (Asker, &Tabs),
    place: &Place,
    what: Do,
    local: bool,
) -> (u32, Write<Record>, WriteOptions) {
    let kind = match what {
        Do::Create => Kind::Create,
        Do::Put => Kind::Put,
        Do::Update(field) => Kind::Update(field),
        Do::Delete => Kind::Delete,
        Do::Promote => Kind::Promote,
    };
    losses::know_nothing(world, who.0, place);
    let (collection, key) = place;
    let key = &keys::known(world, manager, collection, key);
    let hidden = &**collection == "blocks";
    let now_ms = world.exec.now_ms();
    let mut oracle = world.oracle.borrow_mut();
    let newest = manager.newest(collection, key).ok().flatten();
    let blind = newest.is_none() || !oracle.knows(who.0, place);
    let n = oracle.ask(who, place, kind, (local, hidden, blind), now_ms);
    // A note is below the site that has the same name.
    let site: Rc<str> = keys::known(world, manager, "sites", &place.1);
    let site = (&**collection == "notes").then_some(&*site);
    let write = match what {
        Do::Create => Write::Create(whole(key, n, site)),
        Do::Put => Write::Put(whole(key, n, site)),
        Do::Update(field) => Write::Update {
            key: key.clone(),
            patch: Record::new(json!({ field: n })),
            changed: Rc::from([Rc::from(field)]),
        },
        Do::Delete => Write::Delete(key.clone()),
        Do::Promote => Write::Promote(key.clone()),
    };
    let options = WriteOptions {
        local_only: (local && matches!(what, Do::Create | Do::Put)).then_some(true),
        optimistic: None,
    };
    (n, write, options)
}

impl Story {
    fn run(&self, plan: &Plan) {
        for (i, (act, then)) in plan.steps.iter().enumerate() {
            self.world
                .say(|| format!("step {i}: {act:?}, then {then:?}"));
            self.world.trace.mark(i as u64);
            self.act(*act);
            match then {
                Then::Polls(n) => self.world.exec.poll(*n),
                Then::Ms(ms) => self.world.exec.pass(*ms),
            }
            if i % 4 == 3 {
                for client in 0..self.world.clients.len() {
                    self.fleet.check_status(client);
                }
            }
            self.compare();
            if self.world.violation().is_some() {
                return;
            }
        }
        self.world.say(|| "healing".into());
        self.heal();
        self.compare();
        if self.world.violation().is_none() {
            checks::run(&self.fleet);
        }
    }

    fn compare(&self) {
        let differs = self.world.server.borrow().differs.take();
        if let Some(how) = differs {
            self.world
                .violated("the model is not as the server", || how);
        }
    }

    fn act(&self, act: Act) {
        let (world, fleet) = (&self.world, &self.fleet);
        let client = |c: usize| world.clients.get(c);
        match act {
            Act::Open(c) => fleet.open(c),
            Act::Kill(c, t) => fleet.kill(c, t),
            Act::KillBrowser(c) => fleet.kill_all(c),
            Act::Close(c, t) => fleet.close(c, t),
            Act::HandOver(c) => fleet.hand_over(c),
            Act::Write(c, t, collection, key, what) => self.write(c, t, collection, key, what),
            Act::Transaction(c, t, site, note) => self.transaction(c, t, site, note),
            Act::Fault(c, fault) => {
                if let Some(client) = client(c) {
                    client.faults.borrow_mut().push_back(fault);
                }
            }
            Act::Network(c, there, noticed) => self.network(c, there, noticed),
            Act::ServerDown(down) => world.server.borrow_mut().down = down,
            Act::Poison(key, c, why) => {
                let mut server = world.server.borrow_mut();
                server.poison.insert(name(key, c), why);
            }
            Act::Cure => world.server.borrow_mut().poison.clear(),
            Act::BatchMax(max) => world.server.borrow_mut().batch_max = max,
            Act::Expire(c, locked_out) => {
                if let Some(client) = client(c) {
                    client.expired.set(true);
                    client.locked_out.set(locked_out);
                }
            }
            Act::DiskFull(c, full) => {
                if let Some(client) = client(c) {
                    client.disk.full.set(full);
                }
            }
            Act::Abort(c, times) => {
                if let Some(client) = client(c) {
                    client.disk.aborts.set(times);
                }
            }
            Act::Clock(c, skew_ms) => {
                if let Some(client) = client(c) {
                    client.skew_ms.set(skew_ms);
                    client.clock_set.set(client.clock_set.get() + 1);
                }
            }
            Act::Fold(c) => fleet.fold(c),
            Act::Sweep(c) => fleet.sweep(c),
            Act::Evict(c, t) => {
                if let Some((_, manager)) = fleet.tab(c, t) {
                    manager.store().evict_all();
                }
            }
            Act::Pause(c, paused) => self.pause(c, paused),
            Act::Sync(c, t) => self.signal(c, t, Event::Sync),
            Act::Poke(c) => {
                if let Some(leader) = fleet.leader(c) {
                    leader.signal(Event::Poke);
                }
            }
            Act::Elsewhere(c, n, gone, late_ms) => self.elsewhere(c, n, gone, late_ms),
            Act::Retry(c) => fleet.retry(c),
            Act::Discard(c, any) => fleet.discard(c, any),
            Act::NewGeneration => {
                // It is months later: what a rescue copy was owed it has got.
                if fleet.wide.rescue {
                    world.exec.pass(RESCUED_MS);
                }
                world.server.borrow_mut().purge();
            }
            Act::More(more) => app::act(fleet, more),
        }
    }

    fn signal(&self, c: usize, t: usize, event: Event) {
        if let Some((_, manager)) = self.fleet.tab(c, t) {
            manager.signal(event);
        }
    }

    fn network(&self, c: usize, there: bool, noticed: bool) {
        let Some(client) = self.world.clients.get(c) else {
            return;
        };
        client.cut.set(!there);
        if !noticed {
            return;
        }
        client.online.set(there);
        for (_, manager) in self.fleet.managers(c) {
            manager.signal(if there { Event::Online } else { Event::Offline });
        }
    }

    fn pause(&self, c: usize, paused: bool) {
        if c >= self.world.clients.len() {
            return;
        }
        self.fleet.devices.borrow_mut()[c].paused = paused;
        for (_, manager) in self.fleet.managers(c) {
            manager.signal(if paused { Event::Pause } else { Event::Resume });
        }
    }

    /// Another program changes a shared record, in a transaction that may commit late.
    fn elsewhere(&self, c: usize, n: u8, gone: bool, late_ms: u64) {
        let Some(client) = self.world.clients.get(c) else {
            return;
        };
        let address = (client.user, "sites".into(), name(Key::Shared(n), c));
        let seq = self.world.server.borrow_mut().begin();
        let world = self.world.clone();
        self.world.exec.spawn(WORLD, async move {
            if late_ms > 0 {
                world.exec.sleep(late_ms).await;
            }
            let key = address.2.clone();
            let data = (!gone).then(|| Record::new(json!({ "id": *key, "e": seq })));
            let at = format!("{:013}-0000-elsewhere", world.true_ms() as u64);
            world.say(|| format!("elsewhere: {address:?}, gone {gone}"));
            world.server.borrow_mut().commit(seq, address, data, &at);
        });
    }

    fn write(&self, c: usize, t: usize, collection: &'static str, key: Key, what: Do) {
        let Some((tab, manager)) = self.fleet.tab(c, t) else {
            return;
        };
        let place: Place = (collection.into(), name(key, c));
        if !self.world.oracle.borrow().may_ask(c, tab, &place) {
            return;
        }
        let local = matches!(key, Key::Local(_)) || collection == "drafts";
        let (n, write, options) = prepare(&self.world, ((c, tab), &manager), &place, what, local);
        self.world
            .say(|| format!("c{c} tab {tab}: write {n}, {what:?} {place:?}"));
        let world = self.world.clone();
        let done = Box::new(move |result| oracle::ended(&world, n, &result));
        manager.submit(Intent::Write(place.0, vec![write], options), done);
    }

    fn transaction(&self, c: usize, t: usize, site: Key, note: Key) {
        let Some((tab, manager)) = self.fleet.tab(c, t) else {
            return;
        };
        let places: [Place; 2] = [
            ("sites".into(), name(site, c)),
            ("notes".into(), name(note, c)),
        ];
        let oracle = self.world.oracle.borrow();
        if !places.iter().all(|place| oracle.may_ask(c, tab, place)) {
            return;
        }
        drop(oracle);
        let mut writes = Vec::new();
        let mut marks = Vec::new();
        for place in places {
            let (n, write, options) =
                prepare(&self.world, ((c, tab), &manager), &place, Do::Put, false);
            writes.push((place.0, write, options));
            marks.push(n);
        }
        self.world
            .say(|| format!("c{c} tab {tab}: transaction of {marks:?}"));
        let transaction = Transaction {
            writes,
            reads: Vec::new(),
            grouped: true,
        };
        let world = self.world.clone();
        let done = Box::new(move |result: Result<usize, landfall::error::Error>| {
            for n in marks {
                oracle::ended(&world, n, &result);
            }
        });
        manager.submit(Intent::Transaction(transaction), done);
    }

    /// Everything works again; what was refused is sent once more or given up.
    fn heal(&self) {
        let (world, fleet) = (&self.world, &self.fleet);
        fleet.healing.set(true);
        {
            let mut server = world.server.borrow_mut();
            server.down = false;
            server.batch_max = None;
            server.poison.clear();
        }
        for (c, client) in world.clients.iter().enumerate() {
            client.disk.full.set(false);
            client.disk.aborts.set(0);
            client.faults.borrow_mut().clear();
            client.expired.set(false);
            client.locked_out.set(false);
            fleet.reload(c);
            if fleet.devices.borrow()[c].tabs.iter().all(|t| t.closing) {
                world.exec.pass(5_000);
                fleet.open(c);
            }
        }
        // Transactions that are open elsewhere end, too, and what is late arrives: a pull that it came
        // after cannot have brought it.
        world.exec.pass(200);
        while world.server.borrow().is_open() || world.ghosts.get() > 0 {
            world.exec.pass(200);
        }
        for c in 0..world.clients.len() {
            self.pause(c, false);
            self.network(c, true, true);
            for (_, manager) in fleet.managers(c) {
                manager.submit_catch_up();
            }
        }
        let mut since_ms = world.exec.now_ms();
        let mut retries = vec![0; world.clients.len()];
        let mut quiet = 0;
        let until_ms = world.exec.now_ms() + HEAL_MAX_MS;
        while world.exec.now_ms() < until_ms && world.violation().is_none() {
            world.exec.pass(LOOK_MS);
            let mut settled = true;
            for (c, retries) in retries.iter_mut().enumerate() {
                settled &= self.has_healed(c, since_ms, retries);
            }
            if !settled {
                continue;
            }
            // Everybody has pushed; now everybody pulls once more.
            quiet += 1;
            if quiet == 3 {
                return;
            }
            if quiet == 2 {
                // What a pull from the beginning does not bring is only missed at first.
                world.exec.pass(limits::MISSED_MS as u64 + 1);
            }
            since_ms = world.exec.now_ms();
            for c in 0..world.clients.len() {
                if let Some(leader) = fleet.leader(c) {
                    leader.signal(Event::Sync);
                }
            }
        }
        world.violated("it never settles", || {
            let statuses = (0..world.clients.len()).map(|c| {
                let all = fleet.managers(c);
                let each = all
                    .iter()
                    .map(|(id, m)| (*id, m.is_settled(), m.unread(), m.status()));
                format!("{:?}", each.collect::<Vec<_>>())
            });
            format!("{:?}", statuses.collect::<Vec<_>>())
        });
    }

    /// Whether a device has nothing left to do since then.
    fn has_healed(&self, c: usize, since_ms: u64, retries: &mut u32) -> bool {
        // One may have been opening when the others were reloaded.
        self.fleet.reload(c);
        let Some(leader) = self.fleet.leader(c) else {
            if self.fleet.managers(c).is_empty() {
                self.fleet.open(c);
            }
            return false;
        };
        let status = leader.status();
        if status.failed > 0 && leader.is_settled() {
            *retries += 1;
            if *retries > RETRIES {
                self.fleet.discard(c, false);
            } else {
                self.fleet.retry(c);
            }
            return false;
        }
        if self.fleet.wide.rescue && keep::waits(&self.fleet, c) {
            // A conflict may be in its way.
            if leader.is_settled() {
                app::resolve_all(&self.fleet, c);
            }
            return false;
        }
        let mut left = status.pending + status.syncing + status.conflict;
        if status.conflict > 0 && leader.is_settled() {
            if self.fleet.wide.never {
                left = self.fleet.left(&leader);
            } else {
                app::resolve_all(&self.fleet, c);
                // Nobody need have told a tab of what waits; whoever looks at it makes it catch up.
                for (_, manager) in self.fleet.managers(c) {
                    manager.signal(Event::Visible);
                }
            }
        }
        let skew_ms = self.world.clients[c].skew_ms.get();
        let through = status.synced_through_ms.unwrap_or(0.0) - super::world::EPOCH_MS - skew_ms;
        // A later one is of before the clock was set back.
        let now_ms = self.world.exec.now_ms() as f64;
        if left > 0 || !(since_ms as f64..=now_ms).contains(&through) {
            if left > 0 && status.next_ms.is_none() && status.syncing == 0 {
                leader.signal(Event::Sync);
            }
            return false;
        }
        true
    }
}
