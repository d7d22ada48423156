//! A backend that gives records keys of its own: the record moves, what refers to it follows, and the
//! old key goes on standing for it.

use super::hidden::{HIDDEN, LOCAL, patch, write};
use super::rig::*;
use crate::conflict::{Answer, Choice};
use crate::driver::OutboxFilter;
use crate::engine::{Event, Phase};
use crate::error::Code;
use crate::model::{Page, Pulled, Verdict, Version};
use crate::options::Strategy;
use crate::replica::index::Query;
use crate::replica::plan::{Intent, Read, Transaction, Write, WriteOptions};
use crate::value::Scalar;
use serde_json::{Value as Json, json};
use std::cell::RefCell;
use std::rc::Rc;

fn rig(how: Assigns) -> (Rc<RefCell<Server>>, Device) {
    let server = Rc::new(RefCell::new(Server::default()));
    server.borrow_mut().assigns = Some(how);
    let device = Device::new("a", &server, 5);
    (server, device)
}

fn note(id: &str, site: &str) -> Json {
    json!({ "id": id, "siteId": site })
}

fn text(m: &TestManager, collection: &str, key: &str) -> Option<String> {
    m.get(collection, key).unwrap().map(|v| v.to_string())
}

fn own_key(server: &Rc<RefCell<Server>>, key: &str) -> String {
    server.borrow().assigned[key].clone()
}

/// Device, a second device and the server have the same.
async fn all_equal(server: &Rc<RefCell<Server>>, m: &TestManager) {
    let other = Device::new("b", server, 9).open().await;
    synced(&other).await;
    for collection in ["sites", "notes"] {
        let truth = server.borrow().dump(collection);
        assert_eq!(dump(m, collection).await, truth, "{collection}");
        assert_eq!(dump(&other, collection).await, truth, "{collection}");
    }
    let effects = server.borrow().effects.clone();
    let mut once = effects.clone();
    once.sort();
    once.dedup();
    assert_eq!(once.len(), effects.len(), "each took effect once");
}

#[test]
fn the_record_moves_and_the_old_key_stands_for_it() {
    run(async {
        let (server, device) = rig(Assigns::Blindly);
        let m = device.open().await;
        create(&m, "sites", site("p", 1)).await.unwrap();
        synced(&m).await;
        let own = own_key(&server, "p");
        let record = json!({ "id": own, "n": 1 }).to_string();
        assert_eq!(dump(&m, "sites").await, [record.as_str()]);
        assert_eq!(text(&m, "sites", "p"), Some(record.clone()));
        assert_eq!(text(&m, "sites", &own), Some(record));
        assert_eq!(m.state("sites", "p").unwrap(), Some("synced"));
        let told = format!("rekeyed sites p {own}");
        assert!(device.told.0.borrow().contains(&told), "{told}");

        update(&m, "sites", "p", json!({ "n": 2 })).await.unwrap();
        assert_eq!(m.state("sites", "p").unwrap(), Some("pending"));
        synced(&m).await;
        let (_, key, ..) = server.borrow().received.last().cloned().unwrap();
        assert_eq!(key, own, "it travels under the server's key");

        // No second record, whatever the app still has in its hands.
        put(&m, "sites", json!({ "id": "p", "n": 3 }))
            .await
            .unwrap();
        let refused = create(&m, "sites", site("p", 4)).await.unwrap_err();
        assert_eq!(refused.code, Code::AlreadyExists);
        update(&m, "sites", "p", json!({ "id": "p", "m": 5 }))
            .await
            .unwrap();
        synced(&m).await;
        assert_eq!(server.borrow().rows.len(), 1);
        all_equal(&server, &m).await;

        delete(&m, "sites", "p").await.unwrap();
        assert_eq!(text(&m, "sites", "p"), None);
        synced(&m).await;
        assert!(server.borrow().dump("sites").is_empty());
    });
}

#[test]
fn a_record_that_is_created_again_is_found_under_each_of_its_keys() {
    run(async {
        let (server, device) = rig(Assigns::Blindly);
        let m = device.open().await;
        create(&m, "sites", site("p", 1)).await.unwrap();
        synced(&m).await;
        let first = own_key(&server, "p");
        delete(&m, "sites", "p").await.unwrap();
        synced(&m).await;
        create(&m, "sites", site("p", 2)).await.unwrap();
        synced(&m).await;
        let second = own_key(&server, &first);
        for key in ["p", &first, &second] {
            let found = text(&m, "sites", key).unwrap();
            assert!(found.contains(&second), "{key}: {found}");
        }
        all_equal(&server, &m).await;
        device.store.fail_next(crate::store::memory::Fault::None);
        m.fold().await.unwrap();
        let again = device.open_idle().await;
        settle(&again).await;
        assert_eq!(text(&again, "sites", "p"), text(&m, "sites", &second));
        assert_eq!(dump(&again, "sites").await, dump(&m, "sites").await);
    });
}

#[test]
fn old_keys_are_known_after_reopening_and_compaction() {
    run(async {
        let (server, device) = rig(Assigns::Blindly);
        let m = device.open().await;
        for n in 0..30 {
            create(&m, "sites", site(&format!("p{n}"), n))
                .await
                .unwrap();
        }
        synced(&m).await;
        let check = async |m: &TestManager| {
            settle(m).await;
            for n in 0..30 {
                let found = m.get("sites", &format!("p{n}")).unwrap().unwrap();
                assert_eq!(found["n"], json!(n));
            }
            assert_eq!(dump(m, "sites").await, server.borrow().dump("sites"));
        };
        check(&device.open_idle().await).await;
        assert!(m.fold().await.unwrap());
        m.sweep().await.unwrap();
        assert_eq!(device.store.sizes().0, 0, "nothing but segments");
        let again = device.open_idle().await;
        check(&again).await;
        update(&again, "sites", "p7", json!({ "n": 7, "m": 1 }))
            .await
            .unwrap();
        again.signal(Event::Leader(true));
        synced(&again).await;
        assert!(again.fold().await.unwrap(), "once more");
        check(&device.open_idle().await).await;
    });
}

#[test]
fn what_is_queued_behind_travels_under_the_new_key() {
    run(async {
        let (server, device) = rig(Assigns::Blindly);
        let m = device.open().await;
        synced(&m).await;
        create(&m, "sites", site("p", 1)).await.unwrap();
        until(&m, "in flight", |s| s.syncing == 1).await;
        update(&m, "sites", "p", json!({ "n": 2 })).await.unwrap();
        synced(&m).await;
        let own = own_key(&server, "p");
        let keys: Vec<String> = server
            .borrow()
            .received
            .iter()
            .map(|r| r.1.clone())
            .collect();
        assert_eq!(keys, ["p", &own]);
        assert_eq!(server.borrow().effects, ["a.1", "a.2"]);
        all_equal(&server, &m).await;
    });
}

#[test]
fn references_that_are_queued_are_rewritten() {
    run(async {
        let (server, device) = rig(Assigns::Checking);
        let m = device.open_idle().await;
        create(&m, "sites", site("p", 1)).await.unwrap();
        create(&m, "sites", site("q", 1)).await.unwrap();
        create(&m, "notes", note("n1", "p")).await.unwrap();
        let hidden = Write::Create(Rc::new(note("n2", "p")));
        m.submit(
            Intent::Write("notes".into(), vec![hidden], HIDDEN),
            Box::new(|_| {}),
        );
        let draft = Write::Put(Rc::new(note("draft", "p")));
        submit(&m, Intent::Write("notes".into(), vec![draft], LOCAL))
            .await
            .unwrap();
        m.signal(Event::Leader(true));
        synced(&m).await;
        let own = own_key(&server, "p");
        let notes = server.borrow().dump("notes");
        assert_eq!(notes.len(), 2);
        assert!(notes.iter().all(|n| n.contains(&own)), "{notes:?}");
        let draft = text(&m, "notes", "draft").unwrap();
        assert!(draft.contains(&own), "{draft}");
        // Old references can be asked for, and are written as present ones.
        let query = |key: &str| Query {
            index: Some(vec!["siteId".into()]),
            equals: vec![Scalar::Text(key.into())],
            ..Query::default()
        };
        assert_eq!(m.count("notes", &query("p")).unwrap(), 3);
        assert_eq!(m.count("notes", &query(&own)).unwrap(), 3);
        create(&m, "notes", note("late", "p")).await.unwrap();
        update(&m, "notes", "n1", json!({ "siteId": "q" }))
            .await
            .unwrap();
        update(&m, "notes", "n1", json!({ "siteId": "p", "t": 1 }))
            .await
            .unwrap();
        synced(&m).await;
        let notes = server.borrow().dump("notes");
        assert_eq!(notes.len(), 3);
        assert!(notes.iter().all(|n| n.contains(&own)), "{notes:?}");
        delete(&m, "notes", "draft").await.unwrap();
        all_equal(&server, &m).await;
    });
}

/// Parent and child in one batch, answered together: the child was sent with the key that the
/// parent had then.
#[test]
fn a_child_in_the_batch_of_its_parent_refers_to_it_in_the_end() {
    for how in [Assigns::Blindly, Assigns::Resolving, Assigns::Checking] {
        for lost in [false, true] {
            run(async {
                let (server, device) = rig(how);
                let m = device.open_idle().await;
                let new = |c: &str, data: Json| {
                    let write = Write::Create(Rc::new(data));
                    (c.into(), write, WriteOptions::default())
                };
                let both = Transaction {
                    writes: vec![new("sites", site("p", 1)), new("notes", note("n", "p"))],
                    reads: Vec::new(),
                    grouped: true,
                };
                submit(&m, Intent::Transaction(both)).await.unwrap();
                if lost {
                    server.borrow_mut().faults.push_back(Fault::AnswerLost);
                }
                m.signal(Event::Leader(true));
                synced(&m).await;
                let own = own_key(&server, "p");
                let notes = server.borrow().dump("notes");
                assert!(
                    notes.len() == 1 && notes[0].contains(&own),
                    "{how:?} {lost}: {notes:?}"
                );
                all_equal(&server, &m).await;
                let versions: Vec<u64> = server.borrow().rows.values().map(|r| r.version).collect();
                let blind = how == Assigns::Blindly;
                let child = if blind { 2 } else { 1 };
                assert_eq!(
                    versions.iter().max(),
                    Some(&child),
                    "{how:?} {lost}: no update without need"
                );
            });
        }
    }
}

/// Nothing but a group brings the two into one batch.
#[test]
fn what_shows_instead_of_hidden_children_follows_their_parent() {
    run(async {
        let (server, device) = rig(Assigns::Blindly);
        server.borrow_mut().down = true;
        let m = device.open().await;
        create(&m, "sites", site("p", 1)).await.unwrap();
        let notes = |w: Write<Record>, options| {
            let intent = Intent::Write("notes".into(), vec![w], options);
            m.submit(intent, Box::new(|_| {}));
        };
        // One shows as it was, one with a field of the change on top; both refer to the parent.
        for key in ["n", "o"] {
            create(&m, "notes", note(key, "p")).await.unwrap();
            notes(patch(key, json!({ "a": 1 })), HIDDEN);
        }
        notes(patch("o", json!({ "b": 2 })), WriteOptions::default());
        notes(
            patch("o", json!({ "siteId": "p" })),
            WriteOptions::default(),
        );
        settle(&m).await;
        assert_eq!(text(&m, "notes", "n"), Some(note("n", "p").to_string()));
        let verdict = {
            let version = Version(1);
            let then = Box::new(Verdict::Success {
                version,
                data: None,
            });
            Verdict::Rekeyed {
                key: "own".into(),
                then,
            }
        };
        submit(&m, Intent::Verdicts(vec![(1, verdict)]))
            .await
            .unwrap();
        assert_eq!(text(&m, "notes", "n"), Some(note("n", "own").to_string()));
        let shown = text(&m, "notes", "o").unwrap();
        assert!(
            shown.contains(r#""siteId":"own""#) && shown.contains(r#""b":2"#),
            "{shown}"
        );
        assert!(!shown.contains(r#""a""#), "{shown}");
        let newest = m.newest("notes", "o").unwrap().unwrap();
        assert_eq!(
            (&newest["siteId"], &newest["a"]),
            (&json!("own"), &json!(1))
        );
    });
}

#[test]
fn children_wait_for_the_key_of_their_parent() {
    run(async {
        let (server, mut device) = rig(Assigns::Blindly);
        device.specs[1].priority = 0;
        let m = device.open_idle().await;
        create(&m, "sites", site("p", 1)).await.unwrap();
        create(&m, "notes", note("n", "p")).await.unwrap();
        m.signal(Event::Leader(true));
        synced(&m).await;
        let own = own_key(&server, "p");
        let sent = server.borrow().received.last().cloned().unwrap();
        let data = sent.3.unwrap();
        assert_eq!(data["siteId"], json!(own), "sent once, and rightly");
        assert_eq!(server.borrow().effects.len(), 2);
    });
}

#[test]
fn a_pull_after_a_lost_answer_makes_no_second_record() {
    run(async {
        let (server, device) = rig(Assigns::Blindly);
        let m = device.open().await;
        synced(&m).await;
        // In one commit, so with one clock reading: content tells them apart.
        let writes = (0..3).map(|n| Write::Create(Rc::new(site(&format!("p{n}"), n))));
        let writes = writes.collect();
        submit(
            &m,
            Intent::Write("sites".into(), writes, WriteOptions::default()),
        )
        .await
        .unwrap();
        server.borrow_mut().faults.push_back(Fault::AnswerLost);
        until(&m, "lost", |s| s.error.is_some()).await;
        update(&m, "sites", "p1", json!({ "m": 1 })).await.unwrap();
        m.signal(Event::Pause);
        let page = page_of(&server, &m);
        submit(&m, page).await.unwrap();
        assert_eq!(dump(&m, "sites").await.len(), 3, "no second ones");
        assert_eq!(queue(&m), ["4 update pending"]);
        for n in 0..3 {
            let own = own_key(&server, &format!("p{n}"));
            assert!(text(&m, "sites", &format!("p{n}")).unwrap().contains(&own));
        }
        m.signal(Event::Resume);
        synced(&m).await;
        all_equal(&server, &m).await;
    });
}

/// What was sent is no more what the queue has: a newer version of the app has added a field.
#[test]
fn a_creation_that_was_migrated_since_is_found_again() {
    run(async {
        let (server, mut device) = rig(Assigns::Blindly);
        let m = device.open().await;
        synced(&m).await;
        server.borrow_mut().faults.push_back(Fault::AnswerLost);
        create(&m, "sites", site("x", 1)).await.unwrap();
        until(&m, "sent", |_| server.borrow().received.len() == 1).await;
        m.signal(Event::Close);

        device.version = 2;
        device.migrate = Rc::new(|_, value, _| {
            let mut fields = value.as_object().unwrap().clone();
            fields.insert("v".into(), json!(2));
            Ok(Rc::new(Json::Object(fields)))
        });
        // Refused as a whole, so nobody asks what has become of it.
        let refused = Fault::Status(413, None);
        server.borrow_mut().faults.push_back(refused);
        let m = device.open().await;
        until(&m, "parked", |s| s.failed == 1).await;
        until(&m, "pulled", |s| s.phase == Phase::Idle).await;
        let own = own_key(&server, "x");
        assert_eq!(dump(&m, "sites").await.len(), 1, "no second one");
        assert!(text(&m, "sites", "x").unwrap().contains(&own));

        // A write under either key is later than what is tried again.
        update(&m, "sites", &own, json!({ "n": 2 })).await.unwrap();
        submit(&m, Intent::Retry(None)).await.unwrap();
        synced(&m).await;
        let record = text(&m, "sites", "x").unwrap();
        assert!(record.contains("\"n\":2"), "{record}");
        assert!(record.contains("\"v\":2"), "{record}");
        assert_eq!(queue(&m), [""; 0]);
        all_equal(&server, &m).await;
    });
}

/// What was sent is queued again with what was written on it, because its repeat was refused as a whole.
#[test]
fn a_creation_that_was_queued_again_since_is_found_again() {
    run(async {
        let (server, device) = rig(Assigns::Blindly);
        let m = device.open().await;
        synced(&m).await;
        server.borrow_mut().faults.push_back(Fault::AnswerLost);
        create(&m, "sites", site("x", 1)).await.unwrap();
        until(&m, "sent", |_| server.borrow().received.len() == 1).await;
        m.signal(Event::Close);

        let m = device.open_idle().await;
        update(&m, "sites", "x", json!({ "m": 1 })).await.unwrap();
        for _ in 0..2 {
            let refused = Fault::Status(413, None);
            server.borrow_mut().faults.push_back(refused);
        }
        m.signal(Event::Leader(true));
        until(&m, "parked", |s| s.failed == 1).await;
        until(&m, "pulled", |s| s.phase == Phase::Idle).await;
        let own = own_key(&server, "x");
        assert_eq!(dump(&m, "sites").await.len(), 1, "no second one");
        assert!(text(&m, "sites", "x").unwrap().contains(&own));

        update(&m, "sites", &own, json!({ "n": 2 })).await.unwrap();
        submit(&m, Intent::Retry(None)).await.unwrap();
        synced(&m).await;
        let record = text(&m, "sites", "x").unwrap();
        assert!(record.contains("\"m\":1,\"n\":2"), "{record}");
        assert_eq!(queue(&m), [""; 0]);
        all_equal(&server, &m).await;
    });
}

/// One that was given up here, though it had arrived, is not taken for another of its commit.
#[test]
fn a_record_that_was_given_up_is_no_other() {
    run(async {
        let (server, device) = rig(Assigns::Blindly);
        let m = device.open().await;
        synced(&m).await;
        let same = |key: &str, n| Write::Create(Rc::new(json!({ "id": key, "n": n, "b": 0 })));
        let writes = vec![same("p0", 0), same("p1", 1)];
        submit(
            &m,
            Intent::Write("sites".into(), writes, WriteOptions::default()),
        )
        .await
        .unwrap();
        server.borrow_mut().faults.push_back(Fault::AnswerLost);
        until(&m, "lost", |s| s.error.is_some()).await;
        m.signal(Event::Pause);
        submit(&m, Intent::Discard(1)).await.unwrap();
        let page = page_of(&server, &m);
        submit(&m, page).await.unwrap();
        let own = own_key(&server, "p1");
        assert!(text(&m, "sites", "p1").unwrap().contains(&own));
        assert_eq!(dump(&m, "sites").await, server.borrow().dump("sites"));
        assert_eq!(queue(&m), [""; 0]);
    });
}

/// Everything that the server has, as a page after the checkpoint.
fn page_of(server: &Rc<RefCell<Server>>, m: &TestManager) -> Intent<Record> {
    let rows = server.borrow().rows.clone();
    let changes = rows
        .into_iter()
        .rev()
        .map(|((collection, key), row)| Pulled {
            collection: collection.into(),
            key: key.into(),
            version: Version(row.version),
            data: row.data,
            at: Some(row.at.into()),
        });
    let page = Page {
        changes: changes.collect(),
        checkpoint: "9999".into(),
        has_more: false,
        server_ms: None,
    };
    Intent::Page(m.0.replica.borrow().checkpoint(), page)
}

/// Records that cannot be told apart wait for the answer to the next push; nothing is crossed.
#[test]
fn records_alike_are_told_apart_by_the_next_answer() {
    run(async {
        let (server, device) = rig(Assigns::Blindly);
        let m = device.open().await;
        synced(&m).await;
        let writes = ["p0", "p1"].map(|key| Write::Create(Rc::new(site(key, 7))));
        let writes = writes.to_vec();
        submit(
            &m,
            Intent::Write("sites".into(), writes, WriteOptions::default()),
        )
        .await
        .unwrap();
        server.borrow_mut().faults.push_back(Fault::AnswerLost);
        until(&m, "lost", |s| s.error.is_some()).await;
        // Both are edited while nobody knows, under the old key and under the new one.
        update(&m, "sites", "p0", json!({ "a": 1 })).await.unwrap();
        m.signal(Event::Pause);
        let page = page_of(&server, &m);
        submit(&m, page).await.unwrap();
        let own = own_key(&server, "p0");
        update(&m, "sites", &own, json!({ "b": 2 })).await.unwrap();
        m.signal(Event::Resume);
        synced(&m).await;
        for key in ["p0", "p1"] {
            let own = own_key(&server, key);
            assert!(text(&m, "sites", key).unwrap().contains(&own));
        }
        let record = text(&m, "sites", "p0").unwrap();
        assert!(
            record.contains("\"a\":1") && record.contains("\"b\":2"),
            "{record}"
        );
        assert_eq!(server.borrow().dump("sites").len(), 2);
        all_equal(&server, &m).await;
    });
}

/// Whoever settles a conflict, by hand or as a function, may know the old key of another record.
#[test]
fn what_settles_a_conflict_refers_to_present_keys() {
    run(async {
        for strategy in [Strategy::Manual, Strategy::Function] {
            let (server, mut device) = rig(Assigns::Blindly);
            device.specs[1].strategy = strategy;
            let chosen = || Some(Rc::new(note("n", "p")));
            device.decide = at_once(move |_| Ok(Answer::Record(chosen())));
            let m = device.open().await;
            create(&m, "sites", site("p", 1)).await.unwrap();
            synced(&m).await;
            let own = own_key(&server, "p");
            server
                .borrow_mut()
                .put("notes", note("n", &own), "1763000000001-0000-b");
            synced(&m).await;
            m.signal(Event::Offline);
            update(&m, "notes", "n", json!({ "a": 1 })).await.unwrap();
            let elsewhere = json!({ "id": "n", "siteId": own, "a": 2 });
            server
                .borrow_mut()
                .put("notes", elsewhere, "1763000000002-0000-b");
            m.signal(Event::Online);
            if strategy == Strategy::Manual {
                until(&m, "met", |s| s.conflict == 1).await;
                let id = m.conflicts()[0].id.to_string();
                let choice = Choice::Record(chosen());
                submit(&m, Intent::Resolve(id.into(), choice))
                    .await
                    .unwrap();
            }
            synced(&m).await;
            let record = text(&m, "notes", "n").unwrap();
            assert_eq!(record, note("n", &own).to_string(), "{strategy:?}");
            all_equal(&server, &m).await;
        }
    });
}

/// A conflict with a record whose own changes are queued under another key waits for those.
#[test]
fn a_creation_meets_changes_that_are_queued_under_the_key_it_has() {
    run(async {
        let (server, device) = rig(Assigns::Blindly);
        let m = device.open().await;
        synced(&m).await;
        server
            .borrow_mut()
            .put("sites", site("K", 1), "1763000000001-0000-b");
        synced(&m).await;
        m.signal(Event::Pause);
        create(&m, "sites", site("p", 7)).await.unwrap();
        update(&m, "sites", "K", json!({ "n": 2 })).await.unwrap();
        // It says that what was created is the record that it has had before.
        let theirs = Verdict::Conflict {
            version: Version(1),
            data: Some(Rc::new(site("K", 1))),
            at: Some("1763000000001-0000-b".into()),
        };
        let verdict = Verdict::Rekeyed {
            key: "K".into(),
            then: Box::new(theirs),
        };
        server.borrow_mut().say("a.1", verdict);
        server.borrow_mut().poison.insert("K".into(), true);
        m.signal(Event::Resume);
        let said = |code: &str| {
            let entries = m.outbox(&OutboxFilter::default());
            let errors = entries.iter().filter_map(|e| e.mutation.error.as_ref());
            errors.filter(|e| *e.code == *code).count()
        };
        until(&m, "put off", |_| said("changed-elsewhere") == 1).await;
        assert_eq!(m.status().failed, 0, "it waits for the other");
        server.borrow_mut().poison.clear();
        synced(&m).await;
        assert_eq!(queue(&m), [""; 0]);
        assert_eq!(server.borrow().dump("sites").len(), 1);
        all_equal(&server, &m).await;
    });
}

/// The child waits for what is made, that for the deletion, and that for the child, which refers to what is
/// deleted at the backend; or what is made and the changes go together or not at all.
#[test]
fn a_record_that_is_made_again_under_its_old_key_does_not_wait_for_its_end() {
    for together in [false, true] {
        run(async move {
            let (server, device) = rig(Assigns::Blindly);
            let m = device.open().await;
            let theirs = |data| Verdict::Conflict {
                version: Version(1),
                data: Some(Rc::new(data)),
                at: Some("1763000000001-0000-b".into()),
            };
            for (collection, row) in [("sites", site("K", 1)), ("notes", note("c", "K"))] {
                server
                    .borrow_mut()
                    .put(collection, row, "1763000000001-0000-b");
            }
            synced(&m).await;
            m.signal(Event::Pause);
            if together {
                let row = |data: Json| Write::Put(Rc::new(data));
                let write = |data| ("sites".into(), row(data), WriteOptions::default());
                let transaction = Transaction {
                    writes: vec![write(site("p", 7)), write(site("K", 6))],
                    reads: Vec::new(),
                    grouped: true,
                };
                submit(&m, Intent::Transaction(transaction)).await.unwrap();
            } else {
                delete(&m, "sites", "K").await.unwrap();
                create(&m, "sites", site("p", 7)).await.unwrap();
                put(&m, "notes", note("c", "p")).await.unwrap();
            }
            let queued = m.outbox(&OutboxFilter::default());
            let made = queued.iter().find(|e| &*e.mutation.key == "p").unwrap();
            let made = made.id.clone();
            let verdict = Verdict::Rekeyed {
                key: "K".into(),
                then: Box::new(theirs(site("K", 1))),
            };
            server.borrow_mut().say(&made, verdict);
            m.signal(Event::Resume);
            synced(&m).await;
            assert_eq!(queue(&m), [""; 0], "{together}");
            // What was written last stays.
            let rows = server.borrow().dump("sites");
            let n = if together { 6 } else { 7 };
            assert_eq!(rows.len(), 1, "{together}");
            assert!(rows[0].ends_with(&format!(r#""n":{n}}}"#)), "{rows:?}");
            all_equal(&server, &m).await;
        });
    }
}

/// The segment that told of the deleted one is kept for its neighbours.
#[test]
fn what_was_deleted_under_an_old_key_is_not_back_after_a_compaction() {
    run(async {
        let (server, device) = rig(Assigns::Blindly);
        for n in 0..8 {
            let key = format!("s{n}");
            server.borrow_mut().put("sites", site(&key, n), "0");
        }
        let m = device.open().await;
        synced(&m).await;
        assert!(m.fold().await.unwrap());
        delete(&m, "sites", "s3").await.unwrap();
        synced(&m).await;
        m.signal(Event::Pause);
        create(&m, "sites", site("s3", 9)).await.unwrap();
        submit(&m, Intent::MarkSent(vec![2])).await.unwrap();
        let page = Page {
            changes: vec![Pulled {
                collection: "sites".into(),
                key: "K".into(),
                version: Version(1),
                data: Some(Rc::new(site("K", 9))),
                at: None,
            }],
            checkpoint: "0.99".into(),
            has_more: false,
            server_ms: None,
        };
        let since = m.0.replica.borrow().checkpoint();
        submit(&m, Intent::Page(since, page)).await.unwrap();
        let success = Verdict::Success {
            version: Version(1),
            data: None,
        };
        let verdict = Verdict::Rekeyed {
            key: "K".into(),
            then: Box::new(success),
        };
        submit(&m, Intent::Verdicts(vec![(2, verdict)]))
            .await
            .unwrap();
        let here = dump(&m, "sites").await;
        assert_eq!(here.len(), 8);
        assert!(m.fold().await.unwrap());
        let again = device.open_idle().await;
        assert_eq!(dump(&again, "sites").await, here);
    });
}

/// The page was faster than the answer, and the record was written under its new key meanwhile.
#[test]
fn what_is_written_later_under_the_new_key_stays_on_top() {
    run(async {
        let (_, device) = rig(Assigns::Blindly);
        let m = device.open_idle().await;
        create(&m, "sites", site("x", 1)).await.unwrap();
        submit(&m, Intent::MarkSent(vec![1])).await.unwrap();
        put(&m, "sites", site("x", 2)).await.unwrap();
        let page = Page {
            changes: vec![Pulled {
                collection: "sites".into(),
                key: "K".into(),
                version: Version(1),
                data: Some(Rc::new(site("K", 1))),
                at: None,
            }],
            checkpoint: "1".into(),
            has_more: false,
            server_ms: None,
        };
        submit(&m, Intent::Page(None, page)).await.unwrap();
        put(&m, "sites", site("K", 3)).await.unwrap();
        let success = Verdict::Success {
            version: Version(1),
            data: None,
        };
        let verdict = Verdict::Rekeyed {
            key: "K".into(),
            then: Box::new(success),
        };
        submit(&m, Intent::Verdicts(vec![(1, verdict)]))
            .await
            .unwrap();
        assert_eq!(dump(&m, "sites").await, [site("K", 3).to_string()]);
        assert_eq!(text(&m, "sites", "x"), text(&m, "sites", "K"));
        assert_eq!(queue(&m), ["3 update pending"]);
    });
}

#[test]
fn a_transaction_goes_on_top_of_a_record_under_either_key() {
    run(async {
        let (server, device) = rig(Assigns::Blindly);
        let m = device.open().await;
        create(&m, "sites", site("p", 1)).await.unwrap();
        let read = m.get("sites", "p").unwrap();
        synced(&m).await;
        let transaction = |value: Option<Record>| {
            let patch = |n: Json| patch("p", json!({ "n": n }));
            Intent::Transaction(Transaction {
                writes: vec![
                    ("sites".into(), patch(json!(2)), WriteOptions::default()),
                    (
                        "notes".into(),
                        Write::Create(Rc::new(note("n", "p"))),
                        WriteOptions::default(),
                    ),
                ],
                reads: vec![Read {
                    collection: "sites".into(),
                    key: "p".into(),
                    value,
                    newest: false,
                }],
                grouped: true,
            })
        };
        // What was read before the record moved is not what is there.
        let stale = submit(&m, transaction(read)).await.unwrap_err();
        assert_eq!(stale.code, Code::WriteContention);
        let read = m.get("sites", "p").unwrap();
        submit(&m, transaction(read)).await.unwrap();
        synced(&m).await;
        let own = own_key(&server, "p");
        assert_eq!(
            server.borrow().dump("sites"),
            [json!({"id": own, "n": 2}).to_string()]
        );
        assert!(server.borrow().dump("notes")[0].contains(&own));
        all_equal(&server, &m).await;
    });
}

#[test]
fn whoever_waits_for_a_hidden_creation_is_told() {
    run(async {
        let (server, device) = rig(Assigns::Resolving);
        let m = device.open().await;
        let hidden = Write::Create(Rc::new(site("p", 1)));
        write(&m, hidden, HIDDEN).await.unwrap();
        let own = own_key(&server, "p");
        assert!(text(&m, "sites", "p").unwrap().contains(&own));
    });
}

#[test]
fn a_key_that_is_none_is_no_answer() {
    run(async {
        let (server, device) = rig(Assigns::Blindly);
        let m = device.open().await;
        synced(&m).await;
        create(&m, "sites", site("p", 1)).await.unwrap();
        server.borrow_mut().assigns = None;
        let bad = Verdict::Rekeyed {
            key: "".into(),
            then: Box::new(Verdict::Success {
                version: Version(1),
                data: None,
            }),
        };
        server.borrow_mut().say("a.1", bad);
        until(&m, "refused", |s| s.error.is_some()).await;
        let (error, _) = m.status().error.unwrap();
        assert_eq!(error.code, Code::ProtocolError);
        assert_eq!(queue(&m), ["1 create pending"]);
    });
}

/// Random lives of two devices with a server that gives keys: they end up the same.
#[test]
fn all_are_equal_in_the_end() {
    for seed in 1..=150 {
        run(story(seed));
    }
}

async fn story(seed: u64) {
    let how = match seed % 3 {
        0 => Assigns::Blindly,
        1 => Assigns::Resolving,
        _ => Assigns::Checking,
    };
    let (server, mut device) = rig(how);
    let chance = Chance::new(seed);
    device.backend = Device::new("a", &server, seed).backend;
    device.specs[1].priority = i32::from(chance.below(2) == 0);
    let mut m = device.open().await;
    for step in 0..60 {
        let key = format!("k{}", chance.below(4));
        match chance.below(14) {
            0..=2 => drop(put(&m, "sites", json!({ "id": key, "n": step })).await),
            3..=4 => drop(update(&m, "sites", &key, json!({ "m": step })).await),
            5 => {
                let id = format!("n{}", chance.below(4));
                if m.state("sites", &key).unwrap().is_some() {
                    drop(put(&m, "notes", note(&id, &key)).await);
                }
            }
            6 => drop(update(&m, "notes", "n1", json!({ "t": step })).await),
            7 => drop(delete(&m, "notes", &format!("n{}", chance.below(4))).await),
            8..=9 => {
                let fault = match chance.below(3) {
                    0 => Fault::Status(503, None),
                    _ => Fault::AnswerLost,
                };
                server.borrow_mut().faults.push_back(fault);
            }
            10 => {
                m.signal(Event::Close);
                m = device.open().await;
                settle(&m).await;
            }
            11 => drop(m.fold().await),
            _ => pass(chance.below(2_000)).await,
        }
    }
    server.borrow_mut().faults.clear();
    for _ in 0..3 {
        m.signal(Event::Online);
        pass(20_000).await;
        // A note whose site was not there yet when it came is sent again.
        drop(submit(&m, Intent::Retry(None)).await);
    }
    synced(&m).await;
    assert_eq!(m.status().failed, 0, "seed {seed}: {:?}", queue(&m));
    let sites = server.borrow().dump("sites");
    for key in (0..4).map(|k| format!("k{k}")) {
        let found = text(&m, "sites", &key);
        let own = server.borrow().assigned.get(&key).cloned();
        assert_eq!(found.is_some(), own.is_some(), "seed {seed}: {key}");
        assert!(found.is_none_or(|f| sites.contains(&f)), "seed {seed}");
    }
    for note in server.borrow().dump("notes") {
        let note: Json = serde_json::from_str(&note).unwrap();
        let site = note["siteId"].as_str().unwrap();
        assert!(
            server.borrow().has("sites", site),
            "seed {seed}: {how:?}: {note} refers to nothing"
        );
    }
    all_equal(&server, &m).await;
}
