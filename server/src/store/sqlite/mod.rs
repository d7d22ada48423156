//! Records in SQLite, embedded: one file, no service beside the server.
//!
//! WAL mode, so that readers and the writer do not wait for each other, and `synchronous = FULL`:
//! in WAL mode only that syncs the log at each commit, and a `success` promises that the change
//! survives the loss of power, not only of the process.

mod assignments;
mod conflicts;
mod heads;
mod media;
mod memory;
mod pull;
mod purge;
mod push;
mod readers;
mod records;
mod resolve;
mod schema;
mod seed;
#[cfg(test)]
mod tests;
mod writer;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use rusqlite::{Connection, OpenFlags};

use self::readers::Readers;
use self::writer::Writer;
use super::checkpoint::DatabaseId;
use super::feed::Feed;
use super::media::MediaStore;
use super::{
    Answer, ConflictEntry, ConflictId, Horizons, Mode, Page, PullQuery, Purged, Resolution,
    Resolved, Seeded, Standing, Store, StoreError, Verdict,
};
use crate::access::{Access, Sharing, Space};
use crate::change::Change;
use crate::data::RecordData;
use crate::ids::{ClientId, EntityId, RecordId, RecordType, Stamp, UnixMillis, UserId};
use crate::limits;

/// Where the database is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// Gone with the process.
    Memory,
    /// A file, created where it does not exist, with `-wal` and `-shm` beside it.
    File(PathBuf),
}

/// A store in SQLite. Dropping it waits for the writes that are queued.
pub struct SqliteStore {
    writer: Writer,
    /// None for a database in memory, which only the writer's connection can see.
    readers: Option<Arc<Readers>>,
    id: DatabaseId,
    feed: Feed,
}

impl SqliteStore {
    /// Opens or creates a database and brings it to the newest schema.
    pub fn open(location: &Location) -> Result<Self, StoreError> {
        let mut connection = match location {
            Location::Memory => Connection::open_in_memory(),
            Location::File(path) => Connection::open(path),
        }
        .map_err(engine)?;
        connection
            .busy_timeout(limits::BUSY_TIMEOUT)
            .map_err(engine)?;
        connection.set_prepared_statement_cache_capacity(limits::STATEMENTS);
        let id = schema::prepare(&mut connection)?;
        connection
            .pragma_update(None, "foreign_keys", true)
            .map_err(engine)?;
        let readers = match location {
            Location::Memory => None,
            Location::File(path) => {
                connection
                    .pragma_update(None, "journal_mode", "wal")
                    .map_err(engine)?;
                connection
                    .pragma_update(None, "synchronous", "full")
                    .map_err(engine)?;
                // A page that several batches change goes to the log with each, and to the database
                // once a checkpoint: fewer checkpoints, fewer writes, and fewer syncs.
                connection
                    .pragma_update(None, "wal_autocheckpoint", limits::WAL_PAGES)
                    .map_err(engine)?;
                connection
                    .pragma_update(None, "cache_size", -limits::WRITER_CACHE_KIB)
                    .map_err(engine)?;
                let open = || open_reader(path).map_err(engine);
                let connections = std::iter::repeat_with(open).take(limits::READERS);
                Some(Readers::new(connections.collect::<Result<_, _>>()?))
            }
        };
        Ok(Self {
            writer: Writer::start(connection)?,
            readers,
            id,
            feed: Feed::default(),
        })
    }

    /// Does `work` in a transaction and, once it is committed, tells the feed of the spaces that
    /// it names.
    async fn write<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<(T, Vec<Space>), StoreError> + Send + 'static,
    {
        let feed = self.feed.clone();
        let tell = move |(_, spaces): &(T, Vec<Space>)| feed.notify(spaces);
        let (value, _) = self.writer.write_and_tell(work, tell).await?;
        Ok(value)
    }

    async fn read<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Connection) -> Result<T, StoreError> + Send + 'static,
    {
        match &self.readers {
            Some(readers) => readers.read(work).await,
            None => self.writer.alone(work).await,
        }
    }
}

fn open_reader(path: &PathBuf) -> Result<Connection, rusqlite::Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(limits::BUSY_TIMEOUT)?;
    connection.pragma_update(None, "query_only", true)?;
    Ok(connection)
}

impl Store for SqliteStore {
    fn push<'a>(
        &'a self,
        access: &'a Access,
        changes: Vec<Change>,
        mode: Mode,
        now: UnixMillis,
    ) -> Answer<'a, Vec<Verdict>> {
        let access = access.clone();
        Box::pin(self.write(move |connection| push::push(connection, &access, &changes, mode, now)))
    }

    fn pull<'a>(&'a self, access: &'a Access, query: PullQuery) -> Answer<'a, Page> {
        let (access, id) = (access.clone(), self.id.clone());
        Box::pin(self.read(move |connection| pull::page(connection, &id, &access, &query)))
    }

    fn standing<'a>(&'a self, access: &'a Access) -> Answer<'a, Standing> {
        let (access, id) = (access.clone(), self.id.clone());
        Box::pin(self.read(move |connection| pull::standing(connection, &id, &access)))
    }

    fn queued(&self) -> usize {
        self.writer.waiting()
    }

    fn conflicts<'a>(
        &'a self,
        access: &'a Access,
        after: ConflictId,
        limit: usize,
    ) -> Answer<'a, Vec<ConflictEntry>> {
        let access = access.clone();
        Box::pin(
            self.read(move |connection| conflicts::conflicts(connection, &access, after, limit)),
        )
    }

    fn resolve<'a>(
        &'a self,
        access: &'a Access,
        resolution: Resolution,
        now: UnixMillis,
    ) -> Answer<'a, Resolved> {
        let access = access.clone();
        Box::pin(
            self.write(move |connection| resolve::resolve(connection, &access, &resolution, now)),
        )
    }

    fn assignments<'a>(&'a self, user: &'a UserId) -> Answer<'a, BTreeSet<EntityId>> {
        let user = user.clone();
        Box::pin(self.read(move |connection| assignments::assignments(connection, &user)))
    }

    fn assign<'a>(&'a self, user: &'a UserId, entity: &'a EntityId) -> Answer<'a, bool> {
        let (user, entity) = (user.clone(), entity.clone());
        Box::pin(self.write(move |connection| {
            let new = assignments::assign(connection, &user, &entity)?;
            Ok((new, vec![Space::Own(user)]))
        }))
    }

    fn unassign<'a>(&'a self, user: &'a UserId, entity: &'a EntityId) -> Answer<'a, bool> {
        let (user, entity) = (user.clone(), entity.clone());
        Box::pin(self.write(move |connection| {
            let was = assignments::unassign(connection, &user, &entity)?;
            Ok((was, vec![Space::Own(user)]))
        }))
    }

    fn purge(&self, horizons: Horizons) -> Answer<'_, Purged> {
        Box::pin(
            self.writer
                .write(move |connection| purge::purge(connection, horizons)),
        )
    }

    fn seed<'a>(
        &'a self,
        user: &'a UserId,
        record_type: &'a RecordType,
        sharing: Sharing,
        records: Vec<(RecordId, RecordData)>,
        now: UnixMillis,
    ) -> Answer<'a, Seeded> {
        let (user, record_type) = (user.clone(), record_type.clone());
        Box::pin(self.write(move |connection| {
            seed::seed(connection, &user, &record_type, &sharing, records, now)
        }))
    }

    fn feed(&self) -> &Feed {
        &self.feed
    }

    fn media(&self) -> Option<&dyn MediaStore> {
        Some(self)
    }
}

fn engine(error: rusqlite::Error) -> StoreError {
    StoreError::Engine(Arc::new(error))
}

/// SQLite's integers are signed. Everything that is stored is far below the bound.
fn to_sql(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn from_sql(number: i64) -> Result<u64, StoreError> {
    u64::try_from(number).map_err(|_| StoreError::Damaged("a negative number"))
}

fn stored_data(text: Option<String>) -> Result<Option<RecordData>, StoreError> {
    let data = text.map(RecordData::from_stored).transpose();
    data.map_err(|_| StoreError::Damaged("a record's data"))
}

fn stored_stamp(text: String) -> Result<Stamp, StoreError> {
    Stamp::new(text).map_err(|_| StoreError::Damaged("a stamp"))
}

fn stored_client(text: String) -> Result<ClientId, StoreError> {
    ClientId::new(text).map_err(|_| StoreError::Damaged("a client's id"))
}

fn stored_space(text: &str) -> Result<Space, StoreError> {
    Space::parse(text).ok_or(StoreError::Damaged("a space"))
}
