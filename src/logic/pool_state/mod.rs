//! What a pool believes of its endpoints: discovery's answers, probes, clients' failures, operators and peers in, one
//! state per endpoint out. The actor in `pool` is a thin shell around [`PoolState`].
//!
//! Precedence of what is shown: vanished, down, draining, full, ejected, half-open, unproven, up.
//!
//! Absent on purpose: connection counts. They belong to the picker and come in as [`EndpointTraffic`], read at the same
//! instant as the event is applied.

mod member;
#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "any instant does as a beginning")]
mod tests;

use crate::logic::balance::{EndpointTraffic, Listing};
use crate::logic::endpoint::{EndpointId, Target};
use crate::logic::event::{ConnectFailure, PeerVerdict, PoolEvent, ProbeResult};
use crate::logic::health_state::Thresholds;
use crate::logic::outlier::{Circumstances, OutlierSettings, Phase};
use crate::logic::snapshot::{EndpointState, PoolSnapshot};
use member::Member;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// Drains that are remembered for endpoints which may come back.
pub const DRAINS_MAX: usize = 1024;

/// Checks of one endpoint that failures ask for are at least this far apart.
const RECHECK_GAP: Duration = Duration::from_millis(200);

/// What of a pool's configuration the verdicts need.
#[derive(Clone, Debug, PartialEq)]
pub struct PoolStateSettings {
    /// The pool's name.
    pub name: String,
    /// Probes in a row.
    pub thresholds: Thresholds,
    /// Passive ejection.
    pub outlier: OutlierSettings,
    /// After how long a connect has failed by time-out.
    pub connect_timeout: Duration,
    /// After how long a CONNECT has.
    pub connack_timeout: Duration,
}

/// An endpoint changed its state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transition {
    /// Which endpoint.
    pub endpoint: EndpointId,
    /// `None` = new in the pool.
    pub from: Option<EndpointState>,
    /// `None` = gone, with its last connection.
    pub to: Option<EndpointState>,
    /// For people.
    pub why: String,
}

/// What is to be done after an event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// Something that the snapshot shows has changed: publish it, and tell the picker.
    pub changed: bool,
    /// For the log.
    pub transitions: Vec<Transition>,
    /// Probe these at once.
    pub recheck: Vec<EndpointId>,
    /// These were ejected, for the counter.
    pub ejected: Vec<EndpointId>,
    /// A drain was not remembered: [`DRAINS_MAX`] are.
    pub drain_refused: Option<EndpointId>,
}

/// See the module.
#[derive(Debug)]
pub struct PoolState {
    settings: PoolStateSettings,
    members: BTreeMap<EndpointId, Member>,
    drains: BTreeSet<EndpointId>,
    number: u64,
    rng: fastrand::Rng,
}

impl PoolState {
    /// A pool without endpoints.
    pub fn new(settings: PoolStateSettings, seed: u64) -> Self {
        let rng = fastrand::Rng::with_seed(seed);
        Self {
            settings,
            members: BTreeMap::new(),
            drains: BTreeSet::new(),
            number: 0,
            rng,
        }
    }

    /// Takes new settings.
    pub fn configure(&mut self, settings: PoolStateSettings) {
        self.settings = settings;
    }

    /// Takes one event. `traffic`: what the picker counts now, any order.
    pub fn apply(
        &mut self,
        event: PoolEvent,
        traffic: &[EndpointTraffic],
        now: Instant,
    ) -> Effects {
        let mut effects = Effects::default();
        match event {
            PoolEvent::Resolved(targets) => self.resolved(targets, &mut effects),
            PoolEvent::Probed(id, result) => self.probed(id, result),
            PoolEvent::ProbedByPeers(id, result) => {
                if let Some(member) = self.members.get_mut(&id) {
                    member.probed_by_peers(result);
                }
            }
            PoolEvent::ConnectFailed(id, failure) => {
                self.connect_failed(id, failure, traffic, now, &mut effects);
            }
            PoolEvent::TrialPassed(id) => {
                if let Some(member) = self.members.get_mut(&id) {
                    member.outlier.trial_passed(now);
                }
            }
            PoolEvent::Drain(id, drain) => self.drain(id, drain, &mut effects),
            PoolEvent::PeersSee(verdicts) => self.peers_see(&verdicts, now, &mut effects),
        }
        self.settle(traffic, now, &mut effects);
        effects
    }

    /// Lets time pass: ends ejections, forgets vanished endpoints whose last connection has ended.
    pub fn tick(&mut self, traffic: &[EndpointTraffic], now: Instant) -> Effects {
        let mut effects = Effects::default();
        self.settle(traffic, now, &mut effects);
        effects
    }

    /// When [`PoolState::tick`] has something to do, if nothing happens before.
    pub fn next_timer(&self) -> Option<Instant> {
        let until = self
            .members
            .values()
            .filter_map(|member| match member.outlier.phase() {
                Phase::Ejected { until } => Some(until),
                Phase::In | Phase::Trial => None,
            });
        until.min()
    }

    /// The picture to publish.
    pub fn snapshot(&self) -> PoolSnapshot {
        PoolSnapshot {
            number: self.number,
            pool: self.settings.name.clone(),
            endpoints: self
                .members
                .values()
                .map(|member| member.view.clone())
                .collect(),
        }
    }

    /// The same for the picker: what is in discovery's answer, sorted.
    pub fn listings(&self) -> Vec<Listing> {
        self.members
            .values()
            .filter(|member| !member.vanished)
            .map(Member::listing)
            .collect()
    }

    fn resolved(&mut self, targets: Vec<Target>, effects: &mut Effects) {
        let mut targets: BTreeMap<EndpointId, Target> = targets
            .into_iter()
            .map(|target| (target.id, target))
            .collect();
        for (id, member) in &mut self.members {
            match targets.remove(id) {
                Some(target) => effects.changed |= member.found(target),
                None => member.vanished = true,
            }
        }
        for (id, target) in targets {
            let member = Member::new(target);
            effects.changed = true;
            effects.transitions.push(Transition {
                endpoint: id,
                from: None,
                to: Some(member.view.state),
                why: member.view.target.name.clone(),
            });
            self.members.insert(id, member);
        }
    }

    fn probed(&mut self, id: EndpointId, result: ProbeResult) {
        if let Some(member) = self.members.get_mut(&id) {
            member.probed(result, self.settings.thresholds);
        }
    }

    fn connect_failed(
        &mut self,
        id: EndpointId,
        failure: ConnectFailure,
        traffic: &[EndpointTraffic],
        now: Instant,
        effects: &mut Effects,
    ) {
        let circumstances = self.circumstances(id, failure, traffic);
        let Some(member) = self.members.get_mut(&id).filter(|member| !member.vanished) else {
            return;
        };
        if failure == ConnectFailure::Local {
            return;
        }
        let outlier = &self.settings.outlier;
        if member
            .outlier
            .failed(failure, &circumstances, outlier, now, &mut self.rng)
        {
            effects.ejected.push(id);
        }
        if member.recheck_due(now, RECHECK_GAP) {
            effects.recheck.push(id);
        }
    }

    fn circumstances(
        &self,
        id: EndpointId,
        failure: ConnectFailure,
        traffic: &[EndpointTraffic],
    ) -> Circumstances {
        let present = || self.members.values().filter(|member| !member.vanished);
        let ejected = present()
            .filter(|member| matches!(member.outlier.phase(), Phase::Ejected { .. }))
            .count();
        let others_usable = self
            .members
            .iter()
            .any(|(other, member)| *other != id && member.is_usable(&self.drains));
        let timeout = match failure {
            ConnectFailure::DialTimeout => self.settings.connect_timeout,
            _ => self.settings.connack_timeout,
        };
        Circumstances {
            failures_in_row: traffic
                .iter()
                .find(|endpoint| endpoint.id == id)
                .map_or(u32::MAX, |endpoint| endpoint.failures_in_row),
            others_succeeded: traffic
                .iter()
                .filter(|endpoint| endpoint.id != id)
                .filter_map(|endpoint| endpoint.last_success)
                .max(),
            // A quarter off: a success from just before everything stopped must not pass for a quick answer.
            patience: timeout * 3 / 4,
            may_eject: others_usable
                && ejected < self.settings.outlier.ejected_max(present().count()),
        }
    }

    /// Remembered by id: an endpoint that vanishes and returns is still drained.
    fn drain(&mut self, id: EndpointId, drain: bool, effects: &mut Effects) {
        if !drain {
            self.drains.remove(&id);
        } else if self.drains.len() < DRAINS_MAX || self.drains.contains(&id) {
            self.drains.insert(id);
        } else {
            effects.drain_refused = Some(id);
        }
    }

    fn peers_see(&mut self, verdicts: &[PeerVerdict], now: Instant, effects: &mut Effects) {
        for (id, member) in &mut self.members {
            let verdict = verdicts
                .iter()
                .find(|verdict| verdict.endpoint == *id)
                .copied();
            if member.peers_see(verdict) && !member.vanished && member.recheck_due(now, RECHECK_GAP)
            {
                effects.recheck.push(*id);
            }
        }
    }

    /// Brings everything that follows from the rest into line, and notes what changed.
    fn settle(&mut self, traffic: &[EndpointTraffic], now: Instant, effects: &mut Effects) {
        for member in self.members.values_mut() {
            member.outlier.tick(now);
        }
        self.keep_one_usable();
        self.forget_vanished(traffic, effects);
        for (id, member) in &mut self.members {
            let from = member.view.state;
            if !member.refresh(self.drains.contains(id)) {
                continue;
            }
            effects.changed = true;
            if member.view.state != from {
                effects.transitions.push(Transition {
                    endpoint: *id,
                    from: Some(from),
                    to: Some(member.view.state),
                    why: member.view.why.clone(),
                });
            }
        }
        self.number += u64::from(effects.changed);
        self.check_invariants();
    }

    /// Ejections are a choice among endpoints. When the probes or an operator took the others away, there is none.
    fn keep_one_usable(&mut self) {
        if self
            .members
            .values()
            .any(|member| member.is_usable(&self.drains))
        {
            return;
        }
        for member in self.members.values_mut() {
            if member.would_be_usable(&self.drains) {
                member.outlier.readmit();
            }
        }
    }

    fn forget_vanished(&mut self, traffic: &[EndpointTraffic], effects: &mut Effects) {
        self.members.retain(|id, member| {
            let holds = || {
                traffic
                    .iter()
                    .any(|endpoint| endpoint.id == *id && endpoint.own > 0)
            };
            if !member.vanished || holds() {
                return true;
            }
            effects.changed = true;
            effects.transitions.push(Transition {
                endpoint: *id,
                from: Some(member.view.state),
                to: None,
                why: "no longer in discovery's answer, no connection left".into(),
            });
            false
        });
    }

    /// Asserts what must hold between two calls, in debug builds.
    pub fn check_invariants(&self) {
        debug_assert!(
            self.members
                .iter()
                .all(|(id, member)| member.view.target.id == *id),
            "a member is stored under its own id"
        );
        debug_assert!(self.drains.len() <= DRAINS_MAX, "drains are bounded");
        debug_assert!(
            self.members
                .values()
                .any(|member| member.is_usable(&self.drains))
                || !self
                    .members
                    .values()
                    .any(|member| member.would_be_usable(&self.drains)),
            "the last usable endpoint is not ejected"
        );
    }

    /// True for an endpoint whose drain an operator asked for, in the pool or not.
    pub fn is_drained(&self, id: EndpointId) -> bool {
        self.drains.contains(&id)
    }
}

/// What the views of a pool say in the terms of a state: `true` if it takes new connections at all.
pub const fn takes_connections(state: EndpointState) -> bool {
    matches!(
        state,
        EndpointState::Up | EndpointState::HalfOpen | EndpointState::Unproven
    )
}
