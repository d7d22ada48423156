//! Reading: pages of records, and where somebody's data stands. Which records make a page is as in
//! SQLite: each space with news gets an equal share first, then what is left over goes round.

use std::collections::BTreeMap;

use sqlx::postgres::PgRow;
use sqlx::{Connection, PgConnection, PgPool, PgTransaction, Row};

use super::conflicts::open_conflicts;
use super::fault::fault;
use super::push::Fault;
use super::rows;
use crate::access::{Access, Space};
use crate::limits;
use crate::store::checkpoint::{DatabaseId, Head, Position, heads_of};
use crate::store::{Page, PullQuery, Standing, StoreError};
use crate::wire::PulledRecord;

/// The rows of a space after a position. What `$5` bytes cannot hold stays in the database, but for
/// one row, which tells that there is more.
macro_rules! rows_of {
    ($page:literal) => {
        concat!(
            "WITH page AS (",
            $page,
            ")
             SELECT type, id, version, data, at, seq FROM (
                 SELECT *, coalesce(octet_length(data), 0) AS size,
                        sum(coalesce(octet_length(data), 0)) OVER (ORDER BY seq) AS sum
                 FROM page) AS sums
             WHERE sum - size <= $5 ORDER BY seq"
        )
    };
}

pub(super) const OWN: &str = rows_of!(
    "SELECT type, id, version, data, at, seq FROM records
     WHERE space = $1 AND seq > $2 AND ($4::text[] IS NULL OR type = ANY($4))
     ORDER BY seq LIMIT $3"
);

/// With those that have left the space, unless the asker sees them where they are now.
pub(super) const SHARED: &str = rows_of!(
    "(SELECT type, id, version, data, at, seq FROM records
      WHERE space = $1 AND seq > $2 AND ($4::text[] IS NULL OR type = ANY($4))
      ORDER BY seq LIMIT $3)
     UNION ALL
     (SELECT type, id, version, NULL, at, seq FROM departures d
      WHERE space = $1 AND seq > $2 AND ($4::text[] IS NULL OR type = ANY($4))
        AND NOT EXISTS (SELECT 1 FROM records r
                        WHERE r.realm = '' AND r.type = d.type AND r.id = d.id
                          AND r.space = ANY($6))
      ORDER BY seq LIMIT $3)
     ORDER BY seq LIMIT $3"
);

/// Reads a page.
pub(super) async fn page(
    pool: &PgPool,
    id: &DatabaseId,
    access: &Access,
    query: &PullQuery,
) -> Result<Page, StoreError> {
    let mut connection = pool.acquire().await.map_err(fault)?;
    // Most often nothing is new, and then the heads say it all.
    let heads = heads(&mut connection, access).await?;
    let positions = id.positions(query.since.as_deref(), heads)?;
    if !positions.iter().any(Position::behind) {
        return Ok(Page {
            records: Vec::new(),
            checkpoint: id.checkpoint(&positions),
            has_more: false,
        });
    }
    let page = read(&mut connection, id, access, query).await?;
    Ok(page)
}

/// A transaction that sees the database as it is at its first statement. A page needs that: a purge
/// between its look at the heads and its look at the rows would take tombstones away from it, and
/// its checkpoint would lie past the floor, where nobody tells the reader to begin anew.
async fn snapshot(connection: &mut PgConnection) -> Result<PgTransaction<'_>, sqlx::Error> {
    connection
        .begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        .await
}

async fn read(
    connection: &mut PgConnection,
    id: &DatabaseId,
    access: &Access,
    query: &PullQuery,
) -> Result<Page, Fault> {
    let mut transaction = snapshot(connection).await?;
    let heads = heads(&mut transaction, access).await?;
    let mut positions = id.positions(query.since.as_deref(), heads)?;
    let behind = positions
        .iter()
        .filter(|position| position.behind())
        .count();
    let share = (query.limit / behind.max(1)).max(1);
    let mut reading = Reading {
        connection: &mut transaction,
        types: names(query),
        spaces: access.spaces().map(|space| space.to_string()).collect(),
        left: query.limit,
        bytes: 0,
        records: Vec::new(),
    };
    for share in [share, query.limit] {
        for position in positions.iter_mut().filter(|position| position.behind()) {
            reading.take(position, share).await?;
        }
    }
    let records = reading.records;
    transaction.commit().await?;
    Ok(Page {
        records,
        checkpoint: id.checkpoint(&positions),
        has_more: positions.iter().any(Position::behind),
    })
}

fn names(query: &PullQuery) -> Option<Vec<String>> {
    let types = query.types.as_ref()?;
    Some(types.iter().map(|name| name.as_str().to_owned()).collect())
}

/// A page being filled.
struct Reading<'a> {
    connection: &'a mut PgConnection,
    types: Option<Vec<String>>,
    spaces: Vec<String>,
    left: usize,
    bytes: usize,
    records: Vec<PulledRecord>,
}

impl Reading<'_> {
    /// Takes at most `share` records of a space, and moves the position past them; to the head,
    /// where there are no more: past the last row there may be others that were not asked for.
    async fn take(&mut self, position: &mut Position, share: usize) -> Result<(), Fault> {
        let mut share = share.min(self.left);
        if share == 0 {
            return Ok(());
        }
        let (sql, shared) = match position.space {
            Space::Own(_) => (OWN, false),
            Space::Entity(_) => (SHARED, true),
        };
        let room = limits::PAGE_BYTES_MAX.saturating_sub(self.bytes);
        let mut statement = sqlx::query(sql)
            .bind(position.space.to_string())
            .bind(rows::to_sql(position.seq))
            // One more than asked for tells whether there is more.
            .bind(rows::to_sql(share as u64 + 1))
            .bind(&self.types)
            .bind(rows::to_sql(room as u64));
        if shared {
            statement = statement.bind(&self.spaces);
        }
        for row in statement.fetch_all(&mut *self.connection).await? {
            let record = record(&row)?;
            self.bytes += record.data.as_ref().map_or(0, |data| data.as_str().len());
            // A page has at least one record, or the client would never come further.
            if self.bytes > limits::PAGE_BYTES_MAX && !self.records.is_empty() {
                self.left = 0;
            }
            if share == 0 || self.left == 0 {
                return Ok(());
            }
            (share, self.left) = (share - 1, self.left - 1);
            self.records.push(record);
            position.seq = rows::from_sql(row.try_get("seq")?)?;
        }
        position.seq = position.head.seq;
        Ok(())
    }
}

fn record(row: &PgRow) -> Result<PulledRecord, Fault> {
    let data = rows::data(row.try_get("data")?)?;
    Ok(PulledRecord {
        record_type: rows::record_type(row.try_get("type")?)?,
        id: rows::record_id(row.try_get("id")?)?,
        version_number: rows::version(row, "version")?,
        deleted: data.is_none(),
        data,
        at: rows::stamp(row.try_get("at")?)?,
    })
}

/// Where the asker's data stands.
pub(super) async fn standing(
    pool: &PgPool,
    id: &DatabaseId,
    access: &Access,
) -> Result<Standing, StoreError> {
    let mut connection = pool.acquire().await.map_err(fault)?;
    let mut positions = id.positions(None, heads(&mut connection, access).await?)?;
    for position in &mut positions {
        position.seq = position.head.seq;
    }
    Ok(Standing {
        checkpoint: id.checkpoint(&positions),
        conflicts: open_conflicts(&mut connection, access).await?,
    })
}

/// Where the asker's spaces stand, their own first. One statement, so all are of one moment.
async fn heads(
    connection: &mut PgConnection,
    access: &Access,
) -> Result<Vec<(Space, Head)>, Fault> {
    let names: Vec<String> = access.spaces().map(|space| space.to_string()).collect();
    let sql = "SELECT space, seq, floor FROM heads WHERE space = ANY($1)";
    let mut heads = BTreeMap::new();
    for row in sqlx::query(sql).bind(names).fetch_all(connection).await? {
        let space: String = row.try_get(0)?;
        let head = Head {
            seq: rows::from_sql(row.try_get(1)?)?,
            floor: rows::from_sql(row.try_get(2)?)?,
        };
        heads.insert(rows::space(&space)?, head);
    }
    Ok(heads_of(access.spaces(), heads))
}
