//! One attempt at one endpoint: dial, PROXY header, the CONNECT replayed, the CONNACK watched.

use super::client::poll_read_plain;
use super::preface::{ConnectFacts, Preface};
use super::session::Context;
use super::thread::with_scratch;
use crate::logic::endpoint::EndpointId;
use crate::logic::event::ConnectFailure;
use crate::logic::mqtt::{Decoded, FirstReply, decode_first_reply};
use crate::logic::proxy_protocol::{Header, TlsInfo, encode_v1, encode_v2};
use crate::pool::{ProxyProtocol, Settings as PoolSettings};
use std::future::poll_fn;
use std::io;
use std::task::{Poll, ready};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, timeout_at};

/// A broker's word on a CONNECT.
pub(super) enum Verdict {
    /// It serves the client.
    Accepted,
    /// It refuses this client, and another broker would too.
    Refused,
}

/// Which keep-alive rules.
pub(super) enum KeepAlive {
    /// The broker's, where its CONNACK names one, else the client's.
    Server(Option<u16>),
    /// Not known yet.
    Unknown,
}

/// What a broker answered; the bytes are for the client.
pub(super) struct Answer {
    pub(super) verdict: Verdict,
    pub(super) reply: Vec<u8>,
    pub(super) keep_alive: KeepAlive,
}

/// Why one attempt failed, and the CONNACK if there was one.
pub(super) struct Failure {
    pub(super) kind: ConnectFailure,
    pub(super) reply: Vec<u8>,
}

impl From<ConnectFailure> for Failure {
    fn from(kind: ConnectFailure) -> Self {
        Self {
            kind,
            reply: Vec::new(),
        }
    }
}

/// What is tried, and for whom.
pub(super) struct Attempt<'a> {
    pub(super) context: &'a Context,
    pub(super) pool: &'a PoolSettings,
    pub(super) preface: &'a Preface,
    pub(super) endpoint: EndpointId,
    /// The client's.
    pub(super) deadline: Instant,
}

impl Attempt<'_> {
    /// The broker's answer, and the connection on which it came.
    pub(super) async fn run(&self) -> Result<(TcpStream, Answer), Failure> {
        let Self {
            context,
            pool,
            preface,
            endpoint,
            deadline,
        } = *self;
        let started = Instant::now();
        // An endpoint that was cut short by the client's deadline had no fair chance: that is not held against it.
        let slow = |failure, patience| {
            if started.elapsed() * 2 >= patience {
                failure
            } else {
                ConnectFailure::Local
            }
        };
        let dial_by = deadline.min(started + pool.connect_timeout);
        let dialled = timeout_at(dial_by, dial(endpoint, &context.settings)).await;
        let mut stream = match dialled {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(dial_failure(&error).into()),
            Err(_elapsed) => {
                return Err(slow(ConnectFailure::DialTimeout, pool.connect_timeout).into());
            }
        };
        let header = proxy_header(pool.proxy_protocol, preface);
        let answer_by = deadline.min(Instant::now() + pool.connack_timeout);
        let exchange = async {
            let Some(connect) = &preface.connect else {
                send(&mut stream, &header, &preface.bytes)
                    .await
                    .map_err(|_error| ConnectFailure::Refused)?;
                let keep_alive = KeepAlive::Unknown;
                return Ok(Answer {
                    verdict: Verdict::Accepted,
                    reply: Vec::new(),
                    keep_alive,
                });
            };
            send(&mut stream, &header, &preface.bytes[..connect.length])
                .await
                .map_err(|_error| ConnectFailure::ClosedBeforeConnack)?;
            read_reply(&mut stream, connect, context.settings.preface_bytes_max).await
        };
        match timeout_at(answer_by, exchange).await {
            Ok(answer) => answer.map(|answer| (stream, answer)),
            Err(_elapsed) => Err(slow(ConnectFailure::ConnackTimeout, pool.connack_timeout).into()),
        }
    }
}

async fn dial(endpoint: EndpointId, settings: &super::Settings) -> io::Result<TcpStream> {
    let addr = endpoint.addr();
    let socket = if addr.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    // Small packets that wait for an ACK (Nagle) would add a round trip to every QoS 1 message.
    socket.set_nodelay(true)?;
    if !settings.tcp_keepalive.is_zero() {
        let keepalive = socket2::TcpKeepalive::new().with_time(settings.tcp_keepalive);
        socket2::SockRef::from(&socket).set_tcp_keepalive(&keepalive)?;
    }
    socket.connect(addr).await
}

/// An endpoint is blamed only for what it can help.
fn dial_failure(error: &io::Error) -> ConnectFailure {
    use rustix::io::Errno;
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(
            Errno::ADDRNOTAVAIL
            | Errno::MFILE
            | Errno::NFILE
            | Errno::NOBUFS
            | Errno::NOMEM
            | Errno::ACCESS
            | Errno::PERM,
        ) => ConnectFailure::Local,
        Some(Errno::TIMEDOUT) => ConnectFailure::DialTimeout,
        _ => ConnectFailure::Refused,
    }
}

/// Header and CONNECT in one segment: EMQX waits for the header before it reads on.
async fn send(stream: &mut TcpStream, header: &[u8], bytes: &[u8]) -> io::Result<()> {
    if header.is_empty() {
        return stream.write_all(bytes).await;
    }
    stream.write_all(&[header, bytes].concat()).await
}

async fn read_reply(
    stream: &mut TcpStream,
    connect: &ConnectFacts,
    bytes_max: usize,
) -> Result<Answer, Failure> {
    let mut reply = Vec::new();
    loop {
        match read_into(stream, &mut reply).await {
            Ok(0) | Err(_) => return Err(ConnectFailure::ClosedBeforeConnack.into()),
            Ok(_) => {}
        }
        let (verdict, keep_alive) = match decode_first_reply(&reply, connect.version, bytes_max) {
            Ok(Decoded::Incomplete { .. }) => continue,
            // Enhanced authentication (MQTT 5.0 §4.12): the exchange goes on between client and broker.
            Ok(Decoded::Complete {
                value: FirstReply::Auth,
                ..
            }) => (Verdict::Accepted, KeepAlive::Unknown),
            Ok(Decoded::Complete {
                value: FirstReply::Connack(connack),
                ..
            }) => {
                let keep_alive = KeepAlive::Server(connack.properties.server_keep_alive());
                if connack.is_unavailable() {
                    let kind = ConnectFailure::ConnackUnavailable(connack.code);
                    return Err(Failure { kind, reply });
                }
                let accepted = connack.is_accepted();
                (
                    if accepted {
                        Verdict::Accepted
                    } else {
                        Verdict::Refused
                    },
                    keep_alive,
                )
            }
            Err(_) => return Err(ConnectFailure::NotMqtt.into()),
        };
        return Ok(Answer {
            verdict,
            reply,
            keep_alive,
        });
    }
}

/// Appends one read to `into`; cancel-safe.
async fn read_into(stream: &mut TcpStream, into: &mut Vec<u8>) -> io::Result<usize> {
    poll_fn(|cx| {
        with_scratch(|scratch| {
            let data = ready!(poll_read_plain(stream, cx, &mut scratch.wire))?;
            into.extend_from_slice(data);
            Poll::Ready(Ok(data.len()))
        })
    })
    .await
}

fn proxy_header(protocol: ProxyProtocol, preface: &Preface) -> Vec<u8> {
    // `preface` has asked for the address if the pool wants a header; that is no setting that a reload changes.
    let (ProxyProtocol::V1 | ProxyProtocol::V2, Some(local)) = (protocol, preface.local) else {
        return Vec::new();
    };
    let tls = preface.tls.as_ref().map(|facts| TlsInfo {
        version: facts.version,
        cipher: facts.cipher,
        alpn: facts.alpn.as_deref(),
        authority: facts.server_name.as_deref(),
        client_cn: facts.client_common_name.as_deref(),
        client_cert_presented: facts.client_certificate,
        resumed: facts.resumed,
        verified: facts.client_certificate,
    });
    let header = Header {
        source: preface.addr,
        destination: local,
        tls,
    };
    match protocol {
        ProxyProtocol::V1 => encode_v1(&header),
        _ => encode_v2(&header),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_shortage_is_not_the_endpoints_fault() {
        for (errno, expected) in [
            (rustix::io::Errno::ADDRNOTAVAIL, ConnectFailure::Local),
            (rustix::io::Errno::MFILE, ConnectFailure::Local),
            (rustix::io::Errno::CONNREFUSED, ConnectFailure::Refused),
            (rustix::io::Errno::HOSTUNREACH, ConnectFailure::Refused),
            (rustix::io::Errno::TIMEDOUT, ConnectFailure::DialTimeout),
        ] {
            let error = io::Error::from_raw_os_error(errno.raw_os_error());
            assert_eq!(dial_failure(&error), expected, "{errno:?}");
        }
    }
}
