//! Conflicts that a function of the app's own settles.

use super::manual::{edit, meet, only, rig, short};
use super::rig::*;
use crate::conflict::{Answer, Question};
use crate::engine::Event;
use crate::error::{Code, Error, Result};
use crate::limits;
use crate::options::Strategy;
use crate::replica::plan::Intent;
use crate::store::memory::Fault as Disk;
use serde_json::json;
use std::cell::{Cell, RefCell};
use std::rc::Rc;

const LATE: &str = "9999999999999-0000-z";
const EARLY: &str = "0000000000001-0000-z";
const PATIENCE_MS: u64 = limits::CONFLICT_STEPS_MAX as u64 * limits::CONFLICT_STEP_MS as u64;

fn n(value: &Option<Record>) -> u64 {
    value.as_ref().map_or(0, |v| v["n"].as_u64().unwrap())
}

/// A record with the sum of both sides.
fn sum(question: &Question<Record>) -> Result<Answer<Record>> {
    let n = n(&question.local) + n(&question.remote);
    Ok(Answer::Record(Some(Rc::new(site(&question.key, n)))))
}

/// Answers as told, after so many ms; `asked` has the sides of each question.
fn slow(
    ms: u64,
    asked: &Rc<RefCell<Vec<String>>>,
    answer: impl Fn(&Question<Record>) -> Result<Answer<Record>> + 'static,
) -> Decide {
    let (asked, answer) = (asked.clone(), Rc::new(answer));
    Rc::new(move |question| {
        let answer = answer.clone();
        let (local, remote) = (n(&question.local), n(&question.remote));
        asked
            .borrow_mut()
            .push(format!("{} {local} {remote}", question.key));
        Box::pin(async move {
            pass(ms).await;
            answer(&question)
        })
    })
}

#[test]
fn a_function_settles_with_a_record_a_side_or_a_deletion() {
    let local = |q: Question<Record>| Ok(Answer::Record(q.local));
    let remote = |q: Question<Record>| Ok(Answer::Record(q.remote));
    let cases: [(Decide, &str); 4] = [
        (at_once(|q| sum(&q)), "1 2 3 5 merged"),
        (at_once(local), "1 2 3 2 local"),
        (at_once(remote), "1 2 3 3 remote"),
        (at_once(|_| Ok(Answer::Record(None))), "1 2 3 - merged"),
    ];
    for (decide, outcome) in cases {
        run(async {
            let (server, mut device) = rig(Strategy::Function);
            device.decide = decide;
            let m = device.open().await;
            meet(&m, &server, Some(2), Some(3), LATE).await;
            synced(&m).await;
            let settled = only(&m);
            assert_eq!(short(&settled), outcome);
            assert_eq!(settled.strategy, Strategy::Function);
            let left: Vec<String> = settled.result.iter().map(ToString::to_string).collect();
            assert_eq!(server.borrow().dump("sites"), left);
            assert_eq!(dump(&m, "sites").await, left);
        });
    }
}

#[test]
fn a_function_that_fails_parks_with_the_reason_and_can_be_asked_again() {
    let threw = || Error::new(Code::ConflictHandler, "the conflict handler threw: oh");
    let wrong = |_| Ok(Answer::Record(Some(Rc::new(site("other", 1)))));
    let never: Decide = Rc::new(|_| Box::pin(std::future::pending()));
    let cases: [(Decide, Code, &str); 4] = [
        (
            at_once(move |_| Err(threw())),
            Code::ConflictHandler,
            "threw: oh",
        ),
        (at_once(wrong), Code::ConflictHandler, "another key"),
        (never, Code::ConflictHandler, "within 30 s"),
        (
            at_once(|_| Ok(Answer::Park)),
            Code::ConflictParked,
            "parked",
        ),
    ];
    for (decide, code, what) in cases {
        run(async {
            let (server, mut device) = rig(Strategy::Function);
            let mended = Rc::new(Cell::new(false));
            let good = mended.clone();
            device.decide = Rc::new(move |question| {
                if good.get() {
                    Box::pin(std::future::ready(sum(&question)))
                } else {
                    decide(question)
                }
            });
            let m = device.open().await;
            meet(&m, &server, Some(2), Some(3), LATE).await;
            // Nothing else is held up meanwhile.
            create(&m, "sites", site("y", 1)).await.unwrap();
            synced(&m).await;
            assert_eq!(server.borrow().effects, ["a.2"]);
            pass(PATIENCE_MS + 100).await;
            let status = m.status();
            assert_eq!((status.conflict, status.failed), (0, 1), "{what}");
            let entry = m.outbox(&Default::default()).remove(0);
            let error = entry.mutation.error.unwrap();
            assert_eq!((entry.state, &*error.code), ("failed", code.as_str()));
            assert!(error.message.contains(what), "{}", error.message);
            assert_eq!(short(&only(&m)), "1 2 3 - parked");
            let again = device.open_idle().await;
            settle(&again).await;
            assert_eq!(
                short(&only(&again)),
                "1 2 3 - parked",
                "also after reopening"
            );
            mended.set(true);
            submit(&m, Intent::Retry(None)).await.unwrap();
            synced(&m).await;
            synced(&m).await;
            assert_eq!(short(&only(&m)), "1 2 3 5 merged");
            assert_eq!(server.borrow().dump("sites")[0], r#"{"id":"x","n":5}"#);
        });
    }
}

#[test]
fn one_that_never_answers_holds_up_no_other_conflict() {
    run(async {
        let (server, mut device) = rig(Strategy::Function);
        device.decide = Rc::new(|question| {
            if &*question.key == "x" {
                Box::pin(std::future::pending())
            } else {
                Box::pin(std::future::ready(sum(&question)))
            }
        });
        let m = device.open().await;
        server.borrow_mut().put("sites", site("y", 1), EARLY);
        meet(&m, &server, Some(2), Some(3), LATE).await;
        server.borrow_mut().put("sites", site("y", 30), LATE);
        update(&m, "sites", "y", json!({ "n": 20 })).await.unwrap();
        synced(&m).await;
        synced(&m).await;
        assert_eq!(server.borrow().dump("sites")[1], r#"{"id":"y","n":50}"#);
        assert_eq!(m.status().conflict, 1);
    });
}

#[test]
fn an_answer_to_what_has_changed_since_is_asked_for_again() {
    run(async {
        let (server, mut device) = rig(Strategy::Function);
        let asked = Rc::default();
        device.decide = slow(5_000, &asked, sum);
        let m = device.open().await;
        meet(&m, &server, Some(2), Some(3), LATE).await;
        update(&m, "sites", "x", json!({ "n": 20 })).await.unwrap();
        pass(6_000).await;
        assert_eq!(*asked.borrow(), ["x 2 3", "x 20 3"]);
        assert_eq!(m.status().conflict, 1);
        server.borrow_mut().put("sites", site("x", 30), LATE);
        synced(&m).await;
        pass(5_000).await;
        assert_eq!(asked.borrow().last().unwrap(), "x 20 30");
        edit(&m, "a.1", json!({ "n": 21 })).await.unwrap();
        pass(15_000).await;
        assert_eq!(asked.borrow().last().unwrap(), "x 21 30");
        synced(&m).await;
        assert_eq!(short(&only(&m)), "1 21 30 51 merged");
        assert_eq!(asked.borrow().len(), 4);
        assert_eq!(server.borrow().dump("sites"), [r#"{"id":"x","n":51}"#]);
    });
}

#[test]
fn an_answer_that_comes_after_a_person_has_decided_changes_nothing() {
    run(async {
        let (server, mut device) = rig(Strategy::Function);
        device.decide = slow(5_000, &Rc::default(), sum);
        let m = device.open().await;
        meet(&m, &server, Some(2), Some(3), LATE).await;
        let intent = Intent::Resolve("a.1".into(), crate::conflict::Choice::Remote);
        submit(&m, intent).await.unwrap();
        pass(10_000).await;
        synced(&m).await;
        assert_eq!(short(&only(&m)), "1 2 3 3 remote");
        assert_eq!(server.borrow().dump("sites"), [r#"{"id":"x","n":3}"#]);
    });
}

#[test]
fn only_the_tab_that_leads_asks_and_a_new_one_asks_again() {
    run(async {
        let (server, mut device) = rig(Strategy::Function);
        let (first, second) = (Rc::default(), Rc::default());
        device.decide = slow(5_000, &first, sum);
        let a = device.open().await;
        device.decide = slow(100, &second, sum);
        let b = device.open_idle().await;
        meet(&a, &server, Some(2), Some(3), LATE).await;
        b.submit_catch_up();
        settle(&b).await;
        pass(1_000).await;
        assert_eq!((first.borrow().len(), second.borrow().len()), (1, 0));
        a.signal(Event::Leader(false));
        b.signal(Event::Leader(true));
        pass(10_000).await;
        assert_eq!((first.borrow().len(), second.borrow().len()), (1, 1));
        synced(&b).await;
        assert_eq!(short(&only(&b)), "1 2 3 5 merged");
        assert_eq!(server.borrow().effects.len(), 1);
    });
}

#[test]
fn a_store_that_has_failed_is_not_asked_for_more_until_something_happens() {
    run(async {
        let (server, mut device) = rig(Strategy::Function);
        let asked = Rc::default();
        device.decide = slow(5_000, &asked, sum);
        let m = device.open().await;
        meet(&m, &server, Some(2), Some(3), LATE).await;
        device.store.fail_next(Disk::Full);
        pass(6_000).await;
        assert!(m.status().error.is_some(), "the answer could not be stored");
        assert_eq!((asked.borrow().len(), m.status().conflict), (1, 1));
        m.signal(Event::Sync);
        pass(6_000).await;
        assert_eq!(*asked.borrow(), ["x 2 3", "x 2 3"]);
        synced(&m).await;
        assert_eq!(short(&only(&m)), "1 2 3 5 merged");
    });
}
