use std::collections::HashMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{Client, TestServer, change, create, problem};

#[tokio::test(flavor = "multi_thread")]
async fn pages_go_on_where_the_last_one_ended() {
    let server = TestServer::in_memory().await;
    let client = server.client("ann");
    let empty = client.pull("").await;
    assert_eq!(
        (&empty["changes"], &empty["hasMore"]),
        (&json!([]), &json!(false))
    );
    let batch: Vec<_> = (0..7)
        .map(|n| create(&format!("m{n}"), &format!("r{n}")))
        .collect();
    client.push(&batch).await;
    let (mut seen, mut since) = (Vec::new(), empty["checkpoint"].as_str().unwrap().to_owned());
    loop {
        let page = client.pull(&format!("?limit=3&since={since}")).await;
        let changes = page["changes"].as_array().unwrap();
        assert!(changes.len() <= 3);
        seen.extend(
            changes
                .iter()
                .map(|change| change["id"].as_str().unwrap().to_owned()),
        );
        since = page["checkpoint"].as_str().unwrap().into();
        if page["hasMore"] == false {
            break;
        }
    }
    assert_eq!(seen, ["r0", "r1", "r2", "r3", "r4", "r5", "r6"]);
    assert_eq!(client.status().await["checkpoint"], since);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_is_pulled_as_a_tombstone() {
    let server = TestServer::in_memory().await;
    let client = server.client("ann");
    client.push(&[create("m1", "a"), create("m2", "b")]).await;
    let since = client.pull("").await["checkpoint"]
        .as_str()
        .unwrap()
        .to_owned();
    client.push(&[change("m3", "delete", "a", 1)]).await;
    let page = client.pull(&format!("?since={since}")).await;
    let expected = json!([{"type": "sites", "id": "a", "versionNumber": 2, "deleted": true,
                           "at": "1763690000000-0000-c1"}]);
    assert_eq!(page["changes"], expected);
    // From the beginning as well: whoever has the record locally must learn of it.
    assert_eq!(client.records().await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn types_filter() {
    let server = TestServer::in_memory().await;
    let client = server.client("ann");
    let mut block = create("m2", "b1");
    block["type"] = json!("blocks");
    client.push(&[create("m1", "a"), block]).await;
    let page = client.pull("?types=sites,nothing").await;
    assert_eq!(page["changes"].as_array().unwrap().len(), 1);
    assert_eq!(page["changes"][0]["type"], "sites");
    let since = page["checkpoint"].as_str().unwrap();
    assert_eq!(
        client.pull(&format!("?since={since}")).await["changes"],
        json!([])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_checkpoints_are_gone() {
    let (server, other) = (TestServer::in_memory().await, TestServer::in_memory().await);
    let (client, elsewhere) = (server.client("ann"), other.client("ann"));
    for client in [&client, &elsewhere] {
        client.push(&[create("m1", "a")]).await;
    }
    let theirs = elsewhere.pull("").await["checkpoint"]
        .as_str()
        .unwrap()
        .to_owned();
    for since in [theirs.as_str(), "", "nonsense", "a.b", "%00", "9999999999"] {
        let response = client
            .get(&format!("/pull?since={since}"))
            .send()
            .await
            .unwrap();
        problem(response, 410, "checkpoint-unknown").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_queries_are_malformed() {
    let server = TestServer::in_memory().await;
    let client = server.client("ann");
    for (query, place) in [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=x", "limit"),
        ("types=", "types"),
        ("types=a,,b", "types"),
        ("limit=1&limit=2", "limit"),
    ] {
        let response = client.get(&format!("/pull?{query}")).send().await.unwrap();
        let detail = problem(response, 400, "malformed").await;
        assert!(detail.contains(place), "{query}: {detail}");
    }
}

/// Eight writers create, update and delete; a reader goes on from checkpoint to checkpoint. It must
/// never see a change twice nor an older state after a newer one, and in the end it must hold what
/// the server holds: a skipped row would be missing.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_reader_beside_eight_writers_misses_nothing_and_sees_nothing_twice() {
    const WRITERS: usize = 8;
    let folder = tempfile::tempdir().unwrap();
    let server = TestServer::on(&folder.path().join("db")).await;
    let client = server.client("ann");
    let writers: Vec<_> = (0..WRITERS)
        .map(|n| tokio::spawn(write(client.named(&format!("w{n}")), n)))
        .collect();
    let mut replica: HashMap<String, Value> = HashMap::new();
    let mut since = String::new();
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        let finished = writers.iter().all(tokio::task::JoinHandle::is_finished);
        let page = client.pull(&format!("?limit=5{since}")).await;
        for change in page["changes"].as_array().unwrap() {
            let id = change["id"].as_str().unwrap().to_owned();
            let version = change["versionNumber"].as_u64().unwrap();
            if let Some(old) = replica.insert(id, change.clone()) {
                let before = old["versionNumber"].as_u64().unwrap();
                assert!(version > before, "{version} of {change} after {before}");
            }
        }
        since = format!("&since={}", page["checkpoint"].as_str().unwrap());
        if finished && page["hasMore"] == false {
            break;
        }
        assert!(Instant::now() < deadline, "the reader never caught up");
    }
    for writer in writers {
        writer.await.unwrap();
    }
    let truth = client.records().await;
    assert_eq!(truth.len(), WRITERS * 20);
    assert_eq!(replica.len(), truth.len());
    for record in truth {
        assert_eq!(replica[record["id"].as_str().unwrap()], record);
    }
    server.stop().await;
}

async fn write(client: Client, writer: usize) {
    for n in 0..20 {
        let record = format!("{writer}-{n}");
        client.push(&[create(&format!("c{record}"), &record)]).await;
        if n > 1 {
            // One of its older records, first at version 1, then at 2.
            let (old, base) = (format!("{writer}-{}", n / 2), 1 + n as u64 % 2);
            client
                .push(&[change(&format!("u{record}"), "update", &old, base)])
                .await;
        }
        if n % 5 == 4 {
            client
                .push(&[change(&format!("d{record}"), "delete", &record, 1)])
                .await;
        }
    }
}
