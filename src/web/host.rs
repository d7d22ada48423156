//! What the core calls in the loader.

use super::api::WebManager;
use super::conflicts::{self, Decision};
use super::glue::get;
use super::value::Row;
use super::{rescue, view};
use crate::conflict::Question;
use crate::driver::{Listener, RescueBatch, WriteTurn};
use crate::error::Error;
use crate::model::Name;
use crate::replica::plan::Notice;
use js_sys::{Array, Function, Promise};
use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;

/// The loader's callbacks: `{ watched, committed(collections, notices, own), status(), failed(error), turn() }`;
/// where `watched` is false, nobody wants notices. `reached` is what `reach` has answered, if it was asked.
pub(super) struct Host {
    pub(super) object: JsValue,
    pub(super) manager: Rc<RefCell<Option<WebManager>>>,
}

impl Host {
    fn call(&self, method: &str, arguments: &[&JsValue]) -> JsValue {
        let Ok(function) = get(&self.object, method).dyn_into::<Function>() else {
            return JsValue::UNDEFINED;
        };
        let arguments: Array = arguments.iter().copied().collect();
        // The loader's callbacks catch what the app's handlers throw.
        function
            .apply(&self.object, &arguments)
            .unwrap_or(JsValue::UNDEFINED)
    }
}

/// Ends a turn of writing when it is dropped.
struct Ending(Function);

impl Drop for Ending {
    fn drop(&mut self) {
        // The loader's callback only lets a lock go.
        let _ = self.0.call0(&JsValue::UNDEFINED);
    }
}

impl Listener<Row> for Host {
    fn committed(&self, collections: &[Name], notices: &[Notice<Row>], own: bool) {
        let names: Array = collections.iter().map(|c| super::glue::name(c)).collect();
        let manager = self.manager.borrow();
        let watched = !notices.is_empty() && get(&self.object, "watched").is_truthy();
        let manager = manager.as_ref().filter(|_| watched);
        let notices = manager.map_or_else(Array::new, |manager| {
            let entry = |no| manager.outbox_entry(no).map(|e| view::entry_to_js(&e));
            view::notices_to_js(notices, entry)
        });
        self.call("committed", &[&names, &notices, &own.into()]);
    }

    fn status_changed(&self) {
        self.call("status", &[]);
    }

    fn failed(&self, error: &Error) {
        self.call("failed", &[&view::error_to_js(error)]);
    }

    fn folded(&self) {
        self.call("folded", &[]);
    }

    fn turn(&self) -> Pin<Box<dyn Future<Output = Option<WriteTurn>>>> {
        let turn = self.call("turn", &[]);
        Box::pin(async move {
            let end = JsFuture::from(turn.dyn_into::<Promise>().ok()?).await;
            let end = end.ok()?.dyn_into::<Function>().ok()?;
            Some(Box::new(Ending(end)) as WriteTurn)
        })
    }

    fn decide(&self, question: Question<Row>) -> Decision {
        let sides = [&question.base, &question.local, &question.remote];
        let sides: Array = sides.into_iter().map(conflicts::copy).collect();
        let (name, key) = (super::glue::name(&question.collection), question.key);
        conflicts::decision(self.call("decide", &[&name, &JsValue::from_str(&key), &sides]))
    }

    fn rescue(&self, batch: RescueBatch<Row>) -> Pin<Box<dyn Future<Output = ()>>> {
        let kept = self.call("rescue", &[&rescue::batch_to_js(&batch)]);
        Box::pin(async move {
            if let Ok(kept) = kept.dyn_into::<Promise>() {
                // The loader's promise does not reject: it reports what failed.
                let _ = JsFuture::from(kept).await;
            }
        })
    }
}
