//! The imports from `glue.js` and `reach.js`, and small helpers around JavaScript values.

use js_sys::{Array, Object, Promise, Uint8Array};
use std::cell::RefCell;
use wasm_bindgen::prelude::*;
use web_sys::{AbortController, IdbDatabase, IdbRequest, IdbTransaction};

#[wasm_bindgen(module = "/src/web/glue.js")]
extern "C" {
    pub(super) fn names(record: &JsValue) -> Array;
    pub(super) fn patched(record: &JsValue, patch: &JsValue, names: &Array) -> JsValue;
    pub(super) fn picked(record: &JsValue, names: &Array) -> JsValue;
    #[wasm_bindgen(js_name = withText)]
    pub(super) fn with_text(record: &JsValue, field: &JsValue, text: &str) -> JsValue;
    pub(super) fn same(a: &JsValue, b: &JsValue, field: &JsValue) -> bool;
    #[wasm_bindgen(js_name = rowsOfTexts)]
    pub(super) fn rows_of_texts(texts: &Array) -> JsValue;
    #[wasm_bindgen(js_name = rowsOfJoined)]
    pub(super) fn rows_of_joined(joined: &JsValue) -> JsValue;
    #[wasm_bindgen(js_name = joinedRows)]
    pub(super) fn joined_rows(texts: &Array) -> JsValue;
    #[wasm_bindgen(js_name = rowsOfObjects)]
    pub(super) fn rows_of_objects(objects: &Array) -> JsValue;
    #[wasm_bindgen(js_name = rowObject)]
    pub(super) fn row_object(rows: &JsValue, at: u32) -> JsValue;
    #[wasm_bindgen(js_name = rowJson)]
    pub(super) fn row_json(rows: &JsValue, at: u32) -> JsValue;
    #[wasm_bindgen(js_name = rowWeight)]
    pub(super) fn row_weight(rows: &JsValue, at: u32) -> f64;
    #[wasm_bindgen(js_name = dropObjects)]
    pub(super) fn drop_objects(rows: &JsValue);
    #[wasm_bindgen(js_name = rowsBytes)]
    pub(super) fn rows_bytes(rows: &JsValue) -> f64;
    #[wasm_bindgen(js_name = isRows)]
    pub(super) fn is_rows(texts: &Array) -> bool;
    #[wasm_bindgen(js_name = isRecord)]
    pub(super) fn is_record(text: &JsValue) -> bool;
    #[wasm_bindgen(js_name = rowsTexts)]
    pub(super) fn rows_texts(rows: &JsValue, from: u32, to: u32) -> Array;
    #[wasm_bindgen(js_name = pushObjects)]
    pub(super) fn push_objects(out: &Array, rows: &JsValue, from: u32, to: u32);
    #[wasm_bindgen(js_name = joinedKeys)]
    pub(super) fn joined_keys(records: &Array, field: &JsValue) -> JsValue;
    #[wasm_bindgen(js_name = splitTexts)]
    pub(super) fn split_texts(joined: &str) -> Array;
    #[wasm_bindgen(js_name = changeJson)]
    pub(super) fn change_json(
        list: &Array,
        heads: &Array,
        collection: &JsValue,
        action: &JsValue,
        version: f64,
        rows: &JsValue,
        row: u32,
        changed: &JsValue,
        group: Option<&str>,
    );
    /// A text says what is wrong.
    #[wasm_bindgen(js_name = splitPage)]
    pub(super) fn split_page(answer: &JsValue, changes_max: u32, key_fields: &JsValue) -> JsValue;
    /// A text says what is wrong.
    #[wasm_bindgen(js_name = splitResults)]
    pub(super) fn split_results(answer: &JsValue, changes: &Array, key_fields: &JsValue)
    -> JsValue;
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
    pub(super) fn soon() -> Promise;
    fn utf8(text: &JsValue) -> Option<Uint8Array>;
    #[wasm_bindgen(js_name = getField)]
    fn get_field(object: &JsValue, name: &JsValue) -> JsValue;
    #[wasm_bindgen(js_name = setField)]
    fn set_field(object: &Object, name: &JsValue, value: &JsValue);
    #[wasm_bindgen(catch)]
    pub(super) fn transaction(
        db: &IdbDatabase,
        stores: &Array,
        mode: &JsValue,
        durability: &JsValue,
    ) -> Result<IdbTransaction, JsValue>;
    #[wasm_bindgen(catch)]
    pub(super) fn append(
        db: &IdbDatabase,
        store: &JsValue,
        durability: &JsValue,
        after: f64,
        values: &Array,
        early: bool,
        token: u32,
        answer: &JsValue,
    ) -> Result<IdbTransaction, JsValue>;
    #[wasm_bindgen(js_name = markLost)]
    pub(super) fn mark_lost(db: &IdbDatabase);
    #[wasm_bindgen(js_name = isLost)]
    pub(super) fn is_lost(db: &IdbDatabase) -> bool;
    pub(super) fn listen(request: &IdbRequest, token: u32, answer: &JsValue);
    #[wasm_bindgen(js_name = listenToEnd)]
    pub(super) fn listen_to_end(tx: &IdbTransaction, token: u32, answer: &JsValue);
}

#[wasm_bindgen(module = "/src/web/reach.js")]
extern "C" {
    /// The version of the database's schema.
    pub(super) fn schema() -> u32;
    #[wasm_bindgen(reexport)]
    pub(super) fn reach(name: &str, entered: &JsValue) -> Promise;
    #[wasm_bindgen(js_name = segmentsAhead)]
    pub(super) fn segments_ahead(reached: &JsValue, ids: &Array) -> Promise;
    #[wasm_bindgen(js_name = logAhead)]
    pub(super) fn log_ahead(reached: &JsValue, after: f64, limit: u32) -> Promise;
}

/// Names that recur (fields, collections) as JavaScript strings, made once.
struct Names {
    /// Each as near behind its hash as there was room.
    slots: Vec<Option<(Box<str>, JsValue)>>,
    len: usize,
}

/// Names that are kept.
const NAMES_MAX: usize = 1024;
/// Twice as many, so that a free slot is near.
const SLOTS: usize = NAMES_MAX * 2;

thread_local! {
    static NAMES: RefCell<Names> = const { RefCell::new(Names { slots: Vec::new(), len: 0 }) };
}

impl Names {
    fn get(&mut self, text: &str) -> JsValue {
        if self.slots.is_empty() {
            self.slots.resize_with(SLOTS, || None);
        }
        // FNV-1a: names are short, and the app's own.
        let mix = |hash: u32, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
        let mut at = text.bytes().fold(0x811c_9dc5, mix) as usize % SLOTS;
        while let Some((known, value)) = &self.slots[at] {
            if **known == *text {
                return value.clone();
            }
            at = (at + 1) % SLOTS;
        }
        let made = JsValue::from_str(text);
        if self.len < NAMES_MAX {
            self.len += 1;
            self.slots[at] = Some((text.into(), made.clone()));
        }
        made
    }
}

/// A JavaScript string that is made once for each recurring name.
pub(super) fn name(text: &str) -> JsValue {
    NAMES.with_borrow_mut(|names| names.get(text))
}

/// A property; `undefined` where there is none or no object.
pub(super) fn get(object: &JsValue, field: &str) -> JsValue {
    get_field(object, &name(field))
}

/// Sets a property of an object of our own.
pub(super) fn set(object: &Object, field: &str, value: &JsValue) {
    set_field(object, &name(field), value);
}

/// The parts of a text in which each ends with a U+0000.
pub(super) fn split(joined: &str) -> impl Iterator<Item = &str> + Clone {
    let mut rest = joined;
    // By bytes: the standard library's way is made for any pattern, and slow before it is warm.
    std::iter::from_fn(move || {
        let end = rest.bytes().position(|byte| byte == 0);
        let part = rest.get(..end.unwrap_or(rest.len()))?;
        let more = end.map_or("", |end| rest.get(end + 1..).unwrap_or_default());
        let is_part = end.is_some() || !rest.is_empty();
        rest = more;
        is_part.then_some(part)
    })
}

/// A long text.
pub(super) fn long_text(text: &JsValue) -> Option<String> {
    String::from_utf8(utf8(text)?.to_vec()).ok()
}

/// A string property.
pub(super) fn get_text(object: &JsValue, field: &str) -> Option<String> {
    get(object, field).as_string()
}

/// A number property.
pub(super) fn get_number(object: &JsValue, field: &str) -> Option<f64> {
    get(object, field).as_f64()
}
