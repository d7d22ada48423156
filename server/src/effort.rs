//! How much of the store's time one request may take by being looked at.
//!
//! Schemas are asked inside the transaction that stores a record, while others wait for the writer or
//! for the space. A request whose records are dear to look at gets so much of that time; what is left
//! of it then fails in a way that is worth another try.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::limits;

/// One request's share, shared by all who work on it.
#[derive(Clone, Debug, Default)]
pub struct Effort(Arc<AtomicU64>);

impl Effort {
    /// Does some of the work; none, where the share is used up.
    pub fn spend<T>(&self, work: impl FnOnce() -> T) -> Option<T> {
        if Duration::from_nanos(self.0.load(Ordering::Relaxed)) >= limits::VALIDATION_MAX {
            return None;
        }
        let began = Instant::now();
        let done = work();
        let took = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.0.fetch_add(took, Ordering::Relaxed);
        Some(done)
    }
}

/// Says nothing of who asks.
impl PartialEq for Effort {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Effort {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_used_up_by_all_who_have_it() {
        let effort = Effort::default();
        let same = effort.clone();
        assert_eq!(effort.spend(|| 1), Some(1));
        let long = || std::thread::sleep(limits::VALIDATION_MAX);
        assert_eq!(same.spend(long), Some(()), "what has begun is finished");
        assert_eq!(effort.spend(|| 2), None);
        assert_eq!(Effort::default().spend(|| 3), Some(3));
    }
}
