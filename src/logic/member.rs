//! The tier as one member sees it: who is there, what each one last said, what follows for a pool.

use crate::logic::endpoint::EndpointId;
use crate::logic::event::PeerVerdict;
use crate::logic::peer::PeerCounts;
use crate::logic::record::{DrainFact, PoolRecord};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

/// Whether and how a member counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MemberState {
    /// Serves.
    Alive,
    /// On its way out; what it still holds is counted.
    Leaving,
    /// Said goodbye: not counted.
    Gone,
    /// The failure detector no longer hears it: not counted.
    Lost,
}

impl MemberState {
    /// All states, in label order.
    pub const ALL: [Self; 4] = [Self::Alive, Self::Leaving, Self::Gone, Self::Lost];

    /// The word in API, metrics and logs.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Alive => "alive",
            Self::Leaving => "leaving",
            Self::Gone => "gone",
            Self::Lost => "lost",
        }
    }

    /// Whether its connections are real load as far as we know.
    pub const fn counts(self) -> bool {
        matches!(self, Self::Alive | Self::Leaving)
    }
}

/// One pool's record as it is held here.
#[derive(Clone, Debug, PartialEq)]
pub struct HeldRecord {
    /// What the member said.
    pub record: PoolRecord,
    /// When it was true, on our clock.
    pub taken_at: Instant,
}

/// Another member.
#[derive(Clone, Debug, PartialEq)]
pub struct Member {
    /// Its name.
    pub id: Arc<str>,
    /// Its restart counter: only the newest one is kept.
    pub generation: u64,
    /// Where it is sent to.
    pub addr: SocketAddr,
    /// Whether it counts.
    pub state: MemberState,
    /// Since when it is in this state.
    pub since: Instant,
    /// Release of its binary; empty until it was heard.
    pub release: Arc<str>,
    /// When it last said something, on our clock.
    pub heard_at: Option<Instant>,
    /// Its records by pool name; shared between views as long as the member says nothing new.
    pub pools: Arc<BTreeMap<Arc<str>, Arc<HeldRecord>>>,
}

/// The whole tier, without this instance itself. Members are sorted by id.
#[derive(Clone, Debug, PartialEq)]
pub struct ClusterView {
    /// This instance's name.
    pub own_id: Arc<str>,
    /// This instance's restart counter; 0 until gossip runs.
    pub own_generation: u64,
    /// Everybody else, the lost ones for some minutes.
    pub members: Vec<Member>,
    /// Drains that an operator said anywhere in the tier, sorted by pool and endpoint.
    pub drains: Arc<Vec<DrainFact>>,
    /// No other member counts, since then: this instance serves alone.
    pub alone_since: Option<Instant>,
}

/// How one live member sees one endpoint, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sight {
    /// The member.
    pub id: Arc<str>,
    /// It calls the endpoint down or has ejected it.
    pub down: bool,
    /// Its probes saw it evacuating.
    pub evacuating: bool,
}

impl ClusterView {
    /// The view of an instance that has heard nobody yet.
    pub fn alone(own_id: Arc<str>, since: Instant) -> Self {
        Self {
            own_id,
            own_generation: 0,
            members: Vec::new(),
            drains: Arc::new(Vec::new()),
            alone_since: Some(since),
        }
    }

    /// Nobody else counts.
    pub fn is_alone(&self) -> bool {
        self.alone_since.is_some()
    }

    /// Members whose counts are real load.
    pub fn counting(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| member.state.counts())
    }

    /// The record of one pool from every member that counts and has the pool.
    pub fn records<'a>(
        &'a self,
        pool: &'a str,
    ) -> impl Iterator<Item = (&'a Member, &'a HeldRecord)> {
        self.counting()
            .filter_map(move |member| Some((member, &**member.pools.get(pool)?)))
    }

    /// What the picker of a pool needs, sorted by member id.
    pub fn peer_counts(&self, pool: &str) -> Vec<PeerCounts> {
        self.records(pool)
            .map(|(member, held)| PeerCounts {
                id: Arc::clone(&member.id),
                taken_at: held.taken_at,
                rate: held.record.facts.rate,
                counts: Arc::clone(&held.record.facts.counts),
            })
            .collect()
    }

    /// Nobody calls an endpoint of the pool down or evacuating.
    pub fn is_content(&self, pool: &str) -> bool {
        self.records(pool).all(|(_, held)| {
            held.record.facts.down.is_empty() && held.record.facts.evacuating.is_empty()
        })
    }

    /// What the peers together see of a pool, sorted by endpoint. A peer has a verdict on every endpoint it counts.
    pub fn verdicts(&self, pool: &str) -> Vec<PeerVerdict> {
        let mut tally: BTreeMap<EndpointId, PeerVerdict> = BTreeMap::new();
        for (_, held) in self.records(pool) {
            let facts = &held.record.facts;
            for (endpoint, _) in facts.counts.iter() {
                let verdict = verdict_on(&mut tally, *endpoint);
                verdict.seen = verdict.seen.saturating_add(1);
            }
            for endpoint in &facts.down {
                let counted = |(id, _): &(EndpointId, u32)| *id;
                let uncounted = facts
                    .counts
                    .binary_search_by_key(endpoint, counted)
                    .is_err();
                let verdict = verdict_on(&mut tally, *endpoint);
                verdict.down = verdict.down.saturating_add(1);
                verdict.seen = verdict.seen.saturating_add(u16::from(uncounted));
            }
            for endpoint in &facts.evacuating {
                let verdict = verdict_on(&mut tally, *endpoint);
                verdict.evacuating = verdict.evacuating.saturating_add(1);
            }
        }
        tally.into_values().collect()
    }

    /// Who sees what of one endpoint.
    pub fn sights(&self, pool: &str, endpoint: EndpointId) -> Vec<Sight> {
        let knows = |held: &HeldRecord| {
            let facts = &held.record.facts;
            let counted = |(id, _): &(EndpointId, u32)| *id;
            facts
                .counts
                .binary_search_by_key(&endpoint, counted)
                .is_ok()
                || facts.down.binary_search(&endpoint).is_ok()
        };
        self.records(pool)
            .filter(|(_, held)| knows(held))
            .map(|(member, held)| Sight {
                id: Arc::clone(&member.id),
                down: held.record.facts.down.binary_search(&endpoint).is_ok(),
                evacuating: held
                    .record
                    .facts
                    .evacuating
                    .binary_search(&endpoint)
                    .is_ok(),
            })
            .collect()
    }

    /// Endpoints of a pool that operators drained anywhere in the tier.
    pub fn drained(&self, pool: &str) -> BTreeSet<EndpointId> {
        self.drains
            .iter()
            .filter(|fact| fact.drained && fact.pool == pool)
            .map(|fact| fact.endpoint)
            .collect()
    }

    /// Endpoints of a pool that some peer's probes saw evacuating.
    pub fn evacuating(&self, pool: &str) -> BTreeSet<EndpointId> {
        self.records(pool)
            .flat_map(|(_, held)| held.record.facts.evacuating.iter().copied())
            .collect()
    }

    /// Members whose configuration of a pool is not ours.
    pub fn differing<'a>(
        &'a self,
        pool: &'a str,
        fingerprint: u64,
    ) -> impl Iterator<Item = &'a Member> {
        self.records(pool)
            .filter(move |(_, held)| held.record.fingerprint != fingerprint)
            .map(|(member, _)| member)
    }
}

fn verdict_on(
    tally: &mut BTreeMap<EndpointId, PeerVerdict>,
    endpoint: EndpointId,
) -> &mut PeerVerdict {
    tally.entry(endpoint).or_insert(PeerVerdict {
        endpoint,
        down: 0,
        evacuating: 0,
        seen: 0,
    })
}

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "an arbitrary origin for virtual time"
)]
mod tests {
    use super::*;
    use crate::logic::peer::PoolFacts;

    fn endpoint(last: u8) -> EndpointId {
        EndpointId(([10, 0, 0, last], 1883).into())
    }

    fn member(id: &str, state: MemberState, now: Instant, facts: PoolFacts) -> Member {
        let record = PoolRecord {
            version: 1,
            fingerprint: 7,
            facts,
        };
        Member {
            id: id.into(),
            generation: 1,
            addr: ([127, 0, 0, 1], 1).into(),
            state,
            since: now,
            release: "".into(),
            heard_at: None,
            pools: Arc::new(
                [(
                    "emqx".into(),
                    Arc::new(HeldRecord {
                        record,
                        taken_at: now,
                    }),
                )]
                .into(),
            ),
        }
    }

    fn view() -> ClusterView {
        let now = Instant::now();
        let facts = |count, down: &[u8], evacuating: &[u8]| PoolFacts {
            counts: Arc::new(vec![(endpoint(1), count), (endpoint(2), 0)]),
            rate: 1.0,
            down: down.iter().copied().map(endpoint).collect(),
            evacuating: evacuating.iter().copied().map(endpoint).collect(),
        };
        ClusterView {
            members: vec![
                member("a", MemberState::Alive, now, facts(1, &[1], &[])),
                member("b", MemberState::Leaving, now, facts(2, &[1, 3], &[2])),
                member("c", MemberState::Gone, now, facts(4, &[2], &[1])),
                member("d", MemberState::Lost, now, facts(8, &[2], &[1])),
            ],
            alone_since: None,
            ..ClusterView::alone("me".into(), now)
        }
    }

    #[test]
    fn gone_and_lost_members_say_nothing() {
        let view = view();
        let ids: Vec<String> = view
            .peer_counts("emqx")
            .into_iter()
            .map(|peer| peer.id.to_string())
            .collect();
        assert_eq!(ids, ["a", "b"]);
        assert_eq!(view.evacuating("emqx"), [endpoint(2)].into());
        assert!(view.peer_counts("other").is_empty());
    }

    #[test]
    fn verdicts_count_every_peer_that_knows_the_endpoint_once() {
        let verdict = |last, down, evacuating, seen| PeerVerdict {
            endpoint: endpoint(last),
            down,
            evacuating,
            seen,
        };
        assert_eq!(
            view().verdicts("emqx"),
            [
                verdict(1, 2, 0, 2),
                verdict(2, 0, 1, 2),
                verdict(3, 1, 0, 1)
            ]
        );
        assert!(
            view()
                .sights("emqx", endpoint(3))
                .iter()
                .any(|sight| sight.down && &*sight.id == "b")
        );
    }

    #[test]
    fn a_differing_configuration_is_named() {
        assert_eq!(view().differing("emqx", 7).count(), 0);
        assert_eq!(view().differing("emqx", 8).count(), 2);
    }
}
