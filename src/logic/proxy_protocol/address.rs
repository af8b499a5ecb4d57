//! Which family a pair of addresses is written in: a header has one for both ends.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// Two addresses of one family: source, destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pair {
    V4(SocketAddrV4, SocketAddrV4),
    V6(SocketAddrV6, SocketAddrV6),
}

impl Pair {
    /// IPv4 when both are, be it mapped into IPv6 (a dual-stack listener sees its IPv4 clients so); otherwise IPv6, with
    /// an IPv4 end mapped. Flow label and scope id have no place in a header and are dropped.
    pub(super) fn new(source: SocketAddr, destination: SocketAddr) -> Self {
        match (source.ip().to_canonical(), destination.ip().to_canonical()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => Self::V4(
                SocketAddrV4::new(from, source.port()),
                SocketAddrV4::new(to, destination.port()),
            ),
            (from, to) => Self::V6(
                SocketAddrV6::new(widened(from), source.port(), 0, 0),
                SocketAddrV6::new(widened(to), destination.port(), 0, 0),
            ),
        }
    }
}

fn widened(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    }
}

/// An IPv6 address in hexadecimal groups only. `Display` writes mapped ones with a dotted tail, which the specification's
/// grammar (§2.1: sets of four hexadecimal digits) has no word for.
pub(super) fn hexadecimal(ip: Ipv6Addr) -> String {
    match (ip.to_ipv4_mapped(), ip.segments()) {
        (Some(_), [.., high, low]) => format!("::ffff:{high:x}:{low:x}"),
        (None, _) => ip.to_string(),
    }
}

/// Reads an IPv4 address in exactly four decimal numbers without leading zeros.
pub(super) fn parse_v4(text: &str) -> Option<Ipv4Addr> {
    text.parse().ok()
}

/// Reads an IPv6 address in hexadecimal groups.
pub(super) fn parse_v6(text: &str) -> Option<Ipv6Addr> {
    if text.contains('.') {
        return None;
    }
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_is_ipv4_only_when_both_ends_are() {
        for (source, destination, expected) in [
            ("192.0.2.1:1", "192.0.2.2:2", "V4(192.0.2.1:1, 192.0.2.2:2)"),
            (
                "[::ffff:192.0.2.1]:1",
                "[::ffff:192.0.2.2]:2",
                "V4(192.0.2.1:1, 192.0.2.2:2)",
            ),
            (
                "[::ffff:192.0.2.1]:1",
                "192.0.2.2:2",
                "V4(192.0.2.1:1, 192.0.2.2:2)",
            ),
            (
                "[2001:db8::1]:1",
                "[2001:db8::2]:2",
                "V6([2001:db8::1]:1, [2001:db8::2]:2)",
            ),
            (
                "192.0.2.1:1",
                "[2001:db8::2]:2",
                "V6([::ffff:192.0.2.1]:1, [2001:db8::2]:2)",
            ),
            (
                "[2001:db8::1]:1",
                "192.0.2.2:2",
                "V6([2001:db8::1]:1, [::ffff:192.0.2.2]:2)",
            ),
        ] {
            let pair = Pair::new(source.parse().unwrap(), destination.parse().unwrap());
            assert_eq!(format!("{pair:?}"), expected);
        }
    }

    #[test]
    fn a_scope_id_is_not_written() {
        let scoped = SocketAddrV6::new("fe80::1".parse().unwrap(), 1, 7, 3);
        let Pair::V6(source, _) = Pair::new(scoped.into(), scoped.into()) else {
            panic!("family")
        };
        assert_eq!((source.flowinfo(), source.scope_id()), (0, 0));
    }

    #[test]
    fn ipv6_text_has_no_dotted_tail() {
        for (ip, expected) in [
            ("::ffff:192.0.2.1", "::ffff:c000:201"),
            ("::ffff:0.0.0.0", "::ffff:0:0"),
            ("2001:db8::1", "2001:db8::1"),
            ("::", "::"),
        ] {
            let ip: Ipv6Addr = ip.parse().unwrap();
            assert_eq!(hexadecimal(ip), expected);
            assert_eq!(parse_v6(expected), Some(ip));
        }
        assert_eq!(parse_v6("::ffff:192.0.2.1"), None);
    }
}
