//! A connection that sends a small message now and then beside a bulk transfer: what its neighbours do to it.

use super::client::{Buffers, Client};
use super::engine::TOPIC;
use super::histogram::Histogram;
use super::{Bench, Words};
use crate::packet;
use rustix::event::epoll::EventFlags;
use serde_json::Value;
use std::time::{Duration, Instant};

/// Between an answer and the next message: half a percent of a core, next to the transfer.
const PAUSE: Duration = Duration::from_millis(2);

pub(super) struct Neighbour {
    client: Client,
    publish: Vec<u8>,
    id_at: usize,
    sent: u16,
    /// When the message went that has no answer yet.
    sent_at: Option<Instant>,
    due: Instant,
    latencies: Histogram,
}

impl Neighbour {
    /// `number`: what its events are called.
    pub(super) fn open(
        bench: &mut Bench,
        words: &Words<'_>,
        number: usize,
    ) -> anyhow::Result<Self> {
        let target = bench.target(words, "message-")?;
        let client = bench.open(&target, 1)?.remove(0);
        bench
            .engine
            .rewatch(client.fd(), u32::try_from(number)?, EventFlags::IN)?;
        let publish = packet::publish(TOPIC, true, 64);
        Ok(Self {
            client,
            id_at: packet::publish_id_at(&publish, TOPIC),
            publish,
            sent: 0,
            sent_at: None,
            due: Instant::now(),
            latencies: Histogram::new(),
        })
    }

    /// Sends the next message if it is due.
    pub(super) fn turn(&mut self, buffers: &mut Buffers, now: Instant) -> anyhow::Result<()> {
        if self.sent_at.is_some() || now < self.due {
            return Ok(());
        }
        self.sent = self.sent.checked_add(1).unwrap_or(1);
        self.publish[self.id_at..self.id_at + 2].copy_from_slice(&self.sent.to_be_bytes());
        self.sent_at = Some(now);
        self.client.send(buffers, &self.publish)
    }

    /// Something has come for it.
    pub(super) fn receive(&mut self, buffers: &mut Buffers) -> anyhow::Result<()> {
        self.client.receive(buffers)?;
        if buffers.plain.is_empty() {
            return Ok(());
        }
        let [high, low] = self.sent.to_be_bytes();
        let (Some(since), true) = (self.sent_at.take(), buffers.plain == [0x40, 2, high, low])
        else {
            anyhow::bail!("not the PUBACK of {}: {:02x?}", self.sent, buffers.plain);
        };
        let now = Instant::now();
        self.latencies.record((now - since).as_nanos() as u64);
        self.due = now + PAUSE;
        Ok(())
    }

    /// The warm-up is over.
    pub(super) fn begin(&mut self) {
        self.latencies.clear();
    }

    pub(super) fn json(&self) -> Value {
        self.latencies.json()
    }
}
