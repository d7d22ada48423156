//! What every store must do, whatever it is made of. A store's own tests call [`conformance!`] with
//! an expression that makes an empty one.

use serde_json::value::RawValue;

use super::{ConflictId, Mode, Outcome, PullQuery, Seeded, Store, StoreError, Verdict};
use crate::access::{Access, Sharing};
use crate::change::{Change, Edit, FailureCode};
use crate::data::RecordData;
use crate::ids::{ClientId, MutationId, RecordId, RecordType, Stamp, UnixMillis, UserId, Version};
use crate::limits;
use crate::wire::PulledRecord;

macro_rules! conformance {
    ($make:expr) => {
        conformance!(@each $make;
            answers_in_order_and_each_by_itself
            a_repeat_gets_the_first_result
            concurrent_repeats_take_effect_once
            a_mutation_id_stands_for_one_record
            conflicts_answer_with_the_record_and_are_logged
            users_are_apart
            pages_follow_the_commits
            a_record_appears_once_in_its_newest_state
            types_filter_and_the_checkpoint_moves
            pages_are_bounded_in_bytes
            unknown_checkpoints_are_refused
            seeds_only_what_is_empty
            readers_miss_nothing_under_concurrent_writers
        );
    };
    (@each $make:expr; $($name:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $name() {
                let (store, _keep) = $make;
                $crate::store::conformance::$name(std::sync::Arc::new(store)).await;
            }
        )*
    };
}
pub(crate) use conformance;

type Shared<S> = std::sync::Arc<S>;

const NOW: UnixMillis = UnixMillis(1_763_690_000_000);

pub(crate) fn user(name: &str) -> Access {
    Access::own(UserId::new(name).unwrap())
}

pub(crate) fn data(text: &str) -> RecordData {
    RecordData::check(RawValue::from_string(text.into()).unwrap()).unwrap()
}

pub(crate) fn change(mutation: &str, record: &str, base: u64, edit: Edit) -> Change {
    Change {
        mutation: MutationId::new(mutation).unwrap(),
        client: ClientId::new("c1").unwrap(),
        record_type: RecordType::new("sites").unwrap(),
        record: RecordId::new(record).unwrap(),
        base: Version(base),
        at: Stamp::new("1763690000000-0000-c1").unwrap(),
        sharing: Sharing::Private,
        edit,
    }
}

pub(crate) fn create(mutation: &str, record: &str) -> Change {
    change(
        mutation,
        record,
        0,
        Edit::Create(data(&format!("{{\"by\":\"{mutation}\"}}"))),
    )
}

pub(crate) fn update(mutation: &str, record: &str, base: u64) -> Change {
    change(
        mutation,
        record,
        base,
        Edit::Replace(data(&format!("{{\"by\":\"{mutation}\"}}"))),
    )
}

fn delete(mutation: &str, record: &str, base: u64) -> Change {
    change(mutation, record, base, Edit::Delete)
}

pub(crate) fn since(checkpoint: Option<&str>, limit: usize) -> PullQuery {
    PullQuery {
        since: checkpoint.map(Into::into),
        limit,
        types: None,
    }
}

fn success(version: u64) -> Verdict {
    Verdict::Success(Version(version))
}

fn ids(records: &[PulledRecord]) -> Vec<&str> {
    records.iter().map(|record| record.id.as_str()).collect()
}

async fn push(store: &impl Store, access: &Access, changes: Vec<Change>) -> Vec<Verdict> {
    store.push(access, changes, Mode::Each, NOW).await.unwrap()
}

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
