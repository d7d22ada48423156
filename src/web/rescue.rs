//! A batch for the rescue copy as JavaScript objects: what `npm/rescue-log.js` stores.
//!
//! Mutations that say no more than "this record is new" are most of what a long queue holds. They travel
//! as runs, `{ first, count, collection, action, at, createdAt, sent, keys, rows }`, in which only numbers
//! (one after the other), keys and records differ; any other one is an object of its own
//! (`codec_mutation.rs`).

use super::codec::{RowList, set_versions};
use super::codec_mutation::mutation_to_js;
use super::glue::{name, set};
use super::value::Row;
use crate::driver::RescueBatch;
use crate::error::Code;
use crate::limits;
use crate::model::Mutation;
use js_sys::{Array, Float64Array, Object};
use wasm_bindgen::JsValue;

/// `{ put, runs, gone, alive, next, stamp, seq, left, version, older? }`; `alive`: `[below, first, last, first, last, …]`.
pub(super) fn batch_to_js(batch: &RescueBatch<Row>) -> Object {
    let (put, runs) = (Array::new(), Array::new());
    let mut run: Option<Run> = None;
    for held in &batch.put {
        // What the copy has of one that has become damaged since is better.
        let error = held.mutation.error.as_ref();
        if error.is_some_and(|error| *error.code == *Code::DatabaseDamaged.as_str()) {
            continue;
        }
        if !held.is_plain() || held.mutation.changed.is_some() {
            put.push(&mutation_to_js(held, &Row::json));
            continue;
        }
        if run.as_mut().is_some_and(|run| run.extend(&held.mutation)) {
            continue;
        }
        if let Some(run) = run.replace(Run::start(&held.mutation)) {
            runs.push(&run.finish());
        }
    }
    if let Some(run) = run {
        runs.push(&run.finish());
    }
    let gone: Vec<f64> = batch.gone.iter().map(|no| *no as f64).collect();
    let out = Object::new();
    set(&out, "put", &put);
    set(&out, "runs", &runs);
    set(&out, "gone", &Float64Array::from(gone.as_slice()));
    if let Some(alive) = &batch.alive {
        let ends = alive.stretches.iter().flat_map(|(a, b)| [*a, *b]);
        let all = std::iter::once(alive.below).chain(ends);
        let all: Array = all.map(|no| JsValue::from(no as f64)).collect();
        set(&out, "alive", &all);
    }
    set(&out, "next", &(batch.next_no as f64).into());
    let stamp = Array::of2(&batch.stamp.ms.into(), &batch.stamp.counter.into());
    set(&out, "stamp", &stamp);
    set(&out, "seq", &(batch.seq as f64).into());
    set(&out, "left", &(batch.left as f64).into());
    set_versions(&out, batch.versions.0, &batch.versions.1);
    out
}

/// A run under construction.
struct Run<'a> {
    first: &'a Mutation<Row>,
    count: usize,
    keys: String,
    rows: RowList,
}

impl<'a> Run<'a> {
    fn start(first: &'a Mutation<Row>) -> Self {
        let mut run = Self {
            first,
            count: 0,
            keys: String::new(),
            rows: RowList::default(),
        };
        run.add(first);
        run
    }

    fn add(&mut self, m: &Mutation<Row>) {
        self.count += 1;
        self.keys.push_str(&m.key);
        self.keys.push('\0');
        self.rows.push(m.value.as_ref());
    }

    fn extend(&mut self, m: &Mutation<Row>) -> bool {
        let first = self.first;
        let same = m.no == first.no + self.count as u64
            && m.collection == first.collection
            && m.action == first.action
            && m.at == first.at
            && m.created_ms == first.created_ms
            && m.sent == first.sent;
        let joins = same && self.count < limits::RESCUE_RUN_MAX;
        if joins {
            self.add(m);
        }
        joins
    }

    fn finish(self) -> Object {
        let m = self.first;
        let out = Object::new();
        set(&out, "first", &(m.no as f64).into());
        set(&out, "count", &(self.count as f64).into());
        set(&out, "collection", &name(&m.collection));
        set(&out, "action", &name(m.action.as_str()));
        let at = Array::of2(&m.at.ms.into(), &m.at.counter.into());
        set(&out, "at", &at);
        set(&out, "createdAt", &m.created_ms.into());
        set(&out, "sent", &m.sent.into());
        set(&out, "keys", &JsValue::from_str(&self.keys));
        set(&out, "rows", &self.rows.finish());
        out
    }
}
