//! Every answer that a test of this suite gets is held against the description in `openapi.json`: its
//! route, its status, its media type, and its body against the schema. One that is not described
//! reaches the test as a `599` with the reason, which no test expects.

use std::collections::HashMap;
use std::io::Read;
use std::sync::{LazyLock, Mutex};

use axum::body::Body;
use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderMap, Method, Response, StatusCode, header};
use axum::middleware::Next;
use http_body_util::BodyExt;
use jsonschema::Validator;
use serde_json::value::RawValue;
use serde_json::{Value, json};

static DESCRIPTION: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(include_str!("../../openapi.json")).unwrap());

static VALIDATORS: LazyLock<Mutex<HashMap<String, &'static Validator>>> =
    LazyLock::new(Mutex::default);

/// The layer.
pub(crate) async fn check(request: Request, next: Next) -> Response<Body> {
    let route = request.extensions().get::<MatchedPath>();
    let route = route.map(|route| route.as_str().to_owned());
    let method = request.method().clone();
    let response = next.run(request).await;
    if method == Method::OPTIONS {
        return response;
    }
    let kind = media_type(response.headers());
    let is_json = kind.ends_with("json");
    let (parts, body) = response.into_parts();
    // Of others, streams among them, only the head is looked at.
    let (body, bytes) = match is_json {
        true => {
            let bytes = body.collect().await.unwrap().to_bytes();
            (Body::from(bytes.clone()), Some(bytes))
        }
        false => (body, None),
    };
    let content = bytes.map(|bytes| unpacked(&parts.headers, &bytes));
    match fault(route.as_deref(), &method, parts.status, &kind, content) {
        None => Response::from_parts(parts, body),
        Some(fault) => {
            let told = format!("{method} {route:?} {}: {fault}", parts.status);
            eprintln!("not described: {told}");
            let status = StatusCode::from_u16(599).unwrap();
            Response::builder()
                .status(status)
                .body(told.into())
                .unwrap()
        }
    }
}

fn media_type(headers: &HeaderMap) -> String {
    let value = headers.get(header::CONTENT_TYPE);
    value.map_or(String::new(), |value| value.to_str().unwrap().to_owned())
}

fn unpacked(headers: &HeaderMap, bytes: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    if headers.contains_key(header::CONTENT_ENCODING) {
        flate2::read::GzDecoder::new(bytes)
            .read_to_end(&mut plain)
            .unwrap();
    } else {
        plain.extend_from_slice(bytes);
    }
    plain
}

fn fault(
    route: Option<&str>,
    method: &Method,
    status: StatusCode,
    kind: &str,
    content: Option<Vec<u8>>,
) -> Option<String> {
    let Some(path) = route.map(|route| &DESCRIPTION["paths"][route]) else {
        // Files, and what is at no address.
        return None;
    };
    if path.is_null() {
        return Some("the route is not described".into());
    }
    let described = |name: &str| path.get(name).map(|operation| (name.to_owned(), operation));
    let name = method.as_str().to_lowercase();
    let operation = described(&name).or_else(|| (name == "head").then(|| described("get"))?);
    let pointer = match &operation {
        Some((name, _)) => format!(
            "/paths/{}/{name}/responses/{}",
            route?.replace('/', "~1"),
            status.as_str()
        ),
        None if status == StatusCode::METHOD_NOT_ALLOWED => {
            "/components/responses/MethodNotAllowed".into()
        }
        None => return Some("the method is not described".into()),
    };
    let Some(mut answer) = DESCRIPTION.pointer(&pointer) else {
        return Some("the status is not described".into());
    };
    let mut pointer = pointer;
    if let Some(target) = answer["$ref"].as_str() {
        pointer = target.trim_start_matches('#').into();
        answer = DESCRIPTION.pointer(&pointer)?;
    }
    if *method == Method::HEAD {
        return None;
    }
    let kinds = answer["content"].as_object();
    let kinds: Vec<_> = kinds.into_iter().flat_map(|kinds| kinds.keys()).collect();
    let any = kinds.iter().any(|known| *known == "*/*");
    if kinds.is_empty() && kind.is_empty() || any && content.is_none() {
        return None;
    }
    if !kinds.iter().any(|known| *known == kind) {
        return Some(format!("{kind:?} is not one of {kinds:?}"));
    }
    let content = content?;
    let content: Value = match serde_json::from_slice(&content) {
        Ok(content) => content,
        // A record may hold a number or a half of a character that Rust has no value for; it is
        // well-formed all the same.
        Err(_) if serde_json::from_slice::<&RawValue>(&content).is_ok() => return None,
        Err(error) => return Some(format!("not JSON: {error}")),
    };
    let pointer = format!("{pointer}/content/{}/schema", kind.replace('/', "~1"));
    let error = validator(pointer).validate(&content).err()?;
    Some(format!("{error} at {}", error.instance_path()))
}

/// The schema at a place of the description, which may refer to the rest of it.
fn validator(pointer: String) -> &'static Validator {
    let mut known = VALIDATORS.lock().unwrap();
    known.entry(pointer).or_insert_with_key(|pointer| {
        let escaped = pointer.replace('{', "%7B").replace('}', "%7D");
        let schema = json!({
            "$ref": format!("#{escaped}"),
            "paths": DESCRIPTION["paths"],
            "components": DESCRIPTION["components"],
        });
        Box::leak(Box::new(jsonschema::draft202012::new(&schema).unwrap()))
    })
}

#[test]
fn what_is_not_described_is_noticed() {
    let ok = StatusCode::OK;
    let pull = Some("/api/v1/sync/pull");
    let page = json!({"changes": [], "checkpoint": "c", "hasMore": false});
    let told = |route, method: Method, status, kind: &str, content: Value| {
        fault(
            route,
            &method,
            status,
            kind,
            Some(content.to_string().into()),
        )
    };
    let json_kind = "application/json";
    assert_eq!(told(pull, Method::GET, ok, json_kind, page.clone()), None);
    let more = json!({"changes": [], "checkpoint": "c", "hasMore": false, "more": 1});
    for fault in [
        told(Some("/new"), Method::GET, ok, json_kind, page.clone()),
        told(pull, Method::POST, ok, json_kind, page.clone()),
        told(
            pull,
            Method::GET,
            StatusCode::CREATED,
            json_kind,
            page.clone(),
        ),
        told(pull, Method::GET, ok, "text/plain", page),
        told(pull, Method::GET, ok, json_kind, json!({"changes": []})),
        told(pull, Method::GET, ok, json_kind, more),
    ] {
        assert!(fault.is_some());
    }
}
