//! Connections that are only held, for what they cost in memory.

use super::engine::{BURST_BYTES, TOPIC};
use super::{Bench, Window, Words};
use crate::packet;
use rustix::event::epoll::EventFlags;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const TIMEOUT: Duration = Duration::from_secs(20);

pub(super) fn open(bench: &mut Bench, words: &Words<'_>) -> anyhow::Result<Value> {
    anyhow::ensure!(bench.crowd.is_empty(), "there is a crowd already");
    let target = bench.target(words, "burst-")?;
    let begun = Instant::now();
    bench.crowd = bench.open(&target, words.get("connections", 1000)?)?;
    // What TLS sends behind its handshake is read by then.
    settle(bench, Duration::from_millis(300), |_| Ok(()))?;
    Ok(
        json!({"connections": bench.crowd.len(), "served": bench.engine.served(), "seconds": begun.elapsed().as_secs_f64()}),
    )
}

/// 4 KiB up and the same down on every connection at once.
pub(super) fn burst(bench: &mut Bench) -> anyhow::Result<Value> {
    let headers = packet::publish(TOPIC, true, BURST_BYTES).len() - BURST_BYTES;
    let mut publish = packet::publish(TOPIC, true, BURST_BYTES - headers);
    let id_at = packet::publish_id_at(&publish, TOPIC);
    publish[id_at + 1] = 1;
    for client in &mut bench.crowd {
        client.send(&mut bench.buffers, &publish)?;
    }
    // A PUBLISH of the same size and a PUBACK.
    let wanted = (BURST_BYTES + 4) * bench.crowd.len();
    let mut got = 0;
    let begun = Instant::now();
    while got < wanted {
        anyhow::ensure!(begun.elapsed() < TIMEOUT, "{got} of {wanted} bytes");
        settle(bench, Duration::ZERO, |length| {
            got += length;
            Ok(())
        })?;
    }
    anyhow::ensure!(got == wanted, "{got} instead of {wanted} bytes");
    Ok(json!({"bytes": got}))
}

/// Nothing is sent: what remains is what connections cost by being there.
pub(super) fn rest(bench: &mut Bench, words: &Words<'_>) -> anyhow::Result<Value> {
    let seconds: f64 = words.get("seconds", 3.0)?;
    let window = Window::begin(words)?;
    settle(bench, Duration::from_secs_f64(seconds), |_| Ok(()))?;
    Ok(window.end(seconds.round() as u64, json!({})))
}

pub(super) fn close(bench: &mut Bench) -> anyhow::Result<Value> {
    let count = bench.crowd.len();
    for client in bench.crowd.drain(..) {
        client.farewell(&mut bench.buffers);
    }
    let begun = Instant::now();
    // Until what is measured has closed its side, too; probes come and go.
    while bench.engine.served() > 100 {
        anyhow::ensure!(begun.elapsed() < TIMEOUT, "brokers still have connections");
        bench.engine.turn(Some(Duration::from_millis(100)))?;
    }
    Ok(json!({"closed": count}))
}

/// Turns of the loop for so long, at least one; tells what came.
fn settle(
    bench: &mut Bench,
    time: Duration,
    mut came: impl FnMut(usize) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let end = Instant::now() + time;
    loop {
        bench.engine.turn(Some(Duration::from_millis(10)))?;
        for at in 0..bench.engine.ready.len() {
            let ready = bench.engine.ready[at];
            let client = &mut bench.crowd[ready.client as usize];
            client.flush()?;
            if ready.flags.contains(EventFlags::IN) {
                client.receive(&mut bench.buffers)?;
                came(bench.buffers.plain.len())?;
            }
        }
        if Instant::now() >= end {
            return Ok(());
        }
    }
}
