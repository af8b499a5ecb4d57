//! One sealed datagram: layout, sealing, opening.
//!
//! ```text
//! offset bytes
//!      0     1  magic 0x7D
//!      1     1  format version, 1
//!      2     1  kind: 1 gossip, 2 push
//!      3     1  part, from 0
//!      4     1  parts of the message, from 1
//!      5     3  zero
//!      8     4  tag of the cluster id: tells a foreign cluster before any cryptography
//!     12     4  key id
//!     16     8  Unix milliseconds of the sender, little endian
//!     24    16  nonce: the sender's session, random at its start
//!     40     8  nonce: the sender's counter, little endian, from 1; the parts of a message are consecutive
//!     48     n  XChaCha20-Poly1305 ciphertext
//!   48+n    16  its tag; the associated data are the 48 bytes of the header and the cluster id itself
//! ```
//! What costs least is checked first, so that noise is dropped without cryptography. Absent: the sender's identity
//! (all who hold a key are trusted alike) and forward secrecy (rotate the keys).

use super::keyring::{KeyId, Keyring};
use crate::logic::replay::{ReplayWindow, Session};
use std::time::{Duration, Instant};

/// Bytes of the header.
pub(super) const HEADER_BYTES: usize = 48;
const TAG_BYTES: usize = 16;
/// What sealing adds.
pub(super) const OVERHEAD_BYTES: usize = HEADER_BYTES + TAG_BYTES;
/// The largest UDP payload over IPv4 (65535 - 20 - 8).
pub(super) const DATAGRAM_BYTES_MAX: usize = 65_507;
/// How far two members' wall clocks, and the age of a datagram, may be apart.
pub(super) const CLOCK_SKEW_MAX: Duration = Duration::from_secs(30);

const MAGIC: u8 = 0x7D;
const FORMAT_VERSION: u8 = 1;

const _: () = assert!(HEADER_BYTES == 24 + 24, "header = fixed fields + nonce");

/// What a message is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub(super) enum Kind {
    /// A message of the gossip library.
    Gossip = 1,
    /// A member's own record.
    Push = 2,
}

impl Kind {
    pub(super) const ALL: [Self; 2] = [Self::Gossip, Self::Push];

    const fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Gossip),
            2 => Some(Self::Push),
            _ => None,
        }
    }

    pub(super) const fn index(self) -> usize {
        self as usize - 1
    }

    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Gossip => "gossip",
            Self::Push => "push",
        }
    }
}

/// Why something received was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Reject {
    /// Shorter than a header and a tag.
    Short,
    /// Another protocol, or a format that this release does not know.
    Version,
    /// Sealed for another cluster id.
    Cluster,
    /// Sealed with a key that is not in the ring.
    Key,
    /// Altered, or not sealed with the key that it names.
    Auth,
    /// The sender's clock and ours differ by more than 30 s, or somebody kept it that long.
    Stale,
    /// Seen before.
    Replay,
    /// Authentic, of a kind that this release does not know.
    Kind,
    /// A message of too many parts, or parts that do not fit together.
    Parts,
    /// Authentic, not decodable.
    Decode,
    /// Authentic, a record version that this release does not know.
    RecordVersion,
    /// The gossip task is behind by a full queue.
    Overflow,
    /// Sent under our own name by another instance.
    Name,
    /// No room for one more member.
    Full,
}

impl Reject {
    /// All reasons, in the order of [`Reject::index`].
    pub const ALL: [Self; 14] = [
        Self::Short,
        Self::Version,
        Self::Cluster,
        Self::Key,
        Self::Auth,
        Self::Stale,
        Self::Replay,
        Self::Kind,
        Self::Parts,
        Self::Decode,
        Self::RecordVersion,
        Self::Overflow,
        Self::Name,
        Self::Full,
    ];

    /// Position in tables.
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The metric label and log word.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Short => "short",
            Self::Version => "version",
            Self::Cluster => "cluster",
            Self::Key => "key",
            Self::Auth => "auth",
            Self::Stale => "stale",
            Self::Replay => "replay",
            Self::Kind => "kind",
            Self::Parts => "parts",
            Self::Decode => "decode",
            Self::RecordVersion => "record_version",
            Self::Overflow => "overflow",
            Self::Name => "name",
            Self::Full => "full",
        }
    }
}

/// The cluster that datagrams are sealed for.
#[derive(Clone, Debug)]
pub(super) struct ClusterTag {
    id: Box<[u8]>,
    tag: [u8; 4],
}

impl ClusterTag {
    pub(super) fn new(id: &str) -> Self {
        let hash = xxhash_rust::xxh3::xxh3_64_with_seed(id.as_bytes(), 0x7469_6465_6761_7465)
            .to_le_bytes();
        Self {
            id: id.as_bytes().into(),
            tag: [hash[0], hash[1], hash[2], hash[3]],
        }
    }

    fn associated(&self, header: &[u8]) -> Vec<u8> {
        [header, &*self.id].concat()
    }
}

/// What is said about one datagram beside its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Envelope {
    pub(super) kind: Kind,
    pub(super) part: u8,
    pub(super) parts: u8,
    pub(super) session: Session,
    pub(super) counter: u64,
}

/// Seals one datagram; `None` when the ring is empty, which its constructor rules out.
pub(super) fn seal(
    keyring: &Keyring,
    cluster: &ClusterTag,
    envelope: &Envelope,
    unix_ms: u64,
    body: &[u8],
) -> Option<Vec<u8>> {
    keyring.sealing(|key_id, key| {
        let mut nonce = [0; 24];
        nonce[..16].copy_from_slice(&envelope.session);
        nonce[16..].copy_from_slice(&envelope.counter.to_le_bytes());
        let mut datagram = Vec::with_capacity(OVERHEAD_BYTES + body.len());
        let prefix = [
            MAGIC,
            FORMAT_VERSION,
            envelope.kind as u8,
            envelope.part,
            envelope.parts,
            0,
            0,
            0,
        ];
        datagram.extend_from_slice(&prefix);
        datagram.extend_from_slice(&cluster.tag);
        datagram.extend_from_slice(&key_id);
        datagram.extend_from_slice(&unix_ms.to_le_bytes());
        datagram.extend_from_slice(&nonce);
        debug_assert_eq!(datagram.len(), HEADER_BYTES);
        let associated = cluster.associated(&datagram);
        datagram.extend_from_slice(body);
        let tag = key.seal(&nonce, &associated, &mut datagram[HEADER_BYTES..])?;
        datagram.extend_from_slice(&tag);
        Some(datagram)
    })?
}

/// Opens one datagram in place and returns where its body is.
pub(super) fn open<'a>(
    keyring: &Keyring,
    cluster: &ClusterTag,
    replay: &mut ReplayWindow,
    unix_ms: u64,
    now: Instant,
    datagram: &'a mut [u8],
) -> Result<(Envelope, &'a [u8]), Reject> {
    let (header, rest) = datagram
        .split_at_mut_checked(HEADER_BYTES)
        .ok_or(Reject::Short)?;
    let body_bytes = rest.len().checked_sub(TAG_BYTES).ok_or(Reject::Short)?;
    if header[0] != MAGIC || header[1] != FORMAT_VERSION {
        return Err(Reject::Version);
    }
    if header[8..12] != cluster.tag {
        return Err(Reject::Cluster);
    }
    let key_id: KeyId = field(header, 12);
    if !keyring.knows(key_id) {
        return Err(Reject::Key);
    }
    // Before the cryptography too: what is refused for its time costs no more than noise.
    let sent_ms = u64::from_le_bytes(field(header, 16));
    if u128::from(sent_ms.abs_diff(unix_ms)) > CLOCK_SKEW_MAX.as_millis() {
        return Err(Reject::Stale);
    }
    let (body, tag) = rest.split_at_mut(body_bytes);
    let tag = tag.first_chunk().ok_or(Reject::Short)?;
    if !keyring.open(
        key_id,
        &field(header, 24),
        &cluster.associated(header),
        body,
        tag,
    ) {
        return Err(Reject::Auth);
    }
    let session = field(header, 24);
    let counter = u64::from_le_bytes(field(header, 40));
    if !replay.admit(session, counter, now) {
        return Err(Reject::Replay);
    }
    let kind = Kind::from_code(header[2]).ok_or(Reject::Kind)?;
    Ok((
        Envelope {
            kind,
            part: header[3],
            parts: header[4],
            session,
            counter,
        },
        body,
    ))
}

/// `N` bytes of a header that has its full length.
fn field<const N: usize>(header: &[u8], at: usize) -> [u8; N] {
    header
        .get(at..)
        .and_then(|rest| rest.first_chunk())
        .copied()
        .unwrap_or([0; N])
}

#[cfg(test)]
#[path = "datagram_tests.rs"]
mod tests;
