//! A batch from its bytes to what becomes of its records: the form, each change's check, who may, what
//! is decided, partial updates merged, the schema, and the answer.
#![no_main]

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, LazyLock};

use landfall_server::access::{Access, TypeRules};
use landfall_server::change::Change;
use landfall_server::data::RecordData;
use landfall_server::ids::{ClientId, EntityId, RecordType, UserId};
use landfall_server::ruling::{Located, Ruling, rule};
use landfall_server::schema::Schema;
use landfall_server::store::Verdict;
use landfall_server::types::TypeRule;
use landfall_server::wire::{BatchRequest, Echo};
use libfuzzer_sys::fuzz_target;
use serde_json::json;
use serde_json::value::RawValue;

static RULES: LazyLock<TypeRules> = LazyLock::new(|| {
    let schema = json!({
        "properties": {
            "name": {"type": "string", "pattern": "^(a|b)*$", "maxLength": 20},
            "n": {"type": "integer", "multipleOf": 3},
            "list": {"uniqueItems": true, "items": {"$ref": "#"}},
        },
    });
    let rule = |entity: Option<&str>, schema: Option<Schema>| TypeRule {
        entity: entity.map(Into::into),
        schema: schema.map(Arc::new),
    };
    let schema = Schema::new(&schema).expect("a schema");
    let name = |name: &str| RecordType::new(name).expect("a type");
    let listed = BTreeMap::from([
        (name("sites"), rule(None, Some(schema))),
        (name("shared"), rule(Some("entity"), None)),
        (name("notes"), rule(None, None)),
    ]);
    TypeRules::new(false, listed)
});

static ACCESS: LazyLock<Access> = LazyLock::new(|| {
    let user = UserId::new("ann").expect("a user");
    let entity = EntityId::new("e1").expect("an entity");
    let access = Access::new(user, [entity].into()).expect("few entities");
    access.under(RULES.clone())
});

fuzz_target!(|bytes: &[u8]| {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let Ok(request) = serde_path_to_error::deserialize::<_, BatchRequest>(&mut json) else {
        return;
    };
    let Ok(client) = ClientId::new(request.client_id) else {
        return;
    };
    let mut records: HashMap<_, Located> = HashMap::new();
    for wire in request.changes {
        let echo = Echo::of(&wire);
        let verdict = match Change::check(wire, &client, &RULES) {
            Ok(change) => apply(&change, &mut records),
            Err(failure) => Verdict::Failed(failure),
        };
        serde_json::to_vec(&echo.result(verdict)).expect("an answer");
    }
});

fn apply(
    change: &Change,
    records: &mut HashMap<(RecordType, landfall_server::ids::RecordId), Located>,
) -> Verdict {
    let key = (change.record_type.clone(), change.record.clone());
    let current = records.get(&key);
    match rule(&ACCESS, change, current) {
        Ruling::Write(next) => {
            assert!(ACCESS.may(&next.space), "written where the asker may not");
            let before = current.map_or(change.base, |current| current.record.version);
            assert!(next.record.version > before, "versions rise");
            if let Some(data) = &next.record.data {
                let text = RawValue::from_string(data.as_str().into()).expect("JSON");
                RecordData::check(text).expect("within the limits");
                ACCESS.admits(&change.record_type, data).expect("keeps to its schema");
            }
            let version = next.record.version;
            records.insert(key, next);
            Verdict::Success(version)
        }
        Ruling::Nothing(version) => Verdict::Success(version),
        Ruling::Conflict(there) => {
            assert!(ACCESS.may(&there.space), "shown what is not the asker's");
            Verdict::Success(there.record.version)
        }
        Ruling::Fail(failure) => Verdict::Failed(failure),
    }
}
