//! `POST /batch`: what clients send.

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{Query, State};
use serde::Deserialize;

use super::App;
use super::auth::Bearer;
use super::body::{decompressed, parse};
use super::problem::Problem;
use crate::change::Change;
use crate::ids::{ClientId, UnixMillis};
use crate::limits;
use crate::store::{Mode, StoreError, Verdict};
use crate::wire::{BatchAnswer, BatchRequest, Echo, PROTOCOL};

#[derive(Deserialize)]
pub(super) struct Params {
    atomic: Option<String>,
}

pub(super) async fn batch(
    State(app): State<App>,
    Bearer(access): Bearer,
    params: Result<Query<Params>, QueryRejection>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<BatchAnswer>, Problem> {
    let atomic = atomic(params)?;
    let request = read_request(&decompressed(body)?)?;
    let client = ClientId::new(request.client_id)
        .map_err(|fault| Problem::malformed(format!("clientId: {fault}")))?;
    // The request itself was the first.
    let more = request.changes.len().saturating_sub(1);
    app.rates.user(access.user(), more, &app.metrics)?;

    // What is invalid by itself is answered here; the rest goes to the store, in its order.
    let (mut valid, mut slots) = (Vec::new(), Vec::with_capacity(request.changes.len()));
    for wire in request.changes {
        let echo = Echo::of(&wire);
        match Change::check(wire, &client, &app.types) {
            Ok(change) => {
                valid.push(change);
                slots.push((echo, None));
            }
            Err(failure) => slots.push((echo, Some(failure))),
        }
    }
    let count = valid.len();
    let mode = match (atomic, count == slots.len()) {
        (false, _) => Mode::Each,
        (true, true) => Mode::Together,
        (true, false) => Mode::Doomed,
    };
    let verdicts = match count {
        0 => Vec::new(),
        _ => {
            app.store
                .push(&access, valid, mode, UnixMillis::now())
                .await?
        }
    };
    if verdicts.len() != count {
        return Err(StoreError::Damaged("verdicts do not match their changes").into());
    }

    let mut verdicts = verdicts.into_iter();
    let results = slots.into_iter().filter_map(|(echo, failure)| {
        let verdict = failure.map(Verdict::Failed).or_else(|| verdicts.next())?;
        app.metrics.change(&verdict);
        Some(echo.result(verdict))
    });
    Ok(Json(BatchAnswer {
        results: results.collect(),
    }))
}

/// Whether the changes are to stand together.
fn atomic(params: Result<Query<Params>, QueryRejection>) -> Result<bool, Problem> {
    let Query(params) = params.map_err(|fault| Problem::malformed(fault.body_text()))?;
    match params.atomic.as_deref() {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(_) => Err(Problem::malformed("atomic: is `true` or `false`")),
    }
}

fn read_request(body: &[u8]) -> Result<BatchRequest, Problem> {
    let request = parse::<BatchRequest>(body).map_err(|malformed| {
        // Another version may have another form: its number is the better answer.
        foreign_protocol(body).map_or(malformed, Problem::protocol_version)
    })?;
    if request.protocol != PROTOCOL {
        return Err(Problem::protocol_version(request.protocol));
    }
    if request.changes.len() > limits::CHANGES_MAX {
        return Err(Problem::too_large());
    }
    Ok(request)
}

fn foreign_protocol(body: &[u8]) -> Option<u64> {
    #[derive(Deserialize)]
    struct Head {
        protocol: u64,
    }
    let head: Head = serde_json::from_slice(body).ok()?;
    Some(head.protocol).filter(|protocol| *protocol != PROTOCOL)
}
