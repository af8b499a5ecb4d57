//! Integration tests: one binary, one module per subject.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests may fail as tests do"
)]

#[path = "../support/mod.rs"]
mod support;

mod cluster;
mod config;
mod deploy;
mod docs;
mod process;
mod relay;
mod rig;
mod support_smoke;
