//! The mqtt probe: CONNECT, CONNACK, DISCONNECT, as a client would.
//!
//! | CONNACK v5 | v3 | read as |
//! |---|---|---|
//! | 0x00 | 0 | up |
//! | 0x88 server unavailable, 0x89 busy, 0x97 quota exceeded, 0x9f connection rate exceeded | 3 | full: alive, a later probe may find room |
//! | 0x9c use another server, 0x9d server moved | - | draining |
//! | 0x85 client id, 0x86 user or password, 0x87 not authorized, 0x8a banned, 0x8c method | 2, 4, 5 | up, with advice |
//! | everything else | | down |
//!
//! Advice and not down: the broker works and refuses the probe's identity. A probe password that somebody changed
//! on the brokers is wrong on all of them at once and would take down the whole tier; a warning is in proportion.
//!
//! Absent on purpose: properties, enhanced authentication, subscriptions.

use super::dial::{self, Deadline};
use super::outcome::{Failure, Outcome};
use super::wire::{self, Reply};
use super::{ProxyHeader, wire::Connect};
use crate::logic::endpoint::EndpointId;
use crate::logic::event::ProbeResult;
use crate::logic::probers::endpoint_key;
use crate::logic::secret::Secret;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Most bytes read in wait for a decision about the first packet.
const REPLY_BYTES_MAX: usize = 1024;

/// The broker forgets a probe that vanished after 1.5 times this.
const KEEP_ALIVE_S: u16 = 10;

/// Who asks.
#[derive(Clone, Copy)]
pub(super) struct Login<'a> {
    /// 4 or 5.
    pub(super) version: u8,
    pub(super) client_id: &'a str,
    pub(super) username: Option<&'a str>,
    pub(super) password: Option<&'a Secret>,
}

/// The client id of a probe of one endpoint of one pool. Brokers of one cluster know each other's clients and end
/// the older of two connections with one id, so two checkers never share an id: the instance is in `configured`,
/// the pool and the endpoint in the suffix.
pub(super) fn client_id(configured: &str, pool: &str, endpoint: EndpointId) -> String {
    let suffix = xxh3_64_with_seed(pool.as_bytes(), endpoint_key(endpoint)) >> 32;
    format!("{configured}-{suffix:08x}")
}

/// Logs in and out.
pub(super) async fn probe(
    endpoint: EndpointId,
    login: Login<'_>,
    header: ProxyHeader,
    deadline: &Deadline,
) -> Result<Outcome, Failure> {
    let connect = Connect {
        version: login.version,
        client_id: login.client_id,
        username: login.username,
        password: login.password,
        keep_alive_s: KEEP_ALIVE_S,
    };
    let Some(packet) = wire::connect(&connect) else {
        return Err(Failure::Local(
            "a field of the probe's CONNECT is too long".to_owned(),
        ));
    };
    let mut stream = dial::open(endpoint.addr(), header, deadline).await?;
    dial::send(&mut stream, &packet, deadline).await?;
    let code = read_code(&mut stream, login.version, deadline).await?;
    let outcome = judge(login.version, code, deadline.elapsed());
    // After a CONNACK that refuses, the broker closes and reads nothing more [MQTT-3.2.2-7]. After a good one the
    // DISCONNECT makes the end a normal one: brokers log a bare FIN as an error, at every probe.
    if code == 0
        && dial::send(&mut stream, wire::DISCONNECT, deadline)
            .await
            .is_err()
    {
        return outcome;
    }
    dial::close(stream, deadline).await;
    outcome
}

async fn read_code(
    stream: &mut TcpStream,
    version: u8,
    deadline: &Deadline,
) -> Result<u8, Failure> {
    let mut received = Vec::with_capacity(64);
    loop {
        match wire::first_reply(&received, version, REPLY_BYTES_MAX) {
            Reply::Connack(code) => return Ok(code),
            Reply::Other(0x20) => return Err(Failure::Answer("malformed CONNACK".to_owned())),
            Reply::Other(byte) => {
                return Err(Failure::Answer(format!("no MQTT: first byte {byte:#04x}")));
            }
            Reply::Incomplete if received.len() >= REPLY_BYTES_MAX => {
                return Err(Failure::Answer("CONNACK too long".to_owned()));
            }
            Reply::Incomplete => {}
        }
        let room = REPLY_BYTES_MAX - received.len();
        let mut limited = (&mut *stream).take(u64::try_from(room).unwrap_or(0));
        match deadline
            .bound("CONNACK", limited.read_buf(&mut received))
            .await?
        {
            // The sign of a broker at its connection limit; also of one that crashes. Nobody can tell from here.
            Ok(0) => return Err(Failure::Answer("closed before CONNACK".to_owned())),
            Ok(_) => {}
            Err(error) => return Err(Failure::io("CONNACK", &error)),
        }
    }
}

/// The table of the file's header.
fn judge(version: u8, code: u8, took: Duration) -> Result<Outcome, Failure> {
    let reason = || format!("CONNACK {code:#04x}{}", name(version, code));
    match (version, code) {
        (_, 0) => Ok(ProbeResult::Up(took).into()),
        (5, 0x88 | 0x89 | 0x97 | 0x9f) | (4, 3) => Ok(ProbeResult::Full(reason()).into()),
        (5, 0x9c | 0x9d) => Ok(ProbeResult::Draining(reason()).into()),
        (5, 0x85 | 0x86 | 0x87 | 0x8a | 0x8c) | (4, 2 | 4 | 5) => Ok(Outcome::Verdict {
            result: ProbeResult::Up(took),
            advice: Some(format!(
                "the broker refuses the probe's identity: {}; check client_id, username and password of the probe",
                reason()
            )),
        }),
        _ => Err(Failure::Answer(reason())),
    }
}

/// The words of MQTT 5.0 §3.2.2.2 and MQTT 3.1.1 §3.2.2.3, for the codes that a probe meets.
const fn name(version: u8, code: u8) -> &'static str {
    match (version, code) {
        // A 3.1.1 broker answers a v5 CONNECT in its own language: [MQTT-3.1.2-2].
        (_, 0x01) | (5, 0x84) => " unsupported protocol version",
        (4, 2) | (5, 0x85) => " client identifier not valid",
        (4, 3) | (5, 0x88) => " server unavailable",
        (4, 4) | (5, 0x86) => " bad user name or password",
        (4, 5) | (5, 0x87) => " not authorized",
        (5, 0x80) => " unspecified error",
        (5, 0x81) => " malformed packet",
        (5, 0x82) => " protocol error",
        (5, 0x83) => " implementation specific error",
        (5, 0x89) => " server busy",
        (5, 0x8a) => " banned",
        (5, 0x8c) => " bad authentication method",
        (5, 0x97) => " quota exceeded",
        (5, 0x9c) => " use another server",
        (5, 0x9d) => " server moved",
        (5, 0x9f) => " connection rate exceeded",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::super::outcome::Kind;
    use super::super::testing::{Fake, closed_port, impatient, patient};
    use super::*;
    use std::net::SocketAddr;

    const LOGIN: Login<'_> = Login {
        version: 5,
        client_id: "probe-1",
        username: None,
        password: None,
    };

    /// The CONNECT of [`LOGIN`], byte by byte from MQTT 5.0 §3.1.
    const CONNECT_V5: &[u8] = b"\x10\x14\x00\x04MQTT\x05\x02\x00\x0a\x00\x00\x07probe-1";

    /// Reads `connect_bytes`, answers, reads on to the end.
    async fn exchange(
        login: Login<'_>,
        header: ProxyHeader,
        connect_bytes: usize,
        reply: &[u8],
    ) -> (Vec<u8>, Outcome) {
        let fake = Fake::bind().await;
        let deadline = patient();
        let (received, outcome) = tokio::join!(
            fake.serve(|received| received.len() >= connect_bytes, reply),
            probe(fake.addr().into(), login, header, &deadline)
        );
        (received, outcome.into())
    }

    #[track_caller]
    fn down_reason(outcome: Outcome) -> String {
        match outcome {
            Outcome::Verdict {
                result: ProbeResult::Down(reason),
                ..
            } => reason,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn a_good_connack_is_up_and_says_goodbye() {
        let (received, outcome) = exchange(
            LOGIN,
            ProxyHeader::None,
            CONNECT_V5.len(),
            b"\x20\x03\x00\x00\x00",
        )
        .await;
        assert_eq!(Kind::of(&outcome), Kind::Up, "{outcome:?}");
        assert_eq!(received, [CONNECT_V5, b"\xe0\x00"].concat());
    }

    #[tokio::test]
    async fn version_4_and_credentials_are_in_the_connect() {
        let password = Secret::new("secret".to_owned());
        let login = Login {
            version: 4,
            username: Some("me"),
            password: Some(&password),
            ..LOGIN
        };
        let connect =
            b"\x10\x1f\x00\x04MQTT\x04\xc2\x00\x0a\x00\x07probe-1\x00\x02me\x00\x06secret";
        let (received, outcome) =
            exchange(login, ProxyHeader::None, connect.len(), b"\x20\x02\x00\x00").await;
        assert_eq!(Kind::of(&outcome), Kind::Up, "{outcome:?}");
        assert_eq!(received, [connect, &b"\xe0\x00"[..]].concat());
    }

    #[tokio::test]
    async fn the_proxy_header_comes_before_the_connect() {
        let header = b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x03\x04\x00\x00";
        let expected = [header, CONNECT_V5].concat();
        let (received, outcome) = exchange(
            LOGIN,
            ProxyHeader::V2,
            expected.len(),
            b"\x20\x03\x00\x00\x00",
        )
        .await;
        assert_eq!(Kind::of(&outcome), Kind::Up, "{outcome:?}");
        assert_eq!(received[..expected.len()], expected);
    }

    #[tokio::test]
    async fn a_refusal_reads_as_its_code_says() {
        for (reply, expected) in [
            (&b"\x20\x03\x00\x97\x00"[..], Kind::Full),
            (b"\x20\x03\x00\x9c\x00", Kind::Draining),
            (b"\x20\x03\x00\x86\x00", Kind::Up),
            (b"\x20\x03\x00\x80\x00", Kind::Down),
            (b"\x20\x02\x00\x01", Kind::Down),
        ] {
            let (received, outcome) =
                exchange(LOGIN, ProxyHeader::None, CONNECT_V5.len(), reply).await;
            assert_eq!(Kind::of(&outcome), expected, "{reply:02x?}: {outcome:?}");
            assert_eq!(received, CONNECT_V5, "no DISCONNECT after a refusal");
        }
    }

    #[tokio::test]
    async fn what_is_no_connack_is_down() {
        let endless = [b'\x20', 0xff, 0xff, 0xff, 0xff].repeat(1000);
        for (reply, expected) in [
            (
                &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..],
                "no MQTT: first byte 0x48",
            ),
            (b"\xf0\x02\x18\x00", "no MQTT: first byte 0xf0"),
            (b"\x20\x01\x00", "malformed CONNACK"),
            (&endless, "malformed CONNACK"),
            (b"\x20\x02\x00", "closed before CONNACK"),
            (b"", "closed before CONNACK"),
        ] {
            let (_, outcome) = exchange(LOGIN, ProxyHeader::None, CONNECT_V5.len(), reply).await;
            assert_eq!(down_reason(outcome), expected);
        }
    }

    #[tokio::test]
    async fn a_silent_broker_is_down_at_the_deadline() {
        let fake = Fake::bind().await;
        let deadline = impatient();
        let (_, outcome) = tokio::join!(
            fake.serve(|_| false, b""),
            probe(fake.addr().into(), LOGIN, ProxyHeader::None, &deadline)
        );
        assert_eq!(down_reason(outcome.into()), "CONNACK timed out after 50ms");
    }

    #[tokio::test]
    async fn a_closed_port_is_refused() {
        let deadline = patient();
        let outcome = probe(closed_port().into(), LOGIN, ProxyHeader::None, &deadline).await;
        assert_eq!(down_reason(outcome.into()), "connect refused");
    }

    #[test]
    fn every_code_has_its_verdict() {
        for code in 0..=u8::MAX {
            let v5 = match code {
                0 | 0x85 | 0x86 | 0x87 | 0x8a | 0x8c => Kind::Up,
                0x88 | 0x89 | 0x97 | 0x9f => Kind::Full,
                0x9c | 0x9d => Kind::Draining,
                _ => Kind::Down,
            };
            let v4 = match code {
                0 | 2 | 4 | 5 => Kind::Up,
                3 => Kind::Full,
                _ => Kind::Down,
            };
            for (version, expected) in [(5, v5), (4, v4)] {
                let outcome = Outcome::from(judge(version, code, Duration::ZERO));
                assert_eq!(Kind::of(&outcome), expected, "v{version} {code:#04x}");
                let advice = matches!(
                    &outcome,
                    Outcome::Verdict {
                        advice: Some(_),
                        ..
                    }
                );
                assert_eq!(
                    advice,
                    expected == Kind::Up && code != 0,
                    "v{version} {code:#04x}"
                );
            }
        }
        assert_eq!(
            judge(5, 0x80, Duration::ZERO).unwrap_err().to_string(),
            "CONNACK 0x80 unspecified error"
        );
        assert_eq!(
            judge(4, 0x77, Duration::ZERO).unwrap_err().to_string(),
            "CONNACK 0x77"
        );
    }

    #[test]
    fn client_ids_differ_by_endpoint_and_pool() {
        let one: EndpointId = SocketAddr::from(([127, 0, 0, 1], 1883)).into();
        let other: EndpointId = SocketAddr::from(([127, 0, 0, 1], 1884)).into();
        let mut ids = vec![
            client_id("tidegate-probe-lb-1", "a", one),
            client_id("tidegate-probe-lb-1", "a", other),
            client_id("tidegate-probe-lb-1", "b", one),
            client_id("tidegate-probe-lb-2", "a", one),
        ];
        assert!(ids[0].starts_with("tidegate-probe-lb-1-"));
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), 4);
    }
}
