//! `GET /stream`: server-sent events that say when there is something to pull.
//!
//! A `poke` carries the newest checkpoint, also as the event's id, so that a client that comes back
//! says by `Last-Event-ID` what it knew last: where that is still the newest nothing is said, else
//! it is poked at once. An event is made only when the network has taken the one before it: for a
//! slow reader, any number of commits are one poke, and nothing piles up. The feed's own backlog is
//! bounded, and falling behind in it means one poke as well.
//!
//! Everything that is sent, heartbeats included, is sent to somebody whose token is still valid,
//! about spaces that are open to them at that moment: so a stream ends with its token, and an
//! assignment that is taken away, or given, is noticed within a heartbeat.

use std::convert::Infallible;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde::Serialize;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, sleep, timeout_at};

use super::App;
use super::auth::Credentials;
use super::places::Place;
use super::problem::Problem;
use super::stopping::Stopping;
use crate::access::Access;
use crate::limits;
use crate::store::feed::{News, Subscription};

/// What the client has heard last.
pub(super) const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// It belongs to the bearer of a token; and proxies that keep answers together are to let this one
/// through as it comes.
const AS_IT_COMES: [(HeaderName, HeaderValue); 2] = [
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    (
        HeaderName::from_static("x-accel-buffering"),
        HeaderValue::from_static("no"),
    ),
];

pub(super) async fn stream(
    State(app): State<App>,
    credentials: Credentials,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let access = credentials.access(&app).await?;
    let place = app.streams.take(access.user(), "streams")?;
    // Before the first look at where the data stands: what comes between is told twice, not never.
    let news = app.store.feed().subscribe();
    let last = headers.get(LAST_EVENT_ID);
    let every = app.stream_limits.heartbeat;
    let mut heartbeat = interval_at(Instant::now() + every, every);
    heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let listener = Listener {
        last: last
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned),
        stopping: app.stopping.clone(),
        app,
        credentials,
        access,
        news,
        heartbeat,
        greeted: false,
        _place: place,
    };
    let events = stream::unfold(listener, |mut listener| async move {
        let event = listener.next().await?;
        Some((Ok::<_, Infallible>(event), listener))
    });
    Ok((AS_IT_COMES, Sse::new(events)).into_response())
}

/// One client that listens.
struct Listener {
    app: App,
    credentials: Credentials,
    access: Access,
    news: Subscription,
    /// The checkpoint that the client has been told.
    last: Option<String>,
    stopping: Stopping,
    heartbeat: Interval,
    greeted: bool,
    _place: Place,
}

#[derive(Serialize)]
struct Poke<'a> {
    checkpoint: &'a str,
}

/// Why nothing more is sent. The client comes back, and is told then what it missed.
struct Over;

impl Listener {
    /// The next event; none at the end.
    async fn next(&mut self) -> Option<Event> {
        let mut stopping = self.stopping.clone();
        tokio::select! {
            biased;
            () = stopping.begun() => None,
            event = self.listen() => event.ok(),
        }
    }

    async fn listen(&mut self) -> Result<Event, Over> {
        if !self.greeted {
            self.greeted = true;
            // Something at once in either case, so that the client knows that it is heard.
            return Ok(self.poke().await?.unwrap_or_else(heartbeat));
        }
        loop {
            tokio::select! {
                news = self.news.next() => {
                    if self.concerns(&news)? {
                        self.gather().await?;
                        if let Some(poke) = self.poke().await? {
                            return Ok(poke);
                        }
                    }
                }
                _ = self.heartbeat.tick() => {
                    // Other news than commits: an assignment, or the end of the token.
                    return Ok(self.poke().await?.unwrap_or_else(heartbeat));
                }
            }
        }
    }

    fn concerns(&self, news: &News) -> Result<bool, Over> {
        match news {
            News::Spaces(spaces) => Ok(spaces.iter().any(|space| self.access.may(space))),
            News::Anything => Ok(true),
            News::Closed => Err(Over),
        }
    }

    /// Waits a moment for more of the same, so that several commits are one poke.
    async fn gather(&mut self) -> Result<(), Over> {
        let until = Instant::now() + self.app.stream_limits.debounce;
        while let Ok(news) = timeout_at(until, self.news.next()).await {
            self.concerns(&news)?;
        }
        Ok(())
    }

    /// A poke with the newest checkpoint, unless the client knows it.
    async fn poke(&mut self) -> Result<Option<Event>, Over> {
        let checkpoint = self.newest().await?;
        if self.last.as_ref() == Some(&checkpoint) {
            return Ok(None);
        }
        let data = Poke {
            checkpoint: &checkpoint,
        };
        let event = Event::default().event("poke").id(&checkpoint);
        let event = event.json_data(data).map_err(|_| Over)?;
        self.last = Some(checkpoint);
        Ok(Some(event))
    }

    /// Looks again at who listens and where their data stands. Where the store is busy, as it may
    /// be when one commit makes hundreds of streams ask, it is asked again a little later.
    async fn newest(&mut self) -> Result<String, Over> {
        let mut pause = limits::STREAM_PAUSE;
        for _ in 0..limits::STREAM_TRIES {
            match self.look_again().await {
                Ok(checkpoint) => return Ok(checkpoint),
                Err(problem) if problem.passes() => sleep(pause).await,
                Err(_) => break,
            }
            pause *= 2;
        }
        Err(Over)
    }

    async fn look_again(&mut self) -> Result<String, Problem> {
        self.access = self.credentials.access(&self.app).await?;
        let standing = self.app.store.standing(&self.access).await?;
        Ok(standing.checkpoint)
    }
}

/// A comment: keeps proxies from taking the stream for dead, and tells the client that it is not.
fn heartbeat() -> Event {
    Event::default().comment("")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use axum::body::Body;
    use axum::http::Request;
    use http_body_util::BodyExt;
    use tokio::time::timeout;
    use tower::ServiceExt;

    use crate::access::Space;
    use crate::config::Config;
    use crate::ids::{UnixMillis, UserId};
    use crate::server::Server;
    use crate::store::conformance;
    use crate::store::sqlite::{Location, SqliteStore};
    use crate::store::{Mode, Store};
    use crate::token::{Secret, Tokens};

    /// The body is polled by hand here: as if the network took nothing for a while.
    #[tokio::test(flavor = "multi_thread")]
    async fn for_a_slow_reader_any_number_of_commits_is_one_poke() {
        let secret = Secret::random().unwrap();
        let ann = UserId::new("ann").unwrap();
        let expires_s = UnixMillis::now().0 / 1000 + 600;
        let token = Tokens::new(&secret).issue(&ann, expires_s).unwrap();
        let store = Arc::new(SqliteStore::open(&Location::Memory).unwrap());
        let shared: Arc<dyn Store> = Arc::clone(&store) as Arc<dyn Store>;
        let server = Server::with_store(shared, &Config::new(Location::Memory, secret));
        let request = Request::get("/api/v1/sync/stream")
            .header("authorization", format!("Bearer {token}"))
            .body(Body::empty())
            .unwrap();
        let response = server.router().oneshot(request).await.unwrap();
        let mut body = response.into_body();
        assert!(body.frame().await.is_some(), "the greeting");
        let access = crate::access::Access::own(ann.clone());
        for n in 0..300 {
            let change = conformance::create(&format!("m{n}"), &format!("r{n}"));
            let pushed = store.push(&access, vec![change], Mode::Each, UnixMillis(1));
            pushed.await.unwrap();
        }
        // More than the feed's backlog holds.
        for _ in 0..10_000 {
            store.feed().notify(&[Space::Own(ann.clone())]);
        }
        let frame = body.frame().await.unwrap().unwrap().into_data().unwrap();
        let newest = store.standing(&access).await.unwrap().checkpoint;
        assert!(std::str::from_utf8(&frame).unwrap().contains(&newest));
        let more = timeout(Duration::from_millis(500), body.frame()).await;
        assert!(more.is_err(), "nothing has piled up");
    }
}
