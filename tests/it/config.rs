//! The configuration from outside: fixtures, the files in `config/`, and the real binary's `check`.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tidegate::config::{Errors, Loaded, World, load_with};
use tidegate::logic::secret::Secret;

/// What no message, no JSON and no Debug may show: the passwords of the fixtures and of [`Desk`].
const SECRETS: [&str; 4] = ["hunter2", "correct horse", "admin-token", GOOD_KEY];

const GOOD_KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const OTHER_KEY: &str = "//79/Pv6+fj39vX08/Lx8O/u7ezr6uno5+bl5OPi4eA=";

/// A world of fixtures: configuration files are real, everything that they refer to is here.
#[derive(Default)]
struct Desk {
    /// Stands for the content of every configuration file.
    content: Option<Vec<u8>>,
}

impl Desk {
    fn file(name: &str) -> Option<Vec<u8>> {
        let content = match name {
            "server.crt" | "server.key" | "clients.crt" => "-----BEGIN".to_owned(),
            "admin.token" | "probe.password" => " admin-token\n".to_owned(),
            "empty.token" => " \n".to_owned(),
            "two_lines.token" => "correct horse\nbattery staple\n".to_owned(),
            "gossip.keys" => format!("# ours\n\n{GOOD_KEY}\n  {OTHER_KEY} # the old one\n"),
            "comments.keys" => "# none yet\n".to_owned(),
            "broken.keys" => format!(
                "{GOOD_KEY}\nhunter2\n# fine\n{}=\nhunter2!\n",
                &GOOD_KEY[..39]
            ),
            "binary.token" => return Some(vec![0xff, 0xfe]),
            _ => return None,
        };
        Some(content.into_bytes())
    }
}

impl World for Desk {
    fn variable(&self, name: &str) -> Option<String> {
        let value = match name {
            "MQTT_PASSWORD" => "correct horse",
            "KEYS_FOLDER" => "keys",
            "DOMAIN" => "emqx.internal",
            "EMPTY" => "",
            _ => return None,
        };
        Some(value.to_owned())
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        let is_config = path
            .extension()
            .is_some_and(|extension| extension == "toml");
        match &self.content {
            Some(content) if is_config => Ok(content.clone()),
            None if is_config => std::fs::read(path),
            _ => Self::file(name).ok_or_else(|| io::Error::from_raw_os_error(2)),
        }
    }

    fn host_name(&self) -> String {
        "host-1".to_owned()
    }
}

fn load_file(path: &Path) -> Result<Loaded, Errors> {
    load_with(path, &Desk::default())
}

fn load_text(text: &str) -> Result<Loaded, Errors> {
    load_bytes(text.as_bytes())
}

fn load_bytes(content: &[u8]) -> Result<Loaded, Errors> {
    load_with(
        Path::new("test.toml"),
        &Desk {
            content: Some(content.to_owned()),
        },
    )
}

/// The TOML files of a folder, relative to the package, so that messages are the same everywhere. Fails on an empty one.
fn toml_files(folder: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = entries
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "toml")
        })
        .collect();
    files.sort();
    assert!(!files.is_empty(), "no file in {folder}");
    files
}

fn assert_no_secret(text: &str) {
    for secret in SECRETS {
        assert!(!text.contains(secret), "shows {secret:?}: {text}");
    }
}

/// `TIDEGATE_BLESS=1 cargo test` writes what is printed now into the expectations, for review in the diff.
#[test]
fn broken_files_give_every_mistake_word_for_word() {
    let files = toml_files("tests/fixtures/config/invalid");
    assert!(files.len() >= 12, "{} files", files.len());
    for file in files {
        let errors = load_file(&file).expect_err(&file.display().to_string());
        let printed = format!("{errors}\n");
        assert_no_secret(&printed);
        let expected = file.with_extension("expected");
        if std::env::var_os("TIDEGATE_BLESS").is_some() {
            std::fs::write(&expected, &printed).unwrap();
        }
        let expected = std::fs::read_to_string(&expected).unwrap_or_default();
        assert!(
            printed == expected,
            "{}\n{printed}\nexpected:\n{expected}",
            file.display()
        );
    }
}

#[test]
fn good_files_give_no_mistake_and_no_warning() {
    let folders = ["tests/fixtures/config/valid", "config"];
    for file in folders.into_iter().flat_map(toml_files) {
        let loaded = load_file(&file).unwrap_or_else(|errors| panic!("{errors}"));
        assert_eq!(loaded.warnings, [], "{}", file.display());
        assert_no_secret(&loaded.config.redacted_json().to_string());
        assert_no_secret(&format!("{:?}", loaded.config));
    }
}

/// In the reference `#key = value` is a setting that is commented out and `# Text` is a comment.
fn reference_with_every_key() -> String {
    let text = std::fs::read_to_string("config/tidegate.toml").unwrap();
    let uncomment = |line: &str| match line.strip_prefix('#') {
        Some(setting) if setting.starts_with(|c: char| c.is_ascii_lowercase() || c == '[') => {
            format!("{setting}\n")
        }
        _ => format!("{line}\n"),
    };
    text.lines().map(uncomment).collect()
}

fn load_reference() -> Loaded {
    load_text(&reference_with_every_key()).unwrap_or_else(|errors| panic!("{errors}"))
}

/// Key paths of a JSON or TOML tree, with the pools' names as NAME and without the arrays' indexes.
fn key_patterns(tree: &serde_json::Value, path: &str, patterns: &mut BTreeSet<String>) {
    match tree {
        serde_json::Value::Object(entries) => {
            for (key, inner) in entries {
                let key = if path == "pools" { "NAME" } else { key };
                let path = if path.is_empty() {
                    key.to_owned()
                } else {
                    format!("{path}.{key}")
                };
                key_patterns(inner, &path, patterns);
                patterns.insert(path);
            }
        }
        serde_json::Value::Array(items) => {
            for item in items {
                key_patterns(item, path, patterns);
            }
        }
        _ => {}
    }
    patterns.remove("pools.NAME");
}

#[test]
fn the_reference_names_every_key_that_the_code_knows() {
    let known = load_reference().known_keys;
    assert!(known.contains("pools.NAME.health.interval"), "{known:?}");
    let tree: serde_json::Value = toml::from_str(&reference_with_every_key()).unwrap();
    let mut named = BTreeSet::new();
    key_patterns(&tree, "", &mut named);
    assert_eq!(
        known.difference(&named).collect::<Vec<_>>(),
        Vec::<&String>::new(),
        "not named"
    );
    assert_eq!(
        named.difference(&known).collect::<Vec<_>>(),
        Vec::<&String>::new(),
        "not known"
    );
}

#[test]
fn every_line_of_the_reference_that_is_not_commented_out_is_a_default() {
    let reference = load_file(Path::new("config/tidegate.toml")).unwrap().config;
    let minimal = load_file(Path::new("config/minimal.toml")).unwrap().config;
    assert_eq!(reference, minimal);
}

#[test]
fn the_probes_of_the_reference_show_their_defaults() {
    let reference = load_reference().config.redacted_json();
    let defaults = |probe: &str| {
        let text = format!(
            "[[listeners]]\nbind = '0.0.0.0:1883'\n[pools.p]\nendpoints = ['127.0.0.1:1']\nhealth.probe = '{probe}'"
        );
        load_text(&text).unwrap().config.redacted_json()["pools"]["p"]["health"].clone()
    };
    let http = &reference["pools"]["http-probe"]["health"];
    assert_eq!(*http, defaults("http"));
    let mut mqtt = reference["pools"]["mqtt-probe"]["health"].clone();
    mqtt["client_id"] = "tidegate-probe-host-1".into();
    mqtt["username"] = serde_json::Value::Null;
    mqtt["password"] = serde_json::Value::Null;
    assert_eq!(mqtt, defaults("mqtt"));
}

#[test]
fn the_api_shows_every_key_that_the_file_can_have() {
    let loaded = load_reference();
    let mut shown = BTreeSet::new();
    key_patterns(&loaded.config.redacted_json(), "", &mut shown);
    // A password has two sources and is shown once.
    shown.insert("pools.NAME.health.password_file".to_owned());
    assert_eq!(shown, loaded.known_keys);
}

#[test]
fn what_the_api_shows_is_a_file_that_means_the_same() {
    for file in [
        "config/minimal.toml",
        "tests/fixtures/config/valid/every_form.toml",
    ] {
        let config = load_file(Path::new(file)).unwrap().config;
        let shown = without_null(config.redacted_json());
        let shown = toml_text(&shown).replace("[redacted]", "correct horse");
        let again = load_text(&shown)
            .unwrap_or_else(|errors| panic!("{errors}\n{shown}"))
            .config;
        assert_eq!(again.redacted_json(), config.redacted_json(), "{file}");
    }
}

fn without_null(tree: serde_json::Value) -> serde_json::Value {
    use serde_json::Value;
    match tree {
        Value::Object(entries) => {
            let entries = entries.into_iter().filter(|(_, value)| !value.is_null());
            Value::Object(
                entries
                    .map(|(key, value)| (key, without_null(value)))
                    .collect(),
            )
        }
        Value::Array(items) => Value::Array(items.into_iter().map(without_null).collect()),
        other => other,
    }
}

/// A JSON tree as one line of TOML per top-level key: inline tables differ from objects in the sign between key and
/// value alone.
fn toml_text(tree: &serde_json::Value) -> String {
    use serde_json::Value;
    fn inline(value: &Value) -> String {
        match value {
            Value::Object(entries) => {
                let entries = entries
                    .iter()
                    .map(|(key, value)| format!("{key:?} = {}", inline(value)));
                format!("{{ {} }}", entries.collect::<Vec<_>>().join(", "))
            }
            Value::Array(items) => {
                format!(
                    "[{}]",
                    items.iter().map(inline).collect::<Vec<_>>().join(", ")
                )
            }
            scalar => scalar.to_string(),
        }
    }
    let entries = tree.as_object().unwrap().iter();
    entries
        .map(|(key, value)| format!("{key} = {}", inline(value)))
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn the_contract_is_accepted_as_it_is_written() {
    let config = load_file(Path::new("tests/fixtures/config/valid/contract.toml"))
        .unwrap()
        .config;
    assert_eq!(config.instance.name, "lb-1");
    assert_eq!(
        config.admin.token.as_ref().map(Secret::expose),
        Some("admin-token")
    );
    let cluster = config.cluster.as_ref().unwrap();
    let keys = cluster.keys.iter().map(Secret::expose).collect::<Vec<_>>();
    assert_eq!(keys, [GOOD_KEY, OTHER_KEY]);
    assert_eq!(
        cluster.keys_file,
        Path::new("tests/fixtures/config/valid/gossip.keys")
    );
    let tls = config.listeners[1].tls.as_ref().unwrap();
    assert_eq!(
        tls.cert,
        Path::new("tests/fixtures/config/valid/server.crt")
    );
    assert_eq!(tls.alpn, ["mqtt"]);
    assert_eq!(
        config.pools[0].pool,
        tidegate::pool::Settings::named("emqx")
    );
    assert_eq!(
        config.pools[0].health,
        tidegate::health::Settings::default()
    );
}

#[test]
fn variables_reach_the_settings() {
    let config = load_file(Path::new("tests/fixtures/config/valid/every_form.toml"))
        .unwrap()
        .config;
    let shown = config.redacted_json();
    assert_eq!(
        shown["pools"]["services"]["discover"],
        "dns+srv://_mqtt._tcp.emqx.internal"
    );
    assert_eq!(shown["pools"]["fixed"]["health"]["password"], "[redacted]");
    let pool = config
        .pools
        .iter()
        .find(|pool| pool.pool.name == "fixed")
        .unwrap();
    let tidegate::health::Probe::Mqtt { password, .. } = &pool.health.probe else {
        panic!("{:?}", pool.health.probe);
    };
    assert_eq!(password.as_ref().map(Secret::expose), Some("correct horse"));
}

#[test]
fn what_is_legal_and_doubtful_is_a_warning() {
    let text = "
        [drain]
        timeout = '5s'
        [cluster]
        bind = '127.0.0.1:7946'
        keys_file = 'gossip.keys'
        [[listeners]]
        bind = '0.0.0.0:1883'
        pool = 'emqx'
        [pools.emqx]
        endpoints = ['127.0.0.11:1883']
        health = { interval = '500ms' }
        [pools.spare]
        endpoints = ['127.0.0.12:1883']";
    let warnings = load_text(text).unwrap().warnings;
    let places = warnings
        .iter()
        .map(|warning| (warning.line.unwrap(), warning.key.as_str()));
    let expected = [
        (3, "drain.timeout"),
        (4, "cluster.seeds"),
        (12, "pools.emqx.health.timeout"),
        (13, "pools.spare"),
    ];
    assert_eq!(places.collect::<Vec<_>>(), expected);
}

#[test]
fn a_file_that_cannot_be_read_is_one_mistake() {
    let errors = load_file(Path::new("no/such/file.toml")).unwrap_err();
    assert_eq!(
        errors.to_string(),
        "no/such/file.toml: cannot read the file: No such file or directory (os error 2)\n\
         1 mistake in no/such/file.toml"
    );
}

#[test]
fn a_file_that_is_not_utf8_names_the_line() {
    let errors = load_bytes(b"[admin]\n# caf\xe9\n").unwrap_err();
    assert_eq!(
        errors.mistakes[0].to_string(),
        "test.toml:2: not UTF-8; TOML is UTF-8 text"
    );
}

/// The reference with one line gone, or doubled, or cut in two: whatever comes out, nothing panics and nothing leaks.
#[test]
fn damage_to_any_line_is_survived() {
    let text = reference_with_every_key();
    let lines = text.lines().collect::<Vec<_>>();
    for index in 0..lines.len() {
        let (before, line, after) = (&lines[..index], lines[index], &lines[index + 1..]);
        let middle = line
            .char_indices()
            .nth(line.chars().count() / 2)
            .map_or(0, |(at, _)| at);
        for damaged in [
            &[][..],
            &[line, line],
            &[&line[..middle]],
            &[&line[middle..]],
        ] {
            let text = [before, damaged, after].concat().join("\n");
            if let Err(errors) = load_text(&text) {
                assert!(!errors.mistakes.is_empty(), "{text}");
                assert_no_secret(&errors.to_string());
            }
        }
    }
}

fn tidegate(arguments: &[&str]) -> Output {
    let binary = env!("CARGO_BIN_EXE_tidegate");
    Command::new(binary)
        .args(arguments)
        .env_remove("TIDEGATE_CONFIG")
        .output()
        .unwrap()
}

fn check_binary(arguments: &[&str], code: i32, stdout: &str, stderr: &str) {
    let output = tidegate(arguments);
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        stderr,
        "{arguments:?}"
    );
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        stdout,
        "{arguments:?}"
    );
    assert_eq!(output.status.code(), Some(code), "{arguments:?}");
}

#[test]
fn check_says_ok_or_names_every_mistake_and_exits_64() {
    let good = "config/minimal.toml";
    check_binary(
        &["check", "-c", good],
        0,
        &format!("{good}: ok: 1 listener, 1 pool\n"),
        "",
    );
    let bad = "tests/fixtures/config/invalid/units.toml";
    let expected = std::fs::read_to_string(Path::new(bad).with_extension("expected")).unwrap();
    check_binary(&["check", "-c", bad], 64, "", &expected);
    check_binary(&["run", "--config", bad], 64, "", &expected);
}

#[test]
fn bad_usage_exits_64_and_help_and_version_are_good() {
    for arguments in [
        &[][..],
        &["chekc"],
        &["check", "--nonsense"],
        &["check", "-c"],
    ] {
        let output = tidegate(arguments);
        assert_eq!(output.status.code(), Some(64), "{arguments:?}");
        assert!(
            !output.stderr.is_empty() && output.stdout.is_empty(),
            "{arguments:?}"
        );
    }
    for arguments in [&["--help"][..], &["check", "--help"]] {
        let output = tidegate(arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        assert!(!output.stdout.is_empty(), "{arguments:?}");
    }
    let version = format!("tidegate {}\n", env!("CARGO_PKG_VERSION"));
    check_binary(&["version"], 0, &version, "");
    check_binary(&["--version"], 0, &version, "");
}

#[test]
fn the_configuration_path_comes_from_the_environment_or_is_the_default() {
    let check = |path: Option<&str>| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        command.arg("check").env_remove("TIDEGATE_CONFIG");
        command.envs(path.map(|path| ("TIDEGATE_CONFIG", path)));
        command.output().unwrap()
    };
    assert_eq!(check(Some("config/minimal.toml")).status.code(), Some(0));
    if !Path::new("/etc/tidegate/tidegate.toml").exists() {
        let stderr = String::from_utf8(check(None).stderr).unwrap();
        assert!(
            stderr.starts_with("/etc/tidegate/tidegate.toml: cannot read"),
            "{stderr}"
        );
    }
}

#[test]
fn keygen_makes_keys_that_the_cluster_takes_and_never_overwrites_one() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder =
        PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("keygen-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let (keys_file, config_file) = (folder.join("gossip.keys"), folder.join("tidegate.toml"));
    let (keys_path, config_path) = (keys_file.to_str().unwrap(), config_file.to_str().unwrap());
    check_binary(&["keygen", keys_path], 0, "", "");
    assert_eq!(
        keys_file.metadata().unwrap().permissions().mode() & 0o777,
        0o600
    );
    let first = std::fs::read_to_string(&keys_file).unwrap();
    let again = tidegate(&["keygen", keys_path]);
    assert_eq!(again.status.code(), Some(1));
    assert_eq!(std::fs::read_to_string(&keys_file).unwrap(), first);

    let printed = String::from_utf8(tidegate(&["keygen"]).stdout).unwrap();
    assert_ne!(printed, first);
    std::fs::write(&keys_file, first + &printed).unwrap();
    let config = "cluster = { keys_file = 'gossip.keys', seeds = ['lb-2:7946'] }\n\
                  listeners = [{ bind = '0.0.0.0:1883' }]\n\
                  pools.emqx.endpoints = ['127.0.0.11:1883']\n";
    std::fs::write(&config_file, config).unwrap();
    let ok = format!("{config_path}: ok: 1 listener, 1 pool\n");
    check_binary(&["check", "-c", config_path], 0, &ok, "");
    std::fs::remove_dir_all(&folder).unwrap();
}
