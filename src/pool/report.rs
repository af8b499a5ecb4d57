//! What is known of each endpoint, for the admin API and the metrics: the verdict joined with the counts.

use crate::logic::balance::EndpointTraffic;
use crate::logic::event::ConnectFailure;
use crate::logic::snapshot::{EndpointView, PoolSnapshot};

/// One endpoint.
#[derive(Clone, Debug)]
pub struct EndpointReport {
    /// The verdict, from the snapshot.
    pub view: EndpointView,
    /// Own connections that the broker has accepted.
    pub established: u32,
    /// Own connections that wait for it.
    pub pending: u32,
    /// Connections over the tier: own, pending or established, and the peers' by their last records.
    pub cluster: u64,
    /// Times that it was picked since it came.
    pub picks_total: u64,
    /// Failed attempts since it came, by [`ConnectFailure::index`].
    pub failures_total: [u64; ConnectFailure::LABELS.len()],
    /// Passive ejections since it came.
    pub ejections_total: u64,
    /// Share of the connections, at least 1.
    pub weight: u16,
}

impl EndpointReport {
    /// Connections over the tier per unit of weight.
    #[expect(
        clippy::cast_precision_loss,
        reason = "connection counts stay below 2^53"
    )]
    pub fn cluster_per_weight(&self) -> f64 {
        self.cluster as f64 / f64::from(self.weight)
    }
}

/// Joins what was read one after the other: an endpoint that came between has no counts yet.
pub(super) fn join(snapshot: &PoolSnapshot, traffic: &[EndpointTraffic]) -> Vec<EndpointReport> {
    let report = |view: &EndpointView| {
        let mut report = EndpointReport {
            view: view.clone(),
            established: 0,
            pending: 0,
            cluster: 0,
            picks_total: 0,
            failures_total: [0; ConnectFailure::LABELS.len()],
            ejections_total: 0,
            weight: view.target.weight.max(1),
        };
        if let Some(traffic) = traffic.iter().find(|traffic| traffic.id == view.id()) {
            report.established = traffic.own.saturating_sub(traffic.pending);
            report.pending = traffic.pending;
            report.cluster = u64::from(traffic.own) + traffic.peers;
            report.picks_total = traffic.picks_total;
            report.failures_total = traffic.failures_total;
            report.ejections_total = traffic.ejections_total;
        }
        report
    };
    snapshot.endpoints.iter().map(report).collect()
}
