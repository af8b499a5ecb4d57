//! The documents against the program: what README.md, ARCHITECTURE.md and CONTRIBUTING.md name exists. Whether a sentence
//! is true is a reader's work; that a name in it is real is a test's.

use crate::rig::Rig;
use crate::support::certs::{Authority, Folder};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use tidegate::logic::close_reason::CloseReason;
use tidegate::logic::snapshot::EndpointState;

const DOCUMENTS: [&str; 4] = [
    "README.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "docs/performance.md",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The text of every `...` outside of fenced blocks.
fn code_spans(text: &str) -> Vec<&str> {
    let mut fenced = false;
    let mut spans = Vec::new();
    for line in text.lines() {
        if line.starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            spans.extend(line.split('`').skip(1).step_by(2));
        }
    }
    spans
}

/// The contents of every fenced block of this language.
fn blocks(text: &str, language: &str) -> Vec<String> {
    let start = format!("```{language}\n");
    text.split(start.as_str())
        .skip(1)
        .map(|rest| rest.split("```").next().unwrap_or_default().to_owned())
        .collect()
}

/// Longest runs of characters of identifiers.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
}

/// All files below a folder of the repository.
fn files(folder: &str) -> Vec<PathBuf> {
    let mut waiting = vec![root().join(folder)];
    let mut found = Vec::new();
    while let Some(path) = waiting.pop() {
        if path.is_dir() {
            let entries = std::fs::read_dir(&path).unwrap();
            waiting.extend(entries.map(|entry| entry.unwrap().path()));
        } else {
            found.push(path);
        }
    }
    found
}

/// All Rust code below these folders.
fn rust_text(folders: &[&str]) -> String {
    folders
        .iter()
        .flat_map(|folder| files(folder))
        .filter(|path| path.extension().is_some_and(|ending| ending == "rs"))
        .map(|path| std::fs::read_to_string(path).unwrap())
        .collect()
}

/// The rows of the tables between one heading and the next, as their cells.
fn rows<'t>(text: &'t str, heading: &str) -> Vec<Vec<&'t str>> {
    let section = text
        .split(&format!("\n{heading}\n"))
        .nth(1)
        .unwrap_or_else(|| panic!("no heading {heading:?}"));
    let section = section.split("\n#").next().unwrap_or_default();
    let rows: Vec<Vec<_>> = section
        .lines()
        .filter_map(|line| line.strip_prefix('|')?.strip_suffix('|'))
        .map(|row| row.split('|').map(str::trim).collect())
        .collect();
    assert!(!rows.is_empty(), "no table under {heading:?}");
    rows
}

/// The code spans in the first column of the tables under one heading.
fn first_column(text: &str, heading: &str) -> BTreeSet<String> {
    rows(text, heading)
        .iter()
        .flat_map(|row| code_spans(row[0]))
        .map(str::to_owned)
        .collect()
}

fn assert_all(what: &str, missing: &[String]) {
    assert!(missing.is_empty(), "{what}:\n{}", missing.join("\n"));
}

#[tokio::test]
async fn every_metric_in_the_readme_is_on_the_page() {
    let folder = Folder::new();
    let keys = folder.write(
        "gossip.keys",
        tidegate::cluster::generate_key().unwrap().expose(),
    );
    let cluster = format!(
        "[cluster]\nbind = \"127.0.0.1:0\"\nkeys_file = \"{}\"\n",
        keys.display()
    );
    let rig = Rig::start_with(&["127.0.0.1:1".parse().unwrap()], "", "", &cluster);
    let (status, page) = rig.get("/metrics").await;
    assert_eq!(status, 200);
    let known: BTreeSet<&str> = page
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        .collect();
    let readme = read("README.md");
    let named: BTreeSet<&str> = words(&readme)
        .filter(|word| word.starts_with("tidegate_"))
        .collect();
    assert!(named.len() > 10, "the walk finds only {named:?}");
    let source = rust_text(&["src"]);
    let missing: Vec<_> = named
        .difference(&known)
        .filter(|name| {
            let written = format!("\"{}\"", name.trim_end_matches("_total"));
            !SOMETIMES.contains(name) || !source.contains(&written)
        })
        .map(|name| (*name).to_owned())
        .collect();
    assert_all("metrics that no scrape shows", &missing);
}

/// Not on the rig's page: members that are heard, look-ups by DNS, a process that obeys signals.
const SOMETIMES: [&str; 3] = [
    "tidegate_cluster_record_age_seconds",
    "tidegate_discovery_last_success_age_seconds",
    "tidegate_reloads_total",
];

#[test]
fn every_key_in_the_readme_is_in_the_reference() {
    let mut known = BTreeSet::new();
    let mut table = String::new();
    for line in read("config/tidegate.toml").lines() {
        // "#key" is a setting that is off, "# Text" a comment.
        let line = line.strip_prefix('#').unwrap_or(line);
        if let Some(name) = line.strip_prefix('[') {
            let name = name.trim_matches(['[', ']']);
            let mut parts: Vec<_> = name.split('.').collect();
            if parts[0] == "pools" {
                parts[1] = "NAME";
            }
            table = parts.join(".");
            known.insert(table.clone());
        } else if let Some((key, _)) = line.split_once(" = ")
            && key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
        {
            known.insert(format!("{table}.{key}"));
        }
    }
    let named = first_column(&read("README.md"), "## Configuration");
    assert!(named.len() > 20, "the walk finds only {named:?}");
    let missing: Vec<_> = named.difference(&known).cloned().collect();
    assert_all("keys that config/tidegate.toml does not have", &missing);
}

#[test]
fn every_file_that_a_document_names_exists() {
    let mut missing = Vec::new();
    let mut seen = 0;
    for document in DOCUMENTS {
        let text = read(document);
        let links = text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
            .filter(|target| !target.starts_with("http") && !target.starts_with('#'));
        for name in code_spans(&text).into_iter().chain(links) {
            let first = name.trim_start_matches("./").split('/').next();
            // What begins with a slash is a path of the admin API, or of a host.
            let is_path = name.contains('/')
                && !name.starts_with('/')
                && !name.contains([' ', '*', '<', ':'])
                && first.is_some_and(|first| {
                    root().join(first).exists() || root().join("src").join(first).exists()
                });
            let is_file = [".rs", ".sh", ".md"]
                .iter()
                .any(|ending| name.ends_with(ending));
            if !is_path && (!is_file || name.contains(' ')) {
                continue;
            }
            seen += 1;
            // ARCHITECTURE.md names files as their modules do, from src.
            if !root().join(name).exists() && !root().join("src").join(name).exists() {
                missing.push(format!("{document}: {name}"));
            }
        }
    }
    assert!(seen > 40, "the walk finds only {seen} names");
    assert_all("files that are not there", &missing);
}

#[test]
fn every_test_that_a_document_names_exists() {
    let source = rust_text(&["src", "tests"]);
    let mut missing = Vec::new();
    for document in DOCUMENTS {
        for name in code_spans(&read(document)) {
            // A test's name is a claim, which takes more words than any other name has.
            let is_claim = name.matches('_').count() >= 4
                && !name.starts_with("tidegate_")
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
            if is_claim && !source.contains(&format!("fn {name}(")) {
                missing.push(format!("{document}: {name}"));
            }
        }
    }
    assert_all("tests that are not there", &missing);
}

#[test]
fn every_close_reason_and_endpoint_state_is_explained() {
    let readme = read("README.md");
    let reasons: BTreeSet<_> = CloseReason::ALL.map(|r| r.label().to_owned()).into();
    assert_eq!(first_column(&readme, "### Close reasons"), reasons);
    let states: BTreeSet<_> = EndpointState::ALL.map(|s| s.label().to_owned()).into();
    assert_eq!(first_column(&readme, "### Endpoint states"), states);
}

#[test]
fn every_command_that_is_named_exists() {
    let help = Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .arg("--help")
        .output()
        .unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let known: BTreeSet<_> = help
        .lines()
        .filter_map(|line| line.strip_prefix("  ")?.split_once(' '))
        .map(|(name, _)| name.to_owned())
        .collect();
    let named: BTreeSet<_> = first_column(&read("README.md"), "## Commands")
        .iter()
        .filter_map(|span| span.strip_prefix("tidegate ")?.split(' ').next())
        .map(str::to_owned)
        .collect();
    assert!(named.len() >= 9, "the walk finds only {named:?}");
    let missing: Vec<_> = named.difference(&known).cloned().collect();
    assert_all("commands that the program does not have", &missing);
}

#[test]
fn every_configuration_in_the_readme_is_accepted() {
    let folder = Folder::new();
    let identity = Authority::new().listener(&["localhost"]);
    folder.write("server.crt", &identity.cert_pem);
    folder.write("server.key", &identity.key_pem);
    folder.write("admin.token", "token");
    let key = tidegate::cluster::generate_key().unwrap();
    folder.write("gossip.keys", key.expose());
    let examples = blocks(&read("README.md"), "toml");
    assert!(examples.len() >= 3, "only {} examples", examples.len());
    for example in examples {
        let path = folder.write("tidegate.toml", &example);
        if let Err(mistakes) = tidegate::config::load(&path) {
            panic!("{example}\n{mistakes}");
        }
    }
}
