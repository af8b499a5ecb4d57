//! The network between instances: delay, jitter, loss, partitions. Datagrams overtake each other.

use std::ops::Range;
use std::time::Duration;

#[derive(Clone, Debug)]
pub(crate) struct Network {
    /// One way, microseconds.
    pub(crate) delay_us: Range<u64>,
    /// One datagram in a hundred waits up to this long for a busy receiver, microseconds.
    pub(crate) jitter_us: u64,
    /// Share of the datagrams that are lost.
    pub(crate) loss: f64,
    /// Instances hear those of the same side; by instance, side 0 if missing.
    pub(crate) sides: Vec<u8>,
}

impl Network {
    /// One switch: 0.1 to 2 ms with everything that a process adds.
    pub(crate) const fn local() -> Self {
        Self {
            delay_us: 100..2000,
            jitter_us: 5000,
            loss: 0.0,
            sides: Vec::new(),
        }
    }

    fn side(&self, instance: usize) -> u8 {
        self.sides.get(instance).copied().unwrap_or(0)
    }

    /// How long one datagram takes; `None`: it is lost.
    pub(crate) fn transit(
        &self,
        from: usize,
        to: usize,
        rng: &mut fastrand::Rng,
    ) -> Option<Duration> {
        if self.side(from) != self.side(to) || rng.f64() < self.loss {
            return None;
        }
        let mut delay = rng.u64(self.delay_us.clone());
        if rng.u8(..100) == 0 {
            delay += rng.u64(..=self.jitter_us);
        }
        Some(Duration::from_micros(delay))
    }
}
