//! What is known of a commit that is being stored, and what is told of mutations that came and went.

use super::steps::Story;
use super::*;

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
