//! What an instance says to its peers, and the modelled half of the gossip library: heartbeats that everybody relays,
//! a failure detector, and anti-entropy that repairs what a lost push left out.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tidegate::logic::merge::LiveMember;
use tidegate::logic::peer::PoolFacts;
use tidegate::logic::push_schedule::Push;
use tidegate::logic::record::{DrainFact, MemberUpdate, Phase, PoolRecord};

/// The one pool.
pub(crate) const POOL: &str = "brokers";

/// Between two rounds: the default interval of 100 ms, as a runtime keeps it. Microseconds.
pub(crate) const ROUND_US: Range<u64> = 98_000..102_000;

/// Members that a round is held with.
pub(crate) const FANOUT: usize = 3;

/// Where an instance's peers send to.
pub(crate) fn addr(instance: usize) -> SocketAddr {
    let port = u16::try_from(7000 + instance).expect("few instances");
    SocketAddr::from(([10, 9, 0, 1], port))
}

/// The instance behind an address.
pub(crate) fn instance_at(addr: SocketAddr) -> usize {
    usize::from(addr.port()) - 7000
}

/// The own half: stamps records with the own monotonic clock and says them.
#[derive(Debug)]
pub(crate) struct Speech {
    id: Arc<str>,
    instance: usize,
    pub(crate) generation: u64,
    pub(crate) phase: Phase,
    epoch: Instant,
    stamp_us: u64,
    record: Option<PoolRecord>,
}

impl Speech {
    pub(crate) fn new(id: Arc<str>, instance: usize, generation: u64, epoch: Instant) -> Self {
        Self {
            id,
            instance,
            generation,
            phase: Phase::Serving,
            epoch,
            stamp_us: 0,
            record: None,
        }
    }

    /// The message of a push; `None` when there is nothing new to say.
    pub(crate) fn push(
        &mut self,
        push: Push,
        facts: PoolFacts,
        drains: &[DrainFact],
        now: Instant,
    ) -> Option<MemberUpdate> {
        let elapsed = u64::try_from(now.duration_since(self.epoch).as_micros()).ok()?;
        self.stamp_us = elapsed.max(self.stamp_us + 1);
        let record = PoolRecord {
            version: self.stamp_us,
            fingerprint: 1,
            facts,
        };
        let news = self.record.as_ref().is_none_or(|old| {
            old.differs(&record) || old.facts.rate.total_cmp(&record.facts.rate).is_ne()
        });
        self.record = Some(record);
        if push == Push::Changes && !news {
            return None;
        }
        let all = push == Push::All;
        let drains = if all { drains } else { &[] };
        Some(self.update(all, drains))
    }

    /// The value for gossip: what was said last.
    fn value(&self, drains: &[DrainFact]) -> MemberUpdate {
        self.update(false, drains)
    }

    fn update(&self, complete: bool, drains: &[DrainFact]) -> MemberUpdate {
        let gone = self.phase == Phase::Gone;
        let record = self.record.clone().filter(|_| !gone);
        MemberUpdate {
            id: self.id.to_string(),
            generation: self.generation,
            addr: addr(self.instance),
            release: String::new(),
            phase: self.phase,
            complete,
            sent_us: self.stamp_us,
            pools: record
                .map(|record| (POOL.to_owned(), record))
                .into_iter()
                .collect(),
            drains: drains.to_vec(),
        }
    }
}

/// One member in a round's message.
#[derive(Clone, Debug)]
pub(crate) struct Sighting {
    generation: u64,
    heartbeat: u64,
    value: Option<Rc<MemberUpdate>>,
    /// When the heartbeat was seen to grow; never in what was only heard of once.
    grew_at: Option<Duration>,
}

/// A round's message: all that one member knows of all.
pub(crate) type Digest = BTreeMap<usize, Sighting>;

/// The modelled gossip of one instance.
#[derive(Debug)]
pub(crate) struct Gossip {
    own: usize,
    seen: Digest,
    /// A heartbeat that stands still for so long means death.
    patience: Duration,
}

impl Gossip {
    pub(crate) fn new(own: usize, generation: u64, rng: &mut fastrand::Rng) -> Self {
        let myself = Sighting {
            generation,
            heartbeat: 0,
            value: None,
            grew_at: None,
        };
        Self {
            own,
            seen: BTreeMap::from([(own, myself)]),
            patience: Duration::from_millis(rng.u64(900..1300)),
        }
    }

    /// A round begins.
    pub(crate) fn beat(&mut self, speech: &Speech, drains: &[DrainFact]) -> Digest {
        let value = speech.value(drains);
        if let Some(myself) = self.seen.get_mut(&self.own) {
            myself.heartbeat += 1;
            let said = |held: &MemberUpdate| {
                (held.sent_us, held.phase, &held.drains)
                    == (value.sent_us, value.phase, &value.drains)
            };
            if !myself.value.as_deref().is_some_and(said) {
                myself.value = Some(Rc::new(value));
            }
        }
        self.seen.clone()
    }

    /// Takes a message; what it says that is new.
    pub(crate) fn merge(&mut self, digest: Digest, now: Duration) -> Vec<Rc<MemberUpdate>> {
        let mut news = Vec::new();
        for (member, heard) in digest {
            if member == self.own {
                continue;
            }
            let known = self.seen.entry(member).or_insert_with(|| Sighting {
                generation: 0,
                ..heard.clone()
            });
            let order = (heard.generation, heard.heartbeat);
            if order <= (known.generation, known.heartbeat) {
                continue;
            }
            let same_start = known.generation == heard.generation;
            known.grew_at = same_start.then_some(now);
            known.generation = heard.generation;
            known.heartbeat = heard.heartbeat;
            let fresh = match (&known.value, &heard.value) {
                (Some(old), Some(new)) if same_start => !Rc::ptr_eq(old, new),
                (_, new) => new.is_some(),
            };
            if fresh || !same_start {
                known.value.clone_from(&heard.value);
                news.extend(heard.value);
            }
        }
        news
    }

    /// What is known, for the answer.
    pub(crate) fn digest(&self) -> Digest {
        self.seen.clone()
    }

    /// Who lives.
    pub(crate) fn live(&self, now: Duration, name: impl Fn(usize) -> String) -> Vec<LiveMember> {
        let lives = |grew_at: Option<Duration>| {
            grew_at.is_some_and(|grew_at| now.saturating_sub(grew_at) < self.patience)
        };
        self.seen
            .iter()
            .filter(|(member, sighting)| **member != self.own && lives(sighting.grew_at))
            .map(|(member, sighting)| LiveMember {
                id: name(*member),
                generation: sighting.generation,
                addr: addr(*member),
            })
            .collect()
    }
}
