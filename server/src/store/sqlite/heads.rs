//! Positions. Each space's changes are numbered in `heads`.
//!
//! **Late commits.** The number is taken inside the write transaction, and SQLite has one writer:
//! the next transaction begins after this one has committed, so a lower number can never become
//! visible after a higher one, and a reader's checkpoint never skips a row. A store with concurrent
//! writers must do the numbering under a lock of the space's row that is held until the commit.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension, params};

use super::{engine, from_sql, to_sql};
use crate::access::{Access, Space};
use crate::store::StoreError;
use crate::store::checkpoint::{Head, Seq, heads_of};

/// The positions that one transaction hands out. A number that was handed out to a change that
/// failed stays a gap, which harms nobody.
#[derive(Default)]
pub(super) struct Numbering(BTreeMap<Space, Seq>);

impl Numbering {
    /// The next position in a space.
    pub(super) fn next(
        &mut self,
        connection: &Connection,
        space: &Space,
    ) -> Result<Seq, StoreError> {
        let last = match self.0.get(space) {
            Some(last) => *last,
            None => head(connection, space)?.seq,
        };
        let next = last.saturating_add(1);
        self.0.insert(space.clone(), next);
        Ok(next)
    }

    /// Stores the newest positions, in the transaction that wrote up to them; the spaces that have
    /// new changes.
    pub(super) fn store(self, connection: &Connection) -> Result<Vec<Space>, StoreError> {
        let sql = "INSERT INTO heads (space, seq) VALUES (?1, ?2)
                   ON CONFLICT (space) DO UPDATE SET seq = excluded.seq";
        let mut statement = connection.prepare_cached(sql).map_err(engine)?;
        for (space, seq) in &self.0 {
            statement
                .execute(params![space.to_string(), to_sql(*seq)])
                .map_err(engine)?;
        }
        Ok(self.0.into_keys().collect())
    }
}

fn head(connection: &Connection, space: &Space) -> Result<Head, StoreError> {
    let mut statement = connection
        .prepare_cached("SELECT seq, floor FROM heads WHERE space = ?1")
        .map_err(engine)?;
    let row = statement
        .query_row([space.to_string()], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()
        .map_err(engine)?;
    let (seq, floor) = row.unwrap_or((0, 0));
    Ok(Head {
        seq: from_sql(seq)?,
        floor: from_sql(floor)?,
    })
}

/// Where the asker's spaces stand, their own first.
pub(super) fn heads(
    connection: &Connection,
    access: &Access,
) -> Result<Vec<(Space, Head)>, StoreError> {
    let mut rows = BTreeMap::new();
    for space in access.spaces() {
        let head = head(connection, &space)?;
        rows.insert(space, head);
    }
    Ok(heads_of(access.spaces(), rows))
}

/// Raises a space's floor: what was purged there reached up to `seq`.
pub(super) fn raise_floor(
    connection: &Connection,
    space: &str,
    seq: i64,
) -> Result<(), StoreError> {
    let sql = "UPDATE heads SET floor = max(floor, ?2) WHERE space = ?1";
    let mut statement = connection.prepare_cached(sql).map_err(engine)?;
    statement.execute(params![space, seq]).map_err(engine)?;
    Ok(())
}
