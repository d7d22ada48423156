//! The conformance suite on a database in memory and on one in a file, and what only files have.

use tempfile::TempDir;

use super::*;
use crate::change::FailureCode;
use crate::ids::Version;
use crate::store::concurrency::concurrency;
use crate::store::conformance::{code, conflict_id, conformance, create, since, update, user};
use crate::store::media::conformance::media_conformance;
use crate::store::{Horizons, Outcome};
use crate::wire::PulledRecord;

fn file() -> (SqliteStore, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let location = Location::File(folder.path().join("test.db"));
    (SqliteStore::open(&location).unwrap(), folder)
}

mod in_memory {
    use super::*;
    conformance!((SqliteStore::open(&Location::Memory).unwrap(), ()));
    media_conformance!((SqliteStore::open(&Location::Memory).unwrap(), ()));
}

mod in_a_file {
    use super::*;
    concurrency!(file());
    conformance!(file());
    media_conformance!(file());
}

#[tokio::test]
async fn a_restart_keeps_records_results_and_checkpoints() {
    let (store, folder) = file();
    let ann = user("ann");
    let batch = vec![
        create("m1", "a"),
        update("m2", "a", 1),
        update("m3", "a", 1),
    ];
    let first = store
        .push(&ann, batch.clone(), Mode::Each, UnixMillis(1))
        .await
        .unwrap();
    let page = store.pull(&ann, since(None, 10)).await.unwrap();
    drop(store);

    let store = SqliteStore::open(&Location::File(folder.path().join("test.db"))).unwrap();
    assert_eq!(
        store
            .push(&ann, batch, Mode::Each, UnixMillis(2))
            .await
            .unwrap(),
        first
    );
    assert_eq!(store.pull(&ann, since(None, 10)).await.unwrap(), page);
    let nothing = store
        .pull(&ann, since(Some(&page.checkpoint), 10))
        .await
        .unwrap();
    assert!(nothing.records.is_empty());
}

#[tokio::test]
async fn files_are_written_ahead_and_synced_at_each_commit() {
    let (store, _folder) = file();
    let (mode, synchronous): (String, i64) = store
        .writer
        .alone(|connection| {
            let text = connection.pragma_query_value(None, "journal_mode", |row| row.get(0));
            let level = connection.pragma_query_value(None, "synchronous", |row| row.get(0));
            Ok((text.map_err(engine)?, level.map_err(engine)?))
        })
        .await
        .unwrap();
    assert_eq!((mode.as_str(), synchronous), ("wal", 2));
}

#[tokio::test]
async fn a_change_that_sqlite_refuses_fails_alone_and_may_be_repeated() {
    let (store, _folder) = file();
    let ann = user("ann");
    // After the record was written: that must be undone as well.
    let trigger = "CREATE TRIGGER refuse BEFORE INSERT ON mutations WHEN NEW.id = 'm2'
                   BEGIN SELECT RAISE(ABORT, 'on purpose'); END";
    let break_it =
        move |connection: &mut Connection| connection.execute_batch(trigger).map_err(engine);
    store.writer.alone(break_it).await.unwrap();
    let batch = vec![create("m1", "a"), create("m2", "b"), create("m3", "c")];
    let verdicts = store
        .push(&ann, batch.clone(), Mode::Each, UnixMillis(1))
        .await
        .unwrap();
    let Verdict::Failed(failure) = &verdicts[1] else {
        panic!("{verdicts:?}")
    };
    assert!(failure.code.retryable());
    assert_eq!(
        store
            .pull(&ann, since(None, 10))
            .await
            .unwrap()
            .records
            .len(),
        2
    );

    let mend = |connection: &mut Connection| {
        connection
            .execute_batch("DROP TRIGGER refuse")
            .map_err(engine)
    };
    store.writer.alone(mend).await.unwrap();
    let verdicts = store
        .push(&ann, batch, Mode::Each, UnixMillis(1))
        .await
        .unwrap();
    assert!(
        verdicts
            .iter()
            .all(|verdict| matches!(verdict, Verdict::Success(_)))
    );
    let names: Vec<_> = store.pull(&ann, since(None, 10)).await.unwrap().records;
    let names: Vec<_> = names.iter().map(|record| record.id.as_str()).collect();
    assert_eq!(names, ["a", "c", "b"]);
}

/// A dump of what the server wrote when it knew schema 1.
const MADE_BY_1: &str = include_str!("schema/made-by-1.sql");

#[tokio::test]
async fn a_database_of_schema_1_keeps_its_data_and_its_checkpoints() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("old.db");
    let old = Connection::open(&path).unwrap();
    old.execute_batch(MADE_BY_1).unwrap();
    drop(old);
    let store = SqliteStore::open(&Location::File(path)).unwrap();
    let (ann, other) = (user("ann"), user("u:ann"));

    // As pulled from the old server, at its third and at its last change.
    let page = store.pull(&ann, since(None, 10)).await.unwrap();
    let texts = |page: &Page| {
        let text = |record: &PulledRecord| {
            let data = record.data.as_ref().map_or("-", |data| data.as_str());
            format!("{} {} {data}", record.id, record.version_number.0)
        };
        page.records.iter().map(text).collect::<Vec<_>>()
    };
    let all = [r#"a 2 {"n": 3}"#, "b 2 -", r#"c 1 {"n": 1.5}"#];
    assert_eq!(texts(&page), all);
    let old = |seq: u64| format!("08a047dc6d20242feac20d2c0f4a7f33.{seq}");
    let later = store.pull(&ann, since(Some(&old(3)), 10)).await.unwrap();
    assert_eq!(texts(&later), all[1..]);
    let latest = store.pull(&ann, since(Some(&old(5)), 10)).await.unwrap();
    assert!(latest.records.is_empty());
    assert_eq!(latest.checkpoint, page.checkpoint);
    let beyond = store.pull(&ann, since(Some(&old(6)), 10)).await;
    assert!(matches!(beyond, Err(StoreError::CheckpointUnknown)));
    let others = store.pull(&other, since(None, 10)).await.unwrap();
    assert_eq!(texts(&others), [r#"a 1 {"whose": "u:ann"}"#]);

    // Results and conflicts are remembered, and it goes on from there.
    let batch = vec![
        update("m3", "a", 1),
        update("m4", "a", 1),
        update("m6", "missing", 1),
        update("m8", "a", 2),
    ];
    let verdicts = store.push(&ann, batch, Mode::Each, UnixMillis(1)).await;
    let verdicts = verdicts.unwrap();
    assert_eq!(verdicts[0], Verdict::Success(Version(2)));
    assert_eq!(conflict_id(&verdicts[1]), ConflictId(1));
    assert_eq!(code(&verdicts[2]), Some(FailureCode::NotFound));
    assert_eq!(verdicts[3], Verdict::Success(Version(3)));
    let log = store.conflicts(&ann, ConflictId(0), 10).await.unwrap();
    assert_eq!(log[0].outcome, Outcome::Rebased);
    let news = store.pull(&ann, since(Some(&old(5)), 10)).await.unwrap();
    assert_eq!(texts(&news), [r#"a 3 {"by":"m8"}"#]);
    // Its tombstones are as old as the migration.
    let before = |past: u64| Horizons {
        past: UnixMillis(past),
        open_conflicts: UnixMillis(0),
    };
    let purged = store.purge(before(1)).await.unwrap();
    assert_eq!(purged.tombstones, 0);
    let purged = store.purge(before(u64::MAX)).await.unwrap();
    assert_eq!(purged.tombstones, 1);
}

/// Each page must cost what it holds, however many records lie before and after it.
#[tokio::test]
async fn pages_are_read_in_the_order_of_an_index() {
    let (store, _folder) = file();
    for (sql, parameters) in [(pull::own(), 4), (pull::shared(), 5)] {
        let plan = move |connection: &mut Connection| {
            let sql = format!("EXPLAIN QUERY PLAN {sql}");
            let mut statement = connection.prepare(&sql).map_err(engine)?;
            let values = vec![None::<i64>; parameters];
            let rows = statement.query_map(rusqlite::params_from_iter(values), |row| row.get(3));
            let lines: Result<Vec<String>, _> = rows.map_err(engine)?.collect();
            lines.map_err(engine)
        };
        let plan = store.writer.alone(plan).await.unwrap().join("\n");
        assert!(plan.contains("records_by_seq"), "{plan}");
        assert!(!plan.contains("TEMP B-TREE"), "{plan}");
        assert!(!plan.contains("SCAN records"), "{plan}");
    }
}
