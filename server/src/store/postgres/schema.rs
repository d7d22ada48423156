//! The tables, and how a database comes to have them. `landfall_meta` says how many migrations it
//! has seen; one that has seen more than this server knows is refused, as is one in which there are
//! tables but not this one.
//!
//! Names are looked up in the first schema of the connection's `search_path`, so that a database can
//! be shared with other programs: one schema each.

use sqlx::{Connection, PgConnection, Row};

use super::fault::startup;
use crate::store::StoreError;
use crate::store::checkpoint::DatabaseId;

/// Any number that nobody else locks: "landfall" in ASCII.
const LOCK: i64 = 0x6C61_6E64_6661_6C6C;

/// In their order; never edited once released, only added to.
const MIGRATIONS: &[&str] = &[
    include_str!("migrations/1.sql"),
    include_str!("migrations/2.sql"),
    include_str!("migrations/3.sql"),
];

/// Brings a database to the newest schema and returns its id, which is minted with it.
///
/// All in one transaction, under a lock: of two servers that start at once, the second waits and
/// finds it done.
pub(super) async fn prepare(connection: &mut PgConnection) -> Result<DatabaseId, StoreError> {
    let mut transaction = connection.begin().await.map_err(startup)?;
    sqlx::query("SELECT pg_advisory_xact_lock($1)")
        .bind(LOCK)
        .execute(&mut *transaction)
        .await
        .map_err(startup)?;
    let found = found(&mut transaction).await?;
    let known = MIGRATIONS.len();
    let done = usize::try_from(found).ok().filter(|done| *done <= known);
    let Some(done) = done else {
        return Err(StoreError::NewerSchema {
            found,
            known: i64::try_from(known).unwrap_or(0),
        });
    };
    for migration in &MIGRATIONS[done..] {
        sqlx::raw_sql(*migration)
            .execute(&mut *transaction)
            .await
            .map_err(startup)?;
    }
    if done == 0 {
        set(
            &mut transaction,
            "database-id",
            DatabaseId::mint()?.as_str(),
        )
        .await?;
    }
    if done < known {
        set(&mut transaction, "schema-version", &known.to_string()).await?;
    }
    let id = get(&mut transaction, "database-id").await?;
    transaction.commit().await.map_err(startup)?;
    let id = id.ok_or(StoreError::Damaged("the database has no id"))?;
    Ok(DatabaseId::from_stored(id))
}

/// How many migrations the database has seen.
async fn found(connection: &mut PgConnection) -> Result<i64, StoreError> {
    // Tables of extensions are not another program's.
    let sql = "SELECT to_regclass(quote_ident(current_schema()) || '.landfall_meta') IS NOT NULL,
                      EXISTS (SELECT 1 FROM pg_class c
                              WHERE c.relnamespace = quote_ident(current_schema())::regnamespace
                                AND c.relkind IN ('r', 'p')
                                AND NOT EXISTS (SELECT 1 FROM pg_depend d
                                                WHERE d.objid = c.oid AND d.deptype = 'e'))";
    let row = sqlx::query(sql)
        .fetch_one(&mut *connection)
        .await
        .map_err(startup)?;
    let ours: Option<bool> = row.try_get(0).map_err(startup)?;
    let others: Option<bool> = row.try_get(1).map_err(startup)?;
    match (ours, others) {
        (Some(true), _) => {
            let version = get(connection, "schema-version").await?;
            let version = version.and_then(|text| text.parse().ok());
            version.ok_or(StoreError::Damaged("the schema's version"))
        }
        (_, Some(true)) => Err(StoreError::ForeignDatabase),
        (_, _) => Ok(0),
    }
}

async fn get(connection: &mut PgConnection, key: &str) -> Result<Option<String>, StoreError> {
    sqlx::query_scalar("SELECT value FROM landfall_meta WHERE key = $1")
        .bind(key)
        .fetch_optional(connection)
        .await
        .map_err(startup)
}

async fn set(connection: &mut PgConnection, key: &str, value: &str) -> Result<(), StoreError> {
    let sql = "INSERT INTO landfall_meta (key, value) VALUES ($1, $2)
               ON CONFLICT (key) DO UPDATE SET value = excluded.value";
    sqlx::query(sql)
        .bind(key)
        .bind(value)
        .execute(connection)
        .await
        .map(drop)
        .map_err(startup)
}
