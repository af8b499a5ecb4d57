//! The connections of one worker, as the rest of the process sees and ends them, and the one place where an end is
//! counted and logged.

use super::idle::IdleWatch;
use super::session::Context;
use super::settings::AccessLog;
use super::slow::{Buffers, Held, Load, Slow};
use super::thread::Clock;
use crate::logic::close_reason::CloseReason;
use crate::logic::endpoint::EndpointId;
use crate::logic::error_chain::Chain;
use crate::metrics::Tally;
use slab::Slab;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant};

/// All connections of one worker.
#[derive(Debug)]
pub struct Registry {
    table: Mutex<Table>,
    open: AtomicUsize,
    buffers: Arc<Buffers>,
}

/// Taken at the turns of a connection's life, and by who lists or ends connections.
#[derive(Debug)]
struct Table {
    connections: Slab<Arc<Connection>>,
    idle: IdleWatch,
    slow: Slow,
}

/// Idle connections that are looked at under one lock: a worker's clients must not wait for a hundred thousand.
const IDLE_BATCH: usize = 1024;

impl Registry {
    /// No connections yet. Those of a worker share `buffers` with the other workers of the instance.
    pub fn new(buffers: Arc<Buffers>) -> Self {
        Self {
            table: Mutex::new(Table {
                connections: Slab::new(),
                idle: IdleWatch::default(),
                slow: Slow::new(Arc::clone(&buffers)),
            }),
            open: AtomicUsize::new(0),
            buffers,
        }
    }

    /// What the instance keeps for slow peers.
    pub(super) fn buffers(&self) -> &Buffers {
        &self.buffers
    }

    /// Connections between accept and close.
    pub fn open(&self) -> usize {
        self.open.load(Relaxed)
    }

    /// Asks up to `count` connections to end with `reason`; says how many were asked. Only joined ones are asked: a
    /// connection on its way to a broker has a deadline of its own.
    pub fn close_some(&self, count: usize, reason: CloseReason) -> usize {
        let table = lock(&self.table);
        let mut asked = 0;
        for (_, connection) in &table.connections {
            if asked == count {
                break;
            }
            asked += usize::from(connection.ask_to_close(reason));
        }
        asked
    }

    /// What is known of each connection, up to `limit`.
    pub fn list(&self, limit: usize) -> Vec<ConnectionView> {
        lock(&self.table)
            .connections
            .iter()
            .take(limit)
            .map(|(_, connection)| connection.view())
            .collect()
    }

    /// Asks connections to end that have been quiet for as long as they may be. Once per tick. `false`: some are left for
    /// another call.
    pub(super) fn close_idle(&self, now: u32) -> bool {
        let mut table = lock(&self.table);
        let Table {
            connections,
            idle,
            slow,
        } = &mut *table;
        // The limit may have been passed on another worker, and the slowest be here.
        shed(connections, slow);
        for _ in 0..IDLE_BATCH {
            let Some(look) = idle.pop(now) else {
                return true;
            };
            let Some(connection) = connections.get(look.key) else {
                continue;
            };
            let active_at = connection.active_at.load(Relaxed);
            if now.wrapping_sub(active_at) < look.patience {
                idle.watch(look.key, look.patience, active_at);
            } else if !connection.ask_to_close(CloseReason::IdleTimeout) {
                // Not listening yet: on its way to its first poll.
                idle.watch(look.key, look.patience, now);
            }
        }
        false
    }
}

/// One connection, for people.
#[derive(Clone, Debug)]
pub struct ConnectionView {
    /// The client's address.
    pub client: SocketAddr,
    /// When it was accepted.
    pub accepted: Instant,
    /// The client id of its CONNECT, cut at 256 bytes.
    pub client_id: Option<Box<str>>,
    /// The broker it is joined to.
    pub endpoint: Option<EndpointId>,
    /// Application bytes from the client.
    pub from_client: u64,
    /// Application bytes to the client.
    pub to_client: u64,
}

/// The shared part of a connection; the sockets belong to its task alone.
#[derive(Debug)]
pub(super) struct Connection {
    client: SocketAddr,
    accepted: Instant,
    /// 0, or 1 + the [`CloseReason`] that somebody asks for.
    command: AtomicU8,
    /// The worker's tick of the last byte.
    active_at: AtomicU32,
    pub(super) from_client: Tally,
    pub(super) to_client: Tally,
    details: Mutex<Details>,
}

/// What is learned on the way; one lock, taken at the turns of a connection's life and never per message.
#[derive(Debug, Default)]
pub(super) struct Details {
    pub(super) client_id: Option<Box<str>>,
    /// MQTT protocol level.
    pub(super) level: Option<u8>,
    pub(super) tls: Option<&'static str>,
    pub(super) endpoint: Option<EndpointId>,
    /// Why that endpoint.
    pub(super) why: &'static str,
    /// Endpoints tried.
    pub(super) attempts: u32,
    waker: Option<Waker>,
}

impl Connection {
    /// The reason somebody asked this connection to end for.
    pub(super) fn asked(&self) -> Option<CloseReason> {
        match self.command.load(Relaxed) {
            0 => None,
            command => CloseReason::ALL.get(usize::from(command) - 1).copied(),
        }
    }

    /// Bytes have moved.
    pub(super) fn stamp(&self, clock: &Clock) {
        self.active_at.store(clock.now(), Relaxed);
    }

    /// From here on the connection can be asked to end.
    pub(super) fn listen(&self, waker: &Waker) {
        lock(&self.details).waker = Some(waker.clone());
    }

    pub(super) fn details(&self) -> MutexGuard<'_, Details> {
        lock(&self.details)
    }

    fn ask_to_close(&self, reason: CloseReason) -> bool {
        let Some(waker) = lock(&self.details).waker.take() else {
            return false;
        };
        self.command.store(1 + reason as u8, Relaxed);
        waker.wake();
        true
    }

    fn view(&self) -> ConnectionView {
        let details = lock(&self.details);
        ConnectionView {
            client: self.client,
            accepted: self.accepted,
            client_id: details.client_id.clone(),
            endpoint: details.endpoint,
            from_client: self.from_client.get(),
            to_client: self.to_client.get(),
        }
    }
}

/// How a connection ended: the reason, and the error behind it where there was one.
#[derive(Debug)]
pub(super) struct End {
    pub(super) reason: CloseReason,
    pub(super) cause: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl End {
    pub(super) fn with(
        reason: CloseReason,
        cause: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self {
            reason,
            cause: Some(cause.into()),
        }
    }
}

impl From<CloseReason> for End {
    fn from(reason: CloseReason) -> Self {
        Self {
            reason,
            cause: None,
        }
    }
}

/// A connection's entry; its drop is the end. Dropped unclosed (the runtime stops) it ended with `Shutdown`.
#[derive(Debug)]
pub(super) struct Guard {
    pub(super) context: Arc<Context>,
    pub(super) connection: Arc<Connection>,
    key: usize,
    held: Held,
    end: Option<End>,
    joined: bool,
}

impl Guard {
    pub(super) fn open(context: Arc<Context>, client: SocketAddr, accepted: Instant) -> Self {
        let connection = Arc::new(Connection {
            client,
            accepted,
            command: AtomicU8::new(0),
            active_at: AtomicU32::new(context.clock.now()),
            from_client: Tally::default(),
            to_client: Tally::default(),
            details: Mutex::default(),
        });
        let key = lock(&context.registry.table)
            .connections
            .insert(Arc::clone(&connection));
        context.registry.open.fetch_add(1, Relaxed);
        context.tallies.open.add(1);
        Self {
            context,
            connection,
            key,
            held: Held::default(),
            end: None,
            joined: false,
        }
    }

    pub(super) fn joined(&mut self, endpoint: EndpointId, why: &'static str, attempts: u32) {
        self.joined = true;
        self.context.tallies.joined.add(1);
        let mut details = self.connection.details();
        details.endpoint = Some(endpoint);
        details.why = why;
        details.attempts = attempts;
    }

    pub(super) fn count_from_client(&self, bytes: usize) {
        self.connection.from_client.add(bytes as u64);
        self.context.tallies.bytes_from_clients.add(bytes as u64);
    }

    pub(super) fn count_to_client(&self, bytes: usize) {
        self.connection.to_client.add(bytes as u64);
        self.context.tallies.bytes_to_clients.add(bytes as u64);
    }

    /// From now on the connection ends when it has been quiet for this long; `None`: never.
    pub(super) fn watch_idle(&self, patience: Option<Duration>) {
        self.connection.stamp(&self.context.clock);
        let mut table = lock(&self.context.registry.table);
        table.idle.forget(self.key);
        if let Some(patience) = patience {
            let (patience, now) = (Clock::ticks(patience), self.context.clock.now());
            table.idle.watch(self.key, patience, now);
        }
    }

    /// `load` lies here for a peer that does not take it. Called at each look; it does something when that has changed, and over
    /// the instance's limit asks those to end that have been slow for longest.
    pub(super) fn hold(&mut self, load: Load) {
        if load == self.held.load() {
            return;
        }
        if load.mark < self.held.load().mark {
            // A slow peer took some: that is life, too.
            self.connection.stamp(&self.context.clock);
        }
        let mut table = lock(&self.context.registry.table);
        let Table {
            connections, slow, ..
        } = &mut *table;
        slow.hold(self.key, &mut self.held, load);
        shed(connections, slow);
    }

    /// Bytes were passed on to the broker.
    pub(super) fn moved_from_client(&self, bytes: usize) {
        self.connection.stamp(&self.context.clock);
        self.count_from_client(bytes);
    }

    /// Bytes were passed on to the client.
    pub(super) fn moved_to_client(&self, bytes: usize) {
        self.connection.stamp(&self.context.clock);
        self.count_to_client(bytes);
    }

    /// What the drop of this will count and log.
    pub(super) fn end_with(&mut self, end: End) {
        self.end = Some(end);
    }

    fn log(&self, end: &End) {
        let in_order = matches!(
            end.reason,
            CloseReason::ClientClosed | CloseReason::EndpointClosed | CloseReason::Drained
        );
        match self.context.access {
            AccessLog::Off => return,
            AccessLog::Errors if in_order => return,
            AccessLog::All | AccessLog::Errors => {}
        }
        let connection = &self.connection;
        let details = connection.details();
        let duration = tokio::time::Instant::now()
            .into_std()
            .saturating_duration_since(connection.accepted);
        tracing::info!(
            target: "tidegate::access",
            listener = %self.context.listener,
            client = %connection.client,
            client_id = details.client_id.as_deref(),
            mqtt_level = details.level,
            tls = details.tls,
            pool = %self.context.pool.name(),
            endpoint = details.endpoint.map(tracing::field::display),
            why = details.endpoint.map(|_| details.why),
            attempts = details.attempts,
            from_client_bytes = connection.from_client.get(),
            to_client_bytes = connection.to_client.get(),
            duration_ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
            reason = end.reason.label(),
            error = end.cause.as_ref().map(|cause| tracing::field::display(Chain(cause.as_ref()))),
            "connection closed"
        );
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let end = self
            .end
            .take()
            .unwrap_or_else(|| CloseReason::Shutdown.into());
        let context = &self.context;
        let mut table = lock(&context.registry.table);
        if self.held.load() != Load::default() {
            table.slow.hold(self.key, &mut self.held, Load::default());
        }
        table.idle.forget(self.key);
        let _ours = table.connections.try_remove(self.key);
        drop(table);
        context.registry.open.fetch_sub(1, Relaxed);
        context.tallies.open.sub(1);
        if self.joined {
            context.tallies.joined.sub(1);
        }
        context.tallies.closed[end.reason.index()].add(1);
        self.log(&end);
    }
}

/// Asks those to end that have been slow for longest, as long as too much is kept.
fn shed(connections: &Slab<Arc<Connection>>, slow: &mut Slow) {
    while let Some(key) = slow.pop_over() {
        if let Some(connection) = connections.get(key) {
            connection.ask_to_close(CloseReason::SlowConsumer);
        }
    }
}

/// A panic of another connection's task must not take the worker with it: the data under these locks is valid after
/// every statement.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
