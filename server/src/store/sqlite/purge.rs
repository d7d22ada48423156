//! Deleting what is old, in steps that hold the writer for a few milliseconds each.

use std::collections::BTreeMap;

use rusqlite::{Connection, Params, params};

use super::heads::raise_floor;
use super::{engine, to_sql};
use crate::limits;
use crate::store::{Horizons, Purged, StoreError};

/// Deletes at most [`limits::PURGE_ROWS`] of each kind, inside the caller's transaction.
pub(super) fn purge(connection: &Connection, horizons: Horizons) -> Result<Purged, StoreError> {
    let (horizon, rows_max) = (to_sql(horizons.past.0), to_sql(limits::PURGE_ROWS as u64));
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
    let open_conflicts = execute(
        connection,
        "DELETE FROM sync_conflicts WHERE id IN
           (SELECT id FROM sync_conflicts c
            WHERE outcome = 'open' AND detected_ms < ?1
              AND NOT EXISTS (SELECT 1 FROM mutations m WHERE m.conflict = c.id)
            ORDER BY detected_ms LIMIT ?2)",
        params![to_sql(horizons.open_conflicts.0), rows_max],
    )?;
    let counts = [tombstones, departures, mutations, conflicts, open_conflicts];
    Ok(Purged {
        tombstones: tombstones + departures,
        mutations,
        conflicts: conflicts + open_conflicts,
        more: counts.contains(&limits::PURGE_ROWS),
    })
}

fn tombstones(connection: &Connection, horizon: i64, rows_max: i64) -> Result<usize, StoreError> {
    let sql = "DELETE FROM records WHERE rowid IN
                 (SELECT rowid FROM records WHERE deleted = 1 AND changed_ms < ?1
                  ORDER BY changed_ms LIMIT ?2)
               RETURNING space, seq, realm, version";
    sweep(connection, sql, horizon, rows_max)
}

fn departures(connection: &Connection, horizon: i64, rows_max: i64) -> Result<usize, StoreError> {
    let sql = "DELETE FROM departures WHERE (space, type, id) IN
                 (SELECT space, type, id FROM departures WHERE changed_ms < ?1
                  ORDER BY changed_ms LIMIT ?2)
               RETURNING space, seq, '', version";
    sweep(connection, sql, horizon, rows_max)
}

/// Deletes rows; raises the floors of their spaces to them, and what their realms remember.
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
    let (mut floors, mut versions) = (BTreeMap::new(), BTreeMap::new());
    let mut count = 0;
    while let Some(row) = rows.next().map_err(engine)? {
        let space: String = row.get(0).map_err(engine)?;
        raise(&mut floors, space, row.get(1).map_err(engine)?);
        let realm: String = row.get(2).map_err(engine)?;
        raise(&mut versions, realm, row.get(3).map_err(engine)?);
        count += 1;
    }
    for (space, seq) in floors {
        raise_floor(connection, &space, seq)?;
    }
    for (realm, version) in versions {
        raise_purged(connection, &realm, version)?;
    }
    Ok(count)
}

fn raise(of: &mut BTreeMap<String, i64>, key: String, to: i64) {
    let highest = of.entry(key).or_insert(to);
    *highest = to.max(*highest);
}

fn raise_purged(connection: &Connection, realm: &str, version: i64) -> Result<(), StoreError> {
    let version = version.min(to_sql(limits::PURGED_VERSION_MAX));
    let sql = "INSERT INTO purged (realm, version) VALUES (?1, ?2)
               ON CONFLICT (realm) DO UPDATE SET version = max(version, excluded.version)";
    execute(connection, sql, params![realm, version])?;
    Ok(())
}

fn execute(
    connection: &Connection,
    sql: &str,
    parameters: impl Params,
) -> Result<usize, StoreError> {
    let mut statement = connection.prepare_cached(sql).map_err(engine)?;
    statement.execute(parameters).map_err(engine)
}
