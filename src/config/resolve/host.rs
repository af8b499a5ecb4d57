//! Names and ports in URLs: what `discover` and `seeds` have in common.

/// A host name as DNS takes it: labels of 1 to 63 letters, digits, `-` and `_`, 253 bytes in all (RFC 1035 §2.3.4,
/// RFC 2181 §11; `_` begins the labels of SRV names).
pub(super) fn is_host_name(name: &str) -> bool {
    let label_is_good = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
    };
    // One dot at the end makes a name absolute.
    let relative = name.strip_suffix('.').unwrap_or(name);
    relative.len() <= 253 && relative.split('.').all(label_is_good)
}

/// Splits `name:port`; the error says what is wrong, without the value.
pub(super) fn split_host_port(text: &str) -> Result<(&str, u16), &'static str> {
    if text.contains(['/', '?', '#']) {
        return Err("has a path");
    }
    let (host, port) = text.rsplit_once(':').ok_or("has no port")?;
    match port.parse() {
        _ if host.is_empty() => Err("has no host name"),
        Ok(0) => Err("has port 0"),
        // `+1883` parses as a number.
        Ok(port_number) if port.starts_with(|c: char| c.is_ascii_digit()) => {
            Ok((host, port_number))
        }
        _ if port.is_empty() => Err("has no port"),
        _ => Err("has a port that is not 1 to 65535"),
    }
}

/// The name of a `dns+srv://` URL; the error says what is wrong, without the value.
pub(super) fn srv_name(text: &str) -> Result<&str, &'static str> {
    if text.contains(['/', '?', '#']) {
        return Err("has a path");
    }
    if text.is_empty() {
        return Err("has no host name");
    }
    if text.contains(':') {
        return Err("has a port, which comes from the SRV records");
    }
    if is_host_name(text) {
        Ok(text)
    } else {
        Err("has a name that DNS does not take")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_names_follow_dns() {
        let label = "a".repeat(63);
        let longest = format!("{label}.{label}.{label}.{}", "a".repeat(61));
        for good in [
            "a",
            "emqx.internal",
            "emqx.internal.",
            "_mqtt._tcp.emqx",
            "1883",
            &longest,
        ] {
            assert!(is_host_name(good), "{good}");
        }
        let (long_label, long_name) = ("a".repeat(64), format!("{longest}a"));
        for bad in [
            "",
            ".",
            "a..b",
            ".a",
            "a b",
            "a/b",
            "ä.example",
            &long_label,
            &long_name,
        ] {
            assert!(!is_host_name(bad), "{bad}");
        }
    }

    #[test]
    fn a_port_is_needed_and_is_a_port() {
        assert_eq!(split_host_port("emqx:1883"), Ok(("emqx", 1883)));
        assert_eq!(split_host_port("[::1]:1883"), Ok(("[::1]", 1883)));
        for (text, wrong) in [
            ("emqx", "has no port"),
            ("emqx:", "has no port"),
            ("emqx:0", "has port 0"),
            ("emqx:65536", "has a port that is not 1 to 65535"),
            ("emqx:+1", "has a port that is not 1 to 65535"),
            ("emqx:mqtt", "has a port that is not 1 to 65535"),
            (":1883", "has no host name"),
            ("", "has no port"),
            ("emqx:1883/mqtt", "has a path"),
        ] {
            assert_eq!(split_host_port(text), Err(wrong), "{text}");
        }
    }
}
