//! What has to be true when everything has healed: promises 1, 2, 5, 7 and 8, record by record.
//! The others are checked while the story is played, where they could be broken.

use super::exec::WORLD;
use super::fleet::{Fleet, Tabs};
use super::keys;
use super::oracle::{End, Kind, Op, Oracle, is_exact};
use super::record::Record;
use super::server::Server;
use landfall::driver::OutboxFilter;
use landfall::model::Action;
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
    accounted(fleet);
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
        let synced = |key: &str| manager.state(collection, key).ok().flatten() != Some("local");
        let shown = shown.into_iter().filter(|(key, _)| synced(key));
        let shown: BTreeMap<Rc<str>, String> = shown
            .map(|(key, record)| (key, record.anyhow().to_string()))
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
    let left = manager.outbox(&OutboxFilter::default());
    let status = manager.status();
    let counts = status.pending + status.syncing + status.conflict + status.failed;
    if !left.is_empty() || counts > 0 {
        world.violated("status counts differ from the store", || {
            format!("c{client}: {counts} counted, {left:?}")
        });
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
        let row = server.rows.get(&address).and_then(|r| r.data.as_ref());
        let marks = row.map(|r| (r.mark("a"), r.mark("b")));
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

/// Promises 1 and 5 where several write: each acknowledged write has left a trace.
fn accounted(fleet: &Fleet) {
    let world = &fleet.world;
    let (server, oracle) = (world.server.borrow(), world.oracle.borrow());
    for (i, op) in oracle.ops.iter().enumerate() {
        let n = i as u32 + 1;
        let alive = |(id, _): &(usize, Tabs)| *id == op.tab;
        if op.end == End::Waiting && fleet.managers(op.client).iter().any(alive) {
            world.violated("somebody waits for ever", || format!("write {n}: {op:?}"));
        }
        if op.end == End::Acked && !op.local && !is_exact(&op.place.1) {
            let user = world.clients[op.client].user;
            if !is_accounted(&server, &oracle, user, n, op) {
                world.violated("an acknowledged write was dropped silently", || {
                    format!("write {n}: {op:?}")
                });
            }
        }
    }
}

fn is_accounted(server: &Server, oracle: &Oracle, user: usize, n: u32, op: &Op) -> bool {
    let whose = (op.client, op.place.clone());
    let after = |marks: &BTreeMap<_, u64>| marks.get(&whose).is_some_and(|at| *at > op.asked);
    if after(&oracle.conflicts) || after(&oracle.discards) {
        return true;
    }
    let field = match op.kind {
        Kind::Update(field) => Some(field),
        _ => None,
    };
    let supersedes = |m: &u32, of: &str| {
        let other = oracle.op(*m);
        let later = other.ended > op.asked && *m != n && other.end != End::Refused;
        // What was asked later, or at the same time elsewhere.
        let follows = other.asked > op.asked || other.tab != op.tab;
        let covers = match other.kind {
            Kind::Update(f) => of == f,
            Kind::Promote => false,
            _ => true,
        };
        later && follows && covers
    };
    let covered = |of: &str| oracle.of[&whose].iter().any(|m| supersedes(m, of));
    if field.map_or(covered("a") && covered("b"), covered) {
        return true;
    }
    let address = (user, op.place.0.clone(), op.place.1.clone());
    let effects = || server.effects.iter().filter(|e| e.address == address);
    if op.kind == Kind::Delete {
        let row = server.rows.get(&address);
        if op.blind {
            return true; // there was nothing to delete
        }
        let gone = row.is_none_or(|r| r.data.is_none());
        let last = effects().next_back();
        return gone
            || last.is_some_and(|e| e.at_ms >= op.asked_ms && e.client != op.client)
            || row.is_some_and(|r| r.at.ends_with("-elsewhere"))
            || effects().any(|e| e.action == Action::Delete && e.at_ms >= op.asked_ms);
    }
    let carries = |r: &Record| match field {
        Some(field) => r.mark(field) == Some(n),
        None => r.mark("a") == Some(n) || r.mark("b") == Some(n),
    };
    let sent = |e: &super::oracle::Effect| {
        e.client == op.client && (e.sent.iter().chain(&e.data)).any(carries)
    };
    effects().any(sent)
}
