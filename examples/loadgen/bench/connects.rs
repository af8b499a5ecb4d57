//! Connections that end as soon as they have their CONNACK: as many a second as so many at a time allow.

use super::client::Client;
use super::histogram::Histogram;
use super::{Bench, Window, Words};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

pub(super) fn run(bench: &mut Bench, words: &Words<'_>) -> anyhow::Result<Value> {
    let target = bench.target(words, "connect-")?;
    let slots = words.get("connections", 32)?;
    let mut number = 0_u32;
    let mut clients = Vec::with_capacity(slots);
    for _ in 0..slots {
        clients.push((
            Client::start(&bench.engine, &target, number)?,
            Instant::now(),
        ));
        number += 1;
    }
    let mut latencies = Histogram::new();
    let (mut resumed, mut failed) = (0_u64, 0_u64);
    let mut first_error = None;
    let mut window = None;
    let warm = Instant::now() + Duration::from_secs_f64(words.get("warmup", 1.0)?);
    let end = warm + Duration::from_secs_f64(words.get("seconds", 3.0)?);
    loop {
        let now = Instant::now();
        if now >= warm && window.is_none() {
            latencies.clear();
            (resumed, failed) = (0, 0);
            window = Some(Window::begin(words)?);
        }
        if now >= end
            && let Some(window) = &window
        {
            let total = latencies.total();
            anyhow::ensure!(
                failed * 100 <= total,
                "{failed} connects failed, {total} succeeded: {first_error:?}"
            );
            let more =
                json!({"failed": failed, "resumed": resumed, "latency_us": latencies.json()});
            return Ok(window.end(total, more));
        }
        bench.engine.turn(Some(Duration::from_millis(100)))?;
        for at in 0..bench.engine.ready.len() {
            let ready = bench.engine.ready[at];
            // The slot is the token; the number in the client id goes on.
            let slot = ready.client as usize % slots;
            let (client, begun) = &mut clients[slot];
            match client.advance(&mut bench.buffers, ready.flags) {
                Ok(false) => continue,
                Ok(true) => {
                    latencies.record(begun.elapsed().as_nanos() as u64);
                    resumed += u64::from(client.resumed());
                }
                Err(error) => {
                    failed += 1;
                    first_error.get_or_insert_with(|| error.to_string());
                }
            }
            let next = slot_number(&mut number, slot, slots);
            let next = Client::start(&bench.engine, &target, next)?;
            let (client, _) = std::mem::replace(&mut clients[slot], (next, Instant::now()));
            client.farewell(&mut bench.buffers);
        }
    }
}

/// The next number that belongs to the slot.
fn slot_number(number: &mut u32, slot: usize, slots: usize) -> u32 {
    *number = number.wrapping_add(1) % 30_000;
    *number * slots as u32 + slot as u32
}
