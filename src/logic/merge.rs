//! The table of members: what was heard is merged here, and a [`ClusterView`] is read from it.
//!
//! Newest generation, then newest version wins, in whatever order messages come, so that push, repair and gossip need
//! no agreement. Two generations of one id are never added: the first word of a newer one throws the older away.
//! Membership (who is alive) is the failure detector's, given in by [`MemberTable::set_live`]; a push from somebody it
//! does not know yet counts for [`UNCONFIRMED_MAX`] at most, and a goodbye counts at once.

use crate::logic::clock_offset::ClockOffset;
use crate::logic::drain::DrainTable;
use crate::logic::endpoint::EndpointId;
use crate::logic::member::{ClusterView, HeldRecord, Member, MemberState};
use crate::logic::record::{DrainFact, MemberUpdate, Phase, PoolRecord};
use std::collections::{BTreeMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a member that only its own pushes vouch for is counted: gossip takes 0.2 s at 30 members.
pub const UNCONFIRMED_MAX: Duration = Duration::from_secs(1);

/// Lost members are shown for this long.
pub const LOST_KEPT: Duration = Duration::from_secs(600);

/// Members that are remembered at once, lost ones included.
pub const MEMBERS_MAX: usize = 1024;

/// One live member in the failure detector's list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveMember {
    /// Its name.
    pub id: String,
    /// Its restart counter; several of one id may be alive for a moment.
    pub generation: u64,
    /// Where it is sent to.
    pub addr: SocketAddr,
}

/// What a message did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// The view has changed.
    News,
    /// Nothing that was not known.
    Known,
    /// From a generation that is over.
    Outdated,
    /// Under our own name: our own echo, or another instance that was given the same name.
    Own,
    /// No room for one more member.
    Refused,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// Heard, not in the failure detector's list yet.
    Unconfirmed,
    Live,
    Lost,
}

#[derive(Clone, Debug)]
struct Entry {
    generation: u64,
    addr: SocketAddr,
    standing: Standing,
    phase: Phase,
    since: Instant,
    release: Arc<str>,
    heard_at: Option<Instant>,
    offset: ClockOffset,
    pools: Arc<BTreeMap<Arc<str>, Arc<HeldRecord>>>,
}

/// Everything that is known about the other members.
#[derive(Clone, Debug)]
pub struct MemberTable {
    own_id: Arc<str>,
    epoch: Instant,
    members: BTreeMap<Arc<str>, Entry>,
    drains: DrainTable,
    /// The drains as the view shows them, made anew only when they change.
    drain_facts: Arc<Vec<DrainFact>>,
    alone_since: Option<Instant>,
}

impl MemberTable {
    /// Nobody was heard yet.
    pub fn new(own_id: Arc<str>, now: Instant) -> Self {
        Self {
            own_id,
            epoch: now,
            members: BTreeMap::new(),
            drains: DrainTable::default(),
            drain_facts: Arc::default(),
            alone_since: Some(now),
        }
    }

    /// Takes in what a member said of itself. `wall_ms` is for the age of drains alone.
    pub fn apply(&mut self, update: MemberUpdate, now: Instant, wall_ms: u64) -> Applied {
        if *update.id == *self.own_id {
            return Applied::Own;
        }
        let mut changed = false;
        let id: Arc<str> = Arc::from(update.id.as_str());
        match self.members.get(&id) {
            Some(entry) if entry.generation > update.generation => return Applied::Outdated,
            Some(entry) if entry.generation == update.generation => {}
            known => {
                if known.is_none() && self.members.len() >= MEMBERS_MAX {
                    return Applied::Refused;
                }
                let entry = Entry::new(
                    update.generation,
                    update.addr,
                    Standing::Unconfirmed,
                    self.epoch,
                    now,
                );
                self.members.insert(Arc::clone(&id), entry);
                changed = true;
            }
        }
        let mut drains_changed = false;
        for fact in update.drains {
            drains_changed |= self.drains.merge(fact, wall_ms);
        }
        changed |= self.drains_changed(drains_changed);
        if let Some(entry) = self.members.get_mut(&id) {
            changed |= entry.hear(&update.release, update.phase, update.sent_us, now);
            changed |= entry.take(update.pools, update.complete, update.sent_us, now);
        }
        self.settle(now);
        if changed {
            Applied::News
        } else {
            Applied::Known
        }
    }

    /// Takes in the failure detector's list. `true` when the view has changed.
    pub fn set_live(&mut self, live: &[LiveMember], now: Instant) -> bool {
        let mut newest: BTreeMap<&str, &LiveMember> = BTreeMap::new();
        for member in live.iter().filter(|member| *member.id != *self.own_id) {
            let held = newest.entry(&member.id).or_insert(member);
            if held.generation < member.generation {
                *held = member;
            }
        }
        let mut changed = false;
        for (id, member) in &newest {
            changed |= self.confirm(id, member, now);
        }
        for (id, entry) in &mut self.members {
            let alive = newest
                .get(&**id)
                .is_some_and(|member| member.generation >= entry.generation);
            if entry.standing == Standing::Live && !alive {
                entry.lose(now);
                changed = true;
            }
        }
        changed |= self.expire(now);
        self.settle(now);
        changed
    }

    fn confirm(&mut self, id: &str, member: &LiveMember, now: Instant) -> bool {
        match self.members.get_mut(id) {
            // A newer start has pushed already and the old one is not declared dead yet.
            Some(entry) if entry.generation > member.generation => false,
            Some(entry) if entry.generation == member.generation => {
                let changed = entry.standing != Standing::Live || entry.addr != member.addr;
                if entry.standing == Standing::Lost {
                    entry.since = now;
                }
                entry.standing = Standing::Live;
                entry.addr = member.addr;
                changed
            }
            _ => {
                let entry = Entry::new(
                    member.generation,
                    member.addr,
                    Standing::Live,
                    self.epoch,
                    now,
                );
                self.members.insert(Arc::from(id), entry);
                true
            }
        }
    }

    /// Ends what has a limit in time. `true` when the view has changed.
    pub fn expire(&mut self, now: Instant) -> bool {
        let mut changed = false;
        for entry in self.members.values_mut() {
            if entry.standing == Standing::Unconfirmed && now >= entry.since + UNCONFIRMED_MAX {
                entry.lose(now);
                changed = true;
            }
        }
        let before = self.members.len();
        self.members
            .retain(|_, entry| entry.standing != Standing::Lost || now < entry.since + LOST_KEPT);
        self.settle(now);
        changed || self.members.len() != before
    }

    /// When [`Self::expire`] has something to do.
    pub fn next_expiry(&self) -> Option<Instant> {
        self.members
            .values()
            .filter_map(|entry| match entry.standing {
                Standing::Unconfirmed => Some(entry.since + UNCONFIRMED_MAX),
                Standing::Lost => Some(entry.since + LOST_KEPT),
                Standing::Live => None,
            })
            .min()
    }

    /// An operator drains an endpoint on this member, or gives it back; `false` when there are too many drains.
    pub fn set_drain(
        &mut self,
        pool: &str,
        endpoint: EndpointId,
        drained: bool,
        wall_ms: u64,
    ) -> bool {
        let said = self
            .drains
            .set(pool, endpoint, drained, wall_ms, &self.own_id);
        self.drains_changed(said)
    }

    /// Forgets drains that were taken back long ago. `true` when the view has changed.
    pub fn expire_drains(&mut self, wall_ms: u64) -> bool {
        let expired = self.drains.expire(wall_ms);
        self.drains_changed(expired)
    }

    fn drains_changed(&mut self, changed: bool) -> bool {
        if changed {
            self.drain_facts = Arc::new(self.drains.facts());
        }
        changed
    }

    /// The drains, sorted by pool and endpoint.
    pub fn drains(&self) -> &Arc<Vec<DrainFact>> {
        &self.drain_facts
    }

    /// Where a push goes: everybody that counts.
    pub fn targets(&self) -> Vec<SocketAddr> {
        self.members
            .values()
            .filter(|entry| entry.state().counts())
            .map(|entry| entry.addr)
            .collect()
    }

    /// The picture for everybody else.
    pub fn view(&self, own_generation: u64) -> ClusterView {
        let members = self
            .members
            .iter()
            .map(|(id, entry)| entry.view(Arc::clone(id)))
            .collect();
        ClusterView {
            own_id: Arc::clone(&self.own_id),
            own_generation,
            members,
            drains: Arc::clone(&self.drain_facts),
            alone_since: self.alone_since,
        }
    }

    fn settle(&mut self, now: Instant) {
        let alone = !self.members.values().any(|entry| entry.state().counts());
        self.alone_since = if alone {
            self.alone_since.or(Some(now))
        } else {
            None
        };
    }
}

impl Entry {
    fn new(
        generation: u64,
        addr: SocketAddr,
        standing: Standing,
        epoch: Instant,
        now: Instant,
    ) -> Self {
        Self {
            generation,
            addr,
            standing,
            phase: Phase::Serving,
            since: now,
            release: Arc::from(""),
            heard_at: None,
            offset: ClockOffset::new(epoch, now),
            pools: Arc::default(),
        }
    }

    const fn state(&self) -> MemberState {
        match (self.standing, self.phase) {
            (Standing::Lost, _) => MemberState::Lost,
            (_, Phase::Gone) => MemberState::Gone,
            (_, Phase::Leaving) => MemberState::Leaving,
            (_, Phase::Serving) => MemberState::Alive,
        }
    }

    /// Its counts are dropped with it: after a heal the next push or gossip brings new ones.
    fn lose(&mut self, now: Instant) {
        self.standing = Standing::Lost;
        self.since = now;
        self.pools = Arc::default();
    }

    fn hear(&mut self, release: &str, phase: Phase, sent_us: u64, now: Instant) -> bool {
        self.offset.observe(sent_us, now);
        let sent_at = self.offset.date(sent_us, now);
        self.heard_at = Some(
            self.heard_at
                .map_or(sent_at, |heard_at| heard_at.max(sent_at)),
        );
        let mut changed = false;
        if *self.release != *release {
            self.release = Arc::from(release);
            changed = true;
        }
        if self.phase < phase {
            self.phase = phase;
            self.since = now;
            changed = true;
        }
        changed
    }

    fn take(
        &mut self,
        pools: Vec<(String, PoolRecord)>,
        complete: bool,
        sent_us: u64,
        now: Instant,
    ) -> bool {
        let named: HashSet<&str> = pools.iter().map(|(pool, _)| pool.as_str()).collect();
        // A record younger than a complete list belongs to a pool that was made after it.
        let stays = |pool: &str, held: &HeldRecord| {
            !complete || named.contains(pool) || held.record.version > sent_us
        };
        let newer = |(pool, record): &(String, PoolRecord)| {
            self.pools
                .get(pool.as_str())
                .is_none_or(|held| held.record.version < record.version)
        };
        if self.pools.iter().all(|(pool, held)| stays(pool, held)) && !pools.iter().any(newer) {
            return false;
        }
        // Copied once per message where a view still holds the old one.
        let held = Arc::make_mut(&mut self.pools);
        held.retain(|pool, held| stays(pool, held));
        for (pool, record) in pools {
            if held
                .get(pool.as_str())
                .is_none_or(|held| held.record.version < record.version)
            {
                let taken_at = self.offset.date(record.version, now);
                held.insert(Arc::from(pool), Arc::new(HeldRecord { record, taken_at }));
            }
        }
        true
    }

    fn view(&self, id: Arc<str>) -> Member {
        let state = self.state();
        Member {
            id,
            generation: self.generation,
            addr: self.addr,
            state,
            since: self.since,
            release: Arc::clone(&self.release),
            heard_at: self.heard_at,
            pools: if state.counts() {
                Arc::clone(&self.pools)
            } else {
                Arc::default()
            },
        }
    }
}

#[cfg(test)]
#[path = "merge_tests.rs"]
mod tests;
