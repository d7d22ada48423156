//! The protocol over real HTTP: a server on a free port in this process, and a plain client.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod atomic;
mod conflicts;
mod entities;
mod files;
mod harness;
mod lifecycle;
mod moody;
mod pull;
mod push;
mod refusals;
mod retention;
mod users;
