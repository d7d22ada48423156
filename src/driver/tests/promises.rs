//! DESIGN's promises, one test at least for each.

use super::rig::*;
use crate::engine::{Event, Phase};
use crate::replica::plan::Intent;
use crate::store::Place;
use crate::store::memory::Fault as Disk;
use serde_json::json;
use std::cell::RefCell;
use std::rc::Rc;

fn rig() -> (Rc<RefCell<Server>>, Device) {
    let server = Rc::new(RefCell::new(Server::default()));
    let device = Device::new("a", &server, 3);
    (server, device)
}

#[test]
fn nothing_acknowledged_is_lost() {
    run(async {
        let (_, device) = rig();
        let m = device.open_idle().await;
        for n in 0..20 {
            create(&m, "sites", site(&format!("s{n:02}"), n))
                .await
                .unwrap();
        }
        // Stored, but the tab dies before it hears of it.
        device.store.fail_next(Disk::LostAfterCommit);
        let unheard = create(&m, "sites", site("unheard", 1));
        tokio::select! { _ = unheard => panic!("acknowledged"), () = pass(100) => {} }
        let again = device.open_idle().await;
        let (records, queued) = (dump(&again, "sites").await, queue(&again));
        assert_eq!((records.len(), queued.len()), (21, 21), "both or neither");
        assert!(queued.iter().all(|q| q.ends_with("pending")), "{queued:?}");
    });
}

#[test]
fn a_lost_answer_has_one_effect() {
    run(async {
        let (server, device) = rig();
        let m = device.open().await;
        synced(&m).await;
        for fault in [
            Fault::AnswerLost,
            Fault::AnswerLost,
            Fault::ShortAnswer,
            Fault::ForeignAnswer,
        ] {
            server.borrow_mut().faults.push_back(fault);
        }
        create(&m, "sites", site("x", 1)).await.unwrap();
        synced(&m).await;
        assert_eq!(server.borrow().effects, ["a.1"]);
        assert_eq!(server.borrow().rows.values().next().unwrap().version, 1);
    });
}

#[test]
fn a_child_is_never_pushed_before_its_parent() {
    run(async {
        let (server, device) = rig();
        server.borrow_mut().poison.insert("bad".into(), false);
        let m = device.open_idle().await;
        // Notes have the higher priority, and still wait.
        create(&m, "notes", json!({ "id": "n1", "siteId": "good" }))
            .await
            .unwrap();
        create(&m, "sites", site("good", 1)).await.unwrap();
        create(&m, "sites", site("bad", 1)).await.unwrap();
        create(&m, "notes", json!({ "id": "n2", "siteId": "bad" }))
            .await
            .unwrap();
        update(&m, "notes", "n1", json!({ "t": 1 })).await.unwrap();
        create(&m, "notes", json!({ "id": "n3", "siteId": "elsewhere" }))
            .await
            .unwrap();
        m.signal(Event::Leader(true));
        until(&m, "the rest has gone", |s| {
            s.failed == 1 && s.pending == 1 && s.syncing == 0
        })
        .await;
        let effects = server.borrow().effects.clone();
        assert_eq!(effects, ["a.5", "a.2", "a.1"]);
        let waiting = m.outbox(&Default::default()).pop().unwrap();
        assert_eq!(
            (waiting.id.as_str(), waiting.waits_for.as_deref()),
            ("a.4", Some("a.3"))
        );
        // The parent is mended: both go, in order.
        server.borrow_mut().poison.clear();
        submit(&m, Intent::Retry(None)).await.unwrap();
        synced(&m).await;
        assert_eq!(server.borrow().effects[3..], ["a.6", "a.4"]);
    });
}

#[test]
fn the_checkpoint_never_runs_ahead() {
    run(async {
        let (server, device) = rig();
        for n in 0..30 {
            server
                .borrow_mut()
                .put("sites", site(&format!("s{n:02}"), n), "0");
        }
        let m = device.open_idle().await;
        device.store.fail_next(Disk::Full);
        m.signal(Event::Leader(true));
        until(&m, "a page was not stored", |s| s.error.is_some()).await;
        // Crash at once: what is on the disk must be whole.
        let again = device.open().await;
        synced(&again).await;
        assert_eq!(dump(&again, "sites").await, server.borrow().dump("sites"));
    });
}

#[test]
fn a_pull_never_overwrites_a_pending_change() {
    run(async {
        let (server, device) = rig();
        server
            .borrow_mut()
            .put("sites", json!({"id": "x", "n": 1}), "0000000000001-0000-b");
        let m = device.open().await;
        synced(&m).await;
        server.borrow_mut().poison.insert("x".into(), false);
        update(&m, "sites", "x", json!({ "n": 2 })).await.unwrap();
        until(&m, "parked", |s| s.failed == 1).await;
        server
            .borrow_mut()
            .put("sites", json!({"id": "x", "n": 9}), "0000000000002-0000-b");
        synced(&m).await;
        assert_eq!(
            dump(&m, "sites").await,
            [r#"{"id":"x","n":2}"#],
            "ours shows"
        );
        submit(&m, Intent::Discard(1)).await.unwrap();
        assert_eq!(
            dump(&m, "sites").await,
            [r#"{"id":"x","n":9}"#],
            "theirs was kept"
        );
    });
}

#[test]
fn what_is_refused_is_parked_and_the_queue_moves_on() {
    run(async {
        let (server, device) = rig();
        server.borrow_mut().poison.insert("s500".into(), false);
        let m = device.open().await;
        for n in 0..1000 {
            create(&m, "sites", site(&format!("s{n}"), n))
                .await
                .unwrap();
        }
        until(&m, "one parked", |s| {
            s.failed == 1 && s.pending + s.syncing == 0
        })
        .await;
        assert_eq!(server.borrow().rows.len(), 999);
        let parked = m.outbox(&Default::default()).pop().unwrap();
        assert_eq!(parked.state, "failed");
        assert_eq!(
            parked.mutation.error.as_ref().unwrap().message.as_ref(),
            "no good"
        );
        assert!(device.told.0.borrow().iter().any(|t| t == "parked 501"));
        // An ordinary update is a cure as well: it goes out anew.
        server.borrow_mut().poison.clear();
        update(&m, "sites", "s500", json!({ "n": 5 }))
            .await
            .unwrap();
        synced(&m).await;
        assert_eq!(server.borrow().rows.len(), 1000);
        assert_eq!(dump(&m, "sites").await, server.borrow().dump("sites"));
    });
}

#[test]
fn being_offline_costs_nothing() {
    run(async {
        let (server, device) = rig();
        server.borrow_mut().down = true;
        let m = device.open().await;
        create(&m, "sites", site("x", 1)).await.unwrap();
        pass(3_600_000).await;
        for fault in [
            Fault::Status(503, None),
            Fault::Status(429, Some(5_000.0)),
            Fault::Hangs,
        ] {
            server.borrow_mut().faults.push_back(fault);
        }
        server.borrow_mut().down = false;
        server.borrow_mut().stale_token = true;
        m.signal(Event::Online);
        pass(5).await;
        let entry = m.outbox(&Default::default()).remove(0);
        assert_eq!((entry.mutation.attempts, entry.mutation.error), (0, None));
        until(&m, "sent", |s| s.pending + s.syncing == 0).await;
        assert_eq!(server.borrow().effects, ["a.1"]);
    });
}

#[test]
fn a_mutation_that_is_refused_as_retryable_is_tried_so_often_then_parked() {
    run(async {
        let (server, device) = rig();
        server.borrow_mut().poison.insert("x".into(), true);
        let m = device.open().await;
        create(&m, "sites", site("x", 1)).await.unwrap();
        create(&m, "sites", site("y", 1)).await.unwrap();
        until(&m, "parked", |s| s.failed == 1).await;
        let entry = m.outbox(&Default::default()).remove(0);
        assert_eq!(entry.mutation.attempts, 3);
        assert_eq!(
            server.borrow().effects,
            ["a.2"],
            "the other one did not wait"
        );
    });
}

#[test]
fn what_was_put_off_is_sent_again_when_it_is_due() {
    run(async {
        let (server, device) = rig();
        server.borrow_mut().poison.insert("x".into(), true);
        let m = device.open().await;
        create(&m, "sites", site("x", 1)).await.unwrap();
        let tried = |m: &TestManager| m.outbox(&Default::default())[0].mutation.attempts == 1;
        while !tried(&m) {
            pass(10).await;
        }
        server.borrow_mut().poison.clear();
        let entry = m.outbox(&Default::default()).remove(0).mutation;
        let due_ms = entry.next_attempt_ms.unwrap();
        until(&m, "sent", |s| s.pending + s.syncing == 0).await;
        let late_ms = m.now_ms() - due_ms;
        assert!((0.0..200.0).contains(&late_ms), "{late_ms}");
    });
}

#[test]
fn the_status_is_true_right_after_a_crash() {
    run(async {
        let (server, device) = rig();
        server.borrow_mut().poison.insert("s3".into(), false);
        let m = device.open().await;
        for n in 0..5 {
            create(&m, "sites", site(&format!("s{n}"), n))
                .await
                .unwrap();
        }
        until(&m, "one parked", |s| {
            s.failed == 1 && s.pending + s.syncing == 0
        })
        .await;
        server.borrow_mut().down = true;
        create(&m, "sites", site("late", 1)).await.unwrap();
        until(&m, "tried", |s| s.phase == Phase::Offline).await;
        let again = device.open_idle().await;
        // Nothing but the newest entry has been read.
        let status = again.status();
        assert_eq!(
            (status.pending, status.failed, status.collections[0].count),
            (1, 1, 6)
        );
        assert!(status.collections[0].loading);
        settle(&again).await;
        let loaded = again.status();
        assert_eq!(
            (loaded.pending, loaded.failed, loaded.collections[0].count),
            (1, 1, 6)
        );
    });
}

#[test]
fn a_damaged_entry_is_set_aside_and_takes_no_other_down() {
    run(async {
        let (_, device) = rig();
        let m = device.open_idle().await;
        for n in 0..3 {
            create(&m, "sites", site(&format!("s{n}"), n))
                .await
                .unwrap();
        }
        device.store.damage(Place::Log(2));
        let again = device.open_idle().await;
        assert_eq!(
            dump(&again, "sites").await,
            [r#"{"id":"s0","n":0}"#, r#"{"id":"s2","n":2}"#]
        );
        assert_eq!(device.store.quarantined(), [Place::Log(2)]);
        assert_eq!(
            again.status().error.unwrap().0.code.as_str(),
            "database-damaged"
        );
    });
}

#[test]
fn a_collection_that_is_declared_later_is_pulled_from_the_beginning() {
    run(async {
        let (server, mut device) = rig();
        server.borrow_mut().put("sites", site("x", 1), "0");
        server.borrow_mut().put("notes", json!({"id": "n"}), "0");
        let all = device.specs.clone();
        device.specs.truncate(1);
        let m = device.open().await;
        synced(&m).await;
        m.signal(Event::Close);
        device.specs = all;
        let m = device.open().await;
        synced(&m).await;
        assert_eq!(dump(&m, "notes").await, [r#"{"id":"n"}"#]);
    });
}

#[test]
fn a_number_that_the_backend_knows_is_not_given_again_after_a_loss_of_power() {
    run(async {
        let (server, device) = rig();
        let m = device.open().await;
        create(&m, "sites", site("x", 1)).await.unwrap();
        synced(&m).await;
        m.signal(Event::Close);
        // The disk has lost what it was not told to flush: the confirmation, and the page.
        device.store.lose_power();
        let m = device.open().await;
        create(&m, "sites", site("y", 2)).await.unwrap();
        synced(&m).await;
        assert_eq!(server.borrow().effects, ["a.1", "a.2"]);
        assert_eq!(dump(&m, "sites").await, server.borrow().dump("sites"));
    });
}

#[test]
fn only_what_the_backend_may_know_is_flushed_whatever_the_durability() {
    run(async {
        let (server, device) = rig();
        let m = device.open_idle().await;
        create(&m, "sites", site("x", 1)).await.unwrap();
        m.signal(Event::Close);
        device.store.lose_power();
        let m = device.open().await;
        assert_eq!(dump(&m, "sites").await, [""; 0], "as fast as was asked for");
        create(&m, "sites", site("y", 2)).await.unwrap();
        synced(&m).await;
        assert_eq!(server.borrow().effects, ["a.1"]);
    });
}
