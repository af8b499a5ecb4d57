//! From tables to settings: names every key, its range and what must hold between keys.
//!
//! Defaults are the modules' own (`Settings::default`); nothing is defaulted twice. Reading order: [`resolve`], then
//! one file per table, then [`cross`] for what concerns several tables.

mod cluster;
mod cross;
mod health;
mod host;
mod instance;
mod listener;
mod pool;
mod source;

use super::settings::Config;
use super::table::Table;
use super::value::Value;
use super::words;
use crate::listener::Settings as Listener;
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// Reads the whole file. The result is meaningful only when no mistake was noted.
pub(super) fn resolve(root: &Table<'_>) -> Config {
    let instance = root.table("instance", |table| instance::instance(root, table));
    let mut pool_names = Vec::new();
    let pools = root.named_tables("pools", |name, table| {
        pool_names.push(name.to_owned());
        pool::pool(table, name, &instance.name)
    });
    let config = Config {
        admin: root.table("admin", instance::admin),
        log: root.table("log", instance::log),
        limits: root.table("limits", instance::limits),
        drain: root.table("drain", instance::drain),
        dns: root.table("dns", instance::dns),
        cluster: root
            .get("cluster", |value| value.table(cluster::cluster))
            .flatten(),
        listeners: listeners(root, &pool_names),
        pools: pools.into_iter().flatten().collect(),
        instance,
    };
    if pool_names.is_empty() && !is_wrong_type(root, "pools") {
        root.context()
            .mistake_at("pools", "missing; write at least one [pools.NAME]");
    }
    cross::check(root.context(), &config);
    config
}

/// Whether a key is there and has been reported as something else than tables already.
fn is_wrong_type(root: &Table<'_>, key: &'static str) -> bool {
    let is_table = |value: &Value<'_>| Some(value.raw().is_table());
    root.get(key, is_table) == Some(false)
}

/// What the listeners before this one took.
#[derive(Default)]
struct Taken {
    names: BTreeMap<String, String>,
    binds: BTreeMap<SocketAddr, String>,
}

fn listeners(root: &Table<'_>, pool_names: &[String]) -> Vec<Listener> {
    let mut taken = Taken::default();
    let mut one = |value: &Value<'_>| {
        value
            .table(|table| listener::listener(table, pool_names, &mut taken))
            .flatten()
    };
    let all = |value: &Value<'_>| {
        let items = value.items("write [[listeners]] tables")?;
        if items.is_empty() {
            return value.mistake("is empty; write at least one [[listeners]] table");
        }
        Some(items.iter().filter_map(&mut one).collect())
    };
    let what = "at least one [[listeners]] table with a bind address";
    root.required("listeners", what, all).unwrap_or_default()
}
