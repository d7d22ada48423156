//! `GET` and `HEAD`: a file, or a range of it, read piece by piece as the client takes it.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;

use super::headers::{Asked, digest_text, range};
use super::{REPR_DIGEST, Target, stuck};
use crate::http::App;
use crate::http::problem::Problem;
use crate::limits;
use crate::store::media::{Media, MediaNumber};
use crate::store::{Store, StoreError};

const PIECE: u64 = limits::MEDIA_PIECE_BYTES as u64;

pub(super) async fn download(
    State(app): State<App>,
    target: Target,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let media = app.media()?.find(&target.key).await?;
    let media = media.ok_or_else(Problem::not_found)?;
    if !media.complete {
        let detail = "the upload is not finished";
        let problem = Problem::new(StatusCode::NOT_FOUND, "unfinished", detail);
        return Ok(stuck(problem, &media));
    }
    let mut response = answer(&app, &media, &headers, method == Method::HEAD);
    // Of every answer about the content, also 304 and 416.
    let about = response.headers_mut();
    about.insert(header::ETAG, header_text(etag(&media)));
    about.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    // May be kept by the browser of its reader, and is asked for again each time.
    about.insert(
        header::CACHE_CONTROL,
        HeaderValue::from_static("private, no-cache"),
    );
    Ok(response)
}

fn answer(app: &App, media: &Media, headers: &HeaderMap, head: bool) -> Response {
    let etag = etag(media);
    let named = |name| headers.get(name).and_then(|value| value.to_str().ok());
    if named(header::IF_NONE_MATCH).is_some_and(|text| matches(text, &etag)) {
        return StatusCode::NOT_MODIFIED.into_response();
    }
    let size = media.declared.size;
    // A range of another state of the file would be of no use.
    let same = named(header::IF_RANGE).is_none_or(|text| text.trim() == etag);
    let asked = named(header::RANGE)
        .filter(|_| same && !head)
        .map_or(Asked::All, |text| range(text, size));
    let (status, bytes) = match asked {
        Asked::All => (StatusCode::OK, 0..size),
        Asked::Some(bytes) => (StatusCode::PARTIAL_CONTENT, bytes),
        Asked::None => {
            let detail = "the file ends before that range";
            let status = StatusCode::RANGE_NOT_SATISFIABLE;
            let problem = Problem::new(status, "range", detail);
            let all = header_text(format!("bytes */{size}"));
            return ([(header::CONTENT_RANGE, all)], problem).into_response();
        }
    };
    let mut response = status.into_response();
    let about = response.headers_mut();
    about.insert(
        header::CONTENT_LENGTH,
        HeaderValue::from(bytes.end - bytes.start),
    );
    if status == StatusCode::PARTIAL_CONTENT {
        let (first, last) = (bytes.start, bytes.end.saturating_sub(1));
        let range = header_text(format!("bytes {first}-{last}/{size}"));
        about.insert(header::CONTENT_RANGE, range);
    }
    about.insert(
        header::CONTENT_TYPE,
        header_text(media.declared.content_type.clone()),
    );
    about.insert(REPR_DIGEST, header_text(digest_text(media.declared.sha256)));
    // Whatever somebody has uploaded is data: saved and not shown where it is navigated to, and
    // without scripts, forms or an origin should something show it all the same.
    about.insert(
        header::CONTENT_DISPOSITION,
        HeaderValue::from_static("attachment"),
    );
    about.insert(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; sandbox"),
    );
    if !head {
        *response.body_mut() = content(Arc::clone(&app.store), media.number, bytes);
    }
    response
}

/// The bytes of a range. A piece is read when the network has taken the one before it.
fn content(store: Arc<dyn Store>, number: MediaNumber, bytes: Range<u64>) -> Body {
    Body::from_stream(stream::try_unfold(
        (store, bytes),
        move |state| async move {
            let (store, bytes) = state;
            if bytes.is_empty() {
                return Ok(None);
            }
            let piece = read(&*store, number, &bytes).await.map_err(|error| {
                tracing::warn!(%error, "a download was broken off");
                io::Error::other(error)
            })?;
            let rest = bytes.start + piece.len() as u64..bytes.end;
            Ok::<_, io::Error>(Some((piece, (store, rest))))
        },
    ))
}

/// The first bytes of a range, as far as their piece reaches.
async fn read(
    store: &dyn Store,
    number: MediaNumber,
    bytes: &Range<u64>,
) -> Result<Bytes, StoreError> {
    // Removed while it was being read: the connection breaks, and the reader sees that it is short.
    let gone = StoreError::Damaged("a piece is gone");
    let media = store.media().ok_or_else(|| gone.clone())?;
    let mut piece = media.piece(number, bytes.start / PIECE).await?;
    let skip = usize::try_from(bytes.start % PIECE).unwrap_or(usize::MAX);
    if skip >= piece.len() {
        return Err(gone);
    }
    let mut piece = piece.split_off(skip);
    let most = usize::try_from(bytes.end - bytes.start).unwrap_or(usize::MAX);
    piece.truncate(most);
    Ok(piece)
}

fn etag(media: &Media) -> String {
    format!("\"{}\"", media.declared.sha256.hex())
}

fn matches(text: &str, etag: &str) -> bool {
    let mut named = text.split(',').map(str::trim);
    named.any(|named| named == "*" || named.strip_prefix("W/").unwrap_or(named) == etag)
}

/// All of these were read from headers or are made of digits.
fn header_text(text: String) -> HeaderValue {
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_match_in_lists_and_weakly() {
        for text in ["\"a\"", "W/\"a\"", "\"b\", \"a\"", "*"] {
            assert!(matches(text, "\"a\""), "{text}");
        }
        for text in ["", "a", "\"b\"", "\"ab\""] {
            assert!(!matches(text, "\"a\""), "{text}");
        }
    }
}
