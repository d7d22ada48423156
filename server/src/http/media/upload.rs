//! `PUT`: a file, or the part of it that comes next.
//!
//! The body is taken off the network piece by piece, and each piece is committed before the next
//! is read: a fast client waits for the disk, not the server's memory for the client. What has come
//! is kept however the request ends (a broken network, silence, the server's shutdown), and every
//! answer says how far the upload is.

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use http_body_util::BodyExt;
use serde::Serialize;
use tokio::time::{Instant, sleep, timeout};

use super::headers::{Part, part};
use super::{Target, failed, standing, stuck};
use crate::http::App;
use crate::http::places::Place;
use crate::http::problem::Problem;
use crate::http::stopping::Stopping;
use crate::ids::UnixMillis;
use crate::limits;
use crate::store::media::{Appended, Begun, Media, MediaKey, MediaStore, Settled, settle};
use crate::store::{Store, StoreError};

pub(super) async fn upload(
    State(app): State<App>,
    target: Target,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let place = app.uploads.take(&target.asker, "uploads")?;
    let eager = !headers.contains_key(header::EXPECT);
    match admit(&app, &target, &headers).await {
        Ok(Admitted { media, part }) => {
            let inflow = Inflow {
                key: target.key,
                from: part.bytes.start,
                end: part.bytes.end,
                media,
                held: Vec::new(),
                stopping: app.stopping.clone(),
                _place: place,
            };
            // A task of its own: what has come is stored also where the client has gone away.
            let done = tokio::spawn(async move { inflow.run(&*app.store, body).await });
            done.await.map_err(|_| Problem::internal())
        }
        Err(refusal) => {
            // One who asked first (`Expect: 100-continue`) has not begun to send.
            if eager {
                forget(body, app.stopping.clone()).await;
            }
            Ok(refusal)
        }
    }
}

struct Admitted {
    media: Media,
    part: Part,
}

async fn admit(app: &App, target: &Target, headers: &HeaderMap) -> Result<Admitted, Response> {
    if headers.contains_key(header::CONTENT_ENCODING) {
        let detail = "a file is sent as it is, without content-encoding";
        let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        return Err(Problem::new(status, "unsupported-encoding", detail).into_response());
    }
    let part = part(headers).map_err(Problem::into_response)?;
    let most = app.media_limits.file_bytes_max;
    if part.declared.size > most {
        let detail = format!("a file has at most {most} bytes");
        return Err(too_large("too-large", detail).into_response());
    }
    let begun = app.media().map_err(Problem::into_response)?.begin(
        &target.key,
        &part.declared,
        &target.asker,
        app.media_limits.user_bytes_max,
        UnixMillis::now(),
    );
    let begun = begun
        .await
        .map_err(|error| Problem::from(error).into_response())?;
    let media = match begun {
        Begun::Media(media) => media,
        Begun::OverQuota(left) => {
            let detail = format!("of all your files together, {left} bytes are left");
            return Err(too_large("quota", detail).into_response());
        }
    };
    if media.declared != part.declared {
        let detail = "there is another file under this id, or the upload of one";
        let problem = Problem::new(StatusCode::CONFLICT, "media-differs", detail);
        return Err(stuck(problem, &media));
    }
    if part.bytes.start > media.received {
        return Err(hole(&media));
    }
    Ok(Admitted { media, part })
}

fn too_large(code: &'static str, detail: String) -> Problem {
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, code, detail)
}

fn hole(media: &Media) -> Response {
    let detail = format!("the next byte is {}", media.received);
    stuck(Problem::new(StatusCode::CONFLICT, "offset", detail), media)
}

/// Reads on for a while without keeping anything, so that the client gets to see the answer.
async fn forget(mut body: Body, mut stopping: Stopping) {
    let mut read = 0;
    let reading = async {
        while let Some(Ok(frame)) = body.frame().await {
            read += frame.data_ref().map_or(0, Bytes::len);
            if read > limits::BODY_BYTES_REFUSED_MAX {
                break;
            }
        }
    };
    tokio::select! {
        () = stopping.begun() => {}
        _ = timeout(limits::UPLOAD_IDLE_TIMEOUT, reading) => {}
    }
}

/// Bytes on their way into the store.
struct Inflow {
    key: MediaKey,
    media: Media,
    /// Where in the file the bytes that are held begin.
    from: u64,
    /// Where in the file the body ends.
    end: u64,
    held: Vec<u8>,
    stopping: Stopping,
    _place: Place,
}

/// How a body ended.
enum End {
    Whole,
    Early,
    TooLong,
    Idle,
    Stopping,
}

/// Why bytes could not be stored.
enum Trouble {
    Store(StoreError),
    Hole,
    Gone,
}

impl Inflow {
    async fn run(mut self, store: &dyn Store, body: Body) -> Response {
        let Some(store) = store.media() else {
            return Problem::not_found().into_response();
        };
        let end = match self.take(store, body).await {
            Ok(end) => end,
            Err(trouble) => return self.trouble(trouble),
        };
        if !self.held.is_empty()
            && let Err(trouble) = self.put(store, self.held.len()).await
        {
            return self.trouble(trouble);
        }
        match end {
            End::Whole => self.finish(store).await,
            End::Early => self.stuck(Problem::malformed("the body ended early")),
            End::TooLong => self.stuck(Problem::malformed(
                "the body is longer than content-range says",
            )),
            End::Idle => self.stuck(Problem::unavailable("nothing came for too long")),
            End::Stopping => self.stuck(Problem::unavailable("the server is shutting down")),
        }
    }

    /// Takes the body off the network until it ends, one way or the other.
    async fn take(&mut self, store: &dyn MediaStore, mut body: Body) -> Result<End, Trouble> {
        let mut at = self.from;
        loop {
            let frame = tokio::select! {
                biased;
                () = self.stopping.begun() => return Ok(End::Stopping),
                frame = timeout(limits::UPLOAD_IDLE_TIMEOUT, body.frame()) => frame,
            };
            let data = match frame {
                Err(_) => return Ok(End::Idle),
                Ok(None) if at == self.end => return Ok(End::Whole),
                Ok(None | Some(Err(_))) => return Ok(End::Early),
                Ok(Some(Ok(frame))) => frame.into_data().unwrap_or_default(),
            };
            if data.len() as u64 > self.end - at {
                return Ok(End::TooLong);
            }
            at += data.len() as u64;
            self.hold(&data, at);
            while self.held.len() >= self.room() {
                self.put(store, self.room()).await?;
            }
        }
    }

    /// Keeps what is not stored yet of bytes that end at `at`.
    fn hold(&mut self, data: &[u8], at: u64) {
        let begins = at - data.len() as u64;
        let known = self.media.received.saturating_sub(begins);
        let known = usize::try_from(known).unwrap_or(usize::MAX).min(data.len());
        if self.held.is_empty() {
            self.from = begins + known as u64;
            self.held.extend_from_slice(&data[known..]);
        } else {
            self.held.extend_from_slice(data);
        }
    }

    /// Bytes to the end of the piece that is begun: so the store seldom writes one twice.
    fn room(&self) -> usize {
        let piece = limits::MEDIA_PIECE_BYTES;
        let begun = self.from % piece as u64;
        piece - usize::try_from(begun).unwrap_or(0)
    }

    /// Stores the first bytes that are held. Waits while the writer is busy with others.
    async fn put(&mut self, store: &dyn MediaStore, count: usize) -> Result<(), Trouble> {
        let bytes: Bytes = self.held.drain(..count).collect();
        let patience = Instant::now() + limits::UPLOAD_QUEUE_TIMEOUT;
        let appended = loop {
            let (number, now) = (self.media.number, UnixMillis::now());
            match store.append(number, self.from, bytes.clone(), now).await {
                Err(error) if error.passing() && Instant::now() < patience => {
                    sleep(limits::UPLOAD_QUEUE_PAUSE).await;
                }
                appended => break appended.map_err(Trouble::Store)?,
            }
        };
        match appended {
            Appended::Received(received) => {
                self.from += bytes.len() as u64;
                self.media.received = received;
                Ok(())
            }
            Appended::Hole(received) => {
                self.media.received = received;
                Err(Trouble::Hole)
            }
            Appended::Gone => Err(Trouble::Gone),
        }
    }

    async fn finish(mut self, store: &dyn MediaStore) -> Response {
        let whole = self.media.received == self.media.declared.size;
        if self.media.complete || !whole {
            return self.stands(StatusCode::OK);
        }
        match settle(store, &self.key, &self.media, UnixMillis::now()).await {
            Ok(Settled::Complete) => {
                self.media.complete = true;
                self.stands(StatusCode::CREATED)
            }
            Ok(Settled::Mismatch) => {
                self.media.received = 0;
                let status = StatusCode::UNPROCESSABLE_ENTITY;
                let detail = "the file is not what repr-digest says, and was discarded";
                self.stuck(Problem::new(status, "checksum-mismatch", detail))
            }
            Ok(Settled::Gone) => self.trouble(Trouble::Gone),
            Err(error) => failed(error, &self.media),
        }
    }

    fn stands(&self, status: StatusCode) -> Response {
        let Media {
            declared,
            received,
            complete,
            ..
        } = &self.media;
        let answer = Json(Answer {
            id: self.key.id.as_str(),
            size: declared.size,
            offset: *received,
            complete: *complete,
        });
        let mut response = (status, standing(&self.media), answer).into_response();
        if *complete {
            let etag = HeaderValue::try_from(format!("\"{}\"", declared.sha256.hex()));
            if let Ok(etag) = etag {
                response.headers_mut().insert(header::ETAG, etag);
            }
        }
        response
    }

    fn stuck(&self, problem: Problem) -> Response {
        stuck(problem, &self.media)
    }

    fn trouble(mut self, trouble: Trouble) -> Response {
        match trouble {
            Trouble::Store(error) => failed(error, &self.media),
            Trouble::Hole => hole(&self.media),
            Trouble::Gone => {
                self.media.received = 0;
                hole(&self.media)
            }
        }
    }
}

/// How far an upload is.
#[derive(Serialize)]
struct Answer<'a> {
    id: &'a str,
    size: u64,
    offset: u64,
    complete: bool,
}
