//! Transactions that are held in the middle, so that others come between on purpose and not by luck.

use super::*;

/// Holds every transaction that moves a head so, there, until [`let_go`].
async fn hold(gate: &mut PgConnection, when: &str) {
    let sql = format!(
        "CREATE FUNCTION hold() RETURNS trigger AS $$
         BEGIN PERFORM pg_advisory_xact_lock(42); RETURN NULL; END $$ LANGUAGE plpgsql;
         CREATE TRIGGER hold AFTER UPDATE ON heads
         FOR EACH ROW WHEN ({when}) EXECUTE FUNCTION hold();
         SELECT pg_advisory_lock(42)"
    );
    run(gate, &sql).await;
}

async fn let_go(gate: &mut PgConnection) {
    run(gate, "SELECT pg_advisory_unlock(42)").await;
}

/// The late commit, on purpose: a transaction has its numbers and is held before its commit, while
/// another one writes to the same space and a reader pulls.
#[tokio::test(flavor = "multi_thread")]
async fn a_late_commit_is_not_skipped() {
    let (store, database) = fresh().await;
    let store = Arc::new(store);
    let (mut gate, mut watch) = (beside(&database).await, beside(&database).await);
    // Where the heads have been moved: after that comes only the commit.
    hold(&mut gate, "NEW.space = 'e:s1' AND NEW.seq = 1").await;
    let mut checkpoint = None;
    let early = visiting(&store, "ann", "early");
    wait_for_waiters(&mut watch, 1).await;
    let late = visiting(&store, "bob", "late");
    wait_for_waiters(&mut watch, 2).await;
    let mut seen = names(&store, &mut checkpoint).await;
    assert!(seen.is_empty() && !late.is_finished());
    let_go(&mut gate).await;
    for push in [early, late] {
        assert!(push.await.unwrap().is_ok());
    }
    seen.extend(names(&store, &mut checkpoint).await);
    seen.extend(names(&store, &mut checkpoint).await);
    assert_eq!(seen, ["early", "late"]);
}

/// The same with numbers that are taken without keeping the lock, as from a sequence: here the
/// reader does lose the row. This is what the test above would see.
#[tokio::test]
async fn a_late_commit_would_be_skipped_without_the_lock() {
    let (store, database) = fresh().await;
    let (mut one, mut two) = (beside(&database).await, beside(&database).await);
    run(
        &mut one,
        "INSERT INTO heads (space, seq) VALUES ('e:s1', 0)",
    )
    .await;
    let take = "UPDATE heads SET seq = seq + 1 WHERE space = 'e:s1'";
    let insert = |name: &str, seq: i64| {
        format!(
            "INSERT INTO records
               (realm, type, id, space, version, seq, data, at, client, changed_ms)
             VALUES ('', 'visits', '{name}', 'e:s1', 1, {seq}, '{{}}', '1763690000000-0000-c1',
                     'c1', 0)"
        )
    };
    let mut checkpoint = None;
    run(&mut one, take).await;
    run(&mut one, "BEGIN").await;
    run(&mut one, &insert("early", 1)).await;
    run(&mut two, take).await;
    run(&mut two, &insert("late", 2)).await;
    let mut seen = names(&store, &mut checkpoint).await;
    run(&mut one, "COMMIT").await;
    seen.extend(names(&store, &mut checkpoint).await);
    assert_eq!(seen, ["late"]);
}

/// A purge that commits between a page's look at the heads and its look at the rows. A page that saw
/// it half would lack the tombstone and lead past the floor: the reader would never hear of the
/// deletion.
#[tokio::test(flavor = "multi_thread")]
async fn a_purge_in_the_middle_of_a_page_takes_nothing_from_it() {
    let (store, database) = fresh().await;
    let store = Arc::new(store);
    let mut checkpoint = None;
    assert!(visiting(&store, "ann", "gone").await.unwrap().is_ok());
    assert_eq!(names(&store, &mut checkpoint).await, ["gone"]);
    let delete = Change {
        edit: Edit::Delete,
        ..visit("delete", "gone", 1, "s1")
    };
    let batch = vec![delete, visit("more", "more", 0, "s1")];
    let ann = member("ann", &["s1"]);
    let verdicts = store.push(&ann, batch, Mode::Each, UnixMillis(1)).await;
    let taken = |verdict: &Verdict| matches!(verdict, Verdict::Success(_));
    assert!(verdicts.unwrap().iter().all(taken));

    let (mut gate, mut bar) = (beside(&database).await, beside(&database).await);
    let mut watch = beside(&database).await;
    // Where the tombstone is deleted and the floor raised.
    hold(&mut gate, "NEW.floor > 0").await;
    let horizons = Horizons {
        past: UnixMillis(2),
        open_conflicts: UnixMillis(0),
    };
    let purging = tokio::spawn({
        let store = Arc::clone(&store);
        async move { store.purge(horizons).await }
    });
    wait_for_waiters(&mut watch, 1).await;
    // Who waits for the whole table, behind the purge, keeps the page from its rows until then; the
    // heads it reads at once.
    let barring = tokio::spawn(async move {
        let sql = "BEGIN; LOCK TABLE records IN ACCESS EXCLUSIVE MODE; COMMIT";
        run(&mut bar, sql).await;
    });
    wait_for_waiters(&mut watch, 2).await;
    let reader = member("reader", &["s1"]);
    let reading = tokio::spawn({
        let (store, reader) = (Arc::clone(&store), reader.clone());
        let query = since(checkpoint.as_deref(), 100);
        async move { store.pull(&reader, query).await }
    });
    wait_for_waiters(&mut watch, 3).await;
    let_go(&mut gate).await;
    assert_eq!(purging.await.unwrap().unwrap().tombstones, 1);
    barring.await.unwrap();
    let page = reading.await.unwrap().unwrap();
    let seen = page.records.iter().map(|r| (r.id.as_str(), r.deleted));
    assert_eq!(seen.collect::<Vec<_>>(), [("gone", true), ("more", false)]);
    // And it was in the middle: who begins the page after it is told to read everything anew.
    let late = store.pull(&reader, since(checkpoint.as_deref(), 100)).await;
    assert!(matches!(late, Err(StoreError::CheckpointUnknown)));
    let next = since(Some(&page.checkpoint), 100);
    assert!(store.pull(&reader, next).await.unwrap().records.is_empty());
}
