//! The driver over the memory store, a model of the server, and virtual time.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod backup;
mod clocks;
mod faults;
mod hidden;
mod imported;
mod log_store;
mod manual;
mod migration;
mod promises;
mod pushing;
mod random;
mod reads;
mod rekey;
mod repull;
mod rescue;
mod resolvers;
mod rig;
mod server;
mod status;
mod sweep;
mod transactions;
mod waits;
mod writes;
