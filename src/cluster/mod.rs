//! The other members of the tier: membership, sealed gossip, the direct push of counts.
//!
//! Reading order: [`handle`](Cluster) (what the program sees), `core` (the one task), `outbound` (what we say), `gossip`
//! (membership, the only file that names chitchat), `transport`, `datagram`, `keyring`, `parts` (how it is sealed),
//! `codec` (the only file that names bincode). What is decided is in `logic::{merge, member, record, drain, replay,
//! push_schedule, clock_offset}`.
//!
//! Invariant: no byte is interpreted before it was opened with a key of the ring, and nothing here is ever waited for
//! by a connection. Gossip is advice: an instance alone serves.

mod clock;
mod codec;
mod core;
mod datagram;
mod gossip;
mod handle;
mod keyring;
mod outbound;
mod parts;
mod seeds;
mod settings;
mod signal;
mod stats;
mod transport;

pub use clock::{WallClock, system_clock};
pub use datagram::Reject;
pub use handle::{Cluster, ClusterError, OwnInfo};
pub use keyring::{KEY_BYTES, KEYS_MAX, KeyError, generate_key};
pub use outbound::{FactSource, PoolReport};
pub use seeds::{SeedFuture, SeedResolver};
pub use settings::{Seed, Settings};
pub use stats::{ClusterCollector, Stats};

#[cfg(test)]
mod tests;
