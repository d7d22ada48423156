use serde_json::{Value, json};

use crate::harness::{TestServer, change, create, gzip, statuses};

#[tokio::test(flavor = "multi_thread")]
async fn results_come_in_order_each_with_its_own_fate() {
    let server = TestServer::in_memory().await;
    let client = server.client("ann");
    let mut nameless = create("m3", "");
    nameless["serverId"] = Value::Null;
    let mut bare = create("m5", "b");
    bare.as_object_mut().unwrap().remove("data");
    let results = client
        .push(&[
            create("m1", "a"),
            change("m2", "update", "missing", 1),
            nameless,
            change("m4", "update", "a", 1),
            bare,
            change("m6", "update", "a", 1),
            change("m7", "delete", "a", 2),
            change("m8", "delete", "never", 0),
        ])
        .await;
    assert_eq!(
        statuses(&results),
        [
            "success", "failed", "failed", "success", "failed", "conflict", "success", "success"
        ]
    );
    assert_eq!(
        (&results[0]["versionNumber"], &results[0]["serverId"]),
        (&json!(1), &json!("a"))
    );
    assert_eq!(results[1]["code"], "not-found");
    assert_eq!(results[2]["code"], "invalid");
    assert_eq!(results[4]["code"], "invalid");
    assert_eq!(results[4]["retryable"], false);
    assert!(results[4]["message"].as_str().unwrap().contains("data"));
    assert_eq!(results[5]["versionNumber"], 2);
    assert_eq!(results[6]["versionNumber"], 3);
    assert_eq!(results[7]["versionNumber"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conflict_answers_with_the_servers_record() {
    let server = TestServer::in_memory().await;
    let client = server.client("ann");
    let mut newer = change("m2", "update", "a", 1);
    newer["at"] = json!("1763690000001-0000-c2");
    client.push(&[create("m1", "a"), newer]).await;
    let results = client
        .push(&[change("m3", "update", "a", 1), create("m4", "a")])
        .await;
    for result in &results {
        assert_eq!(result["status"], "conflict");
        assert_eq!(result["versionNumber"], 2);
        assert_eq!(result["data"], json!({"by": "m2"}));
        assert_eq!(result["at"], "1763690000001-0000-c2");
        assert!(result.get("deleted").is_none());
    }
    assert_eq!(client.status().await["conflicts"], 2);

    client.push(&[change("m5", "delete", "a", 2)]).await;
    let results = client.push(&[change("m6", "update", "a", 2)]).await;
    assert_eq!(results[0]["status"], "conflict");
    assert_eq!(results[0]["deleted"], true);
    assert_eq!(results[0]["versionNumber"], 3);
    assert!(results[0].get("data").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tombstone_gives_way_to_its_author_or_its_version() {
    let server = TestServer::in_memory().await;
    let (one, two) = (server.client("ann"), server.client("ann").named("c2"));
    one.push(&[create("m1", "a"), change("m2", "delete", "a", 1)])
        .await;
    let results = two.push(&[create("m3", "a")]).await;
    assert_eq!(
        (&results[0]["status"], &results[0]["deleted"]),
        (&json!("conflict"), &json!(true))
    );
    assert_eq!(
        statuses(&two.push(&[change("m4", "create", "a", 2)]).await),
        ["success"]
    );
    two.push(&[change("m5", "delete", "a", 3)]).await;
    assert_eq!(
        statuses(&one.push(&[create("m6", "a")]).await),
        ["conflict"]
    );
    let results = two.push(&[create("m7", "a")]).await;
    assert_eq!(
        (&results[0]["status"], &results[0]["versionNumber"]),
        (&json!("success"), &json!(5))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partial_update_touches_only_the_named_fields() {
    let server = TestServer::in_memory().await;
    let client = server.client("ann");
    let mut first = create("m1", "a");
    first["data"] = json!({"name": "x", "score": 1, "note": "n"});
    let mut second = change("m2", "update", "a", 1);
    second["data"] = json!({"score": 2, "name": "not named"});
    second["changed"] = json!(["score", "note"]);
    let results = client.push(&[first, second]).await;
    assert_eq!(statuses(&results), ["success", "success"]);
    assert!(results[1].get("data").is_none());
    assert_eq!(
        client.records().await[0]["data"],
        json!({"name": "x", "score": 2})
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_gets_the_first_answer_also_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("db");
    let server = TestServer::on(&file).await;
    let client = server.client("ann");
    client.push(&[create("m0", "a")]).await;
    let batch = [
        change("m1", "update", "a", 1),
        change("m2", "update", "a", 1),
        change("m3", "update", "missing", 1),
        create("m4", "b"),
        change("m5", "delete", "b", 1),
    ];
    let first = client.push(&batch).await;
    // By another client: of its own, the conflict would be settled by that.
    client
        .named("c2")
        .push(&[create("m6", "missing"), change("m7", "update", "a", 2)])
        .await;
    let records = client.records().await;
    assert_eq!(client.push(&batch).await, first);
    assert_eq!(client.records().await, records);
    server.stop().await;

    let server = TestServer::on(&file).await;
    let client = server.client("ann");
    assert_eq!(client.push(&batch).await, first);
    assert_eq!(client.records().await, records);
    assert_eq!(client.status().await["conflicts"], 1);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn eight_duplicates_at_once_take_effect_once() {
    let folder = tempfile::tempdir().unwrap();
    let server = TestServer::on(&folder.path().join("db")).await;
    let client = server.client("ann");
    client.push(&[create("m0", "shared")]).await;
    let mut batch: Vec<_> = (0..50)
        .map(|n| create(&format!("c{n}"), &format!("r{n}")))
        .collect();
    batch.push(change("u1", "update", "shared", 1));
    batch.push(change("u2", "update", "shared", 1));
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let (client, batch) = (client.clone(), batch.clone());
            tokio::spawn(async move { client.push(&batch).await })
        })
        .collect();
    let mut answers = Vec::new();
    for task in tasks {
        answers.push(task.await.unwrap());
    }
    assert!(answers.iter().all(|answer| *answer == answers[0]));
    let records = client.records().await;
    assert_eq!(records.len(), 51);
    let raised = records
        .iter()
        .filter(|record| record["versionNumber"] != 1)
        .count();
    assert_eq!(raised, 1);
    assert_eq!(client.status().await["conflicts"], 1);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn gzip_goes_both_ways_and_data_comes_back_as_it_was() {
    let server = TestServer::in_memory().await;
    let client = server.client("ann");
    let data = format!(
        r#"{{"z":1.10,"a":12345678901234567890123,"t":"{}"}}"#,
        "ü".repeat(5000)
    );
    let body = format!(
        r#"{{"protocol":1,"clientId":"c1","unknown":[],"changes":[{{"id":"m1","type":"sites",
            "action":"create","offlineId":"a","versionNumber":0,"data":{data},
            "at":"1763690000000-0000-c1","group":"g","new":true}}]}}"#
    );
    let sent = client
        .post("/batch")
        .header("content-encoding", "gzip")
        .body(gzip(body.as_bytes()));
    assert_eq!(sent.send().await.unwrap().status(), 200);

    let plain = reqwest::Client::builder().gzip(false).build().unwrap();
    let ask = |encoding: &str| {
        let request = plain
            .get(format!("{}/pull", client.api))
            .bearer_auth(&client.token);
        request.header("accept-encoding", encoding).send()
    };
    let answer = ask("gzip").await.unwrap();
    assert_eq!(answer.headers()["content-encoding"], "gzip");
    assert!(answer.bytes().await.unwrap().len() < 2000);
    let answer = ask("identity").await.unwrap();
    assert!(answer.headers().get("content-encoding").is_none());
    assert!(answer.text().await.unwrap().contains(&data));
}
