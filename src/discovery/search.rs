//! Which absolute names stand for the name that the operator wrote.
//!
//! hickory would expand search lists itself, one record type at a time and reporting only the last name's outcome: the
//! NODATA of the name that exists would be hidden by the NXDOMAIN of the next. So it is only ever asked for absolute
//! names, and this list is walked for both families together.

/// Search domains that are used; glibc's old limit was 6, Kubernetes writes up to 32.
const SEARCH_MAX: usize = 32;

/// The absolute names to try, in order, each with its trailing dot.
///
/// A name with a trailing dot stands for itself alone. A name with dots is tried as it is first, whatever `ndots` says:
/// the operator who wrote `mqtt.example.com` meant that, and Kubernetes' `ndots:5` would cost five useless questions
/// every time. A name without dots (a compose service) is tried under the search domains first.
///
/// `preferred`, the name that answered last time, comes first if it is one of them.
pub(super) fn candidates(name: &str, search: &[String], preferred: Option<&str>) -> Vec<String> {
    if name.ends_with('.') {
        return vec![name.to_owned()];
    }
    let bare = format!("{name}.");
    let mut names: Vec<String> = Vec::with_capacity(search.len().min(SEARCH_MAX) + 1);
    if name.contains('.') {
        names.push(bare.clone());
    }
    let expanded = search
        .iter()
        .take(SEARCH_MAX)
        .map(|domain| domain.trim_matches('.'))
        .filter(|domain| !domain.is_empty())
        .map(|domain| format!("{name}.{domain}."));
    for candidate in expanded.chain([bare]) {
        if !names.contains(&candidate) {
            names.push(candidate);
        }
    }
    if let Some(position) = names
        .iter()
        .position(|name| Some(name.as_str()) == preferred)
    {
        names[..=position].rotate_right(1);
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, search: &[&str], preferred: Option<&str>, expected: &[&str]) {
        let search: Vec<_> = search.iter().map(|&domain| domain.to_owned()).collect();
        assert_eq!(
            candidates(name, &search, preferred),
            expected,
            "{name} {search:?} {preferred:?}"
        );
    }

    #[test]
    fn names_are_tried_in_the_order_that_their_dots_suggest() {
        check("broker", &[], None, &["broker."]);
        check(
            "broker",
            &["a.test", "test."],
            None,
            &["broker.a.test.", "broker.test.", "broker."],
        );
        check("mqtt.a", &["test"], None, &["mqtt.a.", "mqtt.a.test."]);
        check("mqtt.a.", &["test"], None, &["mqtt.a."]);
        check(
            "broker",
            &[".", "", "test", "test"],
            None,
            &["broker.test.", "broker."],
        );
    }

    #[test]
    fn name_that_answered_is_tried_first() {
        let search = &["a", "b"];
        check("x", search, Some("x.b."), &["x.b.", "x.a.", "x."]);
        check("x", search, Some("x.a."), &["x.a.", "x.b.", "x."]);
        check("x", search, Some("gone."), &["x.a.", "x.b.", "x."]);
    }
}
