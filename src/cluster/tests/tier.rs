//! A tier of instances in this process.

use crate::cluster::{
    Cluster, OwnInfo, PoolReport, Seed, SeedResolver, Settings, WallClock, generate_key,
    system_clock,
};
use crate::logic::endpoint::EndpointId;
use crate::logic::member::{ClusterView, Member, MemberState};
use crate::logic::peer::PoolFacts;
use crate::logic::secret::Secret;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub(super) const FINGERPRINT: u64 = 7;
pub(super) const CLUSTER_ID: &str = "tier";

/// Nothing here takes this long unless it never happens.
const PATIENCE: Duration = Duration::from_secs(15);

pub(super) fn endpoint(last: u8) -> EndpointId {
    EndpointId(([10, 0, 0, last], 1883).into())
}

/// The keys and the one DNS name of all instances.
pub(super) struct Tier {
    keys: Vec<Secret>,
    addrs: Arc<Mutex<Vec<SocketAddr>>>,
}

impl Tier {
    pub(super) fn new() -> Self {
        Self {
            keys: vec![generate_key().unwrap()],
            addrs: Arc::default(),
        }
    }

    pub(super) fn keys(&self) -> &[Secret] {
        &self.keys
    }

    pub(super) async fn start(&self, name: &str) -> Instance {
        self.start_with_clock(name, system_clock()).await
    }

    /// An instance whose wall clock is behind.
    pub(super) async fn start_behind(&self, name: &str, behind: Duration) -> Instance {
        let right = system_clock();
        self.start_with_clock(name, Arc::new(move || right().saturating_sub(behind)))
            .await
    }

    async fn start_with_clock(&self, name: &str, clock: WallClock) -> Instance {
        let settings = Settings {
            id: CLUSTER_ID.into(),
            bind: ([127, 0, 0, 1], 0).into(),
            advertise: None,
            seeds: vec![Seed::Host {
                host: "tier.example".into(),
                port: 7946,
            }],
            keys: self.keys.clone(),
            keys_file: "keys".into(),
            interval: Duration::from_millis(50),
        };
        let addrs = Arc::clone(&self.addrs);
        let resolver: SeedResolver = Arc::new(move |_| {
            let addrs = addrs.lock().unwrap().clone();
            Box::pin(async move { Ok(addrs) })
        });
        let facts = Arc::new(Mutex::new(PoolFacts {
            counts: Arc::new(vec![(endpoint(1), 0)]),
            ..PoolFacts::default()
        }));
        let source = Arc::clone(&facts);
        let report = move || {
            let facts = source.lock().unwrap().clone();
            vec![PoolReport {
                pool: "emqx".into(),
                fingerprint: FINGERPRINT,
                facts,
            }]
        };
        let own = OwnInfo {
            name: name.into(),
            release: "test".into(),
            clock,
        };
        let (tracker, cancel) = (TaskTracker::new(), CancellationToken::new());
        let cluster = Cluster::spawn(
            settings,
            own,
            resolver,
            Arc::new(report),
            &tracker,
            cancel.clone(),
        )
        .await
        .unwrap();
        tracker.close();
        self.addrs.lock().unwrap().push(cluster.addr());
        Instance {
            cluster,
            facts,
            tracker,
            cancel,
        }
    }

    /// a, b and c, each of which counts both others.
    pub(super) async fn start_three(&self) -> [Instance; 3] {
        let instances = [
            self.start("a").await,
            self.start("b").await,
            self.start("c").await,
        ];
        for instance in &instances {
            let complete = |view: &ClusterView| {
                let alive = view
                    .members
                    .iter()
                    .filter(|member| member.state == MemberState::Alive);
                alive.count() == 2 && view.peer_counts("emqx").len() == 2
            };
            instance.until("two members", complete).await;
        }
        instances
    }
}

pub(super) struct Instance {
    pub(super) cluster: Cluster,
    pub(super) facts: Arc<Mutex<PoolFacts>>,
    tracker: TaskTracker,
    cancel: CancellationToken,
}

impl Instance {
    pub(super) fn view(&self) -> Arc<ClusterView> {
        Arc::clone(&self.cluster.view().borrow())
    }

    pub(super) fn member(&self, id: &str) -> Member {
        self.view()
            .members
            .iter()
            .find(|member| &*member.id == id)
            .expect("member")
            .clone()
    }

    /// Connections on the one endpoint.
    pub(super) fn hold(&self, count: u32) {
        self.facts.lock().unwrap().counts = Arc::new(vec![(endpoint(1), count)]);
        self.cluster.changed();
    }

    pub(super) async fn until(&self, what: &str, mut condition: impl FnMut(&ClusterView) -> bool) {
        let mut views = self.cluster.view();
        loop {
            // The value itself and not the guard: conditions look at the view themselves.
            let view = Arc::clone(&views.borrow_and_update());
            if condition(&view) {
                return;
            }
            match tokio::time::timeout(PATIENCE, views.changed()).await {
                Ok(Ok(())) => {}
                _ => panic!("{} never saw {what}: {view:#?}", view.own_id),
            }
        }
    }

    pub(super) async fn until_state(&self, id: &str, state: MemberState) {
        let is = |view: &ClusterView| {
            view.members
                .iter()
                .any(|member| &*member.id == id && member.state == state)
        };
        self.until(&format!("{id} as {state:?}"), is).await;
    }

    /// As `kill -9` would: no word to anybody.
    pub(super) async fn kill(&self) {
        self.cancel.cancel();
        self.tracker.wait().await;
    }

    pub(super) async fn ended(&self) {
        self.tracker.wait().await;
    }

    /// Drops everything to and from another instance.
    pub(super) fn cut_off(&self, other: &Self) {
        self.cluster
            .wire()
            .cut_off
            .lock()
            .unwrap()
            .insert(other.cluster.addr());
    }

    pub(super) fn heal(&self) {
        self.cluster.wire().cut_off.lock().unwrap().clear();
    }
}
