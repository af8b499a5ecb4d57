//! When a name is asked again: by its TTL while answers come, by a doubling wait while they do not.

use crate::logic::dns_answer::Merge;
use std::time::Duration;

/// Longest wait of a name that never had an answer: nothing is served until it has one.
const FIRST_ANSWER_WAIT_MAX: Duration = Duration::from_secs(2);

/// Longest jitter: a broker that joins the name is to get connections within its TTL and one second.
const JITTER_MAX: Duration = Duration::from_millis(500);

/// The schedule of one name.
#[derive(Clone, Debug)]
pub struct Schedule {
    floor: Duration,
    ceiling: Duration,
    retry: Duration,
    /// Look-ups in a row that left something stale.
    misses: u32,
    answered: bool,
}

impl Schedule {
    /// `floor` and `ceiling` bound the TTL; `retry` is the first wait after a failure, which doubles up to `ceiling`.
    pub fn new(floor: Duration, ceiling: Duration, retry: Duration) -> Self {
        Self {
            floor,
            ceiling: ceiling.max(floor),
            retry,
            misses: 0,
            answered: false,
        }
    }

    /// The wait after a look-up that ended so.
    pub fn next(&mut self, merge: Merge, rng: &mut fastrand::Rng) -> Duration {
        self.answered |= merge.ttl.is_some();
        let by_ttl = merge.ttl.map(|ttl| ttl.clamp(self.floor, self.ceiling));
        let by_retry = merge.miss.map(|_| {
            let doubled = self.retry.saturating_mul(1 << self.misses.min(20));
            let longest = if self.answered {
                self.ceiling
            } else {
                self.ceiling.min(FIRST_ANSWER_WAIT_MAX)
            };
            doubled.min(longest).max(self.floor)
        });
        self.misses = by_retry.map_or(0, |_| self.misses.saturating_add(1));
        let wait = match (by_ttl, by_retry) {
            (Some(ttl), Some(retry)) => ttl.min(retry),
            (Some(wait), None) | (None, Some(wait)) => wait,
            // Nothing was asked: a name without families. Not reachable from the configuration.
            (None, None) => self.ceiling,
        };
        wait + (wait / 10).min(JITTER_MAX).mul_f64(rng.f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logic::dns_answer::Miss;

    fn schedule() -> Schedule {
        let [floor, ceiling, retry] = [1, 60, 1].map(Duration::from_secs);
        Schedule::new(floor, ceiling, retry)
    }

    fn answered(ttl_s: u64) -> Merge {
        Merge {
            ttl: Some(Duration::from_secs(ttl_s)),
            miss: None,
        }
    }

    const FAILED: Merge = Merge {
        ttl: None,
        miss: Some(Miss::Timeout),
    };

    /// The wait without its jitter, which is checked against its bounds.
    fn next_s(schedule: &mut Schedule, merge: Merge, expected_s: u64) {
        let mut rng = fastrand::Rng::with_seed(7);
        let wait = schedule.next(merge, &mut rng);
        let expected = Duration::from_secs(expected_s);
        assert!(wait >= expected, "{merge:?}: {wait:?} < {expected:?}");
        assert!(
            wait <= expected + (expected / 10).min(JITTER_MAX),
            "{merge:?}: {wait:?} > {expected:?}"
        );
    }

    #[test]
    fn ttl_is_held_between_floor_and_ceiling() {
        for (ttl_s, expected_s) in [
            (0, 1),
            (1, 1),
            (30, 30),
            (60, 60),
            (86_400, 60),
            (u64::from(u32::MAX), 60),
        ] {
            next_s(&mut schedule(), answered(ttl_s), expected_s);
        }
    }

    #[test]
    fn failures_double_the_wait_up_to_the_ceiling() {
        let mut schedule = schedule();
        next_s(&mut schedule, answered(30), 30);
        for expected_s in [1, 2, 4, 8, 16, 32, 60, 60] {
            next_s(&mut schedule, FAILED, expected_s);
        }
        next_s(&mut schedule, answered(30), 30);
        next_s(&mut schedule, FAILED, 1);
    }

    #[test]
    fn name_without_a_first_answer_is_asked_often() {
        let mut schedule = schedule();
        for expected_s in [1, 2, 2, 2, 2] {
            next_s(&mut schedule, FAILED, expected_s);
        }
    }

    #[test]
    fn stale_family_is_retried_before_the_ttl_of_the_other() {
        let mut schedule = schedule();
        let half = Merge {
            ttl: Some(Duration::from_secs(30)),
            miss: Some(Miss::ServFail),
        };
        next_s(&mut schedule, half, 1);
        next_s(&mut schedule, half, 2);
    }

    #[test]
    fn many_failures_do_not_overflow() {
        let mut schedule = schedule();
        schedule.misses = u32::MAX;
        schedule.answered = true;
        next_s(&mut schedule, FAILED, 60);
    }
}
