//! What the rescue copy is told.

use super::rig::*;
use crate::driver::OutboxFilter;
use crate::engine::Event;
use crate::hlc::Hlc;
use crate::limits;
use crate::model::{Mutation, MutationNo};
use crate::replica::plan::{Intent, Write, WriteOptions};
use crate::store::memory::Fault as Disk;
use serde_json::json;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

/// What it was told since this was last asked.
async fn told(device: &Device) -> Vec<String> {
    pass(limits::RESCUE_DELAY_MS as u64 + 1).await;
    let mut told = device.told.0.take();
    told.retain(|line| line.starts_with("rescue"));
    told
}

#[test]
fn what_was_not_stored_has_not_gone() {
    run(async {
        let server = Rc::new(RefCell::new(Server::default()));
        let device = Device::new("a", &server, 1);
        let m = device.open_idle().await;
        m.start_rescue(0, Hlc::default(), false);
        create(&m, "sites", site("x", 1)).await.unwrap();
        assert_eq!(told(&device).await, ["rescue put [1] gone [] all below 2"]);
        device.store.fail_next(Disk::Full);
        assert!(create(&m, "sites", site("y", 1)).await.is_err());
        assert!(told(&device).await.is_empty(), "nothing has happened");
        // Its number has never been of anything: it will be, of what comes next.
        update(&m, "sites", "x", json!({ "n": 2 })).await.unwrap();
        assert_eq!(told(&device).await, ["rescue put [1] gone [] all below 2"]);
        create(&m, "sites", site("z", 1)).await.unwrap();
        assert_eq!(queue(&m), ["1 create pending", "2 create pending"]);
        assert_eq!(told(&device).await, ["rescue put [2] gone [] all below 3"]);
        submit(&m, Intent::Discard(2)).await.unwrap();
        assert_eq!(told(&device).await, ["rescue put [] gone [2] all below 3"]);
    });
}

#[test]
fn only_the_last_of_several_batches_says_that_nothing_is_missing() {
    run(async {
        let server = Rc::new(RefCell::new(Server::default()));
        let device = Device::new("a", &server, 1);
        let m = device.open_idle().await;
        create(&m, "sites", site("x", 1)).await.unwrap();
        m.start_rescue(1, Hlc::default(), false);
        told(&device).await;
        let most = limits::RESCUE_BATCH_MAX as u64;
        let put = |n: u64| Write::Put(Rc::new(site(&format!("{n:06}"), n)));
        let writes = (0..=most).map(put).collect();
        let intent = Intent::Write("sites".into(), writes, WriteOptions::default());
        submit(&m, intent).await.unwrap();
        let told = told(&device).await;
        let says = |line: &String| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap();
        assert_eq!(told.iter().map(says).collect::<Vec<_>>(), [2, most + 3]);
    });
}

#[test]
fn what_was_just_written_is_handed_over_before_the_store_is_let_go() {
    run(async {
        let server = Rc::new(RefCell::new(Server::default()));
        let mut device = Device::new("a", &server, 1);
        device.rescue_ms = 30;
        let m = device.open_idle().await;
        m.start_rescue(0, Hlc::default(), false);
        create(&m, "sites", site("x", 1)).await.unwrap();
        m.signal(Event::Close);
        m.rescue_last().await;
        let kept = |no: &str| device.told.0.borrow().iter().any(|line| line == no);
        assert!(kept("kept [1]"));

        // One that hangs is given up.
        device.rescue_ms = 3_600_000;
        let m = device.open_idle().await;
        m.start_rescue(0, Hlc::default(), false);
        create(&m, "sites", site("y", 1)).await.unwrap();
        m.signal(Event::Close);
        m.rescue_last().await;
        assert!(!kept("kept [2]"));
    });
}

#[test]
fn a_page_that_nobody_sees_hands_over_at_once() {
    run(async {
        let server = Rc::new(RefCell::new(Server::default()));
        let device = Device::new("a", &server, 1);
        let m = device.open_idle().await;
        m.start_rescue(0, Hlc::default(), false);
        let told = async || {
            pass(2).await;
            let told = device.told.0.take();
            told.iter().filter(|l| l.starts_with("rescue")).count()
        };
        create(&m, "sites", site("x", 1)).await.unwrap();
        assert_eq!(told().await, 0, "a burst would be one batch");
        m.hide();
        assert_eq!(told().await, 1);
        create(&m, "sites", site("y", 1)).await.unwrap();
        assert_eq!(told().await, 1);
        m.signal(Event::Visible);
        create(&m, "sites", site("z", 1)).await.unwrap();
        assert_eq!(told().await, 0);
        pass(limits::RESCUE_DELAY_MS as u64 + 1).await;
        assert_eq!(told().await, 1);
    });
}

#[test]
fn another_databases_copy_is_replaced_at_once() {
    run(async {
        let server = Rc::new(RefCell::new(Server::default()));
        let device = Device::new("a", &server, 1);
        let m = device.open_idle().await;
        create(&m, "sites", site("x", 1)).await.unwrap();
        m.start_rescue(0, Hlc::default(), true);
        pass(2).await;
        let told = device.told.0.take();
        assert!(told.contains(&"rescue put [1] gone [] all below 2".into()));
    });
}

#[test]
fn a_strict_acknowledgement_waits_until_the_copy_has_it() {
    run(async {
        let server = Rc::new(RefCell::new(Server::default()));
        let mut device = Device::new("a", &server, 1);
        (device.strict, device.rescue_ms) = (true, 30);
        let m = device.open_idle().await;
        m.start_rescue(0, Hlc::default(), false);
        create(&m, "sites", site("x", 1)).await.unwrap();
        let kept = |no: &str| device.told.0.borrow().iter().any(|line| line == no);
        assert!(kept("kept [1]"));
        // A batch is due while it is stored, and does not have it yet.
        let release = device.store.hold_next();
        let write = async {
            create(&m, "sites", site("y", 1)).await.unwrap();
            assert!(kept("kept [2]"));
        };
        let due = async {
            pass(1).await;
            let batch = m.rescue_now();
            let stored = async { release.send(()).unwrap() };
            tokio::join!(batch, stored);
        };
        tokio::join!(write, due);
    });
}

#[test]
fn whoever_has_nothing_to_hand_over_waits_for_the_batch_that_is_on_its_way() {
    run(async {
        let server = Rc::new(RefCell::new(Server::default()));
        let mut device = Device::new("a", &server, 1);
        device.rescue_ms = 30;
        let m = device.open_idle().await;
        m.start_rescue(0, Hlc::default(), false);
        create(&m, "sites", site("x", 1)).await.unwrap();
        // It may have taken what a strict acknowledgement waits for, before that was stored.
        let first = m.rescue_now();
        let second = async {
            pass(1).await;
            m.rescue_now().await;
            let told = device.told.0.borrow();
            assert!(told.iter().any(|line| line == "kept [1]"));
        };
        tokio::join!(first, second);
    });
}

#[test]
fn what_a_crash_has_kept_from_the_copy_is_handed_over_once_it_is_loaded() {
    run(async {
        let server = Rc::new(RefCell::new(Server::default()));
        let device = Device::new("a", &server, 1);
        let m = device.open_idle().await;
        m.start_rescue(0, Hlc::default(), false);
        create(&m, "sites", site("x", 1)).await.unwrap();
        assert_eq!(told(&device).await, ["rescue put [1] gone [] all below 2"]);
        create(&m, "sites", site("y", 1)).await.unwrap();
        m.signal(Event::Close);
        told(&device).await;

        // The copy ends below 2; it is asked for what it lacks before anything is loaded, or after.
        for loaded in [false, true] {
            let again = device.open_idle().await;
            if loaded {
                settle(&again).await;
                dump(&again, "sites").await;
            }
            again.start_rescue(2, Hlc::default(), false);
            let all = ["rescue put [1, 2] gone [] all below 3"];
            assert_eq!(told(&device).await, all, "{loaded}");
        }
    });
}

#[test]
fn what_has_gone_without_the_copy_hearing_of_it_is_told_at_the_next_start() {
    run(async {
        let server = Rc::new(RefCell::new(Server::default()));
        let device = Device::new("a", &server, 1);
        let m = device.open_idle().await;
        for key in ["x", "y", "z", "u"] {
            create(&m, "sites", site(key, 1)).await.unwrap();
        }
        // The copy has them; then two end, and the tab is killed before it hands that over.
        submit(&m, Intent::Discard(1)).await.unwrap();
        submit(&m, Intent::Discard(3)).await.unwrap();
        drop(m);
        let m = device.open_idle().await;
        device.told.0.take();
        m.start_rescue(
            5,
            Hlc {
                ms: 1e13,
                counter: 0,
            },
            false,
        );
        pass(limits::RESCUE_DELAY_MS as u64 + 1).await;
        let alive = |text: &str| device.told.0.borrow().iter().any(|line| line == text);
        assert!(
            alive("alive [(2, 2), (4, 4)] below 5"),
            "{:?}",
            device.told.0
        );
        // Once.
        device.told.0.take();
        create(&m, "sites", site("v", 1)).await.unwrap();
        assert_eq!(told(&device).await, ["rescue put [5] gone [] all below 6"]);

        // What a commit under way ends is there until it is stored; what it brings is not spoken of.
        let m = device.open_idle().await;
        m.start_rescue(
            6,
            Hlc {
                ms: 1e13,
                counter: 0,
            },
            false,
        );
        let release = device.store.hold_next();
        device.told.0.take();
        let write = async {
            let _ = submit(&m, Intent::Discard(4)).await;
            let _ = create(&m, "sites", site("w", 1)).await;
        };
        let batch = async {
            pass(limits::RESCUE_DELAY_MS as u64 + 1).await;
            assert!(
                alive("alive [(2, 2), (4, 5)] below 6"),
                "{:?}",
                device.told.0
            );
            release.send(()).unwrap();
        };
        tokio::join!(write, batch);
    });
}

#[test]
fn what_has_gone_is_told_to_the_copy_of_a_first_session_that_was_never_quiet() {
    run(async {
        let server = Rc::new(RefCell::new(Server::default()));
        let device = Device::new("a", &server, 1);
        let m = device.open_idle().await;
        m.start_rescue(0, Hlc::default(), false);
        create(&m, "sites", site("x", 1)).await.unwrap();
        let release = device.store.hold_next();
        let write = async { create(&m, "sites", site("y", 1)).await.unwrap() };
        let batch = async {
            let all = told(&device).await;
            release.send(()).unwrap();
            all
        };
        // A commit is always under way: no batch says that nothing is missing.
        let (_, all) = tokio::join!(write, batch);
        let says = all.last().unwrap().rsplit(' ').next().unwrap();
        submit(&m, Intent::Discard(1)).await.unwrap();
        drop(m);
        let m = device.open_idle().await;
        device.told.0.take();
        m.start_rescue(says.parse().unwrap(), Hlc::default(), false);
        pass(limits::RESCUE_DELAY_MS as u64 + 1).await;
        let alive = "alive [(2, 2)] below 3";
        let told = device.told.0.take();
        assert!(told.iter().any(|line| line == alive), "{told:?}");
    });
}

#[test]
fn the_copy_hears_of_a_commit_once() {
    run(async {
        let server = Rc::new(RefCell::new(Server::default()));
        let device = Device::new("a", &server, 1);
        let m = device.open_idle().await;
        m.start_rescue(0, Hlc::default(), false);
        create(&m, "sites", site("x", 1)).await.unwrap();
        assert_eq!(told(&device).await, ["rescue put [1] gone [] all below 2"]);
        // What the copy has is not handed over again because it is being changed.
        let release = device.store.hold_next();
        let write = async { submit(&m, Intent::Discard(1)).await.unwrap() };
        let batch = async {
            tokio::task::yield_now().await;
            m.rescue_now().await;
            assert!(told(&device).await.is_empty());
            release.send(()).unwrap();
        };
        tokio::join!(write, batch);
        assert_eq!(told(&device).await, ["rescue put [] gone [1] all below 2"]);
        // What was taken back has not happened.
        create(&m, "sites", site("y", 1)).await.unwrap();
        assert_eq!(told(&device).await, ["rescue put [2] gone [] all below 3"]);
        device.store.fail_next(Disk::Full);
        assert!(submit(&m, Intent::Discard(2)).await.is_err());
        m.rescue_now().await;
        assert!(told(&device).await.is_empty());
    });
}

#[test]
fn a_copy_has_nothing_that_may_still_be_refused_and_all_that_was_there_before() {
    run(async {
        let server = Rc::new(RefCell::new(Server::default()));
        let device = Device::new("a", &server, 1);
        let m = device.open_idle().await;
        m.start_rescue(0, Hlc::default(), false);
        create(&m, "sites", site("x", 1)).await.unwrap();
        let holds = |n: u64| {
            let line = format!("holds 1 with {:?}", Some(json!(n)));
            device.told.0.borrow().contains(&line)
        };
        let release = device.store.hold_next();
        let both = vec![
            Write::Put(Rc::new(site("y", 1))),
            Write::Put(Rc::new(site("x", 2))),
        ];
        let intent = Intent::Write("sites".into(), both, WriteOptions::default());
        let write = async { submit(&m, intent).await.unwrap() };
        let batch = async {
            pass(limits::RESCUE_DELAY_MS as u64 + 1).await;
            assert!(holds(1) && !holds(2));
            let told = told(&device).await;
            assert_eq!(told, ["rescue put [1] gone [] all below 1"]);
            release.send(()).unwrap();
        };
        tokio::join!(write, batch);
        // All of it is handed over as soon as it is stored, and only then is nothing missing.
        let all = ["rescue put [1, 2] gone [] all below 3"];
        assert_eq!(told(&device).await, all);
    });
}

#[test]
fn what_is_being_deleted_is_handed_over_with_what_was_written_along_with_it() {
    run(async {
        let server = Rc::new(RefCell::new(Server::default()));
        let device = Device::new("a", &server, 1);
        let m = device.open_idle().await;
        m.start_rescue(0, Hlc::default(), false);
        create(&m, "sites", site("x", 1)).await.unwrap();
        told(&device).await;
        let put = |key: &str, n| Write::Put(Rc::new(site(key, n)));
        let both = vec![put("x", 2), put("y", 2)];
        let bulk = Intent::Write("sites".into(), both, WriteOptions::default());
        submit(&m, bulk).await.unwrap();
        let release = device.store.hold_next();
        // Nobody but this device has heard of it: with its creation the record is gone altogether.
        let gone = async { delete(&m, "sites", "x").await.unwrap() };
        let batch = async {
            pass(1).await;
            m.rescue_now().await;
            let told = device.told.0.borrow().clone();
            assert!(told.contains(&"rescue put [1, 2] gone [] all below 2".into()));
            assert!(told.contains(&format!("holds 1 with {:?}", Some(json!(2)))));
            release.send(()).unwrap();
        };
        tokio::join!(gone, batch);
        let last = "rescue put [] gone [1] all below 3";
        assert_eq!(told(&device).await.last().unwrap(), last);
    });
}

/// What a copy holds by what it was told: of each mutation what `n` is in its record.
fn learn(copy: &mut BTreeMap<MutationNo, String>, told: &[String]) {
    for line in told {
        if let Some((no, n)) = line
            .strip_prefix("holds ")
            .and_then(|l| l.split_once(" with "))
        {
            copy.insert(no.parse().unwrap(), n.into());
        } else if let Some((_, gone)) = line.split_once(" gone [") {
            let gone = gone.split_once(']').unwrap().0.split(", ");
            for no in gone.filter_map(|no| no.parse().ok()) {
                copy.remove(&no);
            }
        }
    }
}

#[test]
fn whenever_a_batch_is_made_the_copy_has_all_that_was_stored_by_then_and_nothing_else() {
    for seed in 0..200 {
        run(async move {
            let chance = Chance::new(seed);
            let server = Rc::new(RefCell::new(Server::default()));
            let device = Device::new("a", &server, seed);
            let m = device.open_idle().await;
            m.start_rescue(0, Hlc::default(), false);
            let stored = || -> BTreeMap<_, _> {
                let queued = m.outbox(&OutboxFilter::default());
                let n = |m: &Mutation<Record>| format!("{:?}", m.value.as_ref().map(|v| &v["n"]));
                let queued = queued.iter().map(|e| (e.mutation.no, n(&e.mutation)));
                queued.collect()
            };
            let mut copy = BTreeMap::new();
            for step in 0..40 {
                let before = stored();
                let writes = (0..=chance.below(4)).map(|_| {
                    let key = format!("k{}", chance.below(5));
                    match chance.below(3) {
                        0 => Write::Delete(key.into()),
                        _ => Write::Put(Rc::new(site(&key, step))),
                    }
                });
                let intent =
                    Intent::Write("sites".into(), writes.collect(), WriteOptions::default());
                let release = device.store.hold_next();
                let write = submit(&m, intent);
                let batch = async {
                    pass(1).await;
                    m.rescue_now().await;
                    learn(&mut copy, &device.told.0.take());
                    assert_eq!(copy, before, "seed {seed}, step {step}: while it is stored");
                    if chance.below(4) == 0 {
                        device.store.fail_next(Disk::Full);
                    }
                    let _ = release.send(());
                };
                drop(tokio::join!(write, batch));
                if chance.below(2) == 0 {
                    m.rescue_now().await;
                    learn(&mut copy, &device.told.0.take());
                    assert_eq!(copy, stored(), "seed {seed}, step {step}");
                }
            }
        });
    }
}
