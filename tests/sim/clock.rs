//! The clocks of one instance. Monotonic ones begin anywhere and run a little fast or slow; wall clocks are off and can
//! be set. Nothing may depend on either being the same elsewhere.

use std::time::{Duration, Instant};

/// Crystal oscillators stay within this many microseconds per second.
const DRIFT_PPM_MAX: u64 = 100;

/// Unix time at the beginning of the simulation, milliseconds.
const WALL_MS: u64 = 1_800_000_000_000;

#[derive(Clone, Debug)]
pub(crate) struct Clock {
    /// What the monotonic clock showed at the beginning of the simulation.
    origin: Instant,
    /// How much it gains, parts per million.
    gain_ppm: u64,
    /// How far the wall clock is ahead, milliseconds.
    pub(crate) wall_ahead_ms: i64,
}

impl Clock {
    /// `zero` is any instant, the same for all clocks of a run.
    pub(crate) fn new(zero: Instant, rng: &mut fastrand::Rng) -> Self {
        Self {
            origin: zero + Duration::from_micros(rng.u64(..1_000_000_000_000)),
            gain_ppm: rng.u64(..2 * DRIFT_PPM_MAX),
            wall_ahead_ms: rng.i64(-2000..2000),
        }
    }

    /// The monotonic clock when `now` has passed since the beginning.
    pub(crate) fn at(&self, now: Duration) -> Instant {
        let micros = u64::try_from(now.as_micros()).expect("simulations are short");
        self.origin + now + Duration::from_micros(micros * self.gain_ppm / 1_000_000)
    }

    /// How long until the monotonic clock shows `instant`; rounded up, so that it is not short of it.
    pub(crate) fn until(&self, now: Duration, instant: Instant) -> Duration {
        instant.saturating_duration_since(self.at(now)) + Duration::from_micros(1)
    }

    /// Unix milliseconds, as this instance believes.
    pub(crate) fn wall_ms(&self, now: Duration) -> u64 {
        let passed = u64::try_from(now.as_millis()).expect("simulations are short");
        (WALL_MS + passed).saturating_add_signed(self.wall_ahead_ms)
    }
}
