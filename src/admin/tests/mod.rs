//! The server as clients meet it: real sockets on an ephemeral port, a source with fixed answers, and clients that
//! write their bytes themselves.

mod api;
mod limits;

use super::server::{Limits, start_with};
use super::*;
use crate::logic::endpoint::EndpointId;
use crate::logic::secret::Secret;
use crate::logic::snapshot::EndpointState;
use crate::metrics::{ListenerTotals, Registry};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Longer than any test takes; a test that hits it fails instead of hanging.
const NEVER: Duration = Duration::from_secs(30);

type Drained = (EndpointId, Option<String>, bool);

#[derive(Debug)]
struct Fake {
    ready: AtomicBool,
    drained: Mutex<Vec<Drained>>,
    metrics: Registry,
}

fn broker() -> EndpointId {
    EndpointId("[::1]:1883".parse().unwrap())
}

impl Source for Fake {
    fn status(&self) -> StatusView {
        StatusView {
            name: "lb-1".into(),
            version: "0.1.0".into(),
            phase: "serving".into(),
            ready: true,
            uptime_s: 60,
            connections: 3,
            joined: 2,
            members: 1,
            config_fingerprint: "ab12".into(),
        }
    }

    fn ready(&self) -> Readiness {
        Readiness {
            ready: self.ready.load(Ordering::Relaxed),
            phase: "serving".into(),
            pools_without_endpoint: vec!["emqx".into()],
            cluster: "off".into(),
        }
    }

    fn pools(&self) -> Vec<PoolView> {
        let endpoint = EndpointView {
            address: broker(),
            name: "emqx.internal".into(),
            weight: 1,
            priority: 0,
            state: EndpointState::HalfOpen,
            healthy: true,
            eligible: true,
            why: "on trial".into(),
            drain: false,
            own_connections: 3,
            own_pending: 1,
            cluster_connections: 9,
            max_connections: Some(100),
            latency_ms: Some(0.25),
            picks_total: 4,
            failures_total: 1,
            ejections_total: 1,
            seen_by: vec![SeenBy {
                member: "lb-1".into(),
                healthy: true,
            }],
        };
        vec![PoolView {
            name: "emqx".into(),
            policy: "least-connections".into(),
            snapshot: 7,
            own_connections: 3,
            cluster_connections: 9,
            spread: 0.0,
            discovery: DiscoveryView {
                source: "fixed".into(),
                ..DiscoveryView::default()
            },
            endpoints: vec![endpoint],
        }]
    }

    fn members(&self) -> Vec<MemberView> {
        vec![MemberView {
            id: "lb-1".into(),
            address: None,
            generation: 1,
            state: MemberState::Alive,
            record_age_ms: 0,
            version: "0.1.0".into(),
            config_fingerprint: "ab12".into(),
            connections: 3,
            is_self: true,
        }]
    }

    fn listeners(&self) -> Vec<ListenerView> {
        let totals = ListenerTotals {
            name: "mqtt".into(),
            accepted: 5,
            ..Default::default()
        };
        let bind = SocketAddr::from(([0, 0, 0, 0], 1883));
        vec![ListenerView {
            bind,
            protocol: "mqtt".into(),
            tls: false,
            totals,
        }]
    }

    fn config(&self) -> Value {
        json!({ "admin": { "token_file": "[redacted]" } })
    }

    fn metrics(&self) -> String {
        self.metrics.encode()
    }

    fn drain(
        &self,
        endpoint: EndpointId,
        pool: Option<&str>,
        on: bool,
    ) -> Result<Vec<String>, DrainError> {
        match (endpoint == broker(), pool) {
            (_, Some("busy")) => Err(DrainError::Busy),
            (_, Some(pool)) if pool != "emqx" => Err(DrainError::UnknownPool),
            (false, _) => Err(DrainError::UnknownEndpoint),
            (true, pool) => {
                self.drained
                    .lock()
                    .unwrap()
                    .push((endpoint, pool.map(str::to_owned), on));
                Ok(vec!["emqx".into()])
            }
        }
    }
}

struct Site {
    addr: SocketAddr,
    source: Arc<Fake>,
    handle: Handle,
}

fn site(token: Option<&str>, change: impl FnOnce(&mut Limits)) -> Site {
    let token = token.map(|token| Secret::new(token.to_owned()));
    let settings = Settings {
        bind: SocketAddr::from(([127, 0, 0, 1], 0)),
        token,
    };
    let listener = bind(&settings).unwrap();
    let addr = listener.local_addr().unwrap();
    let metrics = Registry::new("0.1.0", "lb-1");
    metrics.listener("mqtt", "emqx").accepted.add(5);
    let source = Fake {
        ready: AtomicBool::new(true),
        drained: Mutex::default(),
        metrics,
    };
    let source = Arc::new(source);
    let mut limits = Limits {
        request_timeout: NEVER,
        idle_timeout: NEVER,
        ..Limits::default()
    };
    change(&mut limits);
    let handle = start_with(limits, settings, Arc::<Fake>::clone(&source), listener).unwrap();
    Site {
        addr,
        source,
        handle,
    }
}

struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("{}", self.body))
    }
}

impl Site {
    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.addr).unwrap();
        stream.set_read_timeout(Some(NEVER)).unwrap();
        stream
    }

    /// One request on a connection of its own, with these extra header lines.
    fn ask(&self, method: &str, path: &str, headers: &str) -> Answer {
        let request =
            format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n");
        self.send(request.as_bytes())
    }

    fn send(&self, bytes: &[u8]) -> Answer {
        let mut stream = self.connect();
        stream.write_all(bytes).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        answer_of(&text)
    }
}

fn answer_of(text: &str) -> Answer {
    let (head, body) = text
        .split_once("\r\n\r\n")
        .unwrap_or_else(|| panic!("{text:?}"));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer {
        status,
        head: head.to_owned(),
        body: body.to_owned(),
    }
}

/// One answer of a connection that stays open.
fn read_answer(stream: &mut TcpStream) -> Answer {
    let mut bytes = Vec::new();
    let mut byte = [0; 1];
    while !bytes.ends_with(b"\r\n\r\n") {
        assert_eq!(stream.read(&mut byte).unwrap(), 1, "closed in the head");
        bytes.push(byte[0]);
    }
    let mut answer = answer_of(std::str::from_utf8(&bytes).unwrap());
    let length = answer.header("content-length").unwrap().parse().unwrap();
    let mut body = vec![0; length];
    stream.read_exact(&mut body).unwrap();
    answer.body = String::from_utf8(body).unwrap();
    answer
}

fn keep_alive(stream: &mut TcpStream) -> Answer {
    stream
        .write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        .unwrap();
    read_answer(stream)
}

/// The server closed: end of file or a reset, no byte.
fn is_closed(stream: &mut TcpStream) -> bool {
    !matches!(stream.read(&mut [0; 1]), Ok(1..))
}
