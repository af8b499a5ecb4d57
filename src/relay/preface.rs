//! What a client says before a broker is picked: optional TLS, then for MQTT the CONNECT, under one deadline and one cap.

use super::client::Client;
use super::registry::{End, Guard};
use super::session::Context;
use crate::logic::close_reason::CloseReason;
use crate::logic::mqtt::{ConnectError, Decoded, Version, decode_connect};
use crate::pool::ProxyProtocol;
use crate::tls::{ServerStream, TlsError, TlsFacts};
use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};

/// A client that is ready to be joined to a broker.
#[derive(Debug)]
pub(super) struct Preface {
    pub(super) client: Client,
    pub(super) addr: SocketAddr,
    /// The address that the client connected to, when a PROXY header is to tell it.
    pub(super) local: Option<SocketAddr>,
    pub(super) tls: Option<TlsFacts>,
    /// `None` on a `tcp` listener.
    pub(super) connect: Option<ConnectFacts>,
    /// Everything read so far: the CONNECT, replayed as it is, and what came behind it.
    pub(super) bytes: Vec<u8>,
}

/// What is kept of a CONNECT beside its bytes.
#[derive(Debug)]
pub(super) struct ConnectFacts {
    pub(super) version: Version,
    pub(super) keep_alive_s: u16,
    /// What affinity hashes, when the pool asks for it.
    pub(super) route_key: Option<Vec<u8>>,
    /// Where the CONNECT ends in [`Preface::bytes`].
    pub(super) length: usize,
}

/// How long a refused client may take to read its CONNACK.
const FAREWELL: Duration = Duration::from_secs(1);

/// Reads the preface of an accepted socket.
pub(super) async fn read(
    guard: &mut Guard,
    socket: TcpStream,
    addr: SocketAddr,
    accepted: Instant,
) -> Result<Preface, End> {
    let context = Arc::clone(&guard.context);
    let deadline = accepted + context.settings.preface_timeout;
    // Only the PROXY header asks for it: a system call less for the others.
    let local = if context.pool.settings().proxy_protocol == ProxyProtocol::Off {
        None
    } else {
        let local = socket.local_addr();
        Some(local.map_err(|error| End::with(CloseReason::ClientError, error))?)
    };
    let mut bytes = Vec::new();
    let (mut client, tls) = if context.tls.is_none() {
        (Client::plain(socket), None)
    } else {
        let (stream, facts) = timeout_at(deadline, handshake(&context, socket, &mut bytes))
            .await
            .map_err(|_elapsed| End::from(CloseReason::PrefaceTimeout))??;
        guard.connection.details().tls = Some(facts.version);
        (Client::Tls(Box::new(stream)), Some(facts))
    };
    let mut connect = None;
    if context.parse_mqtt {
        let read = timeout_at(deadline, read_connect(guard, &mut client, &mut bytes)).await;
        match read.map_err(|_elapsed| End::from(CloseReason::PrefaceTimeout))? {
            Ok(facts) => connect = Some(facts),
            Err(Refusal::Closed(end)) => return Err(end),
            Err(Refusal::Answered(end, answer)) => {
                farewell(client, answer).await;
                return Err(end);
            }
        }
    }
    Ok(Preface {
        client,
        addr,
        local,
        tls,
        connect,
        bytes,
    })
}

/// Says a last word within a bounded time.
pub(super) async fn farewell(client: Client, word: &[u8]) {
    // Whether it was read or not changes nothing any more.
    let _elapsed = timeout(FAREWELL, client.farewell(word)).await;
}

async fn handshake(
    context: &Context,
    socket: TcpStream,
    early: &mut Vec<u8>,
) -> Result<(ServerStream, TlsFacts), End> {
    let Some(store) = &context.tls else {
        unreachable!("called on a TLS listener")
    };
    // A client that says nothing holds no place, and one that stalls not for long.
    let gone = |error| End::with(CloseReason::ClientGone, error);
    socket.readable().await.map_err(gone)?;
    let _permit = context
        .handshakes
        .acquire()
        .await
        .expect("the semaphore lives as long as the worker");
    let mut stream = ServerStream::new(socket, store.server_config()).map_err(tls_failed)?;
    let mut server_name = None;
    let handshake = poll_fn(|cx| {
        super::thread::with_scratch(|scratch| {
            stream.poll_handshake(cx, scratch, early, &mut server_name)
        })
    });
    let facts = timeout(context.settings.preface_timeout / 2, handshake)
        .await
        .map_err(|_elapsed| End::from(CloseReason::PrefaceTimeout))?
        .map_err(tls_failed)?;
    let kind = if facts.resumed {
        &context.tallies.tls_resumed
    } else {
        &context.tallies.tls_full
    };
    kind.add(1);
    Ok((stream, facts))
}

fn tls_failed(error: TlsError) -> End {
    End::with(CloseReason::TlsFailed, error)
}

/// Why there is no CONNECT.
enum Refusal {
    Closed(End),
    /// The specification allows an answer.
    Answered(End, &'static [u8]),
}

async fn read_connect(
    guard: &Guard,
    client: &mut Client,
    bytes: &mut Vec<u8>,
) -> Result<ConnectFacts, Refusal> {
    let context = &guard.context;
    // How many bytes there must be before another look is worth it.
    let mut enough = 1;
    loop {
        if bytes.len() >= enough {
            match decode_connect(bytes, context.settings.preface_bytes_max) {
                Ok(Decoded::Complete { value, consumed }) => {
                    context.tallies.connects[version_index(value.version)].add(1);
                    let mut details = guard.connection.details();
                    details.client_id = Some(cut(value.client_id));
                    details.level = Some(value.version.level());
                    return Ok(ConnectFacts {
                        version: value.version,
                        keep_alive_s: value.keep_alive,
                        route_key: route_key(context, value.client_id, value.username),
                        length: consumed,
                    });
                }
                Ok(Decoded::Incomplete { need }) => enough = bytes.len() + need.max(1),
                Err(error) => return Err(refuse(error)),
            }
        }
        match client.read_into(bytes).await {
            Ok(0) => return Err(Refusal::Closed(CloseReason::ClientGone.into())),
            Ok(_) => {}
            Err(error) => return Err(Refusal::Closed(End::with(CloseReason::ClientGone, error))),
        }
    }
}

fn refuse(error: ConnectError) -> Refusal {
    let answer = error.answer();
    let end = End::with(error.close_reason(), error);
    match answer {
        Some(answer) => Refusal::Answered(end, answer),
        None => Refusal::Closed(end),
    }
}

fn route_key(context: &Context, client_id: &str, username: Option<&str>) -> Option<Vec<u8>> {
    use crate::pool::Affinity;
    match context.pool.settings().affinity {
        Affinity::None | Affinity::Source => None,
        // Brokers make up an id for an empty one: there is nothing to stick to.
        Affinity::ClientId => (!client_id.is_empty()).then(|| client_id.as_bytes().to_vec()),
        Affinity::Username => username.map(|name| name.as_bytes().to_vec()),
    }
}

const fn version_index(version: Version) -> usize {
    match version {
        Version::V31 => 0,
        Version::V311 => 1,
        Version::V5 => 2,
    }
}

/// A client id as it is kept for people: at most 256 bytes.
fn cut(client_id: &str) -> Box<str> {
    const BYTES_MAX: usize = 256;
    let end = (0..=BYTES_MAX.min(client_id.len()))
        .rev()
        .find(|at| client_id.is_char_boundary(*at));
    client_id[..end.unwrap_or(0)].into()
}
