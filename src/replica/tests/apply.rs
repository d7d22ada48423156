//! What a queued mutation keeps of what it was, takes from where it is, and gets from what it goes behind.

use super::steps::{Story, conflict};
use super::*;
use crate::model::Mutation;

fn mutation(story: &Story, no: MutationNo) -> Mutation<Record> {
    story.replica.outbox.get(no).unwrap().clone()
}

#[test]
fn what_is_rewritten_stays_on_what_it_was_made_on() {
    let mut story = Story::new();
    story.bring("notes", 1, json!({ "id": "n", "a": 1 }));
    let no = story.put("notes", json!({ "id": "n", "a": 2 }));
    // Its conflict must be met, whatever else is written.
    story.bring("notes", 2, json!({ "id": "n", "a": 3 }));
    assert_eq!(story.put("notes", json!({ "id": "n", "a": 4 })), no);
    let m = mutation(&story, no);
    assert_eq!((m.base_version, m.created_ms), (Version(1), 2_000.0));
    assert_eq!(m.base.unwrap()["a"], 1);
}

#[test]
fn what_is_behind_another_has_no_base_before_that_is_confirmed() {
    let mut story = Story::new();
    story.bring("notes", 3, json!({ "id": "n", "a": 1 }));
    let head = story.put("notes", json!({ "id": "n", "a": 2 }));
    story.sent(head);
    let tail = story.put("notes", json!({ "id": "n", "a": 3 }));
    // So it is in a backup as well.
    let held = story.replica.held(tail).unwrap().mutation;
    assert!(held.behind && held.base.is_none());
    assert_eq!(held.base_version, Version(0));
    let stored = Verdict::Success {
        version: Version(4),
        data: None,
    };
    story.verdict(head, stored);
    let m = mutation(&story, tail);
    assert_eq!((m.base_version, m.behind), (Version(4), false));
    assert_eq!(m.base.unwrap()["a"], 2);
}

#[test]
fn a_conflict_that_is_written_into_is_of_the_time_at_which_it_was_met() {
    let mut story = Story::new();
    story.bring("notes", 1, json!({ "id": "n", "a": 1 }));
    let no = story.put("notes", json!({ "id": "n", "a": 2 }));
    story.sent(no);
    story.verdict(no, conflict(2, json!({ "id": "n", "a": 3 })));
    for a in [2, 4] {
        let open = story.replica.open_conflict(&mutation(&story, no)).unwrap();
        assert_eq!(open.at_ms, 4_000.0);
        assert_eq!(open.local.unwrap()["a"], a);
        story.put("notes", json!({ "id": "n", "a": 4 }));
    }
}

#[test]
fn what_is_held_has_the_place_and_the_priority_that_it_has_here() {
    let mut donor = Story::new();
    let no = donor.put("notes", json!({ "id": "n", "a": 1 }));
    let site = donor.put("sites", json!({ "id": "s", "a": 1 }));
    let held = |no| donor.replica.held(no).unwrap();
    let mut facts = [held(no), held(site)];
    // What was before it is not here (it may have been damaged); the app has got other priorities.
    facts[0].mutation.behind = true;
    facts[0].mutation.priority = -7;
    let mut story = Story::new();
    for held in facts {
        let fact = Fact::Held(Box::new(held));
        story.replica.apply(&fact, 1.0, Hlc::default());
    }
    let m = mutation(&story, no);
    assert_eq!((m.behind, m.priority), (false, 2));
    let none = crate::ordered::Numbers::default();
    let batch = story.replica.next_batch(1e12, &none, 100, usize::MAX);
    assert_eq!(batch, [no, site], "notes go first");
    check(&story.replica);
}

#[test]
fn only_a_deletion_of_what_is_no_newer_goes_by_an_answer_without_a_version() {
    // Whether it is a deletion, whether a page came meanwhile, the version answered, and what shows then.
    let cases = [
        (true, false, 0, None),
        (true, true, 0, Some(9)),
        (true, false, 1, Some(1)),
        (true, false, 3, None),
        (false, false, 0, Some(1)),
        (false, true, 0, Some(9)),
        (false, false, 3, Some(2)),
    ];
    for case in cases {
        let (deletes, newer, answered, shows) = case;
        let mut story = Story::new();
        story.bring("notes", 2, json!({ "id": "n", "a": 1 }));
        let no = match deletes {
            true => story.write("notes", Write::Delete("n".into())),
            false => story.put("notes", json!({ "id": "n", "a": 2 })),
        };
        story.sent(no);
        if newer {
            story.bring("notes", 3, json!({ "id": "n", "a": 9 }));
        }
        let version = Version(answered);
        story.verdict(
            no,
            Verdict::Success {
                version,
                data: None,
            },
        );
        let notes = story.replica.collection("notes").unwrap();
        let left = notes.get("n").map(|n| n["a"].as_u64().unwrap());
        assert_eq!(left, shows, "{case:?}");
    }
}
