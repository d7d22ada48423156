//! Who is assigned to which entity.

use std::collections::BTreeSet;

use sqlx::{PgConnection, PgPool};

use super::fault::fault;
use super::flush::notify;
use super::push::{Attempts, Fault, locked};
use crate::access::Space;
use crate::ids::{EntityId, UserId};
use crate::limits;
use crate::store::StoreError;

/// The user's entities.
pub(super) async fn assignments(
    pool: &PgPool,
    user: &UserId,
) -> Result<BTreeSet<EntityId>, StoreError> {
    let mut connection = pool.acquire().await.map_err(fault)?;
    Ok(entities(&mut connection, user).await?)
}

async fn entities(
    connection: &mut PgConnection,
    user: &UserId,
) -> Result<BTreeSet<EntityId>, Fault> {
    let names: Vec<String> =
        sqlx::query_scalar("SELECT entity FROM assignments WHERE user_id = $1")
            .bind(user.as_str())
            .fetch_all(connection)
            .await?;
    let entities: Result<_, _> = names.into_iter().map(EntityId::new).collect();
    entities.map_err(|_| StoreError::Damaged("an entity").into())
}

/// Adds one; whether it is new.
pub(super) async fn assign(
    pool: &PgPool,
    user: &UserId,
    entity: &EntityId,
) -> Result<bool, StoreError> {
    change(pool, user, entity, true).await
}

/// Takes one back; whether there was one.
pub(super) async fn unassign(
    pool: &PgPool,
    user: &UserId,
    entity: &EntityId,
) -> Result<bool, StoreError> {
    change(pool, user, entity, false).await
}

async fn change(
    pool: &PgPool,
    user: &UserId,
    entity: &EntityId,
    add: bool,
) -> Result<bool, StoreError> {
    let mut connection = pool.acquire().await.map_err(fault)?;
    let mut attempts = Attempts::default();
    loop {
        match attempt(&mut connection, user, entity, add).await {
            Ok(changed) => return Ok(changed),
            Err(fault) => attempts.again(&mut connection, fault).await?,
        }
    }
}

async fn attempt(
    connection: &mut PgConnection,
    user: &UserId,
    entity: &EntityId,
    add: bool,
) -> Result<bool, Fault> {
    // Under the lock of the user's space, so that two at once do not both find room for one more.
    let own = Space::Own(user.clone());
    let (mut transaction, _) = locked(connection, &[own.clone()].into()).await?;
    let before = entities(&mut transaction, user).await?;
    if before.contains(entity) == add {
        return Ok(false);
    }
    if add && before.len() >= limits::ENTITIES_MAX {
        return Err(StoreError::TooManyEntities.into());
    }
    let sql = if add {
        "INSERT INTO assignments (user_id, entity) VALUES ($1, $2)"
    } else {
        "DELETE FROM assignments WHERE user_id = $1 AND entity = $2"
    };
    sqlx::query(sql)
        .bind(user.as_str())
        .bind(entity.as_str())
        .execute(&mut *transaction)
        .await?;
    // Whoever streams to this user is to look again at what is open to them.
    notify(&mut transaction, &own).await?;
    transaction.commit().await?;
    Ok(true)
}
