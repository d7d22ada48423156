//! What the operator says of each collection: whether it exists, how it is shared, and what its records
//! look like.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::access::Sharing;
use crate::change::Failure;
use crate::data::RecordData;
use crate::ids::RecordType;
use crate::schema::Schema;

/// The rules of all types. By default there is every type, private and of any form. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypeRules {
    open: bool,
    listed: Arc<BTreeMap<RecordType, TypeRule>>,
}

/// The rule of one type.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TypeRule {
    /// The top-level field that holds the id of the entity to which a record belongs; records of a type
    /// without one are their user's own.
    pub entity: Option<Arc<str>>,
    /// What its records look like.
    pub schema: Option<Arc<Schema>>,
}

impl Default for TypeRules {
    fn default() -> Self {
        Self::new(true, BTreeMap::new())
    }
}

impl TypeRules {
    /// These types; with `open`, also all others, private and of any form.
    pub fn new(open: bool, listed: BTreeMap<RecordType, TypeRule>) -> Self {
        Self {
            open,
            listed: Arc::new(listed),
        }
    }

    /// Every type, of which these are shared, each by the field that names a record's entity.
    pub fn shared(types: impl IntoIterator<Item = (RecordType, String)>) -> Self {
        let rule = |(name, field): (RecordType, String)| {
            let rule = TypeRule {
                entity: Some(field.into()),
                schema: None,
            };
            (name, rule)
        };
        Self::new(true, types.into_iter().map(rule).collect())
    }

    /// Whether there is such a type.
    pub fn knows(&self, record_type: &RecordType) -> bool {
        self.open || self.listed.contains_key(record_type)
    }

    /// How this type is shared.
    pub fn sharing(&self, record_type: &RecordType) -> Sharing {
        let rule = self.listed.get(record_type);
        let field = rule.and_then(|rule| rule.entity.clone());
        field.map_or(Sharing::Private, Sharing::Entity)
    }

    /// Whether a record of this type may have this content.
    pub fn admit(&self, record_type: &RecordType, data: &RecordData) -> Result<(), Failure> {
        let rule = self.listed.get(record_type);
        let schema = rule.and_then(|rule| rule.schema.as_ref());
        match schema.and_then(|schema| schema.fault(data)) {
            Some(fault) => Err(Failure::invalid(fault)),
            None => Ok(()),
        }
    }
}
