//! The nouns: mutations, versions, what a backend is sent and what it answers.

use crate::hlc::Hlc;
use crate::shown::{Names, Shown};
use std::rc::Rc;

/// A collection's name.
pub type Name = Rc<str>;
/// A record's key, unique in its collection.
pub type Key = Rc<str>;
/// A mutation's number: unique in one database, in the order of the first write.
pub type MutationNo = u64;

/// A number that the backend raises at each change of a record; 0 is "none".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Version(pub u64);

/// What a mutation does to its record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// A record the backend has not seen.
    Create,
    /// New content for a record that the backend has.
    Update,
    /// The record goes.
    Delete,
}

impl Action {
    /// The name on the wire and in the store.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
        }
    }

    /// Reads the name back.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "create" => Some(Self::Create),
            "update" => Some(Self::Update),
            "delete" => Some(Self::Delete),
            _ => None,
        }
    }
}

/// Where a mutation stands. `syncing` is not stored: it is pending and in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MutationState {
    /// Waits to be pushed.
    Pending,
    /// Waits for the app to settle a conflict.
    Conflict,
    /// Refused for good; parked until the user decides.
    Failed,
}

/// Why a mutation was refused, in the backend's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// For programs.
    pub code: Rc<str>,
    /// For people.
    pub message: Rc<str>,
}

/// One queued local change.
#[derive(Debug, Clone)]
pub struct Mutation<V> {
    /// Its number; with the client's id it is the id on the wire.
    pub no: MutationNo,
    /// The record's collection.
    pub collection: Name,
    /// The record's key.
    pub key: Key,
    /// What it does.
    pub action: Action,
    /// The record after it, as it is pushed; none for a delete.
    pub value: Option<V>,
    /// What the record shows meanwhile.
    pub shows: Shown<V>,
    /// The fields that an update changed; none when it replaced the record.
    pub changed: Option<Names>,
    /// The version it was made on.
    pub base_version: Version,
    /// The content it was made on.
    pub base: Option<V>,
    /// Its collection's priority: higher is pushed first.
    pub priority: i32,
    /// It waits behind another mutation of the same record.
    pub behind: bool,
    /// When the newest change in it was made.
    pub at: Hlc,
    /// When it was queued, ms since 1970.
    pub created_ms: f64,
    /// It may have reached the backend: it must not be rewritten, only sent again.
    pub sent: bool,
    /// Where it stands.
    pub state: MutationState,
    /// Answers that blamed it as retryable.
    pub attempts: u32,
    /// When the last of these came, ms since 1970; or one that blamed what this is a new try of.
    pub last_attempt_ms: Option<f64>,
    /// Not before this time, ms since 1970.
    pub next_attempt_ms: Option<f64>,
    /// Why it was refused last.
    pub error: Option<Refusal>,
    /// The atomic group it belongs to: the id on the wire of the group's first mutation.
    pub group: Option<Rc<str>>,
    /// Its id on the wire, where that was given in another database and came with a backup. One that has
    /// kept its number may have none.
    pub origin: Option<Rc<str>>,
}

/// Of a record that came from elsewhere: what was confirmed, while no page has told what the backend has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confirmed {
    /// The clock reading of what was confirmed.
    pub at: Rc<str>,
    /// The version of which a page may still tell, though it is the record's: 0 if it is newer than that.
    pub version: Version,
}

/// One queued mutation as it stands, with what the backend has of its record.
#[derive(Debug, Clone)]
pub struct Held<V> {
    /// The mutation.
    pub mutation: Mutation<V>,
    /// What the backend has of its record.
    pub shadow: Option<V>,
    /// The backend's version of that.
    pub version: Version,
    /// What was confirmed since, if no page has told yet what the backend made of it.
    pub confirmed: Option<Confirmed>,
}

impl<V> Held<V> {
    /// Whether nothing is said but what it does and when it was made and whether it was sent, of a
    /// record that the backend does not have as far as is known. Many of these are stored as one.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        let m = &self.mutation;
        let nothing_before = m.base.is_none() && self.shadow.is_none();
        let first = m.base_version == Version(0) && self.version == Version(0) && !m.behind;
        let untried = m.state == MutationState::Pending
            && m.attempts == 0
            && m.last_attempt_ms.is_none()
            && m.next_attempt_ms.is_none()
            && m.error.is_none();
        let alone = m.group.is_none() && m.origin.is_none() && self.confirmed.is_none();
        let own = m.value.is_some() && matches!(m.shows, Shown::Own);
        nothing_before && first && untried && alone && own
    }

    /// Every record in it.
    pub fn each_value<'a>(&'a self, visit: &mut dyn FnMut(&'a V)) {
        self.mutation.each_value(visit);
        self.shadow.iter().for_each(visit);
    }
}

/// One change as it travels (docs/PROTOCOL.md).
#[derive(Debug, Clone)]
pub struct Change<V> {
    /// The mutation's id on the wire.
    pub id: String,
    /// The mutation's number.
    pub no: MutationNo,
    /// The collection.
    pub collection: Name,
    /// What it does.
    pub action: Action,
    /// The device's key of the record.
    pub key: Key,
    /// The version it was made on.
    pub version: Version,
    /// The record, or only the changed fields.
    pub data: Option<V>,
    /// Names of the changed fields where `data` is partial.
    pub changed: Option<Rc<[Rc<str>]>>,
    /// Hybrid logical clock as text.
    pub at: String,
    /// The atomic group it belongs to.
    pub group: Option<Rc<str>>,
}

/// The backend's verdict on one change.
#[derive(Debug, Clone)]
pub enum Verdict<V> {
    /// Applied (now or before).
    Success {
        /// The record's new version.
        version: Version,
        /// What the server stored, where it differs from what it was sent.
        data: Option<V>,
    },
    /// Made on a version that is no longer the current one.
    Conflict {
        /// The server's version.
        version: Version,
        /// The server's record; none where it is deleted.
        data: Option<V>,
        /// When the server's record was changed.
        at: Option<Rc<str>>,
    },
    /// Refused.
    Failed {
        /// Why.
        refusal: Refusal,
        /// Whether the same change may succeed later.
        retryable: bool,
    },
    /// The backend keeps the record under a key of its own.
    Rekeyed {
        /// That key.
        key: Key,
        /// What else it says.
        then: Box<Verdict<V>>,
    },
}

/// One pulled change.
#[derive(Debug, Clone)]
pub struct Pulled<V> {
    /// The collection.
    pub collection: Name,
    /// The record's key.
    pub key: Key,
    /// The version it has now.
    pub version: Version,
    /// The record; none for a tombstone.
    pub data: Option<V>,
    /// When it was changed.
    pub at: Option<Rc<str>>,
}

/// One pulled page.
#[derive(Debug, Clone)]
pub struct Page<V> {
    /// The changes, in the order of their commits.
    pub changes: Vec<Pulled<V>>,
    /// How far this page goes.
    pub checkpoint: Rc<str>,
    /// Whether there is more.
    pub has_more: bool,
    /// The server's clock, ms since 1970.
    pub server_ms: Option<f64>,
}

/// The id on the wire of a client's mutation.
#[must_use]
pub fn wire_id(client: &str, no: MutationNo) -> String {
    format!("{client}.{no}")
}

impl<V> Mutation<V> {
    /// Every record in it.
    pub fn each_value<'a>(&'a self, visit: &mut dyn FnMut(&'a V)) {
        let shown = match &self.shows {
            Shown::Patch(patch, _) => Some(patch),
            Shown::Record(record) => record.as_ref(),
            Shown::Own | Shown::Before => None,
        };
        let sides = [&self.value, &self.base].into_iter().flatten();
        sides.chain(shown).for_each(visit);
    }

    /// Its id on the wire, in this client's database.
    #[must_use]
    pub fn wire_id(&self, client: &str) -> String {
        self.origin
            .as_deref()
            .map_or_else(|| wire_id(client, self.no), str::to_owned)
    }

    /// The client that made it: the one whose id is in its id.
    #[must_use]
    pub fn author<'a>(&'a self, client: &'a str) -> &'a str {
        let origin = self.origin.as_deref().and_then(|id| id.rsplit_once('.'));
        origin.map_or(client, |(author, _)| author)
    }

    /// Whether the backend may have it, whatever was heard. A request that was refused as a whole says
    /// nothing of an earlier one with the same mutation, or with one that this one is a new try of, whose answer
    /// was lost; and what came from elsewhere may have left from there.
    #[must_use]
    pub fn may_have_arrived(&self) -> bool {
        self.sent || self.may_be_remembered() || self.last_attempt_ms.is_some()
    }

    /// Whether the backend may answer what is sent under its id with an earlier result, though it is
    /// not on its way.
    #[must_use]
    pub fn may_be_remembered(&self) -> bool {
        self.state == MutationState::Failed || self.origin.is_some()
    }

    /// Its clock reading as text, as its author wrote it.
    #[must_use]
    pub fn at_text(&self, client: &str) -> String {
        self.at.to_text(self.author(client))
    }
}

/// The number in an id on the wire, if it is this client's.
#[must_use]
pub fn parse_wire_id(client: &str, id: &str) -> Option<MutationNo> {
    id.strip_prefix(client)?.strip_prefix('.')?.parse().ok()
}
