//! Batches whose changes stand together.

use super::*;

async fn together(store: &impl Store, access: &Access, changes: Vec<Change>) -> Vec<Verdict> {
    let verdicts = store.push(access, changes, Mode::Together, NOW);
    verdicts.await.unwrap()
}

fn aborted() -> Verdict {
    Verdict::Failed(Failure::aborted())
}

pub(crate) async fn all_or_nothing(store: Shared<impl Store>) {
    let ann = team("ann", &["s1"]);
    let batch = vec![
        create("m1", "a"),
        update("m2", "a", 1),
        create_task("m3", "t", "s1"),
        delete("m4", "a", 2),
    ];
    let verdicts = together(&*store, &ann, batch.clone()).await;
    assert_eq!(verdicts, [success(1), success(2), success(1), success(3)]);
    assert_eq!(together(&*store, &ann, batch).await, verdicts, "a repeat");

    let before = all(&*store, &ann).await;
    let refused = [
        update("x1", "t", 7),
        update_task("x2", "t", 7, "s1"),
        create_task("x3", "u", "s2"),
        create("m1", "z"),
    ];
    for (n, refused) in refused.into_iter().enumerate() {
        let good = |part: usize| create(&format!("n{n}{part}"), &format!("b{part}"));
        let batch = vec![good(0), refused, good(1), update(&format!("p{n}"), "b1", 1)];
        let verdicts = together(&*store, &ann, batch).await;
        let others = [&verdicts[0], &verdicts[2], &verdicts[3]];
        assert!(
            others.iter().all(|verdict| **verdict == aborted()),
            "{verdicts:?}"
        );
        assert_ne!(verdicts[1], aborted());
        assert!(!matches!(verdicts[1], Verdict::Success(_)));
        assert_eq!(all(&*store, &ann).await, before, "nothing took effect");
    }
    assert_eq!(store.standing(&ann).await.unwrap().conflicts, 1);
    let by_itself = push(&*store, &ann, vec![create("m9", "b0")]).await;
    assert_eq!(by_itself, [success(1)]);
}

pub(crate) async fn refusals_are_remembered_and_the_rest_may_be_sent_again(
    store: Shared<impl Store>,
) {
    let ann = user("ann");
    push(&*store, &ann, vec![create("m1", "a"), create("m2", "b")]).await;
    let batch = vec![
        create("n1", "c"),
        update("n2", "a", 9),
        update("n3", "none", 1),
    ];
    let first = together(&*store, &ann, batch.clone()).await;
    let id = conflict_id(&first[1]);
    assert_eq!(code(&first[2]), Some(FailureCode::NotFound));
    // The same refusals, the same entry of the log.
    assert_eq!(together(&*store, &ann, batch.clone()).await, first);
    let log = store.conflicts(&ann, ConflictId(0), 10).await.unwrap();
    assert_eq!((log.len(), log[0].id), (1, id));
    assert_eq!(push(&*store, &ann, batch[1..].to_vec()).await, first[1..]);

    // Without them the rest takes effect, under the same id.
    let again = vec![batch[0].clone(), update("n4", "a", 1)];
    assert_eq!(
        together(&*store, &ann, again).await,
        [success(1), success(2)]
    );

    // What took effect before keeps its result, whatever becomes of the rest.
    let batch = vec![create("m1", "a"), create("n5", "d"), update("n6", "a", 9)];
    let verdicts = together(&*store, &ann, batch).await;
    assert_eq!(verdicts[..2], [success(1), aborted()]);
    conflict_id(&verdicts[2]);
    assert_eq!(ids(&all(&*store, &ann).await.records), ["b", "c", "a"]);
}

/// Were the second change aborted like the rest, the same batch would be sent for ever.
pub(crate) async fn a_batch_that_contradicts_itself_is_refused_for_good(store: Shared<impl Store>) {
    let ann = user("ann");
    push(&*store, &ann, vec![create("m1", "a")]).await;
    let before = all(&*store, &ann).await;
    let batch = vec![
        update("n1", "a", 1),
        update("n2", "a", 1),
        create("n3", "b"),
    ];
    let verdicts = together(&*store, &ann, batch.clone()).await;
    assert_eq!((&verdicts[0], &verdicts[2]), (&aborted(), &aborted()));
    assert_eq!(code(&verdicts[1]), Some(FailureCode::Invalid));
    assert_eq!(together(&*store, &ann, batch).await, verdicts);
    // One mutation twice is no contradiction.
    let twice = vec![
        update("n4", "a", 9),
        update("n4", "a", 9),
        create("n5", "b"),
    ];
    let verdicts = together(&*store, &ann, twice).await;
    assert_eq!(verdicts[0], verdicts[1]);
    conflict_id(&verdicts[0]);
    assert_eq!(all(&*store, &ann).await, before);
    assert_eq!(store.standing(&ann).await.unwrap().conflicts, 1);
}

pub(crate) async fn a_doomed_batch_has_no_effect(store: Shared<impl Store>) {
    let ann = user("ann");
    push(&*store, &ann, vec![create("m1", "a")]).await;
    let before = all(&*store, &ann).await;
    let batch = vec![
        create("n1", "b"),
        update("n2", "b", 1),
        update("n3", "a", 7),
        create("m1", "a"),
    ];
    let verdicts = store.push(&ann, batch, Mode::Doomed, NOW).await.unwrap();
    assert_eq!(verdicts[..2], [aborted(), aborted()]);
    conflict_id(&verdicts[2]);
    assert_eq!(verdicts[3], success(1));
    assert_eq!(all(&*store, &ann).await, before);
}

pub(crate) async fn concurrent_repeats_take_effect_once_together(store: Shared<impl Store>) {
    let ann = team("ann", &["s1", "s2"]);
    let batch: Vec<_> = (0..10)
        .flat_map(|n| {
            let name = format!("c{n}");
            let site = format!("s{}", n % 2 + 1);
            [
                create(&name, &name),
                create_task(&format!("t{n}"), &name, &site),
            ]
        })
        .collect();
    let tasks = (0..8).map(|n| {
        let (store, ann, mut batch) = (store.clone(), ann.clone(), batch.clone());
        // Half of them spoil theirs.
        if n % 2 == 0 {
            batch.push(update(&format!("spoil{n}"), "none", 1));
        }
        tokio::spawn(async move { together(&*store, &ann, batch).await })
    });
    for task in tasks.collect::<Vec<_>>() {
        let verdicts = task.await.unwrap();
        let taken = verdicts[..20].iter().all(|verdict| *verdict == success(1));
        let left = verdicts[..20].iter().all(|verdict| *verdict == aborted());
        assert!(taken || left, "{verdicts:?}");
    }
    let page = all(&*store, &ann).await;
    assert_eq!(page.records.len(), 20);
    assert!(
        page.records
            .iter()
            .all(|record| record.version_number == Version(1))
    );
}
