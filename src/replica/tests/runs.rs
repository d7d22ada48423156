//! What is read as runs is what would have been read fact by fact, whoever looks first.

use super::*;
use crate::limits;
use crate::model::{Action, Held, Mutation, MutationState, Name};
use crate::replica::fold::Sizes;
use crate::replica::index::Query;
use crate::shown::Shown;
use crate::store::{runs, singles};

/// Facts of one kind: from which key on, how many, how far apart, in which way.
type Part = (u16, u16, u16, u8);

fn key(n: u16) -> Rc<str> {
    // The first ones are those that the steps write to.
    match n {
        0..3 => format!("k{n}").into(),
        _ => format!("m{n:05}").into(),
    }
}

fn facts((from, count, by, how): Part, no: u64) -> Vec<Fact<Record>> {
    let name = ["sites", "notes", "others"][usize::from(how % 3)];
    let mut numbers: Vec<u16> = (0..count).map(|i| from + i * by).collect();
    if how % 7 == 0 {
        numbers.reverse();
    }
    let fact = |(at, n): (u64, &u16)| {
        let record = || Rc::new(json!({ "id": *key(*n), "n": n, "siteId": "k1" }));
        let collection = name.into();
        match how % 4 {
            0 => Fact::Remote {
                collection,
                key: key(*n),
                value: (how % 5 != 0 || n % 3 != 0).then(record),
                version: Version(u64::from(how % 11)),
            },
            1 => Fact::Held(Box::new(Held {
                mutation: Mutation {
                    sent: how % 8 == 5,
                    ..before(
                        &collection,
                        *n,
                        record(),
                        no + at * u64::from(1 + how % 5 / 3),
                    )
                },
                shadow: None,
                version: Version(0),
                confirmed: None,
            })),
            _ => Fact::Queued {
                no: no + at,
                replaces: None,
                collection,
                key: key(*n),
                action: Action::Create,
                value: Some(record()),
                shows: Shown::Own,
                changed: None,
                group: None,
                origin: None,
            },
        }
    };
    (0..).zip(&numbers).map(fact).collect()
}

/// One that is written down as it stands.
fn before(collection: &Name, n: u16, record: Record, no: u64) -> Mutation<Record> {
    Mutation {
        no,
        collection: collection.clone(),
        key: key(n),
        action: Action::Create,
        value: Some(record),
        shows: Shown::Own,
        changed: None,
        base_version: Version(0),
        base: None,
        priority: 0,
        behind: false,
        at: Hlc {
            ms: 7.0 + no as f64,
            counter: u32::from(n),
        },
        created_ms: f64::from(n) + 0.5,
        sent: false,
        state: MutationState::Pending,
        attempts: 0,
        last_attempt_ms: None,
        next_attempt_ms: None,
        error: None,
        group: None,
        origin: None,
    }
}

fn take_in(replica: &mut Replica<Record>, facts: &[Fact<Record>], at: u64) {
    let hlc = Hlc {
        ms: at as f64,
        counter: 0,
    };
    replica.read_from(at % 3);
    for fact in facts {
        replica.apply(fact, at as f64, hlc);
    }
    replica.read_from(0);
}

/// What can be seen without looking at a record closely enough to make it.
fn seen(replica: &Replica<Record>) -> Vec<String> {
    let mut lines = vec![format!("{:?}", replica.summary())];
    for name in ["sites", "notes", "others"] {
        let collection = replica.collection(name).unwrap();
        let all = (0..2_000).filter_map(|n| Some((n, collection.get(&key(n))?)));
        lines.push(format!("{:?}", all.collect::<Vec<_>>()));
        collection.each(&mut |record| lines.push(record.to_string()));
    }
    lines
}

fn looked_at(replica: &Replica<Record>) -> Vec<String> {
    let query = Query {
        descending: true,
        limit: 300,
        ..Query::default()
    };
    let found = |c: &super::super::Collection<Record>| c.find(&query).unwrap();
    let found = replica.collections.iter().map(found);
    let mut lines: Vec<_> = found.map(|keys| format!("{keys:?}")).collect();
    lines.extend(text(replica));
    lines
}

/// What a compaction tells, fact by fact, and what it keeps.
fn folded(replica: &Replica<Record>) -> Vec<String> {
    let mut sizes = Sizes::default();
    sizes.insert(1, 200);
    sizes.insert(2, 30);
    let fold = replica.fold(&sizes);
    let mut lines = vec![format!("{:?}", fold.kept)];
    for entry in &fold.entries {
        assert!(entry.weight() <= limits::SEGMENT_FACTS_MAX);
        for mut fact in singles(&entry.facts) {
            if let Fact::Held(held) = &mut fact {
                // That of the collection, whatever was stored.
                held.mutation.priority = 0;
            }
            lines.push(format!("{fact:?}"));
        }
    }
    lines
}

fn part() -> impl proptest::strategy::Strategy<Value = Part> {
    (0..1_500_u16, 1..300_u16, 1..3_u16, any::<u8>())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_run_is_what_it_is_made_of(
        parts in prop::collection::vec(part(), 1..6),
        steps in prop::collection::vec(any::<Step>(), 0..12),
        look in any::<bool>(),
    ) {
        let (mut whole, mut single) = (empty(), empty());
        whole.watch_mutations();
        single.watch_mutations();
        // Numbers need not come in order either: a backup brings older ones.
        for ((part, at), place) in parts.iter().zip(1..).zip([3, 0, 4, 1, 5]) {
            let facts = facts(*part, 1 + 600 * place);
            let run = runs(facts.clone());
            prop_assert!(part.1 == 1 || run.len() == 1);
            prop_assert_eq!(format!("{:?}", singles(&run)), format!("{:?}", facts));
            take_in(&mut whole, &run, at);
            take_in(&mut single, &facts, at);
        }
        prop_assert_eq!(whole.take_touched(), single.take_touched());
        prop_assert_eq!(seen(&whole), seen(&single));
        if look {
            prop_assert_eq!(looked_at(&whole), looked_at(&single));
        }
        prop_assert_eq!(folded(&whole), folded(&single));
        for (step, at) in steps.into_iter().zip(100..) {
            happen(&mut whole, at, step);
            happen(&mut single, at, step);
        }
        prop_assert_eq!(folded(&whole), folded(&single));
        prop_assert_eq!(seen(&whole), seen(&single));
        prop_assert_eq!(looked_at(&whole), looked_at(&single));
    }
}

#[test]
fn a_run_that_may_be_undone_is_undone() {
    let mut replica = empty();
    let before = looked_at(&replica);
    replica.begin();
    take_in(&mut replica, &runs(facts((0, 40, 1, 1), 1)), 1);
    assert_eq!(replica.outbox.counts().pending, 40);
    replica.rollback();
    assert_eq!(looked_at(&replica), before);
}

/// They may be hundreds of thousands, and what is made takes memory for good.
#[test]
fn what_does_not_refer_to_what_has_moved_is_not_made_for_that() {
    let mut replica = empty();
    let remote = |n: u16| Fact::Remote {
        collection: "notes".into(),
        key: format!("r{n:03}").into(),
        value: Some(Rc::new(json!({ "id": format!("r{n:03}"), "siteId": "k" }))),
        version: Version(1),
    };
    let queued = |n: u16| Fact::Queued {
        no: u64::from(n) + 1,
        replaces: None,
        collection: "notes".into(),
        key: format!("q{n:03}").into(),
        action: Action::Create,
        value: Some(Rc::new(
            json!({ "id": format!("q{n:03}"), "siteId": "other" }),
        )),
        shows: Shown::Own,
        changed: None,
        group: None,
        origin: None,
    };
    for facts in [
        (0..400).map(remote).collect(),
        (0..400).map(queued).collect(),
    ] {
        take_in(&mut replica, &runs(facts), 1);
    }
    let mut story = super::steps::Story { replica, at: 1 };
    let no = story.put("sites", json!({ "id": "k" }));
    let note = story.put("notes", json!({ "id": "z", "siteId": "k" }));
    story.sent(no);
    let then = Box::new(Verdict::Success {
        version: Version(1),
        data: None,
    });
    let key = "srv".into();
    story.verdict(no, Verdict::Rekeyed { key, then });
    assert_eq!(story.shows("notes", "z")["siteId"], "srv");
    assert!(story.replica.outbox.get(note).is_some());
    let notes = story.replica.collection("notes").unwrap();
    assert!(!notes.is_made("r200") && !notes.is_made("q200"));
}
