//! What PostgreSQL's errors mean. The codes are those of its manual's appendix A.

use std::sync::Arc;

use sqlx::Error;

use crate::store::StoreError;

/// Whether two transactions got in each other's way: the same work, done again at once, may
/// succeed.
pub(super) fn collided(error: &Error) -> bool {
    matches!(
        code(error).as_deref(),
        // Serialization failure, deadlock; and a key that another transaction has made since we
        // looked.
        Some("40001" | "40P01" | "23505")
    )
}

/// Whether the transaction can go on once it is rolled back to a savepoint: a statement was
/// refused for what it was asked to store, and the connection is well.
pub(super) fn of_the_data(error: &Error) -> bool {
    code(error).is_some() && !collided(error) && !passing(error)
}

/// Whether it may pass by itself: the connection, the server's state, a lock or a statement that
/// took too long, resources that have run out.
fn passing(error: &Error) -> bool {
    match error {
        Error::Io(_) | Error::Protocol(_) | Error::WorkerCrashed | Error::BeginFailed => true,
        Error::Database(_) => code(error).is_some_and(|code| {
            let class = code.get(..2).unwrap_or_default();
            // Connection exceptions, transaction rollback, insufficient resources, operator
            // intervention (also the time-out of a statement), lock not available, and a server
            // that only reads, as after a failover.
            matches!(class, "08" | "40" | "53" | "57") || code == "55P03" || code == "25006"
        }),
        _ => false,
    }
}

/// The store's error for one of a request's.
pub(super) fn fault(error: Error) -> StoreError {
    match &error {
        Error::PoolTimedOut => StoreError::Overloaded,
        Error::PoolClosed => StoreError::Closed,
        _ if passing(&error) || collided(&error) => {
            tracing::warn!(%error, "the database does not answer as it should");
            StoreError::Unavailable
        }
        _ => StoreError::Engine(Arc::new(error)),
    }
}

/// The same while the server starts, where the reason is for whoever starts it.
pub(super) fn startup(error: Error) -> StoreError {
    StoreError::Engine(Arc::new(error))
}

fn code(error: &Error) -> Option<String> {
    let code = error.as_database_error()?.code()?;
    Some(code.into_owned())
}
