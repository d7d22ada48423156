//! A record in the browser is the JavaScript object that the app handed over.

use super::glue;
use crate::value::{Scalar, Value};
use js_sys::Array;
use std::rc::Rc;
use wasm_bindgen::JsValue;

fn array(names: &[Rc<str>]) -> Array {
    names.iter().map(|n| glue::name(n)).collect()
}

impl Value for JsValue {
    fn text(&self, field: &str) -> Option<Rc<str>> {
        glue::get_text(self, field).map(Rc::from)
    }

    fn scalar(&self, field: &str) -> Option<Scalar> {
        let value = glue::get(self, field);
        match value.as_f64() {
            Some(number) => Some(Scalar::number(number)),
            None => value.as_string().map(|text| Scalar::Text(text.into())),
        }
    }

    fn names(&self) -> Vec<Rc<str>> {
        glue::names(self)
            .iter()
            .filter_map(|n| n.as_string())
            .map(Rc::from)
            .collect()
    }

    fn patched(&self, patch: &Self, names: &[Rc<str>]) -> Self {
        glue::patched(self, patch, &array(names))
    }

    fn picked(&self, names: &[Rc<str>]) -> Self {
        glue::picked(self, &array(names))
    }

    fn same_field(&self, other: &Self, field: &str) -> bool {
        glue::same(self, other, &glue::name(field))
    }

    fn weight_bytes(&self) -> usize {
        glue::weight(self) as usize
    }
}
