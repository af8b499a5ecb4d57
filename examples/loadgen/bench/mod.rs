//! Loads whose cost is measured: one process with the clients and the brokers, so that it fits on one core beside a proxy.
//!
//! | command | does | answer, one line of JSON |
//! |---|---|---|
//! | `qos1 ...` | PUBLISH and PUBACK on many connections; `rate=0` closed loop, else so many a second | per message |
//! | `bulk direction=up ...` | QoS 0 without end, `up` or `down`, and a QoS 1 message beside it now and then | per byte |
//! | `connects ...` | connect, CONNECT, CONNACK, close | per connection |
//! | `open ...` | opens connections, which stay | |
//! | `burst` | 4 KiB up and down on each of them | |
//! | `rest ...` | leaves them alone for a while | per second |
//! | `close` | closes them | |
//!
//! Words are `name=value`: `target=ADDRESS:PORT`, `tls=off|full|resumed`, `pids=1,2` (whose CPU is measured), `tid=3` (a
//! thread of theirs that is told apart), `connections`, `payload`, `rate`, `seconds`, `warmup`. A line that is not understood, or a load that fails, is answered with
//! `{"error": ...}`. Reading order: `engine`, `client`, then the loads.

mod bulk;
mod client;
mod connects;
mod cpu;
mod engine;
mod histogram;
mod idle;
mod messages;
mod neighbour;
mod tls;

use client::{Buffers, Client, Target};
use engine::Engine;
use rustls::ClientConfig;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::io::Read as _;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Handshakes under way while connections are opened.
const OPENING: usize = 64;
/// A load whose connections are not open after that has failed.
const OPEN_TIMEOUT: Duration = Duration::from_secs(60);

pub(crate) fn run(addrs: &[SocketAddr]) -> anyhow::Result<()> {
    let mut bench = Bench {
        engine: Engine::new(addrs)?,
        buffers: Buffers::new(),
        full: tls::config(false)?,
        crowd: Vec::new(),
    };
    println!("ready");
    let mut unread = Vec::new();
    let mut input = [0; 4096];
    loop {
        bench.engine.turn(None)?;
        if !std::mem::take(&mut bench.engine.input) {
            continue;
        }
        let length = std::io::stdin().read(&mut input)?;
        if length == 0 {
            return Ok(());
        }
        unread.extend_from_slice(&input[..length]);
        while let Some(end) = unread.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = unread.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            let answer = bench
                .obey(line.trim())
                .unwrap_or_else(|error| json!({"error": format!("{line}: {error:#}")}));
            println!("{answer}");
        }
    }
}

struct Bench {
    engine: Engine,
    buffers: Buffers,
    full: Arc<ClientConfig>,
    /// The connections of `open`.
    crowd: Vec<Client>,
}

/// The `name=value` words of a command.
struct Words<'a>(HashMap<&'a str, &'a str>);

impl<'a> Words<'a> {
    fn get<T: FromStr>(&self, name: &str, default: T) -> anyhow::Result<T> {
        match self.0.get(name) {
            None => Ok(default),
            Some(text) => text
                .parse()
                .map_err(|_| anyhow::anyhow!("{name}={text} is no number")),
        }
    }

    fn text(&self, name: &str, default: &'a str) -> &'a str {
        self.0.get(name).copied().unwrap_or(default)
    }
}

impl Bench {
    fn obey(&mut self, line: &str) -> anyhow::Result<Value> {
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        let words = rest
            .split_whitespace()
            .map(|word| word.split_once('=').unwrap_or((word, "")));
        let words = Words(words.collect());
        match verb {
            "qos1" => messages::run(self, &words),
            "bulk" => bulk::run(self, &words),
            "connects" => connects::run(self, &words),
            "open" => idle::open(self, &words),
            "burst" => idle::burst(self),
            "close" => idle::close(self),
            "rest" => idle::rest(self, &words),
            _ => anyhow::bail!("unknown command"),
        }
    }

    fn target(&self, words: &Words<'_>, prefix: &'static str) -> anyhow::Result<Target> {
        let addr = words.text("target", "");
        Ok(Target {
            addr: addr
                .parse()
                .map_err(|_| anyhow::anyhow!("target={addr} is no address"))?,
            tls: match words.text("tls", "off") {
                "off" => None,
                "full" => Some(Arc::clone(&self.full)),
                // A store of its own: tickets of another contender are no good.
                "resumed" => Some(tls::config(true)?),
                other => anyhow::bail!("tls={other}"),
            },
            prefix,
            steady: true,
        })
    }

    /// Opens connections, a few at a time, and waits for all CONNACKs.
    fn open(&mut self, target: &Target, count: usize) -> anyhow::Result<Vec<Client>> {
        let deadline = Instant::now() + OPEN_TIMEOUT;
        let mut clients = Vec::with_capacity(count);
        let mut joined = 0;
        while joined < count {
            while clients.len() < count && clients.len() - joined < OPENING {
                let number = u32::try_from(clients.len())?;
                clients.push(Client::start(&self.engine, target, number)?);
            }
            self.engine.turn(Some(Duration::from_millis(100)))?;
            for ready in &self.engine.ready {
                let client = &mut clients[ready.client as usize];
                if client.stage() != client::Stage::Joined
                    && client.advance(&mut self.buffers, ready.flags)?
                {
                    joined += 1;
                }
            }
            anyhow::ensure!(
                Instant::now() < deadline,
                "{joined} of {count} connections open"
            );
        }
        Ok(clients)
    }
}

/// Counters at the start of what is measured.
struct Window {
    pids: Vec<u32>,
    tid: u32,
    since: Instant,
    measured: f64,
    thread: f64,
    own: f64,
}

impl Window {
    fn begin(words: &Words<'_>) -> anyhow::Result<Self> {
        let pids = words
            .text("pids", "")
            .split(',')
            .filter(|pid| !pid.is_empty())
            .map(str::parse)
            .collect::<Result<Vec<u32>, _>>()?;
        let tid = words.get("tid", 0)?;
        Ok(Self {
            measured: cpu::seconds(&pids),
            thread: cpu::thread_seconds(tid),
            own: cpu::seconds(&[std::process::id()]),
            since: Instant::now(),
            pids,
            tid,
        })
    }

    /// `units` things of the load have been done since [`Window::begin`].
    fn end(&self, units: u64, more: Value) -> Value {
        let seconds = self.since.elapsed().as_secs_f64();
        let measured = cpu::seconds(&self.pids) - self.measured;
        let thread = cpu::thread_seconds(self.tid) - self.thread;
        let own = cpu::seconds(&[std::process::id()]) - self.own;
        let mut answer = json!({
            "units": units,
            "seconds": seconds,
            "rate": units as f64 / seconds,
            "cpu_seconds": measured,
            "cpu_us_per_unit": measured * 1e6 / (units.max(1) as f64),
            "cpu_share": measured / seconds,
            "thread_cpu_share": thread / seconds,
            "load_cpu_share": own / seconds,
        });
        if let (Value::Object(answer), Value::Object(more)) = (&mut answer, more) {
            answer.extend(more);
        }
        answer
    }
}
