//! What the cluster counts, and how it is printed.

use super::datagram::{Kind, Reject};
use crate::logic::member::{ClusterView, MemberState};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use tokio::sync::watch;

/// Datagrams and their bytes, sealing included.
#[derive(Debug, Default)]
struct Traffic {
    datagrams: AtomicU64,
    bytes: AtomicU64,
}

impl Traffic {
    fn add(&self, bytes: usize) {
        self.datagrams.fetch_add(1, Relaxed);
        self.bytes.fetch_add(bytes as u64, Relaxed);
    }
}

/// The counters. Several tasks write, rarely at once and far from the data path, hence plain atomics.
#[derive(Debug, Default)]
pub struct Stats {
    received: [Traffic; Kind::ALL.len()],
    sent: [Traffic; Kind::ALL.len()],
    rejected: [AtomicU64; Reject::ALL.len()],
    send_errors: AtomicU64,
    oversize: AtomicU64,
    restarts: AtomicU64,
}

impl Stats {
    pub(super) fn count_received(&self, kind: Kind, bytes: usize) {
        self.received[kind.index()].add(bytes);
    }

    pub(super) fn count_sent(&self, kind: Kind, bytes: usize) {
        self.sent[kind.index()].add(bytes);
    }

    pub(super) fn reject(&self, reason: Reject) {
        self.rejected[reason.index()].fetch_add(1, Relaxed);
    }

    pub(super) fn count_send_error(&self) {
        self.send_errors.fetch_add(1, Relaxed);
    }

    pub(super) fn count_oversize(&self) {
        self.oversize.fetch_add(1, Relaxed);
    }

    pub(super) fn count_restart(&self) {
        self.restarts.fetch_add(1, Relaxed);
    }

    /// Datagrams and messages dropped for one reason.
    pub fn rejected(&self, reason: Reject) -> u64 {
        self.rejected[reason.index()].load(Relaxed)
    }

    /// Datagrams and messages dropped for any reason.
    pub fn rejected_total(&self) -> u64 {
        self.rejected.iter().map(|count| count.load(Relaxed)).sum()
    }

    /// Authentic datagrams received, of all kinds.
    pub fn received_total(&self) -> u64 {
        self.received
            .iter()
            .map(|traffic| traffic.datagrams.load(Relaxed))
            .sum()
    }

    /// Datagrams sent, of all kinds.
    pub fn sent_total(&self) -> u64 {
        self.sent
            .iter()
            .map(|traffic| traffic.datagrams.load(Relaxed))
            .sum()
    }

    /// Times that the gossip task ended by itself and was started again.
    pub fn restarts(&self) -> u64 {
        self.restarts.load(Relaxed)
    }
}

/// Prints the counters and what the view says about the members.
pub struct ClusterCollector {
    pub(super) stats: Arc<Stats>,
    pub(super) view: watch::Receiver<Arc<ClusterView>>,
}

impl fmt::Debug for ClusterCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterCollector").finish_non_exhaustive()
    }
}

impl ClusterCollector {
    fn encode_members(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let view = Arc::clone(&self.view.borrow());
        let now = tokio::time::Instant::now().into_std();
        let mut members = gauge(
            encoder,
            "tidegate_cluster_members",
            "Other members of the tier, by state",
        )?;
        for state in MemberState::ALL {
            let count = view
                .members
                .iter()
                .filter(|member| member.state == state)
                .count();
            let labels = [("state", state.label())];
            ConstGauge::new(i64::try_from(count).unwrap_or(i64::MAX))
                .encode(members.encode_family(&labels)?)?;
        }
        let help = "Time since a member last said something; members that count only";
        let mut ages = gauge(encoder, "tidegate_cluster_record_age_seconds", help)?;
        for member in view.counting() {
            let Some(heard_at) = member.heard_at else {
                continue;
            };
            let age = now.saturating_duration_since(heard_at).as_secs_f64();
            ConstGauge::new(age).encode(ages.encode_family(&[("member", &*member.id)])?)?;
        }
        Ok(())
    }

    fn encode_traffic(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let directions = [("in", &self.stats.received), ("out", &self.stats.sent)];
        let help = "Sealed datagrams by direction and kind; inbound ones are authentic";
        let mut datagrams = counter(encoder, "tidegate_cluster_datagrams", help)?;
        for (direction, traffic) in directions {
            for kind in Kind::ALL {
                let labels = [("direction", direction), ("kind", kind.label())];
                let value = traffic[kind.index()].datagrams.load(Relaxed);
                ConstCounter::new(value).encode(datagrams.encode_family(&labels)?)?;
            }
        }
        let help = "UDP payload bytes of the same, sealing included";
        let mut bytes = counter(encoder, "tidegate_cluster_bytes", help)?;
        for (direction, traffic) in directions {
            for kind in Kind::ALL {
                let labels = [("direction", direction), ("kind", kind.label())];
                let value = traffic[kind.index()].bytes.load(Relaxed);
                ConstCounter::new(value).encode(bytes.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }

    fn encode_mistakes(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Datagrams and messages that were dropped, by reason";
        let mut rejected = counter(encoder, "tidegate_cluster_datagrams_rejected", help)?;
        for reason in Reject::ALL {
            let labels = [("reason", reason.label())];
            ConstCounter::new(self.stats.rejected(reason))
                .encode(rejected.encode_family(&labels)?)?;
        }
        for (name, help, value) in [
            (
                "tidegate_cluster_send_errors",
                "Datagrams that the system did not take",
                &self.stats.send_errors,
            ),
            (
                "tidegate_cluster_oversize",
                "Records and messages too large to be told",
                &self.stats.oversize,
            ),
            (
                "tidegate_cluster_restarts",
                "Restarts of the gossip task",
                &self.stats.restarts,
            ),
        ] {
            ConstCounter::new(value.load(Relaxed)).encode(counter(encoder, name, help)?)?;
        }
        Ok(())
    }
}

impl Collector for ClusterCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.encode_members(&mut encoder)?;
        self.encode_traffic(&mut encoder)?;
        self.encode_mistakes(&mut encoder)
    }
}

fn gauge<'s>(
    encoder: &'s mut DescriptorEncoder<'_>,
    name: &'s str,
    help: &str,
) -> Result<MetricEncoder<'s>, fmt::Error> {
    encoder.encode_descriptor(name, help, None, MetricType::Gauge)
}

/// The printer appends `_total`.
fn counter<'s>(
    encoder: &'s mut DescriptorEncoder<'_>,
    name: &'s str,
    help: &str,
) -> Result<MetricEncoder<'s>, fmt::Error> {
    encoder.encode_descriptor(name, help, None, MetricType::Counter)
}

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "an arbitrary origin for virtual time"
)]
mod tests {
    use super::*;

    #[test]
    fn the_page_names_every_number_with_bounded_labels() {
        let stats = Arc::new(Stats::default());
        stats.count_received(Kind::Push, 100);
        stats.reject(Reject::Replay);
        stats.count_restart();
        let view = Arc::new(ClusterView::alone("me".into(), std::time::Instant::now()));
        let (_keep, view) = watch::channel(view);
        let mut registry = prometheus_client::registry::Registry::default();
        registry.register_collector(Box::new(ClusterCollector { stats, view }));
        let mut page = String::new();
        prometheus_client::encoding::text::encode(&mut page, &registry).unwrap();
        for line in [
            "tidegate_cluster_members{state=\"alive\"} 0",
            "tidegate_cluster_datagrams_total{direction=\"in\",kind=\"push\"} 1",
            "tidegate_cluster_bytes_total{direction=\"in\",kind=\"push\"} 100",
            "tidegate_cluster_datagrams_rejected_total{reason=\"replay\"} 1",
            "tidegate_cluster_restarts_total 1",
        ] {
            assert!(
                page.lines().any(|found| found == line),
                "{line} is not in\n{page}"
            );
        }
    }
}
