//! The server's edge: rates, request ids, readiness, metrics, CORS, types and schemas.

use std::collections::BTreeMap;
use std::sync::Arc;

use landfall_server::config::Metrics;
use landfall_server::config::Rates;
use landfall_server::ids::{RecordType, UserId};
use landfall_server::rate::Rate;
use landfall_server::schema::Schema;
use landfall_server::store::sqlite::Location;
use landfall_server::token::Tokens;
use landfall_server::types::{TypeRule, TypeRules};
use landfall_server::{Config, Cors, Demo};
use reqwest::{Method, Response};
use serde_json::{Value, json};

use crate::harness::{Client, TestServer, change, create, now_s, problem, secret, statuses};
use crate::moody::Moody;

fn config() -> Config {
    Config::new(Location::Memory, secret())
}

fn rate(burst: u32) -> Option<Rate> {
    Some(Rate {
        per_second: 1,
        burst,
    })
}

async fn limited(user: Option<Rate>, peer: Option<Rate>) -> TestServer {
    TestServer::with(Config {
        rates: Rates { user, peer },
        demo: Demo::Loopback,
        metrics: Metrics::Beside,
        ..config()
    })
    .await
}

async fn get(server: &TestServer, path: &str) -> Response {
    reqwest::get(format!("{}{path}", server.url)).await.unwrap()
}

async fn metrics(server: &TestServer) -> String {
    get(server, "/metrics").await.text().await.unwrap()
}

fn seconds(response: &Response) -> u64 {
    let header = &response.headers()["retry-after"];
    header.to_str().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_who_asks_too_much_is_told_when_to_come_back() {
    let server = limited(rate(3), None).await;
    let (ann, bob) = (server.client("ann"), server.client("bob"));
    for _ in 0..3 {
        assert_eq!(ann.get("/pull").send().await.unwrap().status(), 200);
    }
    for path in ["/pull", "/status"] {
        let refused = ann.get(path).send().await.unwrap();
        assert_eq!(seconds(&refused), 1);
        problem(refused, 429, "rate-limited").await;
    }
    assert_eq!(bob.get("/pull").send().await.unwrap().status(), 200);
    let told = metrics(&server).await;
    assert!(
        told.contains("landfall_rate_limited_total{by=\"User\"} 2"),
        "{told}"
    );
}

/// The bucket is the user's, whichever token they come with.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_token_is_no_new_bucket() {
    let server = limited(rate(3), None).await;
    let ann = server.client("ann");
    let tokens = Tokens::new(&secret());
    for n in 0..3 {
        let user = UserId::new("ann").unwrap();
        let token = tokens.issue(&user, now_s() + 100 + n).unwrap();
        assert_ne!(token, ann.token);
        let anew = Client {
            token,
            ..ann.clone()
        };
        assert_eq!(anew.get("/pull").send().await.unwrap().status(), 200);
    }
    let refused = ann.get("/pull").send().await.unwrap();
    problem(refused, 429, "rate-limited").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_costs_more_than_a_bucket_holds_passes() {
    let server = limited(rate(5), None).await;
    let ann = server.client("ann");
    let changes: Vec<_> = (0..10).map(|n| create(&format!("m{n}"), &format!("r{n}"))).collect();
    assert_eq!(ann.push(&changes).await.len(), 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_costs_its_changes_and_passes_whole_or_not_at_all() {
    let server = limited(rate(12), None).await;
    let ann = server.client("ann");
    let batch = |from: usize| {
        let changes: Vec<_> = (from..from + 10)
            .map(|n| create(&format!("m{n}"), &format!("r{n}")))
            .collect();
        ann.post("/batch").json(&ann.batch(&changes)).send()
    };
    assert_eq!(batch(0).await.unwrap().status(), 200);
    let refused = batch(10).await.unwrap();
    assert!(
        (8..=10).contains(&seconds(&refused)),
        "{}",
        seconds(&refused)
    );
    problem(refused, 429, "rate-limited").await;
    let ann = server.client("ann");
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    assert_eq!(ann.records().await.len(), 10, "nothing of it was applied");
}

/// Whoever has no valid token is told so, until they have asked too often; those who have one do not
/// pay for them.
#[tokio::test(flavor = "multi_thread")]
async fn an_address_without_a_valid_token_is_limited() {
    let server = limited(None, rate(4)).await;
    let good = server.client("ann");
    let forged = Client {
        token: format!("{}x", good.token),
        ..good.clone()
    };
    let ask = || {
        good.http
            .post(format!("{}/demo/token", server.url))
            .json(&json!({"user": "a"}))
    };
    problem(
        forged.get("/pull").send().await.unwrap(),
        401,
        "unauthorized",
    )
    .await;
    problem(get(&server, "/api/v1/sync/pull").await, 401, "unauthorized").await;
    for _ in 0..2 {
        assert_eq!(ask().send().await.unwrap().status(), 200);
    }
    problem(
        forged.get("/pull").send().await.unwrap(),
        429,
        "rate-limited",
    )
    .await;
    problem(ask().send().await.unwrap(), 429, "rate-limited").await;
    for _ in 0..10 {
        assert_eq!(good.get("/pull").send().await.unwrap().status(), 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_has_a_request_id() {
    let server = TestServer::with(config()).await;
    let client = server.client("ann");
    let id = |response: &Response| {
        response.headers()["x-request-id"]
            .to_str()
            .unwrap()
            .to_owned()
    };
    let own = client.get("/pull").header("x-request-id", "trace-7");
    assert_eq!(id(&own.send().await.unwrap()), "trace-7");
    let odd = client.get("/nothing").header("x-request-id", "a b \"c\"");
    assert_eq!(id(&odd.send().await.unwrap()).len(), 16);
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_asks_the_store_and_health_does_not() {
    let server = TestServer::with(config()).await;
    assert_eq!(get(&server, "/readyz").await.status(), 200);
    let moody = TestServer::over(Moody::new().0).await;
    assert_eq!(get(&moody, "/healthz").await.status(), 200);
    let refused = get(&moody, "/readyz").await;
    let detail = problem(refused, 503, "unavailable").await;
    assert_eq!(detail, "the store does not answer");
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_count_and_name_nobody() {
    let server = limited(None, None).await;
    let client = server.client("ann-with-a-name");
    client.push(&[create("m1", "r1"), create("m2", "r2")]).await;
    client.push(&[create("m3", "r1")]).await;
    let mut wrong = create("m4", "r4");
    wrong["data"] = json!([]);
    client.push(&[wrong]).await;
    client.records().await;
    get(&server, "/api/v1/sync/some-secret-path").await;
    let text = metrics(&server).await;
    for line in [
        "landfall_changes_total{outcome=\"success\"} 2",
        "landfall_changes_total{outcome=\"conflict\"} 1",
        "landfall_changes_total{outcome=\"invalid\"} 1",
        "landfall_requests_total{method=\"POST\",route=\"/api/v1/sync/batch\",status=\"200\"} 3",
        "landfall_requests_total{method=\"GET\",route=\"other\",status=\"404\"} 1",
        "landfall_request_duration_seconds_count{route=\"/api/v1/sync/pull\"} 1",
        "landfall_records_pulled_total 2",
        "landfall_writes_queued 0",
        "landfall_streams_open 0",
        "landfall_requests_in_flight 1",
        "# EOF",
    ] {
        assert!(text.contains(line), "{line} should be in {text}");
    }
    for name in ["ann", "r1", "secret"] {
        assert!(!text.contains(name), "{name} should not be in {text}");
    }
    let off = TestServer::with(config()).await;
    problem(get(&off, "/metrics").await, 404, "not-found").await;
}

/// What a page of another origin may send, and read of the answer; and never with the browser's own
/// credentials.
#[tokio::test(flavor = "multi_thread")]
async fn cors_allows_what_the_protocol_needs() {
    let origin = "https://app.example";
    for cors in [Cors::Any, Cors::Origins(vec![origin.parse().unwrap()])] {
        let server = TestServer::with(Config { cors, ..config() }).await;
        let url = format!("{}/api/v1/sync/pull", server.url);
        let http = reqwest::Client::new();
        let preflight = http
            .request(Method::OPTIONS, &url)
            .header("origin", origin)
            .header("access-control-request-method", "PUT")
            .header("access-control-request-headers", "authorization,range");
        let preflight = preflight.send().await.unwrap();
        let answer = http.get(&url).header("origin", origin);
        let answer = answer.send().await.unwrap();
        let list = |response: &Response, name: &str| {
            let text = response.headers()[name].to_str().unwrap().to_lowercase();
            text.split(',')
                .map(|name| name.trim().to_owned())
                .collect::<Vec<_>>()
        };
        for (response, name, needed) in [
            (
                &preflight,
                "access-control-allow-methods",
                &["get", "head", "post", "put", "delete"][..],
            ),
            (
                &preflight,
                "access-control-allow-headers",
                &[
                    "authorization",
                    "content-type",
                    "content-encoding",
                    "content-range",
                    "if-none-match",
                    "if-range",
                    "last-event-id",
                    "range",
                    "repr-digest",
                    "x-request-id",
                ],
            ),
            (
                &answer,
                "access-control-expose-headers",
                &[
                    "accept-ranges",
                    "content-range",
                    "date",
                    "etag",
                    "repr-digest",
                    "retry-after",
                    "upload-length",
                    "upload-offset",
                    "x-request-id",
                ],
            ),
        ] {
            let listed = list(response, name);
            for needed in needed {
                assert!(listed.iter().any(|name| name == needed), "{needed}: {name}");
            }
        }
        for response in [&preflight, &answer] {
            let credentials = response.headers().get("access-control-allow-credentials");
            assert_eq!(credentials, None);
        }
    }
}

fn typed(open: bool) -> Config {
    let schema = json!({
        "type": "object",
        "required": ["name"],
        "properties": {"name": {"type": "string"}, "n": {"type": "integer", "maximum": 9}},
    });
    let sites = TypeRule {
        schema: Some(Arc::new(Schema::new(&schema).unwrap())),
        entity: None,
    };
    let notes = TypeRule::default();
    let listed = BTreeMap::from([
        (RecordType::new("sites").unwrap(), sites),
        (RecordType::new("notes").unwrap(), notes),
    ]);
    Config {
        types: TypeRules::new(open, listed),
        ..config()
    }
}

fn of_type(name: &str, mutation: &str, data: Value) -> Value {
    let mut create = create(mutation, mutation);
    create["type"] = json!(name);
    create["data"] = data;
    create
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_types_are_refused_unless_types_are_open() {
    let changes = [
        of_type("others", "m1", json!({})),
        of_type("notes", "m2", json!({})),
    ];
    for (open, expected) in [(false, "failed"), (true, "success")] {
        let server = TestServer::with(typed(open)).await;
        let results = server.client("ann").push(&changes).await;
        assert_eq!(statuses(&results), [expected, "success"]);
        if !open {
            assert_eq!(results[0]["code"], "invalid");
            assert_eq!(results[0]["retryable"], false);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn records_keep_to_their_schema_after_each_change() {
    let server = TestServer::with(typed(false)).await;
    let client = server.client("ann");
    let patch = |mutation: &str, data: Value, changed: &[&str], base: u64| {
        let mut patch = change(mutation, "update", "m1", base);
        patch["data"] = data;
        patch["changed"] = json!(changed);
        patch
    };
    let results = client
        .push(&[
            of_type("sites", "m1", json!({"name": "North", "n": 1})),
            of_type("sites", "m2", json!({"name": 7007})),
            // What is sent is fine by itself; what becomes of the record is not.
            patch("m3", json!({}), &["name"], 1),
            patch("m4", json!({"n": 10}), &["n"], 1),
            // What is sent lacks what the record has.
            patch("m5", json!({"n": 9}), &["n"], 1),
        ])
        .await;
    assert_eq!(
        statuses(&results),
        ["success", "failed", "failed", "failed", "success"]
    );
    for (index, place) in [(1, "/name"), (2, "/required"), (3, "/n")] {
        let message = results[index]["message"].as_str().unwrap();
        assert_eq!(results[index]["code"], "invalid");
        assert!(message.contains(place), "{message}");
        assert!(
            !message.contains("7007") && !message.contains("10"),
            "{message}"
        );
    }
    let records = client.records().await;
    assert_eq!(records.len(), 1);
    assert_eq!(records[0]["data"], json!({"name": "North", "n": 9}));
    // A repeat gets the first answer, as ever.
    let again = client
        .push(&[of_type("sites", "m1", json!({"name": "North", "n": 1}))])
        .await;
    assert_eq!(
        (&again[0]["status"], &again[0]["versionNumber"]),
        (&json!("success"), &json!(1))
    );
}
