//! The version of the app's data: migrated whole or not at all, queue included.

use super::hidden::{HIDDEN, LOCAL, patch, write};
use super::rig::*;
use crate::conflict::Choice;
use crate::engine::{Event, Phase};
use crate::error::{Code, Error, Result};
use crate::model::Held;
use crate::options::Strategy;
use crate::replica::plan::{Intent, Write};
use crate::replica::plan_import::{Import, Left};
use crate::store::memory::Fault as Disk;
use serde_json::{Value as Json, json};
use std::cell::RefCell;
use std::rc::Rc;

/// Version 2 calls `n` `size`, and counts in tens.
fn to_two(device: &mut Device) {
    device.version = 2;
    device.migrate = Rc::new(|name, value, from| {
        assert_eq!((name.as_ref(), from), ("sites", 1));
        let mut fields = value.as_object().unwrap().clone();
        if let Some(n) = fields.remove("n") {
            fields.insert("size".into(), json!(n.as_u64().unwrap() * 10));
        }
        Ok(Rc::new(Json::Object(fields)))
    });
}

async fn filled(server: &Rc<RefCell<Server>>) -> Device {
    let device = Device::new("a", server, 1);
    server
        .borrow_mut()
        .put("sites", json!({"id": "s", "n": 1, "b": 0}), "0");
    server
        .borrow_mut()
        .put("sites", json!({"id": "u", "n": 1, "b": 0}), "0");
    let m = device.open().await;
    synced(&m).await;
    server.borrow_mut().down = true;
    update(&m, "sites", "u", json!({"b": 1})).await.unwrap();
    create(&m, "sites", site("new", 2)).await.unwrap();
    write(&m, Write::Put(Rc::new(site("draft", 3))), LOCAL)
        .await
        .unwrap();
    m.signal(Event::Close);
    device
}

const MIGRATED: [&str; 4] = [
    r#"{"id":"draft","size":30}"#,
    r#"{"id":"new","size":20}"#,
    r#"{"b":0,"id":"s","size":10}"#,
    r#"{"b":1,"id":"u","size":10}"#,
];

#[test]
fn every_record_and_everything_queued_is_migrated_in_one_commit() {
    run(async {
        let server = Rc::new(RefCell::new(Server::default()));
        let mut device = filled(&server).await;
        to_two(&mut device);
        let before = device.store.appends();
        let m = device.try_open().await.unwrap();
        assert_eq!(device.store.appends(), before + 1, "one transaction");
        assert_eq!(dump(&m, "sites").await, MIGRATED);
        assert_eq!(queue(&m), ["1 update pending", "2 create pending"]);
        let update = m.outbox(&Default::default()).remove(0).mutation;
        assert_eq!(update.base.unwrap()["size"], 10);
        assert_eq!(
            update
                .changed
                .unwrap()
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>(),
            ["b"]
        );
        assert_eq!(m.state("sites", "draft").unwrap(), Some("local"));
        // Once is enough.
        let m = device.try_open().await.unwrap();
        assert_eq!(device.store.appends(), before + 1);
        assert_eq!(dump(&m, "sites").await, MIGRATED);
        server.borrow_mut().down = false;
        m.signal(Event::Leader(true));
        synced(&m).await;
        assert_eq!(server.borrow().effects, ["a.1", "a.2"]);
    });
}

#[test]
fn a_partial_update_sends_what_the_migration_made_of_it() {
    run(async {
        let server = Rc::new(RefCell::new(Server::default()));
        let mut device = Device::new("a", &server, 1);
        server
            .borrow_mut()
            .put("sites", json!({"id": "s", "n": 1, "b": 0}), "0");
        let m = device.open().await;
        synced(&m).await;
        server.borrow_mut().down = true;
        update(&m, "sites", "s", json!({"n": 5})).await.unwrap();
        m.signal(Event::Close);
        to_two(&mut device);
        server.borrow_mut().down = false;
        let m = device.open().await;
        synced(&m).await;
        // The old name leaves, the new one arrives.
        assert_eq!(
            server.borrow().dump("sites"),
            [r#"{"b":0,"id":"s","size":50}"#]
        );
        assert_eq!(dump(&m, "sites").await, server.borrow().dump("sites"));
    });
}

#[test]
fn a_migration_that_throws_changes_nothing() {
    run(async {
        let server = Rc::new(RefCell::new(Server::default()));
        let mut device = filled(&server).await;
        let before = device.store.appends();
        device.version = 2;
        device.migrate = Rc::new(|_, value, _| {
            if value["id"] == "u" {
                return Err(Error::new(Code::Aborted, "no idea"));
            }
            Ok(Rc::new(json!({"id": value["id"]})))
        });
        let error = device.try_open().await.err().unwrap();
        assert_eq!(error.code, Code::MigrationFailed);
        assert!(
            error.message.contains("sites") && error.message.contains("\"u\""),
            "{error}"
        );
        device.migrate = Rc::new(|_, _, _| Ok(Rc::new(json!({"id": "same for all"}))));
        assert_eq!(
            device.try_open().await.err().unwrap().code,
            Code::MigrationFailed
        );
        assert_eq!(device.store.appends(), before);
        device.version = 1;
        let m = device.try_open().await.unwrap();
        assert_eq!(dump(&m, "sites").await[1], r#"{"id":"new","n":2}"#);
    });
}

#[test]
fn an_interrupted_migration_starts_again() {
    run(async {
        let server = Rc::new(RefCell::new(Server::default()));
        let mut device = filled(&server).await;
        to_two(&mut device);
        device.store.fail_next(Disk::Full);
        assert_eq!(
            device.try_open().await.err().unwrap().code,
            Code::QuotaExceeded
        );
        device.store.fail_next(Disk::LostAfterCommit);
        let opening = tokio::time::timeout(tokio::time::Duration::from_secs(1), device.try_open());
        assert!(opening.await.is_err(), "dies right after the commit");
        let m = device.try_open().await.unwrap();
        assert_eq!(dump(&m, "sites").await, MIGRATED, "not migrated twice");
    });
}

#[test]
fn data_of_a_newer_version_is_left_alone() {
    run(async {
        let server = Rc::new(RefCell::new(Server::default()));
        let mut device = filled(&server).await;
        let old_tab = device.open().await;
        settle(&old_tab).await;
        to_two(&mut device);
        device.version = 3;
        device.try_open().await.unwrap();
        device.version = 2;
        assert_eq!(
            device.try_open().await.err().unwrap().code,
            Code::DatabaseNewer
        );
        // The tab that was open learns of it with the next thing it does, and stops.
        let appends = device.store.appends();
        let error = put(&old_tab, "sites", site("z", 1)).await.unwrap_err();
        assert_eq!(error.code, Code::DatabaseNewer);
        old_tab.signal(Event::Resume);
        server.borrow_mut().down = false;
        pass(60_000).await;
        assert_eq!(device.store.appends(), appends, "nothing is touched");
        let status = old_tab.status();
        assert_eq!(
            (status.phase, status.error.as_ref().unwrap().0.code),
            (Phase::Error, Code::DatabaseNewer)
        );
        assert!(!status.leader, "nobody would sync");
        assert!(server.borrow().effects.is_empty());
        // An app of the first version does not wait at open, but writes nothing either.
        device.version = 1;
        let m = device.try_open().await.unwrap();
        assert_eq!(
            put(&m, "sites", site("z", 1)).await.unwrap_err().code,
            Code::DatabaseNewer
        );
    });
}

#[test]
fn a_new_database_is_of_the_apps_version() {
    run(async {
        let server = Rc::new(RefCell::new(Server::default()));
        let mut device = Device::new("a", &server, 1);
        device.version = 4;
        device.migrate = Rc::new(|_, _, _| Err(Error::new(Code::Aborted, "not called")));
        let m = device.try_open().await.unwrap();
        create(&m, "sites", site("x", 1)).await.unwrap();
        let again = device.try_open().await.unwrap();
        assert_eq!(dump(&again, "sites").await.len(), 1);
    });
}

#[test]
fn what_shows_instead_of_hidden_changes_is_migrated_too() {
    run(async {
        let server = Rc::new(RefCell::new(Server::default()));
        let mut device = Device::new("a", &server, 1);
        for key in ["s", "t", "u"] {
            let data = json!({"id": key, "n": 1, "b": 0});
            server.borrow_mut().put("sites", data, "0");
        }
        let m = device.open().await;
        synced(&m).await;
        server.borrow_mut().down = true;
        let start = |w| {
            let hidden = Intent::Write("sites".into(), vec![w], HIDDEN);
            m.submit(hidden, Box::new(|_| {}));
        };
        start(patch("s", json!({"n": 2})));
        settle(&m).await;
        start(patch("t", json!({"b": 1})));
        settle(&m).await;
        update(&m, "sites", "t", json!({"n": 3})).await.unwrap();
        update(&m, "sites", "u", json!({"b": 4})).await.unwrap();
        start(patch("u", json!({"n": 5})));
        let shown = [
            r#"{"b":0,"id":"s","n":1}"#,
            r#"{"b":0,"id":"t","n":3}"#,
            r#"{"b":4,"id":"u","n":1}"#,
        ];
        assert_eq!(dump(&m, "sites").await, shown);
        m.signal(Event::Close);

        to_two(&mut device);
        let m = device.try_open().await.unwrap();
        let shown = [
            r#"{"b":0,"id":"s","size":10}"#,
            r#"{"b":0,"id":"t","size":30}"#,
            r#"{"b":4,"id":"u","size":10}"#,
        ];
        assert_eq!(dump(&m, "sites").await, shown);
        server.borrow_mut().down = false;
        m.signal(Event::Leader(true));
        synced(&m).await;
        let stored = [
            r#"{"b":0,"id":"s","size":20}"#,
            r#"{"b":1,"id":"t","size":30}"#,
            r#"{"b":4,"id":"u","size":50}"#,
        ];
        assert_eq!(server.borrow().dump("sites"), stored);
        assert_eq!(dump(&m, "sites").await, stored);
    });
}

#[test]
fn a_collection_that_was_not_declared_at_a_migration_is_migrated_once_it_is() {
    run(async {
        let server = Rc::new(RefCell::new(Server::default()));
        let mut device = Device::new("a", &server, 1);
        let m = device.open_idle().await;
        create(&m, "notes", site("n", 1)).await.unwrap();
        create(&m, "sites", site("s", 1)).await.unwrap();
        drop(m);
        // Each version notes where it has been.
        device.migrate = Rc::new(|_, value, from| {
            let mut new = (**value).clone();
            new[format!("v{from}")] = json!(true);
            Ok(Rc::new(new))
        });
        let both = device.specs.clone();
        let declared = |names: &[&str]| {
            let is = |spec: &&crate::options::CollectionSpec| names.contains(&&*spec.name);
            both.iter().filter(is).cloned().collect::<Vec<_>>()
        };
        // Other pages of the app declare less, and are opened first.
        for (version, names) in [
            (2, &["sites"][..]),
            (3, &["sites"]),
            (3, &["sites", "notes"]),
        ] {
            (device.version, device.specs) = (version, declared(names));
            let m = device.try_open().await.unwrap();
            settle(&m).await;
            m.fold().await.unwrap();
        }
        let m = device.open_idle().await;
        settle(&m).await;
        let sites = [r#"{"id":"s","n":1,"v1":true,"v2":true}"#];
        assert_eq!(dump(&m, "sites").await, sites);
        let notes = [r#"{"id":"n","n":1,"v1":true}"#];
        assert_eq!(dump(&m, "notes").await, notes, "once, from its own version");
        let queued = m.outbox(&Default::default()).into_iter();
        let queued = queued.map(|e| e.mutation.value.unwrap().to_string());
        assert_eq!(queued.collect::<Vec<_>>(), [notes, sites].concat());
    });
}

/// Takes over what another database has queued, of this version of the data.
async fn take_in(
    m: &TestManager,
    mutations: &[Held<Record>],
    (version, late): (Option<u32>, bool),
) -> Result<(usize, Left)> {
    let mut import = Import {
        client: "a".into(),
        mutations: mutations.to_vec(),
        late,
        left: None,
        schema: None,
    };
    let left = m.migrate_import(&mut import, &vec![version; mutations.len()])?;
    Ok((submit(m, Intent::Import(import)).await?, left))
}

#[test]
fn what_comes_from_an_older_version_of_the_data_is_migrated() {
    run(async {
        let server = Rc::new(RefCell::new(Server::default()));
        let device = filled(&server).await;
        let m = device.open_idle().await;
        settle(&m).await;
        update(&m, "sites", "s", json!({"n": 5})).await.unwrap();
        submit(&m, Intent::MarkSent(vec![3])).await.unwrap();
        update(&m, "sites", "s", json!({"n": 6})).await.unwrap();
        let copy = m.unsynced();
        assert_eq!(copy.len(), 4);
        assert!(copy[3].mutation.behind);
        m.signal(Event::Close);
        for late in [false, true] {
            let mut fresh = Device::new("b", &server, 2);
            to_two(&mut fresh);
            let m = fresh.open_idle().await;
            let (count, left) = take_in(&m, &copy, (Some(1), late)).await.unwrap();
            assert_eq!((count, left.nos), (4, vec![]));
            let truth = [
                r#"{"id":"new","size":20}"#,
                r#"{"b":0,"id":"s","size":60}"#,
                r#"{"b":1,"id":"u","size":10}"#,
            ];
            assert_eq!(dump(&m, "sites").await, truth);
            let all = m.unsynced();
            assert_eq!(all[0].mutation.base.as_ref().unwrap()["size"], 10);
            assert_eq!(all[0].shadow.as_ref().unwrap()["size"], 10);
            let changed = all[3].mutation.changed.clone().unwrap();
            assert!(changed.iter().any(|name| **name == *"size"), "{changed:?}");
        }
        // Not migrated: what is of this version, and what does not say.
        for version in [Some(2), None] {
            let mut fresh = Device::new("b", &server, 2);
            to_two(&mut fresh);
            let m = fresh.open_idle().await;
            take_in(&m, &copy[..2], (version, true)).await.unwrap();
            let row = m.unsynced()[1].mutation.value.clone().unwrap();
            assert_eq!(*row, site("new", 2), "{version:?}");
        }
    });
}

#[test]
fn what_comes_from_a_newer_version_of_the_data_is_not_taken_in() {
    run(async {
        let server = Rc::new(RefCell::new(Server::default()));
        let device = filled(&server).await;
        let m = device.open_idle().await;
        settle(&m).await;
        let copy = m.unsynced();
        m.signal(Event::Close);
        let m = Device::new("b", &server, 2).open_idle().await;
        let error = take_in(&m, &copy, (Some(2), false)).await.unwrap_err();
        assert_eq!(error.code, Code::DatabaseNewer);
        let (count, left) = take_in(&m, &copy, (Some(2), true)).await.unwrap();
        assert_eq!((count, left.nos), (0, vec![1, 2]));
        assert_eq!(left.why.unwrap().code, Code::DatabaseNewer);
        // Nor what stands behind it.
        let mut behind = copy[0].clone();
        (behind.mutation.no, behind.mutation.behind) = (3, true);
        let mut import = Import {
            client: "a".into(),
            mutations: vec![copy[0].clone(), copy[1].clone(), behind],
            late: true,
            left: None,
            schema: None,
        };
        let versions = [Some(2), Some(1), Some(1)];
        let left = m.migrate_import(&mut import, &versions).unwrap();
        assert_eq!((left.nos, import.mutations.len()), (vec![1, 3], 1));
    });
}

#[test]
fn what_comes_of_an_undeclared_collection_is_migrated_once_it_is_declared() {
    run(async {
        let server = Rc::new(RefCell::new(Server::default()));
        let device = Device::new("a", &server, 1);
        let m = device.open_idle().await;
        create(&m, "sites", site("s", 1)).await.unwrap();
        create(&m, "notes", site("n", 1)).await.unwrap();
        let copy = m.unsynced();
        m.signal(Event::Close);
        let mut fresh = Device::new("b", &server, 2);
        fresh.version = 2;
        fresh.migrate = Rc::new(|_, value, from| {
            let mut new = (**value).clone();
            new[format!("v{from}")] = json!(true);
            Ok(Rc::new(new))
        });
        let both = fresh.specs.clone();
        fresh.specs.retain(|spec| *spec.name == *"sites");
        let m = fresh.open_idle().await;
        let (count, _) = take_in(&m, &copy, (Some(1), true)).await.unwrap();
        assert_eq!(count, 2);
        assert_eq!(m.data_versions(), (2, Rc::from([("notes".into(), 1)])));
        fresh.specs = both;
        let m = fresh.try_open().await.unwrap();
        assert_eq!(dump(&m, "notes").await, [r#"{"id":"n","n":1,"v1":true}"#]);
        assert_eq!(dump(&m, "sites").await, [r#"{"id":"s","n":1,"v1":true}"#]);
    });
}

#[test]
fn what_the_conflict_log_has_is_migrated_with_the_records() {
    run(async {
        let (server, mut device) = super::manual::rig(Strategy::ServerWins);
        let m = device.open().await;
        super::manual::meet(&m, &server, Some(2), Some(3), "9").await;
        let id = super::manual::only(&m).id.clone();
        m.signal(Event::Close);
        to_two(&mut device);
        let m = device.open_idle().await;
        settle(&m).await;
        submit(&m, Intent::Resolve(id, Choice::Local))
            .await
            .unwrap();
        assert_eq!(dump(&m, "sites").await, [r#"{"id":"x","size":20}"#]);
    });
}

#[test]
fn what_an_older_tab_writes_into_a_new_database_is_migrated() {
    run(async {
        let server = Rc::new(RefCell::new(Server::default()));
        let mut device = Device::new("a", &server, 1);
        let old = device.open_idle().await;
        to_two(&mut device);
        let new = device.open_idle().await;
        create(&old, "sites", site("s", 1)).await.unwrap();
        create(&new, "sites", json!({"id": "t", "size": 20}))
            .await
            .unwrap();
        let both = [r#"{"id":"s","size":10}"#, r#"{"id":"t","size":20}"#];
        assert_eq!(dump(&new, "sites").await, both);
        new.signal(Event::Close);
        let new = device.open_idle().await;
        assert_eq!(dump(&new, "sites").await, both);
        assert_eq!(
            update(&old, "sites", "s", json!({"n": 2}))
                .await
                .unwrap_err()
                .code,
            Code::DatabaseNewer
        );
    });
}
