//! Brokers and clients by the thousand, for experiments: `loadgen broker` and `loadgen clients`; and `loadgen bench`, which
//! is both in one and as lean as can be, for measuring what stands between them.
//!
//! All take commands on standard input, one a line, and answer each with one line, so that an experiment is a script that
//! writes and reads (scripts/fairness.py, scripts/bench). A line that is not understood is answered with `error ...`; the end of the
//! input ends the program. One process holds as many connections as it may open files; larger runs start several.
//!
//! Absent: sessions, messages between clients. The brokers say what MQTT needs for a connection to live, and count.

#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "an instrument: it talks by stdout, stamps with wall time, ends its tasks by ending, and rounds"
)]

mod bench;
mod broker;
mod clients;
mod packet;

use std::net::SocketAddr;
use tokio::sync::mpsc;

const USAGE: &str = "usage: loadgen broker [--series FILE] ADDRESS...
       loadgen clients [--prefix NAME]
       loadgen bench ADDRESS...";

fn main() -> anyhow::Result<()> {
    let mut words = std::env::args().skip(1);
    let role = words.next().unwrap_or_default();
    let rest: Vec<String> = words.collect();
    match role.as_str() {
        "bench" => bench::run(&addresses(&rest)?),
        "broker" => {
            let (series, addrs) = option(&rest, "--series");
            runtime()?.block_on(broker::run(&addresses(addrs)?, series))
        }
        "clients" => {
            let (prefix, rest) = option(&rest, "--prefix");
            anyhow::ensure!(rest.is_empty(), USAGE);
            runtime()?.block_on(clients::run(prefix.unwrap_or("client")))
        }
        _ => anyhow::bail!(USAGE),
    }
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
}

fn addresses(words: &[String]) -> anyhow::Result<Vec<SocketAddr>> {
    anyhow::ensure!(!words.is_empty(), USAGE);
    Ok(words
        .iter()
        .map(|addr| addr.parse())
        .collect::<Result<_, _>>()?)
}

/// The value of the option when the words begin with it, and the words after it.
fn option<'a>(words: &'a [String], name: &str) -> (Option<&'a str>, &'a [String]) {
    match words {
        [first, value, rest @ ..] if first == name => (Some(value), rest),
        _ => (None, words),
    }
}

/// Standard input by lines; closed at its end.
fn commands() -> mpsc::Receiver<String> {
    // A full queue lets the writer wait.
    let (sender, lines) = mpsc::channel(16);
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    });
    lines
}
