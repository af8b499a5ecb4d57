//! A number for a configuration: the same on all instances that are configured alike.

use crate::config::Config;
use xxhash_rust::xxh3::xxh3_64;

/// Of all pools, for people: whatever order they come in.
pub(super) fn fingerprint(config: &Config) -> String {
    let of_pools = config
        .pools
        .iter()
        .map(|settings| pool_fingerprint(config, &settings.pool.name));
    shown(of_pools)
}

/// The fingerprints of a member's pools as one word.
pub(super) fn shown(of_pools: impl Iterator<Item = u64>) -> String {
    format!(
        "{:016x}",
        of_pools.fold(0, |sum, fingerprint| sum ^ fingerprint)
    )
}

/// Of one pool: where its endpoints come from and how they are chosen. Health settings may differ between instances, and
/// so may the client id of a probe.
pub(super) fn pool_fingerprint(config: &Config, pool: &str) -> u64 {
    let json = config.redacted_json();
    let Some(settings) = json.get("pools").and_then(|pools| pools.get(pool)) else {
        return 0;
    };
    let mut settings = settings.clone();
    if let Some(settings) = settings.as_object_mut() {
        settings.remove("health");
    }
    xxh3_64(settings.to_string().as_bytes())
}
