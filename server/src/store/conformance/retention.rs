//! What is deleted when it is old, and what that does to those who come late.

use super::*;
use crate::store::{Horizons, Purged};

/// Later than everything that was pushed at [`NOW`].
const LATER: UnixMillis = UnixMillis(NOW.0 + 1);

/// What is older than this, but for conflicts that nobody has settled.
fn before(past: UnixMillis) -> Horizons {
    let open_conflicts = UnixMillis(0);
    Horizons {
        past,
        open_conflicts,
    }
}

async fn purge(store: &impl Store, horizon: UnixMillis) -> Purged {
    store.purge(before(horizon)).await.unwrap()
}

pub(crate) async fn old_tombstones_go_and_raise_the_floor(store: Shared<impl Store>) {
    let ann = team("ann", &["s1"]);
    let batch = vec![
        create("m1", "a"),
        create("m2", "b"),
        create_task("m3", "t", "s1"),
    ];
    push(&*store, &ann, batch).await;
    let early = all(&*store, &ann).await;
    push(&*store, &ann, vec![delete("m4", "a", 1)]).await;
    let late = all(&*store, &ann).await;
    assert_eq!(
        purge(&*store, NOW).await.tombstones,
        0,
        "not yet old enough"
    );
    let purged = purge(&*store, LATER).await;
    assert_eq!((purged.tombstones, purged.more), (1, false));
    assert_eq!(ids(&all(&*store, &ann).await.records), ["b", "t"]);
    // Who had seen the tombstone goes on; who had not may hold what it was to take away.
    assert!(news(&*store, &ann, &late).await.records.is_empty());
    let gone = store.pull(&ann, since(Some(&early.checkpoint), 10)).await;
    assert!(matches!(gone, Err(StoreError::CheckpointUnknown)));
    // Another space's floor is its own.
    let bob = team("bob", &["s1"]);
    let bobs = all(&*store, &bob).await;
    push(&*store, &ann, vec![create("m5", "c")]).await;
    assert!(news(&*store, &bob, &bobs).await.records.is_empty());
    // One that begins again is newer than the tombstone that a client may still hold; one of
    // another user begins as ever.
    let again = vec![create("m7", "again")];
    assert_eq!(push(&*store, &ann, again.clone()).await, [success(3)]);
    assert_eq!(push(&*store, &user("eve"), again).await, [success(1)]);
    // With its base it goes on from the version that its client knew.
    let verdicts = push(
        &*store,
        &ann,
        vec![change("m6", "a", 7, Edit::Create(data("{}")))],
    )
    .await;
    assert_eq!(verdicts, [success(8)]);
}

pub(crate) async fn a_reader_who_begins_after_a_purge_comes_to_the_end(store: Shared<impl Store>) {
    let ann = team("ann", &["s1"]);
    for n in 0..10 {
        let name = format!("r{n}");
        push(
            &*store,
            &ann,
            vec![
                create(&name, &name),
                create_task(&format!("t{n}"), &name, "s1"),
            ],
        )
        .await;
    }
    let batch = vec![delete("d1", "r1", 1), task("d2", "r2", 1, Edit::Delete)];
    push(&*store, &ann, batch).await;
    // Half-way when the purge comes: what it takes may have been seen.
    let half = store.pull(&ann, since(None, 8)).await.unwrap();
    assert_eq!(purge(&*store, LATER).await.tombstones, 2);
    let gone = store.pull(&ann, since(Some(&half.checkpoint), 8)).await;
    assert!(matches!(gone, Err(StoreError::CheckpointUnknown)));

    let (mut seen, mut checkpoint) = (0, None);
    for _ in 0..18 {
        let query = since(checkpoint.as_deref(), 1);
        let page = store.pull(&ann, query).await.unwrap();
        seen += page.records.len();
        checkpoint = Some(page.checkpoint);
    }
    assert_eq!(seen, 18);
    let newest = store.standing(&ann).await.unwrap().checkpoint;
    assert_eq!(checkpoint, Some(newest));
}

pub(crate) async fn results_go_and_open_conflicts_stay(store: Shared<impl Store>) {
    let ann = user("ann");
    let batch = vec![create("m1", "a"), create("m2", "a"), create("m3", "a")];
    let verdicts = push(&*store, &ann, batch).await;
    let (open, settled) = (conflict_id(&verdicts[1]), conflict_id(&verdicts[2]));
    let resolution = Resolution {
        conflict: settled,
        choice: Choice::Remote,
        sharing: Sharing::Private,
    };
    store.resolve(&ann, resolution, NOW).await.unwrap();
    let early = purge(&*store, NOW).await;
    assert_eq!(early, Purged::default());
    let purged = purge(&*store, LATER).await;
    assert_eq!((purged.mutations, purged.conflicts), (3, 1));
    let log = store.conflicts(&ann, ConflictId(0), 10).await.unwrap();
    assert_eq!((log.len(), log[0].id), (1, open));
    // A duplicate from before is judged again, by its version.
    let late = push(&*store, &ann, vec![create("m1", "a")]).await;
    assert!(matches!(
        late[0],
        Verdict::Conflict {
            version: Version(1),
            ..
        }
    ));
    assert_eq!(
        all(&*store, &ann).await.records[0].version_number,
        Version(1)
    );
}

pub(crate) async fn open_conflicts_go_after_their_results(store: Shared<impl Store>) {
    let (ann, bob) = (user("ann"), user("bob"));
    for access in [&ann, &bob] {
        push(&*store, access, vec![create("m1", "a"), create("m2", "a")]).await;
    }
    let all_of_it = |past, open_conflicts| Horizons {
        past,
        open_conflicts,
    };
    let open = async || {
        let (anns, bobs) = (store.standing(&ann).await, store.standing(&bob).await);
        (anns.unwrap().conflicts, bobs.unwrap().conflicts)
    };
    // Old enough by themselves; but the results are remembered, and tell of them.
    let kept = store.purge(all_of_it(NOW, LATER)).await.unwrap();
    assert_eq!((kept, open().await), (Purged::default(), (1, 1)));
    let again = push(&*store, &ann, vec![create("m2", "a")]).await;
    assert!(matches!(again[0], Verdict::Conflict { .. }), "{again:?}");
    // Without their results, and not old enough.
    let results = store.purge(all_of_it(LATER, NOW)).await.unwrap();
    assert_eq!((results.mutations, results.conflicts), (4, 0));
    assert_eq!(open().await, (1, 1));
    let purged = store.purge(all_of_it(LATER, LATER)).await.unwrap();
    assert_eq!((purged.conflicts, purged.more), (2, false));
    assert_eq!(open().await, (0, 0));
    let log = store.conflicts(&ann, ConflictId(0), 9).await.unwrap();
    assert!(log.is_empty());
    // Who has seen the old one must not settle another by its id.
    let new = push(&*store, &ann, vec![create("m3", "a")]).await;
    assert!(conflict_id(&new[0]) > conflict_id(&again[0]), "{new:?}");
}

pub(crate) async fn traces_of_moves_go_too(store: Shared<impl Store>) {
    let (both, one) = (team("ann", &["s1", "s2"]), team("bob", &["s1"]));
    push(&*store, &both, vec![create_task("m1", "t", "s1")]).await;
    let early = all(&*store, &one).await;
    push(&*store, &both, vec![update_task("m2", "t", 1, "s2")]).await;
    let late = all(&*store, &one).await;
    assert_eq!(purge(&*store, LATER).await.tombstones, 1);
    assert!(news(&*store, &one, &late).await.records.is_empty());
    let gone = store.pull(&one, since(Some(&early.checkpoint), 10)).await;
    assert!(matches!(gone, Err(StoreError::CheckpointUnknown)));
    assert!(all(&*store, &one).await.records.is_empty());
    assert_eq!(all(&*store, &both).await.records.len(), 1);
}

pub(crate) async fn a_step_is_bounded(store: Shared<impl Store>) {
    let ann = user("ann");
    let count = limits::PURGE_ROWS + 10;
    for n in (0..count).step_by(10) {
        let names: Vec<_> = (n..n + 10).map(|n| format!("r{n}")).collect();
        let creates = names.iter().map(|name| create(name, name));
        let deletes = names
            .iter()
            .map(|name| delete(&format!("d{name}"), name, 1));
        push(&*store, &ann, creates.chain(deletes).collect()).await;
    }
    let first = purge(&*store, LATER).await;
    assert_eq!((first.tombstones, first.more), (limits::PURGE_ROWS, true));
    let all = crate::retention::purge(&*store, before(LATER))
        .await
        .unwrap();
    assert_eq!(all.tombstones, 10);
    assert_eq!(all.mutations, 2 * count - limits::PURGE_ROWS);
    let page = super::all(&*store, &ann).await;
    assert!(page.records.is_empty());
}
