//! Importing records for a demo or a test.

use rusqlite::{Connection, params};

use super::engine;
use super::push::{head, put, set_head};
use crate::data::RecordData;
use crate::decide::Record;
use crate::ids::{ClientId, RecordId, RecordType, Stamp, UnixMillis, UserId, Version};
use crate::store::{Seeded, StoreError};

/// Imports the records, inside the caller's transaction, unless the user has any of that type.
pub(super) fn seed(
    connection: &Connection,
    user: &UserId,
    record_type: &RecordType,
    records: Vec<(RecordId, RecordData)>,
    now: UnixMillis,
) -> Result<Seeded, StoreError> {
    let sql = "SELECT EXISTS (SELECT 1 FROM records WHERE user = ?1 AND type = ?2)";
    let key = params![user.as_str(), record_type.as_str()];
    if connection
        .query_row(sql, key, |row| row.get(0))
        .map_err(engine)?
    {
        return Ok(Seeded::Present);
    }
    let client = ClientId::new("seed").map_err(|_| StoreError::Damaged("the seed's client"))?;
    let at = Stamp::at(now, &client);
    let mut seq = head(connection, user)?;
    let count = records.len();
    for (id, data) in records {
        seq = seq.saturating_add(1);
        let record = Record {
            version: Version::NONE.next(),
            data: Some(data),
            at: at.clone(),
            client: client.clone(),
        };
        put(connection, user, record_type, &id, &record, seq)?;
    }
    set_head(connection, user, seq)?;
    Ok(Seeded::Imported(count))
}
