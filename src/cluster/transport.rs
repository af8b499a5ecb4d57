//! The UDP socket of the cluster. Everything that leaves is sealed, nothing unsealed gets past [`Inbound::open`].
//!
//! One socket for gossip and push: one port in the firewall, and pushes prove that the gossip path works. Absent:
//! retries, congestion control; a lost datagram is repaired by the next one.

use super::clock::{WallClock, unix_ms};
use super::datagram::{self, ClusterTag, DATAGRAM_BYTES_MAX, Envelope, Kind, Reject};
use super::keyring::Keyring;
use super::parts::{self, Assembler};
use super::stats::Stats;
use crate::logic::replay::{ReplayWindow, Session};
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Receive buffer asked of the kernel: 64 KB of noise at 10 000/s must not push out a whole gossip round.
const SOCKET_BUFFER_BYTES: usize = 4 << 20;

/// The socket and what it takes to seal for it.
pub(super) struct Wire {
    /// Never blocks.
    socket: UdpSocket,
    keyring: Arc<Keyring>,
    cluster: ClusterTag,
    session: Session,
    counter: AtomicU64,
    clock: WallClock,
    stats: Arc<Stats>,
    /// Addresses that nothing is sent to and nothing is taken from: a partition for tests.
    #[cfg(test)]
    pub(super) cut_off: std::sync::Mutex<std::collections::HashSet<SocketAddr>>,
}

impl Wire {
    pub(super) fn bind(
        addr: SocketAddr,
        cluster: ClusterTag,
        keyring: Arc<Keyring>,
        clock: WallClock,
        stats: Arc<Stats>,
    ) -> io::Result<Self> {
        let socket = socket2::Socket::new(
            socket2::Domain::for_address(addr),
            socket2::Type::DGRAM.nonblocking(),
            Some(socket2::Protocol::UDP),
        )?;
        // Best effort: the kernel gives what its own limit allows.
        drop(socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES));
        socket.bind(&addr.into())?;
        let mut session = Session::default();
        getrandom::fill(&mut session).map_err(|error| io::Error::other(error.to_string()))?;
        Ok(Self {
            socket: socket.into(),
            keyring,
            cluster,
            session,
            counter: AtomicU64::new(0),
            clock,
            stats,
            #[cfg(test)]
            cut_off: std::sync::Mutex::default(),
        })
    }

    pub(super) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    pub(super) fn stats(&self) -> &Stats {
        &self.stats
    }

    pub(super) fn clock(&self) -> &WallClock {
        &self.clock
    }

    /// Seals a message once for any number of receivers: each of them sees each counter once. Empty, and counted, when
    /// the message is too large.
    pub(super) fn seal(&self, kind: Kind, message: &[u8]) -> Vec<Vec<u8>> {
        let Some(bodies) = parts::cut(kind, message) else {
            self.stats.count_oversize();
            return Vec::new();
        };
        let count = u8::try_from(bodies.len()).unwrap_or(u8::MAX);
        let first_counter = self.counter.fetch_add(u64::from(count), Relaxed) + 1;
        let unix_ms = unix_ms(&self.clock);
        (0..count)
            .zip(bodies)
            .filter_map(|(part, body)| {
                let counter = first_counter + u64::from(part);
                let envelope = Envelope {
                    kind,
                    part,
                    parts: count,
                    session: self.session,
                    counter,
                };
                datagram::seal(&self.keyring, &self.cluster, &envelope, unix_ms, body)
            })
            .collect()
    }

    /// Sends sealed datagrams. Errors are counted and not returned: an unreachable peer is the failure detector's
    /// business, a full send buffer loses what the next push says again, and the sender has nothing better to do.
    pub(super) fn send(&self, to: SocketAddr, kind: Kind, datagrams: &[Vec<u8>]) {
        #[cfg(test)]
        if self.is_cut_off(to) {
            return;
        }
        for datagram in datagrams {
            match self.socket.send_to(datagram, to) {
                Ok(bytes) => self.stats.count_sent(kind, bytes),
                Err(_) => self.stats.count_send_error(),
            }
        }
    }

    /// One datagram, if one is there.
    pub(super) fn try_receive(&self, buffer: &mut [u8]) -> Option<(usize, SocketAddr)> {
        self.socket.recv_from(buffer).ok()
    }

    #[cfg(test)]
    fn is_cut_off(&self, addr: SocketAddr) -> bool {
        self.cut_off.lock().unwrap().contains(&addr)
    }
}

/// Wakes when a datagram is there, for as long as it exists. Whoever looks at the socket by the clock drops it: a socket that
/// is watched wakes the thread for every datagram, read or not.
pub(super) struct Watch {
    /// For reading alone: every datagram that leaves makes the socket writable once more, which is news to nobody.
    socket: AsyncFd<UdpSocket>,
}

impl Watch {
    /// `spare` is what [`Watch::stop`] gave back: watching again takes no descriptor, which may be gone by then.
    pub(super) fn new(wire: &Wire, spare: Option<UdpSocket>) -> io::Result<Self> {
        let socket = spare.map_or_else(|| wire.socket.try_clone(), Ok)?;
        #[expect(
            deprecated,
            reason = "the successor is unsafe, for types that may change their descriptor; std's socket does not"
        )]
        let socket = AsyncFd::with_interest(socket, Interest::READABLE)?;
        Ok(Self { socket })
    }

    /// Ends it and keeps the descriptor.
    pub(super) fn stop(self) -> UdpSocket {
        self.socket.into_inner()
    }

    /// Waits until something is there. Read it all: what is left does not wake again. Cancel-safe.
    pub(super) async fn readable(&self) -> io::Result<()> {
        self.socket.readable().await?.clear_ready();
        Ok(())
    }
}

/// The receiving side's memory; owned by the one task that reads the socket.
pub(super) struct Inbound {
    wire: Arc<Wire>,
    replay: ReplayWindow,
    assembler: Assembler,
}

impl Inbound {
    pub(super) fn new(wire: Arc<Wire>) -> Self {
        Self {
            wire,
            replay: ReplayWindow::default(),
            assembler: Assembler::default(),
        }
    }

    /// A buffer that holds any datagram.
    pub(super) fn buffer() -> Box<[u8]> {
        vec![0; DATAGRAM_BYTES_MAX].into()
    }

    /// Opens a datagram, counts it, and returns the message when it is complete.
    pub(super) fn open(
        &mut self,
        from: SocketAddr,
        datagram: &mut [u8],
        now: Instant,
    ) -> Option<(Kind, Vec<u8>)> {
        #[cfg(test)]
        if self.wire.is_cut_off(from) {
            return None;
        }
        let bytes = datagram.len();
        match self.open_part(datagram, now) {
            Ok((kind, message)) => {
                self.wire.stats.count_received(kind, bytes);
                message.map(|message| (kind, message))
            }
            Err(reason) => {
                tracing::trace!(%from, bytes, reason = reason.label(), "datagram dropped");
                self.wire.stats.reject(reason);
                None
            }
        }
    }

    fn open_part(
        &mut self,
        datagram: &mut [u8],
        now: Instant,
    ) -> Result<(Kind, Option<Vec<u8>>), Reject> {
        let wire = &self.wire;
        let unix_ms = unix_ms(&wire.clock);
        let (envelope, body) = datagram::open(
            &wire.keyring,
            &wire.cluster,
            &mut self.replay,
            unix_ms,
            now,
            datagram,
        )?;
        Ok((envelope.kind, self.assembler.take(&envelope, body, now)?))
    }
}
