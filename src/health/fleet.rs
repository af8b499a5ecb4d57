//! One task per pool that keeps one checker per endpoint.
//!
//! It follows the pool's snapshot (new endpoints are probed at once, vanished ones no more) and, when the members
//! share the probing, the set of probers. Reading order: [`Fleet`], `Crew::reconcile`, then `checker.rs`.

use super::Settings;
use super::checker::Checker;
use super::pace::Pace;
use super::prober::{NetworkProber, Prober};
use super::stats::Stats;
use crate::logic::endpoint::{EndpointId, Target};
use crate::logic::event::PoolEvent;
use crate::logic::probers::{ProberSet, endpoint_key};
use crate::logic::snapshot::{EndpointState, PoolSnapshot};
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

/// What the checkers of one pool are connected to.
#[derive(Debug)]
pub struct Fleet {
    /// The pool's name.
    pub pool: String,
    /// What is asked and how often.
    pub settings: Settings,
    /// The pool's published picture; the fleet ends when the pool does.
    pub snapshot: watch::Receiver<Arc<PoolSnapshot>>,
    /// The pool's queue.
    pub events: mpsc::Sender<PoolEvent>,
    /// Endpoints to look at now: a client failed there, a peer reports it down. Senders drop what does not fit: the
    /// requests for one endpoint are one probe anyway, at most every `fast_interval` / 5.
    pub recheck: mpsc::Receiver<EndpointId>,
    /// Who probes what, when the members share the probing; `None` = everything is probed here.
    pub shared: Option<watch::Receiver<ProberSet>>,
    /// Randomness of the jitter; each instance has another one.
    pub seed: u64,
}

impl Fleet {
    /// Starts the fleet and gives its numbers. Everything ends with `cancel`.
    pub fn spawn(self, tracker: &TaskTracker, cancel: &CancellationToken) -> Arc<Stats> {
        let prober = NetworkProber {
            pool: self.pool.clone(),
            settings: self.settings.clone(),
        };
        self.spawn_with(prober, tracker, cancel)
    }

    fn spawn_with<P: Prober>(
        self,
        prober: P,
        tracker: &TaskTracker,
        cancel: &CancellationToken,
    ) -> Arc<Stats> {
        let stats = Arc::new(Stats::new(self.pool.clone()));
        let cancel = cancel.child_token();
        let crew = Crew {
            fleet: self,
            prober: Arc::new(prober),
            stats: Arc::clone(&stats),
            tracker: tracker.clone(),
            cancel: cancel.clone(),
            checkers: HashMap::new(),
        };
        tracker.spawn(async move {
            // Checkers hold guards in `crew`: they end with it.
            cancel
                .run_until_cancelled(crew.follow())
                .await
                .unwrap_or(());
        });
        stats
    }
}

struct Crew<P> {
    fleet: Fleet,
    prober: Arc<P>,
    stats: Arc<Stats>,
    tracker: TaskTracker,
    cancel: CancellationToken,
    checkers: HashMap<EndpointId, Handle>,
}

struct Handle {
    /// The name that discovery gave; it is part of what a probe asks.
    name: String,
    recheck: Arc<Notify>,
    /// Dropping it ends the task.
    _end: DropGuard,
}

impl<P: Prober> Crew<P> {
    /// Until the pool is gone.
    async fn follow(mut self) {
        loop {
            self.reconcile();
            tokio::select! {
                changed = self.fleet.snapshot.changed() => if changed.is_err() { return },
                () = changed(&mut self.fleet.shared) => {}
                endpoint = next(&mut self.fleet.recheck) => self.recheck(endpoint),
            }
        }
    }

    /// An endpoint that has no checker here is new, vanished or another member's: nothing to do.
    fn recheck(&self, endpoint: EndpointId) {
        if let Some(handle) = self.checkers.get(&endpoint) {
            handle.recheck.notify_one();
        }
    }

    /// Stops what should not run and starts what should.
    fn reconcile(&mut self) {
        let snapshot = Arc::clone(&self.fleet.snapshot.borrow_and_update());
        let probers = self
            .fleet
            .shared
            .as_mut()
            .map(|shared| shared.borrow_and_update().clone());
        let wanted: HashMap<EndpointId, &Target> = snapshot
            .endpoints
            .iter()
            .filter(|view| view.state != EndpointState::Vanished)
            .filter(|view| probers.as_ref().is_none_or(|set| set.probes(view.id())))
            .map(|view| (view.id(), &view.target))
            .collect();
        self.checkers.retain(|id, handle| {
            wanted
                .get(id)
                .is_some_and(|target| target.name == handle.name)
        });
        for (id, target) in wanted {
            if !self.checkers.contains_key(&id) {
                let handle = self.start(target);
                self.checkers.insert(id, handle);
            }
        }
        // Sorted by id: the snapshot's own promise.
        self.stats.retain(|id| {
            snapshot
                .endpoints
                .binary_search_by_key(&id, |view| view.target.id)
                .is_ok()
        });
    }

    fn start(&self, target: &Target) -> Handle {
        let cancel = self.cancel.child_token();
        let recheck = Arc::new(Notify::new());
        let seed = self.fleet.seed ^ endpoint_key(target.id);
        let checker = Checker {
            pool: self.fleet.pool.clone(),
            target: target.clone(),
            prober: Arc::clone(&self.prober),
            pace: Pace::new(&self.fleet.settings, fastrand::Rng::with_seed(seed)),
            events: self.fleet.events.clone(),
            recheck: Arc::clone(&recheck),
            stats: Arc::clone(&self.stats),
        };
        self.tracker.spawn(checker.run(cancel.clone()));
        Handle {
            name: target.name.clone(),
            recheck,
            _end: cancel.drop_guard(),
        }
    }
}

/// The next change of the set; never, when there is none or nobody changes it any more. Cancel-safe.
async fn changed(shared: &mut Option<watch::Receiver<ProberSet>>) {
    if let Some(receiver) = shared
        && receiver.changed().await.is_ok()
    {
        return;
    }
    std::future::pending::<()>().await;
}

/// The next request; never, when nobody asks any more. Cancel-safe.
async fn next(recheck: &mut mpsc::Receiver<EndpointId>) -> EndpointId {
    match recheck.recv().await {
        Some(endpoint) => endpoint,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
#[path = "fleet_tests.rs"]
mod tests;
