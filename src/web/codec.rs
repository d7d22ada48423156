//! Log entries and segments as plain JavaScript objects, format 4.
//!
//! ```text
//! { format: 3, at, clock: [ms, counter], summary: { pending, conflict, failed, next, counts, pulled },
//!   facts: [ … ] }
//! ```
//!
//! Facts that are alike travel as one run: a bulk write is `{ kind: "queued", collection, action:
//! "create", first: 12, keys: "a\0b\0", rows: "{…},\n{…}" }`, a page `{ kind: "remote", collection, keys,
//! versions, rows: "{…},\nnull" }`; what the backend has never confirmed `{ kind: "queued", collection,
//! action, sent, times: [number, ms, counter, createdAt, …], keys, rows }`, wherever it stands. A row is a record as JSON, in one line; all of a run are one text. The
//! browser reads and writes one string many times faster than a list of strings, and that several times
//! faster than a list of objects; a person who looks into the store can still read them.
//!
//! Format 3 had no `times`, format 2 had a list of texts, format 1 objects (`records`) and the name of the key field in place of
//! the keys; all are still read.

use super::codec_mutation::{mutation_to_js, set_confirmed, set_shows, set_text};
use super::glue::{self, name, set};
use super::value::{Row, Rows};
use crate::conflict::Conflict;
use crate::error::{Code, Error, Result};
use crate::model::{Action, MutationNo, Name};
use crate::shown::{Names, Shown};
use crate::store::{Entry, FORMAT, Fact, Gone, Older, Summary, singles};
use crate::value::Value;
use js_sys::{Array, Float64Array, Object};
use std::rc::Rc;
use wasm_bindgen::JsValue;

/// The key field of each collection: few, and asked for once for each list of records.
#[derive(Debug, Clone)]
pub(super) struct KeyFields(Vec<(Name, Rc<str>)>);

impl KeyFields {
    pub(super) fn get(&self, collection: &str) -> Option<&Rc<str>> {
        let found = self.0.iter().find(|(name, _)| **name == *collection);
        found.map(|(_, field)| field)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &(Name, Rc<str>)> {
        self.0.iter()
    }
}

impl FromIterator<(Name, Rc<str>)> for KeyFields {
    fn from_iter<T: IntoIterator<Item = (Name, Rc<str>)>>(all: T) -> Self {
        Self(all.into_iter().collect())
    }
}

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

fn text_or_null(value: Option<&Row>) -> JsValue {
    value.map_or(JsValue::NULL, Row::json)
}

/// Writes an entry, all of which has to be in memory.
pub(super) fn encode(entry: &Entry<Row>) -> Result<Object> {
    let mut is_whole = true;
    entry.each_value(|row| is_whole &= row.is_resident());
    if !is_whole {
        let message = "a record that is to be stored is not in memory";
        return Err(Error::new(Code::StorageFailed, message));
    }
    let out = Object::new();
    set(&out, "format", &JsValue::from(FORMAT));
    set(&out, "at", &entry.at_ms.into());
    let clock = Array::of2(&entry.hlc.ms.into(), &entry.hlc.counter.into());
    set(&out, "clock", &clock);
    set(&out, "summary", &encode_summary(&entry.summary));
    set(&out, "facts", &encode_facts(&entry.facts));
    Ok(out)
}

pub(super) fn encode_summary(summary: &Summary) -> JsValue {
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

/// The rows of a run. Rows that stand together in one list are taken over together.
#[derive(Default)]
pub(super) struct RowList {
    texts: Option<Array>,
    range: Option<(Rc<Rows>, u32, u32)>,
}

impl RowList {
    pub(super) fn push(&mut self, row: Option<&Row>) {
        if let (Some((rows, _, to)), Some(row)) = (&mut self.range, row)
            && Rc::ptr_eq(rows, &row.rows)
            && *to == row.at
        {
            *to += 1;
            return;
        }
        if self.range.is_some() || row.is_none() {
            self.flush();
        }
        match row {
            Some(row) => self.range = Some((row.rows.clone(), row.at, row.at + 1)),
            None => {
                self.texts.get_or_insert_default().push(&JsValue::NULL);
            }
        }
    }

    fn flush(&mut self) {
        let texts = self.texts.get_or_insert_default();
        if let Some((rows, from, to)) = self.range.take() {
            for text in glue::rows_texts(&rows.js(), from, to).iter() {
                texts.push(&text);
            }
        }
    }

    pub(super) fn finish(mut self) -> Array {
        if let (None, Some((rows, from, to))) = (&self.texts, &self.range) {
            return glue::rows_texts(&rows.js(), *from, *to);
        }
        self.flush();
        self.texts.unwrap_or_default()
    }
}

/// A run of alike facts under construction.
struct Run<'a> {
    first: &'a Fact<Row>,
    next: MutationNo,
    keys: String,
    rows: RowList,
    numbers: Vec<f64>,
    versions: Vec<f64>,
    times: Vec<f64>,
}

fn encode_facts(facts: &[Fact<Row>]) -> Array {
    let out = Array::new();
    let read = |fact: &Fact<Row>| matches!(fact, Fact::Run(_));
    if facts.iter().any(read) {
        return encode_facts(&singles(facts));
    }
    let mut run: Option<Run> = None;
    for fact in facts {
        if run.as_mut().is_some_and(|run| run.extend(fact)) {
            continue;
        }
        if let Some(run) = run.take() {
            out.push(&run.finish());
        }
        run = Run::start(fact);
        if run.is_none() {
            out.push(&encode_fact(fact));
        }
    }
    if let Some(run) = run {
        out.push(&run.finish());
    }
    out
}

impl<'a> Run<'a> {
    fn start(first: &'a Fact<Row>) -> Option<Self> {
        let next = match first {
            Fact::Queued {
                no,
                replaces: None,
                value: Some(_),
                shows: Shown::Own,
                group: None,
                origin: None,
                ..
            } => *no,
            Fact::Remote { .. } | Fact::Acked { value: None, .. } => 0,
            Fact::Held(held) if held.is_plain() => 0,
            _ => return None,
        };
        let mut run = Self {
            first,
            next,
            keys: String::new(),
            rows: RowList::default(),
            numbers: Vec::new(),
            versions: Vec::new(),
            times: Vec::new(),
        };
        run.extend(first).then_some(run)
    }

    fn add(&mut self, key: &str, value: Option<&Row>) {
        self.keys.push_str(key);
        self.keys.push('\0');
        self.rows.push(value);
    }

    fn extend(&mut self, fact: &Fact<Row>) -> bool {
        match (self.first, fact) {
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
                    key,
                    action,
                    value: Some(value),
                    shows: Shown::Own,
                    changed,
                    group: None,
                    origin: None,
                },
            ) if c1 == collection && a1 == action && ch1 == changed && self.next == *no => {
                self.add(key, Some(value));
                self.next += 1;
                true
            }
            (
                Fact::Remote { collection: c1, .. },
                Fact::Remote {
                    collection,
                    key,
                    value,
                    version,
                },
            ) if c1 == collection => {
                self.add(key, value.as_ref());
                self.versions.push(version.0 as f64);
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
                self.numbers.push(*no as f64);
                self.versions.push(version.0 as f64);
                true
            }
            (Fact::Held(first), Fact::Held(held)) if held.is_plain() => {
                let (first, m) = (&first.mutation, &held.mutation);
                let alike = first.collection == m.collection
                    && first.action == m.action
                    && first.changed == m.changed
                    && first.sent == m.sent;
                if alike {
                    self.add(&m.key, m.value.as_ref());
                    let counter = f64::from(m.at.counter);
                    self.times
                        .extend([m.no as f64, m.at.ms, counter, m.created_ms]);
                }
                alike
            }
            _ => false,
        }
    }

    fn finish(self) -> Object {
        let versions = || JsValue::from(Float64Array::from(self.versions.as_slice()));
        match self.first {
            Fact::Queued {
                no,
                collection,
                action,
                changed,
                ..
            } => {
                let out = queued(collection, *action, changed.as_ref());
                set(&out, "first", &number(*no));
                self.rows_to(out)
            }
            Fact::Held(held) => {
                let m = &held.mutation;
                let out = queued(&m.collection, m.action, m.changed.as_ref());
                let times = Float64Array::from(self.times.as_slice());
                set(&out, "sent", &m.sent.into());
                set(&out, "times", &times);
                self.rows_to(out)
            }
            Fact::Remote { collection, .. } => {
                let out = object("remote");
                set(&out, "collection", &name(collection));
                set(&out, "versions", &versions());
                self.rows_to(out)
            }
            _ => {
                let out = object("acked");
                let numbers = Float64Array::from(self.numbers.as_slice());
                set(&out, "numbers", &numbers);
                set(&out, "versions", &versions());
                out
            }
        }
    }

    fn rows_to(self, out: Object) -> Object {
        set(&out, "keys", &JsValue::from_str(&self.keys));
        set(&out, "rows", &glue::joined_rows(&self.rows.finish()));
        out
    }
}

fn queued(collection: &Name, action: Action, changed: Option<&Names>) -> Object {
    let out = object("queued");
    set(&out, "collection", &name(collection));
    set(&out, "action", &name(action.as_str()));
    if let Some(changed) = changed {
        set(&out, "changed", &texts(changed.iter()));
    }
    out
}

fn encode_fact(fact: &Fact<Row>) -> Object {
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
            set(&out, "record", &text_or_null(value.as_ref()));
            set_shows(&out, shows, &Row::json);
            if let Some(changed) = changed {
                set(&out, "changed", &texts(changed.iter()));
            }
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
        Fact::Waits { no } => numbered("waits", *no),
        Fact::Sent { nos } => {
            let out = object("sent");
            let numbers: Vec<f64> = nos.iter().map(|no| *no as f64).collect();
            set(&out, "numbers", &Float64Array::from(numbers.as_slice()));
            out
        }
        Fact::Acked { no, version, value } => {
            let out = numbered("stored", *no);
            set(&out, "version", &number(version.0));
            set(&out, "record", &text_or_null(value.as_ref()));
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
        // Always in runs of their own making.
        Fact::Remote { .. } | Fact::Run(_) => object("remote"),
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
            set(&out, "conflict", &conflict_with(conflict, Row::json));
            out
        }
        Fact::ConflictsCleared => object("conflicts-cleared"),
        Fact::Held(held) => {
            let out = object("held");
            set(&out, "mutation", &mutation_to_js(held, &Row::json));
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
            set(&out, "record", &text_or_null(value.as_ref()));
            out
        }
        Fact::Rekeyed {
            collection,
            field,
            from,
            to,
        } => {
            let out = object("rekeyed");
            set(&out, "collection", &name(collection));
            set(&out, "field", &name(field));
            set(&out, "from", &JsValue::from_str(from));
            set(&out, "to", &JsValue::from_str(to));
            out
        }
        Fact::Aliases { collection, pairs } => {
            let out = object("aliases");
            let (from, to): (Vec<&str>, Vec<&str>) =
                pairs.iter().map(|(a, b)| (a.as_ref(), b.as_ref())).unzip();
            let keys = |keys: &[&str]| JsValue::from_str(&(keys.join("\0") + "\0"));
            set(&out, "collection", &name(collection));
            set(&out, "from", &keys(&from));
            set(&out, "to", &keys(&to));
            out
        }
        Fact::Confirmed {
            collection,
            key,
            confirmed,
        } => {
            let out = object("confirmed");
            set(&out, "collection", &name(collection));
            set(&out, "key", &JsValue::from_str(key));
            set_confirmed(&out, confirmed);
            out
        }
        Fact::Schema { version, older } => {
            let out = object("schema");
            set_versions(&out, *version, older);
            out
        }
    }
}

/// Of which version the data is, and collections that are of an older one.
pub(super) fn set_versions(out: &Object, version: u32, older: &Older) {
    set(out, "version", &JsValue::from(version));
    if !older.is_empty() {
        let versions = Object::new();
        for (collection, version) in older.iter() {
            set(&versions, collection, &JsValue::from(*version));
        }
        set(out, "older", &versions);
    }
}

fn numbered(kind: &str, no: MutationNo) -> Object {
    let out = object(kind);
    set(&out, "number", &number(no));
    out
}

/// A conflict as the app sees it, with copies: a person's choice is often one side, changed in place.
pub(super) fn conflict_to_js(conflict: &Conflict<Row>) -> Object {
    conflict_with(conflict, Row::copy)
}

pub(super) fn conflict_with(conflict: &Conflict<Row>, show: impl Fn(&Row) -> JsValue) -> Object {
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
        set(&out, side, &value.as_ref().map_or(JsValue::NULL, &show));
    }
    out
}
