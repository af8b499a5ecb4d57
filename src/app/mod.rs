//! The composition root: what is built, in which order it starts and how it ends.
//!
//! Reading order: [`instance`] starts the threads, [`pools`] connects what finds, checks and picks brokers, [`lifecycle`] is
//! the drain, [`source`] answers the admin API.

mod instance;
mod lifecycle;
mod logging;
mod pools;
mod source;

pub use instance::{Instance, Signals, StartError};
pub use lifecycle::Phase;

use crate::config::Config;
use anyhow::Context as _;
use std::path::PathBuf;

/// Runs one instance until it has drained after SIGTERM or SIGINT.
pub fn run(config: Config, _path: PathBuf) -> anyhow::Result<()> {
    let _writer = logging::start(&config.log);
    let instance = Instance::start(&config, Signals::Drain).context("cannot start")?;
    anyhow::ensure!(instance.wait(), "a worker thread panicked");
    Ok(())
}
