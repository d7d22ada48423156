//! What a server is told before it starts.
//!
//! [`settings`] is the form in which people write it, in a file, in the environment or on the command
//! line; [`resolve`] makes a [`Config`] of it, which holds only what has been checked.

pub mod resolve;
pub mod settings;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderName, HeaderValue};

use crate::ids::{RecordType, UserId};
use crate::limits;
use crate::rate::Rate;
use crate::retention::Retention;
use crate::store::postgres::DatabaseUrl;
use crate::store::sqlite::Location;
use crate::token::{Secret, Tokens};
use crate::types::TypeRules;

/// Everything that can be set.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the database is.
    pub database: Database,
    /// Which tokens are valid.
    pub tokens: Arc<Tokens>,
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
    /// The collections, how they are shared, and what their records look like.
    pub types: TypeRules,
    /// How long the past is kept.
    pub retention: Retention,
    /// How much one user and one address may ask for.
    pub rates: Rates,
    /// Who may read the metrics.
    pub metrics: Metrics,
    /// The header in which a proxy in front of the server says who asks.
    pub proxy_header: Option<HeaderName>,
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
    /// A server with this database and secret that takes records of any type, with the usual limits,
    /// and all else off.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a secret is handed over, not left behind"
    )]
    pub fn new(database: impl Into<Database>, secret: Secret) -> Self {
        Self {
            database: database.into(),
            tokens: Arc::new(Tokens::new(&secret)),
            static_dir: None,
            cors: Cors::Off,
            demo: Demo::Off,
            seed: None,
            media: MediaLimits::default(),
            stream: StreamLimits::default(),
            types: TypeRules::default(),
            retention: Retention::default(),
            rates: Rates::default(),
            metrics: Metrics::Off,
            proxy_header: None,
        }
    }
}

/// Bounds on what is asked for; `None` is without bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rates {
    /// For one user, by a valid token.
    pub user: Option<Rate>,
    /// For one address, without a valid token.
    pub peer: Option<Rate>,
}

impl Default for Rates {
    fn default() -> Self {
        Self {
            user: Some(Rate {
                per_second: limits::USER_PER_SECOND,
                burst: limits::USER_BURST,
            }),
            peer: Some(Rate {
                per_second: limits::PEER_PER_SECOND,
                burst: limits::PEER_BURST,
            }),
        }
    }
}

/// Where `/metrics` is. It asks for no token, since those who scrape it have none: so it is either not
/// there, or beside the API where all who reach that may read it, or at an address of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Metrics {
    /// Nowhere.
    #[default]
    Off,
    /// Beside the API.
    Beside,
    /// At this address, with `/healthz` and `/readyz`.
    Apart(SocketAddr),
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
