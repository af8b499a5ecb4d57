//! As many bytes as go through, in one direction, and what a small message beside them waits.

use super::engine::{BULK_PAYLOAD, TOPIC};
use super::neighbour::Neighbour;
use super::{Bench, Window, Words};
use crate::packet;
use rustix::event::epoll::EventFlags;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

pub(super) fn run(bench: &mut Bench, words: &Words<'_>) -> anyhow::Result<Value> {
    let up = match words.text("direction", "up") {
        "up" => true,
        "down" => false,
        other => anyhow::bail!("direction={other}"),
    };
    let mut target = bench.target(words, if up { "up-" } else { "down-" })?;
    target.steady = false;
    let count = words.get("connections", 4)?;
    let mut neighbour = Neighbour::open(bench, words, count)?;
    let mut clients = bench.open(&target, count)?;
    for (number, client) in clients.iter().enumerate() {
        let flags = EventFlags::IN
            | if up {
                EventFlags::OUT
            } else {
                EventFlags::empty()
            };
        bench
            .engine
            .rewatch(client.fd(), u32::try_from(number)?, flags)?;
    }
    let chunk = packet::publish(TOPIC, false, BULK_PAYLOAD).repeat(8);
    let mut moved = 0_u64;
    let mut window = None;
    let warm = Instant::now() + Duration::from_secs_f64(words.get("warmup", 1.0)?);
    let end = warm + Duration::from_secs_f64(words.get("seconds", 3.0)?);
    let sunk_before = bench.engine.sunk;
    loop {
        let now = Instant::now();
        let total = moved + bench.engine.sunk - sunk_before;
        if now >= warm && window.is_none() {
            anyhow::ensure!(total > 0, "nothing came through");
            neighbour.begin();
            window = Some((Window::begin(words)?, total));
        }
        if now >= end
            && let Some((window, before)) = &window
        {
            let bytes = total - before;
            let mut answer = window.end(bytes, json!({"latency_us": neighbour.json()}));
            let cpu = answer["cpu_seconds"].as_f64().unwrap_or(0.0);
            answer["cpu_s_per_gb"] = json!(cpu * 1e9 / bytes.max(1) as f64);
            return Ok(answer);
        }
        neighbour.turn(&mut bench.buffers, now)?;
        bench.engine.turn(Some(Duration::from_millis(100)))?;
        for at in 0..bench.engine.ready.len() {
            let ready = bench.engine.ready[at];
            let Some(client) = clients.get_mut(ready.client as usize) else {
                neighbour.receive(&mut bench.buffers)?;
                continue;
            };
            if !up && ready.flags.contains(EventFlags::IN) {
                moved += client.discard(&mut bench.buffers)? as u64;
            }
            if up && ready.flags.contains(EventFlags::OUT) {
                client.flush()?;
                if client.all_sent() {
                    client.send(&mut bench.buffers, &chunk)?;
                }
            }
            anyhow::ensure!(
                !ready.flags.intersects(EventFlags::ERR | EventFlags::HUP),
                "a connection was closed"
            );
        }
    }
}
