//! Integration tests: the library and the binary from outside, one module per area.

mod config;
