//! When the own record goes out: a moment after a change; often for a burst and no more than once per gap in the long run;
//! repeated, because a datagram may be lost; and now and then when nothing happens, so that ages stay meaningful.
//!
//! Why a moment after, and why bursts are let through: what peers learn from half a burst misleads them more than what
//! they do not know yet, and clients that come some milliseconds apart are level only if each one's record is there before
//! the next one comes (ARCHITECTURE.md, "What the echo cannot see").

use std::time::{Duration, Instant};

/// From the first change to the push that tells it: clients that come at once are told as one.
pub const LEAD: Duration = Duration::from_millis(1);

/// Pushes that may be this many gaps ahead of the long run.
const BURST: u32 = 32;

/// In a burst, a gap's share between two pushes.
const BURST_SHARE: u32 = 5;

/// After the last change the record is sent again at these distances: a lost datagram leaves a stale count for 50 ms
/// and not until gossip repairs it.
const REPAIRS: [Duration; 2] = [Duration::from_millis(50), Duration::from_millis(200)];

/// Everything is sent again after this silence.
pub const REFRESH: Duration = Duration::from_secs(1);

/// The distance of two pushes in the long run: 2 ms per member (so that the traffic that each one receives does not grow
/// with their number), at least 10 ms, at most 100 ms.
pub fn gap(members: usize) -> Duration {
    let members = u32::try_from(members).unwrap_or(u32::MAX);
    Duration::from_millis(2)
        .saturating_mul(members)
        .clamp(Duration::from_millis(10), Duration::from_millis(100))
}

/// How long a member may keep a change to itself. A connection comes and goes, so `rate` dispatches per second are twice as
/// many changes; below one change per gap there is always a push to spare.
pub fn silence(members: usize, rate: f64) -> Duration {
    let gap = gap(members);
    if 2.0 * rate * gap.as_secs_f64() < 1.0 {
        LEAD.max(gap / BURST_SHARE)
    } else {
        gap
    }
}

/// What a push must hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Push {
    /// What changed since the last one.
    Changes,
    /// All of it.
    All,
}

/// The schedule of one member's pushes.
#[derive(Clone, Debug, Default)]
pub struct PushSchedule {
    /// When the first change since the last push came.
    changed_at: Option<Instant>,
    all: bool,
    last_at: Option<Instant>,
    /// Where the pushes would be if they kept the gap: ahead of now by what was spent on bursts.
    paced_until: Option<Instant>,
    repaired: usize,
}

impl PushSchedule {
    /// Something changed.
    pub fn change(&mut self, now: Instant) {
        self.changed_at.get_or_insert(now);
    }

    /// Something changed that everybody must be told in full: a new member, our own restart, a drain.
    pub fn change_all(&mut self, now: Instant) {
        self.change(now);
        self.all = true;
    }

    /// Whether there is something to tell.
    pub const fn is_changed(&self) -> bool {
        self.changed_at.is_some()
    }

    /// When to come back.
    pub fn due(&self, members: usize) -> Option<Instant> {
        let last = self.last_at?;
        let Some(changed_at) = self.changed_at else {
            return Some(last + self.wait());
        };
        let gap = gap(members);
        let allowed = self
            .paced_until
            .and_then(|until| until.checked_sub(gap * BURST));
        let next = last + gap / BURST_SHARE;
        Some(
            allowed
                .map_or(next, |at| at.max(next))
                .max(changed_at + LEAD),
        )
    }

    /// What to send now, if anything; the caller sends it.
    pub fn take(&mut self, members: usize, now: Instant) -> Option<Push> {
        if self.due(members).is_some_and(|due| now < due) {
            return None;
        }
        let changed = self.changed_at.take().is_some();
        // The very first one holds everything.
        let push = if changed && !self.all && self.last_at.is_some() {
            Push::Changes
        } else {
            Push::All
        };
        if changed || self.last_at.is_none() {
            self.repaired = 0;
            let paced = self.paced_until.map_or(now, |until| until.max(now));
            self.paced_until = Some(paced + gap(members));
        } else {
            self.repaired = (self.repaired + 1).min(REPAIRS.len());
        }
        self.all = false;
        self.last_at = Some(now);
        Some(push)
    }

    /// Silence allowed after the last push. Distances are from the last CHANGE, so the second repair waits the rest.
    fn wait(&self) -> Duration {
        match self.repaired {
            0 => REPAIRS[0],
            1 => REPAIRS[1].saturating_sub(REPAIRS[0]),
            _ => REFRESH,
        }
    }
}

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "an arbitrary origin for virtual time"
)]
mod tests {
    use super::*;

    fn run(changes_ms: &[u64], members: usize, until_ms: u64) -> Vec<(u64, Push)> {
        let start = Instant::now();
        let mut schedule = PushSchedule::default();
        let mut sent = Vec::new();
        for ms in 0..until_ms {
            let now = start + Duration::from_millis(ms);
            if changes_ms.contains(&ms) {
                schedule.change(now);
            }
            if let Some(push) = schedule.take(members, now) {
                sent.push((ms, push));
            }
        }
        sent
    }

    fn times(sent: &[(u64, Push)], from_ms: u64) -> Vec<u64> {
        let times = sent.iter().map(|(ms, _)| *ms);
        times.filter(|ms| *ms >= from_ms).collect()
    }

    #[test]
    fn a_change_after_silence_goes_out_a_moment_later_and_is_repeated_twice() {
        assert_eq!(
            run(&[500], 3, 1900),
            vec![
                (0, Push::All),
                (50, Push::All),
                (200, Push::All),
                (501, Push::Changes),
                (551, Push::All),
                (701, Push::All),
                (1701, Push::All)
            ]
        );
    }

    #[test]
    fn a_burst_is_told_as_it_comes_and_its_last_change_is_not_lost() {
        let changes: Vec<u64> = (1000..1010).collect();
        let sent = run(&changes, 3, 1045);
        assert_eq!(times(&sent, 1000), vec![1001, 1003, 1005, 1007, 1009]);
    }

    #[test]
    fn in_the_long_run_the_gap_is_kept() {
        let changes: Vec<u64> = (1000..3000).collect();
        for (members, gap_ms) in [(3, 10), (10, 20), (50, 100)] {
            let sent = times(&run(&changes, members, 3000), 1000);
            let most = 2000 / gap_ms + usize::try_from(BURST).unwrap() + 1;
            assert!(
                sent.len() <= most,
                "{members} members: {} pushes",
                sent.len()
            );
            let late = sent
                .windows(2)
                .rev()
                .take(3)
                .all(|pair| pair[1] - pair[0] == gap_ms as u64);
            assert!(late || members == 50, "{members} members: {sent:?}");
        }
    }

    #[test]
    fn silence_lasts_as_long_as_a_change_may_be_held_back() {
        assert_eq!(silence(3, 0.0), Duration::from_millis(2));
        assert_eq!(silence(3, 49.0), Duration::from_millis(2));
        assert_eq!(silence(3, 51.0), Duration::from_millis(10));
        assert_eq!(silence(50, 1.0), Duration::from_millis(20));
        assert_eq!(silence(50, 6.0), Duration::from_millis(100));
    }

    #[test]
    fn the_gap_grows_with_the_members_within_bounds() {
        for (members, ms) in [
            (0, 10),
            (1, 10),
            (5, 10),
            (6, 12),
            (30, 60),
            (50, 100),
            (5000, 100),
            (usize::MAX, 100),
        ] {
            assert_eq!(gap(members), Duration::from_millis(ms), "{members}");
        }
    }
}
