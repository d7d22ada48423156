//! A few connections that only read. In WAL mode each sees the state of its transaction's start
//! and waits for nobody.

use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;
use tokio::sync::Semaphore;

use crate::store::StoreError;

/// Connections that are not in use. The lock is held only to take one or to put one back.
pub(super) struct Readers {
    idle: Mutex<Vec<Connection>>,
    permits: Arc<Semaphore>,
}

impl Readers {
    pub(super) fn new(connections: Vec<Connection>) -> Arc<Self> {
        let permits = Arc::new(Semaphore::new(connections.len()));
        Arc::new(Self {
            idle: Mutex::new(connections),
            permits,
        })
    }

    /// Does `work` on one of them, on a thread where waiting for a disk is allowed.
    pub(super) async fn read<T, F>(self: &Arc<Self>, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Connection) -> Result<T, StoreError> + Send + 'static,
    {
        let permit = Arc::clone(&self.permits)
            .acquire_owned()
            .await
            .map_err(|_| StoreError::Closed)?;
        let readers = Arc::clone(self);
        let done = tokio::task::spawn_blocking(move || {
            // Given back here and not in the future, which may be dropped half-way.
            let _permit = permit;
            let mut connection = readers.take().ok_or(StoreError::Closed)?;
            let outcome = work(&mut connection);
            readers.give_back(connection);
            outcome
        });
        done.await
            .unwrap_or(Err(StoreError::Damaged("a reader stumbled")))
    }

    fn take(&self) -> Option<Connection> {
        self.idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop()
    }

    fn give_back(&self, connection: Connection) {
        self.idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(connection);
    }
}
