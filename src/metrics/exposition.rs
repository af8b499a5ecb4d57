//! The text of a scrape: families of several collectors made one, and the older format for who does not ask for
//! `OpenMetrics`.
//!
//! Two collectors may name the same family (one per pool, say); the format wants each family once and in one piece.

use std::collections::HashMap;
use std::fmt::Write as _;

/// Content type of what [`super::Registry::encode`] gives (`OpenMetrics` 1.0).
pub const OPEN_METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Content type of what [`plain_text`] gives (Prometheus text format 0.0.4).
pub const PLAIN_TEXT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// One metric family.
#[derive(Debug, PartialEq)]
struct Family<'t> {
    name: &'t str,
    help: &'t str,
    kind: &'t str,
    samples: Vec<&'t str>,
}

/// Splits a scrape in the order in which families first appear. Samples follow their header, as the encoder writes them.
fn families(text: &str) -> Vec<Family<'_>> {
    let mut families: Vec<Family<'_>> = Vec::new();
    let mut places = HashMap::new();
    let mut place = None;
    for line in text.lines() {
        if let Some((name, help)) = header(line, "# HELP ") {
            let index = *places.entry(name).or_insert_with(|| {
                families.push(Family {
                    name,
                    help,
                    kind: "",
                    samples: Vec::new(),
                });
                families.len() - 1
            });
            place = Some(index);
        } else if let Some((_, kind)) = header(line, "# TYPE ") {
            let Some(family) = place.and_then(|index| families.get_mut(index)) else {
                continue;
            };
            if family.kind.is_empty() {
                family.kind = kind;
            } else if family.kind != kind {
                // Two owners disagree on what it is: the later one is left out, half a scrape is better than none.
                tracing::error!(family = family.name, kind, "metric family registered twice");
                place = None;
            }
        } else if !line.starts_with('#')
            && let Some(family) = place.and_then(|index| families.get_mut(index))
        {
            family.samples.push(line);
        }
    }
    families
}

fn header<'t>(line: &'t str, keyword: &str) -> Option<(&'t str, &'t str)> {
    let rest = line.strip_prefix(keyword)?;
    Some(rest.split_once(' ').unwrap_or((rest, "")))
}

/// One header per family, samples together, end mark.
pub(super) fn merged(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    for family in families(text) {
        write_family(&mut out, &family, family.name, family.kind);
    }
    out.push_str("# EOF\n");
    out
}

/// The same numbers in the Prometheus text format 0.0.4, which names a counter's family with its `_total` and knows no
/// info type. For curl, promtool and agents that do not ask for `OpenMetrics`.
pub fn plain_text(open_metrics: &str) -> String {
    let mut out = String::with_capacity(open_metrics.len());
    for family in families(open_metrics) {
        match family.kind {
            "counter" => write_family(
                &mut out,
                &family,
                &format!("{}_total", family.name),
                "counter",
            ),
            "info" => write_family(&mut out, &family, &format!("{}_info", family.name), "gauge"),
            "unknown" => write_family(&mut out, &family, family.name, "untyped"),
            kind => write_family(&mut out, &family, family.name, kind),
        }
    }
    out
}

fn write_family(out: &mut String, family: &Family<'_>, name: &str, kind: &str) {
    let wrote = writeln!(out, "# HELP {name} {}\n# TYPE {name} {kind}", family.help);
    debug_assert!(wrote.is_ok(), "a string takes everything");
    for sample in &family.samples {
        out.push_str(sample);
        out.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWICE: &str = "# HELP a A.\n# TYPE a counter\na_total{p=\"1\"} 1\n# HELP b B.\n# TYPE b gauge\nb 2\n\
                         # HELP a A.\n# TYPE a counter\na_total{p=\"2\"} 3\n# EOF\n";

    #[test]
    fn families_of_two_collectors_become_one() {
        assert_eq!(
            merged(TWICE),
            "# HELP a A.\n# TYPE a counter\na_total{p=\"1\"} 1\na_total{p=\"2\"} 3\n\
             # HELP b B.\n# TYPE b gauge\nb 2\n# EOF\n"
        );
    }

    #[test]
    fn family_of_two_kinds_keeps_the_first() {
        let text = "# HELP a A.\n# TYPE a counter\na_total 1\n# HELP a A.\n# TYPE a gauge\na 2\n";
        assert_eq!(
            merged(text),
            "# HELP a A.\n# TYPE a counter\na_total 1\n# EOF\n"
        );
    }

    #[test]
    fn plain_text_names_counters_with_total_and_infos_as_gauges() {
        let text = "# HELP a A.\n# TYPE a counter\na_total 1\n# HELP i I.\n# TYPE i info\ni_info{v=\"1\"} 1\n# EOF\n";
        assert_eq!(
            plain_text(text),
            "# HELP a_total A.\n# TYPE a_total counter\na_total 1\n\
             # HELP i_info I.\n# TYPE i_info gauge\ni_info{v=\"1\"} 1\n"
        );
    }
}
