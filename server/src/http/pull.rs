//! `GET /pull`: what others, and other devices, have changed.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use serde::Deserialize;

use super::App;
use super::auth::Bearer;
use super::problem::Problem;
use crate::ids::RecordType;
use crate::limits;
use crate::store::PullQuery;
use crate::wire::PullAnswer;

#[derive(Deserialize)]
pub(super) struct Params {
    since: Option<String>,
    limit: Option<String>,
    types: Option<String>,
}

pub(super) async fn pull(
    State(app): State<App>,
    Bearer(access): Bearer,
    params: Result<Query<Params>, QueryRejection>,
) -> Result<Json<PullAnswer>, Problem> {
    let Query(params) = params.map_err(|fault| Problem::malformed(fault.body_text()))?;
    let page = app.store.pull(&access, query(params)?).await?;
    app.metrics.pulled(page.records.len());
    Ok(Json(PullAnswer {
        changes: page.records,
        checkpoint: page.checkpoint,
        has_more: page.has_more,
    }))
}

fn query(params: Params) -> Result<PullQuery, Problem> {
    let limit = params
        .limit
        .map_or(Ok(limits::PAGE_DEFAULT), |text| parse_limit(&text))?;
    let types = params.types.map(|text| parse_types(&text)).transpose()?;
    Ok(PullQuery {
        since: params.since,
        limit,
        types,
    })
}

fn parse_limit(text: &str) -> Result<usize, Problem> {
    let limit = text
        .parse()
        .ok()
        .filter(|limit| (1..=limits::PAGE_MAX).contains(limit));
    let range = || format!("limit: is a whole number from 1 to {}", limits::PAGE_MAX);
    limit.ok_or_else(|| Problem::malformed(range()))
}

fn parse_types(text: &str) -> Result<Vec<RecordType>, Problem> {
    let types: Vec<_> = text.split(',').take(limits::TYPES_MAX + 1).collect();
    if types.len() > limits::TYPES_MAX {
        let detail = format!("types: names more than {} collections", limits::TYPES_MAX);
        return Err(Problem::malformed(detail));
    }
    types
        .into_iter()
        .map(RecordType::new)
        .collect::<Result<_, _>>()
        .map_err(|fault| Problem::malformed(format!("types: {fault}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_a_range() {
        assert_eq!(parse_limit("1").unwrap(), 1);
        assert_eq!(parse_limit("1000").unwrap(), 1000);
        for wrong in ["", "0", "1001", "-1", "1.5", "many", "99999999999999999999"] {
            assert!(parse_limit(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn types_are_names() {
        assert_eq!(parse_types("a,b").unwrap().len(), 2);
        assert!(parse_types("").is_err());
        assert!(parse_types("a,,b").is_err());
        assert!(parse_types(&["a"; limits::TYPES_MAX].join(",")).is_ok());
        assert!(parse_types(&["a"; limits::TYPES_MAX + 1].join(",")).is_err());
    }
}
