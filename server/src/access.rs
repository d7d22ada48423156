//! Stand-in until the real one is merged.
use std::collections::BTreeSet;
use std::fmt;

use crate::ids::UserId;

/// A space.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Space {
    /// Own.
    Own(UserId),
    /// Entity.
    Entity(String),
}

impl fmt::Display for Space {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Own(user) => write!(f, "u:{user}"),
            Self::Entity(entity) => write!(f, "e:{entity}"),
        }
    }
}

/// Who asks.
#[derive(Clone, Debug)]
pub struct Access {
    /// User.
    pub user: UserId,
    /// Entities.
    pub entities: BTreeSet<String>,
}
