//! The registry and the counters. Who counts registers here; the admin API prints.

mod tally;

pub use tally::{JOIN_BUCKETS_S, ListenerTallies, Tally};
