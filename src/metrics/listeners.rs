//! The data path's tallies, summed over the workers of each listener at the time of a scrape.

use super::families::Families;
use super::tally::{JOIN_BUCKETS_S, ListenerTallies, Tally};
use crate::logic::close_reason::CloseReason;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use serde::ser::{SerializeMap, Serializer};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Values of the label `version`, in the order of [`ListenerTallies::connects`].
const VERSIONS: [&str; 3] = ["3.1", "3.1.1", "5.0"];

/// What one listener counted since the process started, over all workers.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct ListenerTotals {
    /// The listener's name in the configuration.
    pub name: String,
    /// The pool that it feeds.
    pub pool: String,
    /// Connections accepted.
    pub accepted: u64,
    /// Connections open now.
    pub open: u64,
    /// Connections joined to an endpoint now.
    pub joined: u64,
    /// Ends, by [`CloseReason::index`]; a map of labels in JSON.
    #[serde(serialize_with = "closed_by_label")]
    pub closed: [u64; CloseReason::COUNT],
    /// Errors of accept(2) itself.
    pub accept_errors: u64,
    /// Accepted sockets handed to a less loaded worker.
    pub handed_over: u64,
    /// Application bytes from clients.
    pub bytes_from_clients: u64,
    /// Application bytes to clients.
    pub bytes_to_clients: u64,
    /// CONNECTs read, by protocol level 3, 4, 5; a map of versions in JSON.
    #[serde(serialize_with = "connects_by_version")]
    pub connects: [u64; 3],
    /// Endpoints tried again for a client because an earlier one failed.
    pub retries: u64,
    /// TLS handshakes completed in full.
    pub tls_full: u64,
    /// TLS handshakes completed by resumption.
    pub tls_resumed: u64,
    /// Sum of the times to join, in microseconds.
    pub join_micros_sum: u64,
    /// Counts per bucket of [`JOIN_BUCKETS_S`] and +Inf: for the histogram, too long for JSON.
    #[serde(skip)]
    pub join_seconds: [u64; JOIN_BUCKETS_S.len() + 1],
}

fn closed_by_label<S: Serializer>(
    closed: &[u64; CloseReason::COUNT],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(closed.len()))?;
    for (reason, count) in CloseReason::ALL.iter().zip(closed) {
        map.serialize_entry(reason.label(), count)?;
    }
    map.end()
}

fn connects_by_version<S: Serializer>(
    connects: &[u64; 3],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(connects.len()))?;
    for (version, count) in VERSIONS.iter().zip(connects) {
        map.serialize_entry(version, count)?;
    }
    map.end()
}

/// All tallies that were handed out, by listener.
#[derive(Debug, Default)]
pub(super) struct Listeners {
    listeners: Mutex<Vec<Listener>>,
}

#[derive(Debug)]
struct Listener {
    name: String,
    pool: String,
    /// One per worker, and per reload: kept for ever, because a counter must not shrink.
    tallies: Vec<Arc<ListenerTallies>>,
}

impl Listeners {
    /// New tallies for one worker of a listener.
    pub(super) fn add(&self, name: &str, pool: &str) -> Arc<ListenerTallies> {
        let tallies = Arc::new(ListenerTallies::default());
        let mut listeners = self
            .listeners
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(listener) = listeners.iter_mut().find(|listener| listener.name == name) {
            // A reload may have pointed the listener at another pool: the last word counts.
            pool.clone_into(&mut listener.pool);
            listener.tallies.push(Arc::clone(&tallies));
        } else {
            let (name, pool) = (name.to_owned(), pool.to_owned());
            listeners.push(Listener {
                name,
                pool,
                tallies: vec![Arc::clone(&tallies)],
            });
        }
        tallies
    }

    /// The sums, sorted by name.
    pub(super) fn totals(&self) -> Vec<ListenerTotals> {
        let listeners = self
            .listeners
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let mut totals: Vec<ListenerTotals> = listeners.iter().map(Listener::total).collect();
        totals.sort_by(|a, b| a.name.cmp(&b.name));
        totals
    }
}

impl Listener {
    fn total(&self) -> ListenerTotals {
        let sum = |field: fn(&ListenerTallies) -> &Tally| {
            self.tallies
                .iter()
                .fold(0u64, |sum, one| sum.wrapping_add(field(one).get()))
        };
        // A connection may be opened by one worker and closed by another: single gauges may be "negative", and a scrape
        // between the two halves sees the sum so. It is never worse than momentary.
        let gauge = |field| u64::try_from(sum(field).cast_signed()).unwrap_or(0);
        ListenerTotals {
            name: self.name.clone(),
            pool: self.pool.clone(),
            accepted: sum(|one| &one.accepted),
            open: gauge(|one| &one.open),
            joined: gauge(|one| &one.joined),
            closed: self.sums(|one| &one.closed),
            accept_errors: sum(|one| &one.accept_errors),
            handed_over: sum(|one| &one.handed_over),
            bytes_from_clients: sum(|one| &one.bytes_from_clients),
            bytes_to_clients: sum(|one| &one.bytes_to_clients),
            connects: self.sums(|one| &one.connects),
            retries: sum(|one| &one.retries),
            tls_full: sum(|one| &one.tls_full),
            tls_resumed: sum(|one| &one.tls_resumed),
            join_micros_sum: sum(|one| &one.join_micros_sum),
            join_seconds: self.sums(|one| &one.join_seconds),
        }
    }

    fn sums<const N: usize>(&self, field: fn(&ListenerTallies) -> &[Tally; N]) -> [u64; N] {
        let mut sums = [0u64; N];
        for one in &self.tallies {
            for (sum, tally) in sums.iter_mut().zip(field(one)) {
                *sum = sum.wrapping_add(tally.get());
            }
        }
        sums
    }
}

/// A plain counter family: its name, its help text, its field.
type CounterFamily = (&'static str, &'static str, fn(&ListenerTotals) -> u64);

/// One number per listener, that only grows.
const COUNTERS: [CounterFamily; 6] = [
    (
        "tidegate_connections_accepted",
        "Client connections accepted",
        |total| total.accepted,
    ),
    (
        "tidegate_connections_handed_over",
        "Accepted connections handed to a less loaded worker",
        |total| total.handed_over,
    ),
    (
        "tidegate_accept_errors",
        "Errors of the accept call itself",
        |total| total.accept_errors,
    ),
    (
        "tidegate_client_received_bytes",
        "Application bytes received from clients, after TLS",
        |total| total.bytes_from_clients,
    ),
    (
        "tidegate_client_sent_bytes",
        "Application bytes sent to clients, before TLS",
        |total| total.bytes_to_clients,
    ),
    (
        "tidegate_connect_retries",
        "Endpoints tried again for a client because an earlier one failed",
        |total| total.retries,
    ),
];

impl Collector for Listeners {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let totals = self.totals();
        let mut families = Families::new(encoder);
        for (name, help, field) in COUNTERS {
            let rows = totals
                .iter()
                .map(|total| ([("listener", &*total.name)], field(total)));
            families.counter(name, help, rows)?;
        }
        families.gauge(
            "tidegate_connections_open",
            "Client connections open now",
            totals
                .iter()
                .map(|total| ([("listener", &*total.name)], total.open)),
        )?;
        families.gauge(
            "tidegate_connections_joined",
            "Client connections joined to an endpoint now",
            totals
                .iter()
                .map(|total| ([("listener", &*total.name)], total.joined)),
        )?;
        families.counter(
            "tidegate_connections_closed",
            "Client connections that ended, by reason",
            totals.iter().flat_map(|total| {
                CloseReason::ALL.into_iter().map(|reason| {
                    let labels = [("listener", &*total.name), ("reason", reason.label())];
                    (labels, total.closed[reason.index()])
                })
            }),
        )?;
        families.counter(
            "tidegate_connects",
            "CONNECT packets read, by MQTT version",
            totals.iter().flat_map(|total| {
                let rows = VERSIONS.into_iter().zip(total.connects);
                rows.map(|(version, count)| {
                    ([("listener", &*total.name), ("version", version)], count)
                })
            }),
        )?;
        families.counter(
            "tidegate_tls_handshakes",
            "TLS handshakes completed with clients, in full or by resumption",
            totals.iter().flat_map(|total| {
                [("full", total.tls_full), ("resumed", total.tls_resumed)]
                    .map(|(kind, count)| ([("listener", &*total.name), ("kind", kind)], count))
            }),
        )?;
        families.histogram(
            "tidegate_join_duration_seconds",
            "Time from the complete CONNECT to the CONNACK passed on",
            &JOIN_BUCKETS_S,
            totals.iter().map(|total| {
                let sum = Duration::from_micros(total.join_micros_sum).as_secs_f64();
                ([("listener", &*total.name)], sum, &total.join_seconds[..])
            }),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_of_one_listener_are_summed_and_listeners_are_kept_apart() {
        let listeners = Listeners::default();
        let (one, two) = (listeners.add("mqtt", "emqx"), listeners.add("mqtt", "emqx"));
        let other = listeners.add("mqtts", "emqx");
        one.accepted.add(2);
        two.accepted.add(3);
        other.accepted.add(7);
        two.closed[CloseReason::NotMqtt.index()].add(1);
        two.connects[2].add(5);
        one.observe_join(Duration::from_millis(3));
        two.observe_join(Duration::from_secs(60));
        let totals = listeners.totals();
        assert_eq!(totals.len(), 2);
        assert_eq!((totals[0].name.as_str(), totals[0].accepted), ("mqtt", 5));
        assert_eq!((totals[1].name.as_str(), totals[1].accepted), ("mqtts", 7));
        assert_eq!(totals[0].closed[CloseReason::NotMqtt.index()], 1);
        assert_eq!(totals[0].connects, [0, 0, 5]);
        assert_eq!(totals[0].join_seconds.iter().sum::<u64>(), 2);
        assert_eq!(totals[0].join_seconds[JOIN_BUCKETS_S.len()], 1);
        assert_eq!(totals[0].join_micros_sum, 60_003_000);
    }

    #[test]
    fn gauge_opened_by_one_worker_and_closed_by_another_is_level() {
        let listeners = Listeners::default();
        let (one, two) = (listeners.add("mqtt", "emqx"), listeners.add("mqtt", "emqx"));
        one.open.add(2);
        two.open.sub(1);
        assert_eq!(listeners.totals()[0].open, 1);
        two.open.sub(3);
        assert_eq!(
            listeners.totals()[0].open,
            0,
            "below zero for a moment is shown as zero"
        );
    }

    #[test]
    fn counters_survive_a_worker_that_is_gone_and_a_new_pool() {
        let listeners = Listeners::default();
        listeners.add("mqtt", "emqx").accepted.add(4);
        listeners.add("mqtt", "other").accepted.add(1);
        let totals = listeners.totals();
        assert_eq!((totals[0].accepted, totals[0].pool.as_str()), (5, "other"));
    }

    #[test]
    fn json_has_words_for_reasons_and_versions() {
        let listeners = Listeners::default();
        listeners.add("mqtt", "emqx").closed[CloseReason::Drained.index()].add(9);
        let json = serde_json::to_value(&listeners.totals()[0]).unwrap();
        assert_eq!(json["closed"]["drained"], 9);
        assert_eq!(
            json["closed"].as_object().unwrap().len(),
            CloseReason::COUNT
        );
        assert_eq!(json["connects"]["3.1.1"], 0);
    }
}
