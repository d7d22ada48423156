//! A server from its start to its end.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::serve::ListenerExt;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::access::TypeRules;
use crate::config::{Config, Database, Metrics, Seed};
use crate::http::Routers;
use crate::http::stopping::Stop;
use crate::ids::UnixMillis;
use crate::patience::Patient;
use crate::retention::{self, Retention};
use crate::seed::SeedFault;
use crate::store::postgres::PostgresStore;
use crate::store::sqlite::SqliteStore;
use crate::store::{Seeded, Store, StoreError};
use crate::{http, limits, seed};

/// Why a server cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The database cannot be opened.
    #[error("cannot open the database: {0}")]
    Store(#[from] StoreError),
    /// The seed file cannot be used.
    #[error("cannot use the seed file {0}: {1}")]
    Seed(PathBuf, SeedFault),
    /// The socket failed.
    #[error("cannot serve: {0}")]
    Socket(#[from] std::io::Error),
    /// The metrics' address cannot be had.
    #[error("cannot serve the metrics at {0}: {1}")]
    Metrics(SocketAddr, std::io::Error),
    /// The thread that opened the database is gone.
    #[error("start-up was interrupted")]
    Interrupted,
}

/// A server that is ready: database open and seeded, routes built.
pub struct Server {
    store: Arc<dyn Store>,
    routers: Routers,
    /// Where the metrics will be asked for, where that is an address of their own.
    apart: Option<TcpListener>,
    retention: Retention,
    stop: Stop,
    /// How long unfinished uploads are kept.
    kept: Duration,
}

impl Server {
    /// Opens the database and imports the seed.
    pub async fn open(config: Config) -> Result<Self, ServerError> {
        let store = open_store(&config.database).await?;
        if let Some(seed) = &config.seed {
            import(&*store, seed, &config.types).await?;
        }
        let mut server = Self::with_store(store, &config);
        // Here, so that the address is there before anybody is told that the server is.
        if let Metrics::Apart(address) = config.metrics {
            let bound = TcpListener::bind(address).await;
            server.apart = Some(bound.map_err(|error| ServerError::Metrics(address, error))?);
        }
        Ok(server)
    }

    /// A server over a store of one's own; `database` and `seed` of the configuration are not used.
    pub fn with_store(store: Arc<dyn Store>, config: &Config) -> Self {
        let stop = Stop::new();
        let routers = http::routers(Arc::clone(&store), config, stop.listener());
        Self {
            store,
            routers,
            apart: None,
            retention: config.retention,
            stop,
            kept: config.media.kept,
        }
    }

    /// Where its records are.
    pub fn store(&self) -> Arc<dyn Store> {
        Arc::clone(&self.store)
    }

    /// All routes, to be called without a socket.
    pub fn router(&self) -> Router {
        self.routers.api.clone()
    }

    /// Puts layers of one's own around all routes.
    #[must_use]
    pub fn layered(mut self, layers: impl FnOnce(Router) -> Router) -> Self {
        self.routers.api = layers(self.routers.api);
        self
    }

    /// Serves until `shutdown` ends, then finishes the requests in flight, within
    /// [`limits::DRAIN_TIMEOUT`], and closes the database.
    pub async fn run(
        self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), ServerError> {
        // A tapped listener tells handlers the peer's address, whatever the listener.
        let listener = Patient::new(listener, self.stop.listener()).tap_io(|_| {});
        let sweeping = tokio::spawn(sweep(Arc::clone(&self.store), self.kept));
        let (stop, (stopping, stopped)) = (self.stop, oneshot::channel());
        // Ends with this function: what it tells is of use as long as the rest goes on.
        let _apart = match (self.apart, self.routers.apart) {
            (Some(listener), Some(router)) => Some(apart(listener, router)?),
            _ => None,
        };
        let service = self
            .routers
            .api
            .into_make_service_with_connect_info::<SocketAddr>();
        let serving = axum::serve(listener, service).with_graceful_shutdown(async move {
            shutdown.await;
            tracing::info!("shutting down");
            stop.begin();
            let _ = stopping.send(());
        });
        let store = self.store;
        let mut purging = JoinSet::new();
        purging.spawn(retention::keep(Arc::clone(&store), self.retention));
        let overdue = async {
            // An error means that serving has ended by itself.
            if stopped.await.is_err() {
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(limits::DRAIN_TIMEOUT).await;
        };
        tokio::select! {
            served = std::future::IntoFuture::into_future(serving) => served?,
            () = overdue => tracing::warn!("requests were still in flight: not waiting longer"),
        }
        purging.shutdown().await;
        sweeping.abort();
        // An error means that it ended by being aborted, as it was to.
        let _ = sweeping.await;
        // Dropping the last reference waits for the writer, which may wait for a disk.
        tokio::task::spawn_blocking(move || drop(store))
            .await
            .map_err(|_| ServerError::Interrupted)
    }
}

/// Opens a database of either kind.
pub(crate) async fn open_store(database: &Database) -> Result<Arc<dyn Store>, StoreError> {
    Ok(match database.clone() {
        Database::Sqlite(location) => {
            let open = tokio::task::spawn_blocking(move || SqliteStore::open(&location));
            Arc::new(open.await.unwrap_or(Err(StoreError::Closed))?)
        }
        Database::Postgres(url) => Arc::new(PostgresStore::open(&url).await?),
    })
}

/// Opens, serves, and finishes what is in flight once `shutdown` ends.
pub async fn serve(
    listener: TcpListener,
    config: Config,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ServerError> {
    Server::open(config).await?.run(listener, shutdown).await
}

/// Serves the metrics at their own address, until the answer is dropped.
fn apart(listener: TcpListener, router: Router) -> Result<JoinSet<()>, ServerError> {
    let address = listener.local_addr()?;
    tracing::info!("metrics on http://{address}/metrics");
    let mut serving = JoinSet::new();
    serving.spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(%error, "the metrics are no longer served");
        }
    });
    Ok(serving)
}

/// Clears away, now and then, what nobody needs any more of media.
async fn sweep(store: Arc<dyn Store>, kept: Duration) {
    let Some(media) = store.media() else {
        return;
    };
    let kept_ms = u64::try_from(kept.as_millis()).unwrap_or(u64::MAX);
    let mut rounds = tokio::time::interval(limits::SWEEP_INTERVAL);
    loop {
        rounds.tick().await;
        let before = UnixMillis(UnixMillis::now().0.saturating_sub(kept_ms));
        loop {
            match media.sweep(before).await {
                Ok(true) => tokio::task::yield_now().await,
                Ok(false) => break,
                Err(error) => {
                    tracing::warn!(%error, "media could not be cleared away");
                    break;
                }
            }
        }
    }
}

async fn import(store: &dyn Store, seed: &Seed, types: &TypeRules) -> Result<(), ServerError> {
    let records =
        seed::load(&seed.file).map_err(|fault| ServerError::Seed(seed.file.clone(), fault))?;
    let sharing = types.sharing(&seed.record_type);
    let seeded = store
        .seed(
            &seed.user,
            &seed.record_type,
            sharing,
            records,
            UnixMillis::now(),
        )
        .await?;
    match seeded {
        Seeded::Imported(count) => tracing::info!(count, "seed imported"),
        Seeded::Present => tracing::info!("seed skipped: there are records of that type"),
    }
    Ok(())
}
