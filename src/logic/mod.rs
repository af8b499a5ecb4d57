//! Pure decisions: what to parse, whom to pick, when to believe a probe.
//!
//! Invariant: nothing here reads a clock, a socket, a file or ambient randomness; `now`, randomness and limits are
//! parameters. Everything here runs in the seeded simulation as it runs in production.

pub mod backoff;
pub mod balance;
pub mod close_reason;
pub mod endpoint;
pub mod event;
pub mod health_state;
pub mod mqtt;
pub mod outlier;
pub mod peer;
pub mod proxy_protocol;
pub mod reader;
pub mod secret;
pub mod snapshot;
