//! Whose request it is.

use axum::extract::FromRequestParts;
use axum::http::header;
use axum::http::request::Parts;

use super::App;
use super::problem::Problem;
use crate::ids::UserId;

/// The user whose token the request carries. A handler that takes it cannot be reached without.
pub(super) struct Bearer(pub(super) UserId);

impl FromRequestParts<App> for Bearer {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let credentials = parts
            .headers
            .get(header::AUTHORIZATION)
            .and_then(|v| v.to_str().ok());
        let token = credentials
            .and_then(|text| text.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, token)| token.trim())
            .ok_or_else(|| Problem::unauthorized("a bearer token is needed"))?;
        let claimed = app.tokens.verify(token);
        claimed
            .map(|claimed| Self(claimed.user))
            .map_err(|fault| Problem::unauthorized(fault.to_string()))
    }
}
