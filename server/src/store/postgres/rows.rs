//! Between columns and the crate's types. Whatever was stored had been checked; what cannot be read
//! back is damaged.

use sqlx::postgres::PgRow;
use sqlx::{ColumnIndex, Row};

use super::push::Fault;
use crate::access::Space;
use crate::data::RecordData;
use crate::decide::Record;
use crate::ids::{ClientId, RecordId, RecordType, Stamp, Version};
use crate::ruling::Located;
use crate::store::StoreError;

/// PostgreSQL's integers are signed. Everything that is stored is far below the bound.
pub(super) fn to_sql(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn from_sql(number: i64) -> Result<u64, StoreError> {
    u64::try_from(number).map_err(|_| StoreError::Damaged("a negative number"))
}

pub(super) fn data(text: Option<String>) -> Result<Option<RecordData>, StoreError> {
    let data = text.map(RecordData::from_stored).transpose();
    data.map_err(|_| StoreError::Damaged("a record's data"))
}

pub(super) fn stamp(text: String) -> Result<Stamp, StoreError> {
    Stamp::new(text).map_err(|_| StoreError::Damaged("a stamp"))
}

pub(super) fn space(text: &str) -> Result<Space, StoreError> {
    Space::parse(text).ok_or(StoreError::Damaged("a space"))
}

pub(super) fn client(text: String) -> Result<ClientId, StoreError> {
    ClientId::new(text).map_err(|_| StoreError::Damaged("a client's id"))
}

pub(super) fn record_type(text: String) -> Result<RecordType, StoreError> {
    RecordType::new(text).map_err(|_| StoreError::Damaged("a type"))
}

pub(super) fn record_id(text: String) -> Result<RecordId, StoreError> {
    RecordId::new(text).map_err(|_| StoreError::Damaged("a record's id"))
}

/// Reads `version`, `data`, `at`, `client` and `space`.
pub(super) fn located(row: &PgRow) -> Result<Located, Fault> {
    let text: String = row.try_get("space")?;
    Ok(Located {
        space: space(&text)?,
        record: Record {
            version: version(row, "version")?,
            data: data(row.try_get("data")?)?,
            at: stamp(row.try_get("at")?)?,
            client: client(row.try_get("client")?)?,
        },
    })
}

pub(super) fn version<I: ColumnIndex<PgRow>>(row: &PgRow, index: I) -> Result<Version, Fault> {
    Ok(Version(from_sql(row.try_get(index)?)?))
}
