//! `?atomic=true`, and the changes of one `group`: all or nothing.

use serde_json::{Value, json};

use crate::harness::{Client, TestServer, change, create, problem, statuses};

async fn together(client: &Client, changes: &[Value]) -> Vec<Value> {
    let request = client
        .post("/batch?atomic=true")
        .json(&client.batch(changes));
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), 200);
    let mut answer: Value = response.json().await.unwrap();
    let Value::Array(results) = answer["results"].take() else {
        panic!("{answer}")
    };
    results
}

#[tokio::test(flavor = "multi_thread")]
async fn all_take_effect_or_none() {
    let server = TestServer::in_memory().await;
    let client = server.client("ann");
    let results = together(
        &client,
        &[create("m1", "a"), change("m2", "update", "a", 1)],
    )
    .await;
    assert_eq!(statuses(&results), ["success", "success"]);

    let batch = [
        create("m3", "b"),
        change("m4", "update", "a", 1),
        create("m5", "c"),
    ];
    let results = together(&client, &batch).await;
    assert_eq!(statuses(&results), ["failed", "conflict", "failed"]);
    for result in [&results[0], &results[2]] {
        assert_eq!(
            (&result["code"], &result["retryable"]),
            (&json!("aborted"), &json!(true))
        );
    }
    assert_eq!(client.records().await.len(), 1);
    assert_eq!(together(&client, &batch).await, results, "a repeat");
    assert_eq!(client.status().await["conflicts"], 1);
    // The aborted ones are free to be sent again, the refused one has had its answer.
    assert_eq!(
        statuses(&client.push(&batch).await),
        ["success", "conflict", "success"]
    );
    assert_eq!(client.records().await.len(), 3);
}

/// A change that is not even valid spoils the batch like one that is refused by the store.
#[tokio::test(flavor = "multi_thread")]
async fn an_invalid_change_stops_the_others() {
    let server = TestServer::in_memory().await;
    let client = server.client("ann");
    client.push(&[create("m0", "z")]).await;
    let mut bad = create("m2", "b");
    bad["data"] = json!([1]);
    let batch = [create("m1", "a"), bad, create("m0", "z")];
    let results = together(&client, &batch).await;
    assert_eq!(
        statuses(&results),
        ["failed", "failed", "success"],
        "the last was there before"
    );
    assert_eq!(
        (&results[0]["code"], &results[1]["code"]),
        (&json!("aborted"), &json!("invalid"))
    );
    assert_eq!(client.records().await.len(), 1);
    assert_eq!(together(&client, &batch[..1]).await[0]["status"], "success");
    assert_eq!(together(&client, &[]).await, Vec::<Value>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn atomic_is_true_or_false() {
    let server = TestServer::in_memory().await;
    let client = server.client("ann");
    let send = |query: &str| {
        let request = client.post(&format!("/batch?{query}"));
        request.json(&client.batch(&[create("m1", "a")])).send()
    };
    for wrong in [
        "atomic=yes",
        "atomic=",
        "atomic=1",
        "atomic=true&atomic=true",
    ] {
        let detail = problem(send(wrong).await.unwrap(), 400, "malformed").await;
        assert!(detail.contains("atomic"), "{wrong}: {detail}");
    }
    assert!(client.records().await.is_empty());
    assert_eq!(send("atomic=false").await.unwrap().status(), 200);
}

fn in_group(group: Value, mut change: Value) -> Value {
    change["group"] = group;
    change
}

/// Of three transactions in a batch one is refused: as a whole, and it alone.
#[tokio::test(flavor = "multi_thread")]
async fn a_group_takes_effect_or_does_not() {
    let server = TestServer::in_memory().await;
    let client = server.client("ann");
    let mut bad = create("m6", "f");
    bad["data"] = json!([1]);
    let batch = [
        create("m1", "a"),
        in_group(json!("m2"), create("m2", "b")),
        in_group(json!("m2"), change("m3", "update", "a", 7)),
        in_group(json!("m2"), create("m4", "d")),
        in_group(json!("m5"), create("m5", "e")),
        in_group(json!("m5"), bad),
        in_group(json!("m7"), create("m7", "g")),
        in_group(json!("m7"), change("m8", "update", "g", 1)),
        in_group(Value::Null, create("m9", "h")),
    ];
    let results = client.push(&batch).await;
    let expected = [
        "success", "failed", "conflict", "failed", "failed", "failed", "success", "success", "success",
    ];
    assert_eq!(statuses(&results), expected);
    let codes: Vec<_> = [1, 3, 4, 5].map(|n| results[n]["code"].clone()).into();
    assert_eq!(codes, ["aborted", "aborted", "aborted", "invalid"]);
    assert_eq!(client.records().await.len(), 3, "a, g and h");
    assert_eq!(client.push(&batch).await, results, "a repeat");

    // Put right, it takes effect as a whole, what was aborted under its old id.
    let cured = [
        in_group(json!("m2"), create("m2", "b")),
        in_group(json!("m2"), change("m10", "update", "a", 1)),
        in_group(json!("m2"), create("m4", "d")),
    ];
    assert_eq!(statuses(&client.push(&cured).await), ["success"; 3]);
    assert_eq!(client.records().await.len(), 5);
}

/// What one change alone has as its group says nothing, and groups of other users are others.
#[tokio::test(flavor = "multi_thread")]
async fn a_group_of_one_is_none() {
    let server = TestServer::in_memory().await;
    let client = server.client("ann");
    let batch = [
        in_group(json!("g"), create("m1", "a")),
        create("m2", "b"),
        in_group(json!("g"), change("m3", "update", "none", 1)),
    ];
    let results = client.push(&batch).await;
    assert_eq!(statuses(&results), ["success", "success", "failed"]);
    assert_eq!(results[2]["code"], json!("not-found"));
    let mut wrong = client.batch(&batch);
    wrong["changes"][0]["group"] = json!(7);
    let response = client.post("/batch").json(&wrong).send().await.unwrap();
    problem(response, 400, "malformed").await;
}
