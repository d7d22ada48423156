//! `POST /demo/token`: a token for whoever asks. Exists only where the server was started for a
//! demo, and then for this machine only, unless it was told otherwise.

use std::net::{IpAddr, SocketAddr};

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{ConnectInfo, FromRequestParts, State};
use axum::http::request::Parts;
use serde::{Deserialize, Serialize};

use super::App;
use super::body::{decompressed, parse};
use super::problem::Problem;
use super::status::rfc3339;
use crate::config::Demo;
use crate::ids::{UnixMillis, UserId};
use crate::limits;
use crate::wire::whole;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Ask {
    user: String,
    ttl_seconds: Option<Seconds>,
}

#[derive(Deserialize)]
struct Seconds(#[serde(deserialize_with = "whole")] u64);

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Given {
    token: String,
    expires_at: String,
}

/// Whether the request comes from this machine, and from nobody else by way of a proxy on it. Whoever asks for a
/// token has none: their address is charged.
pub(super) struct Near(bool);

impl FromRequestParts<App> for Near {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        app.rates.peer(parts, &app.metrics)?;
        let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>();
        let peer = peer.map(|ConnectInfo(address)| address.ip());
        let is_here = |address: IpAddr| address.to_canonical().is_loopback();
        let (rates, headers) = (&app.rates, &parts.headers);
        // An address with a port, say, is somebody's as well.
        let is_near = !rates.is_forwarded(headers) || rates.told(headers).is_some_and(is_here);
        Ok(Self(peer.is_some_and(is_here) && is_near))
    }
}

pub(super) async fn token(
    State(app): State<App>,
    Near(near): Near,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Given>, Problem> {
    if app.demo != Demo::Anyone && !near {
        return Err(Problem::forbidden("demo tokens are for this machine only"));
    }
    let ask: Ask = parse(&decompressed(body)?)?;
    let user =
        UserId::new(ask.user).map_err(|fault| Problem::malformed(format!("user: {fault}")))?;
    let ttl_s = ask
        .ttl_seconds
        .map_or(limits::DEMO_TOKEN_S_DEFAULT, |Seconds(ttl_s)| ttl_s);
    if !(1..=limits::DEMO_TOKEN_S_MAX).contains(&ttl_s) {
        let detail = format!("ttlSeconds: is from 1 to {}", limits::DEMO_TOKEN_S_MAX);
        return Err(Problem::malformed(detail));
    }
    let expires_s = UnixMillis::now().0 / 1000 + ttl_s;
    let token = app.tokens.issue(&user, expires_s);
    let token = token.map_err(|fault| Problem::unavailable(fault.to_string()))?;
    Ok(Json(Given {
        token,
        expires_at: rfc3339(UnixMillis(expires_s * 1000)),
    }))
}
