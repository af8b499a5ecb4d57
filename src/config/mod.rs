//! From the TOML file to validated settings: every mistake at once, each with its key path.

mod settings;

pub use settings::{AccessLog, Config, DrainSettings, InstanceSettings, LogFormat, LogSettings, PoolConfig};
