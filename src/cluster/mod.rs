//! The other members of the tier: membership, sealed gossip, the direct push of counts.

mod settings;

pub use settings::{Seed, Settings};
