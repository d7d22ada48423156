//! Several devices, random writes, faults, crashes and clocks that are wrong; then it heals, and
//! everybody must have the same (promise 8), with nothing acknowledged gone missing.

use super::hidden::{HIDDEN, LOCAL, patch, write};
use super::rig::*;
use crate::engine::Event;
use crate::replica::plan::{Intent, Transaction, Write, WriteOptions};
use serde_json::json;
use std::cell::{Cell, RefCell};
use std::rc::Rc;

const SEEDS: u64 = 300;

async fn story(seed: u64) {
    let chance = Chance::new(seed);
    let server = Rc::new(RefCell::new(Server::default()));
    let mut devices = Vec::new();
    for (i, name) in ["a", "b", "c"].iter().enumerate() {
        let mut device = Device::new(name, &server, seed * 7 + i as u64);
        device.skew_ms = chance.below(20_000) as f64 - 10_000.0;
        let tab = device.open().await;
        devices.push((device, tab));
    }
    // What each device was told is stored and nobody else touches: it has to be everywhere.
    let mut mine = Vec::new();
    let (mut asked, promises) = (0, Rc::new(Cell::new(0)));
    for step in 0..120 {
        let (device, tab) = &mut devices[chance.below(3) as usize];
        let key = format!("k{}", chance.below(6));
        match chance.below(20) {
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
            _ => pass(chance.below(3_000)).await,
        }
    }
    server.borrow_mut().down = false;
    server.borrow_mut().faults.clear();
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
