//! The conflict log: every detected conflict enters it, with both versions.

use rusqlite::{Connection, Row, named_params, params};

use super::pull::{stored_id, stored_type};
use super::{engine, from_sql, stored_client, stored_data, stored_space, to_sql};
use crate::access::{Access, Space};
use crate::change::{Change, Edit};
use crate::data::RecordData;
use crate::ids::{MutationId, UnixMillis, Version};
use crate::limits;
use crate::ruling::Located;
use crate::store::{ConflictEntry, ConflictId, Outcome, StoreError, Verdict};

/// The columns that [`entry`] reads.
const COLUMNS: &str = "id, type, record, mutation, action, base_version, server_version, local,
                       local_changed, remote, client, detected_ms, outcome, space";

/// Logs a conflict with the record as it stands, and makes the verdict of it.
pub(super) fn log_conflict(
    connection: &Connection,
    access: &Access,
    change: &Change,
    Located { space, record }: Located,
    now: UnixMillis,
) -> Result<Verdict, StoreError> {
    let changed = match &change.edit {
        Edit::Patch { changed, .. } => serde_json::to_string(changed).ok(),
        _ => None,
    };
    let id = next_id(connection)?;
    let sql = "INSERT INTO sync_conflicts
                 (id, user, space, type, record, mutation, action, base_version, server_version, local,
                  local_changed, local_at, remote, remote_at, client, detected_ms, outcome)
               VALUES (:id, :user, :space, :type, :record, :mutation, :action, :base, :version, :local,
                       :changed, :local_at, :remote, :remote_at, :client, :now, 'open')";
    let mut statement = connection.prepare_cached(sql).map_err(engine)?;
    let values = named_params! {
        ":id": id.0,
        ":user": access.user().as_str(),
        ":space": space.to_string(),
        ":type": change.record_type.as_str(),
        ":record": change.record.as_str(),
        ":mutation": change.mutation.as_str(),
        ":action": change.edit.action(),
        ":base": to_sql(change.base.0),
        ":version": to_sql(record.version.0),
        ":local": change.edit.data().map(RecordData::as_str),
        ":changed": changed,
        ":local_at": change.at.as_str(),
        ":remote": record.data.as_ref().map(RecordData::as_str),
        ":remote_at": record.at.as_str(),
        ":client": change.client.as_str(),
        ":now": to_sql(now.0),
    };
    statement.execute(values).map_err(engine)?;
    Ok(Verdict::Conflict {
        id,
        version: record.version,
        data: record.data,
        at: record.at,
    })
}

/// An id that no conflict has had, not one that was purged either: who has seen that one must not settle another.
fn next_id(connection: &Connection) -> Result<ConflictId, StoreError> {
    let sql = "UPDATE conflict_ids SET newest = newest + 1 RETURNING newest";
    let mut statement = connection.prepare_cached(sql).map_err(engine)?;
    let newest = statement.query_row([], |row| row.get(0));
    newest.map(ConflictId).map_err(engine)
}

/// Settles what an accepted change of the same client has made up for: conflicts of the record
/// whose version it was made on, or an older one.
pub(super) fn settle_rebased(
    connection: &Connection,
    access: &Access,
    change: &Change,
    version: Version,
    now: UnixMillis,
) -> Result<(), StoreError> {
    let sql = "UPDATE sync_conflicts
               SET outcome = 'rebased', settled_ms = :now, settled_version = :version
               WHERE user = :user AND type = :type AND record = :record AND outcome = 'open'
                 AND client = :client AND server_version <= :base";
    let mut statement = connection.prepare_cached(sql).map_err(engine)?;
    let values = named_params! {
        ":user": access.user().as_str(),
        ":type": change.record_type.as_str(),
        ":record": change.record.as_str(),
        ":client": change.client.as_str(),
        ":base": to_sql(change.base.0),
        ":version": to_sql(version.0),
        ":now": to_sql(now.0),
    };
    statement.execute(values).map_err(engine)?;
    Ok(())
}

/// How many of the asker's conflicts are open.
pub(super) fn open_conflicts(connection: &Connection, access: &Access) -> Result<u64, StoreError> {
    let sql = "SELECT count(*) FROM sync_conflicts
               WHERE user = ?1 AND outcome = 'open' AND space IN (SELECT value FROM json_each(?2))";
    let mut statement = connection.prepare_cached(sql).map_err(engine)?;
    let open = statement
        .query_row(params![access.user().as_str(), spaces(access)?], |row| {
            row.get(0)
        })
        .map_err(engine)?;
    from_sql(open)
}

/// The asker's log after an entry, oldest first.
pub(super) fn conflicts(
    connection: &Connection,
    access: &Access,
    after: ConflictId,
    limit: usize,
) -> Result<Vec<ConflictEntry>, StoreError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM sync_conflicts
         WHERE user = ?1 AND id > ?2 AND space IN (SELECT value FROM json_each(?3))
         ORDER BY id LIMIT ?4"
    );
    let mut statement = connection.prepare_cached(&sql).map_err(engine)?;
    let limit = to_sql(limit as u64);
    let mut rows = statement
        .query(params![
            access.user().as_str(),
            after.0,
            spaces(access)?,
            limit
        ])
        .map_err(engine)?;
    let (mut entries, mut bytes) = (Vec::new(), 0);
    while let Some(row) = rows.next().map_err(engine)? {
        let entry = entry(row)?;
        bytes += entry.bytes();
        entries.push(entry);
        if bytes >= limits::PAGE_BYTES_MAX {
            break;
        }
    }
    Ok(entries)
}

/// One of the asker's conflicts, if there is this one and it is open to them.
pub(super) fn conflict(
    connection: &Connection,
    access: &Access,
    id: ConflictId,
) -> Result<Option<ConflictEntry>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM sync_conflicts WHERE id = ?1 AND user = ?2");
    let mut statement = connection.prepare_cached(&sql).map_err(engine)?;
    let mut rows = statement
        .query(params![id.0, access.user().as_str()])
        .map_err(engine)?;
    let Some(row) = rows.next().map_err(engine)? else {
        return Ok(None);
    };
    let space = stored_space(&row.get::<_, String>(13).map_err(engine)?)?;
    if access.may(&space) {
        entry(row).map(Some)
    } else {
        Ok(None)
    }
}

fn entry(row: &Row<'_>) -> Result<ConflictEntry, StoreError> {
    let mutation: String = row.get(3).map_err(engine)?;
    let changed: Option<String> = row.get(8).map_err(engine)?;
    let changed = changed.map(|text| serde_json::from_str(&text)).transpose();
    let outcome: String = row.get(12).map_err(engine)?;
    Ok(ConflictEntry {
        id: ConflictId(row.get(0).map_err(engine)?),
        record_type: stored_type(row.get(1).map_err(engine)?)?,
        record: stored_id(row.get(2).map_err(engine)?)?,
        mutation: MutationId::new(mutation).map_err(|_| StoreError::Damaged("an id"))?,
        action: row.get(4).map_err(engine)?,
        base: Version(from_sql(row.get(5).map_err(engine)?)?),
        version: Version(from_sql(row.get(6).map_err(engine)?)?),
        local: stored_data(row.get(7).map_err(engine)?)?,
        changed: changed.map_err(|_| StoreError::Damaged("names of fields"))?,
        remote: stored_data(row.get(9).map_err(engine)?)?,
        client: stored_client(row.get(10).map_err(engine)?)?,
        detected_at: UnixMillis(from_sql(row.get(11).map_err(engine)?)?),
        outcome: Outcome::parse(&outcome).ok_or(StoreError::Damaged("an outcome"))?,
    })
}

/// The asker's spaces as a JSON array, for `IN`.
pub(super) fn spaces(access: &Access) -> Result<String, StoreError> {
    let spaces: Vec<_> = access
        .spaces()
        .map(|space: Space| space.to_string())
        .collect();
    serde_json::to_string(&spaces).map_err(|_| StoreError::Damaged("the names of spaces"))
}
