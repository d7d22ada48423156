//! What an app declares when it opens a database, checked once.

use crate::error::{Code, Error, Result};
use crate::limits;
use crate::model::Name;
use std::rc::Rc;

/// How a conflict of one collection is settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Strategy {
    /// The later change wins, by hybrid logical clock.
    #[default]
    LastWriteWins,
    /// The server's record stays.
    ServerWins,
    /// The device's record goes on top.
    ClientWins,
    /// Field by field against the base; a field changed on both sides falls to the later change.
    Merge,
    /// A function of the app's own decides; the change waits for it.
    Function,
    /// The change waits until the app resolves the conflict.
    Manual,
}

impl Strategy {
    /// The name in options, store and conflict log.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::LastWriteWins => "last-write-wins",
            Self::ServerWins => "server-wins",
            Self::ClientWins => "client-wins",
            Self::Merge => "merge",
            Self::Function => "function",
            Self::Manual => "manual",
        }
    }

    /// Reads the name back.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [
            Self::LastWriteWins,
            Self::ServerWins,
            Self::ClientWins,
            Self::Merge,
            Self::Function,
            Self::Manual,
        ]
        .into_iter()
        .find(|s| s.as_str() == text)
    }

    /// Whether a conflict waits for the app.
    #[must_use]
    pub fn waits(self) -> bool {
        matches!(self, Self::Function | Self::Manual)
    }
}

/// One declared collection.
#[derive(Debug, Clone)]
pub struct CollectionSpec {
    /// Its name.
    pub name: Name,
    /// The field that holds the key.
    pub key: Rc<str>,
    /// Fields of each index.
    pub indexes: Vec<Vec<Rc<str>>>,
    /// Field → collection of the parent.
    pub references: Vec<(Rc<str>, Name)>,
    /// How conflicts are settled.
    pub strategy: Strategy,
    /// Higher is pushed first.
    pub priority: i32,
    /// New records are local-only unless a write says otherwise.
    pub local_only: bool,
    /// Writes show at once unless a write says otherwise.
    pub optimistic: bool,
}

impl CollectionSpec {
    /// A collection with nothing but a key.
    #[must_use]
    pub fn new(name: &str, key: &str) -> Self {
        Self {
            name: name.into(),
            key: key.into(),
            indexes: Vec::new(),
            references: Vec::new(),
            strategy: Strategy::default(),
            priority: 0,
            local_only: false,
            optimistic: true,
        }
    }
}

/// Refuses names that could not be told apart, or would not fit where they are repeated.
///
/// # Errors
/// `invalid-options`, with the field that is at fault.
pub fn check(specs: &[CollectionSpec]) -> Result<()> {
    let bad = |message: String| Err(Error::new(Code::InvalidOptions, message));
    if specs.is_empty() {
        return bad("collections: declare at least one".into());
    }
    if specs.len() > limits::COLLECTIONS_MAX {
        return bad(format!("collections: at most {}", limits::COLLECTIONS_MAX));
    }
    for spec in specs {
        let name = &spec.name;
        check_name("collection name", name)?;
        if spec.key.is_empty() {
            return bad(format!(
                "collections.{name}.key: the name of the key field is empty"
            ));
        }
        if spec.local_only && !spec.optimistic {
            return bad(format!(
                "collections.{name}: localOnly records are never confirmed, so optimistic: false has no meaning"
            ));
        }
        for index in &spec.indexes {
            if index.is_empty() || index.iter().any(|f| f.is_empty()) {
                return bad(format!(
                    "collections.{name}.indexes: an index without a field"
                ));
            }
        }
        for (field, parent) in &spec.references {
            if !specs.iter().any(|s| s.name == *parent) {
                return bad(format!(
                    "collections.{name}.references.{field}: there is no collection \"{parent}\""
                ));
            }
        }
    }
    Ok(())
}

/// Refuses an empty or oversized name.
fn check_name(what: &str, name: &str) -> Result<()> {
    if name.is_empty() || name.len() > limits::NAME_BYTES_MAX {
        let max = limits::NAME_BYTES_MAX;
        return Err(Error::new(
            Code::InvalidOptions,
            format!("{what}: 1 to {max} bytes, please"),
        ));
    }
    Ok(())
}
