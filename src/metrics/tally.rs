//! Counters of the data path: one writer each, so an addition is a load and a store and no locked instruction.

use crate::logic::close_reason::CloseReason;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A number with ONE writing thread and any number of readers. Two writers would lose additions: give each thread its
/// own and sum when reading.
#[derive(Debug, Default)]
pub struct Tally(AtomicU64);

impl Tally {
    /// Adds; for the owning thread alone.
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    /// Takes away; for the owning thread alone (gauges).
    pub fn sub(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_sub(n), Relaxed);
    }

    /// The value, from any thread.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Upper bounds in seconds of the buckets of [`ListenerTallies::join_seconds`]; one more bucket is +Inf.
pub const JOIN_BUCKETS_S: [f64; 10] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.25, 1.0, 5.0, 20.0];

/// What one worker counts on one listener.
#[derive(Debug, Default)]
pub struct ListenerTallies {
    /// Connections accepted.
    pub accepted: Tally,
    /// Connections open now (accepted and not closed), a gauge.
    pub open: Tally,
    /// Connections joined to an endpoint now, a gauge.
    pub joined: Tally,
    /// Ends, by [`CloseReason::index`].
    pub closed: [Tally; CloseReason::COUNT],
    /// Errors of accept(2) itself (EMFILE, ECONNABORTED ...).
    pub accept_errors: Tally,
    /// Accepted sockets handed to a less loaded worker.
    pub handed_over: Tally,
    /// Application bytes from clients, after TLS.
    pub bytes_from_clients: Tally,
    /// Application bytes to clients, before TLS.
    pub bytes_to_clients: Tally,
    /// CONNECTs read, by protocol level 3, 4, 5.
    pub connects: [Tally; 3],
    /// Endpoints tried again for a client because an earlier one failed.
    pub retries: Tally,
    /// TLS handshakes completed in full.
    pub tls_full: Tally,
    /// TLS handshakes completed by resumption.
    pub tls_resumed: Tally,
    /// Time from the complete CONNECT to the CONNACK passed on: counts per bucket of [`JOIN_BUCKETS_S`].
    pub join_seconds: [Tally; JOIN_BUCKETS_S.len() + 1],
    /// Sum of the same, in microseconds.
    pub join_micros_sum: Tally,
}

impl ListenerTallies {
    /// Records one time to join.
    pub fn observe_join(&self, took: std::time::Duration) {
        let seconds = took.as_secs_f64();
        let bucket = JOIN_BUCKETS_S
            .iter()
            .position(|bound| seconds <= *bound)
            .unwrap_or(JOIN_BUCKETS_S.len());
        self.join_seconds[bucket].add(1);
        self.join_micros_sum
            .add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
    }
}
