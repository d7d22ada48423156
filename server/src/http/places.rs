//! Places for requests that take long: so many in all, so many for each user. Who gets none is told
//! at once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::problem::Problem;
use crate::ids::UserId;

/// Places of one kind.
pub(super) struct Places {
    all: usize,
    each: usize,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    all: usize,
    each: HashMap<UserId, usize>,
}

/// A place that somebody has, until it is dropped.
pub(super) struct Place {
    places: Arc<Places>,
    user: UserId,
}

impl Places {
    pub(super) fn new(all: usize, each: usize) -> Arc<Self> {
        let taken = Mutex::default();
        Arc::new(Self { all, each, taken })
    }

    /// Takes one for `user`. `what` is what there would be too many of.
    pub(super) fn take(self: &Arc<Self>, user: &UserId, what: &str) -> Result<Place, Problem> {
        let mut taken = self.taken();
        let theirs = taken.each.get(user).copied().unwrap_or(0);
        if theirs >= self.each {
            let most = self.each;
            let detail = format!("more than {most} {what} of one user at once");
            return Err(Problem::rate_limited(detail));
        }
        if taken.all >= self.all {
            return Err(Problem::unavailable(format!("too many {what} at once")));
        }
        taken.all += 1;
        taken.each.insert(user.clone(), theirs + 1);
        Ok(Place {
            places: Arc::clone(self),
            user: user.clone(),
        })
    }

    /// How many are taken.
    pub(super) fn count(&self) -> usize {
        self.taken().all
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken();
        taken.all = taken.all.saturating_sub(1);
        // Nobody who is gone is remembered, or the map would grow with every user there ever was.
        match taken.each.get_mut(&self.user) {
            Some(theirs) if *theirs > 1 => *theirs -= 1,
            _ => {
                taken.each.remove(&self.user);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_and_come_back() {
        let places = Places::new(3, 2);
        let (ann, bob) = (UserId::new("ann").unwrap(), UserId::new("bob").unwrap());
        let first = places.take(&ann, "things").ok().unwrap();
        let _second = places.take(&ann, "things").ok().unwrap();
        assert!(places.take(&ann, "things").is_err(), "of one user");
        let third = places.take(&bob, "things").ok().unwrap();
        assert!(places.take(&bob, "things").is_err(), "in all");
        drop(first);
        let _fourth = places.take(&bob, "things").ok().unwrap();
        drop(third);
        assert!(places.take(&ann, "things").is_ok());
        assert_eq!(places.taken().each.len(), 2);
    }
}
