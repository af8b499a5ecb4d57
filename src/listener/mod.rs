//! A socket we accept on: bind, accept loop, limits.

mod settings;

pub use settings::{Limits, Protocol, Settings};
