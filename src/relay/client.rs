//! The client's side of a connection: plain TCP or TLS, behind one set of verbs.

use super::outbound::Outbound;
use super::thread::with_scratch;
use crate::tls::{Scratch, ServerStream};
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

/// The socket that we accepted.
#[derive(Debug)]
pub(super) enum Client {
    /// Bytes as they are.
    Plain(TcpStream, Outbound),
    /// Terminated here.
    Tls(Box<ServerStream>),
}

impl Client {
    pub(super) const fn plain(socket: TcpStream) -> Self {
        Self::Plain(socket, Outbound::empty())
    }

    const fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(socket, _) => socket,
            Self::Tls(stream) => stream.socket(),
        }
    }

    /// One read of the socket; the application bytes lie in the scratch. Empty is the end of the stream.
    pub(super) fn poll_read<'s>(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &'s mut Scratch,
    ) -> Poll<io::Result<&'s [u8]>> {
        match self {
            Self::Plain(socket, _) => poll_read_plain(socket, cx, &mut scratch.wire),
            Self::Tls(stream) => {
                let length = ready!(stream.poll_read(cx, scratch))?;
                Poll::Ready(Ok(&scratch.plain[..length]))
            }
        }
    }

    /// Sends; what the socket does not take is kept. Only after a ready [`Self::poll_flush`].
    pub(super) fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        data: &[u8],
        sealed: &mut Vec<u8>,
    ) -> io::Result<()> {
        match self {
            Self::Plain(socket, outbound) => outbound.poll_send(cx, socket, data),
            Self::Tls(stream) => Ok(stream.poll_send(cx, data, sealed)?),
        }
    }

    /// The socket, when its bytes are the application's.
    pub(super) const fn plain_socket(&self) -> Option<&TcpStream> {
        match self {
            Self::Plain(socket, _) => Some(socket),
            Self::Tls(_) => None,
        }
    }

    /// As [`Outbound::poll_splice`]; never for TLS.
    pub(super) fn poll_splice(
        &mut self,
        cx: &mut Context<'_>,
        source: &TcpStream,
        pipes: usize,
    ) -> Poll<io::Result<Option<usize>>> {
        match self {
            Self::Plain(_, outbound) => outbound.poll_splice(cx, source, pipes),
            Self::Tls(_) => Poll::Ready(Ok(None)),
        }
    }

    /// Ready when the socket has taken everything.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(socket, outbound) => outbound.poll_flush(cx, socket),
            Self::Tls(stream) => Poll::Ready(Ok(ready!(stream.poll_flush(cx))?)),
        }
    }

    /// Bytes of memory that are kept: what the socket has not taken, and half a record of what came.
    pub(super) fn held(&self) -> usize {
        match self {
            Self::Plain(_, outbound) => outbound.held(),
            Self::Tls(stream) => stream.held(),
        }
    }

    /// Bytes that are still to be sent to it.
    pub(super) fn unsent(&self) -> usize {
        match self {
            Self::Plain(_, outbound) => outbound.unsent(),
            Self::Tls(stream) => stream.unsent(),
        }
    }

    /// Bytes of it that wait for the rest of their record.
    pub(super) const fn incomplete(&self) -> usize {
        match self {
            Self::Plain(..) => 0,
            Self::Tls(stream) => stream.incomplete(),
        }
    }

    /// Whether its protocol has an end of its own, beside that of the socket: `close_notify`.
    pub(super) const fn says_goodbye(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    /// Ends the sending side in order.
    pub(super) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(socket, _) => Pin::new(socket).poll_shutdown(cx),
            Self::Tls(stream) => Poll::Ready(Ok(ready!(stream.poll_shutdown(cx))?)),
        }
    }

    /// Appends what one read gives to `into`; 0 is the end of the stream. Cancel-safe.
    pub(super) async fn read_into(&mut self, into: &mut Vec<u8>) -> io::Result<usize> {
        poll_fn(|cx| {
            with_scratch(|scratch| {
                let data = ready!(self.poll_read(cx, scratch))?;
                into.extend_from_slice(data);
                Poll::Ready(Ok(data.len()))
            })
        })
        .await
    }

    /// Sends all of `data`. Not cancel-safe: part of it may have left.
    pub(super) async fn send_all(&mut self, data: &[u8]) -> io::Result<()> {
        poll_fn(|cx| self.poll_flush(cx)).await?;
        poll_fn(|cx| {
            Poll::Ready(with_scratch(|scratch| {
                self.poll_send(cx, data, &mut scratch.sealed)
            }))
        })
        .await?;
        poll_fn(|cx| self.poll_flush(cx)).await
    }

    /// Says a last word (a CONNACK that refuses) and closes in order, so that the word is read: closing a socket with
    /// unread input makes the kernel send a reset, which overtakes it.
    pub(super) async fn farewell(mut self, word: &[u8]) {
        if self.send_all(word).await.is_err() {
            return;
        }
        if poll_fn(|cx| self.poll_shutdown(cx)).await.is_err() {
            return;
        }
        let mut discarded = 0;
        while discarded < Self::FAREWELL_BYTES_MAX {
            match poll_fn(|cx| {
                with_scratch(|scratch| self.poll_read(cx, scratch).map_ok(<[u8]>::len))
            })
            .await
            {
                Ok(0) | Err(_) => return,
                Ok(read) => discarded += read,
            }
        }
    }

    /// What a refused client may still send before we close on it anyway.
    const FAREWELL_BYTES_MAX: usize = 64 * 1024;

    /// Returns when the client has gone (end of stream or error); for ever pending when it has sent something instead,
    /// because bytes that nobody reads hide what follows. Cancel-safe.
    pub(super) async fn gone(&self) {
        let socket = self.socket();
        loop {
            if socket.readable().await.is_err() {
                return;
            }
            match socket.try_io(Interest::READABLE, || peek(socket)) {
                Ok(0) => return,
                Ok(_) => break,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
        }
        std::future::pending::<()>().await;
    }
}

/// `recv(MSG_PEEK)` of one byte, without waiting.
fn peek(socket: &TcpStream) -> io::Result<usize> {
    let mut byte = [std::mem::MaybeUninit::uninit()];
    socket2::SockRef::from(socket).peek(&mut byte)
}

/// One read of a plain socket into `buffer`.
pub(super) fn poll_read_plain<'b>(
    socket: &mut TcpStream,
    cx: &mut Context<'_>,
    buffer: &'b mut [u8],
) -> Poll<io::Result<&'b [u8]>> {
    let mut room = ReadBuf::new(&mut buffer[..Scratch::READ_BYTES]);
    ready!(Pin::new(socket).poll_read(cx, &mut room))?;
    let length = room.filled().len();
    Poll::Ready(Ok(&buffer[..length]))
}
