//! Finding a broker that accepts the client: pick, dial, PROXY header, CONNECT replayed, CONNACK watched; the next one
//! when that fails, until the deadline. The client sees one CONNACK.

use super::client::poll_read_plain;
use super::copy::Joined;
use super::idle;
use super::outbound::Outbound;
use super::preface::{ConnectFacts, Preface, farewell};
use super::registry::{End, Guard};
use super::session::Context;
use super::thread::with_scratch;
use crate::logic::close_reason::CloseReason;
use crate::logic::endpoint::EndpointId;
use crate::logic::event::ConnectFailure;
use crate::logic::mqtt::{Decoded, FirstReply, Version, connack_unavailable, decode_first_reply};
use crate::logic::proxy_protocol::{Header, TlsInfo, encode_v1, encode_v2};
use crate::pool::{PickRequest, ProxyProtocol, Settings as PoolSettings, Slot, Suspicion};
use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, timeout_at};

/// A broker's word on a CONNECT.
enum Verdict {
    /// It serves the client.
    Accepted,
    /// It refuses this client, and another broker would too.
    Refused,
}

/// Which keep-alive rules.
enum KeepAlive {
    /// The broker's, where its CONNACK names one, else the client's.
    Server(Option<u16>),
    /// Not known yet.
    Unknown,
}

/// What a broker answered; the bytes are for the client.
struct Answer {
    verdict: Verdict,
    reply: Vec<u8>,
    keep_alive: KeepAlive,
}

/// A broker that has answered.
struct Found {
    slot: Slot,
    endpoint: EndpointId,
    stream: TcpStream,
    verdict: Verdict,
    reply: Vec<u8>,
    keep_alive: KeepAlive,
}

/// Why one attempt failed, and the CONNACK if there was one.
struct Failure {
    kind: ConnectFailure,
    reply: Vec<u8>,
}

impl From<ConnectFailure> for Failure {
    fn from(kind: ConnectFailure) -> Self {
        Self {
            kind,
            reply: Vec::new(),
        }
    }
}

/// Joins a client to a broker, or says why not and has told the client.
pub(super) async fn join(guard: &mut Guard, preface: Preface) -> Result<Joined, End> {
    let started = Instant::now();
    let context = Arc::clone(&guard.context);
    let pool = context.pool.settings();
    let deadline = started + context.settings.join_timeout;
    let mut search = Search::new(&preface, deadline);
    let outcome = tokio::select! {
        // The broker's answer first: a client that has pipelined DISCONNECT and closed is served.
        biased;
        outcome = search.run(&context, &pool, &preface) => outcome,
        () = client_gone(&preface) => Err((CloseReason::ClientGone, Vec::new())),
    };
    let attempts = search.attempts;
    guard.connection.details().attempts = attempts;
    let (reason, word) = match outcome {
        Ok(found) => match found.verdict {
            Verdict::Accepted => {
                guard.joined(found.endpoint, found.slot.why().label(), attempts);
                context.tallies.observe_join(started.elapsed());
                return establish(guard, preface, found, deadline).await;
            }
            // Slot and socket go before the farewell: a refused client is no connection of the broker.
            Verdict::Refused => (CloseReason::ConnectRefused, Some(found.reply)),
        },
        Err((CloseReason::ClientGone, _)) => {
            search.abandon(pool.connack_timeout);
            (CloseReason::ClientGone, None)
        }
        Err((reason, reply)) => {
            let version = preface.connect.as_ref().map(|connect| connect.version);
            (reason, last_word(version, reply))
        }
    };
    if let Some(word) = word {
        farewell(preface.client, &word).await;
    }
    Err(match search.last {
        Some((endpoint, failure)) if reason == CloseReason::ConnectFailed => {
            End::with(reason, format!("{endpoint}: {}", failure.label()))
        }
        _ => reason.into(),
    })
}

/// The broker's own refusal is the better answer; without one ours says "server unavailable".
fn last_word(version: Option<Version>, reply: Vec<u8>) -> Option<Vec<u8>> {
    let version = version?;
    Some(if reply.is_empty() {
        connack_unavailable(version).to_vec()
    } else {
        reply
    })
}

async fn establish(
    guard: &Guard,
    preface: Preface,
    found: Found,
    deadline: Instant,
) -> Result<Joined, End> {
    let Preface {
        mut client,
        connect,
        mut bytes,
        ..
    } = preface;
    guard.count_from_client(bytes.len());
    guard.count_to_client(found.reply.len());
    let settings = &guard.context.settings;
    let (idle, behind) = match &connect {
        None => (idle::plain(settings), Vec::new()),
        Some(connect) => {
            let idle = match found.keep_alive {
                // The CONNACK, and the keep-alive in it, are still to come.
                KeepAlive::Unknown => idle::plain(settings),
                KeepAlive::Server(seconds) => idle::mqtt(settings, connect.keep_alive_s, seconds),
            };
            (idle, bytes.split_off(connect.length))
        }
    };
    drop(bytes);
    if !found.reply.is_empty() {
        let failed = |error: io::Error| End::with(CloseReason::ClientError, error);
        timeout_at(deadline, poll_fn(|cx| client.poll_flush(cx)))
            .await
            .unwrap_or_else(|elapsed| Err(elapsed.into()))
            .map_err(failed)?;
        let send = |cx: &mut std::task::Context<'_>| {
            with_scratch(|scratch| client.poll_send(cx, &found.reply, &mut scratch.sealed))
        };
        let mut send = send;
        poll_fn(|cx| Poll::Ready(send(cx))).await.map_err(failed)?;
    }
    Ok(Joined {
        client,
        endpoint: found.stream,
        to_endpoint: Outbound::starting_with(behind),
        slot: found.slot,
        idle,
    })
}

/// Ends when the client hangs up while we look for a broker. Bytes behind the CONNECT may be its whole story already, and
/// a `tcp` client may have closed its sending side for good: those are served to the end.
async fn client_gone(preface: &Preface) {
    match &preface.connect {
        Some(connect) if connect.length == preface.bytes.len() => preface.client.gone().await,
        _ => std::future::pending().await,
    }
}

/// The walk over the endpoints.
struct Search {
    deadline: Instant,
    attempts: u32,
    /// How often all endpoints had failed.
    rounds: u32,
    /// Failures that another endpoint's success turns into blame.
    suspicions: Vec<Suspicion>,
    /// The last failure, for the log.
    last: Option<(EndpointId, ConnectFailure)>,
    /// The attempt that runs, and since when.
    trying: Option<(Slot, Instant)>,
    excluded: Vec<EndpointId>,
    source: std::net::IpAddr,
}

impl Search {
    const fn new(preface: &Preface, deadline: Instant) -> Self {
        Self {
            deadline,
            attempts: 0,
            rounds: 0,
            suspicions: Vec::new(),
            last: None,
            trying: None,
            excluded: Vec::new(),
            source: preface.addr.ip(),
        }
    }

    async fn run(
        &mut self,
        context: &Context,
        pool: &PoolSettings,
        preface: &Preface,
    ) -> Result<Found, (CloseReason, Vec<u8>)> {
        let mut last_reply = Vec::new();
        let key = preface
            .connect
            .as_ref()
            .and_then(|connect| connect.route_key.as_deref());
        while self.attempts < pool.attempts_max && Instant::now() < self.deadline {
            let request = PickRequest {
                excluded: &self.excluded,
                source: self.source,
                route_key: key,
            };
            let slot = match context.pool.pick_until(&request, self.deadline).await {
                Ok(slot) => slot,
                Err(_) if self.excluded.is_empty() => {
                    return Err((CloseReason::NoEndpoint, last_reply));
                }
                Err(_) => {
                    // Every endpoint has failed this client once: after a breath each gets another chance.
                    self.excluded.clear();
                    let again = Instant::now() + self.breath();
                    tokio::time::sleep_until(again.min(self.deadline)).await;
                    continue;
                }
            };
            self.attempts += 1;
            if self.attempts > 1 {
                context.tallies.retries.add(1);
            }
            let endpoint = slot.endpoint();
            self.trying = Some((slot, Instant::now()));
            let answer = self.try_endpoint(context, pool, preface, endpoint).await;
            let Some((mut slot, _)) = self.trying.take() else {
                unreachable!("nobody else takes it while this runs");
            };
            match answer {
                Ok((
                    stream,
                    Answer {
                        verdict,
                        reply,
                        keep_alive,
                    },
                )) => {
                    slot.established();
                    self.suspicions.drain(..).for_each(Suspicion::confirm);
                    return Ok(Found {
                        slot,
                        endpoint,
                        stream,
                        verdict,
                        reply,
                        keep_alive,
                    });
                }
                Err(Failure { kind, reply }) => {
                    self.blame(slot, endpoint, kind);
                    let (pool, attempt) = (context.pool.name(), self.attempts);
                    tracing::debug!(pool, %endpoint, failure = kind.label(), attempt, "endpoint failed a client");
                    self.excluded.push(endpoint);
                    last_reply = if reply.is_empty() { last_reply } else { reply };
                }
            }
        }
        let reason = if self.attempts == 0 {
            CloseReason::NoEndpoint
        } else {
            CloseReason::ConnectFailed
        };
        Err((reason, last_reply))
    }

    /// Before all endpoints are tried again: half a second longer each time, at most two. A broker that restarts needs
    /// about that, and a client that is told off comes back sooner than we would have asked again.
    fn breath(&mut self) -> Duration {
        self.rounds = (self.rounds + 1).min(4);
        Duration::from_millis(500) * self.rounds
    }

    fn blame(&mut self, slot: Slot, endpoint: EndpointId, kind: ConnectFailure) {
        self.last = Some((endpoint, kind));
        if kind.may_be_the_clients_fault() {
            self.suspicions.extend(slot.suspected(kind));
        } else {
            slot.failed(kind);
        }
    }

    /// The client hung up on an attempt. Clients that are less patient than we are must not hide a broker that hangs.
    fn abandon(&mut self, patience: Duration) {
        if let Some((slot, since)) = self.trying.take()
            && since.elapsed() * 2 >= patience
        {
            slot.failed(ConnectFailure::ConnackTimeout);
        }
    }

    async fn try_endpoint(
        &self,
        context: &Context,
        pool: &PoolSettings,
        preface: &Preface,
        endpoint: EndpointId,
    ) -> Result<(TcpStream, Answer), Failure> {
        let dial_by = self.deadline.min(Instant::now() + pool.connect_timeout);
        let dialled = timeout_at(dial_by, dial(endpoint, &context.settings)).await;
        let mut stream = match dialled {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(dial_failure(&error).into()),
            Err(_elapsed) => {
                return Err(self
                    .slow(ConnectFailure::DialTimeout, pool.connect_timeout)
                    .into());
            }
        };
        let header = proxy_header(pool.proxy_protocol, preface);
        let answer_by = self.deadline.min(Instant::now() + pool.connack_timeout);
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
            Err(_elapsed) => Err(self
                .slow(ConnectFailure::ConnackTimeout, pool.connack_timeout)
                .into()),
        }
    }

    /// An endpoint that was cut short by the client's deadline had no fair chance: that is not held against it.
    fn slow(&self, failure: ConnectFailure, patience: Duration) -> ConnectFailure {
        let waited = self
            .trying
            .as_ref()
            .map_or(Duration::ZERO, |(_, since)| since.elapsed());
        if waited * 2 >= patience {
            failure
        } else {
            ConnectFailure::Local
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

    #[test]
    fn a_refused_mqtt_client_hears_the_broker_or_us_and_a_tcp_client_nothing() {
        assert_eq!(last_word(None, vec![1]), None);
        assert_eq!(
            last_word(Some(Version::V5), vec![0x20, 3, 0, 0x97, 0]),
            Some(vec![0x20, 3, 0, 0x97, 0])
        );
        assert_eq!(
            last_word(Some(Version::V311), Vec::new()),
            Some(vec![0x20, 2, 0, 3])
        );
    }
}
