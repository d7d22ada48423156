//! Who wants to know what has changed. A store tells its feed, after the commit, which spaces have
//! new changes; streams listen. Only a hint travels: whoever is told pulls, and the pull is the
//! truth. So nothing is lost by a hint that comes twice, or for nothing.

use std::sync::Arc;

use tokio::sync::broadcast::error::RecvError;
use tokio::sync::broadcast::{Receiver, Sender, channel};

use crate::access::Space;
use crate::limits;

/// Tells all who have subscribed, in this process.
#[derive(Clone, Debug)]
pub struct Feed(Sender<Arc<[Space]>>);

impl Default for Feed {
    fn default() -> Self {
        Self(channel(limits::FEED_BACKLOG).0)
    }
}

impl Feed {
    /// Says that these spaces have new changes, which are committed.
    pub fn notify(&self, spaces: &[Space]) {
        if !spaces.is_empty() {
            // An error means that nobody listens.
            let _ = self.0.send(spaces.into());
        }
    }

    /// Says that any space may have new changes: the store cannot tell what it has missed.
    pub fn notify_all(&self) {
        let _ = self.0.send([].into());
    }

    /// Everything that is told from now on.
    pub fn subscribe(&self) -> Subscription {
        Subscription(self.0.subscribe())
    }
}

/// One listener.
#[derive(Debug)]
pub struct Subscription(Receiver<Arc<[Space]>>);

/// What a listener is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// These spaces have new changes.
    Spaces(Arc<[Space]>),
    /// Not all could be told, or this listener was too slow to hear it: any space may have.
    Anything,
    /// The store is closed.
    Closed,
}

impl Subscription {
    /// Waits for the next news.
    pub async fn next(&mut self) -> News {
        match self.0.recv().await {
            Ok(spaces) if spaces.is_empty() => News::Anything,
            Ok(spaces) => News::Spaces(spaces),
            Err(RecvError::Lagged(_)) => News::Anything,
            Err(RecvError::Closed) => News::Closed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::EntityId;

    fn space(n: usize) -> Space {
        Space::Entity(EntityId::new(format!("s{n}")).unwrap())
    }

    #[tokio::test]
    async fn tells_each_listener_and_the_slow_one_that_it_missed_some() {
        let feed = Feed::default();
        feed.notify(&[space(0)]);
        let (mut quick, mut slow) = (feed.subscribe(), feed.subscribe());
        feed.notify(&[]);
        feed.notify(&[space(1), space(2)]);
        let expected = News::Spaces([space(1), space(2)].as_slice().into());
        assert_eq!(quick.next().await, expected);
        for n in 0..=limits::FEED_BACKLOG {
            feed.notify(&[space(n)]);
        }
        assert_eq!(slow.next().await, News::Anything);
        let mut told = feed.subscribe();
        feed.notify_all();
        assert_eq!(told.next().await, News::Anything);
        drop(feed);
        while quick.next().await != News::Closed {}
    }
}
