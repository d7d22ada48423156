//! Settling a conflict of the log.

use rusqlite::{Connection, OptionalExtension, named_params};

use super::conflicts::conflict;
use super::heads::Numbering;
use super::records::{Key, find, purged, put};
use super::{engine, from_sql, to_sql};
use crate::access::{Access, Space};
use crate::ids::{UnixMillis, Version};
use crate::resolution::{Step, step};
use crate::ruling::{Ruling, rule};
use crate::store::{Choice, ConflictEntry, ConflictId, Outcome, Resolution, Resolved, StoreError};

/// Settles it, inside the caller's transaction; the spaces that have new changes.
pub(super) fn resolve(
    connection: &Connection,
    access: &Access,
    resolution: &Resolution,
    now: UnixMillis,
) -> Result<(Resolved, Vec<Space>), StoreError> {
    let answer = |resolved| Ok((resolved, Vec::new()));
    let Some(entry) = conflict(connection, access, resolution.conflict)? else {
        return answer(Resolved::Unknown);
    };
    let outcome = resolution.choice.outcome();
    if entry.outcome != Outcome::Open {
        return answer(match settled(connection, entry.id)? {
            (version, merged)
                if entry.outcome == outcome && merged.as_deref() == resolution.choice.merged() =>
            {
                Resolved::Settled(version)
            }
            _ => Resolved::Already(entry.outcome),
        });
    }
    let key = Key {
        realm: resolution.sharing.realm(access.user()),
        record_type: &entry.record_type,
        id: &entry.record,
    };
    let current = find(connection, key)?;
    let mut numbering = Numbering::default();
    let version = match step(&entry, resolution, current.as_ref(), now) {
        Step::Stay(version) => version,
        Step::Refuse(failure) => return answer(Resolved::Refused(failure)),
        Step::Apply(change) => match rule(access, &change, current.as_ref()) {
            Ruling::Write(mut located) => {
                if current.is_none() {
                    located.begin_after(purged(connection, key)?);
                }
                let before = current.map(|current| current.space);
                put(
                    connection,
                    key,
                    &located,
                    before.as_ref(),
                    &mut numbering,
                    now,
                )?;
                located.record.version
            }
            Ruling::Nothing(version) => version,
            Ruling::Fail(failure) => return answer(Resolved::Refused(failure)),
            Ruling::Conflict(_) => return Err(StoreError::Damaged("a resolution's base")),
        },
    };
    settle(connection, &entry, &resolution.choice, version, now)?;
    Ok((Resolved::Settled(version), numbering.store(connection)?))
}

fn settle(
    connection: &Connection,
    entry: &ConflictEntry,
    choice: &Choice,
    version: Version,
    now: UnixMillis,
) -> Result<(), StoreError> {
    let sql = "UPDATE sync_conflicts
               SET outcome = :outcome, settled_ms = :now, settled_version = :version,
                   merged = :merged
               WHERE id = :id";
    let mut statement = connection.prepare_cached(sql).map_err(engine)?;
    let values = named_params! {
        ":id": entry.id.0,
        ":outcome": choice.outcome().as_str(),
        ":version": to_sql(version.0),
        ":merged": choice.merged(),
        ":now": to_sql(now.0),
    };
    statement.execute(values).map_err(engine)?;
    Ok(())
}

/// The version that a conflict was settled with, and the content, where it was merged.
fn settled(
    connection: &Connection,
    id: ConflictId,
) -> Result<(Version, Option<String>), StoreError> {
    let sql = "SELECT settled_version, merged FROM sync_conflicts WHERE id = ?1";
    let mut statement = connection.prepare_cached(sql).map_err(engine)?;
    let row: Option<(Option<i64>, Option<String>)> = statement
        .query_row([id.0], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()
        .map_err(engine)?;
    let (version, merged) = row.unwrap_or_default();
    Ok((Version(from_sql(version.unwrap_or(0))?), merged))
}
