//! Where everything that is counted is registered, and the text of a scrape.

use super::listeners::{ListenerTotals, Listeners};
use super::process::Process;
use super::{ListenerTallies, exposition};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry as Encoder;
use std::sync::{Arc, Mutex, PoisonError};

/// The process's metrics. Clones share everything.
#[derive(Clone, Debug)]
pub struct Registry {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    listeners: Arc<Listeners>,
    /// One encoder per collector, so that a collector that fails takes only itself out of the scrape.
    encoders: Mutex<Vec<Encoder>>,
}

impl Registry {
    /// A registry with `tidegate_build_info`, the process metrics and the listeners' families. `instance` is printed as
    /// the label `name`, the word of the configuration: `instance` is a label that Prometheus sets itself.
    pub fn new(version: &str, instance: &str) -> Self {
        let mut build = Encoder::default();
        build.register(
            "tidegate_build",
            "Version and configured name of this instance",
            Info::new(vec![
                ("version", version.to_owned()),
                ("name", instance.to_owned()),
            ]),
        );
        let listeners = Arc::new(Listeners::default());
        let shared = Shared {
            listeners: Arc::clone(&listeners),
            encoders: Mutex::new(vec![build]),
        };
        let registry = Self {
            shared: Arc::new(shared),
        };
        registry.collector(Box::new(Process));
        registry.collector(Box::new(listeners));
        registry
    }

    /// Tallies for one worker of one listener: call it once per pair and keep the answer on the worker's thread, the
    /// only one that may write to it.
    pub fn listener(&self, name: &str, pool: &str) -> Arc<ListenerTallies> {
        self.shared.listeners.add(name, pool)
    }

    /// Adds a collector, which is asked at each scrape, on the admin thread. Collectors may share families as long as
    /// their label values differ.
    pub fn collector(&self, collector: Box<dyn Collector>) {
        let mut encoder = Encoder::default();
        encoder.register_collector(collector);
        self.shared
            .encoders
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(encoder);
    }

    /// A scrape in the `OpenMetrics` text format; its content type is [`super::OPEN_METRICS_TYPE`].
    pub fn encode(&self) -> String {
        let mut all = String::new();
        for encoder in self
            .shared
            .encoders
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
        {
            let complete = all.len();
            if text::encode_registry(&mut all, encoder).is_err() {
                all.truncate(complete);
                tracing::error!("a metrics collector failed, its families are left out");
            }
        }
        exposition::merged(&all)
    }

    /// The listeners' numbers, sorted by name, for JSON.
    pub fn listener_totals(&self) -> Vec<ListenerTotals> {
        self.shared.listeners.totals()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Families, plain_text};
    use super::*;
    use crate::logic::close_reason::CloseReason;
    use prometheus_client::encoding::DescriptorEncoder;
    use std::collections::{HashMap, HashSet};
    use std::fmt;

    /// A strict reading: every sample belongs to the family declared before it and has a suffix that its type allows,
    /// families are declared once, series are not repeated, values are numbers. Gives the series.
    fn read(text: &str, open: bool) -> HashMap<String, f64> {
        let mut families = HashSet::new();
        let mut series = HashMap::new();
        let (mut name, mut kind, mut ended) = (String::new(), String::new(), false);
        for line in text.lines() {
            assert!(!ended, "{line} after the end mark");
            if line == "# EOF" {
                ended = true;
            } else if let Some(rest) = line.strip_prefix("# HELP ") {
                name = rest.split(' ').next().unwrap().to_owned();
                assert!(rest.ends_with('.') && !rest.ends_with(".."), "{line}");
                assert!(families.insert(name.clone()), "{name} declared twice");
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (typed, of) = rest.split_once(' ').unwrap();
                assert_eq!(typed, name, "TYPE follows HELP");
                of.clone_into(&mut kind);
            } else {
                let (key, value) = line.rsplit_once(' ').unwrap();
                let metric = key.split('{').next().unwrap();
                let suffix = metric
                    .strip_prefix(name.as_str())
                    .unwrap_or("not of this family");
                let allowed: &[&str] = match (kind.as_str(), open) {
                    ("counter", true) => &["_total"],
                    ("info", true) => &["_info"],
                    ("histogram", _) => &["_sum", "_count", "_bucket"],
                    ("gauge", _) | ("counter", false) => &[""],
                    other => panic!("{other:?} in {line}"),
                };
                assert!(allowed.contains(&suffix), "{line} in {name} ({kind})");
                let twice = series.insert(key.to_owned(), value.parse().unwrap());
                assert!(twice.is_none(), "{key} is printed twice");
            }
        }
        assert_eq!(ended, open);
        series
    }

    #[test]
    fn scrape_is_well_formed_in_both_formats() {
        let registry = Registry::new("1.2.3", "lb-1");
        let tallies = registry.listener("mqtt", "emqx");
        registry.listener("mqtt", "emqx").accepted.add(1);
        registry.listener("a \"quoted\\\nname", "emqx");
        tallies.accepted.add(2);
        tallies.observe_join(std::time::Duration::from_millis(2));
        tallies.observe_join(std::time::Duration::from_secs(30));
        for (text, open) in [
            (registry.encode(), true),
            (plain_text(&registry.encode()), false),
        ] {
            let series = read(&text, open);
            let get = |key: &str| {
                *series
                    .get(key)
                    .unwrap_or_else(|| panic!("no {key} in {text}"))
            };
            let is = |key: &str, value: f64| assert!((get(key) - value).abs() < 1e-9, "{key}");
            is("tidegate_build_info{version=\"1.2.3\",name=\"lb-1\"}", 1.0);
            is(
                "tidegate_connections_accepted_total{listener=\"mqtt\"}",
                3.0,
            );
            is(
                "tidegate_join_duration_seconds_count{listener=\"mqtt\"}",
                2.0,
            );
            is(
                "tidegate_join_duration_seconds_sum{listener=\"mqtt\"}",
                30.002,
            );
            is(
                "tidegate_join_duration_seconds_bucket{le=\"0.0025\",listener=\"mqtt\"}",
                1.0,
            );
            is(
                "tidegate_join_duration_seconds_bucket{le=\"20.0\",listener=\"mqtt\"}",
                1.0,
            );
            is(
                "tidegate_join_duration_seconds_bucket{le=\"+Inf\",listener=\"mqtt\"}",
                2.0,
            );
            is(
                "tidegate_connects_total{listener=\"mqtt\",version=\"3.1.1\"}",
                0.0,
            );
            is(
                "tidegate_tls_handshakes_total{listener=\"mqtt\",kind=\"resumed\"}",
                0.0,
            );
            for reason in CloseReason::ALL {
                let labels = format!("{{listener=\"mqtt\",reason=\"{}\"}}", reason.label());
                is(&format!("tidegate_connections_closed_total{labels}"), 0.0);
            }
            assert!(get("process_resident_memory_bytes") > 1e6);
            assert!(get("process_start_time_seconds") > 1.6e9);
            assert!(get("process_open_fds") >= 3.0);
            assert!(get("process_max_fds") >= get("process_open_fds"));
            assert!(get("process_cpu_seconds_total") >= 0.0);
        }
    }

    #[derive(Debug)]
    struct PerPool(&'static str, bool);

    impl Collector for PerPool {
        fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
            let mut families = Families::new(encoder);
            families.gauge(
                "tidegate_spread_ratio",
                "Spread",
                [([("pool", self.0)], 0.5)],
            )?;
            if self.1 { Err(fmt::Error) } else { Ok(()) }
        }
    }

    #[test]
    fn collectors_share_a_family_and_a_failing_one_is_left_out() {
        let registry = Registry::new("1", "lb-1");
        registry.collector(Box::new(PerPool("one", false)));
        registry.collector(Box::new(PerPool("broken", true)));
        registry.clone().collector(Box::new(PerPool("two", false)));
        let series = read(&registry.encode(), true);
        assert!(series.contains_key("tidegate_spread_ratio{pool=\"one\"}"));
        assert!(series.contains_key("tidegate_spread_ratio{pool=\"two\"}"));
        assert!(!series.contains_key("tidegate_spread_ratio{pool=\"broken\"}"));
    }
}
