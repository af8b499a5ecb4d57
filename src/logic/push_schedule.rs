//! When the own record goes out: at once after a change, but never twice within the gap; repeated, because a datagram
//! may be lost; and now and then when nothing happens, so that ages stay meaningful.

use std::time::{Duration, Instant};

/// After the last change the record is sent again at these distances: a lost datagram leaves a stale count for 50 ms
/// and not until gossip repairs it.
const REPAIRS: [Duration; 2] = [Duration::from_millis(50), Duration::from_millis(200)];

/// Everything is sent again after this silence.
pub const REFRESH: Duration = Duration::from_secs(1);

/// The least distance between two pushes: 2 ms per member (so that the traffic that each one receives does not grow
/// with their number), at least 10 ms, at most 100 ms.
pub fn gap(members: usize) -> Duration {
    let members = u32::try_from(members).unwrap_or(u32::MAX);
    Duration::from_millis(2)
        .saturating_mul(members)
        .clamp(Duration::from_millis(10), Duration::from_millis(100))
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
    changed: bool,
    all: bool,
    last_at: Option<Instant>,
    repaired: usize,
}

impl PushSchedule {
    /// Something changed.
    pub fn change(&mut self) {
        self.changed = true;
    }

    /// Something changed that everybody must be told in full: a new member, our own restart, a drain.
    pub fn change_all(&mut self) {
        self.changed = true;
        self.all = true;
    }

    /// When to come back.
    pub fn due(&self, members: usize) -> Option<Instant> {
        let last = self.last_at?;
        if self.changed {
            return Some(last + gap(members));
        }
        Some(last + self.wait())
    }

    /// What to send now, if anything; the caller sends it.
    pub fn take(&mut self, members: usize, now: Instant) -> Option<Push> {
        if self.due(members).is_some_and(|due| now < due) {
            return None;
        }
        // The very first one holds everything.
        let push = if self.changed && !self.all && self.last_at.is_some() {
            Push::Changes
        } else {
            Push::All
        };
        if self.changed || self.last_at.is_none() {
            self.repaired = 0;
        } else {
            self.repaired = (self.repaired + 1).min(REPAIRS.len());
        }
        self.changed = false;
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
            if changes_ms.contains(&ms) {
                schedule.change();
            }
            if let Some(push) = schedule.take(members, start + Duration::from_millis(ms)) {
                sent.push((ms, push));
            }
        }
        sent
    }

    #[test]
    fn a_change_after_silence_goes_out_at_once_and_is_repeated_twice() {
        assert_eq!(
            run(&[500], 3, 1900),
            vec![
                (0, Push::All),
                (50, Push::All),
                (200, Push::All),
                (500, Push::Changes),
                (550, Push::All),
                (700, Push::All),
                (1700, Push::All)
            ]
        );
    }

    #[test]
    fn changes_in_a_row_keep_the_gap_and_the_last_one_is_not_lost() {
        let changes: Vec<u64> = (1000..1030).collect();
        let sent = run(&changes, 3, 1045);
        let times: Vec<u64> = sent
            .iter()
            .map(|(ms, _)| *ms)
            .filter(|ms| *ms >= 1000)
            .collect();
        assert_eq!(times, vec![1000, 1010, 1020, 1030]);
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
