//! One TLS connection from a client, on rustls' unbuffered API and the thread's buffers.
//!
//! At rest the stream holds no byte: a partial record is kept only until the rest of it arrives, sealed bytes only while
//! the socket does not take them. Absent on purpose: `AsyncRead` and `AsyncWrite`, whose buffers belong to the caller of
//! one call and would have to be copied into.

use super::info::TlsFacts;
use super::sni;
use rustls::ServerConfig;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, InsufficientSizeError};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// The buffers of one thread, lent to one call at a time.
#[derive(Debug)]
pub struct Scratch {
    /// What came from a socket.
    pub wire: Box<[u8]>,
    /// The same, decrypted.
    pub plain: Box<[u8]>,
    /// What goes to a socket, sealed.
    pub sealed: Vec<u8>,
}

impl Scratch {
    /// Room for one read. 8 KiB doubles the CPU of bulk transfer, 64 KiB costs 65 % more (second-level cache).
    pub const READ_BYTES: usize = 32 * 1024;
    /// A partial record may wait in front of a read: the largest record, TLS 1.2 §6.2.3.
    const RECORD_BYTES_MAX: usize = 5 + 16384 + 2048;

    /// Allocates the buffers.
    pub fn new() -> Self {
        Self {
            wire: vec![0; Self::READ_BYTES + Self::RECORD_BYTES_MAX].into_boxed_slice(),
            plain: vec![0; Self::READ_BYTES + Self::RECORD_BYTES_MAX].into_boxed_slice(),
            sealed: Vec::with_capacity(Self::READ_BYTES + 1024),
        }
    }
}

impl Default for Scratch {
    fn default() -> Self {
        Self::new()
    }
}

/// How a TLS connection fails.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The socket.
    #[error("socket failed")]
    Io(#[from] io::Error),
    /// The protocol: the alert has been sent.
    #[error("TLS failed")]
    Tls(#[from] rustls::Error),
    /// The socket ended inside the handshake.
    #[error("closed inside the handshake")]
    ClosedInHandshake,
}

impl From<TlsError> for io::Error {
    fn from(error: TlsError) -> Self {
        match error {
            TlsError::Io(error) => error,
            TlsError::Tls(error) => Self::new(io::ErrorKind::InvalidData, error),
            TlsError::ClosedInHandshake => io::ErrorKind::UnexpectedEof.into(),
        }
    }
}

/// A client's TLS connection.
pub struct ServerStream {
    socket: TcpStream,
    tls: UnbufferedServerConnection,
    /// A partial record, or handshake messages that are not whole yet.
    partial: Vec<u8>,
    /// Sealed bytes that the socket has not taken, from `sent` on.
    backlog: Vec<u8>,
    sent: usize,
    peer_closed: bool,
    close_notified: bool,
}

impl std::fmt::Debug for ServerStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerStream")
            .field("socket", &self.socket)
            .finish_non_exhaustive()
    }
}

/// What one pass over the records in a buffer led to.
#[derive(Clone, Copy, Default)]
struct Progress {
    /// Decrypted bytes.
    plain: usize,
    /// The handshake is over.
    established: bool,
}

impl ServerStream {
    /// Starts TLS on an accepted socket; nothing is read yet.
    pub fn new(socket: TcpStream, config: Arc<ServerConfig>) -> Result<Self, TlsError> {
        Ok(Self {
            socket,
            tls: UnbufferedServerConnection::new(config)?,
            partial: Vec::new(),
            backlog: Vec::new(),
            sent: 0,
            peer_closed: false,
            close_notified: false,
        })
    }

    /// The socket below.
    pub const fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// Runs the handshake to its end. Application bytes that came with its last flight are appended to `early`.
    ///
    /// The facts are complete when this is ready. Safe to poll again after `Pending` with another scratch.
    pub fn poll_handshake(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &mut Scratch,
        early: &mut Vec<u8>,
        server_name: &mut Option<Box<str>>,
    ) -> Poll<Result<TlsFacts, TlsError>> {
        loop {
            ready!(self.poll_flush(cx))?;
            let Some(filled) = ready!(self.poll_fill(cx, scratch))? else {
                return Poll::Ready(Err(TlsError::ClosedInHandshake));
            };
            let outcome = self.process(scratch, filled);
            if let Some(name) = sni::take() {
                *server_name = Some(name);
            }
            let progress = match outcome {
                Ok(progress) => progress,
                Err(error) => {
                    self.send_alert();
                    return Poll::Ready(Err(error));
                }
            };
            early.extend_from_slice(&scratch.plain[..progress.plain]);
            if progress.established {
                // Tickets and Finished leave with the first flush; waiting for it here would cost a wake-up.
                let _pending = self.poll_flush(cx)?;
                return Poll::Ready(Ok(TlsFacts::read(&self.tls, server_name.take())));
            }
            if self.peer_closed {
                return Poll::Ready(Err(TlsError::ClosedInHandshake));
            }
        }
    }

    /// Reads decrypted bytes into `scratch.plain` and says how many; 0 is the end of the stream. One read of the socket
    /// per call that returns bytes.
    pub fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &mut Scratch,
    ) -> Poll<Result<usize, TlsError>> {
        loop {
            if self.peer_closed {
                return Poll::Ready(Ok(0));
            }
            // A truncated stream (no `close_notify`) ends the same way: many MQTT clients just close the socket.
            let Some(filled) = ready!(self.poll_fill(cx, scratch))? else {
                return Poll::Ready(Ok(0));
            };
            let progress = match self.process(scratch, filled) {
                Ok(progress) => progress,
                Err(error) => {
                    self.send_alert();
                    return Poll::Ready(Err(error));
                }
            };
            if self.has_backlog() {
                // A key update's answer; it leaves now or with the next write.
                let _pending = self.poll_flush(cx)?;
            }
            if progress.plain > 0 {
                return Poll::Ready(Ok(progress.plain));
            }
        }
    }

    /// Seals and sends `data` whole. What the socket does not take is kept: call only when [`Self::poll_flush`] is ready,
    /// so that at most one call's worth is ever kept.
    pub fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        data: &[u8],
        sealed: &mut Vec<u8>,
    ) -> Result<(), TlsError> {
        debug_assert!(!self.has_backlog());
        sealed.clear();
        self.seal(data, sealed)?;
        match Pin::new(&mut self.socket).poll_write(cx, sealed) {
            Poll::Ready(taken) => {
                let taken = taken?;
                self.keep(&sealed[taken..]);
            }
            Poll::Pending => self.keep(sealed),
        }
        Ok(())
    }

    /// Ready when the socket has taken everything.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TlsError>> {
        while self.has_backlog() {
            let taken =
                ready!(Pin::new(&mut self.socket).poll_write(cx, &self.backlog[self.sent..]))?;
            self.sent += taken;
        }
        if self.backlog.capacity() > 0 {
            self.backlog = Vec::new();
            self.sent = 0;
        }
        Poll::Ready(Ok(()))
    }

    /// Sends `close_notify` and closes the sending side.
    pub fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TlsError>> {
        if !self.close_notified {
            self.close_notified = true;
            let mut alert = vec![0; 64];
            if let ConnectionState::WriteTraffic(mut traffic) =
                self.tls.process_tls_records(&mut self.partial).state?
                && let Ok(length) = traffic.queue_close_notify(&mut alert)
            {
                self.backlog.extend_from_slice(&alert[..length]);
            }
        }
        ready!(self.poll_flush(cx))?;
        Pin::new(&mut self.socket)
            .poll_shutdown(cx)
            .map_err(TlsError::Io)
    }

    /// Bytes of memory that are kept: sealed ones that the socket has not taken, and a record whose rest has not come.
    pub const fn held(&self) -> usize {
        self.backlog.capacity() + self.partial.capacity()
    }

    /// Sealed bytes that the socket has not taken.
    pub const fn unsent(&self) -> usize {
        self.backlog.len() - self.sent
    }

    /// Bytes of a record whose rest has not come.
    pub const fn incomplete(&self) -> usize {
        self.partial.len()
    }

    fn has_backlog(&self) -> bool {
        self.sent < self.backlog.len()
    }

    fn keep(&mut self, sealed: &[u8]) {
        self.backlog.extend_from_slice(sealed);
    }

    /// Puts the partial record in front of one read. `None` is the end of the stream.
    fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &mut Scratch,
    ) -> Poll<io::Result<Option<usize>>> {
        let kept = self.partial.len();
        let mut room = ReadBuf::new(&mut scratch.wire[kept..kept + Scratch::READ_BYTES]);
        ready!(Pin::new(&mut self.socket).poll_read(cx, &mut room))?;
        let read = room.filled().len();
        if read == 0 {
            return Poll::Ready(Ok(None));
        }
        if kept > 0 {
            scratch.wire[..kept].copy_from_slice(&self.partial);
            self.partial = Vec::new();
        }
        Poll::Ready(Ok(Some(kept + read)))
    }

    /// Feeds `scratch.wire[..filled]` to rustls until it wants more; decrypted bytes go to `scratch.plain`, records to
    /// send into the backlog, a partial record is kept.
    fn process(&mut self, scratch: &mut Scratch, filled: usize) -> Result<Progress, TlsError> {
        let mut progress = Progress::default();
        let mut at = 0;
        loop {
            let status = self.tls.process_tls_records(&mut scratch.wire[at..filled]);
            let mut discard = status.discard;
            let mut wants_more = false;
            let state = match status.state {
                Ok(state) => state,
                Err(error) => {
                    // rustls knows its place in what it has not consumed: the alert is fetched with those bytes.
                    self.partial = scratch.wire[at + discard..filled].to_vec();
                    return Err(error.into());
                }
            };
            match state {
                ConnectionState::ReadTraffic(mut traffic) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record?;
                        discard += record.discard;
                        let end = progress.plain + record.payload.len();
                        scratch.plain[progress.plain..end].copy_from_slice(record.payload);
                        progress.plain = end;
                    }
                }
                ConnectionState::EncodeTlsData(mut data) => encode(&mut data, &mut self.backlog)?,
                ConnectionState::TransmitTlsData(data) => data.done(),
                ConnectionState::WriteTraffic(_) => {
                    progress.established = true;
                    wants_more = true;
                }
                ConnectionState::PeerClosed => self.peer_closed = true,
                // `BlockedHandshake`, `Closed`; early data is never accepted (max_early_data_size is 0).
                _ => wants_more = true,
            }
            at += discard;
            if wants_more {
                break;
            }
        }
        if at < filled && !self.peer_closed {
            let rest = &scratch.wire[at..filled];
            if rest.len() > Scratch::RECORD_BYTES_MAX {
                // A handshake message over many records; clients' certificate chains are smaller than this.
                return Err(TlsError::Tls(rustls::Error::General(
                    "handshake message too large".into(),
                )));
            }
            self.partial.extend_from_slice(rest);
        }
        Ok(progress)
    }

    fn seal(&mut self, mut data: &[u8], sealed: &mut Vec<u8>) -> Result<(), TlsError> {
        while !data.is_empty() {
            // With the partial record and not with nothing: rustls has looked at it and remembers how far.
            let status = self.tls.process_tls_records(&mut self.partial);
            let discard = status.discard;
            match status.state? {
                ConnectionState::WriteTraffic(mut traffic) => {
                    let start = sealed.len();
                    sealed.resize(start + data.len() + data.len() / 64 + 512, 0);
                    let written = match traffic.encrypt(data, &mut sealed[start..]) {
                        Ok(written) => written,
                        Err(EncryptError::InsufficientSize(InsufficientSizeError {
                            required_size,
                        })) => {
                            sealed.resize(start + required_size, 0);
                            traffic
                                .encrypt(data, &mut sealed[start..])
                                .map_err(|error| exhausted(&error))?
                        }
                        Err(error) => return Err(exhausted(&error)),
                    };
                    sealed.truncate(start + written);
                    data = &[];
                }
                ConnectionState::EncodeTlsData(mut record) => encode(&mut record, sealed)?,
                ConnectionState::TransmitTlsData(record) => record.done(),
                ConnectionState::PeerClosed => self.peer_closed = true,
                _ => return Err(TlsError::Io(io::ErrorKind::BrokenPipe.into())),
            }
            self.partial.drain(..discard);
        }
        Ok(())
    }

    /// Sends the alert that rustls queued, if the socket takes it at once; the connection is over anyway. One look: the
    /// next one would parse the bad record again, and alert again.
    fn send_alert(&mut self) {
        let mut alert = Vec::new();
        let state = self.tls.process_tls_records(&mut self.partial).state;
        if let Ok(ConnectionState::EncodeTlsData(mut record)) = state
            && encode(&mut record, &mut alert).is_ok()
        {
            let _best_effort = self.socket.try_write(&alert);
        }
    }
}

fn exhausted(error: &EncryptError) -> TlsError {
    TlsError::Tls(rustls::Error::General(error.to_string()))
}

/// Appends one handshake record to `out`.
fn encode<Data>(
    record: &mut rustls::unbuffered::EncodeTlsData<'_, Data>,
    out: &mut Vec<u8>,
) -> Result<(), TlsError> {
    let start = out.len();
    out.resize(start + 4096, 0);
    let written = match record.encode(&mut out[start..]) {
        Err(EncodeError::InsufficientSize(InsufficientSizeError { required_size })) => {
            out.resize(start + required_size, 0);
            record.encode(&mut out[start..])
        }
        other => other,
    }
    .map_err(|error| TlsError::Tls(rustls::Error::General(error.to_string())))?;
    out.truncate(start + written);
    Ok(())
}
