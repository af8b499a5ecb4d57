//! What the admin API shows, gathered from where it lives.

use super::lifecycle::Phase;
use super::pools::WiredPool;
use crate::admin::{
    DiscoveryView, DrainError, EndpointView, ListenerView, MemberState, MemberView, PoolView,
    Readiness, Source, StatusView, spread,
};
use crate::config::Config;
use crate::logic::endpoint::EndpointId;
use crate::logic::event::PoolEvent;
use crate::logic::snapshot::EndpointState;
use crate::metrics::Registry as Metrics;
use crate::pool::EndpointReport;
use std::net::SocketAddr;
use tokio::sync::watch;
use tokio::time::Instant;

/// The running instance, as operators see it.
pub(super) struct InstanceSource {
    pub(super) config: Config,
    pub(super) fingerprint: String,
    pub(super) started: Instant,
    pub(super) generation: u64,
    pub(super) phase: watch::Receiver<Phase>,
    pub(super) metrics: Metrics,
    pub(super) pools: Vec<WiredPool>,
    /// Where each listener really is (port 0 in the configuration).
    pub(super) listeners: Vec<SocketAddr>,
}

/// The version of the program.
pub(super) const VERSION: &str = env!("CARGO_PKG_VERSION");

impl Source for InstanceSource {
    fn status(&self) -> StatusView {
        let totals = self.metrics.listener_totals();
        StatusView {
            name: self.config.instance.name.clone(),
            version: VERSION.to_owned(),
            phase: self.phase.borrow().label().to_owned(),
            uptime_s: self.started.elapsed().as_secs(),
            connections: totals.iter().map(|listener| listener.open).sum(),
            joined: totals.iter().map(|listener| listener.joined).sum(),
            members: 1,
            config_fingerprint: self.fingerprint.clone(),
        }
    }

    fn ready(&self) -> Readiness {
        let phase = *self.phase.borrow();
        let without: Vec<_> = self
            .pools
            .iter()
            .filter(|wired| !wired.pool.report().iter().any(is_eligible))
            .map(|wired| wired.pool.name().to_owned())
            .collect();
        Readiness {
            // One pool that works is worth traffic; without any this instance only refuses.
            ready: phase == Phase::Ready && without.len() < self.pools.len(),
            phase: phase.label().to_owned(),
            pools_without_endpoint: without,
            cluster: "off".to_owned(),
        }
    }

    fn pools(&self) -> Vec<PoolView> {
        self.pools.iter().map(pool_view).collect()
    }

    fn members(&self) -> Vec<MemberView> {
        let connections = self
            .pools
            .iter()
            .flat_map(|wired| wired.pool.report())
            .map(|e| own(&e))
            .sum();
        vec![MemberView {
            id: self.config.instance.name.clone(),
            address: None,
            generation: self.generation,
            state: MemberState::Alive,
            record_age_ms: 0,
            version: VERSION.to_owned(),
            config_fingerprint: self.fingerprint.clone(),
            connections,
            is_self: true,
        }]
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
        let holders: Vec<_> = self
            .pools
            .iter()
            .filter(|wired| pool.is_none_or(|name| name == wired.pool.name()))
            .filter(|wired| {
                wired
                    .pool
                    .report()
                    .iter()
                    .any(|report| report.view.id() == endpoint)
            })
            .collect();
        if holders.is_empty() {
            return Err(DrainError::UnknownEndpoint);
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

fn pool_view(wired: &WiredPool) -> PoolView {
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
                .filter(|report| eligible(report.view.state))
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
            .map(|report| endpoint_view(report, settings.max_connections))
            .collect(),
    }
}

fn endpoint_view(report: EndpointReport, pool_limit: Option<u32>) -> EndpointView {
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
        eligible: eligible(view.state),
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
        seen_by: Vec::new(),
    }
}

/// Whether new connections may go there now.
pub(super) fn is_eligible(report: &EndpointReport) -> bool {
    eligible(report.view.state)
}

fn own(report: &EndpointReport) -> u64 {
    u64::from(report.established) + u64::from(report.pending)
}

fn eligible(state: EndpointState) -> bool {
    matches!(state, EndpointState::Up | EndpointState::HalfOpen)
}
