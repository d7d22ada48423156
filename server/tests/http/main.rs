//! The protocol over real HTTP: a server on a free port in this process, and a plain client. Here
//! over SQLite; `postgres.rs` runs the same files over PostgreSQL.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

include!("suite.rs");

mod storage {
    use landfall_server::Database;

    /// Where a test's server keeps its records: where the test says.
    pub(crate) fn place(asked: Database) -> Database {
        asked
    }
}
