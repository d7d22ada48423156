//! What every store must do with media. A store's own tests call [`media_conformance!`] with an
//! expression that makes an empty one.

use std::sync::Arc;

use axum::body::Bytes;

use super::{
    Appended, Begun, Checksum, Declaration, Media, MediaKey, MediaStore, Settled, cost_bytes,
    settle,
};
use crate::access::Space;
use crate::ids::{MediaId, UnixMillis, UserId};
use crate::limits::MEDIA_PIECE_BYTES;

macro_rules! media_conformance {
    ($make:expr) => {
        media_conformance!(@each $make;
            a_file_goes_in_by_parts_and_comes_out_whole
            a_part_counts_once_and_leaves_no_hole
            parts_at_the_same_time_count_once
            what_is_not_as_declared_is_removed
            an_empty_file_is_a_file
            the_same_id_in_two_spaces_is_two_files
            an_owner_has_a_quota
            what_is_removed_is_gone_at_once_and_cleared_away_in_steps
            only_stale_unfinished_uploads_are_swept
        );
    };
    (@each $make:expr; $($name:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $name() {
                let (store, _keep) = $make;
                $crate::store::media::conformance::$name(std::sync::Arc::new(store)).await;
            }
        )*
    };
}
pub(crate) use media_conformance;

const PIECE: usize = MEDIA_PIECE_BYTES;
const NOW: UnixMillis = UnixMillis(1_763_690_000_000);
const PLENTY: u64 = 1 << 40;

fn ann() -> UserId {
    UserId::new("ann").unwrap()
}

fn key(space: Space, id: &str) -> MediaKey {
    let id = MediaId::new(id).unwrap();
    MediaKey { space, id }
}

fn own(id: &str) -> MediaKey {
    key(Space::Own(ann()), id)
}

/// Bytes of which no two pieces are alike.
fn content(length: usize) -> Bytes {
    (0..length)
        .map(|at| (at % 251) as u8 ^ (at / PIECE) as u8)
        .collect()
}

fn declared(content: &Bytes) -> Declaration {
    Declaration {
        content_type: "image/png".into(),
        size: content.len() as u64,
        sha256: Checksum::of(content),
    }
}

async fn begin<S: MediaStore>(store: &S, key: &MediaKey, content: &Bytes) -> Media {
    let (declared, owner) = (declared(content), ann());
    let begun = store.begin(key, &declared, &owner, PLENTY, NOW);
    match begun.await.unwrap() {
        Begun::Media(media) => media,
        begun => panic!("{begun:?}"),
    }
}

async fn append<S: MediaStore>(store: &S, media: &Media, offset: usize, bytes: Bytes) -> Appended {
    let appended = store.append(media.number, offset as u64, bytes, NOW);
    appended.await.unwrap()
}

async fn upload<S: MediaStore>(store: &S, key: &MediaKey, content: &Bytes) -> Media {
    let media = begin(store, key, content).await;
    for offset in (0..content.len()).step_by(PIECE) {
        let part = content.slice(offset..content.len().min(offset + PIECE));
        append(store, &media, offset, part).await;
    }
    let settled = settle(store, key, &media, NOW).await.unwrap();
    assert_eq!(settled, Settled::Complete);
    store.find(key).await.unwrap().unwrap()
}

async fn read<S: MediaStore>(store: &S, media: &Media) -> Bytes {
    let mut all = Vec::new();
    for index in 0.. {
        let piece = store.piece(media.number, index).await.unwrap();
        if piece.is_empty() {
            break;
        }
        assert!(piece.len() <= PIECE);
        all.extend_from_slice(&piece);
    }
    all.into()
}

async fn sweep_all<S: MediaStore>(store: &S, before: UnixMillis) -> usize {
    let mut steps = 0;
    while store.sweep(before).await.unwrap() {
        steps += 1;
        assert!(steps < 1000, "it never ends");
    }
    steps
}

pub(crate) async fn a_file_goes_in_by_parts_and_comes_out_whole<S: MediaStore>(store: Arc<S>) {
    let content = content(PIECE * 3 + 777);
    // Parts of all sizes, none of them where pieces end.
    for (n, size) in [PIECE, PIECE - 1, 1000 * 77, PIECE / 2 + 1]
        .into_iter()
        .enumerate()
    {
        let key = own(&format!("f{n}"));
        let media = begin(&*store, &key, &content).await;
        assert!(!media.complete && media.received == 0);
        for offset in (0..content.len()).step_by(size) {
            let end = content.len().min(offset + size);
            let appended = append(&*store, &media, offset, content.slice(offset..end)).await;
            assert_eq!(appended, Appended::Received(end as u64));
            let found = store.find(&key).await.unwrap().unwrap();
            assert_eq!((found.received, found.complete), (end as u64, false));
        }
        let settled = settle(&*store, &key, &media, NOW).await.unwrap();
        assert_eq!(settled, Settled::Complete);
        let found = store.find(&key).await.unwrap().unwrap();
        assert!(found.complete && found.declared == declared(&content));
        assert_eq!(read(&*store, &found).await, content, "parts of {size}");
        // A begin again finds it as it is, whatever is declared.
        let other = Bytes::from_static(b"other");
        assert_eq!(begin(&*store, &key, &other).await, found);
    }
}

pub(crate) async fn a_part_counts_once_and_leaves_no_hole<S: MediaStore>(store: Arc<S>) {
    let content = content(1000);
    let media = begin(&*store, &own("f"), &content).await;
    let hole = append(&*store, &media, 1, content.slice(1..10)).await;
    assert_eq!(hole, Appended::Hole(0));
    for (from, to, now) in [
        (0, 600, 600),
        (0, 600, 600),
        (100, 500, 600),
        (300, 900, 900),
    ] {
        let appended = append(&*store, &media, from, content.slice(from..to)).await;
        assert_eq!(appended, Appended::Received(now));
    }
    let hole = append(&*store, &media, 901, content.slice(901..)).await;
    assert_eq!(hole, Appended::Hole(900));
    append(&*store, &media, 900, content.slice(900..)).await;
    assert_eq!(read(&*store, &media).await, content);
}

pub(crate) async fn parts_at_the_same_time_count_once<S: MediaStore>(store: Arc<S>) {
    let content = content(PIECE * 2 + 5);
    let key = own("f");
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..4 {
        let (store, content, key) = (Arc::clone(&store), content.clone(), key.clone());
        tasks.spawn(async move {
            let media = begin(&*store, &key, &content).await;
            let size = 30_000 + n * 7_001;
            for offset in (0..content.len()).step_by(size) {
                let end = content.len().min(offset + size);
                let appended = append(&*store, &media, offset, content.slice(offset..end)).await;
                assert!(matches!(appended, Appended::Received(to) if to >= end as u64));
            }
            media.number
        });
    }
    let numbers = tasks.join_all().await;
    assert!(numbers.iter().all(|number| *number == numbers[0]));
    let media = store.find(&key).await.unwrap().unwrap();
    let settled = settle(&*store, &key, &media, NOW).await.unwrap();
    assert_eq!(settled, Settled::Complete);
    assert_eq!(read(&*store, &media).await, content);
}

pub(crate) async fn what_is_not_as_declared_is_removed<S: MediaStore>(store: Arc<S>) {
    let (content, other) = (content(10), Bytes::from_static(b"0123456789"));
    let key = own("f");
    let media = begin(&*store, &key, &content).await;
    append(&*store, &media, 0, other).await;
    let settled = settle(&*store, &key, &media, NOW).await.unwrap();
    assert_eq!(settled, Settled::Mismatch);
    assert_eq!(store.find(&key).await.unwrap(), None);
    // What comes late of the removed upload does not touch the one that came after it.
    let again = begin(&*store, &key, &content).await;
    assert_ne!(again.number, media.number);
    let late = append(&*store, &media, 0, content.clone()).await;
    assert_eq!(late, Appended::Gone);
    assert!(!store.remove(&key, Some(media.number)).await.unwrap());
    assert!(!store.complete(media.number, NOW).await.unwrap());
    assert!(
        !store.complete(again.number, NOW).await.unwrap(),
        "bytes are missing"
    );
    append(&*store, &again, 0, content.clone()).await;
    let settled = settle(&*store, &key, &again, NOW).await.unwrap();
    assert_eq!(settled, Settled::Complete);
}

pub(crate) async fn an_empty_file_is_a_file<S: MediaStore>(store: Arc<S>) {
    let media = upload(&*store, &own("f"), &Bytes::new()).await;
    assert!(media.complete && read(&*store, &media).await.is_empty());
}

pub(crate) async fn the_same_id_in_two_spaces_is_two_files<S: MediaStore>(store: Arc<S>) {
    let bob = key(Space::Own(UserId::new("bob").unwrap()), "f");
    let (first, second) = (content(10), content(20));
    let media = upload(&*store, &own("f"), &first).await;
    assert_eq!(store.find(&bob).await.unwrap(), None);
    assert!(!store.remove(&bob, None).await.unwrap());
    let other = upload(&*store, &bob, &second).await;
    assert_eq!(read(&*store, &media).await, first);
    assert_eq!(read(&*store, &other).await, second);
}

pub(crate) async fn an_owner_has_a_quota<S: MediaStore>(store: Arc<S>) {
    let content = content(5000);
    let quota = cost_bytes(5000) * 2;
    let ask = async |id: &str, owner: &str| {
        let owner = UserId::new(owner).unwrap();
        let (key, declared) = (own(id), declared(&content));
        let begun = store.begin(&key, &declared, &owner, quota, NOW);
        begun.await.unwrap()
    };
    for id in ["a", "b", "a"] {
        assert!(matches!(ask(id, "ann").await, Begun::Media(_)), "{id}");
    }
    // What was only declared counts.
    assert_eq!(ask("c", "ann").await, Begun::OverQuota(0));
    assert!(matches!(ask("d", "bob").await, Begun::Media(_)));
    assert!(store.remove(&own("a"), None).await.unwrap());
    assert!(matches!(ask("c", "ann").await, Begun::Media(_)));
}

pub(crate) async fn what_is_removed_is_gone_at_once_and_cleared_away_in_steps<S: MediaStore>(
    store: Arc<S>,
) {
    let pieces = crate::limits::SWEEP_PIECES_MAX * 2 + 1;
    let content = content(PIECE * pieces);
    let media = upload(&*store, &own("f"), &content).await;
    let kept = upload(&*store, &own("g"), &content.slice(..PIECE)).await;
    assert!(store.remove(&own("f"), None).await.unwrap());
    assert!(!store.remove(&own("f"), None).await.unwrap());
    assert_eq!(store.find(&own("f")).await.unwrap(), None);
    assert_eq!(sweep_all(&*store, NOW).await, 3);
    assert!(read(&*store, &media).await.is_empty());
    assert_eq!(read(&*store, &kept).await.len(), PIECE);
}

pub(crate) async fn only_stale_unfinished_uploads_are_swept<S: MediaStore>(store: Arc<S>) {
    let content = content(100);
    let complete = upload(&*store, &own("complete"), &content).await;
    let stale = begin(&*store, &own("stale"), &content).await;
    append(&*store, &stale, 0, content.slice(..50)).await;
    let fresh = begin(&*store, &own("fresh"), &content).await;
    let later = UnixMillis(NOW.0 + 1000);
    let part = store.append(fresh.number, 0, content.slice(..50), later);
    part.await.unwrap();
    sweep_all(&*store, UnixMillis(NOW.0 + 500)).await;
    assert_eq!(store.find(&own("stale")).await.unwrap(), None);
    assert!(read(&*store, &stale).await.is_empty());
    assert_eq!(read(&*store, &fresh).await.len(), 50);
    assert_eq!(read(&*store, &complete).await, content);
}
