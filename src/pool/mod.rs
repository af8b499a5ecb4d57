//! A pool: named set of endpoints, the actor that judges them and the picker that chooses among them.
//!
//! [`Pool`] is the handle for everybody. Choosing ([`Pool::pick`]) is a function call on the caller's thread under one
//! short mutex; judging is one task, the single writer of the snapshot, fed by [`Pool::events`]. Both are shells: the
//! rules are in `logic::balance` and `logic::pool_state`.
//!
//! Absent on purpose: dialling (`relay`), looking names up (`discovery`), probing (`health`) and gossip (`cluster`); `app`
//! connects them.

mod actor;
mod collector;
mod handle;
mod report;
mod settings;
mod slot;
#[cfg(test)]
mod tests;

pub use crate::logic::balance::{PickReason, PickRequest};
pub use collector::PoolCollector;
pub use handle::{PickError, Pool};
pub use report::EndpointReport;
pub use settings::{Affinity, OutlierSettings, Policy, ProxyProtocol, Settings};
pub use slot::{Slot, Suspicion};
