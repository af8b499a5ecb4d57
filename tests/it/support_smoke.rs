//! The test support does what its names say, without tidegate in between.

use crate::support::brokers::Broker;
use crate::support::certs::{Authority, Identity};
use crate::support::client::{Client, ConnectError, Door};
use crate::support::fake::{BlackHole, ClosedPort, FakeBroker, Script};
use crate::support::packet::{self, Connect, Version};
use crate::support::wait;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, crypto};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

fn any() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

#[tokio::test]
async fn an_embedded_broker_passes_messages_in_both_versions_and_every_qos() {
    let broker = Broker::start(any()).expect("a broker");
    let door = Door::plain(broker.addr());
    for (version, id) in [(Version::V311, "v4"), (Version::V5, "v5")] {
        let mut client = Client::connect(&door, &Connect::new(version, id))
            .await
            .expect("connected");
        client.subscribe("a/+", 2).await.expect("subscribed");
        for qos in [0, 1, 2] {
            client
                .publish("a/b", &[qos; 300], qos)
                .await
                .expect("published");
            let message = client.receive().await.expect("a message");
            assert_eq!((message.payload, message.qos), (vec![qos; 300], qos));
        }
        client.ping().await.expect("a PINGRESP");
        assert_eq!(broker.connections(), 1);
        client.disconnect().await.expect("closed");
        wait::until("the broker sees the end", || broker.connections() == 0).await;
    }
    broker.stop().await;
}

#[tokio::test]
async fn a_killed_broker_closes_its_clients_and_frees_its_port() {
    let broker = Broker::start(any()).expect("a broker");
    let addr = broker.addr();
    let door = Door::plain(addr);
    let mut client = Client::connect(&door, &Connect::new(Version::V5, "c"))
        .await
        .expect("connected");
    broker.kill().await;
    client.closed().await.expect("an end");
    assert!(door.open().await.is_err());
    Broker::start(addr).expect("the same port").stop().await;
}

#[tokio::test]
async fn a_fake_broker_plays_its_script_and_records() {
    let fake = FakeBroker::start(any(), Script::Serve)
        .await
        .expect("a fake");
    let door = Door::plain(fake.addr());
    let connect = Connect::new(Version::V5, "c");

    fake.next(1, &Script::Close);
    let closed = Client::connect(&door, &connect).await;
    assert!(matches!(
        closed,
        Err(ConnectError::Closed | ConnectError::Io(_))
    ));

    fake.next(1, &Script::Connack(0x97));
    assert!(matches!(
        Client::connect(&door, &connect).await,
        Err(ConnectError::Refused(0x97))
    ));
    assert_eq!(fake.received(1), connect.bytes());

    for version in Version::ALL {
        let mut client = Client::connect(&door, &Connect::new(version, "c"))
            .await
            .expect("served");
        client.publish("t", b"", 2).await.expect("acknowledged");
        client.ping().await.expect("a PINGRESP");
        assert_eq!(fake.open(), 1);
        client.disconnect().await.expect("closed");
        fake.wait_open(0).await;
    }
    assert_eq!(fake.accepted(), 5);
    fake.stop().await;
}

#[tokio::test]
async fn a_closed_port_refuses_and_a_black_hole_does_not_answer() {
    let closed = ClosedPort::new(any()).expect("a port");
    let refused = TcpStream::connect(closed.addr())
        .await
        .expect_err("refused");
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);

    let hole = BlackHole::new(any()).expect("a hole");
    let attempt =
        tokio::time::timeout(Duration::from_millis(50), TcpStream::connect(hole.addr())).await;
    assert!(attempt.is_err());
}

fn acceptor(identity: &Identity) -> TlsAcceptor {
    let cert =
        CertificateDer::from_pem_slice(identity.cert_pem.as_bytes()).expect("a PEM certificate");
    let key = PrivateKeyDer::from_pem_slice(identity.key_pem.as_bytes()).expect("a PEM key");
    let config =
        ServerConfig::builder_with_provider(Arc::new(crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("TLS 1.2 and 1.3")
            .with_no_client_auth()
            .with_single_cert(vec![cert], key)
            .expect("a key of this certificate");
    TlsAcceptor::from(Arc::new(config))
}

#[tokio::test]
async fn a_client_speaks_tls_to_a_name_that_its_authority_signed_and_to_no_other() {
    let authority = Authority::new();
    let acceptor = acceptor(&authority.listener(&["mqtt.example.test"]));
    let listener = TcpListener::bind(any()).await.expect("a port");
    let addr = listener.local_addr().expect("an address");
    let serve = async {
        let (tcp, _) = listener.accept().await.expect("a client");
        let mut stream = acceptor.accept(tcp).await.expect("a handshake");
        let connect = packet::read(&mut stream)
            .await
            .expect("readable")
            .expect("a packet");
        assert_eq!(connect.connect_version().expect("a CONNECT"), Version::V5);
        stream
            .write_all(&packet::connack(Version::V5, 0))
            .await
            .expect("written");
        let (tcp, _) = listener.accept().await.expect("a second client");
        assert!(acceptor.accept(tcp).await.is_err());
    };
    let visit = async {
        let door = Door::tls(addr, "mqtt.example.test", authority.client_config());
        Client::connect(&door, &Connect::new(Version::V5, "c"))
            .await
            .expect("connected");
        let wrong = Door::tls(addr, "other.example.test", authority.client_config());
        assert!(wrong.open().await.is_err());
    };
    tokio::join!(serve, visit);
}
