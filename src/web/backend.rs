//! A backend written in JavaScript: `rest()`, or an object of the app's own.
//!
//! Whatever it throws becomes a class of failure; whatever it answers is checked before any of it
//! is believed.

use super::codec::KeyFields;
use super::glue::{self, get, get_number, get_text};
use super::value::{Row, Rows};
use crate::driver::{Backend, Call, PushAnswer};
use crate::engine::Failure;
use crate::error::{Code, Error};
use crate::limits;
use crate::model::{Change, Name, Page, Pulled, Refusal, Verdict, Version};
use crate::store::Keys;
use js_sys::{Array, Float64Array, Object, Promise, Uint32Array};
use std::rc::Rc;
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;
use web_sys::AbortController;

/// The app's object.
pub(super) struct JsBackend {
    object: JsValue,
    /// The key field of each collection, as an object.
    key_fields: JsValue,
}

fn odd(what: impl AsRef<str>) -> Failure {
    Failure::Protocol(what.as_ref().into())
}

/// Gives the request up when the future is dropped.
struct Guard {
    controller: AbortController,
    armed: bool,
}

impl Drop for Guard {
    fn drop(&mut self) {
        if self.armed {
            self.controller.abort();
        }
    }
}

async fn answer(
    start: impl FnOnce(&AbortController) -> Result<Promise, JsValue>,
) -> Result<JsValue, Failure> {
    let controller = AbortController::new().map_err(|e| to_failure(&e))?;
    let promise = start(&controller).map_err(|e| to_failure(&e))?;
    let mut guard = Guard {
        controller,
        armed: true,
    };
    let outcome = JsFuture::from(promise).await;
    guard.armed = false;
    outcome.map_err(|e| to_failure(&e))
}

/// The class of what a backend has thrown.
fn to_failure(error: &JsValue) -> Failure {
    let text = get_text(error, "message")
        .or_else(|| error.as_string())
        .unwrap_or_default();
    let text: String = text.chars().take(limits::MESSAGE_CHARS_MAX).collect();
    let code = get_text(error, "code").unwrap_or_default();
    if code == "protocol-error" {
        return odd(text);
    }
    if code == "timeout" || get_text(error, "name").as_deref() == Some("TimeoutError") {
        return Failure::NoAnswer(Error::new(Code::Timeout, text));
    }
    let status = get_number(error, "status").filter(|s| (0.0..1000.0).contains(s));
    let retry_after_ms = get_number(error, "retryAfterMs").filter(|ms| ms.is_finite());
    Failure::from_status(status.unwrap_or(0.0) as u16, retry_after_ms, &code, &text)
}

impl JsBackend {
    /// Checks that the object is a backend; none where the app gave none.
    pub(super) fn new(object: JsValue, keys: &KeyFields) -> Result<Option<Self>, Error> {
        if object.is_undefined() || object.is_null() {
            return Ok(None);
        }
        if get(&object, "push").is_function() && get(&object, "pull").is_function() {
            let fields = Object::new();
            for (collection, field) in keys.iter() {
                glue::set(&fields, collection, &glue::name(field));
            }
            let key_fields = fields.into();
            return Ok(Some(Self { object, key_fields }));
        }
        Err(Error::new(
            Code::InvalidOptions,
            "backend: needs the methods push and pull",
        ))
    }
}

/// The parts of an answer, if it has the shape it should have: whatever else a text says.
fn parts(split: JsValue) -> Result<JsValue, Failure> {
    match split.as_string() {
        Some(wrong) => Err(odd(wrong)),
        None => Ok(split),
    }
}

fn texts(parts: &JsValue, field: &str) -> Vec<Rc<str>> {
    let joined = glue::long_text(&get(parts, field)).unwrap_or_default();
    glue::split(&joined).map(Rc::from).collect()
}

fn versions(parts: &JsValue) -> Vec<f64> {
    get(parts, "versions")
        .dyn_into::<Float64Array>()
        .map_or_else(|_| Vec::new(), |versions| versions.to_vec())
}

fn optional(object: &JsValue, field: &str) -> Option<Rc<str>> {
    get_text(object, field).map(Rc::from)
}

impl Backend<Row> for JsBackend {
    async fn push(&self, changes: &[Change<Row>], call: &Call) -> Result<PushAnswer<Row>, Failure> {
        let list = Array::new();
        let mut heads = String::new();
        for text in changes.iter().flat_map(|c| [&*c.id, &*c.key, &*c.at]) {
            heads.push_str(text);
            heads.push('\0');
        }
        let heads = glue::split_texts(&heads);
        for change in changes {
            let names = change.changed.as_ref();
            let changed = names.map(|n| n.iter().map(|n| glue::name(n)).collect::<Array>());
            let (rows, row) = match &change.data {
                Some(row) => (row.rows.js(), row.at),
                None => (JsValue::UNDEFINED, 0),
            };
            glue::change_json(
                &list,
                &heads,
                &glue::name(&change.collection),
                &glue::name(change.action.as_str()),
                change.version.0 as f64,
                &rows,
                row,
                &changed.map_or(JsValue::UNDEFINED, JsValue::from),
                change.group.as_deref(),
            );
        }
        let start = |abort: &AbortController| {
            glue::call_push(&self.object, &list, abort, &call.client, call.refresh)
        };
        let answer = answer(start).await?;
        let parts = parts(glue::split_results(&answer, &list, &self.key_fields))?;
        let others: Array = get(&parts, "others").unchecked_into();
        let results = texts(&parts, "ids").into_iter().zip(versions(&parts));
        let results = results.enumerate().map(|(i, (id, version))| {
            let version = Version(version as u64);
            let other = others.get(i as u32);
            if other.is_undefined() {
                return (
                    id,
                    Verdict::Success {
                        version,
                        data: None,
                    },
                );
            }
            let then = verdict(&other, version);
            let key = optional(&other, "key").filter(|key| **key != *changes[i].key);
            let verdict = match key {
                Some(key) => Verdict::Rekeyed {
                    key,
                    then: Box::new(then),
                },
                None => then,
            };
            (id, verdict)
        });
        Ok(PushAnswer {
            results: results.collect(),
            server_ms: get_number(&parts, "serverTime"),
        })
    }

    async fn pull(
        &self,
        checkpoint: Option<&str>,
        limit: usize,
        call: &Call,
    ) -> Result<Page<Row>, Failure> {
        let start = |abort: &AbortController| {
            glue::call_pull(
                &self.object,
                checkpoint,
                limit as f64,
                abort,
                &call.client,
                call.refresh,
            )
        };
        let answer = answer(start).await?;
        let most = limits::PAGE_ACCEPTED_MAX as u32;
        let parts = parts(glue::split_page(&answer, most, &self.key_fields))?;
        let ids = glue::long_text(&get(&parts, "ids")).unwrap_or_default();
        let ids = Rc::new(Keys::new(&ids));
        let rows: Array = get(&parts, "texts").unchecked_into();
        let changes = ids.iter().zip(versions(&parts)).enumerate();
        let types: Array = get(&parts, "types").unchecked_into();
        let types: Vec<Name> = types
            .iter()
            .filter_map(|name| name.as_string())
            .map(Rc::from)
            .collect();
        let type_of: Uint32Array = get(&parts, "typeOf").unchecked_into();
        let type_of = type_of.to_vec();
        // Their keys are known, and `split_page` has compared them: none has to be parsed for it.
        let one = types.first().filter(|_| types.len() == 1);
        let field = one.and_then(|one| get_text(&self.key_fields, one));
        let all = Rows::of_texts(&rows, &field.unwrap_or_default().into(), ids.clone());
        let all_there = !rows.includes(&JsValue::NULL, 0);
        let ats = texts(&parts, "ats");
        let changes = changes.map(|(i, (key, version))| Pulled {
            collection: types[type_of[i] as usize].clone(),
            key: key.into(),
            version: Version(version as u64),
            data: (all_there || !rows.get(i as u32).is_null()).then(|| Row {
                rows: all.clone(),
                at: i as u32,
            }),
            at: Some(ats[i].clone()).filter(|at| !at.is_empty()),
        });
        Ok(Page {
            changes: changes.collect(),
            checkpoint: optional(&parts, "checkpoint").unwrap_or_default(),
            has_more: get(&parts, "hasMore").as_bool().unwrap_or(false),
            server_ms: get_number(&parts, "serverTime"),
        })
    }
}

/// A verdict that is more than "success"; `split_results` has checked its shape.
fn verdict(other: &JsValue, version: Version) -> Verdict<Row> {
    let text = get(other, "text");
    let data = text.is_string().then(|| Row::of_text(&text, &"".into()));
    match get_text(other, "status").as_deref() {
        Some("success") => Verdict::Success { version, data },
        Some("conflict") => Verdict::Conflict {
            version,
            data,
            at: optional(other, "at"),
        },
        _ => {
            let message = get_text(other, "message");
            let message = message.unwrap_or_else(|| "the server refuses the change".into());
            let message: String = message.chars().take(limits::MESSAGE_CHARS_MAX).collect();
            let refusal = Refusal {
                code: optional(other, "code").unwrap_or_else(|| "rejected".into()),
                message: message.into(),
            };
            Verdict::Failed {
                refusal,
                retryable: get(other, "retryable").as_bool().unwrap_or(false),
            }
        }
    }
}
