//! The command line: `run`, `check`, `keygen`, `version`, and in `talk` the commands that ask a running instance.
//!
//! Exit codes: 0 good, 64 bad usage or configuration (`EX_USAGE` of sysexits.h), 1 failed. Answers go to stdout, mistakes
//! and warnings to stderr.

mod talk;

use crate::cluster::generate_key;
use crate::config::{self, Config, Errors, Loaded};
use crate::tls::Store;
use crate::{app, config::System};
use anyhow::Context as _;
use clap::{Args, CommandFactory as _, Parser, Subcommand};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Bad usage or configuration.
const EXIT_USAGE: u8 = 64;

/// Where the configuration is when neither `-c` nor [`CONFIG_VARIABLE`] says otherwise.
const CONFIG_DEFAULT: &str = "/etc/tidegate/tidegate.toml";

/// The environment variable beside `-c`.
const CONFIG_VARIABLE: &str = "TIDEGATE_CONFIG";

/// Said by `--help`; clap's own words for a default cannot name a variable without its `env` feature.
const CONFIG_HELP: &str =
    "Configuration file [default: $TIDEGATE_CONFIG or /etc/tidegate/tidegate.toml]";

/// A clustered load balancer for MQTT.
#[derive(Debug, Parser)]
#[command(name = "tidegate", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run an instance until SIGTERM
    Run(ConfigArgs),
    /// Check a configuration file and name every mistake in it
    Check(ConfigArgs),
    /// Make a key for the keys file of a cluster
    Keygen {
        /// File to write, readable by its owner alone; without it the key is printed
        file: Option<PathBuf>,
    },
    /// Show who and how an instance is; fails when it does not serve
    Status(talk::AdminArgs),
    /// Show pools, endpoints and their connections, own and over the tier
    Pools(talk::AdminArgs),
    /// Show the members of the tier
    Members(talk::AdminArgs),
    /// Send an endpoint no new connections, on the whole tier
    Drain(talk::DrainArgs),
    /// Take a drain back
    Undrain(talk::DrainArgs),
    /// Print the version
    Version,
}

#[derive(Debug, Args)]
struct ConfigArgs {
    #[arg(short, long = "config", value_name = "FILE", help = CONFIG_HELP)]
    config: Option<PathBuf>,
}

impl ConfigArgs {
    fn path(self) -> PathBuf {
        self.config
            .or_else(|| {
                std::env::var_os(CONFIG_VARIABLE)
                    .filter(|path| !path.is_empty())
                    .map(PathBuf::from)
            })
            .unwrap_or_else(|| CONFIG_DEFAULT.into())
    }
}

/// Why a command ended early.
enum Failure {
    /// The configuration has mistakes.
    Mistakes(Errors),
    /// Certificates or keys that cannot be used, a line each.
    Certificates(Vec<String>),
    /// Anything else.
    Other(anyhow::Error),
}

impl From<Errors> for Failure {
    fn from(errors: Errors) -> Self {
        Self::Mistakes(errors)
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Other(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Other(error.into())
    }
}

/// Runs the command line.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    match execute(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Mistakes(errors)) => {
            complain(&errors.to_string());
            ExitCode::from(EXIT_USAGE)
        }
        Err(Failure::Certificates(lines)) => {
            complain(&lines.join("\n"));
            ExitCode::from(EXIT_USAGE)
        }
        // One line with its causes.
        Err(Failure::Other(error)) => {
            complain(&format!("tidegate: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// clap ends with 2 on bad usage; the contract says 64. Help and version are good ends.
fn usage(error: &clap::Error) -> ExitCode {
    // A closed stdout or stderr leaves nobody to tell.
    error.print().ok();
    if error.use_stderr() {
        ExitCode::from(EXIT_USAGE)
    } else {
        ExitCode::SUCCESS
    }
}

/// One text to stderr. A closed stderr leaves nobody to tell.
fn complain(text: &str) {
    writeln!(io::stderr(), "{text}").ok();
}

fn execute(command: Command) -> Result<(), Failure> {
    match command {
        Command::Run(args) => {
            let path = args.path();
            let loaded = load(&path)?;
            Ok(app::run(&loaded.config, path)?)
        }
        Command::Check(args) => check(&args.path()),
        Command::Keygen { file } => Ok(keygen(file.as_deref())?),
        Command::Status(args) => Ok(talk::status(&args)?),
        Command::Pools(args) => Ok(talk::pools(&args)?),
        Command::Members(args) => Ok(talk::members(&args)?),
        Command::Drain(args) => Ok(talk::drain(&args, true)?),
        Command::Undrain(args) => Ok(talk::drain(&args, false)?),
        Command::Version => Ok(write!(io::stdout(), "{}", Cli::command().render_version())?),
    }
}

/// Loads, prints the warnings, and judges what only the files beside the configuration show.
fn load(path: &Path) -> Result<Loaded, Failure> {
    let loaded = config::load_with(path, &System)?;
    for warning in &loaded.warnings {
        complain(&format!("warning: {warning}"));
    }
    let bad: Vec<_> = bad_certificates(path, &loaded.config).collect();
    if bad.is_empty() {
        return Ok(loaded);
    }
    Err(Failure::Certificates(bad))
}

/// One line per listener whose certificate, key or client CA cannot be used.
fn bad_certificates(path: &Path, config: &Config) -> impl Iterator<Item = String> {
    config.listeners.iter().filter_map(move |listener| {
        let error = Store::load(&listener.name, listener.tls.as_ref()?).err()?;
        let error = anyhow::Error::from(error);
        Some(format!(
            "{}: listener {}: tls: {error:#}",
            path.display(),
            listener.name
        ))
    })
}

fn check(path: &Path) -> Result<(), Failure> {
    let config = load(path)?.config;
    let listeners = counted(config.listeners.len(), "listener");
    let pools = counted(config.pools.len(), "pool");
    Ok(writeln!(
        io::stdout(),
        "{}: ok: {listeners}, {pools}",
        path.display()
    )?)
}

fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// Prints a fresh key, or writes it into a file that is not there yet.
fn keygen(file: Option<&Path>) -> anyhow::Result<()> {
    let key = generate_key().context("cannot make a key")?;
    let line = format!("{}\n", key.expose());
    let Some(path) = file else {
        io::stdout().write_all(line.as_bytes())?;
        return Ok(());
    };
    // A new file only: the other members know the keys of the old one, and its mode may be too open.
    let mut options = std::fs::OpenOptions::new();
    let opened = options.write(true).create_new(true).mode(0o600).open(path);
    let mut written = opened.with_context(|| format!("cannot create {}", path.display()))?;
    written
        .write_all(line.as_bytes())
        .with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn counts_are_written_as_people_say_them() {
        assert_eq!(counted(1, "pool"), "1 pool");
        assert_eq!(counted(0, "pool"), "0 pools");
    }
}
