//! JSON Schema (draft 2020-12) for a collection's records.
//!
//! A schema says what a whole record looks like, so it is asked after a partial update was merged,
//! inside the transaction that would store the record: only there is it known what the record
//! becomes, and a repeat of a change that was accepted before the schema was tightened gets its first
//! answer. Schemas come from the operator. Nothing is ever fetched for a `$ref`; patterns are matched
//! in linear time, so that no record can make one run away.
//!
//! A refusal names the place and the keyword (`/address/zip: does not match "pattern"`), never what
//! stood there: messages end up in logs.

use std::fmt;
use std::io::Read;
use std::path::Path;

use jsonschema::{Draft, PatternOptions, Validator};
use serde_json::Value;

use crate::data::RecordData;
use crate::limits;

/// Characters of a fault's place: fields may be nested and named at length.
const PLACE_CHARS_MAX: usize = 200;

/// A compiled schema.
pub struct Schema(Validator);

/// Why a file is no schema.
#[derive(Debug, thiserror::Error)]
pub enum SchemaFault {
    /// It cannot be read.
    #[error("it cannot be read: {0}")]
    Unreadable(#[from] std::io::Error),
    /// More than [`limits::SCHEMA_BYTES_MAX`].
    #[error("it is longer than {} bytes", limits::SCHEMA_BYTES_MAX)]
    TooLong,
    /// Not JSON.
    #[error("it is not JSON: {0}")]
    NotJson(#[from] serde_json::Error),
    /// Not a schema of draft 2020-12, or one that refers to something outside of it.
    #[error("it is not a JSON Schema: {0}")]
    NotSchema(String),
}

impl Schema {
    /// Reads and compiles a file.
    pub fn read(file: &Path) -> Result<Self, SchemaFault> {
        let mut text = Vec::new();
        let limit = limits::SCHEMA_BYTES_MAX + 1;
        std::fs::File::open(file)?
            .take(limit)
            .read_to_end(&mut text)?;
        if text.len() as u64 == limit {
            return Err(SchemaFault::TooLong);
        }
        Self::new(&serde_json::from_slice(&text)?)
    }

    /// Compiles a schema.
    pub fn new(schema: &Value) -> Result<Self, SchemaFault> {
        jsonschema::options()
            .with_draft(Draft::Draft202012)
            .with_pattern_options(PatternOptions::regex())
            .offline()
            .build(schema)
            .map(Self)
            .map_err(|error| SchemaFault::NotSchema(error.to_string()))
    }

    /// Where a record departs from the schema, if it does.
    pub fn fault(&self, data: &RecordData) -> Option<String> {
        let Ok(value) = serde_json::from_str::<Value>(data.as_str()) else {
            return Some("the record has a text or a number that cannot be read".into());
        };
        let error = self.0.validate(&value).err()?;
        let place = error.instance_path().to_string();
        let place = match place.char_indices().nth(PLACE_CHARS_MAX) {
            None if place.is_empty() => "the record",
            None => &place,
            Some((end, _)) => &place[..end],
        };
        let keyword = error.schema_path();
        Some(format!("{place} does not satisfy the schema's {keyword}"))
    }
}

/// A schema equals itself.
impl PartialEq for Schema {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}

impl Eq for Schema {}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Schema(…)")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use serde_json::value::RawValue;

    use super::*;

    fn data(text: &str) -> RecordData {
        RecordData::check(RawValue::from_string(text.into()).unwrap()).unwrap()
    }

    fn site() -> Schema {
        let schema = json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "required": ["name"],
            "properties": {
                "name": {"type": "string", "pattern": "^(a+)+$"},
                "place": {"$ref": "#/$defs/place"},
            },
            "$defs": {"place": {"prefixItems": [{"type": "number"}], "items": false}},
        });
        Schema::new(&schema).unwrap()
    }

    #[test]
    fn faults_name_their_place_and_show_no_content() {
        assert_eq!(site().fault(&data(r#"{"name":"aaa","place":[1.5]}"#)), None);
        for (text, place) in [
            ("{}", "the record does not satisfy the schema's /required"),
            (r#"{"name":7007}"#, "/name does not satisfy"),
            (r#"{"name":"topsecret"}"#, "/name does not satisfy"),
            (r#"{"name":"a","place":["topsecret"]}"#, "/place/0 does not"),
            (r#"{"name":"a","place":[1,7007]}"#, "/place"),
            (r#"{"name":"a","n":1e999}"#, "a number that cannot be read"),
        ] {
            let told = site().fault(&data(text)).unwrap();
            assert!(told.contains(place), "{told}");
            assert!(
                !told.contains("topsecret") && !told.contains("7007"),
                "{told}"
            );
        }
    }

    #[test]
    fn patterns_do_not_run_away() {
        let long = format!(r#"{{"name":"{}b"}}"#, "a".repeat(100_000));
        let started = std::time::Instant::now();
        assert!(site().fault(&data(&long)).is_some());
        assert!(started.elapsed().as_secs() < 2);
    }

    #[test]
    fn what_is_no_schema_is_refused() {
        for wrong in [
            json!({"type": "objekt"}),
            json!({"$ref": "https://example.org/other.json"}),
            json!({"$ref": "file:///etc/hostname"}),
            json!({"pattern": "("}),
            json!(7),
        ] {
            let refused = Schema::new(&wrong).unwrap_err();
            assert!(matches!(refused, SchemaFault::NotSchema(_)), "{wrong}");
        }
    }
}
