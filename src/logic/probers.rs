//! Who probes what, when the members share the probing (`health.shared`).
//!
//! Rendezvous hashing: each endpoint ranks all live members by a hash of (member, endpoint) and is probed by the
//! first `k`. Every member computes the same answer from the same list, without a message. A member that leaves
//! hands over only the endpoints it probed, one successor each; a member that joins takes over one place each.
//!
//! Absent on purpose: what the others do with a verdict (that is gossip), and who is alive (that is membership).

use crate::logic::endpoint::EndpointId;
use std::net::IpAddr;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Part of the contract between members: instances of two releases have to agree on it.
const SEED: u64 = 0x7469_6465_7072_6f62;

/// The live members and how many of them probe each endpoint. A value: compare, clone and publish it in a `watch`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProberSet {
    own: String,
    /// Sorted, without duplicates, with `own` in it.
    live: Vec<String>,
    probers: usize,
}

impl ProberSet {
    /// `own` is this member's id and counts as live whatever the list says; `probers` is 1 to 100, more than there
    /// are members means that everybody probes everything.
    pub fn new(own: String, live: impl IntoIterator<Item = String>, probers: u32) -> Self {
        let mut live: Vec<String> = live.into_iter().collect();
        live.push(own.clone());
        live.sort_unstable();
        live.dedup();
        let probers = usize::try_from(probers).unwrap_or(usize::MAX).max(1);
        Self { own, live, probers }
    }

    /// The same with other live members.
    #[must_use]
    pub fn with_live(&self, live: impl IntoIterator<Item = String>) -> Self {
        let probers = u32::try_from(self.probers).unwrap_or(u32::MAX);
        Self::new(self.own.clone(), live, probers)
    }

    /// Whether `member` probes the endpoint.
    pub fn probed_by(&self, endpoint: EndpointId, member: &str) -> bool {
        probes(endpoint, member, &self.live, self.probers)
    }

    /// Whether this member probes the endpoint.
    pub fn probes(&self, endpoint: EndpointId) -> bool {
        probes(endpoint, &self.own, &self.live, self.probers)
    }
}

/// Whether the member `own` is among the `k` first of `live` in the endpoint's order. The order of `live` does not
/// matter, and `own` need not be in it.
pub fn probes(endpoint: EndpointId, own: &str, live: &[String], k: usize) -> bool {
    let key = endpoint_key(endpoint);
    // The id breaks ties, so that two members with one score never both take or both leave a place.
    let rank = |member: &str| xxh3_64_with_seed(member.as_bytes(), key);
    let own_rank = (rank(own), own);
    let ahead = live
        .iter()
        .filter(|member| (rank(member), member.as_str()) > own_rank)
        .count();
    ahead < k
}

/// A number for an endpoint that is the same on every instance, platform and release.
///
/// ```text
/// 4 bytes  IPv4 address, or 16 bytes IPv6 address
/// 2 bytes  port, big endian
/// ```
pub fn endpoint_key(endpoint: EndpointId) -> u64 {
    let mut bytes = [0; 18];
    let address_bytes = match endpoint.addr().ip() {
        IpAddr::V4(address) => {
            bytes[..4].copy_from_slice(&address.octets());
            4
        }
        IpAddr::V6(address) => {
            bytes[..16].copy_from_slice(&address.octets());
            16
        }
    };
    bytes[address_bytes..address_bytes + 2].copy_from_slice(&endpoint.addr().port().to_be_bytes());
    xxh3_64_with_seed(&bytes[..address_bytes + 2], SEED)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::net::SocketAddr;

    fn endpoints(count: u16) -> impl Iterator<Item = EndpointId> {
        (0..count).map(|port| SocketAddr::from(([10, 0, 0, 1], 1000 + port)).into())
    }

    fn members(count: u32) -> Vec<String> {
        (0..count).map(|number| format!("lb-{number}")).collect()
    }

    fn chosen(endpoint: EndpointId, live: &[String], k: usize) -> BTreeSet<String> {
        live.iter()
            .filter(|member| probes(endpoint, member, live, k))
            .cloned()
            .collect()
    }

    #[test]
    fn exactly_k_members_probe_each_endpoint() {
        for (count, k, expected) in [(50, 3, 3), (50, 1, 1), (3, 3, 3), (2, 3, 2), (1, 3, 1)] {
            let live = members(count);
            for endpoint in endpoints(100) {
                assert_eq!(
                    chosen(endpoint, &live, k).len(),
                    expected,
                    "{count} members, k {k}"
                );
            }
        }
    }

    #[test]
    fn order_and_duplicates_of_the_live_list_do_not_matter() {
        let live = members(9);
        let reversed = live.iter().rev().cloned();
        let doubled = live.iter().chain(&live).cloned();
        let one = ProberSet::new("lb-4".into(), reversed, 3);
        let other = ProberSet::new("lb-4".into(), doubled, 3);
        assert_eq!(one, other);
        assert!(endpoints(100).any(|endpoint| one.probes(endpoint)));
        assert!(endpoints(100).any(|endpoint| !one.probes(endpoint)));
    }

    #[test]
    fn a_leaving_member_hands_over_its_own_endpoints_and_no_other() {
        let before = members(10);
        let gone = "lb-7";
        let after: Vec<_> = before
            .iter()
            .filter(|member| *member != gone)
            .cloned()
            .collect();
        for endpoint in endpoints(300) {
            let was = chosen(endpoint, &before, 3);
            let is = chosen(endpoint, &after, 3);
            let kept = was
                .iter()
                .filter(|member| *member != gone)
                .all(|member| is.contains(member));
            assert!(kept, "{endpoint}: {was:?} became {is:?}");
            if !was.contains(gone) {
                assert_eq!(was, is, "{endpoint}");
            }
        }
    }

    #[test]
    fn a_joining_member_displaces_at_most_one_prober_of_an_endpoint() {
        let before = members(10);
        let after = members(11);
        let mut taken = 0;
        for endpoint in endpoints(300) {
            let was = chosen(endpoint, &before, 3);
            let is = chosen(endpoint, &after, 3);
            let added: Vec<_> = is.difference(&was).collect();
            assert!(
                added.iter().all(|member| *member == "lb-10"),
                "{endpoint}: {added:?}"
            );
            taken += added.len();
        }
        // The fair part is 300 * 3 / 11 = 82.
        assert!((50..120).contains(&taken), "{taken}");
    }

    #[test]
    fn the_work_is_spread() {
        let live = members(10);
        for member in &live {
            let work = endpoints(1000)
                .filter(|id| probes(*id, member, &live, 3))
                .count();
            assert!((230..370).contains(&work), "{member}: {work}");
        }
    }

    #[test]
    fn a_member_alone_probes_everything() {
        let set = ProberSet::new("lb-1".into(), [], 3);
        assert!(endpoints(100).all(|endpoint| set.probes(endpoint)));
    }

    #[test]
    fn endpoint_keys_are_fixed() {
        // The hash is a contract between releases: these numbers never change.
        let keys = ["10.0.0.1:1883", "[fd00::1]:1883"].map(|text| {
            let addr: SocketAddr = text.parse().unwrap();
            endpoint_key(addr.into())
        });
        assert_eq!(
            keys,
            [2_196_875_795_545_768_222, 13_666_993_623_359_102_722]
        );
    }
}
