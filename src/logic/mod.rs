//! Pure decisions: what to parse, whom to pick, when to believe a probe.
//!
//! Invariant: nothing here reads a clock, a socket, a file or ambient randomness; `now`, randomness and limits are
//! parameters. Everything here runs in the seeded simulation as it runs in production.

pub mod backoff;
pub mod balance;
pub mod clock_offset;
pub mod close_reason;
pub mod dns_answer;
pub mod dns_schedule;
pub mod drain;
pub mod endpoint;
pub mod error_chain;
pub mod event;
pub mod health_state;
pub mod member;
pub mod merge;
pub mod mqtt;
pub mod outlier;
pub mod peer;
pub mod pool_state;
pub mod probers;
pub mod proxy_protocol;
pub mod published;
pub mod push_schedule;
pub mod read_pace;
pub mod reader;
pub mod record;
pub mod replay;
pub mod secret;
pub mod snapshot;
