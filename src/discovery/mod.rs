//! Who the brokers are: DNS names that are looked up for ever, or a fixed list.
//!
//! A discovery task sends [`PoolEvent::Resolved`](crate::logic::event::PoolEvent::Resolved) only when the answer
//! differs, and publishes its [`Status`] for metrics and the admin API. DNS is never health.

mod settings;

pub use settings::{DnsSettings, DnsSource, FixedEndpoint, Source};
