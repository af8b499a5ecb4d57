//! The pools' metrics, read at the scrape: nothing is counted twice, and an endpoint that is gone has no series.

use super::{EndpointReport, Pool};
use crate::logic::event::ConnectFailure;
use crate::logic::snapshot::EndpointState;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, EncodeLabelSet, MetricEncoder,
    NoLabelSet,
};
use prometheus_client::metrics::MetricType;
use std::fmt;
use std::sync::Arc;

/// All pools of an instance.
#[derive(Debug)]
pub struct PoolCollector {
    pools: Vec<Arc<Pool>>,
}

struct Scrape<'a> {
    pool: &'a Pool,
    endpoints: Vec<(String, EndpointReport)>,
}

impl PoolCollector {
    /// Register it once, with all pools: a metric family must not be encoded twice.
    pub const fn new(pools: Vec<Arc<Pool>>) -> Self {
        Self { pools }
    }
}

impl Collector for PoolCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let scrapes: Vec<Scrape<'_>> = self
            .pools
            .iter()
            .map(|pool| Scrape {
                pool,
                endpoints: pool
                    .report()
                    .into_iter()
                    .map(|report| (report.view.id().to_string(), report))
                    .collect(),
            })
            .collect();
        gauges(&scrapes, &mut encoder)?;
        counters(&scrapes, &mut encoder)
    }
}

fn gauges(scrapes: &[Scrape<'_>], encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let mut family = encoder.encode_descriptor(
        "tidegate_endpoint_connections",
        "Connections on an endpoint, pending ones included: of this instance, and of the whole tier.",
        None,
        MetricType::Gauge,
    )?;
    for (pool, endpoint, report) in endpoints(scrapes) {
        let own = report.established + report.pending;
        gauge(
            &mut family,
            &[("pool", pool), ("endpoint", endpoint), ("scope", "own")],
            &own,
        )?;
        let labels = [("pool", pool), ("endpoint", endpoint), ("scope", "cluster")];
        gauge(&mut family, &labels, &report.cluster)?;
    }
    let mut family = encoder.encode_descriptor(
        "tidegate_endpoint_pending_connections",
        "Connections of this instance that an endpoint has not accepted yet.",
        None,
        MetricType::Gauge,
    )?;
    for (pool, endpoint, report) in endpoints(scrapes) {
        gauge(
            &mut family,
            &[("pool", pool), ("endpoint", endpoint)],
            &report.pending,
        )?;
    }
    let mut family = encoder.encode_descriptor(
        "tidegate_endpoint_state",
        "1 for the state that an endpoint is in.",
        None,
        MetricType::Gauge,
    )?;
    for (pool, endpoint, report) in endpoints(scrapes) {
        for state in EndpointState::ALL {
            let labels = [
                ("pool", pool),
                ("endpoint", endpoint),
                ("state", state.label()),
            ];
            gauge(&mut family, &labels, &u32::from(state == report.view.state))?;
        }
    }
    let mut family = encoder.encode_descriptor(
        "tidegate_pool_spread_connections",
        "Most minus fewest connections per weight over the whole tier, among the endpoints that are up.",
        None,
        MetricType::Gauge,
    )?;
    for scrape in scrapes {
        gauge(
            &mut family,
            &[("pool", scrape.pool.name())],
            &spread(&scrape.endpoints),
        )?;
    }
    Ok(())
}

fn counters(scrapes: &[Scrape<'_>], encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let mut family = encoder.encode_descriptor(
        "tidegate_endpoint_picks",
        "Times that an endpoint was picked for a client.",
        None,
        MetricType::Counter,
    )?;
    for (pool, endpoint, report) in endpoints(scrapes) {
        counter(
            &mut family,
            &[("pool", pool), ("endpoint", endpoint)],
            &report.picks_total,
        )?;
    }
    let mut family = encoder.encode_descriptor(
        "tidegate_endpoint_connect_failures",
        "Failed attempts to join a client to an endpoint.",
        None,
        MetricType::Counter,
    )?;
    for (pool, endpoint, report) in endpoints(scrapes) {
        for (reason, count) in ConnectFailure::LABELS.iter().zip(&report.failures_total) {
            let labels = [("pool", pool), ("endpoint", endpoint), ("reason", *reason)];
            counter(&mut family, &labels, count)?;
        }
    }
    let mut family = encoder.encode_descriptor(
        "tidegate_endpoint_ejections",
        "Times that an endpoint was ejected because of failed attempts.",
        None,
        MetricType::Counter,
    )?;
    for (pool, endpoint, report) in endpoints(scrapes) {
        counter(
            &mut family,
            &[("pool", pool), ("endpoint", endpoint)],
            &report.ejections_total,
        )?;
    }
    let mut family = encoder.encode_descriptor(
        "tidegate_pool_events_dropped",
        "Failed attempts and passed trials that were not judged because the pool's queue was full.",
        None,
        MetricType::Counter,
    )?;
    for scrape in scrapes {
        counter(
            &mut family,
            &[("pool", scrape.pool.name())],
            &scrape.pool.events_dropped(),
        )?;
    }
    Ok(())
}

fn endpoints<'a>(
    scrapes: &'a [Scrape<'a>],
) -> impl Iterator<Item = (&'a str, &'a str, &'a EndpointReport)> {
    scrapes.iter().flat_map(|scrape| {
        scrape
            .endpoints
            .iter()
            .map(|(endpoint, report)| (scrape.pool.name(), endpoint.as_str(), report))
    })
}

fn gauge<const N: usize>(
    family: &mut MetricEncoder<'_>,
    labels: &[(&str, &str); N],
    value: &impl EncodeGaugeValue,
) -> fmt::Result
where
    for<'l> [(&'l str, &'l str); N]: EncodeLabelSet,
{
    family.encode_family(labels)?.encode_gauge(value)
}

fn counter<const N: usize>(
    family: &mut MetricEncoder<'_>,
    labels: &[(&str, &str); N],
    value: &impl EncodeCounterValue,
) -> fmt::Result
where
    for<'l> [(&'l str, &'l str); N]: EncodeLabelSet,
{
    family
        .encode_family(labels)?
        .encode_counter::<NoLabelSet, _, f64>(value, None)
}

fn spread(endpoints: &[(String, EndpointReport)]) -> f64 {
    let up = || {
        let up = endpoints
            .iter()
            .filter(|(_, report)| report.view.state == EndpointState::Up);
        up.map(|(_, report)| report.cluster_per_weight())
    };
    let most = up().fold(0.0, f64::max);
    most - up().fold(most, f64::min)
}
