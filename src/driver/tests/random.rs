//! Several devices, random writes, faults, crashes and clocks that are wrong; then it heals, and
//! everybody must have the same (promise 8), with nothing acknowledged gone missing.
//!
//! In some stories conflicts are settled by a rule, in others by a function that is slow, wrong or
//! silent at times, or by a person who comes by now and then.

use super::hidden::{HIDDEN, LOCAL, patch, write};
use super::rig::*;
use crate::conflict::{Answer, Choice, Conflict, Outcome};
use crate::driver::OutboxFilter;
use crate::engine::Event;
use crate::error::{Code, Error};
use crate::options::Strategy;
use crate::replica::plan::{Edit, Intent, Transaction, Write, WriteOptions};
use serde_json::json;
use std::cell::{Cell, RefCell};
use std::rc::Rc;

const SEEDS: u64 = 300;

/// The strategies of sites and notes.
fn strategies(seed: u64) -> [Strategy; 2] {
    use Strategy::{Function, LastWriteWins, Manual, Merge};
    match seed % 5 {
        0 => [Manual, Function],
        1 => [Function, Manual],
        2 => [Merge, LastWriteWins],
        _ => [LastWriteWins, LastWriteWins],
    }
}

/// A function that answers late, wrongly or never at times.
fn moody(chance: Chance) -> Decide {
    Rc::new(move |q| {
        let (mood, wait_ms) = (chance.below(10), chance.below(4_000));
        Box::pin(async move {
            pass(wait_ms).await;
            match mood {
                0 => Err(Error::new(Code::ConflictHandler, "threw")),
                1 => Ok(Answer::Park),
                2 => std::future::pending().await,
                3 => Ok(Answer::Record(None)),
                4 => Ok(Answer::Record(Some(Rc::new(json!({ "id": "wrong" }))))),
                5 => Ok(Answer::Record(q.local)),
                6 => Ok(Answer::Record(q.remote)),
                _ => {
                    let fields = q.local.or(q.remote).unwrap_or_else(|| Rc::new(json!({})));
                    let mut fields = fields.as_object().cloned().unwrap();
                    fields.insert("id".into(), json!(&*q.key));
                    fields.insert("mood".into(), json!(mood));
                    Ok(Answer::Record(Some(Rc::new(fields.into()))))
                }
            }
        })
    })
}

/// A person settles this conflict, one way or another.
async fn settle_one(tab: &TestManager, conflict: &Conflict<Record>, chance: &Chance) {
    let record = json!({ "id": &*conflict.key, "by": "hand" });
    let choice = match chance.below(5) {
        0 => Choice::Record(None),
        1 => Choice::Record(Some(Rc::new(record))),
        2 => Choice::Remote,
        _ => Choice::Local,
    };
    // It may have been settled meanwhile, and the disk may be full.
    drop(submit(tab, Intent::Resolve(conflict.id.clone(), choice)).await);
}

/// A person looks through what waits and what was settled, and changes something.
async fn by_hand(tab: &TestManager, chance: &Chance, step: u64) {
    let conflicts = tab.conflicts();
    let at = chance.below(conflicts.len().max(1) as u64) as usize;
    if let Some(conflict) = conflicts.get(at) {
        settle_one(tab, conflict, chance).await;
    }
    let queued = tab.outbox(&OutboxFilter::default());
    let mut shared = queued.iter().filter(|e| e.mutation.key.starts_with('k'));
    if let Some(entry) = shared.next_back() {
        let no = entry.mutation.no;
        let intent = match chance.below(4) {
            0 if entry.state != "pending" && entry.state != "syncing" => Intent::Retry(Some(no)),
            1 if entry.state == "conflict" => Intent::Discard(no),
            _ => Intent::Edit(Edit {
                no,
                patch: Rc::new(json!({ "e": step })),
                changed: ["e".into()].into(),
                on: None,
            }),
        };
        drop(submit(tab, intent).await);
    }
}

/// Until no conflict waits anywhere: everybody syncs, functions answer or do not, people settle the rest.
async fn settle_all(devices: &[(Device, TestManager)], chance: &Chance, seed: u64) {
    for _ in 0..20 {
        let mut open = 0;
        for (_, tab) in devices {
            tab.signal(Event::Online);
            // A child may wait for a parent that is parked: not everything can go yet.
            pass(40_000).await;
            for conflict in tab.conflicts() {
                if matches!(conflict.outcome, Outcome::Waiting | Outcome::Parked) {
                    open += 1;
                    settle_one(tab, &conflict, chance).await;
                }
            }
        }
        if open == 0 {
            return;
        }
    }
    panic!("seed {seed}: conflicts without end");
}

async fn story(seed: u64) {
    let chance = Chance::new(seed);
    let server = Rc::new(RefCell::new(Server::default()));
    // Half of the servers say what the time is, and then a clock may be wrong by days.
    let told = seed.is_multiple_of(2);
    let wrong_ms = if told { 400_000_000 } else { 20_000 };
    server.borrow_mut().clock = told.then(tokio::time::Instant::now);
    let mut devices = Vec::new();
    for (i, name) in ["a", "b", "c"].iter().enumerate() {
        let mut device = Device::new(name, &server, seed * 7 + i as u64);
        device
            .skew_ms
            .set(chance.below(wrong_ms) as f64 - wrong_ms as f64 / 2.0);
        for (spec, strategy) in device.specs.iter_mut().zip(strategies(seed)) {
            spec.strategy = strategy;
        }
        device.decide = moody(Chance::new(seed * 11 + i as u64));
        let tab = device.open().await;
        devices.push((device, tab));
    }
    // What each device was told is stored and nobody else touches: it has to be everywhere.
    let mut mine = Vec::new();
    let (mut asked, promises) = (0, Rc::new(Cell::new(0)));
    for step in 0..120 {
        let (device, tab) = &mut devices[chance.below(3) as usize];
        let key = format!("k{}", chance.below(6));
        match chance.below(22) {
            0..=2 => drop(put(tab, "sites", json!({ "id": key, "n": step })).await),
            3..=5 => drop(update(tab, "sites", &key, json!({ "m": step })).await),
            6 => drop(delete(tab, "sites", &key).await),
            7 => {
                let own = format!("own-{step}");
                if create(tab, "sites", site(&own, step)).await.is_ok() {
                    mine.push(own);
                }
            }
            8 => {
                let id = format!("note-{step}");
                let note = json!({ "id": id, "siteId": key });
                drop(create(tab, "notes", note).await);
            }
            9 => {
                let fault = match chance.below(6) {
                    0 => Fault::Lost,
                    1 => Fault::Status(500, None),
                    2 => Fault::ShortAnswer,
                    3 => Fault::Status(429, Some(500.0)),
                    _ => Fault::AnswerLost,
                };
                server.borrow_mut().faults.push_back(fault);
            }
            10 => {
                let down = server.borrow().down;
                server.borrow_mut().down = !down && chance.below(3) == 0;
            }
            11 => {
                // A crash: the tab is gone with all it knew, and another opens on the same disk.
                tab.signal(Event::Close);
                *tab = device.open().await;
            }
            12 => device.store.fail_next(crate::store::memory::Fault::Full),
            13..=15 => {
                // Hidden writes: whoever waits for them is told, sooner or later.
                let data = json!({ "id": key, "n": step });
                let (write, told) = match chance.below(3) {
                    0 => (Write::Put(Rc::new(data)), promises.clone()),
                    1 => (Write::Delete(key.as_str().into()), promises.clone()),
                    _ => (patch(&key, json!({ "h": step })), promises.clone()),
                };
                asked += 1;
                tab.submit(
                    Intent::Write("sites".into(), vec![write], HIDDEN),
                    Box::new(move |_| told.set(told.get() + 1)),
                );
            }
            16 => {
                let group = vec![
                    (
                        "sites".into(),
                        patch(&key, json!({ "g": step })),
                        WriteOptions::default(),
                    ),
                    (
                        "notes".into(),
                        Write::Put(Rc::new(json!({ "id": format!("n{key}"), "siteId": key }))),
                        WriteOptions::default(),
                    ),
                ];
                let transaction = Transaction {
                    writes: group,
                    reads: Vec::new(),
                    grouped: true,
                };
                drop(submit(tab, Intent::Transaction(transaction)).await);
            }
            17 => {
                let local = format!("local-{}", chance.below(3));
                drop(write(tab, Write::Put(Rc::new(site(&local, step))), LOCAL).await);
            }
            18 => {
                let local = format!("local-{}", chance.below(3));
                let promote = Write::Promote(local.as_str().into());
                drop(write(tab, promote, WriteOptions::default()).await);
            }
            19 | 20 => by_hand(tab, &chance, step).await,
            _ => pass(chance.below(3_000)).await,
        }
    }
    server.borrow_mut().down = false;
    server.borrow_mut().faults.clear();
    settle_all(&devices, &chance, seed).await;
    for _ in 0..3 {
        for (_, tab) in &devices {
            tab.signal(Event::Online);
            synced(tab).await;
        }
    }
    assert_eq!(
        promises.get(),
        asked,
        "seed {seed}: somebody waits for ever"
    );
    for (device, tab) in &devices {
        let counts = tab.status();
        assert_eq!((counts.conflict, counts.failed), (0, 0), "seed {seed}");
        device.store.fail_next(crate::store::memory::Fault::None);
        // What is only on this device goes, so that the rest can be compared.
        for key in ["local-0", "local-1", "local-2"] {
            if tab.state("sites", key).unwrap() == Some("local") {
                let gone = Write::Delete(key.into());
                write(tab, gone, WriteOptions::default()).await.unwrap();
            }
        }
    }
    for collection in ["sites", "notes"] {
        let truth = server.borrow().dump(collection);
        for (_, tab) in &devices {
            assert_eq!(
                dump(tab, collection).await,
                truth,
                "seed {seed}: {collection} differ"
            );
        }
    }
    let server = server.borrow();
    for own in mine {
        let row = server.rows.get(&("sites".to_owned(), own.clone()));
        assert_eq!(
            row.map(|r| r.version),
            Some(1),
            "seed {seed}: {own} has one effect"
        );
    }
    let mut effects = server.effects.clone();
    effects.sort();
    let all = effects.len();
    effects.dedup();
    assert_eq!(
        effects.len(),
        all,
        "seed {seed}: a mutation took effect twice"
    );
}

#[test]
fn quiescence_means_equality() {
    for seed in 1..=SEEDS {
        run(story(seed));
    }
}
