//! Last write wins, also where a device's clock is wrong.

use super::rig::*;
use crate::engine::Event;
use serde_json::json;
use std::cell::RefCell;
use std::rc::Rc;
use tokio::time::Instant;

const DAY_MS: f64 = 86_400_000.0;

/// Who has written last, to the server's knowledge.
fn name(server: &Rc<RefCell<Server>>) -> String {
    let server = server.borrow();
    let row = &server.rows[&("sites".to_owned(), "x".to_owned())];
    row.data.as_ref().unwrap()["by"].to_string()
}

async fn offline(m: &TestManager, by: &str) {
    m.signal(Event::Offline);
    update(m, "sites", "x", json!({ "by": by })).await.unwrap();
    pass(5_000).await;
}

async fn online(m: &TestManager) {
    m.signal(Event::Online);
    synced(m).await;
}

async fn play(skew_ms: f64) {
    let server = Rc::new(RefCell::new(Server::default()));
    server.borrow_mut().clock = Some(Instant::now());
    let wrong = Device::new("a", &server, 1);
    wrong.skew_ms.set(skew_ms);
    let right = Device::new("b", &server, 2);

    // Written before the first contact.
    let a = wrong.open_idle().await;
    a.signal(Event::Offline);
    a.signal(Event::Leader(true));
    put(&a, "sites", json!({ "id": "x", "by": "a" }))
        .await
        .unwrap();
    online(&a).await;
    assert_eq!(name(&server), "\"a\"");
    let b = right.open().await;
    synced(&b).await;

    // The wrong clock's earlier change loses, and its later one wins.
    offline(&a, "a1").await;
    update(&b, "sites", "x", json!({ "by": "b1" }))
        .await
        .unwrap();
    synced(&b).await;
    online(&a).await;
    assert_eq!(name(&server), "\"b1\"");
    offline(&b, "b2").await;
    update(&a, "sites", "x", json!({ "by": "a2" }))
        .await
        .unwrap();
    synced(&a).await;
    online(&b).await;
    assert_eq!(name(&server), "\"a2\"");
    synced(&a).await;

    // A new start knows nothing of the server's clock; neither does a tab that never asks it.
    a.signal(Event::Close);
    let a = wrong.open_idle().await;
    let tab = wrong.open_idle().await;
    a.signal(Event::Leader(true));
    offline(&a, "a3").await;
    tab.submit_catch_up();
    update(&tab, "sites", "x", json!({ "tab": 1 }))
        .await
        .unwrap();
    pass(5_000).await;
    update(&b, "sites", "x", json!({ "by": "b3" }))
        .await
        .unwrap();
    synced(&b).await;
    a.submit_catch_up();
    online(&a).await;
    assert_eq!(name(&server), "\"b3\"");
    synced(&b).await;
    assert_eq!(dump(&a, "sites").await, dump(&b, "sites").await);

    // The first push of a session leaves before anything is known of the server's clock.
    a.signal(Event::Close);
    tab.signal(Event::Close);
    let a = wrong.open_idle().await;
    update(&a, "sites", "x", json!({ "by": "a4" }))
        .await
        .unwrap();
    b.signal(Event::Offline);
    a.signal(Event::Leader(true));
    synced(&a).await;
    pass(5_000).await;
    offline(&b, "b4").await;
    online(&b).await;
    assert_eq!(name(&server), "\"b4\"");
}

#[test]
fn a_clock_that_is_ahead_cannot_win_for_ever() {
    run(play(DAY_MS));
}

#[test]
fn a_clock_that_is_a_little_wrong_does_no_harm() {
    run(play(3_000.0));
}

/// The clock reading of what is queued, without the client.
fn reading(m: &TestManager) -> String {
    let queued = m.outbox(&Default::default()).remove(0).mutation;
    queued.at_text("")
}

#[test]
fn what_is_written_after_reading_is_later() {
    run(async {
        let server = Rc::new(RefCell::new(Server::default()));
        let device = Device::new("a", &server, 1);
        let m = device.open().await;
        let at = |ms: f64| format!("{:013}-0003-z", m.now_ms() as u64 + ms as u64);
        let (soon, later) = (at(20_000.0), at(40_000.0));
        // Of a page the newest counts, wherever it stands.
        server.borrow_mut().put("sites", site("x", 1), &later);
        server.borrow_mut().put("sites", site("y", 1), &soon);
        synced(&m).await;
        m.signal(Event::Offline);
        update(&m, "sites", "x", json!({ "n": 2 })).await.unwrap();
        assert!(reading(&m) > later, "{} {later}", reading(&m));
        assert!(reading(&m) < at(59_000.0), "no later than it must");
    });
}

/// Nothing is written while it is wrong, and by the next write it says no less than it did then.
#[test]
fn a_clock_that_was_set_back_is_noticed_without_a_write() {
    run(async {
        let server = Rc::new(RefCell::new(Server::default()));
        server.borrow_mut().clock = Some(Instant::now());
        let device = Device::new("a", &server, 1);
        device.skew_ms.set(DAY_MS);
        let m = device.open().await;
        synced(&m).await;
        m.signal(Event::Offline);
        device.skew_ms.set(0.0);
        m.signal(Event::Visible);
        pass(DAY_MS as u64 + 1_000).await;
        create(&m, "sites", site("x", 1)).await.unwrap();
        let now = format!("{:013}", m.now_ms() as u64);
        assert!(reading(&m) >= now, "{} at {now}", reading(&m));
    });
}

#[test]
fn a_clock_that_was_set_back_prolongs_no_pause_of_a_mutation() {
    run(async {
        let server = Rc::new(RefCell::new(Server::default()));
        server.borrow_mut().poison.insert("x".into(), true);
        let device = Device::new("a", &server, 1);
        device.skew_ms.set(DAY_MS);
        let m = device.open().await;
        create(&m, "sites", site("x", 1)).await.unwrap();
        let attempts = || m.outbox(&Default::default())[0].mutation.attempts;
        until(&m, "refused once", |_| attempts() == 1).await;
        server.borrow_mut().poison.clear();
        device.skew_ms.set(0.0);
        pass(60_000).await;
        assert_eq!(server.borrow().dump("sites").len(), 1);
    });
}

#[test]
fn commits_of_one_millisecond_have_readings_of_their_own() {
    run(async {
        let server = Rc::new(RefCell::new(Server::default()));
        let device = Device::new("a", &server, 1);
        let m = device.open_idle().await;
        for key in ["x", "y", "z"] {
            create(&m, "sites", site(key, 1)).await.unwrap();
        }
        let again = device.open_idle().await;
        create(&again, "sites", site("later", 1)).await.unwrap();
        let queued = again.outbox(&Default::default());
        let readings: Vec<String> = queued.iter().map(|e| e.mutation.at_text("")).collect();
        assert!(readings.windows(2).all(|w| w[0] < w[1]), "{readings:?}");
    });
}

#[test]
fn a_compaction_of_nothing_keeps_the_clock() {
    run(async {
        let server = Rc::new(RefCell::new(Server::default()));
        let device = Device::new("a", &server, 1);
        let m = device.open_idle().await;
        m.signal(Event::Offline);
        m.signal(Event::Leader(true));
        create(&m, "sites", site("x", 1)).await.unwrap();
        let before = reading(&m);
        delete(&m, "sites", "x").await.unwrap();
        assert!(m.fold().await.unwrap());
        m.signal(Event::Close);
        device.skew_ms.set(-DAY_MS);
        let m = device.open_idle().await;
        create(&m, "sites", site("y", 1)).await.unwrap();
        assert!(reading(&m) > before, "{} after {before}", reading(&m));
    });
}

/// A server's time in seconds or microseconds would date what is written next so that it loses, or wins, for ever.
#[test]
fn a_servers_time_in_another_unit_is_ignored() {
    run(async {
        for factor in [0.001, 1_000.0, 1_000_000.0] {
            let server = Rc::new(RefCell::new(Server::default()));
            server.borrow_mut().clock = Some(Instant::now());
            server.borrow_mut().unit = Some(factor);
            let device = Device::new("a", &server, 1);
            let m = device.open().await;
            synced(&m).await;
            let now = format!("{:013}", m.now_ms() as u64);
            m.signal(Event::Offline);
            put(&m, "sites", site("x", 1)).await.unwrap();
            assert_eq!(&reading(&m)[..9], &now[..9], "{factor}");
        }
    });
}
