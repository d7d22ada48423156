//! The conflict log, and how conflicts are settled.

use super::*;

pub(crate) async fn conflicts_answer_with_the_record_and_are_logged(store: Shared<impl Store>) {
    let ann = user("ann");
    push(&*store, &ann, vec![create("m1", "a"), update("m2", "a", 1)]).await;
    let stale = vec![update("m3", "a", 1), delete("m4", "a", 1)];
    let verdicts = push(&*store, &ann, stale).await;
    let Verdict::Conflict {
        version,
        data: Some(remote),
        ..
    } = &verdicts[0]
    else {
        panic!("{verdicts:?}")
    };
    assert_eq!((version.0, remote.as_str()), (2, r#"{"by":"m2"}"#));
    // By another client: of its own, the conflicts would be settled by that.
    let other = Change {
        client: ClientId::new("c2").unwrap(),
        ..delete("m5", "a", 2)
    };
    push(&*store, &ann, vec![other]).await;
    let verdicts = push(&*store, &ann, vec![update("m6", "a", 2)]).await;
    assert!(matches!(
        verdicts[0],
        Verdict::Conflict {
            version: Version(3),
            data: None,
            ..
        }
    ));

    let log = store.conflicts(&ann, ConflictId(0), 10).await.unwrap();
    let refused: Vec<_> = log.iter().map(|entry| entry.mutation.as_str()).collect();
    assert_eq!(refused, ["m3", "m4", "m6"]);
    assert_eq!(log[0].local, Some(data(r#"{"by":"m3"}"#)));
    assert_eq!(log[0].remote, Some(data(r#"{"by":"m2"}"#)));
    assert_eq!((log[0].base, log[0].version), (Version(1), Version(2)));
    assert_eq!(
        (log[0].record.as_str(), log[0].client.as_str()),
        ("a", "c1")
    );
    assert_eq!((log[0].detected_at, log[0].outcome), (NOW, Outcome::Open));
    assert_eq!(
        (log[1].local.as_ref(), log[2].remote.as_ref()),
        (None, None)
    );
    assert_eq!(store.standing(&ann).await.unwrap().conflicts, 3);
}

fn resolution(conflict: ConflictId, choice: Choice) -> Resolution {
    Resolution {
        conflict,
        choice,
        sharing: Sharing::Private,
    }
}

async fn resolve(store: &impl Store, access: &Access, id: ConflictId, choice: Choice) -> Resolved {
    let resolution = resolution(id, choice);
    store.resolve(access, resolution, NOW).await.unwrap()
}

fn settled(version: u64) -> Resolved {
    Resolved::Settled(Version(version))
}

/// A record `a` at version 2, and the conflict of `edit`, which was made on version 1.
async fn collide(store: &impl Store, access: &Access, edit: Edit) -> ConflictId {
    push(store, access, vec![create("m1", "a"), update("m2", "a", 1)]).await;
    let verdicts = push(store, access, vec![change("m3", "a", 1, edit)]).await;
    conflict_id(&verdicts[0])
}

async fn outcome(store: &impl Store, access: &Access, id: ConflictId) -> Outcome {
    let after = ConflictId(id.0 - 1);
    let log = store.conflicts(access, after, 1).await.unwrap();
    assert_eq!(log[0].id, id);
    log[0].outcome
}

pub(crate) async fn local_applies_the_refused_change(store: Shared<impl Store>) {
    let whole = Edit::Replace(data(r#"{"n":1}"#));
    let part = patch(r#"{"n":1}"#, &["n"]);
    for (name, edit, expected) in [
        ("ann", whole.clone(), Some(r#"{"n":1}"#)),
        ("bob", part, Some(r#"{"by":"m2","n":1}"#)),
        ("carl", Edit::Delete, None),
        ("dora", Edit::Create(data(r#"{"n":1}"#)), Some(r#"{"n":1}"#)),
    ] {
        let access = user(name);
        let id = collide(&*store, &access, edit).await;
        let before = all(&*store, &access).await;
        assert_eq!(store.standing(&access).await.unwrap().conflicts, 1);
        let resolved = resolve(&*store, &access, id, Choice::Local).await;
        assert_eq!(resolved, settled(3), "{name}");
        assert_eq!(outcome(&*store, &access, id).await, Outcome::Local);
        assert_eq!(store.standing(&access).await.unwrap().conflicts, 0);
        let page = news(&*store, &access, &before).await;
        assert_eq!(page.records[0].version_number, Version(3));
        assert_eq!(page.records[0].data, expected.map(data));
        // Again: the same answer, and no second effect.
        let again = resolve(&*store, &access, id, Choice::Local).await;
        assert_eq!(again, settled(3));
        let other = resolve(&*store, &access, id, Choice::Remote).await;
        assert_eq!(other, Resolved::Already(Outcome::Local));
        assert!(news(&*store, &access, &page).await.records.is_empty());
    }
    // On a tombstone a whole record lives again.
    let eve = user("eve");
    let id = collide(&*store, &eve, whole).await;
    let other = Change {
        client: ClientId::new("c2").unwrap(),
        ..delete("m9", "a", 2)
    };
    push(&*store, &eve, vec![other]).await;
    assert_eq!(resolve(&*store, &eve, id, Choice::Local).await, settled(4));
    assert_eq!(
        all(&*store, &eve).await.records[0].data,
        Some(data(r#"{"n":1}"#))
    );
}

pub(crate) async fn remote_and_merged_settle_once(store: Shared<impl Store>) {
    let (ann, bob) = (user("ann"), user("bob"));
    let id = collide(&*store, &ann, Edit::Delete).await;
    let before = all(&*store, &ann).await;
    assert_eq!(resolve(&*store, &ann, id, Choice::Remote).await, settled(2));
    assert_eq!(resolve(&*store, &ann, id, Choice::Remote).await, settled(2));
    assert_eq!(outcome(&*store, &ann, id).await, Outcome::Remote);
    assert_eq!(all(&*store, &ann).await, before, "nothing changes");

    let id = collide(&*store, &bob, Edit::Delete).await;
    let merged = |text: &str| Choice::Merged(data(text));
    let first = resolve(&*store, &bob, id, merged(r#"{"n":9}"#)).await;
    assert_eq!(first, settled(3));
    let again = resolve(&*store, &bob, id, merged(r#"{"n":9}"#)).await;
    assert_eq!(again, settled(3));
    let other = resolve(&*store, &bob, id, merged(r#"{"n":8}"#)).await;
    assert_eq!(other, Resolved::Already(Outcome::Merged));
    let page = all(&*store, &bob).await;
    assert_eq!(page.records[0].data, Some(data(r#"{"n":9}"#)));
    assert_eq!(page.records[0].version_number, Version(3));

    // At the same time, each in its own way: one is the way.
    let eve = user("eve");
    let id = collide(&*store, &eve, Edit::Delete).await;
    let tasks = (0..8).map(|n| {
        let (store, eve) = (store.clone(), eve.clone());
        let choice = Choice::Merged(data(&format!("{{\"n\":{n}}}")));
        tokio::spawn(async move { resolve(&*store, &eve, id, choice).await })
    });
    let mut ways = 0;
    for task in tasks.collect::<Vec<_>>() {
        ways += usize::from(task.await.unwrap() == settled(3));
    }
    assert_eq!(ways, 1);
    assert_eq!(
        all(&*store, &eve).await.records[0].version_number,
        Version(3)
    );
}

pub(crate) async fn a_partial_change_of_a_deleted_record_needs_the_whole(
    store: Shared<impl Store>,
) {
    let ann = user("ann");
    let id = collide(&*store, &ann, patch(r#"{"n":1}"#, &["n"])).await;
    let other = Change {
        client: ClientId::new("c2").unwrap(),
        ..delete("m9", "a", 2)
    };
    push(&*store, &ann, vec![other]).await;
    let refused = resolve(&*store, &ann, id, Choice::Local).await;
    assert!(
        matches!(&refused, Resolved::Refused(failure)
        if failure.code == FailureCode::Invalid),
        "{refused:?}"
    );
    assert_eq!(outcome(&*store, &ann, id).await, Outcome::Open);
    let merged = Choice::Merged(data(r#"{"n":1}"#));
    assert_eq!(resolve(&*store, &ann, id, merged).await, settled(4));
}

pub(crate) async fn only_ones_own_conflicts_are_there(store: Shared<impl Store>) {
    let (ann, bob) = (team("ann", &["s1"]), team("bob", &["s1"]));
    let batch = vec![
        create_task("m1", "t", "s1"),
        update_task("m2", "t", 9, "s1"),
    ];
    let id = conflict_id(&push(&*store, &ann, batch).await[1]);
    // Also for somebody who may change the record.
    for (access, id) in [(&bob, id), (&ann, ConflictId(id.0 + 99))] {
        for choice in [Choice::Local, Choice::Remote, Choice::Merged(at("s1", "x"))] {
            let resolved = resolve(&*store, access, id, choice).await;
            assert_eq!(resolved, Resolved::Unknown);
        }
    }
    assert!(
        store
            .conflicts(&bob, ConflictId(0), 9)
            .await
            .unwrap()
            .is_empty()
    );
    assert_eq!(outcome(&*store, &ann, id).await, Outcome::Open);
    assert_eq!(
        all(&*store, &bob).await.records[0].version_number,
        Version(1)
    );
}

pub(crate) async fn a_conflict_whose_record_is_closed_is_hidden(store: Shared<impl Store>) {
    let (both, one) = (team("ann", &["s1", "s2"]), team("ann", &["s1"]));
    let closed = team("ann", &[]);
    let batch = vec![
        create_task("m1", "t", "s1"),
        update_task("m2", "t", 9, "s1"),
    ];
    let id = conflict_id(&push(&*store, &both, batch).await[1]);
    assert!(
        store
            .conflicts(&closed, ConflictId(0), 9)
            .await
            .unwrap()
            .is_empty()
    );
    assert_eq!(store.standing(&closed).await.unwrap().conflicts, 0);
    let resolve = async |access: &Access, choice: Choice| {
        let resolution = Resolution {
            sharing: by_site(),
            ..resolution(id, choice)
        };
        store.resolve(access, resolution, NOW).await.unwrap()
    };
    let unknown = resolve(&closed, Choice::Local).await;
    assert_eq!(unknown, Resolved::Unknown);
    // A resolution is no way past the rules.
    let refused = Resolved::Refused(Failure::forbidden());
    let away = resolve(&one, Choice::Merged(at("s2", "x"))).await;
    assert_eq!(away, refused);
    let moved = Change {
        client: ClientId::new("c2").unwrap(),
        ..update_task("m3", "t", 1, "s2")
    };
    push(&*store, &both, vec![moved]).await;
    for choice in [Choice::Local, Choice::Merged(at("s1", "x"))] {
        assert_eq!(resolve(&one, choice).await, refused);
    }
    assert_eq!(
        all(&*store, &both).await.records[0].data,
        Some(at("s2", "m3"))
    );
    let resolved = resolve(&both, Choice::Merged(at("s1", "x"))).await;
    assert_eq!(resolved, settled(5));
    assert_eq!(
        all(&*store, &one).await.records[0].data,
        Some(at("s1", "x"))
    );
}

pub(crate) async fn a_later_change_of_the_client_settles_its_conflicts(store: Shared<impl Store>) {
    let ann = user("ann");
    let by = |client: &str, change: Change| Change {
        client: ClientId::new(client).unwrap(),
        ..change
    };
    push(&*store, &ann, vec![create("m1", "a"), update("m2", "a", 1)]).await;
    let first = push(&*store, &ann, vec![update("m3", "a", 1)]).await;
    let first = conflict_id(&first[0]);
    // Another client's change, and one of another record, settle nothing.
    let batch = vec![by("c2", update("m4", "a", 2)), create("m5", "b")];
    push(&*store, &ann, batch).await;
    assert_eq!(outcome(&*store, &ann, first).await, Outcome::Open);
    let second = push(&*store, &ann, vec![update("m6", "a", 2)]).await;
    let second = conflict_id(&second[0]);
    push(&*store, &ann, vec![update("m7", "a", 3)]).await;
    for id in [first, second] {
        assert_eq!(outcome(&*store, &ann, id).await, Outcome::Rebased);
    }
    assert_eq!(store.standing(&ann).await.unwrap().conflicts, 0);
    let resolved = resolve(&*store, &ann, first, Choice::Local).await;
    assert_eq!(resolved, Resolved::Already(Outcome::Rebased));
}

pub(crate) async fn the_log_has_pages(store: Shared<impl Store>) {
    let ann = user("ann");
    push(&*store, &ann, vec![create("m", "a")]).await;
    let stale = (0..5).map(|n| create(&format!("m{n}"), "a")).collect();
    push(&*store, &ann, stale).await;
    let (mut after, mut seen) = (ConflictId(0), Vec::new());
    loop {
        let page = store.conflicts(&ann, after, 2).await.unwrap();
        assert!(page.len() <= 2);
        let Some(last) = page.last() else { break };
        after = last.id;
        seen.extend(page.iter().map(|entry| entry.mutation.as_str().to_owned()));
    }
    assert_eq!(seen, ["m0", "m1", "m2", "m3", "m4"]);
    // Large ones make a shorter page.
    let bob = user("bob");
    let long = "x".repeat(limits::RECORD_BYTES_MAX - 10);
    let big = data(&format!("{{\"a\":\"{long}\"}}"));
    let count = limits::PAGE_BYTES_MAX / limits::RECORD_BYTES_MAX;
    for n in 0..=count {
        let create = change(&format!("m{n}"), "a", 0, Edit::Create(big.clone()));
        push(&*store, &bob, vec![create]).await;
    }
    let page = store.conflicts(&bob, ConflictId(0), 100).await.unwrap();
    assert!(page.len() < count, "{} of {count}", page.len());
    assert!(page[0].bytes() > limits::RECORD_BYTES_MAX);
}
