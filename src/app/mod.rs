//! The composition root: builds everything, connects the ends, lives until the signal.

use crate::config::Config;
use std::path::PathBuf;

/// Runs an instance until it is told to stop. `path` is where the configuration came from, for a reload.
pub fn run(_config: Config, _path: PathBuf) -> anyhow::Result<()> {
    anyhow::bail!("not in this build")
}
