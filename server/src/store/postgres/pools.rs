//! Connections: some that write, some that read, and what is asked of each before it is used.

use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{Executor, PgConnection};

use crate::limits;

/// Makes connections as they are needed, up to `most`.
pub(super) fn pool(options: PgConnectOptions, most: u32) -> PgPool {
    PgPoolOptions::new()
        .max_connections(most)
        .acquire_timeout(limits::POSTGRES_ACQUIRE_TIMEOUT)
        .after_connect(|connection, _| Box::pin(set_up(connection)))
        .connect_lazy_with(options)
}

/// The isolation level is said because a database may have another default, under which a
/// transaction would not see what was committed while it waited for a lock.
async fn set_up(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let sql = format!(
        "SET default_transaction_isolation = 'read committed';
         SET statement_timeout = {};
         SET lock_timeout = {};
         SET idle_in_transaction_session_timeout = {}",
        limits::POSTGRES_STATEMENT_TIMEOUT.as_millis(),
        limits::POSTGRES_LOCK_TIMEOUT.as_millis(),
        limits::POSTGRES_IDLE_TIMEOUT.as_millis(),
    );
    connection
        .execute(sqlx::raw_sql(sqlx::AssertSqlSafe(sql)))
        .await?;
    Ok(())
}

/// For the connection that migrates: it may wait longer, and take as long as it takes.
pub(super) async fn set_up_to_migrate(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let sql = format!(
        "SET default_transaction_isolation = 'read committed';
         SET statement_timeout = 0;
         SET lock_timeout = {}",
        limits::POSTGRES_MIGRATE_TIMEOUT.as_millis(),
    );
    connection
        .execute(sqlx::raw_sql(sqlx::AssertSqlSafe(sql)))
        .await?;
    Ok(())
}
