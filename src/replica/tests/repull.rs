//! What a pull from the beginning does not bring: since when it is missed, and when it is forgotten.

use super::steps::{Story, pulled};
use super::*;
use crate::replica::plan::{Notice, Plan};

/// What follows from a page that was asked for from `since` on.
fn answer(
    story: &mut Story,
    since: Option<&str>,
    keys: &[&str],
    end: &str,
    has_more: bool,
) -> Result<Plan<Record>, Error> {
    let change = |key: &&str| pulled("sites", 1, json!({ "id": key, "a": 1 }));
    let page = Page {
        changes: keys.iter().map(change).collect(),
        checkpoint: end.into(),
        has_more,
        server_ms: None,
    };
    let intent = Intent::Page(since.map(Rc::from), page);
    story.step(intent)
}

fn pull(story: &mut Story, since: Option<&str>, keys: &[&str], end: &str, has_more: bool) -> bool {
    answer(story, since, keys, end, has_more).is_ok()
}

/// Which of these show.
fn there(story: &Story, keys: &str) -> String {
    let sites = story.replica.collection("sites").unwrap();
    let shown = keys.split(' ').filter(|key| sites.get(key).is_some());
    shown.collect::<Vec<_>>().join(" ")
}

/// Sites `a`, `b` and `c` that the backend had confirmed, at the second second; its checkpoint is forgotten.
fn anew() -> Story {
    let mut story = Story::new();
    assert!(pull(&mut story, None, &["a", "b", "c"], "old", false));
    assert!(
        !story.replica.misses_records(),
        "the first one misses nothing"
    );
    story.step(Intent::ForgetCheckpoint).unwrap();
    story
}

#[test]
fn what_is_missed_is_given_up_a_while_after_the_last_page() {
    let mut story = anew();
    assert_eq!(story.replica.pull_position(), None);
    assert!(!story.replica.misses_records());
    assert!(pull(&mut story, None, &["a"], "p1", true));
    assert_eq!(story.replica.pull_position().as_deref(), Some("p1"));
    assert!(story.replica.misses_records());
    assert!(story.replica.begin_to_miss().is_none(), "pages are to come");
    let mut over = None;
    for end in ["p2", "p3"] {
        let since = story.replica.pull_position();
        assert!(pull(&mut story, since.as_deref(), &[], end, false));
        let begins = story.replica.begin_to_miss();
        assert_eq!(begins.is_some(), end == "p2", "since the first");
        over = over.or(begins);
        assert_eq!(story.replica.pull_position().as_deref(), Some(end));
        assert_eq!(story.replica.checkpoint(), None);
    }
    // What was held back comes; of the rest one is still missed.
    assert!(pull(&mut story, Some("p3"), &["b"], "p4", false));
    // Whatever the device's clock says.
    story.at += 1_000_000;
    assert!(pull(&mut story, Some("p4"), &[], "p4", false));
    assert_eq!(there(&story, "a b c"), "a b c");
    over.unwrap().set(true);
    let plan = answer(&mut story, Some("p4"), &[], "p4", false).unwrap();
    assert!(
        matches!(plan.notices[..], [Notice::Pulled(1)]),
        "it is told"
    );
    assert_eq!(there(&story, "a b c"), "a b");
    assert!(story.replica.begin_to_miss().is_none());
    assert!(!story.replica.misses_records());
    assert_eq!(story.replica.checkpoint().as_deref(), Some("p4"));
}

#[test]
fn where_nothing_is_missed_any_more_the_checkpoint_holds_at_once() {
    let mut story = anew();
    assert!(pull(&mut story, None, &["a", "b"], "p1", true));
    assert!(pull(&mut story, Some("p1"), &["c"], "p2", false));
    assert_eq!(story.replica.checkpoint().as_deref(), Some("p2"));
    assert!(!story.replica.misses_records());
}

#[test]
fn a_page_goes_on_where_one_has_ended_and_nowhere_else() {
    let mut story = anew();
    for since in ["old", "p1"] {
        assert!(!pull(&mut story, Some(since), &[], "p", true), "{since}");
    }
    assert!(pull(&mut story, None, &["a"], "p1", true));
    assert!(!pull(&mut story, Some("old"), &[], "p", true));
    assert!(pull(&mut story, Some("p1"), &["b"], "p2", true));
    assert!(
        pull(&mut story, Some("p1"), &["b"], "p2", true),
        "planned once more"
    );
    assert!(pull(&mut story, Some("p2"), &["c"], "p3", false));
    assert!(!pull(&mut story, Some("p2"), &[], "p", false));
    assert!(
        !pull(&mut story, None, &[], "p", false),
        "it is not forgotten"
    );
    assert!(pull(&mut story, Some("p3"), &[], "p4", false));
    assert_eq!(there(&story, "a b c"), "a b c");
}

#[test]
fn another_checkpoint_ends_it_and_so_does_a_page_that_is_not_stored() {
    let mut story = anew();
    assert!(pull(&mut story, None, &["a"], "p1", true));
    let told = Fact::Checkpoint {
        checkpoint: Some("theirs".into()),
        collections: ["sites", "notes", "others"].map(Into::into).into(),
    };
    story.replica.apply(&told, 9_000.0, Hlc::default());
    assert!(!story.replica.misses_records());
    assert_eq!(story.replica.pull_position().as_deref(), Some("theirs"));
    assert!(pull(&mut story, Some("theirs"), &[], "p2", false));
    assert_eq!(there(&story, "a b c"), "a b c");

    let mut story = anew();
    assert!(pull(&mut story, None, &["a"], "p1", true));
    story.replica.end_repull();
    assert_eq!(story.replica.pull_position(), None);
    assert!(!pull(&mut story, Some("p1"), &[], "p2", false));
}

#[test]
fn only_what_the_backend_has_confirmed_is_missed() {
    // Nothing to miss: what was created here, what is not declared, what has gone before.
    let mut story = Story::new();
    story.put("sites", json!({ "id": "new" }));
    let mut gone = pulled("sites", 3, json!({ "id": "gone" }));
    gone.data = None;
    story.page(vec![gone]);
    let elsewhere = Fact::Remote {
        collection: "undeclared".into(),
        key: "u".into(),
        value: Some(Rc::new(json!({ "id": "u" }))),
        version: Version(1),
    };
    story.replica.apply(&elsewhere, 1.0, Hlc::default());
    story.step(Intent::ForgetCheckpoint).unwrap();
    assert!(pull(&mut story, None, &[], "p1", true));
    assert!(!story.replica.misses_records());
    assert_eq!(
        story.replica.checkpoint().as_deref(),
        Some("p1"),
        "so it holds"
    );
}

#[test]
fn what_is_forgotten_is_what_was_confirmed_then_and_nothing_newer() {
    let mut story = anew();
    assert!(pull(&mut story, None, &[], "p1", false));
    let over = story.replica.begin_to_miss().unwrap();
    // Meanwhile: one is confirmed anew, one is deleted and confirmed, one waits with a change.
    let update = story.put("sites", json!({ "id": "a", "a": 5 }));
    let delete = story.write("sites", Write::Delete("b".into()));
    for (no, version) in [(update, 7), (delete, 8)] {
        story.sent(no);
        let version = Version(version);
        story.verdict(
            no,
            Verdict::Success {
                version,
                data: None,
            },
        );
    }
    let waits = story.put("sites", json!({ "id": "c", "a": 6 }));
    over.set(true);
    assert!(pull(&mut story, Some("p1"), &[], "p1", false));
    assert_eq!(there(&story, "a b c"), "a c");
    let held = |no| story.replica.held(no).unwrap();
    assert!(held(waits).shadow.is_none(), "forgotten below it");
    assert_eq!(held(waits).version, Version(1));
    let sites = story.replica.collection("sites").unwrap();
    assert_eq!(sites.record("b").unwrap().version, Version(8));
}

#[test]
fn an_answer_about_what_was_forgotten_since_means_nothing() {
    let mut story = anew();
    let no = story.put("sites", json!({ "id": "a", "a": 2 }));
    story.sent(no);
    story.verdict(no, super::steps::conflict(2, json!({ "id": "a", "a": 3 })));
    let (question, seen) = story.replica.question(no).unwrap();
    assert!(question.remote.is_some());
    assert!(pull(&mut story, None, &[], "p1", false));
    story.replica.begin_to_miss().unwrap().set(true);
    assert!(pull(&mut story, Some("p1"), &[], "p2", false));
    assert!(story.replica.question(no).unwrap().0.remote.is_none());
    let answer = Ok(Answer::Record(question.remote));
    story
        .step(Intent::Decided(Decided { no, seen, answer }))
        .unwrap();
    assert!(story.replica.question(no).is_some(), "it is asked again");
}
