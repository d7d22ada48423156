//! Connections to peers that may stop reading. A client that takes nothing any more of a stream of
//! events or of a file, with its connection open, would keep its place for ever, and hold up the
//! shutdown: once the network's buffers are full, nothing that the handler does can end the answer.
//! So a connection ends here that could not write for [`limits::WRITE_STALL_TIMEOUT`], or, while
//! the server is shutting down, for [`limits::WRITE_STALL_STOPPING_TIMEOUT`].

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;

use crate::http::stopping::Stopping;
use crate::limits;

/// Accepts connections that do not wait for ever.
pub(crate) struct Patient {
    listener: TcpListener,
    stopping: Stopping,
}

impl Patient {
    pub(crate) fn new(listener: TcpListener, stopping: Stopping) -> Self {
        Self { listener, stopping }
    }
}

impl Listener for Patient {
    type Io = Connection<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, SocketAddr) {
        let (stream, address) = Listener::accept(&mut self.listener).await;
        // Answers are written whole: waiting to fill a packet would only delay them.
        let _ = stream.set_nodelay(true);
        (Connection::new(stream, self.stopping.clone()), address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection that ends when its peer has taken nothing for too long.
pub(crate) struct Connection<S> {
    stream: S,
    stopping: Stopping,
    /// Runs since the last write that could not be done at once.
    stalled: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl<S> Connection<S> {
    fn new(stream: S, stopping: Stopping) -> Self {
        let stalled = None;
        Self {
            stream,
            stopping,
            stalled,
        }
    }

    /// Lets an outcome through; one that is not there yet, for a while only.
    fn wait<T>(
        &mut self,
        context: &mut Context<'_>,
        outcome: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.stalled = None;
            return outcome;
        }
        let stopping = &self.stopping;
        let stalled = self
            .stalled
            .get_or_insert_with(|| Box::pin(stall(stopping.clone())));
        ready!(stalled.as_mut().poll(context));
        let told = "the peer takes nothing any more";
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, told)))
    }
}

async fn stall(mut stopping: Stopping) {
    let when_stopping = async {
        stopping.begun().await;
        sleep(limits::WRITE_STALL_STOPPING_TIMEOUT).await;
    };
    tokio::select! {
        () = sleep(limits::WRITE_STALL_TIMEOUT) => {}
        () = when_stopping => {}
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Connection<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Connection<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let outcome = Pin::new(&mut this.stream).poll_write(context, bytes);
        this.wait(context, outcome)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let outcome = Pin::new(&mut this.stream).poll_write_vectored(context, bytes);
        this.wait(context, outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio::time::{Instant, advance};

    use super::*;
    use crate::http::stopping::Stop;

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_nothing_is_given_up() {
        let stop = Stop::new();
        let (ours, _theirs) = duplex(10);
        let mut ours = Connection::new(ours, stop.listener());
        let started = Instant::now();
        let error = ours.write_all(&[0; 20]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(started.elapsed() >= limits::WRITE_STALL_TIMEOUT);
    }

    #[tokio::test(start_paused = true)]
    async fn at_the_shutdown_it_is_given_up_sooner() {
        let stop = Stop::new();
        let (ours, _theirs) = duplex(10);
        let mut ours = Connection::new(ours, stop.listener());
        let writing = tokio::spawn(async move { ours.write_all(&[0; 20]).await });
        advance(limits::WRITE_STALL_TIMEOUT / 2).await;
        let started = Instant::now();
        stop.begin();
        assert!(writing.await.unwrap().is_err());
        assert!(started.elapsed() <= limits::WRITE_STALL_STOPPING_TIMEOUT * 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_peer_is_waited_for() {
        let stop = Stop::new();
        let (ours, mut theirs) = duplex(10);
        let mut ours = Connection::new(ours, stop.listener());
        let reading = tokio::spawn(async move {
            for _ in 0..20 {
                sleep(limits::WRITE_STALL_TIMEOUT * 3 / 4).await;
                theirs.read_u8().await.unwrap();
            }
        });
        ours.write_all(&[0; 20]).await.unwrap();
        reading.await.unwrap();
    }
}
