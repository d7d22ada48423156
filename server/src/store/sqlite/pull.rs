//! Reading: pages of records, and where somebody's data stands.
//!
//! A page takes from each of the asker's spaces that has news, the spaces one after the other. No
//! space can starve the others: first each gets an equal share of the page, then what is left over
//! goes to those that have more. Spaces without news cost one look at their head.

use rusqlite::{Connection, params};

use super::conflicts::{open_conflicts, spaces};
use super::heads::heads;
use super::{engine, from_sql, stored_data, stored_stamp, to_sql};
use crate::access::{Access, Space};
use crate::ids::{RecordId, RecordType, Version};
use crate::limits;
use crate::store::checkpoint::{DatabaseId, Position};
use crate::store::{Page, PullQuery, Standing, StoreError};
use crate::wire::PulledRecord;

/// The plus keeps the planner on the index by position: rows must come in its order.
const RECORDS: &str = "SELECT type, id, version, data, at, seq FROM records
     WHERE space = ?1 AND seq > ?2 AND (?4 IS NULL OR +type IN (SELECT value FROM json_each(?4)))";

/// Those that have left the space, unless the asker sees them where they are now.
const DEPARTURES: &str = "SELECT type, id, version, NULL, at, seq FROM departures d
     WHERE space = ?1 AND seq > ?2 AND (?4 IS NULL OR +type IN (SELECT value FROM json_each(?4)))
       AND NOT EXISTS (SELECT 1 FROM records r
                       WHERE r.realm = '' AND r.type = d.type AND r.id = d.id
                         AND r.space IN (SELECT value FROM json_each(?5)))";

/// Reads a user's own space.
pub(super) fn own() -> String {
    format!("{RECORDS} ORDER BY seq LIMIT ?3")
}

/// Reads an entity's space.
pub(super) fn shared() -> String {
    format!("{RECORDS} UNION ALL {DEPARTURES} ORDER BY seq LIMIT ?3")
}

/// Reads a page. Rows and heads come from one transaction, so they are of one moment.
pub(super) fn page(
    connection: &mut Connection,
    id: &DatabaseId,
    access: &Access,
    query: &PullQuery,
) -> Result<Page, StoreError> {
    let transaction = connection.transaction().map_err(engine)?;
    let heads = heads(&transaction, access)?;
    let mut positions = id.positions(query.since.as_deref(), heads)?;
    let mut reading = Reading {
        connection: &transaction,
        types: names(query)?,
        spaces: spaces(access)?,
        left: query.limit,
        bytes: 0,
        records: Vec::new(),
    };
    let behind = positions
        .iter()
        .filter(|position| position.behind())
        .count();
    let share = (query.limit / behind.max(1)).max(1);
    for share in [share, query.limit] {
        for position in positions.iter_mut().filter(|position| position.behind()) {
            reading.take(position, share)?;
        }
    }
    let records = reading.records;
    Ok(Page {
        records,
        checkpoint: id.checkpoint(&positions),
        has_more: positions.iter().any(Position::behind),
    })
}

fn names(query: &PullQuery) -> Result<Option<String>, StoreError> {
    let names = query.types.as_ref().map(serde_json::to_string).transpose();
    names.map_err(|_| StoreError::Damaged("the names of types"))
}

/// A page being filled.
struct Reading<'a> {
    connection: &'a Connection,
    types: Option<String>,
    spaces: String,
    left: usize,
    bytes: usize,
    records: Vec<PulledRecord>,
}

impl Reading<'_> {
    /// Takes at most `share` records of a space, and moves the position past them; to the head,
    /// where there are no more: past the last row there may be others that were not asked for.
    fn take(&mut self, position: &mut Position, share: usize) -> Result<(), StoreError> {
        let mut share = share.min(self.left);
        if share == 0 {
            return Ok(());
        }
        let sql = match position.space {
            Space::Own(_) => own(),
            Space::Entity(_) => shared(),
        };
        let mut statement = self.connection.prepare_cached(&sql).map_err(engine)?;
        // One more than asked for tells whether there is more.
        let rows_max = to_sql(share as u64 + 1);
        let (space, seq) = (position.space.to_string(), to_sql(position.seq));
        let mut rows = match position.space {
            Space::Own(_) => statement.query(params![space, seq, rows_max, self.types]),
            Space::Entity(_) => {
                statement.query(params![space, seq, rows_max, self.types, self.spaces])
            }
        }
        .map_err(engine)?;
        while let Some(row) = rows.next().map_err(engine)? {
            let data = stored_data(row.get(3).map_err(engine)?)?;
            self.bytes += data.as_ref().map_or(0, |data| data.as_str().len());
            // A page has at least one record, or the client would never come further.
            if self.bytes > limits::PAGE_BYTES_MAX && !self.records.is_empty() {
                self.left = 0;
            }
            if share == 0 || self.left == 0 {
                return Ok(());
            }
            (share, self.left) = (share - 1, self.left - 1);
            self.records.push(PulledRecord {
                record_type: stored_type(row.get(0).map_err(engine)?)?,
                id: stored_id(row.get(1).map_err(engine)?)?,
                version_number: Version(from_sql(row.get(2).map_err(engine)?)?),
                deleted: data.is_none(),
                data,
                at: stored_stamp(row.get(4).map_err(engine)?)?,
            });
            position.seq = from_sql(row.get(5).map_err(engine)?)?;
        }
        position.seq = position.head.seq;
        Ok(())
    }
}

/// Where the asker's data stands.
pub(super) fn standing(
    connection: &mut Connection,
    id: &DatabaseId,
    access: &Access,
) -> Result<Standing, StoreError> {
    let transaction = connection.transaction().map_err(engine)?;
    let mut positions = id.positions(None, heads(&transaction, access)?)?;
    for position in &mut positions {
        position.seq = position.head.seq;
    }
    Ok(Standing {
        checkpoint: id.checkpoint(&positions),
        conflicts: open_conflicts(&transaction, access)?,
    })
}

pub(super) fn stored_type(text: String) -> Result<RecordType, StoreError> {
    RecordType::new(text).map_err(|_| StoreError::Damaged("a type"))
}

pub(super) fn stored_id(text: String) -> Result<RecordId, StoreError> {
    RecordId::new(text).map_err(|_| StoreError::Damaged("a record's id"))
}
