use serde_json::json;

use crate::harness::{TestServer, change, create, statuses};

#[tokio::test(flavor = "multi_thread")]
async fn two_users_share_nothing() {
    let server = TestServer::in_memory().await;
    let (ann, bob) = (server.client("ann"), server.client("bob"));
    ann.push(&[create("m1", "a"), change("m2", "update", "a", 1)])
        .await;
    ann.push(&[change("m3", "update", "a", 1)]).await;

    // Pull and status.
    assert!(bob.records().await.is_empty());
    assert_eq!(bob.status().await["conflicts"], 0);
    assert_eq!(ann.status().await["conflicts"], 1);

    // Pushes onto the other's ids: the record does not exist for bob.
    let results = bob
        .push(&[
            change("b1", "update", "a", 2),
            change("b2", "delete", "a", 2),
        ])
        .await;
    assert_eq!(statuses(&results), ["failed", "success"]);
    assert_eq!(results[0]["code"], "not-found");
    assert_eq!(results[1]["versionNumber"], 0);
    // The other's mutation ids are not taken.
    let results = bob.push(&[create("m1", "a")]).await;
    assert_eq!(
        (&results[0]["status"], &results[0]["versionNumber"]),
        (&json!("success"), &json!(1))
    );
    let results = bob.push(&[create("b3", "a")]).await;
    assert_eq!(results[0]["data"], json!({"by": "m1"}), "bob's own record");

    let anns = ann.records().await;
    assert_eq!(anns.len(), 1);
    assert_eq!(anns[0]["data"], json!({"by": "m2"}));
    assert_eq!(ann.status().await["conflicts"], 1);
    assert_eq!(bob.status().await["conflicts"], 1);
}
