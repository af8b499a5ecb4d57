//! A socket we accept on: bind, accept loop, limits, and the worker threads that run connections.
//!
//! Reading order: `worker` is one thread, `accept` its loop per listener, `socket` how a port is bound once per
//! worker, `limits` who may come in, `handover` how sockets move to a less loaded worker.

mod accept;
mod handover;
mod limits;
mod settings;
mod socket;
mod worker;

pub use limits::Gate;
pub use settings::{Limits, Protocol, Settings};
pub use socket::{BindError, bind_all};
pub use worker::{Crew, Plan, Worker};
