//! What producers (discovery, health, relay, cluster, operators) tell a pool. Producers know this enum and not the
//! pool; the pool knows this enum and not the producers.

use crate::logic::endpoint::{EndpointId, Target};
use std::time::Duration;

/// One thing that happened, sent into a pool's queue.
#[derive(Clone, Debug, PartialEq)]
pub enum PoolEvent {
    /// Discovery's complete answer: what is missing from it has vanished and drains.
    Resolved(Vec<Target>),
    /// One active probe ended.
    Probed(EndpointId, ProbeResult),
    /// A relay's attempt on an endpoint failed. Successes are counted in the picker, without an event.
    ConnectFailed(EndpointId, ConnectFailure),
    /// A relay's attempt succeeded on an endpoint that is in its half-open trial.
    TrialPassed(EndpointId),
    /// Operator or peer: take no new connections (`true`) or take them again (`false`).
    Drain(EndpointId, bool),
    /// The members that probe this endpoint for us (`health.shared`) agree on this; rise and fall have been applied there.
    ProbedByPeers(EndpointId, ProbeResult),
    /// What the other members of the tier see, per endpoint: how many of them call it down, how many are alive.
    PeersSee(Vec<PeerVerdict>),
}

/// The view of the other live members on one endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerVerdict {
    /// Which endpoint.
    pub endpoint: EndpointId,
    /// Live peers that call it down or have ejected it.
    pub down: u16,
    /// Live peers whose own probes saw it evacuating: drain for all.
    pub evacuating: u16,
    /// Live peers that have a verdict at all.
    pub seen: u16,
}

/// What one probe learned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeResult {
    /// The endpoint answered as it should, after this long.
    Up(Duration),
    /// Healthy, but asks for no new connections (EMQX evacuation, CONNACK 0x9C/0x9D).
    Draining(String),
    /// Healthy, but full: no new connections until a later probe says otherwise (CONNACK 0x88, 0x89, 0x97,
    /// 0x9F; v3 return code 3).
    Full(String),
    /// Did not answer as it should; the reason is for people and bounded to 200 bytes.
    Down(String),
}

/// Why an attempt to join a client to an endpoint failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ConnectFailure {
    /// TCP connect refused or unreachable.
    Refused,
    /// TCP connect took longer than `connect_timeout`.
    DialTimeout,
    /// Accepted, then closed before CONNACK: the sign of a broker at `max_connections`.
    ClosedBeforeConnack,
    /// No CONNACK within `connack_timeout`.
    ConnackTimeout,
    /// CONNACK that names the broker as unable: v5 0x88, 0x89, 0x97, 0x9C, 0x9D; v3 return code 3.
    ConnackUnavailable(u8),
    /// The first packet was no CONNACK or AUTH.
    NotMqtt,
    /// Our own side: no source port, no file descriptor. Never held against the endpoint.
    Local,
}

impl ConnectFailure {
    /// All label values, in the order of [`ConnectFailure::index`].
    pub const LABELS: [&'static str; 7] = [
        "refused",
        "dial_timeout",
        "closed_before_connack",
        "connack_timeout",
        "connack_unavailable",
        "not_mqtt",
        "local",
    ];

    /// Position in tables and metrics.
    pub const fn index(self) -> usize {
        match self {
            Self::Refused => 0,
            Self::DialTimeout => 1,
            Self::ClosedBeforeConnack => 2,
            Self::ConnackTimeout => 3,
            Self::ConnackUnavailable(_) => 4,
            Self::NotMqtt => 5,
            Self::Local => 6,
        }
    }

    /// The metric label and log word.
    pub const fn label(self) -> &'static str {
        Self::LABELS[self.index()]
    }

    /// A broker that does not like a CONNECT closes or talks nonsense as well: only when another one accepts the same CONNECT
    /// was it the broker's fault. Otherwise one bad client could have every broker ejected.
    pub const fn may_be_the_clients_fault(self) -> bool {
        matches!(self, Self::ClosedBeforeConnack | Self::NotMqtt)
    }

    /// A time-out says less than a refusal: when all endpoints are slow at once, the cause is shared (a cluster-wide
    /// lock on client ids in EMQX), and ejecting one of them helps nobody.
    pub const fn is_slowness(self) -> bool {
        matches!(self, Self::DialTimeout | Self::ConnackTimeout)
    }
}
