//! What the time is: the hybrid clock of commits, corrected by what the server says.
//!
//! A device whose clock is wrong dates what it writes before it has heard of the server by that clock, and
//! so does a tab that never talks to the server. Such a date would win conflicts for as long as the
//! device lives in the future. So the clock comes back once the time is known, and what was dated in the
//! future is dated anew before it leaves: by as much as the device's clock is wrong now. The first push of
//! a session may still leave with a wrong date; in a conflict it is put right where it is our own, and a
//! change of somebody else's that is of a time that has not come yet counts as the earlier one.

use super::Replica;
use super::plan::{Now, Plan};
use crate::hlc::Hlc;
use crate::model::{Mutation, MutationNo};
use crate::store::Fact;
use crate::value::Value;

impl<V: Value> Replica<V> {
    /// The server's clock minus ours is this, from now (`at_ms` by our clock) on.
    pub fn set_offset(&mut self, offset_ms: f64, at_ms: f64) {
        self.offset_ms = Some(offset_ms);
        self.seen_ms = at_ms;
    }

    /// The device's clock says this. Where it was set back, what was known of its error is not true any
    /// more, until the server tells anew. Whoever looks at it says so, whether something is written or
    /// not: by the next commit it may be where it was before.
    pub fn look_at_clock(&mut self, at_ms: f64) {
        if at_ms < self.seen_ms {
            self.offset_ms = None;
        }
        self.seen_ms = at_ms;
    }

    /// The reading for the next commit.
    #[must_use]
    pub fn next_hlc(&mut self, at_ms: f64) -> Hlc {
        self.look_at_clock(at_ms);
        match self.offset_ms {
            Some(offset_ms) => self.hlc.tick_known(at_ms + offset_ms),
            None => self.hlc.tick(at_ms),
        }
    }

    fn known_ms(&self, now: Now) -> Option<f64> {
        Some(now.at_ms + self.offset_ms?)
    }

    /// A reading of our own, put right if it is of a time that has not come yet.
    pub(super) fn dated(&self, at: Hlc, now: Now) -> Hlc {
        let ahead = |ms: &f64| at.is_ahead(*ms);
        match (self.known_ms(now).filter(ahead), self.offset_ms) {
            (Some(now_ms), Some(offset_ms)) => Hlc {
                ms: (at.ms + offset_ms).clamp(0.0, now_ms).floor(),
                ..at
            },
            _ => at,
        }
    }

    /// When a mutation was made, for the comparison with a remote change.
    pub(super) fn local_at(&self, m: &Mutation<V>, now: Now) -> String {
        self.dated(m.at, now).to_text(m.author(&self.client))
    }

    /// Whether a remote change says that it is of a time that has not come yet.
    pub(super) fn is_misdated(&self, at: &str, now: Now) -> bool {
        let known_ms = self.known_ms(now);
        let reading = Hlc::parse(at).map(|(at, _)| at);
        reading
            .zip(known_ms)
            .is_some_and(|(at, ms)| at.is_ahead(ms))
    }

    /// What is only queued again was made when it was made: dated anew, it would win against what others have
    /// changed since.
    pub(super) fn keep_date(&mut self, no: MutationNo, at: Hlc, now: Now, plan: &mut Plan<V>) {
        if let Some(mut held) = self.held(no) {
            held.mutation.at = at;
            self.put_true(Fact::Held(Box::new(held)), now, plan);
        }
    }

    /// Dates what is about to be sent anew, where its date has not come yet.
    #[inline(never)]
    pub(super) fn plan_dates(&mut self, nos: &[MutationNo], now: Now, plan: &mut Plan<V>) {
        for no in nos {
            let Some(at) = self.outbox.get(*no).map(|m| m.at) else {
                continue;
            };
            let right = self.dated(at, now);
            let held = self.held(*no).filter(|_| right != at);
            // What is not in memory cannot be written down again; a conflict puts the date right.
            let mut there = true;
            if let Some(held) = &held {
                held.each_value(&mut |v| there &= v.is_resident());
            }
            if let Some(mut held) = held.filter(|_| there) {
                held.mutation.at = right;
                self.put_true(Fact::Held(Box::new(held)), now, plan);
            }
        }
    }
}
