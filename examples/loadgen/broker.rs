//! Stand-in brokers: CONNACK, PUBACK, PINGRESP, and nothing else; a few hundred bytes per connection.
//!
//! | command | does |
//! |---|---|
//! | `close ADDRESS` | stops listening and drops every connection, as `kill -9` does |
//! | `open ADDRESS` | listens again |
//! | `hang ADDRESS` | accepts, and never answers a CONNECT from now on |
//! | `serve ADDRESS` | answers again |
//! | `counts` | clients per address: between CONNACK and the end of the connection |
//!
//! The series is a CSV of `t_ms,address,count`, unix milliseconds, a row per address every 50 ms; the time is a multiple of
//! 50, so that the rows of several processes can be added up.

use crate::packet;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_util::sync::CancellationToken;

const SAMPLE_MS: u64 = 50;

/// One address.
#[derive(Default)]
struct Endpoint {
    count: AtomicU32,
    hangs: AtomicBool,
}

/// Counts a client for as long as it lives.
struct Counted(Arc<Endpoint>);

impl Counted {
    fn new(endpoint: &Arc<Endpoint>) -> Self {
        endpoint.count.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(endpoint))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.count.fetch_sub(1, Ordering::Relaxed);
    }
}

struct Running {
    addr: SocketAddr,
    endpoint: Arc<Endpoint>,
    /// None: closed.
    open: Option<CancellationToken>,
}

impl Running {
    fn open(&mut self) -> io::Result<()> {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.bind(self.addr)?;
        let cancel = CancellationToken::new();
        let accepting = accept(
            socket.listen(4096)?,
            Arc::clone(&self.endpoint),
            cancel.clone(),
        );
        tokio::spawn(cancel.clone().run_until_cancelled_owned(accepting));
        self.open = Some(cancel);
        Ok(())
    }
}

pub(crate) async fn run(addrs: &[SocketAddr], series: Option<&str>) -> anyhow::Result<()> {
    let mut running = Vec::new();
    for addr in addrs {
        let mut one = Running {
            addr: *addr,
            endpoint: Arc::default(),
            open: None,
        };
        one.open()?;
        running.push(one);
    }
    if let Some(path) = series {
        let file = io::BufWriter::new(std::fs::File::create(path)?);
        let endpoints = running
            .iter()
            .map(|one| (one.addr, Arc::clone(&one.endpoint)))
            .collect();
        tokio::spawn(sample(file, endpoints));
    }
    println!("ready");
    let mut lines = crate::commands();
    while let Some(line) = lines.recv().await {
        println!("{}", obey(&line, &mut running));
    }
    Ok(())
}

fn obey(line: &str, running: &mut [Running]) -> String {
    let (verb, addr) = line.split_once(' ').unwrap_or((line, ""));
    if verb == "counts" {
        let count = |one: &Running| {
            let count = one.endpoint.count.load(Ordering::Relaxed);
            format!("{}={count}", one.addr)
        };
        return running.iter().map(count).collect::<Vec<_>>().join(" ");
    }
    let Some(one) = running.iter_mut().find(|one| one.addr.to_string() == addr) else {
        return format!("error: no such address in {line:?}");
    };
    match verb {
        "close" => {
            if let Some(cancel) = one.open.take() {
                cancel.cancel();
            }
        }
        "open" => {
            one.endpoint.hangs.store(false, Ordering::Relaxed);
            if one.open.is_none()
                && let Err(error) = one.open()
            {
                return format!("error: {error}");
            }
        }
        "hang" => one.endpoint.hangs.store(true, Ordering::Relaxed),
        "serve" => one.endpoint.hangs.store(false, Ordering::Relaxed),
        _ => return format!("error: unknown command {verb:?}"),
    }
    "ok".to_owned()
}

async fn accept(listener: TcpListener, endpoint: Arc<Endpoint>, cancel: CancellationToken) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let talk = talk(stream, Arc::clone(&endpoint));
                tokio::spawn(cancel.clone().run_until_cancelled_owned(talk));
            }
            // No descriptor left: the client waits in the queue.
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

/// One client until its end. Nothing is held between packets but the rest of an unfinished one.
async fn talk(stream: TcpStream, endpoint: Arc<Endpoint>) {
    let mut unread = Vec::new();
    let mut counted = None;
    loop {
        if stream.readable().await.is_err() {
            return;
        }
        let mut buffer = [0; 4096];
        match stream.try_read(&mut buffer) {
            Ok(0) => return,
            Ok(length) => unread.extend_from_slice(&buffer[..length]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(_) => return,
        }
        let mut answers = Vec::new();
        while let Some((packet, rest)) = packet::split(&unread) {
            match packet::kind(packet) {
                1 if endpoint.hangs.load(Ordering::Relaxed) => {}
                1 => {
                    answers.extend(packet::connack(packet));
                    counted = Some(Counted::new(&endpoint));
                }
                3 => answers.extend(packet::puback(packet).into_iter().flatten()),
                12 => answers.extend([0xd0, 0]),
                14 => return,
                _ => {}
            }
            unread = rest.to_vec();
        }
        if unread.is_empty() {
            unread = Vec::new();
        }
        // Answers of a few bytes fit into the socket's buffer, or the client does not read at all.
        if !answers.is_empty() && stream.try_write(&answers).is_err() {
            return;
        }
        // Counted as long as this function runs.
        debug_assert!(counted.is_none() || endpoint.count.load(Ordering::Relaxed) > 0);
    }
}

async fn sample(
    mut file: io::BufWriter<std::fs::File>,
    endpoints: Vec<(SocketAddr, Arc<Endpoint>)>,
) {
    loop {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let millis = u64::try_from(since.as_millis()).unwrap_or(0);
        tokio::time::sleep(Duration::from_millis(SAMPLE_MS - millis % SAMPLE_MS)).await;
        let at = (millis / SAMPLE_MS + 1) * SAMPLE_MS;
        for (addr, endpoint) in &endpoints {
            let count = endpoint.count.load(Ordering::Relaxed);
            if writeln!(file, "{at},{addr},{count}").is_err() {
                return;
            }
        }
        if file.flush().is_err() {
            return;
        }
    }
}
