//! Conflicts, and changes to what is queued, as JavaScript asks for them; and what the app's function
//! answers.

use super::api::{Core, answer};
use super::codec::conflict_with;
use super::glue::get_text;
use super::value::Row;
use super::view;
use super::writes::row;
use crate::conflict::{Answer, Choice};
use crate::error::{Code, Error, Result};
use crate::limits;
use crate::replica::plan::{Edit, Intent};
use js_sys::{Array, Function, Promise};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;

/// What the app's function will have answered.
pub(super) type Decision = Pin<Box<dyn Future<Output = Result<Answer<Row>>>>>;

/// A side for the app's function: a copy, because it may change what it is given.
#[allow(clippy::ref_option, reason = "for map")]
pub(super) fn copy(side: &Option<Row>) -> JsValue {
    side.as_ref().map_or(JsValue::NULL, Row::copy)
}

/// Waits for the loader's promise: the JSON text of a record, `null`, or `"park"`.
pub(super) fn decision(promised: JsValue) -> Decision {
    Box::pin(async move {
        let failed = |message: String| {
            let message: String = message.chars().take(limits::MESSAGE_CHARS_MAX).collect();
            Error::new(Code::ConflictHandler, message)
        };
        let answered = match promised.dyn_into::<Promise>() {
            Ok(promise) => JsFuture::from(promise).await,
            Err(nothing) => Err(nothing),
        };
        let answered = answered.map_err(|thrown| {
            let text = get_text(&thrown, "message").or_else(|| thrown.as_string());
            failed(text.unwrap_or_else(|| "the conflict handler failed".into()))
        })?;
        Ok(match answered.as_string().as_deref() {
            None => Answer::Record(None),
            Some("park") => Answer::Park,
            Some(_) => Answer::Record(Some(row(&answered))),
        })
    })
}

#[wasm_bindgen]
impl Core {
    /// The conflicts: those that wait first, then the log, newest first.
    pub fn conflicts(&self) -> Array {
        let show = |row: &Row| self.shown(Some(row.clone()));
        let all = self.manager.conflicts();
        all.iter().map(|c| conflict_with(c, show)).collect()
    }

    /// Settles a conflict: `"local"`, `"remote"`, the JSON text of a record, or `null` to delete it.
    /// Calls `done(error, count)`.
    pub fn resolve(&self, id: &str, choice: &JsValue, done: Function) {
        let choice = match choice.as_string().as_deref() {
            None => Choice::Record(None),
            Some("local") => Choice::Local,
            Some("remote") => Choice::Remote,
            Some(_) => Choice::Record(Some(row(choice))),
        };
        self.submit(Intent::Resolve(id.into(), choice), done);
    }

    /// Changes the content of a queued mutation, where it is still `on` (a record, or `undefined` for
    /// whatever it is). Calls `done(error, count)`.
    pub fn edit(&self, id: &str, patch: &JsValue, names: &Array, on: &JsValue, done: Function) {
        let Some(no) = self.manager.find_mutation(id) else {
            let error = Error::new(Code::NotFound, "there is no such mutation");
            return answer(&done, Err(error));
        };
        let changed = names.iter().filter_map(|n| n.as_string()).map(Rc::from);
        let edit = Edit {
            no,
            patch: row(patch),
            changed: changed.collect(),
            on: on.is_object().then(|| row(on)),
        };
        self.submit(Intent::Edit(edit), done);
    }

    /// One entry of the queue, or `undefined`.
    #[wasm_bindgen(js_name = outboxEntry)]
    pub fn outbox_entry(&self, id: &str) -> JsValue {
        let no = self.manager.find_mutation(id);
        let entry = no.and_then(|no| self.manager.outbox_entry(no));
        entry.map_or(JsValue::UNDEFINED, |entry| view::entry_to_js(&entry))
    }
}
