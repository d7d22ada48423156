//! The program itself, as a process: its command line, its first line, its end by a signal, and
//! what is left after it is killed.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use landfall_server::store::media::Checksum;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const SECRET: &str = "a secret for tests, of 32 bytes or more";

struct Process {
    child: Child,
    url: String,
}

impl Process {
    fn start(args: &[&str]) -> Self {
        let mut child = command(args)
            .env("LANDFALL_JWT_SECRET", SECRET)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap())
            .read_line(&mut line)
            .unwrap();
        let url = line
            .trim_end()
            .strip_prefix("listening on ")
            .expect("the first line")
            .to_owned();
        assert!(url.starts_with("http://127.0.0.1:"), "{url}");
        Self { child, url }
    }

    /// Sends a signal and waits for the end: the exit code and the log.
    fn signal(mut self, name: &str) -> (Option<i32>, String) {
        let id = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-s", name, &id])
                .status()
                .unwrap()
                .success()
        );
        let code = self.child.wait().unwrap().code();
        let mut log = String::new();
        self.child
            .stderr
            .as_mut()
            .unwrap()
            .read_to_string(&mut log)
            .unwrap();
        (code, log)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_landfall-server"));
    command
        .args(["--listen", "127.0.0.1:0"])
        .args(args)
        .env_remove("LANDFALL_JWT_SECRET");
    command
}

async fn token(url: &str, user: &str) -> String {
    let ask = reqwest::Client::new()
        .post(format!("{url}/demo/token"))
        .json(&json!({"user": user}));
    let given: Value = ask.send().await.unwrap().json().await.unwrap();
    given["token"].as_str().unwrap().to_owned()
}

async fn page(url: &str, token: &str, query: &str) -> Value {
    let ask = reqwest::Client::new().get(format!("{url}/api/v1/sync/pull?limit=1000{query}"));
    ask.bearer_auth(token)
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap()
}

fn create(record: &str) -> Value {
    json!({"protocol": 1, "clientId": "c1", "changes": [{
        "id": format!("m-{record}"), "type": "sites", "action": "create", "offlineId": record,
        "versionNumber": 0, "data": {"private": "kept out of logs"}, "at": "1763690000000-0000-c1",
    }]})
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[tokio::test]
async fn a_demo_starts_with_its_seed_and_ends_at_a_signal() {
    let folder = tempfile::tempdir().unwrap();
    let (db, seed) = (folder.path().join("db"), folder.path().join("seed.json"));
    std::fs::write(&seed, r#"[{"id": "s1", "name": "North"}, {"id": "s2"}]"#).unwrap();
    let args = [
        "--db",
        text(&db),
        "--demo",
        "--log",
        "debug",
        "--log-json",
        "--seed",
        text(&seed),
    ];
    let args = [&args[..], &["--seed-type", "sites", "--seed-user", "demo"]].concat();
    for signal in ["TERM", "INT"] {
        let process = Process::start(&args);
        let token = token(&process.url, "demo").await;
        let page = page(&process.url, &token, "").await;
        assert_eq!(page["changes"].as_array().unwrap().len(), 2, "seeded once");
        let (code, log) = process.signal(signal);
        assert_eq!(code, Some(0));
        assert!(
            log.lines()
                .all(|line| serde_json::from_str::<Value>(line).is_ok()),
            "{log}"
        );
        assert!(log.contains("shutting down") && !log.contains(&token) && !log.contains("North"));
    }
}

/// A `success` that was answered is on disk, whatever becomes of the process.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_answered_survives_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path().join("db");
    let args = ["--db", text(&db), "--demo", "--log", "debug"];
    let mut answered = Vec::new();
    for round in 0..3 {
        let process = Process::start(&args);
        let token = token(&process.url, "demo").await;
        let url = process.url.clone();
        let pushing = tokio::spawn(async move {
            let http = reqwest::Client::new();
            let mut answered = Vec::new();
            for n in 0.. {
                let record = format!("{round}-{n}");
                let request = http
                    .post(format!("{url}/api/v1/sync/batch"))
                    .bearer_auth(&token);
                let Ok(answer) = request.json(&create(&record)).send().await else {
                    break;
                };
                let Ok(answer) = answer.json::<Value>().await else {
                    break;
                };
                assert_eq!(answer["results"][0]["status"], "success", "{answer}");
                answered.push(record);
            }
            answered
        });
        tokio::time::sleep(Duration::from_millis(300)).await;
        let (_, log) = process.signal("KILL");
        assert!(!log.contains("kept out"), "{log}");
        answered.extend(pushing.await.unwrap());
    }
    assert!(!answered.is_empty());
    let process = Process::start(&args);
    let token = token(&process.url, "demo").await;
    let mut kept = HashSet::new();
    let mut since = String::new();
    loop {
        let page = page(&process.url, &token, &since).await;
        let changes = page["changes"].as_array().unwrap();
        kept.extend(
            changes
                .iter()
                .map(|change| change["id"].as_str().unwrap().to_owned()),
        );
        since = format!("&since={}", page["checkpoint"].as_str().unwrap());
        if page["hasMore"] == false {
            break;
        }
    }
    let lost: Vec<_> = answered
        .iter()
        .filter(|record| !kept.contains(*record))
        .collect();
    assert!(lost.is_empty(), "{lost:?}");
    // At each kill one change may have been applied without its answer getting out.
    assert!(kept.len() <= answered.len() + 3);
}

#[test]
fn faults_at_the_start_are_told_in_a_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let newer = folder.path().join("newer.db");
    let database = rusqlite::Connection::open(&newer).unwrap();
    database
        .pragma_update(None, "application_id", 0x4C4E_4446)
        .unwrap();
    database.pragma_update(None, "user_version", 99).unwrap();
    drop(database);
    let text_file = folder.path().join("text");
    std::fs::write(&text_file, "this is no database, but a text of some length").unwrap();
    let misspelt = folder.path().join("landfall.toml");
    std::fs::write(&misspelt, "[rates]\nuser_brust = 5\n").unwrap();
    for (args, sentence) in [
        (vec!["--db", ":memory:"], "no secret"),
        (
            vec!["--db", ":memory:", "--jwt-secret-file", text(&text_file)],
            "no types",
        ),
        (vec!["--demo"], "no database"),
        (
            vec!["--config", text(&misspelt)],
            "unknown field `user_brust`",
        ),
        (vec!["--config", text(&misspelt)], "line 2"),
        (vec!["--db", text(&newer), "--demo"], "schema version 99"),
        (
            vec!["--db", text(&text_file), "--demo"],
            "cannot open the database",
        ),
        (
            vec!["--db", ":memory:", "--demo", "--cors-origin", "nonsense"],
            "not an origin",
        ),
    ] {
        let output = command(&args).output().unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(output.stdout.is_empty());
        assert!(told.contains(sentence), "{told}");
    }
}

#[test]
fn the_configuration_in_force_is_shown_without_secrets() {
    let folder = tempfile::tempdir().unwrap();
    let (file, secret) = (
        folder.path().join("landfall.toml"),
        folder.path().join("secret"),
    );
    std::fs::write(&secret, SECRET).unwrap();
    std::fs::write(
        &file,
        "log = \"debug\"\n[database]\npath = \"here.db\"\n[tokens]\nsecret_file = \"secret\"\n\
         [types.sites]\nentity = \"site\"\n",
    )
    .unwrap();
    let show = |args: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_landfall-server"))
            .arg("check-config")
            .args(args)
            .env("LANDFALL_JWT_SECRET", SECRET)
            .env("LANDFALL_LOG", "warn")
            .env("LANDFALL_USER_RATE", "7")
            .output()
            .unwrap();
        let (told, error) = (output.stdout, String::from_utf8(output.stderr).unwrap());
        assert!(output.status.success(), "{error}");
        String::from_utf8(told).unwrap()
    };
    // The command line over the environment over the file over the defaults.
    let shown = show(&["--config", text(&file), "--user-rate", "9"]);
    for line in [
        "user_per_second = 9",
        "log = \"warn\"",
        "[types.sites]",
        "entity = \"site\"",
        "leeway_s = 30",
        "open_types = false",
        "metrics = \"off\"",
    ] {
        assert!(shown.contains(line), "{line} should be in {shown}");
    }
    assert!(!shown.contains(SECRET));
    let demo = show(&["--db", ":memory:", "--demo"]);
    assert!(demo.contains("LANDFALL_JWT_SECRET") && !demo.contains(SECRET));
    // What is shown sets the same.
    let again = folder.path().join("again.toml");
    std::fs::write(&again, &shown).unwrap();
    assert_eq!(show(&["--config", text(&again), "--user-rate", "9"]), shown);
    assert!(
        !folder.path().join("here.db").exists(),
        "nothing was opened"
    );
}

#[tokio::test]
async fn metrics_can_have_an_address_of_their_own() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = port.local_addr().unwrap().to_string();
    drop(port);
    let process = Process::start(&["--db", ":memory:", "--demo", "--metrics", &address]);
    let get = async |url: String| reqwest::get(url).await.unwrap();
    let apart = get(format!("http://{address}/metrics")).await;
    let kind = apart.headers()["content-type"].to_str().unwrap().to_owned();
    assert!(kind.starts_with("application/openmetrics-text"), "{kind}");
    assert!(apart.text().await.unwrap().contains("landfall_requests"));
    assert_eq!(get(format!("http://{address}/readyz")).await.status(), 200);
    let beside = get(format!("{}/metrics", process.url)).await;
    assert_eq!(beside.status(), 404);
}

/// Everything that goes wrong at once, at the most talkative level: nothing of what clients sent
/// may be in the log.
#[tokio::test(flavor = "multi_thread")]
async fn a_busy_log_holds_no_secrets() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path().join("db");
    let process = Process::start(&["--db", text(&db), "--demo", "--log", "trace", "--log-json"]);
    let (url, http) = (process.url.clone(), reqwest::Client::new());
    let token = token(&url, "a-secret-user").await;
    let api = format!("{url}/api/v1/sync");
    let long = "x".repeat(5000);
    let bodies = [
        create("a-secret-record").to_string(),
        create("a-secret-record")
            .to_string()
            .replace("create", "update"),
        create("a-secret-record")
            .to_string()
            .replace("sites", "a-secret,type"),
        create("a-secret-record")
            .to_string()
            .replace("{\"private\"", "[\"private\""),
        "{\"a-secret\": \"a-secret-text\", nonsense".into(),
        "\"a-secret-text\"".into(),
        format!("{{\"a-secret\":\"{long}\"}}"),
    ];
    for bearer in [&token, "a-secret.token.that-is-none"] {
        for body in &bodies {
            let push = http.post(format!("{api}/batch?a-secret-query=1"));
            let push = push.bearer_auth(bearer).header("x-request-id", "shown-id");
            push.body(body.clone()).send().await.unwrap();
        }
        for path in [
            "/pull?since=a-secret-checkpoint",
            "/pull?types=a-secret,,b&limit=0",
            "/pull?limit=a-secret",
            "/status?access_token=a-secret",
        ] {
            let get = http.get(format!("{api}{path}")).bearer_auth(bearer);
            get.send().await.unwrap();
        }
    }
    let (_, log) = process.signal("TERM");
    assert!(
        log.contains("shown-id") && log.contains("/api/v1/sync/batch"),
        "{log}"
    );
    let parts: Vec<&str> = token.split('.').collect();
    for secret in [
        "a-secret", "private", "kept out", SECRET, parts[1], parts[2],
    ] {
        let found = log.lines().find(|line| line.contains(secret));
        assert!(found.is_none(), "{secret} is in {found:?}");
    }
}

/// The whole of a shutdown, while all of these are under way: a stream of events, an upload of which
/// half has come, a file being read by somebody slow, and batches. The stream and the upload end at
/// once, the upload's bytes are kept, and every batch that was answered is there after a restart.
#[tokio::test(flavor = "multi_thread")]
async fn a_signal_ends_everything_in_good_order() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path().join("db");
    let args = ["--db", text(&db), "--demo", "--log", "warn"];
    let process = Process::start(&args);
    let (url, token) = (process.url.clone(), token(&process.url, "demo").await);
    let http = reqwest::Client::new();
    let api = format!("{url}/api/v1/sync");
    let content = vec![7; 8 << 20];

    let put = |id: &str, url: &str| {
        let digest = BASE64_STANDARD.encode(Checksum::of(&content).0);
        let request = http
            .put(format!("{url}/api/v1/sync/media/{id}"))
            .bearer_auth(&token);
        request.header("repr-digest", format!("sha-256=:{digest}:"))
    };
    let uploaded = put("whole", &url)
        .body(content.clone())
        .send()
        .await
        .unwrap();
    assert_eq!(uploaded.status(), 201);

    let stream = http.get(format!("{api}/stream")).bearer_auth(&token);
    let mut stream = stream.send().await.unwrap();
    assert!(stream.chunk().await.unwrap().is_some());
    let streaming = tokio::spawn(async move {
        while let Ok(Some(_)) = stream.chunk().await {}
        Instant::now()
    });

    let slow = http.get(format!("{api}/media/whole")).bearer_auth(&token);
    let mut slow = slow.send().await.unwrap();
    let reading = tokio::spawn(async move {
        let mut read = 0;
        while let Ok(Some(chunk)) = slow.chunk().await {
            read += chunk.len();
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        read
    });

    let half = content.len() / 2 + 1;
    let address = url.strip_prefix("http://").unwrap().to_owned();
    let mut upload = TcpStream::connect(address).await.unwrap();
    let head = put("half", &url).body(content.clone()).build().unwrap();
    let mut text = String::from("PUT /api/v1/sync/media/half HTTP/1.1\r\nhost: x\r\n");
    for (name, value) in head.headers() {
        text += &format!("{name}: {}\r\n", value.to_str().unwrap());
    }
    text += &format!("content-length: {}\r\n\r\n", content.len());
    upload.write_all(text.as_bytes()).await.unwrap();
    upload.write_all(&content[..half]).await.unwrap();

    let pushing = tokio::spawn({
        let (http, api, token) = (http.clone(), api.clone(), token.clone());
        async move {
            let mut answered = Vec::new();
            for n in 0.. {
                let record = format!("r{n}");
                let request = http.post(format!("{api}/batch")).bearer_auth(&token);
                let Ok(answer) = request.json(&create(&record)).send().await else {
                    break;
                };
                let answer = answer.json::<Value>().await.unwrap();
                assert_eq!(answer["results"][0]["status"], "success", "{answer}");
                answered.push(record);
            }
            answered
        }
    });
    tokio::time::sleep(Duration::from_millis(500)).await;

    let begun = Instant::now();
    let (code, log) = tokio::task::spawn_blocking(|| process.signal("TERM"))
        .await
        .unwrap();
    let took = begun.elapsed();
    assert_eq!((code, log.as_str()), (Some(0), ""));
    assert!(took < Duration::from_secs(15), "{took:?}");
    let ended = streaming.await.unwrap().saturating_duration_since(begun);
    assert!(ended < Duration::from_secs(1), "{ended:?}");
    assert_eq!(
        reading.await.unwrap(),
        content.len(),
        "what was being read was read to its end"
    );
    let mut answer = String::new();
    upload.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert!(
        answer.contains(&format!("upload-offset: {half}\r\n")),
        "{answer}"
    );
    let answered = pushing.await.unwrap();
    assert!(answered.len() > 1);

    let process = Process::start(&args);
    let rest = put("half", &process.url)
        .header(
            "content-range",
            format!("bytes {half}-{}/{}", content.len() - 1, content.len()),
        )
        .body(content[half..].to_vec());
    assert_eq!(rest.send().await.unwrap().status(), 201);
    let token = self::token(&process.url, "demo").await;
    let mut kept = HashSet::new();
    let mut since = String::new();
    loop {
        let page = page(&process.url, &token, &since).await;
        let changes = page["changes"].as_array().unwrap();
        kept.extend(
            changes
                .iter()
                .map(|change| change["id"].as_str().unwrap().to_owned()),
        );
        since = format!("&since={}", page["checkpoint"].as_str().unwrap());
        if page["hasMore"] == false {
            break;
        }
    }
    assert!(answered.iter().all(|record| kept.contains(record)));
}

/// Who is assigned while the server runs sees the entity at the next request; the program says what
/// it did.
#[tokio::test]
async fn assignments_are_made_from_the_command_line() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path().join("db");
    let run = |command: &str, more: &[&str]| {
        let mut program = Command::new(env!("CARGO_BIN_EXE_landfall-server"));
        program.args([command, "--db", text(&db)]).args(more);
        let output = program.output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        (output.status.success(), said.trim_end().to_owned())
    };
    let ann = ["--user", "ann", "--entity", "s1"];
    let said = |text: &str| (true, text.to_owned());
    assert_eq!(run("assign", &ann), said("ann is assigned to s1"));
    let process = Process::start(&["--db", text(&db), "--demo"]);
    let token = token(&process.url, "ann").await;
    assert_eq!(run("assign", &ann), said("ann was assigned to s1 already"));
    assert_eq!(
        run("unassign", &ann),
        said("ann is no longer assigned to s1")
    );
    assert_eq!(run("unassign", &ann), said("ann was not assigned to s1"));
    assert!(!run("assign", &["--user", "", "--entity", "s1"]).0);
    assert!(!run("assign", &["--user", "ann"]).0);
    page(&process.url, &token, "").await;
    assert_eq!(process.signal("TERM").0, Some(0));
}
