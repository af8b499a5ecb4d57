//! When an admin connection is cut: one moment that moves with what the connection does. No timer here; the server's
//! connection future reads the moment after each of its polls.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;

/// When a connection is cut. Written from inside the poll of the connection, read right after it.
pub(super) struct Deadline {
    state: Mutex<State>,
    request_timeout: Duration,
    idle_timeout: Duration,
}

struct State {
    at: Instant,
    between_requests: bool,
}

impl Deadline {
    /// A deadline for a connection that was accepted now and owes its first request.
    pub(super) fn new(request_timeout: Duration, idle_timeout: Duration) -> Self {
        let state = State {
            at: Instant::now() + request_timeout,
            between_requests: false,
        };
        Self {
            state: Mutex::new(state),
            request_timeout,
            idle_timeout,
        }
    }

    /// When it is, as of now.
    pub(super) fn at(&self) -> Instant {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).at
    }

    /// Bytes came in: the first ones after an answer begin a request, later ones gain no time.
    fn received(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.between_requests {
            *state = State {
                at: Instant::now() + self.request_timeout,
                between_requests: false,
            };
        }
    }

    /// A request is read and its answer is handed over for sending.
    pub(super) fn answered(&self) {
        let at = Instant::now() + self.idle_timeout;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        *state = State {
            at,
            between_requests: true,
        };
    }
}

/// A stream that tells its [`Deadline`] of received bytes.
pub(super) struct Watched {
    stream: TcpStream,
    deadline: Arc<Deadline>,
}

impl Watched {
    pub(super) const fn new(stream: TcpStream, deadline: Arc<Deadline>) -> Self {
        Self { stream, deadline }
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.deadline.received();
        }
        polled
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn bytes_of_a_begun_request_gain_no_time() {
        let deadline = Deadline::new(Duration::from_secs(5), Duration::from_secs(60));
        let begun = Instant::now();
        tokio::time::advance(Duration::from_secs(4)).await;
        deadline.received();
        assert_eq!(deadline.at() - begun, Duration::from_secs(5));
        deadline.answered();
        assert_eq!(deadline.at() - begun, Duration::from_secs(64));
        tokio::time::advance(Duration::from_secs(10)).await;
        deadline.received();
        assert_eq!(deadline.at() - begun, Duration::from_secs(19));
        deadline.received();
        assert_eq!(deadline.at() - begun, Duration::from_secs(19));
    }
}
