//! Which collections are in trouble, and for how long.

use super::steps::{Story, refused};
use super::*;
use crate::ordered::Numbers;

const NOTE: &str = "notes";
const SITE: &str = "sites";

fn queued(story: &mut Story, name: &str) -> MutationNo {
    story.put(name, json!({ "id": name }))
}

fn is_in_trouble(story: &Story, name: &str, now_ms: f64, in_flight: &[MutationNo]) -> bool {
    let mut numbers = Numbers::default();
    for no in in_flight {
        numbers.insert(*no, 0);
    }
    let name = name.into();
    story.replica.is_in_trouble(&name, now_ms, &numbers)
}

/// Both collections at a time long ago.
fn in_trouble(story: &Story) -> [bool; 2] {
    [NOTE, SITE].map(|name| is_in_trouble(story, name, 0.0, &[]))
}

#[test]
fn where_only_one_collection_is_queued_nobody_is_kept() {
    let mut story = Story::new();
    let site = queued(&mut story, SITE);
    story.sent(site);
    story.verdict(site, refused(false));
    // What is parked is not kept from anything.
    let note = queued(&mut story, NOTE);
    story.replica.note_trouble(&[note], 0.0, 1.0);
    assert!(!story.replica.lanes.apart());
    assert_eq!(story.replica.troubles_over_ms().reduce(f64::min), None);
}

#[test]
fn all_of_a_failed_push_are_under_suspicion_until_they_are_answered() {
    let mut story = Story::new();
    let (site, note) = (queued(&mut story, SITE), queued(&mut story, NOTE));
    story.replica.note_trouble(&[note, site], 1_000.0, 1.0);
    assert_eq!(in_trouble(&story), [true, true]);
    assert!(!is_in_trouble(&story, "others", 0.0, &[]));
    story.replica.note_health(&[site]);
    assert_eq!(in_trouble(&story), [true, false]);
    assert!(story.replica.lanes.apart());
    story.replica.forget_trouble();
    assert!(!story.replica.lanes.apart());
}

#[test]
fn each_has_a_pause_of_its_own_that_grows() {
    let mut story = Story::new();
    let (site, note) = (queued(&mut story, SITE), queued(&mut story, NOTE));
    story.replica.note_trouble(&[note], 10_000.0, 1.0);
    assert_eq!(in_trouble(&story), [true, false], "the other was not in it");
    assert_eq!(
        story.replica.troubles_over_ms().reduce(f64::min),
        Some(11_000.0)
    );
    story.replica.note_trouble(&[site], 10_500.0, 1.0);
    story.replica.note_trouble(&[note], 10_800.0, 1.0);
    assert_eq!(in_trouble(&story), [true, true]);
    assert_eq!(
        story.replica.troubles_over_ms().reduce(f64::min),
        Some(11_500.0),
        "the first"
    );
    story.replica.note_health(&[site]);
    assert_eq!(
        story.replica.troubles_over_ms().reduce(f64::min),
        Some(12_800.0),
        "twice"
    );

    // It stays in trouble when it is alone, with one request at a time once the pause is over.
    story.step(Intent::Discard(site)).unwrap();
    story.replica.note_trouble(&[note], 20_000.0, 1.0);
    assert!(is_in_trouble(&story, NOTE, 23_999.0, &[]));
    assert!(!is_in_trouble(&story, NOTE, 24_000.0, &[]));
    assert!(!is_in_trouble(&story, NOTE, 24_000.0, &[site]));
    assert!(is_in_trouble(&story, NOTE, 24_000.0, &[note]));
}

/// Otherwise it would take those of the other collection down with it, each time they are tried.
#[test]
fn a_group_waits_for_the_collection_of_each_of_it() {
    let mut story = Story::new();
    let put = |name: &str| {
        let record = Rc::new(json!({ "id": name }));
        (name.into(), Write::Put(record), WriteOptions::default())
    };
    let transaction = Transaction {
        writes: vec![put(SITE), put(NOTE)],
        reads: Vec::new(),
        grouped: true,
    };
    story.step(Intent::Transaction(transaction)).unwrap();
    let other = story.put(SITE, json!({ "id": "other" }));
    story.replica.note_trouble(&[2], 0.0, 1.0);
    let next = |story: &Story, now_ms: f64| {
        story
            .replica
            .next_batch(now_ms, &Numbers::default(), 9, usize::MAX)
    };
    assert_eq!(next(&story, 0.0), [other]);
    assert!(next(&story, 5_000.0).len() > 1);
}
