//! Pulling: pages, checkpoints, writers beside readers.

use super::*;

pub(crate) async fn pages_follow_the_commits(store: Shared<impl Store>) {
    let ann = user("ann");
    for name in ["c", "a", "b", "e", "d"] {
        push(&*store, &ann, vec![create(&format!("m-{name}"), name)]).await;
    }
    let first = store.pull(&ann, since(None, 2)).await.unwrap();
    assert_eq!(
        (ids(&first.records), first.has_more),
        (vec!["c", "a"], true)
    );
    let second = store
        .pull(&ann, since(Some(&first.checkpoint), 2))
        .await
        .unwrap();
    assert_eq!(
        (ids(&second.records), second.has_more),
        (vec!["b", "e"], true)
    );
    let third = store
        .pull(&ann, since(Some(&second.checkpoint), 2))
        .await
        .unwrap();
    assert_eq!((ids(&third.records), third.has_more), (vec!["d"], false));
    let fourth = store
        .pull(&ann, since(Some(&third.checkpoint), 2))
        .await
        .unwrap();
    assert!(fourth.records.is_empty() && !fourth.has_more);
    assert_eq!(fourth.checkpoint, third.checkpoint);
    assert_eq!(
        store.standing(&ann).await.unwrap().checkpoint,
        third.checkpoint
    );
    // A page that is exactly full is the last one.
    let exact = store.pull(&ann, since(None, 5)).await.unwrap();
    assert_eq!((exact.records.len(), exact.has_more), (5, false));
}

pub(crate) async fn a_record_appears_once_in_its_newest_state(store: Shared<impl Store>) {
    let ann = user("ann");
    push(&*store, &ann, vec![create("m1", "a"), create("m2", "b")]).await;
    let early = store.pull(&ann, since(None, 1000)).await.unwrap();
    push(
        &*store,
        &ann,
        vec![update("m3", "a", 1), delete("m4", "b", 1)],
    )
    .await;
    push(&*store, &ann, vec![update("m5", "a", 2)]).await;
    let late = store
        .pull(&ann, since(Some(&early.checkpoint), 1000))
        .await
        .unwrap();
    assert_eq!(ids(&late.records), ["b", "a"]);
    assert!(late.records[0].deleted && late.records[0].data.is_none());
    assert_eq!(late.records[0].version_number, Version(2));
    assert_eq!(late.records[1].data, Some(data(r#"{"by":"m5"}"#)));
    assert_eq!(late.records[1].version_number, Version(3));
    assert_eq!(
        store.pull(&ann, since(None, 1000)).await.unwrap().records,
        late.records
    );
}

pub(crate) async fn types_filter_and_the_checkpoint_moves(store: Shared<impl Store>) {
    let ann = user("ann");
    let blocks = RecordType::new("blocks").unwrap();
    let block = |name: &str| Change {
        record_type: blocks.clone(),
        ..create(name, name)
    };
    push(
        &*store,
        &ann,
        vec![block("b1"), create("s1", "s1"), block("b2"), block("b3")],
    )
    .await;
    let types = |since: Option<&str>, limit| PullQuery {
        since: since.map(Into::into),
        limit,
        types: Some(vec![
            RecordType::new("sites").unwrap(),
            RecordType::new("none").unwrap(),
        ]),
    };
    let sites = store.pull(&ann, types(None, 1)).await.unwrap();
    assert_eq!((ids(&sites.records), sites.has_more), (vec!["s1"], false));
    assert_eq!(
        sites.checkpoint,
        store.standing(&ann).await.unwrap().checkpoint
    );
    let after = store
        .pull(&ann, since(Some(&sites.checkpoint), 10))
        .await
        .unwrap();
    assert!(after.records.is_empty());
    let two = PullQuery {
        types: Some(vec![blocks]),
        ..types(None, 2)
    };
    let page = store.pull(&ann, two).await.unwrap();
    assert_eq!(
        (ids(&page.records), page.has_more),
        (vec!["b1", "b2"], true)
    );
}

pub(crate) async fn pages_are_bounded_in_bytes(store: Shared<impl Store>) {
    let ann = user("ann");
    let big = format!(
        "{{\"a\":\"{}\"}}",
        "x".repeat(limits::RECORD_BYTES_MAX - 10)
    );
    let count = limits::PAGE_BYTES_MAX / limits::RECORD_BYTES_MAX + 2;
    for n in 0..count {
        let name = format!("r{n}");
        push(
            &*store,
            &ann,
            vec![change(&name, &name, 0, Edit::Create(data(&big)))],
        )
        .await;
    }
    let first = store.pull(&ann, since(None, 1000)).await.unwrap();
    assert!(first.has_more && first.records.len() < count);
    let rest = store
        .pull(&ann, since(Some(&first.checkpoint), 1000))
        .await
        .unwrap();
    assert_eq!(first.records.len() + rest.records.len(), count);
    assert!(!rest.has_more);
}

pub(crate) async fn unknown_checkpoints_are_refused(store: Shared<impl Store>) {
    let ann = user("ann");
    push(&*store, &ann, vec![create("m1", "a")]).await;
    let known = store.standing(&ann).await.unwrap().checkpoint;
    let ahead = format!("{}2", known.strip_suffix('1').unwrap());
    let foreign = format!("{}.1", "0".repeat(32));
    for wrong in ["", "nonsense", &ahead, &foreign] {
        let error = store.pull(&ann, since(Some(wrong), 10)).await.unwrap_err();
        assert!(matches!(error, StoreError::CheckpointUnknown), "{wrong}");
    }
    assert!(store.pull(&ann, since(Some(&known), 10)).await.is_ok());
}

pub(crate) async fn readers_miss_nothing_under_concurrent_writers(store: Shared<impl Store>) {
    const WRITERS: usize = 8;
    const ROUNDS: usize = 25;
    let ann = user("ann");
    let mut writers = Vec::new();
    for writer in 0..WRITERS {
        let (store, ann) = (store.clone(), ann.clone());
        writers.push(tokio::spawn(async move {
            for round in 0..ROUNDS {
                let name = format!("w{writer}-{round}");
                let changes = vec![
                    create(&name, &name),
                    create(&format!("{name}b"), &format!("{name}b")),
                ];
                push(&*store, &ann, changes).await;
            }
        }));
    }
    let mut seen = Vec::new();
    let mut checkpoint: Option<String> = None;
    let all = WRITERS * ROUNDS * 2;
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while seen.len() < all && std::time::Instant::now() < deadline {
        let page = store
            .pull(&ann, since(checkpoint.as_deref(), 7))
            .await
            .unwrap();
        seen.extend(
            page.records
                .into_iter()
                .map(|record| record.id.as_str().to_owned()),
        );
        checkpoint = Some(page.checkpoint);
    }
    for writer in writers {
        writer.await.unwrap();
    }
    let rest = store
        .pull(&ann, since(checkpoint.as_deref(), 1000))
        .await
        .unwrap();
    assert!(rest.records.is_empty());
    let once: std::collections::HashSet<_> = seen.iter().collect();
    assert_eq!((seen.len(), once.len()), (all, all));
}
