//! What a discovery task tells about itself, and its metrics.

use crate::logic::dns_answer::OUTCOMES;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::{MetricType, TypedMetric};
use std::fmt;
use tokio::sync::watch;
use tokio::time::Instant;

/// The state of one pool's discovery.
#[derive(Clone, Debug, Default)]
pub struct Status {
    /// When an answer last was complete.
    pub last_success: Option<Instant>,
    /// Since when something in use is older than the last look-up; `None`: all of it is current.
    pub stale_since: Option<Instant>,
    /// Look-ups of the whole name by outcome, in the order of [`OUTCOMES`].
    pub lookups: [u64; OUTCOMES.len()],
    /// What went wrong in the last look-up, for people; `None` when nothing did.
    pub last_error: Option<String>,
    /// Endpoints that the pool was told.
    pub endpoints: usize,
}

/// The metrics of all pools' discovery. Names are complete: register it in a registry without a prefix.
#[derive(Debug)]
pub struct DiscoveryCollector {
    pools: Vec<(String, watch::Receiver<Status>)>,
}

/// A collector over `(pool name, its status)`.
pub fn collector(pools: Vec<(String, watch::Receiver<Status>)>) -> DiscoveryCollector {
    DiscoveryCollector { pools }
}

impl DiscoveryCollector {
    fn gauge(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        name: &str,
        help: &str,
        value: impl Fn(&Status) -> Option<f64>,
    ) -> fmt::Result {
        let mut family =
            encoder.encode_descriptor(name, help, None, <ConstGauge<f64> as TypedMetric>::TYPE)?;
        for (pool, status) in &self.pools {
            if let Some(value) = value(&status.borrow()) {
                let labels = [("pool", pool.as_str())];
                ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

impl Collector for DiscoveryCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut lookups = encoder.encode_descriptor(
            "tidegate_discovery_lookups",
            "DNS look-ups of a pool's name by outcome",
            None,
            MetricType::Counter,
        )?;
        for (pool, status) in &self.pools {
            let counts = status.borrow().lookups;
            for (outcome, count) in OUTCOMES.into_iter().zip(counts) {
                let labels = [("pool", pool.as_str()), ("outcome", outcome)];
                ConstCounter::new(count).encode(lookups.encode_family(&labels)?)?;
            }
        }
        let age = |since: Option<Instant>| since.map(|since| since.elapsed().as_secs_f64());
        self.gauge(
            &mut encoder,
            "tidegate_discovery_stale_seconds",
            "How long endpoints are in use that the last look-up did not confirm; 0 when fresh",
            |status| Some(age(status.stale_since).unwrap_or(0.0)),
        )?;
        self.gauge(
            &mut encoder,
            "tidegate_discovery_last_success_age_seconds",
            "Time since a look-up was complete; absent before the first",
            |status| age(status.last_success),
        )?;
        self.gauge(
            &mut encoder,
            "tidegate_discovery_endpoints",
            "Endpoints that discovery found",
            |status| u32::try_from(status.endpoints).ok().map(f64::from),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::registry::Registry;

    #[tokio::test(start_paused = true)]
    async fn metrics_show_every_outcome_and_the_age() {
        let since = Instant::now();
        let status = Status {
            last_success: Some(since),
            stale_since: Some(since),
            lookups: [7, 0, 0, 0, 2, 0],
            last_error: None,
            endpoints: 3,
        };
        let (_fresh, fresh) = watch::channel(Status::default());
        let (_stale, stale) = watch::channel(status);
        let mut registry = Registry::default();
        registry.register_collector(Box::new(collector(vec![
            ("fresh".into(), fresh),
            ("stale".into(), stale),
        ])));
        tokio::time::advance(std::time::Duration::from_secs(4)).await;
        let mut page = String::new();
        prometheus_client::encoding::text::encode(&mut page, &registry).unwrap();
        for line in [
            r#"tidegate_discovery_lookups_total{pool="stale",outcome="ok"} 7"#,
            r#"tidegate_discovery_lookups_total{pool="stale",outcome="timeout"} 2"#,
            r#"tidegate_discovery_lookups_total{pool="fresh",outcome="nxdomain"} 0"#,
            r#"tidegate_discovery_stale_seconds{pool="fresh"} 0.0"#,
            r#"tidegate_discovery_stale_seconds{pool="stale"} 4.0"#,
            r#"tidegate_discovery_last_success_age_seconds{pool="stale"} 4.0"#,
            r#"tidegate_discovery_endpoints{pool="stale"} 3.0"#,
        ] {
            assert!(page.lines().any(|found| found == line), "{line} in\n{page}");
        }
        assert!(!page.contains(r#"last_success_age_seconds{pool="fresh"}"#));
    }
}
