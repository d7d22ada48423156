//! Writes that do not show until the backend has confirmed, and local-only records.

use super::rig::*;
use crate::engine::Event;
use crate::error::{Code, Error, Result};
use crate::model::{Refusal, Verdict, Version};
use crate::replica::plan::{Intent, Write, WriteOptions};
use serde_json::{Value as Json, json};
use std::cell::RefCell;
use std::rc::Rc;

pub(super) const HIDDEN: WriteOptions = WriteOptions {
    local_only: None,
    optimistic: Some(false),
};
pub(super) const LOCAL: WriteOptions = WriteOptions {
    local_only: Some(true),
    optimistic: None,
};

pub(super) async fn write(
    m: &TestManager,
    write: Write<Record>,
    options: WriteOptions,
) -> Result<usize> {
    submit(m, Intent::Write("sites".into(), vec![write], options)).await
}

pub(super) fn patch(key: &str, patch: Json) -> Write<Record> {
    let changed = patch
        .as_object()
        .unwrap()
        .keys()
        .map(|k| Rc::from(k.as_str()));
    Write::Update {
        key: key.into(),
        changed: changed.collect(),
        patch: Rc::new(patch),
    }
}

/// Starts a write and does not wait for its end; the cell has it later.
fn start(m: &TestManager, w: Write<Record>) -> Rc<RefCell<Option<Result<usize>>>> {
    let told = Rc::new(RefCell::new(None));
    let tell = told.clone();
    m.submit(
        Intent::Write("sites".into(), vec![w], HIDDEN),
        Box::new(move |result| *tell.borrow_mut() = Some(result)),
    );
    told
}

fn code(told: &Rc<RefCell<Option<Result<usize>>>>) -> Option<Code> {
    let told = told.borrow();
    told.as_ref().and_then(|r| r.as_ref().err()).map(|e| e.code)
}

fn rig() -> (Rc<RefCell<Server>>, Device) {
    let server = Rc::new(RefCell::new(Server::default()));
    let device = Device::new("a", &server, 1);
    (server, device)
}

fn put(data: Json) -> Write<Record> {
    Write::Put(Rc::new(data))
}

#[test]
fn a_hidden_write_shows_when_it_is_confirmed() {
    run(async {
        let (server, device) = rig();
        let m = device.open().await;
        synced(&m).await;
        server.borrow_mut().down = true;
        let told = start(&m, Write::Create(Rc::new(site("x", 1))));
        settle(&m).await;
        assert_eq!(dump(&m, "sites").await, [""; 0], "nothing shows");
        assert_eq!((queue(&m).len(), m.status().pending), (1, 1));
        assert!(told.borrow().is_none(), "the promise waits");
        let twice = write(
            &m,
            Write::Create(Rc::new(site("x", 2))),
            WriteOptions::default(),
        )
        .await;
        assert_eq!(twice.unwrap_err().code, Code::AlreadyExists);
        server.borrow_mut().down = false;
        synced(&m).await;
        assert_eq!(*told.borrow(), Some(Ok(1)));
        assert_eq!(dump(&m, "sites").await, [r#"{"id":"x","n":1}"#]);

        server.borrow_mut().down = true;
        let told = start(&m, Write::Delete("x".into()));
        settle(&m).await;
        assert_eq!(dump(&m, "sites").await.len(), 1, "still there");
        server.borrow_mut().down = false;
        synced(&m).await;
        assert_eq!(dump(&m, "sites").await, [""; 0]);
        assert!(told.borrow().is_some());
    });
}

#[test]
fn hidden_and_optimistic_changes_of_one_record_travel_as_one() {
    run(async {
        let (server, device) = rig();
        server
            .borrow_mut()
            .put("sites", json!({"id": "x", "a": 0, "b": 0}), "0");
        let m = device.open().await;
        synced(&m).await;
        server.borrow_mut().down = true;
        let first = start(&m, patch("x", json!({"a": 1})));
        write(&m, patch("x", json!({"b": 1})), WriteOptions::default())
            .await
            .unwrap();
        assert_eq!(dump(&m, "sites").await, [r#"{"a":0,"b":1,"id":"x"}"#]);
        let second = start(&m, patch("x", json!({"b": 2})));
        settle(&m).await;
        assert_eq!(dump(&m, "sites").await, [r#"{"a":0,"b":1,"id":"x"}"#]);
        assert_eq!(queue(&m), ["1 update pending"]);
        assert_eq!(m.newest("sites", "x").unwrap().unwrap()["b"], 2);
        server.borrow_mut().down = false;
        synced(&m).await;
        let truth = [r#"{"a":1,"b":2,"id":"x"}"#];
        assert_eq!(
            (dump(&m, "sites").await, server.borrow().dump("sites")),
            (
                truth.map(str::to_owned).to_vec(),
                truth.map(str::to_owned).to_vec()
            )
        );
        assert!(first.borrow().is_some() && second.borrow().is_some());
    });
}

#[test]
fn behind_a_sent_one_each_keeps_what_it_shows() {
    run(async {
        let (server, device) = rig();
        let m = device.open().await;
        synced(&m).await;
        let head = start(&m, Write::Create(Rc::new(json!({"id": "x", "a": 1}))));
        until(&m, "in flight", |s| s.syncing == 1).await;
        write(&m, patch("x", json!({"b": 1})), WriteOptions::default())
            .await
            .unwrap();
        assert!(head.borrow().is_none(), "still in flight");
        assert_eq!(dump(&m, "sites").await, [""; 0], "nothing to change yet");
        until(&m, "the head is confirmed", |_| head.borrow().is_some()).await;
        assert_eq!(dump(&m, "sites").await, [r#"{"a":1,"b":1,"id":"x"}"#]);
        synced(&m).await;
        let behind = start(&m, patch("x", json!({"c": 1})));
        until(&m, "in flight", |s| s.syncing == 1).await;
        let tail = start(&m, patch("x", json!({"c": 2})));
        settle(&m).await;
        assert!(!dump(&m, "sites").await[0].contains('c'));
        synced(&m).await;
        assert!(behind.borrow().is_some() && tail.borrow().is_some());
        assert_eq!(dump(&m, "sites").await, server.borrow().dump("sites"));
    });
}

#[test]
fn the_promise_of_a_hidden_write_says_what_became_of_it() {
    run(async {
        let (server, device) = rig();
        server.borrow_mut().put("sites", site("c", 0), "0");
        let m = device.open().await;
        synced(&m).await;
        server.borrow_mut().poison.insert("bad".into(), false);
        let told = start(&m, put(site("bad", 1)));
        until(&m, "parked", |s| s.failed == 1).await;
        assert_eq!(code(&told), Some(Code::Rejected));
        let message = told.borrow().clone().unwrap().unwrap_err().message;
        assert_eq!(message, "no good", "the backend's words");

        server.borrow_mut().down = true;
        let told = start(&m, put(site("gone", 1)));
        settle(&m).await;
        let no = m.outbox(&Default::default()).last().unwrap().mutation.no;
        submit(&m, Intent::Discard(no)).await.unwrap();
        assert_eq!(code(&told), Some(Code::Aborted));

        let told = start(&m, patch("c", json!({"n": 1})));
        settle(&m).await;
        // Later than ours, so it wins.
        server
            .borrow_mut()
            .put("sites", site("c", 9), "9999999999999-0000-b");
        server.borrow_mut().down = false;
        m.signal(Event::Online);
        until(&m, "settled", |_| told.borrow().is_some()).await;
        assert_eq!(code(&told), Some(Code::Conflict));
        assert_eq!(m.get("sites", "c").unwrap().unwrap()["n"], 9);

        server.borrow_mut().down = true;
        let told = start(&m, put(site("late", 1)));
        settle(&m).await;
        m.signal(Event::Close);
        assert_eq!(code(&told), Some(Code::Closed));
    });
}

/// Deleted twice: the second deletion changes nothing, and is true only if the first one succeeds.
#[test]
fn a_hidden_deletion_that_is_asked_for_again_waits_for_the_first() {
    run(async {
        let (server, device) = rig();
        server.borrow_mut().put("sites", site("c", 0), "0");
        let m = device.open().await;
        synced(&m).await;
        server.borrow_mut().down = true;
        let all = [(); 2].map(|()| start(&m, Write::Delete("c".into())));
        settle(&m).await;
        assert!(all.iter().all(|told| told.borrow().is_none()));
        assert!(m.get("sites", "c").unwrap().is_some(), "it shows");
        server.borrow_mut().down = false;
        m.signal(Event::Online);
        until(&m, "deleted", |_| {
            all.iter().all(|it| it.borrow().is_some())
        })
        .await;
        assert!(
            all.iter()
                .all(|told| told.borrow().as_ref().unwrap().is_ok())
        );
        assert!(m.get("sites", "c").unwrap().is_none());
        let told = start(&m, Write::Delete("c".into()));
        settle(&m).await;
        assert!(told.borrow().is_some(), "there is nothing to wait for");
    });
}

#[test]
fn a_tab_that_does_not_sync_hears_of_it_too() {
    run(async {
        let (server, device) = rig();
        let follower = device.open_idle().await;
        let leader = device.open().await;
        synced(&leader).await;
        server.borrow_mut().faults.push_back(Fault::AnswerLost);
        let told = start(&follower, put(site("x", 1)));
        settle(&follower).await;
        leader.submit_catch_up();
        synced(&leader).await;
        assert!(told.borrow().is_none(), "it has not looked yet");
        follower.submit_catch_up();
        settle(&follower).await;
        assert_eq!(*told.borrow(), Some(Ok(1)));

        // Refused, and queued again under another number by a retry of the leader.
        server.borrow_mut().put("sites", site("y", 0), "0");
        synced(&leader).await;
        follower.submit_catch_up();
        let told = start(&follower, patch("y", json!({"n": 5})));
        settle(&follower).await;
        server
            .borrow_mut()
            .put("sites", site("y", 1), "0000000000001-0000-b");
        leader.submit_catch_up();
        synced(&leader).await;
        assert_eq!(
            leader.conflicts().len(),
            1,
            "settled for us, under a new number"
        );
        follower.submit_catch_up();
        settle(&follower).await;
        assert_eq!(*told.borrow(), Some(Ok(1)));
    });
}

#[test]
fn local_records_never_leave_the_device() {
    run(async {
        let (server, device) = rig();
        let m = device.open().await;
        write(&m, put(site("x", 1)), LOCAL).await.unwrap();
        write(&m, patch("x", json!({"n": 2})), WriteOptions::default())
            .await
            .unwrap();
        synced(&m).await;
        assert_eq!((queue(&m).len(), server.borrow().rows.len()), (0, 0));
        assert_eq!(m.state("sites", "x").unwrap(), Some("local"));
        let again = device.open_idle().await;
        assert_eq!(dump(&again, "sites").await, [r#"{"id":"x","n":2}"#]);
        write(&m, Write::Delete("x".into()), WriteOptions::default())
            .await
            .unwrap();
        assert_eq!(m.state("sites", "x").unwrap(), None);

        create(&m, "sites", site("s", 1)).await.unwrap();
        synced(&m).await;
        let error = write(&m, patch("s", json!({"n": 2})), LOCAL)
            .await
            .unwrap_err();
        assert_eq!(error.code, Code::InvalidOptions);
        write(&m, Write::Delete("none".into()), LOCAL)
            .await
            .unwrap();
    });
}

#[test]
fn a_page_does_not_destroy_a_local_record_and_promoting_goes_on_top() {
    run(async {
        let (server, device) = rig();
        let m = device.open().await;
        for key in ["x", "y", "z"] {
            write(&m, put(site(key, 1)), LOCAL).await.unwrap();
        }
        server.borrow_mut().put("sites", site("x", 7), "0");
        server.borrow_mut().put("sites", site("y", 8), "0");
        synced(&m).await;
        assert_eq!(
            m.get("sites", "x").unwrap().unwrap()["n"],
            1,
            "the local one shows"
        );
        write(&m, Write::Delete("x".into()), WriteOptions::default())
            .await
            .unwrap();
        assert_eq!(
            m.get("sites", "x").unwrap().unwrap()["n"],
            7,
            "the other one is back"
        );
        assert_eq!(m.state("sites", "x").unwrap(), Some("synced"));
        for key in ["y", "z"] {
            write(&m, Write::Promote(key.into()), WriteOptions::default())
                .await
                .unwrap();
        }
        assert_eq!(queue(&m), ["1 update pending", "2 create pending"]);
        synced(&m).await;
        assert_eq!(dump(&m, "sites").await, server.borrow().dump("sites"));
        assert_eq!(m.get("sites", "y").unwrap().unwrap()["n"], 1);
        let code = |r: Result<usize>| r.unwrap_err().code;
        let promote = |key: &str| Write::Promote(key.into());
        assert_eq!(
            code(write(&m, promote("y"), HIDDEN).await),
            Code::InvalidOptions
        );
        assert_eq!(code(write(&m, promote("no"), HIDDEN).await), Code::NotFound);
    });
}

#[test]
fn a_collection_declares_what_its_writes_are() {
    run(async {
        let (_, mut device) = rig();
        device.specs[0].local_only = true;
        device.specs[1].optimistic = false;
        let m = device.open_idle().await;
        create(&m, "sites", site("x", 1)).await.unwrap();
        assert_eq!(m.state("sites", "x").unwrap(), Some("local"));
        let options = WriteOptions {
            local_only: Some(false),
            ..WriteOptions::default()
        };
        write(&m, put(site("y", 1)), options).await.unwrap();
        assert_eq!(m.state("sites", "y").unwrap(), Some("pending"));
        let note = Write::Create(Rc::new(json!({"id": "n"})));
        m.submit(
            Intent::Write("notes".into(), vec![note], WriteOptions::default()),
            Box::new(|_| {}),
        );
        assert_eq!(dump(&m, "notes").await, [""; 0]);
    });
}

#[test]
fn a_hidden_change_leaves_what_an_optimistic_one_has_shown() {
    run(async {
        let (server, device) = rig();
        server
            .borrow_mut()
            .put("sites", json!({"id": "x", "a": 0}), "0");
        let m = device.open().await;
        synced(&m).await;
        server.borrow_mut().down = true;
        let options = WriteOptions::default;
        for change in [
            patch("x", json!({"a": 1})),
            Write::Create(Rc::new(json!({"id": "y", "a": 1}))),
        ] {
            write(&m, change, options()).await.unwrap();
        }
        let shown = dump(&m, "sites").await;
        let told = [
            start(&m, patch("x", json!({"a": 2, "b": 2}))),
            start(&m, patch("y", json!({"a": 2}))),
        ];
        assert_eq!(dump(&m, "sites").await, shown);
        server.borrow_mut().down = false;
        synced(&m).await;
        assert_eq!(dump(&m, "sites").await, server.borrow().dump("sites"));
        assert!(server.borrow().dump("sites")[0].contains(r#""b":2"#));
        assert!(told.iter().all(|t| *t.borrow() == Some(Ok(1))));
    });
}

#[test]
fn whoever_waits_for_a_confirmation_hears_that_the_store_is_lost() {
    run(async {
        let (server, device) = rig();
        let m = device.open().await;
        synced(&m).await;
        server.borrow_mut().down = true;
        let told = start(&m, Write::Create(Rc::new(site("x", 1))));
        settle(&m).await;
        assert!(told.borrow().is_none());
        m.lose(&Error::new(Code::DatabaseLost, "the database was deleted"));
        let told = told.take().unwrap().unwrap_err();
        assert_eq!(
            (told.code, told.message.as_ref()),
            (Code::Closed, "the database was deleted")
        );
    });
}

#[test]
fn a_change_that_joins_another_is_followed_there() {
    run(async {
        let (server, device) = rig();
        server.borrow_mut().put("sites", site("x", 0), "0");
        let m = device.open().await;
        synced(&m).await;
        // Refused with one behind it: both go again as one, and the first answer counts for nothing.
        server.borrow_mut().poison.insert("x".into(), false);
        let head = start(&m, patch("x", json!({"n": 1})));
        until(&m, "in flight", |s| s.syncing == 1).await;
        let tail = start(&m, patch("x", json!({"n": 2})));
        until(&m, "queued again", |_| {
            queue(&m).first().is_some_and(|q| q.starts_with('3'))
        })
        .await;
        server.borrow_mut().poison.clear();
        assert!(
            head.borrow().is_none() && tail.borrow().is_none(),
            "not yet"
        );
        synced(&m).await;
        assert_eq!((code(&head), code(&tail)), (None, None));
        assert_eq!(server.borrow().dump("sites"), [r#"{"id":"x","n":2}"#]);

        // A conflict that both lose.
        let head = start(&m, patch("x", json!({"n": 3})));
        until(&m, "in flight", |s| s.syncing == 1).await;
        server
            .borrow_mut()
            .put("sites", site("x", 9), "9999999999999-0000-b");
        let tail = start(&m, patch("x", json!({"n": 4})));
        until(&m, "settled", |_| head.borrow().is_some()).await;
        let lost = Some(Code::Conflict);
        assert_eq!((code(&head), code(&tail)), (lost, lost));
        assert_eq!(dump(&m, "sites").await, [r#"{"id":"x","n":9}"#]);
    });
}

#[test]
fn what_was_promoted_is_an_ordinary_record_of_a_local_only_collection() {
    run(async {
        let (_, mut device) = rig();
        device.specs[0].local_only = true;
        let m = device.open_idle().await;
        create(&m, "sites", site("x", 1)).await.unwrap();
        write(&m, Write::Promote("x".into()), WriteOptions::default())
            .await
            .unwrap();
        update(&m, "sites", "x", json!({ "n": 2 })).await.unwrap();
        assert_eq!(queue(&m), ["1 create pending"]);
        let local = write(&m, put(site("x", 3)), LOCAL).await;
        assert_eq!(local.unwrap_err().code, Code::InvalidOptions);
        delete(&m, "sites", "x").await.unwrap();
        assert_eq!(queue(&m), [""; 0]);
    });
}

/// The change goes on as part of another, in the very commit that stores it.
#[test]
fn whoever_waits_follows_what_happens_in_the_commit_of_the_write() {
    run(async {
        let (_, device) = rig();
        let m = device.open_idle().await;
        create(&m, "sites", site("x", 1)).await.unwrap();
        submit(&m, Intent::MarkSent(vec![1])).await.unwrap();
        let told = start(&m, patch("x", json!({ "n": 2 })));
        let refusal = Refusal {
            code: "invalid".into(),
            message: "no".into(),
        };
        let retryable = false;
        let refused = Verdict::Failed { refusal, retryable };
        m.submit(Intent::Verdicts(vec![(1, refused)]), Box::new(|_| {}));
        settle(&m).await;
        assert_eq!(queue(&m), ["3 create pending"]);
        assert!(told.borrow().is_none(), "{told:?}");
        submit(&m, Intent::MarkSent(vec![3])).await.unwrap();
        let success = Verdict::Success {
            version: Version(1),
            data: None,
        };
        submit(&m, Intent::Verdicts(vec![(3, success)]))
            .await
            .unwrap();
        settle(&m).await;
        assert_eq!(*told.borrow(), Some(Ok(1)));
    });
}
