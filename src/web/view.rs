//! What the app sees, as plain JavaScript objects.

use super::codec::conflict_to_js;
use super::glue::{get, get_number, get_text, name, set};
use super::value::Row;
use crate::driver::{OutboxView, Status};
use crate::engine::Lane;
use crate::error::{Code, Error, Result};
use crate::model::Key;
use crate::replica::index::Query;
use crate::replica::plan::Notice;
use crate::value::{Scalar, Value};
use js_sys::{Array, Object};
use serde::Serialize;
use serde_wasm_bindgen::Serializer;
use std::rc::Rc;
use wasm_bindgen::{JsCast, JsValue};

fn number_or_null(number: Option<f64>) -> JsValue {
    number.map_or(JsValue::NULL, JsValue::from)
}

fn count(count: usize) -> JsValue {
    JsValue::from_f64(count as f64)
}

/// An error's parts; the loader makes a `LandfallError` of them.
pub(super) fn error_to_js(error: &Error) -> JsValue {
    let out = Object::new();
    set(&out, "code", &name(error.code.as_str()));
    set(&out, "message", &JsValue::from_str(&error.message));
    set(&out, "hint", &name(error.code.hint()));
    set(&out, "retryable", &error.code.is_retryable().into());
    out.into()
}

/// What the app's code has thrown, in its own words.
pub(super) fn error_of(thrown: &JsValue) -> Error {
    let text = get_text(thrown, "message").or_else(|| thrown.as_string());
    Error::new(Code::Aborted, text.unwrap_or_default())
}

/// The status, as the app sees it. Numbers are doubles, as in JavaScript.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct StatusDto {
    phase: &'static str,
    network: &'static str,
    leader: bool,
    outbox: OutboxDto,
    progress: Option<ProgressDto>,
    last_synced_at: Option<f64>,
    synced_through: Option<f64>,
    next_sync_at: Option<f64>,
}

#[derive(Serialize)]
struct OutboxDto {
    pending: f64,
    syncing: f64,
    conflict: f64,
    failed: f64,
}

#[derive(Serialize)]
struct ProgressDto {
    direction: &'static str,
    done: f64,
    total: Option<f64>,
}

pub(super) fn status_to_js(status: &Status) -> JsValue {
    let dto = StatusDto {
        phase: status.phase.as_str(),
        network: status.network.as_str(),
        leader: status.leader,
        outbox: OutboxDto {
            pending: status.pending as f64,
            syncing: status.syncing as f64,
            conflict: status.conflict as f64,
            failed: status.failed as f64,
        },
        progress: status.progress.map(|(lane, done, total)| ProgressDto {
            direction: if lane == Lane::Push { "push" } else { "pull" },
            done: done as f64,
            total: total.map(|n| n as f64),
        }),
        last_synced_at: status.synced_ms,
        synced_through: status.synced_through_ms,
        next_sync_at: status.next_ms,
    };
    let form = Serializer::new().serialize_missing_as_null(true);
    // Numbers and texts always can be.
    let out = dto.serialize(&form).unwrap_or_default();
    let collections = Object::new();
    for collection in &status.collections {
        let it = Object::new();
        set(&it, "loading", &collection.loading.into());
        set(&it, "lastPulledAt", &number_or_null(collection.pulled_ms));
        set(&it, "count", &count(collection.count));
        set(&collections, &collection.name, &it);
    }
    set(out.unchecked_ref(), "collections", &collections);
    let error = status
        .error
        .as_ref()
        .map_or(JsValue::NULL, |(error, at_ms)| {
            let error = error_to_js(error);
            set(error.unchecked_ref(), "at", &(*at_ms).into());
            error
        });
    set(out.unchecked_ref(), "error", &error);
    out
}

pub(super) fn entry_to_js(entry: &OutboxView<Row>) -> JsValue {
    let m = &entry.mutation;
    let out = Object::new();
    set(&out, "id", &JsValue::from_str(&entry.id));
    set(&out, "collection", &name(&m.collection));
    set(&out, "key", &JsValue::from_str(&m.key));
    set(&out, "action", &name(m.action.as_str()));
    set(&out, "state", &name(entry.state));
    set(&out, "attempts", &m.attempts.into());
    set(&out, "createdAt", &m.created_ms.into());
    set(&out, "lastAttemptAt", &number_or_null(m.last_attempt_ms));
    set(&out, "nextAttemptAt", &number_or_null(m.next_attempt_ms));
    let error = m.error.as_ref().map_or(JsValue::NULL, |refusal| {
        let error = Object::new();
        set(&error, "code", &JsValue::from_str(&refusal.code));
        set(&error, "message", &JsValue::from_str(&refusal.message));
        error.into()
    });
    set(&out, "error", &error);
    set(&out, "priority", &m.priority.into());
    let waits_for = entry
        .waits_for
        .as_deref()
        .map_or(JsValue::NULL, JsValue::from_str);
    set(&out, "waitsFor", &waits_for);
    let blocked_by = entry.blocked_by.as_deref();
    let blocked_by = blocked_by.map_or(JsValue::NULL, JsValue::from_str);
    set(&out, "blockedBy", &blocked_by);
    out.into()
}

/// What is told with a commit: `[{ event, detail }]`. `entry` finds a parked mutation.
pub(super) fn notices_to_js(
    notices: &[Notice<Row>],
    entry: impl Fn(u64) -> Option<JsValue>,
) -> Array {
    let out = Array::new();
    for notice in notices {
        let (event, detail): (&str, JsValue) = match notice {
            Notice::Confirmed(_, id, collection, key, action) => {
                let detail = Object::new();
                set(&detail, "id", &JsValue::from_str(id));
                set(&detail, "collection", &name(collection));
                set(&detail, "key", &JsValue::from_str(key));
                set(&detail, "action", &name(action.as_str()));
                ("mutation", detail.into())
            }
            Notice::Rekeyed(collection, from, to) => {
                let detail = Object::new();
                set(&detail, "collection", &name(collection));
                set(&detail, "from", &JsValue::from_str(from));
                set(&detail, "to", &JsValue::from_str(to));
                ("rekeyed", detail.into())
            }
            Notice::Parked(no) => match entry(*no) {
                Some(entry) => ("parked", entry),
                None => continue,
            },
            Notice::Conflict(conflict) => ("conflict", conflict_to_js(conflict).into()),
            Notice::Pulled(changes) => {
                let detail = Object::new();
                set(&detail, "changes", &count(*changes));
                ("pulled", detail.into())
            }
        };
        let it = Object::new();
        set(&it, "event", &name(event));
        set(&it, "detail", &detail);
        out.push(&it);
    }
    out
}

fn bad(what: &str) -> Error {
    Error::new(Code::InvalidOptions, format!("query: {what}"))
}

fn scalar(value: &JsValue, what: &str) -> Result<Scalar> {
    match (value.as_f64(), value.as_string()) {
        (Some(number), _) if !number.is_nan() => Ok(Scalar::number(number)),
        (_, Some(text)) => Ok(Scalar::Text(text.into())),
        _ => Err(bad(&format!("{what} takes strings and numbers"))),
    }
}

/// One value or a list of them.
fn scalars(value: &JsValue, what: &str) -> Result<Option<Vec<Scalar>>> {
    if value.is_undefined() || value.is_null() {
        return Ok(None);
    }
    if !Array::is_array(value) {
        return Ok(Some(vec![scalar(value, what)?]));
    }
    let list: &Array = value.unchecked_ref();
    list.iter()
        .map(|v| scalar(&v, what))
        .collect::<Result<_>>()
        .map(Some)
}

fn whole(query: &JsValue, field: &str) -> Result<Option<usize>> {
    let value = get(query, field);
    if value.is_undefined() {
        return Ok(None);
    }
    let number = value.as_f64().filter(|n| *n >= 0.0 && n.fract() == 0.0);
    number
        .map(|n| Some(n as usize))
        .ok_or_else(|| bad(&format!("{field} takes a whole number")))
}

/// Where a page begins: behind a record, or behind a key where the query runs over the keys.
fn place(
    after: &JsValue,
    index: Option<&[Rc<str>]>,
    key_field: &str,
) -> Result<Option<(Vec<Scalar>, Key)>> {
    if after.is_undefined() || after.is_null() {
        return Ok(None);
    }
    let fields = index.unwrap_or_default();
    if let (Some(key), true) = (after.as_string(), fields.is_empty()) {
        return Ok(Some((Vec::new(), key.into())));
    }
    let key = get_text(after, key_field);
    let key = key.ok_or_else(|| bad("after takes the last record of the page before"))?;
    let place = Row::of_object(after, &"".into());
    let values: Option<Vec<Scalar>> = fields.iter().map(|f| place.scalar(f)).collect();
    let values = values.ok_or_else(|| bad("after: the record is not in this index"))?;
    Ok(Some((values, key.into())))
}

/// Reads a query.
pub(super) fn parse_query(query: &JsValue, key_field: &str) -> Result<Query> {
    if query.is_undefined() || query.is_null() {
        return Ok(Query::default());
    }
    let index = get(query, "index");
    let index: Option<Vec<Rc<str>>> = if index.is_undefined() {
        None
    } else if let Some(field) = index.as_string() {
        Some(vec![field.into()])
    } else if Array::is_array(&index) {
        let list: &Array = index.unchecked_ref();
        let fields: Option<_> = list.iter().map(|f| f.as_string().map(Rc::from)).collect();
        Some(fields.ok_or_else(|| bad("index takes field names"))?)
    } else {
        return Err(bad("index takes a field name or a list of them"));
    };
    let range = get(query, "range");
    let after = place(&get(query, "after"), index.as_deref(), key_field)?;
    let descending = match get_text(query, "order").as_deref() {
        None | Some("asc") => false,
        Some("desc") => true,
        Some(_) => return Err(bad("order is \"asc\" or \"desc\"")),
    };
    Ok(Query {
        index,
        equals: scalars(&get(query, "equals"), "equals")?.unwrap_or_default(),
        from: scalars(&get(&range, "from"), "range.from")?,
        to: scalars(&get(&range, "to"), "range.to")?,
        prefix: get_text(query, "prefix").map(Rc::from),
        after,
        descending,
        offset: whole(query, "offset")?.unwrap_or(0),
        limit: whole(query, "limit")?.unwrap_or(usize::MAX),
    })
}

/// Which entries of the outbox to list.
pub(super) fn parse_filter(filter: &JsValue) -> crate::driver::OutboxFilter {
    crate::driver::OutboxFilter {
        state: get_text(filter, "state").map(Rc::from),
        collection: get_text(filter, "collection").map(Rc::from),
        limit: get_number(filter, "limit").unwrap_or(0.0) as usize,
    }
}
