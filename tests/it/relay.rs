//! Connections through a running instance: what a client sees, what a broker sees, what is counted.

use crate::rig::Rig;
use crate::support::client::{Client, ConnectError, Door};
use crate::support::fake::{BlackHole, ClosedPort, FakeBroker, Script};
use crate::support::packet::{self, Connect, Version};
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

fn any() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

async fn broker(script: Script) -> FakeBroker {
    FakeBroker::start(any(), script).await.unwrap()
}

async fn read_to_end(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> Vec<u8> {
    let mut bytes = Vec::new();
    // A reset after the answer is an end as well.
    let _ended = tokio::time::timeout(
        std::time::Duration::from_secs(10),
        stream.read_to_end(&mut bytes),
    )
    .await
    .expect("the connection is closed");
    bytes
}

#[tokio::test]
async fn every_version_connects_plain_and_tls_and_the_connect_is_replayed_unchanged() {
    let broker = broker(Script::Serve).await;
    let rig = Rig::start(&[broker.addr()], "", "");
    rig.wait_eligible(1).await;
    let mut connection = broker.accepted();
    for door in [rig.plain(), rig.tls()] {
        for version in Version::ALL {
            let connect = Connect {
                username: Some("user".into()),
                password: Some(b"secret".to_vec()),
                will: Some(("will/topic".into(), b"gone".to_vec())),
                ..Connect::new(version, "replayed")
            };
            let mut client = Client::connect(&door, &connect).await.unwrap();
            client.ping().await.unwrap();
            let received = broker.received(connection);
            assert!(received.starts_with(&connect.bytes()), "{version:?}");
            client.disconnect().await.unwrap();
            connection += 1;
        }
    }
    rig.wait_closed("mqtt", "client_closed", 3.0).await;
    rig.wait_closed("mqtts", "client_closed", 3.0).await;
}

#[tokio::test]
async fn a_megabyte_passes_both_ways_through_tls_and_plain() {
    let broker = broker(Script::Echo).await;
    let rig = Rig::start(&[broker.addr()], "", "");
    for door in [rig.tcp(), rig.tcps()] {
        let mut stream = door.open().await.unwrap();
        let data: Vec<u8> = (0..1_000_000_u32).map(|n| (n % 251) as u8).collect();
        let mut back = vec![0; data.len()];
        let (mut reader, mut writer) = tokio::io::split(&mut stream);
        let (sent, received) = tokio::join!(writer.write_all(&data), reader.read_exact(&mut back));
        sent.unwrap();
        received.unwrap();
        assert!(back == data);
    }
}

#[tokio::test]
async fn clients_spread_evenly_over_three_endpoints() {
    let brokers = [
        broker(Script::Serve).await,
        broker(Script::Serve).await,
        broker(Script::Serve).await,
    ];
    let addrs: Vec<_> = brokers.iter().map(FakeBroker::addr).collect();
    let rig = Rig::start(&addrs, "", "");
    rig.wait_eligible(3).await;
    let mut clients = Vec::new();
    for index in 0..30 {
        clients.push(
            Client::connect(
                &rig.plain(),
                &Connect::new(Version::V5, &format!("c{index}")),
            )
            .await
            .unwrap(),
        );
    }
    assert_eq!(rig.connections().await, [10, 10, 10]);
}

#[tokio::test]
async fn an_endpoint_that_fails_is_bypassed_before_the_client_notices() {
    let closed = ClosedPort::new(any()).unwrap();
    for (script, failure) in [
        (Some(Script::Close), "closed_before_connack"),
        (Some(Script::CloseAfterConnect), "closed_before_connack"),
        (Some(Script::Connack(0x97)), "connack_unavailable"),
        (Some(Script::Connack(0x9c)), "connack_unavailable"),
        (Some(Script::Mute), "connack_timeout"),
        (
            Some(Script::Answer(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec())),
            "not_mqtt",
        ),
        (None, "refused"),
    ] {
        let good = broker(Script::Serve).await;
        let (bad_addr, _bad) = match script {
            Some(script) => {
                let bad = broker(script).await;
                (bad.addr(), Some(bad))
            }
            None => (closed.addr(), None),
        };
        let rig = Rig::start(&[bad_addr, good.addr()], "", "connack_timeout = \"100ms\"");
        rig.wait_eligible(if failure == "refused" { 1 } else { 2 })
            .await;
        let mut clients = Vec::new();
        for index in 0..4 {
            let connect = Connect::new(Version::V5, &format!("c{index}"));
            clients.push(
                Client::connect(&rig.plain(), &connect)
                    .await
                    .expect(failure),
            );
        }
        let failures = rig
            .metric(&format!(
                "tidegate_endpoint_connect_failures_total{{pool=\"brokers\",endpoint=\"{bad_addr}\",reason=\"{failure}\"}}"
            ))
            .await;
        assert!(
            failure == "refused" || failures >= 1.0,
            "{failure}: {failures}"
        );
    }
}

#[tokio::test]
async fn a_refusal_that_every_broker_would_give_reaches_the_client() {
    for (version, code) in [(Version::V5, 0x86), (Version::V311, 4)] {
        let broker = broker(Script::Connack(code)).await;
        let rig = Rig::start(&[broker.addr()], "", "");
        let refused = Client::connect(&rig.plain(), &Connect::new(version, "bad")).await;
        assert!(
            matches!(refused, Err(ConnectError::Refused(c)) if c == code),
            "{version:?}"
        );
        rig.wait_closed("mqtt", "connect_refused", 1.0).await;
        assert_eq!(broker.accepted(), 2, "one probe, one attempt");
    }
}

#[tokio::test]
async fn without_an_endpoint_the_client_is_told_that_the_server_is_unavailable() {
    let closed = ClosedPort::new(any()).unwrap();
    let rig = Rig::start(&[closed.addr()], "join_timeout = \"300ms\"", "");
    for (version, code) in [(Version::V5, 0x88), (Version::V311, 3), (Version::V31, 3)] {
        let refused = Client::connect(&rig.plain(), &Connect::new(version, "c")).await;
        assert!(
            matches!(refused, Err(ConnectError::Refused(c)) if c == code),
            "{version:?}"
        );
    }
}

#[tokio::test]
async fn a_black_hole_costs_one_dial_time_out() {
    let hole = BlackHole::new(any()).unwrap();
    let good = broker(Script::Serve).await;
    let rig = Rig::start(
        &[hole.addr(), good.addr()],
        "",
        "connect_timeout = \"100ms\"",
    );
    for index in 0..3 {
        Client::connect(
            &rig.plain(),
            &Connect::new(Version::V5, &format!("c{index}")),
        )
        .await
        .unwrap();
    }
}

#[tokio::test]
async fn hostile_first_bytes_are_closed_and_counted() {
    let broker = broker(Script::Serve).await;
    let rig = Rig::start(
        &[broker.addr()],
        "preface_timeout = \"300ms\"\npreface_bytes_max = \"1KiB\"",
        "",
    );
    let huge = [0x10, 0xff, 0xff, 0xff, 0x7f];
    for (bytes, reason, answer) in [
        (
            b"GET / HTTP/1.1\r\n\r\n".as_slice(),
            "not_mqtt",
            b"".as_slice(),
        ),
        (b"\x16\x03\x01\x02\x00\x01", "tls_on_plain_port", b""),
        (&huge, "preface_too_large", b""),
        (b"\x10\x0c\x00\x04MQTT\x04", "preface_timeout", b""),
        (b"", "preface_timeout", b""),
        (
            b"\x10\x0c\x00\x04MQTT\x03\x02\x00\x00\x00\x00",
            "unsupported_version",
            b"\x20\x02\x00\x01",
        ),
        (
            b"\x10\x0c\x00\x04MQTT\x04\x03\x00\x00\x00\x00",
            "malformed_connect",
            b"",
        ),
    ] {
        let mut stream = rig.plain().open().await.unwrap();
        stream.write_all(bytes).await.unwrap();
        assert_eq!(read_to_end(&mut stream).await, answer, "{reason}");
        rig.wait_closed("mqtt", reason, 1.0).await;
    }
    let mut stream = Door::plain(rig.addr("mqtts")).open().await.unwrap();
    stream
        .write_all(&Connect::new(Version::V5, "plain").bytes())
        .await
        .unwrap();
    read_to_end(&mut stream).await;
    rig.wait_closed("mqtts", "tls_failed", 1.0).await;
    // The front of a ClientHello, then a record of another kind: the alert is fetched over bytes that rustls has seen.
    let mut stream = Door::plain(rig.addr("mqtts")).open().await.unwrap();
    let interleaved = b"\x16\x03\x01\x00\x05\x01\x00\x01\x00\x03\x17\x03\x03\x00\x01\x00";
    stream.write_all(interleaved).await.unwrap();
    read_to_end(&mut stream).await;
    let mut stream = Door::plain(rig.addr("mqtts")).open().await.unwrap();
    stream.write_all(&interleaved[..10]).await.unwrap();
    stream.flush().await.unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    stream.write_all(&interleaved[10..]).await.unwrap();
    read_to_end(&mut stream).await;
    rig.wait_closed("mqtts", "tls_failed", 3.0).await;
}

#[tokio::test]
async fn a_connect_in_single_bytes_is_served() {
    let broker = broker(Script::Serve).await;
    let rig = Rig::start(&[broker.addr()], "", "");
    let mut stream = rig.plain().open().await.unwrap();
    for byte in Connect::new(Version::V5, "slow").bytes() {
        stream.write_all(&[byte]).await.unwrap();
        stream.flush().await.unwrap();
    }
    let connack = packet::read(&mut stream).await.unwrap().unwrap();
    assert_eq!(connack.connack_code().unwrap(), 0);
}

#[tokio::test]
async fn packets_behind_the_connect_arrive_even_when_the_client_has_closed() {
    let broker = broker(Script::Serve).await;
    let rig = Rig::start(&[broker.addr()], "", "");
    let mut bytes = Connect::new(Version::V311, "hasty").bytes();
    bytes.extend(packet::publish(
        Version::V311,
        "t",
        b"fire and forget",
        0,
        0,
    ));
    bytes.extend(packet::bare(packet::kind::DISCONNECT));
    rig.wait_eligible(1).await;
    let connection = broker.accepted();
    let mut stream = rig.plain().open().await.unwrap();
    stream.write_all(&bytes).await.unwrap();
    stream.shutdown().await.unwrap();
    assert_eq!(broker.wait_received(connection, bytes.len()).await, bytes);
}

#[tokio::test]
async fn an_idle_client_is_closed_by_its_own_keep_alive() {
    let broker = broker(Script::Connack(0)).await;
    let listener = "keep_alive_factor = 1.0\nkeep_alive_slack = \"0s\"\nidle_timeout = \"1h\"";
    let rig = Rig::start(&[broker.addr()], listener, "");
    let connect = Connect {
        keep_alive_s: 1,
        ..Connect::new(Version::V311, "idle")
    };
    let mut client = Client::connect(&rig.plain(), &connect).await.unwrap();
    assert_eq!(client.closed().await.unwrap(), b"");
    rig.wait_closed("mqtt", "idle_timeout", 1.0).await;
}

#[tokio::test]
async fn the_brokers_server_keep_alive_rules_over_the_clients() {
    // CONNACK, reason 0, properties: Server Keep Alive (0x13) 1 s.
    let broker = broker(Script::Answer(vec![0x20, 6, 0, 0, 3, 0x13, 0, 1])).await;
    let listener = "keep_alive_factor = 1.0\nkeep_alive_slack = \"0s\"";
    let rig = Rig::start(&[broker.addr()], listener, "");
    let connect = Connect {
        keep_alive_s: 600,
        ..Connect::new(Version::V5, "idle")
    };
    let mut client = Client::connect(&rig.plain(), &connect).await.unwrap();
    client.closed().await.unwrap();
    rig.wait_closed("mqtt", "idle_timeout", 1.0).await;
}

#[tokio::test]
async fn a_tcp_client_may_close_one_half_and_read_on() {
    let broker = broker(Script::Echo).await;
    let rig = Rig::start(&[broker.addr()], "", "");
    let mut stream = rig.tcp().open().await.unwrap();
    stream.write_all(b"half").await.unwrap();
    stream.shutdown().await.unwrap();
    assert_eq!(read_to_end(&mut stream).await, b"half");
    rig.wait_closed("tcp", "client_closed", 1.0).await;
}

#[tokio::test]
async fn a_broker_that_dies_closes_its_clients() {
    let broker = broker(Script::Serve).await;
    let rig = Rig::start(&[broker.addr()], "", "");
    let mut client = Client::connect(&rig.plain(), &Connect::new(Version::V5, "orphan"))
        .await
        .unwrap();
    broker.stop().await;
    client.closed().await.unwrap();
}

#[tokio::test]
async fn limits_per_address_close_and_count() {
    let broker = broker(Script::Serve).await;
    let rig = Rig::start(&[broker.addr()], "max_connections_per_address = 2", "");
    let connect = |id: &str| Connect::new(Version::V5, id);
    let _first = Client::connect(&rig.plain(), &connect("1")).await.unwrap();
    let _second = Client::connect(&rig.plain(), &connect("2")).await.unwrap();
    assert!(Client::connect(&rig.plain(), &connect("3")).await.is_err());
    let elsewhere = rig.plain().from("127.0.0.9".parse().unwrap());
    Client::connect(&elsewhere, &connect("4")).await.unwrap();
    rig.wait_closed("mqtt", "address_limit", 1.0).await;
}

#[tokio::test]
async fn a_drain_says_unready_first_then_closes_what_is_left_and_ends() {
    let broker = broker(Script::Serve).await;
    let more = "[drain]\ndelay = \"300ms\"\ngrace = \"0s\"\nrate = 1000\ntimeout = \"10s\"";
    let rig = Rig::start_with(&[broker.addr()], "", "", more);
    rig.wait_eligible(1).await;
    let mut client = Client::connect(&rig.plain(), &Connect::new(Version::V5, "drained"))
        .await
        .unwrap();
    assert_eq!(rig.get("/readyz").await.0, 200);
    rig.drain();
    crate::support::wait::until("the phase", || true).await;
    while rig.get("/readyz").await.0 == 200 {
        tokio::task::yield_now().await;
    }
    Client::connect(&rig.plain(), &Connect::new(Version::V5, "late"))
        .await
        .expect("accepted during the delay");
    client.closed().await.unwrap();
    drop(rig);
}

#[tokio::test]
async fn a_slow_reader_holds_back_its_broker_and_loses_nothing() {
    let broker = broker(Script::Echo).await;
    let rig = Rig::start(&[broker.addr()], "", "");
    let mut stream = rig.tcp().open().await.unwrap();
    let data = vec![7_u8; 4_000_000];
    let (mut reader, mut writer) = tokio::io::split(&mut stream);
    let send = async {
        writer.write_all(&data).await.unwrap();
        writer.shutdown().await.unwrap();
    };
    let receive = async {
        let mut total = 0;
        let mut piece = [0; 1500];
        loop {
            match reader.read(&mut piece).await.unwrap() {
                0 => break total,
                read => total += read,
            }
            tokio::task::yield_now().await;
        }
    };
    let ((), total) = tokio::join!(send, receive);
    assert_eq!(total, data.len());
}

/// Bytes that repeat nowhere near, different for each connection.
fn noise(seed: u32, length: usize) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_le_bytes()[3]
    };
    (0..length).map(|_| next()).collect()
}

#[tokio::test]
async fn bulk_transfers_side_by_side_lose_and_mix_nothing() {
    // More than a worker has pipes for; some readers pause, so that bytes wait in a pipe and pipes change hands.
    const LENGTH: usize = 1_000_000;
    let broker = broker(Script::Echo).await;
    let rig = Rig::start(&[broker.addr()], "", "");
    let mut transfers = tokio::task::JoinSet::new();
    for seed in 0..40_u32 {
        let door = if seed % 10 == 0 {
            rig.tcps()
        } else {
            rig.tcp()
        };
        transfers.spawn(async move {
            let data = noise(seed, LENGTH);
            let (mut reader, mut writer) = tokio::io::split(door.open().await.unwrap());
            let send = async {
                for piece in data.chunks(300_000) {
                    writer.write_all(piece).await.unwrap();
                    tokio::time::sleep(std::time::Duration::from_millis(u64::from(seed % 3))).await;
                }
                writer.shutdown().await.unwrap();
            };
            let receive = async {
                let mut got = Vec::with_capacity(LENGTH);
                let mut piece = vec![0; 70_000];
                loop {
                    let read = reader.read(&mut piece).await.unwrap();
                    if read == 0 {
                        break got;
                    }
                    got.extend_from_slice(&piece[..read]);
                    tokio::time::sleep(std::time::Duration::from_millis(u64::from(seed % 4 / 3)))
                        .await;
                }
            };
            let ((), got) = tokio::join!(send, receive);
            assert!(
                got == data,
                "connection {seed}: {} of {LENGTH} bytes, or others",
                got.len()
            );
        });
    }
    while let Some(transfer) = transfers.join_next().await {
        transfer.unwrap();
    }
    let sent = rig
        .metric("tidegate_client_sent_bytes_total{listener=\"tcp\"}")
        .await;
    assert!((sent - 36.0 * 1e6).abs() < 1.0, "{sent} bytes were counted");
}

#[tokio::test]
async fn a_client_that_has_left_is_not_counted_though_its_broker_says_nothing() {
    // As behind a cut network: it never sees the client's end.
    let broker = tokio::net::TcpListener::bind(any()).await.unwrap();
    let addr = broker.local_addr().unwrap();
    let mut deaf = tokio::task::JoinSet::new();
    deaf.spawn(async move {
        let mut held = Vec::new();
        loop {
            let (mut stream, _) = broker.accept().await.unwrap();
            let mut first = [0; 1];
            if stream.read(&mut first).await.is_ok_and(|read| read == 1) {
                let connack = packet::connack(Version::V5, 0);
                stream.write_all(&connack).await.unwrap();
            }
            held.push(stream);
        }
    });
    let rig = Rig::start(&[addr], "", "");
    let client = Client::connect(&rig.plain(), &Connect::new(Version::V5, "gone"))
        .await
        .unwrap();
    assert_eq!(rig.connections().await, [1]);
    drop(client);
    let joined = "tidegate_connections_joined{listener=\"mqtt\"}";
    let counted = "tidegate_endpoint_connections{pool=\"brokers\",endpoint=\"ADDR\",scope=\"own\"}"
        .replace("ADDR", &addr.to_string());
    rig.wait_metric(&counted, |count| count < 1.0).await;
    assert!(
        rig.metric(joined).await > 0.0,
        "the broker's side is still there"
    );
}

const BUFFERS_MAX: &str = "[limits]\nbuffers_max = \"256KiB\"";
const BUFFERS_MAX_BYTES: f64 = 256.0 * 1024.0;

#[tokio::test]
async fn slow_readers_together_stay_under_a_limit_and_nobody_else_notices() {
    let broker = broker(Script::Echo).await;
    let rig = Rig::start_with(&[broker.addr()], "", "", BUFFERS_MAX);
    let data = std::sync::Arc::new(vec![7_u8; 6_000_000]);
    let mut slow = tokio::task::JoinSet::new();
    for _ in 0..48 {
        let (addr, data) = (rig.addr("tcp"), std::sync::Arc::clone(&data));
        slow.spawn(async move {
            // A small window; more than what the kernel keeps for a socket, 4 MB, comes back to tidegate.
            let socket = tokio::net::TcpSocket::new_v4().unwrap();
            socket.set_recv_buffer_size(4096).unwrap();
            let mut stream = socket.connect(addr).await.unwrap();
            let _cut_off = stream.write_all(&data).await;
            std::future::pending::<()>().await;
        });
    }
    rig.wait_closed("tcp", "slow_consumer", 1.0).await;
    // Two pipes of 1 MiB may just have come on top.
    let held = rig.metric("tidegate_buffers_held_bytes").await;
    assert!(
        held <= BUFFERS_MAX_BYTES + 2.0 * 1024.0 * 1024.0,
        "{held} bytes are held"
    );

    let mut quick = rig.tcp().open().await.unwrap();
    quick.write_all(&data[..100_000]).await.unwrap();
    quick.read_exact(&mut vec![0; 100_000]).await.unwrap();

    drop(slow);
    rig.wait_metric("tidegate_buffers_held_bytes", |held| held < 1.0)
        .await;
}

/// A handshake, and what is below it: for records that no TLS library would send or hide.
async fn shake_hands(
    rig: &Rig,
    listener: &str,
) -> (tokio::net::TcpStream, rustls::ClientConnection) {
    let tcp = tokio::net::TcpStream::connect(rig.addr(listener))
        .await
        .unwrap();
    let connector = tokio_rustls::TlsConnector::from(rig.authority.client_config());
    let name = "localhost".try_into().unwrap();
    connector.connect(name, tcp).await.unwrap().into_inner()
}

#[tokio::test]
async fn over_the_limit_of_buffers_no_more_are_closed_than_needed() {
    // Each keeps the same: the larger part of a TLS record whose rest does not come.
    const CLIENTS: usize = 40;
    let broker = broker(Script::Echo).await;
    let rig = Rig::start_with(&[broker.addr()], "", "", BUFFERS_MAX);
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let (mut tcp, _) = shake_hands(&rig, "tcps").await;
        let mut record = vec![0; 12_000];
        record[..5].copy_from_slice(&[23, 3, 3, 0x40, 0]);
        tcp.write_all(&record).await.unwrap();
        clients.push(tcp);
    }
    rig.wait_closed("tcps", "slow_consumer", 1.0).await;
    // 21 of 12 000 bytes are under 256 KiB, if the allocator gives no more than asked for.
    let open = "tidegate_connections_open{listener=\"tcps\"}";
    rig.wait_metric(open, |open| (10.0..=22.0).contains(&open))
        .await;
    let held = rig.metric("tidegate_buffers_held_bytes").await;
    assert!(
        held > BUFFERS_MAX_BYTES / 2.0 && held <= BUFFERS_MAX_BYTES,
        "{held} bytes are held"
    );
}

#[tokio::test]
async fn the_instances_limit_is_shared_by_all_listeners_and_workers_and_makes_clients_wait() {
    let broker = broker(Script::Serve).await;
    let rig = Rig::start_with(&[broker.addr()], "", "", "[limits]\nmax_connections = 1");
    let connect = |id: &str| Connect::new(Version::V5, id);
    let first = Client::connect(&rig.tls(), &connect("1")).await.unwrap();
    let waiting = tokio_util::task::TaskTracker::new().spawn({
        let (door, connect) = (rig.plain(), connect("2"));
        async move { Client::connect(&door, &connect).await.is_ok() }
    });
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    assert!(
        !waiting.is_finished(),
        "there is no room for a second client"
    );
    first.disconnect().await.unwrap();
    assert!(
        waiting.await.unwrap(),
        "the first one's place is the second one's"
    );
}

#[tokio::test]
async fn tls_1_2_and_resumed_handshakes_are_served() {
    use tokio_rustls::rustls::{
        ClientConfig, RootCertStore, crypto::aws_lc_rs, pki_types, version,
    };
    let broker = broker(Script::Serve).await;
    let rig = Rig::start(&[broker.addr()], "", "");
    let mut roots = RootCertStore::empty();
    let pem = rig.authority.cert_pem.as_bytes();
    roots
        .add(pki_types::pem::PemObject::from_pem_slice(pem).unwrap())
        .unwrap();
    for version in [&version::TLS12, &version::TLS13] {
        let config = ClientConfig::builder_with_provider(aws_lc_rs::default_provider().into())
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots.clone())
            .with_no_client_auth();
        let door = Door::tls(rig.addr("mqtts"), "localhost", config.into());
        for id in ["full", "resumed"] {
            let mut client = Client::connect(&door, &Connect::new(Version::V5, id))
                .await
                .unwrap();
            client.ping().await.unwrap();
            client.disconnect().await.unwrap();
        }
    }
    let handshakes =
        |kind| format!("tidegate_tls_handshakes_total{{listener=\"mqtts\",kind=\"{kind}\"}}");
    for kind in ["full", "resumed"] {
        let count = rig.metric(&handshakes(kind)).await;
        assert!((count - 2.0).abs() < 0.5, "{kind}: {count}");
    }
}

#[tokio::test]
async fn a_tls_client_can_read_the_alert_between_handshake_and_connack() {
    use tokio_rustls::rustls::{AlertDescription, Error};
    let broker = broker(Script::Serve).await;
    let rig = Rig::start(&[broker.addr()], "", "");
    let (mut tcp, mut tls) = shake_hands(&rig, "mqtts").await;
    let mut junk = [0; 5 + 32];
    junk[..5].copy_from_slice(&[23, 3, 3, 0, 32]);
    tcp.write_all(&junk).await.unwrap();
    let mut answer = Vec::new();
    tcp.read_to_end(&mut answer).await.unwrap();
    tls.read_tls(&mut answer.as_slice()).unwrap();
    assert_eq!(
        tls.process_new_packets().unwrap_err(),
        Error::AlertReceived(AlertDescription::BadRecordMac)
    );
}

#[tokio::test]
async fn a_drained_tls_client_is_told_goodbye() {
    let broker = broker(Script::Serve).await;
    let rig = Rig::start(&[broker.addr()], "", "");
    let mut tls = rig.tls().open().await.unwrap();
    let connect = Connect::new(Version::V5, "drained").bytes();
    tls.write_all(&connect).await.unwrap();
    assert_eq!(tls.read_u8().await.unwrap(), 0x20);
    rig.drain();
    let mut rest = Vec::new();
    // An end without `close_notify` is an error to this reader.
    tls.read_to_end(&mut rest).await.unwrap();
}

#[tokio::test]
async fn one_bad_client_does_not_have_healthy_brokers_ejected() {
    // Both close on this client, as brokers do on an id that they do not like; both serve everybody else.
    let brokers = [broker(Script::Serve).await, broker(Script::Serve).await];
    let rig = Rig::start(
        &[brokers[0].addr(), brokers[1].addr()],
        "",
        "outlier = { failures = 2 }",
    );
    rig.wait_eligible(2).await;
    for index in 0..3 {
        for broker in &brokers {
            broker.set(Script::CloseAfterConnect);
        }
        let refused = Client::connect(
            &rig.plain(),
            &Connect::new(Version::V5, &format!("bad{index}")),
        )
        .await;
        assert!(refused.is_err());
        for broker in &brokers {
            broker.set(Script::Serve);
        }
    }
    rig.wait_eligible(2).await;
    let ejections =
        |addr| format!("tidegate_endpoint_ejections_total{{pool=\"brokers\",endpoint=\"{addr}\"}}");
    for broker in &brokers {
        assert!(rig.metric(&ejections(broker.addr())).await < 0.5);
    }
    Client::connect(&rig.plain(), &Connect::new(Version::V5, "good"))
        .await
        .unwrap();
}

#[tokio::test]
async fn clients_that_come_and_go_one_at_a_time_are_spread() {
    let brokers = [
        broker(Script::Serve).await,
        broker(Script::Serve).await,
        broker(Script::Serve).await,
    ];
    let addrs: Vec<_> = brokers.iter().map(FakeBroker::addr).collect();
    let rig = Rig::start(&addrs, "", "");
    rig.wait_eligible(3).await;
    for index in 0..30 {
        let client = Client::connect(
            &rig.plain(),
            &Connect::new(Version::V5, &format!("c{index}")),
        )
        .await
        .unwrap();
        client.disconnect().await.unwrap();
        rig.wait_closed("mqtt", "client_closed", f64::from(index + 1))
            .await;
    }
    for addr in addrs {
        let picks =
            format!("tidegate_endpoint_picks_total{{pool=\"brokers\",endpoint=\"{addr}\"}}");
        let picks = rig.metric(&picks).await;
        assert!((9.5..10.5).contains(&picks), "{addr}: {picks}");
    }
}
