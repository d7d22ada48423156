//! `GET /status` and `GET /healthz`.

use std::time::{Duration, UNIX_EPOCH};

use axum::Json;
use axum::extract::State;

use super::App;
use super::auth::Bearer;
use super::problem::Problem;
use crate::ids::UnixMillis;
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

/// The process answers; nothing is promised of the database.
pub(super) async fn health() -> &'static str {
    "ok\n"
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
