//! What the admin API shows, gathered from where it lives.

use super::fingerprint::shown;
use super::lifecycle::Phase;
use super::pools::WiredPool;
use crate::admin::{
    DiscoveryView, DrainError, EndpointView, ListenerView, MemberState, MemberView, PoolView,
    Readiness, SeenBy, Source, StatusView, spread,
};
use crate::cluster::Cluster;
use crate::config::Config;
use crate::logic::endpoint::EndpointId;
use crate::logic::event::PoolEvent;
use crate::logic::member::{ClusterView, Member};
use crate::logic::pool_state::takes_connections;
use crate::logic::snapshot::EndpointState;
use crate::metrics::Registry as Metrics;
use crate::pool::EndpointReport;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// The running instance, as operators see it.
pub(super) struct InstanceSource {
    pub(super) config: Config,
    pub(super) fingerprint: String,
    pub(super) started: Instant,
    pub(super) phase: watch::Receiver<Phase>,
    pub(super) metrics: Metrics,
    pub(super) pools: Vec<WiredPool>,
    pub(super) cluster: Option<Cluster>,
    /// Where each listener really is (port 0 in the configuration).
    pub(super) listeners: Vec<SocketAddr>,
}

/// The version of the program.
pub(super) const VERSION: &str = env!("CARGO_PKG_VERSION");

impl InstanceSource {
    fn view(&self) -> Option<Arc<ClusterView>> {
        self.cluster
            .as_ref()
            .map(|cluster| Arc::clone(&cluster.view().borrow()))
    }

    fn cluster_word(&self) -> String {
        match self.view() {
            None => "off".to_owned(),
            Some(view) => match view.alone_since {
                Some(since) => {
                    let alone = Instant::now().into_std().saturating_duration_since(since);
                    format!("alone for {} s: no other member answers", alone.as_secs())
                }
                None => format!("joined: {} members", view.counting().count() + 1),
            },
        }
    }
}

impl Source for InstanceSource {
    fn status(&self) -> StatusView {
        let totals = self.metrics.listener_totals();
        StatusView {
            name: self.config.instance.name.clone(),
            version: VERSION.to_owned(),
            phase: self.phase.borrow().label().to_owned(),
            ready: self.ready().ready,
            uptime_s: self.started.elapsed().as_secs(),
            connections: totals.iter().map(|listener| listener.open).sum(),
            joined: totals.iter().map(|listener| listener.joined).sum(),
            members: u32::try_from(self.view().map_or(0, |view| view.counting().count()))
                .unwrap_or(u32::MAX)
                .saturating_add(1),
            config_fingerprint: self.fingerprint.clone(),
        }
    }

    fn ready(&self) -> Readiness {
        let phase = *self.phase.borrow();
        let without: Vec<_> = self
            .pools
            .iter()
            .filter(|wired| !wired.pool.report().iter().any(is_proven))
            .map(|wired| wired.pool.name().to_owned())
            .collect();
        Readiness {
            // One pool that works is worth traffic; without any this instance only refuses.
            ready: phase == Phase::Ready && without.len() < self.pools.len(),
            phase: phase.label().to_owned(),
            pools_without_endpoint: without,
            cluster: self.cluster_word(),
        }
    }

    fn pools(&self) -> Vec<PoolView> {
        let view = self.view();
        self.pools
            .iter()
            .map(|wired| pool_view(wired, view.as_deref()))
            .collect()
    }

    fn members(&self) -> Vec<MemberView> {
        let view = self.view();
        let own = MemberView {
            id: self.config.instance.name.clone(),
            address: self.cluster.as_ref().map(Cluster::addr),
            generation: view.as_ref().map_or(0, |view| view.own_generation),
            state: MemberState::Alive,
            record_age_ms: 0,
            version: VERSION.to_owned(),
            config_fingerprint: self.fingerprint.clone(),
            connections: self
                .pools
                .iter()
                .flat_map(|wired| wired.pool.report())
                .map(|report| own(&report))
                .sum(),
            is_self: true,
        };
        let now = Instant::now().into_std();
        let others = view
            .iter()
            .flat_map(|view| &view.members)
            .map(|member| member_view(member, now));
        let mut members: Vec<_> = std::iter::once(own).chain(others).collect();
        members.sort_by(|a, b| a.id.cmp(&b.id));
        members
    }

    fn listeners(&self) -> Vec<ListenerView> {
        let totals = self.metrics.listener_totals();
        self.config
            .listeners
            .iter()
            .zip(&self.listeners)
            .filter_map(|(settings, bind)| {
                let totals = totals
                    .iter()
                    .find(|totals| totals.name == settings.name)?
                    .clone();
                let protocol = serde_json::to_value(settings.protocol)
                    .ok()?
                    .as_str()?
                    .to_owned();
                Some(ListenerView {
                    bind: *bind,
                    protocol,
                    tls: settings.tls.is_some(),
                    totals,
                })
            })
            .collect()
    }

    fn config(&self) -> serde_json::Value {
        self.config.redacted_json()
    }

    fn metrics(&self) -> String {
        self.metrics.encode()
    }

    fn drain(
        &self,
        endpoint: EndpointId,
        pool: Option<&str>,
        on: bool,
    ) -> Result<Vec<String>, DrainError> {
        let named: Vec<_> = self
            .pools
            .iter()
            .filter(|wired| pool.is_none_or(|name| name == wired.pool.name()))
            .collect();
        if named.is_empty() {
            return Err(DrainError::UnknownPool);
        }
        let drained = self.view();
        let holders: Vec<_> = named
            .into_iter()
            .filter(|wired| {
                let here = wired
                    .pool
                    .report()
                    .iter()
                    .any(|report| report.view.id() == endpoint);
                // What was drained and has left can be given back before it returns.
                let in_tier =
                    |view: &ClusterView| view.drained(wired.pool.name()).contains(&endpoint);
                here || drained.as_deref().map_or(!on, in_tier)
            })
            .collect();
        if holders.is_empty() {
            return Err(DrainError::UnknownEndpoint);
        }
        if let Some(cluster) = &self.cluster {
            // One way for all members: the fact goes out, and comes back to our own pools by the view.
            for wired in &holders {
                cluster
                    .set_drain(wired.pool.name(), endpoint, on)
                    .map_err(|_busy| DrainError::Busy)?;
            }
        }
        for wired in &holders {
            wired
                .pool
                .events()
                .try_send(PoolEvent::Drain(endpoint, on))
                .map_err(|_full| DrainError::Busy)?;
        }
        Ok(holders
            .iter()
            .map(|wired| wired.pool.name().to_owned())
            .collect())
    }
}

fn pool_view(wired: &WiredPool, view: Option<&ClusterView>) -> PoolView {
    let reports = wired.pool.report();
    let settings = wired.pool.settings();
    let status = wired.discovery.borrow().clone();
    PoolView {
        name: wired.pool.name().to_owned(),
        policy: serde_json::to_value(settings.policy)
            .ok()
            .and_then(|v| v.as_str().map(str::to_owned))
            .unwrap_or_default(),
        snapshot: wired.pool.snapshot().borrow().number,
        own_connections: reports.iter().map(own).sum(),
        cluster_connections: reports.iter().map(|report| report.cluster).sum(),
        spread: spread(
            reports
                .iter()
                .filter(|report| is_proven(report))
                .map(|report| report.cluster as f64 / f64::from(report.view.target.weight)),
        ),
        discovery: DiscoveryView {
            source: wired.source.clone(),
            last_success_age_s: status.last_success.map(|at| at.elapsed().as_secs_f64()),
            stale: status.stale_since.is_some(),
            last_error: status.last_error,
        },
        endpoints: reports
            .into_iter()
            .map(|report| endpoint_view(report, settings.max_connections, wired.pool.name(), view))
            .collect(),
    }
}

fn endpoint_view(
    report: EndpointReport,
    pool_limit: Option<u32>,
    pool: &str,
    tier: Option<&ClusterView>,
) -> EndpointView {
    let seen_by = tier
        .map(|view| seen_by(view, pool, report.view.id()))
        .unwrap_or_default();
    let own_connections = own(&report);
    let EndpointReport {
        view,
        pending,
        cluster,
        picks_total,
        failures_total,
        ejections_total,
        ..
    } = report;
    EndpointView {
        address: view.id(),
        name: view.target.name,
        weight: view.target.weight,
        priority: view.target.priority,
        state: view.state,
        healthy: !matches!(
            view.state,
            EndpointState::Down | EndpointState::Ejected | EndpointState::Unproven
        ),
        eligible: takes_connections(view.state),
        why: view.why,
        drain: view.drain,
        own_connections,
        own_pending: u64::from(pending),
        cluster_connections: cluster,
        max_connections: view.target.max_connections.or(pool_limit),
        latency_ms: view.latency.map(|latency| latency.as_secs_f64() * 1000.0),
        picks_total,
        failures_total: failures_total.iter().sum(),
        ejections_total,
        seen_by,
    }
}

/// Whether a probe or a client has shown that it works; readiness wants one such endpoint.
pub(super) fn is_proven(report: &EndpointReport) -> bool {
    matches!(
        report.view.state,
        EndpointState::Up | EndpointState::HalfOpen
    )
}

fn seen_by(view: &ClusterView, pool: &str, endpoint: EndpointId) -> Vec<SeenBy> {
    let sights = view.sights(pool, endpoint).into_iter();
    sights
        .map(|sight| SeenBy {
            member: sight.id.to_string(),
            healthy: !sight.down,
        })
        .collect()
}

fn member_view(member: &Member, now: std::time::Instant) -> MemberView {
    let age = member
        .heard_at
        .map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
    let records = member.pools.values();
    let fingerprint = shown(records.clone().map(|held| held.record.fingerprint));
    let counts = records.flat_map(|held| held.record.facts.counts.iter());
    MemberView {
        id: member.id.to_string(),
        address: Some(member.addr),
        generation: member.generation,
        state: match member.state {
            crate::logic::member::MemberState::Alive => MemberState::Alive,
            crate::logic::member::MemberState::Leaving => MemberState::Leaving,
            _ => MemberState::Dead,
        },
        record_age_ms: u64::try_from(age.as_millis()).unwrap_or(u64::MAX),
        version: member.release.to_string(),
        config_fingerprint: fingerprint,
        connections: counts.map(|(_, count)| u64::from(*count)).sum(),
        is_self: false,
    }
}

fn own(report: &EndpointReport) -> u64 {
    u64::from(report.established) + u64::from(report.pending)
}
