//! The http probe: a GET whose status is the verdict.
//!
//! Made for EMQX's availability check: 200 = up, 503 = evacuating, that is drain and not down, 404 = this broker has
//! no such check, ask `/status`. The status decides; the body is only read for its words, and never waited for long.
//!
//! Absent on purpose: redirects, keep-alive between probes (a fresh connect is part of the question), TLS.

use super::ProxyHeader;
use super::dial::{self, Deadline};
use super::outcome::{Failure, REASON_BYTES_MAX, printable};
use crate::logic::endpoint::Target;
use crate::logic::event::ProbeResult;
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, HOST, HeaderValue, USER_AGENT};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::future::pending;
use std::net::SocketAddr;
use std::time::Duration;

/// Most bytes of status line and headers, and of one piece of a body. hyper takes no less.
const HEAD_BYTES_MAX: usize = 8 * 1024;

/// Most header lines.
const HEADERS_MAX: usize = 64;

/// Most bytes of a body that are read.
const BODY_BYTES_MAX: usize = 8 * 1024;

/// What is asked; the fields of [`Probe::Http`](super::Probe::Http).
#[derive(Clone, Copy, Debug)]
pub(super) struct Question<'a> {
    pub(super) path: &'a str,
    pub(super) port: Option<u16>,
    pub(super) expected_status: u16,
    pub(super) drain_status: Option<u16>,
    pub(super) fallback_path: Option<&'a str>,
    /// The pool's; sent only to the pool's own port, because no other port of a broker expects it.
    pub(super) header: ProxyHeader,
}

struct Answer {
    status: u16,
    took: Duration,
    words: String,
}

/// Asks, and asks again on the fallback path after a 404. Both within one deadline.
pub(super) async fn probe(
    target: &Target,
    question: Question<'_>,
    deadline: &Deadline,
) -> Result<ProbeResult, Failure> {
    let answer = get(target, question, question.path, deadline).await?;
    let status = answer.status;
    if status == question.expected_status {
        return Ok(ProbeResult::Up(answer.took));
    }
    if Some(status) == question.drain_status {
        return Ok(ProbeResult::Draining(in_words(&answer)));
    }
    match question.fallback_path {
        Some(path) if status == StatusCode::NOT_FOUND => {
            let answer = get(target, question, path, deadline).await?;
            if answer.status == StatusCode::OK {
                Ok(ProbeResult::Up(answer.took))
            } else {
                Err(Failure::Answer(format!("{path}: {}", in_words(&answer))))
            }
        }
        _ => Err(Failure::Answer(in_words(&answer))),
    }
}

fn in_words(answer: &Answer) -> String {
    let text = if answer.words.is_empty() {
        format!("status {}", answer.status)
    } else {
        format!("status {}: {}", answer.status, answer.words)
    };
    printable(text.as_bytes())
}

/// One request on a connection of its own.
async fn get(
    target: &Target,
    question: Question<'_>,
    path: &str,
    deadline: &Deadline,
) -> Result<Answer, Failure> {
    let own_port = target.id.addr().port();
    let port = question.port.unwrap_or(own_port);
    let header = if port == own_port {
        question.header
    } else {
        ProxyHeader::None
    };
    let addr = SocketAddr::new(target.id.addr().ip(), port);

    let request = Request::get(path)
        .header(HOST, host(&target.name, addr))
        .header(USER_AGENT, "tidegate")
        .header(CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|_| Failure::Local(format!("{path} is no path of a URL")))?;

    let stream = dial::open(addr, header, deadline).await?;
    let mut builder = http1::Builder::new();
    builder
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX);
    let opened = deadline
        .bound("response", builder.handshake(TokioIo::new(stream)))
        .await?;
    let (mut sender, connection) = opened.map_err(|error| broken(&error))?;

    let exchange = async {
        let sent = deadline
            .bound("response", sender.send_request(request))
            .await?;
        let response = sent.map_err(|error| broken(&error))?;
        let status = response.status().as_u16();
        let took = deadline.elapsed();
        let mut words = Vec::new();
        deadline
            .courtesy(read_words(response.into_body(), &mut words))
            .await;
        Ok(Answer {
            status,
            took,
            words: printable(&words),
        })
    };
    // hyper's connection has to be polled beside the request, which is also where its errors come out.
    let driver = async {
        drop(connection.await);
        pending::<Infallible>().await
    };
    tokio::select! {
        answer = exchange => answer,
        never = driver => match never {},
    }
}

/// Reads the body to its end or its limit, and keeps the part that can be shown.
async fn read_words(mut body: Incoming, words: &mut Vec<u8>) {
    let mut left = BODY_BYTES_MAX;
    while let Some(Ok(frame)) = body.frame().await {
        let Some(data) = frame.data_ref() else {
            continue;
        };
        let wanted = (2 * REASON_BYTES_MAX)
            .saturating_sub(words.len())
            .min(data.len());
        words.extend_from_slice(&data[..wanted]);
        left = left.saturating_sub(data.len());
        if left == 0 {
            return;
        }
    }
}

/// RFC 9110 §7.2: the name that led to the endpoint, or its address.
fn host(name: &str, addr: SocketAddr) -> HeaderValue {
    let name = name.trim_end_matches('.');
    let text = if name.is_empty() {
        addr.to_string()
    } else {
        format!("{name}:{}", addr.port())
    };
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static("endpoint"))
}

fn broken(error: &hyper::Error) -> Failure {
    // hyper's own words are short ("connection closed before message completed"); the cause below them matters only
    // when it is the socket's.
    match std::error::Error::source(error).and_then(|source| source.downcast_ref()) {
        Some(cause) => Failure::io("response", cause),
        None => Failure::Broken {
            step: "response",
            what: format!("unreadable: {error}"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Fake, closed_port, impatient, patient};
    use super::*;

    const QUESTION: Question<'_> = Question {
        path: "/check",
        port: None,
        expected_status: 200,
        drain_status: Some(503),
        fallback_path: Some("/status"),
        header: ProxyHeader::None,
    };

    fn asked(received: &[u8]) -> bool {
        received.ends_with(b"\r\n\r\n")
    }

    fn target(addr: SocketAddr) -> Target {
        Target::plain(addr.into())
    }

    /// One request, one reply.
    async fn ask(question: Question<'_>, reply: &[u8]) -> (String, Result<ProbeResult, Failure>) {
        let fake = Fake::bind().await;
        let target = target(fake.addr());
        let deadline = patient();
        let (received, result) = tokio::join!(
            fake.serve(asked, reply),
            probe(&target, question, &deadline)
        );
        (String::from_utf8_lossy(&received).into_owned(), result)
    }

    #[tokio::test]
    async fn the_expected_status_is_up() {
        let fake = Fake::bind().await;
        let mut target = target(fake.addr());
        target.name = "emqx.internal.".to_owned();
        let deadline = patient();
        let (received, result) = tokio::join!(
            fake.serve(asked, b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"),
            probe(&target, QUESTION, &deadline)
        );
        assert!(matches!(result, Ok(ProbeResult::Up(_))), "{result:?}");
        let port = fake.addr().port();
        assert_eq!(
            String::from_utf8(received).unwrap(),
            format!(
                "GET /check HTTP/1.1\r\nhost: emqx.internal:{port}\r\nuser-agent: tidegate\r\nconnection: close\r\n\r\n"
            )
        );
    }

    #[tokio::test]
    async fn evacuation_is_drain_with_the_words_of_the_broker() {
        let reply =
            b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 15\r\n\r\nNODE_EVACUATING";
        let (_, result) = ask(QUESTION, reply).await;
        assert_eq!(
            result.unwrap(),
            ProbeResult::Draining("status 503: NODE_EVACUATING".to_owned())
        );
        let strict = Question {
            drain_status: None,
            ..QUESTION
        };
        let (_, result) = ask(strict, reply).await;
        assert_eq!(
            result.unwrap_err().to_string(),
            "status 503: NODE_EVACUATING"
        );
    }

    #[tokio::test]
    async fn other_statuses_are_down() {
        for (reply, expected) in [
            (
                &b"HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n"[..],
                "status 500",
            ),
            (b"HTTP/1.1 204 No Content\r\n\r\n", "status 204"),
            (
                b"HTTP/1.1 302 Found\r\nlocation: /\r\ncontent-length: 0\r\n\r\n",
                "status 302",
            ),
        ] {
            let (_, result) = ask(QUESTION, reply).await;
            assert_eq!(result.unwrap_err().to_string(), expected);
        }
    }

    #[tokio::test]
    async fn the_fallback_is_asked_after_404() {
        const NOT_FOUND: &[u8] = b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n";
        for (second, expected) in [
            (&b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"[..], None),
            (
                b"HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n",
                Some("/status: status 503"),
            ),
            (NOT_FOUND, Some("/status: status 404")),
        ] {
            let fake = Fake::bind().await;
            let target = target(fake.addr());
            let deadline = patient();
            let served = async {
                let first = fake.serve(asked, NOT_FOUND).await;
                (first, fake.serve(asked, second).await)
            };
            let (received, result) = tokio::join!(served, probe(&target, QUESTION, &deadline));
            assert!(received.0.starts_with(b"GET /check "));
            assert!(received.1.starts_with(b"GET /status "));
            match expected {
                None => assert!(matches!(result, Ok(ProbeResult::Up(_))), "{result:?}"),
                Some(reason) => assert_eq!(result.unwrap_err().to_string(), reason),
            }
        }
        let without = Question {
            fallback_path: None,
            ..QUESTION
        };
        let (_, result) = ask(without, NOT_FOUND).await;
        assert_eq!(result.unwrap_err().to_string(), "status 404");
    }

    #[tokio::test]
    async fn a_huge_body_is_cut_and_shown_in_part() {
        let mut reply = b"HTTP/1.1 503 Busy\r\ncontent-length: 10000000\r\n\r\n".to_vec();
        reply.extend(b"x".repeat(4_000_000));
        let (_, result) = ask(QUESTION, &reply).await;
        let Ok(ProbeResult::Draining(reason)) = result else {
            panic!("{result:?}")
        };
        assert_eq!(reason.len(), REASON_BYTES_MAX);
        assert!(reason.starts_with("status 503: xxx"));
    }

    #[tokio::test]
    async fn garbage_and_endless_headers_are_down() {
        let endless = [&b"HTTP/1.1 200 OK\r\n"[..], &b"a: b\r\n".repeat(100_000)].concat();
        let long = [&b"HTTP/1.1 200 OK\r\na: "[..], &b"b".repeat(1_000_000)].concat();
        for reply in [
            &b"\x20\x02\x00\x00 not http at all\r\n\r\n"[..],
            b"",
            &endless,
            &long,
        ] {
            let (_, result) = ask(QUESTION, reply).await;
            let reason = result.unwrap_err().to_string();
            assert!(reason.starts_with("response "), "{reason}");
        }
    }

    #[tokio::test]
    async fn silence_is_down_at_the_deadline() {
        let fake = Fake::bind().await;
        let target = target(fake.addr());
        let deadline = impatient();
        let (_, result) = tokio::join!(
            fake.serve(|_| false, b""),
            probe(&target, QUESTION, &deadline)
        );
        assert_eq!(
            result.unwrap_err().to_string(),
            "response timed out after 50ms"
        );
    }

    #[tokio::test]
    async fn another_port_is_asked_without_a_proxy_header() {
        let fake = Fake::bind().await;
        let deadline = patient();
        let target = target(closed_port());
        let question = Question {
            port: Some(fake.addr().port()),
            header: ProxyHeader::V2,
            ..QUESTION
        };
        let reply = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
        let (received, result) = tokio::join!(
            fake.serve(asked, reply),
            probe(&target, question, &deadline)
        );
        assert!(matches!(result, Ok(ProbeResult::Up(_))), "{result:?}");
        assert!(received.starts_with(b"GET "));
    }

    #[tokio::test]
    async fn the_pools_own_port_gets_the_proxy_header() {
        let question = Question {
            header: ProxyHeader::V2,
            ..QUESTION
        };
        let reply = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
        let (received, result) = ask(question, reply).await;
        assert!(matches!(result, Ok(ProbeResult::Up(_))), "{result:?}");
        assert!(received.starts_with("\r\n\r\n\0\r\nQUIT\n"), "{received:?}");
    }

    #[test]
    fn the_host_header_is_the_name_or_the_address() {
        let v4 = SocketAddr::from(([127, 0, 0, 1], 18083));
        let v6 = SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, 18083));
        for (name, addr, expected) in [
            ("emqx.internal", v4, "emqx.internal:18083"),
            ("emqx.internal.", v4, "emqx.internal:18083"),
            ("", v4, "127.0.0.1:18083"),
            ("", v6, "[::1]:18083"),
            ("a\nb", v4, "endpoint"),
        ] {
            assert_eq!(host(name, addr), expected);
        }
    }
}
