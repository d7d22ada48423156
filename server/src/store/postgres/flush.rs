//! Storing what a draft has come to: one statement for each kind of row, however many there are.

use sqlx::{PgConnection, Row};

use super::draft::{Draft, Key, Logged, Written, placeholder};
use super::listen::{CHANNEL, news};
use super::push::Fault;
use super::rows::to_sql;
use crate::access::Space;
use crate::change::Edit;
use crate::data::RecordData;
use crate::ids::UnixMillis;
use crate::store::checkpoint::Seq;
use crate::store::{ConflictId, StoreError, Verdict};

/// Stores it all, inside the caller's transaction; the verdicts get the numbers of their conflicts.
pub(super) async fn flush(
    connection: &mut PgConnection,
    draft: &Draft<'_>,
    verdicts: &mut [Verdict],
) -> Result<(), Fault> {
    // Before new conflicts: what comes later in the batch settles nothing of theirs.
    rebased(connection, draft).await?;
    let ids = conflicts(connection, draft).await?;
    for verdict in verdicts {
        number(verdict, &ids);
    }
    mutations(connection, draft, &ids).await?;
    let (new, old): (Vec<_>, Vec<_>) = draft
        .records
        .iter()
        .partition(|(_, written)| written.replaces.is_none());
    insert(connection, &new, draft.now).await?;
    store(connection, UPDATE, &old, draft.now).await?;
    departures(connection, draft).await?;
    heads(connection, &draft.moved).await
}

/// Replaces a placeholder.
fn number(verdict: &mut Verdict, ids: &[i64]) {
    if let Verdict::Conflict { id, .. } = verdict {
        let place = (0..ids.len()).find(|place| placeholder(*place) == *id);
        if let Some(place) = place {
            *id = ConflictId(ids[place]);
        }
    }
}

/// A record that another transaction makes at the same time, in a space that we have not locked,
/// violates the key: all is done again, and sees it.
const INSERT: &str = "INSERT INTO records
         (realm, type, id, space, version, seq, data, at, client, changed_ms)
     SELECT n.realm, n.type, n.id, n.space, n.version, n.seq, n.data, n.at, n.client, $11
     FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::bigint[],
                 $7::text[], $8::text[], $9::text[], $10::bigint[])
       AS n (realm, type, id, space, version, seq, data, at, client, replaces)";

const UPDATE: &str = "UPDATE records r
     SET space = n.space, version = n.version, seq = n.seq, data = n.data, at = n.at,
         client = n.client, changed_ms = $11
     FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::bigint[],
                 $7::text[], $8::text[], $9::text[], $10::bigint[])
       AS n (realm, type, id, space, version, seq, data, at, client, replaces)
     WHERE r.realm = n.realm AND r.type = n.type AND r.id = n.id AND r.version = n.replaces";

/// Stores records that are new.
pub(super) async fn insert(
    connection: &mut PgConnection,
    records: &[(&Key, &Written)],
    now: UnixMillis,
) -> Result<(), Fault> {
    store(connection, INSERT, records, now).await
}

/// Stores records, each of which is either new or of the version that was read.
async fn store(
    connection: &mut PgConnection,
    sql: &'static str,
    records: &[(&Key, &Written)],
    now: UnixMillis,
) -> Result<(), Fault> {
    if records.is_empty() {
        return Ok(());
    }
    let texts = |text: fn(&Written) -> &str| -> Vec<&str> {
        records.iter().map(|(_, written)| text(written)).collect()
    };
    let numbers = |number: fn(&Written) -> u64| -> Vec<i64> {
        let numbers = records.iter().map(|(_, written)| to_sql(number(written)));
        numbers.collect()
    };
    let types: Vec<&str> = records.iter().map(|(key, _)| key.0.as_str()).collect();
    let ids: Vec<&str> = records.iter().map(|(key, _)| key.1.as_str()).collect();
    let spaces = records.iter().map(|(_, w)| w.located.space.to_string());
    let data = records.iter().map(|(_, w)| w.located.record.data.as_ref());
    let data: Vec<Option<&str>> = data.map(|data| data.map(RecordData::as_str)).collect();
    let done = sqlx::query(sql)
        .bind(texts(|w| w.realm.as_str()))
        .bind(types)
        .bind(ids)
        .bind(spaces.collect::<Vec<_>>())
        .bind(numbers(|w| w.located.record.version.0))
        .bind(numbers(|w| w.seq))
        .bind(data)
        .bind(texts(|w| w.located.record.at.as_str()))
        .bind(texts(|w| w.located.record.client.as_str()))
        .bind(numbers(|w| w.replaces.map_or(0, |version| version.0)))
        .bind(to_sql(now.0))
        .execute(connection)
        .await?;
    if done.rows_affected() == records.len() as u64 {
        Ok(())
    } else {
        Err(Fault::Overtaken)
    }
}

/// Settles what accepted changes have made up for.
async fn rebased(connection: &mut PgConnection, draft: &Draft<'_>) -> Result<(), Fault> {
    let accepted = &draft.accepted;
    if accepted.is_empty() {
        return Ok(());
    }
    let sql = "WITH hits AS (
                   SELECT c.id, min(n.version) AS version
                   FROM unnest($2::text[], $3::text[], $4::text[], $5::bigint[], $6::bigint[])
                     AS n (type, record, client, base, version)
                   JOIN sync_conflicts c
                     ON c.user_id = $1 AND c.type = n.type AND c.record = n.record
                    AND c.outcome = 'open' AND c.client = n.client AND c.server_version <= n.base
                   GROUP BY c.id)
               UPDATE sync_conflicts c
               SET outcome = 'rebased', settled_ms = $7, settled_version = hits.version
               FROM hits WHERE c.id = hits.id";
    sqlx::query(sql)
        .bind(draft.access.user().as_str())
        .bind(
            accepted
                .iter()
                .map(|a| a.key.0.as_str())
                .collect::<Vec<_>>(),
        )
        .bind(
            accepted
                .iter()
                .map(|a| a.key.1.as_str())
                .collect::<Vec<_>>(),
        )
        .bind(
            accepted
                .iter()
                .map(|a| a.client.as_str())
                .collect::<Vec<_>>(),
        )
        .bind(
            accepted
                .iter()
                .map(|a| to_sql(a.base.0))
                .collect::<Vec<_>>(),
        )
        .bind(
            accepted
                .iter()
                .map(|a| to_sql(a.version.0))
                .collect::<Vec<_>>(),
        )
        .bind(to_sql(draft.now.0))
        .execute(connection)
        .await?;
    Ok(())
}

/// Logs conflicts; their numbers.
async fn conflicts(connection: &mut PgConnection, draft: &Draft<'_>) -> Result<Vec<i64>, Fault> {
    let mut ids = Vec::with_capacity(draft.conflicts.len());
    // One by one: they are rare, each holds two records, and the log's order is that of the batch.
    for logged in &draft.conflicts {
        ids.push(conflict(connection, draft, logged).await?);
    }
    Ok(ids)
}

async fn conflict(
    connection: &mut PgConnection,
    draft: &Draft<'_>,
    Logged {
        change,
        found,
        settled,
    }: &Logged<'_>,
) -> Result<i64, Fault> {
    let changed = match &change.edit {
        Edit::Patch { changed, .. } => serde_json::to_string(changed).ok(),
        _ => None,
    };
    let sql = "INSERT INTO sync_conflicts
                 (user_id, space, type, record, mutation, action, base_version, server_version,
                  local, local_changed, local_at, remote, remote_at, client, detected_ms, outcome,
                  settled_ms, settled_version)
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17,
                       $18)
               RETURNING id";
    let row = sqlx::query(sql)
        .bind(draft.access.user().as_str())
        .bind(found.space.to_string())
        .bind(change.record_type.as_str())
        .bind(change.record.as_str())
        .bind(change.mutation.as_str())
        .bind(change.edit.action())
        .bind(to_sql(change.base.0))
        .bind(to_sql(found.record.version.0))
        .bind(change.edit.data().map(RecordData::as_str))
        .bind(changed)
        .bind(change.at.as_str())
        .bind(found.record.data.as_ref().map(RecordData::as_str))
        .bind(found.record.at.as_str())
        .bind(change.client.as_str())
        .bind(to_sql(draft.now.0))
        .bind(if settled.is_some() { "rebased" } else { "open" })
        .bind(settled.map(|_| to_sql(draft.now.0)))
        .bind(settled.map(|version| to_sql(version.0)))
        .fetch_one(connection)
        .await?;
    Ok(row.try_get(0)?)
}

/// Remembers first results.
async fn mutations(
    connection: &mut PgConnection,
    draft: &Draft<'_>,
    ids: &[i64],
) -> Result<(), Fault> {
    if draft.mutations.is_empty() {
        return Ok(());
    }
    let count = draft.mutations.len();
    let (mut mutations, mut types, mut records) = (
        Vec::with_capacity(count),
        Vec::with_capacity(count),
        Vec::with_capacity(count),
    );
    let (mut statuses, mut versions, mut codes, mut messages, mut conflicts) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (change, verdict) in &draft.mutations {
        mutations.push(change.mutation.as_str());
        types.push(change.record_type.as_str());
        records.push(change.record.as_str());
        let (status, version, failure, conflict) = match verdict {
            Verdict::Success(version) => ("success", Some(to_sql(version.0)), None, None),
            Verdict::Failed(failure) => ("failed", None, Some(failure), None),
            Verdict::Conflict { .. } => {
                let mut verdict = verdict.clone();
                number(&mut verdict, ids);
                let Verdict::Conflict { id, .. } = verdict else {
                    return Err(StoreError::Damaged("a conflict's number").into());
                };
                ("conflict", None, None, Some(id.0))
            }
        };
        statuses.push(status);
        versions.push(version);
        codes.push(failure.map(|failure| failure.code.as_str()));
        messages.push(failure.map(|failure| failure.message.as_str()));
        conflicts.push(conflict);
    }
    let sql = "INSERT INTO mutations
                 (user_id, id, type, record, status, version, code, message, conflict, applied_ms)
               SELECT $1, n.id, n.type, n.record, n.status, n.version, n.code, n.message,
                      n.conflict, $10
               FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[],
                           $7::text[], $8::text[], $9::bigint[])
                 AS n (id, type, record, status, version, code, message, conflict)";
    sqlx::query(sql)
        .bind(draft.access.user().as_str())
        .bind(mutations)
        .bind(types)
        .bind(records)
        .bind(statuses)
        .bind(versions)
        .bind(codes)
        .bind(messages)
        .bind(conflicts)
        .bind(to_sql(draft.now.0))
        .execute(connection)
        .await?;
    Ok(())
}

/// Leaves word where records have left, and takes it back where they have come back to.
async fn departures(connection: &mut PgConnection, draft: &Draft<'_>) -> Result<(), Fault> {
    // Few: one statement each.
    for ((space, (record_type, id)), departure) in &draft.departures {
        match departure {
            None => {
                let sql = "DELETE FROM departures WHERE space = $1 AND type = $2 AND id = $3";
                sqlx::query(sql)
                    .bind(space.to_string())
                    .bind(record_type.as_str())
                    .bind(id.as_str())
                    .execute(&mut *connection)
                    .await?;
            }
            Some(departure) => {
                let sql = "INSERT INTO departures (space, type, id, seq, version, at, changed_ms)
                           VALUES ($1, $2, $3, $4, $5, $6, $7)
                           ON CONFLICT (space, type, id) DO UPDATE SET
                             seq = excluded.seq, version = excluded.version, at = excluded.at,
                             changed_ms = excluded.changed_ms";
                sqlx::query(sql)
                    .bind(space.to_string())
                    .bind(record_type.as_str())
                    .bind(id.as_str())
                    .bind(to_sql(departure.seq))
                    .bind(to_sql(departure.version.0))
                    .bind(departure.at.as_str())
                    .bind(to_sql(draft.now.0))
                    .execute(&mut *connection)
                    .await?;
            }
        }
    }
    Ok(())
}

/// Moves the newest positions of locked spaces, and tells all servers at the commit.
pub(super) async fn heads(
    connection: &mut PgConnection,
    moved: &std::collections::BTreeMap<Space, Seq>,
) -> Result<(), Fault> {
    if moved.is_empty() {
        return Ok(());
    }
    let sql = "WITH moved AS (
                   UPDATE heads h SET seq = n.seq
                   FROM unnest($1::text[], $2::bigint[]) AS n (space, seq)
                   WHERE h.space = n.space)
               SELECT pg_notify($3, news) FROM unnest($4::text[]) AS n (news)";
    sqlx::query(sql)
        .bind(moved.keys().map(ToString::to_string).collect::<Vec<_>>())
        .bind(moved.values().map(|seq| to_sql(*seq)).collect::<Vec<_>>())
        .bind(CHANNEL)
        .bind(news(moved.keys()))
        .execute(connection)
        .await?;
    Ok(())
}

/// Tells all servers at the commit that something about a space is new.
pub(super) async fn notify(connection: &mut PgConnection, space: &Space) -> Result<(), Fault> {
    sqlx::query("SELECT pg_notify($1, news) FROM unnest($2::text[]) AS n (news)")
        .bind(CHANNEL)
        .bind(news([space]))
        .execute(connection)
        .await?;
    Ok(())
}
