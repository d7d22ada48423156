//! Which mutations of a backup are taken over, as what, and which are in the way of each other.

use super::steps::{Story, refused};
use super::*;
use crate::model::{Held, MutationState};
use crate::replica::plan_import::Import;

/// Queued creations and updates of a record, as a backup has them: numbers, and whether they are behind.
fn backup(entries: &[(MutationNo, bool)]) -> Vec<Held<Record>> {
    let mut donor = Story::new();
    donor.bring("notes", 1, json!({ "id": "n", "a": 0 }));
    let no = donor.put("notes", json!({ "id": "n", "a": 1 }));
    let held = donor.replica.held(no).unwrap();
    let entry = |(no, behind): &(MutationNo, bool)| {
        let mut held = held.clone();
        (held.mutation.no, held.mutation.behind) = (*no, *behind);
        held
    };
    entries.iter().map(entry).collect()
}

fn import(story: &mut Story, from: &str, mutations: Vec<Held<Record>>) -> Result<usize, Error> {
    let client = from.into();
    let plan = story.step(Intent::Import(Import {
        client,
        mutations,
        late: false,
        left: None,
        schema: None,
    }));
    plan.map(|plan| plan.count)
}

fn ids(story: &Story) -> Vec<String> {
    let all = story.replica.outbox.iter();
    all.map(|m| m.wire_id("c")).collect()
}

#[test]
fn a_record_has_one_mutation_and_one_behind_it() {
    let cases = [
        (&[(1, false), (2, true)][..], true),
        (&[(1, false), (2, false)], false),
        (&[(1, false), (2, true), (3, true)], false),
    ];
    for (entries, fits) in cases {
        let mut story = Story::new();
        let done = import(&mut story, "d", backup(entries));
        assert_eq!(done.is_ok(), fits, "{entries:?} {done:?}");
        assert_eq!(story.replica.outbox.len(), 2 * usize::from(fits));
    }
}

#[test]
fn what_a_later_change_from_the_same_place_shows_as_settled_is_left_out() {
    for here in [&[(5, false)][..], &[(5, false), (6, true)]] {
        let mut story = Story::new();
        import(&mut story, "d", backup(here)).unwrap();
        assert_eq!(import(&mut story, "d", backup(&[(1, false)])), Ok(0));
        for (from, no) in [("d", 9), ("e", 1), ("e", 9)] {
            let error = import(&mut story, from, backup(&[(no, false)])).unwrap_err();
            assert_eq!(error.code, Code::InvalidOptions, "{from} {no}");
        }
        assert_eq!(ids(&story)[0], "d.5");
    }
}

#[test]
fn the_newer_of_what_both_know_of_the_backends_record_counts() {
    for (here, there, counts) in [(1, 3, 3), (3, 1, 3)] {
        let mut story = Story::new();
        story.bring("notes", here, json!({ "id": "n", "a": here }));
        let mut mutations = backup(&[(1, false)]);
        mutations[0].version = Version(there);
        mutations[0].shadow = Some(Rc::new(json!({ "id": "n", "a": there })));
        import(&mut story, "d", mutations).unwrap();
        let m = story.replica.outbox.iter().next().unwrap();
        assert_eq!(m.base_version, Version(1), "it was made on that");
        let no = m.no;
        let held = story.replica.held(no).unwrap();
        assert_eq!(held.version, Version(counts));
        assert_eq!(held.shadow.unwrap()["a"], counts);
    }
}

#[test]
fn own_numbers_are_kept_but_for_those_far_off() {
    for (no, kept) in [(2, true), (1_000_001, true), (1_500_000, false)] {
        let mut story = Story::new();
        story.put("sites", json!({ "id": "s" }));
        import(&mut story, "c", backup(&[(no, false)])).unwrap();
        let m = story.replica.outbox.iter().last().unwrap();
        assert_eq!(m.no == no, kept, "{no}");
        assert_eq!(m.wire_id("c"), format!("c.{no}"), "the id stays");
        assert_eq!(m.origin.is_none(), kept);
    }
}

/// What is queued: ids on the wire, and what they come to.
fn queued(story: &Story) -> Vec<(String, u64)> {
    let all = story.replica.outbox.iter();
    let content = |m: &crate::model::Mutation<Record>| m.value.as_ref().unwrap()["a"].as_u64();
    all.map(|m| (m.wire_id("c"), content(m).unwrap())).collect()
}

#[test]
fn what_may_have_left_its_old_database_is_not_rewritten_under_its_id() {
    // Another database's, and one of a database that had our name.
    for from in ["d", "c"] {
        for sent in [false, true] {
            let mut story = Story::new();
            let mut mutations = backup(&[(1, false)]);
            mutations[0].mutation.sent = sent;
            import(&mut story, from, mutations).unwrap();
            assert!(story.replica.outbox.iter().all(|m| m.sent));
            story.put("notes", json!({ "id": "n", "a": 2 }));
            let both = [(format!("{from}.1"), 1), ("c.2".into(), 2)];
            assert_eq!(queued(&story), both);
            story.put("notes", json!({ "id": "n", "a": 3 }));
            assert_eq!(queued(&story)[1], ("c.2".into(), 3), "that one is ours");
            check(&story.replica);
        }
    }
}

#[test]
fn what_is_parked_or_waits_is_not_on_its_way() {
    for state in [MutationState::Failed, MutationState::Conflict] {
        let mut story = Story::new();
        let mut mutations = backup(&[(1, false), (2, true)]);
        mutations[0].mutation.state = state;
        import(&mut story, "d", mutations).unwrap();
        let sent: Vec<bool> = story.replica.outbox.iter().map(|m| m.sent).collect();
        assert_eq!(sent, [false, false], "nor is what is behind it");
        check(&story.replica);
    }
}

#[test]
fn a_backup_that_is_refused_says_nothing_of_versions() {
    let mut story = Story::new();
    let mut held = backup(&[(1, false)]).remove(0);
    held.mutation.collection = "gone".into();
    let older = std::rc::Rc::from([("gone".into(), 1)]);
    let import = Import {
        client: "d".into(),
        mutations: vec![held],
        late: false,
        left: None,
        schema: Some(Fact::Schema { version: 3, older }),
    };
    let before = story.replica.data_versions();
    assert!(story.step(Intent::Import(import)).is_err());
    assert_eq!(story.replica.data_versions(), before);
}

#[test]
fn a_new_try_does_not_meet_a_conflict_with_what_arrived_of_the_first() {
    let mut donor = Story::new();
    let first = donor.put("notes", json!({ "id": "n", "a": 1 }));
    donor.sent(first);
    let behind = donor.put("notes", json!({ "id": "n", "a": 2 }));
    let held = |no| donor.replica.held(no).unwrap();
    let mut story = Story::new();
    story.at = 9;
    import(&mut story, "d", vec![held(first), held(behind)]).unwrap();
    let head = story.replica.outbox.iter().next().unwrap();
    let (no, at) = (head.no, head.at_text("c"));
    // The whole request was refused: both go on as one. But the first had arrived from its old database.
    story.verdict(no, refused(false));
    let both = story.newest().unwrap();
    story.sent(both);
    let arrived = Verdict::Conflict {
        version: Version(1),
        data: Some(Rc::new(json!({ "id": "n", "a": 1 }))),
        at: Some(at.into()),
    };
    story.verdict(both, arrived);
    let left = story.replica.outbox.iter().next().unwrap();
    assert_eq!(left.state, MutationState::Pending);
    assert_eq!(queued(&story).last().unwrap().1, 2);
}
