//! A server process that can be killed and started again at the same address, and a client that
//! goes on until it has an answer.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use landfall_server::ids::{UnixMillis, UserId};
use landfall_server::token::{Secret, Tokens};
use serde_json::{Value, json};
use tempfile::TempDir;
use throwaway_postgres::{Cluster, PASSWORD};

const SECRET: &str = "a secret for tests, of 32 bytes or more";

/// How long a client tries to get an answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where servers keep their records.
pub(crate) enum Storage {
    Sqlite(TempDir),
    Postgres(String),
}

impl Storage {
    pub(crate) fn sqlite() -> Self {
        Self::Sqlite(tempfile::tempdir().unwrap())
    }

    pub(crate) fn postgres() -> Self {
        Self::Postgres(Cluster::shared().database().url)
    }
}

/// A server process.
pub(crate) struct Server {
    child: Child,
    pub(crate) url: String,
}

impl Server {
    /// Starts one at a free port, or at that of `before`.
    pub(crate) fn start(storage: &Storage, before: Option<&str>) -> Self {
        let listen = before.map_or("127.0.0.1:0", |url| url.strip_prefix("http://").unwrap());
        let mut command = Command::new(env!("CARGO_BIN_EXE_landfall-server"));
        command
            .args(["--listen", listen, "--log", "debug", "--open-types"])
            .env("LANDFALL_JWT_SECRET", SECRET)
            .env_remove("LANDFALL_DATABASE_URL")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        match storage {
            Storage::Sqlite(folder) => command.arg("--db").arg(folder.path().join("db")),
            Storage::Postgres(url) => command.env("LANDFALL_DATABASE_URL", url),
        };
        let mut child = command.spawn().unwrap();
        // The log is looked at line by line, whatever becomes of the process.
        let log = BufReader::new(child.stderr.take().unwrap());
        std::thread::spawn(move || {
            for line in log.lines().map_while(Result::ok) {
                if line.contains(PASSWORD) {
                    eprintln!("the log tells the password: {line}");
                    std::process::abort();
                }
            }
        });
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap())
            .read_line(&mut line)
            .unwrap();
        let url = line.trim_end().strip_prefix("listening on ");
        let url = url.expect("the first line").to_owned();
        Self { child, url }
    }

    /// Ends it with SIGKILL and starts another one in its place.
    pub(crate) fn replace(self, storage: &Storage) -> Self {
        let url = self.url.clone();
        drop(self);
        Self::start(storage, Some(&url))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // SIGKILL.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What asks over HTTP. Of a connection that a kill has cut it may never hear again: then it asks anew.
fn patient() -> reqwest::Client {
    let limit = Duration::from_secs(10);
    reqwest::Client::builder().timeout(limit).build().unwrap()
}

/// A client that knows one server, or several.
#[derive(Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    urls: Vec<String>,
    token: String,
    id: String,
    /// Requests that had to be sent again.
    pub(crate) again: Arc<AtomicUsize>,
}

impl Client {
    pub(crate) fn new(urls: &[&str], user: &str, id: &str) -> Self {
        let until = UnixMillis::now().0 / 1000 + 600;
        let tokens = Tokens::new(&Secret::new(SECRET).unwrap());
        Self {
            http: patient(),
            urls: urls.iter().map(ToString::to_string).collect(),
            token: tokens.issue(&UserId::new(user).unwrap(), until).unwrap(),
            id: id.into(),
            again: Arc::default(),
        }
    }

    /// Sends until there is an answer, each time to the next server.
    async fn ask(&self, send: impl Fn(&str) -> reqwest::RequestBuilder) -> Value {
        let until = Instant::now() + PATIENCE;
        for url in self.urls.iter().cycle() {
            let api = format!("{url}/api/v1/sync");
            let sent = send(&api).bearer_auth(&self.token).send().await;
            if let Ok(response) = sent {
                let status = response.status().as_u16();
                assert!(matches!(status, 200 | 429 | 503), "{status}: {response:?}");
                // A body that breaks off is no answer.
                if let (200, Ok(answer)) = (status, response.json().await) {
                    return answer;
                }
            }
            self.again.fetch_add(1, Ordering::Relaxed);
            assert!(Instant::now() < until, "no answer");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("there is no server")
    }

    /// The results of a batch.
    pub(crate) async fn push(&self, changes: &[Value]) -> Vec<Value> {
        let batch = json!({"protocol": 1, "clientId": self.id, "changes": changes});
        let answer = self
            .ask(|api| self.http.post(format!("{api}/batch")).json(&batch))
            .await;
        answer["results"].as_array().unwrap().clone()
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        self.ask(|api| self.http.get(format!("{api}{path}"))).await
    }
}

/// A reader who goes on from checkpoint to checkpoint.
#[derive(Default)]
pub(crate) struct Reader {
    since: String,
    /// The newest version of each record.
    pub(crate) seen: HashMap<String, u64>,
}

impl Reader {
    /// Reads all there is, in small pages.
    pub(crate) async fn read(&mut self, client: &Client) {
        loop {
            let page = client.get(&format!("/pull?limit=50{}", self.since)).await;
            for change in page["changes"].as_array().unwrap() {
                let id = change["id"].as_str().unwrap().to_owned();
                let version = change["versionNumber"].as_u64().unwrap();
                let before = self.seen.insert(id, version);
                assert!(before.is_none_or(|before| before < version), "{change}");
            }
            self.since = format!("&since={}", page["checkpoint"].as_str().unwrap());
            if page["hasMore"] == false {
                return;
            }
        }
    }
}

/// Records of a batch of [`Writer`]; as many are updated as created.
const HALF: usize = 50;

/// Sends full batches: new records, and updates of those of the batch before.
pub(crate) struct Writer {
    pub(crate) client: Client,
    batches: usize,
}

impl Writer {
    pub(crate) fn new(client: Client) -> Self {
        Self { client, batches: 0 }
    }

    /// The next batch.
    pub(crate) fn next(&mut self) -> Vec<Value> {
        let (id, batch) = (&self.client.id, self.batches);
        self.batches += 1;
        let change = |action: &str, batch: usize, n: usize, base: u64| {
            json!({
                "id": format!("{action}-{id}-{batch}-{n}"), "type": "sites", "action": action,
                "offlineId": format!("{id}-{batch}-{n}"), "versionNumber": base,
                "data": {"text": "x".repeat(100)}, "at": format!("1763690000000-0000-{id}"),
            })
        };
        let creates = (0..HALF).map(|n| change("create", batch, n, 0));
        let before = batch.checked_sub(1).into_iter();
        let updates = before.flat_map(|before| (0..HALF).map(move |n| (before, n)));
        creates
            .chain(updates.map(|(before, n)| change("update", before, n, 1)))
            .collect()
    }

    /// Sends the next batch until it is answered. Each change must have taken effect once: a create
    /// that did twice would be a conflict, or have another version.
    pub(crate) async fn write(&mut self) {
        let changes = self.next();
        let results = self.client.push(&changes).await;
        check(&changes, &results);
    }

    /// Asserts that the reader's records hold what this client has written.
    pub(crate) fn check(&self, reader: &Reader) {
        for batch in 0..self.batches {
            let version = if batch + 1 < self.batches { 2 } else { 1 };
            for n in 0..HALF {
                let record = format!("{}-{batch}-{n}", self.client.id);
                assert_eq!(reader.seen.get(&record), Some(&version), "{record}");
            }
        }
    }

    /// How many records it has written.
    pub(crate) fn records(&self) -> usize {
        self.batches * HALF
    }
}

/// Asserts that each change took effect.
pub(crate) fn check(changes: &[Value], results: &[Value]) {
    assert_eq!(changes.len(), results.len());
    for (change, result) in changes.iter().zip(results) {
        let version = change["versionNumber"].as_u64().unwrap() + 1;
        assert_eq!(result["status"], "success", "{result}");
        assert_eq!(result["versionNumber"], version, "{result}");
    }
}
