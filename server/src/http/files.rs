//! The files of an app, served beside the API, so that a demo needs one process and no CORS.

use std::path::Path;

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderValue, header};
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use tower_http::services::ServeDir;

/// May be kept for ever: the name changes with the content.
const IMMUTABLE: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");
/// May be kept, but is asked for again each time (a `304` where nothing has changed).
const REVALIDATE: HeaderValue = HeaderValue::from_static("no-cache");

/// Serves the folder's files; `index.html` for a folder; a `.gz` beside a file in its place, for
/// those who accept it.
pub(super) fn service(folder: &Path) -> Router {
    let files = ServeDir::new(folder).precompressed_gzip();
    Router::new()
        .fallback_service(files)
        .layer(from_fn(cache_control))
}

async fn cache_control(request: Request, next: Next) -> Response {
    let hashed = is_hashed(request.uri().path());
    let mut response = next.run(request).await;
    if response.status().is_success() {
        let value = if hashed { IMMUTABLE } else { REVALIDATE };
        response.headers_mut().insert(header::CACHE_CONTROL, value);
    }
    response
}

/// Whether a file's name ends in a hash of its content, as bundlers write it
/// (`index-DiwrgTda.js`, `main.3f2a9c41.css`). Rather no than a wrong yes: a file that is taken for
/// hashed and then changes would stay stale for a year.
fn is_hashed(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default();
    let Some((stem, extension)) = name.rsplit_once('.') else {
        return false;
    };
    if matches!(extension, "html" | "htm") {
        return false;
    }
    // `app-3f2a9c41.js.map` is hashed as `app-3f2a9c41.js` is.
    let stem = stem
        .strip_suffix(".js")
        .or_else(|| stem.strip_suffix(".css"))
        .unwrap_or(stem);
    let Some((_, hash)) = stem.rsplit_once(['-', '.']) else {
        return false;
    };
    let has = |class: fn(&u8) -> bool| hash.bytes().any(|byte| class(&byte));
    let (digits, upper, lower) = (
        has(u8::is_ascii_digit),
        has(u8::is_ascii_uppercase),
        has(u8::is_ascii_lowercase),
    );
    let mixed = (digits && (upper || lower)) || (upper && lower);
    (8..=64).contains(&hash.len()) && mixed && hash.bytes().all(|b| b.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_told_from_words() {
        for hashed in [
            "/assets/index-DiwrgTda.js",
            "/main.3f2a9c41.css",
            "/a/landfall_bg-0a1b2c3d4e.wasm",
            "/app-3f2a9c41.js.map",
        ] {
            assert!(is_hashed(hashed), "{hashed}");
        }
        for plain in [
            "/",
            "/index.html",
            "/page-3f2a9c41.html",
            "/landfall_bg.wasm",
            "/service-worker.js",
            "/landfall-elements.js",
            "/landfall.elements.js",
            "/report-20261121.json",
            "/v-1.2.3.js",
        ] {
            assert!(!is_hashed(plain), "{plain}");
        }
    }
}
