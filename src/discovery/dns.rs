//! The task that keeps a pool's name looked up: ask, merge, tell the pool when it differs, wait, for ever.

use crate::discovery::Status;
use crate::discovery::error::LookupError;
use crate::discovery::resolver::Resolver;
use crate::discovery::settings::DnsSource;
use crate::logic::dns_answer::{AddressMemory, Merge, Miss, ServiceMemory};
use crate::logic::dns_schedule::Schedule;
use crate::logic::endpoint::Target;
use crate::logic::event::PoolEvent;
use crate::logic::published::{Change, ENDPOINTS_MAX, Published};
use std::collections::HashMap;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Hosts of one SRV answer that are looked up at the same time.
const HOSTS_AT_ONCE: usize = 16;

/// One pool's look-ups.
pub(super) struct Lookups {
    pool: String,
    source: DnsSource,
    dns: Resolver,
    events: mpsc::Sender<PoolEvent>,
    status: watch::Sender<Status>,
    addresses: AddressMemory,
    services: ServiceMemory,
    published: Published,
    schedule: Schedule,
    /// The absolute name that answered last, per name that was asked.
    via: HashMap<String, String>,
    /// Whether dropped endpoints were complained about.
    over_limit: bool,
}

/// What one look-up brought.
struct Round {
    merge: Merge,
    error: Option<LookupError>,
    targets: Vec<Target>,
}

impl Lookups {
    pub(super) fn new(
        pool: &str,
        source: DnsSource,
        dns: &Resolver,
        events: mpsc::Sender<PoolEvent>,
        status: watch::Sender<Status>,
    ) -> Self {
        let settings = dns.settings();
        let schedule = Schedule::new(settings.ttl_floor, settings.ttl_ceiling, settings.retry);
        Self {
            pool: pool.to_owned(),
            source,
            dns: dns.clone(),
            events,
            status,
            addresses: AddressMemory::default(),
            services: ServiceMemory::default(),
            published: Published::default(),
            schedule,
            via: HashMap::new(),
            over_limit: false,
        }
    }

    /// Runs until the pool is gone. Cancel-safe: dropped anywhere, it only stops.
    pub(super) async fn run(mut self) {
        let mut rng = fastrand::Rng::new();
        loop {
            let Round {
                merge,
                error,
                targets,
            } = self.look_up().await;
            let change = self.published.replace(targets);
            // The status first: whoever sees the event sees the status that belongs to it.
            self.report(merge.miss, error);
            if let Some(change) = change {
                self.log_change(&change);
                // A full queue is waited for: the pool needs this more than the next look-up.
                if self
                    .events
                    .send(PoolEvent::Resolved(change.targets))
                    .await
                    .is_err()
                {
                    return;
                }
            }
            tokio::time::sleep(self.schedule.next(merge, &mut rng)).await;
        }
    }

    async fn look_up(&mut self) -> Round {
        match self.source.clone() {
            DnsSource::Addresses {
                name,
                port,
                ipv4,
                ipv6,
            } => {
                let preferred = self.via.get(&name).map(String::as_str);
                let found = self.dns.addresses(&name, ipv4, ipv6, preferred).await;
                self.remember(&name, found.via);
                let merge = self.addresses.merge(found.answer);
                let targets = self.addresses.targets(name.trim_end_matches('.'), port);
                Round {
                    merge,
                    error: found.error,
                    targets,
                }
            }
            DnsSource::Srv { name } => {
                let preferred = self.via.get(&name).map(String::as_str);
                let found = self.dns.services(&name, preferred).await;
                self.remember(&name, found.via);
                let merge = self.services.merge_records(found.answer);
                self.look_up_hosts(merge, found.error).await
            }
        }
    }

    /// The addresses of all SRV hosts, [`HOSTS_AT_ONCE`]. They are looked up when the SRV question failed, too: the
    /// hosts may have moved.
    async fn look_up_hosts(&mut self, mut merge: Merge, mut error: Option<LookupError>) -> Round {
        let mut hosts: Vec<String> = self.services.hosts().map(str::to_owned).collect();
        let mut running = JoinSet::new();
        loop {
            while running.len() < HOSTS_AT_ONCE
                && let Some(host) = hosts.pop()
            {
                let dns = self.dns.clone();
                running.spawn(async move {
                    // SRV targets are absolute names (RFC 2782).
                    let found = dns.addresses(&format!("{host}."), true, true, None).await;
                    (host, found)
                });
            }
            match running.join_next().await {
                None => break,
                Some(Ok((host, found))) => {
                    let merged = self.services.merge_host(&host, found.answer);
                    if merged.miss.is_some() {
                        error = error.or(found.error);
                    }
                    merge = merge.and(merged);
                }
                // A panic in one look-up is that look-up's loss; its host keeps what it has.
                Some(Err(_)) => merge.missed(Miss::Other),
            }
        }
        Round {
            merge,
            error,
            targets: self.services.targets(),
        }
    }

    fn remember(&mut self, name: &str, via: Option<String>) {
        if let Some(via) = via {
            self.via.insert(name.to_owned(), via);
        }
    }

    /// Publishes the status; the log gets the changes of state.
    fn report(&self, miss: Option<Miss>, error: Option<LookupError>) {
        let now = Instant::now();
        let error = error
            .filter(|_| miss.is_some())
            .map(|error| error.to_string());
        let mut was_stale = None;
        self.status.send_modify(|status| {
            was_stale = status.stale_since;
            if let Some(count) = status.lookups.get_mut(miss.map_or(0, Miss::index)) {
                *count = count.saturating_add(1);
            }
            if miss.is_none() {
                status.last_success = Some(now);
                status.stale_since = None;
            } else {
                status.stale_since = status.stale_since.or(Some(now));
            }
            status.last_error.clone_from(&error);
            status.endpoints = self.published.len();
        });
        let (pool, name, kept) = (&self.pool, self.name(), self.published.len());
        let error = error.unwrap_or_default();
        match (was_stale, miss) {
            (None, Some(miss)) => {
                tracing::warn!(
                    pool,
                    name,
                    outcome = miss.label(),
                    error,
                    kept,
                    "look-up failed, endpoints are kept"
                );
            }
            (Some(_), Some(miss)) => {
                tracing::debug!(
                    pool,
                    name,
                    outcome = miss.label(),
                    error,
                    kept,
                    "look-up failed again"
                );
            }
            (Some(since), None) => {
                let stale_s = (now - since).as_secs_f64();
                tracing::info!(pool, name, stale_s, "look-ups work again");
            }
            (None, None) => tracing::trace!(pool, name, "looked up"),
        }
    }

    fn log_change(&mut self, change: &Change) {
        let (pool, name, count) = (&self.pool, self.name(), change.targets.len());
        tracing::info!(pool, name, count, added = ?change.added, removed = ?change.removed, "endpoints changed");
        let over_limit = change.dropped > 0;
        if over_limit && !self.over_limit {
            tracing::warn!(
                pool,
                name,
                dropped = change.dropped,
                limit = ENDPOINTS_MAX,
                "too many endpoints, the last in the order of their addresses are dropped"
            );
        }
        self.over_limit = over_limit;
    }

    fn name(&self) -> &str {
        match &self.source {
            DnsSource::Addresses { name, .. } | DnsSource::Srv { name } => name,
        }
    }
}
