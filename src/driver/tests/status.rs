//! The status while much is under way: progress that moves and ends, counts that are exact, and each
//! collection that is filled for the first time.

use super::rig::*;
use crate::driver::Status;
use crate::engine::{Event, Lane};
use crate::replica::plan::{Intent, Write, WriteOptions};
use serde_json::json;
use std::cell::RefCell;
use std::rc::Rc;

/// The status every two milliseconds until all is synced.
async fn film(m: &TestManager) -> Vec<Status> {
    let mut film = Vec::new();
    let since = m.now_ms();
    for _ in 0..100_000 {
        let status = m.status();
        let over = status.synced_through_ms.is_some_and(|at| at >= since);
        let rest = over && status.pending + status.syncing == 0 && status.progress.is_none();
        film.push(status);
        if rest {
            return film;
        }
        pass(2).await;
    }
    panic!("never synced");
}

#[test]
fn progress_moves_and_ends_and_counts_are_exact() {
    run(async {
        let server = Rc::new(RefCell::new(Server::default()));
        let device = Device::new("a", &server, 4);
        let m = device.open_idle().await;
        for n in 0..20 {
            let data = json!({ "id": format!("t{n:02}") });
            server.borrow_mut().put("notes", data, "0");
        }
        server.borrow_mut().poison.insert("s0007".into(), false);
        let writes = (0..700).map(|n| Write::Create(Rc::new(site(&format!("s{n:04}"), n))));
        let options = WriteOptions::default();
        let all = Intent::Write("sites".into(), writes.collect(), options);
        submit(&m, all).await.unwrap();
        m.signal(Event::Leader(true));
        let film = film(&m).await;

        let of = |lane: Lane| {
            let progress = film.iter().filter_map(|s| s.progress);
            progress.filter(move |(l, ..)| *l == lane)
        };
        let mut pushed: Vec<(usize, usize)> = of(Lane::Push)
            .map(|(_, done, total)| (done, total.unwrap()))
            .collect();
        assert!(pushed.is_sorted_by_key(|(done, _)| *done), "{pushed:?}");
        assert!(
            pushed
                .iter()
                .all(|(done, total)| done <= total && *total == 700)
        );
        pushed.dedup();
        assert!(pushed.len() >= 5, "it moves: {pushed:?}");
        let pulled: Vec<usize> = of(Lane::Pull).map(|(_, done, _)| done).collect();
        assert!(
            pulled.is_sorted() && pulled.last() > pulled.first(),
            "{pulled:?}"
        );
        assert_eq!(film.last().unwrap().progress, None, "it ends");

        // Nothing is counted twice or not at all at any moment.
        let server = server.borrow();
        for status in &film {
            let queued = status.pending + status.syncing + status.failed;
            assert!(queued <= 700 && status.conflict == 0);
        }
        let queued: Vec<usize> = film.iter().map(|s| s.pending + s.syncing).collect();
        assert!(queued.is_sorted_by(|a, b| a >= b), "{queued:?}");
        let last = film.last().unwrap();
        assert_eq!((last.pending, last.syncing, last.failed), (0, 0, 1));
        assert_eq!(server.effects.len(), 699);
        let counts: Vec<usize> = last.collections.iter().map(|c| c.count).collect();
        assert_eq!(counts, [700, 20], "what is parked still shows");
    });
}

#[test]
fn only_what_is_filled_for_the_first_time_is_loading() {
    run(async {
        let server = Rc::new(RefCell::new(Server::default()));
        let mut device = Device::new("a", &server, 6);
        let all = device.specs.clone();
        device.specs.truncate(1);
        for n in 0..40 {
            server
                .borrow_mut()
                .put("sites", site(&format!("s{n:02}"), n), "0");
            let data = json!({ "id": format!("t{n:02}") });
            server.borrow_mut().put("notes", data, "0");
        }
        let loading = |status: &Status| {
            let names = status.collections.iter().filter(|c| c.loading);
            names
                .map(|c| c.name.to_string())
                .collect::<Vec<_>>()
                .join(" ")
        };
        let scenes = |film: &[Status]| {
            let mut scenes: Vec<String> = film.iter().map(loading).collect();
            scenes.dedup();
            scenes
        };
        let m = device.open().await;
        assert_eq!(scenes(&film(&m).await), ["sites", ""]);
        m.signal(Event::Sync);
        pass(1).await;
        assert_eq!(scenes(&film(&m).await), [""], "never again");
        m.signal(Event::Close);

        device.specs = all;
        let m = device.open_idle().await;
        settle(&m).await;
        // In the middle of it the network is gone, twice.
        m.signal(Event::Leader(true));
        until(&m, "two pages", |s| s.collections[1].count > 3).await;
        server
            .borrow_mut()
            .faults
            .extend([Fault::Lost, Fault::Lost]);
        let film = film(&m).await;
        let seen = scenes(&film);
        assert!(
            seen.iter().all(|s| s.is_empty() || s == "notes"),
            "{seen:?}"
        );
        let partly = |s: &&Status| s.collections[1].count < 40 && s.progress.is_some();
        assert!(film.iter().filter(partly).all(|s| s.collections[1].loading));
        let status = m.status();
        assert_eq!(loading(&status), "");
        assert_eq!(
            (status.collections[0].count, status.collections[1].count),
            (40, 40)
        );
        assert!(status.collections.iter().all(|c| c.pulled_ms.is_some()));
    });
}
