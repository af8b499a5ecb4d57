//! The real binary: what only a process of its own can show.

use crate::rig;
use crate::support::certs::Folder;
use crate::support::client::{Client, Door};
use crate::support::fake::{FakeBroker, Script};
use crate::support::packet::{Connect, Version};
use crate::support::wait;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A `tidegate run` that ends with the test.
struct Process {
    child: Child,
    mqtt: SocketAddr,
    admin: SocketAddr,
    _folder: Folder,
}

/// A port that was free a moment ago.
fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
}

impl Process {
    /// Runs with so many file descriptors at most.
    fn start(broker: SocketAddr, descriptors: u32) -> Self {
        let folder = Folder::new();
        let (mqtt, admin) = (free_port(), free_port());
        let text = format!(
            r#"
[instance]
workers = 1
[admin]
bind = "{admin}"
[limits]
max_connections = 1000
[drain]
delay = "0s"
grace = "0s"
[[listeners]]
name = "mqtt"
bind = "{mqtt}"
protocol = "mqtt"
pool = "brokers"
join_timeout = "500ms"
[pools.brokers]
endpoints = ["{broker}"]
"#
        );
        let path = folder.write("tidegate.toml", &text);
        let command = format!(
            "ulimit -n {descriptors}; exec {} run -c {}",
            env!("CARGO_BIN_EXE_tidegate"),
            path.display()
        );
        let child = Command::new("sh")
            .args(["-c", &command])
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Self {
            child,
            mqtt,
            admin,
            _folder: folder,
        }
    }

    async fn serves(&self, id: &str) -> bool {
        let connect = Connect::new(Version::V5, id);
        Client::connect(&Door::plain(self.mqtt), &connect)
            .await
            .is_ok()
    }

    async fn wait_serving(&self) {
        for attempt in 0..500 {
            if self.serves(&format!("wait-{attempt}")).await {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("no client was served within 10 s");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[tokio::test]
async fn running_out_of_descriptors_delays_clients_and_ends_with_the_shortage() {
    let broker = FakeBroker::start("127.0.0.1:0".parse().unwrap(), Script::Serve)
        .await
        .unwrap();
    let process = Process::start(broker.addr(), 40);
    process.wait_serving().await;
    // Sockets that say nothing hold a descriptor each, until nothing is left to accept with.
    let silent: Vec<_> = (0..60)
        .filter_map(|_| TcpStream::connect(process.mqtt).ok())
        .collect();
    assert!(
        silent.len() >= 50,
        "the kernel's queue takes what the process cannot"
    );
    // The admin API has no descriptor left either: what happened is read when the shortage is over.
    tokio::time::sleep(Duration::from_millis(100)).await;
    drop(silent);
    process.wait_serving().await;
    let errors = rig::metric(
        process.admin,
        "tidegate_accept_errors_total{listener=\"mqtt\"}",
    )
    .await;
    assert!(errors >= 1.0, "the test ran into no shortage");
}

#[tokio::test]
async fn sigterm_ends_with_exit_code_0_and_a_second_instance_on_the_port_fails() {
    let broker = FakeBroker::start("127.0.0.1:0".parse().unwrap(), Script::Serve)
        .await
        .unwrap();
    let mut process = Process::start(broker.addr(), 1024);
    process.wait_serving().await;
    let folder = Folder::new();
    let text = format!(
        "[admin]\nbind = \"127.0.0.1:0\"\n[[listeners]]\nname = \"a\"\nbind = \"{}\"\nprotocol = \"mqtt\"\n\
         [pools.p]\nendpoints = [\"{}\"]\n",
        process.mqtt, process.admin
    );
    let path = folder.write("second.toml", &text);
    let second = Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .arg("run")
        .arg("-c")
        .arg(path)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert_eq!(second.status.code(), Some(1), "{said}");
    assert!(
        said.contains("cannot bind") && said.contains("in use"),
        "{said}"
    );

    let pid = process.child.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-TERM", &pid])
            .status()
            .unwrap()
            .success()
    );
    let mut code = None;
    wait::until("the process ends", || {
        code = process.child.try_wait().unwrap();
        code.is_some()
    })
    .await;
    assert_eq!(code.unwrap().code(), Some(0));
}
