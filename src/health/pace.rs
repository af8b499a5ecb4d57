//! When to probe next: slowly while the verdict is settled, fast while it is changing.
//!
//! Pure. The pool decides what an endpoint is; this only mirrors enough of `rise` and `fall` to know when a faster
//! look is worth its cost.

use super::Settings;
use super::outcome::Kind;
use std::time::Duration;

/// Part of an interval by which it varies, both ways: instances that started together drift apart.
const JITTER: f64 = 0.1;

/// `fast_interval` divided by this is the least pause between two probes of one endpoint.
const PAUSES_PER_FAST_INTERVAL: u32 = 5;

/// The pace of one checker.
#[derive(Debug)]
pub(super) struct Pace {
    interval: Duration,
    fast_interval: Duration,
    rise: u32,
    fall: u32,
    random: fastrand::Rng,
    settled: Option<Kind>,
    /// What the last results said, when that is not what is settled, and how many said so in a row.
    candidate: Option<(Kind, u32)>,
}

impl Pace {
    /// The pace before the first probe.
    pub(super) fn new(settings: &Settings, random: fastrand::Rng) -> Self {
        Self {
            interval: settings.interval,
            fast_interval: settings.fast_interval.min(settings.interval),
            rise: settings.rise,
            fall: settings.fall,
            random,
            settled: None,
            candidate: None,
        }
    }

    /// The least time from the end of a probe to the start of the next. It keeps a storm of re-check requests, one
    /// per failed client, from becoming a storm of probes.
    pub(super) fn pause(&self) -> Duration {
        self.fast_interval / PAUSES_PER_FAST_INTERVAL
    }

    /// Takes a result; gives the time from the start of that probe to the start of the next.
    pub(super) fn after(&mut self, kind: Kind) -> Duration {
        if kind == Kind::Local {
            return self.vary(self.interval);
        }
        let Some(settled) = self.settled else {
            self.settled = Some(kind);
            return self.first_phase();
        };
        if kind == settled {
            self.candidate = None;
            return self.vary(self.interval);
        }
        let in_a_row = match self.candidate {
            Some((candidate, count)) if candidate == kind => count.saturating_add(1),
            _ => 1,
        };
        if in_a_row >= self.needed(settled, kind) {
            self.settled = Some(kind);
            self.candidate = None;
            return self.vary(self.interval);
        }
        self.candidate = Some((kind, in_a_row));
        self.vary(self.fast_interval)
    }

    /// How many equal results change the verdict. Between up, draining and full the endpoint speaks for itself and
    /// is believed at once.
    fn needed(&self, settled: Kind, kind: Kind) -> u32 {
        match (settled, kind) {
            (_, Kind::Down) => self.fall,
            (Kind::Down, _) => self.rise,
            _ => 1,
        }
    }

    fn vary(&mut self, interval: Duration) -> Duration {
        interval.mul_f64(1.0 - JITTER + 2.0 * JITTER * self.random.f64())
    }

    /// All endpoints of an answer of DNS get their first probe in the same instant; a random second one spreads
    /// those that follow.
    fn first_phase(&mut self) -> Duration {
        let spread = self.interval.saturating_sub(self.fast_interval);
        self.fast_interval + spread.mul_f64(self.random.f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(10);
    const FAST: Duration = Duration::from_secs(1);
    const SPREAD: Duration = Duration::from_secs(9);

    fn pace(seed: u64) -> Pace {
        let settings = Settings {
            interval: INTERVAL,
            fast_interval: FAST,
            rise: 2,
            fall: 3,
            ..Settings::default()
        };
        Pace::new(&settings, fastrand::Rng::with_seed(seed))
    }

    /// 's' slow, 'f' fast.
    fn word(delay: Duration) -> char {
        if delay >= INTERVAL.mul_f64(0.9) && delay <= INTERVAL.mul_f64(1.1) {
            's'
        } else if delay >= FAST.mul_f64(0.9) && delay <= FAST.mul_f64(1.1) {
            'f'
        } else {
            '?'
        }
    }

    #[test]
    fn it_is_fast_while_the_verdict_changes() {
        use Kind::{Down, Draining, Full, Local, Up};
        for (results, expected) in [
            (&[Up, Up, Up][..], "ss"),
            (&[Up, Down, Down, Down, Down], "ffss"),
            (&[Up, Down, Up, Down, Down, Up], "fsffs"),
            (&[Down, Up, Up, Up], "fss"),
            (&[Down, Up, Down, Up, Up], "fsfs"),
            (&[Up, Draining, Full, Up], "sss"),
            (&[Down, Up, Full, Full], "ffs"),
            (&[Up, Local, Down, Local, Down, Down], "sfsfs"),
        ] {
            let mut pace = pace(7);
            pace.after(results[0]);
            let words: String = results[1..]
                .iter()
                .map(|kind| word(pace.after(*kind)))
                .collect();
            assert_eq!(words, expected, "{results:?}");
        }
    }

    #[test]
    fn the_first_phase_spreads_over_the_interval() {
        let mut delays: Vec<_> = (0..200).map(|seed| pace(seed).after(Kind::Up)).collect();
        delays.sort_unstable();
        assert!(delays[0] >= FAST && delays[199] <= INTERVAL);
        for quarter in 0..4 {
            let low = FAST + SPREAD * quarter / 4;
            let high = FAST + SPREAD * (quarter + 1) / 4;
            let count = delays
                .iter()
                .filter(|delay| (low..high).contains(*delay))
                .count();
            assert!(
                (30..70).contains(&count),
                "{count} of 200 in quarter {quarter}"
            );
        }
    }

    #[test]
    fn a_fast_interval_above_the_interval_is_the_interval() {
        let settings = Settings {
            interval: FAST,
            fast_interval: INTERVAL,
            ..Settings::default()
        };
        let mut pace = Pace::new(&settings, fastrand::Rng::with_seed(1));
        assert_eq!(pace.after(Kind::Up), FAST);
        assert_eq!(word(pace.after(Kind::Down)), 'f');
    }
}
