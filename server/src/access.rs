//! Who may see and change which records.
//!
//! Every record lives in one [`Space`]: its user's own, or an entity's (a site, a project), which
//! everybody shares who is assigned to that entity. An [`Access`] is somebody who asks, with the
//! spaces that are open to them; a store reads and writes nothing outside of it. Which types are
//! shared, by which of their fields, and what their records look like is the operator's to say
//! ([`TypeRules`]).

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use crate::change::Failure;
use crate::data::RecordData;
use crate::effort::Effort;
use crate::ids::{EntityId, RecordType, UserId};
use crate::limits;
pub use crate::types::TypeRules;

/// Where a record lives.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Space {
    /// One user's own.
    Own(UserId),
    /// Shared by all who are assigned to the entity.
    Entity(EntityId),
}

impl fmt::Display for Space {
    /// As it is stored: the prefix tells a user from an entity of the same name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Own(user) => write!(f, "u:{user}"),
            Self::Entity(entity) => write!(f, "e:{entity}"),
        }
    }
}

impl Space {
    /// Reads what [`Display`](fmt::Display) wrote.
    pub fn parse(text: &str) -> Option<Self> {
        match text.split_at_checked(2)? {
            ("u:", user) => UserId::new(user).ok().map(Self::Own),
            ("e:", entity) => EntityId::new(entity).ok().map(Self::Entity),
            _ => None,
        }
    }
}

/// More than [`limits::ENTITIES_MAX`] entities.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a user is assigned to at most {} entities", limits::ENTITIES_MAX)]
pub struct TooManyEntities;

/// Somebody who asks, and the spaces that are open to them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    user: UserId,
    entities: BTreeSet<EntityId>,
    rules: TypeRules,
    effort: Effort,
}

impl Access {
    /// A user who is assigned to these entities.
    pub fn new(user: UserId, entities: BTreeSet<EntityId>) -> Result<Self, TooManyEntities> {
        if entities.len() > limits::ENTITIES_MAX {
            return Err(TooManyEntities);
        }
        Ok(Self {
            user,
            entities,
            rules: TypeRules::default(),
            effort: Effort::default(),
        })
    }

    /// The same, who may write only what keeps to these rules.
    #[must_use]
    pub fn under(self, rules: TypeRules) -> Self {
        Self { rules, ..self }
    }

    /// A user who has only what is their own.
    pub fn own(user: UserId) -> Self {
        Self {
            user,
            entities: BTreeSet::new(),
            rules: TypeRules::default(),
            effort: Effort::default(),
        }
    }

    /// Who asks.
    pub fn user(&self) -> &UserId {
        &self.user
    }

    /// The user's own space.
    pub fn own_space(&self) -> Space {
        Space::Own(self.user.clone())
    }

    /// Whether the space is open to them.
    pub fn may(&self, space: &Space) -> bool {
        match space {
            Space::Own(user) => *user == self.user,
            Space::Entity(entity) => self.entities.contains(entity),
        }
    }

    /// Whether a record may be as it is, as far as its type's rule goes. Fails, to be tried again,
    /// once the request has had its share of looking.
    pub fn admits(&self, record_type: &RecordType, data: &RecordData) -> Result<(), Failure> {
        let admitted = self.effort.spend(|| self.rules.admit(record_type, data));
        admitted.unwrap_or_else(|| Err(Failure::too_dear()))
    }

    /// All spaces that are open to them: their own first, then the entities' in their order.
    pub fn spaces(&self) -> impl Iterator<Item = Space> + '_ {
        let entities = self.entities.iter().cloned().map(Space::Entity);
        std::iter::once(self.own_space()).chain(entities)
    }
}

/// How the records of a type are shared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Sharing {
    /// Each user has their own; nobody else's are seen.
    #[default]
    Private,
    /// By entity: this top-level field of the record holds the entity's id.
    Entity(Arc<str>),
}

impl Sharing {
    /// Under which name a record's id is unique: the user's for private records, none for shared
    /// ones. So nobody can put a record of their own in another's place.
    pub fn realm<'a>(&self, user: &'a UserId) -> &'a str {
        match self {
            Self::Private => user.as_str(),
            Self::Entity(_) => "",
        }
    }

    /// The space that a record with this content belongs in.
    pub fn space(&self, user: &UserId, data: &RecordData) -> Result<Space, Failure> {
        let field = match self {
            Self::Private => return Ok(Space::Own(user.clone())),
            Self::Entity(field) => field,
        };
        let entity = data.text_field(field).map(EntityId::new);
        match entity {
            Some(Ok(entity)) => Ok(Space::Entity(entity)),
            _ => Err(Failure::invalid(format!("`{field}` names no entity"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::*;

    fn entity(name: &str) -> EntityId {
        EntityId::new(name).unwrap()
    }

    fn ann() -> UserId {
        UserId::new("ann").unwrap()
    }

    fn data(text: &str) -> RecordData {
        RecordData::check(RawValue::from_string(text.into()).unwrap()).unwrap()
    }

    #[test]
    fn spaces_read_back_and_a_user_is_no_entity() {
        for space in [Space::Own(ann()), Space::Entity(entity("ann"))] {
            assert_eq!(Space::parse(&space.to_string()), Some(space));
        }
        for wrong in ["", "u", "u:", "x:ann", "ann", "ü"] {
            assert_eq!(Space::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn access_is_ones_own_and_ones_entities() {
        let access = Access::new(ann(), [entity("s2"), entity("s1")].into()).unwrap();
        assert!(access.may(&Space::Own(ann())));
        assert!(access.may(&Space::Entity(entity("s1"))));
        assert!(!access.may(&Space::Entity(entity("ann"))));
        assert!(!access.may(&Space::Own(UserId::new("s1").unwrap())));
        let spaces: Vec<_> = access.spaces().map(|space| space.to_string()).collect();
        assert_eq!(spaces, ["u:ann", "e:s1", "e:s2"]);
    }

    #[test]
    fn entities_are_bounded() {
        let many = |count| (0..count).map(|n| entity(&format!("s{n}"))).collect();
        assert!(Access::new(ann(), many(limits::ENTITIES_MAX)).is_ok());
        assert!(Access::new(ann(), many(limits::ENTITIES_MAX + 1)).is_err());
    }

    #[test]
    fn a_shared_record_names_its_entity() {
        let sites = RecordType::new("sites").unwrap();
        let rules = TypeRules::shared([(sites.clone(), "site".into())]);
        let private = rules.sharing(&RecordType::new("notes").unwrap());
        assert_eq!(private, Sharing::Private);
        let own = private.space(&ann(), &data(r#"{"site":"s1"}"#));
        assert_eq!(own, Ok(Space::Own(ann())));

        let shared = rules.sharing(&sites);
        let named = shared.space(&ann(), &data(r#"{"\u0073ite":"s1"}"#));
        assert_eq!(named, Ok(Space::Entity(entity("s1"))));
        // Of two fields of one name the last counts, as for everybody who parses it.
        let twice = shared.space(&ann(), &data(r#"{"site":"s1","site":"s2"}"#));
        assert_eq!(twice, Ok(Space::Entity(entity("s2"))));
        for wrong in ["{}", r#"{"site":null}"#, r#"{"site":7}"#, r#"{"site":""}"#] {
            assert!(shared.space(&ann(), &data(wrong)).is_err(), "{wrong}");
        }
    }
}
