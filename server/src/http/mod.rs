//! The protocol over HTTP: routes, and the layers around them.
//!
//! A request passes, from the outside in: the log, the problem documents (whatever a layer or a
//! route answers as an error leaves as one), CORS, the catching of panics, the bound on requests in
//! flight and their time, the compression of the answer, and for the API the bounds on the body
//! before and after its decompression.

mod auth;
mod batch;
mod body;
mod conflicts;
mod demo;
mod files;
mod guard;
mod problem;
mod pull;
mod status;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{HeaderName, HeaderValue, Method, header};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{get, post};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::predicate::{DefaultPredicate, Predicate, SizeAbove};
use tower_http::compression::{CompressionLayer, CompressionLevel};
use tower_http::cors::CorsLayer;
use tower_http::decompression::RequestDecompressionLayer;
use tower_http::set_header::SetResponseHeaderLayer;

use self::guard::Gate;
use self::problem::Problem;
use crate::access::TypeRules;
use crate::config::{Config, Cors, Demo};
use crate::limits;
use crate::store::Store;
use crate::token::Tokens;

/// Where the API is.
const API: &str = "/api/v1/sync";

/// What the handlers share.
#[derive(Clone)]
struct App {
    store: Arc<dyn Store>,
    tokens: Arc<Tokens>,
    demo: Demo,
    types: TypeRules,
}

/// All routes with all their layers.
pub(crate) fn router(store: Arc<dyn Store>, config: &Config) -> Router {
    let tokens = Arc::new(Tokens::new(&config.secret));
    let app = App {
        store,
        tokens,
        demo: config.demo,
        types: config.types.clone(),
    };

    let mut routes = Router::new()
        .nest(API, api())
        .route("/healthz", get(status::health))
        .with_state(app.clone());
    if config.demo != Demo::Off {
        routes = routes.merge(
            Router::new()
                .route("/demo/token", post(demo::token))
                .layer(body_limits())
                .with_state(app),
        );
    }
    routes = match &config.static_dir {
        Some(folder) => routes.fallback_service(files::service(folder)),
        None => routes.fallback(not_found),
    };

    let routes = routes
        .layer(compression())
        .layer(from_fn_with_state(Gate::new(), guard::admit))
        .layer(CatchPanicLayer::custom(problem::of_panic));
    let routes = match cors(&config.cors) {
        Some(cors) => routes.layer(cors),
        None => routes,
    };
    routes
        .layer(SetResponseHeaderLayer::if_not_present(
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        ))
        .layer(from_fn(problem::normalise))
        .layer(from_fn(guard::log))
}

fn api() -> Router<App> {
    Router::new()
        .route("/batch", post(batch::batch))
        .route("/pull", get(pull::pull))
        .route("/status", get(status::status))
        .route("/conflicts", get(conflicts::conflicts))
        .route("/resolve", post(conflicts::resolve))
        .fallback(not_found)
        .layer(body_limits())
        .layer(RequestDecompressionLayer::new())
        // Outside the decompression: bounds what arrives, not what becomes of it.
        .layer(from_fn(body::receive))
        // Answers belong to the bearer of a token.
        .layer(SetResponseHeaderLayer::if_not_present(
            header::CACHE_CONTROL,
            HeaderValue::from_static("no-store"),
        ))
}

/// Bounds what a handler reads, which is what the decompression made of it: a gzip bomb ends here
/// after the first byte too many.
fn body_limits() -> DefaultBodyLimit {
    DefaultBodyLimit::max(limits::BODY_BYTES_MAX)
}

/// The fastest level: at the speed of a local network the default one costs more time than the
/// smaller answer saves.
fn compression() -> CompressionLayer<impl Predicate> {
    let worth = DefaultPredicate::new().and(SizeAbove::new(limits::COMPRESS_BYTES_MIN));
    CompressionLayer::new()
        .quality(CompressionLevel::Fastest)
        .compress_when(worth)
}

fn cors(cors: &Cors) -> Option<CorsLayer> {
    let layer = CorsLayer::new()
        .allow_methods([Method::GET, Method::POST])
        .allow_headers([
            header::AUTHORIZATION,
            header::CONTENT_TYPE,
            header::CONTENT_ENCODING,
        ])
        // Clients read the server's clock and how long to wait; pages of other origins may not
        // unless told so.
        .expose_headers([header::DATE, header::RETRY_AFTER] as [HeaderName; 2])
        .max_age(limits::CORS_MAX_AGE);
    match cors {
        Cors::Off => None,
        Cors::Any => Some(layer.allow_origin(tower_http::cors::Any)),
        Cors::Origins(origins) => Some(layer.allow_origin(origins.clone())),
    }
}

async fn not_found() -> Problem {
    Problem::not_found()
}
