//! What came from elsewhere may have arrived from there, and in another form than the copy has it.

use super::rig::*;
use crate::driver::OutboxFilter;
use crate::engine::Event;
use crate::error::Code;
use crate::model::{Held, Verdict, Version};
use crate::options::Strategy;
use crate::replica::plan::Intent;
use crate::replica::plan_import::{Import, Left};
use serde_json::json;
use std::cell::RefCell;
use std::rc::Rc;

async fn take_in(m: &TestManager, mutations: Vec<Held<Record>>) {
    let import = Import {
        client: "a".into(),
        mutations,
        late: true,
        left: None,
        schema: None,
    };
    submit(m, Intent::Import(import)).await.unwrap();
}

/// A synced record `s`, and a device that cannot reach the server any more.
async fn offline(server: &Rc<RefCell<Server>>) -> TestManager {
    let device = Device::new("a", server, 1);
    let row = json!({"id": "s", "a": 0, "b": 0});
    server.borrow_mut().put("sites", row, "0");
    let m = device.open().await;
    synced(&m).await;
    server.borrow_mut().down = true;
    m
}

#[test]
fn a_copy_older_than_what_was_sent_shows_what_was_sent() {
    run(async {
        let server = Rc::new(RefCell::new(Server::default()));
        let m = offline(&server).await;
        create(&m, "sites", site("x", 1)).await.unwrap();
        update(&m, "sites", "s", json!({"a": 1})).await.unwrap();
        let copy = m.unsynced();
        // Rewritten under the same ids, and sent.
        update(&m, "sites", "x", json!({"n": 2})).await.unwrap();
        update(&m, "sites", "s", json!({"b": 2})).await.unwrap();
        server.borrow_mut().down = false;
        m.signal(Event::Sync);
        synced(&m).await;
        let truth = [r#"{"a":1,"b":2,"id":"s"}"#, r#"{"id":"x","n":2}"#];
        assert_eq!(server.borrow().dump("sites"), truth);

        let wiped = Device::new("b", &server, 2);
        let m = wiped.open_idle().await;
        take_in(&m, copy.clone()).await;
        m.signal(Event::Leader(true));
        synced(&m).await;
        assert_eq!(dump(&m, "sites").await, truth);

        // As well where the pages were faster than the copy.
        let late = Device::new("c", &server, 3);
        let m = late.open().await;
        synced(&m).await;
        take_in(&m, copy).await;
        synced(&m).await;
        assert_eq!(dump(&m, "sites").await, truth);
        assert!(m.conflicts().is_empty());
    });
}

/// Nobody knows what the backend has under the id; what is written on it goes on top of that, and shows so.
#[test]
fn what_is_written_on_a_copy_older_than_what_was_sent_shows_on_top_of_that() {
    run(async {
        let server = Rc::new(RefCell::new(Server::default()));
        let m = offline(&server).await;
        update(&m, "sites", "s", json!({"a": 1})).await.unwrap();
        let copy = m.unsynced();
        update(&m, "sites", "s", json!({"b": 2})).await.unwrap();
        server.borrow_mut().down = false;
        m.signal(Event::Sync);
        synced(&m).await;

        let wiped = Device::new("b", &server, 2);
        let m = wiped.open_idle().await;
        take_in(&m, copy.clone()).await;
        update(&m, "sites", "s", json!({"c": 3})).await.unwrap();
        m.signal(Event::Leader(true));
        synced(&m).await;
        let truth = [r#"{"a":1,"b":2,"c":3,"id":"s"}"#];
        assert_eq!(server.borrow().dump("sites"), truth);
        assert_eq!(dump(&m, "sites").await, truth);
        assert!(m.conflicts().is_empty());
    });
}

/// As before, but it is given up, or a page comes first.
#[test]
fn a_page_tells_what_was_sent_also_of_the_version_that_was_confirmed() {
    run(async {
        for page_first in [false, true] {
            let server = Rc::new(RefCell::new(Server::default()));
            let m = offline(&server).await;
            update(&m, "sites", "s", json!({"a": 1})).await.unwrap();
            let copy = m.unsynced();
            update(&m, "sites", "s", json!({"b": 2})).await.unwrap();
            server.borrow_mut().down = false;
            m.signal(Event::Sync);
            synced(&m).await;
            let truth = server.borrow().dump("sites");

            let wiped = Device::new("b", &server, 2);
            let m = wiped.open_idle().await;
            if page_first {
                m.signal(Event::Leader(true));
                synced(&m).await;
                m.signal(Event::Pause);
            }
            take_in(&m, copy).await;
            update(&m, "sites", "s", json!({"c": 3})).await.unwrap();
            let behind = m.outbox(&OutboxFilter::default())[1].mutation.no;
            let success = Verdict::Success {
                version: Version(2),
                data: None,
            };
            submit(&m, Intent::Verdicts(vec![(1, success)]))
                .await
                .unwrap();
            submit(&m, Intent::Discard(behind)).await.unwrap();
            m.signal(Event::Leader(true));
            m.signal(Event::Resume);
            synced(&m).await;
            assert_eq!(dump(&m, "sites").await, truth, "{page_first}");
        }
    });
}

/// The copy has what was given up; what was written instead was sent under another id, and later.
#[test]
fn what_was_given_up_does_not_go_over_what_was_sent_instead() {
    run(async {
        let server = Rc::new(RefCell::new(Server::default()));
        let m = offline(&server).await;
        update(&m, "sites", "s", json!({"a": 1})).await.unwrap();
        let copy = m.unsynced();
        submit(&m, Intent::Discard(1)).await.unwrap();
        update(&m, "sites", "s", json!({"a": 2})).await.unwrap();
        server.borrow_mut().down = false;
        m.signal(Event::Sync);
        synced(&m).await;
        let truth = [r#"{"a":2,"b":0,"id":"s"}"#];
        assert_eq!(server.borrow().dump("sites"), truth);

        let wiped = Device::new("b", &server, 2);
        let m = wiped.open_idle().await;
        take_in(&m, copy).await;
        m.signal(Event::Leader(true));
        synced(&m).await;
        assert_eq!(server.borrow().dump("sites"), truth);
        assert_eq!(dump(&m, "sites").await, truth);
    });
}

#[test]
fn what_is_written_on_a_copy_does_not_travel_under_an_id_that_may_be_known() {
    run(async {
        let server = Rc::new(RefCell::new(Server::default()));
        let m = offline(&server).await;
        server.borrow_mut().down = false;
        server.borrow_mut().faults.push_back(Fault::AnswerLost);
        update(&m, "sites", "s", json!({"a": 1})).await.unwrap();
        until(&m, "the answer is lost", |s| s.error.is_some()).await;
        update(&m, "sites", "s", json!({"b": 1})).await.unwrap();
        let copy = m.unsynced();
        assert_eq!(copy.len(), 2, "one in flight, and one behind it");
        synced(&m).await;

        let wiped = Device::new("b", &server, 2);
        let m = wiped.open_idle().await;
        take_in(&m, copy).await;
        update(&m, "sites", "s", json!({"b": 7})).await.unwrap();
        m.signal(Event::Leader(true));
        synced(&m).await;
        let truth = [r#"{"a":1,"b":7,"id":"s"}"#];
        assert_eq!(server.borrow().dump("sites"), truth);
        assert_eq!(dump(&m, "sites").await, truth);
    });
}

/// The creation was another tab's, which was killed before it had handed it over.
#[test]
fn a_change_of_a_record_whose_creation_nobody_has_makes_it() {
    for arrived in [false, true] {
        run(async move {
            let server = Rc::new(RefCell::new(Server::default()));
            let m = offline(&server).await;
            server.borrow_mut().down = false;
            let fault = if arrived {
                Fault::AnswerLost
            } else {
                Fault::Lost
            };
            server.borrow_mut().faults.push_back(fault);
            create(&m, "sites", site("x", 1)).await.unwrap();
            until(&m, "no answer", |s| s.error.is_some()).await;
            server.borrow_mut().down = true;
            update(&m, "sites", "x", json!({"b": 2})).await.unwrap();
            let mut copy = m.unsynced();
            assert_eq!(copy.len(), 2, "one in flight, and one behind it");
            copy.remove(0);
            m.signal(Event::Close);

            server.borrow_mut().down = false;
            let mut wiped = Device::new("b", &server, 2);
            wiped.specs[0].strategy = Strategy::ServerWins;
            let m = wiped.open_idle().await;
            take_in(&m, copy).await;
            m.signal(Event::Leader(true));
            synced(&m).await;
            assert_eq!(m.status().failed, 0, "{arrived}");
            let truth = [r#"{"a":0,"b":0,"id":"s"}"#, r#"{"b":2,"id":"x","n":1}"#];
            assert_eq!(server.borrow().dump("sites"), truth, "{arrived}");
            assert_eq!(dump(&m, "sites").await, truth, "{arrived}");
            assert!(m.conflicts().is_empty());
        });
    }
}

/// By the clock it may be older: the new database has not compared its own with the server's yet.
#[test]
fn what_is_written_on_a_copy_that_is_behind_stays_on_top() {
    run(async {
        let server = Rc::new(RefCell::new(Server::default()));
        let m = offline(&server).await;
        update(&m, "sites", "s", json!({"a": 1})).await.unwrap();
        let copy = m.unsynced();
        submit(&m, Intent::Discard(1)).await.unwrap();
        update(&m, "sites", "s", json!({"a": 2})).await.unwrap();
        server.borrow_mut().down = false;
        m.signal(Event::Sync);
        synced(&m).await;

        let mut wiped = Device::new("b", &server, 2);
        wiped.specs[0].strategy = Strategy::ServerWins;
        let m = wiped.open_idle().await;
        take_in(&m, copy).await;
        update(&m, "sites", "s", json!({"b": 3})).await.unwrap();
        m.signal(Event::Leader(true));
        synced(&m).await;
        let truth = [r#"{"a":2,"b":3,"id":"s"}"#];
        assert_eq!(server.borrow().dump("sites"), truth);
        assert_eq!(dump(&m, "sites").await, truth);
    });
}

#[test]
fn what_came_as_a_creation_and_is_deleted_may_be_at_the_backend() {
    run(async {
        let server = Rc::new(RefCell::new(Server::default()));
        let m = offline(&server).await;
        // A record deleted and made anew: the creation waits behind the deletion.
        server.borrow_mut().down = false;
        server.borrow_mut().faults.push_back(Fault::AnswerLost);
        delete(&m, "sites", "s").await.unwrap();
        until(&m, "the answer is lost", |s| s.error.is_some()).await;
        create(&m, "sites", json!({"id": "s", "a": 5, "b": 5}))
            .await
            .unwrap();
        let copy = m.unsynced();
        assert_eq!(copy.len(), 2);
        synced(&m).await;
        assert!(server.borrow().has("sites", "s"));

        let wiped = Device::new("b", &server, 2);
        let m = wiped.open_idle().await;
        take_in(&m, copy).await;
        delete(&m, "sites", "s").await.unwrap();
        m.signal(Event::Leader(true));
        synced(&m).await;
        assert!(!server.borrow().has("sites", "s"));
        assert_eq!(dump(&m, "sites").await, [""; 0]);
    });
}

#[test]
fn what_is_written_before_the_page_comes_is_no_conflict() {
    for then in ["", "starts again", "folds", "is wiped again"] {
        run(async move {
            let server = Rc::new(RefCell::new(Server::default()));
            let m = offline(&server).await;
            create(&m, "sites", site("x", 1)).await.unwrap();
            update(&m, "sites", "s", json!({"a": 1})).await.unwrap();
            let copy = m.unsynced();
            m.signal(Event::Close);

            server.borrow_mut().down = false;
            let mut wiped = Device::new("b", &server, 2);
            wiped.specs[0].strategy = Strategy::ServerWins;
            let mut m = wiped.open_idle().await;
            take_in(&m, copy).await;
            m.signal(Event::Leader(true));
            until(&m, "confirmed", |s| s.pending + s.syncing == 0).await;
            assert!(m.status().synced_through_ms.is_none(), "not pulled yet");
            if then == "folds" {
                assert!(m.fold().await.unwrap());
            }
            if ["starts again", "folds"].contains(&then) {
                m.signal(Event::Close);
                m = wiped.open_idle().await;
            }
            m.signal(Event::Leader(false));
            update(&m, "sites", "x", json!({"n": 2})).await.unwrap();
            update(&m, "sites", "s", json!({"b": 2})).await.unwrap();
            if then == "is wiped again" {
                let copy = m.unsynced();
                m.signal(Event::Close);
                let mut wiped = Device::new("c", &server, 3);
                wiped.specs[0].strategy = Strategy::ServerWins;
                m = wiped.open_idle().await;
                let import = Import {
                    client: "b".into(),
                    mutations: copy,
                    late: true,
                    left: None,
                    schema: None,
                };
                submit(&m, Intent::Import(import)).await.unwrap();
            }
            m.signal(Event::Leader(true));
            synced(&m).await;
            let truth = [r#"{"a":1,"b":2,"id":"s"}"#, r#"{"id":"x","n":2}"#];
            assert_eq!(server.borrow().dump("sites"), truth);
            assert_eq!(dump(&m, "sites").await, truth);
            assert!(m.conflicts().is_empty());
        });
    }
}

#[test]
fn what_came_with_a_copy_and_is_gone_at_the_backend_is_forgotten() {
    for pulled_before in [false, true] {
        run(async move {
            let server = Rc::new(RefCell::new(Server::default()));
            let m = offline(&server).await;
            update(&m, "sites", "s", json!({"a": 1})).await.unwrap();
            let copy = m.unsynced();
            m.signal(Event::Close);
            // No tombstone tells of it any more.
            server.borrow_mut().lose("sites", "s");
            server.borrow_mut().down = false;
            server.borrow_mut().put("sites", site("y", 1), "1");

            let wiped = Device::new("b", &server, 2);
            let m = wiped.open_idle().await;
            if pulled_before {
                m.signal(Event::Leader(true));
                synced(&m).await;
            }
            take_in(&m, copy).await;
            m.signal(Event::Leader(true));
            until(&m, "parked", |s| s.failed == 1).await;
            submit(&m, Intent::Discard(1)).await.unwrap();
            synced(&m).await;
            pass(crate::limits::MISSED_MS as u64 + 1).await;
            synced(&m).await;
            let shown = dump(&m, "sites").await;
            assert_eq!(shown, server.borrow().dump("sites"), "{pulled_before}");
            assert!(m.status().synced_through_ms.is_some());
        });
    }
}

#[test]
fn what_was_confirmed_long_ago_and_is_gone_since_does_not_stay() {
    run(async {
        let server = Rc::new(RefCell::new(Server::default()));
        let m = offline(&server).await;
        create(&m, "sites", site("x", 1)).await.unwrap();
        let copy = m.unsynced();
        server.borrow_mut().down = false;
        m.signal(Event::Sync);
        synced(&m).await;
        m.signal(Event::Close);
        // The server remembers the answer, and not the record.
        server.borrow_mut().lose("sites", "x");

        let wiped = Device::new("b", &server, 2);
        let m = wiped.open_idle().await;
        take_in(&m, copy).await;
        m.signal(Event::Leader(true));
        synced(&m).await;
        pass(crate::limits::MISSED_MS as u64 + 1).await;
        synced(&m).await;
        assert_eq!(dump(&m, "sites").await, server.borrow().dump("sites"));
    });
}

/// It had arrived, and is parked because its repeat was refused as a whole: nobody asks for its key.
#[test]
fn a_creation_that_came_with_a_copy_is_found_under_the_key_it_was_given() {
    run(async {
        let server = Rc::new(RefCell::new(Server::default()));
        server.borrow_mut().assigns = Some(Assigns::Blindly);
        let m = offline(&server).await;
        server.borrow_mut().down = false;
        server.borrow_mut().faults.push_back(Fault::AnswerLost);
        create(&m, "sites", site("x", 1)).await.unwrap();
        until(&m, "the answer is lost", |s| s.error.is_some()).await;
        let copy = m.unsynced();
        m.signal(Event::Close);

        let wiped = Device::new("b", &server, 2);
        let m = wiped.open_idle().await;
        take_in(&m, copy).await;
        let refused = Fault::Status(413, None);
        server.borrow_mut().faults.push_back(refused);
        m.signal(Event::Leader(true));
        until(&m, "parked", |s| s.failed == 1).await;
        until(&m, "confirmed", |s| s.failed == 0).await;
        assert_eq!(dump(&m, "sites").await, server.borrow().dump("sites"));
    });
}

/// Opened by a version of the app that declares only `sites`.
async fn without_notes(device: &mut Device) -> TestManager {
    device.specs.retain(|spec| *spec.name == *"sites");
    device.open_idle().await
}

#[test]
fn of_a_copy_all_is_taken_in_that_can_be() {
    run(async {
        let server = Rc::new(RefCell::new(Server::default()));
        let m = offline(&server).await;
        create(&m, "notes", site("n", 1)).await.unwrap();
        for key in ["x", "y", "z"] {
            create(&m, "sites", site(key, 1)).await.unwrap();
        }
        let mut copy = m.unsynced();
        m.signal(Event::Close);
        // The key field was another one then.
        copy[3].mutation.value = Some(Rc::new(json!({"old": "z"})));

        let mut wiped = Device::new("b", &server, 2);
        let m = without_notes(&mut wiped).await;
        create(&m, "sites", site("x", 2)).await.unwrap();
        let left = Rc::new(RefCell::new(Left::default()));
        let import = Import {
            client: "a".into(),
            mutations: copy,
            late: true,
            left: Some(left.clone()),
            schema: None,
        };
        let mut rest = import.clone();
        rest.mutations.retain(|held| *held.mutation.key == *"x");
        let taken = submit(&m, Intent::Import(import)).await;
        assert_eq!(taken, Ok(3));
        assert_eq!(left.borrow().nos, [2], "a change of our own is in the way");
        let why = left.borrow().why.clone().unwrap();
        assert_eq!(why.code, Code::InvalidOptions);
        assert_eq!(m.status().pending, 4);
        let z = m.find_mutation("a.4").unwrap();
        submit(&m, Intent::Discard(z)).await.unwrap();
        // As in a log with changes of a collection that is not declared any more: they are sent.
        server.borrow_mut().down = false;
        m.signal(Event::Leader(true));
        synced(&m).await;
        assert!(server.borrow().has("notes", "n"));
        // Nothing is in the way any more.
        assert_eq!(submit(&m, Intent::Import(rest)).await, Ok(1));
        assert_eq!(left.borrow().nos, [0; 0]);
    });
}
