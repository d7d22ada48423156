//! Reading: pages of records, where a user stands, the conflict log.

use rusqlite::{Connection, params};

use super::push::{head, stored_stamp};
use super::{engine, from_sql, stored_data, to_sql};
use crate::ids::{ClientId, MutationId, RecordId, RecordType, UnixMillis, UserId, Version};
use crate::limits;
use crate::store::checkpoint::{DatabaseId, Seq};
use crate::store::{ConflictEntry, Page, PullQuery, Standing, StoreError};
use crate::wire::PulledRecord;

/// Reads a page. Rows and head come from one transaction, so they are of one moment.
pub(super) fn page(
    connection: &mut Connection,
    id: &DatabaseId,
    user: &UserId,
    query: &PullQuery,
) -> Result<Page, StoreError> {
    let since = query
        .since
        .as_deref()
        .map_or(Ok(0), |checkpoint| id.position(checkpoint))?;
    let transaction = connection.transaction().map_err(engine)?;
    let head = head(&transaction, user)?;
    if since > head {
        // From a state that this database has lost (an older backup was restored): only a pull
        // from the beginning makes the client equal again.
        return Err(StoreError::CheckpointUnknown);
    }
    let (records, last, has_more) = records(&transaction, user, since, query)?;
    // Past the last row there may be others of types that were not asked for.
    let reached = if has_more { last } else { head };
    Ok(Page {
        records,
        checkpoint: id.checkpoint(reached),
        has_more,
    })
}

fn records(
    connection: &Connection,
    user: &UserId,
    since: Seq,
    query: &PullQuery,
) -> Result<(Vec<PulledRecord>, Seq, bool), StoreError> {
    let types = query.types.as_ref().map(|types| {
        serde_json::to_string(types).map_err(|_| StoreError::Damaged("the names of types"))
    });
    let types = types.transpose()?;
    // The plus keeps the planner on the index by position: rows must come in its order.
    let sql = "SELECT type, id, version, data, at, seq FROM records
               WHERE user = ?1 AND seq > ?2
                 AND (?4 IS NULL OR +type IN (SELECT value FROM json_each(?4)))
               ORDER BY seq LIMIT ?3";
    let mut statement = connection.prepare_cached(sql).map_err(engine)?;
    // One more than asked for tells whether there is more.
    let rows_max = to_sql(query.limit as u64 + 1);
    let mut rows = statement
        .query(params![user.as_str(), to_sql(since), rows_max, types])
        .map_err(engine)?;
    let (mut records, mut last, mut bytes) = (Vec::new(), since, 0);
    while let Some(row) = rows.next().map_err(engine)? {
        let data = stored_data(row.get(3).map_err(engine)?)?;
        bytes += data.as_ref().map_or(0, |data| data.as_str().len());
        let full = records.len() == query.limit || bytes > limits::PAGE_BYTES_MAX;
        // A page has at least one record, or the client would never come further.
        if full && !records.is_empty() {
            return Ok((records, last, true));
        }
        records.push(PulledRecord {
            record_type: stored_type(row.get(0).map_err(engine)?)?,
            id: stored_id(row.get(1).map_err(engine)?)?,
            version_number: Version(from_sql(row.get(2).map_err(engine)?)?),
            deleted: data.is_none(),
            data,
            at: stored_stamp(row.get(4).map_err(engine)?)?,
        });
        last = from_sql(row.get(5).map_err(engine)?)?;
    }
    Ok((records, last, false))
}

/// Where the user's data stands.
pub(super) fn standing(
    connection: &mut Connection,
    id: &DatabaseId,
    user: &UserId,
) -> Result<Standing, StoreError> {
    let transaction = connection.transaction().map_err(engine)?;
    let head = head(&transaction, user)?;
    let sql = "SELECT count(*) FROM sync_conflicts WHERE user = ?1 AND outcome = 'open'";
    let mut statement = transaction.prepare_cached(sql).map_err(engine)?;
    let open = statement
        .query_row([user.as_str()], |row| row.get(0))
        .map_err(engine)?;
    Ok(Standing {
        checkpoint: id.checkpoint(head),
        conflicts: from_sql(open)?,
    })
}

/// The user's conflict log, oldest first.
pub(super) fn conflicts(
    connection: &Connection,
    user: &UserId,
    limit: usize,
) -> Result<Vec<ConflictEntry>, StoreError> {
    let sql = "SELECT id, type, record, mutation, base_version, server_version, local, remote,
                      client, detected_ms, outcome
               FROM sync_conflicts WHERE user = ?1 ORDER BY id LIMIT ?2";
    let mut statement = connection.prepare_cached(sql).map_err(engine)?;
    let mut rows = statement
        .query(params![user.as_str(), to_sql(limit as u64)])
        .map_err(engine)?;
    let mut entries = Vec::new();
    while let Some(row) = rows.next().map_err(engine)? {
        let mutation: String = row.get(3).map_err(engine)?;
        let client: String = row.get(8).map_err(engine)?;
        entries.push(ConflictEntry {
            id: row.get(0).map_err(engine)?,
            record_type: stored_type(row.get(1).map_err(engine)?)?,
            record: stored_id(row.get(2).map_err(engine)?)?,
            mutation: MutationId::new(mutation).map_err(|_| StoreError::Damaged("an id"))?,
            base: Version(from_sql(row.get(4).map_err(engine)?)?),
            version: Version(from_sql(row.get(5).map_err(engine)?)?),
            local: stored_data(row.get(6).map_err(engine)?)?,
            remote: stored_data(row.get(7).map_err(engine)?)?,
            client: ClientId::new(client).map_err(|_| StoreError::Damaged("a client's id"))?,
            detected_at: UnixMillis(from_sql(row.get(9).map_err(engine)?)?),
            outcome: row.get(10).map_err(engine)?,
        });
    }
    Ok(entries)
}

fn stored_type(text: String) -> Result<RecordType, StoreError> {
    RecordType::new(text).map_err(|_| StoreError::Damaged("a type"))
}

fn stored_id(text: String) -> Result<RecordId, StoreError> {
    RecordId::new(text).map_err(|_| StoreError::Damaged("a record's id"))
}
