//! The handle of the cluster: everything that the rest of the program sees.

use super::clock::WallClock;
use super::core::{Command, Core, Ends, Queues};
use super::datagram::ClusterTag;
use super::gossip::{Gossip, GossipQueues, Values};
use super::keyring::{KeyError, Keyring};
use super::outbound::{FactSource, Outbound};
use super::seeds::{SeedResolver, Seeds, advertised};
use super::settings::Settings;
use super::signal::ChangeSignal;
use super::stats::{ClusterCollector, Stats};
use super::transport::Wire;
use crate::logic::endpoint::EndpointId;
use crate::logic::member::ClusterView;
use crate::logic::secret::Secret;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Mutex, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Opened gossip messages that may wait for chitchat; above it they are dropped and counted.
const GOSSIP_QUEUE: usize = 256;
const EVENT_QUEUE: usize = 16;
const COMMAND_QUEUE: usize = 256;

/// A goodbye takes some 20 ms; a task that is stuck must not hold up the stop.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(1);

/// Why the cluster did not start, or does not take an order.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// The keys are not good.
    #[error("cluster keys")]
    Keys(#[from] KeyError),
    /// The socket was not to be had.
    #[error("cannot bind {addr}/udp")]
    Bind {
        /// `cluster.bind`
        addr: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// More orders than the task took so far, or it has stopped.
    #[error("the cluster's task is busy or has stopped")]
    Busy,
}

/// Who this instance is.
#[derive(Clone)]
pub struct OwnInfo {
    /// `instance.name`: unique in the tier.
    pub name: String,
    /// Release of the binary, for people.
    pub release: String,
    /// Wall time, for datagrams and drains.
    pub clock: WallClock,
}

struct Inner {
    addr: SocketAddr,
    view: watch::Receiver<Arc<ClusterView>>,
    commands: mpsc::Sender<Command>,
    changed: Arc<ChangeSignal>,
    keyring: Arc<Keyring>,
    stats: Arc<Stats>,
    #[cfg(test)]
    wire: Arc<Wire>,
}

/// This instance's place in the tier. Clones are the same.
#[derive(Clone)]
pub struct Cluster {
    inner: Arc<Inner>,
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster")
            .field("addr", &self.inner.addr)
            .finish_non_exhaustive()
    }
}

impl Cluster {
    /// Binds the socket and starts the tasks on the current runtime: they end with `cancel`, without a goodbye. Peers
    /// that cannot be reached are no error: the instance serves alone, and its view says so.
    ///
    /// # Errors
    /// Bad keys, or an address that cannot be bound.
    pub async fn spawn(
        settings: Settings,
        own: OwnInfo,
        seeds: SeedResolver,
        facts: FactSource,
        tracker: &TaskTracker,
        cancel: CancellationToken,
    ) -> Result<Self, ClusterError> {
        let keyring = Arc::new(Keyring::new(&settings.keys)?);
        let stats = Arc::new(Stats::default());
        let bind_error = |source| ClusterError::Bind {
            addr: settings.bind,
            source,
        };
        let wire = Wire::bind(
            settings.bind,
            ClusterTag::new(&settings.id),
            Arc::clone(&keyring),
            Arc::clone(&own.clock),
            Arc::clone(&stats),
        );
        let wire = Arc::new(wire.map_err(bind_error)?);
        let bound = wire.local_addr().map_err(bind_error)?;
        let addr = advertised(&settings, bound, &seeds).await;
        tracing::info!(name = own.name, %bound, advertise = %addr, "cluster");
        // Ends with the given token; any of the tasks that ends by itself takes the others with it.
        let cancel = cancel.child_token();
        let started = Start {
            settings,
            own,
            addr,
            wire,
            keyring,
            stats,
        };
        Ok(started.tasks(seeds, facts, tracker, &cancel))
    }

    /// The tier as seen from here; the last value stays readable.
    pub fn view(&self) -> watch::Receiver<Arc<ClusterView>> {
        self.inner.view.clone()
    }

    /// What peers send to.
    pub fn addr(&self) -> SocketAddr {
        self.inner.addr
    }

    /// A pool's own facts changed: they are read and pushed as soon as the gap allows, and this returns when they were
    /// read. From any thread. Cancel-safe.
    pub async fn tell_change(&self) {
        self.inner.changed.raise_until_read().await;
    }

    #[cfg(test)]
    pub(super) fn changed(&self) {
        self.inner.changed.raise();
    }

    /// An operator drains an endpoint (`true`) on the whole tier, or gives it back.
    ///
    /// # Errors
    /// [`ClusterError::Busy`].
    pub fn set_drain(
        &self,
        pool: &str,
        endpoint: EndpointId,
        drained: bool,
    ) -> Result<(), ClusterError> {
        let command = Command::Drain {
            pool: pool.to_owned(),
            endpoint,
            drained,
        };
        self.inner
            .commands
            .try_send(command)
            .map_err(|_| ClusterError::Busy)
    }

    /// Takes new keys without a restart; at an error the old ones stay.
    ///
    /// # Errors
    /// [`ClusterError::Keys`].
    pub fn set_keys(&self, keys: &[Secret]) -> Result<(), ClusterError> {
        Ok(self.inner.keyring.replace(keys)?)
    }

    /// Says that this instance takes no new connections. What it still holds is counted on.
    ///
    /// # Errors
    /// [`ClusterError::Busy`].
    pub fn announce_leaving(&self) -> Result<(), ClusterError> {
        self.inner
            .commands
            .try_send(Command::AnnounceLeaving)
            .map_err(|_| ClusterError::Busy)
    }

    /// The last word: all counts are zero. Told to everybody twice, then the tasks end. Returns when that is done, or
    /// after a second.
    pub async fn leave(&self) {
        let (answer, said) = oneshot::channel();
        let leave = async {
            if self
                .inner
                .commands
                .send(Command::Leave(answer))
                .await
                .is_ok()
            {
                // An error means that the task was stopped meanwhile: then there is nobody to wait for.
                drop(said.await);
            }
        };
        // Too late is as good as never: peers detect the death in a second.
        drop(tokio::time::timeout(LEAVE_TIMEOUT, leave).await);
    }

    /// The counters.
    pub fn stats(&self) -> &Stats {
        &self.inner.stats
    }

    /// The counters and the members for a registry.
    pub fn collector(&self) -> ClusterCollector {
        ClusterCollector {
            stats: Arc::clone(&self.inner.stats),
            view: self.view(),
        }
    }

    #[cfg(test)]
    pub(super) fn wire(&self) -> &Arc<Wire> {
        &self.inner.wire
    }
}

/// What is there before the tasks are.
struct Start {
    settings: Settings,
    own: OwnInfo,
    addr: SocketAddr,
    wire: Arc<Wire>,
    keyring: Arc<Keyring>,
    stats: Arc<Stats>,
}

impl Start {
    fn first_view(&self, now: Instant) -> Arc<ClusterView> {
        Arc::new(ClusterView::alone(Arc::from(self.own.name.as_str()), now))
    }

    /// Joins the tasks by their queues and spawns them.
    fn tasks(
        self,
        resolver: SeedResolver,
        facts: FactSource,
        tracker: &TaskTracker,
        cancel: &CancellationToken,
    ) -> Cluster {
        let now = tokio::time::Instant::now().into_std();
        let (commands, command_queue) = mpsc::channel(COMMAND_QUEUE);
        let (gossip_messages, inbox) = mpsc::channel(GOSSIP_QUEUE);
        let (events, gossip_events) = mpsc::channel(EVENT_QUEUE);
        let (values, own_values) = watch::channel(Arc::new(Values::default()));
        let (addrs, seed_addrs) = watch::channel(Arc::new(Vec::new()));
        let (view, view_reader) = watch::channel(self.first_view(now));
        let changed = Arc::new(ChangeSignal::default());

        let outbound = Outbound::new(
            Arc::from(self.own.name.as_str()),
            self.own.release,
            self.addr,
            facts,
            Arc::clone(&changed),
            now,
        );
        let ends = Ends {
            gossip_messages,
            values,
            view,
        };
        let core = Core::new(
            Arc::clone(&self.wire),
            outbound,
            self.settings.interval,
            ends,
            now,
        );
        let queues = Queues {
            commands: command_queue,
            changed: Arc::clone(&changed),
            gossip_events,
        };
        let gossip = Gossip {
            id: self.own.name,
            cluster_id: self.settings.id,
            addr: self.addr,
            interval: self.settings.interval,
            wire: Arc::clone(&self.wire),
            queues: GossipQueues {
                inbox: Arc::new(Mutex::new(inbox)),
                seeds: seed_addrs,
                values: own_values,
                events,
            },
            cancel: cancel.clone(),
        };
        let seeds = Seeds {
            configured: self.settings.seeds,
            resolver,
            addrs,
            view: view_reader.clone(),
            cancel: cancel.clone(),
        };
        tracker.spawn(core.run(queues, cancel.clone()));
        tracker.spawn(gossip.run());
        tracker.spawn(seeds.run());
        Cluster {
            inner: Arc::new(Inner {
                addr: self.addr,
                view: view_reader,
                commands,
                changed,
                keyring: self.keyring,
                stats: self.stats,
                #[cfg(test)]
                wire: self.wire,
            }),
        }
    }
}
