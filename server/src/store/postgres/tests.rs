//! The conformance suite on PostgreSQL, and what only a database of several servers has.

use std::time::Duration;

use throwaway_postgres::{Cluster, Database, PASSWORD};

use sqlx::Row;

use super::*;
use crate::access::Space;
use crate::change::Edit;
use crate::store::concurrency::{concurrency, member, visit};
use crate::store::conformance::{conformance, create, since, update, user};
use crate::store::feed::{News, Subscription};
use crate::store::media::conformance::media_conformance;

mod held;

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
    concurrency!(fresh().await);
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

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(20);

async fn news(feed: &mut Subscription) -> News {
    tokio::time::timeout(PATIENCE, feed.next()).await.unwrap()
}

/// A push in the background, by a user who shares `s1` with all others.
fn visiting(
    store: &Arc<PostgresStore>,
    user: &str,
    name: &str,
) -> tokio::task::JoinHandle<Result<Vec<Verdict>, StoreError>> {
    let (store, access) = (Arc::clone(store), member(user, &["s1"]));
    let batch = vec![visit(name, name, 0, "s1")];
    tokio::spawn(async move { store.push(&access, batch, Mode::Each, UnixMillis(1)).await })
}

async fn names(store: &PostgresStore, since_: &mut Option<String>) -> Vec<String> {
    let reader = member("reader", &["s1"]);
    let page = store.pull(&reader, since(since_.as_deref(), 100)).await;
    let page = page.unwrap();
    *since_ = Some(page.checkpoint);
    let names = page.records.iter().map(|r| r.id.as_str().to_owned());
    names.collect()
}

/// Waits until so many connections wait for a lock.
async fn wait_for_waiters(beside: &mut PgConnection, count: i64) {
    let sql = "SELECT count(*) FROM pg_stat_activity
               WHERE datname = current_database() AND wait_event_type = 'Lock'";
    let until = std::time::Instant::now() + PATIENCE;
    while std::time::Instant::now() < until {
        let waiting: i64 = sqlx::query_scalar(sql)
            .fetch_one(&mut *beside)
            .await
            .unwrap();
        if waiting >= count {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("nobody waits for a lock");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_servers_are_one() {
    let (one, database) = fresh().await;
    let two = open(&database).await;
    let (one, two) = (Arc::new(one), Arc::new(two));
    let mut feed = two.feed().subscribe();

    // A pull on one sees what the other committed, and is told to.
    assert!(visiting(&one, "ann", "a").await.unwrap().is_ok());
    let space = Space::parse("e:s1").unwrap();
    assert_eq!(
        news(&mut feed).await,
        News::Spaces([space].as_slice().into())
    );
    let mut checkpoint = None;
    assert_eq!(names(&two, &mut checkpoint).await, ["a"]);
    // What one has given out, the other goes on from.
    assert!(visiting(&two, "bob", "b").await.unwrap().is_ok());
    assert_eq!(names(&one, &mut checkpoint).await, ["b"]);

    // A duplicate sent to both at the same moment takes effect once.
    for round in 0..20 {
        let name = format!("d{round}");
        let pushes = [
            visiting(&one, "ann", &name),
            visiting(&two, "ann", &name),
            visiting(&one, "ann", &name),
        ];
        let mut answers = Vec::new();
        for push in pushes {
            answers.push(push.await.unwrap().unwrap());
        }
        assert!(answers.windows(2).all(|pair| pair[0] == pair[1]));
    }
    assert_eq!(names(&one, &mut checkpoint).await.len(), 20);

    // Assignments hold on both, and the other one's streams are told.
    let (ann, entity) = (user("ann"), EntityId::new("s9").unwrap());
    assert!(one.assign(ann.user(), &entity).await.unwrap());
    let told = News::Spaces([ann.own_space()].as_slice().into());
    while news(&mut feed).await != told {}
    assert!(!two.assign(ann.user(), &entity).await.unwrap());
    assert_eq!(two.assignments(ann.user()).await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_connections_come_back_and_everybody_is_told() {
    let (store, database) = fresh().await;
    let (mut feed, store) = (store.feed().subscribe(), Arc::new(store));
    assert!(visiting(&store, "ann", "a").await.unwrap().is_ok());
    news(&mut feed).await;
    let mut beside = beside(&database).await;
    run(
        &mut beside,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
         WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )
    .await;
    // Somebody may have written while nobody listened.
    assert_eq!(news(&mut feed).await, News::Anything);
    assert!(visiting(&store, "ann", "b").await.unwrap().is_ok());
    let space = Space::parse("e:s1").unwrap();
    assert_eq!(
        news(&mut feed).await,
        News::Spaces([space].as_slice().into())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_away_is_worth_another_try() {
    let cluster = Cluster::start().unwrap();
    let store = Arc::new(open(&cluster.database()).await);
    let mut feed = store.feed().subscribe();
    let pushing = tokio::spawn({
        let store = Arc::clone(&store);
        async move {
            let mut refused = 0;
            for n in 0..400 {
                let name = format!("r{n}");
                // As a client does: again until there is an answer.
                while let Err(error) = visiting(&store, "ann", &name).await.unwrap() {
                    assert!(error.passing(), "{error:?}");
                    refused += 1;
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
            refused
        }
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    let cluster = tokio::task::spawn_blocking(move || {
        cluster.restart();
        cluster
    });
    let cluster = cluster.await.unwrap();
    assert!(pushing.await.unwrap() > 0, "the restart was not noticed");
    while news(&mut feed).await != News::Anything {}
    let mut checkpoint = None;
    let mut seen = std::collections::HashSet::new();
    for _ in 0..5 {
        for name in names(&store, &mut checkpoint).await {
            assert!(seen.insert(name), "twice");
        }
    }
    assert_eq!(seen.len(), 400);
    drop(cluster);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_too_long_is_told_and_harms_nobody() {
    let (store, database) = fresh().await;
    let store = Arc::new(store);
    assert!(visiting(&store, "ann", "a").await.unwrap().is_ok());
    let mut hog = beside(&database).await;
    run(
        &mut hog,
        "BEGIN; SELECT * FROM heads WHERE space = 'u:ann' FOR UPDATE",
    )
    .await;
    let mut waiting = Vec::new();
    for n in 0..limits::WRITE_QUEUE_MAX {
        waiting.push(visiting(&store, "ann", &format!("w{n}")));
    }
    // All of one user: they hold one connection, and the queue is full for all.
    let mut watch = beside(&database).await;
    wait_for_waiters(&mut watch, 1).await;
    while store.inner.turns.free() > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let refused = visiting(&store, "bob", "b").await.unwrap();
    assert!(matches!(refused, Err(StoreError::Overloaded)));
    waiting.drain(1..).for_each(|push| push.abort());
    // Readers have connections of their own.
    assert_eq!(names(&store, &mut None).await, ["a"]);
    let told = waiting.remove(0).await.unwrap();
    assert!(matches!(told, Err(StoreError::Unavailable)), "{told:?}");
    run(&mut hog, "COMMIT").await;
    assert!(visiting(&store, "ann", "c").await.unwrap().is_ok());
}

/// Statements that the cluster has run so far.
fn statements(cluster: &Cluster) -> usize {
    let log = std::fs::read_to_string(cluster.folder().join("log")).unwrap();
    let of_one = |line: &&str| line.contains("LOG:  execute") || line.contains("LOG:  statement:");
    log.lines().filter(of_one).count()
}

#[tokio::test]
async fn a_batch_of_a_hundred_takes_few_statements() {
    let cluster = Cluster::start().unwrap();
    let database = cluster.database();
    cluster.admin(&format!(
        "ALTER DATABASE {} SET log_statement = 'all'",
        database.name
    ));
    let store = open(&database).await;
    let access = member("ann", &["s1"]);
    let mut last = 0;
    for (round, size) in [1, limits::CHANGES_MAX].into_iter().enumerate() {
        let name = |n: usize| format!("{round}-{n}");
        let mut batch: Vec<_> = (0..size).map(|n| create(&name(n), &name(n))).collect();
        batch.push(visit(&name(size), &name(size), 0, "s1"));
        let before = statements(&cluster);
        store
            .push(&access, batch, Mode::Each, UnixMillis(1))
            .await
            .unwrap();
        last = statements(&cluster) - before;
    }
    // The first makes the spaces. The other may need a new connection, which takes one more.
    assert!(last <= 13, "{last}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_beside_writers_stops_nobody() {
    let (store, database) = fresh().await;
    let two = Arc::new(open(&database).await);
    let store = Arc::new(store);
    let writers: Vec<_> = (0..6)
        .map(|n| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                let access = member(&format!("w{n}"), &["s1"]);
                for round in 0..30 {
                    let name = format!("{n}-{round}");
                    // The version goes on from what was purged meanwhile.
                    let mut base = 0;
                    for step in ["make", "delete", "again"] {
                        let mutation = format!("{step}{name}");
                        let change = match step {
                            "delete" => Change {
                                edit: Edit::Delete,
                                ..visit(&mutation, &name, base, "s1")
                            },
                            // Its own client may make a record again where its tombstone is, or
                            // was.
                            _ => visit(&mutation, &name, 0, "s1"),
                        };
                        let pushed = store.push(&access, vec![change], Mode::Each, UnixMillis(1));
                        let verdicts = pushed.await.unwrap();
                        let Verdict::Success(version) = verdicts[0] else {
                            panic!("{verdicts:?}")
                        };
                        assert!(version.0 > base);
                        base = version.0;
                    }
                }
            })
        })
        .collect();
    let mut purged = 0;
    let past = Horizons {
        past: UnixMillis(2),
        open_conflicts: UnixMillis(0),
    };
    while !writers.iter().all(tokio::task::JoinHandle::is_finished) {
        let (here, there) = tokio::join!(store.purge(past), two.purge(past));
        purged += here.unwrap().tombstones + there.unwrap().tombstones;
    }
    for writer in writers {
        writer.await.unwrap();
    }
    assert!(purged > 0, "the purge met nothing");
    assert_eq!(names(&store, &mut None).await.len(), 100, "a full page");
}

/// Each page must cost what it holds, however many records lie before and after it.
#[tokio::test]
async fn pages_are_read_in_the_order_of_an_index() {
    let (store, database) = fresh().await;
    let mut beside = beside(&database).await;
    run(
        &mut beside,
        "INSERT INTO records (realm, type, id, space, version, seq, data, at, client, changed_ms)
         SELECT '', 'visits', n::text, 'e:s' || n % 3, 1, n, '{}', '', 'c1', 0
         FROM generate_series(1, 20000) AS n;
         INSERT INTO departures (space, type, id, seq, version, at, changed_ms)
         SELECT 'e:s1', 'visits', 'gone' || n, n * 3, 1, '', 0 FROM generate_series(1, 5000) AS n;
         ANALYZE;
         SET plan_cache_mode = force_generic_plan",
    )
    .await;
    for (name, sql, types, values) in [
        ("own", pull::OWN, "", ""),
        ("shared", pull::SHARED, ", text[]", ", '{e:s1}'"),
    ] {
        let prepare =
            format!("PREPARE {name} (text, bigint, bigint, text[], bigint{types}) AS {sql}");
        run(&mut beside, &prepare).await;
        let explain =
            format!("EXPLAIN ANALYZE EXECUTE {name} ('e:s1', 9000, 101, NULL, 1000000{values})");
        let explain = sqlx::raw_sql(sqlx::AssertSqlSafe(explain));
        let rows = explain.fetch_all(&mut beside).await.unwrap();
        let lines = rows.iter().map(|row| row.get::<String, _>(0));
        let plan = lines.collect::<Vec<_>>().join("\n");
        assert!(plan.contains("records_by_seq"), "{plan}");
        assert!(!plan.contains("Seq Scan"), "{plan}");
        assert!(!plan.contains("Sort Method: external"), "{plan}");
        // No step handles more rows than the page has.
        let most = plan.split("actual time=").skip(1).filter_map(|step| {
            let rows = step.split("rows=").nth(1)?.split(' ').next()?;
            rows.parse::<usize>().ok()
        });
        assert!(most.max().is_some_and(|most| most <= 202), "{plan}");
    }
    drop(store);
}
