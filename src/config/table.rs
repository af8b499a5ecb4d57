//! Reading TOML tables so that every mistake is found, not only the first.
//!
//! A [`Table`] is asked for its keys one by one. It notes every key that it was asked for, so what is left over is
//! unknown; a value that is wrong is noted with its line, and reading goes on. serde's derive is absent on purpose: it
//! stops at the first error and knows no ranges.

use super::context::Context;
use super::value::Value;
use std::cell::RefCell;
use toml::de::DeTable;

/// One table of the file, or one that is absent and thus holds nothing but defaults.
pub(super) struct Table<'a> {
    context: &'a Context<'a>,
    path: String,
    pattern: String,
    entries: Option<&'a DeTable<'a>>,
    asked: RefCell<Vec<&'static str>>,
}

impl<'a> Table<'a> {
    /// Reads the whole file.
    pub(super) fn root<T>(
        context: &'a Context<'a>,
        entries: &'a DeTable<'a>,
        read: impl FnOnce(&Self) -> T,
    ) -> T {
        Self::read(context, (String::new(), String::new()), Some(entries), read)
    }

    /// Reads a table, given its path, its pattern and its entries.
    pub(super) fn read<T>(
        context: &'a Context<'a>,
        (path, pattern): (String, String),
        entries: Option<&'a DeTable<'a>>,
        read: impl FnOnce(&Self) -> T,
    ) -> T {
        let asked = RefCell::default();
        let table = Self {
            context,
            path,
            pattern,
            entries,
            asked,
        };
        let result = read(&table);
        table.finish();
        result
    }

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
        self.context.known(&pattern);
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
        let paths = (self.path_of(key), join(&self.pattern, key));
        Self::read(self.context, paths, entries, read)
    }

    /// Reads the tables of a table whose keys are names that the operator chose: `[pools.NAME]`.
    pub(super) fn named_tables<T>(
        &self,
        key: &'static str,
        mut read: impl FnMut(&str, &Self) -> T,
    ) -> Vec<T> {
        let read_all = |value: &Value<'a>| {
            let one = |(name, inner): (&str, Value<'a>)| inner.table(|table| read(name, table));
            Some(value.named()?.into_iter().filter_map(one).collect())
        };
        self.get(key, read_all).unwrap_or_default()
    }

    /// Notes the keys that no one has asked for.
    fn finish(self) {
        let siblings = self.asked.into_inner();
        for (key, _) in self.entries.into_iter().flatten() {
            if !siblings.contains(&key.get_ref().as_ref()) {
                let path = join(&self.path, key.get_ref());
                self.context
                    .unknown(path, key.span().start, siblings.clone());
            }
        }
    }
}

/// A key path and one key more.
pub(super) fn join(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}
