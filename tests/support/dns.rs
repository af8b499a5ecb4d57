//! A small DNS server inside the process, for the demo and the tests: names are set and broken while it runs.
//!
//! ```ignore
//! let server = DnsServer::start("127.0.0.1:0".parse()?).await?;
//! server.set_a("brokers.demo", vec![Ipv4Addr::new(127, 0, 0, 21), Ipv4Addr::new(127, 0, 0, 22)], 5);
//! server.fail("brokers.demo", Failure::ServFail);   // until the name is set again or healed
//! ```
//!
//! It answers A, AAAA and SRV over UDP and TCP on one port: NXDOMAIN for names that it does not know, NODATA for
//! types that a known name does not have, the TC bit when an answer does not fit its datagram. It recurses nowhere,
//! knows no zones, no CNAME, no DNSSEC, and is meant for loopback alone.

#![allow(dead_code, reason = "the demo and each test use another part of it")]

use hickory_proto::op::{Edns, Message, Metadata, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, SRV};
use hickory_proto::rr::{Name, RData, Record};
use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinSet;

pub(crate) use hickory_proto::rr::RecordType;

/// How a name can be broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// "There is no such name."
    NxDomain,
    /// "The name has no such records" (NODATA).
    Empty,
    /// "I failed."
    ServFail,
    /// "I will not answer you."
    Refused,
    /// No answer at all.
    Silent,
}

/// One SRV record.
#[derive(Clone, Debug)]
pub(crate) struct Service {
    /// Lowest first.
    pub(crate) priority: u16,
    /// Share among equals.
    pub(crate) weight: u16,
    /// The port.
    pub(crate) port: u16,
    /// The host, absolute with or without the trailing dot.
    pub(crate) host: String,
}

/// A running server. Dropping it closes its sockets some time later; [`DnsServer::stop`] has closed them on return.
pub(crate) struct DnsServer {
    addr: SocketAddr,
    zone: Arc<Mutex<Zone>>,
    tasks: JoinSet<()>,
}

#[derive(Default)]
struct Zone {
    /// By lower-case name without its trailing dot.
    names: HashMap<String, Entry>,
    queries: usize,
}

#[derive(Default)]
struct Entry {
    records: HashMap<RecordType, (u32, Vec<RData>)>,
    failure: Option<Failure>,
    failures: HashMap<RecordType, Failure>,
    queries: usize,
}

impl DnsServer {
    /// Binds UDP and TCP of `addr` and serves on the current runtime. Port 0 takes one that is free for both.
    pub(crate) async fn start(addr: SocketAddr) -> io::Result<Self> {
        let mut attempts = 0;
        let (udp, tcp) = loop {
            let udp = UdpSocket::bind(addr).await?;
            match TcpListener::bind(udp.local_addr()?).await {
                Ok(tcp) => break (udp, tcp),
                Err(error)
                    if error.kind() == io::ErrorKind::AddrInUse
                        && addr.port() == 0
                        && attempts < 20 =>
                {
                    attempts += 1;
                }
                Err(error) => return Err(error),
            }
        };
        let addr = udp.local_addr()?;
        let zone = Arc::new(Mutex::new(Zone::default()));
        let mut tasks = JoinSet::new();
        tasks.spawn(serve_udp(udp, Arc::clone(&zone)));
        tasks.spawn(serve_tcp(tcp, Arc::clone(&zone)));
        Ok(Self { addr, zone, tasks })
    }

    /// Where it listens.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Closes the sockets. A new server can be started on the same address afterwards; it knows no names.
    pub(crate) async fn stop(mut self) {
        self.tasks.shutdown().await;
    }

    /// Replaces the A records of a name and heals it. No addresses: the name exists and has none. `ttl` in seconds.
    pub(crate) fn set_a(&self, name: &str, addrs: Vec<Ipv4Addr>, ttl: u32) {
        self.set(
            name,
            RecordType::A,
            ttl,
            addrs.into_iter().map(|ip| RData::A(A(ip))).collect(),
        );
    }

    /// Replaces the AAAA records of a name and heals it.
    pub(crate) fn set_aaaa(&self, name: &str, addrs: Vec<Ipv6Addr>, ttl: u32) {
        self.set(
            name,
            RecordType::AAAA,
            ttl,
            addrs.into_iter().map(|ip| RData::AAAA(AAAA(ip))).collect(),
        );
    }

    /// Replaces the SRV records of a name and heals it. A host that is no DNS name is left out.
    pub(crate) fn set_srv(&self, name: &str, services: Vec<Service>, ttl: u32) {
        let record = |service: Service| {
            let mut host = Name::from_ascii(&service.host).ok()?;
            host.set_fqdn(true);
            Some(RData::SRV(SRV::new(
                service.priority,
                service.weight,
                service.port,
                host,
            )))
        };
        self.set(
            name,
            RecordType::SRV,
            ttl,
            services.into_iter().filter_map(record).collect(),
        );
    }

    /// Breaks a name for all types until it is set again or healed.
    pub(crate) fn fail(&self, name: &str, failure: Failure) {
        self.zone().entry(name).failure = Some(failure);
    }

    /// Breaks one type of a name.
    pub(crate) fn fail_only(&self, name: &str, kind: RecordType, failure: Failure) {
        self.zone().entry(name).failures.insert(kind, failure);
    }

    /// Ends all failures of a name; its records are what they were.
    pub(crate) fn heal(&self, name: &str) {
        let mut zone = self.zone();
        let entry = zone.entry(name);
        entry.failure = None;
        entry.failures.clear();
    }

    /// Questions so far, whatever came of them.
    pub(crate) fn queries(&self) -> usize {
        self.zone().queries
    }

    /// Questions about one name so far.
    pub(crate) fn queries_for(&self, name: &str) -> usize {
        self.zone()
            .names
            .get(&key(name))
            .map_or(0, |entry| entry.queries)
    }

    fn set(&self, name: &str, kind: RecordType, ttl: u32, records: Vec<RData>) {
        let mut zone = self.zone();
        let entry = zone.entry(name);
        entry.failure = None;
        entry.failures.remove(&kind);
        entry.records.insert(kind, (ttl, records));
    }

    fn zone(&self) -> MutexGuard<'_, Zone> {
        self.zone.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Zone {
    fn entry(&mut self, name: &str) -> &mut Entry {
        self.names.entry(key(name)).or_default()
    }

    /// The answer; `None` is silence.
    fn answer(&mut self, request: &Message) -> Option<Message> {
        self.queries += 1;
        let mut response = Message::response(request.metadata.id, request.metadata.op_code);
        response.metadata = Metadata::response_from_request(&request.metadata);
        response.metadata.authoritative = true;
        response.metadata.recursion_available = true;
        response.add_queries(request.queries.iter().cloned());
        if request.edns.is_some() {
            response.set_edns(Edns::new());
        }
        let Some(query) = request.queries.first() else {
            response.metadata.response_code = ResponseCode::FormErr;
            return Some(response);
        };
        let Some(entry) = self.names.get_mut(&key(&query.name().to_ascii())) else {
            response.metadata.response_code = ResponseCode::NXDomain;
            return Some(response);
        };
        entry.queries += 1;
        match entry
            .failure
            .or_else(|| entry.failures.get(&query.query_type()).copied())
        {
            Some(Failure::Silent) => return None,
            Some(Failure::NxDomain) => response.metadata.response_code = ResponseCode::NXDomain,
            Some(Failure::ServFail) => response.metadata.response_code = ResponseCode::ServFail,
            Some(Failure::Refused) => response.metadata.response_code = ResponseCode::Refused,
            Some(Failure::Empty) => {}
            None => {
                if let Some((ttl, records)) = entry.records.get(&query.query_type()) {
                    let record =
                        |data: &RData| Record::from_rdata(query.name().clone(), *ttl, data.clone());
                    response.add_answers(records.iter().map(record));
                }
            }
        }
        Some(response)
    }
}

fn key(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}

/// The encoded answer to one message, at most `bytes_max` long. What does not parse gets none.
fn reply(
    zone: &Mutex<Zone>,
    bytes: &[u8],
    bytes_max: impl Fn(&Message) -> usize,
) -> Option<Vec<u8>> {
    let request = Message::from_vec(bytes).ok()?;
    let response = zone
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .answer(&request)?;
    let encoded = response.to_vec().ok()?;
    if encoded.len() <= bytes_max(&request) {
        return Some(encoded);
    }
    response.truncate().to_vec().ok()
}

async fn serve_udp(socket: UdpSocket, zone: Arc<Mutex<Zone>>) {
    let mut buffer = vec![0; 4096];
    loop {
        // An error here is the ICMP answer to an earlier reply: the client did not wait for it.
        let Ok((len, from)) = socket.recv_from(&mut buffer).await else {
            continue;
        };
        let datagram_max = |request: &Message| usize::from(request.max_payload().max(512));
        if let Some(reply) = reply(&zone, &buffer[..len], datagram_max) {
            socket.send_to(&reply, from).await.ok();
        }
    }
}

async fn serve_tcp(listener: TcpListener, zone: Arc<Mutex<Zone>>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        let zone = Arc::clone(&zone);
        connections.spawn(async move {
            // The client closed: that is how these connections end.
            serve_connection(stream, &zone).await.ok();
        });
    }
}

/// Messages with a length of two bytes before each (RFC 1035 §4.2.2).
async fn serve_connection(mut stream: TcpStream, zone: &Mutex<Zone>) -> io::Result<()> {
    loop {
        let mut bytes = vec![0; usize::from(stream.read_u16().await?)];
        stream.read_exact(&mut bytes).await?;
        if let Some(reply) = reply(zone, &bytes, |_| usize::from(u16::MAX)) {
            stream
                .write_u16(u16::try_from(reply.len()).map_err(io::Error::other)?)
                .await?;
            stream.write_all(&reply).await?;
        }
    }
}
