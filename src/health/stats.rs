//! Probes counted by endpoint and result, and their duration by pool, for the metrics page.
//!
//! Labels are bounded: an endpoint that left the pool's snapshot takes its numbers with it.

use super::outcome::Kind;
use crate::logic::endpoint::EndpointId;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Unit;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Upper bounds of the buckets of the duration, in seconds; `timeout` is 60 s at most.
const BUCKETS_S: [f64; 11] = [
    0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.1, 0.25, 1.0, 5.0, 60.0,
];

type Counts = [AtomicU64; Kind::ALL.len()];

/// The numbers of one pool's probes.
#[derive(Debug)]
pub struct Stats {
    pool: String,
    endpoints: Mutex<BTreeMap<EndpointId, Arc<Counts>>>,
    duration: Histogram,
}

impl Stats {
    /// Without any probe yet.
    pub(super) fn new(pool: String) -> Self {
        Self {
            pool,
            endpoints: Mutex::default(),
            duration: Histogram::new(BUCKETS_S),
        }
    }

    /// Counts one probe that ended.
    pub(super) fn record(&self, endpoint: EndpointId, kind: Kind, took: Duration) {
        let counts = Arc::clone(self.lock().entry(endpoint).or_default());
        counts[kind.index()].fetch_add(1, Relaxed);
        self.duration.observe(took.as_secs_f64());
    }

    /// Forgets the endpoints that are not kept.
    pub(super) fn retain(&self, keep: impl Fn(EndpointId) -> bool) {
        self.lock().retain(|endpoint, _| keep(*endpoint));
    }

    /// Numbers survive a panic of whoever held the lock.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<EndpointId, Arc<Counts>>> {
        self.endpoints
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The numbers without the lock: a slow scrape holds up no checker.
    fn copy(&self) -> Vec<(EndpointId, Arc<Counts>)> {
        self.lock()
            .iter()
            .map(|(endpoint, counts)| (*endpoint, Arc::clone(counts)))
            .collect()
    }
}

/// The metrics of all pools, as one collector: a metric's name is announced once.
pub fn collector(pools: Vec<Arc<Stats>>) -> impl Collector {
    ProbeMetrics(pools)
}

#[derive(Debug)]
struct ProbeMetrics(Vec<Arc<Stats>>);

impl Collector for ProbeMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let help = "Active health checks that ended, by what they found; local = not made, for a reason on our side";
        let mut probes =
            encoder.encode_descriptor("tidegate_probes", help, None, MetricType::Counter)?;
        for stats in &self.0 {
            for (endpoint, counts) in stats.copy() {
                for kind in Kind::ALL {
                    let labels = [
                        ("pool", stats.pool.clone()),
                        ("endpoint", endpoint.to_string()),
                        ("result", kind.label().to_owned()),
                    ];
                    let count = ConstCounter::new(counts[kind.index()].load(Relaxed));
                    count.encode(probes.encode_family(&labels)?)?;
                }
            }
        }
        let help = "How long active health checks took, from connect to close";
        let mut durations = encoder.encode_descriptor(
            "tidegate_probe_duration",
            help,
            Some(&Unit::Seconds),
            MetricType::Histogram,
        )?;
        for stats in &self.0 {
            let labels = [("pool", stats.pool.as_str())];
            stats.duration.encode(durations.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::encoding::text::encode;
    use prometheus_client::registry::Registry;
    use std::net::SocketAddr;

    fn endpoint(port: u16) -> EndpointId {
        SocketAddr::from(([127, 0, 0, 1], port)).into()
    }

    fn page(pools: Vec<Arc<Stats>>) -> String {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(collector(pools)));
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        text
    }

    #[test]
    fn the_page_names_pool_endpoint_and_result() {
        let (one, other) = (Stats::new("one".into()), Stats::new("other".into()));
        one.record(endpoint(1), Kind::Up, Duration::from_millis(2));
        one.record(endpoint(1), Kind::Up, Duration::from_millis(2));
        one.record(endpoint(1), Kind::Down, Duration::from_secs(1));
        other.record(endpoint(2), Kind::Draining, Duration::from_millis(2));
        let text = page(vec![Arc::new(one), Arc::new(other)]);
        for line in [
            r#"tidegate_probes_total{pool="one",endpoint="127.0.0.1:1",result="up"} 2"#,
            r#"tidegate_probes_total{pool="one",endpoint="127.0.0.1:1",result="down"} 1"#,
            r#"tidegate_probes_total{pool="one",endpoint="127.0.0.1:1",result="full"} 0"#,
            r#"tidegate_probes_total{pool="other",endpoint="127.0.0.1:2",result="draining"} 1"#,
            r#"tidegate_probe_duration_seconds_count{pool="one"} 3"#,
            r#"tidegate_probe_duration_seconds_bucket{le="0.0025",pool="one"} 2"#,
        ] {
            assert!(
                text.lines().any(|found| found == line),
                "{line}\nis not in\n{text}"
            );
        }
        assert_eq!(text.matches("# TYPE tidegate_probes counter").count(), 1);
    }

    #[test]
    fn an_endpoint_that_left_is_forgotten() {
        let stats = Stats::new("one".into());
        stats.record(endpoint(1), Kind::Up, Duration::ZERO);
        stats.record(endpoint(2), Kind::Up, Duration::ZERO);
        stats.retain(|id| id == endpoint(2));
        let text = page(vec![Arc::new(stats)]);
        assert!(!text.contains("127.0.0.1:1"), "{text}");
        assert!(text.contains("127.0.0.1:2"), "{text}");
    }
}
