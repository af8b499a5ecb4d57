//! `[cluster]`: who the other members are and which keys they share.

use super::Value;
use super::host::{is_host_name, split_host_port, srv_name};
use super::words::{self, ms, s};
use crate::cluster::{Seed, Settings};
use crate::config::table::Table;
use crate::logic::secret::Secret;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// Default of `id`.
const ID: &str = "tidegate";
/// Default of `bind`.
const BIND: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 7946);
/// Default of `interval`.
const INTERVAL: Duration = ms(100);
/// Bytes of one key, of XChaCha20-Poly1305.
const KEY_BYTES: usize = 32;
/// Most keys: a rotation needs two.
const KEYS_MAX: usize = 16;

const SEED_FORMS: &str = "HOST:PORT, dns+a://NAME:PORT or dns+srv://NAME";

/// Reads the table. `None` when a key without a default is missing or wrong, which has been noted.
pub(super) fn cluster(table: &Table<'_>) -> Option<Settings> {
    let id = table
        .get("id", words::name)
        .unwrap_or_else(|| ID.to_owned());
    let bind = table.get("bind", words::address).unwrap_or(BIND);
    let advertise = table.get("advertise", advertise);
    let seeds = table.get("seeds", words::list(seed)).unwrap_or_default();
    let what = "a file of base64 keys, one a line; `tidegate keygen FILE` makes one";
    let keys = table.required("keys_file", what, keys);
    let interval = table
        .get("interval", words::duration(ms(20)..=s(10)))
        .unwrap_or(INTERVAL);
    if !table.has("seeds") && bind.ip().is_unspecified() && !table.has("advertise") {
        let message = "missing; with no seeds to find a route to and bind on every address, \
                       write the address that the other members send to";
        table
            .context()
            .mistake_at(&table.path_of("advertise"), message);
    } else if !table.has("seeds") {
        let message = "missing; this instance waits until another one names it as a seed";
        table.context().warning_at(&table.path_of("seeds"), message);
    }
    let (keys_file, keys) = keys?;
    Some(Settings {
        id,
        bind,
        advertise,
        seeds,
        keys,
        keys_file,
        interval,
    })
}

fn advertise(value: &Value<'_>) -> Option<SocketAddr> {
    let addr = words::address(value)?;
    let allowed = "the address and port that the other members send to";
    if addr.ip().is_unspecified() {
        return value.wrong("no address to send to", allowed);
    }
    if addr.port() == 0 {
        value.wrong("has port 0", allowed)
    } else {
        Some(addr)
    }
}

fn seed(value: &Value<'_>) -> Option<Seed> {
    let text = value.text(SEED_FORMS)?;
    if let Some(name) = text.strip_prefix("dns+srv://") {
        return match srv_name(name) {
            Ok(name) => Some(Seed::Srv(name.to_owned())),
            Err(wrong) => value.wrong(wrong, SEED_FORMS),
        };
    }
    let rest = text.strip_prefix("dns+a://").unwrap_or(&text);
    if rest.contains("://") {
        return value.wrong("has an unknown scheme", SEED_FORMS);
    }
    let (host, port) = match split_host_port(rest) {
        Ok(parts) => parts,
        Err(wrong) => return value.wrong(wrong, SEED_FORMS),
    };
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let is_ipv6 = bare.is_some_and(|host| host.parse::<std::net::Ipv6Addr>().is_ok());
    let host = if is_ipv6 { bare.unwrap_or(host) } else { host };
    if is_ipv6 || is_host_name(host) {
        return Some(Seed::Host {
            host: host.to_owned(),
            port,
        });
    }
    value.wrong("has a name that DNS does not take", SEED_FORMS)
}

/// The keys of a file. Messages name the line and never what is on it.
fn keys(value: &Value<'_>) -> Option<(PathBuf, Vec<Secret>)> {
    let (path, text) = words::file_text(value)?;
    let mut keys = Vec::new();
    let mut all_good = true;
    for (index, line) in text.lines().enumerate() {
        let line_number = index + 1;
        let key = line.split('#').next().unwrap_or_default().trim();
        if key.is_empty() {
            continue;
        }
        let wrong = match STANDARD.decode(key) {
            Ok(bytes) if bytes.len() == KEY_BYTES => {
                keys.push(Secret::new(key.to_owned()));
                continue;
            }
            Ok(bytes) => format!("a key of {} bytes", bytes.len()),
            Err(_) => "not base64".to_owned(),
        };
        all_good = false;
        let what = format!("line {line_number} of the file is {wrong}");
        value.wrong::<()>(
            what,
            format_args!("base64 of exactly {KEY_BYTES} bytes, as `tidegate keygen` prints it"),
        );
    }
    if !all_good {
        return None;
    }
    match keys.len() {
        0 => value.wrong(
            "the file holds no key",
            "write one; `tidegate keygen` prints one",
        ),
        1..=KEYS_MAX => Some((path, keys)),
        count => value.wrong(
            format_args!("the file holds {count} keys"),
            format_args!("1 to {KEYS_MAX}"),
        ),
    }
}
