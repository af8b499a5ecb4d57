//! The handle of a pool.

use super::actor::Actor;
use super::report::{self, EndpointReport};
use super::{PickRequest, Settings, Slot};
use crate::logic::balance::{Picker, PickerSettings, Refusal};
use crate::logic::endpoint::EndpointId;
use crate::logic::event::PoolEvent;
use crate::logic::health_state::Thresholds;
use crate::logic::peer::{PeerCounts, PoolFacts};
use crate::logic::pool_state::{PoolState, PoolStateSettings};
use crate::logic::snapshot::{EndpointState, EndpointView, PoolSnapshot};
use arc_swap::ArcSwap;
use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Events that wait for the actor. Probes and look-ups wait for room, relays drop and count.
const EVENTS_MAX: usize = 1024;

/// With nothing eligible a client waits this long: a first probe or a half-open trial may be about to end.
const GRACE: Duration = Duration::from_secs(1);

/// Who waits for room looks again at least this often: the one that was woken may not have been able to use it.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// A pool, shared by all threads.
pub struct Pool {
    name: String,
    settings: ArcSwap<Settings>,
    /// The part of the settings that the actor judges by.
    judging: watch::Sender<PoolStateSettings>,
    /// Held for one pick or one bookkeeping step, never over an `.await`.
    picker: Mutex<Picker>,
    events: mpsc::Sender<PoolEvent>,
    events_dropped: AtomicU64,
    snapshot: watch::Receiver<Arc<PoolSnapshot>>,
    changed: Notify,
    room: Notify,
    waiting: AtomicUsize,
    emptied: Notify,
}

/// Why a client got no endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PickError {
    /// Nothing is eligible, or only what the request excludes.
    #[error("no endpoint takes new connections")]
    NoEndpoint,
    /// All that are eligible are at their limit of pending or of all connections.
    #[error("every endpoint is at its connection limit")]
    Saturated,
    /// Nothing became free in time.
    #[error("no endpoint became free before the deadline")]
    Deadline,
}

impl From<Refusal> for PickError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NoEndpoint | Refusal::Excluded => Self::NoEndpoint,
            Refusal::Full | Refusal::Pending => Self::Saturated,
        }
    }
}

impl Pool {
    /// Makes a pool without endpoints and starts its actor on the current runtime (the control runtime). `recheck`
    /// receives endpoints that should be probed at once; when it is full they are dropped, as the regular probe is
    /// near. `seed` feeds jitter and the random policies.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn spawn(
        settings: Settings,
        thresholds: Thresholds,
        recheck: mpsc::Sender<EndpointId>,
        seed: u64,
        tracker: &TaskTracker,
        cancel: &CancellationToken,
    ) -> Arc<Self> {
        let now = tokio::time::Instant::now().into_std();
        let (judging, _) = watch::channel(state_settings(&settings, thresholds));
        let state = PoolState::new(judging.borrow().clone(), seed);
        let (events, inbox) = mpsc::channel(EVENTS_MAX);
        let (publish, snapshot) = watch::channel(Arc::new(state.snapshot()));
        let pool = Arc::new(Self {
            name: settings.name.clone(),
            picker: Mutex::new(Picker::new(picker_settings(&settings), seed, now)),
            settings: ArcSwap::from_pointee(settings),
            judging,
            events,
            events_dropped: AtomicU64::new(0),
            snapshot,
            changed: Notify::new(),
            room: Notify::new(),
            waiting: AtomicUsize::new(0),
            emptied: Notify::new(),
        });
        let actor = Actor::new(Arc::clone(&pool), state, publish, recheck);
        tracker.spawn(actor.run(inbox, cancel.clone()));
        pool
    }

    /// The name in the configuration.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The settings in force.
    pub fn settings(&self) -> Arc<Settings> {
        self.settings.load_full()
    }

    /// Takes new settings, for a reload. Connections that are there stay, whatever the new limits say; the name stays.
    pub fn reconfigure(&self, settings: Settings, thresholds: Thresholds) {
        self.picker().configure(picker_settings(&settings));
        self.judging
            .send_replace(state_settings(&settings, thresholds));
        self.settings.store(Arc::new(settings));
        self.wake_all_waiting();
    }

    /// Where discovery, health, cluster and operators send to. Bounded to 1024: wait for room.
    pub fn events(&self) -> mpsc::Sender<PoolEvent> {
        self.events.clone()
    }

    /// The published picture, now and in future.
    pub fn snapshot(&self) -> watch::Receiver<Arc<PoolSnapshot>> {
        self.snapshot.clone()
    }

    /// Chooses an endpoint now. `now` is the caller's clock reading.
    ///
    /// # Errors
    /// [`PickError::NoEndpoint`] or [`PickError::Saturated`].
    pub fn pick(
        self: &Arc<Self>,
        now: Instant,
        request: &PickRequest<'_>,
    ) -> Result<Slot, PickError> {
        self.try_pick(now, request).map_err(PickError::from)
    }

    fn try_pick(
        self: &Arc<Self>,
        now: Instant,
        request: &PickRequest<'_>,
    ) -> Result<Slot, Refusal> {
        let picked = self.picker().pick(now, request)?;
        self.changed.notify_one();
        Ok(Slot::new(Arc::clone(self), &picked))
    }

    /// Chooses an endpoint, and waits while that may still succeed: up to `deadline` for room among pending connections,
    /// a second at most for an endpoint to become eligible or to fall below its `max_connections`. When all eligible
    /// endpoints are excluded it does not wait.
    ///
    /// Cancel-safe: nothing is counted before the slot is returned.
    ///
    /// # Errors
    /// [`PickError::Deadline`] if pending connections kept the endpoints full to the end, otherwise as [`Pool::pick`].
    pub async fn pick_until(
        self: &Arc<Self>,
        request: &PickRequest<'_>,
        deadline: tokio::time::Instant,
    ) -> Result<Slot, PickError> {
        let start = tokio::time::Instant::now();
        match self.try_pick(start.into_std(), request) {
            Ok(slot) => return Ok(slot),
            Err(Refusal::Excluded) => return Err(PickError::NoEndpoint),
            Err(Refusal::NoEndpoint | Refusal::Full | Refusal::Pending) => {}
        }
        let _waiting = Waiting::enter(&self.waiting);
        let grace = deadline.min(start + GRACE);
        loop {
            let mut room = std::pin::pin!(self.room.notified());
            room.as_mut().enable();
            let now = tokio::time::Instant::now();
            let (until, error) = match self.try_pick(now.into_std(), request) {
                Ok(slot) => return Ok(slot),
                Err(Refusal::Pending) => (deadline, PickError::Deadline),
                Err(refusal @ Refusal::Excluded) => (now, refusal.into()),
                Err(refusal) => (grace, refusal.into()),
            };
            if now >= until {
                return Err(error);
            }
            // Either way round the loop: an elapsed wait ends there.
            tokio::select! {
                () = room => {}
                () = tokio::time::sleep_until(until.min(now + LOOK_AGAIN)) => {}
            }
        }
    }

    /// The last records of all live members of the tier, from the cluster. `own_id` is this member's id.
    pub fn set_peers(&self, own_id: &str, peers: Vec<PeerCounts>) {
        self.picker().set_peers(own_id, peers);
        self.wake_all_waiting();
    }

    /// What to tell the peers.
    pub fn facts(&self) -> PoolFacts {
        let now = tokio::time::Instant::now().into_std();
        let snapshot = Arc::clone(&self.snapshot.borrow());
        let among = |wanted: fn(&EndpointView) -> bool| {
            snapshot
                .endpoints
                .iter()
                .filter(|view| wanted(view))
                .map(EndpointView::id)
                .collect()
        };
        // First-hand alone: an echo of our own words would keep a verdict alive for ever.
        let down = among(|view| {
            matches!(view.state, EndpointState::Down | EndpointState::Ejected) && !view.second_hand
        });
        // What an operator drained is told as such already.
        let evacuating =
            among(|view| view.state == EndpointState::Draining && !view.drain && !view.second_hand);
        let picker = self.picker();
        PoolFacts {
            counts: Arc::new(picker.counts()),
            rate: picker.rate(now),
            down,
            evacuating,
        }
    }

    /// Notified when own counts or own verdicts change. One waiter: the cluster.
    pub fn changed(&self) -> &Notify {
        &self.changed
    }

    /// Per endpoint what is known of it, sorted by endpoint.
    pub fn report(&self) -> Vec<EndpointReport> {
        let snapshot = Arc::clone(&self.snapshot.borrow());
        let mut traffic = Vec::with_capacity(snapshot.endpoints.len());
        self.picker().traffic(&mut traffic);
        report::join(&snapshot, &traffic)
    }

    /// Failures and trials that the actor was not told because its queue was full. They are in the picker's counts.
    pub fn events_dropped(&self) -> u64 {
        self.events_dropped.load(Ordering::Relaxed)
    }

    pub(super) fn picker(&self) -> MutexGuard<'_, Picker> {
        // A panic under the lock leaves counts, not memory, in doubt: serving on is better.
        self.picker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the actor without waiting: the data path never does.
    pub(super) fn tell(&self, event: PoolEvent) {
        if self.events.try_send(event).is_err() {
            self.events_dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Own counts changed in a way that may make room. `emptied`: a vanished endpoint has lost its last connection.
    pub(super) fn freed(&self, emptied: bool) {
        self.changed.notify_one();
        if emptied {
            self.emptied.notify_one();
        }
        // The waiter counts itself before it tries, under the same mutex as the change: one of the two is seen.
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.room.notify_one();
        }
    }

    pub(super) fn wake_all_waiting(&self) {
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.room.notify_waiters();
        }
    }

    pub(super) fn judging(&self) -> watch::Receiver<PoolStateSettings> {
        self.judging.subscribe()
    }

    pub(super) const fn emptied(&self) -> &Notify {
        &self.emptied
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// Counts a waiting client for as long as it waits, cancelled or not.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn enter(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

fn picker_settings(settings: &Settings) -> PickerSettings {
    PickerSettings {
        policy: settings.policy,
        affinity: settings.affinity,
        max_connections: settings.max_connections,
        pending_max: settings.pending_max.max(1),
        join_rate: settings.join_rate,
    }
}

fn state_settings(settings: &Settings, thresholds: Thresholds) -> PoolStateSettings {
    PoolStateSettings {
        name: settings.name.clone(),
        thresholds,
        outlier: settings.outlier,
        connect_timeout: settings.connect_timeout,
        connack_timeout: settings.connack_timeout,
    }
}
