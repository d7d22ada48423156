//! The beginning of the shutdown, for requests that would otherwise hold it up.

use tokio::sync::watch;

/// Tells all who listen.
pub(crate) struct Stop(watch::Sender<bool>);

/// Listens.
#[derive(Clone)]
pub(crate) struct Stopping(watch::Receiver<bool>);

impl Stop {
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(false))
    }

    pub(crate) fn listener(&self) -> Stopping {
        Stopping(self.0.subscribe())
    }

    pub(crate) fn begin(&self) {
        self.0.send_replace(true);
    }
}

impl Stopping {
    /// Ends when the shutdown has begun, however long ago.
    pub(crate) async fn begun(&mut self) {
        if self.0.wait_for(|begun| *begun).await.is_err() {
            // Routes that are called without a server are not shut down.
            std::future::pending::<()>().await;
        }
    }
}
