//! Waits that double, with jitter: who fails together must not come back together.

use std::time::Duration;

/// Relative jitter of a wait, both ways.
const JITTER: f64 = 0.2;

/// `first` doubled `times` times, at most `max`.
pub fn doubled(first: Duration, times: u32, max: Duration) -> Duration {
    let factor = 1_u32.checked_shl(times).unwrap_or(u32::MAX);
    first.saturating_mul(factor).min(max)
}

/// `wait` plus or minus a fifth.
pub fn jittered(wait: Duration, rng: &mut fastrand::Rng) -> Duration {
    wait.mul_f64(1.0 - JITTER + 2.0 * JITTER * rng.f64())
}

/// A series of waits: first, 2 first, 4 first ... up to a maximum, each with jitter.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    max: Duration,
    attempts: u32,
}

impl Backoff {
    /// A series that has not begun.
    pub const fn new(first: Duration, max: Duration) -> Self {
        Self {
            first,
            max,
            attempts: 0,
        }
    }

    /// The next wait.
    pub fn next(&mut self, rng: &mut fastrand::Rng) -> Duration {
        let wait = doubled(self.first, self.attempts, self.max);
        self.attempts = self.attempts.saturating_add(1);
        jittered(wait, rng).min(self.max)
    }

    /// It worked: the series begins anew.
    pub const fn reset(&mut self) {
        self.attempts = 0;
    }

    /// Waits taken since the beginning or the last reset.
    pub const fn attempts(&self) -> u32 {
        self.attempts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_maximum() {
        let second = Duration::from_secs(1);
        for (times, expected) in [
            (0, 1),
            (1, 2),
            (2, 4),
            (5, 32),
            (6, 60),
            (31, 60),
            (32, 60),
            (u32::MAX, 60),
        ] {
            let wait = doubled(second, times, Duration::from_secs(60));
            assert_eq!(wait, Duration::from_secs(expected), "{times} times");
        }
    }

    #[test]
    fn jitter_stays_within_a_fifth_and_the_maximum() {
        let mut rng = fastrand::Rng::with_seed(7);
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(10));
        for attempt in 0..100 {
            let wait = backoff.next(&mut rng).as_secs_f64();
            let plain = f64::from(1_u32 << attempt.min(4)).min(10.0);
            assert!(
                wait >= plain * 0.8 && wait <= (plain * 1.2).min(10.0),
                "{attempt}: {wait}"
            );
        }
        backoff.reset();
        assert!(backoff.next(&mut rng) <= Duration::from_millis(1200));
    }
}
