//! `pools.NAME.health`: what is asked, how often, and what the answers mean.

use super::Value;
use super::words::{self, HOUR, ms, s};
use crate::config::table::Table;
use crate::health::{Probe, ProxyHeader, Settings};
use crate::logic::secret::Secret;
use crate::pool::ProxyProtocol;
use std::time::Duration;

/// EMQX's own HTTP API.
const HTTP_PORT: u16 = 18_083;
/// Says 503 while a node evacuates; 404 where the broker does not know it.
const HTTP_PATH: &str = "/api/v5/load_rebalance/availability_check";
/// Says 200 while the broker runs.
const HTTP_FALLBACK_PATH: &str = "/status";

/// Longest client id of a probe; brokers must take 23 bytes and usually take far more.
const CLIENT_ID_BYTES_MAX: usize = 256;

/// The smallest `fast_interval`, also of one that is derived.
const FAST_INTERVAL_MIN: Duration = ms(50);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Tcp,
    Http,
    Mqtt,
}

const KINDS: [(&str, Kind); 3] = [
    ("tcp", Kind::Tcp),
    ("mqtt", Kind::Mqtt),
    ("http", Kind::Http),
];

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Http => "http",
            Self::Mqtt => "mqtt",
        }
    }
}

pub(super) fn health(
    table: &Table<'_>,
    proxy_protocol: ProxyProtocol,
    instance_name: &str,
) -> Settings {
    let default = Settings::default();
    let count = |key, default| table.get(key, words::integer(1..=100)).unwrap_or(default);
    let interval = table.get("interval", words::duration(ms(50)..=s(HOUR)));
    let interval = interval.unwrap_or(default.interval);
    let fast_interval = table.get(
        "fast_interval",
        words::duration(FAST_INTERVAL_MIN..=s(HOUR)),
    );
    let timeout = table.get("timeout", words::duration(ms(10)..=s(60)));
    let settings = Settings {
        probe: probe(table, instance_name),
        interval,
        fast_interval: fast_interval.unwrap_or_else(|| quarter(interval)),
        timeout: timeout.unwrap_or(default.timeout),
        rise: count("rise", default.rise),
        fall: count("fall", default.fall),
        shared: table
            .get("shared", words::boolean)
            .unwrap_or(default.shared),
        probers: count("probers", default.probers),
        proxy_header: match proxy_protocol {
            ProxyProtocol::Off => ProxyHeader::None,
            ProxyProtocol::V1 => ProxyHeader::V1,
            ProxyProtocol::V2 => ProxyHeader::V2,
        },
    };
    if settings.fast_interval > settings.interval {
        let message = "longer than interval; write one that is at most the interval";
        table
            .context()
            .mistake_at(&table.path_of("fast_interval"), message);
    }
    if settings.timeout > settings.interval {
        let message = "longer than interval; an endpoint that does not answer is probed less often";
        table
            .context()
            .warning_at(&table.path_of("timeout"), message);
    }
    settings
}

/// A quarter of the interval in whole milliseconds, so that it can be shown as it is.
fn quarter(interval: Duration) -> Duration {
    let milliseconds = u64::try_from(interval.as_millis() / 4).unwrap_or(u64::MAX);
    ms(milliseconds).max(FAST_INTERVAL_MIN)
}

fn probe(table: &Table<'_>, instance_name: &str) -> Probe {
    let kind = table.get("probe", words::word(&KINDS));
    // With a misspelt probe nobody knows whose keys the others should be.
    let kind = if table.has("probe") {
        kind
    } else {
        Some(Kind::Tcp)
    };
    // Both are read for every probe, so that a key of another probe is known and named as such.
    let http = http(&Keys {
        table,
        owner: Kind::Http,
        kind,
    });
    let mqtt = mqtt(
        &Keys {
            table,
            owner: Kind::Mqtt,
            kind,
        },
        instance_name,
    );
    match kind {
        Some(Kind::Http) => http,
        Some(Kind::Mqtt) => mqtt,
        Some(Kind::Tcp) | None => Probe::Tcp,
    }
}

/// The keys of one kind of probe.
struct Keys<'t, 'a> {
    table: &'t Table<'a>,
    owner: Kind,
    kind: Option<Kind>,
}

impl<'a> Keys<'_, 'a> {
    fn get<T>(&self, key: &'static str, read: impl FnOnce(&Value<'a>) -> Option<T>) -> Option<T> {
        self.table.get(key, |value| match self.kind {
            None => None,
            Some(kind) if kind == self.owner => read(value),
            Some(kind) => value.mistake(format_args!(
                "only for probe = \"{}\"; this probe is \"{}\"",
                self.owner.word(),
                kind.word()
            )),
        })
    }
}

fn http(keys: &Keys<'_, '_>) -> Probe {
    let port = keys
        .get("port", words::integer(0..=u16::MAX))
        .unwrap_or(HTTP_PORT);
    let drain_status = keys.get("drain_status", status_or_zero).unwrap_or(503);
    let fallback_path = keys.get("fallback_path", path_or_empty);
    let fallback_path = fallback_path.unwrap_or_else(|| HTTP_FALLBACK_PATH.to_owned());
    Probe::Http {
        path: keys
            .get("path", path)
            .unwrap_or_else(|| HTTP_PATH.to_owned()),
        port: (port != 0).then_some(port),
        expected_status: keys
            .get("expected_status", words::integer(100..=599))
            .unwrap_or(200),
        drain_status: (drain_status != 0).then_some(drain_status),
        fallback_path: (!fallback_path.is_empty()).then_some(fallback_path),
    }
}

fn status_or_zero(value: &Value<'_>) -> Option<u16> {
    match words::integer(0..=599_u16)(value)? {
        1..=99 => value.wrong("out of range", "0, or 100 to 599"),
        status => Some(status),
    }
}

fn path_or_empty(value: &Value<'_>) -> Option<String> {
    if value.raw().as_str() == Some("") {
        Some(String::new())
    } else {
        path(value)
    }
}

/// A path that can stand in a request line as it is.
fn path(value: &Value<'_>) -> Option<String> {
    let path = words::text(value)?;
    if path.starts_with('/') && path.chars().all(|c| c.is_ascii_graphic() && c != '#') {
        return Some(path);
    }
    value.wrong(
        "not a path",
        "one that begins with / and holds no spaces, such as \"/status\"",
    )
}

fn mqtt(keys: &Keys<'_, '_>, instance_name: &str) -> Probe {
    let version = keys.get("version", words::integer(4..=5_u8)).unwrap_or(5);
    let client_id = keys.get("client_id", client_id);
    let username = keys.get("username", words::text);
    let password = password(keys);
    if keys.kind == Some(Kind::Mqtt) && version == 4 && password.is_some() && username.is_none() {
        // MQTT 3.1.1 §3.1.2.9, [MQTT-3.1.2-22].
        let message = "missing; MQTT 3.1.1 has no password without a user name";
        keys.table
            .context()
            .mistake_at(&keys.table.path_of("username"), message);
    }
    Probe::Mqtt {
        version,
        client_id: client_id.unwrap_or_else(|| format!("tidegate-probe-{instance_name}")),
        username,
        password,
    }
}

fn client_id(value: &Value<'_>) -> Option<String> {
    let client_id = words::text(value)?;
    if client_id.len() > CLIENT_ID_BYTES_MAX {
        return value.wrong("too long", format_args!("1 to {CLIENT_ID_BYTES_MAX} bytes"));
    }
    Some(client_id)
}

fn password(keys: &Keys<'_, '_>) -> Option<Secret> {
    let word = keys.get("password", words::secret);
    let file = keys.get("password_file", words::secret_file);
    if keys.kind == Some(Kind::Mqtt)
        && keys.table.has("password")
        && keys.table.has("password_file")
    {
        let message = "password is there too; write one of them";
        keys.table
            .context()
            .mistake_at(&keys.table.path_of("password_file"), message);
    }
    word.or(file)
}
