//! What is known of a commit that is being stored, and what is told of mutations that came and went.

use super::steps::{Story, pulled, refused};
use super::*;
use crate::model::MutationState;
use crate::replica::plan_import::Import;

const NOW: Now = Now {
    at_ms: 9_000.0,
    hlc: Hlc {
        ms: 9_000.0,
        counter: 0,
    },
    random: 0.5,
};

fn note(key: &str) -> Json {
    json!({ "id": key })
}

fn creates(keys: &[&str]) -> Intent<Record> {
    let create = |key: &&str| Write::Create(Rc::new(note(key)));
    let writes = keys.iter().map(create).collect();
    Intent::Write("notes".into(), writes, WriteOptions::default())
}

#[test]
fn a_mark_counts_once_it_is_stored() {
    let mut story = Story::new();
    let (first, other) = (story.put("notes", note("a")), story.put("notes", note("b")));
    let replica = &mut story.replica;
    replica.begin();
    replica.plan(Intent::MarkSent(vec![first]), NOW).unwrap();
    assert!(!replica.is_marked(&[first]), "it may be taken back");
    replica.commit();
    assert!(replica.is_marked(&[first]));
    assert!(!replica.is_marked(&[first, other]));
    // Another one that is being stored says nothing of it.
    replica.begin();
    replica.plan(creates(&["c"]), NOW).unwrap();
    assert!(replica.is_marked(&[first]));
    replica.plan(Intent::MarkSent(vec![other]), NOW).unwrap();
    replica.rollback();
    assert!(!replica.is_marked(&[first, other]));
}

#[test]
fn an_intent_that_fails_half_way_takes_nothing_else_down() {
    let mut story = Story::new();
    let replica = &mut story.replica;
    let next = replica.next_no();
    replica.begin();
    replica.plan(creates(&["a"]), NOW).unwrap();
    let error = replica.plan(creates(&["b", "a"]), NOW).unwrap_err();
    assert_eq!(error.code, Code::AlreadyExists);
    replica.plan(creates(&["c"]), NOW).unwrap();
    replica.commit();
    let queued = replica.outbox.iter().map(|m| (m.no, &*m.key));
    assert_eq!(queued.collect::<Vec<_>>(), [(next, "a"), (next + 1, "c")]);
    let notes = replica.collection("notes").unwrap();
    assert!(notes.get("b").is_none());
    assert_eq!(replica.next_no(), next + 2);
}

#[test]
fn what_came_changed_or_went_is_told_once() {
    let mut story = Story::new();
    let (a, b) = (story.put("notes", note("a")), story.put("notes", note("b")));
    assert!(!story.replica.has_touched());
    story.replica.touch(vec![a]);
    assert!(story.replica.take_touched().is_empty(), "nobody watches");
    story.replica.watch_mutations();
    story.replica.touch_where(|m| m.no == b);
    assert!(story.replica.has_touched());
    assert_eq!(story.replica.take_touched(), [b]);
    assert!(!story.replica.has_touched());
    let c = story.put("notes", note("c"));
    story.step(Intent::Discard(a)).unwrap();
    assert!(story.replica.has_touched());
    assert_eq!(story.replica.take_touched(), [c, a]);
    assert!(story.replica.take_touched().is_empty());
    story.replica.touch(vec![b]);
    assert_eq!(story.replica.take_touched(), [b], "not dealt with yet");
}

#[test]
fn a_collection_is_unpulled_until_its_checkpoint_and_again_where_that_is_forgotten() {
    let mut story = Story::new();
    let unpulled = |story: &Story| story.replica.unpulled().join(" ");
    assert_eq!(unpulled(&story), "sites notes others");
    story.bring("notes", 1, note("n"));
    assert_eq!(unpulled(&story), "");
    let spec = CollectionSpec::new("later", "id");
    story.replica.declare(spec, true);
    assert_eq!(unpulled(&story), "later");
    story.bring("notes", 1, note("n"));
    assert_eq!(unpulled(&story), "");
    story.step(Intent::ForgetCheckpoint).unwrap();
    assert_eq!(unpulled(&story), "sites notes others later");
    story
        .replica
        .declare(CollectionSpec::new("left-behind", "id"), false);
    assert!(!unpulled(&story).contains("left-behind"));
}

#[test]
fn the_clock_goes_back_with_a_commit_that_is_not_stored() {
    let mut story = Story::new();
    let replica = &mut story.replica;
    replica.set_hlc(NOW.hlc);
    replica.begin();
    let next = replica.next_hlc(NOW.at_ms);
    assert!(next > NOW.hlc);
    replica.set_hlc(next);
    assert_eq!(replica.hlc(), next);
    replica.rollback();
    assert_eq!(replica.hlc(), NOW.hlc);
}

/// Another tab was faster: all of it is decided again.
#[test]
fn who_made_what_is_there_is_known_as_well_when_it_is_decided_again() {
    let mut donor = Story::new();
    donor.bring("notes", 1, json!({ "id": "n", "a": 0 }));
    let no = donor.put("notes", json!({ "id": "n", "a": 1 }));
    let held = donor.replica.held(no).unwrap();
    let at = held.mutation.at.to_text("d");
    let mut story = Story::new();
    story.bring("notes", 1, json!({ "id": "n", "a": 0 }));
    let import = Import {
        client: "d".into(),
        mutations: vec![held],
        late: false,
        left: None,
        schema: None,
    };
    story.step(Intent::Import(import)).unwrap();
    let stored = Verdict::Success {
        version: Version(2),
        data: None,
    };
    let no = story.newest().unwrap();
    story.verdict(no, stored);
    let no = story.put("notes", json!({ "id": "n", "a": 3 }));
    story.sent(no);
    let met = Verdict::Conflict {
        version: Version(2),
        data: Some(Rc::new(json!({ "id": "n", "a": 2 }))),
        at: Some(at.into()),
    };
    story.replica.begin();
    let verdicts = Intent::Verdicts(vec![(no, met.clone())]);
    story.replica.plan(verdicts, NOW).unwrap();
    story.replica.rollback();
    story.verdict(no, met);
    let m = story.replica.outbox.iter().next().unwrap();
    assert_eq!(m.state, MutationState::Pending, "it was confirmed here");
}

#[test]
fn what_was_sent_first_is_known_as_well_where_trying_again_is_not_stored() {
    let mut story = Story::new();
    let first = story.put("notes", json!({ "id": "k", "a": 1 }));
    let at = story.replica.outbox.get(first).unwrap().at.to_text("c");
    for no in [first, first + 1] {
        story.sent(no);
        story.verdict(no, refused(false));
        story.replica.begin();
        story.replica.plan(Intent::Retry(Some(no)), NOW).unwrap();
        story.replica.rollback();
        if no == first {
            story.step(Intent::Retry(Some(no))).unwrap();
        }
    }
    // The answer to the first one was lost.
    story.page(vec![Pulled {
        at: Some(at.into()),
        ..pulled("notes", 1, json!({ "id": "srv", "a": 1 }))
    }]);
    let notes = story.replica.collection("notes").unwrap();
    assert_eq!(notes.count(), 1, "not twice");
}
