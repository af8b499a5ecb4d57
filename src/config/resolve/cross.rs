//! What must hold between tables, each of which is right by itself.

use super::pool::AFFINITIES;
use crate::config::context::Context;
use crate::config::settings::{Config, PoolConfig};
use crate::listener::Protocol;
use crate::pool::Affinity;

pub(super) fn check(context: &Context<'_>, config: &Config) {
    for pool in &config.pools {
        affinity(context, config, pool);
        if !config.listeners.is_empty() && listeners_of(config, pool).next().is_none() {
            let message = "no listener uses this pool";
            context.warning_at(&format!("pools.{}", pool.pool.name), message);
        }
    }
    admin_port(context, config);
}

fn listeners_of<'c>(
    config: &'c Config,
    pool: &'c PoolConfig,
) -> impl Iterator<Item = &'c crate::listener::Settings> {
    config
        .listeners
        .iter()
        .filter(|listener| listener.pool == pool.pool.name)
}

/// A route key out of the CONNECT needs the CONNECT.
fn affinity(context: &Context<'_>, config: &Config, pool: &PoolConfig) {
    if !matches!(pool.pool.affinity, Affinity::ClientId | Affinity::Username) {
        return;
    }
    let word = AFFINITIES
        .iter()
        .find(|(_, affinity)| *affinity == pool.pool.affinity);
    let word = word.map_or("", |(word, _)| *word);
    for listener in listeners_of(config, pool).filter(|listener| listener.protocol == Protocol::Tcp)
    {
        let message = format!(
            "needs the CONNECT (\"{word}\"), and listener \"{}\" has protocol \"tcp\"; none or source, \
             or protocol = \"mqtt\" on every listener of the pool",
            listener.name
        );
        context.mistake_at(&format!("pools.{}.affinity", pool.pool.name), message);
    }
}

/// The admin API shares no port with a listener: one of the two would not start.
fn admin_port(context: &Context<'_>, config: &Config) {
    let admin = config.admin.bind;
    for listener in &config.listeners {
        let same_ip = admin.ip() == listener.bind.ip();
        let any_ip = admin.ip().is_unspecified() || listener.bind.ip().is_unspecified();
        let overlap = same_ip || (any_ip && admin.is_ipv4() == listener.bind.is_ipv4());
        if overlap && admin.port() == listener.bind.port() && admin.port() != 0 {
            let name = &listener.name;
            let message = format!("listener \"{name}\" binds the same port; write another one");
            context.mistake_at("admin.bind", message);
        }
    }
}
