//! What every request passes: the log, and a gate that lets only so many in and gives each only so
//! much time.

use std::sync::Arc;
use std::time::Instant;

use axum::body::HttpBody;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::sync::{Semaphore, SemaphorePermit, TryAcquireError};
use tracing::Instrument;

use super::auth;
use super::problem::Problem;
use crate::limits;
use crate::token::Tokens;

/// The header of a request's id.
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Counts the requests in flight.
#[derive(Clone)]
pub(super) struct Gate {
    all: Arc<Semaphore>,
    /// Of these, those that send a body and have no valid token: nobody is charged before it has ended.
    strangers: Arc<Semaphore>,
    tokens: Arc<Tokens>,
}

impl Gate {
    pub(super) fn new(tokens: &Arc<Tokens>) -> Self {
        Self {
            all: Arc::new(Semaphore::new(limits::REQUESTS_IN_FLIGHT_MAX)),
            strangers: Arc::new(Semaphore::new(limits::STRANGERS_IN_FLIGHT_MAX)),
            tokens: Arc::clone(tokens),
        }
    }

    /// A stranger's place, for who is one.
    fn stranger(&self, request: &Request) -> Result<Option<SemaphorePermit<'_>>, TryAcquireError> {
        if request.body().is_end_stream() || auth::is_known(request.headers(), &self.tokens) {
            return Ok(None);
        }
        self.strangers.try_acquire().map(Some)
    }
}

/// Lets the request in, or says at once that the server is full. A batch that runs out of time here
/// may still be applied; sent again, it gets the same results.
pub(super) async fn admit(State(gate): State<Gate>, request: Request, next: Next) -> Response {
    let (Ok(_stranger), Ok(_permit)) = (gate.stranger(&request), gate.all.try_acquire()) else {
        return Problem::unavailable("too many requests at once").into_response();
    };
    tokio::time::timeout(limits::REQUEST_TIMEOUT, next.run(request))
        .await
        .unwrap_or_else(|_| Problem::unavailable("the request took too long").into_response())
}

/// One line for each request, and the request's id on every line that is written while it is at work.
///
/// Neither headers nor bodies nor the query are logged: they hold tokens and people's data. Of the
/// path only the route's pattern is, where there is one: the rest may be an id. The request's own id is
/// the client's or the proxy's (`X-Request-Id`) if it can stand in a log, else a new one, and goes back
/// with the answer.
pub(super) async fn log(request: Request, next: Next) -> Response {
    let id = request_id(request.headers().get(REQUEST_ID));
    let span = tracing::info_span!("request", id = id.to_str().unwrap_or_default());
    let answered = async {
        let started = Instant::now();
        let method = request.method().clone();
        let matched = request.extensions().get::<MatchedPath>();
        let path = matched
            .map_or(request.uri().path(), MatchedPath::as_str)
            .to_owned();
        let response = next.run(request).await;
        let took = started.elapsed();
        let status = response.status().as_u16();
        tracing::info!(%method, path, status, ?took, "request");
        response
    };
    let mut response = answered.instrument(span).await;
    response.headers_mut().insert(REQUEST_ID, id);
    response
}

/// The id that was given, if it is short and plain; else a new one.
fn request_id(given: Option<&HeaderValue>) -> HeaderValue {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
    let fits = |id: &&HeaderValue| {
        let bytes = id.as_bytes();
        (1..=limits::REQUEST_ID_BYTES_MAX).contains(&bytes.len()) && bytes.iter().all(plain)
    };
    if let Some(id) = given.filter(fits) {
        return id.clone();
    }
    let mut random = [0; 8];
    // Without randomness all ids are the same, which is no reason to refuse requests.
    let _ = getrandom::fill(&mut random);
    let id = format!("{:016x}", u64::from_be_bytes(random));
    HeaderValue::try_from(id).unwrap_or(HeaderValue::from_static("none"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_ids_are_plain_or_new() {
        let of = |text: &'static str| request_id(Some(&HeaderValue::from_static(text)));
        assert_eq!(of("a-1_b.C"), "a-1_b.C");
        for odd in ["", "a b", "a\tb", "{\"a\":1}", "x".repeat(65).leak()] {
            assert_eq!(of(odd).len(), 16, "{odd}");
        }
        assert_ne!(request_id(None), request_id(None));
    }
}
