//! Many writers at once, on every store: readers who go on from checkpoint to checkpoint miss nothing
//! and see nothing twice. A store's own tests call [`concurrency!`] with an expression that makes an
//! empty one.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::conformance::{create, data, since};
use super::{Mode, Store, Verdict};
use crate::access::{Access, Sharing};
use crate::change::{Change, Edit};
use crate::ids::{EntityId, MutationId, RecordType, UnixMillis, UserId, Version};

macro_rules! concurrency {
    ($make:expr) => {
        concurrency!(@each $make;
            every_change_is_seen_once_by_checkpoints
            records_that_move_are_where_they_went
            one_of_many_makes_a_shared_record
            duplicates_across_spaces_take_effect_once
        );
    };
    (@each $make:expr; $($name:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $name() {
                let (store, _keep) = $make;
                $crate::store::concurrency::$name(std::sync::Arc::new(store)).await;
            }
        )*
    };
}
pub(crate) use concurrency;

const WRITERS: usize = 8;
const NOW: UnixMillis = UnixMillis(1_763_690_000_000);

/// A user who is assigned to these entities.
pub(crate) fn member(name: &str, entities: &[&str]) -> Access {
    let entities = entities.iter().map(|name| EntityId::new(*name).unwrap());
    Access::new(UserId::new(name).unwrap(), entities.collect()).unwrap()
}

/// A record of a shared type.
pub(crate) fn visit(mutation: &str, record: &str, base: u64, site: &str) -> Change {
    let content = data(&format!(r#"{{"site":"{site}","by":"{mutation}"}}"#));
    let edit = if base == 0 {
        Edit::Create(content)
    } else {
        Edit::Replace(content)
    };
    Change {
        record_type: RecordType::new("visits").unwrap(),
        sharing: Sharing::Entity("site".into()),
        base: Version(base),
        edit,
        ..create(mutation, record)
    }
}

/// What one reader has seen, page after page.
#[derive(Default)]
struct Reader {
    checkpoint: Option<String>,
    seen: HashMap<String, u64>,
    tombstones: usize,
}

impl Reader {
    /// Reads a page; whether there was something.
    async fn read(&mut self, store: &impl Store, access: &Access) -> bool {
        let query = since(self.checkpoint.as_deref(), 7);
        let page = store.pull(access, query).await.unwrap();
        let new = !page.records.is_empty();
        for record in page.records {
            self.tombstones += usize::from(record.deleted);
            let (id, version) = (record.id.as_str().to_owned(), record.version_number.0);
            let before = self.seen.insert(id.clone(), version);
            assert!(
                before.is_none_or(|before| before < version),
                "{id}: {version} after {before:?}"
            );
        }
        self.checkpoint = Some(page.checkpoint);
        new
    }
}

/// Each writer writes to a space of its own and to one that all share, both in each batch; a reader
/// who sees the shared one and that of one writer.
pub(crate) async fn every_change_is_seen_once_by_checkpoints(store: Arc<impl Store>) {
    const ROUNDS: usize = 30;
    let writers: Vec<_> = (0..WRITERS)
        .map(|n| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                let access = member(&format!("w{n}"), &["s1"]);
                for round in 0..ROUNDS {
                    let name = format!("{n}-{round}");
                    let batch = vec![
                        create(&format!("own-{name}"), &format!("own-{name}")),
                        visit(
                            &format!("shared-{name}"),
                            &format!("shared-{name}"),
                            0,
                            "s1",
                        ),
                    ];
                    let verdicts = store.push(&access, batch, Mode::Each, NOW).await.unwrap();
                    assert_eq!(verdicts, [const { Verdict::Success(Version(1)) }; 2]);
                }
            })
        })
        .collect();
    let access = member("w0", &["s1"]);
    let all = WRITERS * ROUNDS + ROUNDS;
    let mut reader = Reader::default();
    let deadline = Instant::now() + Duration::from_secs(120);
    while reader.seen.len() < all && Instant::now() < deadline {
        if !reader.read(&*store, &access).await {
            tokio::task::yield_now().await;
        }
    }
    for writer in writers {
        writer.await.unwrap();
    }
    assert_eq!(reader.seen.len(), all, "something was skipped");
    assert!(!reader.read(&*store, &access).await);
}

/// Records go back and forth between two entities; one reader sees both, another only the second.
pub(crate) async fn records_that_move_are_where_they_went(store: Arc<impl Store>) {
    const MOVES: u64 = 20;
    let movers: Vec<_> = (0..WRITERS)
        .map(|n| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                let access = member(&format!("w{n}"), &["s1", "s2"]);
                let record = format!("r{n}");
                for round in 0..MOVES {
                    // A move takes two versions.
                    let base = (2 * round).saturating_sub(1);
                    let site = if round % 2 == 0 { "s1" } else { "s2" };
                    // The other one's record is in between, so that locks are wanted both ways.
                    let own = visit(&format!("m{n}-{round}"), &record, base, site);
                    let extra = format!("x{n}-{round}");
                    let other = if round % 2 == 0 { "s2" } else { "s1" };
                    let batch = vec![visit(&extra, &extra, 0, other), own];
                    let verdicts = store.push(&access, batch, Mode::Each, NOW).await.unwrap();
                    assert_eq!(verdicts[1], Verdict::Success(Version(2 * round + 1)));
                }
            })
        })
        .collect();
    let both = member("reader", &["s1", "s2"]);
    let second = member("reader", &["s2"]);
    let (mut of_both, mut of_second) = (Reader::default(), Reader::default());
    loop {
        let finished = movers.iter().all(tokio::task::JoinHandle::is_finished);
        let new = of_both.read(&*store, &both).await | of_second.read(&*store, &second).await;
        if finished && !new {
            break;
        }
    }
    for mover in movers {
        mover.await.unwrap();
    }
    for n in 0..WRITERS {
        assert_eq!(of_both.seen[&format!("r{n}")], 2 * MOVES - 1);
        assert_eq!(of_second.seen[&format!("r{n}")], 2 * MOVES - 1);
    }
    assert_eq!(of_both.seen.len(), WRITERS * (1 + MOVES as usize));
    assert_eq!(of_both.tombstones, 0, "who sees both sees no departure");
}

/// The same id in eight entities at the same moment: one has it, the others may not have it.
pub(crate) async fn one_of_many_makes_a_shared_record(store: Arc<impl Store>) {
    for round in 0..10 {
        let makers: Vec<_> = (0..WRITERS)
            .map(|n| {
                let store = Arc::clone(&store);
                tokio::spawn(async move {
                    let site = format!("s{n}");
                    let access = member(&format!("w{n}"), &[&site]);
                    let change = visit(&format!("m{round}"), &format!("r{round}"), 0, &site);
                    let verdicts = store.push(&access, vec![change], Mode::Each, NOW).await;
                    matches!(verdicts.unwrap()[0], Verdict::Success(_))
                })
            })
            .collect();
        let mut made = 0;
        for maker in makers {
            made += usize::from(maker.await.unwrap());
        }
        assert_eq!(made, 1);
    }
    for n in 0..WRITERS {
        let site = format!("s{n}");
        let access = member(&format!("w{n}"), &[&site]);
        let page = store.pull(&access, since(None, 100)).await.unwrap();
        let whole = |record: &crate::wire::PulledRecord| {
            let data = record.data.as_ref().map_or("", |data| data.as_str());
            data.contains(&format!("\"{site}\"")) && record.version_number == Version(1)
        };
        assert!(page.records.iter().all(whole), "{page:?}");
    }
}

/// One mutation's id, sent at the same moment for records in different spaces: it stands for one.
pub(crate) async fn duplicates_across_spaces_take_effect_once(store: Arc<impl Store>) {
    let access = member("ann", &["s1", "s2"]);
    for round in 0..10 {
        let id = MutationId::new(format!("m{round}")).unwrap();
        let changes = (0..WRITERS).map(|n| {
            let record = format!("r{round}-{n}");
            let change = match n % 3 {
                0 => create("m", &record),
                1 => visit("m", &record, 0, "s1"),
                _ => visit("m", &record, 0, "s2"),
            };
            Change {
                mutation: id.clone(),
                ..change
            }
        });
        let pushes: Vec<_> = changes
            .map(|change| {
                let (store, access) = (Arc::clone(&store), access.clone());
                tokio::spawn(async move {
                    let verdicts = store.push(&access, vec![change], Mode::Each, NOW).await;
                    matches!(verdicts.unwrap()[0], Verdict::Success(_))
                })
            })
            .collect();
        let mut taken = 0;
        for push in pushes {
            taken += usize::from(push.await.unwrap());
        }
        assert_eq!(taken, 1);
    }
    let page = store.pull(&access, since(None, 100)).await.unwrap();
    assert_eq!(page.records.len(), 10);
}
