//! Media in PostgreSQL: the same tables as in SQLite. A file's row is locked while a piece is added,
//! so parts that come at the same time, also to two servers, follow each other. Uploads have some
//! of the writing connections, never all: batches need not wait for files.

use axum::body::Bytes;
use sqlx::postgres::PgRow;
use sqlx::{Connection, PgConnection, PgPool, Row};

use super::fault::fault;
use super::push::{Attempts, Fault, locked};
use super::rows::{from_sql, to_sql};
use super::{Inner, PostgresStore};
use crate::access::Space;
use crate::ids::{UnixMillis, UserId};
use crate::limits;
use crate::store::media::{
    Appended, Begun, Checksum, Declaration, Media, MediaKey, MediaNumber, MediaStore, cost_bytes,
    fresh,
};
use crate::store::{Answer, StoreError};

const PIECE: u64 = limits::MEDIA_PIECE_BYTES as u64;

impl MediaStore for PostgresStore {
    fn find<'a>(&'a self, key: &'a MediaKey) -> Answer<'a, Option<Media>> {
        Box::pin(async move {
            let mut connection = self.inner.readers.acquire().await.map_err(fault)?;
            Ok(find(&mut connection, key).await?)
        })
    }

    fn begin<'a>(
        &'a self,
        key: &'a MediaKey,
        declared: &'a Declaration,
        owner: &'a UserId,
        quota_bytes: u64,
        now: UnixMillis,
    ) -> Answer<'a, Begun> {
        let beginning = Beginning {
            key: key.clone(),
            declared: declared.clone(),
            owner: owner.clone(),
            quota_bytes,
            now,
        };
        Box::pin(self.finish(move |inner| async move {
            let _turn = turn(&inner).await?;
            beginning.run(&inner.writers).await
        }))
    }

    fn append(
        &self,
        number: MediaNumber,
        offset: u64,
        bytes: Bytes,
        now: UnixMillis,
    ) -> Answer<'_, Appended> {
        Box::pin(self.finish(move |inner| async move {
            let _turn = turn(&inner).await?;
            let mut connection = inner.writers.acquire().await.map_err(fault)?;
            Ok(append(&mut connection, number, offset, &bytes, now).await?)
        }))
    }

    fn piece(&self, number: MediaNumber, index: u64) -> Answer<'_, Bytes> {
        Box::pin(async move {
            let sql = "SELECT data FROM media_pieces WHERE media = $1 AND piece = $2";
            let data: Option<Vec<u8>> = sqlx::query_scalar(sql)
                .bind(number)
                .bind(to_sql(index))
                .fetch_optional(&self.inner.readers)
                .await
                .map_err(fault)?;
            Ok(data.unwrap_or_default().into())
        })
    }

    fn complete(&self, number: MediaNumber, now: UnixMillis) -> Answer<'_, bool> {
        let sql = "UPDATE media SET complete = true, touched_ms = $2
                   WHERE number = $1 AND received = size";
        Box::pin(self.finish(move |inner| async move {
            let query = sqlx::query(sql).bind(number).bind(to_sql(now.0));
            let done = query.execute(&inner.writers).await.map_err(fault)?;
            Ok(done.rows_affected() > 0)
        }))
    }

    fn remove<'a>(&'a self, key: &'a MediaKey, only: Option<MediaNumber>) -> Answer<'a, bool> {
        let sql = "WITH gone AS (
                     DELETE FROM media
                     WHERE space = $1 AND id = $2 AND ($3::bigint IS NULL OR number = $3)
                     RETURNING number)
                   INSERT INTO media_removed (media) SELECT number FROM gone";
        let key = key.clone();
        Box::pin(self.finish(move |inner| async move {
            let query = sqlx::query(sql)
                .bind(key.space.to_string())
                .bind(key.id.as_str())
                .bind(only);
            let done = query.execute(&inner.writers).await.map_err(fault)?;
            Ok(done.rows_affected() > 0)
        }))
    }

    fn sweep(&self, before: UnixMillis) -> Answer<'_, bool> {
        Box::pin(self.finish(move |inner| async move {
            let mut connection = inner.writers.acquire().await.map_err(fault)?;
            sweep(&mut connection, before).await.map_err(fault)
        }))
    }
}

/// One of the places that uploads have among the writers.
async fn turn(inner: &Inner) -> Result<tokio::sync::SemaphorePermit<'_>, StoreError> {
    inner
        .uploads
        .acquire()
        .await
        .map_err(|_| StoreError::Closed)
}

async fn find(connection: &mut PgConnection, key: &MediaKey) -> Result<Option<Media>, Fault> {
    let sql = "SELECT number, content_type, size, sha256, received, complete
               FROM media WHERE space = $1 AND id = $2";
    let row = sqlx::query(sql)
        .bind(key.space.to_string())
        .bind(key.id.as_str())
        .fetch_optional(connection)
        .await?;
    row.map(|row| stored(&row)).transpose()
}

fn stored(row: &PgRow) -> Result<Media, Fault> {
    let sha256: Vec<u8> = row.try_get(3)?;
    let sha256 = sha256.try_into();
    Ok(Media {
        number: row.try_get(0)?,
        declared: Declaration {
            content_type: row.try_get(1)?,
            size: from_sql(row.try_get(2)?)?,
            sha256: Checksum(sha256.map_err(|_| StoreError::Damaged("a checksum"))?),
        },
        received: from_sql(row.try_get(4)?)?,
        complete: row.try_get(5)?,
    })
}

struct Beginning {
    key: MediaKey,
    declared: Declaration,
    owner: UserId,
    quota_bytes: u64,
    now: UnixMillis,
}

impl Beginning {
    async fn run(&self, pool: &PgPool) -> Result<Begun, StoreError> {
        let mut connection = pool.acquire().await.map_err(fault)?;
        // Most parts are not the first.
        if let Some(media) = find(&mut connection, &self.key).await? {
            return Ok(Begun::Media(media));
        }
        let mut attempts = Attempts::default();
        loop {
            match self.attempt(&mut connection).await {
                Ok(begun) => return Ok(begun),
                Err(fault) => attempts.again(&mut connection, fault).await?,
            }
        }
    }

    async fn attempt(&self, connection: &mut PgConnection) -> Result<Begun, Fault> {
        // Under the lock of the owner's space, so that two at once do not both find room.
        let own = Space::Own(self.owner.clone());
        let (mut transaction, _) = locked(connection, &[own].into()).await?;
        if let Some(media) = find(&mut transaction, &self.key).await? {
            return Ok(Begun::Media(media));
        }
        let sql = "SELECT coalesce(sum(cost), 0)::bigint FROM media WHERE owner = $1";
        let used: i64 = sqlx::query_scalar(sql)
            .bind(self.owner.as_str())
            .fetch_one(&mut *transaction)
            .await?;
        let left = self.quota_bytes.saturating_sub(from_sql(used)?);
        let cost = cost_bytes(self.declared.size);
        if cost > left {
            return Ok(Begun::OverQuota(left));
        }
        let sql = "INSERT INTO media (space, id, owner, content_type, size, sha256, received,
                                      complete, cost, touched_ms)
                   VALUES ($1, $2, $3, $4, $5, $6, 0, false, $7, $8) RETURNING number";
        let number = sqlx::query_scalar(sql)
            .bind(self.key.space.to_string())
            .bind(self.key.id.as_str())
            .bind(self.owner.as_str())
            .bind(&self.declared.content_type)
            .bind(to_sql(self.declared.size))
            .bind(self.declared.sha256.0.as_slice())
            .bind(to_sql(cost))
            .bind(to_sql(self.now.0))
            .fetch_one(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(Begun::Media(Media {
            number,
            declared: self.declared.clone(),
            received: 0,
            complete: false,
        }))
    }
}

async fn append(
    connection: &mut PgConnection,
    number: MediaNumber,
    offset: u64,
    bytes: &Bytes,
    now: UnixMillis,
) -> Result<Appended, Fault> {
    let mut transaction = connection.begin().await?;
    let received = sqlx::query_scalar("SELECT received FROM media WHERE number = $1 FOR UPDATE")
        .bind(number)
        .fetch_optional(&mut *transaction)
        .await?;
    let Some(received) = received.map(from_sql).transpose()? else {
        return Ok(Appended::Gone);
    };
    if offset > received {
        return Ok(Appended::Hole(received));
    }
    let Some((head, tail)) = fresh(offset, received, bytes) else {
        return Ok(Appended::Received(received));
    };
    let index = received / PIECE;
    // A piece that is begun is gone on with where it is; it need not travel twice.
    let sql = "INSERT INTO media_pieces (media, piece, data) VALUES ($1, $2, $3)
               ON CONFLICT (media, piece)
               DO UPDATE SET data = media_pieces.data || excluded.data";
    for (index, data) in [(index, &head), (index + 1, &tail)] {
        if !data.is_empty() {
            sqlx::query(sql)
                .bind(number)
                .bind(to_sql(index))
                .bind(&data[..])
                .execute(&mut *transaction)
                .await?;
        }
    }
    let received = received + (head.len() + tail.len()) as u64;
    sqlx::query("UPDATE media SET received = $2, touched_ms = $3 WHERE number = $1")
        .bind(number)
        .bind(to_sql(received))
        .bind(to_sql(now.0))
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await?;
    Ok(Appended::Received(received))
}

async fn sweep(connection: &mut PgConnection, before: UnixMillis) -> Result<bool, sqlx::Error> {
    // One to which a piece is being added at this moment is not stale.
    let sql = "WITH stale AS (
                 DELETE FROM media WHERE number IN (
                   SELECT number FROM media WHERE NOT complete AND touched_ms < $1
                   LIMIT 1 FOR UPDATE SKIP LOCKED)
                 RETURNING number)
               INSERT INTO media_removed (media) SELECT number FROM stale";
    sqlx::query(sql)
        .bind(to_sql(before.0))
        .execute(&mut *connection)
        .await?;
    let removed: Option<i64> = sqlx::query_scalar("SELECT media FROM media_removed LIMIT 1")
        .fetch_optional(&mut *connection)
        .await?;
    let Some(removed) = removed else {
        return Ok(false);
    };
    let sql = "DELETE FROM media_pieces WHERE media = $1 AND piece IN
                 (SELECT piece FROM media_pieces WHERE media = $1 ORDER BY piece LIMIT $2)";
    let most = limits::SWEEP_PIECES_MAX as u64;
    let gone = sqlx::query(sql)
        .bind(removed)
        .bind(to_sql(most))
        .execute(&mut *connection)
        .await?;
    if gone.rows_affected() < most {
        sqlx::query("DELETE FROM media_removed WHERE media = $1")
            .bind(removed)
            .execute(&mut *connection)
            .await?;
    }
    Ok(true)
}
