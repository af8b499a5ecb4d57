//! Passive ejection: an endpoint on which clients' attempts fail is taken out for a while, whatever its probes say. A
//! broker at its connection limit accepts and closes, so probes stay green and least connections makes it a black hole.
//!
//! In -> (failures in a row) -> Ejected -> (time) -> Trial -> (success) In | (failure) Ejected, twice as long.
//!
//! One [`Outlier`] per endpoint. What needs the sight of the whole pool comes in as [`Circumstances`].

use crate::logic::backoff;
use crate::logic::event::ConnectFailure;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// `pools.NAME.outlier`: passive ejection.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OutlierSettings {
    /// `enabled`, default true.
    pub enabled: bool,
    /// `failures`: in a row (no success between) that eject, 1 to 1000, default 5.
    pub failures: u32,
    /// `window`: failures older than this do not count, 1s to 1h, default 30s.
    pub window: Duration,
    /// `ejection`: first ejection; doubles with each one that follows, default 5s.
    pub ejection: Duration,
    /// `ejection_max`: longest ejection, default 5m.
    pub ejection_max: Duration,
    /// `ejected_share_max`: share of the endpoints that may be ejected at once, 0.0 to 1.0, default 0.5. The last
    /// eligible endpoint is never ejected.
    pub ejected_share_max: f64,
}

impl Default for OutlierSettings {
    fn default() -> Self {
        Self {
            enabled: true,
            failures: 5,
            window: Duration::from_secs(30),
            ejection: Duration::from_secs(5),
            ejection_max: Duration::from_secs(300),
            ejected_share_max: 0.5,
        }
    }
}

impl OutlierSettings {
    /// How many of so many endpoints may be ejected at once: the share rounded down, but one of two or more, unless
    /// the share is 0.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a share of a small count; `as` saturates"
    )]
    pub fn ejected_max(&self, endpoints: usize) -> usize {
        if endpoints < 2 || self.ejected_share_max <= 0.0 {
            return 0;
        }
        ((self.ejected_share_max * endpoints as f64) as usize).clamp(1, endpoints)
    }
}

/// Where an endpoint stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// Takes connections.
    #[default]
    In,
    /// Takes none.
    Ejected {
        /// When the trial begins.
        until: Instant,
    },
    /// Half-open: takes one at a time, and the next result decides.
    Trial,
}

/// What the pool knows and one endpoint does not.
#[derive(Clone, Copy, Debug)]
pub struct Circumstances {
    /// Failed attempts since the last success, as the picker counts them.
    pub failures_in_row: u32,
    /// The last success on any *other* endpoint.
    pub others_succeeded: Option<Instant>,
    /// How long before the report the attempts behind time-outs have begun, at least.
    pub patience: Duration,
    /// There is room under `ejected_share_max`, and another endpoint is eligible.
    pub may_eject: bool,
}

/// The machine of one endpoint.
#[derive(Clone, Debug, Default)]
pub struct Outlier {
    phase: Phase,
    /// Newest last; not more than `failures`.
    failures: VecDeque<Instant>,
    /// Ejections that count for the length of the next.
    level: u32,
    ejection: Duration,
    /// Since when it has been in again.
    good_since: Option<Instant>,
    why: String,
}

impl Outlier {
    /// Where the endpoint stands.
    pub const fn phase(&self) -> Phase {
        self.phase
    }

    /// Why it was ejected, for people.
    pub fn why(&self) -> &str {
        &self.why
    }

    /// Takes one failed attempt. True if it ejects.
    pub fn failed(
        &mut self,
        failure: ConnectFailure,
        circumstances: &Circumstances,
        settings: &OutlierSettings,
        now: Instant,
        rng: &mut fastrand::Rng,
    ) -> bool {
        if failure == ConnectFailure::Local || !settings.enabled {
            return false;
        }
        if matches!(self.phase, Phase::Ejected { .. }) {
            // An attempt from before the ejection.
            return false;
        }
        self.remember(circumstances, settings, now);
        let enough = self.phase == Phase::Trial
            || (self.failures.len() >= settings.failures as usize
                && circumstances.failures_in_row >= settings.failures);
        if !enough || !circumstances.may_eject {
            return false;
        }
        if failure.is_slowness() && !self.others_are_quicker(circumstances) {
            return false;
        }
        self.eject(failure, settings, now, rng);
        true
    }

    fn remember(
        &mut self,
        circumstances: &Circumstances,
        settings: &OutlierSettings,
        now: Instant,
    ) {
        // The picker saw a success between: what came before it is no part of this row. Its count may be ahead of the
        // queue's, never behind for long.
        while self.failures.len()
            >= (circumstances.failures_in_row.min(settings.failures) as usize).max(1)
        {
            self.failures.pop_front();
        }
        while self
            .failures
            .front()
            .is_some_and(|at| now.duration_since(*at) > settings.window)
        {
            self.failures.pop_front();
        }
        self.failures.push_back(now);
    }

    /// Did another endpoint answer while the first of these attempts waited? If none did, all are slow together, and
    /// ejecting one of them helps nobody.
    fn others_are_quicker(&self, circumstances: &Circumstances) -> bool {
        let (Some(first), Some(success)) = (self.failures.front(), circumstances.others_succeeded)
        else {
            return false;
        };
        success + circumstances.patience > *first
    }

    fn eject(
        &mut self,
        failure: ConnectFailure,
        settings: &OutlierSettings,
        now: Instant,
        rng: &mut fastrand::Rng,
    ) {
        self.forgive(settings, now);
        let wait = backoff::doubled(settings.ejection, self.level, settings.ejection_max);
        self.ejection = backoff::jittered(wait, rng).min(settings.ejection_max);
        self.why = format!(
            "ejected for {:.1} s: {} failed in a row, last {}",
            self.ejection.as_secs_f64(),
            self.failures.len(),
            failure.label()
        );
        self.level = self.level.saturating_add(1);
        self.phase = Phase::Ejected {
            until: now + self.ejection,
        };
        self.failures.clear();
        self.good_since = None;
    }

    /// Good time takes levels back: one for each `window`, or each time as long as the last ejection if that is
    /// longer.
    fn forgive(&mut self, settings: &OutlierSettings, now: Instant) {
        let Some(since) = self.good_since else { return };
        let step = settings
            .window
            .max(self.ejection)
            .max(Duration::from_millis(1));
        let steps = now.duration_since(since).as_millis() / step.as_millis().max(1);
        self.level = self
            .level
            .saturating_sub(u32::try_from(steps).unwrap_or(u32::MAX));
    }

    /// Begins the trial if the ejection is over. True if it does.
    pub fn tick(&mut self, now: Instant) -> bool {
        match self.phase {
            Phase::Ejected { until } if now >= until => {
                self.phase = Phase::Trial;
                true
            }
            _ => false,
        }
    }

    /// Begins the trial before its time: nothing else is left to use. True if it was ejected.
    pub fn readmit(&mut self) -> bool {
        let ejected = matches!(self.phase, Phase::Ejected { .. });
        if ejected {
            self.phase = Phase::Trial;
        }
        ejected
    }

    /// An attempt succeeded during the trial. True if that ended it.
    pub fn trial_passed(&mut self, now: Instant) -> bool {
        if self.phase != Phase::Trial {
            return false;
        }
        self.phase = Phase::In;
        self.failures.clear();
        self.good_since = Some(now);
        self.why.clear();
        true
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "any instant does as a beginning")]
mod tests {
    use super::*;

    struct Bench {
        outlier: Outlier,
        settings: OutlierSettings,
        circumstances: Circumstances,
        rng: fastrand::Rng,
        start: Instant,
    }

    impl Bench {
        fn new() -> Self {
            Self {
                outlier: Outlier::default(),
                settings: OutlierSettings {
                    failures: 3,
                    ..OutlierSettings::default()
                },
                circumstances: Circumstances {
                    failures_in_row: 0,
                    others_succeeded: None,
                    patience: Duration::from_secs(4),
                    may_eject: true,
                },
                rng: fastrand::Rng::with_seed(1),
                start: Instant::now(),
            }
        }

        fn at(&self, seconds: f64) -> Instant {
            self.start + Duration::from_secs_f64(seconds)
        }

        fn fail(&mut self, seconds: f64, failure: ConnectFailure) -> bool {
            self.circumstances.failures_in_row += 1;
            let now = self.at(seconds);
            self.outlier.failed(
                failure,
                &self.circumstances,
                &self.settings,
                now,
                &mut self.rng,
            )
        }

        /// Fails until ejected and gives the length of the ejection.
        fn eject(&mut self, seconds: f64) -> f64 {
            while !self.fail(seconds, ConnectFailure::Refused) {}
            match self.outlier.phase() {
                Phase::Ejected { until } => until.duration_since(self.at(seconds)).as_secs_f64(),
                phase => panic!("{phase:?}"),
            }
        }
    }

    #[test]
    fn ejects_at_the_configured_number_in_a_row() {
        for failure in [
            ConnectFailure::Refused,
            ConnectFailure::ClosedBeforeConnack,
            ConnectFailure::ConnackUnavailable(0x97),
            ConnectFailure::NotMqtt,
        ] {
            let mut bench = Bench::new();
            assert!(!bench.fail(0.0, failure));
            assert!(!bench.fail(0.1, failure));
            assert!(bench.fail(0.2, failure), "{failure:?}");
        }
    }

    #[test]
    fn a_success_between_begins_a_new_row() {
        let mut bench = Bench::new();
        bench.fail(0.0, ConnectFailure::Refused);
        bench.fail(0.1, ConnectFailure::Refused);
        bench.circumstances.failures_in_row = 0;
        assert!(!bench.fail(0.2, ConnectFailure::Refused));
        assert!(!bench.fail(0.3, ConnectFailure::Refused));
        assert!(bench.fail(0.4, ConnectFailure::Refused));
    }

    #[test]
    fn a_success_behind_queued_failures_voids_them() {
        let mut bench = Bench::new();
        for _ in 0..10 {
            bench.circumstances.failures_in_row = 0;
            assert!(!bench.fail(0.0, ConnectFailure::Refused));
        }
    }

    #[test]
    fn failures_older_than_the_window_do_not_count() {
        let mut bench = Bench::new();
        for step in 0..20 {
            assert!(!bench.fail(f64::from(step) * 20.0, ConnectFailure::Refused));
        }
    }

    #[test]
    fn local_trouble_never_counts() {
        let mut bench = Bench::new();
        for _ in 0..100 {
            assert!(!bench.fail(0.0, ConnectFailure::Local));
        }
    }

    #[test]
    fn disabled_never_ejects() {
        let mut bench = Bench::new();
        bench.settings.enabled = false;
        for _ in 0..100 {
            assert!(!bench.fail(0.0, ConnectFailure::Refused));
        }
    }

    #[test]
    fn slowness_ejects_only_when_another_endpoint_answered_meanwhile() {
        for (others, expected) in [
            (None, false),
            (Some(10.0), false),
            (Some(15.5), true),
            (Some(20.1), true),
        ] {
            let mut bench = Bench::new();
            bench.circumstances.others_succeeded = others.map(|seconds| bench.at(seconds));
            bench.fail(19.8, ConnectFailure::ConnackTimeout);
            bench.fail(19.9, ConnectFailure::ConnackTimeout);
            bench.circumstances.patience = Duration::from_secs(5);
            assert_eq!(
                bench.fail(20.2, ConnectFailure::ConnackTimeout),
                expected,
                "{others:?}"
            );
        }
    }

    #[test]
    fn ejections_double_and_good_time_takes_it_back() {
        let mut bench = Bench::new();
        let first = bench.eject(0.0);
        assert!((4.0..=6.0).contains(&first), "{first}");
        assert!(!bench.outlier.tick(bench.at(first - 0.1)));
        assert!(bench.outlier.tick(bench.at(first)));
        let second = bench.eject(10.0);
        assert!(
            (8.0..=12.0).contains(&second),
            "one failure on trial, twice as long: {second}"
        );
        assert!(bench.outlier.tick(bench.at(30.0)));
        let now = bench.at(30.0);
        assert!(bench.outlier.trial_passed(now));
        let third = bench.eject(31.0);
        assert!((16.0..=24.0).contains(&third), "no good time: {third}");
        assert!(bench.outlier.tick(bench.at(100.0)));
        let now = bench.at(100.0);
        assert!(bench.outlier.trial_passed(now));
        let last = bench.eject(1000.0);
        assert!((4.0..=6.0).contains(&last), "a long good time: {last}");
    }

    #[test]
    fn an_ejection_is_never_longer_than_the_maximum() {
        let mut bench = Bench::new();
        for round in 0..20 {
            let seconds = f64::from(round) * 1000.0;
            assert!(bench.eject(seconds) <= 300.0);
            assert!(bench.outlier.tick(bench.at(seconds + 301.0)));
        }
    }

    #[test]
    fn late_failures_do_not_prolong_an_ejection() {
        let mut bench = Bench::new();
        bench.eject(0.0);
        let phase = bench.outlier.phase();
        assert!(!bench.fail(1.0, ConnectFailure::Refused));
        assert_eq!(bench.outlier.phase(), phase);
    }

    #[test]
    fn share_is_rounded_down_but_one_of_two() {
        for (share, endpoints, expected) in [
            (0.5, 1, 0),
            (0.5, 2, 1),
            (0.5, 3, 1),
            (0.5, 5, 2),
            (0.1, 3, 1),
            (1.0, 3, 3),
            (0.0, 10, 0),
        ] {
            let settings = OutlierSettings {
                ejected_share_max: share,
                ..OutlierSettings::default()
            };
            assert_eq!(
                settings.ejected_max(endpoints),
                expected,
                "{share} of {endpoints}"
            );
        }
    }
}
