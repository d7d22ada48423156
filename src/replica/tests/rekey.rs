//! Which records move to which key, told apart one by one.

use super::steps::{Story, conflict, pulled, refused};
use super::*;
use crate::limits;
use crate::model::MutationState;
use crate::replica::index::Query;
use crate::replica::plan::{Notice, Plan};
use crate::shown::Shown;
use crate::value::Scalar;

/// The verdict that a record was stored under a key of the backend's own.
fn stored_as(key: &str, version: u64) -> Verdict<Record> {
    let then = Verdict::Success {
        version: Version(version),
        data: None,
    };
    under(key, then)
}

fn under(key: &str, then: Verdict<Record>) -> Verdict<Record> {
    let then = Box::new(then);
    Verdict::Rekeyed {
        key: key.into(),
        then,
    }
}

/// A site that was created here and has been sent.
fn sent_site(story: &mut Story, key: &str) -> MutationNo {
    let no = story.put("sites", json!({ "id": key, "a": 1 }));
    story.sent(no);
    no
}

fn is_moved(plan: &Plan<Record>) -> bool {
    let mut notices = plan.notices.iter();
    notices.any(|notice| matches!(notice, Notice::Rekeyed(..)))
}

#[test]
fn a_record_comes_before_what_its_key_stands_for() {
    let mut story = Story::new();
    let no = sent_site(&mut story, "k");
    assert!(is_moved(&story.verdict(no, stored_as("srv", 1))));
    assert_eq!(&*story.replica.present_key("sites", "k"), "srv");
    story.bring("sites", 1, json!({ "id": "k" }));
    assert_eq!(&*story.replica.present_key("sites", "k"), "k");
    story.write("sites", Write::Delete("k".into()));
    assert_eq!(
        &*story.replica.present_key("sites", "k"),
        "k",
        "also while its deletion is queued"
    );
}

#[test]
fn queries_ask_for_present_keys_among_keys_and_references_only() {
    let mut story = Story::new();
    let no = sent_site(&mut story, "k");
    story.verdict(no, stored_as("srv", 1));
    let asked = |name: &str, field: Option<&str>| {
        let query = Query {
            index: field.map(|field| vec![field.into()]),
            equals: vec![Scalar::Text("k".into())],
            ..Query::default()
        };
        match &story.replica.present_query(name, &query).equals[0] {
            Scalar::Text(key) => key.to_string(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(asked("sites", None), "srv");
    assert_eq!(asked("sites", Some("a")), "k", "a field like any other");
    assert_eq!(asked("notes", Some("siteId")), "srv");
    assert_eq!(asked("notes", None), "k", "a key of another collection");
}

#[test]
fn only_a_creation_moves_and_only_to_a_free_key() {
    // To its own key.
    let mut story = Story::new();
    let no = sent_site(&mut story, "k");
    assert!(!is_moved(&story.verdict(no, stored_as("k", 1))));
    assert_eq!(story.shows("sites", "k")["a"], 1);

    // An update, to a key that is free and to one that is known.
    for known in [false, true] {
        let mut story = Story::new();
        story.bring("sites", 1, json!({ "id": "k", "a": 0 }));
        if known {
            story.bring("sites", 1, json!({ "id": "srv", "a": 7 }));
        }
        let no = sent_site(&mut story, "k");
        assert!(!is_moved(&story.verdict(no, stored_as("srv", 2))));
        assert_eq!(story.shows("sites", "k")["a"], 1);
    }

    // To the key of a local record, and of one that is queued.
    let local = WriteOptions {
        local_only: Some(true),
        ..WriteOptions::default()
    };
    for (options, known) in [
        (local, false),
        (local, true),
        (WriteOptions::default(), false),
    ] {
        let mut story = Story::new();
        let taken = Write::Put(Rc::new(json!({ "id": "srv", "a": 7 })));
        let intent = Intent::Write("sites".into(), vec![taken], options);
        story.step(intent).unwrap();
        if known {
            story.bring("sites", 1, json!({ "id": "srv", "a": 3 }));
        }
        let no = sent_site(&mut story, "k");
        let refused = under("srv", refused(false));
        assert!(!is_moved(&story.verdict(no, refused)));
        if options.local_only.is_some() {
            assert!(!is_moved(&story.verdict(no, stored_as("srv", 2))));
        }
        assert_eq!(story.shows("sites", "srv")["a"], 7);
    }
}

#[test]
fn where_a_pull_was_faster_the_newer_of_both_stays() {
    // The version that the pull has brought, and that of the answer.
    for (there, answered, left) in [(3, 3, 7), (3, 5, 1), (5, 3, 7)] {
        let mut story = Story::new();
        let no = sent_site(&mut story, "k");
        story.bring("sites", there, json!({ "id": "srv", "a": 7 }));
        assert!(is_moved(&story.verdict(no, stored_as("srv", answered))));
        assert_eq!(story.shows("sites", "srv")["a"], left, "{there} {answered}");
    }
}

#[test]
fn an_update_of_what_is_gone_under_its_new_key_creates_it_anew() {
    let mut story = Story::new();
    let no = sent_site(&mut story, "k");
    let update = Write::Update {
        key: "k".into(),
        patch: Rc::new(json!({ "a": 2 })),
        changed: ["a".into()].into(),
    };
    story.write("sites", update);
    let mut gone = pulled("sites", 4, json!({ "id": "srv" }));
    gone.data = None;
    story.page(vec![gone]);
    assert!(is_moved(&story.verdict(no, stored_as("srv", 3))));
    assert_eq!(*story.shows("sites", "srv"), json!({ "id": "srv", "a": 2 }));
}

#[test]
fn a_pulled_record_is_ours_only_where_reading_client_and_content_say_so() {
    let at = |client: &str, ms: u64| Some(format!("{ms:013}-0000-{client}").into());
    let comes = |story: &mut Story, at: Option<Rc<str>>| {
        let mut record = pulled("sites", 1, json!({ "id": "z", "a": 1 }));
        record.at = at;
        is_moved(&story.page(vec![record]))
    };
    // What was created first has the reading of its second.
    let cases = [
        (at("c", 1_000), true),
        (at("other", 1_000), false),
        (at("c", 1_001), false),
        (None, false),
    ];
    for (at, ours) in cases {
        let mut story = Story::new();
        sent_site(&mut story, "k");
        // The same content, at another time.
        sent_site(&mut story, "k2");
        // Not sent; of another content; of another collection.
        story.put("sites", json!({ "id": "k3", "a": 1 }));
        assert_eq!(comes(&mut story, at.clone()), ours, "{at:?}");
    }

    // Of one commit, and so of one reading: what was not sent, is no creation or is elsewhere.
    let mut story = Story::new();
    story.bring("sites", 1, json!({ "id": "there", "a": 0 }));
    let create = |key: &str| Write::Put(Rc::new(json!({ "id": key, "a": 1 })));
    let writes = [
        ("sites", "k"),
        ("sites", "waits"),
        ("sites", "there"),
        ("others", "k"),
    ];
    let options = WriteOptions::default();
    let transaction = Transaction {
        writes: writes
            .map(|(name, key)| (name.into(), create(key), options))
            .into(),
        reads: Vec::new(),
        grouped: false,
    };
    story.step(Intent::Transaction(transaction)).unwrap();
    let of = |name: &str, key: &str| {
        let mut all = story.replica.outbox.iter();
        let found = all.find(|m| *m.collection == *name && *m.key == *key);
        found.unwrap().no
    };
    let sent = vec![of("sites", "k"), of("sites", "there"), of("others", "k")];
    story.step(Intent::MarkSent(sent)).unwrap();
    assert!(comes(&mut story, at("c", 2_000)));
    assert_eq!(&*story.replica.present_key("sites", "k"), "z");
}

#[test]
fn a_record_that_refers_to_one_that_moved_shows_the_present_key() {
    let mut story = Story::new();
    let site = sent_site(&mut story, "k");
    let sent = story.put("notes", json!({ "id": "sent", "siteId": "k" }));
    story.sent(sent);
    story.verdict(site, stored_as("srv", 1));
    assert_eq!(story.shows("notes", "sent")["siteId"], "srv");
    let repair = story.replica.outbox.iter().last().unwrap();
    assert!(repair.behind && matches!(repair.shows, Shown::Own));
}

#[test]
fn a_repaired_reference_is_among_the_changed_fields_once() {
    for fields in [&["a"][..], &["a", "siteId"]] {
        let mut story = Story::new();
        let site = sent_site(&mut story, "k");
        story.bring("notes", 1, json!({ "id": "n", "siteId": "k" }));
        let update = Write::Update {
            key: "n".into(),
            patch: Rc::new(json!({ "a": 2, "siteId": "k" })),
            changed: fields.iter().map(|name| Rc::from(*name)).collect(),
        };
        let no = story.write("notes", update);
        story.verdict(site, stored_as("srv", 1));
        let m = story.replica.outbox.get(no).unwrap();
        let changed: Vec<&str> = m
            .changed
            .iter()
            .flat_map(|n| n.iter())
            .map(|n| &**n)
            .collect();
        assert_eq!(changed, ["a", "siteId"]);
        assert_eq!(m.value.as_ref().unwrap()["siteId"], "srv");
    }
}

#[test]
fn a_conflict_under_a_new_key_is_one_of_that_record() {
    let mut story = Story::new();
    let no = sent_site(&mut story, "k");
    let verdict = under("srv", conflict(2, json!({ "id": "k", "a": 5 })));
    assert!(is_moved(&story.verdict(no, verdict)));
    let (question, _) = story.replica.question(no).unwrap();
    assert_eq!(&*question.key, "srv");
    assert_eq!(*question.remote.unwrap(), json!({ "id": "srv", "a": 5 }));
}

#[test]
fn a_move_that_is_not_stored_never_was() {
    let mut story = Story::new();
    let no = sent_site(&mut story, "k");
    let hlc = story.replica.hlc();
    let now = Now {
        at_ms: hlc.ms,
        hlc,
        random: 0.5,
    };
    story.replica.begin();
    let intent = Intent::Verdicts(vec![(no, stored_as("srv", 1))]);
    assert!(is_moved(&story.replica.plan(intent, now).unwrap()));
    assert_eq!(&*story.replica.present_key("sites", "k"), "srv");
    story.replica.rollback();
    assert!(!story.replica.collection("sites").unwrap().is_rekeyed());
    assert_eq!(story.shows("sites", "k")["a"], 1);
}

#[test]
fn what_a_record_moves_to_stays_below_it() {
    let mut story = Story::new();
    let no = sent_site(&mut story, "k");
    story.bring("sites", 5, json!({ "id": "srv", "a": 7 }));
    // From before that page: it says nothing of what is there, and is asked once more.
    let verdict = under("srv", conflict(3, json!({ "id": "srv", "a": 5 })));
    assert!(is_moved(&story.verdict(no, verdict)));
    assert_eq!(story.shows("sites", "srv")["a"], 1);
    let again = story.newest().unwrap();
    story.step(Intent::Discard(again)).unwrap();
    assert_eq!(story.shows("sites", "srv")["a"], 7);
}

#[test]
fn what_another_has_created_under_the_old_key_stays_there() {
    let mut story = Story::new();
    let no = sent_site(&mut story, "k");
    story.bring("sites", 4, json!({ "id": "k", "a": 8 }));
    assert_eq!(story.shows("sites", "k")["a"], 1, "ours, for now");
    assert!(is_moved(&story.verdict(no, stored_as("srv", 5))));
    assert_eq!(story.shows("sites", "srv")["a"], 1);
    assert_eq!(story.shows("sites", "k")["a"], 8);
    story.bring("sites", 3, json!({ "id": "k", "a": 6 }));
    assert_eq!(story.shows("sites", "k")["a"], 8, "an old page");
    story.bring("sites", 6, json!({ "id": "k", "a": 9 }));
    assert_eq!(story.shows("sites", "k")["a"], 9);
}

#[test]
fn what_does_not_show_does_not_show_on_top_of_what_it_meets() {
    for (optimistic, shows) in [(true, 2), (false, 7)] {
        let mut story = Story::new();
        let no = sent_site(&mut story, "k");
        let update = Write::Update {
            key: "k".into(),
            patch: Rc::new(json!({ "a": 2 })),
            changed: ["a".into()].into(),
        };
        let options = WriteOptions {
            optimistic: Some(optimistic),
            ..WriteOptions::default()
        };
        let intent = Intent::Write("sites".into(), vec![update], options);
        story.step(intent).unwrap();
        story.bring("sites", 3, json!({ "id": "srv", "a": 7 }));
        assert!(is_moved(&story.verdict(no, stored_as("srv", 3))));
        assert_eq!(story.shows("sites", "srv")["a"], shows);
        let m = story.replica.outbox.iter().last().unwrap();
        assert_eq!(m.value.as_ref().unwrap()["a"], 2);
    }
}

#[test]
fn a_creation_that_meets_changes_waits_until_they_may_have_gone() {
    let mut story = Story::new();
    story.bring("sites", 1, json!({ "id": "srv", "a": 7 }));
    let no = sent_site(&mut story, "k");
    let first = story.put("sites", json!({ "id": "srv", "a": 8 }));
    // It happens at the fifth second.
    let theirs = conflict(1, json!({ "id": "srv", "a": 7 }));
    let plan = story.verdict(no, under("srv", theirs));
    assert!(!is_moved(&plan) && plan.notices.is_empty());
    let m = story.replica.outbox.get(no).unwrap();
    assert_eq!(&*m.error.as_ref().unwrap().code, "changed-elsewhere");
    let due_ms = 5_000.0 + limits::MEETING_PAUSE_MS;
    assert_eq!((m.state, m.attempts), (MutationState::Pending, 0));
    assert_eq!(m.next_attempt_ms, Some(due_ms));
    let none = crate::ordered::Numbers::default();
    let next = |now_ms| story.replica.next_batch(now_ms, &none, 9, usize::MAX);
    assert_eq!(next(due_ms - 1.0), [first]);
    assert_eq!(next(due_ms), [no, first]);
}

/// A record of one collection for each of another, under the same key.
#[test]
fn a_key_that_is_a_reference_stays_the_key() {
    let mut profiles = CollectionSpec::new("profiles", "id");
    profiles.references = vec![("id".into(), "sites".into())];
    let specs = [CollectionSpec::new("sites", "id"), profiles];
    let replica = Replica::new("c".into(), &specs, 2);
    let mut story = Story { replica, at: 0 };
    let no = sent_site(&mut story, "k");
    story.put("profiles", json!({ "id": "k", "a": 1 }));
    story.verdict(no, stored_as("srv", 1));
    let written = story.put("profiles", json!({ "id": "k", "a": 2 }));
    let m = story.replica.outbox.get(written).unwrap();
    assert_eq!(
        (&*m.key, &m.value.as_ref().unwrap()["id"]),
        ("k", &json!("k"))
    );
    assert_eq!(story.replica.outbox.len(), 1);
    let by_key = Query {
        equals: vec![Scalar::Text("k".into())],
        ..Query::default()
    };
    let asked = story.replica.present_query("profiles", &by_key);
    assert_eq!(asked.equals, by_key.equals);
}
