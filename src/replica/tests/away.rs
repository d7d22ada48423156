//! Records whose content is not in memory: what has to be fetched is named, and nothing else is looked at.

use super::*;
use crate::model::{Action, Key};
use crate::replica::collection::{Collection, Record};
use crate::replica::index::Query;
use crate::shown::Shown;
use crate::value::{Scalar, Value};
use std::cell::Cell;

/// A record that can be put out of memory, and then must not be looked at.
#[derive(Debug, Clone)]
struct Away(Rc<Json>, Rc<Cell<bool>>);

impl Away {
    fn new(json: Json) -> Self {
        Self::of(Rc::new(json))
    }

    fn of(json: Rc<Json>) -> Self {
        Self(json, Rc::new(Cell::new(false)))
    }

    fn json(&self) -> &Rc<Json> {
        assert!(self.is_resident(), "looked at what is not in memory");
        &self.0
    }
}

impl Value for Away {
    fn text(&self, field: &str) -> Option<Rc<str>> {
        self.json().text(field)
    }
    fn scalar(&self, field: &str) -> Option<Scalar> {
        self.json().scalar(field)
    }
    fn names(&self) -> Vec<Rc<str>> {
        self.json().names()
    }
    fn patched(&self, patch: &Self, names: &[Rc<str>]) -> Self {
        Self::of(self.json().patched(patch.json(), names))
    }
    fn picked(&self, names: &[Rc<str>]) -> Self {
        Self::of(self.json().picked(names))
    }
    fn with_text(&self, field: &str, text: &str) -> Self {
        Self::of(self.json().with_text(field, text))
    }
    fn same_field(&self, other: &Self, field: &str) -> bool {
        self.json().same_field(other.json(), field)
    }
    fn weight_bytes(&self) -> usize {
        self.json().weight_bytes()
    }
    fn is(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }
    fn is_resident(&self) -> bool {
        !self.1.get()
    }
}

fn record(value: &Away) -> Option<Record<Away>> {
    Some(Record {
        value: Some(value.clone()),
        version: Version(1),
        ..Record::default()
    })
}

#[test]
fn an_index_is_built_anew_where_it_cannot_be_kept_up() {
    let mut spec = CollectionSpec::new("notes", "id");
    let fields: Vec<Rc<str>> = vec!["a".into()];
    spec.indexes = vec![fields.clone()];
    let mut notes = Collection::new(spec, true);
    let values = [3, 1].map(|a| Away::new(json!({ "a": a })));
    for (value, key) in values.iter().zip(["x", "y"]) {
        notes.set(&key.into(), record(value));
    }
    let query = Query {
        index: Some(fields.clone()),
        ..Query::default()
    };
    let keys = |notes: &Collection<Away>| notes.find(&query).unwrap().join(" ");
    let missing = |notes: &Collection<Away>| notes.missing_for(Some(&fields)).len();
    values[0].1.set(true);
    assert_eq!(missing(&notes), 1);
    assert!(notes.missing_for(None).is_empty(), "keys are known");
    values[0].1.set(false);
    assert_eq!(keys(&notes), "y x");
    values[0].1.set(true);
    assert_eq!(missing(&notes), 0, "it is built");
    assert_eq!(keys(&notes), "y x");
    // What comes without its content cannot be put where it belongs.
    let third = Away::new(json!({ "a": 2 }));
    third.1.set(true);
    notes.set(&"z".into(), record(&third));
    assert_eq!(missing(&notes), 2);
    values[0].1.set(false);
    third.1.set(false);
    assert_eq!(keys(&notes), "y z x");
}

#[test]
fn what_is_missing_of_a_record_is_named_with_what_is_queued_for_it() {
    let specs = [CollectionSpec::new("notes", "id")];
    let mut replica: Replica<Away> = Replica::new("c".into(), &specs, 2);
    let (theirs, ours) = (Away::new(json!({ "a": 1 })), Away::new(json!({ "a": 2 })));
    let remote = |key: &str, value: &Away| Fact::Remote {
        collection: "notes".into(),
        key: key.into(),
        value: Some(value.clone()),
        version: Version(1),
    };
    let other = Away::new(json!({ "a": 3 }));
    replica.apply(&remote("n", &theirs), 1.0, Hlc::default());
    replica.apply(&remote("other", &other), 1.0, Hlc::default());
    let queued = Fact::Queued {
        no: 1,
        replaces: None,
        collection: "notes".into(),
        key: "n".into(),
        action: Action::Update,
        value: Some(ours.clone()),
        shows: Shown::Own,
        changed: None,
        group: None,
        origin: None,
    };
    replica.apply(&queued, 2.0, Hlc::default());
    let of = |replica: &Replica<Away>, key: &str| {
        let mut missing = Vec::new();
        replica.missing_of("notes", key, &mut missing);
        let mut of_no = Vec::new();
        replica.missing_of_no(1, &mut of_no);
        assert!(key != "n" || of_no.len() == missing.len());
        let is = |value: &Away| missing.iter().any(|m| m.is(value));
        (is(&theirs), is(&ours), is(&other))
    };
    assert_eq!(of(&replica, "n"), (false, false, false));
    theirs.1.set(true);
    assert_eq!(of(&replica, "n"), (true, false, false));
    ours.1.set(true);
    assert_eq!(of(&replica, "n"), (true, true, false));
    other.1.set(true);
    assert_eq!(of(&replica, "other"), (false, false, true));
    let all = replica.missing_at_all();
    let named = |value: &Away| all.iter().any(|m| m.is(value));
    assert!([&theirs, &ours, &other].into_iter().all(named));
    let unknown: Key = "unknown".into();
    assert_eq!(of(&replica, &unknown), (false, false, false));
}

#[test]
fn every_content_of_an_entry_is_visited() {
    let mut story = super::steps::Story::new();
    story.bring("notes", 1, json!({ "id": "n" }));
    let no = story.put("notes", json!({ "id": "n", "a": 1 }));
    story.sent(no);
    let verdict = super::steps::conflict(2, json!({ "id": "n", "a": 2 }));
    let told = story.verdict(no, verdict).facts;
    let m = story.replica.outbox.get(no).unwrap().clone();
    let met = Rc::new(story.replica.open_conflict(&m).unwrap());
    let held = story.replica.held(no).unwrap();
    let visited = |fact: Fact<Rc<Json>>| {
        let entry = crate::store::Entry {
            at_ms: 1.0,
            hlc: Hlc::default(),
            facts: vec![fact],
            summary: story.replica.summary(),
        };
        let mut visited = 0;
        entry.each_value(|_| visited += 1);
        visited
    };
    assert!(matches!(told[0], Fact::Remote { .. }));
    assert_eq!(visited(told[0].clone()), 1);
    assert!(visited(Fact::Conflicted(met)) >= 3, "base and both sides");
    assert!(visited(Fact::Held(Box::new(held))) >= 3, "with its shadow");
}

#[test]
fn what_is_not_in_memory_is_not_dated_anew_and_leaves_as_it_is() {
    // What is away of a mutation: nothing, its content, what the backend has of its record.
    for away in [None, Some(0), Some(1)] {
        let specs = [CollectionSpec::new("notes", "id")];
        let mut replica: Replica<Away> = Replica::new("c".into(), &specs, 2);
        let ours = Away::new(json!({ "id": "n", "a": 2 }));
        let theirs = Away::new(json!({ "id": "n", "a": 1 }));
        let future = Hlc {
            ms: 100_000_000.0,
            counter: 0,
        };
        let remote = Fact::Remote {
            collection: "notes".into(),
            key: "n".into(),
            value: Some(theirs.clone()),
            version: Version(1),
        };
        replica.apply(&remote, 1.0, Hlc::default());
        let queued = Fact::Queued {
            no: 1,
            replaces: None,
            collection: "notes".into(),
            key: "n".into(),
            action: Action::Update,
            value: Some(ours.clone()),
            shows: Shown::Own,
            changed: None,
            group: None,
            origin: None,
        };
        replica.apply(&queued, future.ms, future);
        // The server says that it is much earlier.
        replica.set_offset(-50_000_000.0, future.ms);
        if let Some(which) = away {
            [&ours, &theirs][which].1.set(true);
        }
        let now = Now {
            at_ms: future.ms,
            hlc: future,
            random: 0.5,
        };
        let plan = replica.plan(Intent::MarkSent(vec![1]), now).unwrap();
        let dated = plan.facts.iter().any(|f| matches!(f, Fact::Held(_)));
        assert_eq!(dated, away.is_none(), "{away:?}");
        let m = replica.outbox.get(1).unwrap();
        assert_eq!((m.at == future, m.sent), (away.is_some(), true), "{away:?}");
    }
}
