//! Errors of a whole request as problem documents (RFC 9457), whoever noticed them: a handler, a
//! layer, the router, or a panic.

use std::any::Any;

use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::change::{Failure, FailureCode};
use crate::limits;
use crate::store::StoreError;

/// The media type of problem documents.
const MEDIA_TYPE: &str = "application/problem+json";

/// One error of a whole request.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    code: &'static str,
    detail: String,
    retry_after_s: Option<u64>,
}

#[derive(Serialize)]
struct Document<'a> {
    r#type: &'static str,
    title: &'a str,
    status: u16,
    detail: &'a str,
    code: &'a str,
}

impl Problem {
    pub(super) fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self {
            status,
            code,
            detail: detail.into(),
            retry_after_s: None,
        }
    }

    /// Not JSON, or not of the protocol's form; `detail` names the place.
    pub(super) fn malformed(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "malformed", detail)
    }

    pub(super) fn unauthorized(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", detail)
    }

    pub(super) fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", detail)
    }

    pub(super) fn not_found() -> Self {
        Self::of_status(StatusCode::NOT_FOUND)
    }

    pub(super) fn too_large() -> Self {
        Self::of_status(StatusCode::PAYLOAD_TOO_LARGE)
    }

    pub(super) fn protocol_version(asked: u64) -> Self {
        let known = crate::wire::PROTOCOL;
        let detail = format!("this server speaks protocol {known}, not {asked}");
        Self::new(StatusCode::UPGRADE_REQUIRED, "protocol-version", detail)
    }

    /// One's own conflict, settled otherwise.
    pub(super) fn already_settled(outcome: &str) -> Self {
        let detail = format!("the conflict is settled already: {outcome}");
        Self::new(StatusCode::CONFLICT, "already-settled", detail)
    }

    /// The same for one that does not exist and one that is another's.
    pub(super) fn unknown_conflict() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "not-found",
            "there is no such conflict",
        )
    }

    /// What a batch would have answered as `failed`, where the request is about one record.
    pub(super) fn refused(failure: Failure) -> Self {
        match failure.code {
            FailureCode::Forbidden => Self::forbidden(failure.message),
            FailureCode::TooLarge => {
                Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", failure.message)
            }
            FailureCode::Internal | FailureCode::Aborted => Self::internal(),
            FailureCode::Invalid | FailureCode::NotFound => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", failure.message)
            }
        }
    }

    pub(super) fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail)
    }

    /// Asked too much: nothing of the request was done, and it may be sent again after the wait.
    pub(super) fn asked_too_much(retry_after_s: u64) -> Self {
        Self {
            retry_after_s: Some(retry_after_s.max(1)),
            ..Self::of_status(StatusCode::TOO_MANY_REQUESTS)
        }
    }

    /// One user asks for more at once than is theirs.
    pub(super) fn rate_limited(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, "rate-limited", detail)
    }

    /// Whether the same may succeed in a moment.
    pub(super) fn passes(&self) -> bool {
        self.status == StatusCode::SERVICE_UNAVAILABLE
    }

    pub(super) fn internal() -> Self {
        Self::of_status(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// What a status means when only the status is known.
    fn of_status(status: StatusCode) -> Self {
        let (code, detail) = match status {
            StatusCode::NOT_FOUND => ("not-found", "there is nothing at this address".into()),
            StatusCode::METHOD_NOT_ALLOWED => (
                "method-not-allowed",
                "this address does not take this method".into(),
            ),
            StatusCode::PAYLOAD_TOO_LARGE => {
                let (changes, bytes) = (limits::CHANGES_MAX, limits::BODY_BYTES_MAX);
                (
                    "too-large",
                    format!("more than {changes} changes or {bytes} bytes"),
                )
            }
            StatusCode::UNSUPPORTED_MEDIA_TYPE => (
                "unsupported-encoding",
                "a body must be plain or gzip".into(),
            ),
            StatusCode::TOO_MANY_REQUESTS => {
                ("rate-limited", "too many requests or changes".into())
            }
            StatusCode::SERVICE_UNAVAILABLE => ("unavailable", "try again soon".into()),
            status if status.is_client_error() => ("malformed", "the request is not valid".into()),
            _ => (
                "internal",
                "the server failed; the request is safe to send again".into(),
            ),
        };
        Self::new(status, code, detail)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let document = Document {
            r#type: "about:blank",
            title: self.status.canonical_reason().unwrap_or("Error"),
            status: self.status.as_u16(),
            detail: &self.detail,
            code: self.code,
        };
        // Four strings and a number always serialise.
        let body = serde_json::to_vec(&document).unwrap_or_default();
        let media_type = HeaderValue::from_static(MEDIA_TYPE);
        let mut response =
            (self.status, [(header::CONTENT_TYPE, media_type)], body).into_response();
        let headers = response.headers_mut();
        match self.status {
            StatusCode::UNAUTHORIZED => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => {
                let seconds = self.retry_after_s.unwrap_or(limits::RETRY_AFTER_S);
                headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
            }
            _ => {}
        }
        response
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        if error.passing() {
            return Self::unavailable(error.to_string());
        }
        match error {
            StoreError::CheckpointUnknown => {
                let detail = format!("{error}: pull from the beginning");
                Self::new(StatusCode::GONE, "checkpoint-unknown", detail)
            }
            // What happened inside is for the log, not for the network.
            error => {
                tracing::error!(%error, "the store failed");
                Self::internal()
            }
        }
    }
}

/// Makes a problem document of every error that is not one yet.
pub(super) async fn normalise(request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    let status = response.status();
    let media_type = response.headers().get(header::CONTENT_TYPE);
    let is_problem = media_type.is_some_and(|value| value.as_bytes() == MEDIA_TYPE.as_bytes());
    if is_problem || !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let mut problem = Problem::of_status(status).into_response();
    // `Allow` and the headers of CORS stay; what described the old body goes.
    let about_body = [
        header::CONTENT_TYPE,
        header::CONTENT_LENGTH,
        header::CONTENT_ENCODING,
    ];
    for (name, value) in response.headers() {
        if !about_body.contains(name) {
            problem.headers_mut().insert(name, value.clone());
        }
    }
    problem
}

/// The answer where a handler panicked. What it said is for the log.
#[expect(
    clippy::needless_pass_by_value,
    reason = "the signature that the layer calls"
)]
pub(super) fn of_panic(panic: Box<dyn Any + Send>) -> Response {
    let message = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied());
    tracing::error!(message, "a handler panicked");
    Problem::internal().into_response()
}
