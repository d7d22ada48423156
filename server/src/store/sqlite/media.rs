//! Media in SQLite: a row for each file, and a row for each of its pieces. A piece is written by
//! the one writer in a turn of its own, between the batches of others, and read by the readers.

use axum::body::Bytes;
use rusqlite::{Connection, OptionalExtension, Row, named_params, params};

use super::{SqliteStore, engine, from_sql, to_sql};
use crate::ids::{UnixMillis, UserId};
use crate::limits;
use crate::store::media::{
    Appended, Begun, Checksum, Declaration, Media, MediaKey, MediaNumber, MediaStore, cost_bytes,
    fresh,
};
use crate::store::{Answer, StoreError};

const PIECE: u64 = limits::MEDIA_PIECE_BYTES as u64;

impl MediaStore for SqliteStore {
    fn find<'a>(&'a self, key: &'a MediaKey) -> Answer<'a, Option<Media>> {
        let key = key.clone();
        Box::pin(self.read(move |connection| find(connection, &key)))
    }

    fn begin<'a>(
        &'a self,
        key: &'a MediaKey,
        declared: &'a Declaration,
        owner: &'a UserId,
        quota_bytes: u64,
        now: UnixMillis,
    ) -> Answer<'a, Begun> {
        let (key, declared, owner) = (key.clone(), declared.clone(), owner.clone());
        Box::pin(
            self.writer.write(move |connection| {
                begin(connection, &key, &declared, &owner, quota_bytes, now)
            }),
        )
    }

    fn append(
        &self,
        number: MediaNumber,
        offset: u64,
        bytes: Bytes,
        now: UnixMillis,
    ) -> Answer<'_, Appended> {
        Box::pin(
            self.writer
                .write(move |connection| append(connection, number, offset, &bytes, now)),
        )
    }

    fn piece(&self, number: MediaNumber, index: u64) -> Answer<'_, Bytes> {
        Box::pin(self.read(move |connection| {
            piece(connection, number, index).map(|data| data.unwrap_or_default().into())
        }))
    }

    fn complete(&self, number: MediaNumber, now: UnixMillis) -> Answer<'_, bool> {
        let sql = "UPDATE media SET complete = 1, touched_ms = ?2
                   WHERE number = ?1 AND received = size";
        Box::pin(self.writer.write(move |connection| {
            let mut statement = connection.prepare_cached(sql).map_err(engine)?;
            let rows = statement.execute(params![number, to_sql(now.0)]);
            Ok(rows.map_err(engine)? > 0)
        }))
    }

    fn remove<'a>(&'a self, key: &'a MediaKey, only: Option<MediaNumber>) -> Answer<'a, bool> {
        let key = key.clone();
        Box::pin(self.writer.write(move |connection| {
            let found = find(connection, &key)?.map(|media| media.number);
            match found.filter(|number| only.is_none_or(|only| only == *number)) {
                Some(number) => remove(connection, number).map(|()| true),
                None => Ok(false),
            }
        }))
    }

    fn sweep(&self, before: UnixMillis) -> Answer<'_, bool> {
        Box::pin(
            self.writer
                .write(move |connection| sweep(connection, before)),
        )
    }
}

fn find(connection: &Connection, key: &MediaKey) -> Result<Option<Media>, StoreError> {
    let sql = "SELECT number, content_type, size, sha256, received, complete
               FROM media WHERE space = ?1 AND id = ?2";
    let mut statement = connection.prepare_cached(sql).map_err(engine)?;
    let mut rows = statement
        .query([key.space.to_string().as_str(), key.id.as_str()])
        .map_err(engine)?;
    rows.next().map_err(engine)?.map(stored).transpose()
}

fn stored(row: &Row<'_>) -> Result<Media, StoreError> {
    Ok(Media {
        number: row.get(0).map_err(engine)?,
        declared: Declaration {
            content_type: row.get(1).map_err(engine)?,
            size: from_sql(row.get(2).map_err(engine)?)?,
            sha256: Checksum(row.get(3).map_err(engine)?),
        },
        received: from_sql(row.get(4).map_err(engine)?)?,
        complete: row.get(5).map_err(engine)?,
    })
}

fn begin(
    connection: &Connection,
    key: &MediaKey,
    declared: &Declaration,
    owner: &UserId,
    quota_bytes: u64,
    now: UnixMillis,
) -> Result<Begun, StoreError> {
    if let Some(media) = find(connection, key)? {
        return Ok(Begun::Media(media));
    }
    let sql = "SELECT coalesce(sum(cost), 0) FROM media WHERE owner = ?1";
    let mut statement = connection.prepare_cached(sql).map_err(engine)?;
    let used = statement
        .query_row([owner.as_str()], |row| row.get(0))
        .map_err(engine)?;
    let left = quota_bytes.saturating_sub(from_sql(used)?);
    let cost = cost_bytes(declared.size);
    if cost > left {
        return Ok(Begun::OverQuota(left));
    }
    let sql = "INSERT INTO media
                 (space, id, owner, content_type, size, sha256, received, complete, cost, touched_ms)
               VALUES (:space, :id, :owner, :content_type, :size, :sha256, 0, 0, :cost, :now)";
    let mut statement = connection.prepare_cached(sql).map_err(engine)?;
    let values = named_params! {
        ":space": key.space.to_string(),
        ":id": key.id.as_str(),
        ":owner": owner.as_str(),
        ":content_type": declared.content_type,
        ":size": to_sql(declared.size),
        ":sha256": declared.sha256.0,
        ":cost": to_sql(cost),
        ":now": to_sql(now.0),
    };
    let number = statement.insert(values).map_err(engine)?;
    Ok(Begun::Media(Media {
        number,
        declared: declared.clone(),
        received: 0,
        complete: false,
    }))
}

fn append(
    connection: &Connection,
    number: MediaNumber,
    offset: u64,
    bytes: &Bytes,
    now: UnixMillis,
) -> Result<Appended, StoreError> {
    let sql = "SELECT received FROM media WHERE number = ?1";
    let mut statement = connection.prepare_cached(sql).map_err(engine)?;
    let received = statement
        .query_row([number], |row| row.get(0))
        .optional()
        .map_err(engine)?;
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
    if received % PIECE == 0 {
        put_piece(connection, number, index, &head)?;
    } else {
        let begun = piece(connection, number, index)?;
        let mut begun = begun.ok_or(StoreError::Damaged("a piece is missing"))?;
        begun.extend_from_slice(&head);
        put_piece(connection, number, index, &begun)?;
    }
    if !tail.is_empty() {
        put_piece(connection, number, index + 1, &tail)?;
    }
    let received = received + (head.len() + tail.len()) as u64;
    let sql = "UPDATE media SET received = ?2, touched_ms = ?3 WHERE number = ?1";
    let mut statement = connection.prepare_cached(sql).map_err(engine)?;
    statement
        .execute(params![number, to_sql(received), to_sql(now.0)])
        .map_err(engine)?;
    Ok(Appended::Received(received))
}

fn piece(
    connection: &Connection,
    number: MediaNumber,
    index: u64,
) -> Result<Option<Vec<u8>>, StoreError> {
    let sql = "SELECT data FROM media_pieces WHERE media = ?1 AND piece = ?2";
    let mut statement = connection.prepare_cached(sql).map_err(engine)?;
    let data = statement.query_row(params![number, to_sql(index)], |row| row.get(0));
    data.optional().map_err(engine)
}

fn put_piece(
    connection: &Connection,
    number: MediaNumber,
    index: u64,
    data: &[u8],
) -> Result<(), StoreError> {
    let sql = "INSERT INTO media_pieces (media, piece, data) VALUES (?1, ?2, ?3)
               ON CONFLICT (media, piece) DO UPDATE SET data = excluded.data";
    let mut statement = connection.prepare_cached(sql).map_err(engine)?;
    statement
        .execute(params![number, to_sql(index), data])
        .map_err(engine)?;
    Ok(())
}

fn remove(connection: &Connection, number: MediaNumber) -> Result<(), StoreError> {
    for sql in [
        "DELETE FROM media WHERE number = ?1",
        "INSERT OR IGNORE INTO media_removed (media) VALUES (?1)",
    ] {
        let mut statement = connection.prepare_cached(sql).map_err(engine)?;
        statement.execute([number]).map_err(engine)?;
    }
    Ok(())
}

fn sweep(connection: &Connection, before: UnixMillis) -> Result<bool, StoreError> {
    let sql = "SELECT number FROM media WHERE NOT complete AND touched_ms < ?1 LIMIT 1";
    let stale = one(connection, sql, params![to_sql(before.0)])?;
    if let Some(number) = stale {
        remove(connection, number)?;
    }
    let sql = "SELECT media FROM media_removed LIMIT 1";
    let Some(removed) = one(connection, sql, params![])? else {
        return Ok(false);
    };
    let sql = "DELETE FROM media_pieces WHERE rowid IN
                 (SELECT rowid FROM media_pieces WHERE media = ?1 LIMIT ?2)";
    let most = limits::SWEEP_PIECES_MAX;
    let mut statement = connection.prepare_cached(sql).map_err(engine)?;
    let gone = statement.execute(params![removed, to_sql(most as u64)]);
    if gone.map_err(engine)? < most {
        let sql = "DELETE FROM media_removed WHERE media = ?1";
        let mut statement = connection.prepare_cached(sql).map_err(engine)?;
        statement.execute([removed]).map_err(engine)?;
    }
    Ok(true)
}

fn one(
    connection: &Connection,
    sql: &str,
    values: impl rusqlite::Params,
) -> Result<Option<i64>, StoreError> {
    let mut statement = connection.prepare_cached(sql).map_err(engine)?;
    let number = statement.query_row(values, |row| row.get(0));
    number.optional().map_err(engine)
}
