//! `/media/{id}`: files, which go up in parts and come down in ranges.
//!
//! The wire is that of partial PUT with `Content-Range`, as several large services speak it for
//! their resumable uploads, with the checksum in `Repr-Digest` (RFC 9530). What comes from a client
//! is never given back in a form in which a browser would run it as a page of this server.

mod download;
mod headers;
mod upload;

use axum::Router;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{FromRequestParts, Path, Query, State};
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use serde::Deserialize;

use super::App;
use super::auth::Bearer;
use super::problem::Problem;
use crate::access::Space;
use crate::ids::{EntityId, MediaId, UserId};
use crate::store::StoreError;
use crate::store::media::{Media, MediaKey, MediaStore};

/// How many bytes of an upload are here.
pub(super) const UPLOAD_OFFSET: HeaderName = HeaderName::from_static("upload-offset");
/// How many bytes it is to have.
pub(super) const UPLOAD_LENGTH: HeaderName = HeaderName::from_static("upload-length");
/// The checksum of the whole file (RFC 9530).
pub(super) const REPR_DIGEST: HeaderName = HeaderName::from_static("repr-digest");

/// The routes; `brief` goes around all but the upload, which takes as long as its network does.
pub(super) fn routes(brief: impl Fn(MethodRouter<App>) -> MethodRouter<App>) -> Router<App> {
    let methods = brief(get(download::download).delete(remove)).put(upload::upload);
    Router::new().route("/media/{id}", methods)
}

/// A file that the asker may read and write, whether it exists or not.
struct Target {
    key: MediaKey,
    asker: UserId,
}

#[derive(Deserialize)]
struct Params {
    entity: Option<String>,
}

impl FromRequestParts<App> for Target {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let Bearer(access) = Bearer::from_request_parts(parts, app).await?;
        let id: Result<Path<String>, PathRejection> = Path::from_request_parts(parts, app).await;
        let Path(id) = id.map_err(|fault| Problem::malformed(fault.body_text()))?;
        let id = MediaId::new(id).map_err(|fault| Problem::malformed(fault.to_string()))?;
        let params: Result<Query<Params>, QueryRejection> =
            Query::from_request_parts(parts, app).await;
        let Query(params) = params.map_err(|fault| Problem::malformed(fault.body_text()))?;
        let space = match params.entity.map(EntityId::new) {
            None => access.own_space(),
            Some(entity) => {
                let entity = entity.map_err(|fault| Problem::malformed(fault.to_string()))?;
                Space::Entity(entity)
            }
        };
        if !access.may(&space) {
            // Nothing was looked up: the answer cannot tell whether the entity or the file exists.
            return Err(Problem::forbidden("the entity is not one of yours"));
        }
        Ok(Self {
            key: MediaKey { space, id },
            asker: access.user().clone(),
        })
    }
}

/// Once it is gone it stays gone: so a repeat succeeds as well.
async fn remove(State(app): State<App>, target: Target) -> Result<StatusCode, Problem> {
    app.media()?.remove(&target.key, None).await?;
    Ok(StatusCode::NO_CONTENT)
}

impl App {
    fn media(&self) -> Result<&dyn MediaStore, Problem> {
        self.store.media().ok_or_else(Problem::not_found)
    }
}

/// How far an upload is, as every answer about it says it.
fn standing(media: &Media) -> [(HeaderName, HeaderValue); 2] {
    [
        (UPLOAD_OFFSET, HeaderValue::from(media.received)),
        (UPLOAD_LENGTH, HeaderValue::from(media.declared.size)),
    ]
}

/// An error of an upload, with how far it is, so that the client can go on from there.
fn stuck(problem: Problem, media: &Media) -> Response {
    (standing(media), problem).into_response()
}

/// Why an upload cannot go on, where the store does not work.
fn failed(error: StoreError, media: &Media) -> Response {
    stuck(error.into(), media)
}
