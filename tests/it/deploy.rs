//! What `deploy/` takes for granted about the program: names of metrics, and the words for the service manager.

use crate::rig::Rig;
use crate::support::certs::Folder;
use std::collections::BTreeSet;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Words that begin with `prefix`, out of any text.
fn words<'a>(text: &'a str, prefix: &str) -> BTreeSet<&'a str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| word.starts_with(prefix) && word.len() > prefix.len())
        .collect()
}

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

#[tokio::test]
async fn dashboard_and_alerts_use_metrics_that_exist() {
    let keys = Folder::new();
    let key = format!("{}=\n", "A".repeat(43));
    let keys_file = keys.write("gossip.keys", &key);
    let cluster = format!(
        "[cluster]\nbind = \"127.0.0.1:0\"\nkeys_file = \"{}\"\n",
        keys_file.display()
    );
    let rig = Rig::start_with(&["127.0.0.1:9".parse().unwrap()], "", "", &cluster);
    let (_, page) = rig.get("/metrics").await;
    let mut exist = words(&page, "tidegate_");
    exist.extend(words(&page, "process_"));
    for file in [
        "deploy/grafana/tidegate.json",
        "deploy/prometheus/rules.yml",
    ] {
        let text = read(file);
        let mut used = words(&text, "tidegate_");
        used.extend(words(&text, "process_"));
        assert!(
            used.len() >= 8,
            "{file} names only {used:?}: is it read right?"
        );
        let unknown: Vec<_> = used.difference(&exist).collect();
        assert!(unknown.is_empty(), "{file} names {unknown:?}");
    }
}

/// Reads messages to the service manager until one is `wanted`.
fn wait_told(manager: &UnixDatagram, wanted: &str) {
    let mut buffer = [0; 256];
    loop {
        let length = manager
            .recv(&mut buffer)
            .unwrap_or_else(|error| panic!("never told {wanted}: {error}"));
        if std::str::from_utf8(&buffer[..length]).unwrap().trim() == wanted {
            return;
        }
    }
}

#[test]
fn the_service_manager_hears_of_start_life_and_stop() {
    let folder = Folder::new();
    let text = "[admin]\nbind = \"127.0.0.1:0\"\n[drain]\ndelay = \"0s\"\n\
                [[listeners]]\nbind = \"127.0.0.1:0\"\n[pools.p]\nendpoints = [\"127.0.0.1:9\"]\n";
    let config = folder.write("tidegate.toml", text);
    let socket = config.with_file_name("notify");
    let manager = UnixDatagram::bind(&socket).unwrap();
    manager
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .args(["run", "-c"])
        .arg(&config)
        .env("NOTIFY_SOCKET", &socket)
        .env("WATCHDOG_USEC", "200000")
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    wait_told(&manager, "READY=1");
    wait_told(&manager, "WATCHDOG=1");
    wait_told(&manager, "WATCHDOG=1");
    let killed = Command::new("kill").arg(child.id().to_string()).status();
    assert!(killed.unwrap().success());
    wait_told(&manager, "STOPPING=1");
    assert!(child.wait().unwrap().success());
}
