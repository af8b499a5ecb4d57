//! What this instance dispatched in the near past, one by one.
//!
//! The echo scales what was dispatched here *since a peer's record was taken*. Whole connections are at stake, so each
//! dispatch is remembered with its time. An earlier version interpolated between marks 10 ms apart: with few connections
//! the fractions that this left decided where the next one went.
//!
//! Silence means "nothing changed" after the push gap, so nobody asks for an instant older than the longest gap and its
//! slack (0.1 s). The ring holds that up to 9700 dispatches per second; above that what it lacks is extrapolated.

use super::rate::{Rate, decay};
use super::row::Row;

/// Dispatches that are remembered, 16 KiB per pool.
const DEPTH: usize = 1024;

/// The row of a dispatch to an endpoint that is not listed any more.
const NOWHERE: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
struct Dispatch {
    at: f64,
    row: u32,
}

/// One peer's record, as the history is asked about it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    /// When the record was taken; not after now.
    at: f64,
    /// The peer's dispatches per second.
    rate: f64,
    /// Own dispatches after `at`.
    later: usize,
    /// How much each of them stands for.
    weight: f64,
}

impl Look {
    pub(super) const fn new(at: f64, rate: f64) -> Self {
        Self {
            at,
            rate,
            later: 0,
            weight: 0.0,
        }
    }

    /// The newest record first, as [`History::echo`] wants them.
    pub(super) fn newest_first(&self, other: &Self) -> std::cmp::Ordering {
        other.at.total_cmp(&self.at)
    }
}

/// A ring of dispatches.
#[derive(Debug)]
pub(super) struct History {
    ring: Vec<Dispatch>,
    newest: usize,
}

impl History {
    pub(super) const fn new() -> Self {
        Self {
            ring: Vec::new(),
            newest: 0,
        }
    }

    /// Notes a dispatch to a row. Allocates once, at the first one.
    pub(super) fn note(&mut self, now: f64, row: usize) {
        let dispatch = Dispatch {
            at: now,
            row: u32::try_from(row).unwrap_or(NOWHERE),
        };
        if self.ring.len() < DEPTH {
            self.ring.reserve_exact(DEPTH - self.ring.len());
            self.newest = self.ring.len();
            self.ring.push(dispatch);
        } else {
            self.newest = (self.newest + 1) % DEPTH;
            self.ring[self.newest] = dispatch;
        }
    }

    /// The rows have moved: `origins[new]` is a row's place before.
    pub(super) fn remap(&mut self, origins: &[Option<usize>]) {
        let mut places = vec![NOWHERE; origins.len()];
        for (place, origin) in origins.iter().enumerate() {
            let Some(origin) = *origin else { continue };
            places.resize(places.len().max(origin + 1), NOWHERE);
            places[origin] = u32::try_from(place).unwrap_or(NOWHERE);
        }
        for dispatch in &mut self.ring {
            let place = places.get(dispatch.row as usize);
            dispatch.row = place.copied().unwrap_or(NOWHERE);
        }
    }

    fn newest_first(&self) -> impl Iterator<Item = &Dispatch> {
        let (newer, older) = self.ring.split_at(self.ring.len().min(self.newest + 1));
        newer.iter().rev().chain(older.iter().rev())
    }

    /// Writes into [`Row::echo_base`] what the peers will have dispatched since their records, if each of them did as was
    /// done here, in the proportion of the rates: `ratio(the peer's rate, the own rate at that instant)`. Gives the sum of
    /// the ratios. Records are given the newest first.
    pub(super) fn echo(
        &self,
        now: f64,
        rate: &Rate,
        looks: &mut [Look],
        rows: &mut [Row],
        ratio: impl Fn(f64, f64) -> f64,
    ) -> f64 {
        debug_assert!(looks.is_sorted_by(|a, b| a.at >= b.at));
        for row in rows.iter_mut() {
            row.echo_base = 0.0;
            row.dispatched_base = row.dispatched;
        }
        let mut sum = 0.0;
        let (mut later, mut weights) = (0, 0.0);
        // What the dispatches after a record have added to the rate of now.
        let (mut added, mut oldest) = (0.0, now);
        let mut dispatches = self.newest_first().peekable();
        for look in looks.iter_mut() {
            while let Some(dispatch) = dispatches.next_if(|dispatch| dispatch.at > look.at) {
                later += 1;
                added += decay(now - dispatch.at);
                oldest = dispatch.at;
            }
            let own = (rate.at(now) - added).max(0.0) / decay(now - look.at);
            let ratio = ratio(look.rate, own);
            let stretch = if later == DEPTH && oldest < now {
                (now - look.at) / (now - oldest)
            } else {
                1.0
            };
            look.later = later;
            look.weight = ratio * stretch;
            weights += look.weight;
            sum += ratio;
        }
        // From the newest on, each dispatch counts for the peers whose records are older.
        let mut looks = looks.iter().peekable();
        for (index, dispatch) in self.newest_first().take(later).enumerate() {
            while let Some(passed) = looks.next_if(|look| look.later <= index) {
                weights -= passed.weight;
            }
            if let Some(row) = rows.get_mut(dispatch.row as usize) {
                row.echo_base += weights;
            }
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Past {
        history: History,
        rate: Rate,
        rows: Vec<Row>,
    }

    impl Past {
        /// Dispatches at milliseconds, to rows.
        fn new(rows: usize, dispatches: impl IntoIterator<Item = (f64, usize)>) -> Self {
            let mut past = Self {
                history: History::new(),
                rate: Rate::default(),
                rows: vec![Row::for_test(); rows],
            };
            for (at, row) in dispatches {
                past.rate.count(at / 1e3);
                past.history.note(at / 1e3, row);
                past.rows[row].dispatched += 1.0;
            }
            past
        }

        /// The echo of one peer at the same rate.
        fn echo(&mut self, now_ms: f64, taken_ms: f64) -> Vec<f64> {
            let mut looks = [Look::new(taken_ms / 1e3, 1.0)];
            let sum = self.history.echo(
                now_ms / 1e3,
                &self.rate,
                &mut looks,
                &mut self.rows,
                |_, _| 1.0,
            );
            assert!((sum - 1.0).abs() < 1e-12);
            self.rows.iter().map(|row| row.echo_base).collect()
        }
    }

    #[test]
    fn counts_what_came_after_the_record_and_nothing_else() {
        let mut past = Past::new(2, [(10.0, 0), (20.0, 1), (20.1, 1), (30.0, 0)]);
        for (taken, expected) in [
            (0.0, [2.0, 2.0]),
            (10.0, [1.0, 2.0]),
            (20.05, [1.0, 1.0]),
            (29.9, [1.0, 0.0]),
            (30.0, [0.0, 0.0]),
        ] {
            assert_eq!(past.echo(40.0, taken), expected, "taken at {taken}");
        }
    }

    #[test]
    fn nothing_dispatched_is_no_echo() {
        assert_eq!(Past::new(2, []).echo(40.0, 0.0), [0.0, 0.0]);
    }

    #[test]
    fn each_peer_weighs_by_its_own_record_and_rate() {
        let mut past = Past::new(1, [(10.0, 0), (20.0, 0), (30.0, 0)]);
        // Since their records: one dispatch and a rate of 2, three dispatches and a rate of 5.
        let mut looks = [Look::new(0.025, 2.0), Look::new(0.005, 5.0)];
        let sum = past
            .history
            .echo(0.040, &past.rate, &mut looks, &mut past.rows, |peer, _| {
                peer
            });
        assert!((sum - 7.0).abs() < 1e-12);
        assert!((past.rows[0].echo_base - (2.0 + 15.0)).abs() < 1e-12);
    }

    #[test]
    fn the_own_rate_is_that_of_the_records_instant() {
        let mut past = Past::new(1, (0..50).map(|step| (f64::from(step) * 2.0, 0)));
        let mut rate = Rate::default();
        (0..=25).for_each(|step| rate.count(f64::from(step) * 0.002));
        let mut looks = [Look::new(0.051, 0.0)];
        past.history
            .echo(0.099, &past.rate, &mut looks, &mut past.rows, |_, own| {
                assert!((own - rate.at(0.051)).abs() < 1e-6, "{own}");
                1.0
            });
    }

    #[test]
    fn rows_that_moved_keep_their_past_and_others_lose_it() {
        let mut past = Past::new(3, [(10.0, 0), (11.0, 1), (12.0, 2), (13.0, 2)]);
        past.history.remap(&[Some(2), None, Some(0)]);
        assert_eq!(past.echo(20.0, 0.0), [2.0, 0.0, 1.0]);
        past.history.remap(&[None, Some(2)]);
        past.rows.pop();
        assert_eq!(past.echo(20.0, 0.0), [0.0, 1.0]);
    }

    #[test]
    fn what_the_ring_lacks_is_extrapolated() {
        let dispatches = (0..3000).map(|step| (f64::from(step) * 0.01, 0));
        let mut past = Past::new(1, dispatches);
        let echo = past.echo(30.0, 10.0)[0];
        assert!((echo - 2000.0).abs() < 4.0, "{echo}");
        let recent = past.echo(30.0, 25.0)[0];
        assert!((recent - 499.0).abs() < 1.5, "{recent}");
    }
}
