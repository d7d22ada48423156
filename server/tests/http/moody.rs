//! A store in a bad mood: its push waits for a permit, its pull panics, its status is overloaded.

use std::collections::BTreeSet;
use std::sync::Arc;

use landfall_server::access::{Access, Sharing};
use landfall_server::change::Change;
use landfall_server::data::RecordData;
use landfall_server::ids::{EntityId, RecordId, RecordType, UnixMillis, UserId, Version};
use landfall_server::store::feed::Feed;
use landfall_server::store::sqlite::{Location, SqliteStore};
use landfall_server::store::{
    Answer, ConflictEntry, ConflictId, Horizons, Mode, Page, PullQuery, Purged, Resolution,
    Resolved, Seeded, Standing, Store, StoreError, Verdict,
};
use tokio::sync::Semaphore;

/// For the rest it is a real one, and empty.
pub(crate) struct Moody(Arc<Semaphore>, SqliteStore);

impl Moody {
    pub(crate) fn new() -> (Self, Arc<Semaphore>) {
        let permits = Arc::new(Semaphore::new(0));
        let store = SqliteStore::open(&Location::Memory).unwrap();
        (Self(Arc::clone(&permits), store), permits)
    }
}

impl Store for Moody {
    fn push<'a>(
        &'a self,
        _: &'a Access,
        changes: Vec<Change>,
        _: Mode,
        _: UnixMillis,
    ) -> Answer<'a, Vec<Verdict>> {
        Box::pin(async move {
            let _permit = self.0.acquire().await;
            Ok(vec![Verdict::Success(Version(1)); changes.len()])
        })
    }

    fn pull<'a>(&'a self, _: &'a Access, _: PullQuery) -> Answer<'a, Page> {
        Box::pin(async { panic!("on purpose") })
    }

    fn standing<'a>(&'a self, _: &'a Access) -> Answer<'a, Standing> {
        Box::pin(async { Err(StoreError::Overloaded) })
    }

    fn conflicts<'a>(
        &'a self,
        access: &'a Access,
        after: ConflictId,
        limit: usize,
    ) -> Answer<'a, Vec<ConflictEntry>> {
        self.1.conflicts(access, after, limit)
    }

    fn resolve<'a>(
        &'a self,
        access: &'a Access,
        resolution: Resolution,
        now: UnixMillis,
    ) -> Answer<'a, Resolved> {
        self.1.resolve(access, resolution, now)
    }

    fn assignments<'a>(&'a self, _: &'a UserId) -> Answer<'a, BTreeSet<EntityId>> {
        Box::pin(async { Ok(BTreeSet::new()) })
    }

    fn assign<'a>(&'a self, user: &'a UserId, entity: &'a EntityId) -> Answer<'a, bool> {
        self.1.assign(user, entity)
    }

    fn unassign<'a>(&'a self, user: &'a UserId, entity: &'a EntityId) -> Answer<'a, bool> {
        self.1.unassign(user, entity)
    }

    fn purge(&self, horizons: Horizons) -> Answer<'_, Purged> {
        self.1.purge(horizons)
    }

    fn seed<'a>(
        &'a self,
        user: &'a UserId,
        record_type: &'a RecordType,
        sharing: Sharing,
        records: Vec<(RecordId, RecordData)>,
        now: UnixMillis,
    ) -> Answer<'a, Seeded> {
        self.1.seed(user, record_type, sharing, records, now)
    }

    fn feed(&self) -> &Feed {
        self.1.feed()
    }
}
