//! The server as clients meet it: real sockets on an ephemeral port, a source with fixed answers, and clients that
//! write their bytes themselves.

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

#[test]
fn every_route_answers_with_its_json() {
    let site = site(None, |_| {});
    for (path, pointer, expected) in [
        ("/readyz", "/ready", json!(true)),
        ("/api/v1/status", "/phase", json!("serving")),
        (
            "/api/v1/pools",
            "/pools/0/endpoints/0/address",
            json!("[::1]:1883"),
        ),
        (
            "/api/v1/pools",
            "/pools/0/endpoints/0/state",
            json!("half_open"),
        ),
        (
            "/api/v1/pools",
            "/pools/0/endpoints/0/seen_by/0/member",
            json!("lb-1"),
        ),
        ("/api/v1/pools/emqx", "/snapshot", json!(7)),
        (
            "/api/v1/pools/em%71x",
            "/policy",
            json!("least-connections"),
        ),
        ("/api/v1/members", "/members/0/self", json!(true)),
        ("/api/v1/listeners", "/listeners/0/accepted", json!(5)),
        (
            "/api/v1/listeners",
            "/listeners/0/bind",
            json!("0.0.0.0:1883"),
        ),
        ("/api/v1/config", "/admin/token_file", json!("[redacted]")),
    ] {
        let answer = site.ask("GET", path, "");
        assert_eq!(
            (answer.status, answer.json().pointer(pointer)),
            (200, Some(&expected)),
            "{path}"
        );
        assert_eq!(
            answer.header("content-type"),
            Some("application/json"),
            "{path}"
        );
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{path}");
    }
    let answer = site.ask("GET", "/healthz", "");
    assert_eq!((answer.status, answer.body.as_str()), (200, "ok\n"));
    let page = site.ask("GET", "/", "");
    assert_eq!(
        (page.status, page.header("content-type")),
        (200, Some("text/html; charset=utf-8"))
    );
    assert!(
        page.header("content-security-policy")
            .unwrap()
            .contains("default-src 'none'")
    );
    assert!(
        !page.body.contains("http://") && !page.body.contains("https://"),
        "no foreign assets"
    );
    site.handle.stop();
}

#[test]
fn unready_is_503_with_the_same_details() {
    let site = site(None, |_| {});
    site.source.ready.store(false, Ordering::Relaxed);
    let answer = site.ask("GET", "/readyz", "");
    assert_eq!(answer.status, 503);
    assert_eq!(answer.json()["pools_without_endpoint"], json!(["emqx"]));
    assert_eq!(
        site.ask("GET", "/healthz", "").status,
        200,
        "alive is not ready"
    );
}

#[test]
fn metrics_come_in_the_format_that_was_asked_for() {
    let site = site(None, |_| {});
    let plain = site.ask("GET", "/metrics", "");
    assert_eq!(
        plain.header("content-type"),
        Some(crate::metrics::PLAIN_TEXT_TYPE)
    );
    assert!(
        plain
            .body
            .contains("# TYPE tidegate_connections_accepted_total counter\n")
    );
    assert!(!plain.body.contains("# EOF"));
    let accept = "Accept: application/openmetrics-text;version=1.0.0;q=0.8,text/plain;q=0.3\r\n";
    let open = site.ask("GET", "/metrics", accept);
    assert_eq!(
        open.header("content-type"),
        Some(crate::metrics::OPEN_METRICS_TYPE)
    );
    assert!(
        open.body
            .contains("# TYPE tidegate_connections_accepted counter\n")
    );
    assert!(open.body.ends_with("# EOF\n"));
    for text in [plain.body, open.body] {
        assert!(text.contains("\ntidegate_connections_accepted_total{listener=\"mqtt\"} 5\n"));
    }
}

#[test]
fn head_is_get_without_the_body() {
    let site = site(None, |_| {});
    for path in ["/", "/healthz", "/metrics", "/api/v1/pools"] {
        let answer = site.ask("HEAD", path, "");
        assert_eq!((answer.status, answer.body.as_str()), (200, ""), "{path}");
        assert_ne!(answer.header("content-length"), Some("0"), "{path}");
    }
    assert_eq!(site.ask("HEAD", "/nothing", "").status, 404);
}

#[test]
fn unknown_paths_say_what_there_is() {
    let site = site(None, |_| {});
    for path in [
        "/api/v1/pool",
        "/api/v1/pools/",
        "/healthz/",
        "/api/v2/status",
        "//",
        "/../etc",
    ] {
        let answer = site.ask("GET", path, "");
        assert_eq!(answer.status, 404, "{path}");
        assert!(answer.json()["error"].is_string(), "{path}");
        assert!(
            !answer.json()["try"].as_array().unwrap().is_empty(),
            "{path}"
        );
    }
    let answer = site.ask("GET", "/api/v1/pools/emqy", "");
    assert_eq!(
        (answer.status, &answer.json()["try"]),
        (404, &json!(["emqx"]))
    );
}

#[test]
fn wrong_methods_are_told_the_right_one() {
    let site = site(None, |_| {});
    for (method, path, allow) in [
        ("POST", "/api/v1/pools", "GET, HEAD"),
        ("DELETE", "/", "GET, HEAD"),
        ("OPTIONS", "/metrics", "GET, HEAD"),
        ("POST", "/healthz", "GET, HEAD"),
        ("GET", "/api/v1/endpoints/127.0.0.1:1883/drain", "POST"),
        ("HEAD", "/api/v1/endpoints/127.0.0.1:1883/undrain", "POST"),
    ] {
        let answer = site.ask(method, path, "");
        assert_eq!(
            (answer.status, answer.header("allow")),
            (405, Some(allow)),
            "{method} {path}"
        );
    }
    assert!(site.source.drained.lock().unwrap().is_empty());
}

#[test]
fn token_guards_everything_but_the_two_probes() {
    let site = site(Some("s3cret"), |_| {});
    for path in [
        "/",
        "/metrics",
        "/api/v1/pools",
        "/api/v1/config",
        "/nothing",
        "/healthz/",
    ] {
        for headers in [
            "",
            "Authorization: Bearer wrong!\r\n",
            "Authorization: Basic s3cret\r\n",
        ] {
            let answer = site.ask("GET", path, headers);
            assert_eq!(answer.status, 401, "{path} {headers}");
            assert_eq!(answer.header("www-authenticate"), Some("Bearer"), "{path}");
        }
    }
    let drain = "/api/v1/endpoints/[::1]:1883/drain";
    assert_eq!(site.ask("POST", drain, "").status, 401);
    assert!(site.source.drained.lock().unwrap().is_empty());
    for path in ["/healthz", "/readyz"] {
        assert_eq!(site.ask("GET", path, "").status, 200, "{path}");
    }
    let token = "Authorization: Bearer s3cret\r\n";
    assert_eq!(site.ask("GET", "/api/v1/pools", token).status, 200);
    assert_eq!(site.ask("GET", "/nothing", token).status, 404);
    // A page of the same origin may write with the token.
    assert_eq!(
        site.ask("POST", drain, &format!("Origin: http://x\r\n{token}"))
            .status,
        200
    );
}

#[test]
fn drain_reaches_the_source_and_its_refusals_the_client() {
    let site = site(None, |_| {});
    let at = |rest: &str| format!("/api/v1/endpoints/{rest}");
    for (path, status) in [
        ("[::1]:1883/drain", 200),
        ("%5B::1%5D:1883/undrain?pool=emqx", 200),
        ("127.0.0.9:1883/drain", 404),
        ("[::1]:1883/drain?pool=other", 404),
        ("[::1]:1883/drain?pool=busy", 503),
        ("[::1]:1883/drain?pol=emqx", 400),
        ("broker:1883/drain", 400),
        ("[::1]/drain", 400),
    ] {
        let answer = site.ask("POST", &at(path), "");
        assert_eq!(answer.status, status, "{path}: {}", answer.body);
    }
    let expected: Vec<Drained> = vec![
        (broker(), None, true),
        (broker(), Some("emqx".to_owned()), false),
    ];
    assert_eq!(*site.source.drained.lock().unwrap(), expected);
    let answer = site.ask(
        "POST",
        &at("[::1]:1883/drain"),
        "Origin: http://evil.example\r\n",
    );
    assert_eq!(answer.status, 403, "a web page drains nothing");
    assert_eq!(site.source.drained.lock().unwrap().len(), 2);
}

#[test]
fn bodies_are_read_up_to_their_limit() {
    let site = site(None, |_| {});
    let head =
        "POST /api/v1/endpoints/[::1]:1883/drain HTTP/1.1\r\nHost: x\r\nConnection: close\r\n";
    let small = format!("{head}Content-Length: 4\r\n\r\nbody");
    assert_eq!(site.send(small.as_bytes()).status, 200);
    let chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n");
    assert_eq!(site.send(chunked.as_bytes()).status, 200);
    // The server may answer and close before all was sent: neither end is judged on the rest.
    let mut stream = site.connect();
    let large = format!("{head}Content-Length: 65537\r\n\r\n");
    stream.write_all(large.as_bytes()).unwrap();
    stream.write_all(&[b'x'; 65_537]).unwrap();
    assert_eq!(read_answer(&mut stream).status, 413);
    assert_eq!(site.source.drained.lock().unwrap().len(), 2);
}

#[test]
fn heads_that_are_too_large_are_refused() {
    let site = site(None, |limits| limits.header_bytes_max = 8 * 1024);
    let mut stream = site.connect();
    stream
        .write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Long: ")
        .unwrap();
    stream.write_all(&[b'x'; 9 * 1024]).unwrap();
    stream.write_all(b"\r\n\r\n").unwrap();
    let answer = read_answer(&mut stream);
    assert_eq!(answer.status, 431);
    assert_eq!(site.ask("GET", "/healthz", "").status, 200);
}

#[test]
fn bytes_that_are_no_http_close_the_connection() {
    let site = site(None, |_| {});
    let mut stream = site.connect();
    stream
        .write_all(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n")
        .unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert!(text.is_empty() || text.contains(" 400 "), "{text}");
}

#[test]
fn slow_and_silent_requests_are_cut() {
    let site = site(None, |limits| {
        limits.request_timeout = Duration::from_millis(300)
    });
    // A second request on a connection whose first one was well has no more time than a first one.
    let mut second = site.connect();
    assert_eq!(keep_alive(&mut second).status, 200);
    second.write_all(b"GET /hea").unwrap();
    let drain = "POST /api/v1/endpoints/[::1]:1883/drain HTTP/1.1\r\nHost: x\r\n";
    let half_body = format!("{drain}Content-Length: 9\r\n\r\nhalf");
    let begun = ["", "GET /hea", "GET /healthz HTTP/1.1\r\nHost:", &half_body];
    let mut streams = begun.map(|begun| {
        let mut stream = site.connect();
        stream.write_all(begun.as_bytes()).unwrap();
        (begun, stream)
    });
    assert!(is_closed(&mut second));
    for (begun, stream) in &mut streams {
        assert!(is_closed(stream), "{begun}");
    }
    assert!(site.source.drained.lock().unwrap().is_empty());
}

#[test]
fn idle_connections_outlive_the_request_timeout() {
    let site = site(None, |limits| {
        limits.request_timeout = Duration::from_millis(300)
    });
    let mut idle = site.connect();
    assert_eq!(keep_alive(&mut idle).status, 200);
    // Connected after the answer and cut for its silence: so the time to read a request has passed since.
    assert!(is_closed(&mut site.connect()));
    assert_eq!(keep_alive(&mut idle).status, 200);
}

#[test]
fn idle_connections_end_after_their_own_timeout() {
    let site = site(None, |limits| {
        limits.idle_timeout = Duration::from_millis(20)
    });
    let mut idle = site.connect();
    assert_eq!(keep_alive(&mut idle).status, 200);
    assert!(is_closed(&mut idle));
}

#[test]
fn client_that_reads_no_answer_is_cut() {
    let site = site(None, |limits| {
        limits.connections = 1;
        limits.idle_timeout = Duration::from_millis(300);
        limits.request_timeout = Duration::from_millis(300);
    });
    let mut stuck = site.connect();
    stuck.set_write_timeout(Some(NEVER)).unwrap();
    // Asks until the answers fill both ends' buffers; then the write fails because the server has cut.
    let request = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n".repeat(100);
    while stuck.write_all(&request).is_ok() {}
    assert_eq!(
        site.ask("GET", "/healthz", "").status,
        200,
        "the place is free again"
    );
}

#[test]
fn connection_over_the_limit_takes_the_place_of_idle_ones() {
    let site = site(None, |limits| limits.connections = 2);
    let mut idle = [site.connect(), site.connect()];
    for stream in &mut idle {
        assert_eq!(keep_alive(stream).status, 200);
    }
    assert_eq!(site.ask("GET", "/readyz", "").status, 200);
    for stream in &mut idle {
        assert!(is_closed(stream));
    }
}

#[test]
fn connection_over_the_limit_waits_for_busy_ones() {
    let site = site(None, |limits| {
        limits.connections = 1;
        limits.request_timeout = Duration::from_millis(300);
    });
    let mut busy = site.connect();
    busy.write_all(b"GET /hea").unwrap();
    assert_eq!(
        site.ask("GET", "/healthz", "").status,
        200,
        "served once the busy one is cut"
    );
    assert!(is_closed(&mut busy));
}

#[test]
fn stop_closes_idle_connections_and_frees_the_port() {
    let site = site(None, |_| {});
    let mut idle = site.connect();
    assert_eq!(keep_alive(&mut idle).status, 200);
    let settings = Settings {
        bind: site.addr,
        token: None,
    };
    assert!(bind(&settings).is_err(), "a taken port is an error of bind");
    site.handle.stop();
    assert!(is_closed(&mut idle));
    bind(&settings).unwrap();
}

#[test]
fn client_talks_to_the_server() {
    let site = site(Some("s3cret"), |_| {});
    let url = format!("http://{}", site.addr);
    let client = Client::new(&url, Some(Secret::new("s3cret".into()))).unwrap();
    assert!(status_table(&client.status().unwrap()).contains("lb-1"));
    assert!(pools_table(&client.pools().unwrap()).contains("[::1]:1883  half_open  yes"));
    assert!(members_table(&client.members().unwrap()).contains("lb-1"));
    let line = drain_line(&client.drain(broker(), Some("emqx"), true).unwrap());
    assert_eq!(line, "[::1]:1883 drains in emqx\n");
    client.drain(broker(), None, false).unwrap();
    let expected = vec![
        (broker(), Some("emqx".into()), true),
        (broker(), None, false),
    ];
    assert_eq!(*site.source.drained.lock().unwrap(), expected);
    let error = client
        .drain(broker(), Some("other & more"), true)
        .unwrap_err();
    assert_eq!(error.to_string(), "no pool of this name; try emqx (404)");
    let error = Client::new(&url, None).unwrap().pools().unwrap_err();
    assert!(matches!(error, ClientError::Unauthorized(_)), "{error:?}");
    site.handle.stop();
    let error = client.pools().unwrap_err();
    assert!(matches!(error, ClientError::Connect { .. }), "{error:?}");
}

#[test]
fn client_says_when_what_answers_is_not_http() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = listener.local_addr().unwrap().to_string();
    let broker = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"\x20\x02\x00\x00").unwrap();
    });
    let error = Client::new(&url, None).unwrap().pools().unwrap_err();
    assert!(matches!(error, ClientError::Exchange { .. }), "{error:?}");
    broker.join().unwrap();
}
