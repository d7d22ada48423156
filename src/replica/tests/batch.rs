//! What goes next, together with what, and as what it travels.

use super::steps::{Story, conflict, refused};
use super::*;
use crate::limits;
use crate::model::MutationState;
use crate::ordered::Numbers;

impl Story {
    fn next(&self, now_ms: f64, in_flight: &[MutationNo], max: usize) -> Vec<MutationNo> {
        let mut numbers = Numbers::default();
        for no in in_flight {
            numbers.insert(*no, 0);
        }
        self.replica.next_batch(now_ms, &numbers, max, usize::MAX)
    }

    /// Writes these as one atomic group.
    fn group(&mut self, records: &[(&str, Json)]) -> Vec<MutationNo> {
        let options = WriteOptions::default();
        let put = |record: &Json| Write::Put(Rc::new(record.clone()));
        let writes = records
            .iter()
            .map(|(c, record)| ((*c).into(), put(record), options));
        let before = self.newest();
        let transaction = Transaction {
            writes: writes.collect(),
            reads: Vec::new(),
            grouped: true,
        };
        self.step(Intent::Transaction(transaction)).unwrap();
        let nos = self.replica.outbox.iter().map(|m| m.no);
        nos.filter(|no| Some(*no) > before).collect()
    }
}

fn site(key: &str) -> (&'static str, Json) {
    ("sites", json!({ "id": key, "a": 1 }))
}

#[test]
fn a_group_is_sent_whole_or_one_by_one_where_no_request_can_hold_it() {
    let mut story = Story::new();
    let alone = story.put("sites", json!({ "id": "alone" }));
    let group = story.group(&[site("x"), site("y"), site("z")]);
    assert_eq!(story.next(0.0, &[], 3), [alone], "the rest has no room");
    assert_eq!(story.next(0.0, &[], 4).len(), 4);
    assert_eq!(story.next(0.0, &[alone, group[0]], 9), group[1..]);
    assert_eq!(story.next(0.0, &[alone], 2), group, "for a culprit, say");
    assert!(story.replica.is_one_group(&group));
    story.replica.take_apart(&group);
    assert_eq!(story.next(0.0, &[alone], 2), group[..2]);
    assert!(!story.replica.is_one_group(&group));
}

#[test]
fn what_is_behind_a_member_of_its_own_group_goes_later() {
    let mut story = Story::new();
    let group = story.group(&[site("x"), site("y")]);
    story.sent(group[0]);
    let joined = story.group(&[site("x"), site("y")]);
    let tail = story.replica.outbox.get(joined[0]).unwrap();
    assert!(tail.behind && tail.group == story.replica.outbox.get(group[1]).unwrap().group);
    assert_eq!(story.next(0.0, &[], 9), group);
}

#[test]
fn groups_that_wait_for_each_other_go_once_nothing_else_can_help() {
    let mut story = Story::new();
    let bad = story.put("sites", json!({ "id": "bad" }));
    story.sent(bad);
    story.verdict(bad, refused(false));
    let put_off = story.put("notes", json!({ "id": "n", "siteId": "bad" }));
    story.sent(put_off);
    story.verdict(put_off, refused(true));
    let due_ms = story.replica.outbox.dues().next().unwrap();
    let note = |id: &str, site: &str| ("notes", json!({ "id": id, "siteId": site }));
    story.group(&[site("p"), note("of-q", "q")]);
    story.group(&[site("q"), note("of-p", "p")]);
    assert!(story.next(due_ms - 1.0, &[], 9).is_empty());
    assert!(!story.next(due_ms, &[], 9).is_empty());
    assert!(!story.next(due_ms + 1.0, &[], 9).is_empty());
    assert!(story.next(due_ms, &[bad], 9).is_empty());
}

#[test]
fn a_group_goes_apart_where_it_waits_for_a_creation_that_waits_for_it() {
    let mut story = Story::new();
    story.bring("sites", 1, json!({ "id": "srv", "a": 7 }));
    let no = story.put("sites", json!({ "id": "k", "a": 1 }));
    story.sent(no);
    let group = story.group(&[site("srv"), site("k")]);
    // The record is "srv" there, which the group changes: that has to go before "k" can move.
    let then = Box::new(conflict(1, json!({ "id": "srv", "a": 7 })));
    let key = "srv".into();
    story.verdict(no, Verdict::Rekeyed { key, then });
    let before = story.replica.outbox.dues().next().unwrap() - 1.0;
    assert_eq!(story.next(before, &[], 9), group[..1]);
    assert!(story.next(before, &[99], 9).is_empty());
    let bad = story.put("sites", json!({ "id": "bad" }));
    story.sent(bad);
    story.verdict(bad, refused(false));
    assert!(story.next(before, &[], 9).is_empty(), "the user may help");
}

#[test]
fn while_a_collection_is_in_trouble_a_batch_is_of_one() {
    let mut story = Story::new();
    let note = story.put("notes", json!({ "id": "n" }));
    let sites = [site("x"), site("y")].map(|(name, record)| story.put(name, record));
    let other = story.put("others", json!({ "id": "o" }));
    let all = vec![note, sites[0], sites[1], other];
    assert_eq!(story.next(0.0, &[], 9), all, "nobody is");
    story.replica.note_trouble(&[note], 0.0, 1.0);
    assert_eq!(story.next(0.0, &[], 9), sites);
    assert_eq!(story.next(0.0, &sites, 9), [other]);
    assert_eq!(story.next(5_000.0, &[], 9), [note]);
}

#[test]
fn what_was_sent_without_an_answer_waits_until_it_is_asked_for() {
    let mut story = Story::new();
    let nos = [site("x"), site("y")].map(|(name, record)| story.put(name, record));
    story.replica.note_unanswered(&nos[..1]);
    assert_eq!(story.next(0.0, &[], 9), nos[1..]);
    story.replica.ask_again();
    assert_eq!(story.next(0.0, &[], 9), nos);
}

#[test]
fn a_batch_still_goes_unless_something_in_it_has_to_wait() {
    let mut story = Story::new();
    let parent = story.put("sites", json!({ "id": "p" }));
    let child = story.put("notes", json!({ "id": "n", "siteId": "p" }));
    let goes = |story: &Story, batch: &[MutationNo]| story.replica.still_goes(batch);
    assert!(goes(&story, &[parent, 99]), "what is gone is not sent");
    assert!(!goes(&story, &[parent, child]), "the parent may be refused");
    story.sent(parent);
    let behind = story.put("sites", json!({ "id": "p", "a": 2 }));
    assert!(!goes(&story, &[behind]));
    story.verdict(parent, refused(false));
    let left: Vec<MutationNo> = story.replica.outbox.iter().map(|m| m.no).collect();
    let head = *left.iter().find(|no| **no != child).unwrap();
    story.sent(head);
    story.verdict(head, refused(false));
    assert_eq!(story.state(head), MutationState::Failed);
    assert!(!goes(&story, &[head]), "it is parked");

    let mut story = Story::new();
    let note = ("notes", json!({ "id": "n", "siteId": "x" }));
    let group = story.group(&[site("x"), note]);
    assert!(goes(&story, &group));
    assert!(!goes(&story, &group[1..]), "not without its parent");
    assert!(!goes(&story, &[group[1], group[0]]), "nor before it");
}

#[test]
fn only_what_can_go_is_marked_as_sent() {
    let mut story = Story::new();
    story.bring("notes", 1, json!({ "id": "n", "a": 1 }));
    let head = story.put("notes", json!({ "id": "n", "a": 2 }));
    story.sent(head);
    let tail = story.put("notes", json!({ "id": "n", "a": 3 }));
    let parked = story.put("sites", json!({ "id": "s" }));
    story.sent(parked);
    story.verdict(parked, refused(false));
    let plan = story.step(Intent::MarkSent(vec![head, tail, parked, 99]));
    assert_eq!(plan.unwrap().count, 0);
    story.verdict(head, conflict(2, json!({ "id": "n", "a": 4 })));
    let waits = story.replica.outbox.waiting().next().unwrap().no;
    let plan = story.step(Intent::MarkSent(vec![waits]));
    assert!(plan.unwrap().facts.is_empty());
}

#[test]
fn an_update_travels_with_its_changed_fields_alone() {
    let mut story = Story::new();
    story.bring("notes", 1, json!({ "id": "n", "a": 1, "b": 1 }));
    let update = Write::Update {
        key: "n".into(),
        patch: Rc::new(json!({ "a": 2 })),
        changed: ["a".into()].into(),
    };
    let no = story.write("notes", update);
    let change = story.replica.change(no).unwrap();
    assert_eq!(*change.data.unwrap(), json!({ "a": 2 }));
    assert_eq!(change.changed.as_deref(), Some(&["a".into()][..]));
    let whole = story.put("notes", json!({ "id": "m", "a": 2, "b": 1 }));
    let change = story.replica.change(whole).unwrap();
    assert_eq!(*change.data.unwrap(), json!({ "id": "m", "a": 2, "b": 1 }));
    assert!(change.changed.is_none());
}

/// Where the queue was not looked at again.
fn passed_over(story: &Story) -> usize {
    let places = story.replica.outbox.ready(None);
    let stuck = story.replica.stuck[0].borrow();
    places.filter(|place| stuck.end(*place).is_some()).count()
}

#[test]
fn groups_that_wait_are_looked_at_again_only_when_something_of_them_changes() {
    let mut story = Story::new();
    let note = |id: &str| ("notes", json!({ "id": id, "siteId": "p" }));
    let parent = story.put("sites", json!({ "id": "p" }));
    let old = story.put("others", json!({ "id": "o" }));
    story.sent(parent);
    story.sent(old);
    let first = story.group(&[site("x"), note("n")]);
    let second = story.group(&[("others", json!({ "id": "o", "a": 2 })), site("y")]);
    let flying = [parent, old];
    assert!(story.next(0.0, &flying, 9).is_empty());
    assert_eq!(passed_over(&story), 3, "what is behind is in no place");
    assert!(story.next(0.0, &flying, 9).is_empty());
    // What comes and does not wait.
    let free = story.put("sites", json!({ "id": "free" }));
    assert_eq!(passed_over(&story), 3);
    assert_eq!(story.next(0.0, &flying, 9), [free]);
    let confirmed = || Verdict::Success {
        version: Version(1),
        data: None,
    };
    story.verdict(old, confirmed());
    assert_eq!(story.next(0.0, &[parent, free], 9), second);
    story.verdict(parent, confirmed());
    let all = [&first[..], &second[..]].concat();
    let mut next = story.next(0.0, &[free], 9);
    next.sort_unstable();
    assert_eq!(next, all);
}

#[test]
fn a_group_that_waited_and_has_become_too_large_goes_one_by_one() {
    let mut story = Story::new();
    let parent = story.put("sites", json!({ "id": "p" }));
    story.sent(parent);
    let note = ("notes", json!({ "id": "n", "siteId": "p" }));
    let group = story.group(&[site("x"), site("y"), note]);
    assert!(story.next(0.0, &[parent], 9).is_empty());
    assert_eq!(passed_over(&story), 3);
    // What rewrites a member joins its group.
    let keys = (0..limits::BATCH_CHANGES_MAX).map(|n| format!("k{n}"));
    let keys: Vec<_> = std::iter::once("x".to_owned()).chain(keys).collect();
    let more: Vec<_> = keys.iter().map(|key| site(key)).collect();
    story.group(&more);
    let y = group[1];
    assert!(story.next(0.0, &[parent], 200).contains(&y));
}

#[test]
fn of_groups_that_become_one_the_smaller_is_rewritten() {
    let mut story = Story::new();
    let small = story.group(&[site("x"), site("y")]);
    let keys: Vec<String> = (0..20).map(|n| format!("large{n}")).collect();
    let sites: Vec<_> = keys.iter().map(|key| site(key)).collect();
    let large = story.group(&sites);
    let name = |story: &Story, no| story.replica.outbox.get(no).unwrap().group.clone();
    let before = name(&story, large[1]);
    story.group(&[site("x"), site("large0")]);
    assert_eq!(
        name(&story, large[1]),
        before,
        "else all of it is stored again"
    );
    assert_eq!(name(&story, small[1]), before);
}

fn groups(story: &Story) -> Vec<String> {
    let mut groups: Vec<String> = story
        .replica
        .outbox
        .iter()
        .filter_map(|m| Some(m.group.as_ref()?.to_string()))
        .collect();
    groups.sort_unstable();
    groups.dedup();
    groups
}

/// What it was written on is refused with its group, or meets a conflict there.
#[test]
fn a_group_is_not_torn_where_one_of_it_goes_on_with_a_larger_one() {
    let aborted = Verdict::Failed {
        refusal: Refusal {
            code: "aborted".into(),
            message: "no".into(),
        },
        retryable: true,
    };
    let met = conflict(3, json!({ "id": "x", "a": 7 }));
    for (first, other) in [(refused(false), refused(false)), (met, aborted)] {
        let mut story = Story::new();
        let small = story.group(&[site("x"), site("w")]);
        story.step(Intent::MarkSent(small.clone())).unwrap();
        story.group(&[site("x"), site("y"), site("z"), site("q")]);
        let verdicts = vec![(small[0], first), (small[1], other)];
        story.step(Intent::Verdicts(verdicts)).unwrap();
        assert_eq!(groups(&story).len(), 1, "{:?}", groups(&story));
        assert!(story.next(0.0, &[], 9).is_empty());
    }
}

#[test]
fn what_is_parked_joins_with_its_group() {
    let mut story = Story::new();
    let nos = [
        story.group(&[site("a"), site("b")]),
        story.group(&[site("c"), site("d")]),
    ]
    .concat();
    story.step(Intent::MarkSent(nos.clone())).unwrap();
    let verdicts = nos.iter().map(|no| (*no, refused(false)));
    story.step(Intent::Verdicts(verdicts.collect())).unwrap();
    story.group(&[site("a"), site("c")]);
    assert_eq!(groups(&story).len(), 1, "{:?}", groups(&story));
    for no in [nos[1], nos[3]] {
        assert_eq!(story.state(no), MutationState::Failed);
        assert!(story.next(0.0, &[], 9).is_empty());
        story.step(Intent::Retry(Some(no))).unwrap();
    }
    assert_eq!(story.next(0.0, &[], 9).len(), 4);
}

#[test]
fn what_joins_another_group_keeps_its_date() {
    let mut story = Story::new();
    let one = story.group(&[site("a"), site("b")]);
    story.group(&[site("c"), site("d"), site("e")]);
    let before = story.replica.outbox.get(one[0]).unwrap().at;
    story.group(&[site("b"), site("c")]);
    let a = story.replica.outbox.get(one[0]).unwrap();
    assert_eq!(a.at, before);
}

#[test]
fn what_goes_on_under_another_key_stays_in_its_group() {
    let mut story = Story::new();
    let no = story.put("sites", json!({ "id": "k", "a": 1 }));
    story.sent(no);
    story.group(&[("sites", json!({ "id": "k", "a": 2 })), site("y")]);
    // A page brings it under its key there before the answer comes.
    story.bring("sites", 3, json!({ "id": "srv", "a": 1 }));
    let then = Verdict::Success {
        version: Version(3),
        data: None,
    };
    story.verdict(
        no,
        Verdict::Rekeyed {
            key: "srv".into(),
            then: Box::new(then),
        },
    );
    let queued: Vec<_> = story
        .replica
        .outbox
        .iter()
        .map(|m| (m.key.to_string(), m.group.clone()))
        .collect();
    assert_eq!(queued.len(), 2, "{queued:?}");
    assert!(
        queued[0].1.is_some() && queued[0].1 == queued[1].1,
        "{queued:?}"
    );
}
