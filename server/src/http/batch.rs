//! `POST /batch`: what clients send.
//!
//! Changes that stand together (all of an atomic batch, or neighbours of one `group`) are one
//! transaction; so the batch goes to the store in parts. Should one of them find the store gone, those
//! before it have taken effect: the client sends the batch again, and they have their results.

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{Query, State};
use serde::Deserialize;

use super::App;
use super::auth::Bearer;
use super::body::{decompressed, parse};
use super::problem::Problem;
use crate::access::Access;
use crate::change::{Change, Failure};
use crate::ids::{ClientId, UnixMillis};
use crate::limits;
use crate::store::{Mode, StoreError, Verdict};
use crate::wire::{BatchAnswer, BatchRequest, ChangeResult, Echo, PROTOCOL};

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
    app.rates.more(access.user(), more, &app.metrics)?;

    let mut parts: Vec<Part> = Vec::new();
    for wire in request.changes {
        let joins = |part: &Part| atomic || part.group == wire.group;
        let mut part = parts.pop_if(|part| joins(part)).unwrap_or_else(|| Part {
            group: wire.group.clone(),
            ..Part::default()
        });
        let echo = Echo::of(&wire);
        match Change::check(wire, &client, &app.types) {
            Ok(change) => {
                part.valid.push(change);
                part.slots.push((echo, None));
            }
            Err(failure) => part.slots.push((echo, Some(failure))),
        }
        parts.push(part);
    }
    let mut results = Vec::new();
    for part in parts {
        results.extend(part.store(&app, &access, atomic).await?);
    }
    Ok(Json(BatchAnswer { results }))
}

/// Neighbours in a batch that the store gets at once.
#[derive(Default)]
struct Part {
    group: Option<String>,
    /// What is invalid by itself is answered without the store; the rest goes there, in its order.
    valid: Vec<Change>,
    slots: Vec<(Echo, Option<Failure>)>,
}

impl Part {
    async fn store(
        self,
        app: &App,
        access: &Access,
        atomic: bool,
    ) -> Result<Vec<ChangeResult>, Problem> {
        let count = self.valid.len();
        let together = atomic || (self.group.is_some() && self.slots.len() > 1);
        let mode = match (together, count == self.slots.len()) {
            (false, _) => Mode::Each,
            (true, true) => Mode::Together,
            (true, false) => Mode::Doomed,
        };
        let verdicts = match count {
            0 => Vec::new(),
            _ => {
                let now = UnixMillis::now();
                app.store.push(access, self.valid, mode, now).await?
            }
        };
        if verdicts.len() != count {
            return Err(StoreError::Damaged("verdicts do not match their changes").into());
        }
        let mut verdicts = verdicts.into_iter();
        let results = self.slots.into_iter().filter_map(|(echo, failure)| {
            let verdict = failure.map(Verdict::Failed).or_else(|| verdicts.next())?;
            app.metrics.change(&verdict);
            Some(echo.result(verdict))
        });
        Ok(results.collect())
    }
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
