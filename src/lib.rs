//! landfall: an offline-first sync engine for web apps.
//!
//! ```text
//! JS app ── npm/ (loader and classes)
//!             │
//! web/     the only place with #[wasm_bindgen], web-sys, rexie, gloo
//!             │  implements the three traits
//! driver   runs the engine's effects over Store + Backend + Clock
//!             │
//! engine   pure: (state, now, random, event) → effects; no I/O, no clock, no async
//! replica, conflict, backoff, hlc, options, limits, error: pure rules
//! ```
//!
//! `ARCHITECTURE.md` tells how these fit together and which promise is kept where.

pub mod backoff;
pub mod conflict;
pub mod driver;
pub mod engine;
pub mod error;
pub mod hlc;
pub mod limits;
pub mod model;
pub mod options;
pub mod ordered;
pub mod planted;
pub mod replica;
pub mod shown;
pub mod store;
pub mod value;
#[cfg(target_family = "wasm")]
pub mod web;

/// What is awaited on few paths: a function of its own, that browsers compile only when it is called. Inlined,
/// it would be compiled with all that is awaited around it.
pub(crate) fn rare<'a, T>(
    what: impl Future<Output = T> + 'a,
) -> std::pin::Pin<Box<dyn Future<Output = T> + 'a>> {
    Box::pin(what)
}
