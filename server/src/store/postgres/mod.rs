//! Records in PostgreSQL, for several servers that behave as one. Nothing is kept in a process: what
//! one has committed, the others see at once and hear of at once.
//!
//! Needed of the database: transactions at READ COMMITTED with row locks (`FOR UPDATE`), snapshots
//! (REPEATABLE READ) for pages, an advisory lock while the schema is prepared, `LISTEN`/`NOTIFY`.
//!
//! | module | does |
//! |---|---|
//! | `address`, `pools`, `turns`, `fault` | how it is reached, by how many, what its errors mean |
//! | `schema` | tables and migrations |
//! | `push`, `load`, `draft`, `flush` | a batch: locked, loaded, worked out in memory, stored |
//! | `pull`, `conflicts` | pages, the conflict log |
//! | `media` | files |
//! | `listen` | news from other servers |

mod address;
mod assignments;
mod conflicts;
mod draft;
mod fault;
mod flush;
mod listen;
mod load;
mod media;
mod pools;
mod pull;
mod purge;
mod push;
mod rows;
mod schema;
mod seed;
#[cfg(test)]
mod tests;
mod turns;

use std::collections::BTreeSet;
use std::sync::Arc;

use sqlx::postgres::PgPool;
use sqlx::{Connection, PgConnection};
use tokio::sync::Semaphore;

pub use self::address::{DatabaseUrl, InvalidUrl};
use self::fault::startup;
use self::listen::Listener;
use self::seed::Import;
use self::turns::Turns;
use super::checkpoint::DatabaseId;
use super::feed::Feed;
use super::media::MediaStore;
use super::{
    Answer, ConflictEntry, ConflictId, Horizons, Mode, Page, PullQuery, Purged, Resolution,
    Resolved, Seeded, Standing, Store, StoreError, Verdict,
};
use crate::access::{Access, Sharing};
use crate::change::Change;
use crate::data::RecordData;
use crate::ids::{EntityId, RecordId, RecordType, UnixMillis, UserId};
use crate::limits;

/// A store in PostgreSQL.
pub struct PostgresStore {
    inner: Arc<Inner>,
    _listener: Listener,
}

/// What outlives a request that nobody waits for any more.
struct Inner {
    writers: PgPool,
    readers: PgPool,
    turns: Turns,
    /// The writers that uploads may have.
    uploads: Semaphore,
    id: DatabaseId,
    feed: Feed,
}

impl PostgresStore {
    /// Connects and brings the database to the newest schema.
    pub async fn open(url: &DatabaseUrl) -> Result<Self, StoreError> {
        let options = url.options();
        let connecting = PgConnection::connect_with(&options);
        let connecting = tokio::time::timeout(limits::POSTGRES_ACQUIRE_TIMEOUT, connecting);
        let mut connection = connecting
            .await
            .unwrap_or(Err(sqlx::Error::PoolTimedOut))
            .map_err(startup)?;
        pools::set_up_to_migrate(&mut connection)
            .await
            .map_err(startup)?;
        let id = schema::prepare(&mut connection).await?;
        connection.close().await.map_err(startup)?;
        let feed = Feed::default();
        let listener = Listener::start(options.clone(), feed.clone());
        Ok(Self {
            _listener: listener.await.map_err(startup)?,
            inner: Arc::new(Inner {
                writers: pools::pool(options.clone(), limits::POSTGRES_WRITERS),
                readers: pools::pool(options, limits::POSTGRES_READERS),
                turns: Turns::new(limits::WRITE_QUEUE_MAX),
                uploads: Semaphore::new(limits::POSTGRES_UPLOADS),
                id,
                feed,
            }),
        })
    }

    /// Does the work to its end, also where the one who asked has gone: a transaction that is cut
    /// off in the middle would have to be undone before its connection could be used again.
    async fn finish<T, F>(&self, work: impl FnOnce(Arc<Inner>) -> F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, StoreError>> + Send + 'static,
    {
        let done = tokio::spawn(work(Arc::clone(&self.inner)));
        done.await
            .unwrap_or(Err(StoreError::Damaged("a writer stumbled")))
    }
}

impl Store for PostgresStore {
    fn push<'a>(
        &'a self,
        access: &'a Access,
        changes: Vec<Change>,
        mode: Mode,
        now: UnixMillis,
    ) -> Answer<'a, Vec<Verdict>> {
        let access = access.clone();
        Box::pin(async move {
            let turn = self.inner.turns.next(access.user()).await?;
            self.finish(move |inner| async move {
                let _turn = turn;
                push::push(&inner.writers, &access, &changes, mode, now).await
            })
            .await
        })
    }

    fn pull<'a>(&'a self, access: &'a Access, query: PullQuery) -> Answer<'a, Page> {
        let access = access.clone();
        Box::pin(self.finish(move |inner| async move {
            pull::page(&inner.readers, &inner.id, &access, &query).await
        }))
    }

    fn standing<'a>(&'a self, access: &'a Access) -> Answer<'a, Standing> {
        Box::pin(pull::standing(&self.inner.readers, &self.inner.id, access))
    }

    fn conflicts<'a>(
        &'a self,
        access: &'a Access,
        after: ConflictId,
        limit: usize,
    ) -> Answer<'a, Vec<ConflictEntry>> {
        Box::pin(conflicts::conflicts(
            &self.inner.readers,
            access,
            after,
            limit,
        ))
    }

    fn resolve<'a>(
        &'a self,
        access: &'a Access,
        resolution: Resolution,
        now: UnixMillis,
    ) -> Answer<'a, Resolved> {
        let access = access.clone();
        Box::pin(async move {
            let turn = self.inner.turns.next(access.user()).await?;
            self.finish(move |inner| async move {
                let _turn = turn;
                conflicts::resolve(&inner.writers, &access, &resolution, now).await
            })
            .await
        })
    }

    fn assignments<'a>(&'a self, user: &'a UserId) -> Answer<'a, BTreeSet<EntityId>> {
        Box::pin(assignments::assignments(&self.inner.readers, user))
    }

    fn assign<'a>(&'a self, user: &'a UserId, entity: &'a EntityId) -> Answer<'a, bool> {
        Box::pin(assignments::assign(&self.inner.writers, user, entity))
    }

    fn unassign<'a>(&'a self, user: &'a UserId, entity: &'a EntityId) -> Answer<'a, bool> {
        Box::pin(assignments::unassign(&self.inner.writers, user, entity))
    }

    fn purge(&self, horizons: Horizons) -> Answer<'_, Purged> {
        Box::pin(purge::purge(&self.inner.writers, horizons))
    }

    fn seed<'a>(
        &'a self,
        user: &'a UserId,
        record_type: &'a RecordType,
        sharing: Sharing,
        records: Vec<(RecordId, RecordData)>,
        now: UnixMillis,
    ) -> Answer<'a, Seeded> {
        let import = Import {
            user: user.clone(),
            record_type: record_type.clone(),
            sharing,
            records,
            now,
        };
        Box::pin(async move { seed::seed(&self.inner.writers, &import).await })
    }

    fn feed(&self) -> &Feed {
        &self.inner.feed
    }

    fn media(&self) -> Option<&dyn MediaStore> {
        Some(self)
    }
}
