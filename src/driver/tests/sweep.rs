//! What a compaction has left behind goes only where nobody may still need it.

use super::rig::*;
use crate::engine::Event;
use crate::limits;
use crate::store::memory::Fault;
use std::cell::RefCell;
use std::rc::Rc;

#[test]
fn a_tab_that_is_behind_deletes_nothing_that_it_has_not_read() {
    run(async {
        let server = Rc::new(RefCell::new(Server::default()));
        let device = Device::new("a", &server, 1);
        let behind = device.open_idle().await;
        settle(&behind).await;
        let leader = device.open().await;
        create(&leader, "sites", site("x", 1)).await.unwrap();
        synced(&leader).await;
        assert!(leader.fold().await.unwrap());
        leader.signal(Event::Close);
        drop(leader);

        // Nobody has told it of what was written. Where that was it would append.
        behind.sweep().await.unwrap();
        create(&behind, "sites", site("y", 2)).await.unwrap();
        let again = device.open_idle().await;
        settle(&again).await;
        let both = [r#"{"id":"x","n":1}"#, r#"{"id":"y","n":2}"#];
        assert_eq!(dump(&again, "sites").await, both);
        assert_eq!(dump(&behind, "sites").await, both);

        // Once it has compacted itself, what nobody needs goes.
        behind.signal(Event::Leader(true));
        synced(&behind).await;
        while !behind.fold().await.unwrap() {}
        behind.sweep().await.unwrap();
        assert_eq!(device.store.sizes().0, 0);
        let again = device.open_idle().await;
        settle(&again).await;
        assert_eq!(dump(&again, "sites").await, both);
    });
}

/// A second without a write is waited for, but not for ever.
#[test]
fn an_app_that_never_stops_writing_has_its_log_compacted() {
    run(async {
        let server = Rc::new(RefCell::new(Server::default()));
        server.borrow_mut().down = true;
        let device = Device::new("a", &server, 1);
        let m = device.open().await;
        for n in 0..2 * limits::FOLD_ENTRIES_MIN as u64 {
            put(&m, "sites", site("x", n)).await.unwrap();
            pass(500).await;
        }
        m.sweep().await.unwrap();
        assert!(device.store.sizes().0 < limits::FOLD_ENTRIES_MIN);
    });
}

/// A full disk would stay full of what a compaction has not come to an end with.
#[test]
fn what_a_compaction_that_fails_has_written_can_be_swept() {
    run(async {
        let server = Rc::new(RefCell::new(Server::default()));
        let device = Device::new("a", &server, 1);
        let m = device.open().await;
        create(&m, "sites", site("x", 1)).await.unwrap();
        synced(&m).await;
        device.store.fail_next(Fault::Full);
        assert!(m.fold().await.is_err());
        assert!(device.told.0.borrow().iter().any(|told| told == "folded"));
    });
}
