//! The conformance suite on a database in memory and on one in a file, and what only files have.

use tempfile::TempDir;

use super::*;
use crate::store::concurrency::concurrency;
use crate::store::conformance::{conformance, create, since, update, user};

fn file() -> (SqliteStore, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let location = Location::File(folder.path().join("test.db"));
    (SqliteStore::open(&location).unwrap(), folder)
}

mod in_memory {
    use super::*;
    conformance!((SqliteStore::open(&Location::Memory).unwrap(), ()));
}

mod in_a_file {
    use super::*;
    concurrency!(file());
    conformance!(file());
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
