//! The composition root: what is built, in which order it starts and how it ends.
//!
//! Reading order: `instance` starts the threads, `control` is the one beside the data path, `pools` connects what finds,
//! checks and picks brokers, `tier` connects them with the other instances, `lifecycle` is the drain, `limits` what it takes at
//! most, `reload` takes a changed file, `source` answers the admin API, `supervisor` tells systemd.

mod control;
mod fingerprint;
mod instance;
mod lifecycle;
mod limits;
mod logging;
mod pools;
mod reload;
mod source;
mod supervisor;
mod tier;

pub use instance::{Instance, Signals, StartError};
pub use lifecycle::Phase;

use crate::config::Config;
use anyhow::Context as _;
use std::path::PathBuf;

/// Runs one instance until it has drained after SIGTERM or SIGINT.
pub fn run(config: &Config, path: PathBuf) -> anyhow::Result<()> {
    let _writer = logging::start(&config.log);
    let instance = Instance::start(config, Signals::Obey { path }).context("cannot start")?;
    supervisor::ready();
    anyhow::ensure!(instance.wait(), "a worker thread panicked");
    Ok(())
}
