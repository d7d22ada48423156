//! What is remembered of mutations: each one's first result. Conflicts and lasting failures as
//! well: a duplicate that comes late must not take effect after its sender was told that it had
//! none, and has moved on.

use rusqlite::{Connection, Row, named_params};

use super::{engine, from_sql, stored_data, stored_space, stored_stamp, to_sql};
use crate::access::Access;
use crate::change::{Change, Failure, FailureCode};
use crate::ids::{UnixMillis, Version};
use crate::store::{ConflictId, StoreError, Verdict};

/// The first result of a mutation that was here before.
pub(super) fn recall(
    connection: &Connection,
    access: &Access,
    change: &Change,
) -> Result<Option<Verdict>, StoreError> {
    let sql = "SELECT m.type, m.record, m.status, m.version, m.code, m.message,
                      c.server_version, c.remote, c.remote_at, c.id, c.space
               FROM mutations m LEFT JOIN sync_conflicts c ON c.id = m.conflict
               WHERE m.user = ?1 AND m.id = ?2";
    let mut statement = connection.prepare_cached(sql).map_err(engine)?;
    let mut rows = statement
        .query([access.user().as_str(), change.mutation.as_str()])
        .map_err(engine)?;
    let Some(row) = rows.next().map_err(engine)? else {
        return Ok(None);
    };
    let record_type: String = row.get(0).map_err(engine)?;
    let record: String = row.get(1).map_err(engine)?;
    if record_type != change.record_type.as_str() || record != change.record.as_str() {
        // Answering with the other record's result would acknowledge a change that is lost.
        let failure = Failure::invalid("`id` belongs to a change of another record");
        return Ok(Some(Verdict::Failed(failure)));
    }
    verdict(access, row).map(Some)
}

fn verdict(access: &Access, row: &Row<'_>) -> Result<Verdict, StoreError> {
    let status: String = row.get(2).map_err(engine)?;
    match status.as_str() {
        "success" => Ok(Verdict::Success(Version(from_sql(
            row.get(3).map_err(engine)?,
        )?))),
        "conflict" => {
            // The record that it answered with may have been closed to the asker since.
            if !access.may(&stored_space(&row.get::<_, String>(10).map_err(engine)?)?) {
                return Ok(Verdict::Failed(Failure::forbidden()));
            }
            Ok(Verdict::Conflict {
                id: ConflictId(row.get(9).map_err(engine)?),
                version: Version(from_sql(row.get(6).map_err(engine)?)?),
                data: stored_data(row.get(7).map_err(engine)?)?,
                at: stored_stamp(row.get(8).map_err(engine)?)?,
            })
        }
        _ => {
            let code: String = row.get(4).map_err(engine)?;
            let code = FailureCode::parse(&code).ok_or(StoreError::Damaged("a failure's code"))?;
            Ok(Verdict::Failed(Failure {
                code,
                message: row.get(5).map_err(engine)?,
            }))
        }
    }
}

/// Stores a mutation's first result, unless it is a failure that is worth another try.
pub(super) fn remember(
    connection: &Connection,
    access: &Access,
    change: &Change,
    verdict: &Verdict,
    now: UnixMillis,
) -> Result<(), StoreError> {
    let (status, version, failure, conflict) = match verdict {
        Verdict::Failed(failure) if failure.code.retryable() => return Ok(()),
        Verdict::Failed(failure) => ("failed", None, Some(failure), None),
        Verdict::Success(version) => ("success", Some(to_sql(version.0)), None, None),
        Verdict::Conflict { id, .. } => ("conflict", None, None, Some(id.0)),
    };
    let sql = "INSERT INTO mutations
                 (user, id, type, record, status, version, code, message, conflict, applied_ms)
               VALUES (:user, :id, :type, :record, :status, :version, :code, :message, :conflict,
                       :now)";
    let mut statement = connection.prepare_cached(sql).map_err(engine)?;
    let values = named_params! {
        ":user": access.user().as_str(),
        ":id": change.mutation.as_str(),
        ":type": change.record_type.as_str(),
        ":record": change.record.as_str(),
        ":status": status,
        ":version": version,
        ":code": failure.map(|failure| failure.code.as_str()),
        ":message": failure.map(|failure| failure.message.as_str()),
        ":conflict": conflict,
        ":now": to_sql(now.0),
    };
    statement.execute(values).map_err(engine)?;
    Ok(())
}
