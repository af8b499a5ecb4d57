//! How many connections this instance had dispatched to each endpoint at an instant of the near past.
//!
//! The echo scales what was dispatched here *since a peer's record was taken*, so dispatch counts must be known at
//! that instant. Marks are taken at most every 10 ms and only when there is something to note; between two marks the
//! counts are interpolated. The design asks for 3 s of depth; as silence means "nothing changed" after the push gap,
//! nobody asks for an instant older than [`LOOK_BACK_MAX_S`], so the ring is as deep as that needs and no deeper.

use super::rate::{Rate, decay};
use super::row::Row;

/// Least distance of two marks.
const STEP_S: f64 = 0.010;

/// The oldest instant that is asked for: the longest push gap (100 ms) and 5 ms.
pub(super) const LOOK_BACK_MAX_S: f64 = 0.105;

/// Marks kept. A burst writes one per step, sparse traffic two per dispatch that lie at least a step apart.
const MARKS: usize = 32;
#[expect(clippy::cast_precision_loss, reason = "a small constant")]
const _: () = assert!(MARKS as f64 * STEP_S / 2.0 > LOOK_BACK_MAX_S);

/// Dispatch counts over time, one column per listed endpoint.
#[derive(Debug)]
pub(super) struct History {
    columns: usize,
    marks: [Mark; MARKS],
    /// `MARKS` rows of `columns` counts.
    counts: Vec<f64>,
    newest: usize,
    len: usize,
    /// Weight per age in [`History::subtract`]: 0 is now, 1 the newest mark.
    weights: [f64; MARKS + 1],
}

#[derive(Clone, Copy, Debug, Default)]
struct Mark {
    at: f64,
    rate: f64,
    total: f64,
}

/// An instant between two marks, and the own rate at it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Position {
    older: usize,
    newer: usize,
    /// 0 = at the older mark, 1 = at the newer.
    fraction: f64,
    /// Own dispatches per second at that instant.
    pub(super) rate: f64,
}

impl History {
    pub(super) const fn new() -> Self {
        Self {
            columns: 0,
            marks: [Mark {
                at: 0.0,
                rate: 0.0,
                total: 0.0,
            }; MARKS],
            counts: Vec::new(),
            newest: 0,
            len: 0,
            weights: [0.0; MARKS + 1],
        }
    }

    /// Gives column `new` the past of the column that `origins[new]` names; a new endpoint has a past of zeros.
    pub(super) fn remap(&mut self, origins: &[Option<usize>]) {
        let mut counts = vec![0.0; MARKS * origins.len()];
        for mark in 0..MARKS {
            for (column, origin) in origins.iter().enumerate() {
                if let Some(origin) = origin.filter(|origin| *origin < self.columns) {
                    counts[mark * origins.len() + column] =
                        self.counts[mark * self.columns + origin];
                }
            }
        }
        self.counts = counts;
        self.columns = origins.len();
    }

    /// To be called before each dispatch is counted.
    pub(super) fn observe(&mut self, now: f64, rows: &[Row], total: f64, rate: &Rate) {
        if self.len == 0 {
            self.push(now, rows, total, rate);
            return;
        }
        let last = self.marks[self.newest];
        if now - last.at < STEP_S {
            return;
        }
        // Whatever came after the last mark came within a step of it: a later dispatch would have made a mark.
        if last.at + STEP_S < now && last.total.total_cmp(&total).is_ne() {
            self.push(last.at + STEP_S, rows, total, rate);
        }
        self.push(now, rows, total, rate);
    }

    fn push(&mut self, at: f64, rows: &[Row], total: f64, rate: &Rate) {
        debug_assert!(rows.len() == self.columns, "one column per listed endpoint");
        self.newest = (self.newest + 1) % MARKS;
        self.len = (self.len + 1).min(MARKS);
        self.marks[self.newest] = Mark {
            at,
            rate: rate.at(at),
            total,
        };
        let start = self.newest * self.columns;
        for (count, row) in self.counts[start..start + self.columns]
            .iter_mut()
            .zip(rows)
        {
            *count = row.dispatched;
        }
    }

    /// The mark of an age of 1 (newest) to `len`.
    const fn slot(&self, age: usize) -> usize {
        (self.newest + MARKS + 1 - age) % MARKS
    }

    /// Finds `at`, which is not after `now`.
    pub(super) fn locate(&self, at: f64, now: f64, total: f64, rate: &Rate) -> Position {
        let mut newer = Mark {
            at: now,
            rate: 0.0,
            total,
        };
        if self.len > 0 {
            newer.at = now
                .min(self.marks[self.newest].at + STEP_S)
                .max(rate.updated_at());
            newer.rate = rate.at(newer.at);
        }
        if at >= newer.at {
            return Position {
                older: 0,
                newer: 0,
                fraction: 1.0,
                rate: rate.at(at),
            };
        }
        for age in 1..=self.len {
            let older = self.marks[self.slot(age)];
            if older.at <= at {
                let fraction = (at - older.at) / (newer.at - older.at);
                let flat = newer.total.total_cmp(&older.total).is_eq();
                let rate = if flat {
                    older.rate * decay(at - older.at)
                } else {
                    older.rate + fraction * (newer.rate - older.rate)
                };
                return Position {
                    older: age,
                    newer: age - 1,
                    fraction,
                    rate,
                };
            }
            newer = older;
        }
        // Older than all marks: the counts stood where the first mark found them.
        Position {
            older: self.len,
            newer: self.len,
            fraction: 1.0,
            rate: newer.rate,
        }
    }

    /// Notes that the counts at `position` are to be subtracted `weight` times.
    pub(super) fn weigh(&mut self, position: &Position, weight: f64) {
        self.weights[position.older] += weight * (1.0 - position.fraction);
        self.weights[position.newer] += weight * position.fraction;
    }

    /// Writes minus the weighed counts into [`Row::echo_base`] and forgets the weights. One pass over the touched
    /// marks, however many peers there are.
    pub(super) fn subtract(&mut self, rows: &mut [Row]) {
        for row in rows.iter_mut() {
            row.echo_base = -self.weights[0] * row.dispatched;
        }
        self.weights[0] = 0.0;
        for age in 1..=self.len {
            let weight = std::mem::take(&mut self.weights[age]);
            if weight <= 0.0 {
                continue;
            }
            let start = self.slot(age) * self.columns;
            for (row, count) in rows
                .iter_mut()
                .zip(&self.counts[start..start + self.columns])
            {
                row.echo_base -= weight * count;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logic::balance::row::Row;

    /// One endpoint, dispatches at the given milliseconds; asks for the count at each (milliseconds, expected).
    fn check(dispatches_ms: &[f64], now_ms: f64, expected: &[(f64, f64)]) {
        let mut history = History::new();
        history.remap(&[None]);
        let mut rate = Rate::default();
        let mut row = Row::for_test();
        for at in dispatches_ms {
            history.observe(at / 1e3, std::slice::from_ref(&row), row.dispatched, &rate);
            rate.count(at / 1e3);
            row.dispatched += 1.0;
        }
        for (at, count) in expected {
            let position = history.locate(at / 1e3, now_ms / 1e3, row.dispatched, &rate);
            history.weigh(&position, 1.0);
            history.subtract(std::slice::from_mut(&mut row));
            assert!(
                (row.echo_base + count).abs() < 1e-6,
                "at {at}: {} and not {count}",
                -row.echo_base
            );
        }
    }

    #[test]
    fn nothing_dispatched_is_zero_at_any_time() {
        check(&[], 100.0, &[(0.0, 0.0), (50.0, 0.0), (100.0, 0.0)]);
    }

    #[test]
    fn counts_before_the_first_dispatch_are_zero() {
        check(&[50.0, 50.1], 60.0, &[(0.0, 0.0), (49.0, 0.0), (60.0, 2.0)]);
    }

    #[test]
    fn a_step_is_interpolated() {
        check(
            &[50.0, 61.0],
            61.0,
            &[(50.0, 0.0), (55.0, 0.5), (60.5, 1.0)],
        );
    }

    #[test]
    fn sparse_dispatches_are_placed_at_their_own_time_and_not_spread_over_the_pause() {
        check(
            &[0.0, 1000.0, 2000.0],
            2100.0,
            &[(900.0, 1.0), (1011.0, 2.0), (1999.0, 2.0), (2050.0, 3.0)],
        );
    }

    #[test]
    fn the_ring_outlives_the_longest_look_back() {
        let dispatches: Vec<f64> = (0..400).map(|step| f64::from(step) * 11.0).collect();
        let now = 399.0 * 11.0;
        check(&dispatches, now, &[(now - LOOK_BACK_MAX_S * 1e3, 389.5)]);
    }
}
