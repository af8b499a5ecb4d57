//! `${NAME}` in a string value is the environment variable NAME; `$${` is a plain `${`.
//!
//! Absent on purpose: defaults (`${NAME:-x}`), nesting and commands. A configuration is read, not run.

/// Why a string could not be expanded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum VariableError {
    /// The variable is not set.
    #[error("the variable {0} is not set; set it, or write $${{ where a plain ${{ is meant")]
    Unset(String),
    /// `${` without a name and `}`.
    #[error("${{ without a name and }}; write ${{NAME}}, or $${{ where a plain ${{ is meant")]
    Malformed,
}

/// Expands every variable of `text`. What a variable holds is not expanded again.
pub(super) fn expand(
    text: &str,
    lookup: impl Fn(&str) -> Option<String>,
) -> Result<String, VariableError> {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        let (before, after) = (&rest[..start], &rest[start + 2..]);
        if let Some(before) = before.strip_suffix('$') {
            expanded.push_str(before);
            expanded.push_str("${");
            rest = after;
            continue;
        }
        expanded.push_str(before);
        let (name, tail) = after.split_once('}').ok_or(VariableError::Malformed)?;
        if !is_name(name) {
            return Err(VariableError::Malformed);
        }
        expanded.push_str(&lookup(name).ok_or_else(|| VariableError::Unset(name.to_owned()))?);
        rest = tail;
    }
    expanded.push_str(rest);
    Ok(expanded)
}

/// A portable name (POSIX.1-2017 §8.1), lower case included.
fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<&str, VariableError>) {
        let lookup = |name: &str| match name {
            "HOST" => Some("broker".to_owned()),
            "NESTED" => Some("${HOST}".to_owned()),
            _ => None,
        };
        assert_eq!(expand(text, lookup), expected.map(str::to_owned), "{text}");
    }

    #[test]
    fn variables_expand_once_and_escapes_stay_plain() {
        check("", Ok(""));
        check("plain $ and $$ and {HOST}", Ok("plain $ and $$ and {HOST}"));
        check("${HOST}", Ok("broker"));
        check(
            "dns+a://${HOST}.internal:1883",
            Ok("dns+a://broker.internal:1883"),
        );
        check("${HOST}${HOST}", Ok("brokerbroker"));
        check("${NESTED}", Ok("${HOST}"));
        check("$${HOST}", Ok("${HOST}"));
        check("$${ ${HOST}", Ok("${ broker"));
    }

    #[test]
    fn what_cannot_be_expanded_is_an_error_and_not_an_empty_string() {
        check("${PORT}", Err(VariableError::Unset("PORT".into())));
        for malformed in ["${", "${HOST", "${}", "${1A}", "${HOST:-x}", "${ HOST }"] {
            check(malformed, Err(VariableError::Malformed));
        }
    }
}
