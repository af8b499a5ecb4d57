//! From single probe results to a verdict: rise and fall.
//!
//! The first result of an unproven endpoint decides at once, both ways: there is nothing to be patient about. What a
//! broker says about itself (draining, full) takes effect at once as well, and ends with its next plain success.

use crate::logic::event::ProbeResult;
use std::time::Duration;

/// Probe results in a row that change a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thresholds {
    /// Good ones that make a down endpoint up, at least 1.
    pub rise: u32,
    /// Bad ones that make an up endpoint down, at least 1.
    pub fall: u32,
}

/// What the probes say in sum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Nothing yet.
    #[default]
    Unproven,
    /// Healthy.
    Up,
    /// Healthy, and asks for no new connections.
    Draining,
    /// Healthy, and full.
    Full,
    /// Not healthy.
    Down,
}

/// The machine of one endpoint.
#[derive(Clone, Debug, Default)]
pub struct HealthState {
    verdict: Verdict,
    why: String,
    latency: Option<Duration>,
    good: u32,
    bad: u32,
}

impl HealthState {
    /// The verdict.
    pub const fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// Why, in the probe's words; empty when up.
    pub fn why(&self) -> &str {
        &self.why
    }

    /// Answer time of the last good probe.
    pub const fn latency(&self) -> Option<Duration> {
        self.latency
    }

    /// Takes one result. True if the verdict changed.
    pub fn probed(&mut self, result: ProbeResult, thresholds: Thresholds) -> bool {
        let before = self.verdict;
        match result {
            ProbeResult::Up(latency) => self.good(latency, thresholds.rise),
            ProbeResult::Draining(why) => self.answered(Verdict::Draining, why),
            ProbeResult::Full(why) => self.answered(Verdict::Full, why),
            ProbeResult::Down(why) => self.bad(why, thresholds.fall),
        }
        self.verdict != before
    }

    /// Takes a verdict that other members have reached: it counts at once.
    pub fn relayed(&mut self, result: ProbeResult) {
        self.good = 0;
        self.bad = 0;
        (self.verdict, self.why) = match result {
            ProbeResult::Up(_) => (Verdict::Up, String::new()),
            ProbeResult::Draining(why) => (Verdict::Draining, why),
            ProbeResult::Full(why) => (Verdict::Full, why),
            ProbeResult::Down(why) => (Verdict::Down, why),
        };
        self.latency = None;
    }

    fn good(&mut self, latency: Duration, rise: u32) {
        self.bad = 0;
        self.good = self.good.saturating_add(1);
        self.latency = Some(latency);
        if self.verdict != Verdict::Down || self.good >= rise {
            self.verdict = Verdict::Up;
            self.why.clear();
        }
    }

    fn answered(&mut self, verdict: Verdict, why: String) {
        self.bad = 0;
        self.good = self.good.saturating_add(1);
        self.verdict = verdict;
        self.why = why;
    }

    fn bad(&mut self, why: String, fall: u32) {
        self.good = 0;
        self.bad = self.bad.saturating_add(1);
        if matches!(self.verdict, Verdict::Unproven | Verdict::Down) || self.bad >= fall {
            self.verdict = Verdict::Down;
            self.why = why;
            self.latency = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// u up, d draining, f full, x down: the verdict after each, as U D F X, ? for unproven.
    fn check(results: &str, expected: &str) {
        let mut state = HealthState::default();
        let thresholds = Thresholds { rise: 2, fall: 3 };
        let mut verdicts = String::new();
        for result in results.chars() {
            let before = state.verdict();
            let changed = state.probed(
                match result {
                    'u' => ProbeResult::Up(Duration::from_millis(1)),
                    'd' => ProbeResult::Draining("evacuating".into()),
                    'f' => ProbeResult::Full("quota".into()),
                    _ => ProbeResult::Down("refused".into()),
                },
                thresholds,
            );
            assert_eq!(changed, state.verdict() != before, "{results}");
            assert_eq!(
                state.why().is_empty(),
                state.verdict() == Verdict::Up,
                "{results}"
            );
            verdicts.push(match state.verdict() {
                Verdict::Unproven => '?',
                Verdict::Up => 'U',
                Verdict::Draining => 'D',
                Verdict::Full => 'F',
                Verdict::Down => 'X',
            });
        }
        assert_eq!(verdicts, expected, "{results}");
    }

    #[test]
    fn first_result_decides() {
        check("u", "U");
        check("x", "X");
    }

    #[test]
    fn rise_and_fall_count_results_in_a_row() {
        check("uxxx", "UUUX");
        check("uxxuxxx", "UUUUUUX");
        check("xuxuu", "XXXXU");
    }

    #[test]
    fn what_a_broker_says_of_itself_counts_at_once_and_ends_with_the_next_success() {
        check("uduf", "UDUF");
        check("uffu", "UFFU");
        check("udxxx", "UDDDX");
        check("xdu", "XDU");
    }
}
