//! What the instance as a whole takes: connections by its file descriptors, memory for slow peers.

use crate::config::Config;
use crate::metrics::{Collector, DescriptorEncoder, Families};
use crate::relay::Buffers;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::fmt;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// The limits in force, and what of them is in use.
#[derive(Debug)]
pub(super) struct Limits {
    pub(super) connections_max: usize,
    pub(super) buffers: Arc<Buffers>,
}

impl Limits {
    pub(super) fn of(config: &Config, workers: usize) -> Self {
        Self {
            connections_max: connections_max(config),
            buffers: Arc::new(Buffers::new(config.limits.buffers_max, workers)),
        }
    }
}

impl Collector for Limits {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut families = Families::new(encoder);
        let rows = [
            (
                "tidegate_connections_limit",
                "Client connections that this instance takes at once",
                self.connections_max,
            ),
            (
                "tidegate_buffers_held_bytes",
                "Memory for what slow clients and brokers have not taken yet",
                self.buffers.held(),
            ),
            (
                "tidegate_buffers_limit_bytes",
                "Over this, those are closed that have been slow for longest",
                self.buffers.max(),
            ),
        ];
        let ports = local_ports().map(|ports| {
            let help = "Local ports: as many connections to one broker are there at most";
            ("tidegate_local_ports", help, ports)
        });
        for (name, help, value) in rows.into_iter().chain(ports) {
            families.gauge(name, help, [([], i64::try_from(value).unwrap_or(i64::MAX))])?;
        }
        Ok(())
    }
}

/// How many ports the kernel gives to outgoing connections of this network namespace, from one address to one other.
fn local_ports() -> Option<usize> {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok()?;
    let (first, last) = range.trim().split_once(char::is_whitespace)?;
    let (first, last): (usize, usize) = (first.parse().ok()?, last.trim().parse().ok()?);
    (last + 1).checked_sub(first)
}

/// Each connection takes two descriptors; the rest is for listeners, probes, admin and DNS.
fn connections_max(config: &Config) -> usize {
    const RESERVED: u64 = 256;
    if config.limits.max_connections > 0 {
        return config.limits.max_connections as usize;
    }
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let connections = limit.saturating_sub(RESERVED).max(2) / 2;
    usize::try_from(connections)
        .unwrap_or(usize::MAX)
        .min(Semaphore::MAX_PERMITS)
}

/// The soft limit is for programs that use select(2); we take what the operator allows.
pub(super) fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum
        && let Err(error) = setrlimit(
            Resource::Nofile,
            Rlimit {
                current: limit.maximum,
                maximum: limit.maximum,
            },
        )
    {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
}
