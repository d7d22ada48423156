//! The suite that every store has to pass: run on the memory store natively and on IndexedDB in
//! the browser.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test suite")]

use super::{AppendError, Base, Entry, Fact, Gone, Place, ReadEntry, Seq, Store, Summary, singles};
use crate::conflict::{Conflict, Outcome};
use crate::hlc::Hlc;
use crate::model::{Action, Confirmed, Held, Mutation, MutationState, Refusal, Version};
use crate::options::Strategy;
use crate::shown::Shown;
use crate::value::Value;
use std::rc::Rc;

/// Runs the whole suite on an empty log, `other` being a second handle ("tab") on it. `record`
/// makes a record with the fields `id` ("r7") and `n` (7).
///
/// # Panics
/// At the first difference from the contract.
pub async fn run<V: Value, S: Store<V>>(store: S, other: S, record: impl Fn(u32) -> V) {
    let tail = store.tail().await.unwrap();
    assert_eq!(
        (tail.seq, tail.summary.is_none()),
        (0, true),
        "a new log is empty"
    );
    assert!(!tail.client.is_empty(), "a log has an identity");
    assert_eq!(
        tail.client,
        other.tail().await.unwrap().client,
        "the same for every tab"
    );

    // A transaction of several entries: all in order, visible to the other tab.
    let written = [entry(1, all_facts(&record)), entry(2, bulk(&record, 0..10))];
    store.append(0, &written).await.unwrap();
    let read = log_of(&other, 0, 10).await;
    assert_eq!(read.len(), 2);
    for ((seq, got), (want, i)) in read.iter().zip(written.iter().zip(1..)) {
        assert_eq!(*seq, i);
        same_entry(got.as_ref().unwrap(), want);
    }
    let tail = other.tail().await.unwrap();
    assert_eq!(tail.seq, 2);
    assert_eq!(
        tail.summary.unwrap(),
        written[1].summary,
        "the newest entry's counts"
    );

    // A stale writer is refused, whole, whichever of its entries collides.
    let late = [
        entry(3, bulk(&record, 10..12)),
        entry(4, bulk(&record, 12..14)),
    ];
    let refused = other.append(1, &late).await;
    assert!(matches!(refused, Err(AppendError::Taken)), "{refused:?}");
    let refused = other.append(0, &late).await;
    assert!(matches!(refused, Err(AppendError::Taken)), "{refused:?}");
    assert_eq!(
        store.tail().await.unwrap().seq,
        2,
        "nothing of it was stored"
    );
    other.append(2, &late).await.unwrap();

    // Paging.
    let page = log_of(&store, 1, 2).await;
    assert_eq!(page.iter().map(|(seq, _)| *seq).collect::<Vec<_>>(), [2, 3]);
    assert!(log_of(&store, 4, 10).await.is_empty());

    // Both tabs at once: exactly one of them is first.
    let (a, b) = (
        [entry(5, bulk(&record, 20..21))],
        [entry(5, bulk(&record, 21..22))],
    );
    let (first, second) = futures_util::join!(store.append(4, &a), other.append(4, &b));
    assert!(first.is_ok() != second.is_ok(), "{first:?} and {second:?}");
    assert_eq!(log_of(&store, 4, 10).await.len(), 1);

    store.quarantine(Place::Log(3), "a test").await.unwrap();
    store.quarantine(Place::Log(3), "a test").await.unwrap();
    assert_eq!(
        log_of(&store, 2, 1).await.len(),
        1,
        "quarantine keeps a copy"
    );
    segments(&store, &other, &record).await;
}

async fn log_of<V: Value, S: Store<V>>(store: &S, after: Seq, limit: u32) -> Vec<ReadEntry<V>> {
    let log = store.read(after, limit).await.unwrap();
    log.into_iter().collect()
}

/// Segments are nothing until the base names them; then what it does not need can go.
async fn segments<V: Value, S: Store<V>>(store: &S, other: &S, record: &impl Fn(u32) -> V) {
    let folded = [entry(6, all_facts(record)), entry(7, bulk(record, 0..10))];
    let written = store.write_segments(&folded).await.unwrap();
    for ((_, got), want) in written.iter().zip(&folded) {
        same_entry(got, want);
    }
    assert_eq!(store.tail().await.unwrap().base, Base::default());
    let base = Base {
        generation: 1,
        through: 4,
        segments: written.iter().map(|(id, _)| *id).collect(),
        summary: folded[1].summary.clone(),
    };
    assert!(store.switch(&base).await.unwrap());
    assert!(!other.switch(&base).await.unwrap(), "somebody was faster");
    assert_eq!(other.tail().await.unwrap().base, base);
    let read = other.read_segments(&base.segments).await.unwrap();
    for ((id, got), (want_id, want)) in read.iter().zip(&written) {
        assert_eq!(id, want_id);
        same_entry(got.as_ref().unwrap(), want);
    }

    // Out of memory and back.
    let mut values = Vec::new();
    written[1].1.each_value(|v| values.push(v.clone()));
    store.evict();
    store.fetch(&values).await.unwrap();
    assert!(values.iter().all(Value::is_resident));
    same_entry(&written[1].1, &folded[1]);

    // What nobody needs goes, and nothing else.
    let orphan = [entry(8, bulk(record, 3..5))];
    let orphan = other.write_segments(&orphan).await.unwrap();
    let places = async |store: &S| -> Vec<Seq> {
        let log = log_of(store, 0, 10).await;
        log.iter().map(|(seq, _)| *seq).collect()
    };
    let before = places(other).await;
    store.sweep(base.generation - 1, 5).await.unwrap();
    assert_eq!(places(other).await, before, "another base is stored");
    store.sweep(base.generation, 1).await.unwrap();
    let rest: Vec<Seq> = before.into_iter().filter(|seq| *seq > 1).collect();
    assert_eq!(places(other).await, rest, "not what was not read");
    store.sweep(base.generation, 5).await.unwrap();
    let log = log_of(other, 0, 10).await;
    assert_eq!(log.iter().map(|(seq, _)| *seq).collect::<Vec<_>>(), [5]);
    assert_eq!(other.tail().await.unwrap().seq, 5);
    let read = other.read_segments(&[orphan[0].0, base.segments[0]]).await;
    let found: Vec<bool> = read.unwrap().iter().map(|(_, e)| e.is_ok()).collect();
    assert_eq!(found, [false, true]);
    let next = [entry(9, bulk(record, 30..31))];
    store.append(5, &next).await.unwrap();
    assert_eq!(other.tail().await.unwrap().seq, 6);
}

fn entry<V>(n: u32, facts: Vec<Fact<V>>) -> Entry<V> {
    let n = f64::from(n);
    Entry {
        at_ms: 1_000.0 + n,
        hlc: Hlc {
            ms: 2_000.0 + n,
            counter: 7,
        },
        facts,
        summary: Summary {
            pending: 3,
            conflict: 2,
            failed: 1,
            next_no: 90,
            counts: vec![("sites".into(), 12), ("notes".into(), 0)],
            pulled_ms: Some(5.0),
        },
    }
}

/// Runs of alike facts, as bulk writes and pages make them, broken where they stop being alike.
fn bulk<V: Value>(record: &impl Fn(u32) -> V, range: std::ops::Range<u32>) -> Vec<Fact<V>> {
    let mut facts = Vec::new();
    for n in range.clone() {
        facts.push(queued(record, u64::from(n) + 1, None, n, Action::Create));
    }
    for n in range.clone() {
        facts.push(queued(
            record,
            u64::from(n) * 2 + 40,
            None,
            n,
            Action::Update,
        ));
    }
    for n in range.clone() {
        facts.push(remote(record, n, u64::from(n % 3) + 1));
    }
    for n in range.clone() {
        facts.push(plain(record, n));
    }
    for n in range {
        facts.push(Fact::Acked {
            no: u64::from(n) + 1,
            version: Version(1),
            value: None,
        });
    }
    facts
}

/// As it was queued, and as nobody has touched it since.
fn plain<V: Value>(record: &impl Fn(u32) -> V, n: u32) -> Fact<V> {
    let Fact::Held(mut held) = held(record, false) else {
        return remote(record, n, 1);
    };
    let mutation = Mutation {
        no: u64::from(n) * 2 + 500,
        collection: if n % 16 == 9 { "notes" } else { "sites" }.into(),
        key: format!("r{n}").into(),
        action: Action::Create,
        value: Some(record(n)),
        changed: (n % 16 == 5).then(|| [Rc::from("n")].into()),
        sent: n % 16 > 12,
        base_version: Version(0),
        base: None,
        at: Hlc {
            ms: f64::from(n) + 60.0,
            counter: n % 3,
        },
        created_ms: f64::from(n) + 50.5,
        state: MutationState::Pending,
        attempts: 0,
        ..held.mutation
    };
    held = Box::new(Held {
        mutation,
        shadow: None,
        version: Version(0),
        confirmed: None,
    });
    assert!(held.is_plain());
    // Not what they are stored as together, where any of this is said of it.
    let change: [fn(&mut Held<V>); 9] = [
        |it| it.version = Version(1),
        |it| it.confirmed = Some(confirmed(0)),
        |it| it.mutation.base_version = Version(1),
        |it| it.mutation.behind = true,
        |it| it.mutation.state = MutationState::Conflict,
        |it| it.mutation.attempts = 1,
        |it| it.mutation.next_attempt_ms = Some(1.0),
        |it| it.mutation.group = Some("c.1".into()),
        |it| it.mutation.origin = Some("d.1".into()),
    ];
    if let Some(change) = change.get(n as usize % 32) {
        change(&mut held);
        assert!(!held.is_plain());
    }
    Fact::Held(held)
}

fn queued<V: Value>(
    record: &impl Fn(u32) -> V,
    no: u64,
    replaces: Option<u64>,
    n: u32,
    action: Action,
) -> Fact<V> {
    let value = (action != Action::Delete).then(|| record(n));
    let changed: Option<Rc<[Rc<str>]>> =
        (action == Action::Update && n.is_multiple_of(2)).then(|| [Rc::from("n")].into());
    let (collection, key) = ("sites".into(), format!("r{n}").into());
    Fact::Queued {
        no,
        replaces,
        collection,
        key,
        action,
        value,
        shows: Shown::Own,
        changed,
        group: None,
        origin: None,
    }
}

/// A mutation that is not as simple as those of a bulk write.
fn rewritten<V: Value>(
    record: &impl Fn(u32) -> V,
    shows: Shown<V>,
    group: Option<&str>,
    origin: Option<&str>,
) -> Fact<V> {
    Fact::Queued {
        no: 12,
        replaces: None,
        collection: "sites".into(),
        key: "r4".into(),
        action: Action::Update,
        value: Some(record(4)),
        shows,
        changed: Some([Rc::from("n")].into()),
        group: group.map(Rc::from),
        origin: origin.map(Rc::from),
    }
}

fn held<V: Value>(record: &impl Fn(u32) -> V, full: bool) -> Fact<V> {
    let one = |n| full.then(|| record(n));
    let mutation = Mutation {
        no: 31,
        collection: "sites".into(),
        key: "r6".into(),
        action: if full { Action::Update } else { Action::Delete },
        value: one(6),
        shows: if full {
            Shown::Patch(record(7), [Rc::from("n")].into())
        } else {
            Shown::Own
        },
        changed: full.then(|| [Rc::from("n")].into()),
        base_version: Version(3),
        base: one(5),
        priority: 0,
        behind: full,
        at: Hlc {
            ms: 77.0,
            counter: 5,
        },
        created_ms: 70.5,
        sent: full,
        state: if full {
            MutationState::Failed
        } else {
            MutationState::Pending
        },
        attempts: 2,
        last_attempt_ms: full.then_some(81.0),
        next_attempt_ms: full.then_some(90.0),
        error: full.then(|| Refusal {
            code: "invalid".into(),
            message: "é".into(),
        }),
        group: full.then(|| "c.30".into()),
        origin: full.then(|| "other.9".into()),
    };
    Fact::Held(Box::new(Held {
        mutation,
        shadow: one(8),
        version: Version(4),
        confirmed: full.then(|| confirmed(4)),
    }))
}

fn confirmed(version: u64) -> Confirmed {
    Confirmed {
        at: "1763000000000-0000-é".into(),
        version: Version(version),
    }
}

fn remote<V: Value>(record: &impl Fn(u32) -> V, n: u32, version: u64) -> Fact<V> {
    let (collection, key) = ("sites".into(), format!("r{n}").into());
    let value = (n % 4 != 3).then(|| record(n));
    Fact::Remote {
        collection,
        key,
        value,
        version: Version(version),
    }
}

/// One of each kind, in every shape.
fn all_facts<V: Value>(record: &impl Fn(u32) -> V) -> Vec<Fact<V>> {
    let refusal = Refusal {
        code: "invalid".into(),
        message: "no <b>name</b>".into(),
    };
    let conflict = Conflict {
        id: "c.1".into(),
        collection: "sites".into(),
        key: "r1".into(),
        at_ms: 12.0,
        strategy: Strategy::Merge,
        outcome: Outcome::Merged,
        base: None,
        local: Some(record(1)),
        remote: Some(record(2)),
        result: Some(record(3)),
    };
    vec![
        queued(record, 1, None, 1, Action::Create),
        queued(record, 2, None, 2, Action::Update),
        queued(record, 3, None, 3, Action::Update),
        queued(record, 9, Some(2), 4, Action::Delete),
        Fact::Cancelled {
            no: 9,
            why: Gone::Discarded,
        },
        Fact::Cancelled {
            no: 9,
            why: Gone::Lost,
        },
        Fact::Cancelled {
            no: 9,
            why: Gone::Same,
        },
        Fact::Cancelled {
            no: 9,
            why: Gone::Joined(8),
        },
        Fact::Sent {
            nos: vec![1, 2, 3, 7, 9],
        },
        Fact::Acked {
            no: 1,
            version: Version(4),
            value: Some(record(1)),
        },
        Fact::Refused {
            no: 3,
            refusal: refusal.clone(),
            attempts: 2,
            next_attempt_ms: Some(8.0),
        },
        Fact::Refused {
            no: 3,
            refusal,
            attempts: 3,
            next_attempt_ms: None,
        },
        Fact::Rebased { no: 3 },
        Fact::Waits { no: 3 },
        remote(record, 5, 3),
        remote(record, 7, 9),
        Fact::Conflicted(Rc::new(conflict)),
        Fact::ConflictsCleared,
        rewritten(record, Shown::Before, None, None),
        rewritten(record, Shown::Record(None), Some("c.3"), None),
        rewritten(record, Shown::Record(Some(record(9))), None, Some("o.1")),
        rewritten(
            record,
            Shown::Patch(record(2), [Rc::from("n"), Rc::from("m")].into()),
            Some("c.3"),
            Some("o.2"),
        ),
        queued(record, 40, None, 2, Action::Update),
        rewritten(record, Shown::Own, Some("c.3"), None),
        held(record, true),
        held(record, false),
        Fact::Local {
            collection: "notes".into(),
            key: "r1".into(),
            value: Some(record(1)),
        },
        Fact::Local {
            collection: "notes".into(),
            key: "r1".into(),
            value: None,
        },
        Fact::Schema {
            version: 3,
            older: Rc::from([("sites".into(), 2)]),
        },
        Fact::Rekeyed {
            collection: "sites".into(),
            field: "id".into(),
            from: "r1".into(),
            to: "é 1".into(),
        },
        Fact::Aliases {
            collection: "sites".into(),
            pairs: vec![("r1".into(), "é 1".into()), ("r2".into(), "s2".into())],
        },
        Fact::Confirmed {
            collection: "sites".into(),
            key: "é 1".into(),
            confirmed: confirmed(3),
        },
        Fact::Checkpoint {
            checkpoint: None,
            collections: Rc::from([]),
        },
        Fact::Checkpoint {
            checkpoint: Some("é 12".into()),
            collections: Rc::from(["sites".into(), "notes".into()]),
        },
    ]
}

/// Compares two entries, records field by field.
///
/// # Panics
/// Where they differ.
pub fn same_entry<V: Value>(got: &Entry<V>, want: &Entry<V>) {
    assert_eq!((got.at_ms, got.hlc), (want.at_ms, want.hlc));
    assert_eq!(got.summary, want.summary);
    assert_eq!(got.weight(), want.weight());
    for (got, want) in singles(&got.facts).iter().zip(&singles(&want.facts)) {
        assert_eq!(shape(got), shape(want));
    }
}

/// A fact with its records written out as text.
fn shape<V: Value>(fact: &Fact<V>) -> String {
    let one = |value: &Option<V>| match value {
        None => "none".to_owned(),
        Some(v) => format!("{:?} {:?} {:?}", v.names(), v.text("id"), v.scalar("n")),
    };
    let shown = |shows: &Shown<V>| match shows {
        Shown::Own => "own".to_owned(),
        Shown::Before => "before".to_owned(),
        Shown::Patch(patch, names) => format!("{} {names:?}", one(&Some(patch.clone()))),
        Shown::Record(record) => one(record),
    };
    match fact {
        Fact::Queued {
            no,
            replaces,
            collection,
            key,
            action,
            value,
            shows,
            changed,
            group,
            origin,
        } => format!(
            "queued {no} {replaces:?} {collection} {key} {action:?} {} {} {changed:?} {group:?} {origin:?}",
            one(value),
            shown(shows),
        ),
        Fact::Held(held) => {
            let m = &held.mutation;
            let texts = [&m.value, &m.base, &held.shadow].map(one).join(" ");
            let times = (m.created_ms, m.last_attempt_ms, m.next_attempt_ms, m.at);
            let rest = (
                m.sent,
                m.state,
                m.attempts,
                &m.error,
                m.behind,
                held.version,
                &held.confirmed,
            );
            let ids = (&m.group, &m.origin, &m.changed, m.base_version);
            format!(
                "held {} {} {} {:?} {texts} {} {times:?} {rest:?} {ids:?}",
                m.no,
                m.collection,
                m.key,
                m.action,
                shown(&m.shows)
            )
        }
        Fact::Local {
            collection,
            key,
            value,
        } => format!("local {collection} {key} {}", one(value)),
        Fact::Schema { version, older } => format!("schema {version} {older:?}"),
        Fact::Run(run) => format!("a run of {}", run.values.len()),
        Fact::Rekeyed {
            collection,
            field,
            from,
            to,
        } => format!("rekeyed {collection} {field} {from} {to}"),
        Fact::Aliases { collection, pairs } => format!("aliases {collection} {pairs:?}"),
        Fact::Confirmed {
            collection,
            key,
            confirmed,
        } => format!("confirmed {collection} {key} {confirmed:?}"),
        Fact::Cancelled { no, why } => format!("cancelled {no} {why:?}"),
        Fact::Sent { nos } => format!("sent {nos:?}"),
        Fact::Acked { no, version, value } => format!("acked {no} {version:?} {}", one(value)),
        Fact::Refused {
            no,
            refusal,
            attempts,
            next_attempt_ms,
        } => {
            format!("refused {no} {refusal:?} {attempts} {next_attempt_ms:?}")
        }
        Fact::Rebased { no } => format!("rebased {no}"),
        Fact::Remote {
            collection,
            key,
            value,
            version,
        } => {
            format!("remote {collection} {key} {} {version:?}", one(value))
        }
        Fact::Checkpoint {
            checkpoint,
            collections,
        } => {
            format!("checkpoint {checkpoint:?} {collections:?}")
        }
        Fact::Conflicted(c) => format!(
            "conflict {} {} {} {} {:?} {:?} {} {} {} {}",
            c.id,
            c.collection,
            c.key,
            c.at_ms,
            c.strategy,
            c.outcome,
            one(&c.base),
            one(&c.local),
            one(&c.remote),
            one(&c.result)
        ),
        Fact::ConflictsCleared => "conflicts cleared".to_owned(),
        Fact::Waits { no } => format!("waits {no}"),
    }
}
