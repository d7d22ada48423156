//! What every request passes: the log, and a gate that lets only so many in and gives each only so
//! much time.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::sync::Semaphore;

use super::problem::Problem;
use crate::limits;

/// Counts the requests in flight.
#[derive(Clone)]
pub(super) struct Gate(Arc<Semaphore>);

impl Gate {
    pub(super) fn new() -> Self {
        Self(Arc::new(Semaphore::new(limits::REQUESTS_IN_FLIGHT_MAX)))
    }
}

/// Lets the request in, or says at once that the server is full. A batch that runs out of time here
/// may still be applied; sent again, it gets the same results.
pub(super) async fn admit(State(gate): State<Gate>, request: Request, next: Next) -> Response {
    let Ok(_permit) = gate.0.try_acquire() else {
        return Problem::unavailable("too many requests at once").into_response();
    };
    tokio::time::timeout(limits::REQUEST_TIMEOUT, next.run(request))
        .await
        .unwrap_or_else(|_| Problem::unavailable("the request took too long").into_response())
}

/// One line for each request. Neither headers nor bodies nor the query: they hold tokens and
/// people's data.
pub(super) async fn log(request: Request, next: Next) -> Response {
    let started = Instant::now();
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let response = next.run(request).await;
    let took = started.elapsed();
    let status = response.status().as_u16();
    tracing::info!(%method, path, status, ?took, "request");
    response
}
