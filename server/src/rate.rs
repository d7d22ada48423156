//! How much one user, or one address, may ask for: the generic cell rate algorithm, the leaky bucket
//! that is counted by one time for each key.
//!
//! A key's bucket holds [`Rate::burst`] units and refills by [`Rate::per_second`]. What a request costs
//! is its caller's business (a request 1, each further change of a batch 1). A request that costs more
//! than a full bucket passes when the bucket is full: refused for ever, it would never get through.
//!
//! The number of keys is bounded. Only a hash of each is kept, so an entry takes 16 bytes whatever the
//! key; where there is no room for one more, those whose bucket is full again are dropped (they are as
//! good as new), and if that frees nothing, all newcomers share one bucket until it does. That bound,
//! and a cost by change, is why this is written out here: the crates for it (`governor`,
//! `tower_governor`) have neither, and bring 15 others.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::limits;

/// How fast a bucket refills, and what it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Units a second; positive.
    pub per_second: u32,
    /// Units at once; positive.
    pub burst: u32,
}

/// The buckets of all keys of one kind.
pub(crate) struct Limiter {
    rate: Rate,
    keys_max: usize,
    hasher: RandomState,
    start: Instant,
    buckets: Mutex<Buckets>,
}

/// When each bucket is full again, in nanoseconds since the limiter's start.
#[derive(Default)]
struct Buckets {
    full_at: HashMap<u64, u64>,
    others_full_at: u64,
    swept_at: u64,
}

impl Limiter {
    pub(crate) fn new(rate: Rate) -> Self {
        Self::bounded(rate, limits::RATE_KEYS_MAX)
    }

    fn bounded(rate: Rate, keys_max: usize) -> Self {
        Self {
            rate,
            keys_max,
            hasher: RandomState::new(),
            start: Instant::now(),
            buckets: Mutex::default(),
        }
    }

    /// Takes `cost` units from the key's bucket, or says how long until they are there.
    pub(crate) fn charge(&self, key: &impl Hash, cost: usize) -> Result<(), Duration> {
        self.charge_at(key, cost, self.start.elapsed())
    }

    /// Takes more for a request that was charged 1 when it came.
    pub(crate) fn charge_more(&self, key: &impl Hash, more: usize) -> Result<(), Duration> {
        self.charge_more_at(key, more, self.start.elapsed())
    }

    fn charge_more_at(&self, key: &impl Hash, more: usize, now: Duration) -> Result<(), Duration> {
        // With that 1 no bucket is full any more. And whoever comes back is charged it again.
        let most = self.rate.burst.max(1) as usize - 1;
        let again = Duration::from_nanos(self.unit());
        let charged = self.charge_at(key, more.min(most), now);
        charged.map_err(|wait| wait + again)
    }

    fn unit(&self) -> u64 {
        1_000_000_000 / u64::from(self.rate.per_second.max(1))
    }

    fn charge_at(&self, key: &impl Hash, cost: usize, now: Duration) -> Result<(), Duration> {
        let now = nanos(now);
        let unit = self.unit();
        let burst = u64::from(self.rate.burst.max(1));
        let room = burst.saturating_mul(unit);
        let cost = (cost as u64).min(burst).saturating_mul(unit);

        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let full_at = buckets.of(self.hasher.hash_one(key), self.keys_max, now);
        let next = (*full_at).max(now).saturating_add(cost);
        match next.saturating_sub(now.saturating_add(room)) {
            0 => {
                *full_at = next;
                Ok(())
            }
            wait => Err(Duration::from_nanos(wait)),
        }
    }
}

impl Buckets {
    fn of(&mut self, key: u64, keys_max: usize, now: u64) -> &mut u64 {
        if !self.full_at.contains_key(&key) && self.full_at.len() >= keys_max {
            // At most once a second: the sweep looks at every key.
            if now.saturating_sub(self.swept_at) >= 1_000_000_000 {
                self.swept_at = now;
                self.full_at.retain(|_, full_at| *full_at > now);
            }
            if self.full_at.len() >= keys_max {
                return &mut self.others_full_at;
            }
        }
        self.full_at.entry(key).or_insert(now)
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    fn limiter(per_second: u32, burst: u32) -> Limiter {
        Limiter::new(Rate { per_second, burst })
    }

    #[test]
    fn a_burst_passes_and_then_the_rate() {
        let limiter = limiter(10, 5);
        for _ in 0..5 {
            assert_eq!(limiter.charge_at(&"ann", 1, s(0.0)), Ok(()));
        }
        assert_eq!(limiter.charge_at(&"ann", 1, s(0.0)), Err(s(0.1)));
        assert_eq!(limiter.charge_at(&"ann", 3, s(0.0)), Err(s(0.3)));
        // Who waits as long as told gets through; what was refused has cost nothing.
        assert_eq!(limiter.charge_at(&"ann", 3, s(0.3)), Ok(()));
        assert!(limiter.charge_at(&"ann", 1, s(0.3)).is_err());
        for _ in 0..5 {
            assert_eq!(limiter.charge_at(&"ann", 1, s(60.0)), Ok(()), "full again");
        }
        assert!(
            limiter.charge_at(&"ann", 1, s(60.0)).is_err(),
            "and no fuller"
        );
    }

    #[test]
    fn keys_are_apart() {
        let limiter = limiter(1, 2);
        assert_eq!(limiter.charge_at(&"ann", 2, s(0.0)), Ok(()));
        assert!(limiter.charge_at(&"ann", 1, s(0.0)).is_err());
        assert_eq!(limiter.charge_at(&"bob", 2, s(0.0)), Ok(()));
    }

    #[test]
    fn what_costs_more_than_the_bucket_holds_passes_when_it_is_full() {
        let limiter = limiter(1, 10);
        assert_eq!(limiter.charge_at(&"ann", 100, s(0.0)), Ok(()));
        assert_eq!(limiter.charge_at(&"ann", 100, s(4.0)), Err(s(6.0)));
        assert_eq!(limiter.charge_at(&"ann", 100, s(10.0)), Ok(()));
    }

    #[test]
    fn a_batch_passes_when_it_comes_back_as_it_was_told() {
        for (burst, changes) in [(1, 10), (5, 10), (10, 10), (12, 10), (100, 10)] {
            let limiter = limiter(1, burst);
            let mut now = s(0.0);
            for _ in 0..20 {
                let mut tries = 0;
                while let Err(wait) = { limiter.charge_at(&"ann", 1, now) }
                    .and_then(|()| limiter.charge_more_at(&"ann", changes - 1, now))
                {
                    now += wait;
                    tries += 1;
                    assert!(tries < 4, "{burst} at once, {changes} changes");
                }
            }
        }
    }

    #[test]
    fn keys_are_bounded_and_the_bound_lets_nobody_through() {
        let limiter = Limiter::bounded(
            Rate {
                per_second: 1,
                burst: 2,
            },
            100,
        );
        for key in 0..100 {
            assert_eq!(limiter.charge_at(&key, 2, s(2.0)), Ok(()));
        }
        // Newcomers share a bucket, those who are known keep theirs.
        assert_eq!(limiter.charge_at(&100, 2, s(2.0)), Ok(()));
        assert!(limiter.charge_at(&101, 1, s(2.0)).is_err());
        assert!(limiter.charge_at(&0, 1, s(2.5)).is_err());
        assert_eq!(limiter.buckets.lock().unwrap().full_at.len(), 100);
        // Once the others' buckets are full, there is room again.
        assert_eq!(limiter.charge_at(&101, 2, s(5.0)), Ok(()));
        assert_eq!(limiter.charge_at(&102, 2, s(5.0)), Ok(()));
        assert_eq!(limiter.buckets.lock().unwrap().full_at.len(), 2);
    }
}
