//! A server for one test, and a client that speaks the protocol without knowing the crate's types.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use axum::middleware::from_fn;

use landfall_server::Config;
use landfall_server::Server;
use landfall_server::access::TypeRules;
use landfall_server::ids::{RecordType, UnixMillis, UserId};
use landfall_server::store::Store;
use landfall_server::store::sqlite::{Location, SqliteStore};
use landfall_server::token::{Secret, Tokens};
use reqwest::{RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::described;

use crate::storage;

pub(crate) const SECRET: &str = "a secret for tests, of 32 bytes or more";

pub(crate) struct TestServer {
    pub(crate) url: String,
    stop: oneshot::Sender<()>,
    done: JoinHandle<()>,
}

pub(crate) fn secret() -> Secret {
    Secret::new(SECRET).unwrap()
}

pub(crate) fn now_s() -> u64 {
    UnixMillis::now().0 / 1000
}

pub(crate) fn token(user: &str) -> String {
    let user = UserId::new(user).unwrap();
    Tokens::new(&secret()).issue(&user, now_s() + 600).unwrap()
}

impl TestServer {
    pub(crate) async fn in_memory() -> Self {
        Self::with(Config::new(Location::Memory, secret())).await
    }

    pub(crate) async fn on(file: &Path) -> Self {
        Self::with(Config::new(Location::File(file.into()), secret())).await
    }

    pub(crate) async fn with(mut config: Config) -> Self {
        config.database = storage::place(config.database);
        Self::run(Server::open(config).await.unwrap()).await
    }

    pub(crate) async fn over(store: impl Store) -> Self {
        let config = Config::new(Location::Memory, secret());
        Self::run(Server::with_store(Arc::new(store), &config)).await
    }

    /// With a hand on its store.
    pub(crate) async fn and_store(mut config: Config) -> (Self, Arc<dyn Store>) {
        config.database = storage::place(config.database);
        let server = Server::open(config).await.unwrap();
        let store = server.store();
        (Self::run(server).await, store)
    }

    async fn run(server: Server) -> Self {
        let server = server.layered(|router| router.layer(from_fn(described::check)));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (stop, stopped) = oneshot::channel();
        let done = tokio::spawn(async move {
            let shutdown = async {
                let _ = stopped.await;
            };
            server.run(listener, shutdown).await.unwrap();
        });
        Self { url, stop, done }
    }

    pub(crate) async fn stop(self) {
        let _ = self.stop.send(());
        self.done.await.unwrap();
    }

    pub(crate) fn client(&self, user: &str) -> Client {
        self.member(user, &[])
    }

    /// A user whose token names these entities.
    pub(crate) fn member(&self, user: &str, entities: &[&str]) -> Client {
        let name = UserId::new(user).unwrap();
        let token = Tokens::new(&secret()).issue_for(&name, entities, now_s() + 600);
        Client {
            http: reqwest::Client::new(),
            api: format!("{}/api/v1/sync", self.url),
            token: token.unwrap(),
            id: "c1".into(),
        }
    }

    /// A server on which `tasks` are shared by their field `site`, and its store.
    pub(crate) async fn shared() -> (Self, Arc<SqliteStore>) {
        let store = Arc::new(SqliteStore::open(&Location::Memory).unwrap());
        let tasks = RecordType::new("tasks").unwrap();
        let config = Config {
            types: TypeRules::shared([(tasks, "site".into())]),
            ..Config::new(Location::Memory, secret())
        };
        let server = Server::with_store(Arc::clone(&store) as Arc<dyn Store>, &config);
        (Self::run(server).await, store)
    }
}

#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) http: reqwest::Client,
    pub(crate) api: String,
    pub(crate) token: String,
    pub(crate) id: String,
}

impl Client {
    pub(crate) fn named(&self, id: &str) -> Self {
        Self {
            id: id.into(),
            ..self.clone()
        }
    }

    pub(crate) fn get(&self, path: &str) -> RequestBuilder {
        self.http
            .get(format!("{}{path}", self.api))
            .bearer_auth(&self.token)
    }

    pub(crate) fn post(&self, path: &str) -> RequestBuilder {
        self.http
            .post(format!("{}{path}", self.api))
            .bearer_auth(&self.token)
    }

    pub(crate) fn batch(&self, changes: &[Value]) -> Value {
        json!({"protocol": 1, "clientId": self.id, "changes": changes})
    }

    /// The results of a batch that the server accepts.
    pub(crate) async fn push(&self, changes: &[Value]) -> Vec<Value> {
        let response = self
            .post("/batch")
            .json(&self.batch(changes))
            .send()
            .await
            .unwrap();
        assert_eq!(response.status(), 200);
        let mut answer: Value = response.json().await.unwrap();
        let Value::Array(results) = answer["results"].take() else {
            panic!("{answer}")
        };
        assert_eq!(results.len(), changes.len());
        for (result, change) in results.iter().zip(changes) {
            assert_eq!(
                (&result["id"], &result["offlineId"]),
                (&change["id"], &change["offlineId"])
            );
        }
        results
    }

    pub(crate) async fn pull(&self, query: &str) -> Value {
        let response = self.get(&format!("/pull{query}")).send().await.unwrap();
        assert_eq!(response.status(), 200);
        response.json().await.unwrap()
    }

    /// All records from the beginning.
    pub(crate) async fn records(&self) -> Vec<Value> {
        let Value::Array(changes) = self.pull("?limit=1000").await["changes"].take() else {
            panic!()
        };
        changes
    }

    pub(crate) async fn status(&self) -> Value {
        self.get("/status")
            .send()
            .await
            .unwrap()
            .json()
            .await
            .unwrap()
    }
}

pub(crate) fn change(mutation: &str, action: &str, record: &str, base: u64) -> Value {
    let mut change = json!({
        "id": mutation, "type": "sites", "action": action, "offlineId": record,
        "versionNumber": base, "at": "1763690000000-0000-c1",
    });
    if action != "delete" {
        change["data"] = json!({"by": mutation});
    }
    change
}

pub(crate) fn create(mutation: &str, record: &str) -> Value {
    change(mutation, "create", record, 0)
}

/// A change of a record that is shared by its field `site`.
pub(crate) fn task(mutation: &str, action: &str, record: &str, base: u64, site: &str) -> Value {
    let mut task = change(mutation, action, record, base);
    task["type"] = json!("tasks");
    if action != "delete" {
        task["data"]["site"] = json!(site);
    }
    task
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(crate) fn statuses(results: &[Value]) -> Vec<&str> {
    results
        .iter()
        .map(|result| result["status"].as_str().unwrap())
        .collect()
}

/// Asserts that an answer is the problem document with this status and code; its detail.
pub(crate) async fn problem(response: Response, status: u16, code: &str) -> String {
    assert_eq!(response.status(), StatusCode::from_u16(status).unwrap());
    let headers = response.headers().clone();
    assert_eq!(headers["content-type"], "application/problem+json");
    assert!(headers.contains_key("date"));
    let document: Value = response.json().await.unwrap();
    assert_eq!(document["type"], "about:blank");
    assert_eq!(document["status"], status);
    assert_eq!(document["code"], code);
    assert!(document["title"].is_string());
    document["detail"].as_str().unwrap().to_owned()
}
