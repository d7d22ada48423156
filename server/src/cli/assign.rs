//! `landfall-server assign` and `unassign`: who works with which entity. A server that is running on
//! the same database knows it from the next request on.

use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, Subcommand};

use super::{ConfigFault, DATABASE_VARIABLE};
use crate::config::resolve::database;
use crate::config::settings::Hidden;
use crate::ids::{EntityId, InvalidId, UserId};
use crate::server::open_store;
use crate::store::{Store, StoreError};

/// What the program does in place of serving.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Open an entity's records to a user.
    Assign(Assignment),
    /// Close an entity's records to a user again; entities in the user's token stay open.
    Unassign(Assignment),
}

/// Who, and what.
#[derive(Debug, Args)]
pub struct Assignment {
    /// The database, as the server has it: an SQLite file.
    #[arg(long, value_name = "PATH", env = "LANDFALL_DB")]
    pub db: Option<PathBuf>,
    /// The database, as the server has it: a PostgreSQL.
    #[arg(long, value_name = "URL", env = DATABASE_VARIABLE, hide_env_values = true)]
    pub database_url: Option<Hidden>,
    /// The user: the `sub` of their tokens.
    #[arg(long)]
    pub user: String,
    /// The entity's id, as records name it.
    #[arg(long)]
    pub entity: String,
}

/// Why it could not be done.
#[derive(Debug, thiserror::Error)]
pub enum AssignError {
    /// No database, or two.
    #[error(transparent)]
    Config(#[from] ConfigFault),
    /// A user or an entity that cannot be one.
    #[error(transparent)]
    Id(#[from] InvalidId),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Command {
    /// Does it; what to tell.
    pub async fn run(self) -> Result<String, AssignError> {
        match self {
            Self::Assign(assignment) => {
                let (store, user, entity) = assignment.open().await?;
                Ok(match store.assign(&user, &entity).await? {
                    true => format!("{user} is assigned to {entity}"),
                    false => format!("{user} was assigned to {entity} already"),
                })
            }
            Self::Unassign(assignment) => {
                let (store, user, entity) = assignment.open().await?;
                Ok(match store.unassign(&user, &entity).await? {
                    true => format!("{user} is no longer assigned to {entity}"),
                    false => format!("{user} was not assigned to {entity}"),
                })
            }
        }
    }
}

impl Assignment {
    async fn open(self) -> Result<(Arc<dyn Store>, UserId, EntityId), AssignError> {
        let (user, entity) = (UserId::new(self.user)?, EntityId::new(self.entity)?);
        let database = database(self.db, self.database_url)?;
        Ok((open_store(&database).await?, user, entity))
    }
}
