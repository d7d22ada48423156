//! Locks, and what is read under them.
//!
//! **Positions and late commits.** A number in a space is taken while the space's row in `heads` is
//! locked, and the lock is held until the commit. So of two transactions that write to a space the
//! second takes its numbers after the first has committed: a lower number never becomes visible after a
//! higher one, and a reader's checkpoint never skips a row. Sequences and clocks do not promise that.
//!
//! **Which spaces.** The asker's own, always: so two copies of one mutation wait for each other, and
//! the second finds the first one's result. Those that the changes' records are in, and those that
//! they are to be in. All in the order of their names, so that nobody waits in a circle. A record can
//! move while we wait for the lock; then all is done again, with the lock of its new space.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row};

use super::draft::{Key, Loaded, Remembered, Unlocked};
use super::push::Fault;
use super::rows;
use crate::access::{Access, Sharing, Space};
use crate::change::{Change, Failure, FailureCode};
use crate::ids::{MutationId, Version};
use crate::ruling::Located;
use crate::store::checkpoint::Seq;
use crate::store::{ConflictId, StoreError, Verdict};

/// The spaces that a batch may write to, as far as can be told before they are locked.
pub(super) async fn spaces(
    connection: &mut PgConnection,
    access: &Access,
    changes: &[Change],
) -> Result<BTreeSet<Space>, Fault> {
    let mut spaces = BTreeSet::from([access.own_space()]);
    let shared: Vec<&Change> = changes
        .iter()
        .filter(|change| change.sharing != Sharing::Private)
        .collect();
    if shared.is_empty() {
        return Ok(spaces);
    }
    for change in &shared {
        let named = change.edit.entity_source(&change.sharing);
        spaces.extend(named.and_then(|data| change.sharing.space(access.user(), data).ok()));
    }
    let sql = "SELECT DISTINCT r.space FROM unnest($1::text[], $2::text[]) AS k (type, id)
               JOIN records r ON r.realm = '' AND r.type = k.type AND r.id = k.id";
    let types: Vec<&str> = shared.iter().map(|c| c.record_type.as_str()).collect();
    let ids: Vec<&str> = shared.iter().map(|c| c.record.as_str()).collect();
    let rows: Vec<String> = sqlx::query_scalar(sql)
        .bind(types)
        .bind(ids)
        .fetch_all(connection)
        .await?;
    for text in rows {
        spaces.insert(rows::space(&text)?);
    }
    // What is not the asker's is not written to: no reason to make others wait.
    spaces.retain(|space| access.may(space));
    Ok(spaces)
}

/// Locks the spaces until the end of the transaction; where they stand. Those that have no row yet
/// are left out.
pub(super) async fn lock(
    connection: &mut PgConnection,
    spaces: &BTreeSet<Space>,
) -> Result<BTreeMap<Space, Seq>, Fault> {
    let sql = "SELECT space, seq FROM heads WHERE space = ANY($1) ORDER BY space FOR UPDATE";
    let names: Vec<String> = spaces.iter().map(ToString::to_string).collect();
    let rows = sqlx::query(sql).bind(names).fetch_all(connection).await?;
    let mut heads = BTreeMap::new();
    for row in rows {
        let text: String = row.try_get(0)?;
        heads.insert(rows::space(&text)?, rows::from_sql(row.try_get(1)?)?);
    }
    Ok(heads)
}

/// Makes the rows of spaces that nobody has written to before. By itself, before any lock is held:
/// among locks, it could wait in a circle.
pub(super) async fn found(
    connection: &mut PgConnection,
    spaces: &BTreeSet<Space>,
) -> Result<(), Fault> {
    let sql = "INSERT INTO heads (space, seq) SELECT space, 0 FROM unnest($1::text[]) AS n (space)
               ORDER BY space ON CONFLICT (space) DO NOTHING";
    let names: Vec<String> = spaces.iter().map(ToString::to_string).collect();
    sqlx::query(sql).bind(names).execute(connection).await?;
    Ok(())
}

/// Reads what the changes are about.
pub(super) async fn load(
    connection: &mut PgConnection,
    access: &Access,
    changes: &[Change],
    heads: BTreeMap<Space, Seq>,
) -> Result<Loaded, Fault> {
    let memory = memory(connection, access, changes).await?;
    let keys = changes.iter().map(|change| {
        let realm = change.sharing.realm(access.user());
        (realm, change.record_type.as_str(), change.record.as_str())
    });
    let records = records(connection, keys.collect()).await?;
    for located in records.values() {
        if access.may(&located.space) && !heads.contains_key(&located.space) {
            return Err(Unlocked(located.space.clone()).into());
        }
    }
    // After the records: one whose tombstone was not found has been purged by then.
    let purged = purged(connection, access).await?;
    Ok(Loaded {
        heads,
        records,
        memory,
        purged,
    })
}

/// Reads records by their realms, types and ids.
pub(super) async fn records(
    connection: &mut PgConnection,
    wanted: BTreeSet<(&str, &str, &str)>,
) -> Result<HashMap<Key, Located>, Fault> {
    let sql = "SELECT r.type, r.id, r.version, r.data, r.at, r.client, r.space
               FROM unnest($1::text[], $2::text[], $3::text[]) AS k (realm, type, id)
               JOIN records r ON r.realm = k.realm AND r.type = k.type AND r.id = k.id";
    let (mut realms, mut types, mut ids) = (Vec::new(), Vec::new(), Vec::new());
    for (realm, record_type, id) in wanted {
        realms.push(realm);
        types.push(record_type);
        ids.push(id);
    }
    let rows = sqlx::query(sql)
        .bind(realms)
        .bind(types)
        .bind(ids)
        .fetch_all(connection)
        .await?;
    let mut records = HashMap::with_capacity(rows.len());
    for row in &rows {
        let key = (
            rows::record_type(row.try_get("type")?)?,
            rows::record_id(row.try_get("id")?)?,
        );
        records.insert(key, rows::located(row)?);
    }
    Ok(records)
}

/// What is remembered of purged tombstones in the realms that are open to the asker.
async fn purged(
    connection: &mut PgConnection,
    access: &Access,
) -> Result<HashMap<String, Version>, Fault> {
    let rows = sqlx::query("SELECT realm, version FROM purged WHERE realm IN ('', $1)")
        .bind(access.user().as_str())
        .fetch_all(connection)
        .await?;
    let read = |row: &PgRow| Ok((row.try_get(0)?, rows::version(row, 1)?));
    rows.iter().map(read).collect()
}

/// The first results of mutations that were here before.
async fn memory(
    connection: &mut PgConnection,
    access: &Access,
    changes: &[Change],
) -> Result<HashMap<MutationId, Remembered>, Fault> {
    let sql = "SELECT m.id, m.type, m.record, m.status, m.version, m.code, m.message,
                      c.id AS conflict, c.server_version, c.remote, c.remote_at, c.space
               FROM mutations m LEFT JOIN sync_conflicts c ON c.id = m.conflict
               WHERE m.user_id = $1 AND m.id = ANY($2)";
    let ids: Vec<&str> = changes.iter().map(|c| c.mutation.as_str()).collect();
    let rows = sqlx::query(sql)
        .bind(access.user().as_str())
        .bind(ids)
        .fetch_all(connection)
        .await?;
    let mut memory = HashMap::with_capacity(rows.len());
    for row in &rows {
        let id: String = row.try_get("id")?;
        let id = MutationId::new(id).map_err(|_| StoreError::Damaged("an id"))?;
        let key = (
            rows::record_type(row.try_get("type")?)?,
            rows::record_id(row.try_get("record")?)?,
        );
        let verdict = verdict(access, row)?;
        memory.insert(id, Remembered { key, verdict });
    }
    Ok(memory)
}

fn verdict(access: &Access, row: &PgRow) -> Result<Verdict, Fault> {
    let status: &str = row.try_get("status")?;
    match status {
        "success" => Ok(Verdict::Success(rows::version(row, "version")?)),
        "conflict" => {
            let space: String = row.try_get("space")?;
            // The record that it answered with may have been closed to the asker since.
            if !access.may(&rows::space(&space)?) {
                return Ok(Verdict::Failed(Failure::forbidden()));
            }
            Ok(Verdict::Conflict {
                id: ConflictId(row.try_get("conflict")?),
                version: rows::version(row, "server_version")?,
                data: rows::data(row.try_get("remote")?)?,
                at: rows::stamp(row.try_get("remote_at")?)?,
            })
        }
        _ => {
            let code: &str = row.try_get("code")?;
            let code = FailureCode::parse(code).ok_or(StoreError::Damaged("a failure's code"))?;
            let message = row.try_get("message")?;
            Ok(Verdict::Failed(Failure { code, message }))
        }
    }
}
