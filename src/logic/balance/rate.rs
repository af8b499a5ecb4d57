//! Own dispatches per second, exponentially averaged with a time constant of one second.
//!
//! Time is in seconds since the picker was made: one conversion per pick instead of one per use.

/// exp(-seconds / 1 s). The polynomial is exact to 1e-8 below 20 ms, where nearly all calls are.
pub(super) fn decay(seconds: f64) -> f64 {
    if seconds <= 0.0 {
        1.0
    } else if seconds < 0.02 {
        1.0 - seconds * (1.0 - seconds * (0.5 - seconds / 6.0))
    } else {
        (-seconds).exp()
    }
}

/// The average and when it was last true.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rate {
    value: f64,
    updated_at: f64,
}

impl Rate {
    /// Counts one dispatch.
    pub(super) fn count(&mut self, now: f64) {
        self.value = self.at(now) + 1.0;
        self.updated_at = self.updated_at.max(now);
    }

    /// Dispatches per second at `now`, which is not before the last dispatch.
    pub(super) fn at(&self, now: f64) -> f64 {
        self.value * decay(now - self.updated_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steady_dispatches_average_to_their_rate() {
        let mut rate = Rate::default();
        for step in 0..20_000 {
            rate.count(f64::from(step) / 2000.0);
        }
        assert!((rate.at(10.0) - 2000.0).abs() < 2.0, "{}", rate.at(10.0));
    }

    #[test]
    fn silence_decays_with_a_second() {
        let mut rate = Rate::default();
        rate.count(5.0);
        assert!((rate.at(6.0) - (-1.0_f64).exp()).abs() < 1e-9);
    }

    #[test]
    fn polynomial_meets_the_exponential() {
        for micros in 0_u32..20_000 {
            let seconds = f64::from(micros) * 1e-6;
            assert!(
                (decay(seconds) - (-seconds).exp()).abs() < 1e-8,
                "{seconds}"
            );
        }
    }
}
