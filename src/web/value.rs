//! A record in the browser: JSON text in a JavaScript string, parsed when somebody looks at it.
//!
//! Text, because the browser reads and writes a list of strings several times faster than a list
//! of objects, and because a push sends text anyway. The text stays in JavaScript; wasm holds a
//! position in a list ([`Rows`]). Rows that a segment keeps can be let go and fetched again; of others
//! the parsed objects can.

use super::glue;
use crate::store::Keys;
use crate::value::{Scalar, Value};
use js_sys::Array;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use wasm_bindgen::JsValue;

thread_local! {
    static LISTS_PARSED: Cell<u32> = const { Cell::new(0) };
}

/// A number that changes when a list that had no objects has come to have some.
pub(super) fn lists_parsed() -> u32 {
    LISTS_PARSED.get()
}

/// The part of [`Rows::bytes`] that is objects: see `rowsBytes` in `glue.js`.
const OBJECTS_SHARE: f64 = 2.0 / 3.0;

/// Records that were written or read together.
pub(super) struct Rows {
    /// `{ texts, objects, joined? }` of `glue.js`; none while it is not in memory.
    js: RefCell<Option<JsValue>>,
    /// The records' keys, where the list came with them: no record is parsed for its key.
    keys: Rc<Keys>,
    key_field: Rc<str>,
    /// Where it can be fetched from again.
    home: Cell<Option<Home>>,
    bytes: Cell<f64>,
    /// When it was last looked at, in ticks of the memory budget.
    pub(super) used: Cell<u64>,
    /// Looked at since the last tick.
    touched: Cell<bool>,
    /// Looked at since its objects were let go: there are some.
    parsed: Cell<bool>,
}

/// A list in a segment: the segment's number and the position of its run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Home {
    pub(super) segment: u64,
    pub(super) run: u32,
}

/// One record: a position in a list.
#[derive(Clone)]
pub(super) struct Row {
    pub(super) rows: Rc<Rows>,
    pub(super) at: u32,
}

impl std::fmt::Debug for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Row")
    }
}

impl Rows {
    /// Of rows as `glue.js` has them.
    pub(super) fn new(js: JsValue, key_field: &Rc<str>, keys: Rc<Keys>) -> Rc<Self> {
        Rc::new(Self {
            js: RefCell::new(Some(js)),
            keys,
            key_field: key_field.clone(),
            home: Cell::new(None),
            bytes: Cell::new(-1.0),
            used: Cell::new(0),
            touched: Cell::new(false),
            parsed: Cell::new(false),
        })
    }

    /// Of JSON texts (`null` for none).
    pub(super) fn of_texts(texts: &Array, key_field: &Rc<str>, keys: Rc<Keys>) -> Rc<Self> {
        Self::new(glue::rows_of_texts(texts), key_field, keys)
    }

    /// Of plain objects that nobody else changes.
    pub(super) fn of_objects(objects: &Array, key_field: &Rc<str>, keys: Rc<Keys>) -> Rc<Self> {
        Self::new(glue::rows_of_objects(objects), key_field, keys)
    }

    /// How many rows there are, where the list came with their keys.
    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    /// Where the list can be fetched from again.
    pub(super) fn home(&self) -> Option<Home> {
        self.home.get()
    }

    pub(super) fn set_home(&self, home: Home) {
        self.home.set(Some(home));
    }

    /// Roughly what it takes in memory.
    pub(super) fn bytes(&self) -> f64 {
        if self.bytes.get() < 0.0 {
            let bytes = self.js.borrow().as_ref().map_or(0.0, glue::rows_bytes);
            self.bytes.set(bytes);
        }
        self.bytes.get()
    }

    /// Roughly what comes free when it is let go.
    pub(super) fn spare_bytes(&self) -> f64 {
        match (self.home.get(), self.parsed.get()) {
            (Some(_), _) if self.is_resident() => self.bytes(),
            (None, true) => self.bytes() * OBJECTS_SHARE,
            _ => 0.0,
        }
    }

    pub(super) fn is_resident(&self) -> bool {
        self.js.borrow().is_some()
    }

    fn look(&self) {
        self.touched.set(true);
        if !self.parsed.replace(true) {
            LISTS_PARSED.set(LISTS_PARSED.get().wrapping_add(1));
        }
    }

    /// Dates it, if it was looked at since the last tick.
    pub(super) fn note_use(&self, tick: u64) {
        if self.touched.take() {
            self.used.set(tick);
        }
    }

    /// Lets go what can be had again: all of it from its segment, or the objects from their texts.
    pub(super) fn evict(&self) {
        self.parsed.set(false);
        if self.home.get().is_some() {
            self.js.replace(None);
        } else if let Some(js) = &*self.js.borrow() {
            glue::drop_objects(js);
        }
    }

    /// Takes the texts back.
    pub(super) fn restore(&self, rows: JsValue) {
        self.js.replace(Some(rows));
    }

    /// Appends a part of them as objects.
    pub(super) fn push_objects(&self, out: &Array, from: u32, to: u32) {
        if let Some(js) = &*self.js.borrow() {
            self.look();
            glue::push_objects(out, js, from, to);
        }
    }

    pub(super) fn js(&self) -> JsValue {
        self.js.borrow().clone().unwrap_or(JsValue::UNDEFINED)
    }
}

impl Row {
    /// A record of its own.
    pub(super) fn of_object(object: &JsValue, key_field: &Rc<str>) -> Self {
        let rows = Rows::of_objects(&Array::of1(object), key_field, Rc::default());
        Self { rows, at: 0 }
    }

    /// A record of its own, from its text.
    pub(super) fn of_text(text: &JsValue, key_field: &Rc<str>) -> Self {
        let rows = Rows::of_texts(&Array::of1(text), key_field, Rc::default());
        Self { rows, at: 0 }
    }

    /// The record as an object: always the same one while it is in memory. `null` where it is damaged.
    pub(super) fn object(&self) -> JsValue {
        match &*self.rows.js.borrow() {
            Some(js) => {
                self.rows.look();
                glue::row_object(js, self.at)
            }
            None => JsValue::UNDEFINED,
        }
    }

    /// The record as an object that is nobody else's.
    pub(super) fn copy(&self) -> JsValue {
        js_sys::JSON::parse(&self.json().as_string().unwrap_or_default())
            .unwrap_or(JsValue::UNDEFINED)
    }

    /// The record as JSON.
    pub(super) fn json(&self) -> JsValue {
        match &*self.rows.js.borrow() {
            Some(js) => glue::row_json(js, self.at),
            None => JsValue::NULL,
        }
    }

    fn field(&self, field: &str) -> JsValue {
        glue::get(&self.object(), field)
    }
}

fn array(names: &[Rc<str>]) -> Array {
    names.iter().map(|n| glue::name(n)).collect()
}

impl Value for Row {
    fn text(&self, field: &str) -> Option<Rc<str>> {
        if *self.rows.key_field == *field
            && let Some(key) = self.rows.keys.get(self.at as usize)
        {
            return Some(key.into());
        }
        let value = self.field(field);
        let text = value.as_string()?;
        // Half a surrogate pair has become another character: that is no key, and refers to none.
        let same = !text.contains(char::REPLACEMENT_CHARACTER) || JsValue::from_str(&text) == value;
        same.then(|| text.into())
    }

    fn scalar(&self, field: &str) -> Option<Scalar> {
        let value = self.field(field);
        match value.as_f64() {
            Some(number) => Some(Scalar::number(number)),
            None => value.as_string().map(|text| Scalar::Text(text.into())),
        }
    }

    fn names(&self) -> Vec<Rc<str>> {
        glue::names(&self.object())
            .iter()
            .filter_map(|n| n.as_string())
            .map(Rc::from)
            .collect()
    }

    fn patched(&self, patch: &Self, names: &[Rc<str>]) -> Self {
        let patched = glue::patched(&self.object(), &patch.object(), &array(names));
        Self::of_object(&patched, &self.rows.key_field)
    }

    fn picked(&self, names: &[Rc<str>]) -> Self {
        let picked = glue::picked(&self.object(), &array(names));
        Self::of_object(&picked, &self.rows.key_field)
    }

    fn with_text(&self, field: &str, text: &str) -> Self {
        let changed = glue::with_text(&self.object(), &glue::name(field), text);
        Self::of_object(&changed, &self.rows.key_field)
    }

    fn same_field(&self, other: &Self, field: &str) -> bool {
        glue::same(&self.object(), &other.object(), &glue::name(field))
    }

    fn weight_bytes(&self) -> usize {
        match &*self.rows.js.borrow() {
            Some(js) => glue::row_weight(js, self.at) as usize,
            None => 0,
        }
    }

    fn is(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.rows, &other.rows) && self.at == other.at
    }

    fn is_sound(&self) -> bool {
        !self.object().is_null()
    }

    fn is_resident(&self) -> bool {
        self.rows.is_resident()
    }
}
