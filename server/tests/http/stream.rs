//! Streams: when they poke, whom, and when they end.

use std::time::{Duration, Instant};

use landfall_server::access::TypeRules;
use landfall_server::ids::{EntityId, RecordType, UserId};
use landfall_server::store::sqlite::Location;
use landfall_server::token::Tokens;
use landfall_server::{Config, StreamLimits, limits};
use reqwest::Response;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::harness::{Client, TestServer, create, now_s, problem, secret};

const SOON: Duration = Duration::from_secs(10);
/// Long enough for a poke that must not come.
const A_WHILE: Duration = Duration::from_millis(400);

#[derive(Debug, PartialEq, Eq)]
enum Heard {
    Poke(String),
    Heartbeat,
    End,
}

pub(crate) struct Stream {
    response: Response,
    text: String,
}

impl Stream {
    pub(crate) async fn open(client: &Client, last: Option<&str>) -> Self {
        let mut request = client.get("/stream").header("accept-encoding", "gzip");
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        let headers = response.headers();
        assert_eq!(headers["content-type"], "text/event-stream");
        assert_eq!(headers["cache-control"], "no-store");
        assert_eq!(headers["x-accel-buffering"], "no");
        assert!(headers.get("content-encoding").is_none());
        let text = String::new();
        Self { response, text }
    }

    async fn next(&mut self) -> Heard {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let heard = read(event);
                self.text = rest.to_owned();
                return heard;
            }
            let chunk = timeout(SOON, self.response.chunk()).await;
            match chunk.expect("something is heard").unwrap() {
                Some(chunk) => self.text.push_str(std::str::from_utf8(&chunk).unwrap()),
                None => return Heard::End,
            }
        }
    }

    /// The next poke's checkpoint.
    pub(crate) async fn poke(&mut self) -> String {
        let poke = async {
            loop {
                match self.next().await {
                    Heard::Poke(checkpoint) => return checkpoint,
                    Heard::Heartbeat => {}
                    Heard::End => panic!("the stream has ended"),
                }
            }
        };
        // Heartbeats alone would go on for ever.
        timeout(SOON, poke).await.expect("a poke")
    }

    /// The pokes within a time.
    async fn pokes(&mut self, within: Duration) -> usize {
        let mut count = 0;
        let counting = async {
            loop {
                self.poke().await;
                count += 1;
            }
        };
        let _ = timeout(within, counting).await;
        count
    }
}

fn read(event: &str) -> Heard {
    let field = |name: &str| {
        let mut lines = event.lines();
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    };
    let Some(data) = field("data") else {
        assert!(event.starts_with(':'), "{event}");
        return Heard::Heartbeat;
    };
    assert_eq!(field("event"), Some("poke"));
    let data: Value = serde_json::from_str(data).unwrap();
    assert_eq!(data["checkpoint"].as_str(), field("id"), "{event}");
    Heard::Poke(data["checkpoint"].as_str().unwrap().into())
}

fn config(stream: StreamLimits) -> Config {
    Config {
        stream,
        ..Config::new(Location::Memory, secret())
    }
}

fn quick() -> StreamLimits {
    StreamLimits {
        heartbeat: Duration::from_millis(100),
        ..StreamLimits::default()
    }
}

pub(crate) async fn checkpoint(client: &Client) -> String {
    client.status().await["checkpoint"].as_str().unwrap().into()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_pokes_with_the_newest_checkpoint() {
    let server = TestServer::in_memory().await;
    let (ann, bob) = (server.client("ann"), server.client("bob"));
    let mut stream = Stream::open(&ann, None).await;
    assert_eq!(
        stream.poke().await,
        checkpoint(&ann).await,
        "one to begin with"
    );
    ann.push(&[create("m1", "a")]).await;
    let first = stream.poke().await;
    assert_eq!(first, checkpoint(&ann).await);
    // What changes nothing pokes nobody, nor does what is somebody else's.
    ann.push(&[create("m1", "a")]).await;
    bob.push(&[create("m1", "a")]).await;
    assert_eq!(stream.pokes(A_WHILE).await, 0);
    ann.named("c2").push(&[create("m2", "b")]).await;
    let second = stream.poke().await;
    assert!(second != first && second == checkpoint(&ann).await);
    // The checkpoint is one to pull from.
    assert_eq!(
        ann.pull(&format!("?since={second}")).await["changes"],
        json!([])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_back_is_told_what_they_missed() {
    let server = TestServer::with(config(quick())).await;
    let ann = server.client("ann");
    ann.push(&[create("m1", "a")]).await;
    let known = Stream::open(&ann, None).await.poke().await;
    let mut same = Stream::open(&ann, Some(&known)).await;
    assert_eq!(same.next().await, Heard::Heartbeat, "at once");
    assert_eq!(same.pokes(A_WHILE).await, 0);
    drop(same);
    ann.push(&[create("m2", "b")]).await;
    for last in [known.as_str(), "nonsense"] {
        let mut stream = Stream::open(&ann, Some(last)).await;
        assert_eq!(
            stream.next().await,
            Heard::Poke(checkpoint(&ann).await),
            "{last}"
        );
        assert_eq!(stream.pokes(A_WHILE).await, 0, "once");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_that_follow_each_other_are_one_poke() {
    let server = TestServer::with(config(StreamLimits {
        debounce: A_WHILE,
        ..StreamLimits::default()
    }))
    .await;
    let ann = server.client("ann");
    let mut stream = Stream::open(&ann, None).await;
    stream.poke().await;
    for n in 0..5 {
        ann.push(&[create(&format!("m{n}"), &format!("r{n}"))])
            .await;
    }
    assert_eq!(stream.poke().await, checkpoint(&ann).await);
    assert_eq!(stream.pokes(A_WHILE * 2).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn heartbeats_keep_coming() {
    let server = TestServer::with(config(quick())).await;
    let mut stream = Stream::open(&server.client("ann"), None).await;
    stream.poke().await;
    let started = Instant::now();
    for _ in 0..5 {
        assert_eq!(stream.next().await, Heard::Heartbeat);
    }
    assert!(started.elapsed() >= Duration::from_millis(400));
}

pub(crate) fn site(mutation: &str, record: &str, entity: &str) -> Value {
    let mut change = create(mutation, record);
    change["data"] = json!({"siteId": entity});
    change
}

/// One who is assigned hears of the entity, one who is not hears nothing, and both as soon as it
/// changes.
#[tokio::test(flavor = "multi_thread")]
async fn only_the_askers_spaces_poke() {
    let mut config = config(quick());
    let sites = RecordType::new("sites").unwrap();
    config.types = TypeRules::shared([(sites, "siteId".into())]);
    let (server, store) = TestServer::and_store(config).await;
    let north = EntityId::new("north").unwrap();
    let (ann, bob) = (server.client("ann"), server.client("bob"));
    let (ann_id, bob_id) = (UserId::new("ann").unwrap(), UserId::new("bob").unwrap());
    store.assign(&ann_id, &north).await.unwrap();
    let (mut anns, mut bobs) = (
        Stream::open(&ann, None).await,
        Stream::open(&bob, None).await,
    );
    anns.poke().await;
    bobs.poke().await;
    let results = ann.push(&[site("m1", "a", "north")]).await;
    assert_eq!(results[0]["status"], "success", "{results:?}");
    assert_eq!(anns.poke().await, checkpoint(&ann).await);
    assert_eq!(bobs.pokes(A_WHILE).await, 0);

    // Assigned while the stream is open.
    store.assign(&bob_id, &north).await.unwrap();
    assert_eq!(bobs.poke().await, checkpoint(&bob).await);
    ann.push(&[site("m2", "b", "north")]).await;
    assert_eq!(bobs.poke().await, checkpoint(&bob).await);
    // And taken away again: one poke, since the checkpoint is another, and then silence.
    store.unassign(&bob_id, &north).await.unwrap();
    bobs.poke().await;
    ann.push(&[site("m3", "c", "north")]).await;
    assert_eq!(bobs.pokes(A_WHILE).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_with_its_token() {
    let server = TestServer::with(config(quick())).await;
    let mut ann = server.client("ann");
    // The clocks' leeway is nearly used up.
    let expires = now_s() - limits::TOKEN_LEEWAY_S + 2;
    let user = UserId::new("ann").unwrap();
    ann.token = Tokens::new(&secret()).issue(&user, expires).unwrap();
    let mut stream = Stream::open(&ann, None).await;
    stream.poke().await;
    let end = async { while stream.next().await != Heard::End {} };
    timeout(SOON, end).await.expect("the end");
    let late = ann.get("/stream").send().await.unwrap();
    problem(late, 401, "unauthorized").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_are_bounded() {
    let bounds = StreamLimits {
        all: 3,
        each: 2,
        ..quick()
    };
    let server = TestServer::with(config(bounds)).await;
    let (ann, bob) = (server.client("ann"), server.client("bob"));
    let first = Stream::open(&ann, None).await;
    let _second = Stream::open(&ann, None).await;
    let refused = ann.get("/stream").send().await.unwrap();
    assert!(refused.headers().contains_key("retry-after"));
    problem(refused, 429, "rate-limited").await;
    let _third = Stream::open(&bob, None).await;
    let refused = bob.get("/stream").send().await.unwrap();
    problem(refused, 503, "unavailable").await;
    drop(first);
    // Noticed at the next heartbeat, if not before.
    let freed = async {
        while ann.get("/stream").send().await.unwrap().status() != 200 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(SOON, freed).await.unwrap();
}

/// Streams take none of the places that other requests have.
#[tokio::test(flavor = "multi_thread")]
async fn many_streams_leave_room_for_requests() {
    let many = limits::REQUESTS_IN_FLIGHT_MAX + 10;
    let bounds = StreamLimits {
        all: many,
        each: many,
        ..StreamLimits::default()
    };
    let server = TestServer::with(config(bounds)).await;
    let ann = server.client("ann");
    let mut streams = Vec::new();
    for _ in 0..many {
        streams.push(Stream::open(&ann, None).await);
    }
    ann.push(&[create("m1", "a")]).await;
    let newest = checkpoint(&ann).await;
    for stream in &mut streams {
        while stream.poke().await != newest {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_ends_streams_at_once() {
    let server = TestServer::in_memory().await;
    let mut stream = Stream::open(&server.client("ann"), None).await;
    stream.poke().await;
    let started = Instant::now();
    server.stop().await;
    assert!(started.elapsed() < Duration::from_secs(2));
    assert_eq!(stream.next().await, Heard::End);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_needs_a_token_and_a_store_that_works() {
    let server = TestServer::over(crate::moody::Moody::new().0).await;
    let nobody = reqwest::get(format!("{}/api/v1/sync/stream", server.url))
        .await
        .unwrap();
    problem(nobody, 401, "unauthorized").await;
    // The store cannot say where the data stands: the client is to come back.
    let mut stream = Stream::open(&server.client("ann"), None).await;
    assert_eq!(stream.next().await, Heard::End);
}
