//! Conflicts that wait for a person, and changes to what is queued.

use super::hidden::{HIDDEN, patch};
use super::rig::*;
use crate::conflict::{Choice, Conflict, Outcome};
use crate::engine::Event;
use crate::error::{Code, Result};
use crate::options::Strategy;
use crate::replica::plan::{Edit, Intent, Write};
use serde_json::{Value as Json, json};
use std::cell::{Cell, RefCell};
use std::rc::Rc;

const EARLY: &str = "0000000000001-0000-z";
const LATE: &str = "9999999999999-0000-z";

pub(super) fn rig(strategy: Strategy) -> (Rc<RefCell<Server>>, Device) {
    let server = Rc::new(RefCell::new(Server::default()));
    let mut device = Device::new("a", &server, 5);
    device.specs[0].strategy = strategy;
    (server, device)
}

/// A record `x` that was 1 on both sides, is `remote` on the server and `local` here (none: deleted).
pub(super) async fn meet(
    m: &TestManager,
    server: &Rc<RefCell<Server>>,
    local: Option<u64>,
    remote: Option<u64>,
    remote_at: &str,
) {
    server.borrow_mut().put("sites", site("x", 1), EARLY);
    synced(m).await;
    match remote {
        Some(n) => server.borrow_mut().put("sites", site("x", n), remote_at),
        None => server.borrow_mut().delete("sites", "x", remote_at),
    }
    match local {
        Some(n) => update(m, "sites", "x", json!({ "n": n })).await,
        None => delete(m, "sites", "x").await,
    }
    .unwrap();
    synced(m).await;
}

pub(super) fn only(m: &TestManager) -> Rc<Conflict<Record>> {
    let mut all = m.conflicts();
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}

/// Base, local, remote, result and outcome in short: `1 2 - 2 local`.
pub(super) fn short(c: &Conflict<Record>) -> String {
    let n = |v: &Option<Record>| v.as_ref().map_or("-".to_owned(), |v| v["n"].to_string());
    let (base, local, remote, result) = (n(&c.base), n(&c.local), n(&c.remote), n(&c.result));
    format!("{base} {local} {remote} {result} {}", c.outcome.as_str())
}

async fn resolve(m: &TestManager, id: &str, choice: Choice<Record>) -> Result<usize> {
    submit(m, Intent::Resolve(id.into(), choice)).await
}

fn record(value: Json) -> Choice<Record> {
    Choice::Record(Some(Rc::new(value)))
}

pub(super) async fn edit(m: &TestManager, id: &str, patch: Json) -> Result<usize> {
    let changed = patch.as_object().unwrap().keys();
    let changed = changed.map(|k| Rc::from(k.as_str())).collect();
    let no = m.find_mutation(id).unwrap_or(999);
    let patch = Rc::new(patch);
    let edit = Edit {
        no,
        patch,
        changed,
        on: None,
    };
    submit(m, Intent::Edit(edit)).await
}

fn first_id(m: &TestManager) -> String {
    m.outbox(&Default::default()).remove(0).id
}

/// Waits until the first mutation is on its way, and may not be rewritten any more.
async fn on_the_way(m: &TestManager) {
    while !m.outbox(&Default::default())[0].mutation.sent {
        pass(1).await;
    }
}

/// `pending, syncing, conflict, failed`.
fn counts(m: &TestManager) -> (usize, usize, usize, usize) {
    let s = m.status();
    (s.pending, s.syncing, s.conflict, s.failed)
}

#[test]
fn a_manual_conflict_waits_with_all_sides_also_after_reopening_and_folding() {
    run(async {
        let (server, device) = rig(Strategy::Manual);
        let m = device.open().await;
        meet(&m, &server, Some(2), Some(3), EARLY).await;
        assert_eq!(counts(&m), (0, 0, 1, 0));
        assert_eq!(m.state("sites", "x").unwrap(), Some("conflict"));
        assert_eq!(queue(&m), ["1 update conflict"]);
        assert_eq!(
            dump(&m, "sites").await,
            [r#"{"id":"x","n":2}"#],
            "ours shows"
        );
        let seen = only(&m);
        assert_eq!(short(&seen), "1 2 3 - waiting");
        assert_eq!((&*seen.id, seen.strategy), ("a.1", Strategy::Manual));
        // Others are not held up by it, and it is not sent again.
        create(&m, "sites", site("y", 1)).await.unwrap();
        synced(&m).await;
        assert_eq!(server.borrow().effects, ["a.2"]);
        for fold in [false, true] {
            if fold {
                assert!(m.fold().await.unwrap());
            }
            let again = device.open_idle().await;
            assert_eq!(counts(&again), (0, 0, 1, 0), "before anything is read");
            settle(&again).await;
            assert_eq!(counts(&again), (0, 0, 1, 0));
            let kept = only(&again);
            assert_eq!(short(&kept), "1 2 3 - waiting");
            assert_eq!(kept.at_ms, seen.at_ms);
        }
        submit(&m, Intent::ClearConflicts).await.unwrap();
        assert_eq!(
            short(&only(&m)),
            "1 2 3 - waiting",
            "it is no log entry yet"
        );
    });
}

#[test]
fn a_manual_conflict_is_resolved_for_either_side_or_a_record() {
    let cases = [
        (Choice::Local, "1 2 3 2 local", r#"{"id":"x","n":2}"#),
        (Choice::Remote, "1 2 3 3 remote", r#"{"id":"x","n":3}"#),
        (
            record(site("x", 4)),
            "1 2 3 4 merged",
            r#"{"id":"x","n":4}"#,
        ),
        (
            record(site("x", 3)),
            "1 2 3 3 remote",
            r#"{"id":"x","n":3}"#,
        ),
        (Choice::Record(None), "1 2 3 - merged", ""),
    ];
    for (choice, outcome, left) in cases {
        run(async {
            let (server, device) = rig(Strategy::Manual);
            let m = device.open().await;
            meet(&m, &server, Some(2), Some(3), LATE).await;
            resolve(&m, "a.1", choice).await.unwrap();
            assert_eq!(counts(&m).2, 0);
            synced(&m).await;
            let settled = only(&m);
            assert_eq!(short(&settled), outcome);
            assert_eq!((&*settled.id, settled.strategy), ("a.1", Strategy::Manual));
            let left: Vec<&str> = Some(left).filter(|l| !l.is_empty()).into_iter().collect();
            assert_eq!(dump(&m, "sites").await, left, "{outcome}");
            assert_eq!(server.borrow().dump("sites"), left, "{outcome}");
            assert_eq!(counts(&m), (0, 0, 0, 0));
            let told = device.told.0.borrow();
            let told = told.iter().filter(|t| t.starts_with("conflict"));
            assert_eq!(
                told.count(),
                2,
                "once when it was met, once when it was settled"
            );
        });
    }
}

#[test]
fn what_is_wrong_with_a_resolution_changes_nothing() {
    run(async {
        let (server, device) = rig(Strategy::Manual);
        let m = device.open().await;
        meet(&m, &server, Some(2), Some(3), LATE).await;
        let code = |result: Result<usize>| result.unwrap_err().code;
        let wrong = resolve(&m, "a.1", record(site("other", 4))).await;
        assert_eq!(code(wrong), Code::InvalidKey);
        let unknown = resolve(&m, "a.77", Choice::Local).await;
        assert_eq!(code(unknown), Code::NotFound);
        create(&m, "sites", site("y", 1)).await.unwrap();
        let none = resolve(&m, "a.2", Choice::Local).await;
        assert_eq!(code(none), Code::NotFound, "it has no conflict");
        assert_eq!(short(&only(&m)), "1 2 3 - waiting");
    });
}

#[test]
fn both_sides_of_a_waiting_conflict_stay_what_they_are_now() {
    run(async {
        let (server, device) = rig(Strategy::Manual);
        let m = device.open().await;
        meet(&m, &server, Some(2), Some(3), LATE).await;
        update(&m, "sites", "x", json!({ "n": 20 })).await.unwrap();
        assert_eq!(short(&only(&m)), "1 20 3 - waiting");
        server.borrow_mut().put("sites", site("x", 30), LATE);
        synced(&m).await;
        assert_eq!(short(&only(&m)), "1 20 30 - waiting");
        let told = device.told.0.borrow().clone();
        let news = told.iter().filter(|t| **t == "conflict x waiting");
        assert_eq!(news.count(), 2, "the app hears of the new side");
        edit(&m, "a.1", json!({ "n": 21 })).await.unwrap();
        assert_eq!(short(&only(&m)), "1 21 30 - waiting");
        delete(&m, "sites", "x").await.unwrap();
        assert_eq!(short(&only(&m)), "1 - 30 - waiting");
        assert_eq!(counts(&m), (0, 0, 1, 0));
        put(&m, "sites", site("x", 22)).await.unwrap();
        resolve(&m, "a.1", Choice::Local).await.unwrap();
        synced(&m).await;
        assert_eq!(short(&only(&m)), "1 22 30 22 local");
        assert_eq!(server.borrow().dump("sites"), [r#"{"id":"x","n":22}"#]);
    });
}

#[test]
fn a_create_that_has_met_a_conflict_is_not_annulled_by_a_delete() {
    run(async {
        let (server, device) = rig(Strategy::Manual);
        let m = device.open().await;
        synced(&m).await;
        server.borrow_mut().put("sites", site("x", 3), LATE);
        create(&m, "sites", site("x", 2)).await.unwrap();
        synced(&m).await;
        delete(&m, "sites", "x").await.unwrap();
        assert_eq!(short(&only(&m)), "- - 3 - waiting");
        resolve(&m, "a.1", Choice::Local).await.unwrap();
        synced(&m).await;
        assert!(server.borrow().dump("sites").is_empty());
    });
}

#[test]
fn what_is_written_while_a_push_is_under_way_is_part_of_its_conflict() {
    run(async {
        let (server, device) = rig(Strategy::Manual);
        let m = device.open().await;
        server.borrow_mut().put("sites", site("x", 1), EARLY);
        synced(&m).await;
        server.borrow_mut().put("sites", site("x", 3), LATE);
        update(&m, "sites", "x", json!({ "n": 2 })).await.unwrap();
        on_the_way(&m).await;
        update(&m, "sites", "x", json!({ "m": 7 })).await.unwrap();
        synced(&m).await;
        assert_eq!(counts(&m), (0, 0, 1, 0));
        let waiting = only(&m);
        assert_eq!(
            *waiting.local.clone().unwrap(),
            json!({"id": "x", "n": 2, "m": 7})
        );
        resolve(&m, &waiting.id, Choice::Local).await.unwrap();
        synced(&m).await;
        assert_eq!(server.borrow().dump("sites"), [r#"{"id":"x","m":7,"n":2}"#]);
    });
}

#[test]
fn a_waiting_conflict_is_retried_and_discarded() {
    run(async {
        let (server, device) = rig(Strategy::Manual);
        let m = device.open().await;
        meet(&m, &server, Some(2), Some(3), LATE).await;
        assert_eq!(
            submit(&m, Intent::Retry(None)).await.unwrap(),
            0,
            "not by the dozen"
        );
        server.borrow_mut().put("sites", site("x", 4), LATE);
        submit(&m, Intent::Retry(Some(1))).await.unwrap();
        synced(&m).await;
        let again = only(&m);
        assert_eq!(short(&again), "1 2 4 - waiting", "it has met it again");
        assert_ne!(&*again.id, "a.1", "the server remembers that one");
        submit(&m, Intent::Discard(m.find_mutation(&again.id).unwrap()))
            .await
            .unwrap();
        assert_eq!(counts(&m), (0, 0, 0, 0));
        assert_eq!(short(&only(&m)), "1 2 4 4 remote");
        assert_eq!(dump(&m, "sites").await, [r#"{"id":"x","n":4}"#]);
        assert_eq!(m.state("sites", "x").unwrap(), Some("synced"));
    });
}

#[test]
fn an_outcome_is_overruled_afterwards() {
    for (strategy, before) in [(Strategy::ServerWins, "3"), (Strategy::ClientWins, "2")] {
        run(async {
            let (server, device) = rig(strategy);
            let m = device.open().await;
            meet(&m, &server, Some(2), Some(3), LATE).await;
            let known = only(&m);
            let n = known.result.as_ref().unwrap()["n"].to_string();
            assert_eq!((&*n, known.strategy), (before, strategy));
            for (choice, outcome) in [
                (Choice::Local, "1 2 3 2 local"),
                (Choice::Remote, "1 2 3 3 remote"),
                (record(site("x", 9)), "1 2 3 9 merged"),
                (Choice::Record(None), "1 2 3 - merged"),
            ] {
                resolve(&m, &known.id, choice).await.unwrap();
                synced(&m).await;
                let now = only(&m);
                assert_eq!(
                    short(&now),
                    outcome,
                    "one entry, with the outcome that holds"
                );
                assert_eq!((&now.id, now.strategy), (&known.id, Strategy::Manual));
                let left: Vec<String> = now.result.iter().map(ToString::to_string).collect();
                assert_eq!(server.borrow().dump("sites"), left);
                assert_eq!(dump(&m, "sites").await, left);
            }
            let again = device.open_idle().await;
            settle(&again).await;
            assert_eq!(short(&only(&again)), "1 2 3 - merged");
        });
    }
}

#[test]
fn delete_against_update_under_every_strategy() {
    use Strategy::{ClientWins, Function, LastWriteWins, Manual, Merge, ServerWins};
    // Deleted here and updated there, then the other way round; the server's side earlier, then later.
    let cases = [
        (LastWriteWins, ["local", "remote"]),
        (Merge, ["local", "remote"]),
        (ServerWins, ["remote", "remote"]),
        (ClientWins, ["local", "local"]),
        (Function, ["parked", "parked"]),
        (Manual, ["waiting", "waiting"]),
    ];
    for (strategy, outcomes) in cases {
        for (at, outcome) in [EARLY, LATE].iter().zip(outcomes) {
            for (local, remote) in [(None, Some(3)), (Some(2), None)] {
                run(async {
                    let (server, device) = rig(strategy);
                    let m = device.open().await;
                    meet(&m, &server, local, remote, at).await;
                    let side = |n: Option<u64>| n.map_or("-".to_owned(), |n| n.to_string());
                    let sides = format!("1 {} {}", side(local), side(remote));
                    let result = match outcome {
                        "local" => side(local),
                        "remote" => side(remote),
                        _ => "-".to_owned(),
                    };
                    let found = only(&m);
                    assert_eq!(short(&found), format!("{sides} {result} {outcome}"));
                    assert_eq!(found.strategy, strategy);
                    if strategy.waits() {
                        // Once for each side, the second time as an overruling.
                        resolve(&m, &found.id, Choice::Local).await.unwrap();
                        synced(&m).await;
                        assert_eq!(
                            server.borrow().dump("sites").len(),
                            usize::from(local.is_some())
                        );
                        resolve(&m, &found.id, Choice::Remote).await.unwrap();
                        synced(&m).await;
                        assert_eq!(
                            server.borrow().dump("sites").len(),
                            usize::from(remote.is_some())
                        );
                    }
                    assert_eq!(counts(&m), (0, 0, 0, 0), "{strategy:?}");
                    assert_eq!(dump(&m, "sites").await, server.borrow().dump("sites"));
                });
            }
        }
    }
}

#[test]
fn a_collection_that_gets_a_rule_settles_what_has_waited() {
    run(async {
        let (server, mut device) = rig(Strategy::Manual);
        let m = device.open().await;
        meet(&m, &server, Some(2), Some(3), LATE).await;
        m.signal(Event::Close);
        device.specs[0].strategy = Strategy::ClientWins;
        let m = device.open().await;
        until(&m, "settled", |s| s.conflict == 0).await;
        synced(&m).await;
        assert_eq!(short(&only(&m)), "1 2 3 2 local");
        assert_eq!(server.borrow().dump("sites"), [r#"{"id":"x","n":2}"#]);
    });
}

#[test]
fn a_hidden_change_that_meets_a_conflict_keeps_its_caller_waiting() {
    for (choice, fails) in [
        (Choice::Local, None),
        (Choice::Remote, Some(Code::Conflict)),
    ] {
        run(async {
            let (server, device) = rig(Strategy::Manual);
            let m = device.open().await;
            server.borrow_mut().put("sites", site("x", 1), EARLY);
            synced(&m).await;
            server.borrow_mut().put("sites", site("x", 3), LATE);
            let told = Rc::new(Cell::new(None));
            let tell = told.clone();
            let write: Write<Record> = patch("x", json!({ "n": 2 }));
            m.submit(
                Intent::Write("sites".into(), vec![write], HIDDEN),
                Box::new(move |result| tell.set(Some(result.err().map(|e| e.code)))),
            );
            synced(&m).await;
            assert_eq!(told.get(), None, "it is not decided");
            assert_eq!(
                dump(&m, "sites").await,
                [r#"{"id":"x","n":3}"#],
                "the server's shows"
            );
            resolve(&m, "a.1", choice).await.unwrap();
            synced(&m).await;
            assert_eq!(told.get(), Some(fails));
        });
    }
}

#[test]
fn what_is_queued_can_be_edited() {
    run(async {
        let (server, device) = rig(Strategy::LastWriteWins);
        let m = device.open_idle().await;
        create(&m, "sites", site("x", 1)).await.unwrap();
        edit(&m, "a.1", json!({ "n": 2 })).await.unwrap();
        assert_eq!(queue(&m), ["1 create pending"], "rewritten where it is");
        m.signal(Event::Leader(true));
        on_the_way(&m).await;
        edit(&m, "a.1", json!({ "n": 3 })).await.unwrap();
        let waits = m.outbox(&Default::default());
        assert_eq!(
            queue(&m),
            ["1 create syncing", "2 update pending"],
            "behind it"
        );
        assert_eq!(waits[1].waits_for.as_deref(), Some("a.1"));
        synced(&m).await;
        assert_eq!(server.borrow().dump("sites"), [r#"{"id":"x","n":3}"#]);
        let gone = edit(&m, "a.1", json!({ "n": 4 })).await;
        assert_eq!(gone.unwrap_err().code, Code::NotFound);

        // A parked one goes out again under a new id.
        server.borrow_mut().poison.insert("x".into(), false);
        update(&m, "sites", "x", json!({ "n": 5 })).await.unwrap();
        until(&m, "parked", |s| s.failed == 1).await;
        let parked = first_id(&m);
        server.borrow_mut().poison.clear();
        edit(&m, &parked, json!({ "n": 6 })).await.unwrap();
        let (pending, syncing, _, failed) = counts(&m);
        assert_eq!((pending + syncing, failed), (1, 0));
        assert_ne!(first_id(&m), parked);
        synced(&m).await;
        assert_eq!(server.borrow().dump("sites"), [r#"{"id":"x","n":6}"#]);

        // Not a key, not a deletion, not on content that has changed.
        m.signal(Event::Pause);
        update(&m, "sites", "x", json!({ "n": 7 })).await.unwrap();
        let id = first_id(&m);
        let key = edit(&m, &id, json!({ "id": "z" })).await;
        assert_eq!(key.unwrap_err().code, Code::InvalidKey);
        let stale = Edit {
            no: m.find_mutation(&id).unwrap(),
            patch: Rc::new(json!({ "n": 8 })),
            changed: ["n".into()].into(),
            on: Some(Rc::new(site("x", 6))),
        };
        let stale = submit(&m, Intent::Edit(stale)).await;
        assert_eq!(stale.unwrap_err().code, Code::WriteContention);
        delete(&m, "sites", "x").await.unwrap();
        let deleted = edit(&m, &first_id(&m), json!({ "n": 9 })).await;
        assert_eq!(deleted.unwrap_err().code, Code::NotFound);
        assert!(m.conflicts().iter().all(|c| c.outcome != Outcome::Waiting));
    });
}
