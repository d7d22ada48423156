//! Pulling everything anew, after the backend has forgotten a checkpoint.

use super::rig::*;
use crate::driver::OutboxFilter;
use crate::engine::Event;
use crate::limits;
use crate::model::{Verdict, Version};
use crate::replica::plan::Intent;
use crate::store::memory::Fault as Disk;
use serde_json::json;
use std::cell::RefCell;
use std::rc::Rc;

/// A device that has what the server has: ten sites, two pages.
async fn filled() -> (Rc<RefCell<Server>>, Device, TestManager) {
    let server = Rc::new(RefCell::new(Server::default()));
    let device = Device::new("a", &server, 5);
    for n in 0..10 {
        let at = format!("1763000000000-000{n}-other");
        server
            .borrow_mut()
            .put("sites", site(&n.to_string(), n), &at);
    }
    let m = device.open().await;
    synced(&m).await;
    assert_eq!(m.status().collections[0].count, 10);
    (server, device, m)
}

/// Synced, and so long after the last pull from the beginning that what is missed is given up.
async fn forgotten(m: &TestManager) {
    synced(m).await;
    pass(limits::MISSED_MS as u64 + 1).await;
    synced(m).await;
}

async fn assert_equal(m: &TestManager, server: &Rc<RefCell<Server>>) {
    assert_eq!(dump(m, "sites").await, server.borrow().dump("sites"));
}

#[test]
fn what_does_not_come_any_more_is_forgotten_and_may_come_back() {
    run(async {
        let (server, device, m) = filled().await;
        let three = server.borrow_mut().lose("sites", "3");
        let nine = server.borrow_mut().lose("sites", "9");
        m.signal(Event::Sync);
        forgotten(&m).await;
        assert_eq!(m.state("sites", "3").unwrap(), None);
        assert_eq!(m.status().collections[0].count, 8);
        assert_equal(&m, &server).await;

        // It lasts: over a start, and over a compaction before one.
        drop(m);
        let m = device.open().await;
        synced(&m).await;
        assert_equal(&m, &server).await;
        m.fold().await.unwrap();
        drop(m);
        let m = device.open().await;
        synced(&m).await;
        assert_equal(&m, &server).await;

        server.borrow_mut().show_again("sites", "3", three);
        m.signal(Event::Sync);
        synced(&m).await;
        assert_eq!(
            m.state("sites", "3").unwrap(),
            Some("synced"),
            "of the same version"
        );
        server.borrow_mut().generation += 1;
        server.borrow_mut().show_again("sites", "9", nine);
        m.signal(Event::Sync);
        forgotten(&m).await;
        assert_equal(&m, &server).await;
    });
}

#[test]
fn what_is_queued_for_it_stays_queued() {
    run(async {
        let (server, _, m) = filled().await;
        m.signal(Event::Pause);
        update(&m, "sites", "3", json!({"n": 33})).await.unwrap();
        create(&m, "sites", site("new", 1)).await.unwrap();
        server.borrow_mut().lose("sites", "3");
        server.borrow_mut().lose("sites", "4");
        m.signal(Event::Resume);
        forgotten(&m).await;
        // The server has never heard of it: the user decides.
        assert_eq!(m.status().failed, 1);
        assert_eq!(m.state("sites", "3").unwrap(), Some("failed"));
        assert_eq!(m.get("sites", "3").unwrap().unwrap()["n"], 33);
        assert_eq!(m.state("sites", "4").unwrap(), None);
        assert_eq!(m.state("sites", "new").unwrap(), Some("synced"));
        let entry = &m.outbox(&OutboxFilter::default())[0];
        submit(&m, Intent::Discard(entry.mutation.no))
            .await
            .unwrap();
        assert_equal(&m, &server).await;
    });
}

#[test]
fn nothing_is_forgotten_before_the_last_page_whatever_comes_between() {
    run(async {
        for trouble in 0..4 {
            let (server, device, m) = filled().await;
            m.signal(Event::Pause);
            server.borrow_mut().lose("sites", "0");
            server.borrow_mut().lose("sites", "8");
            let pulls = server.borrow().pulls;
            m.signal(Event::Resume);
            // The first page of the new pull has come.
            until(&m, "a page", |_| server.borrow().pulls == pulls + 1).await;
            assert_eq!(m.status().collections[0].count, 10, "not yet");
            let m = match trouble {
                0 => {
                    server.borrow_mut().faults.push_back(Fault::Lost);
                    m
                }
                1 => {
                    server.borrow_mut().generation += 1;
                    m
                }
                2 => {
                    device.store.fail_next(Disk::Full);
                    m
                }
                _ => {
                    m.signal(Event::Close);
                    drop(m);
                    device.open().await
                }
            };
            create(&m, "sites", site("new", 1)).await.ok();
            m.signal(Event::Sync);
            forgotten(&m).await;
            assert_equal(&m, &server).await;
            assert_eq!(m.status().failed, 0, "trouble {trouble}");
        }
    });
}

#[test]
fn another_tab_begins_it_anew() {
    run(async {
        let (server, device, m) = filled().await;
        m.signal(Event::Pause);
        server.borrow_mut().lose("sites", "0");
        let pulls = server.borrow().pulls;
        m.signal(Event::Resume);
        until(&m, "a page", |_| server.borrow().pulls == pulls + 1).await;
        m.signal(Event::Leader(false));
        let other = device.open().await;
        forgotten(&other).await;
        assert_equal(&other, &server).await;

        // The first one leads again, and goes on where the other has got to.
        other.signal(Event::Close);
        drop(other);
        server
            .borrow_mut()
            .put("sites", site("late", 1), "1763000009999-0000-other");
        m.submit_catch_up();
        m.signal(Event::Leader(true));
        synced(&m).await;
        assert_equal(&m, &server).await;
    });
}

#[test]
fn what_was_confirmed_meanwhile_is_not_forgotten() {
    run(async {
        let (server, _, m) = filled().await;
        server.borrow_mut().lose("sites", "0");
        let pulls = server.borrow().pulls;
        m.signal(Event::Sync);
        until(&m, "a page", |_| server.borrow().pulls == pulls + 1).await;
        update(&m, "sites", "5", json!({"n": 55})).await.unwrap();
        create(&m, "sites", site("new", 1)).await.unwrap();
        forgotten(&m).await;
        assert_equal(&m, &server).await;
        assert_eq!(m.get("sites", "5").unwrap().unwrap()["n"], 55);
        assert_eq!(m.state("sites", "new").unwrap(), Some("synced"));
    });
}

#[test]
fn what_is_held_back_for_a_while_stays() {
    run(async {
        let (server, _, m) = filled().await;
        let held = server.borrow_mut().lose("sites", "3");
        server.borrow_mut().lose("sites", "4");
        synced(&m).await;
        assert_eq!(m.status().collections[0].count, 10, "they are only missed");
        let pulls = server.borrow().pulls;
        pass(limits::MISSED_MS as u64 / 2).await;
        assert!(server.borrow().pulls < pulls + 3, "no pull after the other");
        server.borrow_mut().show_again("sites", "3", held);
        // Whatever is pulled meanwhile goes on where the pages ended.
        m.signal(Event::Poke);
        synced(&m).await;
        assert_eq!(m.state("sites", "3").unwrap(), Some("synced"));
        assert_eq!(m.status().collections[0].count, 10);
        // Nobody asks: a pull is due by itself.
        pass(limits::MISSED_MS as u64 / 2 + 1_000).await;
        assert_equal(&m, &server).await;
        assert_eq!(m.state("sites", "4").unwrap(), None);
        assert!(m.0.replica.borrow().checkpoint().is_some());
    });
}

#[test]
fn what_is_held_back_stays_for_as_long_whatever_the_clock_says() {
    run(async {
        for hours in [2.0, -2.0] {
            let (server, device, m) = filled().await;
            server.borrow_mut().lose("sites", "3");
            synced(&m).await;
            device.skew_ms.set(hours * 3_600_000.0);
            synced(&m).await;
            let count = || m.status().collections[0].count;
            assert_eq!(count(), 10, "{hours} h: it is only missed");
            pass(limits::MISSED_MS as u64 + 1_000).await;
            assert_eq!(count(), 9, "{hours} h");
        }
    });
}

/// A deletion of what the backend has no memory of is confirmed all the same.
#[test]
fn what_is_deleted_and_was_purged_does_not_come_back() {
    run(async {
        let (server, device, m) = filled().await;
        m.signal(Event::Pause);
        server.borrow_mut().lose("sites", "3");
        server.borrow_mut().generation -= 1;
        delete(&m, "sites", "3").await.unwrap();
        m.signal(Event::Resume);
        synced(&m).await;
        assert_equal(&m, &server).await;
        create(&m, "sites", site("3", 33)).await.unwrap();
        assert_eq!(queue(&m), ["2 create pending"]);
        // A backend that has forgotten the versions as well: that is no older state than ours.
        let nothing = Verdict::Conflict {
            version: Version(0),
            data: None,
            at: None,
        };
        server.borrow_mut().say("a.2", nothing);
        synced(&m).await;
        assert_eq!(
            m.conflicts().len(),
            1,
            "settled by the rule, not asked for ever"
        );
        create(&m, "sites", site("3", 34)).await.unwrap();
        synced(&m).await;
        assert_eq!(server.borrow().effects, ["a.1", "a.3"]);
        assert_equal(&m, &server).await;
        assert_eq!(m.status().failed, 0);
        drop(m);
        let m = device.open().await;
        synced(&m).await;
        assert_equal(&m, &server).await;
    });
}

/// The segment that told of it is kept for its neighbours.
#[test]
fn what_a_backend_has_no_more_when_it_is_written_to_is_not_back_after_a_compaction() {
    run(async {
        let (server, device, m) = filled().await;
        assert!(m.fold().await.unwrap());
        update(&m, "sites", "3", json!({ "n": 99 })).await.unwrap();
        let nothing = Verdict::Conflict {
            version: Version(0),
            data: None,
            at: None,
        };
        server.borrow_mut().say("a.1", nothing);
        server.borrow_mut().lose("sites", "3");
        server.borrow_mut().generation -= 1;
        synced(&m).await;
        assert_equal(&m, &server).await;
        assert!(m.fold().await.unwrap());
        m.signal(Event::Close);
        let again = device.open_idle().await;
        assert_equal(&again, &server).await;
        // There is a record of this key again.
        server
            .borrow_mut()
            .put("sites", site("3", 5), "1763000000009-0000-z");
        again.signal(Event::Leader(true));
        synced(&again).await;
        assert_equal(&again, &server).await;
    });
}
