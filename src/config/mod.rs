//! From the TOML file to validated settings: every mistake at once, each with its line and key path.
//!
//! Reading order: [`load_with`], then `resolve` (the keys), `table` and `words` (how a table and a value are read).
//! The keys themselves are documented on the modules' `Settings` and in `config/tidegate.toml`.
//!
//! Absent on purpose: includes, several files, a key that means two things.

mod context;
mod mistake;
mod nearest;
mod redact;
mod resolve;
mod settings;
mod table;
mod units;
mod value;
mod variables;
mod words;
mod world;

pub use mistake::{Errors, Mistake};
pub use settings::{
    AccessLog, Config, DrainSettings, InstanceSettings, LogFormat, LogSettings, PoolConfig,
};
pub use world::{System, World};

use context::{Context, Findings};
use std::collections::BTreeSet;
use std::path::Path;
use table::Table;
use toml::de::DeTable;

/// The parser's word for a key that is there twice. It keeps the first and goes on unharmed, so the rest of the file can
/// be judged all the same; after any other syntax error, keys may have been lost.
const DUPLICATE_KEY: &str = "duplicate key";

/// A good configuration and what came up while it was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// The settings.
    pub config: Config,
    /// What works and is probably not meant.
    pub warnings: Vec<Mistake>,
    /// Every key that the code asked for, as patterns: `pools.NAME.health.interval`.
    pub known_keys: BTreeSet<String>,
}

/// Reads and checks a configuration file.
///
/// # Errors
/// Every mistake of the file, not only the first.
pub fn load(path: &Path) -> Result<Config, Errors> {
    load_with(path, &System).map(|loaded| loaded.config)
}

/// Reads and checks a configuration file in a given world.
///
/// # Errors
/// Every mistake of the file, not only the first.
pub fn load_with(path: &Path, world: &dyn World) -> Result<Loaded, Errors> {
    let failed = |line, message: String| {
        let (file, key) = (path.to_owned(), String::new());
        Errors {
            file: path.to_owned(),
            mistakes: vec![Mistake {
                file,
                line,
                key,
                message,
            }],
        }
    };
    let content = world
        .read(path)
        .map_err(|error| failed(None, format!("cannot read the file: {error}")))?;
    let text = String::from_utf8(content).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = good.split(|byte| *byte == b'\n').count();
        failed(Some(line), "not UTF-8; TOML is UTF-8 text".to_owned())
    })?;
    parse(path, &text, world)
}

fn parse(path: &Path, text: &str, world: &dyn World) -> Result<Loaded, Errors> {
    let context = Context::new(path, text, world);
    let (entries, syntax_errors) = DeTable::parse_recoverable(text);
    for error in &syntax_errors {
        syntax_mistake(&context, text, error);
    }
    let entries = entries.into_inner();
    let whole = syntax_errors
        .iter()
        .all(|error| error.message() == DUPLICATE_KEY);
    let config = whole.then(|| Table::root(&context, &entries, resolve::resolve));
    let Findings {
        mistakes,
        warnings,
        known,
    } = context.finish();
    match config {
        Some(config) if mistakes.is_empty() => Ok(Loaded {
            config,
            warnings,
            known_keys: known,
        }),
        _ => Err(Errors {
            file: path.to_owned(),
            mistakes,
        }),
    }
}

fn syntax_mistake(context: &Context<'_>, text: &str, error: &toml::de::Error) {
    let span = error.span();
    let line = span.as_ref().map(|span| context.line(span.start));
    if error.message() == DUPLICATE_KEY {
        let key = span.and_then(|span| text.get(span)).unwrap_or_default();
        context.mistake(line, key, "duplicate key; the same table has it already");
    } else {
        context.mistake(line, "", format_args!("syntax: {}", error.message()));
    }
}
