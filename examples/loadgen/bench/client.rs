//! One client: TCP, TLS when asked for, CONNECT, and then whatever the load does with it.

use super::engine::{Engine, RECEIVE_BYTES};
use super::tls::Tls;
use crate::packet;
use rustix::event::epoll::EventFlags;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::sockopt::{set_tcp_nodelay, socket_error};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, ipproto};
use rustls::ClientConfig;
use std::net::SocketAddr;
use std::sync::Arc;

/// Where to and how.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) addr: SocketAddr,
    pub(crate) tls: Option<Arc<ClientConfig>>,
    /// Client ids begin with it; the brokers go by it.
    pub(crate) prefix: &'static str,
    /// Events as edges.
    pub(crate) steady: bool,
}

/// Buffers that all clients share.
pub(crate) struct Buffers {
    wire: Vec<u8>,
    /// What the last [`Client::receive`] gave.
    pub(crate) plain: Vec<u8>,
    sealed: Vec<u8>,
}

impl Buffers {
    pub(crate) fn new() -> Self {
        Self {
            wire: vec![0; RECEIVE_BYTES + 32 * 1024],
            plain: Vec::with_capacity(RECEIVE_BYTES),
            sealed: Vec::with_capacity(RECEIVE_BYTES),
        }
    }
}

pub(crate) struct Client {
    fd: OwnedFd,
    tls: Option<Box<Tls>>,
    stage: Stage,
    number: u32,
    prefix: &'static str,
    /// What the socket has not taken, from `sent` on.
    outbox: Vec<u8>,
    sent: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Connecting,
    Handshake,
    /// The CONNECT is sent.
    Asked,
    Joined,
}

impl Client {
    pub(crate) fn start(engine: &Engine, target: &Target, number: u32) -> anyhow::Result<Self> {
        let fd = rustix::net::socket_with(
            AddressFamily::INET,
            SocketType::STREAM,
            SocketFlags::NONBLOCK | SocketFlags::CLOEXEC,
            Some(ipproto::TCP),
        )?;
        set_tcp_nodelay(&fd, true)?;
        match rustix::net::connect(&fd, &target.addr) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(error) => return Err(error.into()),
        }
        engine.watch(&fd, number, target.steady)?;
        let tls = match &target.tls {
            Some(config) => Some(Box::new(Tls::new(config)?)),
            None => None,
        };
        Ok(Self {
            fd,
            tls,
            stage: Stage::Connecting,
            number,
            prefix: target.prefix,
            outbox: Vec::new(),
            sent: 0,
        })
    }

    pub(crate) const fn fd(&self) -> &OwnedFd {
        &self.fd
    }

    pub(crate) const fn stage(&self) -> Stage {
        self.stage
    }

    pub(crate) fn resumed(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.resumed())
    }

    /// Goes on with connecting after an event. True: it has just got its CONNACK.
    pub(crate) fn advance(
        &mut self,
        buffers: &mut Buffers,
        flags: EventFlags,
    ) -> anyhow::Result<bool> {
        if self.stage == Stage::Connecting {
            if !flags.intersects(EventFlags::OUT | EventFlags::ERR | EventFlags::HUP) {
                return Ok(false);
            }
            socket_error(&self.fd)??;
            if self.tls.is_some() {
                self.stage = Stage::Handshake;
                // The first pass over nothing makes the ClientHello.
                self.shake_hands(buffers, 0)?;
            } else {
                self.ask(buffers)?;
            }
            return Ok(false);
        }
        if flags.contains(EventFlags::OUT) {
            self.flush()?;
        }
        if !flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR | EventFlags::RDHUP)
        {
            return Ok(false);
        }
        if self.stage == Stage::Handshake {
            let Some(length) = self.fill(buffers)? else {
                return Ok(false);
            };
            self.shake_hands(buffers, length)?;
            return Ok(false);
        }
        self.receive(buffers)?;
        match buffers.plain.as_slice() {
            [] => Ok(false),
            [0x20, 2, _, 0, ..] => {
                self.stage = Stage::Joined;
                Ok(true)
            }
            other => anyhow::bail!("not a CONNACK: {:02x?}", &other[..other.len().min(8)]),
        }
    }

    fn shake_hands(&mut self, buffers: &mut Buffers, length: usize) -> anyhow::Result<()> {
        let Some(tls) = &mut self.tls else {
            return Ok(());
        };
        buffers.plain.clear();
        buffers.sealed.clear();
        let progress = tls.feed(
            &mut buffers.wire[..length],
            &mut buffers.plain,
            &mut buffers.sealed,
        )?;
        anyhow::ensure!(!progress.closed, "closed inside the handshake");
        if progress.established {
            // With the Finished, in one write.
            let connect = self.connect();
            if let Some(tls) = &mut self.tls {
                tls.seal(&connect, &mut buffers.sealed)?;
            }
            self.stage = Stage::Asked;
        }
        let sealed = std::mem::take(&mut buffers.sealed);
        let sent = self.write(&sealed);
        buffers.sealed = sealed;
        sent
    }

    fn connect(&self) -> Vec<u8> {
        packet::connect(&format!("{}{:06}", self.prefix, self.number), 600)
    }

    fn ask(&mut self, buffers: &mut Buffers) -> anyhow::Result<()> {
        let connect = self.connect();
        self.send(buffers, &connect)?;
        self.stage = Stage::Asked;
        Ok(())
    }

    /// Puts what came into `buffers.plain`, which is empty when there was nothing.
    pub(crate) fn receive(&mut self, buffers: &mut Buffers) -> anyhow::Result<()> {
        buffers.plain.clear();
        let Some(length) = self.fill(buffers)? else {
            return Ok(());
        };
        match &mut self.tls {
            None => buffers.plain.extend_from_slice(&buffers.wire[..length]),
            Some(tls) => {
                buffers.sealed.clear();
                let wire = &mut buffers.wire[..length];
                let progress = tls.feed(wire, &mut buffers.plain, &mut buffers.sealed)?;
                anyhow::ensure!(!progress.closed, "closed");
            }
        }
        Ok(())
    }

    /// Reads once and throws away; gives the number of plain bytes.
    pub(crate) fn discard(&mut self, buffers: &mut Buffers) -> anyhow::Result<usize> {
        if self.tls.is_some() {
            self.receive(buffers)?;
            return Ok(buffers.plain.len());
        }
        match rustix::net::recv(
            &self.fd,
            &mut buffers.wire[..RECEIVE_BYTES],
            RecvFlags::TRUNC,
        ) {
            Ok((_, 0)) => anyhow::bail!("closed"),
            Ok((_, length)) => Ok(length),
            Err(Errno::AGAIN) => Ok(0),
            Err(error) => Err(error.into()),
        }
    }

    /// One read behind what TLS kept. None: nothing there.
    fn fill(&mut self, buffers: &mut Buffers) -> anyhow::Result<Option<usize>> {
        let mut kept = 0;
        if let Some(tls) = &mut self.tls {
            let partial = tls.partial();
            kept = partial.len();
            buffers.wire[..kept].copy_from_slice(partial);
        }
        let room = &mut buffers.wire[kept..kept + RECEIVE_BYTES];
        match rustix::net::recv(&self.fd, room, RecvFlags::empty()) {
            Ok((0, _)) => anyhow::bail!("closed"),
            Ok((length, _)) => Ok(Some(kept + length)),
            Err(Errno::AGAIN) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Sends, sealed when there is TLS; what the socket does not take is kept and [`Client::idle`] is false meanwhile.
    pub(crate) fn send(&mut self, buffers: &mut Buffers, data: &[u8]) -> anyhow::Result<()> {
        let Some(tls) = &mut self.tls else {
            return self.write(data);
        };
        buffers.sealed.clear();
        tls.seal(data, &mut buffers.sealed)?;
        let sealed = std::mem::take(&mut buffers.sealed);
        let sent = self.write(&sealed);
        buffers.sealed = sealed;
        sent
    }

    fn write(&mut self, data: &[u8]) -> anyhow::Result<()> {
        if data.is_empty() {
            return Ok(());
        }
        let mut taken = 0;
        if self.all_sent() {
            taken = match rustix::net::send(&self.fd, data, SendFlags::NOSIGNAL) {
                Ok(taken) => taken,
                Err(Errno::AGAIN) => 0,
                Err(error) => return Err(error.into()),
            };
        }
        self.outbox.extend_from_slice(&data[taken..]);
        Ok(())
    }

    pub(crate) fn all_sent(&self) -> bool {
        self.outbox.is_empty()
    }

    pub(crate) fn flush(&mut self) -> anyhow::Result<()> {
        while !self.outbox.is_empty() {
            match rustix::net::send(&self.fd, &self.outbox[self.sent..], SendFlags::NOSIGNAL) {
                Ok(taken) => self.sent += taken,
                Err(Errno::AGAIN) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
            if self.sent == self.outbox.len() {
                self.outbox.clear();
                self.sent = 0;
            }
        }
        Ok(())
    }

    /// Says goodbye in TLS; the socket closes when the client is dropped.
    pub(crate) fn farewell(mut self, buffers: &mut Buffers) {
        if let Some(tls) = &mut self.tls {
            buffers.sealed.clear();
            tls.farewell(&mut buffers.sealed);
            let _best_effort = rustix::net::send(&self.fd, &buffers.sealed, SendFlags::NOSIGNAL);
        }
    }
}
