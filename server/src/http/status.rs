//! How the server is: `GET /status` for clients, `/healthz`, `/readyz` and `/metrics` for those who
//! run it.

use std::time::{Duration, UNIX_EPOCH};

use axum::Json;
use axum::extract::State;
use axum::response::Response;

use super::App;
use super::auth::Bearer;
use super::problem::Problem;
use crate::access::Access;
use crate::ids::{UnixMillis, UserId};
use crate::limits;
use crate::wire::{PROTOCOL, StatusAnswer, StatusLimits};

pub(super) async fn status(
    State(app): State<App>,
    Bearer(access): Bearer,
) -> Result<Json<StatusAnswer>, Problem> {
    let standing = app.store.standing(&access).await?;
    Ok(Json(StatusAnswer {
        protocol: PROTOCOL,
        server_time: rfc3339(UnixMillis::now()),
        checkpoint: standing.checkpoint,
        limits: StatusLimits {
            changes: limits::CHANGES_MAX,
            bytes: limits::BODY_BYTES_MAX,
            page: limits::PAGE_MAX,
        },
        conflicts: standing.conflicts,
    }))
}

/// The process answers; nothing is promised of the database. For those who restart what hangs.
pub(super) async fn health() -> &'static str {
    "ok\n"
}

/// The database answers, and soon. For those who send requests only where they will be served.
pub(super) async fn ready(State(app): State<App>) -> Result<&'static str, Problem> {
    // Nobody's data: a read that finds nothing, on the way that all reads go.
    let nobody = UserId::new("readiness").map_err(|_| Problem::unavailable("not ready"))?;
    let asked = tokio::time::timeout(
        limits::READY_TIMEOUT,
        app.store.standing(&Access::own(nobody)),
    )
    .await;
    match asked {
        Ok(Ok(_)) => Ok("ready\n"),
        Ok(Err(error)) => {
            tracing::warn!(%error, "not ready: the store failed");
            Err(Problem::unavailable("the store does not answer"))
        }
        Err(_) => {
            tracing::warn!("not ready: the store takes too long");
            Err(Problem::unavailable("the store takes too long"))
        }
    }
}

/// `GET /metrics`.
pub(super) async fn metrics(State(app): State<App>) -> Result<Response, Problem> {
    app.metrics.render(app.store.queued(), app.streams.count())
}

/// A time as `2026-11-21T10:00:00.000Z`.
pub(super) fn rfc3339(at: UnixMillis) -> String {
    humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_millis(at.0)).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_milliseconds_and_a_zone() {
        assert_eq!(
            rfc3339(UnixMillis(1_795_255_200_007)),
            "2026-11-21T10:00:00.007Z"
        );
    }
}
