//! Shared records over HTTP: every rule of who may do what, and somebody who tries to break it.
//!
//! Ann works at the site `north`, Carl at `south`; Mallory is Carl in a bad mood.

use landfall_server::ids::{EntityId, UserId};
use landfall_server::limits;
use landfall_server::store::Store;
use serde_json::{Value, json};

use crate::harness::{Client, TestServer, change, create, problem, statuses, task};

/// The answer to one change, as bytes, but for the ids that it repeats.
async fn answer(client: &Client, change: &Value, query: &str) -> String {
    let request = client.post(&format!("/batch{query}"));
    let response = request
        .json(&client.batch(std::slice::from_ref(change)))
        .send()
        .await;
    let response = response.unwrap();
    assert_eq!(response.status(), 200);
    let text = response.text().await.unwrap();
    text.replacen(change["id"].as_str().unwrap(), "<id>", 1)
        .replace(change["offlineId"].as_str().unwrap(), "<record>")
}

/// Everything that Mallory can send about a record: create, update, patch and delete it, on each
/// version, at its place, at a place of one's own, at none.
fn attempts(record: &str, tag: &str) -> Vec<Value> {
    let mut changes = Vec::new();
    for base in 0..3 {
        for site in ["north", "south"] {
            if base == 0 && site == "north" {
                changes.push(task("", "create", record, base, site));
            }
            changes.push(task("", "update", record, base, site));
            for changed in [
                json!(["site"]),
                json!(["by"]),
                json!(["site", "by"]),
                json!([]),
            ] {
                let mut patch = task("", "update", record, base, site);
                patch["changed"] = changed;
                changes.push(patch);
            }
        }
        changes.push(task("", "delete", record, base, ""));
    }
    // By the other key.
    let mut renamed = task("", "update", "mine", 1, "south");
    renamed["serverId"] = json!(record);
    changes.push(renamed);
    for (n, change) in changes.iter_mut().enumerate() {
        change["id"] = json!(format!("{tag}-{n}"));
    }
    changes
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_shared_is_shared_and_nothing_else() {
    let (server, _store) = TestServer::shared().await;
    let (ann, bob) = (
        server.member("ann", &["north"]),
        server.member("bob", &["north"]),
    );
    let carl = server.member("carl", &["south"]);
    let batch = [create("m1", "a"), task("m2", "create", "t", 0, "north")];
    assert_eq!(statuses(&ann.push(&batch).await), ["success", "success"]);
    let bobs = bob.records().await;
    assert_eq!(
        (bobs.len(), &bobs[0]["id"]),
        (1, &json!("t")),
        "not what is private"
    );
    let results = bob.push(&[task("m3", "update", "t", 1, "north")]).await;
    assert_eq!(results[0]["versionNumber"], 2);
    assert_eq!(ann.records().await.len(), 2);
    assert!(carl.records().await.is_empty());
    assert!(server.client("dora").records().await.is_empty());
}

/// Also byte for byte: the answer to any change of a foreign record, live or deleted, is that to a
/// record that does not exist.
#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_record_cannot_be_changed_nor_told_from_none() {
    let (server, _store) = TestServer::shared().await;
    let ann = server.member("ann", &["north"]);
    let mallory = server.member("mallory", &["south"]);
    let batch = [
        task("m1", "create", "live", 0, "north"),
        task("m2", "create", "dead", 0, "north"),
        task("m3", "delete", "dead", 1, "north"),
    ];
    ann.push(&batch).await;
    let before = ann.records().await;
    for query in ["", "?atomic=true"] {
        let mut none = Vec::new();
        for change in attempts("none", &format!("none{query}")) {
            let answer = answer(&mallory, &change, query).await;
            assert!(
                answer.contains(r#""code":"forbidden""#),
                "{change}: {answer}"
            );
            none.push(answer);
        }
        for record in ["live", "dead"] {
            let attempts = attempts(record, &format!("{record}{query}"));
            for (change, none) in attempts.iter().zip(&none) {
                let renamed = |text: String| text.replace("none", "<record>");
                let answer = answer(&mallory, change, query).await;
                let answer = answer.replace(record, "<record>");
                assert_eq!(answer, renamed(none.clone()), "{change}");
            }
        }
    }
    assert_eq!(ann.records().await, before);
    assert_eq!(mallory.status().await["conflicts"], 0);
    assert!(mallory.records().await.is_empty());
}

/// A foreign entity and one that nobody has ever heard of are the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_entity_is_not_told_from_none() {
    let (server, store) = TestServer::shared().await;
    let (bob, north) = (UserId::new("bob").unwrap(), EntityId::new("north").unwrap());
    store.assign(&bob, &north).await.unwrap();
    server
        .client("bob")
        .push(&[task("m1", "create", "task-1", 0, "north")])
        .await;
    let mallory = server.member("mallory", &["south"]);
    let ask = async |record: &str, site: &str| {
        let change = task(&format!("m-{record}-{site}"), "create", record, 0, site);
        answer(&mallory, &change, "").await
    };
    let known = ask("new-x", "north").await;
    assert_eq!(known, ask("new-y", "nowhere").await);
    assert_eq!(known, ask("task-1", "north").await);
    assert_eq!(known, ask("task-1", "nowhere").await);
    // A name that looks like another's own space.
    assert_eq!(known, ask("new-z", "u:bob").await);
    assert_eq!(known, ask("new-z", "bob").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_can_take_another_ones_place() {
    let (server, _store) = TestServer::shared().await;
    let (ann, mallory) = (
        server.member("ann", &["north"]),
        server.member("mallory", &["south"]),
    );
    ann.push(&[task("m1", "create", "t", 0, "north")]).await;
    let before = ann.records().await;
    // The id is taken, in an entity of one's own as well, on whatever version.
    for base in 0..3 {
        let mut shadow = task(&format!("s{base}"), "create", "t", base, "south");
        assert_eq!(
            mallory.push(&[shadow.clone()]).await[0]["code"],
            "forbidden"
        );
        shadow["type"] = json!("notes");
        shadow["id"] = json!(format!("n{base}"));
        mallory.push(&[shadow]).await;
    }
    // What is private may have any id, and is nobody else's.
    assert_eq!(mallory.records().await.len(), 1);
    assert_eq!(ann.records().await, before);
    // The other way: what is one's own cannot be pushed onto others.
    mallory.push(&[task("m2", "create", "u", 0, "south")]).await;
    let mut patch = task("m4", "update", "u", 1, "north");
    patch["changed"] = json!(["site"]);
    let mut escaped = task("m5", "update", "u", 1, "");
    escaped["data"] = serde_json::from_str(r#"{"\u0073ite":"north"}"#).unwrap();
    for push in [task("m3", "update", "u", 1, "north"), patch, escaped] {
        let results = mallory.push(&[push]).await;
        assert_eq!(results[0]["code"], "forbidden", "{results:?}");
    }
    assert_eq!(ann.records().await, before);
    assert_eq!(mallory.records().await[1]["versionNumber"], 1);
}

/// Of two fields of one name the last counts, for the server as for every client that parses it.
#[tokio::test(flavor = "multi_thread")]
async fn a_field_that_is_there_twice_is_no_way_in() {
    let (server, _store) = TestServer::shared().await;
    let (ann, mallory) = (
        server.member("ann", &["north"]),
        server.member("mallory", &["south"]),
    );
    let send = async |client: &Client, data: &str| {
        let batch = client
            .batch(&[task("m1", "create", "t", 0, "x")])
            .to_string();
        let body = batch.replacen(r#"{"by":"m1","site":"x"}"#, data, 1);
        assert!(body.contains(data), "{body}");
        let response = client.post("/batch").body(body).send().await.unwrap();
        let mut answer: Value = response.json().await.unwrap();
        answer["results"][0].take()
    };
    let refused = send(&mallory, r#"{"site":"south","site":"north"}"#).await;
    assert_eq!(refused["code"], "forbidden");
    let taken = send(&ann, r#"{"site":"south","site":"north"}"#).await;
    assert_eq!(taken["status"], "success");
    assert!(mallory.records().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shared_record_names_its_entity() {
    let (server, _store) = TestServer::shared().await;
    let ann = server.member("ann", &["north", "south"]);
    ann.push(&[task("m0", "create", "t", 0, "north")]).await;
    for (n, data) in [json!({}), json!({"site": null}), json!({"site": ["north"]})]
        .into_iter()
        .enumerate()
    {
        for (action, record, base) in [("create", "u", 0), ("update", "t", 1)] {
            let mut bare = task(&format!("m{n}{action}"), action, record, base, "");
            bare["data"] = data.clone();
            let results = ann.push(&[bare]).await;
            assert_eq!(results[0]["code"], "invalid", "{data}");
            assert!(results[0]["message"].as_str().unwrap().contains("site"));
        }
    }
    let results = ann.push(&[task("m9", "update", "t", 1, "south")]).await;
    assert_eq!(results[0]["status"], "success", "one may move one's own");
    assert!(server.member("bob", &["north"]).records().await[0]["deleted"] == true);
    assert_eq!(
        server.member("carl", &["south"]).records().await[0]["id"],
        "t"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_assignment_opens_and_closes_at_the_next_request() {
    let (server, store) = TestServer::shared().await;
    let ann = server.member("ann", &["north"]);
    ann.push(&[
        task("m1", "create", "t", 0, "north"),
        task("m2", "update", "t", 1, "north"),
    ])
    .await;
    let (name, north) = (UserId::new("bob").unwrap(), EntityId::new("north").unwrap());
    let bob = server.client("bob");
    let empty = bob.pull("").await;
    store.assign(&name, &north).await.unwrap();

    let since = empty["checkpoint"].as_str().unwrap();
    let page = bob.pull(&format!("?since={since}")).await;
    assert_eq!(page["changes"][0]["id"], "t", "from the entity's beginning");
    let stale = task("b1", "update", "t", 1, "north");
    let conflict = bob.push(std::slice::from_ref(&stale)).await;
    assert_eq!(conflict[0]["status"], "conflict");
    assert_eq!(bob.status().await["conflicts"], 1);

    store.unassign(&name, &north).await.unwrap();
    let since = page["checkpoint"].as_str().unwrap();
    let gone = bob
        .get(&format!("/pull?since={since}"))
        .send()
        .await
        .unwrap();
    problem(gone, 410, "checkpoint-unknown").await;
    assert!(bob.records().await.is_empty());
    // Neither a repeat nor the log tells what is closed now.
    let repeat = bob.push(&[stale]).await;
    assert_eq!(repeat[0]["code"], "forbidden");
    assert!(repeat[0].get("data").is_none());
    assert_eq!(bob.status().await["conflicts"], 0);
    let log = bob.get("/conflicts").send().await.unwrap();
    assert_eq!(log.json::<Value>().await.unwrap()["conflicts"], json!([]));
    let resolve = bob.post("/resolve").json(&json!({
        "conflictId": conflict[0]["conflictId"], "choice": "local",
    }));
    problem(resolve.send().await.unwrap(), 404, "not-found").await;
    assert_eq!(ann.records().await[0]["versionNumber"], 2);
}

/// A checkpoint is a place, not a key.
#[tokio::test(flavor = "multi_thread")]
async fn anothers_checkpoint_opens_nothing() {
    let (server, _store) = TestServer::shared().await;
    let ann = server.member("ann", &["north"]);
    ann.push(&[create("m1", "a"), task("m2", "create", "t", 0, "north")])
        .await;
    let page = ann.pull("?limit=1").await;
    let since = page["checkpoint"].as_str().unwrap();
    for other in [
        server.client("bob"),
        server.member("ann", &[]),
        server.member("bob", &["north"]),
    ] {
        let response = other
            .get(&format!("/pull?since={since}"))
            .send()
            .await
            .unwrap();
        if response.status() == 200 {
            // Ann herself, who had not come to the site yet.
            let page: Value = response.json().await.unwrap();
            assert_eq!(page["changes"], json!([]));
        } else {
            problem(response, 410, "checkpoint-unknown").await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn more_entities_than_a_user_may_have_are_refused() {
    let (server, store) = TestServer::shared().await;
    let names: Vec<_> = (0..limits::ENTITIES_MAX).map(|n| format!("e{n}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let ann = server.member("ann", &names);
    let batch = names[..100]
        .iter()
        .map(|name| task(name, "create", name, 0, name));
    ann.push(&batch.collect::<Vec<_>>()).await;
    let page = ann.pull("?limit=1000").await;
    assert_eq!(page["changes"].as_array().unwrap().len(), 100);
    let since = page["checkpoint"].as_str().unwrap();
    let again = ann.pull(&format!("?since={since}")).await;
    assert_eq!(again["changes"], json!([]));
    assert_eq!(again["checkpoint"], since);
    // One more by assignment.
    let (name, more) = (UserId::new("ann").unwrap(), EntityId::new("more").unwrap());
    store.assign(&name, &more).await.unwrap();
    let response = ann.get("/status").send().await.unwrap();
    problem(response, 403, "forbidden").await;
}

/// What is not configured as shared is private, whatever its fields say.
#[tokio::test(flavor = "multi_thread")]
async fn an_unconfigured_type_is_private() {
    let (server, _store) = TestServer::shared().await;
    let (ann, bob) = (
        server.member("ann", &["north"]),
        server.member("bob", &["north"]),
    );
    let mut note = change("m1", "create", "n", 0);
    note["data"]["site"] = json!("north");
    ann.push(&[note]).await;
    assert!(bob.records().await.is_empty());
}
