//! What the running server deletes by itself, and a client that comes late.

use landfall_server::Config;
use landfall_server::retention::Retention;
use landfall_server::store::sqlite::Location;
use serde_json::json;

use crate::harness::{TestServer, change, create, problem, secret};

/// A database in which `a` was created and `gone` created and deleted before the server was young;
/// the checkpoint of a client that has pulled in between.
async fn old_database(path: &std::path::Path) -> String {
    let server = TestServer::on(path).await;
    let client = server.client("ann");
    client
        .push(&[create("m1", "a"), create("m2", "gone")])
        .await;
    let page = client.pull("").await;
    client.push(&[change("m3", "delete", "gone", 1)]).await;
    server.stop().await;
    page["checkpoint"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_purges_and_a_late_client_begins_anew() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    let late = old_database(&path).await;
    let keep = |past| Config {
        retention: Retention {
            past,
            ..Retention::default()
        },
        ..Config::new(Location::File(path.clone()), secret())
    };
    // For ever: not in two seconds, at least, in which the other one is done.
    let wait = std::time::Duration::from_millis(100);
    for (retention, left) in [(None, 2), (Some(std::time::Duration::ZERO), 1)] {
        let server = TestServer::with(keep(retention)).await;
        let client = server.client("ann");
        let mut records = client.records().await;
        for _ in 0..if left == 2 { 15 } else { 600 } {
            if records.len() == 1 {
                break;
            }
            tokio::time::sleep(wait).await;
            records = client.records().await;
        }
        assert_eq!(records.len(), left, "{records:?}");
        server.stop().await;
    }

    let server = TestServer::with(keep(None)).await;
    let client = server.client("ann");
    let response = client.get(&format!("/pull?since={late}")).send().await;
    problem(response.unwrap(), 410, "checkpoint-unknown").await;
    assert_eq!(client.records().await[0]["id"], "a");
    // Its queued mutation is judged by its version, like one of somebody who was never away.
    let results = client.push(&[change("late", "update", "a", 1)]).await;
    assert_eq!(results[0]["versionNumber"], 2);
    // What took effect so long ago that it is forgotten has no second effect.
    let results = client
        .push(&[create("m1", "a"), change("m3", "delete", "gone", 1)])
        .await;
    assert_eq!(results[0]["status"], "conflict");
    assert_eq!(
        (&results[1]["status"], &results[1]["versionNumber"]),
        (&json!("success"), &json!(0))
    );
    assert_eq!(client.status().await["conflicts"], 1);
    server.stop().await;
}
