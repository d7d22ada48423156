//! Answers that are no answers, by class.

use super::rig::*;
use crate::driver::Status;
use crate::engine::{Event, Network, Phase};
use crate::error::Code;
use crate::limits;
use crate::model::{Page, Pulled, Version};
use crate::replica::plan::Intent;
use serde_json::{Value as Json, json};
use std::cell::RefCell;
use std::rc::Rc;

fn rig() -> (Rc<RefCell<Server>>, Device) {
    let server = Rc::new(RefCell::new(Server::default()));
    let device = Device::new("a", &server, 9);
    (server, device)
}

fn code(status: &Status) -> Option<Code> {
    status.error.as_ref().map(|(e, _)| e.code)
}

#[test]
fn unauthorized_asks_for_credentials_once_then_waits_for_the_app() {
    run(async {
        let (server, device) = rig();
        server.borrow_mut().stale_token = true;
        let m = device.open().await;
        create(&m, "sites", site("x", 1)).await.unwrap();
        until(&m, "sent with fresh credentials", |s| {
            s.pending + s.syncing == 0
        })
        .await;
        for _ in 0..20 {
            server
                .borrow_mut()
                .faults
                .push_back(Fault::Status(401, None));
        }
        create(&m, "sites", site("y", 1)).await.unwrap();
        until(&m, "needs auth", |s| s.phase == Phase::NeedsAuth).await;
        let requests = server.borrow().requests;
        pass(600_000).await;
        assert_eq!(
            server.borrow().requests,
            requests,
            "it does not hammer the server"
        );
        let entry = m.outbox(&Default::default()).remove(0);
        assert_eq!((entry.state, entry.mutation.attempts), ("pending", 0));
        server.borrow_mut().faults.clear();
        m.signal(Event::Resume);
        synced(&m).await;
        assert_eq!(server.borrow().rows.len(), 2);
    });
}

#[test]
fn too_large_batches_are_halved_until_they_fit() {
    run(async {
        let (server, device) = rig();
        server.borrow_mut().batch_max = Some(9);
        let m = device.open().await;
        for n in 0..60 {
            create(&m, "sites", site(&format!("s{n}"), n))
                .await
                .unwrap();
        }
        synced(&m).await;
        assert_eq!((server.borrow().rows.len(), m.status().failed), (60, 0));
    });
}

#[test]
fn the_culprit_of_a_refused_request_is_found_and_parked_alone() {
    run(async {
        let (server, device) = rig();
        let m = device.open_idle().await;
        for n in 0..8 {
            create(&m, "sites", site(&format!("s{n}"), n))
                .await
                .unwrap();
        }
        // 8, 4, 2, 1: the first one is to blame.
        for _ in 0..4 {
            server
                .borrow_mut()
                .faults
                .push_back(Fault::Status(422, None));
        }
        m.signal(Event::Leader(true));
        until(&m, "the others have gone", |s| {
            s.failed == 1 && s.pending + s.syncing == 0
        })
        .await;
        assert_eq!(server.borrow().rows.len(), 7);
        assert_eq!(queue(&m), ["1 create failed"]);
    });
}

#[test]
fn throttling_waits_as_told() {
    run(async {
        let (server, device) = rig();
        let m = device.open().await;
        synced(&m).await;
        server
            .borrow_mut()
            .faults
            .push_back(Fault::Status(429, Some(60_000.0)));
        create(&m, "sites", site("x", 1)).await.unwrap();
        until(&m, "throttled", |s| code(s) == Some(Code::Throttled)).await;
        let requests = server.borrow().requests;
        m.signal(Event::Sync);
        pass(55_000).await;
        assert_eq!(server.borrow().requests, requests, "not even when asked");
        until(&m, "sent", |s| s.pending + s.syncing == 0).await;
    });
}

#[test]
fn a_mismatched_answer_marks_nothing_as_done() {
    run(async {
        let (server, device) = rig();
        let m = device.open().await;
        synced(&m).await;
        for fault in [Fault::ShortAnswer, Fault::ForeignAnswer] {
            server.borrow_mut().faults.push_back(fault);
            create(
                &m,
                "sites",
                site(
                    &format!("{fault_no}", fault_no = server.borrow().requests),
                    1,
                ),
            )
            .await
            .unwrap();
            until(&m, "odd answer", |s| code(s) == Some(Code::ProtocolError)).await;
            assert_eq!(m.status().pending, 1);
            until(&m, "sent again", |s| s.pending + s.syncing == 0).await;
        }
        assert_eq!(server.borrow().effects.len(), 2);
    });
}

#[test]
fn a_server_that_never_answers_runs_into_the_time_limit() {
    run(async {
        let (server, device) = rig();
        let m = device.open().await;
        synced(&m).await;
        server.borrow_mut().faults.push_back(Fault::Hangs);
        create(&m, "sites", site("x", 1)).await.unwrap();
        until(&m, "time-out", |s| code(s) == Some(Code::Timeout)).await;
        assert_eq!(m.status().network, Network::Unreachable);
        until(&m, "sent", |s| s.pending + s.syncing == 0).await;
        assert!(m.status().error.is_none());
    });
}

#[test]
fn pause_and_offline_give_requests_up_and_resume_goes_on() {
    run(async {
        let (server, device) = rig();
        let m = device.open().await;
        synced(&m).await;
        for (stop, go, phase) in [
            (Event::Pause, Event::Resume, Phase::Paused),
            (Event::Offline, Event::Online, Phase::Offline),
        ] {
            server.borrow_mut().faults.push_back(Fault::Hangs);
            update_or_create(&m).await;
            until(&m, "in flight", |s| s.syncing == 1).await;
            m.signal(stop);
            pass(1).await;
            assert_eq!(
                (m.status().phase, m.status().pending, m.status().syncing),
                (phase, 1, 0)
            );
            let requests = server.borrow().requests;
            pass(100_000).await;
            assert_eq!(server.borrow().requests, requests);
            m.signal(go);
            until(&m, "sent", |s| s.pending + s.syncing == 0).await;
        }
    });
}

async fn until_server(server: &Rc<RefCell<Server>>, wanted: impl Fn(&Server) -> bool) {
    for _ in 0..1_000 {
        if wanted(&server.borrow()) {
            return;
        }
        pass(100).await;
    }
    panic!("the server was not reached");
}

#[test]
fn a_delete_of_what_was_refused_reaches_a_server_that_has_it_after_all() {
    run(async {
        let (server, device) = rig();
        let m = device.open().await;
        synced(&m).await;
        server.borrow_mut().faults.push_back(Fault::AnswerLost);
        // No pull tells that it has arrived, so it is sent again in the end.
        server.borrow_mut().no_pulls = true;
        create(&m, "sites", site("x", 1)).await.unwrap();
        until_server(&server, |s| s.dump("sites").len() == 1).await;
        server.borrow_mut().culprit = Some(("x".into(), 403));
        for _ in 0..10 {
            m.signal(Event::Sync);
            pass(1_000).await;
        }
        until(&m, "parked", |s| s.failed == 1).await;
        assert_eq!(server.borrow().dump("sites").len(), 1);
        server.borrow_mut().culprit = None;
        server.borrow_mut().no_pulls = false;
        delete(&m, "sites", "x").await.unwrap();
        synced(&m).await;
        assert_eq!(server.borrow().dump("sites"), Vec::<String>::new());
    });
}

#[test]
fn what_is_given_up_before_it_begins_does_not_begin() {
    run(async {
        let (server, device) = rig();
        let m = device.open().await;
        synced(&m).await;
        create(&m, "sites", site("x", 1)).await.unwrap();
        let requests = server.borrow().requests;
        // Decided to send, and told to stop before it could.
        m.signal(Event::Sync);
        m.signal(Event::Leader(false));
        pass(1_000).await;
        assert_eq!(server.borrow().requests, requests);
        m.signal(Event::Leader(true));
        synced(&m).await;
        assert_eq!(server.borrow().rows.len(), 1);
    });
}

async fn update_or_create(m: &TestManager) {
    if update(m, "sites", "x", json!({ "n": 2 })).await.is_err() {
        create(m, "sites", site("x", 1)).await.unwrap();
    }
}

#[test]
fn failures_back_off_and_a_burst_of_them_counts_once() {
    run(async {
        let (server, device) = rig();
        server.borrow_mut().down = true;
        let m = device.open_idle().await;
        for n in 0..700 {
            create(&m, "sites", site(&format!("s{n}"), n))
                .await
                .unwrap();
        }
        m.signal(Event::Leader(true));
        pass(600_000).await;
        let requests = server.borrow().requests;
        // Ten minutes of full jitter up to five minutes, at most five requests a time.
        assert!(
            (10..150).contains(&requests),
            "{requests} requests in ten minutes"
        );
        server.borrow_mut().down = false;
        m.signal(Event::Online);
        until(&m, "sent at once", |s| s.pending + s.syncing == 0).await;
        assert_eq!(server.borrow().effects.len(), 700);
    });
}

#[test]
fn conflicts_are_settled_logged_and_not_met_with_oneself() {
    run(async {
        let (server, device) = rig();
        server
            .borrow_mut()
            .put("sites", site("x", 1), "0000000000001-0000-b");
        let m = device.open().await;
        synced(&m).await;
        // Ours is later: it goes on top.
        server
            .borrow_mut()
            .put("sites", site("x", 2), "0000000000002-0000-b");
        update(&m, "sites", "x", json!({ "n": 3 })).await.unwrap();
        synced(&m).await;
        assert_eq!(server.borrow().dump("sites"), [r#"{"id":"x","n":3}"#]);
        // Theirs is later: it stays.
        server
            .borrow_mut()
            .put("sites", site("x", 4), "9999999999999-0000-b");
        update(&m, "sites", "x", json!({ "n": 5 })).await.unwrap();
        synced(&m).await;
        assert_eq!(dump(&m, "sites").await, [r#"{"id":"x","n":4}"#]);
        let log = m.conflicts();
        let outcomes: Vec<_> = log.iter().map(|c| c.outcome.as_str()).collect();
        assert_eq!(outcomes, ["remote", "local"], "newest first");
        assert_eq!(
            log[0].local.as_ref().unwrap().to_string(),
            r#"{"id":"x","n":5}"#
        );
        assert_eq!(
            log[0].base.as_ref().unwrap().to_string(),
            r#"{"id":"x","n":3}"#
        );
        // A lost answer, then an edit on the old base: the server's newer version is our own.
        server.borrow_mut().faults.push_back(Fault::AnswerLost);
        create(&m, "sites", site("y", 1)).await.unwrap();
        pass(100).await;
        update(&m, "sites", "y", json!({ "n": 2 })).await.unwrap();
        synced(&m).await;
        assert_eq!(m.conflicts().len(), 2, "no conflict with oneself");
        assert_eq!(dump(&m, "sites").await, server.borrow().dump("sites"));
    });
}

#[test]
fn what_is_refused_as_a_whole_may_have_arrived_before() {
    run(async {
        for assigns in [None, Some(Assigns::Blindly)] {
            let server = Rc::new(RefCell::new(Server::default()));
            server.borrow_mut().assigns = assigns;
            let device = Device::new("a", &server, 7);
            let m = device.open().await;
            synced(&m).await;
            server.borrow_mut().faults.push_back(Fault::AnswerLost);
            create(&m, "sites", site("x", 1)).await.unwrap();
            until(&m, "sent", |_| server.borrow().received.len() == 1).await;
            m.signal(Event::Close);

            // The next tab knows of no answer that was lost, so it asks at once.
            let refused = Fault::Status(413, None);
            server.borrow_mut().faults.push_back(refused);
            let m = device.open_idle().await;
            settle(&m).await;
            m.signal(Event::Leader(true));
            synced(&m).await;
            assert!(device.told.0.borrow().contains(&"parked 1".to_owned()));
            assert_eq!(m.status().failed, 0, "found again");
            assert_eq!(m.state("sites", "x").unwrap(), Some("synced"));
            assert_eq!(server.borrow().effects.len(), 1);
            assert_eq!(dump(&m, "sites").await, server.borrow().dump("sites"));
        }
    });
}

#[test]
fn a_page_that_contradicts_itself_is_refused_whole() {
    run(async {
        let (_server, device) = rig();
        let m = device.open_idle().await;
        let pulled = |key: &str, data: Json| Pulled {
            collection: "sites".into(),
            key: key.into(),
            version: Version(1),
            data: Some(Rc::new(data)),
            at: None,
        };
        for (key, id) in [("x", json!("y")), ("x", json!(7)), ("", json!(""))] {
            let page = Page {
                changes: vec![
                    pulled("good", site("good", 1)),
                    pulled(key, json!({ "id": id })),
                ],
                checkpoint: "1".into(),
                has_more: false,
                server_ms: None,
            };
            let refused = submit(&m, Intent::Page(None, page)).await.unwrap_err();
            assert_eq!(refused.code, Code::ProtocolError);
            assert_eq!(dump(&m, "sites").await, [""; 0]);
        }
    });
}

#[test]
fn what_was_deleted_while_its_creation_was_refused_is_gone() {
    run(async {
        let (server, device) = rig();
        server.borrow_mut().poison.insert("x".into(), false);
        let m = device.open().await;
        create(&m, "sites", site("x", 1)).await.unwrap();
        until(&m, "under way", |s| s.syncing == 1).await;
        delete(&m, "sites", "x").await.unwrap();
        assert_eq!(queue(&m), ["1 create syncing", "2 delete pending"]);
        // An earlier request with the creation may have arrived, for all that is known.
        until(&m, "refused as well", |s| s.failed == 1).await;
        assert!(queue(&m)[0].ends_with("delete failed"), "{:?}", queue(&m));
        server.borrow_mut().poison.clear();
        submit(&m, Intent::Retry(None)).await.unwrap();
        synced(&m).await;
        assert_eq!((queue(&m).len(), m.state("sites", "x")), (0, Ok(None)));
        assert_eq!(server.borrow().effects.len(), 1);
        assert!(!server.borrow().has("sites", "x"));
    });
}

#[test]
fn keys_are_refused_that_could_not_be_told_apart() {
    run(async {
        let (_server, device) = rig();
        let m = device.open_idle().await;
        for key in [
            String::new(),
            "a\0b".into(),
            "x".repeat(limits::KEY_BYTES_MAX + 1),
        ] {
            let refused = create(&m, "sites", site(&key, 1)).await.unwrap_err();
            assert_eq!(refused.code, Code::InvalidKey);
        }
        let longest = "x".repeat(limits::KEY_BYTES_MAX);
        create(&m, "sites", site(&longest, 1)).await.unwrap();
    });
}

#[test]
fn pages_that_cannot_be_stored_keep_no_repeat_for_ever() {
    run(async {
        let (server, device) = rig();
        let m = device.open().await;
        synced(&m).await;
        for key in (0..20).map(|n| if n == 0 { "\0".into() } else { format!("s{n}") }) {
            server.borrow_mut().put("sites", site(&key, 1), "0");
        }
        server.borrow_mut().faults.push_back(Fault::AnswerLost);
        create(&m, "sites", site("x", 1)).await.unwrap();
        until(&m, "confirmed", |s| s.pending + s.syncing == 0).await;
        assert_eq!(server.borrow().effects, ["a.1"]);
    });
}

/// As those of a backend in the page's own memory.
#[test]
fn pages_that_come_at_once_are_stored_in_their_order() {
    run(async {
        let (server, mut device) = rig();
        for n in 0..10 {
            let key = format!("s{n:02}");
            server.borrow_mut().put("sites", site(&key, n), "0");
        }
        device.backend.latency_ms = 0;
        let m = device.open().await;
        synced(&m).await;
        let told = device.told.0.borrow().join("; ");
        assert!(!told.contains("error"), "{told}");
    });
}

/// One that was restored from a backup, say.
#[test]
fn a_backend_whose_answers_stay_behind_its_pages_is_asked_now_and_then() {
    run(async {
        let (server, device) = rig();
        server.borrow_mut().put("sites", site("x", 1), "0");
        let m = device.open().await;
        synced(&m).await;
        m.signal(Event::Leader(false));
        update(&m, "sites", "x", json!({ "n": 2 })).await.unwrap();
        let page = Page {
            changes: vec![Pulled {
                collection: "sites".into(),
                key: "x".into(),
                version: Version(9),
                data: Some(Rc::new(site("x", 5))),
                at: Some("0000000000001-0000-z".into()),
            }],
            checkpoint: "0.1".into(),
            has_more: false,
            server_ms: None,
        };
        let since = m.0.replica.borrow().checkpoint();
        submit(&m, Intent::Page(since, page)).await.unwrap();
        server.borrow_mut().put("sites", site("x", 3), "0");
        let before = server.borrow().requests;
        m.signal(Event::Leader(true));
        pass(60_000).await;
        let asked = server.borrow().requests - before;
        assert!((20..400).contains(&asked), "{asked}");
        for _ in 0..9 {
            server.borrow_mut().put("sites", site("x", 3), "0");
        }
        synced(&m).await;
        assert_eq!(dump(&m, "sites").await, server.borrow().dump("sites"));
    });
}
