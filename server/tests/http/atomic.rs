//! `?atomic=true`: all or nothing.

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
