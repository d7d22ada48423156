//! The tables, and how a database comes to have them. `PRAGMA user_version` counts the migrations
//! that a database has seen; one that has seen more than this server knows is refused, since an
//! older server would not keep a newer one's promises.

use rusqlite::{Connection, TransactionBehavior};

use super::engine;
use crate::store::StoreError;
use crate::store::checkpoint::DatabaseId;

/// Marks the file as ours ("LNDF"), so that another program's database is not taken for an empty
/// one.
const APPLICATION_ID: i64 = 0x4C4E_4446;

/// In their order; never edited once released, only added to.
const MIGRATIONS: &[&str] = &[
    include_str!("schema/1.sql"),
    include_str!("schema/2.sql"),
    include_str!("schema/3.sql"),
    include_str!("schema/4.sql"),
    include_str!("schema/5.sql"),
];

/// Brings a database to the newest schema and returns its id, which is minted with it.
pub(super) fn prepare(connection: &mut Connection) -> Result<DatabaseId, StoreError> {
    refuse_foreign(connection)?;
    // Immediate: of two servers that start on one file, the second waits and finds it done.
    let transaction = connection
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(engine)?;
    let known = MIGRATIONS.len();
    let found = pragma(&transaction, "user_version")?;
    let done = usize::try_from(found).ok().filter(|done| *done <= known);
    let Some(done) = done else {
        return Err(StoreError::NewerSchema {
            found,
            known: i64::try_from(known).unwrap_or(0),
        });
    };
    for migration in &MIGRATIONS[done..] {
        transaction.execute_batch(migration).map_err(engine)?;
    }
    if done == 0 {
        transaction
            .execute(
                "INSERT INTO meta (key, value) VALUES ('database-id', ?1)",
                [DatabaseId::mint()?.as_str()],
            )
            .map_err(engine)?;
    }
    if done < known {
        transaction
            .pragma_update(None, "application_id", APPLICATION_ID)
            .map_err(engine)?;
        transaction
            .pragma_update(None, "user_version", known as i64)
            .map_err(engine)?;
    }
    let id = transaction
        .query_row(
            "SELECT value FROM meta WHERE key = 'database-id'",
            [],
            |row| row.get(0),
        )
        .map_err(engine)?;
    transaction.commit().map_err(engine)?;
    Ok(DatabaseId::from_stored(id))
}

fn refuse_foreign(connection: &Connection) -> Result<(), StoreError> {
    let ours = match pragma(connection, "application_id")? {
        APPLICATION_ID => true,
        0 => {
            let tables: i64 = connection
                .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
                .map_err(engine)?;
            tables == 0
        }
        _ => false,
    };
    if ours {
        Ok(())
    } else {
        Err(StoreError::ForeignDatabase)
    }
}

fn pragma(connection: &Connection, name: &str) -> Result<i64, StoreError> {
    connection
        .pragma_query_value(None, name, |row| row.get(0))
        .map_err(engine)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_start_finds_the_same_database() {
        let mut connection = Connection::open_in_memory().unwrap();
        let first = prepare(&mut connection).unwrap();
        assert_eq!(prepare(&mut connection).unwrap(), first);
        assert_eq!(
            pragma(&connection, "user_version").unwrap(),
            MIGRATIONS.len() as i64
        );
    }

    #[test]
    fn a_newer_database_is_refused_and_left_alone() {
        let mut connection = Connection::open_in_memory().unwrap();
        prepare(&mut connection).unwrap();
        connection.pragma_update(None, "user_version", 99).unwrap();
        let error = prepare(&mut connection).unwrap_err();
        assert!(matches!(error, StoreError::NewerSchema { found: 99, .. }));
        assert!(error.to_string().contains("schema version 99"), "{error}");
        assert_eq!(pragma(&connection, "user_version").unwrap(), 99);
    }

    #[test]
    fn another_programs_database_is_refused() {
        let mut connection = Connection::open_in_memory().unwrap();
        connection
            .execute_batch("CREATE TABLE recipes (name TEXT)")
            .unwrap();
        assert!(matches!(
            prepare(&mut connection),
            Err(StoreError::ForeignDatabase)
        ));
        let mut connection = Connection::open_in_memory().unwrap();
        connection.pragma_update(None, "application_id", 7).unwrap();
        assert!(matches!(
            prepare(&mut connection),
            Err(StoreError::ForeignDatabase)
        ));
    }
}
