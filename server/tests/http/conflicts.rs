//! The conflict log over HTTP, and how its entries are settled.

use serde_json::{Value, json};

use crate::harness::{Client, TestServer, change, create, problem, task};

/// A record at version 2, and the result of a change that was made on version 1.
async fn collide(client: &Client) -> Value {
    client
        .push(&[create("m1", "a"), change("m2", "update", "a", 1)])
        .await;
    client
        .push(&[change("m3", "update", "a", 1)])
        .await
        .remove(0)
}

async fn resolve(client: &Client, body: &Value) -> reqwest::Response {
    client.post("/resolve").json(body).send().await.unwrap()
}

async fn log(client: &Client, query: &str) -> Value {
    let response = client
        .get(&format!("/conflicts{query}"))
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 200);
    response.json().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conflict_is_in_the_log_until_it_is_settled() {
    let server = TestServer::in_memory().await;
    let client = server.client("ann");
    let result = collide(&client).await;
    let id = result["conflictId"].as_str().unwrap();
    let logged = log(&client, "").await;
    assert_eq!(logged["hasMore"], false);
    let mut entry = logged["conflicts"][0].clone();
    let detected = entry["detectedAt"].take();
    assert!(detected.as_str().unwrap().ends_with('Z'));
    let expected = json!({
        "conflictId": id, "type": "sites", "id": "a", "mutation": "m3", "action": "update",
        "base": 1, "versionNumber": 2, "local": {"by": "m3"}, "remote": {"by": "m2"},
        "deleted": false, "clientId": "c1", "detectedAt": null, "outcome": "open",
    });
    assert_eq!(entry, expected);

    let local = json!({"conflictId": id, "choice": "local"});
    for _ in 0..2 {
        let response = resolve(&client, &local).await;
        assert_eq!(response.status(), 200);
        let answer: Value = response.json().await.unwrap();
        assert_eq!(
            answer,
            json!({"conflictId": id, "choice": "local", "versionNumber": 3})
        );
    }
    assert_eq!(client.records().await[0]["data"], json!({"by": "m3"}));
    assert_eq!(client.status().await["conflicts"], 0);
    assert_eq!(log(&client, "").await["conflicts"][0]["outcome"], "local");
    let other = json!({"conflictId": id, "choice": "remote"});
    let detail = problem(resolve(&client, &other).await, 409, "already-settled").await;
    assert!(detail.contains("local"));
    // The client that the conflict was answered to gets the same answer to a repeat.
    let repeat = client.push(&[change("m3", "update", "a", 1)]).await;
    assert_eq!(repeat[0], result);
}

#[tokio::test(flavor = "multi_thread")]
async fn merged_needs_a_record() {
    let server = TestServer::in_memory().await;
    let client = server.client("ann");
    let id = collide(&client).await["conflictId"].take();
    let mut body = json!({"conflictId": id, "choice": "merged"});
    problem(resolve(&client, &body).await, 400, "malformed").await;
    body["data"] = json!([1]);
    problem(resolve(&client, &body).await, 422, "invalid").await;
    body["data"] = json!({"by": "both"});
    assert_eq!(resolve(&client, &body).await.status(), 200);
    assert_eq!(resolve(&client, &body).await.status(), 200);
    body["data"] = json!({"by": "else"});
    problem(resolve(&client, &body).await, 409, "already-settled").await;
    assert_eq!(client.records().await[0]["data"], json!({"by": "both"}));
}

/// A foreign id and one that does not exist get the same answer, byte for byte.
#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_conflict_is_not_told_from_none() {
    let (server, _store) = TestServer::shared().await;
    let ann = server.member("ann", &["north"]);
    let private = collide(&ann).await["conflictId"].take();
    ann.push(&[task("t1", "create", "t", 0, "north")]).await;
    let shared = ann.push(&[task("t2", "create", "t", 0, "north")]).await;
    let shared = shared[0]["conflictId"].clone();
    let before = ann.records().await;
    // Bob may change the shared record, but the conflict is Ann's.
    for other in [server.member("bob", &["north"]), server.client("mallory")] {
        let mut answers = Vec::new();
        for id in [
            &private,
            &shared,
            &json!("999999"),
            &json!("0"),
            &json!("x"),
            &json!("01"),
        ] {
            for choice in ["local", "remote", "merged"] {
                let data = json!({"site": "north"});
                let body = json!({"conflictId": id, "choice": choice, "data": data});
                let response = resolve(&other, &body).await;
                assert_eq!(response.status(), 404);
                answers.push(response.text().await.unwrap());
            }
        }
        assert!(
            answers.windows(2).all(|pair| pair[0] == pair[1]),
            "{answers:?}"
        );
        assert_eq!(log(&other, "").await["conflicts"], json!([]));
        assert_eq!(log(&other, "?after=1").await["conflicts"], json!([]));
    }
    assert_eq!(ann.records().await, before);
    assert_eq!(ann.status().await["conflicts"], 2);
}

/// A resolution is a write like any other: it cannot reach into what is closed.
#[tokio::test(flavor = "multi_thread")]
async fn a_resolution_is_no_way_past_the_rules() {
    let (server, _store) = TestServer::shared().await;
    let both = server.member("ann", &["north", "south"]);
    let less = server.member("ann", &["north"]);
    both.push(&[task("t1", "create", "t", 0, "north")]).await;
    let conflict = both.push(&[task("t2", "create", "t", 0, "north")]).await;
    let body = |choice: &str, site: &str| json!({"conflictId": conflict[0]["conflictId"], "choice": choice, "data": {"site": site}});
    problem(
        resolve(&less, &body("merged", "south")).await,
        403,
        "forbidden",
    )
    .await;
    problem(resolve(&less, &body("merged", "")).await, 422, "invalid").await;
    both.named("c2")
        .push(&[task("t3", "update", "t", 1, "south")])
        .await;
    problem(resolve(&less, &body("local", "")).await, 403, "forbidden").await;
    problem(
        resolve(&less, &body("merged", "north")).await,
        403,
        "forbidden",
    )
    .await;
    let records = server.member("bob", &["south"]).records().await;
    assert_eq!(records[0]["versionNumber"], 3);
    assert_eq!(resolve(&both, &body("local", "")).await.status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_has_pages() {
    let server = TestServer::in_memory().await;
    let client = server.client("ann");
    client.push(&[create("m", "a")]).await;
    let stale: Vec<_> = (0..5).map(|n| create(&format!("m{n}"), "a")).collect();
    client.push(&stale).await;
    let (mut seen, mut after) = (Vec::new(), String::new());
    loop {
        let page = log(&client, &format!("?limit=2{after}")).await;
        let conflicts = page["conflicts"].as_array().unwrap();
        seen.extend(conflicts.iter().map(|entry| entry["mutation"].clone()));
        if page["hasMore"] == false {
            break;
        }
        let last = conflicts.last().unwrap()["conflictId"].as_str().unwrap();
        after = format!("&after={last}");
    }
    assert_eq!(json!(seen), json!(["m0", "m1", "m2", "m3", "m4"]));
    for wrong in [
        "limit=0",
        "limit=101",
        "limit=x",
        "after=x",
        "after=-1",
        "limit=1&limit=1",
    ] {
        let response = client
            .get(&format!("/conflicts?{wrong}"))
            .send()
            .await
            .unwrap();
        problem(response, 400, "malformed").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_resolutions_are_told() {
    let server = TestServer::in_memory().await;
    let client = server.client("ann");
    for (body, place) in [
        (json!([]), "invalid"),
        (json!({"choice": "local"}), "conflictId"),
        (json!({"conflictId": 7, "choice": "local"}), "conflictId"),
        (json!({"conflictId": "7"}), "choice"),
        (json!({"conflictId": "7", "choice": "mine"}), "choice"),
    ] {
        let detail = problem(resolve(&client, &body).await, 400, "malformed").await;
        assert!(detail.contains(place), "{detail} should name {place}");
    }
    let bare = client
        .http
        .post(format!("{}/resolve", client.api))
        .json(&json!({}));
    problem(bare.send().await.unwrap(), 401, "unauthorized").await;
    let bare = client.http.get(format!("{}/conflicts", client.api));
    problem(bare.send().await.unwrap(), 401, "unauthorized").await;
}
