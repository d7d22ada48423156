//! Rows of the engine's table, one schedule each.

use super::{Config, Effect, Engine, Event, Failure, Lane, Network, Phase, View};
use crate::error::{Code, Error};
use crate::limits;

const NOTHING: View = View {
    ready: false,
    due_ms: None,
};
const READY: View = View {
    ready: true,
    due_ms: None,
};

fn engine() -> Engine {
    let config = Config {
        interval_ms: 30_000.0,
        has_backend: true,
        auto_start: true,
    };
    Engine::new(config, true)
}

/// Takes an event in at a time; requests started, and the timer.
fn at(
    engine: &mut Engine,
    now_ms: f64,
    view: View,
    event: Event,
) -> (Vec<&'static str>, Option<f64>) {
    let mut requests = Vec::new();
    let mut wake = None;
    for effect in engine.handle(now_ms, 1.0, view, event) {
        match effect {
            Effect::Push { refresh: true, .. } => requests.push("push with fresh credentials"),
            Effect::Push { .. } => requests.push("push"),
            Effect::Pull { refresh: true, .. } => requests.push("pull with fresh credentials"),
            Effect::Pull {
                continues: false, ..
            } => requests.push("pull"),
            Effect::Pull {
                continues: true, ..
            } => requests.push("next page"),
            Effect::ForgetCheckpoint => requests.push("forget"),
            Effect::CancelRequests => requests.push("cancel"),
            Effect::WakeAt(at) => wake = at,
        }
    }
    (requests, wake)
}

fn failed(lane: Lane, failure: Failure, size: usize) -> Event {
    Event::Failed {
        lane,
        failure,
        size,
        refreshed: false,
    }
}

fn cut() -> Failure {
    Failure::NoAnswer(Error::new(Code::Network, "cut"))
}

/// A leader whose first cycle is over at 1,000 ms.
fn rested() -> Engine {
    let mut e = engine();
    assert_eq!(
        at(&mut e, 1_000.0, NOTHING, Event::Leader(true)).0,
        ["pull"]
    );
    at(&mut e, 1_000.0, NOTHING, Event::Pulled { has_more: false });
    assert_eq!(
        at(&mut e, 1_000.0, NOTHING, Event::Stored).1,
        Some(31_000.0)
    );
    assert_eq!(e.phase(), Phase::Idle);
    e
}

#[test]
fn only_a_leader_with_a_backend_that_is_not_paused_does_anything() {
    let mut follower = engine();
    assert_eq!(at(&mut follower, 1.0, READY, Event::Sync), (vec![], None));
    let config = Config {
        interval_ms: 0.0,
        has_backend: false,
        auto_start: true,
    };
    let mut alone = Engine::new(config, true);
    assert_eq!(
        at(&mut alone, 1.0, READY, Event::Leader(true)),
        (vec![], None)
    );
    let config = Config {
        interval_ms: 0.0,
        has_backend: true,
        auto_start: false,
    };
    let mut paused = Engine::new(config, true);
    assert_eq!(
        at(&mut paused, 1.0, READY, Event::Leader(true)),
        (vec![], None)
    );
    assert_eq!(paused.phase(), Phase::Paused);
    assert_eq!(at(&mut paused, 2.0, NOTHING, Event::Resume).0, ["pull"]);
}

#[test]
fn pushes_come_before_the_pull_and_pages_follow_each_other() {
    let mut e = engine();
    assert_eq!(at(&mut e, 0.0, READY, Event::Leader(true)).0, ["push"]);
    assert_eq!(at(&mut e, 0.0, NOTHING, Event::Tick).0, [""; 0]);
    assert_eq!(
        at(&mut e, 5.0, NOTHING, Event::Pushed).0,
        [""; 0],
        "verdicts are being stored"
    );
    assert_eq!(at(&mut e, 6.0, NOTHING, Event::Stored).0, ["pull"]);
    assert_eq!(
        at(&mut e, 7.0, NOTHING, Event::Pulled { has_more: true }).0,
        ["next page"]
    );
    assert_eq!(
        at(&mut e, 8.0, NOTHING, Event::Pulled { has_more: true }).0,
        [""; 0],
        "not further ahead than one page"
    );
    assert_eq!(at(&mut e, 9.0, NOTHING, Event::Stored).0, ["next page"]);
    at(&mut e, 9.0, NOTHING, Event::Pulled { has_more: false });
    at(&mut e, 9.0, NOTHING, Event::Stored);
    at(&mut e, 9.0, NOTHING, Event::Stored);
    assert_eq!(
        (e.phase(), e.synced_ms(), e.synced_through_ms()),
        (Phase::Idle, Some(9.0), Some(0.0))
    );
}

#[test]
fn so_many_pushes_are_in_flight_and_no_more() {
    let mut e = engine();
    let mut pushes = at(&mut e, 0.0, READY, Event::Leader(true)).0.len();
    for _ in 0..20 {
        pushes += at(&mut e, 0.0, READY, Event::Tick).0.len();
    }
    assert_eq!(pushes, limits::PUSHES_IN_FLIGHT_MAX);
}

#[test]
fn triggers_during_a_cycle_cause_one_more() {
    let mut e = engine();
    at(&mut e, 0.0, NOTHING, Event::Leader(true));
    for event in [Event::Sync, Event::Visible, Event::Online, Event::Sync] {
        assert_eq!(at(&mut e, 1.0, NOTHING, event).0, [""; 0]);
    }
    at(&mut e, 2.0, NOTHING, Event::Pulled { has_more: false });
    assert_eq!(
        at(&mut e, 3.0, NOTHING, Event::Stored).0,
        ["pull"],
        "one more"
    );
    at(&mut e, 4.0, NOTHING, Event::Pulled { has_more: false });
    assert_eq!(
        at(&mut e, 5.0, NOTHING, Event::Stored),
        (vec![], Some(30_005.0)),
        "and no other"
    );
}

#[test]
fn writes_wait_for_a_quiet_moment_and_pokes_keep_their_distance() {
    let mut e = rested();
    assert_eq!(
        at(&mut e, 2_000.0, READY, Event::Wrote).1,
        Some(2_000.0 + limits::QUIET_MS)
    );
    assert_eq!(at(&mut e, 2_050.0, READY, Event::Tick).0, ["push"]);
    let mut e = rested();
    assert_eq!(
        at(&mut e, 1_100.0, NOTHING, Event::Poke),
        (vec![], Some(1_500.0))
    );
    assert_eq!(at(&mut e, 1_500.0, NOTHING, Event::Tick).0, ["pull"]);
}

#[test]
fn requests_that_fail_together_are_one_failure() {
    let mut e = engine();
    at(&mut e, 0.0, READY, Event::Leader(true));
    at(&mut e, 0.0, READY, Event::Tick);
    at(&mut e, 0.0, READY, Event::Tick);
    for _ in 0..2 {
        let (requests, wake) = at(&mut e, 10.0, READY, failed(Lane::Push, cut(), 9));
        assert_eq!(
            (requests, wake),
            (vec![], None),
            "the cycle waits for the others, not for time"
        );
    }
    let (_, wake) = at(&mut e, 11.0, READY, failed(Lane::Push, cut(), 9));
    assert_eq!(
        wake,
        Some(1_010.0),
        "the first pause, with all of the jitter"
    );
    assert_eq!(
        (e.phase(), e.network()),
        (Phase::Offline, Network::Unreachable)
    );
    assert_eq!(
        at(&mut e, 500.0, READY, Event::Wrote).0,
        [""; 0],
        "a write does not break it"
    );
    assert_eq!(
        at(&mut e, 600.0, READY, Event::Online).0,
        ["push"],
        "the network does"
    );
}

#[test]
fn credentials_are_asked_for_once_also_when_many_requests_come_back() {
    let mut e = engine();
    at(&mut e, 0.0, READY, Event::Leader(true));
    at(&mut e, 0.0, READY, Event::Tick);
    let (first, _) = at(&mut e, 1.0, READY, failed(Lane::Push, Failure::Auth, 9));
    assert_eq!(first, [""; 0], "another request is still under way");
    let (second, _) = at(&mut e, 2.0, READY, failed(Lane::Push, Failure::Auth, 9));
    assert_eq!(second, ["push with fresh credentials"]);
    assert_eq!(
        at(&mut e, 2.0, READY, Event::Tick).0,
        [""; 0],
        "nothing beside it"
    );
    let refused = Event::Failed {
        lane: Lane::Push,
        failure: Failure::Auth,
        size: 9,
        refreshed: true,
    };
    at(&mut e, 3.0, READY, refused);
    assert_eq!(e.phase(), Phase::NeedsAuth);
    assert_eq!(at(&mut e, 1e9, READY, Event::Tick), (vec![], None));
    assert_eq!(
        at(&mut e, 1e9, READY, Event::Resume).0,
        ["push with fresh credentials"]
    );
}

#[test]
fn who_signs_in_while_old_credentials_are_on_their_way_need_not_ask_again() {
    let refused = || Event::Failed {
        lane: Lane::Push,
        failure: Failure::Auth,
        size: 9,
        refreshed: true,
    };
    let mut e = engine();
    at(&mut e, 0.0, READY, Event::Leader(true));
    let (asking, _) = at(&mut e, 1.0, READY, failed(Lane::Push, Failure::Auth, 9));
    assert_eq!(asking, ["push with fresh credentials"]);
    assert_eq!(at(&mut e, 2.0, READY, Event::Sync).0, [""; 0]);
    let (asking, _) = at(&mut e, 3.0, READY, refused());
    assert_eq!(asking, ["push with fresh credentials"]);
    assert_ne!(e.phase(), Phase::NeedsAuth);
    at(&mut e, 4.0, READY, refused());
    assert_eq!(e.phase(), Phase::NeedsAuth, "once");
}

#[test]
fn credentials_are_asked_for_again_when_the_asking_was_given_up() {
    let mut e = engine();
    at(&mut e, 0.0, READY, Event::Leader(true));
    let (asking, _) = at(&mut e, 1.0, READY, failed(Lane::Push, Failure::Auth, 1));
    assert_eq!(asking, ["push with fresh credentials"]);
    assert_eq!(at(&mut e, 2.0, READY, Event::Pause).0, ["cancel"]);
    let given_up = Event::Failed {
        lane: Lane::Push,
        failure: Failure::Cancelled,
        size: 1,
        refreshed: true,
    };
    at(&mut e, 2.0, READY, given_up);
    assert_eq!(
        at(&mut e, 3.0, READY, Event::Resume).0,
        ["push with fresh credentials"]
    );
}

#[test]
fn a_forgotten_checkpoint_is_pulled_from_the_beginning() {
    let mut e = engine();
    at(&mut e, 0.0, NOTHING, Event::Leader(true));
    let (requests, _) = at(
        &mut e,
        1.0,
        NOTHING,
        failed(Lane::Pull, Failure::CheckpointUnknown, 0),
    );
    assert_eq!(requests, ["forget"]);
    assert_eq!(at(&mut e, 2.0, NOTHING, Event::Stored).0, ["pull"]);
}

#[test]
fn losing_the_lead_pausing_and_closing_give_requests_up() {
    for event in [
        Event::Leader(false),
        Event::Pause,
        Event::Offline,
        Event::Close,
    ] {
        let mut e = engine();
        at(&mut e, 0.0, READY, Event::Leader(true));
        assert_eq!(at(&mut e, 1.0, READY, event).0, ["cancel"]);
        let back = failed(Lane::Push, Failure::Cancelled, 9);
        assert_eq!(at(&mut e, 2.0, READY, back), (vec![], None));
    }
}

#[test]
fn what_is_due_but_cannot_go_does_not_spin() {
    let mut e = rested();
    let waiting = View {
        ready: false,
        due_ms: Some(500.0),
    };
    let (requests, wake) = at(&mut e, 2_000.0, waiting, Event::Tick);
    assert_eq!(
        (requests, wake),
        (vec![], Some(31_000.0)),
        "the interval, not now and now and now"
    );
}

#[test]
fn a_full_disk_is_no_fault_of_the_network_and_a_write_that_fits_ends_the_wait() {
    let mut e = rested();
    let full = || Error::new(Code::QuotaExceeded, "full");
    let mut now_ms = 2_000.0;
    for _ in 0..4 {
        assert_eq!(at(&mut e, now_ms, READY, Event::Sync).0, ["push"]);
        let store = failed(Lane::Push, Failure::Store(full()), 1);
        assert!(at(&mut e, now_ms, READY, store).0.is_empty());
        assert_eq!((e.network(), e.phase()), (Network::Online, Phase::Error));
        now_ms += 1.0;
    }
    assert_eq!(e.error(), Some(&full()));
    let (requests, wake) = at(&mut e, now_ms, READY, Event::Wrote);
    assert!(requests.is_empty());
    assert_eq!(wake, Some(now_ms + limits::QUIET_MS));
    let due_ms = now_ms + limits::QUIET_MS;
    assert_eq!(at(&mut e, due_ms, READY, Event::Tick).0, ["push"]);
    at(&mut e, due_ms, NOTHING, Event::Pushed);
    assert_eq!(e.error(), None);
}

#[test]
fn what_is_closed_does_not_lead() {
    let mut e = rested();
    assert!(e.leader());
    at(&mut e, 2_000.0, NOTHING, Event::Close);
    assert!(!e.leader());
    assert_eq!(e.phase(), Phase::Closed);
}

#[test]
fn the_phase_says_what_a_cycle_has_come_to() {
    let mut e = engine();
    at(&mut e, 0.0, READY, Event::Leader(true));
    at(&mut e, 0.0, READY, Event::Tick);
    assert_eq!(e.phase(), Phase::Syncing);
    let broken = || {
        failed(
            Lane::Push,
            Failure::Server(Error::new(Code::ServerError, "broken")),
            1,
        )
    };
    at(&mut e, 1.0, READY, broken());
    assert_eq!(
        e.phase(),
        Phase::Error,
        "though another request is under way"
    );
    at(&mut e, 2.0, READY, broken());
    assert_eq!(e.phase(), Phase::Error);
    at(&mut e, 60_000.0, READY, Event::Tick);
    assert_eq!(e.phase(), Phase::Syncing);
}

#[test]
fn a_push_that_does_not_know_the_checkpoint_is_only_put_off() {
    let mut e = engine();
    at(&mut e, 0.0, READY, Event::Leader(true));
    let odd = failed(Lane::Push, Failure::CheckpointUnknown, 1);
    let (requests, wake) = at(&mut e, 1.0, READY, odd);
    assert!(
        requests.is_empty() && wake > Some(1.0),
        "{requests:?} {wake:?}"
    );
    assert_eq!(e.phase(), Phase::Error);
}

#[test]
fn a_write_during_a_cycle_goes_with_it_and_causes_no_other() {
    let mut e = engine();
    at(&mut e, 0.0, NOTHING, Event::Leader(true));
    assert_eq!(at(&mut e, 1.0, NOTHING, Event::Wrote).0, [""; 0]);
    at(&mut e, 200.0, NOTHING, Event::Pulled { has_more: false });
    let (requests, wake) = at(&mut e, 300.0, NOTHING, Event::Stored);
    assert_eq!((requests, wake), (vec![], Some(30_300.0)));
}

#[test]
fn batches_shrink_around_a_culprit_and_double_again() {
    let largest = |effects: Vec<Effect>| {
        effects.into_iter().find_map(|effect| match effect {
            Effect::Push { max, .. } => Some(max),
            _ => None,
        })
    };
    let mut e = engine();
    let first = e.handle(0.0, 1.0, READY, Event::Leader(true));
    assert_eq!(largest(first), Some(limits::BATCH_CHANGES_MAX));
    let refused = Failure::from_status(400, None, "", "");
    let refused = failed(Lane::Push, refused, 9);
    assert_eq!(largest(e.handle(1.0, 1.0, READY, refused)), Some(4));
    for max in [8, 16] {
        assert_eq!(largest(e.handle(2.0, 1.0, READY, Event::Pushed)), Some(max));
        let beside = e.handle(3.0, 1.0, READY, Event::Stored);
        assert_eq!(largest(beside), None, "one at a time");
    }
    at(&mut e, 4.0, NOTHING, Event::Pushed);
    assert_eq!(at(&mut e, 5.0, NOTHING, Event::Stored).0, ["pull"]);
    assert_eq!(
        at(&mut e, 6.0, READY, Event::Tick).0,
        [""; 0],
        "nor beside a pull"
    );
}

#[test]
fn what_could_not_be_stored_is_asked_for_again_after_a_pause() {
    let mut e = engine();
    at(&mut e, 0.0, READY, Event::Leader(true));
    at(&mut e, 1.0, NOTHING, Event::Pushed);
    let full = Error::new(Code::QuotaExceeded, "full");
    let (requests, wake) = at(&mut e, 2.0, READY, Event::NotStored(full));
    assert_eq!((requests, wake), (vec![], Some(1_002.0)));
    assert_eq!(at(&mut e, 1_002.0, READY, Event::Tick).0, ["push"]);
}

#[test]
fn pauses_are_as_long_as_asked_for_or_double() {
    let mut e = engine();
    at(&mut e, 0.0, READY, Event::Leader(true));
    let asked = failed(Lane::Push, Failure::Throttled(Some(5_000.0)), 9);
    assert_eq!(at(&mut e, 10.0, READY, asked).1, Some(5_010.0));
    let mut now_ms = 5_010.0;
    for pause_ms in [1_000.0, 2_000.0, 4_000.0] {
        assert_eq!(at(&mut e, now_ms, READY, Event::Tick).0, ["push"]);
        let (_, wake) = at(&mut e, now_ms, READY, failed(Lane::Push, cut(), 9));
        assert_eq!(wake, Some(now_ms + pause_ms));
        let hint = at(&mut e, now_ms + pause_ms - 1.0, READY, Event::Poke);
        assert_eq!(hint.0, [""; 0], "a hint does not break it");
        now_ms += pause_ms;
    }
}

#[test]
fn whoever_is_refused_alone_is_put_off() {
    let mut e = engine();
    at(&mut e, 0.0, READY, Event::Leader(true));
    let refused = Failure::from_status(400, None, "", "");
    let (requests, wake) = at(&mut e, 1.0, READY, failed(Lane::Push, refused, 1));
    assert_eq!((requests, wake), (vec![], Some(1_001.0)));
}

#[test]
fn credentials_that_work_are_not_asked_for_again() {
    let mut e = engine();
    at(&mut e, 0.0, READY, Event::Leader(true));
    let (asking, _) = at(&mut e, 1.0, READY, failed(Lane::Push, Failure::Auth, 1));
    assert_eq!(asking, ["push with fresh credentials"]);
    assert_eq!(at(&mut e, 2.0, READY, Event::Pushed).0, ["push"]);
}

#[test]
fn what_was_put_off_goes_when_it_is_due() {
    let put_off = View {
        ready: true,
        due_ms: Some(2_500.0),
    };
    let mut e = rested();
    assert_eq!(
        at(&mut e, 2_000.0, put_off, Event::Tick),
        (vec![], Some(2_500.0))
    );
    assert_eq!(at(&mut e, 2_500.0, put_off, Event::Tick).0, ["push"]);
}

#[test]
fn without_an_interval_nothing_is_pulled_unasked() {
    let config = Config {
        interval_ms: 0.0,
        has_backend: true,
        auto_start: true,
    };
    let mut e = Engine::new(config, true);
    at(&mut e, 0.0, NOTHING, Event::Leader(true));
    at(&mut e, 1.0, NOTHING, Event::Pulled { has_more: false });
    assert_eq!(at(&mut e, 2.0, NOTHING, Event::Stored), (vec![], None));
}

#[test]
fn a_clock_that_is_set_back_prolongs_no_wait() {
    let mut e = rested();
    let earlier = at(&mut e, 400.0, NOTHING, Event::Tick);
    assert_eq!(earlier, (vec![], Some(30_400.0)), "30 s after its pull");
    assert_eq!(at(&mut e, 30_400.0, NOTHING, Event::Tick).0, ["pull"]);
    let asked = failed(Lane::Pull, Failure::Throttled(Some(5_000.0)), 0);
    assert_eq!(at(&mut e, 31_000.0, NOTHING, asked).1, Some(36_000.0));
    let earlier = at(&mut e, 10_000.0, NOTHING, Event::Sync);
    assert_eq!(earlier, (vec![], Some(15_000.0)), "the server's pause");
    assert_eq!(at(&mut e, 15_000.0, NOTHING, Event::Tick).0, ["pull"]);
    at(&mut e, 15_000.0, NOTHING, Event::Pulled { has_more: false });
    at(&mut e, 15_000.0, NOTHING, Event::Stored);
    // A poke waits for the pull before it, and for no longer.
    let poked = at(&mut e, 9_000.0, NOTHING, Event::Poke).1;
    assert_eq!(poked, Some(9_000.0 + limits::POKE_GAP_MS));
}

#[test]
fn a_pause_of_no_length_is_none() {
    let mut e = engine();
    at(&mut e, 0.0, READY, Event::Leader(true));
    let mut now_ms = 0.0;
    for pause_ms in [1_000.0, 2_000.0, 4_000.0] {
        let asked = failed(Lane::Push, Failure::Throttled(Some(0.0)), 9);
        assert_eq!(at(&mut e, now_ms, READY, asked).1, Some(now_ms + pause_ms));
        now_ms += pause_ms;
        assert_eq!(at(&mut e, now_ms, READY, Event::Tick).0, ["push"]);
    }
}

#[test]
fn a_backend_that_knows_no_checkpoint_at_all_is_left_alone_for_a_while() {
    let mut e = engine();
    at(&mut e, 0.0, NOTHING, Event::Leader(true));
    let unknown = || failed(Lane::Pull, Failure::CheckpointUnknown, 0);
    assert_eq!(at(&mut e, 1.0, NOTHING, unknown()).0, ["forget"]);
    assert_eq!(at(&mut e, 2.0, NOTHING, Event::Stored).0, ["pull"]);
    assert_eq!(at(&mut e, 3.0, NOTHING, unknown()), (vec![], Some(1_003.0)));
    assert_eq!(at(&mut e, 1_003.0, NOTHING, Event::Tick).0, ["pull"]);
    assert_eq!(at(&mut e, 1_004.0, NOTHING, unknown()).0, ["forget"]);
}
