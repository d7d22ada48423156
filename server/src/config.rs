//! What a server is told before it starts.

use std::path::PathBuf;
use std::time::Duration;

use axum::http::HeaderValue;

use crate::access::TypeRules;
use crate::ids::{RecordType, UserId};
use crate::limits;
use crate::store::postgres::DatabaseUrl;
use crate::store::sqlite::Location;
use crate::token::Secret;

/// Everything that can be set.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the database is.
    pub database: Database,
    /// What tokens are signed with.
    pub secret: Secret,
    /// A folder whose files are served beside the API.
    pub static_dir: Option<PathBuf>,
    /// Which pages of other origins may call the API.
    pub cors: Cors,
    /// Tokens for the asking.
    pub demo: Demo,
    /// Records to begin with.
    pub seed: Option<Seed>,
    /// How large files may be, and how long unfinished ones are kept.
    pub media: MediaLimits,
    /// How many streams there may be, and how they behave.
    pub stream: StreamLimits,
    /// Which types are shared by entity.
    pub types: TypeRules,
    /// How long tombstones, results of mutations and settled conflicts are kept; for ever without.
    pub retention: Option<Duration>,
}

/// Bounds on files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaLimits {
    /// Bytes of one file.
    pub file_bytes_max: u64,
    /// Bytes of all files that one user has uploaded, wherever they are.
    pub user_bytes_max: u64,
    /// How long an unfinished upload is kept after its last byte.
    pub kept: Duration,
}

impl Default for MediaLimits {
    fn default() -> Self {
        Self {
            file_bytes_max: limits::MEDIA_BYTES_MAX,
            user_bytes_max: limits::MEDIA_USER_BYTES_MAX,
            kept: limits::UPLOAD_KEPT,
        }
    }
}

/// Streams of events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamLimits {
    /// Between two heartbeats.
    pub heartbeat: Duration,
    /// Between a commit and the poke, for others that may follow.
    pub debounce: Duration,
    /// At the same time.
    pub all: usize,
    /// At the same time for one user.
    pub each: usize,
}

impl Default for StreamLimits {
    fn default() -> Self {
        Self {
            heartbeat: limits::STREAM_HEARTBEAT,
            debounce: limits::STREAM_DEBOUNCE,
            all: limits::STREAMS_MAX,
            each: limits::STREAMS_PER_USER_MAX,
        }
    }
}

impl Config {
    /// A server with this database and secret, and all else off.
    pub fn new(database: impl Into<Database>, secret: Secret) -> Self {
        Self {
            database: database.into(),
            secret,
            static_dir: None,
            cors: Cors::Off,
            demo: Demo::Off,
            seed: None,
            media: MediaLimits::default(),
            stream: StreamLimits::default(),
            types: TypeRules::default(),
            retention: Some(limits::RETENTION_DEFAULT),
        }
    }
}

/// Where records are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Database {
    /// In this process, for one server.
    Sqlite(Location),
    /// In a PostgreSQL, which several servers may share.
    Postgres(DatabaseUrl),
}

impl From<Location> for Database {
    fn from(location: Location) -> Self {
        Self::Sqlite(location)
    }
}

impl From<DatabaseUrl> for Database {
    fn from(url: DatabaseUrl) -> Self {
        Self::Postgres(url)
    }
}

/// Cross-origin access. Requests carry a bearer token and never cookies, so allowing an origin
/// gives its pages nothing that they could not do with a token of their own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Cors {
    /// Same origin only.
    #[default]
    Off,
    /// Any origin.
    Any,
    /// These origins (`https://app.example`).
    Origins(Vec<HeaderValue>),
}

/// `POST /demo/token`, which gives a token for any user to whoever asks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Demo {
    /// There is no such endpoint.
    #[default]
    Off,
    /// For requests from this machine.
    Loopback,
    /// For all.
    Anyone,
}

/// Records to import when their user has none of their type.
#[derive(Clone, Debug)]
pub struct Seed {
    /// A JSON array of objects, each with a string `id`.
    pub file: PathBuf,
    /// Their collection.
    pub record_type: RecordType,
    /// Whose they are.
    pub user: UserId,
}
