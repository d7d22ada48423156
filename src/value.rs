//! What the core needs from a record.
//!
//! A record stays what the app handed over: a JavaScript object in the browser, a
//! [`serde_json::Value`] in native tests. The core asks for single fields only, through this
//! trait, and never rebuilds a record in its own memory.

use std::rc::Rc;

/// A field's value as an index sees it. Numbers sort before strings, as in IndexedDB.
#[derive(Debug, Clone)]
pub enum Scalar {
    /// Any JSON number; never NaN.
    Number(f64),
    /// Any string, ordered by its UTF-8 bytes.
    Text(Rc<str>),
    /// Greater than every value: the end of a range, never a record's.
    End,
}

impl Scalar {
    /// A number; minus zero is zero, as in IndexedDB.
    #[must_use]
    pub fn number(number: f64) -> Self {
        Self::Number(number + 0.0)
    }
}

impl PartialEq for Scalar {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Scalar {}

impl PartialOrd for Scalar {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Scalar {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        match (self, other) {
            (Self::Number(a), Self::Number(b)) => a.total_cmp(b),
            (Self::Text(a), Self::Text(b)) => a.cmp(b),
            (Self::End, Self::End) => std::cmp::Ordering::Equal,
            (Self::Number(_), Self::Text(_)) | (_, Self::End) => std::cmp::Ordering::Less,
            (Self::Text(_), Self::Number(_)) | (Self::End, _) => std::cmp::Ordering::Greater,
        }
    }
}

/// One user record, immutable once the core has it.
pub trait Value: Clone + 'static {
    /// The field if it is a string.
    fn text(&self, field: &str) -> Option<Rc<str>>;
    /// The field if an index can hold it.
    fn scalar(&self, field: &str) -> Option<Scalar>;
    /// Names of the record's own fields, in its own order.
    fn names(&self) -> Vec<Rc<str>>;
    /// A copy in which each of `names` is as in `patch`; a name absent there is removed.
    #[must_use]
    fn patched(&self, patch: &Self, names: &[Rc<str>]) -> Self;
    /// A copy with only the named fields.
    #[must_use]
    fn picked(&self, names: &[Rc<str>]) -> Self;
    /// A copy in which the field is this text.
    #[must_use]
    fn with_text(&self, field: &str, text: &str) -> Self;
    /// Whether the field is deeply equal (or absent) on both sides.
    fn same_field(&self, other: &Self, field: &str) -> bool;
    /// A rough size in bytes of the record as JSON, to keep requests within their limit.
    fn weight_bytes(&self) -> usize;
    /// Whether it is the same content by identity: a cheap test, used where nothing may have been
    /// put in its place.
    fn is(&self, other: &Self) -> bool;
    /// Whether the content can be read; what is damaged has no fields. To be asked where a record would be
    /// made of it.
    fn is_sound(&self) -> bool {
        true
    }
    /// Whether the content is in memory. What is not has to be fetched from the store before any
    /// of the above is asked.
    fn is_resident(&self) -> bool {
        true
    }
}

#[cfg(not(target_family = "wasm"))]
mod json {
    use super::{Scalar, Value};
    use serde_json::{Map, Value as Json};
    use std::rc::Rc;

    impl Value for Rc<Json> {
        fn text(&self, field: &str) -> Option<Rc<str>> {
            self.get(field)?.as_str().map(Rc::from)
        }

        fn scalar(&self, field: &str) -> Option<Scalar> {
            match self.get(field)? {
                Json::Number(n) => n.as_f64().map(Scalar::number),
                Json::String(s) => Some(Scalar::Text(Rc::from(s.as_str()))),
                _ => None,
            }
        }

        fn names(&self) -> Vec<Rc<str>> {
            let fields = self.as_object();
            fields.map_or_else(Vec::new, |o| {
                o.keys().map(|k| Rc::from(k.as_str())).collect()
            })
        }

        fn patched(&self, patch: &Self, names: &[Rc<str>]) -> Self {
            let mut fields = self.as_object().cloned().unwrap_or_default();
            for name in names {
                match patch.get(name.as_ref()) {
                    Some(value) => fields.insert(name.to_string(), value.clone()),
                    None => fields.remove(name.as_ref()),
                };
            }
            Rc::new(Json::Object(fields))
        }

        fn picked(&self, names: &[Rc<str>]) -> Self {
            let mut fields = Map::new();
            for name in names {
                if let Some(value) = self.get(name.as_ref()) {
                    fields.insert(name.to_string(), value.clone());
                }
            }
            Rc::new(Json::Object(fields))
        }

        fn with_text(&self, field: &str, text: &str) -> Self {
            let mut fields = self.as_object().cloned().unwrap_or_default();
            fields.insert(field.to_owned(), Json::from(text));
            Rc::new(Json::Object(fields))
        }

        fn same_field(&self, other: &Self, field: &str) -> bool {
            self.get(field) == other.get(field)
        }

        fn weight_bytes(&self) -> usize {
            self.to_string().len()
        }

        fn is(&self, other: &Self) -> bool {
            Rc::ptr_eq(self, other)
        }
    }
}
