//! What is counted, and `GET /metrics`, which tells it in the text format of OpenMetrics, which
//! Prometheus reads.
//!
//! Labels are routes, statuses and outcomes: sets that the code bounds. No label is a user, a record or
//! anything else that a client chooses, since each would be told to whoever reads the metrics, and
//! each new value would be kept for ever.

use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::{Duration, Instant};

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::problem::Problem;
use crate::store::Verdict;

/// The media type of the text format.
const MEDIA_TYPE: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");

/// Upper bounds of the histogram's buckets, in seconds: from a cached read to the time limit.
const BUCKETS_S: [f64; 12] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0,
];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    method: &'static str,
    route: String,
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Routed {
    route: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Limited {
    by: By,
}

/// Whose bucket was empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(super) enum By {
    /// A user's.
    User,
    /// An address's.
    Peer,
}

/// All counters.
pub(super) struct Metrics {
    registry: Registry,
    requests: Family<Answered, Counter>,
    seconds: Family<Routed, Histogram>,
    in_flight: Gauge,
    changes: Family<Outcome, Counter>,
    pulled: Counter,
    limited: Family<Limited, Counter>,
    queued: Gauge,
    streams: Gauge,
}

/// Counts one more of something while it is there.
pub(super) struct Counted(Gauge<i64, AtomicI64>);

impl Counted {
    fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Metrics {
    pub(super) fn new() -> Self {
        let mut all = Self {
            registry: Registry::with_prefix("landfall"),
            requests: Family::default(),
            seconds: Family::new_with_constructor(|| Histogram::new(BUCKETS_S)),
            in_flight: Gauge::default(),
            changes: Family::default(),
            pulled: Counter::default(),
            limited: Family::default(),
            queued: Gauge::default(),
            streams: Gauge::default(),
        };
        let to = &mut all.registry;
        to.register("requests", "Requests answered", all.requests.clone());
        to.register_with_unit(
            "request_duration",
            "Time from a request's head to its answer's",
            Unit::Seconds,
            all.seconds.clone(),
        );
        to.register(
            "requests_in_flight",
            "Requests at work",
            all.in_flight.clone(),
        );
        to.register(
            "changes",
            "Changes received, by what became of them",
            all.changes.clone(),
        );
        to.register(
            "records_pulled",
            "Records sent in answer to pulls",
            all.pulled.clone(),
        );
        to.register(
            "rate_limited",
            "Requests refused for their rate",
            all.limited.clone(),
        );
        to.register(
            "writes_queued",
            "Batches waiting for the writer",
            all.queued.clone(),
        );
        to.register(
            "streams_open",
            "Event streams that are open",
            all.streams.clone(),
        );
        all
    }

    pub(super) fn rate_limited(&self, by: By) {
        self.limited.get_or_create(&Limited { by }).inc();
    }

    pub(super) fn pulled(&self, records: usize) {
        self.pulled.inc_by(records as u64);
    }

    /// Counts what became of a change.
    pub(super) fn change(&self, verdict: &Verdict) {
        let outcome = match verdict {
            Verdict::Success(_) => "success",
            Verdict::Conflict { .. } => "conflict",
            Verdict::Failed(failure) => failure.code.as_str(),
        };
        self.changes.get_or_create(&Outcome { outcome }).inc();
    }
}

/// Counts and times every request.
pub(super) async fn measure(
    State(metrics): State<Arc<Metrics>>,
    request: Request,
    next: Next,
) -> Response {
    let started = Instant::now();
    let route = route(&request).to_owned();
    let method = method(request.method());
    let in_flight = Counted::new(&metrics.in_flight);
    let response = next.run(request).await;
    drop(in_flight);
    metrics.answered(method, route, response.status(), started.elapsed());
    response
}

impl Metrics {
    fn answered(&self, method: &'static str, route: String, status: StatusCode, took: Duration) {
        let routed = Routed {
            route: route.clone(),
        };
        self.seconds
            .get_or_create(&routed)
            .observe(took.as_secs_f64());
        let answered = Answered {
            method,
            route,
            status: status.as_u16(),
        };
        self.requests.get_or_create(&answered).inc();
    }

    /// The text.
    pub(super) fn render(&self, queued: usize, streams: usize) -> Result<Response, Problem> {
        self.queued.set(i64::try_from(queued).unwrap_or(i64::MAX));
        self.streams.set(i64::try_from(streams).unwrap_or(i64::MAX));
        let mut text = String::new();
        encode(&mut text, &self.registry)
            .map_err(|_| Problem::unavailable("the metrics cannot be written"))?;
        Ok(([(header::CONTENT_TYPE, MEDIA_TYPE)], text).into_response())
    }
}

/// The route as it was declared; what has none (files, unknown addresses) is one.
pub(super) fn route(request: &Request) -> &str {
    let matched = request.extensions().get::<MatchedPath>();
    matched.map_or("other", MatchedPath::as_str)
}

/// The method, unless a client made it up.
fn method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}
