//! When the cluster's socket is read: at once while little comes, every few milliseconds while much does.
//!
//! Waking a thread costs several times what a record costs (ARCHITECTURE.md, "What the tier costs"), and with ten members
//! nearly every record would come alone. Records say how old they are, so a little waiting is accounted for. With up to five
//! members, where clients a few milliseconds apart can still be told apart, nothing waits.

use super::push_schedule::gap;
use std::time::{Duration, Instant};

/// No record waits longer than this.
const PACE_MAX: Duration = Duration::from_millis(10);

/// Looks in a row that found nothing before the socket is watched again.
const EMPTY_MAX: u32 = 4;

/// How long datagrams may wait: by how much the push gap is longer than that of five members.
pub fn pace(members: usize) -> Duration {
    gap(members).saturating_sub(gap(5)).min(PACE_MAX)
}

/// Whether the socket is watched or looked at by the clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadPace {
    /// The next look; `None` while the socket is watched.
    look_at: Option<Instant>,
    read_at: Option<Instant>,
    empty: u32,
}

impl ReadPace {
    /// The socket cannot be watched: a first look.
    pub const fn looking(at: Instant) -> Self {
        Self {
            look_at: Some(at),
            read_at: None,
            empty: 0,
        }
    }

    /// When to look; `None`: whenever something comes.
    pub const fn look_at(&self) -> Option<Instant> {
        self.look_at
    }

    /// Notes that the socket was read. `more` says that datagrams were left in it.
    pub fn read(&mut self, datagrams: usize, more: bool, members: usize, now: Instant) {
        let pace = pace(members);
        let dense = self.read_at.is_some_and(|at| now < at + pace);
        self.empty = if datagrams == 0 { self.empty + 1 } else { 0 };
        if datagrams > 0 {
            self.read_at = Some(now);
        }
        self.look_at = if more {
            Some(now)
        } else if pace.is_zero() || self.empty >= EMPTY_MAX {
            None
        } else if self.look_at.is_some() || dense {
            Some(now + pace)
        } else {
            None
        };
    }
}

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "an arbitrary origin for virtual time"
)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn the_pace_grows_with_the_members_within_bounds() {
        for (members, ms) in [(1, 0), (5, 0), (7, 4), (10, 10), (1000, 10)] {
            assert_eq!(pace(members), MS * ms, "{members}");
        }
    }

    #[test]
    fn dense_traffic_is_read_by_the_clock_until_it_ends() {
        let start = Instant::now();
        let mut reading = ReadPace::default();
        reading.read(1, false, 7, start);
        assert_eq!(reading.look_at(), None, "the first one");
        reading.read(1, false, 7, start + 2 * MS);
        assert_eq!(reading.look_at(), Some(start + 6 * MS));
        reading.read(3, false, 7, start + 6 * MS);
        assert_eq!(reading.look_at(), Some(start + 10 * MS));
        for look in 0..EMPTY_MAX {
            assert!(reading.look_at().is_some(), "look {look}");
            reading.read(0, false, 7, start + (10 + 4 * look) * MS);
        }
        assert_eq!(reading.look_at(), None, "watched again");
    }

    #[test]
    fn sparse_traffic_and_small_tiers_are_watched() {
        let start = Instant::now();
        let mut reading = ReadPace::default();
        for step in 0..10 {
            reading.read(1, false, 7, start + 5 * step * MS);
            assert_eq!(reading.look_at(), None);
        }
        for _ in 0..10 {
            reading.read(5, false, 5, start + 60 * MS);
            assert_eq!(reading.look_at(), None);
        }
    }

    #[test]
    fn a_flood_is_read_without_a_pause() {
        let now = Instant::now();
        let mut reading = ReadPace::default();
        reading.read(64, true, 3, now);
        assert_eq!(reading.look_at(), Some(now));
        reading.read(64, false, 3, now);
        assert_eq!(reading.look_at(), None);
    }
}
