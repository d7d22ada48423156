//! Who may write when. Batches of one user wait for each other in the database anyway, by the lock
//! on the user's space; here they wait before they take a connection. So a user who sends a hundred
//! batches at once holds one connection, not all of them, and the others' batches go on.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard, OwnedSemaphorePermit, Semaphore};

use crate::ids::UserId;
use crate::store::StoreError;

/// The queue in front of the connections that write.
pub(super) struct Turns {
    /// How many may wait, whoever they are.
    places: Arc<Semaphore>,
    users: Mutex<HashMap<UserId, Arc<AsyncMutex<()>>>>,
}

/// The right to write; ends when dropped.
pub(super) struct Turn {
    _user: OwnedMutexGuard<()>,
    _place: OwnedSemaphorePermit,
}

impl Turns {
    pub(super) fn new(places: usize) -> Self {
        Self {
            places: Arc::new(Semaphore::new(places)),
            users: Mutex::default(),
        }
    }

    /// How many more may wait.
    #[cfg(test)]
    pub(super) fn free(&self) -> usize {
        self.places.available_permits()
    }

    /// Waits for the user's turn. Where too many wait already, they are told at once.
    pub(super) async fn next(&self, user: &UserId) -> Result<Turn, StoreError> {
        let place = Arc::clone(&self.places)
            .try_acquire_owned()
            .map_err(|_| StoreError::Overloaded)?;
        let turn = {
            let mut users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
            // What nobody holds is nobody's turn; there are never more entries than places.
            users.retain(|_, turn| Arc::strong_count(turn) > 1);
            Arc::clone(users.entry(user.clone()).or_default())
        };
        Ok(Turn {
            _user: turn.lock_owned().await,
            _place: place,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::conformance::user;

    #[tokio::test]
    async fn users_wait_for_themselves_only_and_the_queue_has_an_end() {
        let turns = Turns::new(3);
        let (ann, bob) = (user("ann"), user("bob"));
        let first = turns.next(ann.user()).await.unwrap();
        let _other = turns.next(bob.user()).await.unwrap();
        let second = turns.next(ann.user());
        tokio::pin!(second);
        let not_yet = tokio::time::timeout(std::time::Duration::from_millis(20), &mut second);
        assert!(not_yet.await.is_err());
        let full = turns.next(user("eve").user()).await;
        assert!(matches!(full, Err(StoreError::Overloaded)));
        drop(first);
        second.await.unwrap();
        assert_eq!(turns.users.lock().unwrap().len(), 2);
        assert!(turns.next(user("eve").user()).await.is_ok());
    }
}
