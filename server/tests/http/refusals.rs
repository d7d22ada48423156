use std::time::Duration;

use landfall_server::ids::UserId;
use landfall_server::limits;
use landfall_server::token::{Secret, Tokens};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{
    Client, SECRET, TestServer, change, create, gzip, now_s, problem, statuses, token,
};

async fn post(client: &Client, body: impl Into<reqwest::Body>) -> reqwest::Response {
    client.post("/batch").body(body).send().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn only_our_valid_tokens_are_let_in() {
    let server = TestServer::in_memory().await;
    let good = server.client("ann");
    let user = UserId::new("ann").unwrap();
    let other = Tokens::new(&Secret::new(SECRET.to_uppercase()).unwrap());
    let parts: Vec<_> = good.token.split('.').collect();
    // {"alg":"none","typ":"JWT"}
    let none = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0";
    let expired = Tokens::new(&Secret::new(SECRET).unwrap())
        .issue(&user, now_s() - 60)
        .unwrap();
    let wrong = [
        String::new(),
        "nonsense".into(),
        other.issue(&user, now_s() + 600).unwrap(),
        format!("{none}.{}.", parts[1]),
        format!("{none}.{}.{}", parts[1], parts[2]),
        format!("{}.{}.", parts[0], parts[1]),
        format!(
            "{}.{}.{}",
            parts[0],
            token("bob").split('.').nth(1).unwrap(),
            parts[2]
        ),
        expired.clone(),
    ];
    for token in &wrong {
        let client = Client {
            token: token.clone(),
            ..good.clone()
        };
        for request in [
            client.get("/pull"),
            client.get("/status"),
            client.post("/batch"),
        ] {
            let response = request.send().await.unwrap();
            assert_eq!(response.headers()["www-authenticate"], "Bearer");
            let detail = problem(response, 401, "unauthorized").await;
            assert_eq!(detail.contains("expired"), *token == expired, "{detail}");
        }
    }
    let bare = good.http.get(format!("{}/pull", good.api));
    problem(bare.send().await.unwrap(), 401, "unauthorized").await;
    let basic = good
        .http
        .get(format!("{}/pull", good.api))
        .basic_auth("ann", Some("x"));
    problem(basic.send().await.unwrap(), 401, "unauthorized").await;
    assert!(good.records().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn too_much_is_too_large_and_nothing_of_it_is_applied() {
    let server = TestServer::in_memory().await;
    let client = server.client("ann");
    let mut batch: Vec<_> = (0..101)
        .map(|n| create(&format!("m{n}"), &format!("r{n}")))
        .collect();
    let response = post(&client, client.batch(&batch).to_string()).await;
    problem(response, 413, "too-large").await;
    assert!(client.records().await.is_empty());
    batch.pop();
    assert_eq!(client.push(&batch).await.len(), 100);

    let mut big = create("big", "big");
    big["data"] = json!({"a": "x".repeat(limits::BODY_BYTES_MAX)});
    let body = client.batch(&[big]).to_string();
    problem(post(&client, body.clone()).await, 413, "too-large").await;
    let packed = client
        .post("/batch")
        .header("content-encoding", "gzip")
        .body(gzip(body.as_bytes()));
    problem(packed.send().await.unwrap(), 413, "too-large").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn gzip_bombs_are_too_large() {
    let server = TestServer::in_memory().await;
    let client = server.client("ann");
    let bomb = gzip(&vec![b' '; 64 << 20]);
    assert!(bomb.len() < limits::BODY_BYTES_MAX);
    let send = |body: Vec<u8>| {
        client
            .post("/batch")
            .header("content-encoding", "gzip")
            .body(body)
            .send()
    };
    problem(send(bomb).await.unwrap(), 413, "too-large").await;
    // Members that hold nothing: never too long after decompression, so the bound is on arrival.
    let empty = gzip(b"");
    let nothing = empty.repeat(limits::BODY_BYTES_COMPRESSED_MAX / empty.len() + 1);
    problem(send(nothing).await.unwrap(), 413, "too-large").await;
}

/// A client that is still sending when it is refused must get the answer, not a reset: only the
/// answer tells it to send less.
#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_refused_is_read_to_its_end() {
    let server = TestServer::in_memory().await;
    let token = token("ann");
    let address = server.url.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    let body = vec![b'x'; 12 << 20];
    let head = format!(
        "POST /api/v1/sync/batch HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\
         connection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    for part in body.chunks(1 << 20) {
        stream
            .write_all(part)
            .await
            .expect("the server still listens");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 413 ") && answer.contains("too-large"),
        "{answer}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn other_encodings_are_unsupported() {
    let server = TestServer::in_memory().await;
    let client = server.client("ann");
    for encoding in ["br", "deflate", "zstd", "gzip, gzip", "nonsense"] {
        let request = client
            .post("/batch")
            .header("content-encoding", encoding)
            .body("{}");
        problem(request.send().await.unwrap(), 415, "unsupported-encoding").await;
    }
    let broken = client
        .post("/batch")
        .header("content-encoding", "gzip")
        .body("not gzip");
    problem(broken.send().await.unwrap(), 400, "malformed").await;
    let mut short = gzip(client.batch(&[create("m1", "a")]).to_string().as_bytes());
    short.truncate(short.len() - 12);
    let broken = client
        .post("/batch")
        .header("content-encoding", "gzip")
        .body(short);
    problem(broken.send().await.unwrap(), 400, "malformed").await;
    assert!(client.records().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn other_protocols_are_told_to_upgrade() {
    let server = TestServer::in_memory().await;
    let client = server.client("ann");
    let mut batch = client.batch(&[create("m1", "a")]);
    batch["protocol"] = json!(2);
    problem(
        post(&client, batch.to_string()).await,
        426,
        "protocol-version",
    )
    .await;
    // Also where the rest has a form that is not known here.
    let response = post(&client, r#"{"protocol":3,"ops":[]}"#).await;
    problem(response, 426, "protocol-version").await;
    assert!(client.records().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_bodies_are_told_where() {
    let server = TestServer::in_memory().await;
    let client = server.client("ann");
    let with = |name: &str, value: Value| {
        let mut wrong = create("m2", "b");
        wrong[name] = value;
        client.batch(&[create("m1", "a"), wrong]).to_string()
    };
    let without = |name: &str| {
        let mut batch = client.batch(&[]);
        batch.as_object_mut().unwrap().remove(name);
        batch.to_string()
    };
    for (body, place) in [
        (String::new(), "line 1"),
        ("nonsense".into(), "line 1"),
        ("[]".into(), "invalid"),
        (format!("{}x", client.batch(&[])), "trailing"),
        (without("protocol"), "protocol"),
        (without("clientId"), "clientId"),
        (without("changes"), "changes"),
        (with("versionNumber", json!(-1)), "changes[1].versionNumber"),
        (
            with("versionNumber", json!(1.5)),
            "changes[1].versionNumber",
        ),
        (with("action", json!("upsert")), "changes[1].action"),
        (with("id", json!(7)), "changes[1].id"),
        (with("changed", json!("a")), "changes[1].changed"),
        (with("at", Value::Null), "changes[1].at"),
        (
            r#"{"protocol":1,"clientId":"","changes":[]}"#.into(),
            "clientId",
        ),
    ] {
        let detail = problem(post(&client, body).await, 400, "malformed").await;
        assert!(detail.contains(place), "{detail} should name {place}");
    }
    let bytes = b"{\"protocol\":1,\"clientId\":\"\xff\",\"changes\":[]}";
    problem(post(&client, bytes.to_vec()).await, 400, "malformed").await;
    assert!(
        client.records().await.is_empty(),
        "no part of a malformed batch is applied"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_one_change_does_not_harm_the_others() {
    let server = TestServer::in_memory().await;
    let client = server.client("ann");
    let wrong = |name: &str, value: Value| {
        let mut wrong = create("w", "w");
        wrong[name] = value;
        wrong
    };
    let mut deep = json!(1);
    for _ in 0..limits::JSON_DEPTH_MAX {
        deep = json!([deep]);
    }
    let bad = [
        wrong("id", json!("")),
        wrong("type", json!("")),
        wrong("offlineId", json!("")),
        wrong(
            "offlineId",
            json!("x".repeat(limits::RECORD_ID_BYTES_MAX + 1)),
        ),
        wrong("data", json!([1])),
        wrong("data", Value::Null),
        wrong("data", json!({"a": deep})),
        wrong("at", json!("now")),
    ];
    let mut batch = vec![create("m1", "a")];
    batch.extend(bad.iter().cloned());
    batch.push(change("m2", "update", "a", 1));
    let results = client.push(&batch).await;
    let mut expected = vec!["failed"; batch.len()];
    expected[0] = "success";
    expected[batch.len() - 1] = "success";
    assert_eq!(statuses(&results), expected);
    assert!(
        results[1..=bad.len()]
            .iter()
            .all(|result| result["code"] == "invalid")
    );
    assert_eq!(client.records().await.len(), 1);
}

/// Deeper than any parser that recurses would follow; it must neither overflow a stack nor be
/// stored.
#[tokio::test(flavor = "multi_thread")]
async fn nesting_without_end_fails_alone() {
    let server = TestServer::in_memory().await;
    let client = server.client("ann");
    let nested = format!("{}{}", "[".repeat(400_000), "]".repeat(400_000));
    let body = client
        .batch(&[create("m1", "a"), create("m2", "b")])
        .to_string();
    let body = body.replacen(r#"{"by":"m1"}"#, &format!("{{\"a\":{nested}}}"), 1);
    assert!(body.contains(&nested));
    let response = post(&client, body).await;
    assert_eq!(response.status(), 200);
    let answer: Value = response.json().await.unwrap();
    assert_eq!(
        statuses(answer["results"].as_array().unwrap()),
        ["failed", "success"]
    );
    assert_eq!(client.records().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_addresses_and_methods_are_problems_too() {
    let server = TestServer::in_memory().await;
    let client = server.client("ann");
    problem(
        client.get("/nothing").send().await.unwrap(),
        404,
        "not-found",
    )
    .await;
    for path in ["/", "/api", "/demo/token"] {
        let request = client.http.post(format!("{}{path}", server.url));
        problem(request.send().await.unwrap(), 404, "not-found").await;
    }
    let response = client.get("/batch").send().await.unwrap();
    assert_eq!(response.headers()["allow"], "POST");
    problem(response, 405, "method-not-allowed").await;
    problem(
        client.post("/pull").send().await.unwrap(),
        405,
        "method-not-allowed",
    )
    .await;
}
