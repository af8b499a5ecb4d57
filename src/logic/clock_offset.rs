//! A peer's monotonic clock, read on ours without comparing wall clocks.
//!
//! Every message carries the sender's clock. `receipt - sent` is the offset between the clocks plus the delay, and the
//! delay is never negative: the least value over the last half to whole minute is the offset plus the shortest delay,
//! 0.1 ms in a LAN. A record that came the long way round, relayed by gossip, is then dated as exactly as a pushed one.
//! Rejected: adding up holding times at every relayer, which the gossip library gives no place for.

use std::time::{Duration, Instant};

/// Two windows of this length are kept, so that drift (100 ppm: 3 ms in this time) is forgotten.
const WINDOW: Duration = Duration::from_secs(30);

/// The estimate for one member and generation.
#[derive(Clone, Debug)]
pub struct ClockOffset {
    /// Start of our own clock's count.
    epoch: Instant,
    window_started_at: Instant,
    least_now: Option<i64>,
    least_before: Option<i64>,
}

impl ClockOffset {
    /// Knows nothing yet. `epoch` must not be later than any receipt.
    pub const fn new(epoch: Instant, now: Instant) -> Self {
        Self {
            epoch,
            window_started_at: now,
            least_now: None,
            least_before: None,
        }
    }

    /// A message that the peer sent at `sent_us` of its clock arrived.
    pub fn observe(&mut self, sent_us: u64, received_at: Instant) {
        if received_at.saturating_duration_since(self.window_started_at) >= WINDOW {
            self.least_before = self.least_now.take();
            self.window_started_at = received_at;
        }
        let sample = micros(received_at.saturating_duration_since(self.epoch))
            .saturating_sub(signed(sent_us));
        self.least_now = Some(self.least_now.map_or(sample, |least| least.min(sample)));
    }

    /// When, on our clock, the peer's clock showed `remote_us`; never later than `now`.
    pub fn date(&self, remote_us: u64, now: Instant) -> Instant {
        let least = match (self.least_now, self.least_before) {
            (Some(one), Some(other)) => one.min(other),
            (Some(one), None) | (None, Some(one)) => one,
            (None, None) => return now,
        };
        let ours = u64::try_from(signed(remote_us).saturating_add(least)).unwrap_or(0);
        self.epoch
            .checked_add(Duration::from_micros(ours))
            .map_or(now, |at| at.min(now))
    }
}

fn micros(span: Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX)
}

fn signed(us: u64) -> i64 {
    i64::try_from(us).unwrap_or(i64::MAX)
}

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "an arbitrary origin for virtual time"
)]
mod tests {
    use super::*;

    const SECOND_US: u64 = 1_000_000;

    #[test]
    fn the_shortest_delay_dates_the_messages_that_took_longer() {
        let epoch = Instant::now();
        let at = |us: u64| epoch + Duration::from_micros(us);
        let mut offset = ClockOffset::new(epoch, epoch);
        // The peer's clock is 5 s behind; delays 900, 100 and 80 000 us.
        offset.observe(SECOND_US, at(6 * SECOND_US + 900));
        offset.observe(2 * SECOND_US, at(7 * SECOND_US + 100));
        offset.observe(3 * SECOND_US, at(8 * SECOND_US + 80_000));
        assert_eq!(
            offset.date(3 * SECOND_US, at(9 * SECOND_US)),
            at(8 * SECOND_US + 100)
        );
    }

    #[test]
    fn drift_is_forgotten_after_two_windows() {
        let epoch = Instant::now();
        let at = |us: u64| epoch + Duration::from_micros(us);
        let mut offset = ClockOffset::new(epoch, epoch);
        offset.observe(0, at(1000));
        for second in 1..=61 {
            offset.observe(second * SECOND_US, at(second * SECOND_US + 5000));
        }
        assert_eq!(
            offset.date(61 * SECOND_US, at(70 * SECOND_US)),
            at(61 * SECOND_US + 5000)
        );
    }

    #[test]
    fn nothing_is_dated_into_the_future_or_before_our_start() {
        let epoch = Instant::now();
        let now = epoch + Duration::from_secs(1);
        let mut offset = ClockOffset::new(epoch, epoch);
        assert_eq!(offset.date(7, now), now);
        offset.observe(SECOND_US * 1000, now);
        assert_eq!(offset.date(u64::MAX, now), now);
        assert_eq!(offset.date(0, now), epoch);
    }
}
