//! `GET /openapi.json`: what the server answers, for people and programs.
//!
//! The description is a file kept by hand: a macro on each handler would know the handler's own answers, but
//! not those of the layers around it, which are most. What keeps it true is that the tests check
//! every answer that they get against it (`tests/http/described.rs`), and that a test here compares its
//! addresses and methods with the router's.

use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};

const DESCRIPTION: &str = include_str!("../../openapi.json");

pub(super) async fn openapi() -> Response {
    let media_type = HeaderValue::from_static("application/json");
    let revalidate = HeaderValue::from_static("no-cache");
    let headers = [
        (header::CONTENT_TYPE, media_type),
        (header::CACHE_CONTROL, revalidate),
    ];
    (headers, DESCRIPTION).into_response()
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use serde_json::Value;

    use super::*;
    use crate::config::{Config, Demo, Metrics};
    use crate::server::Server;
    use crate::store::sqlite::{Location, SqliteStore};
    use crate::token::Secret;

    fn described() -> Value {
        serde_json::from_str(DESCRIPTION).unwrap()
    }

    const METHODS: [&str; 5] = ["get", "put", "post", "delete", "patch"];

    /// The addresses of the router and the methods of each. It tells them nowhere but in its `Debug`
    /// text; where that reads otherwise some day, nothing is found, and the test fails.
    fn routes() -> BTreeMap<String, BTreeSet<String>> {
        let store = std::sync::Arc::new(SqliteStore::open(&Location::Memory).unwrap());
        let config = Config {
            demo: Demo::Anyone,
            metrics: Metrics::Beside,
            ..Config::new(Location::Memory, Secret::random().unwrap())
        };
        let told = format!("{:?}", Server::with_store(store, &config).router());
        let (told, _) = told.split_once("fallback_router").unwrap();
        let (routers, paths) = told.split_once("paths: {").unwrap();
        let by_id = |text: &str| -> Vec<(String, String)> {
            let entries = text.split("RouteId(").skip(1);
            let entries = entries.filter_map(|entry| entry.split_once("): "));
            entries.map(|(id, rest)| (id.into(), rest.into())).collect()
        };
        let routers: BTreeMap<_, _> = by_id(routers).into_iter().collect();
        let route = |(id, rest): (String, String)| {
            let path = rest.split('"').nth(1).unwrap().to_owned();
            let methods = METHODS.iter().filter(|method| {
                let there = [format!(" {method}: Route"), format!(" {method}: Boxed")];
                there.iter().any(|there| routers[&id].contains(there))
            });
            (path, methods.map(ToString::to_string).collect())
        };
        by_id(paths).into_iter().map(route).collect()
    }

    #[test]
    fn every_route_is_described_and_nothing_else() {
        // HEAD comes with GET.
        let methods = |item: &Value| -> BTreeSet<String> {
            let names = item.as_object().unwrap().keys();
            let known = names.filter(|name| METHODS.contains(&name.as_str()));
            known.cloned().collect()
        };
        let described = described();
        let paths = described["paths"].as_object().unwrap().iter();
        let described: BTreeMap<_, _> = paths
            .map(|(path, item)| (path.clone(), methods(item)))
            .collect();
        assert_eq!(described, routes());
    }

    #[test]
    fn the_description_is_of_this_version() {
        assert_eq!(described()["info"]["version"], env!("CARGO_PKG_VERSION"));
    }
}
