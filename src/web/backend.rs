//! A backend written in JavaScript: `rest()`, or an object of the app's own.
//!
//! Whatever it throws becomes a class of failure; whatever it answers is checked before any of it
//! is believed.

use super::glue::{self, get, get_number, get_text};
use crate::driver::{Backend, Call, PushAnswer};
use crate::engine::Failure;
use crate::error::{Code, Error};
use crate::limits;
use crate::model::{Change, Page, Pulled, Refusal, Verdict, Version};
use js_sys::{Array, Promise};
use serde::Deserialize;
use std::rc::Rc;
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;
use web_sys::AbortController;

/// The app's object.
pub(super) struct JsBackend(JsValue);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ResultDto {
    id: String,
    status: String,
    version_number: Option<f64>,
    #[serde(default, with = "serde_wasm_bindgen::preserve")]
    data: JsValue,
    #[serde(default)]
    deleted: bool,
    at: Option<String>,
    message: Option<String>,
    code: Option<String>,
    #[serde(default)]
    retryable: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ChangeDto {
    #[serde(rename = "type")]
    collection: String,
    id: String,
    version_number: f64,
    #[serde(default)]
    deleted: bool,
    #[serde(default, with = "serde_wasm_bindgen::preserve")]
    data: JsValue,
    at: Option<String>,
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

fn version(number: f64) -> Option<Version> {
    let whole = number.fract() == 0.0 && (0.0..=9_007_199_254_740_991.0).contains(&number);
    whole.then_some(Version(number as u64))
}

fn record(data: JsValue, what: &str) -> Result<Option<JsValue>, Failure> {
    if data.is_undefined() || data.is_null() {
        Ok(None)
    } else if data.is_object() && !Array::is_array(&data) {
        Ok(Some(data))
    } else {
        Err(odd(format!("{what}: data is not an object")))
    }
}

fn list(answer: &JsValue, field: &str) -> Result<Array, Failure> {
    let list = get(answer, field);
    if Array::is_array(&list) {
        Ok(list.unchecked_into())
    } else {
        Err(odd(format!("the answer has no list of {field}")))
    }
}

impl JsBackend {
    /// Checks that the object is a backend; none where the app gave none.
    pub(super) fn new(object: JsValue) -> Result<Option<Self>, Error> {
        if object.is_undefined() || object.is_null() {
            return Ok(None);
        }
        if get(&object, "push").is_function() && get(&object, "pull").is_function() {
            return Ok(Some(Self(object)));
        }
        Err(Error::new(
            Code::InvalidOptions,
            "backend: needs the methods push and pull",
        ))
    }
}

impl Backend<JsValue> for JsBackend {
    async fn push(
        &self,
        changes: &[Change<JsValue>],
        call: &Call,
    ) -> Result<PushAnswer<JsValue>, Failure> {
        let list = Array::new();
        for change in changes {
            let names = change.changed.as_ref();
            let changed = names.map(|n| n.iter().map(|n| glue::name(n)).collect::<Array>());
            glue::change(
                &list,
                &change.id,
                &glue::name(&change.collection),
                &glue::name(change.action.as_str()),
                &change.key,
                change.version.0 as f64,
                &change.at,
                change.data.as_ref().unwrap_or(&JsValue::UNDEFINED),
                &changed.map_or(JsValue::UNDEFINED, JsValue::from),
                change.group.as_deref(),
            );
        }
        let start = |abort: &AbortController| {
            glue::call_push(&self.0, &list, abort, &call.client, call.refresh)
        };
        let answer = answer(start).await?;
        let results = self::list(&answer, "results")?;
        if results.length() as usize != changes.len() {
            let (got, want) = (results.length(), changes.len());
            return Err(odd(format!("{got} results for {want} changes")));
        }
        let results = results.iter().map(verdict).collect::<Result<_, _>>()?;
        Ok(PushAnswer {
            results,
            server_ms: get_number(&answer, "serverTime"),
        })
    }

    async fn pull(
        &self,
        checkpoint: Option<&str>,
        limit: usize,
        call: &Call,
    ) -> Result<Page<JsValue>, Failure> {
        let start = |abort: &AbortController| {
            glue::call_pull(
                &self.0,
                checkpoint,
                limit as f64,
                abort,
                &call.client,
                call.refresh,
            )
        };
        let answer = answer(start).await?;
        let changes = self::list(&answer, "changes")?;
        if changes.length() as usize > limits::PAGE_ACCEPTED_MAX {
            return Err(odd("the page has too many changes"));
        }
        let checkpoint = get_text(&answer, "checkpoint").map(Rc::from);
        Ok(Page {
            changes: changes.iter().map(pulled).collect::<Result<_, _>>()?,
            checkpoint: checkpoint.ok_or_else(|| odd("the answer has no checkpoint"))?,
            has_more: get(&answer, "hasMore").as_bool().unwrap_or(false),
            server_ms: get_number(&answer, "serverTime"),
        })
    }
}

fn verdict(result: JsValue) -> Result<(Rc<str>, Verdict<JsValue>), Failure> {
    let dto: ResultDto =
        serde_wasm_bindgen::from_value(result).map_err(|e| odd(format!("a result: {e}")))?;
    let need_version = || {
        let number = dto.version_number.and_then(version);
        number.ok_or_else(|| odd("a result has no whole versionNumber"))
    };
    let verdict = match dto.status.as_str() {
        "success" => Verdict::Success {
            version: need_version()?,
            data: record(dto.data, "a result")?,
        },
        "conflict" => {
            let version = need_version()?;
            let data = record(dto.data, "a result")?;
            if data.is_none() && !dto.deleted {
                return Err(odd("a conflict has neither data nor deleted"));
            }
            Verdict::Conflict {
                version,
                data,
                at: dto.at.map(Rc::from),
            }
        }
        "failed" => {
            let text = dto
                .message
                .unwrap_or_else(|| "the server refuses the change".into());
            let message: String = text.chars().take(limits::MESSAGE_CHARS_MAX).collect();
            let code = dto.code.unwrap_or_else(|| "rejected".into());
            let refusal = Refusal {
                code: code.into(),
                message: message.into(),
            };
            Verdict::Failed {
                refusal,
                retryable: dto.retryable,
            }
        }
        other => return Err(odd(format!("a result has the unknown status {other:?}"))),
    };
    Ok((dto.id.into(), verdict))
}

fn pulled(change: JsValue) -> Result<Pulled<JsValue>, Failure> {
    let dto: ChangeDto =
        serde_wasm_bindgen::from_value(change).map_err(|e| odd(format!("a change: {e}")))?;
    let version = version(dto.version_number).filter(|v| v.0 > 0);
    let version = version.ok_or_else(|| odd("a change has no positive versionNumber"))?;
    let data = if dto.deleted {
        None
    } else {
        record(dto.data, "a change")?
    };
    if data.is_none() && !dto.deleted {
        return Err(odd("a change has neither data nor deleted"));
    }
    Ok(Pulled {
        collection: dto.collection.into(),
        key: dto.id.into(),
        version,
        data,
        at: dto.at.map(Rc::from),
    })
}
