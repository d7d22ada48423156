//! The conformance suite on PostgreSQL, and what only a database of several servers has.

use throwaway_postgres::{Cluster, Database, PASSWORD};

use super::*;
use crate::store::conformance::{conformance, create, since, update, user};
use crate::store::media::conformance::media_conformance;

async fn open(database: &Database) -> PostgresStore {
    let url = database.url.parse().unwrap();
    PostgresStore::open(&url).await.unwrap()
}

async fn fresh() -> (PostgresStore, Database) {
    let database = Cluster::shared().database();
    (open(&database).await, database)
}

/// A connection beside the store's.
async fn beside(database: &Database) -> PgConnection {
    let url: DatabaseUrl = database.url.parse().unwrap();
    PgConnection::connect_with(&url.options()).await.unwrap()
}

async fn run(connection: &mut PgConnection, sql: &str) {
    let sql = sqlx::raw_sql(sqlx::AssertSqlSafe(sql.to_owned()));
    sql.execute(connection).await.unwrap();
}

mod conforms {
    use super::*;
    conformance!(fresh().await);
    media_conformance!(fresh().await);
}

#[tokio::test]
async fn a_restart_keeps_records_results_and_checkpoints() {
    let (store, database) = fresh().await;
    let ann = user("ann");
    let batch = vec![
        create("m1", "a"),
        update("m2", "a", 1),
        update("m3", "a", 1),
    ];
    let now = UnixMillis(1);
    let first = store.push(&ann, batch.clone(), Mode::Each, now).await;
    let first = first.unwrap();
    let page = store.pull(&ann, since(None, 10)).await.unwrap();
    drop(store);

    let store = open(&database).await;
    let again = store.push(&ann, batch, Mode::Each, UnixMillis(2)).await;
    assert_eq!(again.unwrap(), first);
    assert_eq!(store.pull(&ann, since(None, 10)).await.unwrap(), page);
    let nothing = store.pull(&ann, since(Some(&page.checkpoint), 10)).await;
    assert!(nothing.unwrap().records.is_empty());
}

#[tokio::test]
async fn a_change_that_postgres_refuses_fails_alone_and_may_be_repeated() {
    let (store, database) = fresh().await;
    let ann = user("ann");
    let mut beside = beside(&database).await;
    // Refused with the last row that is stored for the change: what was stored before must go too.
    run(
        &mut beside,
        "CREATE FUNCTION refuse() RETURNS trigger AS $$
         BEGIN RAISE EXCEPTION 'on purpose'; END $$ LANGUAGE plpgsql;
         CREATE TRIGGER refuse BEFORE INSERT ON records
         FOR EACH ROW WHEN (NEW.id = 'b') EXECUTE FUNCTION refuse()",
    )
    .await;
    let batch = vec![create("m1", "a"), create("m2", "b"), create("m3", "c")];
    for mode in [Mode::Together, Mode::Each] {
        let verdicts = store.push(&ann, batch.clone(), mode, UnixMillis(1)).await;
        let verdicts = verdicts.unwrap();
        let Verdict::Failed(failure) = &verdicts[1] else {
            panic!("{verdicts:?}")
        };
        assert!(failure.code.retryable());
        let page = store.pull(&ann, since(None, 10)).await.unwrap();
        let kept = if mode == Mode::Each { 2 } else { 0 };
        assert_eq!(page.records.len(), kept, "{mode:?}");
    }
    run(&mut beside, "DROP TRIGGER refuse ON records").await;
    let verdicts = store.push(&ann, batch, Mode::Each, UnixMillis(1)).await;
    let taken = |verdict: &Verdict| matches!(verdict, Verdict::Success(_));
    assert!(verdicts.unwrap().iter().all(taken));
    let names = store.pull(&ann, since(None, 10)).await.unwrap().records;
    let names: Vec<_> = names.iter().map(|record| record.id.as_str()).collect();
    assert_eq!(names, ["a", "c", "b"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_start_at_once_migrate_once() {
    let database = Cluster::shared().database();
    let url: DatabaseUrl = database.url.parse().unwrap();
    let starts: Vec<_> = (0..4)
        .map(|_| {
            let url = url.clone();
            tokio::spawn(async move { PostgresStore::open(&url).await.unwrap().inner.id.clone() })
        })
        .collect();
    let mut ids = Vec::new();
    for start in starts {
        ids.push(start.await.unwrap());
    }
    assert!(ids.windows(2).all(|pair| pair[0] == pair[1]));
}

#[tokio::test]
async fn newer_and_foreign_databases_are_refused_and_left_alone() {
    let (store, database) = fresh().await;
    drop(store);
    let mut beside = beside(&database).await;
    run(
        &mut beside,
        "UPDATE landfall_meta SET value = '99' WHERE key = 'schema-version'",
    )
    .await;
    let url = database.url.parse().unwrap();
    let error = PostgresStore::open(&url).await.err().unwrap();
    assert!(matches!(error, StoreError::NewerSchema { found: 99, .. }));
    let version: String = sqlx::query_scalar("SELECT value FROM landfall_meta WHERE key = $1")
        .bind("schema-version")
        .fetch_one(&mut beside)
        .await
        .unwrap();
    assert_eq!(version, "99");

    let foreign = Cluster::shared().database();
    let mut beside = self::beside(&foreign).await;
    run(&mut beside, "CREATE TABLE recipes (name TEXT)").await;
    let url = foreign.url.parse().unwrap();
    let error = PostgresStore::open(&url).await.err().unwrap();
    assert!(matches!(error, StoreError::ForeignDatabase));
    // A schema of one's own in it is empty.
    run(&mut beside, "CREATE SCHEMA sync").await;
    let url = format!("{}&options=-csearch_path%3Dsync", foreign.url);
    let store = PostgresStore::open(&url.parse().unwrap()).await.unwrap();
    let ann = user("ann");
    let pushed = store.push(&ann, vec![create("m1", "a")], Mode::Each, UnixMillis(1));
    assert_eq!(
        pushed.await.unwrap(),
        [Verdict::Success(crate::ids::Version(1))]
    );
}

#[tokio::test]
async fn errors_do_not_tell_the_password() {
    let folder = tempfile::tempdir().unwrap();
    let nowhere = format!(
        "postgres://ann:{PASSWORD}@localhost/x?host={}",
        folder.path().display()
    );
    let unknown = Cluster::shared().database().url.replace("/test_", "/no_");
    for url in [
        nowhere,
        unknown,
        format!("postgres://ann:{PASSWORD}@127.0.0.1:1/x"),
    ] {
        let error = PostgresStore::open(&url.parse().unwrap())
            .await
            .err()
            .unwrap();
        let told = format!("{error} {error:?}");
        assert!(!told.contains(PASSWORD), "{told}");
    }
}
