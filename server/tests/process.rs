//! The program itself, as a process: its command line, its first line, its end by a signal, and
//! what is left after it is killed.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

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
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
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
    for (args, sentence) in [
        (vec!["--db", ":memory:"], "no secret"),
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
