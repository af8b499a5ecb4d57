//! QoS 1 round trips, each PUBACK checked against its PUBLISH.
//!
//! Closed loop: a connection sends its next message when the last one is acknowledged. Paced: messages are due at even
//! times, connection by connection, whatever the answers do, and a latency counts from when its message was due. The loop
//! does not sleep meanwhile: waking the load must not be a part of the proxy's cost.

use super::client::{Buffers, Client};
use super::engine::{Engine, TOPIC};
use super::histogram::Histogram;
use super::{Bench, Window, Words};
use crate::packet;
use rustix::event::epoll::EventFlags;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

struct Messages<'a> {
    engine: &'a mut Engine,
    buffers: &'a mut Buffers,
    lanes: Vec<Lane>,
    publish: Vec<u8>,
    id_at: usize,
    start: Instant,
    /// Between two messages of all connections together; None: closed loop.
    interval: Option<Duration>,
    latencies: Histogram,
}

/// One connection.
struct Lane {
    client: Client,
    /// Messages sent and acknowledged; their low bits are the identifiers.
    sent: u64,
    acknowledged: u64,
    sent_at: Instant,
    /// The beginning of a PUBACK.
    unread: Vec<u8>,
}

pub(super) fn run(bench: &mut Bench, words: &Words<'_>) -> anyhow::Result<Value> {
    let target = bench.target(words, "message-")?;
    let rate: f64 = words.get("rate", 0.0)?;
    let clients = bench.open(&target, words.get("connections", 200)?)?;
    let publish = packet::publish(TOPIC, true, words.get("payload", 64)?);
    let start = Instant::now();
    let lane = |client| Lane {
        client,
        sent: 0,
        acknowledged: 0,
        sent_at: start,
        unread: Vec::new(),
    };
    let mut messages = Messages {
        engine: &mut bench.engine,
        buffers: &mut bench.buffers,
        lanes: clients.into_iter().map(lane).collect(),
        id_at: packet::publish_id_at(&publish, TOPIC),
        publish,
        start,
        interval: (rate > 0.0).then(|| Duration::from_secs_f64(1.0 / rate)),
        latencies: Histogram::new(),
    };
    let warm = start + Duration::from_secs_f64(words.get("warmup", 1.0)?);
    let mut due = 0;
    if messages.interval.is_none() {
        for index in 0..messages.lanes.len() {
            messages.send(index)?;
        }
    }
    messages.until(warm, &mut due)?;
    messages.latencies.clear();
    let window = Window::begin(words)?;
    messages.until(
        warm + Duration::from_secs_f64(words.get("seconds", 3.0)?),
        &mut due,
    )?;
    let more = json!({"latency_us": messages.latencies.json()});
    Ok(window.end(messages.latencies.total(), more))
}

impl Messages<'_> {
    fn until(&mut self, end: Instant, due: &mut u64) -> anyhow::Result<()> {
        let mut heard = Instant::now();
        loop {
            let now = Instant::now();
            if now >= end {
                return Ok(());
            }
            let mut timeout = Some(end - now);
            if let Some(interval) = self.interval {
                while self.due_at(interval, *due) <= now {
                    self.send(usize::try_from(*due)? % self.lanes.len())?;
                    *due += 1;
                }
                timeout = Some(Duration::ZERO);
            }
            self.engine.turn(timeout)?;
            if !self.engine.ready.is_empty() {
                heard = now;
            }
            anyhow::ensure!(now - heard < Duration::from_secs(2), "no answer for 2 s");
            for at in 0..self.engine.ready.len() {
                let ready = self.engine.ready[at];
                self.event(ready.client as usize, ready.flags)?;
            }
        }
    }

    fn due_at(&self, interval: Duration, number: u64) -> Instant {
        self.start + Duration::from_nanos(interval.as_nanos() as u64 * number)
    }

    fn send(&mut self, index: usize) -> anyhow::Result<()> {
        let lane = &mut self.lanes[index];
        let id = identifier(lane.sent);
        self.publish[self.id_at..self.id_at + 2].copy_from_slice(&id);
        lane.sent += 1;
        lane.client.send(self.buffers, &self.publish)
    }

    fn event(&mut self, index: usize, flags: EventFlags) -> anyhow::Result<()> {
        let lane = &mut self.lanes[index];
        if flags.contains(EventFlags::OUT) && !lane.client.all_sent() {
            lane.client.flush()?;
        }
        if !flags.contains(EventFlags::IN) {
            return Ok(());
        }
        lane.client.receive(self.buffers)?;
        let received = std::mem::take(&mut self.buffers.plain);
        let outcome = self.acknowledged(index, &received);
        self.buffers.plain = received;
        outcome
    }

    fn acknowledged(&mut self, index: usize, bytes: &[u8]) -> anyhow::Result<()> {
        let lane = &mut self.lanes[index];
        let mut whole = std::mem::take(&mut lane.unread);
        let mut bytes = if whole.is_empty() {
            bytes
        } else {
            whole.extend_from_slice(bytes);
            &whole
        };
        while let Some((puback, rest)) = bytes.split_first_chunk::<4>() {
            bytes = rest;
            let now = Instant::now();
            let lane = &mut self.lanes[index];
            let [high, low] = identifier(lane.acknowledged);
            anyhow::ensure!(
                *puback == [0x40, 2, high, low] && lane.acknowledged < lane.sent,
                "not the PUBACK of message {}: {puback:02x?}",
                lane.acknowledged
            );
            let number = lane.acknowledged * self.lanes.len() as u64 + index as u64;
            let lane = &mut self.lanes[index];
            lane.acknowledged += 1;
            let since = match self.interval {
                None => std::mem::replace(&mut lane.sent_at, now),
                Some(interval) => self.due_at(interval, number),
            };
            self.latencies.record((now - since).as_nanos() as u64);
            if self.interval.is_none() {
                self.send(index)?;
            }
        }
        if !bytes.is_empty() {
            self.lanes[index].unread = bytes.to_vec();
        }
        Ok(())
    }
}

/// 1 to 65535: 0 is not allowed, MQTT 3.1.1 §2.3.1.
fn identifier(number: u64) -> [u8; 2] {
    u16::try_from(number % 65535 + 1)
        .expect("below 65536")
        .to_be_bytes()
}
