//! `[[listeners]]`: the socket, its TLS and the time-outs of its connections.

use super::instance::CONNECTIONS_MAX;
use super::words::{self, DAY, HOUR, MINUTE, ms, s};
use super::{Taken, Value};
use crate::config::nearest::did_you_mean;
use crate::config::table::Table;
use crate::listener::{Protocol, Settings};
use crate::relay;
use crate::tls::{CipherOrder, ClientAuth, MinVersion, ServerSettings};
use std::net::SocketAddr;

/// Default of `backlog`; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: u32 = 4096;

/// Longest protocol name of ALPN (RFC 7301 §3.1).
const ALPN_BYTES_MAX: usize = 255;

const CLIENT_AUTH: [(&str, ClientAuth); 2] = [
    ("required", ClientAuth::Required),
    ("optional", ClientAuth::Optional),
];

const CIPHER_ORDERS: [(&str, CipherOrder); 2] = [
    ("server", CipherOrder::Server),
    ("client", CipherOrder::Client),
];

const MIN_VERSIONS: [(&str, MinVersion); 2] =
    [("1.2", MinVersion::Tls12), ("1.3", MinVersion::Tls13)];

/// Reads one listener. `None` when it has no usable address or pool, which has been noted.
pub(super) fn listener(
    table: &Table<'_>,
    pool_names: &[String],
    taken: &mut Taken,
) -> Option<Settings> {
    let bind = table.required("bind", "an address such as \"0.0.0.0:1883\"", |value| {
        bind(value, taken)
    });
    let name = table.get("name", |value| name(value, taken));
    let name = match bind {
        Some(bind) if !table.has("name") => Some(default_name(table, bind, taken)),
        _ => name,
    };
    let protocol = table.get("protocol", protocol).unwrap_or(Protocol::Mqtt);
    let pool = pool(table, pool_names);
    let tls = table.get("tls", |value| value.table(tls)).flatten();
    let limit = words::integer(1..=CONNECTIONS_MAX);
    let backlog = table
        .get("backlog", words::integer(1..=65_535))
        .unwrap_or(BACKLOG);
    let max_connections = table.get("max_connections", &limit);
    let max_connections_per_address = table.get("max_connections_per_address", &limit);
    let relay = relay(table);
    Some(Settings {
        name: name?,
        bind: bind?,
        protocol,
        pool: pool?,
        tls,
        backlog,
        max_connections,
        max_connections_per_address,
        relay,
    })
}

fn bind(value: &Value<'_>, taken: &mut Taken) -> Option<SocketAddr> {
    let bind = words::address(value)?;
    // Port 0 is a port that the kernel chooses, another one each time.
    if bind.port() != 0 {
        if let Some(first) = taken.binds.get(&bind) {
            return value.wrong(
                format_args!("the same as {first}"),
                "write another address or port",
            );
        }
        taken.binds.insert(bind, value.path().to_owned());
    }
    Some(bind)
}

/// A name of the operator's, or the text of an address, which is what the default looks like.
fn name(value: &Value<'_>, taken: &mut Taken) -> Option<String> {
    let is_address = |text: &&str| text.parse::<SocketAddr>().is_ok();
    let address = value.raw().as_str().filter(is_address).map(str::to_owned);
    let name = address.or_else(|| words::name(value))?;
    if let Some(first) = taken.names.get(&name) {
        return value.wrong(format_args!("the same as {first}"), "write another name");
    }
    taken.names.insert(name.clone(), value.path().to_owned());
    Some(name)
}

/// Every key but the addresses has a default, and an address is nearly always unique.
fn default_name(table: &Table<'_>, bind: SocketAddr, taken: &mut Taken) -> String {
    let name = bind.to_string();
    match taken.names.get(&name) {
        Some(first) => {
            let message =
                format!("missing, and \"{name}\" is the name of {first} already; write one");
            table.context().mistake_at(&table.path_of("name"), message);
        }
        None => {
            taken.names.insert(name.clone(), table.path().to_owned());
        }
    }
    name
}

fn protocol(value: &Value<'_>) -> Option<Protocol> {
    // Known, so that nobody looks for a typing error, and not among the words that are offered.
    if value.raw().as_str() == Some("mqtt-ws") {
        return value.wrong("not in this release", "mqtt or tcp");
    }
    words::word(&[("mqtt", Protocol::Mqtt), ("tcp", Protocol::Tcp)])(value)
}

/// The pool by name; the only pool when the key is absent.
fn pool(table: &Table<'_>, pool_names: &[String]) -> Option<String> {
    if !table.has("pool") {
        // Asked all the same, so that the key is known.
        table.get("pool", words::text);
        return match pool_names {
            [] => None,
            [only] => Some(only.clone()),
            several => {
                let message = format!("missing; write one of {}", several.join(", "));
                table.context().mistake_at(&table.path_of("pool"), message);
                None
            }
        };
    }
    table.get("pool", |value| {
        let name = value.text("write the name of a pool")?;
        if pool_names.contains(&name) {
            return Some(name);
        }
        if pool_names.is_empty() {
            return value.wrong("no such pool", format_args!("write [pools.{name}]"));
        }
        let meant = did_you_mean(&name, pool_names.iter().map(String::as_str));
        value.wrong(
            "no such pool",
            format_args!("one of {}{meant}", pool_names.join(", ")),
        )
    })
}

fn relay(table: &Table<'_>) -> relay::Settings {
    let default = relay::Settings::default();
    let duration = |key, low, high, default| {
        table
            .get(key, words::duration(low..=high))
            .unwrap_or(default)
    };
    let or_zero = |key, low, high, default| {
        table
            .get(key, words::duration_or_zero(low..=high))
            .unwrap_or(default)
    };
    let preface_bytes_max = table.get("preface_bytes_max", words::size(64..=1024 * 1024));
    let keep_alive_factor = table.get("keep_alive_factor", words::number(1.0..=10.0));
    relay::Settings {
        preface_timeout: duration(
            "preface_timeout",
            ms(100),
            s(5 * MINUTE),
            default.preface_timeout,
        ),
        preface_bytes_max: preface_bytes_max.unwrap_or(default.preface_bytes_max),
        join_timeout: duration("join_timeout", ms(100), s(5 * MINUTE), default.join_timeout),
        keep_alive_factor: keep_alive_factor.unwrap_or(default.keep_alive_factor),
        keep_alive_slack: duration(
            "keep_alive_slack",
            s(0),
            s(10 * MINUTE),
            default.keep_alive_slack,
        ),
        idle_timeout: or_zero("idle_timeout", s(1), s(30 * DAY), default.idle_timeout),
        half_closed_timeout: duration(
            "half_closed_timeout",
            ms(100),
            s(HOUR),
            default.half_closed_timeout,
        ),
        tcp_keepalive: or_zero("tcp_keepalive", s(1), s(DAY), default.tcp_keepalive),
    }
}

fn tls(table: &Table<'_>) -> Option<ServerSettings> {
    let cert = table.required(
        "cert",
        "a PEM file, leaf certificate first",
        words::readable_file,
    );
    let key = table.required("key", "a PEM file", words::readable_file);
    let client_ca = table.get("client_ca", words::readable_file);
    let client_auth = table.get("client_auth", words::word(&CLIENT_AUTH));
    if table.has("client_auth") && !table.has("client_ca") {
        let message = "needs client_ca, the certificates that clients are verified against";
        table
            .context()
            .mistake_at(&table.path_of("client_auth"), message);
    }
    let min_version = table.get("min_version", words::word(&MIN_VERSIONS));
    let cipher_order = table.get("cipher_order", words::word(&CIPHER_ORDERS));
    let alpn = table.get("alpn", words::list(alpn));
    Some(ServerSettings {
        cert: cert?,
        key: key?,
        client_ca,
        client_auth: client_auth.unwrap_or(ClientAuth::Required),
        min_version: min_version.unwrap_or(MinVersion::Tls12),
        cipher_order: cipher_order.unwrap_or(CipherOrder::Server),
        alpn: alpn.unwrap_or_else(|| vec!["mqtt".to_owned()]),
    })
}

fn alpn(value: &Value<'_>) -> Option<String> {
    let protocol = words::text(value)?;
    if protocol.len() > ALPN_BYTES_MAX {
        return value.wrong("too long", format_args!("1 to {ALPN_BYTES_MAX} bytes"));
    }
    Some(protocol)
}
