//! The tables of the instance as a whole: `[instance]`, `[admin]`, `[log]`, `[limits]`, `[drain]`, `[dns]`.

use super::words::{self, DAY, HOUR, MINUTE, ms, s};
use crate::admin;
use crate::config::settings::{AccessLog, DrainSettings, InstanceSettings, LogFormat, LogSettings};
use crate::config::table::Table;
use crate::config::value::{Value, unknown_word};
use crate::discovery::DnsSettings;
use crate::listener::Limits;
use std::net::SocketAddr;
use tracing_subscriber::EnvFilter;

/// Most data path threads; machines with more cores exist, tiers that need them on one instance do not.
const WORKERS_MAX: u32 = 1024;

/// Levels of `log.level`.
const LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];

pub(super) fn instance(root: &Table<'_>, table: &Table<'_>) -> InstanceSettings {
    let name = table.get("name", words::name).unwrap_or_else(|| {
        let host_name = root.context().world().host_name();
        if !table.has("name") && !words::is_name(&host_name) {
            let message = format!(
                "missing, and the host name {host_name:?} is no name; write {}",
                words::NAME_ALLOWED
            );
            table.context().mistake_at(&table.path_of("name"), message);
        }
        host_name
    });
    let workers = table
        .get("workers", words::integer(0..=WORKERS_MAX))
        .unwrap_or(0);
    InstanceSettings {
        name,
        workers: workers as usize,
    }
}

pub(super) fn admin(table: &Table<'_>) -> admin::Settings {
    let default = admin::Settings::default();
    let settings = admin::Settings {
        bind: table.get("bind", words::address).unwrap_or(default.bind),
        token: table.get("token_file", words::secret_file),
    };
    if !settings.bind.ip().is_loopback() && !table.has("token_file") {
        let message = "missing; required because bind is not a loopback address";
        table
            .context()
            .mistake_at(&table.path_of("token_file"), message);
    }
    settings
}

pub(super) fn log(table: &Table<'_>) -> LogSettings {
    const FORMATS: [(&str, LogFormat); 2] = [("text", LogFormat::Text), ("json", LogFormat::Json)];
    const ACCESS: [(&str, AccessLog); 3] = [
        ("all", AccessLog::All),
        ("errors", AccessLog::Errors),
        ("off", AccessLog::Off),
    ];
    LogSettings {
        level: table
            .get("level", level)
            .unwrap_or_else(|| "info".to_owned()),
        format: table
            .get("format", words::word(&FORMATS))
            .unwrap_or(LogFormat::Text),
        access: table
            .get("access", words::word(&ACCESS))
            .unwrap_or(AccessLog::All),
    }
}

/// A level, or a filter such as `info,tidegate::health=debug`.
fn level(value: &Value<'_>) -> Option<String> {
    let text = value.text("write a level such as \"info\"")?;
    // The filter takes any lone word for the name of a module, so a misspelt level would switch the log off.
    for part in text.split(',').filter(|part| !part.contains('=')) {
        if !LEVELS.contains(&part.trim()) {
            return unknown_word(value, part, &LEVELS);
        }
    }
    match EnvFilter::try_new(&text) {
        Ok(_) => Some(text),
        Err(_) => value.wrong(
            "not a filter",
            "a level, or a list such as \"info,tidegate::health=debug\"",
        ),
    }
}

pub(super) fn limits(table: &Table<'_>) -> Limits {
    let default = Limits::default();
    let max_connections = table.get("max_connections", words::integer(0..=CONNECTIONS_MAX));
    let handshakes_max = table.get("handshakes_max", words::integer(1..=100_000));
    let buffers_max = table.get("buffers_max", words::size(64 << 10..=64 << 30));
    Limits {
        max_connections: max_connections.unwrap_or(default.max_connections),
        handshakes_max: handshakes_max.unwrap_or(default.handshakes_max),
        buffers_max: buffers_max.unwrap_or(default.buffers_max),
    }
}

/// The largest connection limit that can be written; memory ends before.
pub(super) const CONNECTIONS_MAX: u32 = 100_000_000;

pub(super) fn drain(table: &Table<'_>) -> DrainSettings {
    let default = DrainSettings::default();
    let duration = |key, low, high, default| {
        table
            .get(key, words::duration(s(low)..=s(high)))
            .unwrap_or(default)
    };
    let settings = DrainSettings {
        delay: duration("delay", 0, 10 * MINUTE, default.delay),
        grace: duration("grace", 0, DAY, default.grace),
        rate: table
            .get("rate", words::integer(1..=1_000_000))
            .unwrap_or(default.rate),
        timeout: duration("timeout", 1, DAY, default.timeout),
    };
    if settings.delay.saturating_add(settings.grace) >= settings.timeout {
        let message = "delay and grace leave no time for the paced close before this timeout; \
                       whatever is left is closed at once";
        table
            .context()
            .warning_at(&table.path_of("timeout"), message);
    }
    settings
}

pub(super) fn dns(table: &Table<'_>) -> DnsSettings {
    let default = DnsSettings::default();
    let duration = |key, low, high, default| {
        table
            .get(key, words::duration(low..=high))
            .unwrap_or(default)
    };
    let settings = DnsSettings {
        servers: table
            .get("servers", words::list(server))
            .unwrap_or_default(),
        timeout: duration("timeout", ms(50), s(30), default.timeout),
        ttl_floor: duration("ttl_floor", ms(100), s(HOUR), default.ttl_floor),
        ttl_ceiling: duration("ttl_ceiling", ms(100), s(DAY), default.ttl_ceiling),
        retry: duration("retry", ms(100), s(HOUR), default.retry),
    };
    if settings.ttl_floor > settings.ttl_ceiling {
        let message = "below ttl_floor; write a ttl_ceiling that is at least the floor";
        table
            .context()
            .mistake_at(&table.path_of("ttl_ceiling"), message);
    }
    settings
}

/// A name server; the port may be left out (53).
fn server(value: &Value<'_>) -> Option<SocketAddr> {
    let allowed = "an IP address with or without a port, such as \"127.0.0.1:5353\"";
    let text = value.text(allowed)?;
    let parsed = text
        .parse()
        .or_else(|_| text.parse().map(|ip| SocketAddr::new(ip, 53)));
    match parsed {
        Ok(addr) if addr.port() != 0 && !addr.ip().is_unspecified() => Some(addr),
        _ => value.wrong("not a name server", allowed),
    }
}
