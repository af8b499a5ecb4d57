//! What the data path costs, in things that can be counted on any machine: allocations per message and heap bytes per
//! connection. Seconds are for scripts/bench.sh, system calls for scripts/test.sh.
//!
//! A binary of its own, because its allocator counts for the whole process: the instance runs in it, clients and brokers
//! are plain sockets that the test's thread reads and writes in turn, and allocate nothing.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "helpers of tests may fail as tests do, and say what they measured"
)]

#[path = "it/rig.rs"]
#[expect(dead_code, reason = "only a part of the rig is needed")]
mod rig;
#[path = "support/mod.rs"]
mod support;
#[path = "../examples/loadgen/bench/tls.rs"]
#[expect(dead_code, reason = "nobody here resumes or says goodbye")]
mod tls;

use rig::Rig;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use std::alloc::System;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Mutex;
use std::time::Duration;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// The counters are the process's: one test at a time.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

const PUBLISH_PAYLOAD: usize = 64;
const MESSAGES: usize = 2000;
/// Timers and the admin thread may allocate meanwhile; once per hundred messages is none per message.
const STRAY_ALLOCATIONS_MAX: usize = MESSAGES / 100;
const CROWD: usize = 500;
/// Heap that other threads may take meanwhile.
const STRAY_BYTES_MAX: usize = 8192;
/// Nothing here takes as long.
const PATIENCE: Duration = Duration::from_secs(10);
/// rustls 0.23 allocates for each record that it seals, and copies each that it opens into a `Vec`; a round trip is two
/// records at the client, which is in this process, and two at the instance. What is ours is none, in TLS as well.
const TLS_ALLOCATIONS_PER_MESSAGE: usize = 4;
/// Heap bytes of a joined connection in a debug build: its task, two registrations in the reactor, its entry in the
/// registry. What was measured (1148) and a tenth.
const PLAIN_BYTES_MAX: usize = 1260;
/// The same and rustls' state (3466).
const TLS_BYTES_MAX: usize = 3810;

fn allocations() -> usize {
    let stats = ALLOCATOR.stats();
    stats.allocations + stats.reallocations
}

fn live_bytes() -> usize {
    let stats = ALLOCATOR.stats();
    stats.bytes_allocated - stats.bytes_deallocated
}

/// An instance in front of one broker, and the thread that plays both ends.
struct Stage {
    rig: Rig,
    broker: TcpListener,
    runtime: tokio::runtime::Runtime,
    buffer: Vec<u8>,
}

/// One connection through the instance.
struct Line {
    client: Client,
    broker: TcpStream,
}

struct Client {
    socket: TcpStream,
    tls: Option<Box<tls::Tls>>,
    plain: Vec<u8>,
    sealed: Vec<u8>,
}

impl Stage {
    fn new() -> Self {
        let broker = TcpListener::bind("127.0.0.1:0").unwrap();
        let rig = Rig::start(&[broker.local_addr().unwrap()], "", "join_rate = 0");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(rig.wait_eligible(1));
        Self {
            rig,
            broker,
            runtime,
            buffer: vec![0; 64 * 1024],
        }
    }

    fn open(&mut self, config: Option<&std::sync::Arc<rustls::ClientConfig>>) -> Line {
        let door: SocketAddr = self
            .rig
            .addr(if config.is_some() { "mqtts" } else { "mqtt" });
        let mut client = Client {
            socket: TcpStream::connect(door).unwrap(),
            tls: config.map(|config| Box::new(tls::Tls::new(config).unwrap())),
            plain: Vec::with_capacity(8192),
            sealed: Vec::with_capacity(8192),
        };
        client.socket.set_nodelay(true).unwrap();
        client.socket.set_read_timeout(Some(PATIENCE)).unwrap();
        // MQTT 3.1.1, clean, keep-alive 600 s, client id "cost".
        let connect = b"\x10\x10\x00\x04MQTT\x04\x02\x02\x58\x00\x04cost";
        client.shake_hands(&mut self.buffer);
        client.send(connect);
        let mut broker = self.accept(connect);
        broker.set_nodelay(true).unwrap();
        broker.write_all(b"\x20\x02\x00\x00").unwrap();
        client.hear(b"\x20\x02\x00\x00", &mut self.buffer);
        Line { client, broker }
    }

    /// The connection whose first bytes are these: probes come and go.
    fn accept(&self, first: &[u8]) -> TcpStream {
        loop {
            let (mut broker, _) = self.broker.accept().unwrap();
            broker.set_read_timeout(Some(PATIENCE)).unwrap();
            let mut got = vec![0; first.len()];
            if broker.read_exact(&mut got).is_ok() && got == first {
                return broker;
            }
        }
    }

    fn wait_for_connections(&self, count: u64) {
        let counted = self.runtime.block_on(async {
            for _ in 0..500 {
                if self.rig.connections().await == [count] {
                    return true;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            false
        });
        assert!(counted, "the instance does not come to {count} connections");
    }
}

impl Client {
    fn shake_hands(&mut self, buffer: &mut [u8]) {
        let Some(tls) = &mut self.tls else { return };
        let mut length = 0;
        loop {
            self.sealed.clear();
            let progress = tls
                .feed(&mut buffer[..length], &mut self.plain, &mut self.sealed)
                .unwrap();
            self.socket.write_all(&self.sealed).unwrap();
            if progress.established {
                return;
            }
            let kept = tls.partial().len();
            buffer[..kept].copy_from_slice(tls.partial());
            length = kept + self.socket.read(&mut buffer[kept..]).unwrap();
        }
    }

    fn send(&mut self, data: &[u8]) {
        match &mut self.tls {
            None => self.socket.write_all(data).unwrap(),
            Some(tls) => {
                self.sealed.clear();
                tls.seal(data, &mut self.sealed).unwrap();
                self.socket.write_all(&self.sealed).unwrap();
            }
        }
    }

    fn hear(&mut self, expected: &[u8], buffer: &mut [u8]) {
        self.plain.clear();
        while self.plain.len() < expected.len() {
            let Some(tls) = &mut self.tls else {
                let length = self.socket.read(buffer).unwrap();
                assert!(length > 0, "closed");
                self.plain.extend_from_slice(&buffer[..length]);
                continue;
            };
            let kept = tls.partial().len();
            buffer[..kept].copy_from_slice(tls.partial());
            let length = self.socket.read(&mut buffer[kept..]).unwrap();
            assert!(length > 0, "closed");
            self.sealed.clear();
            tls.feed(
                &mut buffer[..kept + length],
                &mut self.plain,
                &mut self.sealed,
            )
            .unwrap();
        }
        assert_eq!(self.plain, expected);
    }
}

impl Line {
    fn broker_hears(&mut self, expected: &[u8], buffer: &mut [u8]) {
        self.broker
            .read_exact(&mut buffer[..expected.len()])
            .unwrap();
        assert_eq!(&buffer[..expected.len()], expected);
    }

    /// PUBLISH and PUBACK.
    fn round_trip(&mut self, publish: &[u8], buffer: &mut [u8]) {
        self.client.send(publish);
        self.broker_hears(publish, buffer);
        self.broker.write_all(b"\x40\x02\x00\x01").unwrap();
        self.client.hear(b"\x40\x02\x00\x01", buffer);
    }

    /// Both ends close. What the client's TLS holds stays, so that only the relay's memory goes.
    fn hang_up(&self) {
        self.client.socket.shutdown(Shutdown::Both).unwrap();
        self.broker.shutdown(Shutdown::Both).unwrap();
    }
}

fn publish(payload: usize) -> Vec<u8> {
    let remaining = 2 + 1 + 2 + payload;
    let mut packet = vec![0x32];
    if remaining < 128 {
        packet.push(u8::try_from(remaining).unwrap());
    } else {
        packet.push(u8::try_from(remaining % 128).unwrap() | 0x80);
        packet.push(u8::try_from(remaining / 128).unwrap());
    }
    packet.extend(b"\x00\x01t\x00\x01");
    packet.resize(packet.len() + payload, b'x');
    packet
}

fn messages_do_not_allocate(config: Option<&std::sync::Arc<rustls::ClientConfig>>) {
    let mut stage = Stage::new();
    let mut line = stage.open(config);
    let publish = publish(PUBLISH_PAYLOAD);
    for _ in 0..100 {
        line.round_trip(&publish, &mut stage.buffer);
    }
    let before = allocations();
    for _ in 0..MESSAGES {
        line.round_trip(&publish, &mut stage.buffer);
    }
    let during = allocations() - before;
    println!("{during} allocations during {MESSAGES} messages");
    let known = config.map_or(0, |_| TLS_ALLOCATIONS_PER_MESSAGE * MESSAGES);
    assert!(
        during <= known + STRAY_ALLOCATIONS_MAX,
        "{during} allocations during {MESSAGES} messages"
    );
}

/// Gives the heap bytes of one connection, and checks that bursts leave none behind.
fn idle_connections_hold(config: Option<&std::sync::Arc<rustls::ClientConfig>>, bytes_max: usize) {
    let mut stage = Stage::new();
    // What is allocated once for all connections, and the tables' growth.
    let warm: Vec<Line> = (0..CROWD).map(|_| stage.open(config)).collect();
    warm.iter().for_each(Line::hang_up);
    stage.wait_for_connections(0);
    drop(warm);

    let mut crowd: Vec<Line> = (0..CROWD).map(|_| stage.open(config)).collect();
    stage.wait_for_connections(CROWD as u64);
    let open = live_bytes();
    let publish = publish(4096);
    for line in &mut crowd {
        line.round_trip(&publish, &mut stage.buffer);
    }
    let rested = live_bytes();
    crowd.iter().for_each(Line::hang_up);
    stage.wait_for_connections(0);
    let closed = live_bytes();
    let held = open.saturating_sub(closed) / CROWD;
    let left = rested.saturating_sub(open).saturating_sub(STRAY_BYTES_MAX) / CROWD;
    println!("{held} heap bytes per idle connection, {left} more after a burst");
    assert!(held > 300, "{held} bytes per connection: not measured");
    assert!(
        held <= bytes_max,
        "{held} heap bytes per idle connection, at most {bytes_max}"
    );
    assert!(left <= held / 50, "a burst leaves {left} bytes behind");
}

#[test]
fn a_message_allocates_nothing() {
    let _guard = ONE_AT_A_TIME.lock();
    messages_do_not_allocate(None);
}

#[test]
fn a_message_in_tls_allocates_only_in_rustls() {
    let _guard = ONE_AT_A_TIME.lock();
    messages_do_not_allocate(Some(&tls::config(false).unwrap()));
}

#[test]
fn an_idle_connection_is_small_after_a_burst_too() {
    let _guard = ONE_AT_A_TIME.lock();
    idle_connections_hold(None, PLAIN_BYTES_MAX);
}

#[test]
fn an_idle_connection_in_tls_is_small_after_a_burst_too() {
    let _guard = ONE_AT_A_TIME.lock();
    idle_connections_hold(Some(&tls::config(false).unwrap()), TLS_BYTES_MAX);
}
