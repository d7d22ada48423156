//! What other servers have committed. Each push says in its transaction which spaces it has changed
//! (`NOTIFY`); PostgreSQL passes that on at the commit to every connection that listens, and here is
//! the one of this process. It feeds the process's own [`Feed`], also with what this process did.
//!
//! While nobody listens, news are lost. So after each new connection everybody is told that anything
//! may have changed.

use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::access::Space;
use crate::limits;
use crate::store::feed::Feed;

/// The name under which servers of one database tell each other.
pub(super) const CHANNEL: &str = "landfall";

const PAUSE_MIN: Duration = Duration::from_millis(50);

/// Bytes of one notification. PostgreSQL takes less than 8,000.
const BYTES_MAX: usize = 7_000;

/// What a transaction says at its commit: the spaces with new changes, in as few notifications as can
/// hold them.
pub(super) fn news<'a>(spaces: impl IntoIterator<Item = &'a Space>) -> Vec<String> {
    let (mut all, mut names, mut bytes) = (Vec::new(), Vec::new(), 0);
    for space in spaces {
        let name = space.to_string();
        // As JSON no character of an id is longer than two bytes for one.
        bytes += 2 * name.len() + 3;
        if bytes > BYTES_MAX {
            all.push(std::mem::take(&mut names));
            bytes = 2 * name.len() + 3;
        }
        names.push(name);
    }
    all.push(names);
    let texts = all.iter().map(serde_json::to_string);
    texts.map_while(Result::ok).collect()
}

fn spaces(news: &str) -> Option<Vec<Space>> {
    let names: Vec<String> = serde_json::from_str(news).ok()?;
    names.iter().map(|name| Space::parse(name)).collect()
}

/// The listening task; ends when dropped.
pub(super) struct Listener(JoinHandle<()>);

impl Drop for Listener {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Listener {
    /// Listens from now on: when this returns, nothing is missed any more.
    pub(super) async fn start(options: PgConnectOptions, feed: Feed) -> Result<Self, sqlx::Error> {
        let first = connect(&options).await?;
        Ok(Self(tokio::spawn(listen(first, options, feed))))
    }
}

async fn connect(options: &PgConnectOptions) -> Result<PgListener, sqlx::Error> {
    // A pool is what the library's listener asks for. It holds the one connection, for ever.
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .max_lifetime(None)
        .idle_timeout(None)
        .acquire_timeout(limits::POSTGRES_ACQUIRE_TIMEOUT)
        .connect_with(options.clone())
        .await?;
    let mut listener = PgListener::connect_with(&pool).await?;
    listener.eager_reconnect(false);
    listener.listen(CHANNEL).await?;
    Ok(listener)
}

async fn listen(mut listener: PgListener, options: PgConnectOptions, feed: Feed) {
    loop {
        let why = forward(&mut listener, &feed).await;
        tracing::warn!(%why, "news from other servers are interrupted");
        let mut pause = PAUSE_MIN;
        listener = loop {
            match connect(&options).await {
                Ok(listener) => break listener,
                Err(error) => {
                    tracing::debug!(%error, "cannot listen yet");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(limits::LISTEN_PAUSE_MAX);
                }
            }
        };
        tracing::info!("news from other servers come again");
        feed.notify_all();
    }
}

/// Passes news on until the connection is lost; says why.
async fn forward(listener: &mut PgListener, feed: &Feed) -> String {
    loop {
        match timeout(limits::LISTEN_CHECK, listener.try_recv()).await {
            Ok(Ok(Some(notification))) => match spaces(notification.payload()) {
                Some(spaces) => feed.notify(&spaces),
                // From a server that says it otherwise: it is news all the same.
                None => feed.notify_all(),
            },
            Ok(Ok(None)) => return "the connection was closed".into(),
            Ok(Err(error)) => return error.to_string(),
            // A connection that died without a word looks like one on which nothing happens.
            Err(_) => {
                let alive = sqlx::query("SELECT 1").execute(&mut *listener);
                match timeout(limits::POSTGRES_ACQUIRE_TIMEOUT, alive).await {
                    Ok(Ok(_)) => {}
                    Ok(Err(error)) => return error.to_string(),
                    Err(_) => return "the connection is dead".into(),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::EntityId;

    #[test]
    fn news_are_split_where_they_are_long_and_read_back() {
        let space = |n: usize| {
            let name = format!("{n:03}{}", "\"".repeat(limits::ENTITY_ID_BYTES_MAX - 3));
            Space::Entity(EntityId::new(name).unwrap())
        };
        let all: Vec<Space> = (0..limits::ENTITIES_MAX).map(space).collect();
        let news = news(&all);
        assert!(news.iter().all(|text| text.len() < 8_000));
        let read: Vec<Space> = news.iter().flat_map(|text| spaces(text).unwrap()).collect();
        assert_eq!(read, all);
        assert_eq!(super::news(&all[..2]).len(), 1);
        assert_eq!(spaces("e:s1"), None);
    }
}
