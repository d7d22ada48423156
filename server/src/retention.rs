//! How long the past is kept. Tombstones, results of mutations and settled conflicts are needed only
//! as long as a client may still come with an older state; then they are deleted, a few at a time.
//!
//! A client that comes later still loses nothing. Its checkpoint is unknown (`410`), so it pulls from
//! the beginning; its queued mutations stay queued, and are judged by the versions they were made on,
//! as ever. The one promise that ends with the horizon: a mutation whose *answer* was lost that long
//! ago is not recognised any more, and may be judged a second time.

use std::sync::Arc;
use std::time::Duration;

use crate::ids::UnixMillis;
use crate::limits;
use crate::store::{Purged, Store, StoreError};

/// Deletes what is older than `horizon`, in steps with pauses between them, in which others write.
pub async fn purge(store: &dyn Store, horizon: UnixMillis) -> Result<Purged, StoreError> {
    let mut all = Purged::default();
    loop {
        let step = store.purge(horizon).await?;
        all.tombstones += step.tombstones;
        all.mutations += step.mutations;
        all.conflicts += step.conflicts;
        if !step.more {
            return Ok(all);
        }
        tokio::time::sleep(limits::PURGE_PAUSE).await;
    }
}

/// Does so for ever: a while after the start, then each [`limits::PURGE_INTERVAL`].
pub(crate) async fn keep(store: Arc<dyn Store>, retention: Duration) {
    let retention_ms = u64::try_from(retention.as_millis()).unwrap_or(u64::MAX);
    tokio::time::sleep(limits::PURGE_DELAY).await;
    loop {
        let horizon = UnixMillis(UnixMillis::now().0.saturating_sub(retention_ms));
        match purge(&*store, horizon).await {
            Ok(purged) if purged == Purged::default() => {}
            Ok(Purged {
                tombstones,
                mutations,
                conflicts,
                ..
            }) => tracing::info!(tombstones, mutations, conflicts, "purged"),
            // The next time will do.
            Err(error) => tracing::warn!(%error, "could not purge"),
        }
        tokio::time::sleep(limits::PURGE_INTERVAL).await;
    }
}
