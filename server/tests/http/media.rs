//! Files: up in parts, down in ranges, and what is refused.

use std::collections::HashSet;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use landfall_server::ids::{EntityId, UserId};
use landfall_server::store::media::Checksum;
use landfall_server::store::sqlite::Location;
use landfall_server::{Config, MediaLimits, limits};
use reqwest::{Method, RequestBuilder, Response};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{Client, TestServer, gzip, problem, secret, token};

const PIECE: usize = limits::MEDIA_PIECE_BYTES;

fn content(length: usize) -> Vec<u8> {
    (0..length)
        .map(|at| (at % 251) as u8 ^ (at / PIECE) as u8)
        .collect()
}

fn digest(content: &[u8]) -> String {
    let digest = BASE64_STANDARD.encode(Checksum::of(content).0);
    format!("sha-256=:{digest}:")
}

trait Media {
    fn media(&self, method: Method, id: &str) -> RequestBuilder;

    fn put(&self, id: &str, content: &[u8]) -> RequestBuilder {
        self.media(Method::PUT, id)
            .header("repr-digest", digest(content))
            .header("content-type", "image/png")
    }

    /// A part of a file whose whole is `content`.
    fn part(&self, id: &str, content: &[u8], from: usize, to: usize) -> RequestBuilder {
        let range = format!("bytes {from}-{}/{}", to - 1, content.len());
        self.put(id, content)
            .header("content-range", range)
            .body(content[from..to].to_vec())
    }

    /// How far an upload is.
    fn ask(&self, id: &str, content: &[u8]) -> RequestBuilder {
        let range = format!("bytes */{}", content.len());
        self.put(id, content).header("content-range", range)
    }

    async fn upload(&self, id: &str, content: &[u8]) {
        let answer = self.put(id, content).body(content.to_vec());
        assert_eq!(answer.send().await.unwrap().status(), 201);
    }

    async fn download(&self, id: &str) -> Response {
        self.media(Method::GET, id).send().await.unwrap()
    }
}

impl Media for Client {
    fn media(&self, method: Method, id: &str) -> RequestBuilder {
        self.http
            .request(method, format!("{}/media/{id}", self.api))
            .bearer_auth(&self.token)
    }
}

/// Asserts that an upload stands at an offset; the answer.
async fn stands(request: RequestBuilder, status: u16, offset: usize) -> Value {
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), status);
    assert_eq!(response.headers()["upload-offset"], offset.to_string());
    let answer: Value = response.json().await.unwrap();
    assert_eq!(answer["offset"], offset);
    answer
}

fn with(media: MediaLimits) -> Config {
    Config {
        media,
        ..Config::new(Location::Memory, secret())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_goes_up_in_one_piece_and_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let server = TestServer::on(&folder.path().join("db")).await;
    let ann = server.client("ann");
    let content = content(PIECE * 2 + 1000);
    ann.upload("a%2Fpicture.png", &content).await;
    let response = ann.download("a%2Fpicture.png").await;
    assert_eq!(response.status(), 200);
    let headers = response.headers().clone();
    assert_eq!(headers["content-type"], "image/png");
    assert_eq!(headers["content-length"], content.len().to_string());
    assert_eq!(headers["repr-digest"], digest(&content));
    assert_eq!(
        headers["etag"],
        format!("\"{}\"", Checksum::of(&content).hex())
    );
    assert_eq!(headers["accept-ranges"], "bytes");
    assert_eq!(headers["cache-control"], "private, no-cache");
    assert!(response.bytes().await.unwrap() == content);

    let head = ann
        .media(Method::HEAD, "a%2Fpicture.png")
        .send()
        .await
        .unwrap();
    assert_eq!(head.status(), 200);
    assert_eq!(head.headers()["content-length"], content.len().to_string());
    assert_eq!(head.headers()["etag"], headers["etag"]);

    ann.upload("empty", b"").await;
    let empty = ann.download("empty").await;
    assert_eq!(
        (empty.status().as_u16(), empty.bytes().await.unwrap().len()),
        (200, 0)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_follow_each_other_and_count_once() {
    let server = TestServer::in_memory().await;
    let ann = server.client("ann");
    let content = content(PIECE + 1000);
    let middle = PIECE / 2 + 1;
    stands(ann.ask("f", &content), 200, 0).await;
    stands(ann.part("f", &content, 0, middle), 200, middle).await;
    // Again, and one that overlaps.
    stands(ann.part("f", &content, 0, middle), 200, middle).await;
    stands(ann.part("f", &content, 10, middle + 10), 200, middle + 10).await;
    stands(ann.ask("f", &content), 200, middle + 10).await;

    let hole = ann
        .part("f", &content, middle + 11, middle + 12)
        .send()
        .await
        .unwrap();
    assert_eq!(hole.headers()["upload-offset"], (middle + 10).to_string());
    problem(hole, 409, "offset").await;

    // Not readable yet, by whichever method; but it says how far it is.
    let early = ann.download("f").await;
    assert_eq!(early.headers()["upload-offset"], (middle + 10).to_string());
    assert_eq!(early.headers()["upload-length"], content.len().to_string());
    problem(early, 404, "unfinished").await;
    let early = ann.media(Method::HEAD, "f").send().await.unwrap();
    assert_eq!(early.status(), 404);
    assert_eq!(early.headers()["upload-offset"], (middle + 10).to_string());

    let answer = stands(
        ann.part("f", &content, middle + 10, content.len()),
        201,
        content.len(),
    );
    let expected =
        json!({"id": "f", "size": content.len(), "offset": content.len(), "complete": true});
    assert_eq!(answer.await, expected);
    // Any part of a complete file may come again.
    stands(ann.part("f", &content, 0, middle), 200, content.len()).await;
    stands(ann.ask("f", &content), 200, content.len()).await;
    assert!(ann.download("f").await.bytes().await.unwrap() == content);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_as_declared_is_discarded() {
    let server = TestServer::in_memory().await;
    let ann = server.client("ann");
    let (good, bad) = (content(5000), vec![7; 5000]);
    let response = ann.put("f", &good).body(bad.clone()).send().await.unwrap();
    assert_eq!(response.headers()["upload-offset"], "0");
    problem(response, 422, "checksum-mismatch").await;
    problem(ann.download("f").await, 404, "not-found").await;
    ann.upload("f", &good).await;
    // Another file under the same id is refused, whole or in part, and so is another type of it.
    let another = ann.put("f", &bad).body(bad.clone()).send().await.unwrap();
    problem(another, 409, "media-differs").await;
    let another = ann
        .media(Method::PUT, "f")
        .header("repr-digest", digest(&good));
    let another = another
        .header("content-type", "text/html")
        .body(good.clone());
    problem(another.send().await.unwrap(), 409, "media-differs").await;
    assert!(ann.download("f").await.bytes().await.unwrap() == good);
    // Until the first is removed.
    for _ in 0..2 {
        let removed = ann.media(Method::DELETE, "f").send().await.unwrap();
        assert_eq!(removed.status(), 204);
    }
    problem(ann.download("f").await, 404, "not-found").await;
    ann.upload("f", &bad).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ranges_and_tags() {
    let server = TestServer::in_memory().await;
    let ann = server.client("ann");
    let content = content(PIECE * 2 + 10);
    ann.upload("f", &content).await;
    let size = content.len();
    let get = |range: &str| ann.media(Method::GET, "f").header("range", range).send();
    let from = PIECE - 3;
    for (asked, first, last) in [
        ("bytes=0-0".into(), 0, 0),
        (
            format!("bytes={from}-{}", PIECE * 2 + 2),
            from,
            PIECE * 2 + 2,
        ),
        ("bytes=-5".into(), size - 5, size - 1),
        (format!("bytes={from}-"), from, size - 1),
    ] {
        let response = get(&asked).await.unwrap();
        assert_eq!(response.status(), 206, "{asked}");
        let range = format!("bytes {first}-{last}/{size}");
        assert_eq!(response.headers()["content-range"], range);
        assert_eq!(
            response.headers()["content-length"],
            (last - first + 1).to_string()
        );
        assert!(
            response.bytes().await.unwrap() == content[first..=last],
            "{asked}"
        );
    }
    let beyond = get(&format!("bytes={size}-")).await.unwrap();
    assert_eq!(beyond.headers()["content-range"], format!("bytes */{size}"));
    problem(beyond, 416, "range").await;
    for whole in ["bytes=0-1,3-4", "lines=0-1", "bytes=5-2"] {
        let response = get(whole).await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.bytes().await.unwrap().len(), size);
    }

    let etag = format!("\"{}\"", Checksum::of(&content).hex());
    let conditional = |name: &str, value: &str| {
        let request = ann.media(Method::GET, "f").header("range", "bytes=0-0");
        request.header(name, value).send()
    };
    let same = conditional("if-none-match", &etag).await.unwrap();
    assert_eq!(
        (same.status().as_u16(), &same.headers()["etag"]),
        (304, &etag.parse().unwrap())
    );
    assert!(same.bytes().await.unwrap().is_empty());
    assert_eq!(
        conditional("if-none-match", "\"x\"")
            .await
            .unwrap()
            .status(),
        206
    );
    assert_eq!(conditional("if-range", &etag).await.unwrap().status(), 206);
    assert_eq!(
        conditional("if-range", "\"x\"").await.unwrap().status(),
        200
    );
}

/// A page that somebody uploads must not run in the origin of the app.
#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_page_is_only_data() {
    let server = TestServer::in_memory().await;
    let ann = server.client("ann");
    let page = b"<script>alert(1)</script>".repeat(100);
    let upload = ann
        .media(Method::PUT, "f")
        .header("repr-digest", digest(&page));
    let upload = upload
        .header("content-type", "text/html")
        .body(page.clone());
    assert_eq!(upload.send().await.unwrap().status(), 201);
    let request = ann
        .media(Method::GET, "f")
        .header("accept-encoding", "gzip");
    let response = request.send().await.unwrap();
    let headers = response.headers();
    assert_eq!(headers["content-type"], "text/html");
    assert_eq!(headers["x-content-type-options"], "nosniff");
    assert_eq!(headers["content-disposition"], "attachment");
    assert_eq!(
        headers["content-security-policy"],
        "default-src 'none'; sandbox"
    );
    assert!(
        headers.get("content-encoding").is_none(),
        "ranges are of the bytes as they are"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_makes_no_sense_is_refused() {
    let server = TestServer::in_memory().await;
    let ann = server.client("ann");
    let content = content(100);
    for (name, value, status, code) in [
        ("repr-digest", "sha-256=:AAAA:", 400, "malformed"),
        ("content-range", "bytes 0-98/100", 400, "malformed"),
        ("content-range", "bytes 0-100/100", 400, "malformed"),
        ("content-type", "nonsense", 400, "malformed"),
        ("content-encoding", "gzip", 415, "unsupported-encoding"),
    ] {
        let mut headers = reqwest::header::HeaderMap::new();
        headers.insert("repr-digest", digest(&content).parse().unwrap());
        headers.insert(name, value.parse().unwrap());
        let request = ann
            .media(Method::PUT, "f")
            .headers(headers)
            .body(content.clone());
        problem(request.send().await.unwrap(), status, code).await;
    }
    let unnamed = ann.media(Method::PUT, "f").body(content.clone());
    problem(unnamed.send().await.unwrap(), 400, "malformed").await;
    let long = ann.put(&"x".repeat(limits::MEDIA_ID_BYTES_MAX + 1), &content);
    problem(
        long.body(content.clone()).send().await.unwrap(),
        400,
        "malformed",
    )
    .await;
    problem(ann.download("f").await, 404, "not-found").await;
    let nobody = reqwest::get(format!("{}/media/f", ann.api)).await.unwrap();
    problem(nobody, 401, "unauthorized").await;
    let method = ann.media(Method::PATCH, "f").send().await.unwrap();
    problem(method, 405, "method-not-allowed").await;
    // A gzip body is not taken for something else.
    let packed = gzip(&content);
    let request = ann.put("f", &content).body(packed).send().await.unwrap();
    assert_eq!(request.status(), 422);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_and_users_have_limits() {
    let server = TestServer::with(with(MediaLimits {
        file_bytes_max: 10_000,
        user_bytes_max: 25_000,
        ..MediaLimits::default()
    }))
    .await;
    let (ann, bob) = (server.client("ann"), server.client("bob"));
    let large = content(10_001);
    let response = ann
        .put("large", &large)
        .body(large.clone())
        .send()
        .await
        .unwrap();
    problem(response, 413, "too-large").await;
    // One that is much too large gets to see why as well.
    let larger = content(3 << 20);
    let response = ann
        .put("larger", &larger)
        .body(larger.clone())
        .send()
        .await
        .unwrap();
    problem(response, 413, "too-large").await;
    let fits = content(10_000);
    ann.upload("f1", &fits).await;
    ann.upload("f2", &fits).await;
    let response = ann
        .put("f3", &fits)
        .body(fits.clone())
        .send()
        .await
        .unwrap();
    problem(response, 413, "quota").await;
    bob.upload("f3", &fits).await;
    ann.media(Method::DELETE, "f1").send().await.unwrap();
    ann.upload("f3", &fits).await;
}

/// An upload whose sender has gone away, or is silent, in the middle of its body.
struct Halfway(TcpStream);

impl Halfway {
    async fn begin(server: &TestServer, id: &str, content: &[u8], sent: usize) -> Self {
        let address = server.url.strip_prefix("http://").unwrap();
        let mut stream = TcpStream::connect(address).await.unwrap();
        let head = format!(
            "PUT /api/v1/sync/media/{id} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\
             repr-digest: {}\r\ncontent-type: image/png\r\ncontent-length: {}\r\n\r\n",
            token("ann"),
            digest(content),
            content.len()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&content[..sent]).await.unwrap();
        Self(stream)
    }

    async fn answer(mut self) -> String {
        let mut answer = String::new();
        self.0.read_to_string(&mut answer).await.unwrap();
        answer
    }
}

/// Where nobody has said how long the body is, the range does.
#[tokio::test(flavor = "multi_thread")]
async fn a_body_without_a_length_keeps_to_its_range() {
    let server = TestServer::in_memory().await;
    let address = server.url.strip_prefix("http://").unwrap();
    let content = content(1000);
    for (id, sent, detail) in [
        ("short", 300, "the body ended early"),
        ("long", 700, "the body is longer than content-range says"),
    ] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let head = format!(
            "PUT /api/v1/sync/media/{id} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\
             repr-digest: {}\r\ncontent-type: image/png\r\ncontent-range: bytes 0-499/1000\r\n\
             transfer-encoding: chunked\r\nconnection: close\r\n\r\n{sent:x}\r\n",
            token("ann"),
            digest(&content),
        );
        let body = [head.as_bytes(), &content[..sent], b"\r\n0\r\n\r\n"].concat();
        stream.write_all(&body).await.unwrap();
        let answer = Halfway(stream).answer().await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
        assert!(answer.contains(detail), "{answer}");
        // No byte beyond the range is kept.
        let kept = server.client("ann").ask(id, &content).send().await.unwrap();
        let kept: usize = kept.headers()["upload-offset"]
            .to_str()
            .unwrap()
            .parse()
            .unwrap();
        assert!(kept <= 500 && (id == "long" || kept == 300), "{id}: {kept}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_before_the_network_broke_is_kept() {
    let server = TestServer::in_memory().await;
    let ann = server.client("ann");
    let content = content(PIECE * 2);
    let sent = PIECE + 12_345;
    let halfway = Halfway::begin(&server, "f", &content, sent).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    drop(halfway);
    let mut patience = 100;
    loop {
        let response = ann.ask("f", &content).send().await.unwrap();
        if response.headers()["upload-offset"] == sent.to_string() {
            break;
        }
        patience -= 1;
        assert!(patience > 0, "{:?}", response.headers());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    stands(
        ann.part("f", &content, sent, content.len()),
        201,
        content.len(),
    )
    .await;
    assert!(ann.download("f").await.bytes().await.unwrap() == content);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_has_so_many_uploads_at_once() {
    let server = TestServer::in_memory().await;
    let (ann, bob) = (server.client("ann"), server.client("bob"));
    let content = content(1000);
    let mut halfway = Vec::new();
    for n in 0..limits::UPLOADS_PER_USER_MAX {
        halfway.push(Halfway::begin(&server, &format!("f{n}"), &content, 10).await);
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let refused = ann
        .put("g", &content)
        .body(content.clone())
        .send()
        .await
        .unwrap();
    assert!(refused.headers().contains_key("retry-after"));
    problem(refused, 429, "rate-limited").await;
    bob.upload("g", &content).await;
    halfway.pop();
    tokio::time::sleep(Duration::from_millis(300)).await;
    ann.upload("g", &content).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_keeps_what_came_and_does_not_wait_for_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("db");
    let server = TestServer::on(&file).await;
    let content = content(PIECE * 2);
    let sent = PIECE + 777;
    let halfway = Halfway::begin(&server, "f", &content, sent).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let stopping = tokio::spawn(server.stop());
    let answer = halfway.answer().await;
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert!(
        answer.contains(&format!("upload-offset: {sent}\r\n")),
        "{answer}"
    );
    let stopped = tokio::time::timeout(Duration::from_secs(5), stopping).await;
    stopped.expect("at once").unwrap();

    let server = TestServer::on(&file).await;
    let ann = server.client("ann");
    stands(
        ann.part("f", &content, sent, content.len()),
        201,
        content.len(),
    )
    .await;
    assert!(ann.download("f").await.bytes().await.unwrap() == content);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_users_share_no_files() {
    let server = TestServer::in_memory().await;
    let (ann, bob) = (server.client("ann"), server.client("bob"));
    let (anns, bobs) = (content(100), content(200));
    ann.upload("f", &anns).await;
    problem(bob.download("f").await, 404, "not-found").await;
    let removed = bob.media(Method::DELETE, "f").send().await.unwrap();
    assert_eq!(removed.status(), 204);
    assert!(ann.download("f").await.bytes().await.unwrap() == anns);
    bob.upload("f", &bobs).await;
    assert!(ann.download("f").await.bytes().await.unwrap() == anns);
    assert!(bob.download("f").await.bytes().await.unwrap() == bobs);
}

/// Every way in which somebody who is not assigned to an entity may try to reach its files. The
/// answer is the same whether entity and file exist or not.
#[tokio::test(flavor = "multi_thread")]
async fn an_entitys_files_are_for_those_assigned_to_it() {
    let config = Config::new(Location::Memory, secret());
    let (server, store) = TestServer::and_store(config).await;
    let north = EntityId::new("north").unwrap();
    for user in ["ann", "bob"] {
        let user = UserId::new(user).unwrap();
        store.assign(&user, &north).await.unwrap();
    }
    let [ann, bob, eve] = ["ann", "bob", "eve"].map(|user| server.client(user));
    let (content, other) = (content(1000), content(2000));
    ann.upload("f?entity=north", &content).await;
    stands(ann.part("g?entity=north", &content, 0, 500), 200, 500).await;

    // The entity's own people share it.
    let read = bob.download("f?entity=north").await;
    assert!(read.bytes().await.unwrap() == content);
    stands(bob.part("g?entity=north", &content, 500, 1000), 201, 1000).await;

    let mut told = HashSet::new();
    for id in ["f?entity=north", "new?entity=north", "f?entity=nowhere"] {
        let tries = [
            eve.media(Method::GET, id),
            eve.media(Method::GET, id).header("range", "bytes=0-0"),
            eve.put(id, &other).body(other.clone()),
            eve.part(id, &content, 0, 500),
            eve.ask(id, &content),
            eve.media(Method::DELETE, id),
        ];
        for attempt in tries {
            let response = attempt.send().await.unwrap();
            assert!(response.headers().get("upload-offset").is_none());
            assert!(response.headers().get("etag").is_none());
            told.insert(problem(response, 403, "forbidden").await);
        }
        let head = eve.media(Method::HEAD, id).send().await.unwrap();
        assert_eq!(head.status(), 403);
    }
    assert_eq!(told.len(), 1, "{told:?}");
    // Nor by the same name in a space of one's own, or with the entity's stored name as an id.
    for id in ["f", "e:north%2Ff", "f?entity=", "f?entity=u:ann"] {
        let response = eve.download(id).await;
        assert!(
            matches!(response.status().as_u16(), 400 | 403 | 404),
            "{id}"
        );
    }
    eve.upload("f", &other).await;
    assert!(bob.download("f?entity=north").await.bytes().await.unwrap() == content);

    // Who is no longer assigned is as one who never was.
    store
        .unassign(&UserId::new("bob").unwrap(), &north)
        .await
        .unwrap();
    problem(bob.download("f?entity=north").await, 403, "forbidden").await;
    let removed = ann
        .media(Method::DELETE, "f?entity=north")
        .send()
        .await
        .unwrap();
    assert_eq!(removed.status(), 204);
    problem(ann.download("f?entity=north").await, 404, "not-found").await;
}
