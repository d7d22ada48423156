//! Single steps whose outcome is told apart: what a random story meets too seldom to be counted on.

use super::super::plan::Notice;
use super::*;
use crate::model::MutationState;
use crate::replica::plan::Plan;

/// A replica, and what happens to it, one step a second.
struct Story {
    replica: Replica<Record>,
    at: u64,
}

impl Story {
    fn new() -> Self {
        let replica = empty();
        Self { replica, at: 0 }
    }

    fn step(&mut self, intent: Intent<Record>) -> Result<Plan<Record>, Error> {
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

    fn write(&mut self, name: &str, write: Write<Record>) -> MutationNo {
        let intent = Intent::Write(name.into(), vec![write], WriteOptions::default());
        self.step(intent).unwrap();
        self.newest().unwrap()
    }

    fn put(&mut self, name: &str, record: Json) -> MutationNo {
        self.write(name, Write::Put(Rc::new(record)))
    }

    fn newest(&self) -> Option<MutationNo> {
        self.replica.outbox.iter().map(|m| m.no).last()
    }

    fn sent(&mut self, no: MutationNo) {
        self.step(Intent::MarkSent(vec![no])).unwrap();
    }

    fn verdict(&mut self, no: MutationNo, verdict: Verdict<Record>) -> Plan<Record> {
        self.step(Intent::Verdicts(vec![(no, verdict)])).unwrap()
    }

    fn page(&mut self, changes: Vec<Pulled<Record>>) -> Plan<Record> {
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
    fn bring(&mut self, name: &str, version: u64, record: Json) {
        self.page(vec![pulled(name, version, record)]);
    }

    fn state(&self, no: MutationNo) -> MutationState {
        self.replica.outbox.get(no).unwrap().state
    }
}

fn pulled(name: &str, version: u64, record: Json) -> Pulled<Record> {
    Pulled {
        collection: name.into(),
        key: record["id"].as_str().unwrap().into(),
        version: Version(version),
        data: Some(Rc::new(record)),
        at: None,
    }
}

fn conflict(version: u64, record: Json) -> Verdict<Record> {
    Verdict::Conflict {
        version: Version(version),
        data: Some(Rc::new(record)),
        at: None,
    }
}

fn refused(retryable: bool) -> Verdict<Record> {
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
