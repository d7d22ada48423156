//! A change that has been checked: what the rules and the store work on. What arrives is a
//! [`WireChange`]; one that is well-formed but means nothing (an empty id, a create without data)
//! becomes a [`Failure`] of its own and leaves the rest of the batch alone.

use crate::access::{Sharing, TypeRules};
use crate::data::{DataFault, RecordData};
use crate::ids::{ClientId, InvalidId, MutationId, RecordId, RecordType, Stamp, Version};
use crate::limits;
use crate::wire::{Action, WireChange};

/// One mutation of one record, within all limits.
#[derive(Clone, Debug)]
pub struct Change {
    /// The mutation, the same however often it arrives.
    pub mutation: MutationId,
    /// Who sent it.
    pub client: ClientId,
    /// The collection.
    pub record_type: RecordType,
    /// The record: `serverId` where the client knows one, else `offlineId`; this server keeps the
    /// device's key.
    pub record: RecordId,
    /// The version it was made on.
    pub base: Version,
    /// When it was made, by the client's clock.
    pub at: Stamp,
    /// How the records of its type are shared.
    pub sharing: Sharing,
    /// What it does.
    pub edit: Edit,
}

/// What a change does to its record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit {
    /// A new record.
    Create(RecordData),
    /// The whole record anew.
    Replace(RecordData),
    /// Only the fields in `changed`; one that `data` lacks is removed.
    Patch {
        /// The new values.
        data: RecordData,
        /// The names of the fields that changed.
        changed: Vec<String>,
    },
    /// The end of the record.
    Delete,
}

impl Edit {
    /// The action's name on the wire and in the conflict log.
    pub fn action(&self) -> &'static str {
        match self {
            Self::Create(_) => "create",
            Self::Replace(_) | Self::Patch { .. } => "update",
            Self::Delete => "delete",
        }
    }

    /// The data that came with it.
    pub fn data(&self) -> Option<&RecordData> {
        match self {
            Self::Create(data) | Self::Replace(data) | Self::Patch { data, .. } => Some(data),
            Self::Delete => None,
        }
    }

    /// The data that says to which entity the record is to belong, where the edit says it: a whole
    /// record, or a part that changes the field in question.
    pub fn entity_source(&self, sharing: &Sharing) -> Option<&RecordData> {
        match (self, sharing) {
            (_, Sharing::Private) | (Self::Delete, _) => None,
            (Self::Create(data) | Self::Replace(data), _) => Some(data),
            (Self::Patch { data, changed }, Sharing::Entity(field)) => {
                changed.iter().any(|name| **name == **field).then_some(data)
            }
        }
    }
}

/// A change that cannot take effect, as its sender is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// For programs.
    pub code: FailureCode,
    /// For people. Never holds a record's content.
    pub message: String,
}

/// The codes of a failed change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureCode {
    /// The record was never here.
    NotFound,
    /// The change means nothing.
    Invalid,
    /// The record, or what it would become, is not the sender's to change.
    Forbidden,
    /// The record would be too large.
    TooLarge,
    /// Another change of the same atomic batch cannot take effect.
    Aborted,
    /// The server's fault.
    Internal,
}

impl FailureCode {
    /// The code on the wire and in the store.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotFound => "not-found",
            Self::Invalid => "invalid",
            Self::Forbidden => "forbidden",
            Self::TooLarge => "too-large",
            Self::Aborted => "aborted",
            Self::Internal => "internal",
        }
    }

    /// Reads what [`Self::as_str`] wrote.
    pub fn parse(text: &str) -> Option<Self> {
        [
            Self::NotFound,
            Self::Invalid,
            Self::Forbidden,
            Self::TooLarge,
            Self::Aborted,
            Self::Internal,
        ]
        .into_iter()
        .find(|code| code.as_str() == text)
    }

    /// Whether the same change may succeed later. Such a failure is not remembered: a repeat is
    /// tried anew.
    pub fn retryable(self) -> bool {
        matches!(self, Self::Internal | Self::Aborted)
    }
}

impl Failure {
    /// A change that means nothing.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self {
            code: FailureCode::Invalid,
            message: message.into(),
        }
    }

    /// Not the sender's. Always the same words: they must not tell what exists.
    pub fn forbidden() -> Self {
        Self {
            code: FailureCode::Forbidden,
            message: "the record is in no entity of yours".into(),
        }
    }

    /// It could take effect, but another of its batch cannot.
    pub fn aborted() -> Self {
        Self {
            code: FailureCode::Aborted,
            message: "another change of the batch cannot take effect".into(),
        }
    }

    /// The server's fault; the details are in its log.
    pub fn internal() -> Self {
        Self {
            code: FailureCode::Internal,
            message: "the server could not store it".into(),
        }
    }

    /// The records before it in the request took too long to look at.
    pub fn too_dear() -> Self {
        Self {
            code: FailureCode::Internal,
            message: "checking the records of this request takes too long: send fewer at once"
                .into(),
        }
    }
}

impl From<InvalidId> for Failure {
    fn from(fault: InvalidId) -> Self {
        Self::invalid(fault.to_string())
    }
}

impl From<DataFault> for Failure {
    fn from(fault: DataFault) -> Self {
        let code = match fault {
            DataFault::TooLong => FailureCode::TooLarge,
            _ => FailureCode::Invalid,
        };
        Self {
            code,
            message: fault.to_string(),
        }
    }
}

impl Change {
    /// Checks a change by itself. This depends on nothing but the change, so its failures need not
    /// be remembered: a repeat fails in the same way.
    pub fn check(wire: WireChange, client: &ClientId, rules: &TypeRules) -> Result<Self, Failure> {
        if wire.version_number > limits::VERSION_MAX - 1 {
            return Err(Failure::invalid("`versionNumber` is too large"));
        }
        // Both keys are checked though one is used: each comes back in the result.
        let offline_id = RecordId::new(wire.offline_id)?;
        let record = wire.server_id.map_or(Ok(offline_id), RecordId::new)?;
        let data = wire.data.map(RecordData::check).transpose()?;
        let edit = match (wire.action, data, wire.changed) {
            (Action::Create, Some(data), _) => Edit::Create(data),
            (Action::Update, Some(data), None) => Edit::Replace(data),
            (Action::Update, Some(data), Some(changed)) => {
                if changed.len() > limits::FIELDS_MAX {
                    return Err(Failure::invalid("`changed` names too many fields"));
                }
                Edit::Patch { data, changed }
            }
            (Action::Create | Action::Update, None, _) => {
                return Err(Failure::invalid("`data` is missing"));
            }
            (Action::Delete, _, _) => Edit::Delete,
        };
        let record_type = RecordType::new(wire.record_type)?;
        if !rules.knows(&record_type) {
            return Err(Failure::invalid("there is no such `type` here"));
        }
        Ok(Self {
            mutation: MutationId::new(wire.id)?,
            client: client.clone(),
            sharing: rules.sharing(&record_type),
            record_type,
            record,
            base: Version(wire.version_number),
            at: Stamp::new(wire.at)?,
            edit,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn check(patch: &Value) -> Result<Change, Failure> {
        let mut change = json!({
            "id": "m1", "type": "sites", "action": "create", "offlineId": "s1",
            "versionNumber": 0, "data": {"n": 1}, "at": "1763690000000-0000-c1"
        });
        for (name, value) in patch.as_object().unwrap() {
            change[name] = value.clone();
        }
        let wire = serde_json::from_str(&change.to_string()).unwrap();
        Change::check(wire, &ClientId::new("c1").unwrap(), &TypeRules::default())
    }

    #[test]
    fn accepts_each_action() {
        assert!(matches!(check(&json!({})).unwrap().edit, Edit::Create(_)));
        let update = check(&json!({"action": "update"})).unwrap();
        assert!(matches!(update.edit, Edit::Replace(_)));
        let patch = check(&json!({"action": "update", "changed": ["n"]})).unwrap();
        assert!(matches!(patch.edit, Edit::Patch { .. }));
        let delete = check(&json!({"action": "delete", "data": null})).unwrap();
        assert_eq!(delete.edit, Edit::Delete);
    }

    #[test]
    fn the_servers_key_wins() {
        assert_eq!(check(&json!({})).unwrap().record.as_str(), "s1");
        assert_eq!(
            check(&json!({"serverId": "x1"})).unwrap().record.as_str(),
            "x1"
        );
    }

    #[test]
    fn refuses_what_means_nothing() {
        for wrong in [
            json!({"id": ""}),
            json!({"id": "m".repeat(limits::MUTATION_ID_BYTES_MAX + 1)}),
            json!({"type": ""}),
            json!({"type": "a,b"}),
            json!({"offlineId": ""}),
            json!({"serverId": ""}),
            json!({"data": null}),
            json!({"data": []}),
            json!({"action": "update", "data": null}),
            json!({"action": "update", "data": null, "changed": ["n"]}),
            json!({"action": "update", "changed": vec!["n"; limits::FIELDS_MAX + 1]}),
            json!({"at": "yesterday"}),
            json!({"versionNumber": limits::VERSION_MAX}),
        ] {
            assert_eq!(
                check(&wrong).unwrap_err().code,
                FailureCode::Invalid,
                "{wrong}"
            );
        }
    }

    #[test]
    fn codes_read_back() {
        for code in [
            FailureCode::NotFound,
            FailureCode::Invalid,
            FailureCode::Forbidden,
            FailureCode::TooLarge,
            FailureCode::Aborted,
            FailureCode::Internal,
        ] {
            assert_eq!(FailureCode::parse(code.as_str()), Some(code));
        }
        assert_eq!(FailureCode::parse("else"), None);
    }
}
