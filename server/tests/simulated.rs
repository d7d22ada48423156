//! The simulation's stories (`tests/simulation`) over this server: what the devices send is decided by
//! the real rules in a real store, SQLite in memory, and what they pull is its pages.
//!
//! The simulation's own model decides beside it, for the account of what was promised; where the two
//! differ in anything, the story fails. Stories in which tombstones are purged are left out: the store
//! purges by age, the model all at once.

#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "tests; the command that plays single seeds is not here"
)]

use landfall::model::{Change, Page, Pulled, Refusal, Verdict, Version};
use landfall_server::access::{Access, TypeRules};
use landfall_server::change::Change as Checked;
use landfall_server::ids::{ClientId, UnixMillis, UserId};
use landfall_server::store::sqlite::{Location, SqliteStore};
use landfall_server::store::{self, Mode, PullQuery, Store};
use landfall_server::wire::WireChange;
use serde_json::{Value as Json, json};
use tokio::runtime::Runtime;

macro_rules! simulation {
    ($($name:ident $path:literal),*) => { $(#[path = $path] mod $name;)* };
}

simulation!(
    account "../../tests/simulation/account.rs",
    app "../../tests/simulation/app.rs",
    chance "../../tests/simulation/chance.rs",
    checks "../../tests/simulation/checks.rs",
    disk "../../tests/simulation/disk.rs",
    exec "../../tests/simulation/exec.rs",
    fleet "../../tests/simulation/fleet.rs",
    guard "../../tests/simulation/guard.rs",
    hasty "../../tests/simulation/hasty.rs",
    keep "../../tests/simulation/keep.rs",
    keys "../../tests/simulation/keys.rs",
    losses "../../tests/simulation/losses.rs",
    net "../../tests/simulation/net.rs",
    oracle "../../tests/simulation/oracle.rs",
    plan "../../tests/simulation/plan.rs",
    record "../../tests/simulation/record.rs",
    rule "../../tests/simulation/rule.rs",
    server "../../tests/simulation/server.rs",
    shrink "../../tests/simulation/shrink.rs",
    story "../../tests/simulation/story.rs",
    wide "../../tests/simulation/wide.rs",
    world "../../tests/simulation/world.rs"
);

use record::Record;
use server::Core;

/// Stories of each kind.
const STORIES: u64 = 150;

struct Real {
    runtime: Runtime,
    store: SqliteStore,
}

fn access(user: usize) -> Access {
    Access::own(UserId::new(format!("u{user}")).unwrap())
}

fn record(text: &str) -> Record {
    Record::new(serde_json::from_str(text).unwrap())
}

impl Real {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread();
        Self {
            runtime: { runtime }.build().unwrap(),
            store: SqliteStore::open(&Location::Memory).unwrap(),
        }
    }
}

impl Core for Real {
    fn push(
        &self,
        user: usize,
        client: &str,
        change: &Change<Record>,
        now_ms: f64,
    ) -> Verdict<Record> {
        let client = ClientId::new(client).unwrap();
        let mut wire = json!({
            "id": change.id, "type": *change.collection, "action": change.action.as_str(),
            "offlineId": *change.key, "versionNumber": change.version.0, "at": change.at,
        });
        if let Some(data) = &change.data {
            wire["data"] = data.anyhow().clone();
        }
        if let Some(changed) = &change.changed {
            wire["changed"] = changed.iter().map(|name| Json::from(&**name)).collect();
        }
        // By way of the text, as it comes.
        let wire: WireChange = serde_json::from_str(&wire.to_string()).unwrap();
        let checked = Checked::check(wire, &client, &TypeRules::default()).unwrap();
        let (access, now) = (access(user), UnixMillis(now_ms as u64));
        let push = self.store.push(&access, vec![checked], Mode::Each, now);
        let verdict = self.runtime.block_on(push).unwrap().remove(0);
        match verdict {
            store::Verdict::Success(version) => Verdict::Success {
                version: Version(version.0),
                data: None,
            },
            store::Verdict::Conflict {
                version, data, at, ..
            } => Verdict::Conflict {
                version: Version(version.0),
                data: data.map(|data| record(data.as_str())),
                at: Some(at.as_str().into()),
            },
            store::Verdict::Failed(failure) => Verdict::Failed {
                refusal: Refusal {
                    code: failure.code.as_str().into(),
                    message: "no".into(),
                },
                retryable: failure.code.retryable(),
            },
        }
    }

    fn pull(&self, user: usize, since: Option<&str>, limit: usize) -> Option<Page<Record>> {
        let query = PullQuery {
            since: since.map(str::to_owned),
            limit,
            types: None,
        };
        let access = access(user);
        let page = self.runtime.block_on(self.store.pull(&access, query));
        let page = page.ok()?;
        let pulled = page.records.into_iter().map(|r| Pulled {
            collection: r.record_type.as_str().into(),
            key: r.id.as_str().into(),
            version: Version(r.version_number.0),
            data: r.data.map(|data| record(data.as_str())),
            at: Some(r.at.as_str().into()),
        });
        Some(Page {
            changes: pulled.collect(),
            checkpoint: page.checkpoint.into(),
            has_more: page.has_more,
            server_ms: None,
        })
    }
}

fn play(seed: u64) -> Option<String> {
    let mut plan = plan::draw(seed);
    plan.steps
        .retain(|(act, _)| *act != plan::Act::NewGeneration);
    let ending = guard::played(&plan, false, Some(Box::new(Real::new())));
    let violation = ending.violation?;
    Some(format!(
        "seed {seed}: {} ({})",
        violation.name, violation.detail
    ))
}

#[test]
fn the_promises_hold_over_the_real_server() {
    let kinds = [0, plan::WIDE_FROM, plan::HASTY_FROM].into_iter();
    let seeds = kinds.flat_map(|from| from + 1..=from + STORIES);
    let failures: Vec<String> = seeds.filter_map(play).collect();
    // What a panic says, the simulation keeps to itself.
    failures.iter().for_each(|failure| println!("{failure}"));
    assert!(failures.is_empty());
}
