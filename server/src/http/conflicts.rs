//! `GET /conflicts` and `POST /resolve`: the server's own conflict log.

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{Query, State};
use serde::Deserialize;

use super::App;
use super::auth::Bearer;
use super::body::{decompressed, parse};
use super::problem::Problem;
use super::status::rfc3339;
use crate::access::Access;
use crate::data::RecordData;
use crate::ids::UnixMillis;
use crate::limits;
use crate::store::{Choice, ConflictEntry, ConflictId, Resolution, Resolved};
use crate::wire::conflicts::{
    ConflictsAnswer, LoggedConflict, ResolveAnswer, ResolveRequest, WireChoice,
};

#[derive(Deserialize)]
pub(super) struct Params {
    after: Option<String>,
    limit: Option<String>,
}

pub(super) async fn conflicts(
    State(app): State<App>,
    Bearer(access): Bearer,
    params: Result<Query<Params>, QueryRejection>,
) -> Result<Json<ConflictsAnswer>, Problem> {
    let Query(params) = params.map_err(|fault| Problem::malformed(fault.body_text()))?;
    let after = params.after.map_or(Ok(ConflictId(0)), |text| {
        parse_id(&text).ok_or_else(|| Problem::malformed("after: is no `conflictId`"))
    })?;
    let limit = params
        .limit
        .map_or(Ok(limits::CONFLICTS_MAX), |text| parse_limit(&text))?;
    let entries = app.store.conflicts(&access, after, limit).await?;
    let bytes: usize = entries.iter().map(ConflictEntry::bytes).sum();
    Ok(Json(ConflictsAnswer {
        has_more: entries.len() == limit || bytes >= limits::PAGE_BYTES_MAX,
        conflicts: entries.into_iter().map(logged).collect(),
    }))
}

pub(super) async fn resolve(
    State(app): State<App>,
    Bearer(access): Bearer,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<ResolveAnswer>, Problem> {
    let request: ResolveRequest = parse(&decompressed(body)?)?;
    let choice = match (request.choice, request.data) {
        (WireChoice::Local, _) => Choice::Local,
        (WireChoice::Remote, _) => Choice::Remote,
        (WireChoice::Merged, Some(data)) => {
            let data = RecordData::check(data);
            Choice::Merged(data.map_err(|fault| Problem::refused(fault.into()))?)
        }
        (WireChoice::Merged, None) => {
            return Err(Problem::malformed("data: is missing, and `merged` is it"));
        }
    };
    // Its type says how the record is shared.
    let entry = find(&app, &access, &request.conflict_id).await?;
    let resolution = Resolution {
        conflict: entry.id,
        choice,
        sharing: app.types.sharing(&entry.record_type),
    };
    let resolved = app
        .store
        .resolve(&access, resolution, UnixMillis::now())
        .await?;
    match resolved {
        Resolved::Settled(version_number) => Ok(Json(ResolveAnswer {
            conflict_id: request.conflict_id,
            choice: request.choice,
            version_number,
        })),
        Resolved::Already(outcome) => Err(Problem::already_settled(outcome.as_str())),
        Resolved::Unknown => Err(Problem::unknown_conflict()),
        Resolved::Refused(failure) => Err(Problem::refused(failure)),
    }
}

/// The asker's conflict with this id. What is another's is unknown, as what does not exist.
async fn find(app: &App, access: &Access, id: &str) -> Result<ConflictEntry, Problem> {
    let id = parse_id(id).ok_or_else(Problem::unknown_conflict)?;
    let after = ConflictId(id.0 - 1);
    let entry = app.store.conflicts(access, after, 1).await?.pop();
    entry
        .filter(|entry| entry.id == id)
        .ok_or_else(Problem::unknown_conflict)
}

/// An id as [`ConflictId`] is written: nothing else is one, though it may have the same value.
fn parse_id(text: &str) -> Option<ConflictId> {
    let id = ConflictId(text.parse().ok()?);
    (id.0 > 0 && id.to_string() == text).then_some(id)
}

fn parse_limit(text: &str) -> Result<usize, Problem> {
    let limit = text
        .parse()
        .ok()
        .filter(|limit| (1..=limits::CONFLICTS_MAX).contains(limit));
    let range = || {
        let max = limits::CONFLICTS_MAX;
        Problem::malformed(format!("limit: is a whole number from 1 to {max}"))
    };
    limit.ok_or_else(range)
}

fn logged(entry: ConflictEntry) -> LoggedConflict {
    LoggedConflict {
        conflict_id: entry.id.to_string(),
        record_type: entry.record_type,
        id: entry.record,
        mutation: entry.mutation,
        action: entry.action,
        base: entry.base,
        version_number: entry.version,
        local: entry.local,
        changed: entry.changed,
        deleted: entry.remote.is_none(),
        remote: entry.remote,
        client_id: entry.client,
        detected_at: rfc3339(entry.detected_at),
        outcome: entry.outcome.as_str(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_one_form() {
        assert_eq!(parse_id("7"), Some(ConflictId(7)));
        for wrong in [
            "",
            "0",
            "-1",
            "+7",
            "07",
            "7.0",
            " 7",
            "9223372036854775808",
        ] {
            assert_eq!(parse_id(wrong), None, "{wrong}");
        }
    }
}
