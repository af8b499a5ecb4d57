//! Clients: they choose an instance, are counted there, and come back when they are thrown out.

use crate::instance::{endpoint, endpoint_index};
use crate::world::{Behaviour, Event, World};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;
use tidegate::logic::balance::{PickRequest, Refusal, SlotKey};
use tidegate::logic::endpoint::EndpointId;
use tidegate::logic::event::{ConnectFailure, PoolEvent};

/// Endpoints tried for one client.
const ATTEMPTS_MAX: usize = 5;

/// A client waits this long for room among pending connections.
const DEADLINE: Duration = Duration::from_secs(10);

/// A client waits this long for any endpoint to be eligible.
const GRACE: Duration = Duration::from_secs(1);

/// Who waits looks again at least this often.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Clients that were thrown out come back within these, milliseconds.
pub(crate) const BACK_MS: std::ops::Range<u64> = 1000..5000;

/// A client that wants in.
#[derive(Clone, Debug, Default)]
pub(crate) struct Attempt {
    /// The instance; `None`: any that lives.
    pub(crate) via: Option<usize>,
    /// Endpoints that failed for it.
    pub(crate) excluded: Vec<EndpointId>,
    /// When it came.
    pub(crate) since: Option<Duration>,
}

/// A client that is in, or at least counted.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    pub(crate) instance: usize,
    pub(crate) endpoint: usize,
    key: SlotKey,
    pending: bool,
    serial: u64,
    attempt: Attempt,
}

/// All clients, and the truth about where they are.
#[derive(Debug)]
pub(crate) struct Clients {
    pub(crate) connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    serial: u64,
    /// By instance and endpoint: connections, pending ones included.
    pub(crate) held: Vec<Vec<u32>>,
    /// By endpoint.
    pub(crate) totals: Vec<u32>,
    /// Connections, pending ones included.
    pub(crate) live: usize,
    /// Attempts that an endpoint failed, since the beginning.
    pub(crate) failed: u64,
    /// Clients that were sent away, since the beginning.
    pub(crate) refused: u64,
    /// Clients on their way back, or waiting to be let in.
    pub(crate) away: usize,
    /// Dispatches to this endpoint are noted with their time.
    pub(crate) traced: Option<usize>,
    pub(crate) trace: Vec<Duration>,
}

impl Clients {
    pub(crate) fn new(instances: usize, endpoints: usize) -> Self {
        Self {
            connections: Vec::new(),
            free: Vec::new(),
            serial: 0,
            held: vec![vec![0; endpoints]; instances],
            totals: vec![0; endpoints],
            live: 0,
            failed: 0,
            refused: 0,
            away: 0,
            traced: None,
            trace: Vec::new(),
        }
    }

    fn insert(&mut self, connection: Connection) -> usize {
        self.held[connection.instance][connection.endpoint] += 1;
        self.totals[connection.endpoint] += 1;
        self.live += 1;
        if let Some(at) = self.free.pop() {
            self.connections[at] = Some(connection);
            return at;
        }
        self.connections.push(Some(connection));
        self.connections.len() - 1
    }

    /// The connection under a number, if it still is the same.
    fn get(&mut self, at: usize, serial: u64) -> Option<&mut Connection> {
        self.connections[at]
            .as_mut()
            .filter(|connection| connection.serial == serial)
    }

    pub(crate) fn remove(&mut self, at: usize) -> Option<Connection> {
        let connection = self.connections[at].take()?;
        self.free.push(at);
        self.held[connection.instance][connection.endpoint] -= 1;
        self.totals[connection.endpoint] -= 1;
        self.live -= 1;
        Some(connection)
    }

    /// The numbers of the connections that `wanted` names.
    pub(crate) fn among(&self, wanted: impl Fn(&Connection) -> bool) -> Vec<usize> {
        let all = self.connections.iter().enumerate();
        all.filter(|(_, connection)| connection.as_ref().is_some_and(&wanted))
            .map(|(at, _)| at)
            .collect()
    }
}

impl World {
    /// One new client at an instance, now.
    pub(crate) fn connect(&mut self, via: usize) {
        self.attempt(Attempt {
            via: Some(via),
            ..Attempt::default()
        });
    }

    /// One new client at a random instance, now.
    pub(crate) fn connect_anywhere(&mut self) {
        self.attempt(Attempt::default());
    }

    /// A random connection ends.
    pub(crate) fn close_one(&mut self) {
        if self.clients.live == 0 {
            return;
        }
        loop {
            let at = self.rng.usize(..self.clients.connections.len());
            if self.clients.connections[at].is_some() {
                self.close(at);
                return;
            }
        }
    }

    pub(crate) fn attempt(&mut self, mut attempt: Attempt) {
        if attempt.since.is_none() {
            attempt.since = Some(self.now);
        } else {
            self.clients.away -= 1;
        }
        let alive = self.alive();
        let via = attempt.via.filter(|via| alive.contains(via));
        let Some(via) = via.or_else(|| self.rng.choice(alive)) else {
            return self.send_away(attempt);
        };
        if let Err((refusal, attempt)) = self.try_pick(via, attempt) {
            self.wait(via, refusal, attempt);
        }
    }

    fn try_pick(&mut self, via: usize, attempt: Attempt) -> Result<(), (Refusal, Attempt)> {
        let request = PickRequest {
            excluded: &attempt.excluded,
            source: IpAddr::V4(Ipv4Addr::LOCALHOST),
            route_key: None,
        };
        let Some((process, now)) = self.process(via) else {
            return Err((Refusal::Excluded, attempt));
        };
        let result = process.picker.pick(now, &request);
        let strict = self.setup.strict;
        if strict {
            self.check_pick(via, &attempt.excluded, &result);
        }
        let picked = match result {
            Ok(picked) => picked,
            Err(refusal) => return Err((refusal, attempt)),
        };
        self.clients.serial += 1;
        let serial = self.clients.serial;
        let index = endpoint_index(picked.endpoint);
        let connection = self.clients.insert(Connection {
            instance: via,
            endpoint: index,
            key: picked.key,
            pending: true,
            serial,
            attempt,
        });
        if self.clients.traced == Some(index) {
            self.clients.trace.push(self.now);
        }
        let wait = match self.behaviours[index] {
            Behaviour::Silent => self.setup.connack_timeout,
            _ => self.random_us(200..2000),
        };
        self.after(wait, Event::Answer { connection, serial });
        self.changed(via);
        Ok(())
    }

    fn changed(&mut self, instance: usize) {
        if let Some((process, now)) = self.process(instance) {
            process.schedule.change(now);
        }
        self.follow(instance);
    }

    /// No endpoint for this client now.
    fn wait(&mut self, via: usize, refusal: Refusal, attempt: Attempt) {
        let waited = self.now.saturating_sub(attempt.since.unwrap_or(self.now));
        let patience = match refusal {
            Refusal::Excluded => Duration::ZERO,
            Refusal::NoEndpoint | Refusal::Full => GRACE,
            Refusal::Pending => DEADLINE,
        };
        if waited >= patience {
            return self.send_away(attempt);
        }
        let start = self.instances[via].starts;
        if let Some((process, _)) = self.process(via) {
            let first = process.waiting.is_empty();
            process.waiting.push_back(attempt);
            self.clients.away += 1;
            if first {
                let look = Event::LookAgain {
                    instance: via,
                    start,
                };
                self.after(LOOK_AGAIN, look);
            }
        }
    }

    /// It comes back later, by another way.
    pub(crate) fn send_away(&mut self, _: Attempt) {
        self.clients.refused += 1;
        self.come_back();
    }

    /// A new attempt of a client that was in.
    pub(crate) fn come_back(&mut self) {
        self.clients.away += 1;
        let wait = self.random_us(BACK_MS.start * 1000..BACK_MS.end * 1000);
        let attempt = Attempt {
            since: Some(self.now + wait),
            ..Attempt::default()
        };
        self.after(wait, Event::Attempt(attempt));
    }

    /// All who wait try again.
    pub(crate) fn look_again(&mut self, instance: usize) {
        let Some((process, _)) = self.process(instance) else {
            return;
        };
        for attempt in std::mem::take(&mut process.waiting) {
            self.clients.away -= 1;
            if let Err((refusal, attempt)) = self.try_pick(instance, attempt) {
                self.wait(instance, refusal, attempt);
            }
        }
    }

    /// There may be room: lets in who waits, in order, until one does not fit.
    pub(crate) fn let_in(&mut self, instance: usize) {
        while let Some((process, _)) = self.process(instance) {
            let Some(attempt) = process.waiting.pop_front() else {
                return;
            };
            self.clients.away -= 1;
            if let Err((_, attempt)) = self.try_pick(instance, attempt) {
                self.clients.away += 1;
                if let Some((process, _)) = self.process(instance) {
                    process.waiting.push_front(attempt);
                }
                return;
            }
        }
    }

    /// The endpoint's answer to a pending connection.
    pub(crate) fn answer(&mut self, at: usize, serial: u64) {
        let Some(connection) = self.clients.get(at, serial) else {
            return;
        };
        let (index, instance, key) = (connection.endpoint, connection.instance, connection.key);
        let failure = match self.behaviours[index] {
            Behaviour::Healthy | Behaviour::Evacuating => None,
            Behaviour::Dead => Some(ConnectFailure::Refused),
            Behaviour::Silent => Some(ConnectFailure::ConnackTimeout),
            Behaviour::Full => Some(ConnectFailure::ClosedBeforeConnack),
        };
        if let Some(failure) = failure {
            return self.fail(at, failure);
        }
        connection.pending = false;
        let Some((process, now)) = self.process(instance) else {
            return;
        };
        if process.picker.established(key, now) {
            self.tell(instance, PoolEvent::TrialPassed(endpoint(index)));
        }
        self.changed(instance);
        self.let_in(instance);
    }

    /// A pending connection failed; its client is tried elsewhere.
    fn fail(&mut self, at: usize, failure: ConnectFailure) {
        let Some(connection) = self.clients.remove(at) else {
            return;
        };
        self.clients.failed += 1;
        let Connection {
            instance,
            endpoint: index,
            key,
            mut attempt,
            ..
        } = connection;
        if let Some((process, _)) = self.process(instance) {
            process.picker.failed(key, failure);
        }
        self.tell(instance, PoolEvent::ConnectFailed(endpoint(index), failure));
        self.changed(instance);
        self.let_in(instance);
        attempt.excluded.push(endpoint(index));
        if attempt.excluded.len() >= ATTEMPTS_MAX {
            self.send_away(attempt);
        } else if let Err((refusal, attempt)) = self.try_pick(instance, attempt) {
            self.wait(instance, refusal, attempt);
        }
    }

    /// A connection ends, for whatever reason.
    pub(crate) fn close(&mut self, at: usize) {
        let Some(connection) = self.clients.remove(at) else {
            return;
        };
        let instance = connection.instance;
        if let Some((process, now)) = self.process(instance)
            && process.picker.release(connection.key, connection.pending)
        {
            process.tick(now);
        }
        self.changed(instance);
        self.let_in(instance);
    }

    /// A connection whose endpoint has died ends, and its client comes back.
    pub(crate) fn close_if(&mut self, at: usize, serial: u64) {
        let Some(connection) = self.clients.get(at, serial) else {
            return;
        };
        if connection.pending {
            return self.fail(at, ConnectFailure::ClosedBeforeConnack);
        }
        self.close(at);
        self.come_back();
    }

    /// The serial of a connection.
    pub(crate) fn serial(&self, at: usize) -> Option<u64> {
        self.clients.connections[at]
            .as_ref()
            .map(|connection| connection.serial)
    }
}
