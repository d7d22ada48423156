//! How the queue is sent: sizes, culprits, order, pauses, credentials, and how many requests that takes.

use super::hidden::patch;
use super::rig::*;
use crate::engine::{Event, Phase};
use crate::limits;
use crate::replica::plan::{Intent, Write, WriteOptions};
use crate::store::memory::Fault as Disk;
use serde_json::{Value as Json, json};
use std::cell::RefCell;
use std::rc::Rc;

fn rig() -> (Rc<RefCell<Server>>, Device) {
    let server = Rc::new(RefCell::new(Server::default()));
    let mut device = Device::new("a", &server, 21);
    device.backend.page = 1000;
    (server, device)
}

async fn create_all(m: &TestManager, collection: &str, records: Vec<Json>) {
    let writes = records.into_iter().map(|r| Write::Create(Rc::new(r)));
    let options = WriteOptions::default();
    let intent = Intent::Write(collection.into(), writes.collect(), options);
    submit(m, intent).await.unwrap();
}

fn sites(count: u64) -> Vec<Json> {
    (0..count).map(|n| site(&format!("s{n:05}"), n)).collect()
}

/// Every mutation took effect once.
fn assert_once(server: &Rc<RefCell<Server>>, count: usize) {
    let mut effects = server.borrow().effects.clone();
    assert_eq!(effects.len(), count);
    effects.sort();
    effects.dedup();
    assert_eq!(effects.len(), count, "one effect each");
}

#[test]
fn a_request_has_at_most_a_hundred_items_and_a_mebibyte() {
    run(async {
        let (server, device) = rig();
        let m = device.open_idle().await;
        create_all(&m, "sites", sites(250)).await;
        let text = "x".repeat(100_000);
        let large = |n| json!({ "id": format!("n{n:02}"), "text": text });
        create_all(&m, "notes", (0..30).map(large).collect()).await;
        let huge = json!({ "id": "huge", "text": "x".repeat(1_000_000) });
        create_all(&m, "notes", vec![huge]).await;
        m.signal(Event::Leader(true));
        synced(&m).await;
        let server = server.borrow();
        assert_eq!(server.rows.len(), 281);
        assert!(server.batches.iter().all(|n| *n <= 100));
        // Nine of 100 kB fit; what no request can hold with others goes alone.
        assert!(server.heaviest <= 1_048_576, "{}", server.heaviest);
        assert!(server.batches.len() <= 8, "{:?}", server.batches);
        assert!(server.batches.contains(&1), "{:?}", server.batches);
    });
}

#[test]
fn whoever_is_too_large_for_the_server_is_found_and_the_rest_delivered() {
    for status in [413, 400, 403, 409, 418, 422, 451] {
        run(async {
            let (server, device) = rig();
            server.borrow_mut().culprit = Some(("s00137".into(), status));
            let m = device.open_idle().await;
            create_all(&m, "sites", sites(400)).await;
            m.signal(Event::Leader(true));
            until(&m, "all but one", |s| {
                s.failed == 1 && s.pending + s.syncing == 0
            })
            .await;
            assert_once(&server, 399);
            let parked = m.outbox(&Default::default()).remove(0);
            assert_eq!(&*parked.mutation.key, "s00137", "{status}");
            let error = parked.mutation.error.unwrap();
            assert_eq!(&*error.message, "a fault", "the server's own words");
            // Halving finds one of 100 in seven steps; then the size grows again.
            let batches = server.borrow().batches.len();
            assert!(batches <= 30, "{status}: {batches}");
            // The culprit was mended.
            server.borrow_mut().culprit = None;
            submit(&m, Intent::Retry(None)).await.unwrap();
            synced(&m).await;
            assert_once(&server, 400);
        });
    }
}

#[test]
fn a_server_that_takes_fewer_at_once_gets_fewer() {
    run(async {
        let (server, device) = rig();
        server.borrow_mut().batch_max = Some(10);
        let m = device.open_idle().await;
        create_all(&m, "sites", sites(200)).await;
        m.signal(Event::Leader(true));
        synced(&m).await;
        assert_once(&server, 200);
        assert_eq!(m.status().failed, 0, "nobody is to blame");
    });
}

#[test]
fn one_answer_says_something_else_of_each() {
    run(async {
        let (server, device) = rig();
        server.borrow_mut().put("sites", site("c", 9), "9");
        server.borrow_mut().poison.insert("parked".into(), false);
        server.borrow_mut().poison.insert("later".into(), true);
        let m = device.open_idle().await;
        let records = ["fine", "c", "parked", "later", "also"];
        create_all(&m, "sites", records.map(|id| site(id, 1)).to_vec()).await;
        m.signal(Event::Leader(true));
        until(&m, "the first answer", |s| s.pending + s.syncing < 3).await;
        assert_eq!(server.borrow().batches[0], 5, "one request");
        assert!(server.borrow().effects.contains(&"a.5".to_owned()));
        let told = device.told.0.borrow().join("\n");
        for line in [
            "confirmed 1",
            "conflict c remote",
            "parked 3",
            "confirmed 5",
        ] {
            assert!(told.contains(line), "{line}: {told}");
        }
        let states: Vec<String> = queue(&m);
        assert_eq!(states[0], "3 create failed");
        let later = m.outbox(&Default::default()).remove(1);
        assert_eq!(
            (&*later.mutation.key, later.mutation.attempts),
            ("later", 1)
        );
        server.borrow_mut().poison.remove("later");
        until(&m, "the rest", |s| s.pending + s.syncing == 0).await;
        assert_eq!(m.status().failed, 1);
    });
}

#[test]
fn several_requests_are_under_way_and_each_record_keeps_its_order() {
    run(async {
        let (server, device) = rig();
        let m = device.open_idle().await;
        create_all(&m, "sites", sites(1000)).await;
        m.signal(Event::Leader(true));
        until(&m, "under way", |s| s.syncing >= 500).await;
        pass(1).await;
        // Behind what is in flight, and behind that again.
        for round in 0..3 {
            let writes = (0..1000).map(|n| patch(&format!("s{n:05}"), json!({ "n": round })));
            let intent = Intent::Write("sites".into(), writes.collect(), WriteOptions::default());
            submit(&m, intent).await.unwrap();
            pass(15).await;
        }
        synced(&m).await;
        assert_eq!(server.borrow().most_under_way, limits::PUSHES_IN_FLIGHT_MAX);
        assert!(m.conflicts().is_empty(), "nothing overtook its own base");
        let newest = |r: &Row| r.data.as_ref().unwrap()["n"] == json!(2);
        assert!(server.borrow().rows.values().all(newest));
        let stored = server.borrow().dump("sites");
        assert_eq!(dump(&m, "sites").await, stored);
    });
}

#[test]
fn a_request_without_an_answer_is_given_up_in_time() {
    run(async {
        let (server, device) = rig();
        let m = device.open().await;
        synced(&m).await;
        server.borrow_mut().faults.push_back(Fault::Hangs);
        create(&m, "sites", site("x", 1)).await.unwrap();
        pass(limits::REQUEST_TIMEOUT_MS as u64 - 1_000).await;
        assert_eq!(m.status().error, None);
        pass(2_000).await;
        let told = || device.told.0.borrow().contains(&"error timeout".to_owned());
        assert!(told());
        until(&m, "sent", |s| s.pending + s.syncing == 0).await;
        let told = device.told.0.borrow();
        assert!(told.contains(&"confirmed 1".to_owned()));
        assert_once(&server, 1);
    });
}

#[test]
fn a_pause_that_the_server_asks_for_is_kept_and_costs_no_attempt() {
    for status in [429, 503] {
        run(async {
            let (server, device) = rig();
            let m = device.open().await;
            synced(&m).await;
            let pause = Fault::Status(status, Some(90_000.0));
            server.borrow_mut().faults.push_back(pause);
            create(&m, "sites", site("x", 1)).await.unwrap();
            until(&m, "told", |s| s.error.is_some()).await;
            let before = server.borrow().requests;
            // Neither other writes nor asking by hand cut it short.
            create(&m, "sites", site("y", 1)).await.unwrap();
            m.signal(Event::Sync);
            pass(88_000).await;
            assert_eq!(server.borrow().requests, before, "{status}");
            let next_ms = m.status().next_ms.unwrap() - m.now_ms();
            assert!((0.0..3_000.0).contains(&next_ms), "{next_ms}");
            let all = m.outbox(&Default::default());
            assert!(all.iter().all(|e| e.mutation.attempts == 0));
            pass(5_000).await;
            assert_once(&server, 2);
        });
    }
}

#[test]
fn fresh_credentials_are_asked_for_once() {
    run(async {
        let (server, device) = rig();
        let m = device.open().await;
        synced(&m).await;
        let answers = [401, 401].map(|status| Fault::Status(status, None));
        server.borrow_mut().faults.extend(answers);
        let before = server.borrow().requests;
        create_all(&m, "sites", sites(20)).await;
        until(&m, "asked", |s| s.phase == Phase::NeedsAuth).await;
        pass(600_000).await;
        assert_eq!(server.borrow().requests, before + 2, "once, then silence");
        let all = m.outbox(&Default::default());
        assert!(
            all.iter()
                .all(|e| e.mutation.attempts == 0 && e.state == "pending")
        );
        m.signal(Event::Resume);
        until(&m, "sent", |s| s.pending + s.syncing == 0).await;
        assert_once(&server, 20);
    });
}

/// Row of the issue: 999 delivered, 1 parked with the server's reason, the status says so, and it is
/// delivered by a retry after a fix.
#[test]
fn one_poison_item_among_a_thousand() {
    run(async {
        let (server, device) = rig();
        server.borrow_mut().poison.insert("s00500".into(), false);
        let m = device.open_idle().await;
        create_all(&m, "sites", sites(1000)).await;
        m.signal(Event::Leader(true));
        until(&m, "all but one", |s| s.pending + s.syncing == 0).await;
        assert_once(&server, 999);
        assert_eq!((m.status().failed, m.status().pending), (1, 0));
        assert_eq!(m.state("sites", "s00500").unwrap(), Some("failed"));
        let parked = m.outbox(&Default::default()).remove(0);
        let error = parked.mutation.error.unwrap();
        assert_eq!((&*error.code, &*error.message), ("invalid", "no good"));
        assert_eq!(server.borrow().batches.len(), 10, "no request more for it");
        server.borrow_mut().poison.clear();
        submit(&m, Intent::Retry(Some(parked.mutation.no)))
            .await
            .unwrap();
        synced(&m).await;
        assert_once(&server, 1000);
        assert_eq!(m.status().failed, 0);
    });
}

/// Runs of the unsteady server: what a single one takes is chance, twice the least on average.
const SEEDS: u64 = 3;

/// Requests for 10,000 creations, of pushes and in all.
async fn ten_thousand(seed: u64, unsteady: Option<(u64, u64)>) -> (usize, usize) {
    let server = Rc::new(RefCell::new(Server::default()));
    let mut device = Device::new("a", &server, seed);
    device.backend.page = 1000;
    server.borrow_mut().unsteady = unsteady;
    let m = device.open_idle().await;
    create_all(&m, "sites", sites(10_000)).await;
    m.signal(Event::Leader(true));
    while m.status().pending + m.status().syncing > 0 || m.status().synced_ms.is_none() {
        pass(1_000).await;
    }
    assert_once(&server, 10_000);
    assert_eq!(m.status().failed, 0);
    assert!(server.borrow().rows.values().all(|r| r.version == 1));
    let server = server.borrow();
    (server.batches.len(), server.requests)
}

/// Row of the issue: half of all requests fail, a fifth of the answers is lost; everything is delivered
/// once, in at most 2.2 times the requests that it takes without faults.
#[test]
fn ten_thousand_through_a_server_that_fails_half_of_the_time() {
    run(async {
        let least = ten_thousand(1, None).await;
        let mut ratios = Vec::new();
        let mut sums = (0, 0);
        for seed in 1..=SEEDS {
            let (pushes, all) = ten_thousand(seed, Some((50, 20))).await;
            sums = (sums.0 + pushes, sums.1 + all);
            ratios.push(all as f64 / least.1 as f64);
        }
        let mean = [sums.0, sums.1].map(|sum| sum as f64 / SEEDS as f64);
        println!("least {least:?}, mean {mean:?}, of all: {ratios:.2?}");
        assert!(
            mean[0] <= 2.2 * least.0 as f64,
            "pushes: {mean:?}, {least:?}"
        );
        assert!(mean[1] <= 2.2 * least.1 as f64, "all: {mean:?}, {least:?}");
    });
}

/// A backend that cannot be pulled from keeps nothing that was sent without an answer for ever.
#[test]
fn what_may_have_arrived_is_sent_again_where_no_pull_can_tell() {
    run(async {
        let (server, device) = rig();
        let m = device.open().await;
        synced(&m).await;
        create(&m, "sites", site("x", 1)).await.unwrap();
        server.borrow_mut().faults.push_back(Fault::Lost);
        server.borrow_mut().no_pulls = true;
        // Eight pulls, each after a longer pause.
        pass(300_000).await;
        until(&m, "sent", |s| s.pending + s.syncing == 0).await;
        assert_once(&server, 1);
        assert_eq!(server.borrow().batches.len(), 2);
    });
}

/// One collection's place on the server is broken, or never answers: the other's records are delivered all
/// the same, and the broken one's when it is mended.
#[test]
fn a_collection_in_trouble_keeps_nobody() {
    for hangs in [false, true] {
        run(async {
            let (server, device) = rig();
            let m = device.open().await;
            synced(&m).await;
            if hangs {
                server.borrow_mut().stuck.push("notes".into());
            } else {
                server.borrow_mut().broken = Some("notes".into());
            }
            // Of a higher priority than sites, and enough for all requests at once.
            let notes = (0..900).map(|n| json!({ "id": format!("n{n}") }));
            create_all(&m, "notes", notes.collect()).await;
            let mut delivered = Vec::new();
            for round in 0..20 {
                let key = format!("late{round}");
                create(&m, "sites", site(&key, round)).await.unwrap();
                let since = m.now_ms();
                while m.state("sites", &key).unwrap() != Some("synced") {
                    pass(50).await;
                    assert!(
                        m.now_ms() - since < 200_000.0,
                        "hangs: {hangs}, {key} is kept"
                    );
                }
                delivered.push(m.now_ms() - since);
                pass(10_000).await;
            }
            delivered.remove(0); // it had to be found out first
            delivered.sort_by(f64::total_cmp);
            assert!(delivered[9] < 2_000.0, "{hangs}: {delivered:?}");
            let kept = m.outbox(&Default::default());
            assert!(kept.iter().all(|e| e.mutation.attempts == 0) && kept.len() == 900);
            server.borrow_mut().stuck.clear();
            server.borrow_mut().broken = None;
            while m.status().pending + m.status().syncing > 0 {
                pass(1_000).await;
            }
            assert_once(&server, 920);
        });
    }
}

#[test]
fn what_another_tab_writes_is_pushed_at_once() {
    run(async {
        let (server, device) = rig();
        let leader = device.open().await;
        synced(&leader).await;
        let other = device.open_idle().await;
        create(&other, "sites", site("x", 1)).await.unwrap();
        leader.submit_catch_up();
        pass(1_000).await;
        assert_once(&server, 1);
    });
}

#[test]
fn what_another_tab_could_not_tell_of_is_pushed_with_the_next_cycle() {
    run(async {
        let (server, device) = rig();
        let leader = device.open().await;
        synced(&leader).await;
        let other = device.open_idle().await;
        create(&other, "sites", site("x", 1)).await.unwrap();
        drop(other);
        pass(20_000).await;
        assert_eq!(leader.status().pending, 0, "nobody has told it");
        pass(15_000).await;
        assert_once(&server, 1);
        assert_eq!(leader.state("sites", "x").unwrap(), Some("synced"));
    });
}

#[test]
fn what_another_tab_could_not_tell_of_shows_when_somebody_looks() {
    run(async {
        let (_, device) = rig();
        let (writes, shows) = (device.open_idle().await, device.open_idle().await);
        create(&writes, "sites", site("x", 1)).await.unwrap();
        pass(60_000).await;
        assert_eq!(dump(&shows, "sites").await, [""; 0], "nobody has told it");
        shows.signal(Event::Visible);
        assert_eq!(dump(&shows, "sites").await, [r#"{"id":"x","n":1}"#]);
    });
}

/// A write whose commit fails has had a number for a moment, and the next write gets the same.
#[test]
fn nothing_is_sent_on_the_mark_of_a_write_that_failed() {
    run(async {
        let (server, device) = rig();
        let m = device.open().await;
        synced(&m).await;
        m.signal(Event::Pause);
        let write = |key: &str, n| {
            let put = Write::Put(Rc::new(site(key, n)));
            Intent::Write("sites".into(), vec![put], WriteOptions::default())
        };
        let stored = device.store.hold_next();
        device.store.fail_next(Disk::Full);
        m.submit(write("failed", 1), Box::new(|_| {}));
        pass(1).await;
        m.signal(Event::Resume);
        pass(1).await; // the request asks for its mark
        stored.send(()).unwrap();
        server.borrow_mut().unsteady = Some((0, 100)); // no answer comes back
        submit(&m, write("x", 1)).await.unwrap();
        until(&m, "sent", |_| !server.borrow().received.is_empty()).await;
        submit(&m, write("x", 2)).await.unwrap();
        assert_eq!(queue(&m), ["1 create pending", "2 update pending"]);
        server.borrow_mut().unsteady = None;
        synced(&m).await;
        assert_eq!(server.borrow().dump("sites"), [r#"{"id":"x","n":2}"#]);
        assert_once(&server, 2);
    });
}
