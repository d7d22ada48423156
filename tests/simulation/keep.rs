//! What a device can lose, and what brings it back: the rescue copy after the browser has thrown the
//! database away, a backup after signing out or on another device, the disk after a loss of power; and
//! a newer app that migrates what an older one has stored.
//!
//! The copy is `npm/lifeboat.js` and `npm/rescue-log.js` in few words: what has gone wins over what
//! came, a batch of another client takes the place of all, a database of another client than
//! the copy's takes the copy in.

use super::fleet::{Backup, Fleet, Tabs};
use super::keys;
use super::record::Record;
use super::story::Asker;
use futures_channel::oneshot;
use landfall::driver::{OutboxFilter, RescueBatch};
use landfall::error::{Code, Error};
use landfall::hlc::Hlc;
use landfall::model::{Held, MutationNo};
use landfall::options::CollectionSpec;
use landfall::replica::Alive;
use landfall::replica::plan::Intent;
use landfall::replica::plan_import::Import;
use landfall::store::Seq;
use serde_json::{Value as Json, json};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// The longest that another tab is thought to be late with its batch.
const LATE_MS: f64 = 60_000.0;

/// The time until it is tried again to take the copy in.
const AGAIN_MS: u64 = 5_000;

/// The rescue copy of a device.
#[derive(Default)]
pub(crate) struct Boat {
    client: Option<Rc<str>>,
    next: MutationNo,
    stamp: Hlc,
    /// Each with the newest entry of the log that was known to who handed it over.
    puts: BTreeMap<MutationNo, (Seq, Held<Record>)>,
    gone: BTreeSet<MutationNo>,
}

impl Boat {
    fn write(&mut self, client: &Rc<str>, batch: RescueBatch<Record>, alone: bool) {
        if self.client.as_ref() != Some(client) {
            *self = Self {
                client: Some(client.clone()),
                ..Self::default()
            };
        }
        self.next = self.next.max(batch.next_no);
        self.stamp = batch.stamp;
        if !alone {
            let ms = self.stamp.ms - LATE_MS;
            self.stamp = Hlc { ms, counter: 0 };
        }
        if let Some(Alive { below, stretches }) = batch.alive {
            let alive = |no: &MutationNo| stretches.iter().any(|(a, b)| (*a..=*b).contains(no));
            self.puts.retain(|no, _| *no >= below || alive(no));
        }
        for held in batch.put {
            let no = held.mutation.no;
            if self.puts.get(&no).is_none_or(|(seq, _)| *seq <= batch.seq) {
                self.puts.insert(no, (batch.seq, copy(held)));
            }
        }
        self.gone.extend(batch.gone);
        self.puts.retain(|no, _| !self.gone.contains(no));
    }

    fn load(&self) -> Vec<Held<Record>> {
        let kept = self.puts.values();
        kept.map(|(_, held)| copy(held.clone())).collect()
    }
}

/// As JSON carries it: nothing of the database that it is from is shared.
fn copy(mut held: Held<Record>) -> Held<Record> {
    let own = |r: &mut Option<Record>| {
        if let Some(record) = r {
            *record = Record::of(record.0.json.clone());
        }
    };
    own(&mut held.mutation.value);
    own(&mut held.mutation.base);
    own(&mut held.shadow);
    held
}

/// The batch before, and to whom it is told that this one has arrived.
type Turn = (Option<oneshot::Receiver<()>>, oneshot::Sender<()>);

/// A batch is written a moment later, after the tab's last one, whole or not at all.
pub(crate) async fn rescue(
    fleet: Rc<Fleet>,
    (c, tab): Asker,
    batch: RescueBatch<Record>,
    (before, _arrives): Turn,
) {
    let world = &fleet.world;
    let client = world.clients[c].id.borrow().clone();
    world.exec.sleep(world.chance.below(6)).await;
    if let Some(before) = before {
        // Dropped when it has.
        let _ = before.await;
    }
    let alone = fleet.devices.borrow()[c].tabs.len() == 1;
    world.say(|| {
        let put: Vec<_> = batch.put.iter().map(|h| h.mutation.no).collect();
        let gone = &batch.gone;
        let alive = &batch.alive;
        format!("c{c} tab {tab}: the rescue copy of {client} gets {put:?}, loses {gone:?}, alive {alive:?}")
    });
    fleet.boats.borrow_mut()[c].write(&client, batch, alone);
}

/// As `Lifeboat.start`: takes in what is kept of another database, now or as soon as that can be.
pub(crate) async fn start(fleet: &Rc<Fleet>, (c, tab): Asker, manager: &Tabs) {
    let world = &fleet.world;
    world.exec.moment().await;
    let client = manager.client();
    let (owner, next, stamp) = {
        let boats = fleet.boats.borrow();
        (boats[c].client.clone(), boats[c].next, boats[c].stamp)
    };
    if owner.as_ref() == Some(&client) {
        manager.start_rescue(next, stamp, false);
        let now_ms = world.exec.now_ms();
        world.oracle.borrow_mut().kept(c, tab, now_ms);
        return;
    }
    if owner.is_none() || bring_back(fleet, (c, tab), manager).await {
        ready(fleet, c, manager, owner.is_some());
        return;
    }
    // Until it can be taken in nothing is kept of what this tab writes.
    world.oracle.borrow_mut().unkept(c, tab);
    let (again, manager) = (fleet.clone(), manager.clone());
    world.exec.spawn(tab, async move {
        loop {
            again.world.exec.sleep(AGAIN_MS).await;
            if bring_back(&again, (c, tab), &manager).await {
                return ready(&again, c, &manager, true);
            }
        }
    });
}

/// The copy follows this database from now on.
fn ready(fleet: &Fleet, c: usize, manager: &Tabs, replaces: bool) {
    if replaces && manager.outbox(&OutboxFilter::default()).is_empty() {
        fleet.boats.borrow_mut()[c] = Boat {
            client: Some(manager.client()),
            ..Boat::default()
        };
    }
    manager.start_rescue(0, Hlc::default(), replaces);
}

/// Takes in what is kept of another database; answers whether that is over.
async fn bring_back(fleet: &Rc<Fleet>, (c, tab): Asker, manager: &Tabs) -> bool {
    let world = &fleet.world;
    let owner = fleet.boats.borrow()[c].client.clone();
    if let Some(owner) = owner.filter(|owner| *owner != manager.client()) {
        let mutations = fleet.boats.borrow()[c].load();
        world.say(|| {
            let kept: Vec<_> = mutations.iter().map(|h| h.mutation.no).collect();
            format!("c{c} tab {tab}: takes in {kept:?} of {owner}")
        });
        world.oracle.borrow_mut().taken_in(c);
        let import = Import {
            client: owner,
            mutations,
            late: true,
            left: None,
            schema: None,
        };
        if let Err(error) = take_in(manager, import).await {
            // A disk that fails, a newer app beside this one, or a change of this database's own that
            // is in the way for a while.
            let passing = [
                Code::StorageFailed,
                Code::QuotaExceeded,
                Code::DatabaseNewer,
            ];
            let in_the_way = error.message.contains("unsynced changes here");
            if !passing.contains(&error.code) && !in_the_way {
                world.violated("the rescue copy cannot be taken in", || {
                    format!("c{c}: {}", error.message)
                });
            }
            return false;
        }
    }
    true
}

async fn take_in(manager: &Tabs, import: Import<Record>) -> Result<usize, Error> {
    let (tell, told) = oneshot::channel();
    let done = Box::new(move |result| drop(tell.send(result)));
    manager.submit(Intent::Import(import), done);
    let dropped = || Error::new(Code::Closed, "dropped");
    told.await.unwrap_or_else(|_| Err(dropped()))
}

/// The browser throws the database away, while nobody has it open.
pub(crate) fn wipe(fleet: &Rc<Fleet>, c: usize) {
    let world = &fleet.world;
    if c >= world.clients.len() {
        return;
    }
    fleet.kill_all(c);
    world.say(|| format!("c{c}: the database is thrown away"));
    let strict = fleet.wide.strict;
    world
        .oracle
        .borrow_mut()
        .wiped(c, world.exec.now_ms(), strict);
    world.clients[c].new_database();
}

/// Signs out, with a backup or for good.
pub(crate) fn sign_out(fleet: &Rc<Fleet>, c: usize, backup: bool) {
    let world = &fleet.world;
    let Some((_, manager)) = fleet.tab(c, 0).filter(|(_, m)| m.is_settled()) else {
        return;
    };
    if backup {
        export(fleet, c, &manager);
    }
    fleet.kill_all(c);
    world.say(|| format!("c{c} signs out"));
    world.oracle.borrow_mut().signed_out(c);
    world.clients[c].new_database();
    fleet.boats.borrow_mut()[c] = Boat::default();
}

/// Whether a copy of another database waits to be taken in.
pub(crate) fn waits(fleet: &Fleet, c: usize) -> bool {
    let boats = fleet.boats.borrow();
    let owner = boats[c].client.as_ref();
    owner.is_some_and(|owner| *owner != *fleet.world.clients[c].id.borrow())
}

/// Hands out what is not synced.
pub(crate) fn export(fleet: &Fleet, c: usize, manager: &Tabs) {
    let mutations: Vec<_> = manager.unsynced().into_iter().map(copy).collect();
    fleet.backups.borrow_mut().push(Backup {
        from: c,
        client: manager.client(),
        mutations,
        taken: None,
    });
}

/// Takes one of the backups in.
pub(crate) fn import(fleet: &Rc<Fleet>, (c, t): (usize, usize), nth: usize) {
    let world = &fleet.world;
    let mut backups = fleet.backups.borrow_mut();
    let nth = nth % backups.len().max(1);
    let newer = backups.iter().skip(nth + 1);
    let clients: Vec<_> = newer.map(|other| other.client.clone()).collect();
    let Some(Backup {
        from,
        client,
        mutations,
        taken,
    }) = backups.get_mut(nth)
    else {
        return;
    };
    let Some((tab, manager)) = fleet.tab(c, t) else {
        return;
    };
    if world.clients[*from].user != world.clients[c].user {
        return;
    }
    // Two databases that both go on writing to the same mutations would send two changes under one id,
    // and so would two backups of one that went on in between.
    let database = manager.client();
    let lives_on = *world.clients[*from].id.borrow() == *client && database != *client;
    if lives_on
        || clients.contains(client)
        || taken.as_ref().is_some_and(|taken| *taken != database)
    {
        return;
    }
    *taken = Some(database);
    world.say(|| {
        let ids: Vec<_> = mutations
            .iter()
            .map(|h| h.mutation.wire_id(client))
            .collect();
        format!("c{c} tab {tab}: takes in a backup of {ids:?}")
    });
    let mut marks = Vec::new();
    let mut oracle = world.oracle.borrow_mut();
    for held in mutations.iter() {
        let m = &held.mutation;
        let place = (m.collection.clone(), keys::plain(&m.key));
        // Two devices have it from now on.
        oracle.loosen(*from, &place);
        oracle.loosen(c, &place);
        let value = m.value.iter();
        marks.extend(value.flat_map(|r| [r.mark("a"), r.mark("b")]).flatten());
    }
    oracle.brought(c, &marks);
    drop(oracle);
    let (told, count) = (world.clone(), mutations.len());
    let import = Import {
        client: client.clone(),
        mutations: mutations.iter().cloned().map(copy).collect(),
        late: false,
        left: None,
        schema: None,
    };
    let done = Box::new(move |result: Result<usize, Error>| {
        told.say(|| format!("c{c} tab {tab}: the backup is taken in: {result:?}"));
        if result == Ok(count) {
            told.oracle.borrow_mut().owed(c, &marks);
        }
    });
    manager.submit(Intent::Import(import), done);
}

/// The power is lost: what was not flushed may be gone, and whatever came after it.
pub(crate) fn power_loss(fleet: &Rc<Fleet>, c: usize) {
    let world = &fleet.world;
    let Some(client) = world.clients.get(c) else {
        return;
    };
    fleet.kill_all(c);
    let lost = client.disk.lose_power(&world.chance);
    world.say(|| {
        let moment = lost.as_ref().map(|(moment, _)| moment);
        format!("c{c}: no power; the disk is as it was at {moment:?}")
    });
    if let Some((moment, device)) = lost {
        world.oracle.borrow_mut().power_lost(c, moment, device);
    }
}

/// From now on the device's tabs open a newer version of the app.
pub(crate) fn newer(fleet: &Rc<Fleet>, c: usize) {
    let Some(client) = fleet.world.clients.get(c) else {
        return;
    };
    client.version.set(client.version.get() + 1);
    fleet.open(c);
}

/// What the app makes of a record of an older version: the version is in the record.
pub(crate) fn migrate(record: &Record, to: u32) -> Record {
    let mut json = (*record.0.json).clone();
    if let Json::Object(fields) = &mut json {
        fields.insert("v".into(), json!(to));
    }
    Record::new(json)
}

/// Right after a migration nothing is of an older version.
pub(crate) fn check_migrated(
    fleet: &Fleet,
    (c, version): (usize, u32),
    manager: &Tabs,
    specs: &[CollectionSpec],
) {
    for spec in specs {
        let older = |r: &Record| r.0.json.get("v") != Some(&json!(version));
        let mut first = None;
        let read = manager.each(&spec.name, |r| {
            if older(r) && first.is_none() {
                first = Some(r.anyhow().to_string());
            }
        });
        if let (Ok(()), Some(first)) = (read, first) {
            fleet.world.violated("a migration has left something", || {
                format!("c{c}: {} to {version}: {first}", spec.name)
            });
        }
    }
}
