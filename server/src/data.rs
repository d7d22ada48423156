//! A record's content: a JSON object, kept as the text that the client sent. Numbers keep all their
//! digits, fields keep their order, and nothing is rebuilt on the way from one client to another;
//! only a partial update looks inside, and then only at the top level.

use std::fmt;

use indexmap::IndexMap;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::limits;

/// A JSON object within the limits on size, depth and fields. Cheap to send, opaque to logs: its
/// `Debug` shows the length only.
#[derive(Clone, Serialize)]
#[serde(transparent)]
pub struct RecordData(Box<RawValue>);

/// Why a JSON text cannot be a record's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DataFault {
    /// Not a JSON object.
    #[error("`data` is not an object")]
    NotAnObject,
    /// An object that cannot be read: a field's name is not Unicode text (half a surrogate pair).
    #[error("`data` has a field name that is not text")]
    Unreadable,
    /// Nested more than [`limits::JSON_DEPTH_MAX`] levels.
    #[error("`data` is nested more than {} levels", limits::JSON_DEPTH_MAX)]
    TooDeep,
    /// More than [`limits::FIELDS_MAX`] fields.
    #[error("`data` has more than {} fields", limits::FIELDS_MAX)]
    TooManyFields,
    /// A field's name of more than [`limits::FIELD_NAME_BYTES_MAX`] bytes.
    #[error(
        "`data` has a field name longer than {} bytes",
        limits::FIELD_NAME_BYTES_MAX
    )]
    FieldNameTooLong,
    /// More than [`limits::RECORD_BYTES_MAX`] bytes.
    #[error("the record is longer than {} bytes", limits::RECORD_BYTES_MAX)]
    TooLong,
}

type Fields<'a> = IndexMap<String, &'a RawValue>;

impl RecordData {
    /// Checks a JSON text that came from outside.
    pub fn check(raw: Box<RawValue>) -> Result<Self, DataFault> {
        let text = raw.get();
        if text.len() > limits::RECORD_BYTES_MAX {
            return Err(DataFault::TooLong);
        }
        if !text.starts_with('{') {
            return Err(DataFault::NotAnObject);
        }
        if depth(text) > limits::JSON_DEPTH_MAX {
            return Err(DataFault::TooDeep);
        }
        let data = Self(raw);
        check_fields(&data.fields()?)?;
        Ok(data)
    }

    /// Takes a text that was checked before it was stored.
    pub fn from_stored(text: String) -> Result<Self, DataFault> {
        RawValue::from_string(text)
            .map(Self)
            .map_err(|_| DataFault::Unreadable)
    }

    /// The JSON text.
    pub fn as_str(&self) -> &str {
        self.0.get()
    }

    /// This record with the fields named in `changed` taken from `patch`; a name that is absent
    /// there is removed here. Fields of `patch` that `changed` does not name are left alone.
    pub fn merged(&self, patch: &Self, changed: &[String]) -> Result<Self, DataFault> {
        let mut fields = self.fields()?;
        let patch = patch.fields()?;
        for name in changed {
            match patch.get(name) {
                Some(value) => {
                    fields.insert(name.clone(), value);
                }
                None => {
                    fields.shift_remove(name);
                }
            }
        }
        check_fields(&fields)?;
        let text = serde_json::to_string(&fields).map_err(|_| DataFault::Unreadable)?;
        if text.len() > limits::RECORD_BYTES_MAX {
            return Err(DataFault::TooLong);
        }
        Self::from_stored(text)
    }

    /// A top-level field that holds text.
    pub fn text_field(&self, name: &str) -> Option<String> {
        let fields = self.fields().ok()?;
        serde_json::from_str(fields.get(name)?.get()).ok()
    }

    fn fields(&self) -> Result<Fields<'_>, DataFault> {
        serde_json::from_str(self.0.get()).map_err(|_| DataFault::Unreadable)
    }
}

impl fmt::Debug for RecordData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RecordData({} bytes)", self.0.get().len())
    }
}

impl PartialEq for RecordData {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for RecordData {}

fn check_fields(fields: &Fields<'_>) -> Result<(), DataFault> {
    if fields.len() > limits::FIELDS_MAX {
        return Err(DataFault::TooManyFields);
    }
    if fields
        .keys()
        .any(|name| name.len() > limits::FIELD_NAME_BYTES_MAX)
    {
        return Err(DataFault::FieldNameTooLong);
    }
    Ok(())
}

/// Levels of nesting in a text that is known to be JSON. Counts brackets instead of recursing:
/// what it guards against is recursion.
fn depth(json: &str) -> usize {
    let (mut level, mut deepest) = (0usize, 0usize);
    let (mut in_string, mut escaped) = (false, false);
    for byte in json.bytes() {
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'{' | b'[' => {
                level += 1;
                deepest = deepest.max(level);
            }
            b'}' | b']' => level = level.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(text: &str) -> RecordData {
        RecordData::check(RawValue::from_string(text.into()).unwrap()).unwrap()
    }

    fn fault(text: &str) -> DataFault {
        RecordData::check(RawValue::from_string(text.into()).unwrap()).unwrap_err()
    }

    fn names(changed: &[&str]) -> Vec<String> {
        changed.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn keeps_the_text() {
        let text = r#"{"z":1.10,"a":12345678901234567890123,"half":"\ud800"}"#;
        assert_eq!(data(text).as_str(), text);
    }

    #[test]
    fn merges_named_fields_only() {
        let base = data(r#"{"a":1,"b":2.50,"c":3}"#);
        let patch = data(r#"{"a":9,"b":8,"d":4}"#);
        let merged = base.merged(&patch, &names(&["a", "d", "c"])).unwrap();
        assert_eq!(merged.as_str(), r#"{"a":9,"b":2.50,"d":4}"#);
    }

    #[test]
    fn merges_escaped_names_as_the_names_they_are() {
        let base = data(r#"{"\u0061":1}"#);
        let merged = base.merged(&data(r#"{"a":2}"#), &names(&["a"])).unwrap();
        assert_eq!(merged.as_str(), r#"{"a":2}"#);
    }

    #[test]
    fn refuses_what_is_no_record() {
        assert_eq!(fault("[]"), DataFault::NotAnObject);
        assert_eq!(fault("7"), DataFault::NotAnObject);
        assert_eq!(fault(r#"{"\ud800":1}"#), DataFault::Unreadable);
        let nested =
            |levels: usize| format!("{{\"a\":{}{}}}", "[".repeat(levels), "]".repeat(levels));
        assert_eq!(
            data(&nested(limits::JSON_DEPTH_MAX - 1)).as_str().len(),
            6 + 2 * 63
        );
        assert_eq!(fault(&nested(limits::JSON_DEPTH_MAX)), DataFault::TooDeep);
        let wide = (0..=limits::FIELDS_MAX)
            .map(|n| format!("\"f{n}\":0"))
            .collect::<Vec<_>>();
        assert_eq!(
            fault(&format!("{{{}}}", wide.join(","))),
            DataFault::TooManyFields
        );
        let name = "n".repeat(limits::FIELD_NAME_BYTES_MAX + 1);
        assert_eq!(
            fault(&format!("{{\"{name}\":0}}")),
            DataFault::FieldNameTooLong
        );
        let long = "x".repeat(limits::RECORD_BYTES_MAX);
        assert_eq!(fault(&format!("{{\"a\":\"{long}\"}}")), DataFault::TooLong);
    }

    #[test]
    fn brackets_in_strings_do_not_count() {
        assert_eq!(depth(r#"{"a":"[[[{{\"[["}"#), 1);
    }

    #[test]
    fn merging_cannot_outgrow_the_limits() {
        let half = "x".repeat(limits::RECORD_BYTES_MAX / 2);
        let base = data(&format!("{{\"a\":\"{half}\"}}"));
        let patch = data(&format!("{{\"b\":\"{half}\"}}"));
        assert_eq!(base.merged(&patch, &names(&["b"])), Err(DataFault::TooLong));
    }

    #[test]
    fn debug_shows_no_content() {
        assert_eq!(
            format!("{:?}", data(r#"{"secret":1}"#)),
            "RecordData(12 bytes)"
        );
    }
}
