//! The model that the simulation has in place of this server (`tests/simulation/rule.rs`) decides
//! as this server does, in every case that the rule tells apart.

#![allow(clippy::unwrap_used, reason = "tests")]

use landfall_server::access::Sharing;
use landfall_server::change::{Change, Edit, FailureCode};
use landfall_server::data::RecordData;
use landfall_server::decide::{Decision, Record, decide};
use landfall_server::ids::{ClientId, MutationId, RecordId, RecordType, Stamp, Version};
use serde_json::value::RawValue;

#[path = "../../tests/simulation/rule.rs"]
mod rule;

use rule::{Ruling, Standing, Wish};

fn data(text: &str) -> RecordData {
    RecordData::check(RawValue::from_string(text.into()).unwrap()).unwrap()
}

fn change(edit: Edit, base: u64) -> Change {
    Change {
        mutation: MutationId::new("m1").unwrap(),
        client: ClientId::new("c1").unwrap(),
        record_type: RecordType::new("sites").unwrap(),
        record: RecordId::new("s1").unwrap(),
        base: Version(base),
        at: Stamp::new("1763690000000-0000-c1").unwrap(),
        sharing: Sharing::Private,
        edit,
    }
}

fn edits() -> Vec<(Wish, Edit)> {
    let patch = Edit::Patch {
        data: data(r#"{"n":2}"#),
        changed: vec!["n".into()],
    };
    vec![
        (Wish::Create, Edit::Create(data(r#"{"n":1}"#))),
        (Wish::Update, Edit::Replace(data(r#"{"n":2}"#))),
        (Wish::Update, patch),
        (Wish::Delete, Edit::Delete),
    ]
}

fn ruling(decision: Decision) -> Ruling {
    match decision {
        Decision::Write(record) => Ruling::Write(record.version.0),
        Decision::Nothing(version) => Ruling::Nothing(version.0),
        Decision::Conflict(_) => Ruling::Conflict,
        Decision::Fail(failure) => {
            assert_eq!(failure.code, FailureCode::NotFound);
            Ruling::NotFound
        }
    }
}

#[test]
fn the_model_decides_as_the_server_does() {
    let mut cases = 0;
    for (wish, edit) in edits() {
        for base in 0..=4 {
            let mut theres = vec![None];
            for version in 1..=3 {
                for live in [false, true] {
                    for own in [false, true] {
                        theres.push(Some(Standing { version, live, own }));
                    }
                }
            }
            for there in theres {
                let record = there.map(|it| Record {
                    version: Version(it.version),
                    data: it.live.then(|| data(r#"{"n":0,"m":0}"#)),
                    at: Stamp::new("1763680000000-0000-c0").unwrap(),
                    client: ClientId::new(if it.own { "c1" } else { "c2" }).unwrap(),
                });
                let real = ruling(decide(&change(edit.clone(), base), record.as_ref()));
                let model = rule::rule(wish, base, there);
                assert_eq!(model, real, "{edit:?} on {base}, there is {there:?}");
                cases += 1;
            }
        }
    }
    assert_eq!(cases, 4 * 5 * 13);
}
