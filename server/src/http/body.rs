//! Receiving a body, in two steps: as it arrives, before anything else looks at it, and as the
//! decompression makes it.
//!
//! The first step takes the whole body off the network, also of a request that will be refused. A
//! server that answers `413` and closes while the client still sends resets the connection, and
//! the client sees a broken network in place of the answer that tells it to send less.

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::extract::rejection::{BytesRejection, FailedToBufferBody};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http_body_util::BodyExt;
use serde::de::DeserializeOwned;

use super::problem::Problem;
use crate::limits;

/// Receives the body as it arrives, within [`limits::BODY_BYTES_COMPRESSED_MAX`].
pub(super) async fn receive(request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    match gather(body).await {
        Ok(bytes) => {
            next.run(Request::from_parts(parts, Body::from(bytes)))
                .await
        }
        Err(problem) => problem.into_response(),
    }
}

async fn gather(mut body: Body) -> Result<Vec<u8>, Problem> {
    let (mut bytes, mut arrived) = (Vec::new(), 0);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Problem::malformed("the body ended early"))?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        arrived += data.len();
        if arrived <= limits::BODY_BYTES_COMPRESSED_MAX {
            bytes.extend_from_slice(&data);
        } else if arrived > limits::BODY_BYTES_REFUSED_MAX {
            break;
        } else {
            // Only read, no longer kept.
            bytes = Vec::new();
        }
    }
    if arrived > limits::BODY_BYTES_COMPRESSED_MAX {
        Err(Problem::too_large())
    } else {
        Ok(bytes)
    }
}

/// The body as the decompression made it, or why it could not be read whole.
pub(super) fn decompressed(body: Result<Bytes, BytesRejection>) -> Result<Bytes, Problem> {
    body.map_err(|rejection| match rejection {
        BytesRejection::FailedToBufferBody(FailedToBufferBody::LengthLimitError(_)) => {
            Problem::too_large()
        }
        _ => Problem::malformed("the body ended early or is not the gzip that it claims to be"),
    })
}

/// Reads JSON; a fault's answer names its place (`changes[3].versionNumber`).
pub(super) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    let mut json = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|fault| {
        let path = fault.path().to_string();
        Problem::malformed(format!("{path}: {}", fault.into_inner()))
    })?;
    json.end()
        .map_err(|fault| Problem::malformed(fault.to_string()))?;
    Ok(value)
}
