//! The whole tier in one process: brokers, a DNS server with their names, tidegate in front, clients through it.
//!
//! `cargo run --release --example demo` stays up until Ctrl-C; `-- --once` ends after the table, with exit code 1 when the
//! brokers are not level or a message was lost.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the demo talks to a person"
)]

#[path = "../tests/support/mod.rs"]
mod support;

use anyhow::{Context as _, ensure};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use support::brokers::Broker;
use support::certs::{Authority, Folder};
use support::client::{Client, Door};
use support::dns::DnsServer;
use support::packet::{Connect, Version};
use tidegate::app::{Instance, Signals};

/// All of the demo's addresses are 127.0.77.x, which Linux answers without any set-up.
const fn address(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 77, last)
}

const BROKERS: [Ipv4Addr; 3] = [address(21), address(22), address(23)];
const INSTANCES: [Ipv4Addr; 3] = [address(1), address(2), address(3)];
const DNS: SocketAddr = SocketAddr::new(IpAddr::V4(address(53)), 5353);
const NAME: &str = "brokers.demo";
/// The name that clients of the tier look up; its addresses are the seeds of the gossip as well.
const TIER: &str = "tidegate.demo";
const CLIENTS: usize = 30;
/// Longer than the 10 ms that two pushes of an instance are apart at least: each instance knows of the last client. Closer
/// together the tier is level to one or two connections (ARCHITECTURE.md, "What the echo cannot see").
const BETWEEN_CLIENTS: Duration = Duration::from_millis(20);

fn main() -> anyhow::Result<()> {
    let once = match std::env::args().nth(1).as_deref() {
        None => false,
        Some("--once") => true,
        Some(other) => anyhow::bail!("unknown argument {other}; usage: demo [--once]"),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(run(once))
}

async fn run(once: bool) -> anyhow::Result<()> {
    let folder = Folder::new();
    let brokers = start_brokers()?;
    let name_server = DnsServer::start(DNS)
        .await
        .context("the embedded DNS server")?;
    name_server.set_a(NAME, BROKERS.to_vec(), 5);
    name_server.set_a(TIER, INSTANCES.to_vec(), 5);
    let authority = Authority::new();
    let instances = start_instances(folder.path(), &authority)?;
    wait_until_ready(&instances).await?;

    println!(
        "{} brokers as {NAME} in the DNS of {DNS}, {} instances of tidegate as {TIER}\n",
        BROKERS.len(),
        instances.len()
    );
    let mut clients = connect_clients(&instances, &authority).await?;
    wait_until_counted(&brokers).await;
    let level = print_table(&brokers);
    let echoed = publish(&mut clients).await;
    println!("{echoed} of {CLIENTS} QoS 1 messages went through the tier and came back");

    let outcome = if once {
        Ok(())
    } else {
        stay(&instances, folder.path()).await
    };
    drop(clients);
    for instance in &instances {
        instance.stop();
    }
    for instance in instances {
        ensure!(
            tokio::task::spawn_blocking(|| instance.wait()).await?,
            "an instance did not end well"
        );
    }
    for broker in brokers {
        broker.stop().await;
    }
    outcome?;
    ensure!(level, "the brokers are not level");
    ensure!(echoed == CLIENTS, "messages were lost");
    Ok(())
}

fn start_brokers() -> anyhow::Result<Vec<Broker>> {
    BROKERS
        .iter()
        .map(|addr| {
            let addr = SocketAddr::new((*addr).into(), 1883);
            Broker::start(addr).with_context(|| format!("an embedded broker on {addr}"))
        })
        .collect()
}

fn start_instances(folder: &Path, authority: &Authority) -> anyhow::Result<Vec<Instance>> {
    let identity = authority.listener(&["localhost"]);
    std::fs::write(folder.join("server.crt"), identity.cert_pem)?;
    std::fs::write(folder.join("server.key"), identity.key_pem)?;
    std::fs::write(folder.join("ca.crt"), &authority.cert_pem)?;
    let key = tidegate::cluster::generate_key()?;
    std::fs::write(folder.join("gossip.keys"), key.expose())?;
    INSTANCES
        .iter()
        .enumerate()
        .map(|(index, addr)| {
            let path = write_config(folder, index, *addr)?;
            let config =
                tidegate::config::load(&path).map_err(|mistakes| anyhow::anyhow!("{mistakes}"))?;
            Ok(Instance::start(&config, Signals::Ignore)?)
        })
        .collect()
}

/// The same file that `tidegate run -c` takes.
fn write_config(folder: &Path, index: usize, addr: Ipv4Addr) -> anyhow::Result<PathBuf> {
    let path = folder.join(format!("lb-{}.toml", index + 1));
    let text = format!(
        r#"[instance]
name = "lb-{number}"
workers = 1
[admin]
bind = "{addr}:9090"
[log]
access = "off"
[cluster]
bind = "{addr}:7946"
seeds = ["dns+a://{TIER}:7946"]
keys_file = "gossip.keys"
[dns]
servers = ["{DNS}"]
[[listeners]]
name = "mqtt"
bind = "{addr}:1883"
protocol = "mqtt"
pool = "brokers"
[[listeners]]
name = "mqtts"
bind = "{addr}:8883"
protocol = "mqtt"
pool = "brokers"
tls = {{ cert = "server.crt", key = "server.key" }}
[pools.brokers]
discover = "dns+a://{NAME}:1883"
health = {{ probe = "mqtt", interval = "1s" }}
"#,
        number = index + 1
    );
    std::fs::write(&path, text)?;
    Ok(path)
}

/// Waits until every instance sees every broker and every other instance: the demo is about balance, not about the first second.
async fn wait_until_ready(instances: &[Instance]) -> anyhow::Result<()> {
    for instance in instances {
        let mut tries = 0;
        while instance.eligible_endpoints() < BROKERS.len() || instance.members() < INSTANCES.len()
        {
            tries += 1;
            ensure!(tries < 500, "the tier did not form within 10 s");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    Ok(())
}

/// Cycles over the instances, as clients of DNS round-robin do; every second client uses TLS, and the MQTT versions take
/// turns.
async fn connect_clients(
    instances: &[Instance],
    authority: &Authority,
) -> anyhow::Result<Vec<Client>> {
    let tls = authority.client_config();
    let mut clients = Vec::new();
    for index in 0..CLIENTS {
        tokio::time::sleep(BETWEEN_CLIENTS).await;
        let instance = &instances[index % instances.len()];
        let (name, addr) = &instance.listeners()[(index / instances.len()) % 2];
        let door = if name == "mqtts" {
            Door::tls(*addr, "localhost", Arc::clone(&tls))
        } else {
            Door::plain(*addr)
        };
        let version = [Version::V311, Version::V5][index % 2];
        let connect = Connect::new(version, &format!("demo-{index}"));
        let client = Client::connect(&door, &connect).await;
        clients
            .push(client.map_err(|error| anyhow::anyhow!("client {index} on {addr}: {error:?}"))?);
    }
    Ok(clients)
}

/// A broker counts a client a moment after it has answered it.
async fn wait_until_counted(brokers: &[Broker]) {
    for _ in 0..100 {
        if brokers.iter().map(Broker::connections).sum::<usize>() >= CLIENTS {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Prints how many clients each broker holds, as the brokers themselves count them; says whether they are level.
fn print_table(brokers: &[Broker]) -> bool {
    println!("{CLIENTS} clients connected:\n");
    println!("  broker              connections");
    let mut counts = Vec::new();
    for broker in brokers {
        let count = broker.connections();
        println!(
            "  {:<18}  {count:>3}  {}",
            broker.addr().to_string(),
            "#".repeat(count)
        );
        counts.push(count);
    }
    println!();
    let (min, max) = (counts.iter().min(), counts.iter().max());
    min.zip(max).is_some_and(|(min, max)| max - min <= 1)
}

/// Every client publishes to itself: brokers of this demo know nothing of each other.
async fn publish(clients: &mut [Client]) -> usize {
    let mut echoed = 0;
    for (index, client) in clients.iter_mut().enumerate() {
        let topic = format!("demo/{index}");
        let round_trip = async {
            client.subscribe(&topic, 1).await?;
            client.publish(&topic, b"hello", 1).await?;
            client.receive().await
        };
        match round_trip.await {
            Ok(message) if message.topic == topic && message.payload == b"hello" => echoed += 1,
            Ok(other) => eprintln!("client {index} received {other:?}"),
            Err(error) => eprintln!("client {index}: {error}"),
        }
    }
    echoed
}

async fn stay(instances: &[Instance], folder: &Path) -> anyhow::Result<()> {
    println!("\nUp until Ctrl-C. Connect a client of your own:");
    for instance in instances {
        for (name, addr) in instance.listeners() {
            let (ip, port) = (addr.ip(), addr.port());
            let tls = if name == "mqtts" {
                format!(" --cafile {}/ca.crt --insecure", folder.display())
            } else {
                String::new()
            };
            println!("  mosquitto_sub -h {ip} -p {port}{tls} -t 'demo/#' -v");
        }
        println!(
            "  page: http://{}/   metrics: http://{}/metrics",
            instance.admin(),
            instance.admin()
        );
    }
    tokio::signal::ctrl_c().await?;
    Ok(())
}
