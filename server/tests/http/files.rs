use landfall_server::Config;
use landfall_server::store::sqlite::Location;

use crate::harness::{TestServer, problem, secret};

#[tokio::test(flavor = "multi_thread")]
async fn files_have_types_and_cache_rules() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("www");
    std::fs::create_dir_all(root.join("assets")).unwrap();
    std::fs::write(folder.path().join("private"), "private").unwrap();
    for (name, content) in [
        ("index.html", "<h1>start</h1>"),
        ("landfall_bg.wasm", "\0asm"),
        ("assets/app-DiwrgTda.js", "app"),
        ("style.css", "a{}"),
    ] {
        std::fs::write(root.join(name), content).unwrap();
    }
    let config = Config {
        static_dir: Some(root),
        ..Config::new(Location::Memory, secret())
    };
    let server = TestServer::with(config).await;
    let http = reqwest::Client::new();
    let get = |path: &str| http.get(format!("{}{path}", server.url)).send();
    for (path, media_type, cache) in [
        ("/", "text/html", "no-cache"),
        ("/index.html", "text/html", "no-cache"),
        ("/landfall_bg.wasm", "application/wasm", "no-cache"),
        (
            "/assets/app-DiwrgTda.js",
            "text/javascript",
            "public, max-age=31536000, immutable",
        ),
        ("/style.css", "text/css", "no-cache"),
    ] {
        let response = get(path).await.unwrap();
        assert_eq!(response.status(), 200, "{path}");
        assert_eq!(response.headers()["content-type"], media_type, "{path}");
        assert_eq!(response.headers()["cache-control"], cache, "{path}");
    }
    assert_eq!(
        get("/").await.unwrap().text().await.unwrap(),
        "<h1>start</h1>"
    );
    for path in [
        "/nothing.js",
        "/%2e%2e/private",
        "/..%2fprivate",
        "/api/v1/sync/nothing",
    ] {
        problem(get(path).await.unwrap(), 404, "not-found").await;
    }
    let unsigned = get("/api/v1/sync/pull").await.unwrap();
    problem(unsigned, 401, "unauthorized").await;
}
