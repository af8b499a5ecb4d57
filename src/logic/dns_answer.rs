//! What a DNS answer changes: the last good set per address family and per SRV host.
//!
//! A failure never takes an endpoint away; only an answer does. The rules, in the order of [`AddressMemory::merge`]:
//!
//! | this family | the other family | this family's addresses afterwards |
//! |---|---|---|
//! | records | any | the records |
//! | NODATA | records | none: the name exists and has no such addresses |
//! | NXDOMAIN | records | unchanged (name servers that answer so for AAAA are broken, RFC 4074 §4.2) |
//! | SERVFAIL, time-out, other | any | unchanged |
//! | any failure | no records | unchanged |
//!
//! Absent on purpose: what the pool hears of it (`logic::published`), names' spelling (`discovery::search`) and waiting
//! (`logic::dns_schedule`).

use crate::logic::endpoint::{EndpointId, Target};
use crate::logic::published::ENDPOINTS_MAX;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Why a question brought no records, the least alarming first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Miss {
    /// The name exists without records of this type.
    NoData,
    /// The name does not exist.
    NxDomain,
    /// Anything else: REFUSED, a message that does not parse, no name server configured.
    Other,
    /// The name server says that it failed.
    ServFail,
    /// No answer in time.
    Timeout,
}

impl Miss {
    /// Position in [`OUTCOMES`].
    pub const fn index(self) -> usize {
        match self {
            Self::NxDomain => 1,
            Self::NoData => 2,
            Self::ServFail => 3,
            Self::Timeout => 4,
            Self::Other => 5,
        }
    }

    /// The metric label and log word.
    pub const fn label(self) -> &'static str {
        OUTCOMES[self.index()]
    }
}

/// The metric labels of a look-up's outcome: `ok` at 0, the others by [`Miss::index`].
pub const OUTCOMES: [&str; 6] = ["ok", "nxdomain", "nodata", "servfail", "timeout", "other"];

/// Records and how long they hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found<T> {
    /// The records, in the server's order.
    pub items: Vec<T>,
    /// The smallest TTL on the way to them.
    pub ttl: Duration,
}

/// One question's answer. No items counts as [`Miss::NoData`].
pub type Answer<T> = Result<Found<T>, Miss>;

/// A name's addresses, the families apart. `None`: not asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressAnswer {
    /// The A question.
    pub ipv4: Option<Answer<IpAddr>>,
    /// The AAAA question.
    pub ipv6: Option<Answer<IpAddr>>,
}

/// One SRV record (RFC 2782).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServiceRecord {
    /// The host that serves, absolute, without the trailing dot. Empty: "decidedly not available here".
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Lowest first.
    pub priority: u16,
    /// Share among equals; 0 is taken as 1.
    pub weight: u16,
}

/// What one answer did to a memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Merge {
    /// The smallest TTL of what was found; `None` when nothing was.
    pub ttl: Option<Duration>,
    /// The worst reason why something kept is older than this answer; `None` when all of it is current.
    pub miss: Option<Miss>,
}

impl Merge {
    fn found(&mut self, ttl: Duration) {
        self.ttl = Some(self.ttl.map_or(ttl, |known| known.min(ttl)));
    }

    /// One more thing failed.
    pub fn missed(&mut self, miss: Miss) {
        self.miss = self.miss.max(Some(miss));
    }

    /// Both together: the shortest TTL, the worst miss.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        if let Some(ttl) = other.ttl {
            self.found(ttl);
        }
        self.miss = self.miss.max(other.miss);
        self
    }
}

/// The last good addresses of one name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddressMemory {
    ipv4: Vec<IpAddr>,
    ipv6: Vec<IpAddr>,
}

impl AddressMemory {
    /// Takes in one answer by the table at the top of this file.
    pub fn merge(&mut self, answer: AddressAnswer) -> Merge {
        let families = [answer.ipv4, answer.ipv6]
            .map(|answer| answer.map(|answer| answer.and_then(non_empty)));
        let any_found = families.iter().flatten().any(Result::is_ok);
        let mut merge = Merge::default();
        for (kept, answer) in [&mut self.ipv4, &mut self.ipv6].into_iter().zip(families) {
            match answer {
                None => kept.clear(),
                Some(Ok(found)) => {
                    merge.found(found.ttl);
                    *kept = found.items;
                }
                Some(Err(Miss::NoData)) if any_found => kept.clear(),
                // A family that never had an address has nothing that could be stale: a name server that fails on
                // AAAA must not make an IPv4 pool look broken for ever.
                Some(Err(_)) if any_found && kept.is_empty() => {}
                Some(Err(miss)) => merge.missed(miss),
            }
        }
        merge
    }

    /// The addresses, IPv4 first.
    pub fn addrs(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.ipv4.iter().chain(&self.ipv6).copied()
    }

    /// One target per address.
    pub fn targets(&self, name: &str, port: u16) -> Vec<Target> {
        self.addrs()
            .map(|ip| Target {
                name: name.to_owned(),
                ..Target::plain(EndpointId(SocketAddr::new(ip, port)))
            })
            .collect()
    }
}

/// The last good SRV records of one name, and the last good addresses of each of their hosts.
#[derive(Clone, Debug, Default)]
pub struct ServiceMemory {
    records: Vec<ServiceRecord>,
    hosts: BTreeMap<String, AddressMemory>,
}

impl ServiceMemory {
    /// Takes in the SRV answer. Afterwards [`Self::hosts`] are to be looked up and given to [`Self::merge_host`].
    pub fn merge_records(&mut self, answer: Answer<ServiceRecord>) -> Merge {
        let mut merge = Merge::default();
        let usable = answer.and_then(|mut found| {
            found.items.retain(|record| !record.host.is_empty());
            found.items.sort();
            found.items.dedup();
            found.items.truncate(ENDPOINTS_MAX);
            non_empty(found)
        });
        match usable {
            Ok(found) => {
                merge.found(found.ttl);
                self.records = found.items;
                self.hosts
                    .retain(|host, _| self.records.iter().any(|record| record.host == *host));
                for record in &self.records {
                    self.hosts.entry(record.host.clone()).or_default();
                }
            }
            Err(miss) => merge.missed(miss),
        }
        merge
    }

    /// The hosts of the records, each once.
    pub fn hosts(&self) -> impl Iterator<Item = &str> {
        self.hosts.keys().map(String::as_str)
    }

    /// Takes in one host's addresses. A host that the records do not name changes nothing.
    pub fn merge_host(&mut self, host: &str, answer: AddressAnswer) -> Merge {
        self.hosts
            .get_mut(host)
            .map(|memory| memory.merge(answer))
            .unwrap_or_default()
    }

    /// One target per record and address.
    pub fn targets(&self) -> Vec<Target> {
        let mut targets = Vec::new();
        for record in &self.records {
            let addrs = self
                .hosts
                .get(&record.host)
                .into_iter()
                .flat_map(AddressMemory::addrs);
            targets.extend(addrs.map(|ip| Target {
                weight: record.weight.max(1),
                priority: record.priority,
                name: record.host.clone(),
                ..Target::plain(EndpointId(SocketAddr::new(ip, record.port)))
            }));
        }
        targets
    }
}

fn non_empty<T>(found: Found<T>) -> Answer<T> {
    if found.items.is_empty() {
        Err(Miss::NoData)
    } else {
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const V4: &str = "10.0.0.1";
    const V6: &str = "fd00::1";

    #[expect(clippy::unnecessary_wraps, reason = "reads as the field it fills")]
    fn found(addrs: &[&str]) -> Option<Answer<IpAddr>> {
        let items = addrs.iter().map(|addr| addr.parse().unwrap()).collect();
        Some(Ok(Found {
            items,
            ttl: Duration::from_secs(5),
        }))
    }

    fn answer(ipv4: Option<Answer<IpAddr>>, ipv6: Option<Answer<IpAddr>>) -> AddressAnswer {
        AddressAnswer { ipv4, ipv6 }
    }

    fn addrs(memory: &AddressMemory) -> Vec<String> {
        memory.addrs().map(|ip| ip.to_string()).collect()
    }

    #[test]
    fn last_good_set_is_kept_per_family() {
        let known = answer(found(&[V4]), found(&[V6]));
        let check = |ipv4, ipv6, expected: &[&str], miss: Option<Miss>| {
            let mut memory = AddressMemory::default();
            memory.merge(known.clone());
            let given = answer(ipv4, ipv6);
            let merge = memory.merge(given.clone());
            assert_eq!(addrs(&memory), expected, "{given:?}");
            assert_eq!(merge.miss, miss, "{given:?}");
        };
        let other = "10.0.0.9";
        check(found(&[other]), found(&[V6]), &[other, V6], None);
        check(found(&[other]), Some(Err(Miss::NoData)), &[other], None);
        check(found(&[other]), found(&[]), &[other], None);
        check(Some(Err(Miss::NoData)), found(&[V6]), &[V6], None);
        for miss in [Miss::NxDomain, Miss::ServFail, Miss::Timeout, Miss::Other] {
            check(found(&[other]), Some(Err(miss)), &[other, V6], Some(miss));
            check(Some(Err(miss)), Some(Err(miss)), &[V4, V6], Some(miss));
            check(
                Some(Err(miss)),
                Some(Err(Miss::NoData)),
                &[V4, V6],
                Some(miss),
            );
        }
        check(
            Some(Err(Miss::NoData)),
            Some(Err(Miss::NoData)),
            &[V4, V6],
            Some(Miss::NoData),
        );
        check(found(&[]), found(&[]), &[V4, V6], Some(Miss::NoData));
        check(None, found(&[V6]), &[V6], None);
    }

    #[test]
    fn family_that_never_answered_is_not_stale() {
        let mut memory = AddressMemory::default();
        let merge = memory.merge(answer(found(&[V4]), Some(Err(Miss::Timeout))));
        assert_eq!(
            merge,
            Merge {
                ttl: Some(Duration::from_secs(5)),
                miss: None
            }
        );
        let merge = AddressMemory::default()
            .merge(answer(Some(Err(Miss::NxDomain)), Some(Err(Miss::NoData))));
        assert_eq!(
            merge,
            Merge {
                ttl: None,
                miss: Some(Miss::NxDomain)
            }
        );
    }

    fn record(host: &str, port: u16, priority: u16, weight: u16) -> ServiceRecord {
        ServiceRecord {
            host: host.to_owned(),
            port,
            priority,
            weight,
        }
    }

    #[expect(clippy::unnecessary_wraps, reason = "reads as the answer it is")]
    fn records(items: Vec<ServiceRecord>) -> Answer<ServiceRecord> {
        Ok(Found {
            items,
            ttl: Duration::from_secs(9),
        })
    }

    #[test]
    fn srv_keeps_the_last_good_addresses_per_host() {
        let mut memory = ServiceMemory::default();
        memory.merge_records(records(vec![
            record("a", 1883, 0, 0),
            record("b", 1884, 1, 7),
        ]));
        assert_eq!(memory.hosts().collect::<Vec<_>>(), ["a", "b"]);
        memory.merge_host("a", answer(found(&["10.0.0.1"]), Some(Err(Miss::NoData))));
        memory.merge_host("b", answer(found(&["10.0.0.2"]), Some(Err(Miss::NoData))));
        let seen = |memory: &ServiceMemory| -> Vec<_> {
            memory
                .targets()
                .iter()
                .map(|t| (t.id.to_string(), t.priority, t.weight, t.name.clone()))
                .collect()
        };
        let both = [
            ("10.0.0.1:1883".to_owned(), 0, 1, "a".to_owned()),
            ("10.0.0.2:1884".to_owned(), 1, 7, "b".to_owned()),
        ];
        assert_eq!(seen(&memory), both);

        let merge = memory.merge_host(
            "a",
            answer(Some(Err(Miss::ServFail)), Some(Err(Miss::ServFail))),
        );
        assert_eq!(merge.miss, Some(Miss::ServFail));
        assert_eq!(
            memory.merge_records(Err(Miss::Timeout)).miss,
            Some(Miss::Timeout)
        );
        assert_eq!(
            memory
                .merge_records(records(vec![record("", 0, 0, 0)]))
                .miss,
            Some(Miss::NoData)
        );
        assert_eq!(seen(&memory), both, "failures change nothing");

        memory.merge_records(records(vec![record("b", 1884, 1, 7)]));
        assert_eq!(seen(&memory), both[1..]);
        assert_eq!(
            memory.merge_host("a", answer(found(&["10.0.0.1"]), None)),
            Merge::default()
        );
        assert_eq!(seen(&memory), both[1..]);
    }

    #[test]
    fn outcome_labels_fit_their_index() {
        for miss in [
            Miss::NoData,
            Miss::NxDomain,
            Miss::Other,
            Miss::ServFail,
            Miss::Timeout,
        ] {
            assert_eq!(format!("{miss:?}").to_lowercase(), miss.label());
        }
    }
}
