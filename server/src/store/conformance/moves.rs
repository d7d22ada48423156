//! Records that move from one entity to another.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

pub(crate) async fn a_moved_record_is_gone_for_those_who_see_only_the_old_place(
    store: Shared<impl Store>,
) {
    let both = team("ann", &["s1", "s2"]);
    let (old, new) = (team("bob", &["s1"]), team("carl", &["s2"]));
    push(&*store, &both, vec![create_task("m1", "t", "s1")]).await;
    let (olds, news_before) = (all(&*store, &old).await, all(&*store, &new).await);
    let moved = push(&*store, &both, vec![update_task("m2", "t", 1, "s2")]).await;
    assert_eq!(moved, [success(3)]);

    let gone = news(&*store, &old, &olds).await;
    assert_eq!(ids(&gone.records), ["t"]);
    assert!(gone.records[0].deleted && gone.records[0].data.is_none());
    assert_eq!(gone.records[0].version_number, Version(2));
    assert!(news(&*store, &old, &gone).await.records.is_empty());
    let come = news(&*store, &new, &news_before).await;
    assert_eq!(come.records[0].data, Some(at("s2", "m2")));

    // From now on it is none of theirs.
    let batch = vec![
        update_task("m3", "t", 3, "s1"),
        task("m4", "t", 3, Edit::Delete),
        create_task("m5", "t", "s1"),
    ];
    assert_eq!(push(&*store, &old, batch).await, vec![forbidden(); 3]);
    let gone = all(&*store, &old).await;
    assert!(gone.records.iter().all(|record| record.deleted));
    // Where the new place is opened to them it comes with a version that they have not seen.
    let opened = news(&*store, &team("bob", &["s1", "s2"]), &gone).await;
    assert_eq!(ids(&opened.records), ["t"]);
    assert_eq!(opened.records[0].version_number, Version(3));
}

pub(crate) async fn a_moved_record_comes_back(store: Shared<impl Store>) {
    let both = team("ann", &["s1", "s2"]);
    let (one, two) = (team("bob", &["s1"]), team("carl", &["s2"]));
    push(&*store, &both, vec![create_task("m1", "t", "s1")]).await;
    let (early, mut page) = (all(&*store, &one).await, all(&*store, &one).await);
    for (n, site) in ["s2", "s1", "s2", "s1"].iter().enumerate() {
        let base = 2 * n as u64 + 1;
        let back = update_task(&format!("b{n}"), "t", base, site);
        assert_eq!(push(&*store, &both, vec![back]).await, [success(base + 2)]);
        page = news(&*store, &one, &page).await;
        assert_eq!(ids(&page.records), ["t"]);
        assert_eq!(page.records[0].deleted, *site == "s2");
        let version = base + if *site == "s2" { 1 } else { 2 };
        assert_eq!(page.records[0].version_number, Version(version));
    }
    let late = news(&*store, &one, &early).await;
    assert_eq!(late.records, page.records, "once, as it is now");
    assert!(all(&*store, &two).await.records[0].deleted);
}

pub(crate) async fn who_sees_both_places_sees_no_tombstone(store: Shared<impl Store>) {
    let both = team("ann", &["s1", "s2"]);
    let batch = vec![create_task("m1", "t", "s1"), create_task("m2", "u", "s2")];
    push(&*store, &both, batch).await;
    let page = all(&*store, &both).await;
    let batch = vec![
        update_task("m3", "t", 1, "s2"),
        update_task("m4", "u", 1, "s1"),
    ];
    push(&*store, &both, batch).await;
    let moved = news(&*store, &both, &page).await;
    assert_eq!(moved.records.len(), 2);
    assert!(moved.records.iter().all(|record| !record.deleted));
    // A delete after the move is a tombstone like any other, for all who ever saw it.
    push(&*store, &both, vec![task("m5", "t", 3, Edit::Delete)]).await;
    for access in [team("bob", &["s1"]), team("carl", &["s2"]), both] {
        let page = all(&*store, &access).await;
        let t = page.records.iter().find(|record| record.id.as_str() == "t");
        assert!(t.is_some_and(|t| t.deleted));
    }
}

/// Writers move records between three sites; readers with different sites go on from checkpoint to
/// checkpoint. In the end each must hold what a pull from the beginning gives.
pub(crate) async fn readers_miss_nothing_while_records_move(store: Shared<impl Store>) {
    const WRITERS: usize = 4;
    const ROUNDS: usize = 30;
    let written = Arc::new(AtomicBool::new(false));
    let mut writers = Vec::new();
    for writer in 0..WRITERS {
        let store = store.clone();
        writers.push(tokio::spawn(async move {
            let access = team(&format!("w{writer}"), &["s1", "s2", "s3"]);
            let record = |n: usize| format!("r{writer}-{n}");
            for n in 0..3 {
                let name = record(n);
                push(&*store, &access, vec![create_task(&name, &name, "s1")]).await;
            }
            let mut versions = [1; 3];
            for round in 0..ROUNDS {
                // Each record goes round: to the next site at every second change.
                let site = format!("s{}", (round / 6 + writer) % 3 + 1);
                let base = versions[round % 3];
                let mutation = format!("u{round}");
                let change = update_task(&mutation, &record(round % 3), base, &site);
                let verdicts = push(&*store, &access, vec![change]).await;
                let Verdict::Success(version) = verdicts[0] else {
                    panic!("{verdicts:?}")
                };
                versions[round % 3] = version.0;
            }
        }));
    }
    let sites: [&[&str]; 3] = [&["s1"], &["s2", "s3"], &["s1", "s2", "s3"]];
    let readers = sites.map(|sites| {
        let (store, written) = (store.clone(), Arc::clone(&written));
        tokio::spawn(async move {
            let access = team("reader", sites);
            let mut held: BTreeMap<_, PulledRecord> = BTreeMap::new();
            let mut checkpoint = None;
            loop {
                let last = written.load(Ordering::SeqCst);
                let query = since(checkpoint.as_deref(), 3);
                let page = store.pull(&access, query).await.unwrap();
                for record in page.records {
                    let (version, id) = (record.version_number, record.id.clone());
                    if let Some(old) = held.insert(id, record) {
                        assert!(version > old.version_number, "{version:?} after {old:?}");
                    }
                }
                checkpoint = Some(page.checkpoint);
                if last && !page.has_more {
                    return (access, held);
                }
            }
        })
    });
    for writer in writers {
        writer.await.unwrap();
    }
    written.store(true, Ordering::SeqCst);
    for reader in readers {
        let (access, held) = reader.await.unwrap();
        let live = |records: Vec<PulledRecord>| {
            let live = records.into_iter().filter(|record| !record.deleted);
            live.map(|record| (record.id.clone(), record.version_number.0))
                .collect::<HashSet<_>>()
        };
        let truth = live(all(&*store, &access).await.records);
        assert_eq!(live(held.into_values().collect()), truth);
    }
}
