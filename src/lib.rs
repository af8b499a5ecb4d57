//! tidegate: a clustered load balancer for MQTT.
//!
//! Several instances in front of one broker cluster act as one least-connections balancer. ARCHITECTURE.md is the
//! map; this list is in the order of the layers, and `tests/tidy.rs` fails on an import that points up.
//!
//! Absent on purpose: a leader, a database, a control plane.

// Layer 5: the composition root and the command line.
pub mod app;
pub mod cli;
// Layer 4: the file.
pub mod config;
// Layer 3: what talks to clients and operators.
pub mod admin;
pub mod listener;
pub mod relay;
// Layer 2: what knows about brokers, peers and certificates. These do not import each other.
pub mod cluster;
pub mod discovery;
pub mod health;
pub mod pool;
pub mod tls;
// Layer 1: counting.
pub mod metrics;
// Layer 0: pure decisions. No tokio, no sockets, no clock, no ambient randomness.
pub mod logic;
