//! Deleting what is old, in steps of some milliseconds. Several servers may purge at once: what one is
//! at, the others pass over.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::{PgConnection, PgPool, Row};

use super::fault::fault;
use super::load::lock;
use super::push::Fault;
use super::rows;
use crate::access::Space;
use crate::limits;
use crate::store::{Horizons, Purged, StoreError};

/// The columns by which a row is deleted, and those by which the old ones are found.
struct Kind {
    find: &'static str,
    delete: &'static str,
}

const TOMBSTONES: Kind = Kind {
    find: "SELECT DISTINCT space FROM (SELECT space FROM records
           WHERE data IS NULL AND changed_ms < $1 ORDER BY changed_ms LIMIT $2) AS old",
    delete: "DELETE FROM records WHERE (realm, type, id) IN (
                 SELECT realm, type, id FROM records
                 WHERE data IS NULL AND changed_ms < $1 AND space = ANY($3)
                 ORDER BY changed_ms LIMIT $2)
             RETURNING space, seq, realm, version",
};

const DEPARTURES: Kind = Kind {
    find: "SELECT DISTINCT space FROM (SELECT space FROM departures
           WHERE changed_ms < $1 ORDER BY changed_ms LIMIT $2) AS old",
    delete: "DELETE FROM departures WHERE (space, type, id) IN (
                 SELECT space, type, id FROM departures
                 WHERE changed_ms < $1 AND space = ANY($3)
                 ORDER BY changed_ms LIMIT $2)
             RETURNING space, seq, '', version",
};

const MUTATIONS: &str = "DELETE FROM mutations WHERE (user_id, id) IN (
         SELECT user_id, id FROM mutations WHERE applied_ms < $1
         ORDER BY applied_ms LIMIT $2 FOR UPDATE SKIP LOCKED)";

const CONFLICTS: &str = "DELETE FROM sync_conflicts WHERE id IN (
         SELECT id FROM sync_conflicts c
         WHERE settled_ms IS NOT NULL AND settled_ms < $1
           AND NOT EXISTS (SELECT 1 FROM mutations m WHERE m.conflict = c.id)
         ORDER BY settled_ms LIMIT $2 FOR UPDATE SKIP LOCKED)";

const OPEN_CONFLICTS: &str = "DELETE FROM sync_conflicts WHERE id IN (
         SELECT id FROM sync_conflicts c
         WHERE outcome = 'open' AND detected_ms < $1
           AND NOT EXISTS (SELECT 1 FROM mutations m WHERE m.conflict = c.id)
         ORDER BY detected_ms LIMIT $2 FOR UPDATE SKIP LOCKED)";

/// Deletes at most [`limits::PURGE_ROWS`] of each kind.
pub(super) async fn purge(pool: &PgPool, horizons: Horizons) -> Result<Purged, StoreError> {
    let mut connection = pool.acquire().await.map_err(fault)?;
    let horizon = rows::to_sql(horizons.past.0);
    let tombstones = sweep(&mut connection, &TOMBSTONES, horizon).await?;
    let departures = sweep(&mut connection, &DEPARTURES, horizon).await?;
    let mutations = delete(&mut connection, MUTATIONS, horizon).await?;
    // After the mutations, some of which refer to them.
    let conflicts = delete(&mut connection, CONFLICTS, horizon).await?;
    let unsettled = rows::to_sql(horizons.open_conflicts.0);
    let open_conflicts = delete(&mut connection, OPEN_CONFLICTS, unsettled).await?;
    let counts = [tombstones, departures, mutations, conflicts, open_conflicts];
    Ok(Purged {
        tombstones: tombstones + departures,
        mutations,
        conflicts: conflicts + open_conflicts,
        more: counts.contains(&limits::PURGE_ROWS),
    })
}

fn rows_max() -> i64 {
    rows::to_sql(limits::PURGE_ROWS as u64)
}

async fn delete(
    connection: &mut PgConnection,
    sql: &'static str,
    horizon: i64,
) -> Result<usize, Fault> {
    let done = sqlx::query(sql)
        .bind(horizon)
        .bind(rows_max())
        .execute(connection)
        .await?;
    Ok(usize::try_from(done.rows_affected()).unwrap_or(usize::MAX))
}

/// Deletes rows, and raises the floors of their spaces to them: under the spaces' locks, so that no
/// push finds its record gone half-way.
async fn sweep(connection: &mut PgConnection, kind: &Kind, horizon: i64) -> Result<usize, Fault> {
    let found: Vec<String> = sqlx::query_scalar(kind.find)
        .bind(horizon)
        .bind(rows_max())
        .fetch_all(&mut *connection)
        .await?;
    if found.is_empty() {
        return Ok(0);
    }
    let spaces: Result<BTreeSet<Space>, _> = found.iter().map(|text| rows::space(text)).collect();
    let mut transaction = sqlx::Connection::begin(connection).await?;
    lock(&mut transaction, &spaces?).await?;
    let deleted = sqlx::query(kind.delete)
        .bind(horizon)
        .bind(rows_max())
        .bind(&found)
        .fetch_all(&mut *transaction)
        .await?;
    let (mut floors, mut versions) = (BTreeMap::new(), BTreeMap::new());
    for row in &deleted {
        raise(&mut floors, row.try_get(0)?, row.try_get(1)?);
        raise(&mut versions, row.try_get(2)?, row.try_get(3)?);
    }
    let sql = "UPDATE heads h SET floor = greatest(h.floor, n.floor)
               FROM unnest($1::text[], $2::bigint[]) AS n (space, floor) WHERE h.space = n.space";
    sqlx::query(sql)
        .bind(floors.keys().map(String::as_str).collect::<Vec<_>>())
        .bind(floors.values().copied().collect::<Vec<_>>())
        .execute(&mut *transaction)
        .await?;
    let newest = rows::to_sql(limits::PURGED_VERSION_MAX);
    let sql = "INSERT INTO purged (realm, version)
               SELECT realm, least(version, $3) FROM unnest($1::text[], $2::bigint[])
                 AS n (realm, version) ORDER BY realm
               ON CONFLICT (realm)
                 DO UPDATE SET version = greatest(purged.version, excluded.version)";
    sqlx::query(sql)
        .bind(versions.keys().map(String::as_str).collect::<Vec<_>>())
        .bind(versions.values().copied().collect::<Vec<_>>())
        .bind(newest)
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await?;
    Ok(deleted.len())
}

fn raise(of: &mut BTreeMap<String, i64>, key: String, to: i64) {
    let highest = of.entry(key).or_insert(to);
    *highest = to.max(*highest);
}
