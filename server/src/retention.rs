//! How long the past is kept. Tombstones, results of mutations and settled conflicts are needed only
//! as long as a client may still come with an older state; then they are deleted, a few at a time.
//! Conflicts that nobody has settled hold what somebody wrote and nobody else has got: they are kept
//! longer, but not for ever, since there is no bound on how many there may be.
//!
//! A client that comes later still loses nothing. Its checkpoint is unknown (`410`), so it pulls from
//! the beginning; its queued mutations stay queued, and are judged by the versions they were made on,
//! as ever. The one promise that ends with the horizon: a mutation whose *answer* was lost that long
//! ago is not recognised any more, and may be judged a second time.

use std::sync::Arc;
use std::time::Duration;

use crate::ids::UnixMillis;
use crate::limits;
use crate::store::{Horizons, Purged, Store, StoreError};

/// For how long what is kept. `None` is for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Tombstones, results of mutations, conflicts that are settled.
    pub past: Option<Duration>,
    /// Conflicts that nobody has settled; at least as long as the past.
    pub open_conflicts: Option<Duration>,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            past: Some(limits::RETENTION_DEFAULT),
            open_conflicts: Some(limits::RETENTION_OPEN_CONFLICTS_DEFAULT),
        }
    }
}

impl Retention {
    /// How far back things are kept at this moment; none where nothing is ever deleted.
    fn horizons(self, now: UnixMillis) -> Option<Horizons> {
        let before = |kept: Duration| {
            let kept_ms = u64::try_from(kept.as_millis()).unwrap_or(u64::MAX);
            UnixMillis(now.0.saturating_sub(kept_ms))
        };
        // A conflict goes after its mutation's result: where those stay, so do conflicts.
        let past = self.past?;
        let open_conflicts = self.open_conflicts.map(|kept| before(kept.max(past)));
        Some(Horizons {
            past: before(past),
            open_conflicts: open_conflicts.unwrap_or(UnixMillis(0)),
        })
    }
}

/// Deletes what is older than its horizon, in steps with pauses between them, in which others write.
pub async fn purge(store: &dyn Store, horizons: Horizons) -> Result<Purged, StoreError> {
    let mut all = Purged::default();
    loop {
        let step = store.purge(horizons).await?;
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
pub(crate) async fn keep(store: Arc<dyn Store>, retention: Retention) {
    tokio::time::sleep(limits::PURGE_DELAY).await;
    while let Some(horizons) = retention.horizons(UnixMillis::now()) {
        match purge(&*store, horizons).await {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_conflicts_outlive_the_results_that_tell_of_them() {
        let days = |days: u64| Some(Duration::from_secs(days * 24 * 60 * 60));
        let now = UnixMillis(1_000 * 24 * 60 * 60 * 1_000);
        let kept = |past, open_conflicts| {
            let retention = Retention {
                past,
                open_conflicts,
            };
            let horizons = retention.horizons(now)?;
            let ago = |then: UnixMillis| (now.0 - then.0) / (24 * 60 * 60 * 1_000);
            Some((ago(horizons.past), ago(horizons.open_conflicts)))
        };
        assert_eq!(kept(days(90), days(365)), Some((90, 365)));
        assert_eq!(kept(days(400), days(365)), Some((400, 400)));
        assert_eq!(kept(days(90), None), Some((90, 1_000)), "since ever");
        assert_eq!(kept(None, days(365)), None);
    }
}
