//! Membership and anti-entropy by chitchat. The only file that names its types.
//!
//! chitchat sees opened datagrams only and knows no seeds: it would resolve their names itself, with the system's
//! resolver and once a minute, so we call `gossip(addr)` on resolved ones. Its task may end (a bug, a message that it
//! cannot stand): it is started again with a new generation, and what was known of the others is held meanwhile.
//! Its mutex is taken here alone, far from the accept path. Reading order: `run`, `live`, the sealed transport.

use super::clock::unix_nanos;
use super::datagram::{Kind, Reject};
use super::transport::Wire;
use crate::logic::merge::LiveMember;
use chitchat::transport::{Socket, Transport};
use chitchat::{
    ChitchatConfig, ChitchatHandle, ChitchatId, ChitchatMessage, Deserializable as _,
    FailureDetectorConfig, NodeState, Serializable as _, spawn_chitchat,
};
use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

/// Measured: death seen in 0.9 s at 100 ms, no false death at 20 % loss. chitchat's own defaults take 5 to 11 s at 1 s and
/// flap after bursts.
const PHI_THRESHOLD: f64 = 12.0;
const SAMPLES: usize = 20;
const MAX_INTERVALS: u32 = 20;

/// Dead members are tried again, and kept in digests, for this long (half of it, in digests).
const DEAD_KEPT: Duration = Duration::from_secs(3600);

/// Seeds tried in one round while alone.
const SEEDS_PER_ROUND: usize = 5;

/// With company, one seed that is no live member is tried this often: two halves that forgot each other meet again.
const SEED_ROUND: Duration = Duration::from_secs(2);

/// How often to look for our own name with a later generation.
const NAME_CHECK: Duration = Duration::from_secs(1);

/// Restarts of the task wait this long, doubling.
const RESTART_WAIT: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// A restarted task knows nobody: for this many intervals the old list is held.
const HOLD_INTERVALS: u32 = 15;

/// Key/value pairs to gossip. Keys start with an ASCII letter: chitchat slices the first byte off and panics otherwise.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Values {
    /// They name this generation inside, and are set under no other.
    pub(super) generation: u64,
    pub(super) pairs: BTreeMap<String, String>,
}

/// What gossip tells.
#[derive(Clone, Debug)]
pub(super) struct GossipEvent {
    /// Our own generation from now on.
    pub(super) generation: u64,
    /// Everybody alive, without ourselves; two generations of one id are possible.
    pub(super) live: Vec<LiveMember>,
    /// Values that changed since the last event: owner's id and generation, value.
    pub(super) values: Vec<(String, u64, String)>,
}

/// Opened gossip messages on their way to chitchat; shared, because a restarted task reads on where the last stopped.
pub(super) type Inbox = Arc<Mutex<mpsc::Receiver<(SocketAddr, Vec<u8>)>>>;

/// The supervisor of the gossip task.
pub(super) struct Gossip {
    pub(super) id: String,
    pub(super) cluster_id: String,
    pub(super) addr: SocketAddr,
    pub(super) interval: Duration,
    pub(super) wire: Arc<Wire>,
    pub(super) queues: GossipQueues,
    pub(super) cancel: CancellationToken,
}

/// What the supervisor reads and where it reports to.
pub(super) struct GossipQueues {
    pub(super) inbox: Inbox,
    pub(super) seeds: watch::Receiver<Arc<Vec<SocketAddr>>>,
    pub(super) values: watch::Receiver<Arc<Values>>,
    pub(super) events: mpsc::Sender<GossipEvent>,
}

/// Why one run of the gossip task is over.
enum End {
    /// We stop.
    Cancelled,
    /// It ended or panicked.
    Died(String),
    /// The tier knows a later generation of us: our clock was set back.
    Outrun(u64),
}

/// What one run of the task has seen.
struct Run {
    generation: u64,
    /// Alive, as last told; held over a restart until `hold_until`.
    held: Vec<LiveMember>,
    hold_until: Instant,
    current: Vec<LiveMember>,
    versions: HashMap<(ChitchatId, String), u64>,
    set: Arc<Values>,
    next_seed_at: Instant,
    next_name_check_at: Instant,
    /// Another instance of our name.
    twin: Option<SocketAddr>,
}

impl Gossip {
    pub(super) async fn run(mut self) {
        // Whatever ends this task ends the cluster's other tasks: without membership the view would rot.
        let _guard = self.cancel.clone().drop_guard();
        let mut last_generation = 0;
        let mut known = Vec::new();
        let mut wait = RESTART_WAIT.0;
        loop {
            let generation = unix_nanos(self.wire.clock()).max(last_generation + 1);
            last_generation = generation;
            let started_at = Instant::now();
            let end = match self.start(generation).await {
                Ok(handle) => self.live(handle, generation, &mut known).await,
                Err(error) => End::Died(format!("{error:#}")),
            };
            match end {
                End::Cancelled => return,
                End::Died(error) => {
                    tracing::error!(error, generation, "gossip task ended, restarting it");
                }
                End::Outrun(seen) => {
                    last_generation = last_generation.max(seen);
                    tracing::warn!(
                        name = self.id,
                        "the tier knows a later start of this instance: the clock was set back"
                    );
                }
            }
            self.wire.stats().count_restart();
            if started_at.elapsed() > RESTART_WAIT.1 * 2 {
                wait = RESTART_WAIT.0;
            }
            tokio::select! {
                () = self.cancel.cancelled() => return,
                () = tokio::time::sleep(wait) => wait = (wait * 2).min(RESTART_WAIT.1),
            }
        }
    }

    async fn start(&self, generation: u64) -> anyhow::Result<ChitchatHandle> {
        let config = ChitchatConfig {
            chitchat_id: ChitchatId::new(self.id.as_str(), generation, self.addr),
            cluster_id: self.cluster_id.clone(),
            gossip_interval: self.interval,
            listen_addr: self.addr,
            seed_nodes: Vec::new(),
            failure_detector_config: FailureDetectorConfig::new(
                PHI_THRESHOLD,
                SAMPLES,
                self.interval * MAX_INTERVALS,
                self.interval,
                DEAD_KEPT,
            ),
            marked_for_deletion_grace_period: DEAD_KEPT,
            catchup_callback: None,
            extra_liveness_predicate: None,
        };
        let transport = SealedTransport {
            wire: Arc::clone(&self.wire),
            inbox: Arc::clone(&self.queues.inbox),
        };
        spawn_chitchat(config, Vec::new(), &transport).await
    }

    /// One run of the task, from start to end.
    async fn live(
        &mut self,
        handle: ChitchatHandle,
        generation: u64,
        known: &mut Vec<LiveMember>,
    ) -> End {
        let now = Instant::now();
        let mut run = Run {
            generation,
            held: known.clone(),
            hold_until: now + self.interval * HOLD_INTERVALS,
            current: Vec::new(),
            versions: HashMap::new(),
            set: Arc::default(),
            next_seed_at: now,
            next_name_check_at: now + NAME_CHECK,
            twin: None,
        };
        let mut watcher = handle
            .with_chitchat(|chitchat| chitchat.live_nodes_watcher())
            .await;
        let mut terminated = pin!(handle.termination_watcher());
        let mut tick = tokio::time::interval(self.interval);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.tell(&run, Vec::new()).await;
        loop {
            tokio::select! {
                // Stopping first, then the task's end; the rest has no order.
                biased;
                () = self.cancel.cancelled() => break,
                result = &mut terminated => {
                    let error = result.err().map_or_else(|| "ended by itself".to_owned(), |error| format!("{error:#}"));
                    return End::Died(error);
                }
                changed = watcher.changed() => {
                    if changed.is_err() {
                        return End::Died("the list of live members is closed".to_owned());
                    }
                    let values = run.read(&self.id, &watcher.borrow_and_update());
                    self.tell(&run, values).await;
                    *known = run.live();
                }
                _ = tick.tick() => {
                    if !run.held.is_empty() && Instant::now() >= run.hold_until {
                        run.held.clear();
                        self.tell(&run, Vec::new()).await;
                        *known = run.live();
                    }
                    self.set_values(&handle, &mut run).await;
                    self.try_seeds(&handle, &mut run);
                    if let Some(seen) = self.later_generation(&handle, &mut run).await {
                        return End::Outrun(seen);
                    }
                }
            }
        }
        // An error means that the task has ended already, which is what was asked for.
        drop(handle.shutdown().await);
        End::Cancelled
    }

    async fn tell(&self, run: &Run, values: Vec<(String, u64, String)>) {
        let event = GossipEvent {
            generation: run.generation,
            live: run.live(),
            values,
        };
        // A full queue waits: the reader does nothing that blocks. A closed one means that we stop anyway.
        drop(self.queues.events.send(event).await);
    }

    /// Sets what changed, at most once per interval because it is called once per interval.
    async fn set_values(&mut self, handle: &ChitchatHandle, run: &mut Run) {
        let wanted = Arc::clone(&self.queues.values.borrow_and_update());
        if wanted.generation != run.generation || wanted == run.set {
            return;
        }
        handle
            .with_chitchat(|chitchat| {
                let state = chitchat.self_node_state();
                for (key, value) in &wanted.pairs {
                    state.set(key, value);
                }
                for gone in run
                    .set
                    .pairs
                    .keys()
                    .filter(|key| !wanted.pairs.contains_key(*key))
                {
                    state.delete(gone);
                }
            })
            .await;
        run.set = wanted;
    }

    fn try_seeds(&mut self, handle: &ChitchatHandle, run: &mut Run) {
        let now = Instant::now();
        let alone = run.current.is_empty();
        if !alone && now < run.next_seed_at {
            return;
        }
        run.next_seed_at = now + SEED_ROUND;
        let mut candidates: Vec<SocketAddr> = self.queues.seeds.borrow_and_update().to_vec();
        candidates.extend(run.held.iter().map(|member| member.addr));
        candidates.retain(|addr| {
            *addr != self.addr && run.current.iter().all(|member| member.addr != *addr)
        });
        let mut rng = fastrand::Rng::new();
        rng.shuffle(&mut candidates);
        for addr in candidates
            .into_iter()
            .take(if alone { SEEDS_PER_ROUND } else { 1 })
        {
            // A closed queue is seen by the termination watcher.
            drop(handle.gossip(addr));
        }
    }

    /// A later start of our own name. When it is dead, the clock was set back over our restart, and we must outbid it
    /// to be heard; when it lives, another instance has our name, and bidding would never end: the latest start has it.
    async fn later_generation(&self, handle: &ChitchatHandle, run: &mut Run) -> Option<u64> {
        let now = Instant::now();
        if now < run.next_name_check_at {
            return None;
        }
        run.next_name_check_at = now + NAME_CHECK;
        let (seen, twin) = handle
            .with_chitchat(|chitchat| {
                let later =
                    |id: &&ChitchatId| *id.node_id == *self.id && id.generation_id > run.generation;
                let seen = chitchat
                    .node_states()
                    .keys()
                    .filter(later)
                    .map(|id| id.generation_id)
                    .max();
                (
                    seen,
                    chitchat
                        .live_nodes()
                        .find(later)
                        .map(|id| id.gossip_advertise_addr),
                )
            })
            .await;
        let Some(addr) = twin else { return seen };
        self.wire.stats().reject(Reject::Name);
        if run.twin != twin {
            run.twin = twin;
            tracing::error!(name = self.id, twin = %addr, "another instance has our name and is heard in our place");
        }
        None
    }
}

impl Run {
    /// Takes in chitchat's list; the values that are new come back.
    fn read(
        &mut self,
        own_id: &str,
        nodes: &BTreeMap<ChitchatId, NodeState>,
    ) -> Vec<(String, u64, String)> {
        let mut news = Vec::new();
        let mut versions = HashMap::new();
        self.current.clear();
        for (id, state) in nodes.iter().filter(|(id, _)| *id.node_id != *own_id) {
            let name = id.node_id.to_string();
            self.current.push(LiveMember {
                id: name.clone(),
                generation: id.generation_id,
                addr: id.gossip_advertise_addr,
            });
            for (key, value) in state
                .key_values_including_deleted()
                .filter(|(_, value)| !value.is_deleted())
            {
                let slot = (id.clone(), key.to_owned());
                if self.versions.get(&slot) != Some(&value.version) {
                    news.push((name.clone(), id.generation_id, value.value.clone()));
                }
                versions.insert(slot, value.version);
            }
        }
        self.versions = versions;
        news
    }

    fn live(&self) -> Vec<LiveMember> {
        let mut live = self.current.clone();
        live.extend(
            self.held
                .iter()
                .filter(|member| !self.current.contains(*member))
                .cloned(),
        );
        live
    }
}

/// What chitchat takes for its network.
struct SealedTransport {
    wire: Arc<Wire>,
    inbox: Inbox,
}

/// The trait is written with a macro that boxes; without the macro its signatures look like this.
type Boxed<'a, T> = Pin<Box<dyn Future<Output = anyhow::Result<T>> + Send + 'a>>;

impl Transport for SealedTransport {
    fn open<'life0, 'async_trait>(
        &'life0 self,
        _listen_addr: SocketAddr,
    ) -> Boxed<'async_trait, Box<dyn Socket>>
    where
        'life0: 'async_trait,
        Self: 'async_trait,
    {
        let socket = SealedSocket {
            wire: Arc::clone(&self.wire),
            inbox: Arc::clone(&self.inbox),
        };
        Box::pin(async move {
            let socket: Box<dyn Socket> = Box::new(socket);
            Ok(socket)
        })
    }
}

struct SealedSocket {
    wire: Arc<Wire>,
    inbox: Inbox,
}

impl Socket for SealedSocket {
    fn send<'life0, 'async_trait>(
        &'life0 mut self,
        to: SocketAddr,
        message: ChitchatMessage,
    ) -> Boxed<'async_trait, ()>
    where
        'life0: 'async_trait,
        Self: 'async_trait,
    {
        Box::pin(async move {
            let datagrams = self.wire.seal(Kind::Gossip, &message.serialize_to_vec());
            self.wire.send(to, Kind::Gossip, &datagrams);
            Ok(())
        })
    }

    /// Cancel-safe, as chitchat asks: a message is taken from the queue in the last step.
    fn recv<'life0, 'async_trait>(
        &'life0 mut self,
    ) -> Boxed<'async_trait, (SocketAddr, ChitchatMessage)>
    where
        'life0: 'async_trait,
        Self: 'async_trait,
    {
        Box::pin(async move {
            let mut inbox = self.inbox.lock().await;
            loop {
                let Some((from, bytes)) = inbox.recv().await else {
                    anyhow::bail!("the cluster's socket is closed");
                };
                // Decoded here, in chitchat's own task: whatever its decoder does, the socket's task lives on.
                match ChitchatMessage::deserialize(&mut bytes.as_slice()) {
                    Ok(message) => return Ok((from, message)),
                    Err(_) => self.wire.stats().reject(Reject::Decode),
                }
            }
        })
    }
}
