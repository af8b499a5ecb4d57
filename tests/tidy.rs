//! House rules that a compiler does not know: the layer table, what may be named where, the shape of files.
//!
//! The checks read the source as text, without comments, strings and test code (`tidy/source.rs`). A rule that stands
//! in the way of better code is changed here, in the table that it comes from, with the reason beside it.

#[path = "tidy/rules.rs"]
mod rules;
#[path = "tidy/source.rs"]
mod source;

use source::SourceFile;
use std::fs;
use std::path::{Path, PathBuf};

/// Every file under `folder` whose extension is listed, with its path relative to the repository.
fn files(folder: &str, extensions: &[&str]) -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    let mut waiting: Vec<PathBuf> = vec![root.join(folder)];
    while let Some(path) = waiting.pop() {
        if path.is_dir() {
            if path
                .file_name()
                .is_some_and(|name| name == "target" || name == "corpus")
            {
                continue;
            }
            let entries = fs::read_dir(&path).expect("a folder of the repository is readable");
            waiting.extend(entries.map(|entry| entry.expect("a readable entry").path()));
        } else if path
            .extension()
            .is_some_and(|e| extensions.iter().any(|known| e == *known))
        {
            let relative = path.strip_prefix(root).expect("inside the repository");
            let text = fs::read_to_string(&path).expect("source files are UTF-8");
            found.push((relative.to_string_lossy().replace('\\', "/"), text));
        }
    }
    found.sort();
    found
}

/// The library and the binary, parsed.
fn source_files() -> Vec<SourceFile> {
    let files: Vec<_> = files("src", &["rs"])
        .into_iter()
        .map(|(path, text)| SourceFile::new(&path, &text))
        .collect();
    // A walk that finds nothing would pass every check below.
    assert!(
        files.len() >= 20,
        "only {} files under src: is the walk broken?",
        files.len()
    );
    let of_tests: Vec<String> = files.iter().flat_map(SourceFile::test_files).collect();
    let is_test = |path: &str| {
        let inside = path.trim_end_matches(".rs");
        of_tests
            .iter()
            .any(|file| inside == file || inside.starts_with(&format!("{file}/")))
    };
    files
        .into_iter()
        .map(|file| {
            if is_test(&file.path) {
                file.into_test_code()
            } else {
                file
            }
        })
        .collect()
}

fn assert_none(violations: &[String]) {
    assert!(violations.is_empty(), "\n{}\n", violations.join("\n"));
}

fn check(rule: fn(&SourceFile) -> Vec<String>) {
    assert_none(&source_files().iter().flat_map(rule).collect::<Vec<_>>());
}

#[test]
fn imports_point_down() {
    check(rules::imports_point_down);
}

#[test]
fn every_module_has_a_layer() {
    check(rules::module_has_a_layer);
}

#[test]
fn logic_is_pure() {
    check(rules::logic_is_pure);
}

#[test]
fn confined_crates_stay_where_they_are() {
    check(rules::crates_are_confined);
}

#[test]
fn exceptions_to_lints_are_expected_not_allowed() {
    check(rules::no_allow_attribute);
}

#[test]
fn files_begin_with_their_purpose() {
    check(rules::begins_with_purpose);
}

#[test]
fn files_stay_short() {
    check(rules::file_is_short);
}

#[test]
fn the_ratchet_names_only_long_files() {
    let files = source_files();
    let stale: Vec<String> = rules::LONG_FILES
        .iter()
        .filter(|(path, _)| {
            !files
                .iter()
                .any(|file| file.path == *path && file.lines() > rules::FILE_LINES_MAX)
        })
        .map(|(path, _)| format!("{path} is gone or short: take it out of LONG_FILES"))
        .collect();
    assert_none(&stale);
}

#[test]
fn text_has_no_tabs_and_no_trailing_spaces() {
    let mut texts = source_texts();
    texts.extend(top_level_texts());
    assert_none(
        &texts
            .iter()
            .flat_map(|(path, text)| rules::clean_whitespace(path, text))
            .collect::<Vec<_>>(),
    );
}

fn source_texts() -> Vec<(String, String)> {
    [
        "src", "tests", "examples", "benches", "fuzz", "scripts", "config", "deploy",
    ]
    .into_iter()
    .filter(|folder| Path::new(env!("CARGO_MANIFEST_DIR")).join(folder).is_dir())
    .flat_map(|folder| files(folder, &["rs", "sh", "py", "toml", "md", "yaml"]))
    .collect()
}

fn top_level_texts() -> Vec<(String, String)> {
    let names = [
        "README.md",
        "ARCHITECTURE.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "Cargo.toml",
        "deny.toml",
    ];
    names
        .into_iter()
        .map(|name| (name.to_owned(), top_level(name)))
        .collect()
}

fn top_level(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name))
        .expect("the files that every repository has are there")
}

#[test]
fn changelog_has_an_unreleased_section() {
    assert!(
        top_level("CHANGELOG.md")
            .lines()
            .any(|line| line == "## Unreleased")
    );
}

#[test]
fn scripts_stop_at_the_first_error() {
    let scripts = files("scripts", &["sh"]);
    assert!(!scripts.is_empty(), "no scripts found: is the walk broken?");
    let careless: Vec<String> = scripts
        .iter()
        // A file that is sourced takes the caller's settings.
        .filter(|(path, text)| !path.ends_with("/lib.sh") && !text.contains("set -euo pipefail"))
        .map(|(path, _)| format!("{path}: no `set -euo pipefail`"))
        .collect();
    assert_none(&careless);
}

#[test]
fn architecture_names_every_module() {
    let text = top_level("ARCHITECTURE.md");
    let missing: Vec<String> = rules::LAYERS
        .iter()
        .flat_map(|(_, modules)| modules.iter())
        .filter(|module| {
            !text.contains(&format!("`{module}`")) && !text.contains(&format!("{module}/"))
        })
        .map(|module| format!("ARCHITECTURE.md says nothing about `{module}`"))
        .collect();
    assert_none(&missing);
}
