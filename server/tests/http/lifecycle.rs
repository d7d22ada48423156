//! Panics, overload, shutdown, CORS, the demo.

use std::time::Duration;

use landfall_server::store::sqlite::Location;
use landfall_server::{Config, Cors, Demo, limits};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::harness::{TestServer, create, problem, secret};
use crate::moody::Moody;

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_is_an_internal_problem_and_the_server_lives_on() {
    let server = TestServer::over(Moody::new().0).await;
    let client = server.client("ann");
    for _ in 0..2 {
        let detail = problem(client.get("/pull").send().await.unwrap(), 500, "internal").await;
        assert!(!detail.contains("on purpose"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn overload_says_when_to_come_back() {
    let server = TestServer::over(Moody::new().0).await;
    let response = server.client("ann").get("/status").send().await.unwrap();
    assert_eq!(response.headers()["retry-after"], "1");
    problem(response, 503, "unavailable").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_requests_at_once_are_turned_away() {
    const TOO_MANY: usize = 20;
    let (store, permits) = Moody::new();
    let server = TestServer::over(store).await;
    let client = server.client("ann");
    let mut tasks = JoinSet::new();
    for _ in 0..limits::REQUESTS_IN_FLIGHT_MAX + TOO_MANY {
        let body = client.batch(&[create("m1", "a")]);
        let request = client.post("/batch").json(&body);
        tasks.spawn(async move { request.send().await.unwrap() });
    }
    // Only those that are turned away can end as long as there is no permit.
    for _ in 0..TOO_MANY {
        let response = tasks.join_next().await.unwrap().unwrap();
        assert_eq!(response.headers()["retry-after"], "1");
        problem(response, 503, "unavailable").await;
    }
    permits.add_permits(1);
    while let Some(response) = tasks.join_next().await {
        assert_eq!(response.unwrap().status(), 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_without_an_end_of_those_who_have_no_token_leave_room_for_the_others() {
    let server = TestServer::in_memory().await;
    let address = server.url.trim_start_matches("http://");
    let head = b"POST /api/v1/sync/batch HTTP/1.1\r\nhost: h\r\ncontent-length: 9\r\n\r\n";
    let mut answers = JoinSet::new();
    for _ in 0..limits::REQUESTS_IN_FLIGHT_MAX {
        let mut connection = TcpStream::connect(address).await.unwrap();
        connection.write_all(head).await.unwrap();
        answers.spawn(async move {
            let mut start = [0; 12];
            connection.read_exact(&mut start).await.map(|_| start)
        });
    }
    for _ in limits::STRANGERS_IN_FLIGHT_MAX..limits::REQUESTS_IN_FLIGHT_MAX {
        // At once: those that have a place are answered the same when their time is over.
        let answer = timeout(Duration::from_secs(10), answers.join_next());
        let start = answer.await.unwrap().unwrap().unwrap().unwrap();
        assert_eq!(&start, b"HTTP/1.1 503");
    }
    let pushed = server.client("ann").push(&[create("m1", "a")]).await;
    assert_eq!(pushed[0]["status"], "success");
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_finishes_what_is_in_flight() {
    let (store, permits) = Moody::new();
    let server = TestServer::over(store).await;
    let client = server.client("ann");
    let pushing = tokio::spawn({
        let client = client.clone();
        async move { client.push(&[create("m1", "a")]).await }
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    let stopping = tokio::spawn(server.stop());
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!stopping.is_finished() && !pushing.is_finished());
    permits.add_permits(1);
    assert_eq!(pushing.await.unwrap()[0]["status"], "success");
    stopping.await.unwrap();
    let late = client
        .http
        .get(format!("{}/status", client.api))
        .send()
        .await;
    assert!(late.is_err(), "nobody listens any more");
}

#[tokio::test(flavor = "multi_thread")]
async fn cors_is_off_unless_told() {
    let origin = "https://app.example";
    let ask = async |cors: Cors, from: &str| {
        let config = Config {
            cors,
            ..Config::new(Location::Memory, secret())
        };
        let server = TestServer::with(config).await;
        let url = format!("{}/api/v1/sync/batch", server.url);
        let preflight = reqwest::Client::new()
            .request(reqwest::Method::OPTIONS, &url)
            .header("origin", from)
            .header("access-control-request-method", "POST")
            .header(
                "access-control-request-headers",
                "authorization,content-encoding",
            );
        let preflight = preflight.send().await.unwrap().headers().clone();
        // An error, too, must be readable for the page.
        let refused = reqwest::Client::new()
            .post(&url)
            .header("origin", from)
            .send()
            .await
            .unwrap();
        (preflight, refused.headers().clone())
    };
    let allow = "access-control-allow-origin";
    let (preflight, refused) = ask(Cors::Off, origin).await;
    assert!(preflight.get(allow).is_none() && refused.get(allow).is_none());
    let only = || Cors::Origins(vec![origin.parse().unwrap()]);
    let (preflight, refused) = ask(only(), origin).await;
    assert!(preflight[allow] == origin && refused[allow] == origin);
    assert!(
        preflight["access-control-allow-headers"]
            .to_str()
            .unwrap()
            .contains("authorization")
    );
    assert!(
        refused["access-control-expose-headers"]
            .to_str()
            .unwrap()
            .contains("date")
    );
    let (preflight, _) = ask(only(), "https://other.example").await;
    assert!(preflight.get(allow).is_none());
    assert_eq!(ask(Cors::Any, origin).await.0[allow], "*");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_demo_gives_tokens_that_work() {
    let config = Config {
        demo: Demo::Loopback,
        proxy_header: Some("x-forwarded-for".parse().unwrap()),
        ..Config::new(Location::Memory, secret())
    };
    let server = TestServer::with(config).await;
    let mut client = server.client("ann");
    let ask = |body: Value| {
        client
            .http
            .post(format!("{}/demo/token", server.url))
            .json(&body)
            .send()
    };
    for wrong in [
        json!({}),
        json!({"user": ""}),
        json!({"user": "a", "ttlSeconds": 0}),
    ] {
        problem(ask(wrong).await.unwrap(), 400, "malformed").await;
    }
    let given: Value = ask(json!({"user": "demo"}))
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert!(given["expiresAt"].as_str().unwrap().ends_with('Z'));
    let forwarded = |from: &'static str| {
        let ask = client.http.post(format!("{}/demo/token", server.url));
        let ask = ask.header("x-forwarded-for", from);
        ask.json(&json!({"user": "demo"})).send()
    };
    // By a proxy on this machine, whatever it makes of an address.
    for from in ["127.0.0.1, 9.9.9.9", "9.9.9.9:1234", "for=9.9.9.9"] {
        let refused = forwarded(from).await.unwrap();
        problem(refused, 403, "forbidden").await;
    }
    let near = forwarded("9.9.9.9, 127.0.0.1").await.unwrap();
    assert_eq!(near.status(), 200);
    client.token = given["token"].as_str().unwrap().into();
    assert!(client.records().await.is_empty());
    let health = client
        .http
        .get(format!("{}/healthz", server.url))
        .send()
        .await
        .unwrap();
    assert_eq!(health.status(), 200);
}
