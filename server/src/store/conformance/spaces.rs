//! Shared records: who sees them, who may change them, and that nobody else learns of them.

use super::*;

pub(crate) async fn an_entitys_records_are_theirs_who_are_assigned(store: Shared<impl Store>) {
    let (ann, bob) = (team("ann", &["s1"]), team("bob", &["s1", "s2"]));
    let carl = team("carl", &["s2"]);
    let verdicts = push(&*store, &ann, vec![create_task("m1", "t", "s1")]).await;
    assert_eq!(verdicts, [success(1)]);
    let bobs = all(&*store, &bob).await;
    assert_eq!(bobs.records, all(&*store, &ann).await.records);
    assert!(all(&*store, &carl).await.records.is_empty());

    let verdicts = push(&*store, &bob, vec![update_task("m1", "t", 1, "s1")]).await;
    assert_eq!(verdicts, [success(2)], "mutation ids are each user's own");
    let anns = all(&*store, &ann).await;
    assert_eq!(anns.records[0].version_number, Version(2));
    let stale = push(&*store, &ann, vec![update_task("m2", "t", 1, "s1")]).await;
    assert!(
        matches!(&stale[0], Verdict::Conflict { data: Some(data), .. }
        if *data == at("s1", "m1"))
    );

    let verdicts = push(&*store, &ann, vec![task("m3", "t", 2, Edit::Delete)]).await;
    assert_eq!(verdicts, [success(3)]);
    assert!(news(&*store, &bob, &bobs).await.records[0].deleted);
    assert!(all(&*store, &carl).await.records.is_empty());
}

/// Each way to touch a record `t`, by somebody who has only the site s2.
fn attempts(tag: &str) -> Vec<Change> {
    let name = |n: usize| format!("{tag}{n}");
    let mut edits = vec![(0, Edit::Create(at("s1", "x")))];
    for base in [0, 1, 2] {
        edits.extend([
            (base, Edit::Replace(at("s1", "x"))),
            (base, Edit::Replace(at("s2", "x"))),
            (base, patch(r#"{"by":"x"}"#, &["by"])),
            (base, patch(r#"{"site":"s1"}"#, &["site"])),
            (base, patch(r#"{"site":"s2"}"#, &["site", "by"])),
            (base, patch("{}", &[])),
            (base, Edit::Delete),
        ]);
    }
    let edits = edits.into_iter().enumerate();
    edits
        .map(|(n, (base, edit))| task(&name(n), "t", base, edit))
        .collect()
}

pub(crate) async fn a_foreign_record_cannot_be_touched_nor_told_from_none(
    store: Shared<impl Store>,
) {
    let (ann, carl) = (team("ann", &["s1"]), team("carl", &["s2"]));
    let nowhere = push(&*store, &carl, attempts("none")).await;
    assert_eq!(nowhere, vec![forbidden(); nowhere.len()]);

    push(&*store, &ann, vec![create_task("m1", "t", "s1")]).await;
    let before = all(&*store, &ann).await;
    assert_eq!(push(&*store, &carl, attempts("live")).await, nowhere);
    // Nor can a record of one's own take its place.
    let shadow = vec![create_task("m2", "t", "s2")];
    assert_eq!(push(&*store, &carl, shadow.clone()).await, [forbidden()]);
    assert_eq!(
        push(&*store, &carl, shadow).await,
        [forbidden()],
        "repeated"
    );
    let together = store.push(&carl, attempts("all"), Mode::Together, NOW);
    assert_eq!(together.await.unwrap(), nowhere);
    assert_eq!(all(&*store, &ann).await, before);

    push(&*store, &ann, vec![task("m3", "t", 1, Edit::Delete)]).await;
    assert_eq!(push(&*store, &carl, attempts("dead")).await, nowhere);
    let shadow = push(&*store, &carl, vec![create_task("m4", "t", "s2")]).await;
    assert_eq!(shadow, [forbidden()]);

    assert!(all(&*store, &carl).await.records.is_empty());
    let log = store.conflicts(&carl, ConflictId(0), 10).await.unwrap();
    assert!(log.is_empty());
    assert_eq!(store.standing(&carl).await.unwrap().conflicts, 0);
}

pub(crate) async fn a_record_cannot_be_taken_to_a_foreign_entity(store: Shared<impl Store>) {
    let (ann, carl) = (team("ann", &["s1"]), team("carl", &["s2"]));
    push(&*store, &ann, vec![create_task("m1", "t", "s1")]).await;
    let before = all(&*store, &ann).await;
    let batch = vec![
        update_task("m2", "t", 1, "s2"),
        task("m3", "t", 1, patch(r#"{"site":"s2"}"#, &["site"])),
        create_task("m4", "u", "s2"),
        // The field that counts is the last one.
        task(
            "m5",
            "t",
            1,
            Edit::Replace(data(r#"{"site":"s1","site":"s2"}"#)),
        ),
    ];
    assert_eq!(push(&*store, &ann, batch).await, vec![forbidden(); 4]);
    assert_eq!(all(&*store, &ann).await, before);
    assert!(all(&*store, &carl).await.records.is_empty());
}

pub(crate) async fn a_shared_record_needs_its_entity(store: Shared<impl Store>) {
    let ann = team("ann", &["s1"]);
    push(&*store, &ann, vec![create_task("m1", "t", "s1")]).await;
    let batch = vec![
        task("m2", "u", 0, Edit::Create(data("{}"))),
        task("m3", "u", 0, Edit::Create(data(r#"{"site":7}"#))),
        task("m4", "t", 1, Edit::Replace(data(r#"{"site":""}"#))),
        task("m5", "t", 1, patch("{}", &["site"])),
    ];
    let verdicts = push(&*store, &ann, batch).await;
    let invalid = verdicts
        .iter()
        .all(|verdict| code(verdict) == Some(FailureCode::Invalid));
    assert!(invalid, "{verdicts:?}");
    // A field of that name in `data` that `changed` does not name changes nothing.
    let edit = patch(r#"{"site":"s2","by":"m6"}"#, &["by"]);
    let verdicts = push(&*store, &ann, vec![task("m6", "t", 1, edit)]).await;
    assert_eq!(verdicts, [success(2)]);
    let page = all(&*store, &ann).await;
    assert_eq!(page.records[0].data, Some(at("s1", "m6")));
}

pub(crate) async fn private_and_shared_ids_do_not_collide(store: Shared<impl Store>) {
    // Whose names could be taken for each other: the user is called as the entity.
    let (ann, site) = (team("ann", &["site"]), user("site"));
    let batch = vec![create("m1", "t"), create_task("m2", "t", "site")];
    assert_eq!(push(&*store, &ann, batch).await, [success(1), success(1)]);
    assert_eq!(
        push(&*store, &site, vec![create("m1", "t")]).await,
        [success(1)]
    );
    assert_eq!(all(&*store, &ann).await.records.len(), 2);
    assert_eq!(all(&*store, &site).await.records.len(), 1);
}

pub(crate) async fn a_page_takes_from_all_spaces(store: Shared<impl Store>) {
    let ann = team("ann", &["s1", "s2", "s3"]);
    let mut batch = Vec::new();
    for n in 0..12 {
        let name = format!("r{n}");
        batch.push(match n % 4 {
            0 => create(&name, &name),
            site => create_task(&name, &name, &format!("s{site}")),
        });
    }
    push(&*store, &ann, batch).await;
    for limit in [1, 2, 3, 5, 11, 12] {
        let (mut seen, mut checkpoint, mut pages) = (Vec::new(), None, 0);
        loop {
            let query = since(checkpoint.as_deref(), limit);
            let page = store.pull(&ann, query).await.unwrap();
            assert!(page.records.len() <= limit);
            seen.extend(page.records.iter().map(|record| record.id.clone()));
            checkpoint = Some(page.checkpoint);
            pages += 1;
            if !page.has_more {
                break;
            }
        }
        let once: std::collections::HashSet<_> = seen.iter().collect();
        assert_eq!((seen.len(), once.len()), (12, 12), "limit {limit}");
        assert_eq!(pages, 12_usize.div_ceil(limit), "limit {limit}");
        let standing = store.standing(&ann).await.unwrap();
        assert_eq!(checkpoint, Some(standing.checkpoint));
    }
}

pub(crate) async fn no_space_starves_the_others(store: Shared<impl Store>) {
    let ann = team("ann", &["s1"]);
    for n in 0..30 {
        push(
            &*store,
            &ann,
            vec![create(&format!("m{n}"), &format!("r{n}"))],
        )
        .await;
    }
    push(&*store, &ann, vec![create_task("m", "t", "s1")]).await;
    let page = store.pull(&ann, since(None, 10)).await.unwrap();
    assert!(
        ids(&page.records).contains(&"t"),
        "{:?}",
        ids(&page.records)
    );
    assert_eq!(
        page.records.len(),
        10,
        "what one leaves over the other takes"
    );
}

pub(crate) async fn a_new_entity_begins_at_its_beginning(store: Shared<impl Store>) {
    let (ann, both) = (team("ann", &["s1"]), team("ann", &["s1", "s2"]));
    let other = team("bob", &["s2"]);
    push(
        &*store,
        &ann,
        vec![create("m1", "a"), create_task("m2", "t", "s1")],
    )
    .await;
    push(&*store, &other, vec![create_task("m3", "u", "s2")]).await;
    let first = all(&*store, &ann).await;
    let second = news(&*store, &both, &first).await;
    assert_eq!(ids(&second.records), ["u"]);
    assert!(news(&*store, &both, &second).await.records.is_empty());
}

pub(crate) async fn what_was_closed_makes_the_checkpoint_unknown(store: Shared<impl Store>) {
    let (both, less) = (team("ann", &["s1", "s2"]), team("ann", &["s2"]));
    let batch = vec![
        create("m1", "a"),
        create_task("m2", "t", "s1"),
        create_task("m3", "u", "s2"),
    ];
    push(&*store, &both, batch).await;
    let page = all(&*store, &both).await;
    let gone = store.pull(&less, since(Some(&page.checkpoint), 10)).await;
    assert!(matches!(gone, Err(StoreError::CheckpointUnknown)));
    assert_eq!(ids(&all(&*store, &less).await.records), ["a", "u"]);
    // Another user's checkpoint is none of one's own either.
    let carl = team("carl", &["s1", "s2"]);
    let foreign = store.pull(&carl, since(Some(&page.checkpoint), 10)).await;
    assert!(matches!(foreign, Err(StoreError::CheckpointUnknown)));
    assert!(news(&*store, &both, &page).await.records.is_empty());
}

pub(crate) async fn a_repeat_tells_nothing_that_was_closed(store: Shared<impl Store>) {
    let (ann, closed) = (team("ann", &["s1"]), team("ann", &[]));
    let batch = vec![
        create_task("m1", "t", "s1"),
        update_task("m2", "t", 7, "s1"),
    ];
    let first = push(&*store, &ann, batch.clone()).await;
    assert!(matches!(&first[1], Verdict::Conflict { data: Some(_), .. }));
    let after = push(&*store, &closed, batch.clone()).await;
    assert_eq!(after, [success(1), forbidden()], "only that it took effect");
    assert_eq!(push(&*store, &ann, batch).await, first, "open again");
}
