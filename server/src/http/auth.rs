//! Whose request it is, and what is open to them: their own space, and those of the entities that
//! their token names or that they are assigned to.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};

use super::App;
use super::problem::Problem;
use crate::access::Access;
use crate::ids::EntityId;
use crate::token::{Claimed, Tokens};

/// The access of the user whose token the request carries. A handler that takes it cannot be reached
/// without one.
pub(super) struct Bearer(pub(super) Access);

impl FromRequestParts<App> for Bearer {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let Credentials { claimed, .. } = Credentials::from_request_parts(parts, app).await?;
        access(app, claimed).await.map(Self)
    }
}

/// A token that is good, and is to be looked at again: for what lasts. Never shown.
pub(super) struct Credentials {
    token: String,
    claimed: Claimed,
}

impl FromRequestParts<App> for Credentials {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let good = token(&parts.headers).and_then(|token| {
            let claimed = claimed(&token, &app.tokens)?;
            Ok(Self { token, claimed })
        });
        match good {
            Ok(credentials) => {
                let user = &credentials.claimed.user;
                app.rates.user(user, &app.metrics)?;
                Ok(credentials)
            }
            Err(refused) => {
                app.rates.peer(parts, &app.metrics)?;
                Err(refused)
            }
        }
    }
}

impl Credentials {
    /// What is open to the token's user now.
    pub(super) async fn access(&self, app: &App) -> Result<Access, Problem> {
        access(app, claimed(&self.token, &app.tokens)?).await
    }
}

/// Whether a request carries a good token.
pub(super) fn is_known(headers: &HeaderMap, tokens: &Tokens) -> bool {
    token(headers).is_ok_and(|token| claimed(&token, tokens).is_ok())
}

/// The request's token, whatever it is worth.
fn token(headers: &HeaderMap) -> Result<String, Problem> {
    let credentials = headers
        .get(header::AUTHORIZATION)
        .and_then(|v| v.to_str().ok());
    credentials
        .and_then(|text| text.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim().to_owned())
        .ok_or_else(|| Problem::unauthorized("a bearer token is needed"))
}

/// What it says.
fn claimed(token: &str, tokens: &Tokens) -> Result<Claimed, Problem> {
    let claimed = tokens.verify(token);
    claimed.map_err(|fault| Problem::unauthorized(fault.to_string()))
}

async fn access(app: &App, claimed: Claimed) -> Result<Access, Problem> {
    let Claimed { user, entities } = claimed;
    let mut open = app.store.assignments(&user).await?;
    for entity in entities {
        let entity = EntityId::new(entity);
        open.insert(entity.map_err(|fault| Problem::unauthorized(fault.to_string()))?);
    }
    let access = Access::new(user, open);
    let access = access.map_err(|fault| Problem::forbidden(fault.to_string()))?;
    Ok(access.under(app.types.clone()))
}
