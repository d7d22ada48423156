//! Importing records for a demo or a test.

use rusqlite::{Connection, params};

use super::engine;
use super::heads::Numbering;
use super::records::{Key, put};
use crate::access::{Sharing, Space};
use crate::data::RecordData;
use crate::decide::Record;
use crate::ids::{ClientId, RecordId, RecordType, Stamp, UnixMillis, UserId, Version};
use crate::ruling::Located;
use crate::store::{Seeded, StoreError};

/// Imports the records, inside the caller's transaction, unless there are any of that type; the
/// spaces that have new records.
pub(super) fn seed(
    connection: &Connection,
    user: &UserId,
    record_type: &RecordType,
    sharing: &Sharing,
    records: Vec<(RecordId, RecordData)>,
    now: UnixMillis,
) -> Result<(Seeded, Vec<Space>), StoreError> {
    let realm = sharing.realm(user);
    let sql = "SELECT EXISTS (SELECT 1 FROM records WHERE realm = ?1 AND type = ?2)";
    if connection
        .query_row(sql, params![realm, record_type.as_str()], |row| row.get(0))
        .map_err(engine)?
    {
        return Ok((Seeded::Present, Vec::new()));
    }
    let client = ClientId::new("seed").map_err(|_| StoreError::Damaged("the seed's client"))?;
    let at = Stamp::at(now, &client);
    let mut numbering = Numbering::default();
    let count = records.len();
    for (id, data) in records {
        let space = sharing.space(user, &data);
        let space = space.map_err(|_| StoreError::NoEntity(id.clone()))?;
        let record = Record {
            version: Version::NONE.next(),
            data: Some(data),
            at: at.clone(),
            client: client.clone(),
        };
        let key = Key {
            realm,
            record_type,
            id: &id,
        };
        let located = Located { space, record };
        put(connection, key, &located, None, &mut numbering, now)?;
    }
    Ok((Seeded::Imported(count), numbering.store(connection)?))
}
