//! One endpoint of a pool: the verdicts on it, and the view that they add up to.

use super::takes_connections;
use crate::logic::balance::{Listing, Standing};
use crate::logic::endpoint::{EndpointId, Target};
use crate::logic::event::{PeerVerdict, ProbeResult};
use crate::logic::health_state::{HealthState, Thresholds, Verdict};
use crate::logic::outlier::{Outlier, Phase};
use crate::logic::snapshot::{EndpointState, EndpointView};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// See the module.
#[derive(Debug)]
pub(super) struct Member {
    /// Not in discovery's last answer.
    pub(super) vanished: bool,
    health: HealthState,
    /// The verdict of `health` is other members' work.
    relayed: bool,
    pub(super) outlier: Outlier,
    /// Live peers that call it down, and have a verdict.
    peers: Option<PeerVerdict>,
    rechecked_at: Option<Instant>,
    /// As last published.
    pub(super) view: EndpointView,
}

impl Member {
    pub(super) fn new(target: Target) -> Self {
        Self {
            vanished: false,
            health: HealthState::default(),
            relayed: false,
            outlier: Outlier::default(),
            peers: None,
            rechecked_at: None,
            view: EndpointView {
                target,
                state: EndpointState::Unproven,
                why: String::new(),
                drain: false,
                latency: None,
                second_hand: false,
            },
        }
    }

    /// Takes the result of a probe of our own.
    pub(super) fn probed(&mut self, result: ProbeResult, thresholds: Thresholds) {
        if std::mem::take(&mut self.relayed) {
            // Their verdict is no row of ours to continue.
            self.health = HealthState::default();
        }
        self.health.probed(result, thresholds);
    }

    /// Takes the verdict of the members that probe for us.
    pub(super) fn probed_by_peers(&mut self, result: ProbeResult) {
        self.relayed = true;
        self.health.relayed(result);
    }

    /// It is in discovery's answer. True if that changes what is shown.
    pub(super) fn found(&mut self, target: Target) -> bool {
        if std::mem::take(&mut self.vanished) {
            // Its probes stopped when it vanished: what they said is as old.
            self.health = HealthState::default();
        }
        let changed = self.view.target != target;
        self.view.target = target;
        changed
    }

    /// Takes the peers' view. True if more of them than before call it down.
    pub(super) fn peers_see(&mut self, verdict: Option<PeerVerdict>) -> bool {
        let before = self.peers.map_or(0, |verdict| verdict.down);
        self.peers = verdict;
        verdict.is_some_and(|verdict| verdict.down > before)
    }

    /// Most of the live members, this one included, which does not, call it down.
    fn peers_doubt(&self) -> bool {
        self.peers
            .is_some_and(|verdict| u32::from(verdict.down) * 2 > u32::from(verdict.seen) + 1)
    }

    /// True, and noted, if the last check that was asked for is long enough ago.
    pub(super) fn recheck_due(&mut self, now: Instant, gap: Duration) -> bool {
        let due = self
            .rechecked_at
            .is_none_or(|at| now.duration_since(at) >= gap);
        if due {
            self.rechecked_at = Some(now);
        }
        due
    }

    /// State, why, and whether that is other members' word.
    fn judge(&self, drained: bool) -> (EndpointState, &str, bool) {
        let (state, why) = self.state(drained);
        let by_probes = matches!(
            state,
            EndpointState::Down | EndpointState::Draining | EndpointState::Full
        );
        let evacuating_elsewhere = self.health.verdict() != Verdict::Draining;
        let second_hand = by_probes && !drained && self.relayed
            || state == EndpointState::Draining && evacuating_elsewhere;
        (state, why, second_hand)
    }

    fn state(&self, drained: bool) -> (EndpointState, &str) {
        let verdict = self.health.verdict();
        if self.vanished {
            (EndpointState::Vanished, "no longer in discovery's answer")
        } else if verdict == Verdict::Down {
            (EndpointState::Down, self.health.why())
        } else if drained {
            (EndpointState::Draining, "drained by an operator")
        } else if verdict == Verdict::Draining {
            (EndpointState::Draining, self.health.why())
        } else if self.peers.is_some_and(|verdict| verdict.evacuating > 0) {
            (EndpointState::Draining, "evacuating, as other members see")
        } else if verdict == Verdict::Full {
            (EndpointState::Full, self.health.why())
        } else if matches!(self.outlier.phase(), Phase::Ejected { .. }) {
            (EndpointState::Ejected, self.outlier.why())
        } else if self.outlier.phase() == Phase::Trial {
            (EndpointState::HalfOpen, self.outlier.why())
        } else if verdict == Verdict::Unproven {
            (EndpointState::Unproven, "no probe has answered yet")
        } else if self.peers_doubt() {
            (
                EndpointState::HalfOpen,
                "most members of the tier call it down",
            )
        } else {
            (EndpointState::Up, "")
        }
    }

    /// Takes new connections as things stand, whatever was published last.
    pub(super) fn is_usable(&self, drains: &BTreeSet<EndpointId>) -> bool {
        takes_connections(self.judge(drains.contains(&self.view.target.id)).0)
    }

    /// Nothing but its ejection keeps it from taking new connections.
    pub(super) fn would_be_usable(&self, drains: &BTreeSet<EndpointId>) -> bool {
        self.judge(drains.contains(&self.view.target.id)).0 == EndpointState::Ejected
    }

    /// Brings the view up to date. True if a reader of the snapshot would see a difference.
    pub(super) fn refresh(&mut self, drained: bool) -> bool {
        let (state, why, second_hand) = self.judge(drained);
        let latency = self.health.latency();
        let changed = state != self.view.state
            || why != self.view.why
            || drained != self.view.drain
            || second_hand != self.view.second_hand
            || moved(self.view.latency, latency);
        if changed {
            let why = why.to_owned();
            self.view.why = why;
            self.view.state = state;
            self.view.drain = drained;
            self.view.second_hand = second_hand;
            self.view.latency = latency;
        }
        changed
    }

    /// What the picker is told.
    pub(super) fn listing(&self) -> Listing {
        let standing = match self.view.state {
            EndpointState::Up => Standing::Open,
            EndpointState::Unproven => Standing::Unproven,
            EndpointState::HalfOpen => Standing::Trial,
            EndpointState::Draining
            | EndpointState::Full
            | EndpointState::Ejected
            | EndpointState::Down
            | EndpointState::Vanished => Standing::Closed,
        };
        let Target {
            id,
            weight,
            priority,
            max_connections,
            ..
        } = self.view.target;
        Listing {
            id,
            weight,
            priority,
            max_connections,
            standing,
        }
    }
}

/// Each probe measures another latency; a snapshot for each would wake every reader for nothing. By a half is news.
fn moved(shown: Option<Duration>, measured: Option<Duration>) -> bool {
    match (shown, measured) {
        (Some(shown), Some(measured)) => {
            measured > shown * 3 / 2 + Duration::from_millis(1)
                || shown > measured * 3 / 2 + Duration::from_millis(1)
        }
        (None, None) => false,
        _ => true,
    }
}
