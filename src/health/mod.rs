//! Active checks: one task per endpoint, probing as a client would.
//!
//! A checker sends every [`ProbeResult`](crate::logic::event::ProbeResult) into its pool's queue; rise, fall and
//! eligibility are the pool's business. Reading order: `settings`, `fleet` (which endpoints), `checker` and `pace`
//! (when), `prober` (what), then the probes `tcp`, `http` and `mqtt` on top of `dial`.

mod checker;
mod dial;
mod fleet;
mod http;
mod mqtt;
mod outcome;
mod pace;
mod prober;
mod settings;
mod stats;
mod tcp;
#[cfg(test)]
mod testing;
mod wire;

pub use fleet::Fleet;
pub use settings::{Probe, ProxyHeader, Settings};
pub use stats::{Stats, collector};
