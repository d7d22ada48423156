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

mod pair {
    use std::time::Duration;

    use landfall_server::access::TypeRules;
    use landfall_server::ids::{EntityId, RecordType, UserId};
    use landfall_server::{Config, Database, StreamLimits};
    use throwaway_postgres::Cluster;

    use crate::harness::{TestServer, secret};
    use crate::stream::{Stream, checkpoint, site};

    /// An assignment that is made at one server reaches the streams of another. No heartbeat comes
    /// while this waits, and nothing is pushed: what wakes the stream can only be the other server.
    #[tokio::test(flavor = "multi_thread")]
    async fn an_assignment_at_one_pokes_the_streams_of_the_other() {
        let url = Cluster::shared().database().url;
        let config = || Config {
            types: TypeRules::shared([(RecordType::new("sites").unwrap(), "siteId".into())]),
            stream: StreamLimits {
                heartbeat: Duration::from_secs(3600),
                ..StreamLimits::default()
            },
            ..Config::new(Database::Postgres(url.parse().unwrap()), secret())
        };
        let (one, store) = TestServer::and_store(config()).await;
        let two = TestServer::with(config()).await;
        let bob = one.member("bob", &["north"]);
        let results = bob.push(&[site("m1", "a", "north")]).await;
        assert_eq!(results[0]["status"], "success", "{results:?}");

        let (ann, name) = (two.client("ann"), UserId::new("ann").unwrap());
        let north = EntityId::new("north").unwrap();
        let mut stream = Stream::open(&ann, None).await;
        let before = stream.poke().await;
        assert!(store.assign(&name, &north).await.unwrap());
        let open = stream.poke().await;
        assert_ne!(open, before);
        assert_eq!(open, checkpoint(&ann).await);
        assert!(store.unassign(&name, &north).await.unwrap());
        assert_eq!(stream.poke().await, before);
    }
}
