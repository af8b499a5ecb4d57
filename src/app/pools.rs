//! Pools and their producers, connected: discovery and health send into a pool, a pool asks health to look again.

use crate::config::{Config, PoolConfig};
use crate::discovery::{self, Resolver, Source, Status};
use crate::health::{self, Fleet};
use crate::logic::health_state::Thresholds;
use crate::logic::probers::ProberSet;
use crate::metrics::Registry as Metrics;
use crate::pool::{Pool, PoolCollector};
use std::sync::Arc;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// One pool and what is known about where its endpoints come from.
#[derive(Clone, Debug)]
pub(super) struct WiredPool {
    pub(super) pool: Arc<Pool>,
    pub(super) discovery: watch::Receiver<Status>,
    pub(super) probes: Arc<health::Stats>,
    /// Who probes what, when the probing is shared; the tier publishes it.
    pub(super) probers: Option<watch::Sender<ProberSet>>,
    /// `discover` as it was written, or "fixed".
    pub(super) source: String,
}

/// Requests for an immediate probe that may wait; more are dropped, since the probe that runs answers them too.
const RECHECKS: usize = 64;

/// Starts all pools with their discovery and health tasks. Within the control runtime.
pub(super) fn start(
    config: &Config,
    resolver: &Resolver,
    metrics: &Metrics,
    tracker: &TaskTracker,
    cancel: &CancellationToken,
) -> Vec<WiredPool> {
    let wired: Vec<_> = config
        .pools
        .iter()
        .map(|settings| start_one(config, settings, resolver, tracker, cancel))
        .collect();
    metrics.collector(Box::new(PoolCollector::new(
        wired.iter().map(|wired| Arc::clone(&wired.pool)).collect(),
    )));
    metrics.collector(Box::new(discovery::collector(
        wired
            .iter()
            .map(|wired| (wired.pool.name().to_owned(), wired.discovery.clone()))
            .collect(),
    )));
    metrics.collector(Box::new(health::collector(
        wired
            .iter()
            .map(|wired| Arc::clone(&wired.probes))
            .collect(),
    )));
    wired
}

fn start_one(
    config: &Config,
    settings: &PoolConfig,
    resolver: &Resolver,
    tracker: &TaskTracker,
    cancel: &CancellationToken,
) -> WiredPool {
    let name = settings.pool.name.as_str();
    let (recheck, rechecks) = mpsc::channel(RECHECKS);
    let thresholds = Thresholds {
        rise: settings.health.rise,
        fall: settings.health.fall,
    };
    // Seeds decide nothing but ties and jitter; different instances should differ.
    let seed = fastrand::u64(..);
    let pool = Pool::spawn(
        settings.pool.clone(),
        thresholds,
        recheck,
        seed,
        tracker,
        cancel,
    );
    let (status, discovery) = watch::channel(Status::default());
    discovery::spawn(
        name,
        settings.source.clone(),
        resolver,
        pool.events(),
        status,
        tracker,
        cancel,
    );
    let probers = shared_probing(config, settings);
    let fleet = Fleet {
        pool: name.to_owned(),
        settings: settings.health.clone(),
        snapshot: pool.snapshot(),
        events: pool.events(),
        recheck: rechecks,
        shared: probers.as_ref().map(watch::Sender::subscribe),
        seed,
    };
    let fleet_stats = fleet.spawn(tracker, cancel);
    let source = match &settings.source {
        Source::Fixed(_) => "fixed".to_owned(),
        Source::Dns(source) => source.to_string(),
    };
    WiredPool {
        pool,
        discovery,
        probes: fleet_stats,
        probers,
        source,
    }
}

/// A lone instance probes everything, whatever the setting says.
fn shared_probing(config: &Config, settings: &PoolConfig) -> Option<watch::Sender<ProberSet>> {
    let shared = settings.health.shared && config.cluster.is_some();
    let own = config.instance.name.clone();
    shared.then(|| watch::Sender::new(ProberSet::new(own, [], settings.health.probers)))
}
