//! The browser's side: IndexedDB, the app's backend, timers, and what JavaScript can call.
//!
//! The only place with `#[wasm_bindgen]`, web-sys, rexie and gloo.

mod api;
pub use api::Core;
mod backend;
mod budget;
mod clock;
mod codec;
mod codec_mutation;
mod conflicts;
mod decode;
mod glue;
mod host;
mod idb;
mod options;
mod request;
mod rescue;
mod signals;
#[cfg(test)]
mod tests;
mod value;
mod view;
mod writes;
