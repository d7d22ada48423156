//! A server from its start to its end.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::serve::ListenerExt;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::access::TypeRules;
use crate::config::{Config, Database, Seed};
use crate::http::stopping::Stop;
use crate::ids::UnixMillis;
use crate::patience::Patient;
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
    /// The thread that opened the database is gone.
    #[error("start-up was interrupted")]
    Interrupted,
}

/// A server that is ready: database open and seeded, routes built.
pub struct Server {
    store: Arc<dyn Store>,
    router: Router,
    stop: Stop,
    /// How long unfinished uploads are kept.
    kept: Duration,
}

impl Server {
    /// Opens the database and imports the seed.
    pub async fn open(config: Config) -> Result<Self, ServerError> {
        let store: Arc<dyn Store> = match config.database.clone() {
            Database::Sqlite(location) => {
                let open = tokio::task::spawn_blocking(move || SqliteStore::open(&location));
                Arc::new(open.await.map_err(|_| ServerError::Interrupted)??)
            }
            Database::Postgres(url) => Arc::new(PostgresStore::open(&url).await?),
        };
        if let Some(seed) = &config.seed {
            import(&*store, seed, &config.types).await?;
        }
        Ok(Self::with_store(store, &config))
    }

    /// A server over a store of one's own; `database` and `seed` of the configuration are not used.
    pub fn with_store(store: Arc<dyn Store>, config: &Config) -> Self {
        let stop = Stop::new();
        let router = http::router(Arc::clone(&store), config, stop.listener());
        Self {
            store,
            router,
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
        self.router.clone()
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
        let service = self
            .router
            .into_make_service_with_connect_info::<SocketAddr>();
        let serving = axum::serve(listener, service).with_graceful_shutdown(async move {
            shutdown.await;
            tracing::info!("shutting down");
            stop.begin();
            let _ = stopping.send(());
        });
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
        sweeping.abort();
        // An error means that it ended by being aborted, as it was to.
        let _ = sweeping.await;
        // Dropping the last reference waits for the writer, which may wait for a disk.
        let store = self.store;
        tokio::task::spawn_blocking(move || drop(store))
            .await
            .map_err(|_| ServerError::Interrupted)
    }
}

/// Opens, serves, and finishes what is in flight once `shutdown` ends.
pub async fn serve(
    listener: TcpListener,
    config: Config,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ServerError> {
    Server::open(config).await?.run(listener, shutdown).await
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
