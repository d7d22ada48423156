//! Several devices, random writes, faults, crashes and clocks that are wrong; then it heals, and
//! everybody must have the same (promise 8), with nothing acknowledged gone missing.

use super::rig::*;
use crate::engine::Event;
use serde_json::json;
use std::cell::RefCell;
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
    for step in 0..120 {
        let (device, tab) = &mut devices[chance.below(3) as usize];
        let key = format!("k{}", chance.below(6));
        match chance.below(14) {
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
