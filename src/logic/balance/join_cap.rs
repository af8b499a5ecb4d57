//! At most so many new connections per second and endpoint over the whole tier: a newcomer, empty as it is, would
//! else get all connections of a storm. An absolute rate, because a slow start relative to the others makes harmless
//! scale-outs four times slower.
//!
//! Each instance owns the share of the rate that its own rate has in the tier's, refilled into one token bucket per
//! endpoint. When the bucket of every eligible endpoint is empty the tier is beyond the cap as a whole, and the
//! clients are spread by weight instead of refused.

use super::row::Row;

/// The bucket holds what comes in this long.
const BURST_S: f64 = 0.1;

/// Refills closer together than this are put off: their additions would be lost in rounding.
const REFILL_STEP_S: f64 = 0.001;

/// Own part of the cap.
#[derive(Debug)]
pub(super) struct JoinCap {
    /// Over the tier; 0 = no cap.
    per_second: f64,
    /// This instance's part, 0 to 1.
    share: f64,
    refilled_at: f64,
}

impl JoinCap {
    pub(super) fn new(join_rate: u32) -> Self {
        Self {
            per_second: f64::from(join_rate),
            share: 1.0,
            refilled_at: 0.0,
        }
    }

    /// Takes a new rate; the buckets start full.
    pub(super) fn configure(&mut self, join_rate: u32, rows: &mut [Row]) {
        self.per_second = f64::from(join_rate);
        for row in rows {
            self.fill(row);
        }
    }

    /// `own` and `peers`: dispatches per second; `members`: live instances with this one. An idle instance keeps a
    /// part of its head count, so that its first connections are not starved by the rate that it does not have yet.
    pub(super) fn share_by_rate(&mut self, own: f64, peers: f64, members: u32) {
        let members = f64::from(members);
        let by_rate = (own + 0.5) / (own + peers + 0.5 * members);
        self.share = by_rate.max(0.5 / members).min(1.0);
    }

    /// Gives a new endpoint a full bucket.
    pub(super) fn fill(&self, row: &mut Row) {
        row.tokens = self.burst();
    }

    pub(super) fn refill(&mut self, now: f64, rows: &mut [Row]) {
        let passed = now - self.refilled_at;
        if passed < REFILL_STEP_S {
            return;
        }
        self.refilled_at = now;
        let burst = self.burst();
        if burst.is_infinite() {
            return;
        }
        let more = passed * self.per_second * self.share;
        for row in rows {
            row.tokens = (row.tokens + more).min(burst);
        }
    }

    /// The eligible endpoint with most tokens per weight, when none has a whole one. The common debt is forgiven by
    /// weight, so that debts stay within a few tokens of each other and of zero; without that, a long storm would
    /// lock the cap shut after its end, and cut off at a bound all debts would become equal and the choice blind.
    pub(super) fn overdraw(rows: &mut [Row], tier: u32) -> Option<usize> {
        let mut best: Option<(usize, f64)> = None;
        for (index, row) in rows.iter().enumerate().filter(|(_, row)| row.belongs(tier)) {
            let tokens = row.tokens * row.weight_inverse;
            if best.is_none_or(|(_, most)| tokens > most) {
                best = Some((index, tokens));
            }
        }
        let (best, most) = best?;
        if most < 0.0 {
            for row in rows.iter_mut().filter(|row| row.belongs(tier)) {
                row.tokens -= most * row.weight;
            }
        }
        Some(best)
    }

    fn burst(&self) -> f64 {
        if self.per_second > 0.0 {
            (self.per_second * self.share * BURST_S).max(1.0)
        } else {
            f64::INFINITY
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn share_follows_the_rates() {
        let mut cap = JoinCap::new(1000);
        for (own, peers, members, expected) in [
            (0.0, 0.0, 1, 1.0),
            (500.0, 0.0, 1, 1.0),
            (0.0, 0.0, 4, 0.25),
            (100.0, 300.0, 4, 0.25),
            (0.0, 10_000.0, 4, 0.125),
        ] {
            cap.share_by_rate(own, peers, members);
            assert!(
                (cap.share - expected).abs() < 0.01,
                "{own} of {peers}: {}",
                cap.share
            );
        }
    }

    #[test]
    fn zero_is_no_cap() {
        let mut cap = JoinCap::new(0);
        let mut row = Row::for_test();
        cap.fill(&mut row);
        for step in 0..1000 {
            row.tokens -= 1.0;
            cap.refill(f64::from(step), std::slice::from_mut(&mut row));
        }
        assert!(row.tokens >= 1.0);
    }

    #[test]
    fn half_a_second_gives_no_more_than_rate_and_burst() {
        let mut cap = JoinCap::new(1000);
        let mut row = Row::for_test();
        cap.fill(&mut row);
        let mut taken = 0;
        for step in 0..5000 {
            cap.refill(f64::from(step) * 1e-4, std::slice::from_mut(&mut row));
            if row.tokens >= 1.0 {
                row.tokens -= 1.0;
                taken += 1;
            }
        }
        assert!((590..=601).contains(&taken), "{taken}");
    }
}
