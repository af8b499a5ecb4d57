//! `discover` and `endpoints`: where a pool's endpoints come from.

use super::host::{is_host_name, split_host_port, srv_name};
use super::instance::CONNECTIONS_MAX;
use super::{Value, words};
use crate::config::table::Table;
use crate::discovery::{DnsSource, FixedEndpoint, Source};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

/// The forms of `discover`, in messages.
const FORMS: &str = "dns+a://NAME:PORT, dns+aaaa://NAME:PORT or dns+srv://_SERVICE._PROTOCOL.NAME";

/// The form of an endpoint, in messages.
const AN_ENDPOINT: &str =
    "an IP address and a port, such as \"10.0.0.11:1883\" or \"[fd00::11]:1883\"";

pub(super) fn source(table: &Table<'_>) -> Option<Source> {
    let dns = table.get("discover", discover).map(Source::Dns);
    let fixed = table.get("endpoints", endpoints).map(Source::Fixed);
    let context = table.context();
    match (table.has("discover"), table.has("endpoints")) {
        (true, true) => {
            let message = "discover is there too; write one of them";
            context.mistake_at(&table.path_of("endpoints"), message);
        }
        (false, false) => {
            let message = format!("no brokers; write endpoints = [...] or discover = {FORMS}");
            context.mistake_at(table.path(), message);
        }
        _ => {}
    }
    dns.or(fixed)
}

fn discover(value: &Value<'_>) -> Option<DnsSource> {
    let text = value.text(FORMS)?;
    let Some((scheme, rest)) = text.split_once("://") else {
        return value.wrong("has no scheme", FORMS);
    };
    let (ipv4, ipv6) = match scheme {
        "dns+a" => (true, true),
        "dns+aaaa" => (false, true),
        "dns+srv" => {
            return match srv_name(rest) {
                Ok(name) => Some(DnsSource::Srv {
                    name: name.to_owned(),
                }),
                Err(wrong) => value.wrong(wrong, FORMS),
            };
        }
        _ => return value.wrong("has an unknown scheme", FORMS),
    };
    match split_host_port(rest) {
        Ok((name, _)) if is_ip(name) => value.wrong(
            "has an IP address and no name",
            "write endpoints = [\"ADDRESS:PORT\"]",
        ),
        Ok((name, _)) if !is_host_name(name) => {
            value.wrong("has a name that DNS does not take", FORMS)
        }
        Ok((name, port)) => Some(DnsSource::Addresses {
            name: name.to_owned(),
            port,
            ipv4,
            ipv6,
        }),
        Err(wrong) => value.wrong(wrong, FORMS),
    }
}

fn is_ip(host: &str) -> bool {
    host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok()
}

fn endpoints(value: &Value<'_>) -> Option<Vec<FixedEndpoint>> {
    let items = value.items("write an array, [\"10.0.0.11:1883\", ...]")?;
    if items.is_empty() {
        return value.mistake("is empty; write at least one endpoint, or use discover");
    }
    let mut taken = BTreeMap::new();
    Some(
        items
            .iter()
            .filter_map(|item| endpoint(item, &mut taken))
            .collect(),
    )
}

/// Endpoints so far, by address, with their key path.
type Taken = BTreeMap<SocketAddr, String>;

fn endpoint(item: &Value<'_>, taken: &mut Taken) -> Option<FixedEndpoint> {
    if !item.raw().is_table() {
        let addr = endpoint_address(item, taken)?;
        return Some(FixedEndpoint {
            addr,
            weight: 1,
            max_connections: None,
        });
    }
    let read = |table: &Table<'_>| {
        let addr = table.required("address", AN_ENDPOINT, |value| {
            endpoint_address(value, taken)
        });
        let weight = table
            .get("weight", words::integer(1..=u16::MAX))
            .unwrap_or(1);
        let max_connections = table.get("max_connections", words::integer(1..=CONNECTIONS_MAX));
        Some(FixedEndpoint {
            addr: addr?,
            weight,
            max_connections,
        })
    };
    item.table(read).flatten()
}

fn endpoint_address(value: &Value<'_>, taken: &mut Taken) -> Option<SocketAddr> {
    let text = value.text(AN_ENDPOINT)?;
    let Ok(addr) = text.parse::<SocketAddr>() else {
        return not_an_address(value, &text);
    };
    if addr.port() == 0 {
        return value.wrong("has port 0", AN_ENDPOINT);
    }
    if addr.ip().is_unspecified() {
        return value.wrong("no address to connect to", AN_ENDPOINT);
    }
    if let Some(first) = taken.get(&addr) {
        let advice = "write it once, with a weight if it should get more";
        return value.wrong(format_args!("the same as {first}"), advice);
    }
    taken.insert(addr, value.path().to_owned());
    Some(addr)
}

fn not_an_address(value: &Value<'_>, text: &str) -> Option<SocketAddr> {
    if is_ip(text) {
        return value.wrong("has no port", AN_ENDPOINT);
    }
    match split_host_port(text) {
        Ok((host, _)) if is_host_name(host) && !looks_like_ip(host) => value.wrong(
            "has a name and no IP address",
            "names are looked up: write discover = \"dns+a://NAME:PORT\"",
        ),
        Err(wrong) if text.contains(':') => value.wrong(wrong, AN_ENDPOINT),
        _ => value.wrong("not an address", AN_ENDPOINT),
    }
}

/// `127.0.0.300` is a name for DNS and a typing error for everyone else.
fn looks_like_ip(host: &str) -> bool {
    host.chars().all(|c| c.is_ascii_digit() || c == '.')
}
