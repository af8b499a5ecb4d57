//! SIGHUP: the file is read again, and what can change while connections run changes: certificates and gossip keys.
//! Every other difference is named in the log and waits for a restart. Prepare what can fail, then commit: a mistake
//! leaves everything as it was.

use crate::cluster::Cluster;
use crate::config::{self, Config};
use crate::logic::error_chain::Chain;
use crate::metrics::{self, DescriptorEncoder, Families};
use crate::tls;
use serde_json::Value;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What a reload compares and acts on.
pub(super) struct Reload<'a> {
    pub(super) path: &'a Path,
    pub(super) running: &'a Config,
    pub(super) stores: &'a [Arc<tls::Store>],
    pub(super) cluster: Option<&'a Cluster>,
    pub(super) counts: &'a Counts,
}

/// How reloads went, for the metrics.
#[derive(Clone, Debug, Default)]
pub(super) struct Counts(Arc<[AtomicU64; 2]>);

impl metrics::Collector for Counts {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
        let [taken, refused] = &*self.0;
        Families::new(encoder).counter(
            "tidegate_reloads",
            "Reloads of the configuration file, by result",
            [("taken", taken), ("refused", refused)]
                .map(|(result, count)| ([("result", result)], count.load(Relaxed))),
        )
    }
}

impl Reload<'_> {
    /// Reads, checks, commits; says in the log what came of it.
    pub(super) fn run(&self) {
        let taken = self.try_run();
        let [count, refused] = &*self.counts.0;
        if taken { count } else { refused }.fetch_add(1, Relaxed);
    }

    fn try_run(&self) -> bool {
        let new = match config::load(self.path) {
            Ok(new) => new,
            Err(errors) => {
                for mistake in &errors.mistakes {
                    tracing::error!(%mistake, "reload refused");
                }
                return false;
            }
        };
        let mut restart_only = differences(&self.running.redacted_json(), &new.redacted_json());
        restart_only.extend(changed_secrets(self.running, &new));
        // Its keys are taken below.
        restart_only.retain(|key| key != "cluster.keys_file");
        let prepared: Result<Vec<_>, _> = self.stores.iter().map(|store| store.prepare()).collect();
        let prepared = match prepared {
            Ok(prepared) => prepared,
            Err(error) => {
                tracing::error!(error = %Chain(&error), "reload refused: certificates");
                return false;
            }
        };
        if let (Some(cluster), Some(settings)) = (self.cluster, &new.cluster)
            && let Err(error) = cluster.set_keys(&settings.keys)
        {
            tracing::error!(error = %Chain(&error), "reload refused: gossip keys");
            return false;
        }
        for (store, identity) in self.stores.iter().zip(prepared) {
            store.commit(identity);
        }
        tracing::info!(
            certificates = self.stores.len(),
            keys = new.cluster.as_ref().map(|settings| settings.keys.len()),
            "reloaded"
        );
        if !restart_only.is_empty() {
            tracing::warn!(
                keys = restart_only.join(", "),
                "changed in the file, and taken only by a restart"
            );
        }
        true
    }
}

/// Secrets that differ: in the redacted documents they look the same.
fn changed_secrets(old: &Config, new: &Config) -> Vec<String> {
    let mut found = Vec::new();
    if old.admin.token != new.admin.token {
        found.push("admin.token_file".to_owned());
    }
    for pool in &new.pools {
        let before = old
            .pools
            .iter()
            .find(|before| before.pool.name == pool.pool.name);
        if before.is_some_and(|before| before.health.probe != pool.health.probe) {
            found.push(format!("pools.{}.health", pool.pool.name));
        }
    }
    found
}

/// Key paths whose values differ.
fn differences(old: &Value, new: &Value) -> Vec<String> {
    let mut found = Vec::new();
    compare("", old, new, &mut found);
    found
}

fn compare(path: &str, old: &Value, new: &Value, found: &mut Vec<String>) {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            let keys: std::collections::BTreeSet<_> = old.keys().chain(new.keys()).collect();
            for key in keys {
                let path = if path.is_empty() {
                    key.clone()
                } else {
                    format!("{path}.{key}")
                };
                let value = |side: &serde_json::Map<String, Value>| {
                    side.get(key).cloned().unwrap_or_default()
                };
                compare(&path, &value(old), &value(new), found);
            }
        }
        (Value::Array(old), Value::Array(new)) if old.len() == new.len() => {
            for (index, (old, new)) in old.iter().zip(new).enumerate() {
                compare(&format!("{path}[{index}]"), old, new, found);
            }
        }
        (old, new) if old != new => found.push(path.to_owned()),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_named_by_their_key_paths() {
        let old = serde_json::json!({"a": {"b": 1, "c": [1]}, "d": 1});
        let new = serde_json::json!({"a": {"b": 2, "c": [1]}, "e": 1});
        assert_eq!(differences(&old, &new), ["a.b", "d", "e"]);
        assert!(differences(&old, &old).is_empty());
    }
}
