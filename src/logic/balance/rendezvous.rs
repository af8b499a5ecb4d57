//! Weighted rendezvous hashing: every endpoint scores against the key, the highest score wins. No table, so every
//! instance computes the same order from the same list, and an endpoint that leaves moves only its own keys.
//!
//! The hash algorithm and its seed are part of the protocol between instances: never change one without the other
//! instances.

use super::row::Row;
use crate::logic::endpoint::EndpointId;
use std::net::IpAddr;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// "tidegate" in ASCII.
const SEED: u64 = 0x7469_6465_6761_7465;

/// Room over an even share before a key moves on, relative.
const SLACK: f64 = 0.05;

/// The same where an endpoint has few connections, and one of them is a larger part.
const SLACK_SMALL: f64 = 0.10;

/// Mean connections per endpoint from which on [`SLACK`] rules.
const SMALL_BELOW: f64 = 500.0;

/// Hash of an endpoint's address and port, the same for an IPv4 address and its IPv6-mapped form.
pub(super) fn hash_endpoint(id: EndpointId) -> u64 {
    let mut bytes = [0; 18];
    bytes[..16].copy_from_slice(&octets(id.addr().ip()));
    bytes[16..].copy_from_slice(&id.addr().port().to_be_bytes());
    xxh3_64_with_seed(&bytes, SEED)
}

/// Hash of a client address, without its port.
pub(super) fn hash_source(source: IpAddr) -> u64 {
    xxh3_64_with_seed(&octets(source), SEED)
}

/// Hash of a client id or user name.
pub(super) fn hash_key(key: &[u8]) -> u64 {
    xxh3_64_with_seed(key, SEED)
}

fn octets(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// Weighted score of a pair: weight / -ln(u), u uniform in (0, 1).
#[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
fn score(key: u64, row: &Row) -> f64 {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&key.to_le_bytes());
    bytes[8..].copy_from_slice(&row.hash.to_le_bytes());
    let uniform = ((xxh3_64_with_seed(&bytes, SEED) >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
    row.weight / -uniform.ln()
}

/// The first endpoint in the key's order.
pub(super) fn choose(rows: &[Row], tier: u32, key: u64) -> Option<usize> {
    first(rows, tier, key, |_| true)
}

/// The first endpoint in the key's order that has room: `T + 1 + U w/W <= ceil((1 + slack) (sum T + 1 + U) w/W)`.
/// `unseen`: connections that the peers may have dispatched since their records (U of the echo policy).
pub(super) fn choose_bounded(rows: &[Row], tier: u32, key: u64, unseen: f64) -> Option<usize> {
    let mut weights = 0.0;
    let mut total = 0.0;
    let mut count = 0.0;
    for row in rows.iter().filter(|row| row.takes(tier)) {
        weights += row.weight;
        total += row.total();
        count += 1.0;
    }
    let slack = if total < SMALL_BELOW * count {
        SLACK_SMALL
    } else {
        SLACK
    };
    let bound = (1.0 + slack) * (total + 1.0 + unseen);
    first(rows, tier, key, |row| {
        let part = row.weight / weights;
        row.total() + 1.0 + unseen * part <= (bound * part).ceil()
    })
}

fn first(rows: &[Row], tier: u32, key: u64, has_room: impl Fn(&Row) -> bool) -> Option<usize> {
    let mut best: Option<(usize, f64)> = None;
    for (index, row) in rows
        .iter()
        .enumerate()
        .filter(|(_, row)| row.takes(tier) && has_room(row))
    {
        let score = score(key, row);
        if best.is_none_or(|(_, highest)| score > highest) {
            best = Some((index, score));
        }
    }
    best.map(|(index, _)| index)
}
