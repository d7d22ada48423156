//! One record: read, written, moved.

use rusqlite::{Connection, OptionalExtension, named_params, params};

use super::heads::Numbering;
use super::{engine, from_sql, stored_client, stored_data, stored_space, stored_stamp, to_sql};
use crate::access::Space;
use crate::data::RecordData;
use crate::decide::Record;
use crate::ids::{RecordId, RecordType, UnixMillis, Version};
use crate::ruling::Located;
use crate::store::StoreError;

/// Which record: its realm (see [`crate::access::Sharing::realm`]), type and id.
#[derive(Clone, Copy)]
pub(super) struct Key<'a> {
    pub(super) realm: &'a str,
    pub(super) record_type: &'a RecordType,
    pub(super) id: &'a RecordId,
}

/// The record as it stands, or its tombstone.
pub(super) fn find(connection: &Connection, key: Key<'_>) -> Result<Option<Located>, StoreError> {
    let sql = "SELECT version, data, at, client, space FROM records
               WHERE realm = ?1 AND type = ?2 AND id = ?3";
    let mut statement = connection.prepare_cached(sql).map_err(engine)?;
    let mut rows = statement
        .query([key.realm, key.record_type.as_str(), key.id.as_str()])
        .map_err(engine)?;
    let Some(row) = rows.next().map_err(engine)? else {
        return Ok(None);
    };
    Ok(Some(Located {
        space: stored_space(&row.get::<_, String>(4).map_err(engine)?)?,
        record: Record {
            version: Version(from_sql(row.get(0).map_err(engine)?)?),
            data: stored_data(row.get(1).map_err(engine)?)?,
            at: stored_stamp(row.get(2).map_err(engine)?)?,
            client: stored_client(row.get(3).map_err(engine)?)?,
        },
    }))
}

/// The version before that of a record that comes to be: the newest that was purged in its realm.
pub(super) fn purged(connection: &Connection, key: Key<'_>) -> Result<Version, StoreError> {
    let sql = "SELECT version FROM purged WHERE realm = ?1";
    let mut statement = connection.prepare_cached(sql).map_err(engine)?;
    let version = statement
        .query_row([key.realm], |row| row.get(0))
        .optional()
        .map_err(engine)?;
    from_sql(version.unwrap_or(0)).map(Version)
}

/// Writes a record's new state, at the next position of its space; `before` is where it lived.
pub(super) fn put(
    connection: &Connection,
    key: Key<'_>,
    located: &Located,
    before: Option<&Space>,
    numbering: &mut Numbering,
    now: UnixMillis,
) -> Result<(), StoreError> {
    if let Some(before) = before.filter(|before| **before != located.space) {
        depart(connection, key, located, before, numbering, now)?;
    }
    let Located { space, record } = located;
    let seq = numbering.next(connection, space)?;
    let sql = "INSERT INTO records
                 (realm, type, id, space, version, seq, deleted, data, at, client, changed_ms)
               VALUES (:realm, :type, :id, :space, :version, :seq, :deleted, :data, :at, :client,
                       :now)
               ON CONFLICT (realm, type, id) DO UPDATE SET
                 space = excluded.space, version = excluded.version, seq = excluded.seq,
                 deleted = excluded.deleted, data = excluded.data, at = excluded.at,
                 client = excluded.client, changed_ms = excluded.changed_ms";
    let mut statement = connection.prepare_cached(sql).map_err(engine)?;
    let values = named_params! {
        ":realm": key.realm,
        ":type": key.record_type.as_str(),
        ":id": key.id.as_str(),
        ":space": space.to_string(),
        ":version": to_sql(record.version.0),
        ":seq": to_sql(seq),
        ":deleted": record.data.is_none(),
        ":data": record.data.as_ref().map(RecordData::as_str),
        ":at": record.at.as_str(),
        ":client": record.client.as_str(),
        ":now": to_sql(now.0),
    };
    statement.execute(values).map_err(engine)?;
    Ok(())
}

/// Leaves word in the old space, and takes back what was left in the new one when the record was
/// there before.
fn depart(
    connection: &Connection,
    key: Key<'_>,
    located: &Located,
    before: &Space,
    numbering: &mut Numbering,
    now: UnixMillis,
) -> Result<(), StoreError> {
    let (record_type, id) = (key.record_type.as_str(), key.id.as_str());
    let back = "DELETE FROM departures WHERE space = ?1 AND type = ?2 AND id = ?3";
    let mut statement = connection.prepare_cached(back).map_err(engine)?;
    statement
        .execute(params![located.space.to_string(), record_type, id])
        .map_err(engine)?;

    let seq = numbering.next(connection, before)?;
    let sql = "INSERT INTO departures (space, type, id, seq, version, at, changed_ms)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
               ON CONFLICT (space, type, id) DO UPDATE SET
                 seq = excluded.seq, version = excluded.version, at = excluded.at,
                 changed_ms = excluded.changed_ms";
    let mut statement = connection.prepare_cached(sql).map_err(engine)?;
    let values = params![
        before.to_string(),
        record_type,
        id,
        to_sql(seq),
        to_sql(located.departed().0),
        located.record.at.as_str(),
        to_sql(now.0),
    ];
    statement.execute(values).map_err(engine)?;
    Ok(())
}
