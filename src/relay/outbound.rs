//! Bytes that a plain socket did not take: one bounded buffer, there only while the peer is slow.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::AsyncWrite;
use tokio::net::TcpStream;

/// The unsent rest of one read.
#[derive(Debug, Default)]
pub(super) struct Outbound(Option<Box<Rest>>);

#[derive(Debug)]
struct Rest {
    bytes: Vec<u8>,
    sent: usize,
}

impl Outbound {
    pub(super) const fn empty() -> Self {
        Self(None)
    }

    /// Starts with bytes that are to be sent before anything else.
    pub(super) fn starting_with(bytes: Vec<u8>) -> Self {
        if bytes.is_empty() {
            Self(None)
        } else {
            Self(Some(Box::new(Rest { bytes, sent: 0 })))
        }
    }

    /// Bytes of memory that are kept.
    pub(super) fn held(&self) -> usize {
        self.0.as_ref().map_or(0, |rest| rest.bytes.capacity())
    }

    /// Ready when nothing is left.
    pub(super) fn poll_flush(
        &mut self,
        cx: &mut Context<'_>,
        socket: &mut TcpStream,
    ) -> Poll<io::Result<()>> {
        while let Some(rest) = &mut self.0 {
            let taken = ready!(Pin::new(&mut *socket).poll_write(cx, &rest.bytes[rest.sent..]))?;
            rest.sent += taken;
            if rest.sent == rest.bytes.len() {
                self.0 = None;
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Sends `data` in one write and keeps what the socket does not take. Only after a ready [`Self::poll_flush`].
    pub(super) fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        socket: &mut TcpStream,
        data: &[u8],
    ) -> io::Result<()> {
        debug_assert!(self.0.is_none());
        let taken = match Pin::new(&mut *socket).poll_write(cx, data) {
            Poll::Ready(taken) => taken?,
            Poll::Pending => 0,
        };
        if taken < data.len() {
            self.0 = Some(Box::new(Rest {
                bytes: data[taken..].to_vec(),
                sent: 0,
            }));
        }
        Ok(())
    }
}
