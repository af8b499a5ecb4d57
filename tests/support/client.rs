//! An MQTT client that does one thing at a time and shows every byte, over TCP or TLS.
//!
//! Absent: keep-alive by itself, reconnects, sessions. Everything is bounded by `wait::DEADLINE`.

use super::packet::{self, Connect, Packet, Published, Version, kind};
use super::wait::within;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;

/// Both halves of a connection, whatever it is made of.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Where and how to connect.
#[derive(Clone)]
pub struct Door {
    addr: SocketAddr,
    local: Option<IpAddr>,
    tls: Option<(Arc<ClientConfig>, String)>,
}

impl Door {
    pub fn plain(addr: SocketAddr) -> Self {
        Self {
            addr,
            local: None,
            tls: None,
        }
    }

    /// `name` is sent as SNI and checked against the certificate.
    pub fn tls(addr: SocketAddr, name: &str, config: Arc<ClientConfig>) -> Self {
        Self {
            addr,
            local: None,
            tls: Some((config, name.to_owned())),
        }
    }

    /// The address that the connection comes from.
    pub fn from(mut self, local: IpAddr) -> Self {
        self.local = Some(local);
        self
    }

    /// Connects, and shakes hands where TLS is asked for.
    pub async fn open(&self) -> io::Result<Box<dyn Stream>> {
        within("connect", async {
            let tcp = self.tcp().await?;
            let Some((config, name)) = &self.tls else {
                return Ok(Box::new(tcp) as Box<dyn Stream>);
            };
            let name = ServerName::try_from(name.clone()).map_err(io::Error::other)?;
            let stream = TlsConnector::from(Arc::clone(config))
                .connect(name, tcp)
                .await?;
            Ok(Box::new(stream) as Box<dyn Stream>)
        })
        .await
    }

    async fn tcp(&self) -> io::Result<TcpStream> {
        let socket = if self.addr.is_ipv4() {
            TcpSocket::new_v4()?
        } else {
            TcpSocket::new_v6()?
        };
        if let Some(local) = self.local {
            socket.bind(SocketAddr::new(local, 0))?;
        }
        let stream = socket.connect(self.addr).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

/// Why no session came about.
#[derive(Debug)]
pub enum ConnectError {
    /// A CONNACK with this code.
    Refused(u8),
    /// Closed without a CONNACK.
    Closed,
    /// Reset, timed out, or no MQTT.
    Io(io::Error),
}

impl From<io::Error> for ConnectError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// A connected client.
pub struct Client {
    stream: Box<dyn Stream>,
    version: Version,
    id: u16,
    inbox: VecDeque<Published>,
}

impl Client {
    /// Connects and waits for the CONNACK.
    pub async fn connect(door: &Door, connect: &Connect) -> Result<Self, ConnectError> {
        let mut stream = door.open().await?;
        stream.write_all(&connect.bytes()).await?;
        stream.flush().await?;
        match within("CONNACK", packet::read(&mut stream)).await? {
            None => Err(ConnectError::Closed),
            Some(packet) => match packet.connack_code()? {
                0 => Ok(Self {
                    stream,
                    version: connect.version,
                    id: 0,
                    inbox: VecDeque::new(),
                }),
                code => Err(ConnectError::Refused(code)),
            },
        }
    }

    /// Publishes and completes the handshake of its QoS.
    pub async fn publish(&mut self, topic: &str, payload: &[u8], qos: u8) -> io::Result<()> {
        let id = self.next_id();
        self.send(&packet::publish(self.version, topic, payload, qos, id))
            .await?;
        if qos == 1 {
            self.expect_ack(kind::PUBACK, id).await?;
        }
        if qos == 2 {
            self.expect_ack(kind::PUBREC, id).await?;
            self.send(&packet::ack(kind::PUBREL, id)).await?;
            self.expect_ack(kind::PUBCOMP, id).await?;
        }
        Ok(())
    }

    /// Subscribes to one filter and waits for the SUBACK.
    pub async fn subscribe(&mut self, filter: &str, qos: u8) -> io::Result<()> {
        let id = self.next_id();
        self.send(&packet::subscribe(self.version, id, filter, qos))
            .await?;
        let suback = self.expect_ack(kind::SUBACK, id).await?;
        match suback.body.last() {
            Some(granted) if *granted < 0x80 => Ok(()),
            code => Err(io::Error::other(format!("SUBACK {code:02x?}"))),
        }
    }

    /// The next message, acknowledged by its QoS.
    pub async fn receive(&mut self) -> io::Result<Published> {
        loop {
            if let Some(message) = self.inbox.pop_front() {
                return Ok(message);
            }
            let packet = self.next_packet("PUBLISH").await?;
            self.handle(&packet).await?;
        }
    }

    /// PINGREQ and PINGRESP: the whole way there and back.
    pub async fn ping(&mut self) -> io::Result<()> {
        self.send(&packet::bare(kind::PINGREQ)).await?;
        self.wait_for(kind::PINGRESP).await.map(drop)
    }

    /// DISCONNECT, then closes.
    pub async fn disconnect(mut self) -> io::Result<()> {
        self.send(&packet::bare(kind::DISCONNECT)).await?;
        self.stream.shutdown().await
    }

    /// Waits until the other side closes; gives what it said before, as bytes. A reset counts as an end.
    pub async fn closed(&mut self) -> io::Result<Vec<u8>> {
        let mut said = Vec::new();
        match within("end of stream", self.stream.read_to_end(&mut said)).await {
            Err(error) if error.kind() == io::ErrorKind::TimedOut => Err(error),
            _ => Ok(said),
        }
    }

    /// The stream itself, for bytes that no client should send.
    pub fn stream(&mut self) -> &mut dyn Stream {
        &mut self.stream
    }

    async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        within("write", async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        })
        .await
    }

    async fn next_packet(&mut self, awaited: &str) -> io::Result<Packet> {
        within(awaited, packet::read(&mut self.stream))
            .await?
            .ok_or_else(|| {
                io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    format!("closed instead of {awaited}"),
                )
            })
    }

    async fn expect_ack(&mut self, kind: u8, id: u16) -> io::Result<Packet> {
        let packet = self.wait_for(kind).await?;
        if packet.id()? == id {
            return Ok(packet);
        }
        Err(io::Error::other(format!(
            "acknowledgement of {}, not of {id}",
            packet.id()?
        )))
    }

    async fn wait_for(&mut self, kind: u8) -> io::Result<Packet> {
        loop {
            let packet = self.next_packet("acknowledgement").await?;
            if packet.kind() == kind {
                return Ok(packet);
            }
            self.handle(&packet).await?;
        }
    }

    /// What may arrive at any time: messages and the second half of QoS 2.
    async fn handle(&mut self, packet: &Packet) -> io::Result<()> {
        match packet.kind() {
            kind::PUBLISH => {
                let message = packet.published(self.version)?;
                let (qos, id) = (message.qos, message.id);
                self.inbox.push_back(message);
                match qos {
                    0 => Ok(()),
                    1 => self.send(&packet::ack(kind::PUBACK, id)).await,
                    _ => self.send(&packet::ack(kind::PUBREC, id)).await,
                }
            }
            kind::PUBREL => self.send(&packet::ack(kind::PUBCOMP, packet.id()?)).await,
            other => Err(io::Error::other(format!("unexpected packet {other:#04x}"))),
        }
    }

    fn next_id(&mut self) -> u16 {
        self.id = self.id.checked_add(1).unwrap_or(1);
        self.id
    }
}
