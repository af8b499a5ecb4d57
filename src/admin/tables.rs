//! The API's JSON as tables for people. From JSON and not from the views, because the instance that answered may be of
//! another release: what is missing prints as a dash.

use serde_json::Value;
use std::fmt::Write as _;
use std::net::SocketAddr;

/// `tidegate pools`: per pool one line and a table of its endpoints, sorted by name and address.
pub fn pools_table(answer: &Value) -> String {
    let mut pools: Vec<&Value> = rows(answer, "pools");
    pools.sort_by_key(|pool| text(pool, "name"));
    let mut out = String::new();
    for pool in pools {
        if !out.is_empty() {
            out.push('\n');
        }
        let mut endpoints = rows(pool, "endpoints");
        endpoints.sort_by_key(|endpoint| by_address(&endpoint["address"]));
        let line = format!(
            "pool {}: {}, {} here, {} over the tier, spread {}, {}",
            text(pool, "name"),
            text(pool, "policy"),
            text(pool, "own_connections"),
            text(pool, "cluster_connections"),
            percent(&pool["spread"]),
            discovery(&pool["discovery"]),
        );
        out.push_str(&line);
        out.push('\n');
        let mut table = Table::new(
            "ENDPOINT  STATE  ELIGIBLE  >WEIGHT  >HERE  >PENDING  >TIER  >MAX  >LATENCY  >PICKS  >FAILED  WHY",
        );
        for endpoint in endpoints {
            table.row([
                text(endpoint, "address"),
                text(endpoint, "state"),
                yes_no(&endpoint["eligible"]),
                text(endpoint, "weight"),
                text(endpoint, "own_connections"),
                text(endpoint, "own_pending"),
                text(endpoint, "cluster_connections"),
                text(endpoint, "max_connections"),
                milliseconds(&endpoint["latency_ms"]),
                text(endpoint, "picks_total"),
                text(endpoint, "failures_total"),
                text(endpoint, "why"),
            ]);
        }
        out.push_str(&table.print());
    }
    if out.is_empty() {
        "no pools\n".to_owned()
    } else {
        out
    }
}

/// `tidegate members`: one line per member, sorted by id; the one that answered is marked.
pub fn members_table(answer: &Value) -> String {
    let mut members = rows(answer, "members");
    members.sort_by_key(|member| text(member, "id"));
    let mut table = Table::new(
        "MEMBER  ADDRESS  STATE  >CONNECTIONS  >RECORD AGE  VERSION  CONFIG  >GENERATION  ANSWERED",
    );
    for member in members {
        table.row([
            text(member, "id"),
            text(member, "address"),
            text(member, "state"),
            text(member, "connections"),
            milliseconds(&member["record_age_ms"]),
            text(member, "version"),
            text(member, "config_fingerprint"),
            text(member, "generation"),
            if member["self"] == true {
                "*".to_owned()
            } else {
                String::new()
            },
        ]);
    }
    table.print()
}

/// `tidegate status`: one fact a line.
pub fn status_table(answer: &Value) -> String {
    let mut table = Table::bare(2);
    for (label, key) in [
        ("name", "name"),
        ("version", "version"),
        ("phase", "phase"),
        ("uptime", "uptime_s"),
        ("connections", "connections"),
        ("joined", "joined"),
        ("members", "members"),
        ("config", "config_fingerprint"),
    ] {
        let value = match (key, answer[key].as_u64()) {
            ("uptime_s", Some(seconds)) => uptime(seconds),
            _ => text(answer, key),
        };
        table.row([label.to_owned(), value]);
    }
    table.print()
}

/// `tidegate drain` and `undrain`: what was done, in one line.
pub fn drain_line(answer: &Value) -> String {
    let pools: Vec<String> = rows(answer, "pools").into_iter().map(plain).collect();
    let did = if answer["drain"] == true {
        "drains"
    } else {
        "takes connections again"
    };
    format!(
        "{} {did} in {}\n",
        text(answer, "endpoint"),
        pools.join(", ")
    )
}

/// Aligned columns. Widths are counted in characters: wide glyphs would be off, names here have none.
struct Table {
    right: Vec<bool>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// Headings are split at two spaces; `>` aligns a column to the right.
    fn new(headings: &str) -> Self {
        let headings: Vec<&str> = headings.split("  ").collect();
        let right = headings
            .iter()
            .map(|heading| heading.starts_with('>'))
            .collect();
        let names = headings
            .iter()
            .map(|heading| heading.trim_start_matches('>').to_owned());
        Self {
            right,
            rows: vec![names.collect()],
        }
    }

    fn bare(columns: usize) -> Self {
        Self {
            right: vec![false; columns],
            rows: Vec::new(),
        }
    }

    fn row<const N: usize>(&mut self, cells: [String; N]) {
        debug_assert_eq!(N, self.right.len());
        self.rows.push(cells.into());
    }

    fn print(&self) -> String {
        let width = |column: usize| {
            self.rows
                .iter()
                .map(|row| row[column].chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.right.len()).map(width).collect();
        let mut out = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for ((cell, width), right) in row.iter().zip(&widths).zip(&self.right) {
                let wrote = if *right {
                    write!(line, "{cell:>width$}  ")
                } else {
                    write!(line, "{cell:<width$}  ")
                };
                debug_assert!(wrote.is_ok(), "a string takes everything");
            }
            out.push_str(line.trim_end());
            out.push('\n');
        }
        out
    }
}

fn rows<'v>(value: &'v Value, key: &str) -> Vec<&'v Value> {
    value[key].as_array().into_iter().flatten().collect()
}

fn text(value: &Value, key: &str) -> String {
    plain(&value[key])
}

/// A value in one word or sentence. Control characters are replaced: reasons hold what brokers and name servers said,
/// and a terminal obeys escape sequences.
fn plain(value: &Value) -> String {
    let text = match value {
        Value::Null => "-".to_owned(),
        Value::String(text) if text.is_empty() => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    text.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

fn yes_no(value: &Value) -> String {
    match value.as_bool() {
        Some(true) => "yes".to_owned(),
        Some(false) => "no".to_owned(),
        None => plain(value),
    }
}

fn percent(value: &Value) -> String {
    value
        .as_f64()
        .map_or_else(|| plain(value), |ratio| format!("{:.1} %", ratio * 100.0))
}

fn milliseconds(value: &Value) -> String {
    match (value.as_u64(), value.as_f64()) {
        (Some(whole), _) => format!("{whole} ms"),
        (None, Some(part)) => format!("{part:.1} ms"),
        (None, None) => plain(value),
    }
}

fn uptime(seconds: u64) -> String {
    let (days, hours) = (seconds / 86_400, seconds / 3_600 % 24);
    let (minutes, seconds) = (seconds / 60 % 60, seconds % 60);
    if days > 0 {
        format!("{days} d {hours} h")
    } else if hours > 0 {
        format!("{hours} h {minutes} min")
    } else if minutes > 0 {
        format!("{minutes} min {seconds} s")
    } else {
        format!("{seconds} s")
    }
}

fn discovery(value: &Value) -> String {
    let mut out = text(value, "source");
    if value["stale"] == true {
        out.push_str(" (stale)");
    }
    if value["last_error"].is_string() {
        out.push_str(", last error: ");
        out.push_str(&text(value, "last_error"));
    }
    out
}

/// By number, so that .9 comes before .10; what is no address comes last, by its letters.
fn by_address(value: &Value) -> (bool, Option<SocketAddr>, String) {
    let text = plain(value);
    let addr = text.parse().ok();
    (addr.is_none(), addr, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn pools_are_sorted_aligned_and_free_of_escapes() {
        let endpoint = |address: &str, count: u32, why: &str| {
            json!({ "address": address, "state": "up", "eligible": true, "weight": 1, "own_connections": count,
                    "own_pending": 0, "cluster_connections": 30, "max_connections": null, "latency_ms": 0.4,
                    "picks_total": 12, "failures_total": 0, "why": why })
        };
        let answer = json!({ "pools": [
            { "name": "z", "endpoints": [] },
            { "name": "emqx", "policy": "least-connections", "own_connections": 110, "cluster_connections": 60,
              "spread": 0.014, "discovery": { "source": "fixed", "stale": false, "last_error": null },
              "endpoints": [endpoint("10.0.0.10:1883", 100, ""), endpoint("10.0.0.9:1883", 10, "\u{1b}[31mred")] },
        ]});
        assert_eq!(
            pools_table(&answer),
            "pool emqx: least-connections, 110 here, 60 over the tier, spread 1.4 %, fixed\n\
             ENDPOINT        STATE  ELIGIBLE  WEIGHT  HERE  PENDING  TIER  MAX  LATENCY  PICKS  FAILED  WHY\n\
             10.0.0.9:1883   up     yes            1    10        0    30    -   0.4 ms     12       0  \u{fffd}[31mred\n\
             10.0.0.10:1883  up     yes            1   100        0    30    -   0.4 ms     12       0  -\n\
             \npool z: -, - here, - over the tier, spread -, -\n\
             ENDPOINT  STATE  ELIGIBLE  WEIGHT  HERE  PENDING  TIER  MAX  LATENCY  PICKS  FAILED  WHY\n"
        );
    }

    #[test]
    fn members_are_sorted_and_the_answering_one_is_marked() {
        let answer = json!({ "members": [
            { "id": "lb-2", "address": "10.0.0.2:7946", "generation": 7, "state": "alive", "record_age_ms": 12,
              "version": "0.1.0", "config_fingerprint": "ab12", "connections": 5, "self": false },
            { "id": "lb-1", "address": null, "generation": 7, "state": "alive", "record_age_ms": 0,
              "version": "0.1.0", "config_fingerprint": "ab12", "connections": 10, "self": true },
        ]});
        assert_eq!(
            members_table(&answer),
            "MEMBER  ADDRESS        STATE  CONNECTIONS  RECORD AGE  VERSION  CONFIG  GENERATION  ANSWERED\n\
             lb-1    -              alive           10        0 ms  0.1.0    ab12             7  *\n\
             lb-2    10.0.0.2:7946  alive            5       12 ms  0.1.0    ab12             7\n"
        );
    }

    #[test]
    fn status_and_drain_are_told_in_lines() {
        let answer = json!({ "name": "lb-1", "version": "0.1.0", "phase": "serving", "uptime_s": 3_700,
                             "connections": 3, "joined": 2, "members": 1 });
        let table = status_table(&answer);
        assert!(table.contains("uptime       1 h 1 min\n"), "{table}");
        assert!(table.contains("config       -\n"), "{table}");
        let answer =
            json!({ "endpoint": "10.0.0.9:1883", "drain": true, "pools": ["emqx", "other"] });
        assert_eq!(drain_line(&answer), "10.0.0.9:1883 drains in emqx, other\n");
    }

    #[test]
    fn addresses_sort_by_number_and_other_words_last() {
        let mut values = [
            json!("x"),
            json!("10.0.0.10:1"),
            json!("[::1]:1"),
            json!("10.0.0.9:1"),
            json!(null),
        ];
        values.sort_by_key(by_address);
        let sorted = ["10.0.0.9:1", "10.0.0.10:1", "[::1]:1", "-", "x"];
        assert_eq!(values.iter().map(plain).collect::<Vec<_>>(), sorted);
    }

    #[test]
    fn answers_of_another_kind_do_not_panic() {
        for answer in [
            json!(null),
            json!([]),
            json!({ "pools": 3, "members": "x" }),
        ] {
            assert_eq!(pools_table(&answer), "no pools\n");
            assert!(members_table(&answer).starts_with("MEMBER"));
            assert!(!status_table(&answer).is_empty() && !drain_line(&answer).is_empty());
        }
    }
}
