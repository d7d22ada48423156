//! Which segments a compaction keeps, and what it writes anew.

use super::steps::Story;
use super::*;
use crate::limits;
use crate::replica::fold::{Sizes, size_of};

/// As few records as a segment may have that is worth keeping.
const FEW: usize = limits::SEGMENT_FACTS_MAX / 4;

fn remote(key: usize, version: u64) -> Fact<Record> {
    Fact::Remote {
        collection: "notes".into(),
        key: format!("{key:06}").into(),
        value: Some(Rc::new(json!({ "id": format!("{key:06}") }))),
        version: Version(version),
    }
}

/// A replica with so many records that came from segment 7.
fn read(records: usize) -> Story {
    let mut story = Story::new();
    story.replica.read_from(7);
    for key in 0..records {
        story.replica.apply(&remote(key, 1), 1.0, Hlc::default());
    }
    story.replica.read_from(0);
    story
}

fn kept(story: &Story, size: usize) -> bool {
    let mut sizes = Sizes::default();
    sizes.insert(7, size);
    let fold = story.replica.fold(&sizes);
    assert!(fold.kept.is_empty() || fold.kept == [7]);
    let told = fold.entries.iter().flat_map(|e| &e.facts);
    let told = told
        .filter(|fact| matches!(fact, Fact::Remote { .. }))
        .count();
    let records = story.replica.collection("notes").unwrap();
    let plain = records.records().filter(|(_, r)| r.pending.is_none());
    let elsewhere = plain.filter(|(_, r)| r.home != 7 || fold.kept.is_empty());
    assert_eq!(told, elsewhere.count(), "what is kept is not told again");
    !fold.kept.is_empty()
}

#[test]
fn a_segment_is_kept_while_half_of_it_is_true_and_it_is_no_splinter() {
    let mut story = read(FEW);
    assert!(kept(&story, FEW));
    assert!(kept(&story, 2 * FEW));
    assert!(!kept(&story, 2 * FEW + 1), "more than half is past");
    assert!(
        !kept(&story, 0),
        "one that says anything else is never kept"
    );
    // What is queued for a record is told apart from what the segment says of it.
    let no = story.put("notes", json!({ "id": "000000", "a": 1 }));
    assert!(!kept(&story, FEW), "one less");
    story.step(Intent::Discard(no)).unwrap();
    assert!(!kept(&story, FEW), "written by the log since");
    assert!(!kept(&read(FEW - 1), FEW - 1));
    let full = limits::SEGMENT_FACTS_MAX;
    assert!(kept(&read(full), 2 * full) && !kept(&read(full), 2 * full + 1));
}

#[test]
fn only_a_segment_of_nothing_but_records_has_a_size() {
    let mut entry = read(2).replica.fold(&Sizes::default()).entries.remove(0);
    assert_eq!(size_of(&entry), 2);
    entry.facts.push(Fact::ConflictsCleared);
    assert_eq!(size_of(&entry), 0);
}

#[test]
fn a_compaction_tells_what_is_local_and_what_is_below_it() {
    let mut story = Story::new();
    let local = |story: &mut Story, key: &str| {
        let options = WriteOptions {
            local_only: Some(true),
            ..WriteOptions::default()
        };
        let write = Write::Put(Rc::new(json!({ "id": key, "a": 1 })));
        story
            .step(Intent::Write("notes".into(), vec![write], options))
            .unwrap();
    };
    local(&mut story, "alone");
    local(&mut story, "over");
    story.bring("notes", 3, json!({ "id": "over", "a": 3 }));
    let told = |story: &Story| {
        let facts = story.replica.fold(&Sizes::default()).entries.into_iter();
        let text = |fact: Fact<Record>| match fact {
            Fact::Remote { key, version, .. } => Some(format!("{key} {}", version.0)),
            Fact::Local { key, .. } => Some(format!("{key} local")),
            Fact::Schema { version, older } => Some(format!("schema {version} {older:?}")),
            _ => None,
        };
        let facts = facts.flat_map(|entry| entry.facts);
        facts.filter_map(text).collect::<Vec<_>>()
    };
    assert_eq!(told(&story), ["over 3", "alone local", "over local"]);
    let older = Rc::from([("notes".into(), 1)]);
    let schema = Fact::Schema { version: 2, older };
    story.replica.apply(&schema, 1.0, Hlc::default());
    assert_eq!(told(&story).last().unwrap(), r#"schema 2 [("notes", 1)]"#);
}

#[test]
fn written_records_live_in_their_segment_unless_they_have_changed_meanwhile() {
    let mut story = read(limits::SEGMENT_FACTS_MAX);
    let gone = Fact::Remote {
        collection: "notes".into(),
        key: "000003".into(),
        value: None,
        version: Version(2),
    };
    story.replica.apply(&gone, 1.5, Hlc::default());
    let was = story.replica.fold(&Sizes::default()).entries.remove(0);
    // Another content of the same version; a newer version; a queued change.
    let other = Fact::Remote {
        collection: "notes".into(),
        key: "000000".into(),
        value: Some(Rc::new(json!({ "id": "000000", "a": 1 }))),
        version: Version(1),
    };
    story.replica.apply(&other, 2.0, Hlc::default());
    let Fact::Remote { value, .. } = &was.facts[1] else {
        panic!("{:?}", was.facts[1]);
    };
    let newer = Fact::Remote {
        collection: "notes".into(),
        key: "000001".into(),
        value: value.clone(),
        version: Version(2),
    };
    story.replica.apply(&newer, 2.0, Hlc::default());
    story.put("notes", json!({ "id": "000002", "a": 1 }));
    let mut written = was.clone();
    for fact in &mut written.facts {
        if let Fact::Remote { value, .. } = fact {
            *value = value.as_ref().map(|v| Rc::new((**v).clone()));
        }
    }
    story.replica.rehome(9, &was, &written);
    let notes = story.replica.collection("notes").unwrap();
    let homes: Vec<u64> = notes.records().map(|(_, r)| r.home).collect();
    assert_eq!(homes, [0, 0, 0, 9]);
}

#[test]
fn a_written_record_has_what_can_be_fetched_again_unless_something_is_queued() {
    let mut story = read(2);
    let was = story.replica.fold(&Sizes::default()).entries.remove(0);
    let mut written = was.clone();
    let fresh = Rc::new(json!({ "id": "written" }));
    for fact in &mut written.facts {
        if let Fact::Remote { value, .. } = fact {
            *value = Some(fresh.clone());
        }
    }
    // It shows what it did before.
    let hidden = WriteOptions {
        optimistic: Some(false),
        ..WriteOptions::default()
    };
    let write = Write::Put(Rc::new(json!({ "id": "000000", "a": 1 })));
    let intent = Intent::Write("notes".into(), vec![write], hidden);
    story.step(intent).unwrap();
    story.replica.rehome(9, &was, &written);
    let notes = story.replica.collection("notes").unwrap();
    let homes: Vec<u64> = notes.records().map(|(_, r)| r.home).collect();
    assert_eq!(homes, [0, 9]);
    assert!(Rc::ptr_eq(notes.get("000001").unwrap(), &fresh));
}
