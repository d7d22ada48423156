//! The protocol over real HTTP, once more: every file of the suite, over PostgreSQL.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

include!("suite.rs");

mod storage {
    use std::collections::HashMap;
    use std::path::PathBuf;
    use std::sync::Mutex;

    use landfall_server::Database;
    use landfall_server::store::sqlite::Location;
    use throwaway_postgres::Cluster;

    static PLACES: Mutex<Option<HashMap<PathBuf, String>>> = Mutex::new(None);

    /// Where a test's server keeps its records: in a database of its own where the test says "in
    /// memory", and in the same one for the same file.
    pub(crate) fn place(asked: Database) -> Database {
        let fresh = || Cluster::shared().database().url;
        let url = match asked {
            Database::Sqlite(Location::Memory) => fresh(),
            Database::Sqlite(Location::File(file)) => {
                let mut places = PLACES.lock().unwrap();
                let places = places.get_or_insert_default();
                places.entry(file).or_insert_with(fresh).clone()
            }
            Database::Postgres(url) => return Database::Postgres(url),
        };
        Database::Postgres(url.parse().unwrap())
    }
}
