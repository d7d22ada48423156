//! Single steps whose outcome is told apart: what a random story meets too seldom to be counted on.

use super::super::plan::Notice;
use super::*;
use crate::model::{Action, MutationState, Name};
use crate::replica::plan::Plan;

/// A replica, and what happens to it, one step a second.
pub(super) struct Story {
    pub(super) replica: Replica<Record>,
    /// The second of the last step.
    pub(super) at: u64,
}

impl Story {
    pub(super) fn new() -> Self {
        let replica = empty();
        Self { replica, at: 0 }
    }

    pub(super) fn step(&mut self, intent: Intent<Record>) -> Result<Plan<Record>, Error> {
        self.at += 1;
        let at_ms = self.at as f64 * 1_000.0;
        let hlc = Hlc {
            ms: at_ms,
            counter: 0,
        };
        let random = 0.5;
        self.replica.begin();
        let plan = self.replica.plan(intent, Now { at_ms, hlc, random });
        self.replica.commit();
        plan
    }

    pub(super) fn write(&mut self, name: &str, write: Write<Record>) -> MutationNo {
        let intent = Intent::Write(name.into(), vec![write], WriteOptions::default());
        self.step(intent).unwrap();
        self.newest().unwrap()
    }

    pub(super) fn put(&mut self, name: &str, record: Json) -> MutationNo {
        self.write(name, Write::Put(Rc::new(record)))
    }

    pub(super) fn newest(&self) -> Option<MutationNo> {
        self.replica.outbox.iter().map(|m| m.no).last()
    }

    pub(super) fn sent(&mut self, no: MutationNo) {
        self.step(Intent::MarkSent(vec![no])).unwrap();
    }

    pub(super) fn verdict(&mut self, no: MutationNo, verdict: Verdict<Record>) -> Plan<Record> {
        self.step(Intent::Verdicts(vec![(no, verdict)])).unwrap()
    }

    pub(super) fn page(&mut self, changes: Vec<Pulled<Record>>) -> Plan<Record> {
        let page = Page {
            changes,
            checkpoint: self.at.to_string().into(),
            has_more: false,
            server_ms: None,
        };
        let since = self.replica.checkpoint();
        self.step(Intent::Page(since, page)).unwrap()
    }

    /// Brings a record of a version.
    pub(super) fn bring(&mut self, name: &str, version: u64, record: Json) {
        self.page(vec![pulled(name, version, record)]);
    }

    pub(super) fn shows(&self, name: &str, key: &str) -> Record {
        let collection = self.replica.collection(name).unwrap();
        collection.get(key).unwrap().clone()
    }

    pub(super) fn waits_for(&self, no: MutationNo) -> Option<MutationNo> {
        self.replica.waits_for(self.replica.outbox.get(no).unwrap())
    }

    pub(super) fn state(&self, no: MutationNo) -> MutationState {
        self.replica.outbox.get(no).unwrap().state
    }
}

pub(super) fn pulled(name: &str, version: u64, record: Json) -> Pulled<Record> {
    Pulled {
        collection: name.into(),
        key: record["id"].as_str().unwrap().into(),
        version: Version(version),
        data: Some(Rc::new(record)),
        at: None,
    }
}

pub(super) fn conflict(version: u64, record: Json) -> Verdict<Record> {
    Verdict::Conflict {
        version: Version(version),
        data: Some(Rc::new(record)),
        at: None,
    }
}

pub(super) fn refused(retryable: bool) -> Verdict<Record> {
    let refusal = Refusal {
        code: "no".into(),
        message: "no".into(),
    };
    Verdict::Failed { refusal, retryable }
}

#[test]
fn a_late_refusal_does_not_end_a_conflict_that_waits() {
    let mut story = Story::new();
    story.bring("notes", 1, json!({ "id": "n", "a": 1 }));
    let no = story.put("notes", json!({ "id": "n", "a": 2 }));
    story.sent(no);
    story.verdict(no, conflict(2, json!({ "id": "n", "a": 3 })));
    assert_eq!(story.state(no), MutationState::Conflict);
    let late = story.verdict(no, refused(false));
    assert_eq!(story.state(no), MutationState::Conflict);
    assert!(late.facts.is_empty() && late.notices.is_empty());
}

#[test]
fn a_page_tells_how_many_records_it_has_changed() {
    let mut story = Story::new();
    let told = |plan: &Plan<Record>| -> Vec<usize> {
        let counts = plan.notices.iter().map(|notice| match notice {
            Notice::Pulled(count) => *count,
            other => panic!("{other:?}"),
        });
        counts.collect()
    };
    let both = || {
        vec![
            pulled("notes", 1, json!({ "id": "n" })),
            pulled("sites", 1, json!({ "id": "s" })),
        ]
    };
    assert_eq!(told(&story.page(both())), [2]);
    assert!(told(&story.page(both())).is_empty(), "nothing was new");
    assert!(told(&story.page(vec![])).is_empty());
}

#[test]
fn what_is_chosen_shows_but_for_what_nobody_has_seen_yet() {
    const CHOSEN: fn() -> Choice<Record> =
        || Choice::Record(Some(Rc::new(json!({ "id": "n", "a": 9 }))));
    let hidden = |a: u64| {
        let write = Write::Update {
            key: "n".into(),
            patch: Rc::new(json!({ "a": a })),
            changed: ["a".into()].into(),
        };
        let options = WriteOptions {
            optimistic: Some(false),
            ..WriteOptions::default()
        };
        Intent::Write("notes".into(), vec![write], options)
    };
    // Written to be seen first or not, what is chosen, and what shows then.
    let cases = [
        (true, CHOSEN(), 9),
        (true, Choice::Local, 2),
        (false, CHOSEN(), 3),
        (false, Choice::Local, 3),
    ];
    for (seen, choice, shows) in cases {
        let mut story = Story::new();
        story.bring("notes", 1, json!({ "id": "n", "a": 1 }));
        if seen {
            story.put("notes", json!({ "id": "n", "a": 2 }));
        } else {
            story.step(hidden(4)).unwrap();
        }
        let no = story.newest().unwrap();
        story.sent(no);
        story.verdict(no, conflict(2, json!({ "id": "n", "a": 3 })));
        story.step(hidden(5)).unwrap();
        let id = story.replica.outbox.get(no).unwrap().wire_id("c");
        let plan = story.step(Intent::Resolve(id.into(), choice)).unwrap();
        assert_eq!(plan.count, 1);
        assert_eq!(story.shows("notes", "n")["a"], shows, "{seen} {shows}");
    }
}

#[test]
fn a_conflict_that_is_settled_once_more_is_of_the_time_of_that() {
    let mut story = Story::new();
    story.bring("notes", 1, json!({ "id": "n", "a": 1 }));
    let no = story.put("notes", json!({ "id": "n", "a": 2 }));
    story.sent(no);
    story.verdict(no, conflict(2, json!({ "id": "n", "a": 3 })));
    let id: Rc<str> = story.replica.outbox.get(no).unwrap().wire_id("c").into();
    for (at_ms, choice) in [(5_000.0, Choice::Remote), (6_000.0, Choice::Local)] {
        story.step(Intent::Resolve(id.clone(), choice)).unwrap();
        let [settled] = story.replica.conflicts() else {
            panic!("one takes the place of the other");
        };
        assert_eq!(settled.at_ms, at_ms);
    }
    assert_eq!(story.shows("notes", "n")["a"], 2);
}

#[test]
fn only_what_the_function_has_given_up_is_a_parked_conflict() {
    let mut story = Story::new();
    let no = story.put("notes", json!({ "id": "n", "a": 1 }));
    story.sent(no);
    story.verdict(no, refused(false));
    assert_eq!(story.state(no), MutationState::Failed);
    let m = story.replica.outbox.get(no).unwrap();
    assert!(story.replica.open_conflict(m).is_none());
}

#[test]
fn what_was_written_on_top_of_a_discarded_change_goes_with_it() {
    for (discarded, left) in [(0, 0), (1, 1)] {
        let mut story = Story::new();
        let head = story.put("notes", json!({ "id": "n", "a": 1 }));
        story.sent(head);
        let tail = story.put("notes", json!({ "id": "n", "a": 2 }));
        assert_ne!(head, tail);
        let no = [head, tail][discarded];
        let plan = story.step(Intent::Discard(no)).unwrap();
        assert_eq!((plan.count, plan.facts.len()), (1, 2 - discarded));
        assert_eq!(story.replica.outbox.len(), left);
    }
}

#[test]
fn a_deletion_waits_only_for_what_still_refers_to_its_record() {
    let mut story = Story::new();
    story.bring("sites", 1, json!({ "id": "p" }));
    let note = story.put("notes", json!({ "id": "n", "siteId": "p" }));
    let gone = story.write("sites", Write::Delete("p".into()));
    assert_eq!(story.waits_for(gone), Some(note));
    story.put("notes", json!({ "id": "n", "siteId": "q" }));
    assert_eq!(story.waits_for(gone), None);
    story.put("notes", json!({ "id": "n", "siteId": "p" }));
    assert_eq!(story.waits_for(gone), Some(note));
}

#[test]
fn what_a_tail_refers_to_is_repaired_and_the_head_stays() {
    let mut story = Story::new();
    let site = story.put("sites", json!({ "id": "k" }));
    story.sent(site);
    let head = story.put("notes", json!({ "id": "n", "a": 1 }));
    story.sent(head);
    let tail = story.put("notes", json!({ "id": "n", "a": 2, "siteId": "k" }));
    let then = Box::new(Verdict::Success {
        version: Version(1),
        data: None,
    });
    let key = "srv".into();
    let plan = story.verdict(site, Verdict::Rekeyed { key, then });
    assert_eq!(plan.collections, ["sites".into(), "notes".into()]);
    let left: Vec<MutationNo> = story.replica.outbox.iter().map(|m| m.no).collect();
    assert_eq!(left, [head, tail]);
    assert_eq!(story.shows("notes", "n")["siteId"], "srv");
    check(&story.replica);
}

#[test]
fn what_is_held_of_a_record_takes_the_place_of_what_was_there() {
    let mut story = Story::new();
    let no = story.put("notes", json!({ "id": "n", "a": 1 }));
    let mut held = story.replica.held(no).unwrap();
    held.mutation.no = 9;
    held.mutation.value = Some(Rc::new(json!({ "id": "n", "a": 9 })));
    story
        .replica
        .apply(&Fact::Held(Box::new(held)), 5_000.0, Hlc::default());
    let left: Vec<MutationNo> = story.replica.outbox.iter().map(|m| m.no).collect();
    assert_eq!(left, [9]);
    assert_eq!(story.shows("notes", "n")["a"], 9);
    check(&story.replica);
    let next = story.put("sites", json!({ "id": "s" }));
    assert_eq!(next, 10, "numbers go on after it");
}

#[test]
fn what_is_about_to_be_sent_touches_its_collection() {
    let mut story = Story::new();
    let no = story.put("notes", json!({ "id": "n" }));
    let plan = story.step(Intent::MarkSent(vec![no])).unwrap();
    assert_eq!(plan.collections, ["notes".into()]);
}

#[test]
fn a_deletion_of_what_still_shows_is_queued_and_of_nothing_is_not() {
    let mut story = Story::new();
    let delete = |story: &mut Story, optimistic: bool| {
        let options = WriteOptions {
            optimistic: Some(optimistic),
            ..WriteOptions::default()
        };
        let write = Write::Delete("n".into());
        let intent = Intent::Write("notes".into(), vec![write], options);
        story.step(intent).unwrap().facts.len()
    };
    assert_eq!(delete(&mut story, true), 0);
    story.bring("notes", 1, json!({ "id": "n" }));
    assert_eq!(delete(&mut story, false), 1, "it goes on showing");
    assert_eq!(delete(&mut story, false), 0);
    assert_eq!(delete(&mut story, true), 1);
    let notes = story.replica.collection("notes").unwrap();
    assert!(notes.get("n").is_none());
    assert_eq!(delete(&mut story, true), 0);
}

#[test]
fn what_is_created_anew_after_a_deletion_is_a_creation_only_where_nobody_has_it() {
    let mut story = Story::new();
    let no = story.put("notes", json!({ "id": "n" }));
    story.sent(no);
    story.verdict(no, refused(false));
    let action = |story: &Story| story.replica.outbox.iter().last().unwrap().action;
    story.write("notes", Write::Delete("n".into()));
    assert_eq!(action(&story), Action::Delete);
    story.put("notes", json!({ "id": "n" }));
    assert_eq!(action(&story), Action::Create);

    // Behind the creation on its way there will be something to update.
    let mut story = Story::new();
    let no = story.put("notes", json!({ "id": "n" }));
    story.sent(no);
    story.write("notes", Write::Delete("n".into()));
    story.put("notes", json!({ "id": "n" }));
    assert_eq!(action(&story), Action::Update);
}

#[test]
fn of_what_was_given_up_nothing_stays_and_of_what_was_deleted_its_version() {
    let mut story = Story::new();
    let no = story.put("notes", json!({ "id": "n" }));
    story.step(Intent::Discard(no)).unwrap();
    let notes = |story: &Story| story.replica.collection("notes").unwrap().records().count();
    assert_eq!(notes(&story), 0);
    story.bring("notes", 3, json!({ "id": "n" }));
    let mut gone = pulled("notes", 4, json!({ "id": "n" }));
    gone.data = None;
    story.page(vec![gone]);
    assert_eq!(notes(&story), 1);
    story.bring("notes", 3, json!({ "id": "n" }));
    let notes = story.replica.collection("notes").unwrap();
    assert!(notes.get("n").is_none(), "an old page");
}

#[test]
fn what_is_dated_in_the_future_is_dated_anew_before_it_leaves() {
    let mut story = Story::new();
    story.at = 100_000;
    let wrong = story.put("notes", json!({ "id": "n" }));
    // The server says that it is much earlier.
    story.replica.set_offset(-50_000_000.0, 100_001_000.0);
    let plan = story.step(Intent::MarkSent(vec![wrong])).unwrap();
    let dated = |story: &Story, no| story.replica.outbox.get(no).unwrap().at.ms;
    assert_eq!(dated(&story, wrong), 50_001_000.0, "by as much");
    assert_eq!(plan.facts.len(), 2);

    let mut story = Story::new();
    story.at = 100_000;
    let right = story.put("notes", json!({ "id": "n" }));
    story.replica.set_offset(0.0, 100_001_000.0);
    let plan = story.step(Intent::MarkSent(vec![right])).unwrap();
    assert_eq!(dated(&story, right), 100_001_000.0);
    assert_eq!(plan.facts.len(), 1);
}

#[test]
fn what_was_sent_refused_and_tried_anew_may_be_there() {
    let mut story = Story::new();
    let no = story.put("notes", json!({ "id": "n" }));
    story.sent(no);
    story.verdict(no, refused(false));
    // The request was refused as a whole, which says nothing of an earlier one whose answer was lost.
    story.step(Intent::Retry(Some(no))).unwrap();
    story.write(
        "notes",
        Write::Update {
            key: "n".into(),
            patch: Rc::new(json!({ "a": 1 })),
            changed: ["a".into()].into(),
        },
    );
    story.write("notes", Write::Delete("n".into()));
    let left: Vec<Action> = story.replica.outbox.iter().map(|m| m.action).collect();
    assert_eq!(left, [Action::Delete]);
}

/// Else a change of last week would win against one of yesterday, only because it had to be asked again.
#[test]
fn what_is_asked_again_is_as_old_as_before() {
    let mut story = Story::new();
    story.bring("others", 1, json!({ "id": "o", "a": 1 }));
    let no = story.put("others", json!({ "id": "o", "a": 2 }));
    let made = story.replica.outbox.get(no).unwrap().at;
    story.sent(no);
    story.bring("others", 3, json!({ "id": "o", "a": 3 }));
    story.verdict(no, conflict(2, json!({ "id": "o", "a": 9 })));
    let again = story.newest().unwrap();
    assert!(again > no, "the answer was older than the page");
    assert_eq!(story.replica.outbox.get(again).unwrap().at, made);
    story.sent(again);
    let later = Verdict::Conflict {
        version: Version(3),
        data: Some(Rc::new(json!({ "id": "o", "a": 3 }))),
        at: Some("0000000002500-0000-z".into()),
    };
    story.verdict(again, later);
    assert_eq!(story.shows("others", "o")["a"], 3, "the later one wins");

    let no = story.put("others", json!({ "id": "p", "a": 1 }));
    story.sent(no);
    let behind = story.put("others", json!({ "id": "p", "a": 2 }));
    let made = story.replica.outbox.get(behind).unwrap().at;
    story.verdict(no, refused(false));
    let both = story.newest().unwrap();
    assert!(
        both > behind,
        "what was refused goes on with what is behind it"
    );
    assert_eq!(story.replica.outbox.get(both).unwrap().at, made);
}

#[test]
fn what_is_written_after_a_page_is_later_than_what_it_brought() {
    let mut story = Story::new();
    let brought = |key: &str, at: &str| Pulled {
        at: Some(at.into()),
        ..pulled("others", 1, json!({ "id": key }))
    };
    let future = brought("b", "9999999999999-0000-z");
    story.page(vec![brought("a", "0000000031000-0002-z"), future]);
    let here = story.replica.hlc();
    assert_eq!((here.ms, here.counter), (31_000.0, 2));
}

/// It went over what others had changed before; it must not go over what they change after it.
#[test]
fn what_has_won_a_conflict_is_as_old_as_before() {
    let mut story = Story::new();
    story.bring("others", 1, json!({ "id": "o", "a": 1 }));
    let no = story.put("others", json!({ "id": "o", "a": 2 }));
    let made = story.replica.outbox.get(no).unwrap().at;
    let met = |version, a, at: &str| Verdict::Conflict {
        version: Version(version),
        data: Some(Rc::new(json!({ "id": "o", "a": a }))),
        at: Some(at.into()),
    };
    for (version, at) in [(2, "0000000001500-0000-z"), (3, "0000000000001-0000-c")] {
        let no = story.newest().unwrap();
        story.sent(no);
        story.verdict(no, met(version, 9, at));
        let again = story.newest().unwrap();
        assert!(
            again > no,
            "it was the later one, or only our own was there"
        );
        assert_eq!(story.replica.outbox.get(again).unwrap().at, made);
    }
    let no = story.newest().unwrap();
    story.sent(no);
    story.verdict(no, met(4, 3, "0000000002500-0000-z"));
    assert_eq!(story.shows("others", "o")["a"], 3);
}

#[test]
fn what_is_made_anew_over_a_deletion_is_a_creation() {
    let mut story = Story::new();
    let deleted = Pulled {
        data: None,
        ..pulled("notes", 2, json!({ "id": "n" }))
    };
    story.page(vec![deleted]);
    let no = story.put("notes", json!({ "id": "n", "a": 1 }));
    story.sent(no);
    story.verdict(no, refused(false));
    story.write("notes", Write::Delete("n".into()));
    story.put("notes", json!({ "id": "n", "a": 2 }));
    let left: Vec<_> = story
        .replica
        .outbox
        .iter()
        .map(|m| (m.action, m.base_version))
        .collect();
    assert_eq!(
        left,
        [(Action::Create, Version(2))],
        "an update would not be found"
    );
}

#[test]
fn what_was_sent_before_a_migration_comes_back_as_the_server_has_it() {
    let mut story = Story::new();
    let no = story.put("notes", json!({ "id": "n", "a": 1, "form": 1 }));
    story.sent(no);
    let at = story.replica.outbox.get(no).unwrap().at_text("c");
    let newer = |_: &Name, record: &Record, _: u32| {
        let mut record = (**record).clone();
        record["form"] = json!(2);
        Ok(Rc::new(record))
    };
    let hlc = Hlc {
        ms: 9_000.0,
        counter: 0,
    };
    let (at_ms, random) = (hlc.ms, 0.5);
    story.replica.begin();
    let now = Now { at_ms, hlc, random };
    story.replica.plan_migration(2, &newer, now).unwrap();
    story.replica.commit();
    assert_eq!(story.shows("notes", "n")["form"], 2);
    let update = Write::Update {
        key: "n".into(),
        patch: Rc::new(json!({ "a": 2 })),
        changed: ["a".into()].into(),
    };
    let behind = story.write("notes", update);
    // Its answer is lost; a pull tells what became of it.
    story.page(vec![Pulled {
        at: Some(at.into()),
        ..pulled("notes", 1, json!({ "id": "n", "a": 1, "form": 1 }))
    }]);
    let left: Vec<_> = story.replica.outbox.iter().map(|m| m.no).collect();
    assert_eq!(left, [behind]);
    let shown = json!({ "id": "n", "a": 2, "form": 1 });
    assert_eq!(
        *story.shows("notes", "n"),
        shown,
        "the server's is its own to migrate"
    );
}
