//! Servers as processes of their own: killed in the middle of batches, and several on one database.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod harness;
mod kill;
mod pair;
mod start;
mod tls;
