//! One TLS connection from a client, on rustls' unbuffered API and the thread's buffers.
//!
//! At rest the stream holds no byte: a partial record is kept only until the rest of it arrives, sealed bytes only while
//! the socket does not take them. Absent on purpose: `AsyncRead` and `AsyncWrite`, whose buffers belong to the caller of
//! one call and would have to be copied into.

use super::info::TlsFacts;
use super::sni;
use rustix::net::SendFlags;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, InsufficientSizeError};
use rustls::{ProtocolVersion, ServerConfig};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

/// The buffers of one thread, lent to one call at a time.
#[derive(Debug)]
pub struct Scratch {
    /// What came from a socket.
    pub wire: Box<[u8]>,
    /// The same, decrypted.
    pub plain: Box<[u8]>,
    /// What goes to a socket, sealed. It grows and is never cleared, which would be a second pass over the bytes.
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
            sealed: vec![0; Self::READ_BYTES + 1024],
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
                // In TLS 1.3 all that is left is a ticket, which goes with the first bytes to the client: a write and a
                // segment less per connection. In TLS 1.2 the client waits for our Finished. Waiting until it has left
                // would cost a wake-up.
                if self.tls.protocol_version() != Some(ProtocolVersion::TLSv1_3) {
                    let _pending = self.poll_flush(cx)?;
                }
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
            let kept = self.backlog.len();
            let progress = match self.process(scratch, filled) {
                Ok(progress) => progress,
                Err(error) => {
                    self.send_alert();
                    return Poll::Ready(Err(error));
                }
            };
            if self.backlog.len() > kept {
                // An alert that is a warning, in TLS 1.2; it leaves now or with the next write. The answer to a key update
                // is rustls' own and comes with the next seal.
                let _pending = self.poll_flush(cx)?;
            }
            if progress.plain > 0 {
                return Poll::Ready(Ok(progress.plain));
            }
        }
    }

    /// Seals and sends `data` whole, behind a ticket that is kept for this. What the socket does not take is kept: but for
    /// the first time call only when [`Self::poll_flush`] is ready, so that at most one call's worth is ever kept.
    pub fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        data: &[u8],
        sealed: &mut Vec<u8>,
    ) -> Result<(), TlsError> {
        let mut end = 0;
        if self.has_backlog() {
            let kept = &self.backlog[self.sent..];
            end = kept.len();
            room(sealed, 0, end).copy_from_slice(kept);
            self.forget_backlog();
        }
        let end = self.seal(data, sealed, end)?;
        let taken = match Pin::new(&mut self.socket).poll_write(cx, &sealed[..end]) {
            Poll::Ready(taken) => taken?,
            Poll::Pending => 0,
        };
        self.backlog.extend_from_slice(&sealed[taken..end]);
        Ok(())
    }

    /// Ready when the socket has taken everything.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TlsError>> {
        while self.has_backlog() {
            let taken =
                ready!(Pin::new(&mut self.socket).poll_write(cx, &self.backlog[self.sent..]))?;
            self.sent += taken;
        }
        self.forget_backlog();
        Poll::Ready(Ok(()))
    }

    fn forget_backlog(&mut self) {
        if self.backlog.capacity() > 0 {
            self.backlog = Vec::new();
            self.sent = 0;
        }
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
                // Corked: it leaves with the FIN in one segment.
                let (socket, unsent) = (&self.socket, &self.backlog[self.sent..]);
                let corked = SendFlags::MORE | SendFlags::NOSIGNAL;
                let sent = socket.try_io(Interest::WRITABLE, || {
                    Ok(rustix::net::send(socket, unsent, corked)?)
                });
                match sent {
                    Ok(taken) => self.sent += taken,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Poll::Ready(Err(error.into())),
                }
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
        let mut answer = 0;
        loop {
            let status = self.tls.process_tls_records(&mut scratch.wire[at..filled]);
            let mut discard = status.discard;
            let mut wants_more = false;
            let state = match status.state {
                Ok(state) => state,
                Err(error) => {
                    // rustls knows its place in what it has not consumed: the alert is fetched with those bytes.
                    self.partial = scratch.wire[at + discard..filled].to_vec();
                    self.backlog.extend_from_slice(&scratch.sealed[..answer]);
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
                ConnectionState::EncodeTlsData(mut data) => {
                    answer = encode(&mut data, &mut scratch.sealed, answer)?;
                }
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
        self.backlog.extend_from_slice(&scratch.sealed[..answer]);
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

    /// Seals `data` into `sealed` from `end` on; the new end.
    fn seal(
        &mut self,
        mut data: &[u8],
        sealed: &mut Vec<u8>,
        mut end: usize,
    ) -> Result<usize, TlsError> {
        while !data.is_empty() {
            // With the partial record and not with nothing: rustls has looked at it and remembers how far.
            let status = self.tls.process_tls_records(&mut self.partial);
            let discard = status.discard;
            match status.state? {
                ConnectionState::WriteTraffic(mut traffic) => {
                    let likely = data.len() + data.len() / 64 + 512;
                    end += match traffic.encrypt(data, room(sealed, end, likely)) {
                        Ok(written) => written,
                        Err(EncryptError::InsufficientSize(InsufficientSizeError {
                            required_size,
                        })) => traffic
                            .encrypt(data, room(sealed, end, required_size))
                            .map_err(|error| exhausted(&error))?,
                        Err(error) => return Err(exhausted(&error)),
                    };
                    data = &[];
                }
                ConnectionState::EncodeTlsData(mut record) => {
                    end = encode(&mut record, sealed, end)?;
                }
                ConnectionState::TransmitTlsData(record) => record.done(),
                ConnectionState::PeerClosed => self.peer_closed = true,
                _ => return Err(TlsError::Io(io::ErrorKind::BrokenPipe.into())),
            }
            self.partial.drain(..discard);
        }
        Ok(end)
    }

    /// Sends the alert that rustls queued, if the socket takes it at once; the connection is over anyway. What was sealed
    /// before goes before it: records are numbered. One look: the next one would parse the bad record again, and alert
    /// again.
    fn send_alert(&mut self) {
        let mut alert = Vec::new();
        let state = self.tls.process_tls_records(&mut self.partial).state;
        if let Ok(ConnectionState::EncodeTlsData(mut record)) = state
            && let Ok(end) = encode(&mut record, &mut alert, 0)
        {
            self.backlog.extend_from_slice(&alert[..end]);
        }
        let _best_effort = self.socket.try_write(&self.backlog[self.sent..]);
        self.forget_backlog();
    }
}

fn exhausted(error: &EncryptError) -> TlsError {
    TlsError::Tls(rustls::Error::General(error.to_string()))
}

/// Room for `length` bytes from `start` on. What lies there is of no interest.
fn room(buffer: &mut Vec<u8>, start: usize, length: usize) -> &mut [u8] {
    let end = start + length;
    if buffer.len() < end {
        buffer.resize(end, 0);
    }
    &mut buffer[start..end]
}

/// Puts one handshake record into `out` from `start` on; its end.
fn encode<Data>(
    record: &mut rustls::unbuffered::EncodeTlsData<'_, Data>,
    out: &mut Vec<u8>,
    start: usize,
) -> Result<usize, TlsError> {
    // Asked without room it says how much it needs.
    let written = match record.encode(&mut []) {
        Err(EncodeError::InsufficientSize(InsufficientSizeError { required_size })) => {
            record.encode(room(out, start, required_size))
        }
        other => other,
    }
    .map_err(|error| TlsError::Tls(rustls::Error::General(error.to_string())))?;
    Ok(start + written)
}
