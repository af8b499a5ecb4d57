//! Active checks: one task per endpoint, probing as a client would.
//!
//! A checker sends every [`ProbeResult`](crate::logic::event::ProbeResult) into its pool's queue; rise, fall and
//! eligibility are the pool's business.

mod settings;

pub use settings::{Probe, ProxyHeader, Settings};
