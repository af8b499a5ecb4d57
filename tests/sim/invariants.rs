//! What holds at every step, and what holds once everything is quiet.

use crate::instance::{Process, View, endpoint_index};
use crate::world::World;
use tidegate::logic::balance::{Picked, Refusal};
use tidegate::logic::endpoint::EndpointId;
use tidegate::logic::pool_state::takes_connections;
use tidegate::logic::snapshot::EndpointState;

/// Pending connections that even an endpoint in doubt may have.
const PENDING_ALWAYS: u32 = 16;

impl World {
    /// After every event.
    pub(crate) fn check(&self) {
        for instance in &self.instances {
            let held = &self.clients.held[instance.index];
            match &instance.process {
                Some(process) => {
                    check_counts(process, held);
                    process.picker.check_invariants();
                    process.state.check_invariants();
                }
                None => assert!(
                    held.iter().all(|held| *held == 0),
                    "{} is dead and holds connections",
                    instance.name
                ),
            }
        }
        let sum = |index: usize| {
            self.clients
                .held
                .iter()
                .map(|held| held[index])
                .sum::<u32>()
        };
        for (index, total) in self.clients.totals.iter().enumerate() {
            assert_eq!(
                sum(index),
                *total,
                "endpoint {index} holds what the instances hold there"
            );
        }
    }

    /// A pick obeys what the pool published; a refusal has its reason there.
    pub(crate) fn check_pick(
        &self,
        via: usize,
        excluded: &[EndpointId],
        result: &Result<Picked, Refusal>,
    ) {
        let process = self.instances[via]
            .process
            .as_ref()
            .expect("it has just picked");
        let takes = |view: &&View| takes_connections(view.state);
        let offered = |view: &&View| takes(view) && !excluded.contains(&view.id);
        let views = || process.views.iter();
        match result {
            Ok(picked) => {
                let view = views().find(|view| view.id == picked.endpoint);
                let view = view.expect("picked from the pool");
                assert!(takes(&view), "{view:?} takes no connections and was picked");
                assert!(
                    !excluded.contains(&view.id),
                    "{view:?} was excluded and was picked"
                );
                if view.state == EndpointState::Unproven {
                    let proven = |view: &&View| {
                        offered(view)
                            && view.state == EndpointState::Up
                            && self.has_room(process, view.id)
                    };
                    let better = views().find(proven);
                    assert!(
                        better.is_none(),
                        "{better:?} is proven, {view:?} was picked"
                    );
                }
            }
            Err(Refusal::NoEndpoint) => {
                let view = views().find(takes);
                assert!(
                    view.is_none(),
                    "{view:?} takes connections and there was no endpoint"
                );
            }
            Err(Refusal::Excluded) => {
                let view = views().find(offered);
                assert!(
                    view.is_none(),
                    "{view:?} is not excluded and the client was refused"
                );
            }
            Err(Refusal::Full | Refusal::Pending) => {
                let up = |view: &&View| offered(view) && view.state == EndpointState::Up;
                let view = views().find(|view| up(view) && self.has_room(process, view.id));
                assert!(
                    view.is_none(),
                    "{view:?} has room and the client was refused"
                );
            }
        }
    }

    /// Below every limit, however cautious.
    fn has_room(&self, process: &Process, id: EndpointId) -> bool {
        let mut traffic = Vec::new();
        process.picker.traffic(&mut traffic);
        let limit = self
            .setup
            .picker
            .max_connections
            .map_or(u64::MAX, u64::from);
        traffic.iter().any(|endpoint| {
            endpoint.id == id
                && endpoint.pending < PENDING_ALWAYS.min(self.setup.picker.pending_max)
                && u64::from(endpoint.own) + endpoint.peers < limit
        })
    }

    /// Once everything is quiet: all know the truth, and use all that is healthy.
    pub(crate) fn check_agreement(&self) {
        self.check();
        assert_eq!(self.clients.away, 0, "every client is in");
        for instance in &self.instances {
            let process = instance.process.as_ref().expect("all run");
            let truth: Vec<u64> = self
                .clients
                .totals
                .iter()
                .map(|total| u64::from(*total))
                .collect();
            assert_eq!(
                process.believed(self.setup.endpoints),
                truth,
                "{} knows where all connections are",
                instance.name
            );
            assert_eq!(
                process.members,
                self.instances.len(),
                "{} hears all",
                instance.name
            );
        }
    }
}

fn check_counts(process: &Process, held: &[u32]) {
    let mut counted = vec![0; held.len()];
    for (id, count) in process.picker.counts() {
        counted[endpoint_index(id)] += count;
    }
    assert_eq!(
        counted, held,
        "own counts are the connections that are held"
    );
}
