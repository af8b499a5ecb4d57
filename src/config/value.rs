//! One value of the file: its path and line, its text with variables expanded, and how it is shown when it is wrong.

use super::context::Context;
use super::nearest::did_you_mean;
use super::table::{Table, join};
use super::variables;
use super::world::World;
use std::fmt;
use std::path::PathBuf;
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

/// Longest value that is shown in a message, in characters.
const SHOWN_CHARS_MAX: usize = 60;

/// One value of the file.
pub(super) struct Value<'a> {
    context: &'a Context<'a>,
    path: String,
    pattern: String,
    line: usize,
    raw: &'a DeValue<'a>,
    secret: bool,
}

impl<'a> Value<'a> {
    pub(super) fn new(
        context: &'a Context<'a>,
        path: String,
        pattern: String,
        (offset, raw): (usize, &'a DeValue<'a>),
    ) -> Self {
        let line = context.found(&path, offset);
        Self {
            context,
            path,
            pattern,
            line,
            raw,
            secret: false,
        }
    }

    /// The value as the parser gave it.
    pub(super) fn raw(&self) -> &'a DeValue<'a> {
        self.raw
    }

    pub(super) fn path(&self) -> &str {
        &self.path
    }

    pub(super) fn world(&self) -> &'a dyn World {
        self.context.world()
    }

    /// The same value, never shown in a message.
    pub(super) fn secret(&self) -> Self {
        let (path, pattern) = (self.path.clone(), self.pattern.clone());
        Self {
            path,
            pattern,
            secret: true,
            ..*self
        }
    }

    /// A path of the file system, relative to the folder of the configuration file.
    pub(super) fn resolve(&self, path: &str) -> PathBuf {
        self.context.folder().join(path)
    }

    /// The value for a message, as the file has it: variables are not expanded here, so that a secret that came in
    /// through one cannot come out through a message.
    pub(super) fn shown(&self) -> String {
        if self.secret {
            return "[redacted]".to_owned();
        }
        match self.raw {
            DeValue::String(text) if text.chars().count() > SHOWN_CHARS_MAX => {
                format!(
                    "{:?}...",
                    text.chars().take(SHOWN_CHARS_MAX).collect::<String>()
                )
            }
            DeValue::String(text) => format!("{text:?}"),
            DeValue::Integer(number) => number.to_string(),
            DeValue::Float(number) => number.to_string(),
            DeValue::Boolean(yes) => yes.to_string(),
            DeValue::Datetime(date) => date.to_string(),
            DeValue::Array(items) => format!("of length {}", items.len()),
            DeValue::Table(entries) => format!("of length {}", entries.len()),
        }
    }

    /// Notes a mistake and the value: `what (value); allowed`. Always `None`, so that a reader can end with it.
    pub(super) fn wrong<T>(
        &self,
        what: impl fmt::Display,
        allowed: impl fmt::Display,
    ) -> Option<T> {
        self.mistake(format_args!("{what} ({}); {allowed}", self.shown()))
    }

    /// Notes that the value is of another type.
    pub(super) fn wrong_type<T>(&self, allowed: impl fmt::Display) -> Option<T> {
        let found = match self.raw {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "an integer",
            DeValue::Float(_) => "a float",
            DeValue::Boolean(_) => "a boolean",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "an array",
            DeValue::Table(_) => "a table",
        };
        self.wrong(format_args!("is {found}"), allowed)
    }

    /// Notes a mistake that says all by itself. Always `None`.
    pub(super) fn mistake<T>(&self, message: impl fmt::Display) -> Option<T> {
        self.context.mistake(Some(self.line), &self.path, message);
        None
    }

    /// A string with its variables expanded; `allowed` is for one that is something else.
    pub(super) fn text(&self, allowed: impl fmt::Display) -> Option<String> {
        let DeValue::String(text) = self.raw else {
            return self.wrong_type(allowed);
        };
        match variables::expand(text, |name| self.context.world().variable(name)) {
            Ok(text) => Some(text),
            Err(error) => self.mistake(error),
        }
    }

    /// The items of an array, `listeners[0]` and so on.
    pub(super) fn items(&self, allowed: impl fmt::Display) -> Option<Vec<Self>> {
        let DeValue::Array(items) = self.raw else {
            return self.wrong_type(allowed);
        };
        let item = |(index, item): (usize, &'a Spanned<DeValue<'a>>)| {
            let path = format!("{}[{index}]", self.path);
            Self::new(
                self.context,
                path,
                self.pattern.clone(),
                (item.span().start, item.get_ref()),
            )
        };
        Some(items.iter().enumerate().map(item).collect())
    }

    /// Reads the value as a table.
    pub(super) fn table<T>(&self, read: impl FnOnce(&Table<'a>) -> T) -> Option<T> {
        let paths = (self.path.clone(), self.pattern.clone());
        Some(Table::read(
            self.context,
            paths,
            Some(self.entries()?),
            read,
        ))
    }

    /// The names and values of a table whose keys are names.
    pub(super) fn named(&self) -> Option<Vec<(&'a str, Self)>> {
        let pattern = join(&self.pattern, "NAME");
        let one = |(name, value): (&'a Spanned<DeString<'a>>, &'a Spanned<DeValue<'a>>)| {
            let path = join(&self.path, name.get_ref());
            let value = (name.span().start, value.get_ref());
            let value = Self::new(self.context, path, pattern.clone(), value);
            (name.get_ref().as_ref(), value)
        };
        Some(self.entries()?.iter().map(one).collect())
    }

    /// The keys and values of a table.
    pub(super) fn entries(&self) -> Option<&'a DeTable<'a>> {
        match self.raw {
            DeValue::Table(entries) => Some(entries),
            _ => self.wrong_type("write a table, { key = value, ... }"),
        }
    }
}

/// Notes a word that is not in a list of words.
pub(super) fn unknown_word<T>(value: &Value<'_>, word: &str, known: &[&str]) -> Option<T> {
    let meant = did_you_mean(word, known.iter().copied());
    value.wrong(
        "unknown word",
        format_args!("one of {}{meant}", known.join(", ")),
    )
}
