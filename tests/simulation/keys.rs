//! A server that gives records keys of its own. It has them on the wire and on the devices; the
//! account and the server's rows go on with the keys that the devices made, so that they stay simple.

use super::fleet::Tabs;
use super::record::Record;
use super::server::Server;
use super::world::World;
use landfall::model::{Action, Change, Page, Refusal, Verdict, Version};
use serde_json::Value as Json;
use std::rc::Rc;

pub(crate) const GIVEN: &str = "given-";

/// Whether a record gets another key. Those that several devices make under one key do not: a server
/// that took them for one record would not give it a key of its own.
fn is_given(collection: &str, key: &str) -> bool {
    matches!(collection, "sites" | "notes") && !key.starts_with('s')
}

/// The key that the server gives.
pub(crate) fn given(key: &str) -> Rc<str> {
    format!("{GIVEN}{key}").into()
}

/// The key that the device made.
pub(crate) fn plain(key: &Rc<str>) -> Rc<str> {
    key.strip_prefix(GIVEN)
        .map_or_else(|| key.clone(), Rc::from)
}

fn with_id(record: &Record, id: &str) -> Record {
    let mut json = (*record.0.json).clone();
    if let Json::Object(fields) = &mut json {
        fields.insert("id".into(), id.into());
    }
    Record::new(json)
}

/// A record of the server as it is sent.
pub(crate) fn on_wire(world: &World, collection: &str, key: &str, data: &Record) -> Record {
    if world.assigns && is_given(collection, key) {
        with_id(data, &given(key))
    } else {
        data.clone()
    }
}

/// The key of a record of the server as it is sent.
pub(crate) fn wire_key(world: &World, collection: &str, key: &Rc<str>) -> Rc<str> {
    if world.assigns && is_given(collection, key) {
        given(key)
    } else {
        key.clone()
    }
}

/// A page as it is sent.
pub(crate) fn page(world: &World, mut page: Page<Record>) -> Page<Record> {
    for change in &mut page.changes {
        let (collection, key) = (change.collection.clone(), change.key.clone());
        let data = change.data.take();
        change.data = data.map(|d| on_wire(world, &collection, &key, &d));
        change.key = wire_key(world, &collection, &key);
    }
    page
}

/// A change with the key that the device made.
pub(crate) fn received(change: &Change<Record>) -> Change<Record> {
    let key = plain(&change.key);
    let data = change.data.as_ref();
    Change {
        data: data.map(|d| match d.0.json.get("id") {
            Some(_) => with_id(d, &key),
            None => d.clone(),
        }),
        key,
        ..change.clone()
    }
}

/// What the server says where it has no record under the key that the device made.
pub(crate) fn unknown(world: &World, change: &Change<Record>) -> Option<Verdict<Record>> {
    let key = plain(&change.key);
    let made = world.assigns && is_given(&change.collection, &key) && key == change.key;
    match change.action {
        Action::Create => None,
        _ if !made => None,
        Action::Delete => {
            let (version, data) = (Version(0), None);
            Some(Verdict::Success { version, data })
        }
        Action::Update => Some(Verdict::Failed {
            refusal: Refusal {
                code: "not-found".into(),
                message: "no".into(),
            },
            retryable: false,
        }),
    }
}

/// An answer as it is sent; `change` is the one that came.
pub(crate) fn answer(
    world: &World,
    change: &Change<Record>,
    verdict: Verdict<Record>,
) -> Verdict<Record> {
    let key = plain(&change.key);
    let wire = |data: Option<Record>| data.map(|d| on_wire(world, &change.collection, &key, &d));
    let verdict = match verdict {
        Verdict::Success { version, data } => Verdict::Success {
            version,
            data: wire(data),
        },
        Verdict::Conflict { version, data, at } => Verdict::Conflict {
            version,
            data: wire(data),
            at,
        },
        other => return other,
    };
    let moves = world.assigns && is_given(&change.collection, &key) && key == change.key;
    if moves && change.action == Action::Create {
        let (key, then) = (given(&key), Box::new(verdict));
        return Verdict::Rekeyed { key, then };
    }
    verdict
}

/// The key by which an app knows a record: the server's, where it has pulled it.
pub(crate) fn known(world: &World, manager: &Tabs, collection: &str, key: &Rc<str>) -> Rc<str> {
    let other = wire_key(world, collection, key);
    let there = manager.newest(collection, &other).ok().flatten();
    if there.is_some() { other } else { key.clone() }
}

/// What a record says, but for the version that migrations leave in it.
pub(crate) fn content(record: &Record) -> String {
    let mut json = record.anyhow().clone();
    if let Json::Object(fields) = &mut json {
        fields.remove("v");
    }
    Record::new(json).words()
}

/// The records of a collection that a user has, as they are sent.
pub(crate) fn dump(
    world: &World,
    server: &Server,
    user: usize,
    collection: &str,
) -> std::collections::BTreeMap<Rc<str>, String> {
    let all = server.live(user, collection);
    all.map(|(key, data)| {
        let sent = on_wire(world, collection, key, data);
        (wire_key(world, collection, key), content(&sent))
    })
    .collect()
}
