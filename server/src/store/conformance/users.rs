//! Private records: each user has their own.

use super::*;

pub(crate) async fn users_are_apart(store: Shared<impl Store>) {
    let (ann, bob) = (user("ann"), user("bob"));
    push(
        &*store,
        &ann,
        vec![
            create("m1", "a"),
            update("m2", "a", 1),
            update("m3", "a", 1),
        ],
    )
    .await;
    let bobs = store.pull(&bob, since(None, 1000)).await.unwrap();
    assert!(bobs.records.is_empty());
    assert_eq!(store.standing(&bob).await.unwrap().conflicts, 0);
    assert!(
        store
            .conflicts(&bob, ConflictId(0), 10)
            .await
            .unwrap()
            .is_empty()
    );

    // The same ids of records and mutations are other records and mutations.
    let verdicts = push(&*store, &bob, vec![create("m1", "a")]).await;
    assert_eq!(verdicts, [success(1)]);
    let verdicts = push(
        &*store,
        &bob,
        vec![update("m9", "a", 2), delete("m10", "a", 2)],
    )
    .await;
    for verdict in &verdicts {
        let Verdict::Conflict { version, .. } = verdict else {
            panic!("{verdicts:?}")
        };
        assert_eq!(version.0, 1, "bob's own record, not ann's");
    }
    let anns = store.pull(&ann, since(None, 1000)).await.unwrap();
    assert_eq!(anns.records[0].data, Some(data(r#"{"by":"m2"}"#)));
    assert_eq!(anns.records.len(), 1);
    assert_eq!(store.standing(&ann).await.unwrap().conflicts, 1);
}

pub(crate) async fn seeds_only_what_is_empty(store: Shared<impl Store>) {
    let (ann, sites) = (user("ann"), RecordType::new("sites").unwrap());
    let records = |names: &[&str]| -> Vec<_> {
        names
            .iter()
            .map(|name| (RecordId::new(*name).unwrap(), data("{}")))
            .collect()
    };
    let seeded = store
        .seed(
            ann.user(),
            &sites,
            Sharing::Private,
            records(&["a", "b"]),
            NOW,
        )
        .await
        .unwrap();
    assert_eq!(seeded, Seeded::Imported(2));
    let seeded = store
        .seed(ann.user(), &sites, Sharing::Private, records(&["c"]), NOW)
        .await
        .unwrap();
    assert_eq!(seeded, Seeded::Present);
    let page = store.pull(&ann, since(None, 10)).await.unwrap();
    assert_eq!(ids(&page.records), ["a", "b"]);
    assert_eq!(
        push(&*store, &ann, vec![update("m1", "a", 1)]).await,
        [success(2)]
    );
    assert!(
        store
            .pull(&user("bob"), since(None, 10))
            .await
            .unwrap()
            .records
            .is_empty()
    );
}

pub(crate) async fn assignments_are_kept_and_bounded(store: Shared<impl Store>) {
    let (ann, bob) = (user("ann"), user("bob"));
    let (ann, bob) = (ann.user(), bob.user());
    assert!(store.assign(ann, &entity("s1")).await.unwrap());
    assert!(!store.assign(ann, &entity("s1")).await.unwrap());
    assert!(store.assign(ann, &entity("s2")).await.unwrap());
    let entities = store.assignments(ann).await.unwrap();
    assert_eq!(entities, [entity("s1"), entity("s2")].into());
    assert!(store.assignments(bob).await.unwrap().is_empty());

    assert!(!store.unassign(bob, &entity("s1")).await.unwrap());
    assert!(store.unassign(ann, &entity("s1")).await.unwrap());
    assert!(!store.unassign(ann, &entity("s1")).await.unwrap());
    let entities = store.assignments(ann).await.unwrap();
    assert_eq!(entities, [entity("s2")].into());

    for n in 0..limits::ENTITIES_MAX {
        assert!(store.assign(bob, &entity(&format!("e{n}"))).await.unwrap());
    }
    let error = store.assign(bob, &entity("more")).await.unwrap_err();
    assert!(matches!(error, StoreError::TooManyEntities), "{error}");
    assert!(!store.assign(bob, &entity("e7")).await.unwrap());
    let entities = store.assignments(bob).await.unwrap();
    assert_eq!(entities.len(), limits::ENTITIES_MAX);
}
