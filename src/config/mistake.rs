//! What is wrong with a configuration, in the operator's words.

use std::fmt;
use std::path::PathBuf;

/// One mistake, or one warning: where it is and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The configuration file, as it was named on the command line.
    pub file: PathBuf,
    /// The line, from 1; `None` when the file as a whole is meant.
    pub line: Option<usize>,
    /// The key path, `pools.emqx.health.interval`; empty when the file as a whole or its syntax is meant.
    pub key: String,
    /// What is wrong, the value, what is allowed. Never a secret.
    pub message: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if !self.key.is_empty() {
            write!(f, ": {}", self.key)?;
        }
        write!(f, ": {}", self.message)
    }
}

/// All mistakes of one file, in the order of its lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Errors {
    /// The configuration file.
    pub file: PathBuf,
    /// At least one.
    pub mistakes: Vec<Mistake>,
}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for mistake in &self.mistakes {
            writeln!(f, "{mistake}")?;
        }
        let count = self.mistakes.len();
        let noun = if count == 1 { "mistake" } else { "mistakes" };
        write!(f, "{count} {noun} in {}", self.file.display())
    }
}

impl std::error::Error for Errors {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_that_are_absent_leave_no_punctuation() {
        let mut mistake = Mistake {
            file: "a.toml".into(),
            line: None,
            key: String::new(),
            message: "m".into(),
        };
        assert_eq!(mistake.to_string(), "a.toml: m");
        mistake.line = Some(3);
        assert_eq!(mistake.to_string(), "a.toml:3: m");
        mistake.key = "admin.bind".into();
        assert_eq!(mistake.to_string(), "a.toml:3: admin.bind: m");
        let errors = Errors {
            file: "a.toml".into(),
            mistakes: vec![mistake],
        };
        assert_eq!(
            errors.to_string(),
            "a.toml:3: admin.bind: m\n1 mistake in a.toml"
        );
    }
}
