//! Clients that connect, wait for the CONNACK, and stay idle.
//!
//! | command | does | answer, when it is done |
//! |---|---|---|
//! | `targets ADDRESS[*WEIGHT] ...` | where to connect | `ok` |
//! | `choose cycle` or `choose random` | to which of them: in turn or at random, by weight | `ok` |
//! | `reconnect MIN MAX` or `reconnect off` | clients that lose their connection come back after so many ms | `ok` |
//! | `open COUNT RATE` | opens connections, RATE per second, 0 = all at once | `open ok= failed= ms= p50_us= p99_us=` |
//! | `churn RATE SECONDS` | closes a random one and opens another, RATE pairs per second | `churn ok= failed= ...` |
//! | `close COUNT` | closes the oldest, all of them when COUNT is larger | `ok` |
//! | `counts` | | `open= lost= failed= refused=` since the start |

use crate::packet;
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;

/// A client that has no CONNACK after that has failed.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Default)]
struct Crowd {
    prefix: String,
    state: Mutex<State>,
    number: AtomicU64,
    open: AtomicU64,
    lost: AtomicU64,
    failed: AtomicU64,
    refused: AtomicU64,
}

#[derive(Default)]
struct State {
    /// Each as often as its weight says, interleaved.
    targets: Vec<SocketAddr>,
    random: bool,
    turn: usize,
    /// Milliseconds; None: clients stay away.
    reconnect: Option<(u64, u64)>,
    clients: VecDeque<AbortHandle>,
}

/// Counts an open connection.
struct Open(Arc<Crowd>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

pub(crate) async fn run(prefix: &str) -> anyhow::Result<()> {
    let crowd = Arc::new(Crowd {
        prefix: prefix.to_owned(),
        ..Crowd::default()
    });
    println!("ready");
    let mut lines = crate::commands();
    while let Some(line) = lines.recv().await {
        match crowd.obey(&line).await {
            Some(answer) => println!("{answer}"),
            None => println!("error: not understood: {line:?}"),
        }
    }
    Ok(())
}

impl Crowd {
    async fn obey(self: &Arc<Self>, line: &str) -> Option<String> {
        let words: Vec<_> = line.split_whitespace().collect();
        match words.as_slice() {
            ["targets", targets @ ..] if !targets.is_empty() => {
                let targets = weighted(targets)?;
                self.change(|state| state.targets = targets);
            }
            ["choose", how @ ("cycle" | "random")] => {
                self.change(|state| state.random = *how == "random");
            }
            ["reconnect", "off"] => self.change(|state| state.reconnect = None),
            ["reconnect", min, max] => {
                let range = (min.parse().ok()?, max.parse().ok()?);
                self.change(|state| state.reconnect = Some(range));
            }
            ["open", count, rate] => {
                let (count, rate) = (count.parse().ok()?, rate.parse().ok()?);
                return Some(format!(
                    "open {}",
                    self.connect_many(count, rate, false).await
                ));
            }
            ["churn", rate, seconds] => {
                let (rate, seconds): (f64, f64) = (rate.parse().ok()?, seconds.parse().ok()?);
                let count = rate * seconds;
                return Some(format!(
                    "churn {}",
                    self.connect_many(count as u64, rate, true).await
                ));
            }
            ["close", count] => {
                let count = count.parse().ok()?;
                self.change(|state| {
                    let count = state.clients.len().min(count);
                    state
                        .clients
                        .drain(..count)
                        .for_each(|client| client.abort());
                });
            }
            ["counts"] => {
                let [open, lost, failed, refused] =
                    [&self.open, &self.lost, &self.failed, &self.refused]
                        .map(|count| count.load(Ordering::Relaxed));
                return Some(format!(
                    "open={open} lost={lost} failed={failed} refused={refused}"
                ));
            }
            _ => return None,
        }
        Some("ok".to_owned())
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Opens `count` connections on schedule, each instead of another one when `replace`; waits for the last CONNACK.
    async fn connect_many(self: &Arc<Self>, count: u64, rate: f64, replace: bool) -> String {
        let start = Instant::now();
        let mut attempts = JoinSet::new();
        for index in 0..count {
            if rate > 0.0 {
                let due = start + Duration::from_secs_f64(index as f64 / rate);
                if due > Instant::now() {
                    tokio::time::sleep_until(due).await;
                }
            }
            if replace {
                self.close_one();
            }
            let crowd = Arc::clone(self);
            let target = crowd.next_target();
            attempts.spawn(async move {
                let begun = Instant::now();
                crowd.admit(target).await.then(|| begun.elapsed())
            });
        }
        let mut times: Vec<Duration> = attempts.join_all().await.into_iter().flatten().collect();
        times.sort_unstable();
        let at = |share: f64| {
            let index = (times.len() as f64 * share) as usize;
            times
                .get(index.min(times.len().saturating_sub(1)))
                .map_or(0, Duration::as_micros)
        };
        format!(
            "ok={} failed={} ms={} p50_us={} p99_us={}",
            times.len(),
            count - times.len() as u64,
            start.elapsed().as_millis(),
            at(0.5),
            at(0.99)
        )
    }

    fn close_one(&self) {
        self.change(|state| {
            while !state.clients.is_empty() {
                let index = fastrand::usize(..state.clients.len());
                if let Some(client) = state.clients.swap_remove_back(index)
                    && !client.is_finished()
                {
                    client.abort();
                    return;
                }
            }
        });
    }

    fn next_target(&self) -> SocketAddr {
        self.change(|state| {
            let count = state.targets.len();
            assert!(count > 0, "targets come first");
            state.turn = (state.turn + 1) % count;
            let index = if state.random {
                fastrand::usize(..count)
            } else {
                state.turn
            };
            state.targets[index]
        })
    }

    /// Connects, and leaves a task behind that lives as long as the client does.
    async fn admit(self: Arc<Self>, target: SocketAddr) -> bool {
        let connected = self.connect(target).await;
        let came = connected.is_some();
        if came || self.change(|state| state.reconnect.is_some()) {
            let client = tokio::spawn(Arc::clone(&self).live(connected));
            self.change(|state| state.clients.push_back(client.abort_handle()));
        }
        came
    }

    /// One client: its connection, and the ones after it.
    async fn live(self: Arc<Self>, mut connected: Option<(TcpStream, Open)>) {
        loop {
            if let Some((stream, _open)) = connected.take() {
                until_closed(&stream).await;
                self.lost.fetch_add(1, Ordering::Relaxed);
            }
            let Some((min, max)) = self.change(|state| state.reconnect) else {
                return;
            };
            tokio::time::sleep(Duration::from_millis(fastrand::u64(min..=max))).await;
            connected = self.connect(self.next_target()).await;
        }
    }

    async fn connect(self: &Arc<Self>, target: SocketAddr) -> Option<(TcpStream, Open)> {
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        let id = format!("{}-{number}", self.prefix);
        match tokio::time::timeout(CONNECT_TIMEOUT, connect(target, &id)).await {
            Ok(Ok(Some(stream))) => {
                self.open.fetch_add(1, Ordering::Relaxed);
                return Some((stream, Open(Arc::clone(self))));
            }
            Ok(Ok(None)) => self.refused.fetch_add(1, Ordering::Relaxed),
            Ok(Err(_)) | Err(_) => 0,
        };
        self.failed.fetch_add(1, Ordering::Relaxed);
        None
    }
}

/// Nothing is ever sent to an idle client; what comes is thrown away.
async fn until_closed(stream: &TcpStream) {
    while stream.readable().await.is_ok() {
        match stream.try_read(&mut [0; 16]) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}

/// MQTT 3.1.1, clean, no keep-alive. None: a CONNACK that is not 0.
async fn connect(target: SocketAddr, id: &str) -> io::Result<Option<TcpStream>> {
    let mut stream = TcpSocket::new_v4()?.connect(target).await?;
    stream.set_nodelay(true)?;
    stream.write_all(&packet::connect(id, 0)).await?;
    let mut connack = [0; 4];
    stream.read_exact(&mut connack).await?;
    Ok((connack[3] == 0).then_some(stream))
}

/// `127.0.0.1:1883*8`: eight times as often as one without a number.
fn weighted(words: &[&str]) -> Option<Vec<SocketAddr>> {
    let mut parsed = Vec::new();
    for word in words {
        let (addr, weight) = word.split_once('*').unwrap_or((word, "1"));
        parsed.push((addr.parse().ok()?, weight.parse::<usize>().ok()?));
    }
    let rounds = parsed.iter().map(|(_, weight)| *weight).max()?;
    let round = |round| {
        parsed
            .iter()
            .filter(move |(_, weight)| *weight > round)
            .map(|(addr, _)| *addr)
    };
    Some((0..rounds).flat_map(round).collect())
}
