//! One queued mutation as a plain JavaScript object with readable names: for the log, for the rescue
//! copy and for the backup that `exportUnsynced()` hands out.
//!
//! ```text
//! { number, collection, key, action, record, shows?, changed?, base, baseVersion, remote,
//!   remoteVersion, at: [ms, counter], createdAt, sent, state, attempts, lastAttemptAt, nextAttemptAt,
//!   error: { code, message } | null, group?, origin?, behind }
//! ```
//!
//! Reading believes nothing: a backup may have been through anybody's hands. What it answers names
//! the field at fault; whether the record fits its collection is the planner's business.

use super::decode;
use super::glue::{self, get, get_number, get_text, name, set};
use super::value::Row;
use crate::hlc::Hlc;
use crate::limits;
use crate::model::{Action, Confirmed, Held, Mutation, MutationState, Refusal, Version};
use crate::replica::plan::check_key;
use crate::shown::{Names, Shown};
use js_sys::{Array, Object};
use std::rc::Rc;
use wasm_bindgen::{JsCast, JsValue};

/// The field at fault.
pub(super) type Fault = &'static str;
type Read<T> = std::result::Result<T, Fault>;

/// The largest whole number that JavaScript can tell from its neighbours.
const WHOLE_MAX: f64 = 9_007_199_254_740_991.0;
/// The last day that a JavaScript `Date` knows, in ms; the first one is as far before 1970.
const TIME_MAX_MS: f64 = 8_640_000_000_000_000.0;

/// How a record is written: [`Row::json`] for the store, [`Row::object`] for people.
pub(super) type Write<'a> = dyn Fn(&Row) -> JsValue + 'a;

fn or_null(value: Option<&Row>, write: &Write<'_>) -> JsValue {
    value.map_or(JsValue::NULL, write)
}

fn time_or_null(ms: Option<f64>) -> JsValue {
    ms.map_or(JsValue::NULL, JsValue::from)
}

fn state_name(state: MutationState) -> &'static str {
    match state {
        MutationState::Pending => "pending",
        MutationState::Conflict => "conflict",
        MutationState::Failed => "failed",
    }
}

/// Adds what a record shows, where that is not the mutation's own content.
pub(super) fn set_shows(out: &Object, shows: &Shown<Row>, write: &Write<'_>) {
    let it = Object::new();
    match shows {
        Shown::Own => return,
        Shown::Before => {}
        Shown::Patch(patch, names) => {
            set(&it, "patch", &write(patch));
            set(&it, "fields", &texts(names));
        }
        Shown::Record(record) => set(&it, "record", &or_null(record.as_ref(), write)),
    }
    set(out, "shows", &it);
}

/// Reads what [`set_shows`] has added.
pub(super) fn get_shows(object: &JsValue) -> Read<Shown<Row>> {
    let shows = get(object, "shows");
    if shows.is_undefined() {
        return Ok(Shown::Own);
    }
    if !shows.is_object() {
        return Err("shows");
    }
    let (patch, shown) = (get(&shows, "patch"), get(&shows, "record"));
    if !patch.is_undefined() {
        let patch = record(&patch).ok().flatten().ok_or("shows.patch")?;
        let names = names(&get(&shows, "fields")).ok_or("shows.fields")?;
        return Ok(Shown::Patch(patch, names.ok_or("shows.fields")?));
    }
    if shown.is_undefined() {
        return Ok(Shown::Before);
    }
    record(&shown)
        .map(Shown::Record)
        .map_err(|_| "shows.record")
}

/// A mutation as it stands, and what the backend has of its record.
pub(super) fn mutation_to_js(held: &Held<Row>, write: &Write<'_>) -> Object {
    let m = &held.mutation;
    let out = Object::new();
    set(&out, "number", &(m.no as f64).into());
    set(&out, "collection", &name(&m.collection));
    set(&out, "key", &JsValue::from_str(&m.key));
    set(&out, "action", &name(m.action.as_str()));
    set(&out, "record", &or_null(m.value.as_ref(), write));
    set_shows(&out, &m.shows, write);
    if let Some(changed) = &m.changed {
        set(&out, "changed", &texts(changed));
    }
    set(&out, "base", &or_null(m.base.as_ref(), write));
    set(&out, "baseVersion", &(m.base_version.0 as f64).into());
    set(&out, "remote", &or_null(held.shadow.as_ref(), write));
    set(&out, "remoteVersion", &(held.version.0 as f64).into());
    if let Some(confirmed) = &held.confirmed {
        set_confirmed(&out, confirmed);
    }
    set(
        &out,
        "at",
        &Array::of2(&m.at.ms.into(), &m.at.counter.into()),
    );
    set(&out, "createdAt", &m.created_ms.into());
    set(&out, "sent", &m.sent.into());
    set(&out, "state", &name(state_name(m.state)));
    set(&out, "attempts", &m.attempts.into());
    set(&out, "lastAttemptAt", &time_or_null(m.last_attempt_ms));
    set(&out, "nextAttemptAt", &time_or_null(m.next_attempt_ms));
    let error = m.error.as_ref().map_or(JsValue::NULL, |refusal| {
        let error = Object::new();
        set(&error, "code", &JsValue::from_str(&refusal.code));
        set(&error, "message", &JsValue::from_str(&refusal.message));
        error.into()
    });
    set(&out, "error", &error);
    set_text(&out, "group", m.group.as_deref());
    set_text(&out, "origin", m.origin.as_deref());
    set(&out, "behind", &m.behind.into());
    out
}

/// Adds a text, if there is one.
pub(super) fn set_text(out: &Object, field: &str, text: Option<&str>) {
    if let Some(text) = text {
        set(out, field, &JsValue::from_str(text));
    }
}

/// Reads a mutation, believing nothing. `stored`: it is one of ours, and costs no more than itself where a
/// record in it is damaged.
pub(super) fn mutation_from_js(value: &JsValue, stored: bool) -> Read<Held<Row>> {
    let record = |value: &JsValue| match stored && value.is_string() {
        true => decode::record(value).map_err(|_| ()),
        false => record(value),
    };
    let action = get_text(value, "action").and_then(|a| Action::parse(&a));
    let action = action.ok_or("action")?;
    let state = match get_text(value, "state").as_deref() {
        Some("pending") => MutationState::Pending,
        Some("conflict") => MutationState::Conflict,
        Some("failed") => MutationState::Failed,
        _ => return Err("state"),
    };
    let key = get_text(value, "key").ok_or("key")?;
    check_key(&key).map_err(|_| "key")?;
    let content = record(&get(value, "record")).map_err(|_| "record")?;
    if content.is_none() != (action == Action::Delete) {
        return Err("record");
    }
    let no = whole(value, "number")?;
    if no == 0 || no >= WHOLE_MAX as u64 {
        return Err("number");
    }
    let mutation = Mutation {
        no,
        collection: short_text(value, "collection")?.ok_or("collection")?,
        key: key.into(),
        action,
        value: content,
        shows: get_shows(value)?,
        changed: names(&get(value, "changed")).ok_or("changed")?,
        base_version: Version(whole(value, "baseVersion")?),
        base: record(&get(value, "base")).map_err(|_| "base")?,
        priority: 0,
        behind: get(value, "behind").as_bool().ok_or("behind")?,
        at: reading(&get(value, "at")).ok_or("at")?,
        created_ms: time(value, "createdAt")?.ok_or("createdAt")?,
        sent: get(value, "sent").as_bool().ok_or("sent")?,
        state,
        attempts: u32::try_from(whole(value, "attempts")?).map_err(|_| "attempts")?,
        last_attempt_ms: time(value, "lastAttemptAt")?,
        next_attempt_ms: time(value, "nextAttemptAt")?,
        error: refusal(&get(value, "error"))?,
        group: wire_text(value, "group")?,
        origin: wire_text(value, "origin")?,
    };
    Ok(Held {
        mutation,
        shadow: record(&get(value, "remote")).map_err(|_| "remote")?,
        version: Version(whole(value, "remoteVersion")?),
        confirmed: confirmed(value)?,
    })
}

/// Adds what was confirmed.
pub(super) fn set_confirmed(out: &Object, confirmed: &Confirmed) {
    set_text(out, "confirmedAt", Some(&confirmed.at));
    set(
        out,
        "confirmedVersion",
        &(confirmed.version.0 as f64).into(),
    );
}

fn confirmed(value: &JsValue) -> Read<Option<Confirmed>> {
    let Some(at) = short_text(value, "confirmedAt")? else {
        return Ok(None);
    };
    let version = Version(whole(value, "confirmedVersion")?);
    Ok(Some(Confirmed { at, version }))
}

fn texts(names: &Names) -> Array {
    names.iter().map(|n| name(n)).collect()
}

/// A record, or none for `null`. A text must be JSON: it is parsed when somebody looks at it, and then
/// it is too late to refuse it.
fn record(value: &JsValue) -> std::result::Result<Option<Row>, ()> {
    if value.is_undefined() || (value.is_string() && !glue::is_record(value)) {
        return Err(());
    }
    decode::record(value).map_err(|_| ())
}

/// A list of field names: `None` where it is something else, `Some(None)` where it is absent.
#[allow(clippy::option_option, reason = "wrong, absent, there")]
fn names(value: &JsValue) -> Option<Option<Names>> {
    if value.is_undefined() || value.is_null() {
        return Some(None);
    }
    let list: &Array = value.dyn_ref()?;
    let names: Option<Names> = list.iter().map(|n| n.as_string().map(Rc::from)).collect();
    names.map(Some)
}

fn whole(object: &JsValue, field: Fault) -> Read<u64> {
    let number = get_number(object, field).ok_or(field)?;
    let fits = (0.0..=WHOLE_MAX).contains(&number) && number.fract() == 0.0;
    if fits { Ok(number as u64) } else { Err(field) }
}

fn time(object: &JsValue, field: Fault) -> Read<Option<f64>> {
    let value = get(object, field);
    if value.is_null() || value.is_undefined() {
        return Ok(None);
    }
    // Before 1970 is what a device without a battery for its clock may say.
    let ms = value.as_f64().filter(|ms| ms.abs() <= TIME_MAX_MS);
    ms.map(Some).ok_or(field)
}

fn reading(value: &JsValue) -> Option<Hlc> {
    let pair: &Array = value.dyn_ref()?;
    let (ms, counter) = (pair.get(0).as_f64()?, pair.get(1).as_f64()?);
    let fits = ms >= 0.0 && ms.fract() == 0.0;
    let counts = (0.0..=65_535.0).contains(&counter) && counter.fract() == 0.0;
    (fits && counts).then_some(Hlc::stored(ms, counter as u32))
}

fn short_text(object: &JsValue, field: Fault) -> Read<Option<Rc<str>>> {
    let value = get(object, field);
    if value.is_undefined() || value.is_null() {
        return Ok(None);
    }
    let text = value.as_string().ok_or(field)?;
    if text.is_empty() || text.len() > limits::NAME_BYTES_MAX {
        return Err(field);
    }
    Ok(Some(text.into()))
}

/// An id on the wire: a client, a point, a number.
fn wire_text(object: &JsValue, field: Fault) -> Read<Option<Rc<str>>> {
    let text = short_text(object, field)?;
    let fine = |id: &Rc<str>| {
        let parts = id.rsplit_once('.');
        // In a push a U+0000 stands between ids.
        let whole = !id.contains('\0');
        parts.is_some_and(|(client, no)| !client.is_empty() && no.parse::<u64>().is_ok()) && whole
    };
    match text {
        Some(id) if !fine(&id) => Err(field),
        text => Ok(text),
    }
}

fn refusal(value: &JsValue) -> Read<Option<Refusal>> {
    if value.is_undefined() || value.is_null() {
        return Ok(None);
    }
    let text = |field| get_text(value, field).ok_or("error");
    let message: String = text("message")?
        .chars()
        .take(limits::MESSAGE_CHARS_MAX)
        .collect();
    let code: String = text("code")?.chars().take(limits::NAME_BYTES_MAX).collect();
    Ok(Some(Refusal {
        code: code.into(),
        message: message.into(),
    }))
}
