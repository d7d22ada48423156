//! Whose request it is, and what is open to them: their own space, and those of the entities that
//! their token names or that they are assigned to.

use axum::extract::FromRequestParts;
use axum::http::header;
use axum::http::request::Parts;

use super::App;
use super::problem::Problem;
use crate::access::Access;
use crate::ids::EntityId;
use crate::token::Claimed;

/// The access of the user whose token the request carries. A handler that takes it cannot be reached
/// without one.
pub(super) struct Bearer(pub(super) Access);

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
        let claimed = claimed.map_err(|fault| Problem::unauthorized(fault.to_string()))?;
        access(app, claimed).await.map(Self)
    }
}

async fn access(app: &App, claimed: Claimed) -> Result<Access, Problem> {
    let Claimed { user, entities } = claimed;
    let mut open = app.store.assignments(&user).await?;
    for entity in entities {
        let entity = EntityId::new(entity);
        open.insert(entity.map_err(|fault| Problem::unauthorized(fault.to_string()))?);
    }
    Access::new(user, open).map_err(|fault| Problem::forbidden(fault.to_string()))
}
