//! What is not synced can be taken out of one database and into another.

use super::hidden::{LOCAL, write};
use super::rig::*;
use crate::engine::Event;
use crate::error::{Code, Result};
use crate::model::{Held, wire_id};
use crate::replica::plan::{Intent, Write, WriteOptions};
use crate::replica::plan_import::Import;
use serde_json::json;
use std::cell::RefCell;
use std::rc::Rc;

async fn import(m: &TestManager, client: &str, mutations: Vec<Held<Record>>) -> Result<usize> {
    let client = client.into();
    let import = Import {
        client,
        mutations,
        late: false,
        left: None,
        schema: None,
    };
    submit(m, Intent::Import(import)).await
}

fn ids(m: &TestManager) -> Vec<String> {
    let all = m.outbox(&Default::default());
    all.into_iter().map(|e| e.id).collect()
}

/// A synced record `s` with an update in flight and one behind it, and a new record `x`.
async fn busy(server: &Rc<RefCell<Server>>) -> (Device, TestManager) {
    let device = Device::new("a", server, 1);
    server
        .borrow_mut()
        .put("sites", json!({"id": "s", "a": 0, "b": 0}), "0");
    let m = device.open().await;
    synced(&m).await;
    server.borrow_mut().faults.push_back(Fault::AnswerLost);
    update(&m, "sites", "s", json!({"a": 1})).await.unwrap();
    until(&m, "the answer is lost", |s| s.error.is_some()).await;
    server.borrow_mut().down = true;
    update(&m, "sites", "s", json!({"b": 1})).await.unwrap();
    create(&m, "sites", site("x", 1)).await.unwrap();
    (device, m)
}

#[test]
fn a_backup_restores_an_empty_database_and_nothing_takes_effect_twice() {
    run(async {
        let server = Rc::new(RefCell::new(Server::default()));
        let (_device, m) = busy(&server).await;
        let backup = m.unsynced();
        assert_eq!(backup.len(), 3);
        m.signal(Event::Close);

        let fresh = Device::new("b", &server, 2);
        let m = fresh.open_idle().await;
        assert_eq!(import(&m, "a", backup.clone()).await, Ok(3));
        assert_eq!(ids(&m), ["a.1", "a.2", "a.3"], "the ids stay");
        assert_eq!(
            dump(&m, "sites").await,
            [r#"{"a":1,"b":1,"id":"s"}"#, r#"{"id":"x","n":1}"#]
        );
        assert_eq!(
            import(&m, "a", backup.clone()).await,
            Ok(0),
            "twice is once"
        );
        let found = m.find_mutation("a.3").unwrap();
        assert_eq!(m.outbox_entry(found).unwrap().id, "a.3");
        // Opened again: it is all in the log.
        let m = fresh.open_idle().await;
        settle(&m).await;
        assert_eq!(ids(&m), ["a.1", "a.2", "a.3"]);
        server.borrow_mut().down = false;
        m.signal(Event::Leader(true));
        synced(&m).await;
        let mut effects = server.borrow().effects.clone();
        effects.sort();
        assert_eq!(effects, ["a.1", "a.2", "a.3"]);
        assert_eq!(dump(&m, "sites").await, server.borrow().dump("sites"));
        assert!(m.conflicts().is_empty());
    });
}

#[test]
fn into_the_database_where_it_came_from_it_changes_nothing() {
    run(async {
        let server = Rc::new(RefCell::new(Server::default()));
        let (device, m) = busy(&server).await;
        let backup = m.unsynced();
        let appends = device.store.appends();
        assert_eq!(import(&m, "a", backup.clone()).await, Ok(0));
        assert_eq!(device.store.appends(), appends);
        server.borrow_mut().down = false;
        synced(&m).await;
        assert_eq!(import(&m, "a", backup).await, Ok(0), "settled since");
        assert_eq!(queue(&m), [""; 0]);
    });
}

#[test]
fn an_own_number_that_is_still_free_is_kept() {
    run(async {
        let server = Rc::new(RefCell::new(Server::default()));
        let (_device, m) = busy(&server).await;
        let backup = m.unsynced();
        let wiped = Device::new("a", &server, 3);
        let m = wiped.open_idle().await;
        assert_eq!(import(&m, "a", backup).await, Ok(3));
        let origin = |no| m.outbox_entry(no).unwrap().mutation.origin;
        assert_eq!(
            (ids(&m), origin(1)),
            (vec!["a.1".into(), "a.2".into(), "a.3".into()], None)
        );
        create(&m, "sites", site("y", 1)).await.unwrap();
        assert_eq!(ids(&m)[3], "a.4");
    });
}

#[test]
fn all_of_it_or_nothing() {
    run(async {
        let server = Rc::new(RefCell::new(Server::default()));
        let (_device, m) = busy(&server).await;
        let backup = m.unsynced();
        let fresh = Device::new("b", &server, 2);
        let m = fresh.open_idle().await;
        let broken = |change: &dyn Fn(&mut Held<Record>)| {
            let mut broken = backup.clone();
            change(&mut broken[2]);
            broken
        };
        let wrong = [
            broken(&|h| h.mutation.collection = "nope".into()),
            broken(&|h| h.mutation.value = Some(Rc::new(site("other", 1)))),
            broken(&|h| h.mutation.value = Some(Rc::new(json!({"id": 7})))),
            broken(&|h| {
                h.mutation.key = "s".into();
                h.mutation.value = Some(Rc::new(site("s", 1)));
            }),
        ];
        for wrong in wrong {
            assert!(import(&m, "a", wrong).await.is_err());
            assert_eq!((queue(&m).len(), dump(&m, "sites").await.len()), (0, 0));
        }
        create(&m, "sites", site("x", 9)).await.unwrap();
        let error = import(&m, "a", backup.clone()).await.unwrap_err();
        assert_eq!(error.code, Code::InvalidOptions, "{error}");
        submit(&m, Intent::Discard(1)).await.unwrap();
        write(&m, Write::Put(Rc::new(site("x", 9))), LOCAL)
            .await
            .unwrap();
        let error = import(&m, "a", backup.clone()).await.unwrap_err();
        assert!(error.message.contains("local-only"), "{error}");
        write(&m, Write::Delete("x".into()), WriteOptions::default())
            .await
            .unwrap();
        assert_eq!(import(&m, "a", backup).await, Ok(3));
        assert_eq!(wire_id("a", 3), ids(&m)[2]);
    });
}

#[test]
fn a_rewritten_mutation_gets_an_id_of_its_own() {
    run(async {
        let server = Rc::new(RefCell::new(Server::default()));
        let (_device, m) = busy(&server).await;
        let backup = m.unsynced();
        let fresh = Device::new("b", &server, 2);
        server.borrow_mut().down = false;
        server.borrow_mut().poison.insert("x".into(), false);
        let m = fresh.open().await;
        synced(&m).await;
        assert_eq!(import(&m, "a", backup).await, Ok(3));
        until(&m, "parked", |s| {
            s.failed == 1 && s.pending + s.syncing == 0
        })
        .await;
        server.borrow_mut().poison.clear();
        submit(&m, Intent::Retry(None)).await.unwrap();
        assert_eq!(ids(&m), ["b.4"]);
        synced(&m).await;
        assert_eq!(dump(&m, "sites").await, server.borrow().dump("sites"));
    });
}

#[test]
fn what_was_behind_a_mutation_that_is_settled_goes_on_top_of_the_backends_record() {
    run(async {
        let server = Rc::new(RefCell::new(Server::default()));
        let (_device, m) = busy(&server).await;
        let mut backup = m.unsynced();
        backup.retain(|held| held.mutation.behind);
        let fresh = Device::new("b", &server, 2);
        server.borrow_mut().down = false;
        let m = fresh.open().await;
        synced(&m).await;
        assert_eq!(import(&m, "a", backup).await, Ok(1));
        let entry = m.outbox(&Default::default()).remove(0).mutation;
        assert_eq!((entry.base_version.0, entry.behind), (2, false));
        synced(&m).await;
        let truth = r#"{"a":1,"b":1,"id":"s"}"#;
        assert_eq!(server.borrow().dump("sites"), [truth]);
        assert!(m.conflicts().is_empty());
    });
}

#[test]
fn a_number_that_came_back_is_not_given_again_after_a_loss_of_power() {
    run(async {
        let server = Rc::new(RefCell::new(Server::default()));
        let (_device, m) = busy(&server).await;
        let mut backup = m.unsynced();
        m.signal(Event::Close);
        backup.retain(|held| held.mutation.no == 3);
        let wiped = Device::new("a", &server, 3);
        let m = wiped.open_idle().await;
        assert_eq!(import(&m, "a", backup).await, Ok(1));
        server.borrow_mut().down = false;
        m.signal(Event::Leader(true));
        synced(&m).await;
        m.signal(Event::Close);
        wiped.store.lose_power();
        let m = wiped.open().await;
        create(&m, "sites", site("y", 1)).await.unwrap();
        synced(&m).await;
        assert!(server.borrow().has("sites", "y"));
        assert_eq!(dump(&m, "sites").await, server.borrow().dump("sites"));
    });
}

/// The old database may have sent it since: the backend would answer to its id what it has answered then,
/// and never look at what was written here.
#[test]
fn what_was_behind_is_not_rewritten_under_its_old_id_either() {
    for from in ["a", "b"] {
        run(async {
            let server = Rc::new(RefCell::new(Server::default()));
            let (_device, old) = busy(&server).await;
            let backup = old.unsynced();
            server.borrow_mut().down = false;
            synced(&old).await;
            old.signal(Event::Close);
            let effects = server.borrow().effects.len();

            let fresh = Device::new(from, &server, 2);
            let m = fresh.open_idle().await;
            assert_eq!(import(&m, "a", backup).await, Ok(3));
            update(&m, "sites", "s", json!({"b": 2})).await.unwrap();
            update(&m, "sites", "s", json!({"c": 3})).await.unwrap();
            assert_eq!(queue(&m).len(), 3);
            m.signal(Event::Leader(true));
            synced(&m).await;
            let truth = [r#"{"a":1,"b":2,"c":3,"id":"s"}"#, r#"{"id":"x","n":1}"#];
            assert_eq!(server.borrow().dump("sites"), truth);
            assert_eq!(dump(&m, "sites").await, truth);
            assert_eq!(server.borrow().effects.len(), effects + 1);
        });
    }
}
