//! The reference server of landfall: what `docs/PROTOCOL.md` says, over SQLite or
//! PostgreSQL.
//!
//! | layer | modules | knows |
//! |---|---|---|
//! | rules | [`ruling`], [`decide`], [`access`], [`change`], [`data`], [`ids`], [`limits`] | no I/O, no clock |
//! | storage | [`store`]: one trait, SQLite and PostgreSQL behind it | transactions, idempotency, checkpoints |
//! | wire | [`wire`], `http` | JSON, tokens, status codes |
//! | shell | [`config`], [`cli`], [`server`] | files, sockets, signals |
//!
//! A simulation can drive [`decide::decide`] or a whole [`store::Store`] without HTTP; a test can
//! drive [`server::Server::router`] without a socket.

pub mod access;
pub mod change;
pub mod cli;
pub mod config;
pub mod data;
pub mod decide;
pub mod effort;
mod http;
pub mod ids;
pub mod limits;
mod patience;
pub mod rate;
pub mod resolution;
pub mod retention;
pub mod ruling;
pub mod schema;
mod seed;
pub mod server;
pub mod store;
pub mod token;
pub mod types;
pub mod wire;

pub use config::{Config, Cors, Database, Demo, MediaLimits, Seed, StreamLimits};
pub use server::{Server, ServerError, serve};
