//! Which known word somebody meant.

/// Jaro-Winkler similarity from which a word is offered. 0.8 takes `bnd` for `bind`, `max_conns` for `max_connections`
/// and `endpoint` for `endpoints`; it does not take `port` for `path`.
const SIMILARITY_MIN: f64 = 0.8;

/// The word of `known` that is most like `word`, if one is like it at all.
pub(super) fn nearest<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let word = plain(word);
    known
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(&word, &plain(candidate)), candidate))
        .filter(|(similarity, _)| *similarity >= SIMILARITY_MIN)
        .max_by(|left, right| left.0.total_cmp(&right.0))
        .map(|(_, candidate)| candidate)
}

/// `; did you mean "bind"?`, or nothing.
pub(super) fn did_you_mean<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> String {
    nearest(word, known).map_or_else(String::new, |word| format!("; did you mean \"{word}\"?"))
}

/// Case and separators are how other programs spell the same word: `maxConnections`, `max-connections`.
fn plain(word: &str) -> String {
    word.chars()
        .filter(|c| c.is_alphanumeric())
        .flat_map(char::to_lowercase)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typing_errors_and_foreign_spellings_find_their_word() {
        let known = [
            "bind",
            "path",
            "max_connections",
            "endpoints",
            "health",
            "interval",
        ];
        for (typed, expected) in [
            ("bnd", Some("bind")),
            ("bidn", Some("bind")),
            ("max_conns", Some("max_connections")),
            ("maxConnections", Some("max_connections")),
            ("endpoint", Some("endpoints")),
            ("intervall", Some("interval")),
            ("port", None),
            ("certificate", None),
            ("", None),
        ] {
            assert_eq!(nearest(typed, known), expected, "{typed}");
        }
    }
}
