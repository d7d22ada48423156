//! Whatever a replica has come to, what is queued can be written down as it stands and read into an
//! empty one: both are equal then, and go on alike.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod apply;
mod away;
mod batch;
mod fold;
mod import;
mod lanes;
mod rekey;
mod repull;
mod runs;
mod steps;
mod undo;

use super::Replica;
use super::plan::{Decided, Edit, Intent, Now, Transaction, Write, WriteOptions};
use crate::conflict::{Answer, Choice};
use crate::error::{Code, Error};
use crate::hlc::Hlc;
use crate::model::{MutationNo, Page, Pulled, Refusal, Verdict, Version};
use crate::options::{CollectionSpec, Strategy};
use crate::store::Fact;
use proptest::prelude::*;
use serde_json::{Value as Json, json};
use std::collections::HashSet;
use std::rc::Rc;

type Record = Rc<Json>;

fn empty() -> Replica<Record> {
    let mut notes = CollectionSpec::new("notes", "id");
    notes.references = vec![("siteId".into(), "sites".into())];
    notes.priority = 2;
    notes.strategy = Strategy::Manual;
    let mut sites = CollectionSpec::new("sites", "id");
    sites.strategy = Strategy::Function;
    let specs = [sites, notes, CollectionSpec::new("others", "id")];
    Replica::new("c".into(), &specs, 2)
}

/// One thing that happens: what, to which record, in which way.
type Step = (u8, u8, u8);

fn intent(replica: &Replica<Record>, at: u64, (what, which, how): Step) -> Intent<Record> {
    let key = format!("k{}", which % 3);
    let options = match how % 4 {
        0 => WriteOptions {
            optimistic: Some(false),
            ..WriteOptions::default()
        },
        1 => WriteOptions {
            local_only: Some(true),
            ..WriteOptions::default()
        },
        _ => WriteOptions::default(),
    };
    let field = if how % 2 == 0 { "a" } else { "b" };
    let update = || Write::Update {
        key: key.as_str().into(),
        patch: Rc::new(json!({ field: at })),
        changed: [field.into()].into(),
    };
    let put = |key: &str| Write::Put(Rc::new(json!({ "id": key, "a": at, "siteId": "k1" })));
    let head = replica.outbox.iter().nth(usize::from(which)).map(|m| m.no);
    let no: MutationNo = head.unwrap_or(1);
    let mut heads = replica.outbox.iter().filter(|m| !m.behind).map(|m| m.no);
    let first = heads.nth(usize::from(which)).unwrap_or(1);
    let name = match how % 8 {
        0 | 1 => "others",
        2..6 => "sites",
        _ => "notes",
    };
    let record = |key: &str| Rc::new(json!({ "id": key, "chosen": at }));
    let waits = replica.outbox.waiting().nth(usize::from(which % 2));
    let waits = waits.map_or(1, |m| m.no);
    let write = |write| Intent::Write(name.into(), vec![write], options);
    let remote = Rc::new(json!({ "id": key, "a": "remote", "b": at }));
    match what % 15 {
        0 | 1 => write(put(&key)),
        2 | 3 => write(update()),
        4 => write(Write::Delete(key.as_str().into())),
        5 => write(Write::Promote(key.as_str().into())),
        6 => Intent::Transaction(Transaction {
            writes: vec![
                ("sites".into(), put(&key), options),
                ("notes".into(), put("n"), WriteOptions::default()),
            ],
            reads: Vec::new(),
            grouped: true,
        }),
        7 => Intent::MarkSent(vec![first]),
        8 => {
            let version = Version(at);
            let verdict = match how % 5 {
                4 => Verdict::Rekeyed {
                    key: format!("s{at}").into(),
                    then: Box::new(Verdict::Success {
                        version,
                        data: None,
                    }),
                },
                0 => Verdict::Success {
                    version,
                    data: None,
                },
                1 => Verdict::Conflict {
                    version,
                    data: Some(remote),
                    at: Some(format!("{:013}-0000-z", at * 10 + u64::from(which)).into()),
                },
                _ => Verdict::Failed {
                    refusal: Refusal {
                        code: "no".into(),
                        message: "é".into(),
                    },
                    retryable: how % 5 == 2,
                },
            };
            Intent::Verdicts(vec![(first, verdict)])
        }
        9 => {
            let change = Pulled {
                collection: name.into(),
                key: key.as_str().into(),
                version: Version(at),
                data: (how % 3 > 0).then_some(remote),
                at: None,
            };
            let page = Page {
                changes: vec![change],
                checkpoint: at.to_string().into(),
                has_more: false,
                server_ms: None,
            };
            Intent::Page(replica.checkpoint(), page)
        }
        10 => Intent::Retry((how % 2 == 0).then_some(waits)),
        11 => Intent::Edit(Edit {
            no,
            patch: Rc::new(json!({ field: at })),
            changed: [field.into()].into(),
            on: None,
        }),
        12 => {
            let id = replica.outbox.get(waits).map(|m| m.wire_id("c"));
            let choice = match how % 4 {
                0 => Choice::Local,
                1 => Choice::Remote,
                2 => Choice::Record(None),
                _ => Choice::Record(Some(record(&key))),
            };
            Intent::Resolve(id.unwrap_or_default().into(), choice)
        }
        13 => {
            let (key, seen) = match replica.question(waits) {
                Some((question, seen)) => (question.key, seen),
                None => return Intent::Discard(no),
            };
            let answer = match how % 4 {
                0 => Ok(Answer::Park),
                1 => Ok(Answer::Record(None)),
                2 => Err(Error::new(Code::ConflictHandler, "threw")),
                _ => Ok(Answer::Record(Some(record(&key)))),
            };
            Intent::Decided(Decided {
                no: waits,
                seen,
                answer,
            })
        }
        _ => Intent::Discard(no),
    }
}

fn live(steps: &[Step]) -> Replica<Record> {
    let mut replica = empty();
    for (i, step) in steps.iter().enumerate() {
        let at = i as u64 + 1;
        happen(&mut replica, at, *step);
    }
    replica
}

fn happen(replica: &mut Replica<Record>, at: u64, step: Step) {
    let now = Now {
        at_ms: at as f64 * 10.0,
        hlc: Hlc {
            ms: at as f64 * 10.0,
            counter: 0,
        },
        random: 0.5,
    };
    let intent = intent(replica, at, step);
    replica.begin();
    // A refusal is a step as well.
    let _ = replica.plan(intent, now);
    replica.commit();
}

/// Everything that is known, as facts from which nothing follows but themselves.
fn written_down(replica: &Replica<Record>) -> Vec<Fact<Record>> {
    let mut facts = replica.told_aliases();
    for collection in &replica.collections {
        let name = collection.spec.name.clone();
        for (key, record) in collection.records() {
            if let Some(pending) = &record.pending {
                let held = |no| Fact::Held(Box::new(replica.held(no).unwrap()));
                facts.push(held(pending.head));
                facts.extend(pending.tail.map(held));
                continue;
            }
            facts.push(Fact::Remote {
                collection: name.clone(),
                key: key.clone(),
                value: record.remote().cloned(),
                version: record.version,
            });
            if record.local.is_some() {
                facts.push(Fact::Local {
                    collection: name.clone(),
                    key: key.clone(),
                    value: record.value.clone(),
                });
            }
        }
    }
    facts
}

fn text(replica: &Replica<Record>) -> Vec<String> {
    let mut lines = Vec::new();
    for collection in &replica.collections {
        for (key, record) in collection.records() {
            lines.push(format!("{} {key} {record:?}", collection.spec.name));
        }
        let aliases: Vec<_> = collection.aliases.iter().collect();
        lines.push(format!("count {} {aliases:?}", collection.count()));
    }
    lines.extend(replica.outbox.iter().map(|m| format!("{m:?}")));
    lines.push(format!("{:?}", replica.outbox.counts()));
    let none = crate::ordered::Numbers::default();
    for (now_ms, max) in [(0.0, 100), (1e12, 2), (1e12, 100)] {
        let batch = replica.next_batch(now_ms, &none, max, usize::MAX);
        lines.push(format!("{batch:?}"));
        let waits = batch
            .iter()
            .map(|no| replica.waits_for(replica.outbox.get(*no).unwrap()));
        lines.push(format!("{:?}", waits.collect::<Vec<_>>()));
    }
    lines
}

fn restored(replica: &Replica<Record>) -> Replica<Record> {
    let mut copy = empty();
    for fact in written_down(replica) {
        // The time and the clock of the entry must not matter.
        copy.apply(&fact, 123.0, Hlc::default());
    }
    copy
}

/// What a record shows follows from what is queued, and nothing is queued for a local one.
fn check(replica: &Replica<Record>) {
    for collection in &replica.collections {
        for (key, record) in collection.records() {
            assert!(record.local.is_none() || record.pending.is_none(), "{key}");
            let Some(pending) = &record.pending else {
                continue;
            };
            let head = replica.outbox.get(pending.head).unwrap();
            assert!(!head.behind);
            let tail = pending.tail.map(|no| replica.outbox.get(no).unwrap());
            assert!(tail.is_none_or(|t| t.behind && !t.sent), "{key}");
        }
    }
    let mut seen = HashSet::new();
    for held in replica.all_held() {
        let m = &held.mutation;
        assert!(
            !m.behind
                || replica
                    .waits_for(m)
                    .is_some_and(|head| seen.contains(&head))
        );
        seen.insert(m.no);
    }
    for m in replica.outbox.waiting() {
        assert!(!m.sent && !m.behind && m.next_attempt_ms.is_none());
        assert!(replica.question(m.no).is_some() && replica.open_conflict(m).is_some());
    }
    let counted = replica.outbox.waiting().count();
    assert_eq!(counted, replica.outbox.counts().conflict);
    let pending: usize = replica
        .collections
        .iter()
        .flat_map(|c| c.records().filter_map(|(_, r)| r.pending.as_ref()))
        .map(|p| 1 + usize::from(p.tail.is_some()))
        .sum();
    assert_eq!(
        pending,
        replica.outbox.len(),
        "every mutation has its record"
    );
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(600) })]

    #[test]
    fn what_is_queued_can_be_written_down_and_restored(
        steps in prop::collection::vec((0_u8..15, 0_u8..4, 0_u8..32), 0..40),
        more in prop::collection::vec((0_u8..15, 0_u8..4, 0_u8..32), 0..10),
    ) {
        let mut original = live(&steps);
        check(&original);
        let mut copy = restored(&original);
        prop_assert_eq!(text(&copy), text(&original));
        prop_assert_eq!(text(&restored(&copy)), text(&original), "twice is the same");
        // Both go on alike, once the copy knows what is no mutation: numbers, checkpoint, clock.
        copy.next_no = original.next_no;
        copy.checkpoint.clone_from(&original.checkpoint);
        copy.checkpoint_collections = original.checkpoint_collections.clone();
        copy.set_hlc(original.hlc());
        for (i, step) in more.iter().enumerate() {
            let at = (steps.len() + i) as u64 + 1;
            happen(&mut original, at, *step);
            happen(&mut copy, at, *step);
        }
        prop_assert_eq!(text(&copy), text(&original));
    }

    #[test]
    fn a_failed_commit_leaves_nothing_behind(
        steps in prop::collection::vec((0_u8..15, 0_u8..4, 0_u8..32), 0..25),
        lost in prop::collection::vec((0_u8..15, 0_u8..4, 0_u8..32), 1..8),
    ) {
        let mut replica = live(&steps);
        let before = text(&replica);
        replica.begin();
        for (i, step) in lost.iter().enumerate() {
            let at = 1_000 + i as u64;
            let now = Now { at_ms: 1.0, hlc: Hlc { ms: at as f64, counter: 0 }, random: 0.5 };
            let intent = intent(&replica, at, *step);
            let _ = replica.plan(intent, now);
        }
        replica.rollback();
        prop_assert_eq!(text(&replica), before);
    }
}
