//! Who is assigned to which entity.

use std::collections::BTreeSet;

use rusqlite::{Connection, params};

use super::engine;
use crate::ids::{EntityId, UserId};
use crate::limits;
use crate::store::StoreError;

/// The user's entities.
pub(super) fn assignments(
    connection: &Connection,
    user: &UserId,
) -> Result<BTreeSet<EntityId>, StoreError> {
    let sql = "SELECT entity FROM assignments WHERE user = ?1";
    let mut statement = connection.prepare_cached(sql).map_err(engine)?;
    let mut rows = statement.query([user.as_str()]).map_err(engine)?;
    let mut entities = BTreeSet::new();
    while let Some(row) = rows.next().map_err(engine)? {
        let entity: String = row.get(0).map_err(engine)?;
        entities.insert(EntityId::new(entity).map_err(|_| StoreError::Damaged("an entity"))?);
    }
    Ok(entities)
}

/// Adds one; whether it is new.
pub(super) fn assign(
    connection: &Connection,
    user: &UserId,
    entity: &EntityId,
) -> Result<bool, StoreError> {
    let entities = assignments(connection, user)?;
    if entities.contains(entity) {
        return Ok(false);
    }
    if entities.len() >= limits::ENTITIES_MAX {
        return Err(StoreError::TooManyEntities);
    }
    let sql = "INSERT INTO assignments (user, entity) VALUES (?1, ?2)";
    let mut statement = connection.prepare_cached(sql).map_err(engine)?;
    statement
        .execute(params![user.as_str(), entity.as_str()])
        .map_err(engine)?;
    Ok(true)
}

/// Takes one back; whether there was one.
pub(super) fn unassign(
    connection: &Connection,
    user: &UserId,
    entity: &EntityId,
) -> Result<bool, StoreError> {
    let sql = "DELETE FROM assignments WHERE user = ?1 AND entity = ?2";
    let mut statement = connection.prepare_cached(sql).map_err(engine)?;
    let rows = statement
        .execute(params![user.as_str(), entity.as_str()])
        .map_err(engine)?;
    Ok(rows > 0)
}
