//! Reading a seed file: a JSON array of objects, each with a string `id` that no other has.

use std::collections::HashSet;
use std::path::Path;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::data::{DataFault, RecordData};
use crate::ids::{InvalidId, RecordId};

/// Why a seed file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SeedFault {
    /// It cannot be read.
    #[error("it cannot be read: {0}")]
    Unreadable(#[from] std::io::Error),
    /// It is not a JSON array.
    #[error("it is not a JSON array: {0}")]
    Malformed(serde_json::Error),
    /// An element is no record.
    #[error("element {0}: {1}")]
    Data(usize, DataFault),
    /// An element has no string `id`.
    #[error("element {0} has no string `id`")]
    NoId(usize),
    /// An element's `id` cannot be one.
    #[error("element {0}: {1}")]
    Id(usize, InvalidId),
    /// Two elements have one `id`.
    #[error("element {0} has the `id` of an earlier one")]
    Repeated(usize),
}

#[derive(Deserialize)]
struct Keyed {
    id: String,
}

/// Reads and checks the whole file.
pub(crate) fn load(file: &Path) -> Result<Vec<(RecordId, RecordData)>, SeedFault> {
    parse(&std::fs::read(file)?)
}

fn parse(json: &[u8]) -> Result<Vec<(RecordId, RecordData)>, SeedFault> {
    let elements: Vec<Box<RawValue>> =
        serde_json::from_slice(json).map_err(SeedFault::Malformed)?;
    let mut seen = HashSet::new();
    let mut records = Vec::with_capacity(elements.len());
    for (index, element) in elements.into_iter().enumerate() {
        let data = RecordData::check(element).map_err(|fault| SeedFault::Data(index, fault))?;
        let keyed: Keyed =
            serde_json::from_str(data.as_str()).map_err(|_| SeedFault::NoId(index))?;
        let id = RecordId::new(keyed.id).map_err(|fault| SeedFault::Id(index, fault))?;
        if !seen.insert(id.clone()) {
            return Err(SeedFault::Repeated(index));
        }
        records.push((id, data));
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_records_and_names_the_fault() {
        let records = parse(br#"[{"id":"a","n":1.50},{"id":"b"}]"#).unwrap();
        assert_eq!(records[0].0.as_str(), "a");
        assert_eq!(records[0].1.as_str(), r#"{"id":"a","n":1.50}"#);
        let fault = |json: &str| parse(json.as_bytes()).unwrap_err().to_string();
        assert!(fault("{}").starts_with("it is not a JSON array"));
        assert_eq!(
            fault(r#"[{"id":"a"},{"id":7}]"#),
            "element 1 has no string `id`"
        );
        assert_eq!(
            fault(r#"[{"id":"a"},{"id":"a"}]"#),
            "element 1 has the `id` of an earlier one"
        );
        assert_eq!(fault("[7]"), "element 0: `data` is not an object");
    }
}
