//! [`MemberUpdate`] as bytes. The only file that names bincode.
//!
//! A leading format version; bincode's varint options with a size limit; trailing bytes refused. Only bytes that were
//! authenticated before come here. A release that must change the layout takes a new version, which older releases
//! ignore and count; what can be added beside goes into `extra`, which they skip, so that two releases run together.
//!
//! An IPv4 endpoint with its count takes 5 to 7 bytes: endpoints are grouped by port, because they mostly share it.

use crate::logic::endpoint::EndpointId;
use crate::logic::peer::PoolFacts;
use crate::logic::record::{DrainFact, MemberUpdate, Phase, PoolRecord};
use bincode::Options as _;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

/// The layout that this release writes and reads.
const FORMAT_VERSION: u8 = 1;

/// Limit of one encoded update.
const UPDATE_BYTES_MAX: u64 = 64 * 1024;

/// Connections per second that nobody reaches; above it a rate is a lie.
const RATE_MAX: f64 = 1e9;

/// Why bytes are no update.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum DecodeError {
    /// A layout of another release.
    #[error("record format version {0} is not known here")]
    Version(u8),
    /// Anything else.
    #[error("malformed record")]
    Malformed,
}

/// By port, then address. Two lists keep an IPv4 address at four bytes.
#[derive(Serialize, Deserialize, Default)]
struct Grouped<T> {
    v4: ByPort<[u8; 4], T>,
    v6: ByPort<[u8; 16], T>,
}

type ByPort<Ip, T> = Vec<(u16, Vec<(Ip, T)>)>;

#[derive(Serialize, Deserialize)]
struct WireUpdate {
    id: String,
    generation: u64,
    addr: SocketAddr,
    release: String,
    phase: u8,
    complete: bool,
    sent_us: u64,
    pools: Vec<WirePool>,
    drains: Vec<WireDrain>,
    extra: Extra,
}

#[derive(Serialize, Deserialize)]
struct WirePool {
    name: String,
    /// How long before `sent_us` the facts were read: small, so short.
    age_us: u64,
    fingerprint: u64,
    rate: f32,
    counts: Grouped<u32>,
    down: Grouped<()>,
    evacuating: Grouped<()>,
    extra: Extra,
}

#[derive(Serialize, Deserialize)]
struct WireDrain {
    pool: String,
    endpoint: SocketAddr,
    drained: bool,
    stamp_ms: u64,
    by: String,
}

/// Additions of later releases: a number and their bytes.
type Extra = Vec<(u16, Vec<u8>)>;

fn options() -> impl bincode::Options {
    bincode::DefaultOptions::new().with_limit(UPDATE_BYTES_MAX)
}

/// `None` when the update is larger than a message may be.
pub(super) fn encode(update: &MemberUpdate) -> Option<Vec<u8>> {
    let mut bytes = vec![FORMAT_VERSION];
    options()
        .serialize_into(&mut bytes, &WireUpdate::from(update))
        .ok()?;
    Some(bytes)
}

pub(super) fn decode(bytes: &[u8]) -> Result<MemberUpdate, DecodeError> {
    let (version, body) = bytes.split_first().ok_or(DecodeError::Malformed)?;
    if *version != FORMAT_VERSION {
        return Err(DecodeError::Version(*version));
    }
    let update: WireUpdate = options()
        .deserialize(body)
        .map_err(|_| DecodeError::Malformed)?;
    MemberUpdate::try_from(update)
}

impl From<&MemberUpdate> for WireUpdate {
    fn from(update: &MemberUpdate) -> Self {
        Self {
            id: update.id.clone(),
            generation: update.generation,
            addr: update.addr,
            release: update.release.clone(),
            phase: update.phase as u8,
            complete: update.complete,
            sent_us: update.sent_us,
            pools: update
                .pools
                .iter()
                .map(|(name, record)| pack(name, record, update.sent_us))
                .collect(),
            drains: update.drains.iter().map(WireDrain::from).collect(),
            extra: Extra::new(),
        }
    }
}

impl TryFrom<WireUpdate> for MemberUpdate {
    type Error = DecodeError;

    fn try_from(update: WireUpdate) -> Result<Self, DecodeError> {
        let pools = update
            .pools
            .into_iter()
            .map(|pool| unpack(pool, update.sent_us))
            .collect::<Result<_, _>>()?;
        if update.id.is_empty() {
            return Err(DecodeError::Malformed);
        }
        Ok(Self {
            id: update.id,
            generation: update.generation,
            addr: update.addr,
            release: update.release,
            phase: match update.phase {
                0 => Phase::Serving,
                2 => Phase::Gone,
                // A phase that this release does not know is some way of being on the way out.
                _ => Phase::Leaving,
            },
            complete: update.complete,
            sent_us: update.sent_us,
            pools,
            drains: update.drains.into_iter().map(DrainFact::from).collect(),
        })
    }
}

impl From<&DrainFact> for WireDrain {
    fn from(fact: &DrainFact) -> Self {
        Self {
            pool: fact.pool.clone(),
            endpoint: fact.endpoint.addr(),
            drained: fact.drained,
            stamp_ms: fact.stamp_ms,
            by: fact.by.clone(),
        }
    }
}

impl From<WireDrain> for DrainFact {
    fn from(drain: WireDrain) -> Self {
        Self {
            pool: drain.pool,
            endpoint: EndpointId(drain.endpoint),
            drained: drain.drained,
            stamp_ms: drain.stamp_ms,
            by: drain.by,
        }
    }
}

fn pack(name: &str, record: &PoolRecord, sent_us: u64) -> WirePool {
    let facts = &record.facts;
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a rate needs no more than 7 digits"
    )]
    let rate = facts.rate as f32;
    WirePool {
        name: name.to_owned(),
        age_us: sent_us.saturating_sub(record.version),
        fingerprint: record.fingerprint,
        rate,
        counts: group(facts.counts.iter().copied()),
        down: group(facts.down.iter().map(|endpoint| (*endpoint, ()))),
        evacuating: group(facts.evacuating.iter().map(|endpoint| (*endpoint, ()))),
        extra: Extra::new(),
    }
}

fn unpack(pool: WirePool, sent_us: u64) -> Result<(String, PoolRecord), DecodeError> {
    let rate = f64::from(pool.rate);
    if !(0.0..=RATE_MAX).contains(&rate) {
        return Err(DecodeError::Malformed);
    }
    let plain = |grouped| {
        Ok(ungroup(grouped)?
            .into_iter()
            .map(|(endpoint, ())| endpoint)
            .collect())
    };
    let facts = PoolFacts {
        counts: Arc::new(ungroup(pool.counts)?),
        rate,
        down: plain(pool.down)?,
        evacuating: plain(pool.evacuating)?,
    };
    let version = sent_us
        .checked_sub(pool.age_us)
        .ok_or(DecodeError::Malformed)?;
    Ok((
        pool.name,
        PoolRecord {
            version,
            fingerprint: pool.fingerprint,
            facts,
        },
    ))
}

fn group<T>(entries: impl Iterator<Item = (EndpointId, T)>) -> Grouped<T> {
    let mut v4: BTreeMap<u16, Vec<([u8; 4], T)>> = BTreeMap::new();
    let mut v6: BTreeMap<u16, Vec<([u8; 16], T)>> = BTreeMap::new();
    for (endpoint, value) in entries {
        let addr = endpoint.addr();
        match addr.ip() {
            IpAddr::V4(ip) => v4
                .entry(addr.port())
                .or_default()
                .push((ip.octets(), value)),
            IpAddr::V6(ip) => v6
                .entry(addr.port())
                .or_default()
                .push((ip.octets(), value)),
        }
    }
    Grouped {
        v4: v4.into_iter().collect(),
        v6: v6.into_iter().collect(),
    }
}

/// Sorted; an endpoint that is named twice is refused.
fn ungroup<T>(grouped: Grouped<T>) -> Result<Vec<(EndpointId, T)>, DecodeError> {
    let v4 = grouped.v4.into_iter().flat_map(|(port, list)| {
        list.into_iter()
            .map(move |(ip, value)| (EndpointId((Ipv4Addr::from(ip), port).into()), value))
    });
    let v6 = grouped.v6.into_iter().flat_map(|(port, list)| {
        list.into_iter()
            .map(move |(ip, value)| (EndpointId((Ipv6Addr::from(ip), port).into()), value))
    });
    let mut entries: Vec<(EndpointId, T)> = v4.chain(v6).collect();
    entries.sort_by_key(|(endpoint, _)| *endpoint);
    if entries.windows(2).any(|pair| pair[0].0 == pair[1].0) {
        return Err(DecodeError::Malformed);
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn endpoint(index: u16) -> EndpointId {
        let [high, low] = index.to_be_bytes();
        EndpointId(([10, 0, high, low], 1883).into())
    }

    fn update(endpoints: u16) -> MemberUpdate {
        let counts = (0..endpoints)
            .map(|index| (endpoint(index), u32::from(index) * 37))
            .collect();
        let facts = PoolFacts {
            counts: Arc::new(counts),
            rate: 12.5,
            down: vec![endpoint(3)],
            evacuating: vec![endpoint(1)],
        };
        MemberUpdate {
            id: "lb-1".into(),
            generation: 1_700_000_000_000_000_000,
            addr: ([10, 1, 0, 1], 7946).into(),
            release: "0.1.0".into(),
            phase: Phase::Leaving,
            complete: true,
            sent_us: 5_000_000,
            pools: vec![(
                "emqx".into(),
                PoolRecord {
                    version: 4_999_000,
                    fingerprint: u64::MAX,
                    facts,
                },
            )],
            drains: vec![DrainFact {
                pool: "emqx".into(),
                endpoint: endpoint(2),
                drained: true,
                stamp_ms: 1_700_000_000_000,
                by: "lb-2".into(),
            }],
        }
    }

    #[test]
    fn an_update_survives_the_wire() {
        for mut update in [update(0), update(3), update(4000)] {
            Arc::make_mut(&mut update.pools[0].1.facts.counts)
                .push((EndpointId("[2001:db8::1]:1883".parse().unwrap()), 7));
            assert_eq!(decode(&encode(&update).unwrap()), Ok(update));
        }
    }

    #[test]
    fn a_hundred_endpoints_fit_into_one_datagram() {
        let bytes = encode(&update(100)).unwrap().len();
        assert!(bytes <= 900, "{bytes}");
    }

    #[test]
    fn an_unknown_version_is_told_apart_and_trailing_bytes_are_refused() {
        let mut bytes = encode(&update(3)).unwrap();
        bytes.push(0);
        assert_eq!(decode(&bytes), Err(DecodeError::Malformed));
        bytes[0] = 2;
        assert_eq!(decode(&bytes), Err(DecodeError::Version(2)));
        assert_eq!(decode(&[]), Err(DecodeError::Malformed));
    }

    #[test]
    fn every_prefix_is_refused() {
        let bytes = encode(&update(5)).unwrap();
        for length in 0..bytes.len() {
            assert!(decode(&bytes[..length]).is_err(), "{length}");
        }
    }

    #[test]
    fn additions_of_a_later_release_are_skipped() {
        let expected = update(3);
        let mut wire = WireUpdate::from(&expected);
        wire.extra.push((7, vec![1, 2, 3]));
        wire.pools[0].extra.push((9, Vec::new()));
        let mut bytes = vec![FORMAT_VERSION];
        options().serialize_into(&mut bytes, &wire).unwrap();
        assert_eq!(decode(&bytes), Ok(expected));
    }

    #[test]
    fn lies_are_refused() {
        let check = |spoil: fn(&mut WireUpdate)| {
            let mut wire = WireUpdate::from(&update(3));
            spoil(&mut wire);
            let mut bytes = vec![FORMAT_VERSION];
            options().serialize_into(&mut bytes, &wire).unwrap();
            assert_eq!(decode(&bytes), Err(DecodeError::Malformed));
        };
        check(|wire| wire.id.clear());
        check(|wire| wire.pools[0].rate = f32::NAN);
        check(|wire| wire.pools[0].rate = -1.0);
        check(|wire| wire.pools[0].rate = f32::INFINITY);
        check(|wire| wire.pools[0].age_us = u64::MAX);
        check(|wire| wire.pools[0].counts.v4[0].1.push(([10, 0, 0, 0], 1)));
    }

    #[test]
    fn an_update_beyond_the_limit_is_not_encoded() {
        assert_eq!(encode(&update(20_000)), None);
    }

    proptest! {
        #[test]
        fn foreign_bytes_never_panic_and_what_decodes_encodes_to_the_same(
            bytes in proptest::collection::vec(any::<u8>(), 0..300),
            spoil in proptest::option::of((0usize..200, any::<u8>())),
        ) {
            let bytes = spoil.map_or(bytes, |(at, byte)| {
                let mut good = encode(&update(10)).unwrap();
                let at = at % good.len();
                good[at] = byte;
                good
            });
            if let Ok(update) = decode(&bytes) {
                prop_assert_eq!(decode(&encode(&update).unwrap()), Ok(update));
            }
        }
    }
}
