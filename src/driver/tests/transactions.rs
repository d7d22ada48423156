//! Transactions over several collections and their atomic groups.

use super::hidden::{HIDDEN, LOCAL, patch};
use super::rig::*;
use crate::engine::Event;
use crate::error::{Code, Result};
use crate::hlc::Hlc;
use crate::model::{Refusal, Verdict, Version};
use crate::replica::plan::{Intent, Read, Transaction, Write, WriteOptions};
use crate::store::Fact;
use serde_json::{Value as Json, json};
use std::cell::RefCell;
use std::rc::Rc;

type Writes = Vec<(&'static str, Write<Record>, WriteOptions)>;

async fn transact(m: &TestManager, writes: Writes, reads: Vec<Read<Record>>) -> Result<usize> {
    let writes = writes.into_iter().map(|(c, w, o)| (c.into(), w, o));
    let transaction = Transaction {
        writes: writes.collect(),
        reads,
        grouped: true,
    };
    submit(m, Intent::Transaction(transaction)).await
}

fn new(collection: &'static str, data: Json) -> (&'static str, Write<Record>, WriteOptions) {
    let options = WriteOptions::default();
    (collection, Write::Create(Rc::new(data)), options)
}

fn read(key: &str, value: Option<Json>, newest: bool) -> Read<Record> {
    Read {
        collection: "sites".into(),
        key: key.into(),
        value: value.map(Rc::new),
        newest,
    }
}

fn groups(m: &TestManager) -> Vec<String> {
    let all = m.outbox(&Default::default());
    let text = |g: Option<Rc<str>>| g.map_or("-".to_owned(), |g| g.to_string());
    all.into_iter().map(|e| text(e.mutation.group)).collect()
}

fn rig() -> (Rc<RefCell<Server>>, Device) {
    let server = Rc::new(RefCell::new(Server::default()));
    let device = Device::new("a", &server, 1);
    (server, device)
}

#[test]
fn all_or_none_over_several_collections() {
    run(async {
        let (_, device) = rig();
        let m = device.open_idle().await;
        let before = device.store.appends();
        let bad = vec![
            new("sites", site("x", 1)),
            new("notes", json!({"id": "n", "siteId": "x"})),
            new("sites", site("x", 2)),
        ];
        let error = transact(&m, bad, vec![]).await.unwrap_err();
        assert_eq!(error.code, Code::AlreadyExists);
        assert_eq!((queue(&m).len(), device.store.appends()), (0, before));
        let good = vec![
            new("sites", site("x", 1)),
            new("notes", json!({"id": "n", "siteId": "x"})),
        ];
        transact(&m, good, vec![]).await.unwrap();
        assert_eq!(device.store.appends(), before + 1);
        assert_eq!(groups(&m), ["a.1", "a.1"]);
        transact(&m, vec![new("sites", site("y", 1))], vec![])
            .await
            .unwrap();
        assert_eq!(groups(&m), ["a.1", "a.1", "-"], "one alone is no group");
        let draft = ("sites", Write::Put(Rc::new(site("d", 1))), LOCAL);
        transact(&m, vec![draft, new("sites", site("z", 1))], vec![])
            .await
            .unwrap();
        assert_eq!(groups(&m)[3], "-", "a local record is in no group");
    });
}

#[test]
fn what_was_read_must_still_be_there() {
    run(async {
        let (_, device) = rig();
        let m = device.open_idle().await;
        create(&m, "sites", site("x", 1)).await.unwrap();
        let write = || vec![new("sites", site("y", 1))];
        let stale = [
            read("x", Some(site("x", 2)), false),
            read("x", None, false),
            read("y", Some(site("y", 1)), true),
        ];
        for stale in stale {
            let error = transact(&m, write(), vec![stale]).await.unwrap_err();
            assert_eq!(error.code, Code::WriteContention);
        }
        let hidden = ("sites", patch("x", json!({"n": 5})), HIDDEN);
        let fresh = vec![read("x", Some(site("x", 1)), false), read("y", None, false)];
        m.submit(
            Intent::Transaction(Transaction {
                writes: vec![(hidden.0.into(), hidden.1, hidden.2)],
                reads: fresh,
                grouped: true,
            }),
            Box::new(|_| {}),
        );
        settle(&m).await;
        let shown = read("x", Some(site("x", 1)), false);
        let newest = read("x", Some(site("x", 5)), true);
        transact(&m, write(), vec![shown, newest]).await.unwrap();
    });
}

#[test]
fn a_group_travels_in_one_batch_even_by_different_priorities() {
    run(async {
        let (server, device) = rig();
        let m = device.open_idle().await;
        for n in 0..99 {
            create(&m, "sites", site(&format!("s{n}"), n))
                .await
                .unwrap();
        }
        let group = vec![
            new("sites", site("x", 1)),
            new("notes", json!({"id": "n", "siteId": "x"})),
        ];
        transact(&m, group, vec![]).await.unwrap();
        // The note comes first by its priority, its site with it; parents before children.
        m.signal(crate::engine::Event::Leader(true));
        until(&m, "pushed", |s| s.pending + s.syncing == 0).await;
        let effects = server.borrow().effects.clone();
        let at = |id: &str| effects.iter().position(|e| e == id).unwrap();
        assert_eq!((at("a.100"), at("a.101")), (0, 1));
        assert_eq!(server.borrow().groups_of_batches[0], ["a.100", "a.100"]);
    });
}

#[test]
fn a_group_waits_until_all_of_it_can_go() {
    run(async {
        let (server, device) = rig();
        let m = device.open().await;
        synced(&m).await;
        create(&m, "sites", site("x", 1)).await.unwrap();
        until(&m, "in flight", |s| s.syncing == 1).await;
        let options = WriteOptions::default();
        let group = vec![
            ("sites", patch("x", json!({"n": 2})), options),
            new("sites", site("y", 1)),
        ];
        transact(&m, group, vec![]).await.unwrap();
        synced(&m).await;
        let batches = server.borrow().groups_of_batches.clone();
        assert_eq!(batches.last().unwrap(), &["a.2", "a.2"]);
        assert_eq!(server.borrow().effects, ["a.1", "a.2", "a.3"]);
    });
}

#[test]
fn groups_that_wait_for_each_other_go_all_the_same() {
    run(async {
        let (server, device) = rig();
        let m = device.open_idle().await;
        let note = |id: &str, site: &str| new("notes", json!({"id": id, "siteId": site}));
        let one = vec![new("sites", site("p", 1)), note("of-q", "q")];
        transact(&m, one, vec![]).await.unwrap();
        let two = vec![new("sites", site("q", 1)), note("of-p", "p")];
        transact(&m, two, vec![]).await.unwrap();
        m.signal(crate::engine::Event::Leader(true));
        synced(&m).await;
        assert_eq!(server.borrow().effects.len(), 4);
    });
}

#[test]
fn a_group_with_a_parked_parent_stays_together() {
    run(async {
        let (server, device) = rig();
        server.borrow_mut().poison.insert("bad".into(), false);
        let m = device.open().await;
        create(&m, "sites", site("bad", 1)).await.unwrap();
        until(&m, "parked", |s| s.failed == 1).await;
        let group = vec![
            new("sites", site("y", 1)),
            new("notes", json!({"id": "n", "siteId": "bad"})),
        ];
        transact(&m, group, vec![]).await.unwrap();
        pass(60_000).await;
        assert_eq!(m.status().pending, 2, "nobody goes alone");
        server.borrow_mut().poison.clear();
        submit(&m, Intent::Retry(None)).await.unwrap();
        synced(&m).await;
        assert_eq!(server.borrow().dump("notes").len(), 1);
    });
}

/// Two sites in one transaction, of which the server refuses `bad`: a backend that takes all or none.
async fn half_refused() -> (Rc<RefCell<Server>>, TestManager) {
    let (server, device) = rig();
    server.borrow_mut().all_or_none = true;
    server.borrow_mut().poison.insert("bad".into(), false);
    let m = device.open().await;
    let group = vec![new("sites", site("y", 1)), new("sites", site("bad", 1))];
    transact(&m, group, vec![]).await.unwrap();
    create(&m, "sites", site("z", 1)).await.unwrap();
    until(&m, "parked", |s| s.failed == 1).await;
    pass(60_000).await;
    assert_eq!(m.status().pending, 1, "it does not go alone");
    assert_eq!(
        server.borrow().dump("sites").len(),
        1,
        "the rest of the queue went"
    );
    let entries = m.outbox(&Default::default());
    let parked = entries.iter().find(|e| e.state == "failed").unwrap();
    let kept = entries.iter().find(|e| e.state == "pending").unwrap();
    assert_eq!(kept.waits_for.as_ref(), Some(&parked.id));
    assert_eq!(kept.blocked_by.as_ref(), Some(&parked.id));
    (server, m)
}

#[test]
fn what_is_left_of_a_refused_group_waits_for_the_user() {
    run(async {
        let (server, m) = half_refused().await;
        server.borrow_mut().poison.clear();
        submit(&m, Intent::Retry(None)).await.unwrap();
        synced(&m).await;
        let here = dump(&m, "sites").await;
        assert_eq!(server.borrow().dump("sites"), here);
        assert_eq!(server.borrow().dump("sites").len(), 3);

        let (server, m) = half_refused().await;
        let mut all = m.outbox(&Default::default()).into_iter();
        let bad = all.find(|e| e.state == "failed").unwrap().mutation;
        submit(&m, Intent::Discard(bad.no)).await.unwrap();
        synced(&m).await;
        let here = dump(&m, "sites").await;
        assert_eq!(server.borrow().dump("sites"), here);
        assert_eq!(server.borrow().dump("sites").len(), 2);
    });
}

#[test]
fn a_group_that_meets_a_conflict_goes_again_as_one() {
    run(async {
        let (server, device) = rig();
        server.borrow_mut().all_or_none = true;
        let m = device.open().await;
        create(&m, "sites", site("x", 1)).await.unwrap();
        synced(&m).await;
        m.signal(crate::engine::Event::Pause);
        let group = vec![
            new("sites", site("y", 1)),
            (
                "sites",
                patch("x", json!({"n": 2})),
                WriteOptions::default(),
            ),
        ];
        transact(&m, group, vec![]).await.unwrap();
        server
            .borrow_mut()
            .put("sites", site("x", 9), "1763000000001-0000-b");
        m.signal(crate::engine::Event::Resume);
        synced(&m).await;
        let here = dump(&m, "sites").await;
        assert_eq!(server.borrow().dump("sites"), here);
        assert_eq!(server.borrow().dump("sites").len(), 2);
        assert_eq!(
            server.borrow().groups_of_batches.len(),
            2,
            "both times together"
        );
        assert!(
            server
                .borrow()
                .groups_of_batches
                .iter()
                .all(|g| g.len() == 2)
        );
    });
}

/// A busy record may come to a conflict many times in a row.
#[test]
fn what_is_kept_back_with_a_refused_change_is_not_parked_for_that() {
    run(async {
        let (server, device) = rig();
        server.borrow_mut().all_or_none = true;
        server.borrow_mut().poison.insert("bad".into(), true);
        let m = device.open().await;
        let group = vec![new("sites", site("y", 1)), new("sites", site("bad", 1))];
        transact(&m, group, vec![]).await.unwrap();
        until(&m, "parked", |s| s.failed > 0).await;
        pass(60_000).await;
        assert_eq!(queue(&m), ["1 create pending", "2 create failed"]);
        server.borrow_mut().poison.clear();
        submit(&m, Intent::Retry(None)).await.unwrap();
        synced(&m).await;
        assert_eq!(server.borrow().dump("sites").len(), 2);
    });
}

#[test]
fn a_group_that_no_request_can_hold_is_not_held_together() {
    run(async {
        let (server, device) = rig();
        server.borrow_mut().poison.insert("bad".into(), false);
        let m = device.open().await;
        create(&m, "sites", site("bad", 1)).await.unwrap();
        until(&m, "parked", |s| s.failed == 1).await;
        let mut group: Vec<_> = (0..120)
            .map(|n| new("sites", site(&format!("s{n}"), n)))
            .collect();
        group.push(new("notes", json!({"id": "n", "siteId": "bad"})));
        transact(&m, group, vec![]).await.unwrap();
        until(&m, "all but one", |s| s.pending + s.syncing == 1).await;
        let batches = server.borrow().batches.clone();
        assert_eq!(batches, [1, 100, 20], "nor one by one");
        let left = m.outbox(&Default::default());
        let waits = left.iter().map(|e| e.waits_for.as_deref());
        assert_eq!(waits.collect::<Vec<_>>(), [None, Some("a.1")]);
    });
}

/// Each time another member meets a conflict, so that the others have been put off once or twice.
#[test]
fn a_group_goes_together_however_long_each_of_it_is_put_off() {
    run(async {
        for seed in 1..30 {
            let server = Rc::new(RefCell::new(Server::default()));
            let device = Device::new("a", &server, seed);
            server.borrow_mut().all_or_none = true;
            for key in ["b", "c"] {
                server.borrow_mut().put("sites", site(key, 1), "0");
            }
            let m = device.open().await;
            synced(&m).await;
            server.borrow_mut().put("sites", site("c", 2), "0");
            let options = WriteOptions::default();
            let group = vec![
                new("sites", site("a", 1)),
                ("sites", patch("b", json!({ "n": 9 })), options),
                ("sites", patch("c", json!({ "n": 9 })), options),
            ];
            transact(&m, group, vec![]).await.unwrap();
            until(&m, "once", |_| server.borrow().groups_of_batches.len() == 1).await;
            server.borrow_mut().put("sites", site("b", 2), "0");
            until(&m, "all", |s| s.pending + s.syncing == 0).await;
            let batches = server.borrow().groups_of_batches.clone();
            assert!(batches.iter().all(|g| g.len() == 3), "{seed}: {batches:?}");
        }
    });
}

/// Nothing of it is to blame that another member meets one conflict after the other.
#[test]
fn what_is_aborted_with_its_group_uses_up_no_attempts() {
    run(async {
        let (server, device) = rig();
        server.borrow_mut().all_or_none = true;
        server.borrow_mut().put("sites", site("c", 1), "0");
        let m = device.open().await;
        synced(&m).await;
        server.borrow_mut().put("sites", site("c", 2), "0");
        let change = (
            "sites",
            patch("c", json!({ "n": 9 })),
            WriteOptions::default(),
        );
        let group = vec![new("sites", site("a", 1)), change];
        transact(&m, group, vec![]).await.unwrap();
        for n in 1..6 {
            until(&m, "again", |_| {
                server.borrow().groups_of_batches.len() == n
            })
            .await;
            server
                .borrow_mut()
                .put("sites", site("c", 2 + n as u64), "0");
        }
        until(&m, "all", |s| s.pending + s.syncing + s.failed == 0).await;
        assert!(server.borrow().has("sites", "a"));
    });
}

/// What it was written on is refused, or meets a conflict: both go on as one.
#[test]
fn what_is_behind_another_change_stays_in_its_group_when_they_become_one() {
    run(async {
        let refusal = Refusal {
            code: "invalid".into(),
            message: "no".into(),
        };
        let retryable = false;
        let refused = Verdict::Failed { refusal, retryable };
        let conflict = Verdict::Conflict {
            version: Version(3),
            data: Some(Rc::new(site("x", 7))),
            at: Some("0000000000001-0000-z".into()),
        };
        for verdict in [refused, conflict] {
            let (_, device) = rig();
            let m = device.open_idle().await;
            let first = vec![new("sites", site("x", 1)), new("sites", site("w", 1))];
            transact(&m, first, vec![]).await.unwrap();
            create(&m, "sites", site("z", 1)).await.unwrap();
            submit(&m, Intent::MarkSent(vec![1, 2, 3])).await.unwrap();
            let options = WriteOptions::default();
            let second = vec![
                ("sites", patch("x", json!({ "n": 2 })), options),
                ("sites", patch("z", json!({ "n": 2 })), options),
                new("sites", site("y", 1)),
            ];
            transact(&m, second, vec![]).await.unwrap();
            assert_eq!(groups(&m), ["a.1", "a.1", "-", "a.4", "a.4", "a.4"]);
            let verdicts = vec![(3, verdict.clone()), (1, verdict)];
            submit(&m, Intent::Verdicts(verdicts)).await.unwrap();
            assert_eq!(groups(&m), ["a.1"; 4]);
            let again = device.open_idle().await;
            settle(&again).await;
            assert_eq!(groups(&again), ["a.1"; 4]);
        }
    });
}

#[test]
fn a_group_with_a_culprit_is_parked_as_a_whole() {
    run(async {
        let (server, device) = rig();
        server.borrow_mut().culprit = Some(("bad".into(), 422));
        let m = device.open().await;
        synced(&m).await;
        m.signal(Event::Pause);
        for n in 0..7 {
            create(&m, "sites", site(&format!("s{n}"), n))
                .await
                .unwrap();
        }
        let group = ["a", "b", "bad"].map(|key| new("sites", site(key, 1)));
        transact(&m, group.into(), vec![]).await.unwrap();
        m.signal(Event::Resume);
        until(&m, "parked", |s| {
            s.failed == 3 && s.pending + s.syncing == 0
        })
        .await;
        assert_eq!(server.borrow().dump("sites").len(), 7, "the rest has gone");
        server.borrow_mut().culprit = None;
        submit(&m, Intent::Retry(None)).await.unwrap();
        synced(&m).await;
        assert_eq!(server.borrow().dump("sites").len(), 10);
        assert_eq!(
            server.borrow().groups_of_batches.last().map(Vec::len),
            Some(3)
        );
    });
}

#[test]
fn a_group_that_is_too_large_for_a_server_goes_apart() {
    run(async {
        let (server, device) = rig();
        server.borrow_mut().batch_max = Some(2);
        let m = device.open().await;
        synced(&m).await;
        let group = (0..5).map(|n| new("sites", site(&format!("s{n}"), n)));
        transact(&m, group.collect(), vec![]).await.unwrap();
        synced(&m).await;
        assert_eq!(server.borrow().dump("sites").len(), 5);
    });
}

#[test]
fn what_is_due_and_waits_for_its_group_does_not_hide_when_that_is_due() {
    run(async {
        let (_, device) = rig();
        let m = device.open_idle().await;
        let group = vec![new("sites", site("a", 1)), new("sites", site("b", 1))];
        transact(&m, group, vec![]).await.unwrap();
        submit(&m, Intent::MarkSent(vec![1, 2])).await.unwrap();
        for (no, pause_ms) in [(1, 10.0), (2, 30_000.0)] {
            let fact = Fact::Refused {
                no,
                refusal: Refusal {
                    code: "busy".into(),
                    message: "busy".into(),
                },
                attempts: 1,
                next_attempt_ms: Some(m.now_ms() + pause_ms),
            };
            let mut replica = m.0.replica.borrow_mut();
            replica.apply(&fact, 0.0, Hlc::default());
        }
        pass(1_000).await;
        let view = m.view();
        assert!(!view.ready && view.due_ms > Some(m.now_ms()), "{view:?}");
    });
}

#[test]
fn a_transaction_that_rewrites_parts_of_a_group_joins_it() {
    run(async {
        let (_, device) = rig();
        let m = device.open_idle().await;
        let one = vec![new("sites", site("a", 1)), new("sites", site("b", 1))];
        transact(&m, one, vec![]).await.unwrap();
        let two = vec![new("sites", site("c", 1)), new("sites", site("d", 1))];
        transact(&m, two, vec![]).await.unwrap();
        assert_eq!(groups(&m), ["a.1", "a.1", "a.3", "a.3"]);
        update(&m, "sites", "a", json!({"n": 2})).await.unwrap();
        assert_eq!(groups(&m)[0], "a.1", "it stays in its group");
        let options = WriteOptions::default();
        let both = vec![
            ("sites", patch("b", json!({"n": 3})), options),
            ("sites", patch("c", json!({"n": 3})), options),
        ];
        transact(&m, both, vec![]).await.unwrap();
        assert_eq!(groups(&m), ["a.1"; 4], "nothing may be torn apart");
        let again = device.open_idle().await;
        settle(&again).await;
        assert_eq!(groups(&again), ["a.1"; 4]);
    });
}
