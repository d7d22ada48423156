//! What waits for what: parents before children, children before the deletion of their parent, and a
//! parked mutation keeps nothing from being sent but what depends on it.

use super::rig::*;
use crate::driver::{OutboxFilter, OutboxView};
use crate::engine::Event;
use crate::replica::plan::{Intent, Transaction, Write, WriteOptions};
use serde_json::{Value as Json, json};
use std::cell::RefCell;
use std::rc::Rc;

fn rig() -> (Rc<RefCell<Server>>, Device) {
    let server = Rc::new(RefCell::new(Server::default()));
    let device = Device::new("a", &server, 8);
    (server, device)
}

fn note(id: &str, site: &str) -> Json {
    json!({ "id": id, "siteId": site })
}

fn entry(m: &TestManager, key: &str) -> OutboxView<Record> {
    let all = m.outbox(&OutboxFilter::default());
    all.into_iter().find(|e| &*e.mutation.key == key).unwrap()
}

/// `waits for / blocked by`.
fn why(m: &TestManager, key: &str) -> String {
    let entry = entry(m, key);
    let text = |id: Option<String>| id.unwrap_or("-".to_owned());
    format!("{} {}", text(entry.waits_for), text(entry.blocked_by))
}

#[test]
fn a_parked_parent_parks_nothing_but_what_depends_on_it() {
    run(async {
        let (server, mut device) = rig();
        // Sites can lie within sites.
        device.specs[0].references = vec![("within".into(), "sites".into())];
        server.borrow_mut().poison.insert("bad".into(), false);
        let m = device.open_idle().await;
        create(&m, "sites", site("bad", 1)).await.unwrap();
        create(&m, "sites", json!({ "id": "in", "within": "bad" }))
            .await
            .unwrap();
        create(&m, "notes", note("deep", "in")).await.unwrap();
        create(&m, "notes", note("other", "good")).await.unwrap();
        create(&m, "sites", site("good", 1)).await.unwrap();
        assert_eq!(why(&m, "in"), "a.1 -", "nobody has refused it yet");
        m.signal(Event::Leader(true));
        until(&m, "parked", |s| s.failed == 1).await;
        pass(60_000).await;
        assert_eq!(server.borrow().effects, ["a.5", "a.4"]);
        assert_eq!(why(&m, "in"), "a.1 a.1");
        assert_eq!(
            why(&m, "deep"),
            "a.2 a.1",
            "the one that the user must decide on"
        );
        assert_eq!(why(&m, "bad"), "- -");
        assert_eq!((m.status().pending, m.status().failed), (2, 1));
        server.borrow_mut().poison.clear();
        submit(&m, Intent::Retry(None)).await.unwrap();
        synced(&m).await;
        assert_eq!(server.borrow().effects[2..], ["a.6", "a.2", "a.3"]);
    });
}

#[test]
fn both_parents_are_waited_for() {
    run(async {
        let (server, mut device) = rig();
        let parent = |field: &str| (Rc::from(field), Rc::from("sites"));
        device.specs[1].references = vec![parent("from"), parent("to")];
        device.specs[1].priority = 0;
        server.borrow_mut().poison.insert("bad".into(), false);
        let m = device.open_idle().await;
        create(&m, "sites", site("good", 1)).await.unwrap();
        create(&m, "sites", site("bad", 1)).await.unwrap();
        let way = json!({ "id": "way", "from": "good", "to": "bad" });
        m.signal(Event::Leader(true));
        m.signal(Event::Pause);
        create(&m, "notes", way).await.unwrap();
        m.signal(Event::Resume);
        until(&m, "parked", |s| s.failed == 1).await;
        pass(60_000).await;
        let received: Vec<String> = server
            .borrow()
            .received
            .iter()
            .map(|r| r.1.clone())
            .collect();
        assert!(
            received.iter().filter(|key| *key == "way").count() <= 1,
            "{received:?}"
        );
        server.borrow_mut().poison.clear();
        submit(&m, Intent::Retry(None)).await.unwrap();
        synced(&m).await;
        assert_eq!(server.borrow().dump("notes").len(), 1);
    });
}

#[test]
fn creations_that_refer_to_each_other_both_go() {
    run(async {
        let (server, mut device) = rig();
        device.specs[0].references = vec![("twin".into(), "sites".into())];
        let m = device.open_idle().await;
        let twin = |id: &str, of: &str| json!({ "id": id, "twin": of });
        for (id, of) in [("a", "b"), ("b", "c"), ("c", "a"), ("d", "d")] {
            create(&m, "sites", twin(id, of)).await.unwrap();
        }
        m.signal(Event::Leader(true));
        synced(&m).await;
        assert_eq!(server.borrow().effects, ["a.1", "a.4", "a.3", "a.2"]);
    });
}

#[test]
fn children_go_before_the_deletion_of_their_parent() {
    for slow in [false, true] {
        run(async {
            let (server, mut device) = rig();
            // The parent would come first by its priority.
            device.specs[0].priority = 5;
            let m = device.open().await;
            create(&m, "sites", site("p", 1)).await.unwrap();
            create(&m, "sites", site("q", 1)).await.unwrap();
            for n in ["gone", "moved", "kept"] {
                create(&m, "notes", note(n, "p")).await.unwrap();
            }
            synced(&m).await;
            m.signal(Event::Pause);
            delete(&m, "notes", "gone").await.unwrap();
            update(&m, "notes", "moved", json!({ "siteId": "q" }))
                .await
                .unwrap();
            create(&m, "notes", note("late", "p")).await.unwrap();
            delete(&m, "sites", "p").await.unwrap();
            update(&m, "notes", "kept", json!({ "t": 1 }))
                .await
                .unwrap();
            assert_eq!(why(&m, "p"), format!("{} -", entry(&m, "gone").id));
            if slow {
                let poison = &mut server.borrow_mut().poison;
                poison.insert("moved".into(), true);
            }
            let before = server.borrow().effects.len();
            m.signal(Event::Resume);
            if slow {
                until(&m, "tried", |s| s.pending == 2).await;
                let entry = entry(&m, "moved");
                assert_eq!(entry.mutation.attempts, 1);
                assert_eq!(why(&m, "p"), format!("{} -", entry.id));
                server.borrow_mut().poison.clear();
            }
            synced(&m).await;
            let effects = server.borrow().effects[before..].to_vec();
            let at = |no: u64| {
                effects
                    .iter()
                    .position(|e| *e == format!("a.{no}"))
                    .unwrap()
            };
            let parent = at(9);
            assert!(
                at(6) < parent && at(7) < parent && at(8) < parent,
                "{effects:?}"
            );
            assert_eq!(effects.len(), 5);
        });
    }
}

#[test]
fn a_deletion_does_not_wait_for_what_is_parked_or_came_later() {
    run(async {
        let (server, device) = rig();
        let m = device.open().await;
        create(&m, "sites", site("p", 1)).await.unwrap();
        synced(&m).await;
        server.borrow_mut().poison.insert("bad".into(), false);
        create(&m, "notes", note("bad", "p")).await.unwrap();
        until(&m, "parked", |s| s.failed == 1).await;
        delete(&m, "sites", "p").await.unwrap();
        until(&m, "gone", |s| s.pending + s.syncing == 0).await;
        assert!(server.borrow().dump("sites").is_empty());
    });
}

#[test]
fn a_group_waits_as_a_whole_and_says_so() {
    run(async {
        let (server, device) = rig();
        server.borrow_mut().poison.insert("bad".into(), false);
        let m = device.open().await;
        create(&m, "sites", site("bad", 1)).await.unwrap();
        until(&m, "parked", |s| s.failed == 1).await;
        let new = |c: &str, data: Json| {
            let write = Write::Create(Rc::new(data));
            (c.into(), write, WriteOptions::default())
        };
        let group = Transaction {
            writes: vec![
                new("sites", site("y", 1)),
                new("notes", note("n", "bad")),
                new("notes", note("free", "y")),
            ],
            reads: Vec::new(),
            grouped: true,
        };
        submit(&m, Intent::Transaction(group)).await.unwrap();
        create(&m, "sites", site("alone", 1)).await.unwrap();
        pass(60_000).await;
        for key in ["y", "n"] {
            assert_eq!(why(&m, key), "a.1 a.1", "{key}");
        }
        assert_eq!(why(&m, "free"), "a.2 a.1");
        assert_eq!(server.borrow().effects, ["a.5"], "the rest goes on");
        server.borrow_mut().poison.clear();
        submit(&m, Intent::Retry(None)).await.unwrap();
        synced(&m).await;
        let batches = server.borrow().groups_of_batches.clone();
        assert_eq!(batches, [vec!["a.2"; 3]], "they travel together");
    });
}

#[test]
fn a_deletion_waits_for_records_of_the_same_collection_or_key() {
    run(async {
        let (_, mut device) = rig();
        device.specs[0].references = vec![("within".into(), "sites".into())];
        let m = device.open().await;
        for key in ["p", "q"] {
            create(&m, "sites", site(key, 1)).await.unwrap();
        }
        create(&m, "sites", json!({ "id": "in", "within": "p" }))
            .await
            .unwrap();
        create(&m, "notes", note("q", "q")).await.unwrap();
        synced(&m).await;
        m.signal(Event::Pause);
        delete(&m, "sites", "in").await.unwrap();
        delete(&m, "sites", "p").await.unwrap();
        assert_eq!(why(&m, "p"), format!("{} -", entry(&m, "in").id));
        delete(&m, "notes", "q").await.unwrap();
        let child = entry(&m, "q").id;
        delete(&m, "sites", "q").await.unwrap();
        let all = m.outbox(&OutboxFilter::default());
        assert_eq!(all.last().unwrap().waits_for, Some(child));
    });
}

#[test]
fn a_child_waits_for_a_parent_that_is_created_again() {
    run(async {
        let server = Rc::new(RefCell::new(Server::default()));
        let device = Device::new("a", &server, 1);
        server.borrow_mut().put("sites", site("x", 1), "0");
        let m = device.open().await;
        synced(&m).await;
        m.signal(Event::Leader(false));
        delete(&m, "sites", "x").await.unwrap();
        submit(&m, Intent::MarkSent(vec![1])).await.unwrap();
        create(&m, "sites", site("x", 2)).await.unwrap();
        create(&m, "notes", json!({ "id": "n", "siteId": "x" }))
            .await
            .unwrap();
        let waits = m.outbox(&Default::default());
        let waits = waits.iter().map(|e| e.waits_for.as_deref());
        assert_eq!(waits.collect::<Vec<_>>(), [None, Some("a.1"), Some("a.2")]);
        m.signal(Event::Leader(true));
        synced(&m).await;
        assert_eq!(server.borrow().effects, ["a.1", "a.2", "a.3"]);
    });
}

/// As what comes with a rescue copy: it counts as sent, and waits all the same.
#[test]
fn a_child_does_not_wait_for_a_parent_whose_deletion_waits_for_it() {
    run(async {
        let server = Rc::new(RefCell::new(Server::default()));
        let device = Device::new("a", &server, 1);
        server.borrow_mut().put("sites", site("x", 1), "0");
        let note = json!({ "id": "n", "siteId": "x", "text": "" });
        server.borrow_mut().put("notes", note, "0");
        let m = device.open().await;
        synced(&m).await;
        m.signal(Event::Leader(false));
        update(&m, "notes", "n", json!({ "text": "new" }))
            .await
            .unwrap();
        delete(&m, "sites", "x").await.unwrap();
        submit(&m, Intent::MarkSent(vec![2])).await.unwrap();
        create(&m, "sites", site("x", 2)).await.unwrap();
        m.signal(Event::Leader(true));
        synced(&m).await;
        assert_eq!(server.borrow().effects, ["a.1", "a.2", "a.3"]);
    });
}

#[test]
fn what_another_tab_gives_up_keeps_nobody_any_longer() {
    run(async {
        let (server, device) = rig();
        server.borrow_mut().poison.insert("bad".into(), false);
        let leads = device.open().await;
        create(&leads, "sites", site("bad", 1)).await.unwrap();
        create(&leads, "notes", note("n", "bad")).await.unwrap();
        until(&leads, "parked", |s| s.failed == 1).await;
        pass(5_000).await;
        let other = device.open_idle().await;
        settle(&other).await;
        submit(&other, Intent::Discard(1)).await.unwrap();
        leads.submit_catch_up();
        pass(1_000).await;
        assert!(
            server.borrow().has("notes", "n"),
            "not with the next interval"
        );
    });
}
