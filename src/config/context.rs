//! One reading of one file: where things are, what is wrong with them, and which keys were asked for.

use super::mistake::Mistake;
use super::nearest::nearest;
use super::world::World;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

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

    /// The folder of the file, which paths in it are relative to.
    pub(super) fn folder(&self) -> &'a Path {
        self.file.parent().unwrap_or_else(|| Path::new(""))
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

    /// Notes that a key is known, by its pattern.
    pub(super) fn known(&self, pattern: &str) {
        self.notes.borrow_mut().known.insert(pattern.to_owned());
    }

    /// Notes where a value is; gives the line.
    pub(super) fn found(&self, path: &str, offset: usize) -> usize {
        let line = self.line(offset);
        self.notes.borrow_mut().places.insert(path.to_owned(), line);
        line
    }

    /// Notes a key that no one asked for, beside those that were.
    pub(super) fn unknown(&self, path: String, offset: usize, siblings: Vec<&'static str>) {
        let line = self.line(offset);
        let unknown = UnknownKey {
            line,
            path,
            siblings,
        };
        self.notes.borrow_mut().unknown.push(unknown);
    }

    /// Ends the reading: judges the unknown keys and sorts everything by line.
    pub(super) fn finish(self) -> Findings {
        let mut notes = self.notes.take();
        for unknown in std::mem::take(&mut notes.unknown) {
            let message = unknown.message(&notes.known);
            let mistake = self.note(Some(unknown.line), &unknown.path, message);
            notes.mistakes.push(mistake);
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

impl UnknownKey {
    /// A sibling's typing error, or a key that is right in another table.
    fn message(&self, known: &BTreeSet<String>) -> String {
        let key = self.path.rsplit('.').next().unwrap_or_default();
        if let Some(sibling) = nearest(key, self.siblings.iter().copied()) {
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
            format!("unknown key; known here: {}", self.siblings.join(", "))
        } else {
            format!("unknown key here; it belongs to {}", homes.join(" or "))
        }
    }
}
