//! Integration tests: the library and the binary from outside, one module per area.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may fail as tests do")]

mod config;
