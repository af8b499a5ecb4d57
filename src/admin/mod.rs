//! The admin API: health, metrics, JSON, on a thread and a runtime of its own, so that it answers while the data path
//! is saturated.
//!
//! Reading order: `views` (the JSON), `source` (who fills it), `routes` (what is asked, pure), `server` (sockets and
//! limits). The other end is `client` and `tables`, for the commands that talk to a running instance.
//!
//! Absent on purpose: TLS (bind to loopback or put it behind something), and any route that changes the configuration.

mod client;
mod deadline;
mod guard;
mod routes;
mod server;
mod settings;
mod source;
mod tables;
#[cfg(test)]
mod tests;
mod views;

pub use client::{Client, ClientError};
pub use server::{Handle, StartError, bind, start};
pub use settings::Settings;
pub use source::{DrainError, Source};
pub use tables::{drain_line, members_table, pools_table, status_table};
pub use views::{
    DiscoveryView, EndpointView, ListenerView, MemberState, MemberView, PoolView, Readiness,
    SeenBy, StatusView, spread,
};
