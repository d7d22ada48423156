//! The driver over the memory store, a model of the server, and virtual time.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod backup;
mod faults;
mod hidden;
mod log_store;
mod migration;
mod promises;
mod pushing;
mod random;
mod rekey;
mod rig;
mod status;
mod transactions;
mod waits;
mod writes;
