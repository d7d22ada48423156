//! The imports from `glue.js`, and small helpers around JavaScript values.

use js_sys::{Array, Object, Promise, Reflect};
use std::cell::RefCell;
use std::collections::HashMap;
use wasm_bindgen::prelude::*;
use web_sys::{AbortController, IdbDatabase, IdbTransaction};

#[wasm_bindgen(module = "/src/web/glue.js")]
extern "C" {
    pub(super) fn names(record: &JsValue) -> Array;
    pub(super) fn patched(record: &JsValue, patch: &JsValue, names: &Array) -> JsValue;
    pub(super) fn picked(record: &JsValue, names: &Array) -> JsValue;
    pub(super) fn same(a: &JsValue, b: &JsValue, field: &JsValue) -> bool;
    pub(super) fn weight(value: &JsValue) -> f64;
    #[wasm_bindgen(js_name = joinedKeys)]
    pub(super) fn joined_keys(records: &Array, field: &JsValue) -> String;
    pub(super) fn change(
        list: &Array,
        id: &str,
        collection: &JsValue,
        action: &JsValue,
        key: &str,
        version: f64,
        at: &str,
        data: &JsValue,
        changed: &JsValue,
    );
    #[wasm_bindgen(js_name = callPush, catch)]
    pub(super) fn call_push(
        backend: &JsValue,
        changes: &Array,
        controller: &AbortController,
        client: &str,
        refresh: bool,
    ) -> Result<Promise, JsValue>;
    #[wasm_bindgen(js_name = callPull, catch)]
    pub(super) fn call_pull(
        backend: &JsValue,
        checkpoint: Option<&str>,
        limit: f64,
        controller: &AbortController,
        client: &str,
        refresh: bool,
    ) -> Result<Promise, JsValue>;
    #[wasm_bindgen(catch)]
    pub(super) fn transaction(
        db: &IdbDatabase,
        stores: &Array,
        mode: &str,
        durability: &str,
    ) -> Result<IdbTransaction, JsValue>;
}

thread_local! {
    static NAMES: RefCell<HashMap<Box<str>, JsValue>> = RefCell::new(HashMap::new());
}

/// Names that recur (fields, collections) as JavaScript strings, made once.
const NAMES_MAX: usize = 1024;

/// A JavaScript string that is made once for each recurring name.
pub(super) fn name(text: &str) -> JsValue {
    NAMES.with_borrow_mut(|names| {
        if let Some(known) = names.get(text) {
            return known.clone();
        }
        let made = JsValue::from_str(text);
        if names.len() < NAMES_MAX {
            names.insert(text.into(), made.clone());
        }
        made
    })
}

/// A property; `undefined` where there is none or no object.
pub(super) fn get(object: &JsValue, field: &str) -> JsValue {
    Reflect::get(object, &name(field)).unwrap_or(JsValue::UNDEFINED)
}

/// Sets a property of an object of our own.
pub(super) fn set(object: &Object, field: &str, value: &JsValue) {
    // Fails on frozen objects only.
    let _ = Reflect::set(object, &name(field), value);
}

/// A string property.
pub(super) fn get_text(object: &JsValue, field: &str) -> Option<String> {
    get(object, field).as_string()
}

/// A number property.
pub(super) fn get_number(object: &JsValue, field: &str) -> Option<f64> {
    get(object, field).as_f64()
}
