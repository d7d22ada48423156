//! The collections that a server knows.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::ids::RecordType;
use crate::schema::Schema;

/// Which collections there are.
#[derive(Clone, Debug, Default)]
pub struct Types {
    open: bool,
    listed: BTreeMap<RecordType, TypeRule>,
}

/// What is said of one collection.
#[derive(Clone, Debug, Default)]
pub struct TypeRule {
    /// The top-level field that holds the id of the entity to which a record belongs; a collection
    /// without one is private to each user.
    pub entity: Option<String>,
    /// What its records look like.
    pub schema: Option<Arc<Schema>>,
}

impl Types {
    /// Any collection, without rules.
    pub fn open() -> Self {
        Self {
            open: true,
            listed: BTreeMap::new(),
        }
    }

    /// These collections; with `open`, others too, without rules.
    pub fn new(open: bool, listed: BTreeMap<RecordType, TypeRule>) -> Self {
        Self { open, listed }
    }

    /// The rule of a collection, or `None` where there is no such collection.
    pub fn rule(&self, name: &RecordType) -> Option<TypeRule> {
        let listed = self.listed.get(name).cloned();
        listed.or_else(|| self.open.then(TypeRule::default))
    }
}
