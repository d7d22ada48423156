//! The conflict log, and settling what is in it.

use sqlx::postgres::PgRow;
use sqlx::{PgConnection, PgPool, Row};

use super::draft::Draft;
use super::fault::fault;
use super::flush::flush;
use super::load::{load, records};
use super::push::{Attempts, Fault, locked};
use super::rows;
use crate::access::Access;
use crate::ids::{MutationId, UnixMillis, Version};
use crate::limits;
use crate::resolution::{Step, step};
use crate::store::{ConflictEntry, ConflictId, Outcome, Resolution, Resolved, StoreError, Verdict};

/// How many of the asker's conflicts are open.
pub(super) async fn open_conflicts(
    connection: &mut PgConnection,
    access: &Access,
) -> Result<u64, Fault> {
    let sql = "SELECT count(*) FROM sync_conflicts
               WHERE user_id = $1 AND outcome = 'open' AND space = ANY($2)";
    let open: i64 = sqlx::query_scalar(sql)
        .bind(access.user().as_str())
        .bind(spaces(access))
        .fetch_one(connection)
        .await?;
    Ok(rows::from_sql(open)?)
}

/// The asker's log after an entry, oldest first. What is beyond the bytes of a page stays in the
/// database.
pub(super) async fn conflicts(
    pool: &PgPool,
    access: &Access,
    after: ConflictId,
    limit: usize,
) -> Result<Vec<ConflictEntry>, StoreError> {
    let sql = "WITH page AS (
                   SELECT *, coalesce(octet_length(local), 0) + coalesce(octet_length(remote), 0)
                             AS size
                   FROM sync_conflicts
                   WHERE user_id = $1 AND id > $2 AND space = ANY($3) ORDER BY id LIMIT $4)
               SELECT * FROM (SELECT *, sum(size) OVER (ORDER BY id) AS sum FROM page) AS sums
               WHERE sum - size < $5 ORDER BY id";
    let rows = sqlx::query(sql)
        .bind(access.user().as_str())
        .bind(after.0)
        .bind(spaces(access))
        .bind(rows::to_sql(limit as u64))
        .bind(rows::to_sql(limits::PAGE_BYTES_MAX as u64))
        .fetch_all(pool)
        .await
        .map_err(fault)?;
    let entries: Result<_, Fault> = rows.iter().map(entry).collect();
    Ok(entries?)
}

fn spaces(access: &Access) -> Vec<String> {
    access.spaces().map(|space| space.to_string()).collect()
}

fn entry(row: &PgRow) -> Result<ConflictEntry, Fault> {
    let mutation: String = row.try_get("mutation")?;
    let changed: Option<&str> = row.try_get("local_changed")?;
    let changed = changed.map(serde_json::from_str).transpose();
    let outcome: &str = row.try_get("outcome")?;
    let detected: i64 = row.try_get("detected_ms")?;
    Ok(ConflictEntry {
        id: ConflictId(row.try_get("id")?),
        record_type: rows::record_type(row.try_get("type")?)?,
        record: rows::record_id(row.try_get("record")?)?,
        mutation: MutationId::new(mutation).map_err(|_| StoreError::Damaged("an id"))?,
        action: row.try_get("action")?,
        base: rows::version(row, "base_version")?,
        version: rows::version(row, "server_version")?,
        local: rows::data(row.try_get("local")?)?,
        changed: changed.map_err(|_| StoreError::Damaged("names of fields"))?,
        remote: rows::data(row.try_get("remote")?)?,
        client: rows::client(row.try_get("client")?)?,
        detected_at: UnixMillis(rows::from_sql(detected)?),
        outcome: Outcome::parse(outcome).ok_or(StoreError::Damaged("an outcome"))?,
    })
}

/// Settles a conflict, once: also of two who settle it at the same moment on two servers.
pub(super) async fn resolve(
    pool: &PgPool,
    access: &Access,
    resolution: &Resolution,
    now: UnixMillis,
) -> Result<Resolved, StoreError> {
    let mut connection = pool.acquire().await.map_err(fault)?;
    let mut attempts = Attempts::default();
    // Whoever settles one of the user's conflicts has the lock of the user's own space.
    attempts.spaces.insert(access.own_space());
    loop {
        match attempt(&mut connection, access, resolution, now, &attempts).await {
            Ok(resolved) => return Ok(resolved),
            Err(fault) => attempts.again(&mut connection, fault).await?,
        }
    }
}

async fn attempt(
    connection: &mut PgConnection,
    access: &Access,
    resolution: &Resolution,
    now: UnixMillis,
    attempts: &Attempts,
) -> Result<Resolved, Fault> {
    let (mut transaction, heads) = locked(connection, &attempts.spaces).await?;
    let sql = "SELECT * FROM sync_conflicts WHERE id = $1 AND user_id = $2 AND space = ANY($3)";
    let row = sqlx::query(sql)
        .bind(resolution.conflict.0)
        .bind(access.user().as_str())
        .bind(spaces(access))
        .fetch_optional(&mut *transaction)
        .await?;
    let Some(row) = row else {
        return Ok(Resolved::Unknown);
    };
    let entry = entry(&row)?;
    let outcome = resolution.choice.outcome();
    if entry.outcome != Outcome::Open {
        let merged: Option<&str> = row.try_get("merged")?;
        if entry.outcome == outcome && merged == resolution.choice.merged() {
            let version: Option<i64> = row.try_get("settled_version")?;
            let version = Version(rows::from_sql(version.unwrap_or(0))?);
            return Ok(Resolved::Settled(version));
        }
        return Ok(Resolved::Already(entry.outcome));
    }
    let key = (entry.record_type.clone(), entry.record.clone());
    let wanted = (
        resolution.sharing.realm(access.user()),
        key.0.as_str(),
        key.1.as_str(),
    );
    let current = records(&mut transaction, [wanted].into())
        .await?
        .remove(&key);
    let version = match step(&entry, resolution, current.as_ref(), now) {
        Step::Stay(version) => version,
        Step::Refuse(failure) => return Ok(Resolved::Refused(failure)),
        Step::Apply(change) => {
            // No mutation of its own: nothing is recalled or remembered, and no conflict is
            // settled but this one.
            let mut loaded = load(
                &mut transaction,
                access,
                std::slice::from_ref(&*change),
                heads,
            )
            .await?;
            loaded.memory.clear();
            let mut draft = Draft::new(access, now, loaded);
            let verdict = draft.apply(&change)?;
            draft.mutations.clear();
            draft.accepted.clear();
            match verdict {
                Verdict::Success(version) => {
                    flush(&mut transaction, &draft, &mut []).await?;
                    version
                }
                Verdict::Failed(failure) => return Ok(Resolved::Refused(failure)),
                Verdict::Conflict { .. } => {
                    return Err(StoreError::Damaged("a resolution's base").into());
                }
            }
        }
    };
    let sql = "UPDATE sync_conflicts
               SET outcome = $2, settled_ms = $3, settled_version = $4, merged = $5
               WHERE id = $1";
    sqlx::query(sql)
        .bind(entry.id.0)
        .bind(outcome.as_str())
        .bind(rows::to_sql(now.0))
        .bind(rows::to_sql(version.0))
        .bind(resolution.choice.merged())
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await?;
    Ok(Resolved::Settled(version))
}
