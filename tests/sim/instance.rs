//! One instance: a process that may be running, and what outlives it (its name, its clock, its DNS).

use crate::clients::Attempt;
use crate::clock::Clock;
use crate::gossip::{Gossip, POOL, Speech};
use crate::world::Setup;
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tidegate::logic::balance::{EndpointTraffic, Picker};
use tidegate::logic::endpoint::{EndpointId, Target};
use tidegate::logic::event::{PeerVerdict, PoolEvent};
use tidegate::logic::member::ClusterView;
use tidegate::logic::merge::MemberTable;
use tidegate::logic::peer::PoolFacts;
use tidegate::logic::pool_state::{PoolState, PoolStateSettings};
use tidegate::logic::push_schedule::PushSchedule;
use tidegate::logic::snapshot::EndpointState;

/// The id of an endpoint by its number.
pub(crate) fn endpoint(index: usize) -> EndpointId {
    let index = u16::try_from(index).expect("few endpoints");
    EndpointId(std::net::SocketAddr::from(([10, 0, 0, 1], 1883 + index)))
}

/// The number of an endpoint by its id.
pub(crate) fn endpoint_index(id: EndpointId) -> usize {
    usize::from(id.addr().port() - 1883)
}

/// What outlives the process.
#[derive(Debug)]
pub(crate) struct Instance {
    pub(crate) index: usize,
    pub(crate) name: Arc<str>,
    pub(crate) clock: Clock,
    /// Starts so far: the generation.
    pub(crate) starts: u64,
    /// What DNS answers here.
    pub(crate) resolved: BTreeSet<usize>,
    pub(crate) process: Option<Process>,
}

/// One endpoint as the pool published it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View {
    pub(crate) id: EndpointId,
    pub(crate) state: EndpointState,
    /// Drained by an operator.
    drain: bool,
    /// What other members see.
    second_hand: bool,
}

/// A running process.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) picker: Picker,
    pub(crate) state: PoolState,
    /// As published last.
    pub(crate) views: Vec<View>,
    pub(crate) table: MemberTable,
    pub(crate) schedule: PushSchedule,
    pub(crate) speech: Speech,
    pub(crate) gossip: Gossip,
    /// When the next push is looked at.
    pub(crate) push_at: Option<Duration>,
    /// When the tier's view was taken last.
    pub(crate) view_read_at: Option<Duration>,
    /// It is to be taken again at the end of the reading pace.
    pub(crate) view_stale: bool,
    /// When the next end of an ejection is looked at.
    pub(crate) timer_at: Option<Duration>,
    /// Clients for which there was no room.
    pub(crate) waiting: VecDeque<Attempt>,
    /// By endpoint: the chain of probes that is the current one.
    pub(crate) probe_chains: Vec<u64>,
    /// Members that count, with this one.
    pub(crate) members: usize,
    drained: BTreeSet<EndpointId>,
    verdicts: Vec<PeerVerdict>,
    traffic: Vec<EndpointTraffic>,
}

impl Instance {
    /// A new process with empty tables.
    pub(crate) fn start(&mut self, setup: &Setup, now: Duration, rng: &mut fastrand::Rng) {
        self.starts += 1;
        let at = self.clock.at(now);
        let settings = PoolStateSettings {
            name: POOL.to_owned(),
            thresholds: setup.thresholds,
            outlier: setup.outlier,
            connect_timeout: Duration::from_secs(2),
            connack_timeout: setup.connack_timeout,
        };
        self.process = Some(Process {
            picker: Picker::new(setup.picker.clone(), rng.u64(..), at),
            state: PoolState::new(settings, rng.u64(..)),
            views: Vec::new(),
            table: MemberTable::new(Arc::clone(&self.name), at),
            schedule: PushSchedule::default(),
            speech: Speech::new(Arc::clone(&self.name), self.index, self.starts, at),
            gossip: Gossip::new(self.index, self.starts, rng),
            push_at: None,
            view_read_at: None,
            view_stale: false,
            timer_at: None,
            waiting: VecDeque::new(),
            probe_chains: vec![0; setup.endpoints],
            members: 1,
            drained: BTreeSet::new(),
            verdicts: Vec::new(),
            traffic: Vec::new(),
        });
    }

    /// Discovery's answer.
    pub(crate) fn targets(&self) -> Vec<Target> {
        self.resolved
            .iter()
            .map(|index| Target::plain(endpoint(*index)))
            .collect()
    }
}

impl Process {
    /// One event into the pool, as its actor does it. What is to be probed at once comes back.
    pub(crate) fn apply(&mut self, event: PoolEvent, now: Instant) -> Vec<EndpointId> {
        self.traffic.clear();
        self.picker.traffic(&mut self.traffic);
        let effects = self.state.apply(event, &self.traffic, now);
        self.obey(effects.changed, now);
        effects.recheck
    }

    /// Time passes.
    pub(crate) fn tick(&mut self, now: Instant) {
        self.traffic.clear();
        self.picker.traffic(&mut self.traffic);
        let effects = self.state.tick(&self.traffic, now);
        self.obey(effects.changed, now);
    }

    fn obey(&mut self, changed: bool, now: Instant) {
        if !changed {
            return;
        }
        self.picker.set_endpoints(&self.state.listings());
        let endpoints = self.state.snapshot().endpoints;
        self.views = endpoints
            .iter()
            .map(|view| View {
                id: view.id(),
                state: view.state,
                drain: view.drain,
                second_hand: view.second_hand,
            })
            .collect();
        self.schedule.change(now);
    }

    /// What the peers are told.
    pub(crate) fn facts(&self, now: Instant) -> PoolFacts {
        // As `Pool::facts` does it: without the second-hand rule the fuzzer finds two members that hold each other's
        // evacuation up for ever.
        let among = |wanted: fn(&View) -> bool| {
            let views = self.views.iter().filter(|view| !view.second_hand);
            views
                .filter(|view| wanted(view))
                .map(|view| view.id)
                .collect()
        };
        PoolFacts {
            counts: Arc::new(self.picker.counts()),
            rate: self.picker.rate(now),
            down: among(|view| matches!(view.state, EndpointState::Down | EndpointState::Ejected)),
            evacuating: among(|view| view.state == EndpointState::Draining && !view.drain),
        }
    }

    /// Takes over what the table of members says: counts for the picker, verdicts and drains as events for the pool.
    pub(crate) fn read_view(&mut self, own_id: &str) -> Vec<PoolEvent> {
        let view: ClusterView = self.table.view(self.speech.generation);
        self.picker.set_peers(own_id, view.peer_counts(POOL));
        self.members = view.counting().count() + 1;
        let drained = view.drained(POOL);
        let mut events: Vec<PoolEvent> = drained
            .symmetric_difference(&self.drained)
            .map(|id| PoolEvent::Drain(*id, drained.contains(id)))
            .collect();
        self.drained = drained;
        let verdicts = view.verdicts(POOL);
        if verdicts != self.verdicts {
            self.verdicts.clone_from(&verdicts);
            events.push(PoolEvent::PeersSee(verdicts));
        }
        events
    }

    /// An operator's word on an endpoint, said here.
    pub(crate) fn say_drain(&mut self, id: EndpointId, drain: bool, wall_ms: u64, now: Instant) {
        self.table.set_drain(POOL, id, drain, wall_ms);
        self.schedule.change_all(now);
    }

    /// Where a push goes.
    pub(crate) fn push_targets(&self) -> Vec<usize> {
        self.table
            .targets()
            .into_iter()
            .map(crate::gossip::instance_at)
            .collect()
    }

    /// The connections per endpoint over the tier, as this process believes.
    pub(crate) fn believed(&self, endpoints: usize) -> Vec<u64> {
        let mut traffic = Vec::new();
        self.picker.traffic(&mut traffic);
        let mut believed = vec![0; endpoints];
        for endpoint in traffic {
            believed[endpoint_index(endpoint.id)] += u64::from(endpoint.own) + endpoint.peers;
        }
        believed
    }
}

/// A member's name, whose order is that of the instances.
pub(crate) fn name(index: usize) -> String {
    format!("lb-{index:02}")
}
