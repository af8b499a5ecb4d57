//! One epoll loop for both ends of a load: the clients, and the stand-in brokers behind whatever is measured.
//!
//! Both in one thread, because they share a core anyway and a switch between processes would cost as much as a message. Per
//! message the loop does one receive and one send on each side, and nothing else: no allocation, no second look.
//!
//! Brokers go by the client id: `up-` only receives, `down-` sends without end, `burst-` answers each PUBLISH with one of
//! 4 KiB before the PUBACK, everything else is acknowledged.

use crate::packet;
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::sockopt::{set_socket_reuseaddr, set_tcp_nodelay};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, ipproto};
use rustix::time::Timespec;
use slab::Slab;
use std::net::SocketAddr;
use std::time::Duration;

/// What [`Engine::turn`] leaves to the load.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ready {
    pub(crate) client: u32,
    pub(crate) flags: EventFlags,
}

pub(crate) const RECEIVE_BYTES: usize = 256 * 1024;
/// A PUBLISH of the `burst-` brokers, headers included.
pub(crate) const BURST_BYTES: usize = 4096;
pub(crate) const TOPIC: &str = "bench/topic";
/// One PUBLISH of a bulk transfer.
pub(crate) const BULK_PAYLOAD: usize = 16 * 1024;
const BATCH: usize = 1024;

const CLIENT: u64 = 0;
const BROKER: u64 = 1 << 32;
const LISTENER: u64 = 2 << 32;
const INPUT: u64 = 3 << 32;

pub(crate) struct Engine {
    epoll: OwnedFd,
    events: Vec<Event>,
    listeners: Vec<OwnedFd>,
    brokers: Slab<Broker>,
    /// Clients that have something to read or room to write, after a turn.
    pub(crate) ready: Vec<Ready>,
    /// Standard input has a line.
    pub(crate) input: bool,
    /// Bytes that `up-` brokers have received.
    pub(crate) sunk: u64,
    buffer: Box<[u8]>,
    answers: Vec<u8>,
    bulk: Vec<u8>,
    burst: Vec<u8>,
}

struct Broker {
    fd: OwnedFd,
    what: What,
    /// An unfinished packet.
    unread: Vec<u8>,
    /// Where in the endless transfer it is.
    at: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    New,
    Acknowledge,
    Burst,
    Sink,
    Source,
}

impl Engine {
    /// Listens on all addresses, and watches standard input.
    pub(crate) fn new(addrs: &[SocketAddr]) -> anyhow::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let mut listeners = Vec::new();
        for (index, addr) in addrs.iter().enumerate() {
            let fd = rustix::net::socket_with(
                AddressFamily::INET,
                SocketType::STREAM,
                SocketFlags::NONBLOCK | SocketFlags::CLOEXEC,
                Some(ipproto::TCP),
            )?;
            set_socket_reuseaddr(&fd, true)?;
            rustix::net::bind(&fd, addr)?;
            rustix::net::listen(&fd, 4096)?;
            let data = EventData::new_u64(LISTENER | index as u64);
            epoll::add(&epoll, &fd, data, EventFlags::IN)?;
            listeners.push(fd);
        }
        let data = EventData::new_u64(INPUT);
        epoll::add(&epoll, std::io::stdin().as_fd(), data, EventFlags::IN)?;
        let publish = packet::publish(TOPIC, false, BULK_PAYLOAD);
        let overhead = packet::publish(TOPIC, false, BURST_BYTES).len() - BURST_BYTES;
        Ok(Self {
            epoll,
            events: Vec::with_capacity(BATCH),
            listeners,
            brokers: Slab::new(),
            ready: Vec::with_capacity(BATCH),
            input: false,
            sunk: 0,
            buffer: vec![0; RECEIVE_BYTES].into_boxed_slice(),
            answers: Vec::new(),
            bulk: publish.repeat(16),
            burst: packet::publish(TOPIC, false, BURST_BYTES - overhead),
        })
    }

    /// Watches a client. `steady`: its events are edges, so that a message costs the kernel one look; otherwise levels.
    pub(crate) fn watch(&self, fd: &OwnedFd, client: u32, steady: bool) -> rustix::io::Result<()> {
        let edge = if steady {
            EventFlags::ET
        } else {
            EventFlags::empty()
        };
        let flags = EventFlags::IN | EventFlags::OUT | edge;
        epoll::add(
            &self.epoll,
            fd,
            EventData::new_u64(CLIENT | u64::from(client)),
            flags,
        )
    }

    /// Changes what a client of levels is woken for.
    pub(crate) fn rewatch(
        &self,
        fd: &OwnedFd,
        client: u32,
        flags: EventFlags,
    ) -> rustix::io::Result<()> {
        let data = EventData::new_u64(CLIENT | u64::from(client));
        epoll::modify(&self.epoll, fd, data, flags)
    }

    /// Waits for events, serves the brokers, and leaves the clients in `ready`. `None` waits for ever.
    pub(crate) fn turn(&mut self, timeout: Option<Duration>) -> anyhow::Result<()> {
        self.events.clear();
        self.ready.clear();
        let timeout = timeout.map(|timeout| Timespec {
            tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(timeout.subsec_nanos()),
        });
        match epoll::wait(
            &self.epoll,
            spare_capacity(&mut self.events),
            timeout.as_ref(),
        ) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for at in 0..self.events.len() {
            let event = self.events[at];
            let token = event.data.u64();
            let index = u32::try_from(token & 0xffff_ffff).expect("32 bits");
            let flags = event.flags;
            match token & !0xffff_ffff {
                CLIENT => self.ready.push(Ready {
                    client: index,
                    flags,
                }),
                BROKER => self.serve(index as usize, flags),
                LISTENER => self.accept(index as usize)?,
                _ => self.input = true,
            }
        }
        Ok(())
    }

    /// Brokers' connections that are open.
    pub(crate) fn served(&self) -> usize {
        self.brokers.len()
    }

    fn accept(&mut self, listener: usize) -> anyhow::Result<()> {
        loop {
            let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
            let fd = match rustix::net::accept_with(&self.listeners[listener], flags) {
                Ok(fd) => fd,
                Err(Errno::CONNABORTED | Errno::INTR) => continue,
                Err(Errno::AGAIN) => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            set_tcp_nodelay(&fd, true)?;
            let entry = self.brokers.vacant_entry();
            let flags = EventFlags::IN | EventFlags::RDHUP | EventFlags::ET;
            let data = EventData::new_u64(BROKER | entry.key() as u64);
            epoll::add(&self.epoll, &fd, data, flags)?;
            entry.insert(Broker {
                fd,
                what: What::New,
                unread: Vec::new(),
                at: 0,
            });
        }
    }

    fn serve(&mut self, index: usize, flags: EventFlags) {
        // A connection may have ended by an earlier event of the same batch.
        let Some(broker) = self.brokers.get(index) else {
            return;
        };
        let lives = match broker.what {
            What::Sink => self.sink(index),
            What::Source if flags.contains(EventFlags::OUT) => self.pour(index),
            _ => self.answer(index, flags),
        };
        if !lives {
            self.brokers.remove(index);
        }
    }

    /// Takes bytes without copying them: `MSG_TRUNC` on TCP.
    fn sink(&mut self, index: usize) -> bool {
        let broker = &self.brokers[index];
        match rustix::net::recv(&broker.fd, &mut *self.buffer, RecvFlags::TRUNC) {
            Ok((_, 0)) => false,
            Ok((_, length)) => {
                self.sunk += length as u64;
                true
            }
            Err(error) => error == Errno::AGAIN,
        }
    }

    fn pour(&mut self, index: usize) -> bool {
        let broker = &mut self.brokers[index];
        match rustix::net::send(&broker.fd, &self.bulk[broker.at..], SendFlags::NOSIGNAL) {
            Ok(sent) => {
                broker.at = (broker.at + sent) % self.bulk.len();
                true
            }
            Err(error) => error == Errno::AGAIN,
        }
    }

    fn answer(&mut self, index: usize, flags: EventFlags) -> bool {
        loop {
            let broker = &mut self.brokers[index];
            let length = match rustix::net::recv(&broker.fd, &mut *self.buffer, RecvFlags::empty())
            {
                Ok((0, _)) => return false,
                Ok((length, _)) => length,
                Err(Errno::AGAIN) => return true,
                Err(_) => return false,
            };
            let received = &self.buffer[..length];
            self.answers.clear();
            let mut poured = false;
            if broker.unread.is_empty() {
                let rest = obey(
                    broker,
                    received,
                    &self.burst,
                    &mut self.answers,
                    &mut poured,
                );
                if !rest.is_empty() {
                    broker.unread = rest.to_vec();
                }
            } else {
                let mut whole = std::mem::take(&mut broker.unread);
                whole.extend_from_slice(received);
                let rest = obey(broker, &whole, &self.burst, &mut self.answers, &mut poured);
                broker.unread = rest.to_vec();
            }
            if !self.answers.is_empty() {
                // Answers fit into the socket's buffer, or the client does not read at all.
                match rustix::net::send(&broker.fd, &self.answers, SendFlags::NOSIGNAL) {
                    Ok(sent) if sent == self.answers.len() => {}
                    _ => return false,
                }
            }
            if poured && !self.change(index) {
                return false;
            }
            // A short read has emptied the socket; what comes later is another edge. An end may hide behind it.
            let ended = flags.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR);
            if length < RECEIVE_BYTES && !ended {
                return true;
            }
        }
    }

    /// A bulk connection is watched by levels: one call per turn, so that all get theirs.
    fn change(&self, index: usize) -> bool {
        let broker = &self.brokers[index];
        let flags = match broker.what {
            What::Source => EventFlags::IN | EventFlags::OUT,
            _ => EventFlags::IN,
        };
        let data = EventData::new_u64(BROKER | index as u64);
        epoll::modify(&self.epoll, &broker.fd, data, flags).is_ok()
    }
}

/// Appends the answers to all whole packets; gives what is left.
fn obey<'a>(
    broker: &mut Broker,
    mut bytes: &'a [u8],
    burst: &[u8],
    answers: &mut Vec<u8>,
    bulk: &mut bool,
) -> &'a [u8] {
    while broker.what != What::Sink {
        let Some((packet, rest)) = packet::split(bytes) else {
            return bytes;
        };
        bytes = rest;
        match packet::kind(packet) {
            1 => {
                answers.extend_from_slice(packet::connack(packet));
                let id = packet::client_id(packet);
                broker.what = if id.starts_with(b"up-") {
                    What::Sink
                } else if id.starts_with(b"down-") {
                    What::Source
                } else if id.starts_with(b"burst-") {
                    What::Burst
                } else {
                    What::Acknowledge
                };
                *bulk = matches!(broker.what, What::Sink | What::Source);
            }
            3 => {
                if broker.what == What::Burst {
                    answers.extend_from_slice(burst);
                }
                answers.extend(packet::puback(packet).into_iter().flatten());
            }
            12 => answers.extend([0xd0, 0]),
            _ => {}
        }
    }
    &[]
}
