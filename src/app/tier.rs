//! This instance's place in the tier: what the pools count goes out, what the other members say goes into the pools.
//!
//! Invariant: gossip is advice. Nothing here is waited for by a connection, and without a cluster nothing of it exists.

use super::fingerprint::pool_fingerprint;
use super::pools::WiredPool;
use super::source::VERSION;
use crate::cluster::{
    self, Cluster, ClusterError, FactSource, OwnInfo, PoolReport, Reject, Seed, SeedResolver,
    system_clock,
};
use crate::config::Config;
use crate::discovery::Resolver;
use crate::logic::endpoint::EndpointId;
use crate::logic::event::{PeerVerdict, PoolEvent, ProbeResult};
use crate::logic::member::ClusterView;
use crate::logic::probers::ProberSet;
use crate::logic::snapshot::EndpointState;
use crate::pool::Pool;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Joins the tier.
pub(super) async fn join(
    settings: cluster::Settings,
    config: &Config,
    pools: &[WiredPool],
    resolver: &Resolver,
    tracker: &TaskTracker,
    cancel: &CancellationToken,
) -> Result<Cluster, ClusterError> {
    let fingerprints: Vec<_> = pools
        .iter()
        .map(|wired| pool_fingerprint(config, wired.pool.name()))
        .collect();
    let own = OwnInfo {
        name: config.instance.name.clone(),
        release: VERSION.to_owned(),
        clock: system_clock(),
    };
    let cluster = Cluster::spawn(
        settings,
        own,
        seed_resolver(resolver.clone()),
        fact_source(pools, &fingerprints),
        tracker,
        cancel.clone(),
    )
    .await?;
    tracker.spawn(watch_over(cluster.clone(), cancel.clone()));
    for wired in pools {
        let pool = Arc::clone(&wired.pool);
        tracker.spawn(tell_changes(
            Arc::clone(&pool),
            cluster.clone(),
            cancel.clone(),
        ));
        let listener = Listener {
            pool,
            probers: wired.probers.clone(),
            verdicts: Vec::new(),
            drained: BTreeSet::new(),
            relayed: BTreeMap::new(),
        };
        tracker.spawn(listener.run(cluster.view(), cancel.clone()));
    }
    Ok(cluster)
}

fn seed_resolver(resolver: Resolver) -> SeedResolver {
    Arc::new(move |seed| {
        let resolver = resolver.clone();
        Box::pin(async move {
            match seed {
                Seed::Host { host, port } => resolver.lookup_addrs(&host, port).await,
                Seed::Srv(name) => resolver.lookup_srv(&name).await,
            }
            .map_err(|error| error.to_string())
        })
    })
}

fn fact_source(pools: &[WiredPool], fingerprints: &[u64]) -> FactSource {
    let pools: Vec<_> = pools
        .iter()
        .map(|wired| Arc::clone(&wired.pool))
        .zip(fingerprints.iter().copied())
        .collect();
    Arc::new(move || {
        let report = |(pool, fingerprint): &(Arc<Pool>, u64)| PoolReport {
            pool: pool.name().to_owned(),
            fingerprint: *fingerprint,
            facts: pool.facts(),
        };
        pools.iter().map(report).collect()
    })
}

/// Says in the log what otherwise only the metrics know: nobody was ever heard, or somebody is not understood.
async fn watch_over(cluster: Cluster, cancel: CancellationToken) {
    const LOOK: Duration = Duration::from_secs(10);
    let looks = async {
        let mut told = 0;
        tokio::time::sleep(LOOK).await;
        if cluster.view().borrow().own_generation == 0 || cluster.view().borrow().is_alone() {
            tracing::warn!(
                "no other member is heard: serving alone; check seeds, keys_file, id and UDP between the hosts"
            );
        }
        loop {
            let stats = cluster.stats();
            let foreign = [Reject::Key, Reject::Cluster, Reject::Auth, Reject::Stale];
            let [key, cluster_id, auth, stale] = foreign.map(|reason| stats.rejected(reason));
            if key + cluster_id + auth + stale > told {
                told = key + cluster_id + auth + stale;
                tracing::warn!(
                    key,
                    cluster_id,
                    auth,
                    stale,
                    "datagrams rejected so far, by reason"
                );
            }
            tokio::time::sleep(LOOK * 6).await;
        }
    };
    cancel.run_until_cancelled(looks).await;
}

async fn tell_changes(pool: Arc<Pool>, cluster: Cluster, cancel: CancellationToken) {
    let tell = async {
        loop {
            pool.changed().notified().await;
            // Until the next push has read them, further changes wake nobody on this thread.
            cluster.tell_change().await;
        }
    };
    cancel.run_until_cancelled(tell).await;
}

/// Brings what the tier says into one pool; an event only for what is new.
struct Listener {
    pool: Arc<Pool>,
    /// Who probes what, when the probing is shared.
    probers: Option<watch::Sender<ProberSet>>,
    verdicts: Vec<PeerVerdict>,
    drained: BTreeSet<EndpointId>,
    /// Verdicts on endpoints that others probe for us: whether they were up.
    relayed: BTreeMap<EndpointId, bool>,
}

impl Listener {
    async fn run(mut self, mut view: watch::Receiver<Arc<ClusterView>>, cancel: CancellationToken) {
        let listen = async {
            loop {
                let now = Arc::clone(&view.borrow_and_update());
                self.take(&now).await;
                if view.changed().await.is_err() {
                    // The cluster has stopped: nobody's connections are counted any more.
                    // What operators drained stays drained.
                    let since = tokio::time::Instant::now().into_std();
                    let alone = ClusterView {
                        drains: Arc::clone(&now.drains),
                        ..ClusterView::alone(Arc::clone(&now.own_id), since)
                    };
                    self.take(&alone).await;
                    break;
                }
            }
        };
        cancel.run_until_cancelled(listen).await;
    }

    async fn take(&mut self, view: &ClusterView) {
        let name = self.pool.name().to_owned();
        self.pool.set_peers(&view.own_id, view.peer_counts(&name));
        let mut events = Vec::new();
        // Most of the time nobody complains, and every record of every member would be gone through for that.
        let verdicts = if view.is_content(&name) {
            Vec::new()
        } else {
            view.verdicts(&name)
        };
        if verdicts != self.verdicts {
            self.verdicts.clone_from(&verdicts);
            events.push(PoolEvent::PeersSee(verdicts));
        }
        if !view.drains.is_empty() || !self.drained.is_empty() {
            let drained = view.drained(&name);
            let changed = drained.symmetric_difference(&self.drained);
            events.extend(changed.map(|id| PoolEvent::Drain(*id, drained.contains(id))));
            self.drained = drained;
        }
        events.extend(self.relay(view));
        for event in events {
            // The actor is gone only when everything ends.
            if self.pool.events().send(event).await.is_err() {
                return;
            }
        }
    }

    /// The verdicts of those who probe for us: down when most of them that are heard say so.
    fn relay(&mut self, view: &ClusterView) -> Vec<PoolEvent> {
        let Some(publish) = &self.probers else {
            return Vec::new();
        };
        let live = view.counting().map(|member| member.id.to_string());
        let settings = publish.borrow().clone();
        let set = settings.with_live(live);
        publish.send_if_modified(|current| {
            let news = *current != set;
            if news {
                current.clone_from(&set);
            }
            news
        });
        let name = self.pool.name().to_owned();
        let mut events = Vec::new();
        let snapshot = Arc::clone(&self.pool.snapshot().borrow());
        for shown in &snapshot.endpoints {
            let endpoint = shown.id();
            // Who has just come, or come back, has not heard the verdict yet.
            if set.probes(endpoint) || shown.state == EndpointState::Unproven {
                self.relayed.remove(&endpoint);
            }
            if set.probes(endpoint) || shown.state == EndpointState::Vanished {
                continue;
            }
            let sights = view.sights(&name, endpoint);
            let of_probers: Vec<_> = sights
                .iter()
                .filter(|sight| set.probed_by(endpoint, &sight.id))
                .collect();
            if of_probers.is_empty() {
                continue;
            }
            let down = of_probers.iter().filter(|sight| sight.down).count();
            let up = down * 2 <= of_probers.len();
            if self.relayed.insert(endpoint, up) != Some(up) {
                let result = if up {
                    ProbeResult::Up(Duration::ZERO)
                } else {
                    ProbeResult::Down(format!("{down} of {} probing members", of_probers.len()))
                };
                events.push(PoolEvent::ProbedByPeers(endpoint, result));
            }
        }
        let known = |endpoint: &EndpointId| snapshot.endpoints.iter().any(|e| e.id() == *endpoint);
        self.relayed.retain(|endpoint, _| known(endpoint));
        events
    }
}
