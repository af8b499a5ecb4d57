//! The commands that talk to a running instance by its admin API.

use crate::admin::{Client, drain_line, members_table, pools_table, status_table};
use crate::logic::endpoint::EndpointId;
use crate::logic::secret::Secret;
use anyhow::{Context as _, bail};
use clap::Args;
use serde_json::Value;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;

/// Whom to ask, and how to show the answer.
#[derive(Debug, Args)]
pub(super) struct AdminArgs {
    /// Admin API of the instance
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:9090")]
    admin: String,
    /// File with the bearer token of the admin API
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Print the answer as JSON
    #[arg(long)]
    json: bool,
}

/// Which endpoint, in which pool.
#[derive(Debug, Args)]
pub(super) struct DrainArgs {
    /// Address of the endpoint, as `tidegate pools` shows it
    endpoint: SocketAddr,
    /// Only in this pool; without it in every pool that has the endpoint
    #[arg(long)]
    pool: Option<String>,
    #[command(flatten)]
    admin: AdminArgs,
}

impl AdminArgs {
    fn client(&self) -> anyhow::Result<Client> {
        let token = match &self.token_file {
            None => None,
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .with_context(|| format!("cannot read --token-file {}", path.display()))?;
                if text.trim().is_empty() {
                    bail!("--token-file {} is empty", path.display());
                }
                Some(Secret::new(text.trim().to_owned()))
            }
        };
        Ok(Client::new(&self.admin, token)?)
    }

    fn show(&self, answer: &Value, table: fn(&Value) -> String) -> anyhow::Result<()> {
        let text = if self.json {
            serde_json::to_string_pretty(answer)?
        } else {
            table(answer)
        };
        writeln!(io::stdout(), "{}", text.trim_end())?;
        Ok(())
    }
}

/// `tidegate status`: fails when the instance is not serving, so that it can be a health check.
pub(super) fn status(args: &AdminArgs) -> anyhow::Result<()> {
    let answer = args.client()?.status()?;
    args.show(&answer, status_table)?;
    if answer.get("ready").and_then(Value::as_bool) == Some(true) {
        return Ok(());
    }
    let phase = answer
        .get("phase")
        .and_then(Value::as_str)
        .unwrap_or("unknown");
    bail!("the instance is not ready (phase {phase}); GET /readyz says why");
}

/// `tidegate pools`
pub(super) fn pools(args: &AdminArgs) -> anyhow::Result<()> {
    args.show(&args.client()?.pools()?, pools_table)
}

/// `tidegate members`
pub(super) fn members(args: &AdminArgs) -> anyhow::Result<()> {
    args.show(&args.client()?.members()?, members_table)
}

/// `tidegate drain` (`on`) and `undrain`.
pub(super) fn drain(args: &DrainArgs, on: bool) -> anyhow::Result<()> {
    let endpoint = EndpointId(args.endpoint);
    let answer = args
        .admin
        .client()?
        .drain(endpoint, args.pool.as_deref(), on)?;
    args.admin.show(&answer, drain_line)
}
