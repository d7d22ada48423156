//! Deleting what is old, in steps that hold the writer for a few milliseconds each.

use std::collections::BTreeMap;

use rusqlite::{Connection, Params, params};

use super::heads::raise_floor;
use super::{engine, to_sql};
use crate::ids::UnixMillis;
use crate::limits;
use crate::store::{Purged, StoreError};

/// Deletes at most [`limits::PURGE_ROWS`] of each kind, inside the caller's transaction.
pub(super) fn purge(connection: &Connection, horizon: UnixMillis) -> Result<Purged, StoreError> {
    let (horizon, rows_max) = (to_sql(horizon.0), to_sql(limits::PURGE_ROWS as u64));
    let tombstones = tombstones(connection, horizon, rows_max)?;
    let departures = departures(connection, horizon, rows_max)?;
    let mutations = execute(
        connection,
        "DELETE FROM mutations WHERE (user, id) IN
           (SELECT user, id FROM mutations WHERE applied_ms < ?1 ORDER BY applied_ms LIMIT ?2)",
        params![horizon, rows_max],
    )?;
    // After the mutations, some of which refer to them.
    let conflicts = execute(
        connection,
        "DELETE FROM sync_conflicts WHERE id IN
           (SELECT id FROM sync_conflicts c
            WHERE settled_ms IS NOT NULL AND settled_ms < ?1
              AND NOT EXISTS (SELECT 1 FROM mutations m WHERE m.conflict = c.id)
            ORDER BY settled_ms LIMIT ?2)",
        params![horizon, rows_max],
    )?;
    let counts = [tombstones, departures, mutations, conflicts];
    Ok(Purged {
        tombstones: tombstones + departures,
        mutations,
        conflicts,
        more: counts.contains(&limits::PURGE_ROWS),
    })
}

fn tombstones(connection: &Connection, horizon: i64, rows_max: i64) -> Result<usize, StoreError> {
    let sql = "DELETE FROM records WHERE rowid IN
                 (SELECT rowid FROM records WHERE deleted = 1 AND changed_ms < ?1
                  ORDER BY changed_ms LIMIT ?2)
               RETURNING space, seq";
    sweep(connection, sql, horizon, rows_max)
}

fn departures(connection: &Connection, horizon: i64, rows_max: i64) -> Result<usize, StoreError> {
    let sql = "DELETE FROM departures WHERE (space, type, id) IN
                 (SELECT space, type, id FROM departures WHERE changed_ms < ?1
                  ORDER BY changed_ms LIMIT ?2)
               RETURNING space, seq";
    sweep(connection, sql, horizon, rows_max)
}

/// Deletes rows, and raises the floors of their spaces to them.
fn sweep(
    connection: &Connection,
    sql: &str,
    horizon: i64,
    rows_max: i64,
) -> Result<usize, StoreError> {
    let mut statement = connection.prepare_cached(sql).map_err(engine)?;
    let mut rows = statement
        .query(params![horizon, rows_max])
        .map_err(engine)?;
    let (mut count, mut floors) = (0, BTreeMap::new());
    while let Some(row) = rows.next().map_err(engine)? {
        let space: String = row.get(0).map_err(engine)?;
        let seq: i64 = row.get(1).map_err(engine)?;
        let floor = floors.entry(space).or_insert(seq);
        *floor = seq.max(*floor);
        count += 1;
    }
    for (space, seq) in floors {
        raise_floor(connection, &space, seq)?;
    }
    Ok(count)
}

fn execute(
    connection: &Connection,
    sql: &str,
    parameters: impl Params,
) -> Result<usize, StoreError> {
    let mut statement = connection.prepare_cached(sql).map_err(engine)?;
    statement.execute(parameters).map_err(engine)
}
