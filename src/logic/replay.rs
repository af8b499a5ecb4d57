//! Which sealed datagrams were seen before, in bounded memory.
//!
//! A sender's nonce is a random session and a counter, as in ESP (RFC 4303 §3.4.3): per session the highest counter
//! and a bitmap behind it say exactly what was seen, for 160 bytes per sender. Rejected: a set of random nonces, which
//! grows with the traffic and must forget or refuse when it is full. Only authenticated datagrams come here. What a
//! forgotten session could replay is older than the time window by then, and refused for its timestamp.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Datagrams that may overtake one another within a session.
pub const REORDER_MAX: u64 = 1024;

const WORDS: usize = (REORDER_MAX / 64) as usize;

/// Sessions remembered at once: members of a tier, and their restarts within [`SESSION_IDLE`].
pub const SESSIONS_MAX: usize = 1024;

/// A session that was silent for twice the width of the timestamp window may be forgotten.
pub const SESSION_IDLE: Duration = Duration::from_secs(120);

/// The random half of a nonce: one per start of a sender.
pub type Session = [u8; 16];

#[derive(Clone, Debug)]
struct Seen {
    highest: u64,
    bits: [u64; WORDS],
    last_at: Instant,
}

/// All sessions.
#[derive(Clone, Debug, Default)]
pub struct ReplayWindow {
    sessions: HashMap<Session, Seen>,
}

impl ReplayWindow {
    /// Remembers an authenticated datagram; `false` when it was seen before, is too far behind, or there is no room.
    pub fn admit(&mut self, session: Session, counter: u64, now: Instant) -> bool {
        if !self.sessions.contains_key(&session) && !self.make_room(now) {
            return false;
        }
        let seen = self.sessions.entry(session).or_insert(Seen {
            highest: 0,
            bits: [0; WORDS],
            last_at: now,
        });
        if counter == 0 || counter.saturating_add(REORDER_MAX) <= seen.highest {
            return false;
        }
        seen.advance(counter);
        let (word, bit) = position(counter);
        if seen.bits[word] & bit != 0 {
            return false;
        }
        seen.bits[word] |= bit;
        seen.last_at = now;
        true
    }

    fn make_room(&mut self, now: Instant) -> bool {
        if self.sessions.len() >= SESSIONS_MAX {
            self.sessions
                .retain(|_, seen| now.saturating_duration_since(seen.last_at) < SESSION_IDLE);
        }
        self.sessions.len() < SESSIONS_MAX
    }
}

impl Seen {
    /// Moves the bitmap's front to `counter`, clearing what it passes.
    fn advance(&mut self, counter: u64) {
        if counter <= self.highest {
            return;
        }
        if counter - self.highest >= REORDER_MAX {
            self.bits = [0; WORDS];
        } else {
            for passed in self.highest + 1..=counter {
                let (word, bit) = position(passed);
                self.bits[word] &= !bit;
            }
        }
        self.highest = counter;
    }
}

fn position(counter: u64) -> (usize, u64) {
    let slot = counter % REORDER_MAX;
    (usize::try_from(slot / 64).unwrap_or(0), 1 << (slot % 64))
}

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "an arbitrary origin for virtual time"
)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    #[test]
    fn each_counter_passes_once_in_any_order() {
        let now = Instant::now();
        let mut window = ReplayWindow::default();
        for counter in [1, 3, 2, 1000, 999] {
            assert!(window.admit([1; 16], counter, now), "{counter}");
            assert!(!window.admit([1; 16], counter, now), "{counter} again");
        }
        assert!(
            window.admit([2; 16], 3, now),
            "another session has its own counters"
        );
        assert!(window.admit([1; 16], 5000, now));
        assert!(
            !window.admit([1; 16], 5000 - REORDER_MAX, now),
            "too far behind"
        );
        assert!(
            window.admit([1; 16], 5001 - REORDER_MAX, now),
            "just within"
        );
        assert!(!window.admit([1; 16], 0, now));
    }

    #[test]
    fn sessions_are_bounded_and_only_idle_ones_are_forgotten() {
        let now = Instant::now();
        let mut window = ReplayWindow::default();
        let session = |n: usize| u128::try_from(n).unwrap().to_le_bytes();
        for n in 0..SESSIONS_MAX {
            assert!(window.admit(session(n), 1, now));
        }
        assert!(!window.admit(session(SESSIONS_MAX), 1, now));
        assert!(!window.admit(session(0), 1, now));
        let later = now + SESSION_IDLE;
        assert!(window.admit(session(SESSIONS_MAX), 1, later));
    }

    proptest! {
        #[test]
        fn agrees_with_a_set_as_long_as_nothing_lags(counters in proptest::collection::vec(1u64..1000, 0..300)) {
            let now = Instant::now();
            let mut window = ReplayWindow::default();
            let mut model = HashSet::new();
            for counter in counters {
                prop_assert_eq!(window.admit([0; 16], counter, now), model.insert(counter));
            }
        }
    }
}
