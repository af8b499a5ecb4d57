//! Pure decisions: what to parse, whom to pick, when to believe a probe.
//!
//! Invariant: nothing here reads a clock, a socket, a file or ambient randomness; `now`, randomness and limits are
//! parameters. Everything here runs in the seeded simulation as it runs in production.

pub mod backoff;
pub mod balance;
pub mod close_reason;
pub mod decoded;
pub mod dns_answer;
pub mod dns_schedule;
pub mod endpoint;
pub mod event;
pub mod health_state;
pub mod mqtt;
pub mod outlier;
pub mod peer;
pub mod probers;
pub mod proxy_protocol;
pub mod published;
pub mod secret;
pub mod snapshot;
