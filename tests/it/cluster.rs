//! A tier of instances, as real processes with real UDP between them: what they count together, and who they count.
//!
//! Every test has addresses of its own, 127.0.X.1 to 127.0.X.3. Absent: loads and timings, which scripts/fairness.sh has.

use crate::support::brokers::Broker;
use crate::support::certs::Folder;
use crate::support::client::{Client, ConnectError, Door};
use crate::support::dns::DnsServer;
use crate::support::fake::{FakeBroker, Script};
use crate::support::packet::{Connect, Version};
use serde_json::Value;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::Instant;

const BINARY: &str = env!("CARGO_BIN_EXE_tidegate");

/// Longer than any wait that ends well.
const PATIENCE: Duration = Duration::from_secs(10);

/// Three processes, and what they share.
struct Tier {
    net: u8,
    folder: Folder,
    pool: String,
    running: [Option<Child>; 3],
}

impl Tier {
    /// `pool` is the TOML of the pool, its endpoints and health included.
    fn new(pool: &str) -> Self {
        static NEXT: AtomicU8 = AtomicU8::new(0);
        let tier = Self {
            net: 200 + NEXT.fetch_add(1, Ordering::Relaxed),
            folder: Folder::new(),
            pool: pool.to_owned(),
            running: [None, None, None],
        };
        tier.write_keys("gossip.keys", &[&new_key()]);
        tier
    }

    /// All three, known to each other, with `eligible` endpoints each.
    async fn start(pool: &str, eligible: usize) -> Self {
        let mut tier = Self::new(pool);
        for index in 0..3 {
            tier.spawn(index, |_| {});
        }
        for index in 0..3 {
            tier.wait_members(index, 3).await;
            tier.wait_eligible(index, eligible).await;
        }
        tier
    }

    fn ip(&self, index: usize) -> Ipv4Addr {
        Ipv4Addr::new(127, 0, self.net, u8::try_from(index).unwrap() + 1)
    }

    fn door(&self, index: usize) -> Door {
        Door::plain(SocketAddr::from((self.ip(index), 1883)))
    }

    fn write_keys(&self, name: &str, keys: &[&str]) {
        self.folder.write(name, &keys.join("\n"));
    }

    /// `edit` changes the configuration of this one.
    fn spawn(&mut self, index: usize, edit: impl FnOnce(&mut String)) {
        let (ip, seed, pool) = (self.ip(index), self.ip(0), &self.pool);
        let second = self.ip(1);
        let mut text = format!(
            r#"
instance = {{ name = "lb-{index}", workers = 1 }}
admin = {{ bind = "{ip}:9090" }}
log = {{ access = "off" }}
drain = {{ delay = "0s", grace = "0s", rate = 1000000 }}
cluster = {{ bind = "{ip}:7946", seeds = ["{seed}:7946", "{second}:7946"], keys_file = "gossip.keys" }}
[[listeners]]
bind = "{ip}:1883"
protocol = "mqtt"
[pools.brokers]
{pool}
"#
        );
        edit(&mut text);
        let path = self.folder.write(&format!("lb-{index}.toml"), &text);
        let log = self.folder.path().join(format!("lb-{index}.log"));
        let log = std::fs::File::create(log).unwrap();
        let child = Command::new(BINARY)
            .args(["run", "-c"])
            .arg(path)
            .stdout(log)
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        self.running[index] = Some(child);
    }

    fn log(&self, index: usize) -> String {
        std::fs::read_to_string(self.folder.path().join(format!("lb-{index}.log"))).unwrap()
    }

    fn signal(&self, index: usize, signal: rustix::process::Signal) {
        let child = self.running[index].as_ref().unwrap();
        rustix::process::kill_process(rustix::process::Pid::from_child(child), signal).unwrap();
    }

    fn kill(&mut self, index: usize) {
        let mut child = self.running[index].take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// SIGTERM, and waits for the end.
    async fn stop(&mut self, index: usize) {
        self.signal(index, rustix::process::Signal::TERM);
        let mut child = self.running[index].take().unwrap();
        let status = tokio::task::spawn_blocking(move || child.wait()).await;
        assert!(status.unwrap().unwrap().success(), "{}", self.log(index));
    }

    /// The CLI, against this instance.
    async fn command(&self, index: usize, words: &[&str]) {
        let mut command = Command::new(BINARY);
        command
            .args(words)
            .args(["--admin", &format!("http://{}:9090", self.ip(index))]);
        let output = tokio::task::spawn_blocking(move || command.output());
        let output = output.await.unwrap().unwrap();
        assert!(output.status.success(), "{output:?}");
    }

    /// Body of a GET; empty while the instance does not answer.
    async fn get(&self, index: usize, path: &str) -> String {
        get(SocketAddr::from((self.ip(index), 9090)), path)
            .await
            .unwrap_or_default()
    }

    async fn json(&self, index: usize, path: &str) -> Value {
        json(&self.get(index, path).await)
    }

    async fn members(&self, index: usize) -> u64 {
        let status = self.json(index, "/api/v1/status").await;
        status["members"].as_u64().unwrap_or(0)
    }

    async fn endpoints(&self, index: usize) -> Vec<Value> {
        let pools = self.json(index, "/api/v1/pools").await;
        pools["pools"][0]["endpoints"]
            .as_array()
            .cloned()
            .unwrap_or_default()
    }

    /// Connections of the tier as this instance sees them.
    async fn total(&self, index: usize) -> u64 {
        let endpoints = self.endpoints(index).await;
        let counts = endpoints.iter();
        counts
            .filter_map(|endpoint| endpoint["cluster_connections"].as_u64())
            .sum()
    }

    async fn eligible(&self, index: usize) -> usize {
        let endpoints = self.endpoints(index).await;
        endpoints
            .iter()
            .filter(|endpoint| endpoint["eligible"] == true)
            .count()
    }

    /// The sum of the samples that begin with `name`.
    async fn metric(&self, index: usize, name: &str) -> f64 {
        let page = self.get(index, "/metrics").await;
        page.lines()
            .filter(|line| line.starts_with(name))
            .filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok())
            .sum()
    }

    async fn wait_members(&self, index: usize, count: u64) {
        until(&format!("lb-{index} knows {count} members"), async || {
            self.members(index).await == count
        })
        .await;
    }

    async fn wait_eligible(&self, index: usize, count: usize) {
        until(&format!("lb-{index} has {count} endpoints"), async || {
            self.eligible(index).await == count
        })
        .await;
    }

    async fn wait_total(&self, index: usize, count: u64) {
        until(&format!("lb-{index} counts {count} clients"), async || {
            self.total(index).await == count
        })
        .await;
    }

    /// One client through this instance.
    async fn connect(&self, index: usize) -> Result<Client, ConnectError> {
        static NEXT: AtomicU8 = AtomicU8::new(0);
        let id = format!("client-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        Client::connect(&self.door(index), &Connect::new(Version::V5, &id)).await
    }

    /// Three clients through each of the three instances, known to all.
    async fn connect_nine(&self) -> Vec<Vec<Client>> {
        let mut clients = Vec::new();
        for index in 0..3 {
            let mut here = Vec::new();
            for _ in 0..3 {
                here.push(self.connect(index).await.unwrap());
            }
            clients.push(here);
        }
        for index in 0..3 {
            self.wait_total(index, 9).await;
        }
        clients
    }
}

impl Drop for Tier {
    #[expect(clippy::print_stderr, reason = "the logs of a test that failed")]
    fn drop(&mut self) {
        for index in 0..3 {
            if self.running[index].is_some() {
                self.kill(index);
            }
            if std::thread::panicking() {
                let path = self.folder.path().join(format!("lb-{index}.log"));
                eprintln!(
                    "-- lb-{index}\n{}",
                    std::fs::read_to_string(path).unwrap_or_default()
                );
            }
        }
    }
}

fn new_key() -> String {
    tidegate::cluster::generate_key()
        .unwrap()
        .expose()
        .to_owned()
}

async fn get(addr: SocketAddr, path: &str) -> std::io::Result<String> {
    let mut stream = tokio::net::TcpStream::connect(addr).await?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: tier\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer
        .split_once("\r\n\r\n")
        .map(|(_, body)| body.to_owned())
        .unwrap_or_default())
}

fn json(body: &str) -> Value {
    let part = body
        .find(['{', '['])
        .zip(body.rfind(['}', ']']))
        .and_then(|(start, end)| body.get(start..=end));
    part.and_then(|part| serde_json::from_str(part).ok())
        .unwrap_or_default()
}

/// Looks until it holds; gives how long that took.
async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) -> Duration {
    let start = Instant::now();
    while !condition().await {
        assert!(
            start.elapsed() < PATIENCE,
            "not within {PATIENCE:?}: {what}"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    start.elapsed()
}

/// Brokers that a pool can name, up from the first probe on.
async fn fakes(count: usize) -> (Vec<FakeBroker>, String) {
    let mut fakes = Vec::new();
    for _ in 0..count {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        fakes.push(FakeBroker::start(any, Script::Serve).await.unwrap());
    }
    let list: Vec<_> = fakes
        .iter()
        .map(|fake| format!("\"{}\"", fake.addr()))
        .collect();
    (fakes, format!("endpoints = [{}]\n", list.join(", ")))
}

#[tokio::test]
async fn thirty_clients_over_three_instances_are_ten_each() {
    let brokers: Vec<_> = (0..3)
        .map(|_| Broker::start(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap())
        .collect();
    let list: Vec<_> = brokers
        .iter()
        .map(|broker| format!("\"{}\"", broker.addr()))
        .collect();
    let mut tier = Tier::new(&format!("endpoints = [{}]", list.join(", ")));
    let dns = DnsServer::start(SocketAddr::from(([127, 0, 0, 1], 0)))
        .await
        .unwrap();
    dns.set_a("tier.test", (0..3).map(|index| tier.ip(index)).collect(), 5);
    for index in 0..3 {
        let seeds = format!("\"{}:7946\", \"{}:7946\"", tier.ip(0), tier.ip(1));
        let server = dns.addr();
        tier.spawn(index, |text| {
            *text = text.replace(&seeds, "\"dns+a://tier.test:7946\"");
            *text = text.replace(
                "[[listeners]]",
                &format!("dns = {{ servers = [\"{server}\"] }}\n[[listeners]]"),
            );
        });
    }
    for index in 0..3 {
        tier.wait_members(index, 3).await;
        tier.wait_eligible(index, 3).await;
    }
    let mut exact = 0;
    let mut rounds = Vec::new();
    while exact < 3 {
        // Processes of a machine that does much else hear of each other late: then it is 9, 10, 11.
        assert!(rounds.len() < 10, "{rounds:?}");
        let mut clients = Vec::new();
        for number in 0..30 {
            clients.push(tier.connect(number % 3).await.unwrap());
        }
        let counts = || -> Vec<_> { brokers.iter().map(Broker::connections).collect() };
        until("the brokers count thirty", async || {
            counts().iter().sum::<usize>() == 30
        })
        .await;
        let counts = counts();
        assert!(
            counts.iter().all(|count| (8..=12).contains(count)),
            "{counts:?}"
        );
        exact += usize::from(counts == [10, 10, 10]);
        rounds.push(counts);
        drop(clients);
        for index in 0..3 {
            tier.wait_total(index, 0).await;
        }
        until("the brokers are empty", async || {
            brokers.iter().all(|broker| broker.connections() == 0)
        })
        .await;
    }
}

#[tokio::test]
async fn a_killed_instance_is_forgotten_and_comes_back_counted_once() {
    let (_brokers, pool) = fakes(3).await;
    let mut tier = Tier::start(&pool, 3).await;
    let mut clients = tier.connect_nine().await;
    tier.kill(2);
    for index in 0..2 {
        tier.wait_total(index, 6).await;
        tier.wait_members(index, 2).await;
    }
    clients.truncate(2);
    tier.spawn(2, |_| {});
    tier.wait_members(2, 3).await;
    tier.wait_total(2, 6).await;
    let mut again = Vec::new();
    tier.wait_eligible(2, 3).await;
    for _ in 0..3 {
        again.push(tier.connect(2).await.unwrap());
    }
    for index in [0, 1, 2] {
        until("all nine are counted", async || {
            let total = tier.total(index).await;
            assert!(
                total <= 9,
                "lb-{index} counts {total} of 9: one of them twice"
            );
            total == 9
        })
        .await;
    }
}

#[tokio::test]
async fn a_graceful_end_is_known_at_once() {
    let (_brokers, pool) = fakes(3).await;
    let mut tier = Tier::start(&pool, 3).await;
    let _clients = tier.connect_nine().await;
    tier.stop(2).await;
    for index in 0..2 {
        let took = until("its counts are gone", async || tier.total(index).await == 6).await;
        // A death would be noticed after 0.9 s at the earliest.
        assert!(took < Duration::from_millis(500), "lb-{index}: {took:?}");
        tier.wait_members(index, 2).await;
    }
}

#[tokio::test]
async fn a_drain_reaches_all_and_survives_the_instance_that_was_told() {
    let (brokers, pool) = fakes(2).await;
    let mut tier = Tier::start(&pool, 2).await;
    let drained = brokers[0].addr().to_string();
    tier.command(0, &["drain", &drained]).await;
    for index in 0..3 {
        tier.wait_eligible(index, 1).await;
    }
    tier.kill(0);
    for index in 1..3 {
        tier.wait_members(index, 2).await;
        assert_eq!(tier.eligible(index).await, 1, "lb-{index}");
    }
    // One that was not there hears of it too.
    tier.spawn(0, |_| {});
    tier.wait_members(0, 3).await;
    tier.wait_eligible(0, 1).await;
    tier.command(1, &["undrain", &drained]).await;
    for index in 0..3 {
        tier.wait_eligible(index, 2).await;
    }
}

#[tokio::test]
async fn max_connections_holds_for_the_whole_tier() {
    let (brokers, pool) = fakes(2).await;
    let tier = Tier::start(&format!("{pool}max_connections = 2"), 2).await;
    let mut clients = Vec::new();
    for number in 0..4 {
        clients.push(tier.connect(number % 3).await.unwrap());
        for index in 0..3 {
            tier.wait_total(index, number as u64 + 1).await;
        }
    }
    for index in 0..3 {
        let refused = tier.connect(index).await;
        assert!(refused.is_err(), "lb-{index} took a fifth client");
    }
    drop(clients.pop());
    for index in 0..3 {
        tier.wait_total(index, 3).await;
    }
    clients.push(tier.connect(2).await.unwrap());
    for broker in brokers {
        // The probes of a moment ago may still be open on the broker's side.
        broker.wait_open(2).await;
    }
}

#[tokio::test]
async fn an_evacuation_that_one_sees_is_a_drain_for_all() {
    let status =
        |code: &str| format!("HTTP/1.1 {code}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    let (_brokers, pool) = fakes(1).await;
    let api = HttpStub::start(&status("200 OK")).await;
    let health = |interval| {
        format!(
            "health = {{ probe = \"http\", port = {}, path = \"/\", interval = \"{interval}\", fast_interval = \"{interval}\" }}",
            api.addr.port()
        )
    };
    let mut tier = Tier::new(&pool);
    for index in 0..3 {
        let interval = if index == 0 { "50ms" } else { "1h" };
        tier.spawn(index, |text| text.push_str(&health(interval)));
    }
    for index in 0..3 {
        tier.wait_members(index, 3).await;
        tier.wait_eligible(index, 1).await;
    }
    api.answer(&status("503 Service Unavailable"));
    for index in 0..3 {
        tier.wait_eligible(index, 0).await;
    }
    api.answer(&status("200 OK"));
    for index in 0..3 {
        tier.wait_eligible(index, 1).await;
    }
}

#[tokio::test]
async fn a_pool_that_is_configured_differently_is_warned_of_on_both_sides() {
    let (_brokers, pool) = fakes(2).await;
    let mut tier = Tier::new(&pool);
    tier.spawn(0, |_| {});
    tier.spawn(1, |text| text.push_str("join_rate = 77\n"));
    for index in 0..2 {
        until("the warning", async || {
            tier.log(index).contains("configured differently")
        })
        .await;
    }
}

#[tokio::test]
async fn keys_rotate_by_reload_without_a_member_leaving() {
    let (_brokers, pool) = fakes(1).await;
    let mut tier = Tier::new(&pool);
    let (old, new) = (new_key(), new_key());
    tier.write_keys("gossip.keys", &[&old]);
    for index in 0..3 {
        tier.spawn(index, |_| {});
    }
    for index in 0..3 {
        tier.wait_members(index, 3).await;
    }
    let generations = generations(&tier).await;
    let steps: [&[&str]; 3] = [&[&old, &new], &[&new, &old], &[&new]];
    for (done, keys) in steps.into_iter().enumerate() {
        tier.write_keys("gossip.keys", keys);
        for index in 0..3 {
            tier.signal(index, rustix::process::Signal::HUP);
            until("the reload", async || {
                tier.log(index).matches("reloaded").count() == done + 1
            })
            .await;
            for other in 0..3 {
                assert_eq!(tier.members(other).await, 3, "lb-{other} in step {done}");
            }
        }
    }
    // Longer than it takes to find somebody dead: new counts arrive everywhere under the new key.
    let _client = tier.connect(0).await.unwrap();
    for index in 0..3 {
        tier.wait_total(index, 1).await;
        let sent = tier.metric(index, "tidegate_cluster_datagrams_total").await;
        until("two seconds of gossip", async || {
            assert_eq!(tier.members(index).await, 3, "lb-{index}");
            tier.metric(index, "tidegate_cluster_datagrams_total").await > sent + 60.0
        })
        .await;
    }
    assert_eq!(generations, self::generations(&tier).await);
}

async fn generations(tier: &Tier) -> Vec<Value> {
    let members = tier.json(0, "/api/v1/members").await;
    let list = members
        .get("members")
        .unwrap_or(&members)
        .as_array()
        .cloned()
        .unwrap_or_default();
    assert_eq!(list.len(), 3, "{members}");
    list.into_iter()
        .map(|member| member["generation"].clone())
        .collect()
}

#[tokio::test]
async fn a_wrong_key_is_no_member_and_is_counted() {
    let (_brokers, pool) = fakes(1).await;
    let mut tier = Tier::new(&pool);
    tier.write_keys("wrong.keys", &[&new_key()]);
    tier.spawn(0, |_| {});
    tier.spawn(1, |_| {});
    tier.wait_members(0, 2).await;
    tier.spawn(2, |text| *text = text.replace("gossip.keys", "wrong.keys"));
    for index in 0..3 {
        until("datagrams are rejected", async || {
            tier.metric(index, "tidegate_cluster_datagrams_rejected_total")
                .await
                > 10.0
                || index == 2
        })
        .await;
    }
    assert_eq!(tier.members(0).await, 2);
    assert_eq!(tier.members(1).await, 2);
    until("lb-2 answers", async || tier.members(2).await == 1).await;
}

#[tokio::test]
async fn shared_probes_come_from_one_member() {
    let (brokers, pool) = fakes(1).await;
    let tier = Tier::start(
        &format!(
            "{pool}health = {{ probe = \"mqtt\", interval = \"50ms\", fast_interval = \"50ms\", shared = true, probers = 1 }}"
        ),
        1,
    )
    .await;
    let broker = &brokers[0];
    // A connection or two may be under way from the time when each was alone.
    let first = broker.accepted() + 6;
    broker.wait_accepted(first + 12).await;
    let mut probers: Vec<_> = (first..first + 11)
        .map(|number| {
            let bytes = broker.received(number);
            let text = String::from_utf8_lossy(&bytes);
            let at = text.find("lb-").expect("a probe names its instance");
            text[at..at + 4].to_owned()
        })
        .collect();
    probers.dedup();
    assert_eq!(probers.len(), 1, "{probers:?}");
    for index in 0..3 {
        assert_eq!(tier.eligible(index).await, 1);
    }
}

#[tokio::test]
async fn an_instance_alone_serves_and_says_so() {
    let (_brokers, pool) = fakes(1).await;
    let mut tier = Tier::new(&pool);
    tier.spawn(1, |_| {});
    tier.wait_eligible(1, 1).await;
    tier.connect(1).await.unwrap();
    until("readiness tells", async || {
        tier.get(1, "/readyz").await.contains("alone")
    })
    .await;
}

/// Answers every request with the same bytes.
struct HttpStub {
    addr: SocketAddr,
    answer: tokio::sync::watch::Sender<String>,
    _serving: tokio::task::JoinSet<()>,
}

impl HttpStub {
    async fn start(answer: &str) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (answer, answers) = tokio::sync::watch::channel(answer.to_owned());
        let mut serving = tokio::task::JoinSet::new();
        serving.spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = [0; 1024];
                // A probe that gives up is no news.
                drop(stream.read(&mut request).await);
                let bytes = answers.borrow().clone();
                drop(stream.write_all(bytes.as_bytes()).await);
            }
        });
        Self {
            addr,
            answer,
            _serving: serving,
        }
    }

    fn answer(&self, answer: &str) {
        self.answer.send_replace(answer.to_owned());
    }
}
