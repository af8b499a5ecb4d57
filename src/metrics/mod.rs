//! The registry and the counters. Who counts registers here; the admin API prints.
//!
//! Reading order: `tally` (what the data path writes), `listeners` (summing it), `registry` (printing it). Names are
//! `tidegate_<noun>_<unit>[_total]`, label sets are bounded, and a client id is never a label.

mod exposition;
mod families;
mod listeners;
mod process;
mod registry;
mod tally;

pub use exposition::{OPEN_METRICS_TYPE, PLAIN_TEXT_TYPE, plain_text};
pub use families::Families;
pub use listeners::ListenerTotals;
/// What a module implements to be scraped; see [`Registry::collector`].
pub use prometheus_client::{collector::Collector, encoding::DescriptorEncoder};
pub use registry::Registry;
pub use tally::{JOIN_BUCKETS_S, ListenerTallies, Tally};
