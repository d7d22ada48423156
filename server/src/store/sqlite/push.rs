//! Applying a batch.
//!
//! Each change is a transaction of its own in what it means: it takes effect as a whole or not at
//! all, and its failing leaves the others alone. All the same, a batch (in fact several, see
//! `writer`) is one SQLite transaction with a savepoint for each change: the answer is sent only
//! after the outer commit, so nobody can tell the difference, but for one fsync in place of 100.
//! Should the commit fail, nothing was applied and nothing was answered, and the client sends the
//! batch again.
//!
//! **Positions and late commits.** A user's changes are numbered in `heads`. The number is taken
//! inside the write transaction, and SQLite has one writer: the next transaction begins after this
//! one has committed, so a lower number can never become visible after a higher one, and a reader's
//! checkpoint never skips a row. A store with concurrent writers must do the numbering under a lock
//! of the user's row that is held until the commit.

use rusqlite::{Connection, OptionalExtension, Row, named_params, params};

use super::writer::execute;
use super::{engine, from_sql, stored_data, to_sql};
use crate::change::{Change, Edit, Failure, FailureCode};
use crate::data::RecordData;
use crate::decide::{Decision, Record, decide};
use crate::ids::{ClientId, RecordId, RecordType, Stamp, UnixMillis, UserId, Version};
use crate::store::checkpoint::Seq;
use crate::store::{StoreError, Verdict};

/// Applies the changes in their order, inside the caller's transaction.
pub(super) fn push(
    connection: &Connection,
    user: &UserId,
    changes: &[Change],
    now: UnixMillis,
) -> Result<Vec<Verdict>, StoreError> {
    let before = head(connection, user)?;
    let mut head = before;
    let mut verdicts = Vec::with_capacity(changes.len());
    for change in changes {
        execute(connection, "SAVEPOINT change")?;
        let verdict = match apply(connection, user, change, head.saturating_add(1), now) {
            Ok(Applied { verdict, written }) => {
                head = if written {
                    head.saturating_add(1)
                } else {
                    head
                };
                verdict
            }
            // SQLite has given up the whole transaction: so must the batch.
            Err(error) if connection.is_autocommit() => return Err(error),
            Err(error) => {
                tracing::error!(%error, "a change could not be stored");
                execute(connection, "ROLLBACK TO change")?;
                Verdict::Failed(Failure::internal())
            }
        };
        execute(connection, "RELEASE change")?;
        verdicts.push(verdict);
    }
    if head != before {
        set_head(connection, user, head)?;
    }
    Ok(verdicts)
}

struct Applied {
    verdict: Verdict,
    written: bool,
}

fn apply(
    connection: &Connection,
    user: &UserId,
    change: &Change,
    seq: Seq,
    now: UnixMillis,
) -> Result<Applied, StoreError> {
    if let Some(verdict) = recall(connection, user, change)? {
        return Ok(Applied {
            verdict,
            written: false,
        });
    }
    let current = find(connection, user, &change.record_type, &change.record)?;
    let (verdict, written, conflict) = match decide(change, current.as_ref()) {
        Decision::Write(record) => {
            put(
                connection,
                user,
                &change.record_type,
                &change.record,
                &record,
                seq,
            )?;
            (Verdict::Success(record.version), true, None)
        }
        Decision::Nothing(version) => (Verdict::Success(version), false, None),
        Decision::Conflict(Record {
            version, data, at, ..
        }) => {
            let verdict = Verdict::Conflict { version, data, at };
            let conflict = log_conflict(connection, user, change, &verdict, now)?;
            (verdict, false, Some(conflict))
        }
        Decision::Fail(failure) => (Verdict::Failed(failure), false, None),
    };
    remember(connection, user, change, &verdict, conflict, now)?;
    Ok(Applied { verdict, written })
}

/// The position of the user's newest change.
pub(super) fn head(connection: &Connection, user: &UserId) -> Result<Seq, StoreError> {
    let mut statement = connection
        .prepare_cached("SELECT seq FROM heads WHERE user = ?1")
        .map_err(engine)?;
    let seq: Option<i64> = statement
        .query_row([user.as_str()], |row| row.get(0))
        .optional()
        .map_err(engine)?;
    from_sql(seq.unwrap_or(0))
}

/// Moves the user's newest position; in the transaction that wrote up to it.
pub(super) fn set_head(connection: &Connection, user: &UserId, seq: Seq) -> Result<(), StoreError> {
    let sql = "INSERT INTO heads (user, seq) VALUES (?1, ?2)
               ON CONFLICT (user) DO UPDATE SET seq = excluded.seq";
    let mut statement = connection.prepare_cached(sql).map_err(engine)?;
    statement
        .execute(params![user.as_str(), to_sql(seq)])
        .map_err(engine)?;
    Ok(())
}

fn find(
    connection: &Connection,
    user: &UserId,
    record_type: &RecordType,
    id: &RecordId,
) -> Result<Option<Record>, StoreError> {
    let sql = "SELECT version, data, at, client FROM records
               WHERE user = ?1 AND type = ?2 AND id = ?3";
    let mut statement = connection.prepare_cached(sql).map_err(engine)?;
    let key = [user.as_str(), record_type.as_str(), id.as_str()];
    let mut rows = statement.query(key).map_err(engine)?;
    let Some(row) = rows.next().map_err(engine)? else {
        return Ok(None);
    };
    let client: String = row.get(3).map_err(engine)?;
    Ok(Some(Record {
        version: Version(from_sql(row.get(0).map_err(engine)?)?),
        data: stored_data(row.get(1).map_err(engine)?)?,
        at: stored_stamp(row.get(2).map_err(engine)?)?,
        client: ClientId::new(client).map_err(|_| StoreError::Damaged("a client's id"))?,
    }))
}

/// Writes a record's new state at a position.
pub(super) fn put(
    connection: &Connection,
    user: &UserId,
    record_type: &RecordType,
    id: &RecordId,
    record: &Record,
    seq: Seq,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO records (user, type, id, version, seq, deleted, data, at, client)
               VALUES (:user, :type, :id, :version, :seq, :deleted, :data, :at, :client)
               ON CONFLICT (user, type, id) DO UPDATE SET
                 version = excluded.version, seq = excluded.seq, deleted = excluded.deleted,
                 data = excluded.data, at = excluded.at, client = excluded.client";
    let mut statement = connection.prepare_cached(sql).map_err(engine)?;
    let values = named_params! {
        ":user": user.as_str(),
        ":type": record_type.as_str(),
        ":id": id.as_str(),
        ":version": to_sql(record.version.0),
        ":seq": to_sql(seq),
        ":deleted": record.data.is_none(),
        ":data": record.data.as_ref().map(RecordData::as_str),
        ":at": record.at.as_str(),
        ":client": record.client.as_str(),
    };
    statement.execute(values).map_err(engine)?;
    Ok(())
}

/// The first result of a mutation that was here before.
fn recall(
    connection: &Connection,
    user: &UserId,
    change: &Change,
) -> Result<Option<Verdict>, StoreError> {
    let sql = "SELECT m.type, m.record, m.status, m.version, m.code, m.message,
                      c.server_version, c.remote, c.remote_at
               FROM mutations m LEFT JOIN sync_conflicts c ON c.id = m.conflict
               WHERE m.user = ?1 AND m.id = ?2";
    let mut statement = connection.prepare_cached(sql).map_err(engine)?;
    let mut rows = statement
        .query([user.as_str(), change.mutation.as_str()])
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
    recalled_verdict(row).map(Some)
}

fn recalled_verdict(row: &Row<'_>) -> Result<Verdict, StoreError> {
    let status: String = row.get(2).map_err(engine)?;
    match status.as_str() {
        "success" => Ok(Verdict::Success(Version(from_sql(
            row.get(3).map_err(engine)?,
        )?))),
        "conflict" => Ok(Verdict::Conflict {
            version: Version(from_sql(row.get(6).map_err(engine)?)?),
            data: stored_data(row.get(7).map_err(engine)?)?,
            at: stored_stamp(row.get(8).map_err(engine)?)?,
        }),
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

/// Stores a mutation's first result. Conflicts and lasting failures as well: a duplicate that comes
/// late must not take effect after its sender was told that it had none, and has moved on.
fn remember(
    connection: &Connection,
    user: &UserId,
    change: &Change,
    verdict: &Verdict,
    conflict: Option<i64>,
    now: UnixMillis,
) -> Result<(), StoreError> {
    let (status, version, failure) = match verdict {
        Verdict::Failed(failure) if failure.code.retryable() => return Ok(()),
        Verdict::Failed(failure) => ("failed", None, Some(failure)),
        Verdict::Success(version) => ("success", Some(to_sql(version.0)), None),
        Verdict::Conflict { .. } => ("conflict", None, None),
    };
    let sql = "INSERT INTO mutations
                 (user, id, type, record, status, version, code, message, conflict, applied_ms)
               VALUES (:user, :id, :type, :record, :status, :version, :code, :message, :conflict,
                       :now)";
    let mut statement = connection.prepare_cached(sql).map_err(engine)?;
    let values = named_params! {
        ":user": user.as_str(),
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

fn log_conflict(
    connection: &Connection,
    user: &UserId,
    change: &Change,
    verdict: &Verdict,
    now: UnixMillis,
) -> Result<i64, StoreError> {
    let Verdict::Conflict {
        version,
        data: remote,
        at,
    } = verdict
    else {
        return Err(StoreError::Damaged("only conflicts are logged"));
    };
    let changed = match &change.edit {
        Edit::Patch { changed, .. } => serde_json::to_string(changed).ok(),
        _ => None,
    };
    let sql = "INSERT INTO sync_conflicts
                 (user, type, record, mutation, action, base_version, server_version, local,
                  local_changed, local_at, remote, remote_at, client, detected_ms, outcome)
               VALUES (:user, :type, :record, :mutation, :action, :base, :version, :local,
                       :changed, :local_at, :remote, :remote_at, :client, :now, 'open')";
    let mut statement = connection.prepare_cached(sql).map_err(engine)?;
    let values = named_params! {
        ":user": user.as_str(),
        ":type": change.record_type.as_str(),
        ":record": change.record.as_str(),
        ":mutation": change.mutation.as_str(),
        ":action": change.edit.action(),
        ":base": to_sql(change.base.0),
        ":version": to_sql(version.0),
        ":local": change.edit.data().map(RecordData::as_str),
        ":changed": changed,
        ":local_at": change.at.as_str(),
        ":remote": remote.as_ref().map(RecordData::as_str),
        ":remote_at": at.as_str(),
        ":client": change.client.as_str(),
        ":now": to_sql(now.0),
    };
    statement.insert(values).map_err(engine)
}

/// Reads a stamp back.
pub(super) fn stored_stamp(text: String) -> Result<Stamp, StoreError> {
    Stamp::new(text).map_err(|_| StoreError::Damaged("a stamp"))
}
