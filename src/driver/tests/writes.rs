//! Local writes: durable or refused, coalesced as the table says, in every tab the same.

use super::rig::*;
use crate::engine::Event;
use crate::error::Code;
use crate::model::{Page, Pulled, Version};
use crate::replica::plan::{Intent, Write, WriteOptions};
use crate::store::memory::Fault as Disk;
use serde_json::json;
use std::cell::RefCell;
use std::rc::Rc;

fn offline() -> (Rc<std::cell::RefCell<Server>>, Device) {
    let server = Rc::new(std::cell::RefCell::new(Server::default()));
    server.borrow_mut().down = true;
    let device = Device::new("a", &server, 1);
    (server, device)
}

#[test]
fn unsent_changes_of_a_record_become_one() {
    run(async {
        let (_, device) = offline();
        let m = device.open_idle().await;
        create(&m, "sites", site("x", 1)).await.unwrap();
        update(&m, "sites", "x", json!({ "n": 2 })).await.unwrap();
        assert_eq!(queue(&m), ["1 create pending"], "create, update");
        assert_eq!(dump(&m, "sites").await, [r#"{"id":"x","n":2}"#]);
        delete(&m, "sites", "x").await.unwrap();
        assert_eq!(queue(&m), [""; 0], "create, delete");
        assert_eq!(dump(&m, "sites").await, [""; 0]);
    });
}

#[test]
fn changes_of_a_synced_record_keep_their_first_base() {
    run(async {
        let (server, device) = offline();
        server.borrow_mut().down = false;
        server
            .borrow_mut()
            .put("sites", json!({"id": "x", "a": 1, "b": 1}), "0");
        let m = device.open().await;
        synced(&m).await;
        server.borrow_mut().down = true;
        update(&m, "sites", "x", json!({ "a": 2 })).await.unwrap();
        update(&m, "sites", "x", json!({ "b": 2 })).await.unwrap();
        let entry = m.outbox(&Default::default()).remove(0).mutation;
        let changed: Vec<_> = entry
            .changed
            .unwrap()
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            (changed, entry.base_version.0),
            (vec!["a".into(), "b".into()], 1)
        );
        assert_eq!(entry.base.unwrap().to_string(), r#"{"a":1,"b":1,"id":"x"}"#);
        delete(&m, "sites", "x").await.unwrap();
        let entry = m.outbox(&Default::default()).remove(0).mutation;
        assert_eq!((entry.action.as_str(), entry.base_version.0), ("delete", 1));
        create(&m, "sites", json!({"id": "x", "c": 3}))
            .await
            .unwrap();
        let entry = m.outbox(&Default::default()).remove(0).mutation;
        assert_eq!((entry.action.as_str(), entry.base_version.0), ("update", 1));
        assert!(entry.changed.is_none(), "the whole record");
        server.borrow_mut().down = false;
        synced(&m).await;
        assert_eq!(server.borrow().dump("sites"), [r#"{"c":3,"id":"x"}"#]);
    });
}

#[test]
fn what_is_in_flight_is_never_rewritten() {
    run(async {
        let (server, device) = offline();
        server.borrow_mut().down = false;
        let m = device.open().await;
        synced(&m).await;
        create(&m, "sites", site("x", 1)).await.unwrap();
        until(&m, "in flight", |s| s.syncing == 1).await;
        update(&m, "sites", "x", json!({ "n": 2 })).await.unwrap();
        update(&m, "sites", "x", json!({ "n": 3 })).await.unwrap();
        assert_eq!(queue(&m), ["1 create syncing", "2 update pending"]);
        synced(&m).await;
        assert_eq!(server.borrow().effects, ["a.1", "a.2"]);
        assert_eq!(server.borrow().dump("sites"), [r#"{"id":"x","n":3}"#]);
        assert_eq!(dump(&m, "sites").await, server.borrow().dump("sites"));
    });
}

#[test]
fn a_created_record_that_may_have_arrived_is_deleted_there_too() {
    run(async {
        let (server, device) = offline();
        server.borrow_mut().down = false;
        server.borrow_mut().faults.push_back(Fault::AnswerLost);
        let m = device.open_idle().await;
        create(&m, "sites", site("x", 1)).await.unwrap();
        m.signal(crate::engine::Event::Leader(true));
        until(&m, "the answer is lost", |s| s.error.is_some()).await;
        // A crash, and a delete before the next try.
        let again = device.open_idle().await;
        settle(&again).await;
        delete(&again, "sites", "x").await.unwrap();
        again.signal(crate::engine::Event::Leader(true));
        m.signal(crate::engine::Event::Close);
        synced(&again).await;
        assert_eq!(server.borrow().dump("sites"), [""; 0]);
        assert_eq!(dump(&again, "sites").await, [""; 0]);
    });
}

#[test]
fn a_group_shares_one_transaction_and_a_refused_write_harms_no_other() {
    run(async {
        let (_, device) = offline();
        let m = device.open_idle().await;
        let before = device.store.appends();
        let writes = (0..50).map(|n| create(&m, "sites", site(&format!("s{n}"), n)));
        let bad = create(&m, "sites", json!({ "name": "no key" }));
        let twice = create(&m, "sites", site("s7", 0));
        let (all, bad, twice) =
            futures_util::join!(futures_util::future::join_all(writes), bad, twice);
        assert!(all.iter().all(Result::is_ok));
        assert_eq!(bad.unwrap_err().code, Code::InvalidKey);
        assert_eq!(twice.unwrap_err().code, Code::AlreadyExists);
        assert_eq!(device.store.appends() - before, 1);
        assert_eq!(m.status().pending, 50);
    });
}

#[test]
fn a_bulk_write_is_all_or_nothing() {
    run(async {
        let (_, device) = offline();
        let m = device.open_idle().await;
        let good = |n: u64| Write::Put(Rc::new(site(&format!("s{n}"), n)));
        let bad = Write::Put(Rc::new(json!({ "id": 7 })));
        let mut writes: Vec<_> = (0..10).map(good).collect();
        writes.push(bad);
        let error = submit(
            &m,
            Intent::Write("sites".into(), writes, WriteOptions::default()),
        )
        .await
        .unwrap_err();
        assert_eq!(error.code, Code::InvalidKey);
        assert_eq!((m.status().pending, dump(&m, "sites").await.len()), (0, 0));
        create(&m, "sites", site("x", 1)).await.unwrap();
        assert_eq!(queue(&m), ["1 create pending"], "no number was used up");
    });
}

#[test]
fn a_full_disk_refuses_the_write_whole_and_the_next_one_works() {
    run(async {
        let (_, device) = offline();
        let m = device.open_idle().await;
        create(&m, "sites", site("a", 1)).await.unwrap();
        device.store.fail_next(Disk::Full);
        let error = update(&m, "sites", "a", json!({ "n": 2 }))
            .await
            .unwrap_err();
        assert_eq!(error.code, Code::QuotaExceeded);
        assert_eq!(m.status().error.unwrap().0.code, Code::QuotaExceeded);
        assert_eq!(dump(&m, "sites").await, [r#"{"id":"a","n":1}"#]);
        update(&m, "sites", "a", json!({ "n": 3 })).await.unwrap();
        assert_eq!(dump(&m, "sites").await, [r#"{"id":"a","n":3}"#]);
        assert!(m.status().error.is_none(), "it is over");
    });
}

#[test]
fn two_tabs_write_the_same_records_and_end_equal() {
    run(async {
        let (server, device) = offline();
        let (a, b) = (device.open_idle().await, device.open_idle().await);
        let chance = Chance::new(5);
        for round in 0..40 {
            let key = format!("s{}", chance.below(5));
            let one = put(&a, "sites", site(&key, round));
            let other = put(
                &b,
                "sites",
                site(&format!("s{}", chance.below(5)), 1000 + round),
            );
            let (one, other) = futures_util::join!(one, other);
            one.unwrap();
            other.unwrap();
        }
        a.submit_catch_up();
        b.submit_catch_up();
        assert_eq!(dump(&a, "sites").await, dump(&b, "sites").await);
        assert_eq!(queue(&a), queue(&b));
        server.borrow_mut().down = false;
        a.signal(crate::engine::Event::Leader(true));
        synced(&a).await;
        assert_eq!(dump(&a, "sites").await, server.borrow().dump("sites"));
    });
}

#[test]
fn unknown_collections_and_missing_records_are_refused() {
    run(async {
        let (_, device) = offline();
        let m = device.open_idle().await;
        let code = |r: crate::error::Result<usize>| r.unwrap_err().code;
        assert_eq!(
            code(create(&m, "nope", site("x", 1)).await),
            Code::UnknownCollection
        );
        assert_eq!(
            code(update(&m, "sites", "x", json!({"n": 1})).await),
            Code::NotFound
        );
        assert_eq!(
            delete(&m, "sites", "x").await,
            Ok(1),
            "deleting nothing is no error"
        );
        create(&m, "sites", site("x", 1)).await.unwrap();
        assert_eq!(
            code(update(&m, "sites", "x", json!({"id": "y"})).await),
            Code::InvalidKey
        );
        assert_eq!(
            code(put(&m, "sites", site(&"k".repeat(513), 1)).await),
            Code::InvalidKey
        );
        assert_eq!(code(put(&m, "sites", site("", 1)).await), Code::InvalidKey);
        assert_eq!(queue(&m), ["1 create pending"]);
    });
}

#[test]
fn whoever_watches_a_collection_hears_of_every_commit_that_touched_it() {
    run(async {
        let (_, device) = offline();
        let m = device.open_idle().await;
        create(&m, "sites", site("x", 1)).await.unwrap();
        device.told.0.borrow_mut().clear();
        submit(&m, Intent::Discard(1)).await.unwrap();
        assert_eq!(dump(&m, "sites").await, [""; 0]);
        assert_eq!(*device.told.0.borrow(), ["touched sites"]);
    });
}

#[test]
fn what_the_server_adds_is_taken_over_also_under_a_later_edit() {
    run(async {
        let (server, device) = offline();
        server.borrow_mut().down = false;
        server.borrow_mut().stamps = true;
        let m = device.open().await;
        synced(&m).await;
        create(&m, "sites", site("x", 1)).await.unwrap();
        until(&m, "in flight", |s| s.syncing == 1).await;
        update(&m, "sites", "x", json!({ "n": 2 })).await.unwrap();
        until(&m, "the first is confirmed", |s| s.pending + s.syncing == 1).await;
        let shown = dump(&m, "sites").await;
        assert!(
            shown[0].contains("seen") && shown[0].contains(r#""n":2"#),
            "{shown:?}"
        );
        synced(&m).await;
        assert_eq!(dump(&m, "sites").await, server.borrow().dump("sites"));
        assert!(server.borrow().dump("sites")[0].contains("seen"));
        assert!(m.conflicts().is_empty());
    });
}

/// A tab that has not been told of another's writes looks before it says that there is nothing to do.
#[test]
fn nothing_to_do_is_said_of_what_every_tab_has_written() {
    run(async {
        let (_, device) = offline();
        let (a, b) = (device.open_idle().await, device.open_idle().await);
        settle(&b).await;
        create(&a, "sites", site("x", 1)).await.unwrap();
        delete(&b, "sites", "x").await.unwrap();
        assert_eq!(dump(&b, "sites").await, [""; 0]);
        assert_eq!(queue(&b), [""; 0]);

        create(&a, "sites", site("y", 1)).await.unwrap();
        update(&b, "sites", "y", json!({ "n": 1 })).await.unwrap();
        let refused = create(&b, "sites", site("y", 2)).await.unwrap_err();
        assert_eq!(refused.code, Code::AlreadyExists);

        // Where the store cannot be read nobody knows.
        create(&a, "sites", site("z", 1)).await.unwrap();
        device.store.fail_next_read();
        assert!(delete(&b, "sites", "z").await.is_err());
        delete(&b, "sites", "z").await.unwrap();
        assert_eq!(dump(&b, "sites").await, [r#"{"id":"y","n":1}"#]);
    });
}

#[test]
fn only_where_the_app_has_asked_for_nothing_new_the_log_is_read_once_more() {
    run(async {
        let (_, device) = offline();
        let m = device.open_idle().await;
        settle(&m).await;
        device.store.fail_next_read();
        // What syncing asks for is decided by what this tab knows.
        assert_eq!(submit(&m, Intent::MarkSent(Vec::new())).await, Ok(0));
        let gone = delete(&m, "sites", "x").await;
        assert_eq!(gone.unwrap_err().code, Code::StorageFailed);
        assert!(delete(&m, "sites", "x").await.is_ok());
    });
}

#[test]
fn what_was_created_and_deleted_here_is_deleted_where_the_backend_has_it_meanwhile() {
    run(async {
        let server = Rc::new(RefCell::new(Server::default()));
        let device = Device::new("a", &server, 1);
        let m = device.open().await;
        synced(&m).await;
        // Waits for its site, which the server refuses.
        server.borrow_mut().poison.insert("s".into(), false);
        create(&m, "sites", site("s", 1)).await.unwrap();
        let note = json!({"id": "n", "siteId": "s"});
        create(&m, "notes", note).await.unwrap();
        let theirs = json!({"id": "n", "siteId": "t"});
        server.borrow_mut().put("notes", theirs, "1");
        m.signal(Event::Sync);
        until(&m, "parked", |s| s.failed == 1).await;
        pass(31_000).await;
        delete(&m, "notes", "n").await.unwrap();
        submit(&m, Intent::Discard(1)).await.unwrap();
        synced(&m).await;
        assert_eq!(dump(&m, "notes").await, [""; 0]);
        assert!(!server.borrow().has("notes", "n"));
    });
}

/// Whoever has just written would be the faster one again and again.
#[test]
fn a_tab_that_was_overtaken_takes_turns_with_the_other_for_a_while() {
    run(async {
        let (_, device) = offline();
        let (one, two) = (device.open_idle().await, device.open_idle().await);
        create(&one, "sites", site("x", 1)).await.unwrap();
        assert_eq!(*device.told.0.borrow(), ["touched sites"]);
        device.told.0.borrow_mut().clear();
        create(&two, "sites", site("y", 1)).await.unwrap();
        pass(10).await;
        assert_eq!(
            device.told.0.borrow().join(", "),
            "turn, touched sites, turn over"
        );
        // What has come until its turn is taken in before anything is decided.
        create(&one, "sites", site("z", 1)).await.unwrap();
        let refused = create(&two, "sites", site("z", 2)).await.unwrap_err();
        assert_eq!(refused.code, Code::AlreadyExists);
        // What follows at once has the same turn, up to a number; and no more turns are taken after a while.
        pass(10).await;
        device.told.0.borrow_mut().clear();
        for n in 0..100 {
            put(&two, "sites", site("y", n)).await.unwrap();
        }
        pass(10).await;
        let count = |what: &str| device.told.0.borrow().iter().filter(|t| *t == what).count();
        assert!((2..10).contains(&count("turn")), "{}", count("turn"));
        assert_eq!(count("turn"), count("turn over"));
    });
}

#[test]
fn nobody_waits_for_a_turn_that_waits_for_the_rescue_copy() {
    run(async {
        let (_, mut device) = offline();
        (device.strict, device.rescue_ms) = (true, 30);
        let m = device.open_idle().await;
        m.start_rescue(0, crate::hlc::Hlc::default(), false);
        m.take_turns();
        create(&m, "sites", site("x", 1)).await.unwrap();
        let told = device.told.0.borrow();
        let at = |what: &str| told.iter().position(|line| line == what).unwrap();
        assert!(at("turn over") < at("kept [1]"), "{told:?}");
    });
}

/// What a reopened database has must be what this tab has.
#[test]
fn a_page_between_two_writes_of_one_commit_changes_no_base() {
    run(async {
        let (server, device) = offline();
        server.borrow_mut().down = false;
        let record = |a: u64, b: u64| json!({ "id": "x", "a": a, "b": b });
        server.borrow_mut().put("sites", record(1, 1), "0");
        let m = device.open().await;
        synced(&m).await;
        m.signal(Event::Leader(false));
        let page = Page {
            changes: vec![Pulled {
                collection: "sites".into(),
                key: "x".into(),
                version: Version(2),
                data: Some(Rc::new(record(1, 2))),
                at: Some("0000000000001-0000-z".into()),
            }],
            checkpoint: "0.9".into(),
            has_more: false,
            server_ms: None,
        };
        let since = m.0.replica.borrow().checkpoint();
        let write = |a: u64| {
            let write = super::hidden::patch("x", json!({ "a": a }));
            Intent::Write("sites".into(), vec![write], WriteOptions::default())
        };
        let before = device.store.appends();
        for intent in [write(2), Intent::Page(since, page), write(3)] {
            m.submit(intent, Box::new(|_| {}));
        }
        settle(&m).await;
        assert_eq!(device.store.appends(), before + 1, "one commit");
        let again = device.open_idle().await;
        settle(&again).await;
        for tab in [&m, &again] {
            let entry = tab.outbox(&Default::default()).remove(0).mutation;
            let base = entry.base.map(|base| base.to_string());
            assert_eq!(base.as_deref(), Some(r#"{"a":1,"b":1,"id":"x"}"#));
            assert_eq!(entry.base_version, Version(1), "it meets a conflict");
        }
    });
}
