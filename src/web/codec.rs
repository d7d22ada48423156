//! Log entries as plain JavaScript objects, format 1.
//!
//! ```text
//! { format: 1, at, clock: [ms, counter], summary: { pending, conflict, failed, next, counts, pulled },
//!   facts: [ … ] }
//! ```
//!
//! Facts that are alike travel as one: a bulk write is `{ kind: "queued", collection, key: "id",
//! action: "create", first: 12, records: [ … ] }`, a page `{ kind: "remote", collection, key, versions: [ … ],
//! records: [ … ] }`.
//! IndexedDB charges by the request and by the object, and a person who looks into the store finds
//! their records as they are.

use super::codec_mutation::{get_shows, mutation_from_js, mutation_to_js, set_shows, set_text};
use super::glue::{get, get_number, get_text, joined_keys, name, set};
use crate::conflict::{Conflict, Outcome};
use crate::error::{Code, Error, Result};
use crate::hlc::Hlc;
use crate::model::{Action, Key, MutationNo, Name, Refusal, Version};
use crate::options::Strategy;
use crate::shown::Shown;
use crate::store::{Entry, FORMAT, Fact, Gone, Summary};
use js_sys::{Array, Object};
use std::collections::HashMap;
use std::rc::Rc;
use wasm_bindgen::{JsCast, JsValue};

/// The key field of each collection: stored once for a run, so that no record's key is repeated.
pub(super) type KeyFields = HashMap<Name, Rc<str>>;

fn object(kind: &str) -> Object {
    let object = Object::new();
    set(&object, "kind", &name(kind));
    object
}

fn number(n: u64) -> JsValue {
    JsValue::from_f64(n as f64)
}

fn texts<'a>(texts: impl Iterator<Item = &'a Rc<str>>) -> Array {
    texts.map(|t| name(t)).collect()
}

/// Writes an entry.
pub(super) fn encode(entry: &Entry<JsValue>, keys: &KeyFields) -> Object {
    let out = Object::new();
    set(&out, "format", &JsValue::from(FORMAT));
    set(&out, "at", &entry.at_ms.into());
    let clock = Array::of2(&entry.hlc.ms.into(), &entry.hlc.counter.into());
    set(&out, "clock", &clock);
    set(&out, "summary", &encode_summary(&entry.summary));
    set(&out, "facts", &encode_facts(&entry.facts, keys));
    out
}

fn encode_summary(summary: &Summary) -> JsValue {
    let out = Object::new();
    set(&out, "pending", &number(summary.pending as u64));
    set(&out, "conflict", &number(summary.conflict as u64));
    set(&out, "failed", &number(summary.failed as u64));
    set(&out, "next", &number(summary.next_no));
    let counts = Object::new();
    for (collection, count) in &summary.counts {
        set(&counts, collection, &number(*count as u64));
    }
    set(&out, "counts", &counts);
    if let Some(pulled_ms) = summary.pulled_ms {
        set(&out, "pulled", &pulled_ms.into());
    }
    out.into()
}

/// A run of alike facts under construction.
struct Run {
    out: Object,
    records: Array,
    numbers: Array,
    next: MutationNo,
}

fn encode_facts(facts: &[Fact<JsValue>], keys: &KeyFields) -> Array {
    let out = Array::new();
    let mut run: Option<(Run, &Fact<JsValue>)> = None;
    for fact in facts {
        if let Some((run, first)) = &mut run
            && extend(run, first, fact)
        {
            continue;
        }
        run = start_run(fact, keys).map(|started| {
            out.push(&started.out);
            (started, fact)
        });
        if run.is_none() {
            out.push(&encode_fact(fact));
        }
    }
    out
}

fn start_run(fact: &Fact<JsValue>, keys: &KeyFields) -> Option<Run> {
    let (records, numbers) = (Array::new(), Array::new());
    let key_of = |collection| name(keys.get(collection).map_or("id", AsRef::as_ref));
    match fact {
        Fact::Queued {
            no,
            replaces: None,
            collection,
            action,
            value: Some(value),
            shows: Shown::Own,
            changed,
            group: None,
            origin: None,
            ..
        } => {
            let out = object("queued");
            set(&out, "collection", &name(collection));
            set(&out, "key", &key_of(collection));
            set(&out, "action", &name(action.as_str()));
            set(&out, "first", &number(*no));
            if let Some(changed) = changed {
                set(&out, "changed", &texts(changed.iter()));
            }
            records.push(value);
            set(&out, "records", &records);
            Some(Run {
                out,
                records,
                numbers,
                next: no + 1,
            })
        }
        Fact::Remote {
            collection,
            value: Some(value),
            version,
            ..
        } => {
            let out = object("remote");
            set(&out, "collection", &name(collection));
            set(&out, "key", &key_of(collection));
            records.push(value);
            numbers.push(&number(version.0));
            set(&out, "versions", &numbers);
            set(&out, "records", &records);
            Some(Run {
                out,
                records,
                numbers,
                next: 0,
            })
        }
        Fact::Acked {
            no,
            version,
            value: None,
        } => {
            let out = object("acked");
            records.push(&number(*no));
            numbers.push(&number(version.0));
            set(&out, "numbers", &records);
            set(&out, "versions", &numbers);
            Some(Run {
                out,
                records,
                numbers,
                next: 0,
            })
        }
        _ => None,
    }
}

fn extend(run: &mut Run, first: &Fact<JsValue>, fact: &Fact<JsValue>) -> bool {
    match (first, fact) {
        (
            Fact::Queued {
                collection: c1,
                action: a1,
                changed: ch1,
                ..
            },
            Fact::Queued {
                no,
                replaces: None,
                collection,
                action,
                value: Some(v),
                shows: Shown::Own,
                changed,
                group: None,
                origin: None,
                ..
            },
        ) if c1 == collection && a1 == action && ch1 == changed && run.next == *no => {
            run.records.push(v);
            run.next += 1;
            true
        }
        (
            Fact::Remote { collection: c1, .. },
            Fact::Remote {
                collection,
                value: Some(value),
                version,
                ..
            },
        ) if c1 == collection => {
            run.records.push(value);
            run.numbers.push(&number(version.0));
            true
        }
        (
            Fact::Acked { .. },
            Fact::Acked {
                no,
                version,
                value: None,
            },
        ) => {
            run.records.push(&number(*no));
            run.numbers.push(&number(version.0));
            true
        }
        _ => false,
    }
}

fn encode_fact(fact: &Fact<JsValue>) -> Object {
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
        } => {
            let out = object("rewritten");
            set(&out, "number", &number(*no));
            if let Some(replaces) = replaces {
                set(&out, "replaces", &number(*replaces));
            }
            set(&out, "collection", &name(collection));
            set(&out, "key", &JsValue::from_str(key));
            set(&out, "action", &name(action.as_str()));
            set(&out, "record", value.as_ref().unwrap_or(&JsValue::NULL));
            if let Some(changed) = changed {
                set(&out, "changed", &texts(changed.iter()));
            }
            set_shows(&out, shows);
            set_text(&out, "group", group.as_deref());
            set_text(&out, "origin", origin.as_deref());
            out
        }
        Fact::Cancelled { no, why } => {
            let out = numbered("cancelled", *no);
            match why {
                Gone::Discarded => {}
                Gone::Lost => set(&out, "why", &name("lost")),
                Gone::Same => set(&out, "why", &name("same")),
                Gone::Joined(into) => set(&out, "into", &number(*into)),
            }
            out
        }
        Fact::Rebased { no } => numbered("rebased", *no),
        Fact::Sent { nos } => {
            let out = object("sent");
            set(
                &out,
                "numbers",
                &nos.iter().map(|no| number(*no)).collect::<Array>(),
            );
            out
        }
        Fact::Acked { no, version, value } => {
            let out = numbered("stored", *no);
            set(&out, "version", &number(version.0));
            set(&out, "record", value.as_ref().unwrap_or(&JsValue::NULL));
            out
        }
        Fact::Refused {
            no,
            refusal,
            attempts,
            next_attempt_ms,
        } => {
            let out = numbered("refused", *no);
            set(&out, "code", &JsValue::from_str(&refusal.code));
            set(&out, "message", &JsValue::from_str(&refusal.message));
            set(&out, "attempts", &JsValue::from(*attempts));
            if let Some(at) = next_attempt_ms {
                set(&out, "nextAttemptAt", &(*at).into());
            }
            out
        }
        Fact::Remote {
            collection,
            key,
            version,
            value,
        } => {
            let out = object("tombstone");
            set(&out, "collection", &name(collection));
            set(&out, "key", &JsValue::from_str(key));
            set(&out, "version", &number(version.0));
            if let Some(value) = value {
                set(&out, "record", value);
            }
            out
        }
        Fact::Checkpoint {
            checkpoint,
            collections,
        } => {
            let out = object("checkpoint");
            if let Some(checkpoint) = checkpoint {
                set(&out, "checkpoint", &JsValue::from_str(checkpoint));
            }
            set(&out, "collections", &texts(collections.iter()));
            out
        }
        Fact::Conflicted(conflict) => {
            let out = object("conflict");
            set(&out, "conflict", &conflict_to_js(conflict));
            out
        }
        Fact::ConflictsCleared => object("conflicts-cleared"),
        Fact::Held(held) => {
            let out = object("held");
            set(&out, "mutation", &mutation_to_js(held));
            out
        }
        Fact::Local {
            collection,
            key,
            value,
        } => {
            let out = object("local");
            set(&out, "collection", &name(collection));
            set(&out, "key", &JsValue::from_str(key));
            set(&out, "record", value.as_ref().unwrap_or(&JsValue::NULL));
            out
        }
        Fact::Schema { version } => {
            let out = object("schema");
            set(&out, "version", &JsValue::from(*version));
            out
        }
    }
}

fn numbered(kind: &str, no: MutationNo) -> Object {
    let out = object(kind);
    set(&out, "number", &number(no));
    out
}

/// A conflict as the store keeps it and the app sees it.
pub(super) fn conflict_to_js(conflict: &Conflict<JsValue>) -> Object {
    let out = Object::new();
    set(&out, "id", &JsValue::from_str(&conflict.id));
    set(&out, "collection", &name(&conflict.collection));
    set(&out, "key", &JsValue::from_str(&conflict.key));
    set(&out, "at", &conflict.at_ms.into());
    set(&out, "strategy", &name(conflict.strategy.as_str()));
    set(&out, "outcome", &name(conflict.outcome.as_str()));
    let sides = [
        ("base", &conflict.base),
        ("local", &conflict.local),
        ("remote", &conflict.remote),
        ("result", &conflict.result),
    ];
    for (side, value) in sides {
        set(&out, side, value.as_ref().unwrap_or(&JsValue::NULL));
    }
    out
}

fn damaged(what: &str) -> Error {
    Error::new(
        Code::DatabaseDamaged,
        format!("a log entry is damaged: {what}"),
    )
}

fn need_number(object: &JsValue, field: &str) -> Result<f64> {
    get_number(object, field).ok_or_else(|| damaged(field))
}

fn need_whole(object: &JsValue, field: &str) -> Result<u64> {
    whole(&get(object, field)).ok_or_else(|| damaged(field))
}

fn whole(value: &JsValue) -> Option<u64> {
    let number = value.as_f64()?;
    let fits = (0.0..=9_007_199_254_740_991.0).contains(&number) && number.fract() == 0.0;
    fits.then_some(number as u64)
}

fn need_text(object: &JsValue, field: &str) -> Result<Rc<str>> {
    get_text(object, field)
        .map(Rc::from)
        .ok_or_else(|| damaged(field))
}

fn need_array(object: &JsValue, field: &str) -> Result<Array> {
    get(object, field).dyn_into().map_err(|_| damaged(field))
}

fn text_list(object: &JsValue, field: &str) -> Option<Rc<[Rc<str>]>> {
    let list: Array = get(object, field).dyn_into().ok()?;
    list.iter().map(|t| t.as_string().map(Rc::from)).collect()
}

fn record(value: JsValue) -> Result<Option<JsValue>> {
    if value.is_null() || value.is_undefined() {
        Ok(None)
    } else if value.is_object() {
        Ok(Some(value))
    } else {
        Err(damaged("record"))
    }
}

/// Reads an entry back.
pub(super) fn decode(entry: &JsValue) -> Result<Entry<JsValue>> {
    let format = need_whole(entry, "format")?;
    if format > u64::from(FORMAT) {
        return Err(Error::new(
            Code::DatabaseNewer,
            format!("a log entry has format {format}; this version reads up to {FORMAT}"),
        ));
    }
    let clock = need_array(entry, "clock")?;
    let reading = |i| clock.get(i).as_f64().ok_or_else(|| damaged("clock"));
    let mut facts = Vec::new();
    for fact in need_array(entry, "facts")?.iter() {
        decode_fact(&fact, &mut facts)?;
    }
    Ok(Entry {
        at_ms: need_number(entry, "at")?,
        hlc: Hlc {
            ms: reading(0)?,
            counter: reading(1)? as u32,
        },
        facts,
        summary: decode_summary(&get(entry, "summary")).ok_or_else(|| damaged("summary"))?,
    })
}

/// Reads only the counts of an entry.
pub(super) fn decode_summary(summary: &JsValue) -> Option<Summary> {
    let count = |field| whole(&get(summary, field));
    let counts: Object = get(summary, "counts").dyn_into().ok()?;
    let counts = Object::entries(&counts);
    let counts = counts.iter().filter_map(|pair| {
        let pair: Array = pair.dyn_into().ok()?;
        Some((
            pair.get(0).as_string()?.into(),
            whole(&pair.get(1))? as usize,
        ))
    });
    Some(Summary {
        pending: count("pending")? as usize,
        conflict: count("conflict")? as usize,
        failed: count("failed")? as usize,
        next_no: count("next")?,
        counts: counts.collect(),
        pulled_ms: get_number(summary, "pulled"),
    })
}

fn action_of(fact: &JsValue) -> Result<Action> {
    get_text(fact, "action")
        .and_then(|a| Action::parse(&a))
        .ok_or_else(|| damaged("action"))
}

fn decode_fact(fact: &JsValue, facts: &mut Vec<Fact<JsValue>>) -> Result<()> {
    let kind = get_text(fact, "kind").ok_or_else(|| damaged("kind"))?;
    let no = || need_whole(fact, "number");
    facts.push(match kind.as_str() {
        "queued" => {
            let (collection, records, keys) = decode_records(fact)?;
            let (first, action) = (need_whole(fact, "first")?, action_of(fact)?);
            let changed = text_list(fact, "changed");
            for (i, (value, key)) in records.iter().zip(keys).enumerate() {
                facts.push(Fact::Queued {
                    no: first + i as u64,
                    replaces: None,
                    collection: collection.clone(),
                    key,
                    action,
                    value: record(value)?,
                    shows: Shown::Own,
                    changed: changed.clone(),
                    group: None,
                    origin: None,
                });
            }
            return Ok(());
        }
        "remote" => {
            let (collection, records, keys) = decode_records(fact)?;
            let versions = need_array(fact, "versions")?;
            for (i, (value, key)) in records.iter().zip(keys).enumerate() {
                let version = whole(&versions.get(i as u32)).ok_or_else(|| damaged("versions"))?;
                facts.push(Fact::Remote {
                    collection: collection.clone(),
                    key,
                    value: record(value)?,
                    version: Version(version),
                });
            }
            return Ok(());
        }
        "acked" => {
            let versions = need_array(fact, "versions")?;
            for (no, version) in need_array(fact, "numbers")?.iter().zip(versions.iter()) {
                let (Some(no), Some(version)) = (whole(&no), whole(&version)) else {
                    return Err(damaged("acked"));
                };
                facts.push(Fact::Acked {
                    no,
                    version: Version(version),
                    value: None,
                });
            }
            return Ok(());
        }
        "rewritten" => Fact::Queued {
            no: no()?,
            replaces: whole(&get(fact, "replaces")),
            collection: need_text(fact, "collection")?,
            key: need_text(fact, "key")?,
            action: action_of(fact)?,
            value: record(get(fact, "record"))?,
            shows: get_shows(fact).map_err(damaged)?,
            changed: text_list(fact, "changed"),
            group: get_text(fact, "group").map(Rc::from),
            origin: get_text(fact, "origin").map(Rc::from),
        },
        "cancelled" => Fact::Cancelled {
            no: no()?,
            why: match (whole(&get(fact, "into")), get_text(fact, "why").as_deref()) {
                (Some(into), _) => Gone::Joined(into),
                (None, Some("lost")) => Gone::Lost,
                (None, Some("same")) => Gone::Same,
                _ => Gone::Discarded,
            },
        },
        "rebased" => Fact::Rebased { no: no()? },
        "sent" => {
            let nos = need_array(fact, "numbers")?;
            let nos: Option<Vec<u64>> = nos.iter().map(|n| whole(&n)).collect();
            Fact::Sent {
                nos: nos.ok_or_else(|| damaged("numbers"))?,
            }
        }
        "stored" => Fact::Acked {
            no: no()?,
            version: Version(need_whole(fact, "version")?),
            value: record(get(fact, "record"))?,
        },
        "refused" => Fact::Refused {
            no: no()?,
            refusal: Refusal {
                code: need_text(fact, "code")?,
                message: need_text(fact, "message")?,
            },
            attempts: need_whole(fact, "attempts")? as u32,
            next_attempt_ms: get_number(fact, "nextAttemptAt"),
        },
        "tombstone" => Fact::Remote {
            collection: need_text(fact, "collection")?,
            key: need_text(fact, "key")?,
            value: record(get(fact, "record"))?,
            version: Version(need_whole(fact, "version")?),
        },
        "checkpoint" => Fact::Checkpoint {
            checkpoint: get_text(fact, "checkpoint").map(Rc::from),
            collections: text_list(fact, "collections").ok_or_else(|| damaged("collections"))?,
        },
        "conflict" => Fact::Conflicted(Rc::new(decode_conflict(&get(fact, "conflict"))?)),
        "conflicts-cleared" => Fact::ConflictsCleared,
        "held" => {
            let held = mutation_from_js(&get(fact, "mutation")).map_err(damaged)?;
            Fact::Held(Box::new(held))
        }
        "local" => Fact::Local {
            collection: need_text(fact, "collection")?,
            key: need_text(fact, "key")?,
            value: record(get(fact, "record"))?,
        },
        "schema" => Fact::Schema {
            version: u32::try_from(need_whole(fact, "version")?).map_err(|_| damaged("version"))?,
        },
        other => return Err(damaged(other)),
    });
    Ok(())
}

/// The collection, records and keys of a run.
fn decode_records(fact: &JsValue) -> Result<(Name, Array, Vec<Key>)> {
    let collection = need_text(fact, "collection")?;
    let records = need_array(fact, "records")?;
    let field = need_text(fact, "key")?;
    if !records.iter().all(|r| r.is_object()) {
        return Err(damaged("records"));
    }
    let joined = joined_keys(&records, &name(&field));
    let keys: Vec<Key> = joined.split_terminator('\0').map(Key::from).collect();
    if keys.len() != records.length() as usize {
        return Err(damaged("keys"));
    }
    Ok((collection, records, keys))
}

fn decode_conflict(value: &JsValue) -> Result<Conflict<JsValue>> {
    let strategy = need_text(value, "strategy")?;
    let outcome = need_text(value, "outcome")?;
    Ok(Conflict {
        id: need_text(value, "id")?,
        collection: need_text(value, "collection")?,
        key: need_text(value, "key")?,
        at_ms: need_number(value, "at")?,
        strategy: Strategy::parse(&strategy).ok_or_else(|| damaged("strategy"))?,
        outcome: Outcome::parse(&outcome).ok_or_else(|| damaged("outcome"))?,
        base: record(get(value, "base"))?,
        local: record(get(value, "local"))?,
        remote: record(get(value, "remote"))?,
        result: record(get(value, "result"))?,
    })
}
