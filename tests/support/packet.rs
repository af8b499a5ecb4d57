//! MQTT packets as bytes, for tests: written and read by hand after MQTT 3.1, 3.1.1 and 5.0.
//!
//! Only what a test client and a fake broker need; properties are always empty.

use std::io;
use tokio::io::{AsyncRead, AsyncReadExt};

/// Packet types (MQTT 5.0 §2.1.2), already in the high nibble.
pub mod kind {
    pub const CONNECT: u8 = 0x10;
    pub const CONNACK: u8 = 0x20;
    pub const PUBLISH: u8 = 0x30;
    pub const PUBACK: u8 = 0x40;
    pub const PUBREC: u8 = 0x50;
    pub const PUBREL: u8 = 0x60;
    pub const PUBCOMP: u8 = 0x70;
    pub const SUBSCRIBE: u8 = 0x80;
    pub const SUBACK: u8 = 0x90;
    pub const PINGREQ: u8 = 0xc0;
    pub const PINGRESP: u8 = 0xd0;
    pub const DISCONNECT: u8 = 0xe0;
}

/// Protocol level, as it stands in the CONNECT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    V31 = 3,
    V311 = 4,
    V5 = 5,
}

impl Version {
    pub const ALL: [Self; 3] = [Self::V31, Self::V311, Self::V5];
}

/// A CONNECT to be written.
#[derive(Clone, Debug)]
pub struct Connect {
    pub version: Version,
    pub client_id: String,
    pub keep_alive_s: u16,
    pub clean: bool,
    pub username: Option<String>,
    pub password: Option<Vec<u8>>,
    /// Topic and payload, QoS 0, not retained.
    pub will: Option<(String, Vec<u8>)>,
}

impl Connect {
    /// A clean session, keep-alive 60 s, no credentials, no will.
    pub fn new(version: Version, client_id: &str) -> Self {
        Self {
            version,
            client_id: client_id.to_owned(),
            keep_alive_s: 60,
            clean: true,
            username: None,
            password: None,
            will: None,
        }
    }

    /// The whole packet.
    pub fn bytes(&self) -> Vec<u8> {
        let v5 = self.version == Version::V5;
        let mut body = Vec::new();
        string(
            &mut body,
            if self.version == Version::V31 {
                b"MQIsdp"
            } else {
                b"MQTT"
            },
        );
        body.push(self.version as u8);
        let mut flags = u8::from(self.clean) << 1;
        flags |= u8::from(self.will.is_some()) << 2;
        flags |= u8::from(self.password.is_some()) << 6;
        flags |= u8::from(self.username.is_some()) << 7;
        body.push(flags);
        body.extend(self.keep_alive_s.to_be_bytes());
        no_properties(&mut body, v5);
        string(&mut body, self.client_id.as_bytes());
        if let Some((topic, payload)) = &self.will {
            no_properties(&mut body, v5);
            string(&mut body, topic.as_bytes());
            string(&mut body, payload);
        }
        if let Some(username) = &self.username {
            string(&mut body, username.as_bytes());
        }
        if let Some(password) = &self.password {
            string(&mut body, password);
        }
        packet(kind::CONNECT, &body)
    }
}

/// A CONNACK with a return code (3.x) or reason code (5.0).
pub fn connack(version: Version, code: u8) -> Vec<u8> {
    let mut body = vec![0, code];
    no_properties(&mut body, version == Version::V5);
    packet(kind::CONNACK, &body)
}

/// A PUBLISH; `id` is written for QoS 1 and 2 alone.
pub fn publish(version: Version, topic: &str, payload: &[u8], qos: u8, id: u16) -> Vec<u8> {
    let mut body = Vec::with_capacity(payload.len() + topic.len() + 5);
    string(&mut body, topic.as_bytes());
    if qos > 0 {
        body.extend(id.to_be_bytes());
    }
    no_properties(&mut body, version == Version::V5);
    body.extend(payload);
    packet(kind::PUBLISH | qos << 1, &body)
}

/// A SUBSCRIBE for one filter.
pub fn subscribe(version: Version, id: u16, filter: &str, qos: u8) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    no_properties(&mut body, version == Version::V5);
    string(&mut body, filter.as_bytes());
    body.push(qos);
    packet(kind::SUBSCRIBE | 0x02, &body)
}

/// A SUBACK that grants `qos`.
pub fn suback(version: Version, id: u16, qos: u8) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    no_properties(&mut body, version == Version::V5);
    body.push(qos);
    packet(kind::SUBACK, &body)
}

/// PUBACK, PUBREC, PUBREL or PUBCOMP in the short form that all versions know.
pub fn ack(kind: u8, id: u16) -> Vec<u8> {
    let flags = if kind == kind::PUBREL { 0x02 } else { 0 };
    packet(kind | flags, &id.to_be_bytes())
}

/// PINGREQ, PINGRESP, DISCONNECT: two bytes in all versions.
pub fn bare(kind: u8) -> Vec<u8> {
    vec![kind, 0]
}

fn packet(header: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![header];
    let mut length = body.len();
    loop {
        let low = u8::try_from(length % 128).expect("below 128");
        length /= 128;
        out.push(if length > 0 { low | 0x80 } else { low });
        if length == 0 {
            break;
        }
    }
    out.extend(body);
    out
}

fn string(out: &mut Vec<u8>, bytes: &[u8]) {
    let length = u16::try_from(bytes.len()).expect("MQTT strings are below 64 KiB");
    out.extend(length.to_be_bytes());
    out.extend(bytes);
}

fn no_properties(out: &mut Vec<u8>, v5: bool) {
    if v5 {
        out.push(0);
    }
}

/// A packet that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// First byte: type and flags.
    pub header: u8,
    /// All after the remaining length.
    pub body: Vec<u8>,
}

/// A PUBLISH that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    pub topic: String,
    pub payload: Vec<u8>,
    pub qos: u8,
    /// 0 for QoS 0.
    pub id: u16,
}

impl Packet {
    /// The type, one of [`kind`].
    pub fn kind(&self) -> u8 {
        self.header & 0xf0
    }

    /// The packet identifier at the start of acknowledgements, SUBSCRIBE and SUBACK.
    pub fn id(&self) -> io::Result<u16> {
        u16_at(&self.body, 0)
    }

    /// Return or reason code of a CONNACK.
    pub fn connack_code(&self) -> io::Result<u8> {
        match self.body.get(1) {
            Some(code) if self.kind() == kind::CONNACK => Ok(*code),
            _ => Err(broken("no CONNACK", &self.body)),
        }
    }

    /// The level of a CONNECT.
    pub fn connect_version(&self) -> io::Result<Version> {
        let name_length = usize::from(u16_at(&self.body, 0)?);
        match self.body.get(2 + name_length) {
            Some(3) => Ok(Version::V31),
            Some(4) => Ok(Version::V311),
            Some(5) => Ok(Version::V5),
            _ => Err(broken("no CONNECT", &self.body)),
        }
    }

    /// The parts of a PUBLISH.
    pub fn published(&self, version: Version) -> io::Result<Published> {
        let topic_end = 2 + usize::from(u16_at(&self.body, 0)?);
        let topic = self
            .body
            .get(2..topic_end)
            .ok_or_else(|| broken("short PUBLISH", &self.body))?;
        let qos = self.header >> 1 & 0x03;
        let mut at = topic_end;
        let id = if qos > 0 { u16_at(&self.body, at)? } else { 0 };
        at += if qos > 0 { 2 } else { 0 };
        if version == Version::V5 {
            let length = *self
                .body
                .get(at)
                .ok_or_else(|| broken("short PUBLISH", &self.body))?;
            assert!(length < 0x80, "test messages have short properties");
            at += 1 + usize::from(length);
        }
        let payload = self
            .body
            .get(at..)
            .ok_or_else(|| broken("short PUBLISH", &self.body))?
            .to_vec();
        Ok(Published {
            topic: String::from_utf8_lossy(topic).into_owned(),
            payload,
            qos,
            id,
        })
    }
}

/// Reads one packet; `None` when the stream ends before one begins. Not cancel-safe.
pub async fn read(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Packet>> {
    let mut header = [0; 1];
    if from.read(&mut header).await? == 0 {
        return Ok(None);
    }
    let mut length = 0_usize;
    for shift in [0, 7, 14, 21] {
        let byte = from.read_u8().await?;
        length |= usize::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            let mut body = vec![0; length];
            from.read_exact(&mut body).await?;
            return Ok(Some(Packet {
                header: header[0],
                body,
            }));
        }
    }
    Err(broken("remaining length over four bytes", &header))
}

/// Length of the PROXY header that `bytes` begin with, 0 without one, `None` while it is incomplete (PROXY protocol
/// 2.1 and 2.2).
pub fn proxy_header_length(bytes: &[u8]) -> Option<usize> {
    const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
    let begins = |with: &[u8]| with.iter().zip(bytes).all(|(a, b)| a == b);
    if begins(b"PROXY ") {
        return bytes
            .windows(2)
            .position(|two| two == b"\r\n")
            .map(|at| at + 2);
    }
    if begins(SIGNATURE) {
        let length = bytes.get(14..16)?;
        let whole = 16 + usize::from(u16::from_be_bytes([length[0], length[1]]));
        return (bytes.len() >= whole).then_some(whole);
    }
    Some(0)
}

fn u16_at(bytes: &[u8], at: usize) -> io::Result<u16> {
    match bytes.get(at..at + 2) {
        Some(two) => Ok(u16::from_be_bytes([two[0], two[1]])),
        None => Err(broken("too short", bytes)),
    }
}

fn broken(what: &str, bytes: &[u8]) -> io::Error {
    let shown = &bytes[..bytes.len().min(16)];
    io::Error::new(io::ErrorKind::InvalidData, format!("{what}: {shown:02x?}"))
}
