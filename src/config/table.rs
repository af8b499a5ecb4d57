//! Reading TOML tables so that every mistake is found, not only the first.
//!
//! A [`Table`] is asked for its keys one by one. It notes every key that it was asked for, so what is left over is
//! unknown; a value that is wrong is noted with its line, and reading goes on. serde's derive is absent on purpose: it
//! stops at the first error and knows no ranges.
//!
//! Reading order: [`Table::get`], [`Value::wrong`], [`Context::finish`].

use super::mistake::Mistake;
use super::nearest::{did_you_mean, nearest};
use super::variables;
use super::world::World;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use toml::de::{DeTable, DeValue};

/// Longest value that is shown in a message, in characters.
const SHOWN_CHARS_MAX: usize = 60;

/// One reading of one file.
pub(super) struct Context<'a> {
    file: &'a Path,
    world: &'a dyn World,
    /// Byte offset of each line's start.
    lines: Vec<usize>,
    notes: RefCell<Notes>,
}

/// What a reading collects on its way.
#[derive(Default)]
struct Notes {
    mistakes: Vec<Mistake>,
    warnings: Vec<Mistake>,
    /// Judged at the end, when the keys of every table are known.
    unknown: Vec<UnknownKey>,
    /// Every key that was asked for, as a pattern: `pools.NAME.health.interval`.
    known: BTreeSet<String>,
    /// Line of every key that is in the file, by key path.
    places: BTreeMap<String, usize>,
}

/// A key that no one asked for.
struct UnknownKey {
    line: usize,
    path: String,
    key: String,
    siblings: Vec<&'static str>,
}

/// What a reading found.
pub(super) struct Findings {
    /// In the order of the lines.
    pub(super) mistakes: Vec<Mistake>,
    /// In the order of the lines.
    pub(super) warnings: Vec<Mistake>,
    /// Every key that was asked for, as a pattern: `pools.NAME.health.interval`.
    pub(super) known: BTreeSet<String>,
}

impl<'a> Context<'a> {
    pub(super) fn new(file: &'a Path, text: &str, world: &'a dyn World) -> Self {
        let starts = text
            .bytes()
            .enumerate()
            .filter(|(_, byte)| *byte == b'\n')
            .map(|(at, _)| at + 1);
        let lines = std::iter::once(0).chain(starts).collect();
        Self {
            file,
            world,
            lines,
            notes: RefCell::default(),
        }
    }

    /// Files, environment, host name.
    pub(super) fn world(&self) -> &'a dyn World {
        self.world
    }

    /// The line of a byte offset, from 1.
    pub(super) fn line(&self, offset: usize) -> usize {
        self.lines.partition_point(|start| *start <= offset)
    }

    /// Notes a mistake of the syntax or of the file as a whole.
    pub(super) fn mistake(&self, line: Option<usize>, key: &str, message: impl fmt::Display) {
        let mistake = self.note(line, key, message);
        self.notes.borrow_mut().mistakes.push(mistake);
    }

    /// Notes a mistake of a key, on its line, or on the line of the nearest table around it that is in the file.
    pub(super) fn mistake_at(&self, path: &str, message: impl fmt::Display) {
        self.mistake(self.place(path), path, message);
    }

    /// Notes something that works and is probably not meant, placed like [`Self::mistake_at`].
    pub(super) fn warning_at(&self, path: &str, message: impl fmt::Display) {
        let warning = self.note(self.place(path), path, message);
        self.notes.borrow_mut().warnings.push(warning);
    }

    fn note(&self, line: Option<usize>, key: &str, message: impl fmt::Display) -> Mistake {
        let (file, key, message) = (self.file.to_owned(), key.to_owned(), message.to_string());
        Mistake {
            file,
            line,
            key,
            message,
        }
    }

    fn place(&self, path: &str) -> Option<usize> {
        let notes = self.notes.borrow();
        let ends = path.match_indices(['.', '[']).map(|(at, _)| at);
        let ends = ends.chain([path.len()]).collect::<Vec<_>>();
        ends.into_iter()
            .rev()
            .find_map(|end| notes.places.get(&path[..end]).copied())
    }

    /// The whole file as a table.
    pub(super) fn root<T>(
        &'a self,
        entries: &'a DeTable<'a>,
        read: impl FnOnce(&Table<'a>) -> T,
    ) -> T {
        let table = Table {
            context: self,
            path: String::new(),
            pattern: String::new(),
            entries: Some(entries),
            asked: RefCell::default(),
        };
        let result = read(&table);
        table.finish();
        result
    }

    /// Ends the reading: judges the unknown keys and sorts everything by line.
    pub(super) fn finish(self) -> Findings {
        let mut notes = self.notes.take();
        for UnknownKey {
            line,
            path,
            key,
            siblings,
        } in std::mem::take(&mut notes.unknown)
        {
            let message = unknown_key_message(&key, &siblings, &notes.known);
            notes.mistakes.push(self.note(Some(line), &path, message));
        }
        notes.mistakes.sort_by_key(|mistake| mistake.line);
        notes.warnings.sort_by_key(|warning| warning.line);
        Findings {
            mistakes: notes.mistakes,
            warnings: notes.warnings,
            known: notes.known,
        }
    }
}

/// A sibling's typing error, or a key that is right in another table.
fn unknown_key_message(key: &str, siblings: &[&'static str], known: &BTreeSet<String>) -> String {
    if let Some(sibling) = nearest(key, siblings.iter().copied()) {
        return format!("unknown key; did you mean \"{sibling}\"?");
    }
    let homes = known
        .iter()
        .filter_map(|pattern| match pattern.rsplit_once('.') {
            Some((table, last)) => (last == key).then(|| format!("[{table}]")),
            None => (pattern == key).then(|| "the top level".to_owned()),
        })
        .collect::<Vec<_>>();
    if homes.is_empty() {
        format!("unknown key; known here: {}", siblings.join(", "))
    } else {
        format!("unknown key here; it belongs to {}", homes.join(" or "))
    }
}

/// One table of the file, or one that is absent and thus holds nothing but defaults.
pub(super) struct Table<'a> {
    context: &'a Context<'a>,
    path: String,
    pattern: String,
    entries: Option<&'a DeTable<'a>>,
    asked: RefCell<Vec<&'static str>>,
}

impl<'a> Table<'a> {
    pub(super) fn context(&self) -> &'a Context<'a> {
        self.context
    }

    /// The key path of this table: `pools.emqx`.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// The key path of one of its keys: `pools.emqx.policy`.
    pub(super) fn path_of(&self, key: &str) -> String {
        join(&self.path, key)
    }

    /// Whether the key is in the file.
    pub(super) fn has(&self, key: &str) -> bool {
        self.entries
            .is_some_and(|entries| entries.contains_key(key))
    }

    /// Reads a key. `None` when it is absent, or wrong, which `read` has noted then.
    pub(super) fn get<T>(
        &self,
        key: &'static str,
        read: impl FnOnce(&Value<'a>) -> Option<T>,
    ) -> Option<T> {
        let pattern = join(&self.pattern, key);
        self.context
            .notes
            .borrow_mut()
            .known
            .insert(pattern.clone());
        if !self.asked.borrow().contains(&key) {
            self.asked.borrow_mut().push(key);
        }
        let (name, value) = self.entries?.get_key_value(key)?;
        read(&Value::new(
            self.context,
            self.path_of(key),
            pattern,
            (name.span().start, value.get_ref()),
        ))
    }

    /// Reads a key that has no default; its absence is a mistake that says what to write.
    pub(super) fn required<T>(
        &self,
        key: &'static str,
        what_to_write: &str,
        read: impl FnOnce(&Value<'a>) -> Option<T>,
    ) -> Option<T> {
        if !self.has(key) {
            self.context.mistake_at(
                &self.path_of(key),
                format!("missing; write {what_to_write}"),
            );
        }
        self.get(key, read)
    }

    /// Reads a table that is optional as a whole and whose keys all have defaults.
    pub(super) fn table<T>(&self, key: &'static str, read: impl FnOnce(&Self) -> T) -> T {
        let mut entries = None;
        self.get(key, |value| {
            entries = value.entries();
            Some(())
        });
        let (path, pattern) = (self.path_of(key), join(&self.pattern, key));
        let table = Self {
            context: self.context,
            path,
            pattern,
            entries,
            asked: RefCell::default(),
        };
        let result = read(&table);
        table.finish();
        result
    }

    /// Reads the tables of a table whose keys are names that the operator chose: `[pools.NAME]`.
    pub(super) fn named_tables<T>(
        &self,
        key: &'static str,
        mut read: impl FnMut(&str, &Self) -> T,
    ) -> Vec<T> {
        let read_all = |value: &Value<'a>| {
            let pattern = join(&value.pattern, "NAME");
            let one = |(name, inner): (&'a str, Value<'a>)| {
                let inner = Value {
                    pattern: pattern.clone(),
                    ..inner
                };
                inner.table(|table| read(name, table))
            };
            Some(value.named()?.into_iter().filter_map(one).collect())
        };
        self.get(key, read_all).unwrap_or_default()
    }

    /// Notes the keys that no one has asked for.
    fn finish(self) {
        let siblings = self.asked.into_inner();
        for (key, _) in self.entries.into_iter().flatten() {
            if !siblings.contains(&key.get_ref().as_ref()) {
                let line = self.context.line(key.span().start);
                let (path, siblings) = (join(&self.path, key.get_ref()), siblings.clone());
                let key = key.get_ref().clone().into_owned();
                let unknown = UnknownKey {
                    line,
                    path,
                    key,
                    siblings,
                };
                self.context.notes.borrow_mut().unknown.push(unknown);
            }
        }
    }
}

/// One value of the file.
pub(super) struct Value<'a> {
    context: &'a Context<'a>,
    path: String,
    pattern: String,
    line: usize,
    value: &'a DeValue<'a>,
    secret: bool,
}

impl<'a> Value<'a> {
    fn new(
        context: &'a Context<'a>,
        path: String,
        pattern: String,
        (offset, value): (usize, &'a DeValue<'a>),
    ) -> Self {
        let line = context.line(offset);
        context.notes.borrow_mut().places.insert(path.clone(), line);
        Self {
            context,
            path,
            pattern,
            line,
            value,
            secret: false,
        }
    }

    /// The value as the parser gave it.
    pub(super) fn raw(&self) -> &'a DeValue<'a> {
        self.value
    }

    pub(super) fn path(&self) -> &str {
        &self.path
    }

    pub(super) fn world(&self) -> &'a dyn World {
        self.context.world
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
        self.context
            .file
            .parent()
            .unwrap_or(Path::new(""))
            .join(path)
    }

    /// The value for a message, as the file has it: variables are not expanded here, so that a secret that came in
    /// through one cannot come out through a message.
    pub(super) fn shown(&self) -> String {
        if self.secret {
            return "[redacted]".to_owned();
        }
        match self.value {
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
        let found = match self.value {
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
        let DeValue::String(text) = self.value else {
            return self.wrong_type(allowed);
        };
        match variables::expand(text, |name| self.context.world.variable(name)) {
            Ok(text) => Some(text),
            Err(error) => self.mistake(error),
        }
    }

    /// The items of an array, `listeners[0]` and so on.
    pub(super) fn items(&self, allowed: impl fmt::Display) -> Option<Vec<Self>> {
        let DeValue::Array(items) = self.value else {
            return self.wrong_type(allowed);
        };
        let item = |(index, item): (usize, &'a toml::Spanned<DeValue<'a>>)| {
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
        let table = Table {
            context: self.context,
            path: self.path.clone(),
            pattern: self.pattern.clone(),
            entries: Some(self.entries()?),
            asked: RefCell::default(),
        };
        let result = read(&table);
        table.finish();
        Some(result)
    }

    /// The names and values of a table whose keys are names.
    fn named(&self) -> Option<Vec<(&'a str, Self)>> {
        let entry = |(name, value): (&'a toml::Spanned<_>, &'a toml::Spanned<_>)| {
            let (name, offset): (&'a std::borrow::Cow<'_, str>, _) =
                (name.get_ref(), name.span().start);
            let path = join(&self.path, name);
            let value = (offset, value.get_ref());
            (
                name.as_ref(),
                Self::new(self.context, path, self.pattern.clone(), value),
            )
        };
        Some(self.entries()?.iter().map(entry).collect())
    }

    fn entries(&self) -> Option<&'a DeTable<'a>> {
        match self.value {
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

fn join(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}
