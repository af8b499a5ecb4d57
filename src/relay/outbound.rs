//! Bytes that a plain socket did not take: one bounded buffer, there only while the peer is slow; or, while much flows, a pipe.

use super::pipe::Pipe;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::AsyncWrite;
use tokio::net::TcpStream;

/// What is on its way to a socket. A pointer in size: idle connections have two.
#[derive(Debug)]
pub(super) struct Outbound(Option<Box<Kept>>);

#[derive(Debug)]
enum Kept {
    /// The unsent rest of one read.
    Rest { bytes: Vec<u8>, sent: usize },
    /// Bytes that we have never seen.
    Pipe(Pipe),
}

impl Outbound {
    pub(super) const fn empty() -> Self {
        Self(None)
    }

    /// Starts with bytes that are to be sent before anything else.
    pub(super) fn starting_with(bytes: Vec<u8>) -> Self {
        if bytes.is_empty() {
            return Self(None);
        }
        Self(Some(Box::new(Kept::Rest { bytes, sent: 0 })))
    }

    /// Bytes of memory that are kept.
    pub(super) fn held(&self) -> usize {
        match self.0.as_deref() {
            None => 0,
            Some(Kept::Rest { bytes, .. }) => bytes.capacity(),
            Some(Kept::Pipe(pipe)) => pipe.inside(),
        }
    }

    /// Bytes that are still to be sent.
    pub(super) fn unsent(&self) -> usize {
        match self.0.as_deref() {
            None => 0,
            Some(Kept::Rest { bytes, sent }) => bytes.len() - sent,
            Some(Kept::Pipe(pipe)) => pipe.inside(),
        }
    }

    /// Ready when nothing is left.
    pub(super) fn poll_flush(
        &mut self,
        cx: &mut Context<'_>,
        socket: &mut TcpStream,
    ) -> Poll<io::Result<()>> {
        match self.0.as_deref_mut() {
            None => {}
            Some(Kept::Rest { bytes, sent }) => {
                while *sent < bytes.len() {
                    *sent += ready!(Pin::new(&mut *socket).poll_write(cx, &bytes[*sent..]))?;
                }
                self.0 = None;
            }
            Some(Kept::Pipe(pipe)) => ready!(pipe.poll_drain(cx, socket))?,
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
        debug_assert_eq!(self.unsent(), 0);
        // An empty pipe goes back.
        self.0 = None;
        let taken = match Pin::new(&mut *socket).poll_write(cx, data) {
            Poll::Ready(taken) => taken?,
            Poll::Pending => 0,
        };
        if taken < data.len() {
            *self = Self::starting_with(data[taken..].to_vec());
        }
        Ok(())
    }

    /// Takes what `source` has into a pipe, one of `pipes` of the thread, to be sent by [`Self::poll_flush`], and says how much.
    /// `None`: a read has to be tried. Only after a ready [`Self::poll_flush`]. Errors are the source's.
    ///
    /// The pipe goes back when the source has nothing.
    pub(super) fn poll_splice(
        &mut self,
        cx: &mut Context<'_>,
        source: &TcpStream,
        pipes: usize,
    ) -> Poll<io::Result<Option<usize>>> {
        debug_assert_eq!(self.unsent(), 0);
        let mut kept = match self.0.take() {
            Some(kept) => kept,
            None => match Pipe::lend(pipes) {
                Some(pipe) => Box::new(Kept::Pipe(pipe)),
                None => return Poll::Ready(Ok(None)),
            },
        };
        let Kept::Pipe(pipe) = &mut *kept else {
            return Poll::Ready(Ok(None));
        };
        let moved = ready!(pipe.poll_fill(cx, source))?;
        if moved.is_some() {
            self.0 = Some(kept);
        }
        Poll::Ready(Ok(moved))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (near, far) = tokio::join!(TcpStream::connect(addr), listener.accept());
        (near.unwrap(), far.unwrap().0)
    }

    #[tokio::test]
    async fn a_pipe_moves_what_is_there_until_the_end_and_is_given_back_in_between() {
        let (mut sender, source) = pair().await;
        let (mut target, mut receiver) = pair().await;
        let mut outbound = Outbound::empty();
        for round in 0..3_u8 {
            let sent = vec![round; 100_000];
            sender.write_all(&sent).await.unwrap();
            let mut got = vec![9; sent.len()];
            let mut moved = 0;
            while moved < sent.len() {
                let spliced = poll_fn(|cx| outbound.poll_splice(cx, &source, 1)).await;
                let Some(length) = spliced.unwrap() else {
                    // All that was there is in the pipe; the rest is on its way.
                    source.readable().await.unwrap();
                    tokio::task::yield_now().await;
                    continue;
                };
                assert_eq!(outbound.held(), length);
                poll_fn(|cx| outbound.poll_flush(cx, &mut target))
                    .await
                    .unwrap();
                assert_eq!(outbound.held(), 0);
                moved += length;
            }
            receiver.read_exact(&mut got).await.unwrap();
            assert_eq!(got, sent);
            let nothing_there = poll_fn(|cx| outbound.poll_splice(cx, &source, 1)).await;
            assert_eq!(nothing_there.unwrap(), None);
            assert!(outbound.0.is_none(), "an idle direction has no pipe");
        }
        drop(sender);
        let end = poll_fn(|cx| outbound.poll_splice(cx, &source, 1)).await;
        assert_eq!(end.unwrap(), None, "a read tells that it is the end");
    }
}
