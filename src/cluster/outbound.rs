//! What this instance says: its own records, as messages to push and as values to gossip.

use super::codec;
use super::gossip::Values;
use super::signal::ChangeSignal;
use super::stats::Stats;
use crate::logic::endpoint::EndpointId;
use crate::logic::peer::PoolFacts;
use crate::logic::push_schedule::Push;
use crate::logic::record::{DrainFact, MemberUpdate, Phase, PoolRecord};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A gossiped value of more than 64 KB would block the member's later updates silently; 16 KB hold 1700 endpoints.
const VALUE_BYTES_MAX: usize = 16 * 1024;

/// Counts change all the time and are pushed; gossip, which repairs what pushes lost, sets them anew only every so many
/// intervals. With every interval, packing and unpacking them was a third of what the tier cost.
const COUNT_INTERVALS: u32 = 5;

/// What gossip has not been given yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stale {
    Nothing,
    /// Counts and rates alone.
    Counts,
    /// Verdicts, drains, phase, generation, configuration.
    Facts,
}

/// One pool as the pools report it.
#[derive(Clone, Debug, PartialEq)]
pub struct PoolReport {
    /// Name in the configuration.
    pub pool: String,
    /// Fingerprint of what must be the same on all instances.
    pub fingerprint: u64,
    /// Counts, rate, health.
    pub facts: PoolFacts,
}

/// Reads the facts of all pools; called by the cluster's task for every push, so it must be cheap and never block.
pub type FactSource = Arc<dyn Fn() -> Vec<PoolReport> + Send + Sync>;

/// The own half of the cluster.
pub(super) struct Outbound {
    id: Arc<str>,
    release: String,
    addr: SocketAddr,
    facts: FactSource,
    changed: Arc<ChangeSignal>,
    epoch: Instant,
    generation: u64,
    phase: Phase,
    records: BTreeMap<String, PoolRecord>,
    /// Last stamp given out.
    stamp_us: u64,
    /// When phase, drains or generation changed last.
    touched_us: u64,
    drains_told: bool,
    stale: Stale,
}

impl Outbound {
    pub(super) fn new(
        id: Arc<str>,
        release: String,
        addr: SocketAddr,
        facts: FactSource,
        changed: Arc<ChangeSignal>,
        epoch: Instant,
    ) -> Self {
        Self {
            id,
            release,
            addr,
            facts,
            changed,
            epoch,
            generation: 0,
            phase: Phase::Serving,
            records: BTreeMap::new(),
            stamp_us: 0,
            touched_us: 0,
            drains_told: false,
            stale: Stale::Facts,
        }
    }

    pub(super) fn id(&self) -> &Arc<str> {
        &self.id
    }

    pub(super) const fn generation(&self) -> u64 {
        self.generation
    }

    /// How long after the last values new ones are due; `None` while there is nothing new.
    pub(super) fn values_wait(&self, interval: Duration) -> Option<Duration> {
        match self.stale {
            Stale::Nothing => None,
            Stale::Counts => Some(interval * COUNT_INTERVALS),
            Stale::Facts => Some(interval),
        }
    }

    pub(super) fn fingerprints(&self) -> impl Iterator<Item = (&str, u64)> {
        self.records
            .iter()
            .map(|(pool, record)| (pool.as_str(), record.fingerprint))
    }

    /// `true` when it is a new one.
    pub(super) fn set_generation(&mut self, generation: u64, now: Instant) -> bool {
        let changed = self.generation != generation;
        if changed {
            self.generation = generation;
            self.touch(now);
        }
        changed
    }

    pub(super) fn set_phase(&mut self, phase: Phase) {
        self.phase = self.phase.max(phase);
    }

    /// Something beside the records changed.
    pub(super) fn touch(&mut self, now: Instant) {
        self.touched_us = self.next_stamp(now);
        self.drains_told = false;
        self.stale = Stale::Facts;
    }

    /// Our monotonic clock in microseconds, and never the same twice: it orders our records.
    fn next_stamp(&mut self, now: Instant) -> u64 {
        let elapsed = u64::try_from(now.saturating_duration_since(self.epoch).as_micros())
            .unwrap_or(u64::MAX);
        self.stamp_us = elapsed.max(self.stamp_us + 1);
        self.stamp_us
    }

    /// Reads the facts anew and says what a push must hold. Several messages only when one would be too large.
    pub(super) fn messages(
        &mut self,
        push: Push,
        drains: &[DrainFact],
        now: Instant,
        stats: &Stats,
    ) -> Vec<Vec<u8>> {
        let (changed, removed) = self.refresh(now);
        let all = push == Push::All || removed || !self.drains_told;
        if !all && changed.is_empty() {
            return Vec::new();
        }
        let told = |(pool, _): &(&String, &PoolRecord)| all || changed.contains(*pool);
        let pools = self
            .records
            .iter()
            .filter(told)
            .map(|(pool, record)| (pool.clone(), record.clone()))
            .collect();
        let drains = if all { drains.to_vec() } else { Vec::new() };
        let update = MemberUpdate {
            complete: all,
            pools,
            drains,
            ..self.update(self.stamp_us)
        };
        self.drains_told = true;
        if let Some(message) = codec::encode(&update) {
            return vec![message];
        }
        // Only with hundreds of pools. Removed ones are then seen by gossip alone.
        let rest = MemberUpdate {
            complete: false,
            pools: Vec::new(),
            ..update.clone()
        };
        let single = |pool: (String, PoolRecord)| MemberUpdate {
            pools: vec![pool],
            drains: Vec::new(),
            ..rest.clone()
        };
        let updates = std::iter::once(rest.clone()).chain(update.pools.into_iter().map(single));
        let encoded: Vec<Option<Vec<u8>>> = updates.map(|update| codec::encode(&update)).collect();
        encoded
            .iter()
            .filter(|message| message.is_none())
            .for_each(|_| stats.count_oversize());
        encoded.into_iter().flatten().collect()
    }

    /// Stamps every record as true at this moment. Names of the pools that changed, and whether one was removed.
    fn refresh(&mut self, now: Instant) -> (BTreeSet<String>, bool) {
        self.changed.lower();
        let reports = if self.phase == Phase::Gone {
            Vec::new()
        } else {
            (self.facts)()
        };
        let version = self.next_stamp(now);
        let mut changed = BTreeSet::new();
        let mut records = BTreeMap::new();
        for report in reports {
            let record = PoolRecord {
                version,
                fingerprint: report.fingerprint,
                facts: tidied(report.facts),
            };
            let old = self.records.remove(&report.pool);
            let differs = old.as_ref().is_none_or(|old| record.differs(old));
            if differs {
                let beside_counts = |old: &PoolRecord| record.differs_beside_counts(old);
                self.stale = self.stale.max(if old.as_ref().is_none_or(beside_counts) {
                    Stale::Facts
                } else {
                    Stale::Counts
                });
            }
            let slower = |old: &PoolRecord| old.facts.rate.total_cmp(&record.facts.rate).is_ne();
            if differs || old.as_ref().is_none_or(slower) {
                changed.insert(report.pool.clone());
            }
            records.insert(report.pool, record);
        }
        let removed = !self.records.is_empty();
        if removed {
            self.stale = Stale::Facts;
        }
        self.records = records;
        (changed, removed)
    }

    /// Everything for gossip: one value for the member, one per pool. Values stay the same while facts do.
    pub(super) fn values(&mut self, drains: &[DrainFact], stats: &Stats) -> Values {
        self.stale = Stale::Nothing;
        let member = MemberUpdate {
            drains: drains.to_vec(),
            ..self.update(self.touched_us)
        };
        let mut updates = vec![("member".to_owned(), member)];
        for (pool, record) in &self.records {
            let update = MemberUpdate {
                pools: vec![(pool.clone(), record.clone())],
                ..self.update(record.version)
            };
            updates.push((format!("pool:{pool}"), update));
        }
        let mut pairs = BTreeMap::new();
        for (key, update) in updates {
            let value = codec::encode(&update).map(|bytes| STANDARD_NO_PAD.encode(bytes));
            match value.filter(|value| value.len() <= VALUE_BYTES_MAX) {
                Some(value) => {
                    pairs.insert(key, value);
                }
                // Told by push alone.
                None => stats.count_oversize(),
            }
        }
        Values {
            generation: self.generation,
            pairs,
        }
    }

    fn update(&self, sent_us: u64) -> MemberUpdate {
        MemberUpdate {
            id: self.id.to_string(),
            generation: self.generation,
            addr: self.addr,
            release: self.release.clone(),
            phase: self.phase,
            complete: false,
            sent_us,
            pools: Vec::new(),
            drains: Vec::new(),
        }
    }
}

/// Sorted, without duplicates, with a rate that is a number: what the codec and its readers rely on.
fn tidied(mut facts: PoolFacts) -> PoolFacts {
    let sorted = |pair: &[(EndpointId, u32)]| pair[0].0 < pair[1].0;
    if !facts.counts.windows(2).all(sorted) {
        let counts = Arc::make_mut(&mut facts.counts);
        counts.sort_by_key(|(endpoint, _)| *endpoint);
        counts.dedup_by_key(|(endpoint, _)| *endpoint);
    }
    for list in [&mut facts.down, &mut facts.evacuating] {
        list.sort();
        list.dedup();
    }
    facts.rate = if facts.rate.is_finite() {
        facts.rate.clamp(0.0, 1e6)
    } else {
        0.0
    };
    facts
}
