//! The rules, each from one parsed file to the violations in it, and the tables they come from.

use crate::source::SourceFile;

/// Top-level modules by layer. Imports point to a lower layer; within a layer modules do not know each other.
pub(crate) const LAYERS: [(u8, &[&str]); 6] = [
    (5, &["main", "lib", "cli", "app"]),
    (4, &["config"]),
    (3, &["listener", "relay", "admin"]),
    (2, &["pool", "cluster", "discovery", "health", "tls"]),
    (1, &["metrics"]),
    (0, &["logic"]),
];

/// Imports across a layer that are meant: from, to, why.
const SIDEWAYS: [(&str, &str, &str); 4] = [
    (
        "listener",
        "relay",
        "a listener carries the settings of its connections and hands accepted sockets to relays",
    ),
    ("main", "lib", "the binary calls the library"),
    ("main", "cli", "the binary is one call"),
    ("cli", "app", "the command `run` builds the application"),
];

/// What a pure module cannot name: it would bring in a clock, a socket, a file or ambient randomness.
const IMPURE: [&str; 18] = [
    "tokio",
    "std::net::Tcp",
    "std::net::Udp",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "Instant::now",
    "SystemTime",
    "std::fs",
    "std::env",
    "std::thread",
    "std::process",
    "thread_rng",
    "getrandom",
    "RandomState",
    "DefaultHasher",
    "Rng::new()",
    "tracing",
];

/// Crates that one place wraps: crate, files that may name it, why.
const CONFINED: [(&str, &[&str], &str); 3] = [
    (
        "bincode",
        &["src/cluster/codec.rs"],
        "unmaintained (RUSTSEC-2025-0141): one file to replace",
    ),
    (
        "chitchat",
        &["src/cluster/gossip.rs", "src/cluster/transport.rs"],
        "its types stay behind ours; the transport implements its trait",
    ),
    (
        "hickory_resolver",
        &["src/discovery/"],
        "DNS is asked by discovery alone",
    ),
];

/// Lines of a file with its unit tests; above this a file holds more than one idea.
pub(crate) const FILE_LINES_MAX: usize = 600;

/// Files that are longer, with the length that they must not exceed: the number may only go down.
pub(crate) const LONG_FILES: [(&str, usize); 0] = [];

fn layer(module: &str) -> Option<u8> {
    LAYERS
        .iter()
        .find(|(_, modules)| modules.contains(&module))
        .map(|(layer, _)| *layer)
}

/// The file's own top-level module is in the table.
pub(crate) fn module_has_a_layer(file: &SourceFile) -> Vec<String> {
    match layer(&file.module) {
        Some(_) => Vec::new(),
        None => vec![format!(
            "{}:1: module `{}` is in no layer; add it to LAYERS",
            file.path, file.module
        )],
    }
}

/// Every `crate::x` of production code points down, or sideways with a reason.
pub(crate) fn imports_point_down(file: &SourceFile) -> Vec<String> {
    // lib.rs declares everything and imports nothing.
    let Some(own) = layer(&file.module).filter(|_| file.module != "lib") else {
        return Vec::new();
    };
    let mut violations = Vec::new();
    for import in file.imports() {
        let Some(other) = layer(&import.module) else {
            continue;
        };
        let meant = SIDEWAYS
            .iter()
            .any(|(from, to, _)| *from == file.module && *to == import.module);
        if import.module == file.module || other < own || meant {
            continue;
        }
        let direction = if other > own { "up" } else { "across" };
        violations.push(format!(
            "{}:{}: `{}` (layer {own}) imports `{}` (layer {other}): points {direction}",
            file.path, import.line, file.module, import.module
        ));
    }
    violations
}

/// `logic` has no clock, no socket, no file, no ambient randomness.
pub(crate) fn logic_is_pure(file: &SourceFile) -> Vec<String> {
    if file.module != "logic" {
        return Vec::new();
    }
    let mut violations = Vec::new();
    for (line, text) in file.production_lines() {
        for word in IMPURE.iter().filter(|word| names(text, word)) {
            violations.push(format!(
                "{}:{line}: `{word}` in logic; make it a parameter",
                file.path
            ));
        }
        // The functions of fastrand draw from a generator that nobody seeded.
        if text.match_indices("fastrand::").any(|(at, found)| {
            text[at + found.len()..].starts_with(|next: char| next.is_ascii_lowercase())
        }) {
            violations.push(format!(
                "{}:{line}: ambient randomness; take `&mut fastrand::Rng`",
                file.path
            ));
        }
    }
    violations
}

/// Wrapped crates are named in their wrapper alone, tests included.
pub(crate) fn crates_are_confined(file: &SourceFile) -> Vec<String> {
    let mut violations = Vec::new();
    for (name, homes, why) in CONFINED {
        if homes.iter().any(|home| file.path.starts_with(home)) {
            continue;
        }
        for (line, _) in file
            .code_lines()
            .filter(|(_, text)| names(text, &format!("{name}::")))
        {
            violations.push(format!(
                "{}:{line}: `{name}` is only for {homes:?}: {why}",
                file.path
            ));
        }
    }
    violations
}

/// `#[expect(..., reason = "...")]` tells when it is no longer needed; `allow` never does.
pub(crate) fn no_allow_attribute(file: &SourceFile) -> Vec<String> {
    file.code_lines()
        .filter(|(_, text)| text.contains("#[allow(") || text.contains("#![allow("))
        .map(|(line, _)| {
            format!(
                "{}:{line}: `allow`; write `expect` with a reason",
                file.path
            )
        })
        .collect()
}

/// The first line says what the file is for.
pub(crate) fn begins_with_purpose(file: &SourceFile) -> Vec<String> {
    let good = file.text.starts_with("//! ");
    if good {
        Vec::new()
    } else {
        vec![format!("{}:1: does not begin with `//!`", file.path)]
    }
}

/// No longer than the maximum, or than its own entry of the ratchet.
pub(crate) fn file_is_short(file: &SourceFile) -> Vec<String> {
    let entry = LONG_FILES.iter().find(|(path, _)| *path == file.path);
    let max = entry.map_or(FILE_LINES_MAX, |(_, lines)| *lines);
    let lines = file.lines();
    if lines <= max {
        Vec::new()
    } else {
        vec![format!(
            "{}:{lines}: {lines} lines, at most {max}",
            file.path
        )]
    }
}

/// No tabs, no spaces before the line's end, a line feed at the end of the file.
pub(crate) fn clean_whitespace(path: &str, text: &str) -> Vec<String> {
    let mut violations = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if line.contains('\t') {
            violations.push(format!("{path}:{}: tab", index + 1));
        }
        if line.ends_with(' ') || line.ends_with('\r') {
            violations.push(format!("{path}:{}: trailing space", index + 1));
        }
    }
    if !text.is_empty() && !text.ends_with('\n') {
        violations.push(format!("{path}: no line feed at the end"));
    }
    violations
}

/// Whether `text` has `word` with no identifier character right before it.
fn names(text: &str, word: &str) -> bool {
    text.match_indices(word).any(|(at, _)| {
        !text[..at]
            .chars()
            .next_back()
            .is_some_and(|before| before.is_alphanumeric() || before == '_')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(rule: fn(&SourceFile) -> Vec<String>, path: &str, text: &str) -> Vec<String> {
        rule(&SourceFile::new(path, text))
    }

    #[test]
    fn an_import_that_points_up_is_found_with_its_line() {
        let text = "//! Doc.\n\nuse std::fmt;\nuse crate::app::build;\n";
        let violations = found(imports_point_down, "src/pool/actor.rs", text);
        assert_eq!(
            violations,
            ["src/pool/actor.rs:4: `pool` (layer 2) imports `app` (layer 5): points up"]
        );
    }

    #[test]
    fn an_import_of_a_neighbour_is_found_in_every_spelling() {
        let spellings = [
            "use crate::health::Probe;",
            "use crate::{logic::event, health::Probe};",
            "use crate::{\n    logic::{event, snapshot},\n    health,\n};",
            "pub(crate) use crate::health;",
            "fn f() { crate::health::check(); }",
            "use super::super::health::Probe;",
            "use super::super::{logic, health as h};",
        ];
        for text in spellings {
            let violations = found(imports_point_down, "src/pool/actor.rs", text);
            assert_eq!(violations.len(), 1, "{text}: {violations:?}");
            assert!(violations[0].ends_with("points across"), "{violations:?}");
        }
    }

    #[test]
    fn what_points_down_or_inside_or_is_no_code_passes() {
        let texts = [
            "use crate::logic::event::PoolEvent;",
            "use crate::pool::Settings;",
            "use super::settings::Settings;",
            "use crate::{metrics, logic::{backoff, outlier}};",
            "// use crate::app;",
            "/* crate::app /* nested */ crate::app */",
            "/// See [`crate::app::build`].\nfn f() {}",
            "const HINT: &str = \"crate::app\";",
            "const HINT: &str = r#\"crate::app \"quoted\" \"#;",
            "#[cfg(test)]\nmod tests {\n    use crate::app::build;\n    fn f() { if true {} }\n}",
            "#[cfg(test)]\nuse crate::app;\n",
        ];
        for text in texts {
            assert_eq!(
                found(imports_point_down, "src/pool/actor.rs", text),
                [""; 0],
                "{text}"
            );
        }
    }

    #[test]
    fn code_after_a_test_module_is_still_checked() {
        let text = "#[cfg(test)]\nmod tests { fn f() {} }\nuse crate::app;\n";
        assert_eq!(
            found(imports_point_down, "src/pool/actor.rs", text).len(),
            1
        );
    }

    #[test]
    fn a_listener_may_name_the_relay_and_not_the_other_way_round() {
        assert_eq!(
            found(
                imports_point_down,
                "src/listener/settings.rs",
                "use crate::relay;"
            )
            .len(),
            0
        );
        assert_eq!(
            found(
                imports_point_down,
                "src/relay/settings.rs",
                "use crate::listener;"
            )
            .len(),
            1
        );
    }

    #[test]
    fn a_module_without_a_layer_is_found() {
        assert_eq!(found(module_has_a_layer, "src/utils/mod.rs", "").len(), 1);
    }

    #[test]
    fn a_clock_in_logic_is_found_and_a_parameter_is_not() {
        let path = "src/logic/backoff.rs";
        assert_eq!(
            found(logic_is_pure, path, "let now = Instant::now();").len(),
            1
        );
        assert_eq!(
            found(logic_is_pure, path, "let x = fastrand::u32(..);").len(),
            1
        );
        assert_eq!(
            found(logic_is_pure, path, "let r = fastrand::Rng::new();").len(),
            1
        );
        assert_eq!(
            found(
                logic_is_pure,
                path,
                "fn f(now: Instant, rng: &mut fastrand::Rng) {}"
            )
            .len(),
            0
        );
        assert_eq!(
            found(
                logic_is_pure,
                path,
                "#[cfg(test)]\nmod tests { fn f() { Instant::now(); } }"
            )
            .len(),
            0
        );
        assert_eq!(
            found(
                logic_is_pure,
                "src/pool/actor.rs",
                "let now = Instant::now();"
            )
            .len(),
            0
        );
    }

    #[test]
    fn a_confined_crate_elsewhere_is_found() {
        assert_eq!(
            found(
                crates_are_confined,
                "src/pool/actor.rs",
                "use bincode::Options;"
            )
            .len(),
            1
        );
        assert_eq!(
            found(
                crates_are_confined,
                "src/cluster/codec.rs",
                "use bincode::Options;"
            )
            .len(),
            0
        );
    }

    #[test]
    fn an_allow_is_found_and_an_expect_is_not() {
        assert_eq!(
            found(no_allow_attribute, "src/a.rs", "#![allow(dead_code)]").len(),
            1
        );
        assert_eq!(
            found(
                no_allow_attribute,
                "src/a.rs",
                "#[expect(dead_code, reason = \"r\")]"
            )
            .len(),
            0
        );
    }

    #[test]
    fn a_long_file_and_bad_whitespace_are_found() {
        let long = "//! x\n".repeat(FILE_LINES_MAX + 1);
        assert_eq!(found(file_is_short, "src/a.rs", &long).len(), 1);
        assert_eq!(clean_whitespace("a", "x \n\ty\nz").len(), 3);
        assert_eq!(clean_whitespace("a", "x\n").len(), 0);
    }
}
