//! What has to be true when everything has healed: promises 1, 2, 5, 7 and 8, record by record.
//! The others are checked while the story is played, where they could be broken.

use super::account;
use super::exec::WORLD;
use super::fleet::{Fleet, Tabs};
use super::keys;
use super::record::Record;
use landfall::conflict::Outcome;
use landfall::driver::OutboxFilter;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

const COLLECTIONS: [&str; 4] = ["sites", "notes", "blocks", "drafts"];

/// Checks everything.
pub(crate) fn run(fleet: &Rc<Fleet>) {
    let world = &fleet.world;
    for client in 0..world.clients.len() {
        let reopened = reopen(fleet, client);
        let managers = fleet.managers(client);
        let tabs = managers.iter().map(|(_, m)| m).chain(&reopened);
        for manager in tabs {
            same_as_server(fleet, client, manager);
        }
        fleet.check_status(client);
        if let Some(reopened) = &reopened {
            local_records(fleet, client, reopened);
        }
    }
    exact_records(fleet);
    references(fleet);
    account::run(fleet);
}

/// What had to leave with an old key in it has been put right.
fn references(fleet: &Fleet) {
    let world = &fleet.world;
    let (server, late) = (world.server.borrow(), world.late_references.borrow());
    for ((client, (collection, key)), site) in late.iter() {
        let user = world.clients[*client].user;
        let row = server.rows.get(&(user, collection.clone(), key.clone()));
        let refers = row.and_then(|r| r.data.as_ref()?.0.json.get("siteId")?.as_str());
        let waits = fleet.wide.never
            && fleet
                .managers(*client)
                .iter()
                .any(|(_, m)| fleet.left(m) > 0);
        if refers == Some(&**site) && !waits {
            world.violated("a reference to a key that has changed", || {
                format!("c{client} {collection}/{key} refers to {site} for good")
            });
        }
    }
}

/// What a new process reads from the disk.
fn reopen(fleet: &Rc<Fleet>, client: usize) -> Option<Tabs> {
    let slot: Rc<RefCell<Option<Tabs>>> = Rc::default();
    let (opened, own) = (slot.clone(), fleet.clone());
    fleet.world.exec.spawn(WORLD, async move {
        if let Ok(manager) = own.connect(client, usize::MAX).await {
            opened.replace(Some(manager));
        }
    });
    for (_, manager) in fleet.managers(client) {
        manager.submit_catch_up();
    }
    for _ in 0..50 {
        fleet.world.exec.pass(10);
        let settled = slot.borrow().as_ref().is_some_and(Tabs::is_settled);
        let others = fleet.managers(client).iter().all(|(_, m)| m.is_settled());
        if settled && others {
            break;
        }
    }
    let manager = slot.borrow_mut().take();
    if manager.is_none() {
        let name = "a disk cannot be opened again";
        fleet.world.violated(name, || format!("c{client}"));
    }
    manager
}

fn records(manager: &Tabs, collection: &str) -> BTreeMap<Rc<str>, Record> {
    let mut all = BTreeMap::new();
    let read = manager.each(collection, |record| {
        if let Some(key) = record.anyhow().get("id").and_then(|k| k.as_str()) {
            all.insert(key.into(), record.clone());
        }
    });
    read.map_or_else(|_| BTreeMap::new(), |()| all)
}

/// Promises 7 and 8.
fn same_as_server(fleet: &Fleet, client: usize, manager: &Tabs) {
    let world = &fleet.world;
    let server = world.server.borrow();
    for collection in COLLECTIONS {
        let truth = keys::dump(world, &server, world.clients[client].user, collection);
        let shown = records(manager, collection);
        let total = shown.len();
        // Conflicts may be left for ever, and what waits for them.
        let waits = |key: &str| {
            let state = manager.state(collection, key).ok().flatten();
            fleet.wide.never && matches!(state, Some("conflict" | "pending"))
        };
        let synced = |key: &str| manager.state(collection, key).ok().flatten() != Some("local");
        // A draft hides what was promoted under its key by a database that the device has no more.
        let hidden = |key: &str| {
            let oracle = world.oracle.borrow();
            let exact = oracle.exact.get(&(client, (collection.into(), key.into())));
            let drafted = exact.filter(|e| e.loose && e.states.iter().flatten().any(|s| s.local));
            !synced(key) && drafted.is_some()
        };
        let truth = truth.into_iter();
        let truth = truth.filter(|(key, _)| !waits(key) && !hidden(key));
        let truth: BTreeMap<_, _> = truth.collect();
        let shown = shown.into_iter();
        let shown = shown.filter(|(key, _)| synced(key) && !waits(key));
        let shown: BTreeMap<Rc<str>, String> = shown
            .map(|(key, record)| (key, keys::content(&record)))
            .collect();
        if shown != truth {
            world.violated("a replica differs from the server", || {
                format!("c{client} {collection}: {shown:?}, the server {truth:?}")
            });
        }
        let status = manager.status();
        let counted = status.collections.iter().find(|c| &*c.name == collection);
        if counted.map(|c| c.count) != Some(total) {
            world.violated("status counts differ from the store", || {
                format!("c{client} {collection}: {counted:?}, there are {total}")
            });
        }
    }
    if fleet.wide.never {
        return open_conflicts(fleet, client, manager);
    }
    let left = manager.outbox(&OutboxFilter::default());
    let status = manager.status();
    let counts = status.pending + status.syncing + status.conflict + status.failed;
    if !left.is_empty() || counts > 0 {
        world.violated("status counts differ from the store", || {
            format!("c{client}: {counts} counted, {left:?}")
        });
    }
}

/// A conflict that waits shows the server's side as it is now, however long it has waited.
fn open_conflicts(fleet: &Fleet, client: usize, manager: &Tabs) {
    let world = &fleet.world;
    let server = world.server.borrow();
    if fleet.left(manager) > 0 {
        world.violated("it never settles", || {
            format!("c{client}: more than conflicts is left")
        });
    }
    let conflicts = manager.conflicts();
    for conflict in conflicts.iter().filter(|c| c.outcome == Outcome::Waiting) {
        let (collection, key) = (&conflict.collection, keys::plain(&conflict.key));
        let address = (world.clients[client].user, collection.clone(), key.clone());
        let row = server.rows.get(&address).and_then(|r| r.data.as_ref());
        let row = row.map(|r| keys::on_wire(world, collection, &key, r));
        let remote = conflict.remote.as_ref().map(keys::content);
        let row = row.as_ref().map(keys::content);
        if remote != row {
            world.violated("an open conflict shows what the server has not", || {
                format!("c{client} {address:?}: {remote:?}, the server {row:?}")
            });
        }
    }
}

/// Promise 1 for what never leaves the device.
fn local_records(fleet: &Fleet, client: usize, manager: &Tabs) {
    let oracle = fleet.world.oracle.borrow();
    for ((c, (collection, key)), exact) in &oracle.exact {
        if *c != client {
            continue;
        }
        let key = keys::known(&fleet.world, manager, collection, key);
        let there = manager.get(collection, &key).ok().flatten();
        let there = there.map(|r| (r.mark("a"), r.mark("b")));
        let possible = |(a, b)| {
            let mut states = exact.states.iter();
            states.any(|s| s.map(|f| (Some(f.a), Some(f.b))) == Some((a, b)))
        };
        let kept = match there {
            None => exact.states.contains(&None),
            Some(marks) => possible(marks),
        };
        if !kept && !exact.loose {
            fleet.world.violated("an acknowledged write is lost", || {
                let states = &exact.states;
                format!("c{client} {collection}/{key}: {there:?}, should be one of {states:?}")
            });
        }
    }
}

/// Promises 1 to 3 where only one device writes: the server has exactly what was acknowledged.
fn exact_records(fleet: &Fleet) {
    let (server, oracle) = (fleet.world.server.borrow(), fleet.world.oracle.borrow());
    for ((client, (collection, key)), exact) in &oracle.exact {
        if exact.loose {
            continue;
        }
        let user = fleet.world.clients[*client].user;
        let address = (user, collection.clone(), key.clone());
        let managers = fleet.managers(*client);
        let waits = managers.first().and_then(|(_, manager)| {
            let key = keys::known(&fleet.world, manager, collection, key);
            let state = manager.state(collection, &key).ok().flatten();
            let left = fleet.wide.never && matches!(state, Some("pending" | "conflict"));
            left.then(|| manager.newest(collection, &key).ok().flatten())
        });
        let row = server.rows.get(&address).and_then(|r| r.data.as_ref());
        let held = waits.as_ref().map_or(row, Option::as_ref);
        let marks = held.map(|r| (r.mark("a"), r.mark("b")));
        let expected = exact.states.iter().map(|state| {
            let sent = state.filter(|f| !f.local);
            sent.map(|f| (Some(f.a), Some(f.b)))
        });
        if !expected.clone().any(|e| e == marks) {
            fleet.world.violated("an acknowledged write is lost", || {
                let states = &exact.states;
                format!("{address:?}: {marks:?} on the server, should be one of {states:?}")
            });
        }
    }
}
