//! A record that can be out of memory. Looking at one that is not there panics, as it would fail in
//! the browser.

use landfall::value::{Scalar, Value};
use serde_json::{Value as Json, json};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;

#[derive(Debug, Clone)]
pub(crate) struct Record(pub(crate) Rc<Content>);

#[derive(Debug)]
pub(crate) struct Content {
    pub(crate) json: Rc<Json>,
    pub(crate) resident: Cell<bool>,
}

impl Record {
    pub(crate) fn new(json: Json) -> Self {
        Self::of(Rc::new(json))
    }

    pub(crate) fn of(json: Rc<Json>) -> Self {
        let resident = Cell::new(true);
        Self(Rc::new(Content { json, resident }))
    }

    /// The content, wherever it is: for the simulation itself.
    pub(crate) fn anyhow(&self) -> &Json {
        &self.0.json
    }

    fn json(&self) -> &Rc<Json> {
        assert!(
            self.0.resident.get(),
            "looked at a record that is not in memory"
        );
        &self.0.json
    }

    /// What it says, to be compared: in the order of its fields' names, whoever has written it.
    pub(crate) fn words(&self) -> String {
        let fields = self.anyhow().as_object();
        let fields: BTreeMap<_, _> = fields.into_iter().flatten().collect();
        serde_json::to_string(&fields).unwrap_or_default()
    }

    /// The mark of the write that a field is from.
    pub(crate) fn mark(&self, field: &str) -> Option<u32> {
        self.0.json.get(field)?.as_u64().map(|n| n as u32)
    }
}

/// A whole record as a write with this mark makes it.
pub(crate) fn whole(key: &str, n: u32, site: Option<&str>) -> Record {
    Record::new(match site {
        Some(site) => json!({ "id": key, "a": n, "b": n, "siteId": site }),
        None => json!({ "id": key, "a": n, "b": n }),
    })
}

impl Value for Record {
    fn text(&self, field: &str) -> Option<Rc<str>> {
        self.json().text(field)
    }
    fn scalar(&self, field: &str) -> Option<Scalar> {
        self.json().scalar(field)
    }
    fn names(&self) -> Vec<Rc<str>> {
        self.json().names()
    }
    fn patched(&self, patch: &Self, names: &[Rc<str>]) -> Self {
        Self::of(self.json().patched(patch.json(), names))
    }
    fn picked(&self, names: &[Rc<str>]) -> Self {
        Self::of(self.json().picked(names))
    }
    fn with_text(&self, field: &str, text: &str) -> Self {
        Self::of(self.json().with_text(field, text))
    }
    fn same_field(&self, other: &Self, field: &str) -> bool {
        self.json().same_field(other.json(), field)
    }
    fn weight_bytes(&self) -> usize {
        60
    }
    fn is(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }
    fn is_resident(&self) -> bool {
        self.0.resident.get()
    }
}
