//! The transitions of the engine.

use super::{Auth, Cycle, Effect, Engine, Event, Failure, Lane, View};
use crate::backoff;
use crate::error::{Code, Error};
use crate::limits;
use crate::planted::{self, Bug};

impl Engine {
    /// Takes an event in; answers what is to be done, in order. `random` is in `[0, 1)`.
    #[must_use]
    pub fn handle(&mut self, now_ms: f64, random: f64, view: View, event: Event) -> Vec<Effect> {
        let mut effects = Vec::new();
        if self.closed {
            return effects;
        }
        self.look_at_clock(now_ms);
        self.take_in(now_ms, random, event, &mut effects);
        self.step(now_ms, view, &mut effects);
        effects.push(Effect::WakeAt(self.wake_at(now_ms, view)));
        effects
    }

    /// Where the device's clock was set back, what is waited for is no further away than before.
    fn look_at_clock(&mut self, now_ms: f64) {
        let back_ms = self.seen_ms - now_ms;
        self.seen_ms = now_ms;
        if back_ms > 0.0 {
            for at in [&mut self.blocked_until_ms, &mut self.due_ms] {
                *at = at.map(|at| at - back_ms);
            }
            self.last_pull_ms -= back_ms;
        }
    }

    fn take_in(&mut self, now_ms: f64, random: f64, event: Event, effects: &mut Vec<Effect>) {
        match event {
            Event::Tick => {}
            Event::Resume => {
                self.paused = false;
                self.start_afresh(now_ms);
            }
            Event::Sync | Event::Visible => self.start_afresh(now_ms),
            Event::Online => {
                self.online = true;
                self.start_afresh(now_ms);
            }
            Event::Wrote => {
                if self.store_failed {
                    // It has room again, so what waits for that need not wait any longer.
                    self.store_failed = false;
                    self.failures = 0;
                    self.blocked_until_ms = None;
                }
                let running = self.cycle.as_ref().is_some_and(|c| !c.failed);
                if !running {
                    self.wish(now_ms + limits::QUIET_MS);
                }
            }
            Event::Poke => self.wish(now_ms.max(self.last_pull_ms + limits::POKE_GAP_MS)),
            Event::Pause => {
                self.paused = true;
                self.give_up(effects);
            }
            Event::Offline => {
                self.online = false;
                self.give_up(effects);
            }
            Event::Leader(leader) => {
                self.leader = leader || planted::is(Bug::DoubleLeader);
                if self.leader {
                    self.wish(now_ms);
                } else {
                    self.give_up(effects);
                }
            }
            Event::Close => {
                self.closed = true;
                self.leader = false;
                self.give_up(effects);
            }
            Event::Pushed => {
                self.went_well();
                self.batch_max = (self.batch_max * 2).min(limits::BATCH_CHANGES_MAX);
                if let Some(cycle) = &mut self.cycle {
                    cycle.pushes -= 1;
                    cycle.storing += 1;
                    // What others made of it, and what the server added, comes with a pull.
                    cycle.want_pull = true;
                    cycle.pushed_since = true;
                }
            }
            Event::Pulled { has_more } => {
                self.went_well();
                self.last_pull_ms = now_ms;
                if let Some(cycle) = &mut self.cycle {
                    cycle.pulling = false;
                    cycle.storing += 1;
                    cycle.continues = has_more;
                    cycle.want_pull = has_more || cycle.pushed_since;
                }
            }
            Event::Stored => {
                if let Some(cycle) = &mut self.cycle {
                    cycle.storing -= 1;
                }
            }
            Event::NotStored(error) => {
                if let Some(cycle) = &mut self.cycle {
                    cycle.storing -= 1;
                }
                self.put_off(now_ms, random, error);
                self.store_failed = true;
            }
            Event::Failed {
                lane,
                failure,
                size,
                refreshed,
            } => {
                if let Some(cycle) = &mut self.cycle {
                    match lane {
                        Lane::Push => cycle.pushes -= 1,
                        Lane::Pull => cycle.pulling = false,
                    }
                }
                self.take_failure(now_ms, random, &failure, size, refreshed, effects);
            }
        }
    }

    fn take_failure(
        &mut self,
        now_ms: f64,
        random: f64,
        failure: &Failure,
        size: usize,
        refreshed: bool,
        effects: &mut Vec<Effect>,
    ) {
        if refreshed && self.auth == Auth::Refreshing {
            // Whatever has become of it, nobody knows of fresh credentials yet: the next one asks.
            self.auth = Auth::Refresh;
        }
        let again = refreshed && std::mem::take(&mut self.asked_again);
        let Some(error) = failure.to_error() else {
            if let Some(cycle) = &mut self.cycle {
                cycle.failed = true;
            }
            return;
        };
        match failure {
            Failure::NoAnswer(_) => {
                self.unreachable = true;
                self.put_off(now_ms, random, error);
            }
            Failure::Store(_) => {
                self.put_off(now_ms, random, error);
                self.store_failed = true;
            }
            Failure::Server(_) | Failure::Protocol(_) => {
                self.unreachable = false;
                self.put_off(now_ms, random, error);
            }
            Failure::Throttled(wait_ms) => {
                // None at all (a date that has passed by our clock, say) is no pause.
                let wait_ms = wait_ms.filter(|wait_ms| *wait_ms > 0.0);
                let wait_ms = wait_ms.map(|w| w.min(limits::RETRY_AFTER_MAX_MS));
                self.unreachable = false;
                self.put_off(now_ms, random, error);
                if let Some(wait_ms) = wait_ms {
                    self.failures = 0;
                    self.blocked_until_ms = Some(now_ms + wait_ms);
                    self.due_ms = self.blocked_until_ms;
                }
            }
            Failure::Auth if refreshed && !again => {
                self.auth = Auth::Needed;
                self.error = Some(error);
                self.give_up(effects);
            }
            Failure::Auth => {
                // Several requests may come back with it at once; one of them asks anew.
                if self.auth == Auth::Fine {
                    self.auth = Auth::Refresh;
                }
            }
            Failure::Refused { .. } if size > 1 => self.batch_max = (size / 2).max(1),
            Failure::Refused { .. } => self.put_off(now_ms, random, error),
            Failure::CheckpointUnknown => match &mut self.cycle {
                // Of the one that a pull from the beginning has just told it could go on for ever.
                Some(cycle) if size == 0 && !cycle.forgot => {
                    cycle.forgot = true;
                    cycle.storing += 1;
                    cycle.continues = false;
                    cycle.want_pull = true;
                    effects.push(Effect::ForgetCheckpoint);
                }
                _ => self.put_off(now_ms, random, error),
            },
            Failure::Cancelled => {}
        }
    }

    fn went_well(&mut self) {
        self.failures = 0;
        self.unreachable = false;
        self.blocked_until_ms = None;
        self.error = None;
        if self.auth == Auth::Refreshing {
            self.auth = Auth::Fine;
            self.asked_again = false;
        }
    }

    fn put_off(&mut self, now_ms: f64, random: f64, error: Error) {
        // Requests that were sent together fail together: that is one failure.
        let counted = self.cycle.as_ref().is_some_and(|c| !c.failed);
        if counted {
            self.failures += 1;
            let until_ms = now_ms + backoff::pause_ms(self.failures, random);
            self.blocked_until_ms = Some(until_ms);
            self.due_ms = Some(until_ms);
        }
        if let Some(cycle) = &mut self.cycle {
            cycle.failed = true;
        }
        self.error = Some(error);
    }

    fn give_up(&mut self, effects: &mut Vec<Effect>) {
        if let Some(cycle) = &mut self.cycle {
            cycle.failed = true;
            effects.push(Effect::CancelRequests);
        }
    }

    fn start_afresh(&mut self, now_ms: f64) {
        self.asked_again = self.auth == Auth::Refreshing;
        if self.auth == Auth::Needed {
            self.auth = Auth::Refresh;
        }
        let throttled = self
            .error
            .as_ref()
            .is_some_and(|e| e.code == Code::Throttled);
        if !throttled {
            self.failures = 0;
            self.blocked_until_ms = None;
        }
        self.wish(now_ms);
    }

    fn wish(&mut self, at_ms: f64) {
        self.due_ms = Some(self.due_ms.map_or(at_ms, |due| due.min(at_ms)));
    }

    fn step(&mut self, now_ms: f64, view: View, effects: &mut Vec<Effect>) {
        if let Some(cycle) = &self.cycle
            && cycle.failed
        {
            if cycle.pushes == 0 && cycle.storing == 0 && !cycle.pulling {
                self.cycle = None;
            } else {
                return;
            }
        }
        if !self.can_run() || self.blocked_until_ms.is_some_and(|until| until > now_ms) {
            return;
        }
        self.blocked_until_ms = None;
        if view.ready && view.due_ms.is_some_and(|due| due <= now_ms) {
            self.wish(now_ms);
        }
        if self.cycle.is_none() && self.due_ms.is_some_and(|due| due <= now_ms) {
            self.due_ms = None;
            self.cycle = Some(Cycle {
                started_ms: now_ms,
                want_pull: true,
                pushed_since: false,
                continues: false,
                pulling: false,
                pushes: 0,
                storing: 0,
                forgot: false,
                failed: false,
            });
        }
        self.go_on(now_ms, view, effects);
    }

    fn go_on(&mut self, now_ms: f64, view: View, effects: &mut Vec<Effect>) {
        let Some(cycle) = &mut self.cycle else { return };
        // One at a time while a culprit is looked for or credentials are asked for.
        let careful = self.batch_max < limits::BATCH_CHANGES_MAX || self.auth != Auth::Fine;
        let lanes = if careful {
            1
        } else {
            limits::PUSHES_IN_FLIGHT_MAX
        };
        let asking = self.auth == Auth::Refreshing;
        if view.ready {
            let others = usize::from(careful && cycle.pulling);
            if cycle.pushes + others < lanes && !asking {
                cycle.pushes += 1;
                let refresh = self.auth == Auth::Refresh;
                if refresh {
                    self.auth = Auth::Refreshing;
                }
                effects.push(Effect::Push {
                    max: self.batch_max,
                    refresh,
                });
            }
            return;
        }
        if cycle.pushes > 0 || cycle.pulling {
            return;
        }
        if cycle.want_pull {
            // The next page is fetched while the last one is stored, but not further ahead.
            let may = if cycle.continues {
                cycle.storing < 2
            } else {
                cycle.storing == 0
            };
            if may && !asking {
                cycle.pulling = true;
                cycle.pushed_since &= cycle.continues;
                let refresh = self.auth == Auth::Refresh;
                if refresh {
                    self.auth = Auth::Refreshing;
                }
                effects.push(Effect::Pull {
                    continues: cycle.continues,
                    refresh,
                });
            }
        } else if cycle.storing == 0 {
            self.synced_ms = Some(now_ms);
            self.synced_through_ms = Some(cycle.started_ms);
            self.cycle = None;
            if self.config.interval_ms > 0.0 {
                self.wish(now_ms + self.config.interval_ms);
            }
            if self.due_ms.is_some_and(|due| due <= now_ms) {
                self.step(now_ms, view, effects);
            }
        }
    }

    fn wake_at(&self, now_ms: f64, view: View) -> Option<f64> {
        // A cycle is driven by what comes back, not by time.
        if !self.can_run() || self.cycle.is_some() {
            return None;
        }
        // What was due before and did not start waits for something else than time.
        let put_off_ms = view.due_ms.filter(|due| *due > now_ms);
        let due = match (self.due_ms, put_off_ms) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }?;
        Some(self.blocked_until_ms.map_or(due, |until| until.max(due)))
    }
}
