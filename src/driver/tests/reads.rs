//! What the app can ask for, and what it is told where there is no such thing.

use super::hidden::{LOCAL, write};
use super::rig::*;
use crate::conflict::{Outcome, Sides, settle as settle_conflict};
use crate::driver::OutboxFilter;
use crate::engine::{Event, Network, Phase};
use crate::error::Code;
use crate::model::Action;
use crate::options::{self, CollectionSpec, Strategy};
use crate::replica::index::Query;
use crate::replica::plan::{Intent, Write};
use crate::value::Scalar;
use serde_json::json;
use std::cell::RefCell;
use std::rc::Rc;

async fn filled() -> (Rc<RefCell<Server>>, TestManager) {
    let server = Rc::new(RefCell::new(Server::default()));
    server.borrow_mut().down = true;
    let m = Device::new("a", &server, 2).open_idle().await;
    for key in ["b", "a", "ab", "c"] {
        create(&m, "sites", site(key, 1)).await.unwrap();
    }
    for (key, parent) in [("n1", "a"), ("n2", "b"), ("n3", "a")] {
        let note = json!({ "id": key, "siteId": parent });
        create(&m, "notes", note).await.unwrap();
    }
    (server, m)
}

fn text(text: &str) -> Scalar {
    Scalar::Text(text.into())
}

fn keys(m: &TestManager, collection: &str, query: &Query) -> Vec<String> {
    let mut keys = Vec::new();
    let key = |v: &Record| keys.push(v["id"].as_str().unwrap().to_owned());
    m.find(collection, query, key).unwrap();
    assert_eq!(m.count(collection, query), Ok(keys.len()));
    keys
}

#[test]
fn a_query_without_an_index_is_one_of_keys() {
    run(async {
        let (_server, m) = filled().await;
        let all = Query::default;
        let sites = |query: Query| keys(&m, "sites", &query).join(" ");
        let (from, to) = (Some(vec![text("ab")]), Some(vec![text("c")]));
        assert_eq!(sites(all()), "a ab b c");
        assert_eq!(
            sites(Query {
                from: from.clone(),
                ..all()
            }),
            "ab b c"
        );
        assert_eq!(
            sites(Query {
                to: to.clone(),
                ..all()
            }),
            "a ab b"
        );
        assert_eq!(sites(Query { from, to, ..all() }), "ab b");
        let equals = vec![text("a")];
        assert_eq!(
            sites(Query { equals, ..all() }),
            "a",
            "and not what begins with it"
        );
        let prefix = Some("a".into());
        assert_eq!(sites(Query { prefix, ..all() }), "a ab");
        let after = Some((Vec::new(), "ab".into()));
        let next = Query {
            after: after.clone(),
            ..all()
        };
        assert_eq!(sites(next), "b c");
        let before = Query {
            after,
            descending: true,
            ..all()
        };
        assert_eq!(sites(before), "a");
        let cut = Query {
            descending: true,
            offset: 1,
            limit: 2,
            ..all()
        };
        assert_eq!(sites(cut), "b ab");
        let (from, to) = (Some(vec![text("c")]), Some(vec![text("b")]));
        assert_eq!(sites(Query { from, to, ..all() }), "");
        let from = Some(vec![Scalar::Number(7.0)]);
        assert_eq!(sites(Query { from, ..all() }), "a ab b c", "keys are texts");
    });
}

#[test]
fn an_index_follows_what_is_written() {
    run(async {
        let (_server, m) = filled().await;
        let of = |site: &str| Query {
            index: Some(vec!["siteId".into()]),
            equals: vec![text(site)],
            ..Query::default()
        };
        assert_eq!(keys(&m, "notes", &of("a")), ["n1", "n3"]);
        update(&m, "notes", "n1", json!({ "siteId": "b" }))
            .await
            .unwrap();
        delete(&m, "notes", "n3").await.unwrap();
        assert_eq!(keys(&m, "notes", &of("a")), [""; 0]);
        assert_eq!(keys(&m, "notes", &of("b")), ["n1", "n2"]);
    });
}

#[test]
fn what_was_not_declared_is_not_answered() {
    run(async {
        let (_server, m) = filled().await;
        let unknown = m.get("nothing", "a").unwrap_err();
        assert_eq!(unknown.code, Code::UnknownCollection);
        assert!(unknown.message.contains("nothing"), "{unknown}");
        let query = Query {
            index: Some(vec!["name".into(), "n".into()]),
            ..Query::default()
        };
        let unknown = m.count("sites", &query).unwrap_err();
        assert_eq!(unknown.code, Code::UnknownIndex);
        assert!(unknown.message.contains("name, n"), "{unknown}");
        assert_eq!(m.find("sites", &query, |_| ()), Err(unknown));
        assert!(m.newest("nothing", "a").is_err());
        assert_eq!(m.key_field("sites"), Ok("id".into()));
        assert_eq!(&*m.present_key("sites", "b"), "b");
        assert_eq!(&*m.present_key("nothing", "b"), "b");
        assert_eq!(m.state("sites", "none"), Ok(None));
    });
}

#[test]
fn the_outbox_is_filtered_before_it_is_cut() {
    run(async {
        let (_server, m) = filled().await;
        let of = |collection: Option<&str>, state: Option<&str>, limit| {
            let filter = OutboxFilter {
                state: state.map(Rc::from),
                collection: collection.map(Rc::from),
                limit,
            };
            let ids = m.outbox(&filter).into_iter().map(|e| e.id);
            ids.collect::<Vec<_>>().join(" ")
        };
        assert_eq!(of(None, None, 2), "a.1 a.2");
        assert_eq!(of(Some("notes"), None, 2), "a.5 a.6");
        assert_eq!(of(Some("notes"), Some("pending"), 0), "a.5 a.6 a.7");
        assert_eq!(of(None, Some("failed"), 0), "");
        let note = m.outbox_entry(5).unwrap();
        assert_eq!(
            (note.waits_for.as_deref(), note.state),
            (Some("a.2"), "pending")
        );
        assert!(m.outbox_entry(99).is_none());
        write(&m, Write::Put(Rc::new(site("draft", 1))), LOCAL)
            .await
            .unwrap();
        assert_eq!(m.state("sites", "draft"), Ok(Some("local")));
    });
}

/// What was refused and is queued again stands at the end, and is as old as it was.
#[test]
fn the_oldest_change_is_not_always_the_first() {
    run(async {
        let server = Rc::new(RefCell::new(Server::default()));
        server.borrow_mut().poison.insert("s0".into(), false);
        let device = Device::new("a", &server, 1);
        let m = device.open_idle().await;
        assert_eq!(m.oldest_ms(), None);
        create(&m, "sites", site("s0", 0)).await.unwrap();
        m.signal(Event::Leader(true));
        until(&m, "refused", |s| s.failed == 1).await;
        m.signal(Event::Leader(false));
        pass(5_000).await;
        for n in 1..200 {
            create(&m, "sites", site(&format!("s{n}"), n))
                .await
                .unwrap();
        }
        submit(&m, Intent::Retry(None)).await.unwrap();
        let last = m.outbox(&OutboxFilter::default()).pop().unwrap().mutation;
        assert_eq!((&*last.key, m.oldest_ms()), ("s0", Some(last.created_ms)));
        // Also from the lists that a start leaves as they are.
        m.fold().await.unwrap();
        let again = device.open_idle().await;
        settle(&again).await;
        assert_eq!(again.oldest_ms(), Some(last.created_ms));
    });
}

/// Apps, stores and servers compare these names.
#[test]
fn names_stay_what_they_are() {
    let phases = [
        (Phase::Idle, "idle"),
        (Phase::Syncing, "syncing"),
        (Phase::Offline, "offline"),
        (Phase::Paused, "paused"),
        (Phase::NeedsAuth, "needs-auth"),
        (Phase::Error, "error"),
        (Phase::Closed, "closed"),
    ];
    phases
        .iter()
        .for_each(|(phase, name)| assert_eq!(phase.as_str(), *name));
    let networks = [
        (Network::Online, "online"),
        (Network::Offline, "offline"),
        (Network::Unreachable, "unreachable"),
    ];
    networks
        .iter()
        .for_each(|(network, name)| assert_eq!(network.as_str(), *name));
    let actions = [
        (Action::Create, "create"),
        (Action::Update, "update"),
        (Action::Delete, "delete"),
    ];
    for (action, name) in actions {
        assert_eq!((action.as_str(), Action::parse(name)), (name, Some(action)));
    }
    let strategies = [
        (Strategy::LastWriteWins, "last-write-wins"),
        (Strategy::ServerWins, "server-wins"),
        (Strategy::ClientWins, "client-wins"),
        (Strategy::Merge, "merge"),
        (Strategy::Function, "function"),
        (Strategy::Manual, "manual"),
    ];
    for (strategy, name) in strategies {
        assert_eq!(
            (strategy.as_str(), Strategy::parse(name)),
            (name, Some(strategy))
        );
        let waits = matches!(name, "function" | "manual");
        assert_eq!(strategy.waits(), waits, "{name}");
    }
    for (outcome, name) in [
        (Outcome::Local, "local"),
        (Outcome::Remote, "remote"),
        (Outcome::Merged, "merged"),
    ] {
        assert_eq!(
            (outcome.as_str(), Outcome::parse(name)),
            (name, Some(outcome))
        );
    }
    // These are worked out, not stored.
    for (outcome, name) in [(Outcome::Waiting, "waiting"), (Outcome::Parked, "parked")] {
        assert_eq!((outcome.as_str(), Outcome::parse(name)), (name, None));
    }
    assert_eq!(
        (
            Action::parse("no"),
            Strategy::parse("no"),
            Outcome::parse("no")
        ),
        (None, None, None)
    );
}

#[test]
fn equal_readings_leave_what_the_server_has() {
    let (a, b) = (Rc::new(json!({ "v": 1 })), Rc::new(json!({ "v": 2 })));
    let at = "0000000000004-0000-a";
    let sides = Sides {
        base: None,
        local: Some(&a),
        remote: Some(&b),
        local_at: at,
        remote_at: Some(at),
    };
    let settled = settle_conflict(Strategy::LastWriteWins, &sides).unwrap();
    assert_eq!(settled, (Outcome::Remote, Some(b.clone())));
}

#[test]
fn declarations_that_make_no_sense_are_refused_by_name() {
    let refused = |specs: Vec<CollectionSpec>, what: &str| {
        let error = options::check(&specs).unwrap_err();
        assert_eq!(error.code, Code::InvalidOptions);
        assert!(error.message.contains(what), "{error}");
    };
    let spec = |name: &str| CollectionSpec::new(name, "id");
    refused(vec![], "at least one");
    refused(
        vec![spec("x"); crate::limits::COLLECTIONS_MAX + 1],
        "at most",
    );
    refused(vec![spec("")], "collection name");
    refused(
        vec![spec(&"x".repeat(crate::limits::NAME_BYTES_MAX + 1))],
        "collection name",
    );
    refused(vec![CollectionSpec::new("sites", "")], "sites.key");
    let pointless = CollectionSpec {
        local_only: true,
        optimistic: false,
        ..spec("sites")
    };
    refused(vec![pointless], "localOnly");
    for index in [vec![], vec!["a".into(), "".into()]] {
        let indexes = vec![index];
        refused(
            vec![CollectionSpec {
                indexes,
                ..spec("sites")
            }],
            "sites.indexes",
        );
    }
    let references = vec![("siteId".into(), "sights".into())];
    refused(
        vec![CollectionSpec {
            references,
            ..spec("notes")
        }],
        "sights",
    );
    assert!(options::check(&[spec(&"x".repeat(crate::limits::NAME_BYTES_MAX))]).is_ok());
}
