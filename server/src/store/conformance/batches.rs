//! Batches of changes, each by itself: order, repeats.

use super::*;

pub(crate) async fn answers_in_order_and_each_by_itself(store: Shared<impl Store>) {
    let ann = user("ann");
    let verdicts = push(
        &*store,
        &ann,
        vec![
            create("m1", "a"),
            update("m2", "missing", 1),
            update("m3", "a", 1),
            update("m4", "a", 1),
            delete("m5", "a", 2),
            delete("m6", "never", 0),
            create("m7", "a"),
        ],
    )
    .await;
    assert_eq!(verdicts[0], success(1));
    let Verdict::Failed(failure) = &verdicts[1] else {
        panic!("{verdicts:?}")
    };
    assert_eq!(failure.code, FailureCode::NotFound);
    assert_eq!(verdicts[2], success(2));
    assert!(matches!(
        verdicts[3],
        Verdict::Conflict {
            version: Version(2),
            ..
        }
    ));
    assert_eq!(verdicts[4], success(3));
    assert_eq!(verdicts[5], success(0));
    assert_eq!(verdicts[6], success(4));
    assert_eq!(verdicts.len(), 7);
}

pub(crate) async fn a_repeat_gets_the_first_result(store: Shared<impl Store>) {
    let ann = user("ann");
    push(&*store, &ann, vec![create("m0", "a")]).await;
    let batch = vec![
        update("m1", "a", 1),
        update("m2", "a", 1),
        update("m3", "missing", 1),
        delete("m4", "a", 2),
    ];
    let first = push(&*store, &ann, batch.clone()).await;
    // What would now be decided otherwise: the missing record exists, the version has moved on.
    push(
        &*store,
        &ann,
        vec![create("m5", "missing"), create("m6", "a")],
    )
    .await;
    let before = store.pull(&ann, since(None, 1000)).await.unwrap();
    assert_eq!(push(&*store, &ann, batch).await, first);
    assert_eq!(store.pull(&ann, since(None, 1000)).await.unwrap(), before);
    assert_eq!(
        store
            .conflicts(&ann, ConflictId(0), 10)
            .await
            .unwrap()
            .len(),
        1
    );
}

pub(crate) async fn concurrent_repeats_take_effect_once(store: Shared<impl Store>) {
    let ann = user("ann");
    push(&*store, &ann, vec![create("m0", "x")]).await;
    let batch: Vec<_> = (0..20)
        .map(|n| create(&format!("c{n}"), &format!("r{n}")))
        .chain([update("u1", "x", 1), update("u2", "x", 1)])
        .collect();
    let mut tasks = Vec::new();
    for _ in 0..8 {
        let (store, ann, batch) = (store.clone(), ann.clone(), batch.clone());
        tasks.push(tokio::spawn(
            async move { push(&*store, &ann, batch).await },
        ));
    }
    let mut answers = Vec::new();
    for task in tasks {
        answers.push(task.await.unwrap());
    }
    assert!(answers.windows(2).all(|pair| pair[0] == pair[1]));
    let page = store.pull(&ann, since(None, 1000)).await.unwrap();
    assert_eq!(page.records.len(), 21);
    let twice = page
        .records
        .iter()
        .filter(|record| record.version_number.0 != 1)
        .count();
    assert_eq!(twice, 1, "only x was updated, once");
    assert_eq!(
        store
            .conflicts(&ann, ConflictId(0), 10)
            .await
            .unwrap()
            .len(),
        1
    );
}

pub(crate) async fn a_mutation_id_stands_for_one_record(store: Shared<impl Store>) {
    let ann = user("ann");
    push(&*store, &ann, vec![create("m1", "a")]).await;
    let verdicts = push(&*store, &ann, vec![create("m1", "b"), create("m2", "c")]).await;
    let Verdict::Failed(failure) = &verdicts[0] else {
        panic!("{verdicts:?}")
    };
    assert_eq!(failure.code, FailureCode::Invalid);
    assert_eq!(verdicts[1], success(1));
    let page = store.pull(&ann, since(None, 1000)).await.unwrap();
    assert_eq!(ids(&page.records), ["a", "c"]);
}

pub(crate) async fn the_feed_tells_where_there_are_new_changes(store: Shared<impl Store>) {
    let ann = team("ann", &["s1", "s2"]);
    let mut feed = store.feed().subscribe();
    let batch = vec![
        create("m1", "a"),
        create_task("m2", "t", "s2"),
        create_task("m3", "u", "s3"),
    ];
    push(&*store, &ann, batch).await;
    let site = Space::Entity(entity("s2"));
    let mut told = told(&mut feed).await;
    told.sort();
    assert_eq!(told, [ann.own_space(), site.clone()]);
    // Nothing new: a failure, a repeat, a conflict.
    let batch = vec![
        create_task("m4", "v", "s3"),
        create("m1", "a"),
        create("m5", "a"),
    ];
    push(&*store, &ann, batch).await;
    let (bob, s1) = (user("bob"), entity("s1"));
    store.assign(bob.user(), &s1).await.unwrap();
    assert_eq!(self::told(&mut feed).await, [bob.own_space()]);
    push(&*store, &ann, vec![task("m6", "t", 1, Edit::Delete)]).await;
    assert_eq!(self::told(&mut feed).await, [site]);
}

async fn told(feed: &mut crate::store::feed::Subscription) -> Vec<Space> {
    let wait = std::time::Duration::from_secs(10);
    match tokio::time::timeout(wait, feed.next()).await.unwrap() {
        News::Spaces(spaces) => spaces.to_vec(),
        other => panic!("{other:?}"),
    }
}
