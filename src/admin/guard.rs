//! Who may ask: the bearer token, and web pages in an operator's browser.

use crate::logic::secret::Secret;
use hyper::HeaderMap;
use hyper::header::{AUTHORIZATION, ORIGIN};

/// Whether a request carries the token, if one is needed.
pub(super) fn authorized(token: Option<&Secret>, headers: &HeaderMap) -> bool {
    let Some(token) = token else { return true };
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return false;
    };
    let Some((scheme, given)) = value.as_bytes().split_at_checked("Bearer ".len()) else {
        return false;
    };
    // An empty token is a mistake of configuration and opens nothing.
    scheme.eq_ignore_ascii_case(b"Bearer ")
        && !token.expose().is_empty()
        && same(given.trim_ascii(), token.expose().as_bytes())
}

/// Whether a write comes from a web page that the operator did not mean: browsers send `Origin` with every POST. With a
/// token there is no danger, a foreign page does not know it; without one, loopback would be open to every page.
pub(super) fn foreign_write(token: Option<&Secret>, headers: &HeaderMap) -> bool {
    token.is_none() && headers.contains_key(ORIGIN)
}

/// Compares in a time that depends on the lengths alone, so that answers do not tell how much of a guess was right.
fn same(given: &[u8], expected: &[u8]) -> bool {
    if given.len() != expected.len() {
        return false;
    }
    let differing = given
        .iter()
        .zip(expected)
        .fold(0u8, |bits, (a, b)| bits | (a ^ b));
    std::hint::black_box(differing) == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;

    fn check(token: Option<&str>, header: Option<&str>, expected: bool) {
        let mut headers = HeaderMap::new();
        if let Some(header) = header {
            headers.insert(AUTHORIZATION, HeaderValue::from_str(header).unwrap());
        }
        let token = token.map(|token| Secret::new(token.to_owned()));
        assert_eq!(authorized(token.as_ref(), &headers), expected, "{header:?}");
    }

    #[test]
    fn only_the_whole_token_opens() {
        check(None, None, true);
        check(None, Some("Bearer whatever"), true);
        check(Some("s3cret"), Some("Bearer s3cret"), true);
        check(Some("s3cret"), Some("bearer  s3cret "), true);
        for header in [
            "",
            "Bearer",
            "Bearer ",
            "Bearer s3cre",
            "Bearer s3crets",
            "Bearer S3CRET",
        ] {
            check(Some("s3cret"), Some(header), false);
        }
        check(Some("s3cret"), Some("Basic s3cret"), false);
        check(Some("s3cret"), Some("s3cret"), false);
        check(Some("s3cret"), None, false);
        check(Some(""), Some("Bearer "), false);
    }

    #[test]
    fn two_authorizations_open_nothing() {
        let mut headers = HeaderMap::new();
        headers.append(AUTHORIZATION, HeaderValue::from_static("Bearer s3cret"));
        headers.append(AUTHORIZATION, HeaderValue::from_static("Bearer s3cret"));
        assert!(!authorized(Some(&Secret::new("s3cret".into())), &headers));
    }

    #[test]
    fn page_may_not_write_unless_a_token_guards() {
        let mut headers = HeaderMap::new();
        assert!(!foreign_write(None, &headers));
        headers.insert(ORIGIN, HeaderValue::from_static("http://evil.example"));
        assert!(foreign_write(None, &headers));
        assert!(!foreign_write(
            Some(&Secret::new("s3cret".into())),
            &headers
        ));
    }
}
