//! When an accepted socket should go to another worker.
//!
//! `SO_REUSEPORT` hashes addresses: it spreads storms well and few long-lived connections badly, and it knows nothing of
//! those that ended. A hand-over costs a wake-up of another thread, so it waits for a real imbalance.

/// A worker may hold this many more than the least loaded one...
const SLACK: usize = 16;
/// ... or the least loaded one's count divided by this, whichever is more.
const SLACK_DIVISOR: usize = 8;

/// The worker that should serve a connection which `own` accepted: itself unless it is far ahead of the least loaded one.
pub(super) fn worker_for(own: usize, mut open: impl Iterator<Item = usize> + Clone) -> usize {
    let Some((least, count)) = open.clone().enumerate().min_by_key(|(_, count)| *count) else {
        return own;
    };
    let own_count = open.nth(own).unwrap_or(0);
    if own_count > count + SLACK.max(count / SLACK_DIVISOR) {
        least
    } else {
        own
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_real_imbalance_moves_a_socket() {
        for (own, open, expected) in [
            (0, vec![0], 0),
            (0, vec![16, 0], 0),
            (0, vec![17, 0], 1),
            (1, vec![0, 17], 0),
            (0, vec![1100, 1000], 0),
            (0, vec![1126, 1000], 1),
            (2, vec![40, 30, 60], 1),
            (0, vec![], 0),
        ] {
            assert_eq!(
                worker_for(own, open.iter().copied()),
                expected,
                "{own} of {open:?}"
            );
        }
    }
}
