//! The protocol over HTTP: routes, and the layers around them.
//!
//! A request passes, from the outside in: the log, the counters, the problem documents (whatever a layer or a
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
mod media;
mod metrics;
mod openapi;
mod places;
mod problem;
mod pull;
mod rates;
mod status;
pub(crate) mod stopping;
mod stream;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{HeaderValue, Method, header};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{MethodRouter, get, post};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::predicate::{DefaultPredicate, Predicate, SizeAbove};
use tower_http::compression::{CompressionLayer, CompressionLevel};
use tower_http::cors::CorsLayer;
use tower_http::decompression::RequestDecompressionLayer;
use tower_http::set_header::SetResponseHeaderLayer;

use self::guard::{Gate, REQUEST_ID};
use self::metrics::Metrics;
use self::places::Places;
use self::problem::Problem;
use self::rates::Rates;
use self::stopping::Stopping;
use crate::access::TypeRules;
use crate::config::{self, Config, Cors, Demo, MediaLimits, StreamLimits};
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
    media_limits: MediaLimits,
    uploads: Arc<Places>,
    stream_limits: StreamLimits,
    streams: Arc<Places>,
    stopping: Stopping,
    types: TypeRules,
    rates: Arc<Rates>,
    metrics: Arc<Metrics>,
}

/// What a server serves.
pub(crate) struct Routers {
    /// The API and what stands beside it.
    pub(crate) api: Router,
    /// The metrics, where they have an address of their own.
    pub(crate) apart: Option<Router>,
}

/// All routes with all their layers.
pub(crate) fn routers(store: Arc<dyn Store>, config: &Config, stopping: Stopping) -> Routers {
    let app = App {
        store,
        tokens: Arc::clone(&config.tokens),
        demo: config.demo,
        media_limits: config.media.clone(),
        uploads: Places::new(limits::UPLOADS_MAX, limits::UPLOADS_PER_USER_MAX),
        stream_limits: config.stream.clone(),
        streams: Places::new(config.stream.all, config.stream.each),
        stopping,
        types: config.types.clone(),
        rates: Arc::new(Rates::new(config)),
        metrics: Arc::new(Metrics::new()),
    };
    let apart = match config.metrics {
        config::Metrics::Apart(_) => {
            let router = operations().merge(counted()).with_state(app.clone());
            Some(router.layer(from_fn(problem::normalise)))
        }
        config::Metrics::Off | config::Metrics::Beside => None,
    };
    let beside = match config.metrics {
        config::Metrics::Beside => counted(),
        config::Metrics::Off | config::Metrics::Apart(_) => Router::new(),
    };
    let gate = Gate::new(&config.tokens);

    let mut routes = Router::new()
        .nest(API, api())
        .merge(operations())
        .merge(beside)
        .with_state(app.clone());
    let metrics = Arc::clone(&app.metrics);
    if config.demo != Demo::Off {
        routes = routes.merge(
            Router::new()
                .route("/demo/token", post(demo::token))
                .layer(body_limits())
                .with_state(app.clone()),
        );
    }
    routes = match &config.static_dir {
        Some(folder) => routes.fallback_service(files::service(folder)),
        None => routes.fallback(not_found),
    };

    let routes = routes
        .layer(compression())
        .layer(from_fn_with_state(gate.clone(), guard::admit))
        .merge(long(&gate).with_state(app))
        .layer(CatchPanicLayer::custom(problem::of_panic));
    let routes = match cors(&config.cors) {
        Some(cors) => routes.layer(cors),
        None => routes,
    };
    let api = routes
        .layer(SetResponseHeaderLayer::if_not_present(
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        ))
        .layer(from_fn(problem::normalise))
        .layer(from_fn_with_state(metrics, metrics::measure))
        .layer(from_fn(guard::log));
    Routers { api, apart }
}

/// How the server is, for those who run it.
fn operations() -> Router<App> {
    Router::new()
        .route("/healthz", get(status::health))
        .route("/readyz", get(status::ready))
        .route("/openapi.json", get(openapi::openapi))
}

/// The metrics.
fn counted() -> Router<App> {
    Router::new().route("/metrics", get(status::metrics))
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

/// What takes as long as a network or a user does: neither compressed nor bounded in time as a whole,
/// and with places of its own, so that it takes none from the rest.
fn long(gate: &Gate) -> Router<App> {
    let brief =
        |methods: MethodRouter<App>| methods.layer(from_fn_with_state(gate.clone(), guard::admit));
    let routes = media::routes(brief).route("/stream", get(stream::stream));
    // Answers belong to the bearer of a token.
    let routes = routes.layer(SetResponseHeaderLayer::if_not_present(
        header::CACHE_CONTROL,
        HeaderValue::from_static("no-store"),
    ));
    Router::new().nest(API, routes)
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
        .allow_methods([
            Method::GET,
            Method::HEAD,
            Method::POST,
            Method::PUT,
            Method::DELETE,
        ])
        .allow_headers([
            header::AUTHORIZATION,
            header::CONTENT_TYPE,
            header::CONTENT_ENCODING,
            header::CONTENT_RANGE,
            header::IF_NONE_MATCH,
            header::IF_RANGE,
            header::RANGE,
            stream::LAST_EVENT_ID,
            media::REPR_DIGEST,
            REQUEST_ID,
        ])
        // Clients read the server's clock, how long to wait and which part of a file they got; pages
        // of other origins may not unless told so.
        .expose_headers([
            header::DATE,
            header::RETRY_AFTER,
            header::ACCEPT_RANGES,
            header::CONTENT_RANGE,
            header::ETAG,
            media::REPR_DIGEST,
            media::UPLOAD_LENGTH,
            media::UPLOAD_OFFSET,
            REQUEST_ID,
        ])
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
