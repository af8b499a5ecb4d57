//! Peers that do not take what is sent to them: what is kept for them over the instance, and who has been slow for longest.
//!
//! One connection keeps no more than one read for each side (or one pipe, of which there are few). Thousands of them together
//! are bounded by `buffers_max`: over it, those end whose peer has taken nothing for longest.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// What all workers of an instance keep for slow peers.
#[derive(Debug)]
pub struct Buffers {
    max: usize,
    held: AtomicUsize,
}

impl Buffers {
    /// `max`: bytes, `limits.buffers_max`.
    pub const fn new(max: usize) -> Self {
        Self {
            max,
            held: AtomicUsize::new(0),
        }
    }

    /// Bytes that are kept now. Those of connections that were asked to end for it are not counted any more.
    pub fn held(&self) -> usize {
        self.held.load(Relaxed)
    }

    /// The most that is kept.
    pub const fn max(&self) -> usize {
        self.max
    }
}

/// What is kept for one connection. The turn is its place in the queue of its worker, from when it began.
#[derive(Debug, Default)]
pub(super) struct Held {
    turn: u64,
    bytes: u32,
}

impl Held {
    pub(super) const fn bytes(&self) -> usize {
        self.bytes as usize
    }
}

/// The connections of one worker that something is kept for.
#[derive(Debug)]
pub(super) struct Slow {
    buffers: Arc<Buffers>,
    /// By turn: the connection's key, and its bytes.
    queue: BTreeMap<u64, (usize, u32)>,
    turn: u64,
}

impl Slow {
    pub(super) const fn new(buffers: Arc<Buffers>) -> Self {
        Self {
            buffers,
            queue: BTreeMap::new(),
            turn: 0,
        }
    }

    /// From now on `bytes` are kept for the connection `key`; with 0 it leaves the queue.
    pub(super) fn hold(&mut self, key: usize, held: &mut Held, bytes: usize) {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        if held.bytes == 0 {
            self.turn += 1;
            held.turn = self.turn;
            if bytes > 0 {
                self.queue.insert(held.turn, (key, bytes));
                self.buffers.held.fetch_add(bytes as usize, Relaxed);
            }
        } else if let Some((_, counted)) = self.queue.get_mut(&held.turn) {
            self.buffers.held.fetch_add(bytes as usize, Relaxed);
            self.buffers.held.fetch_sub(*counted as usize, Relaxed);
            *counted = bytes;
            if bytes == 0 {
                self.queue.remove(&held.turn);
            }
        }
        held.bytes = bytes;
    }

    /// While more than `buffers_max` is kept: the connection of this worker that has been slow for longest. Its bytes are
    /// no longer counted, because it is to end.
    pub(super) fn pop_over(&mut self) -> Option<usize> {
        if self.buffers.held() <= self.buffers.max {
            return None;
        }
        let (_, (key, bytes)) = self.queue.pop_first()?;
        self.buffers.held.fetch_sub(bytes as usize, Relaxed);
        Some(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scene(max: usize) -> (Arc<Buffers>, Slow) {
        let buffers = Arc::new(Buffers::new(max));
        (Arc::clone(&buffers), Slow::new(buffers))
    }

    #[test]
    fn over_the_limit_the_longest_slow_goes_first() {
        let (buffers, mut slow) = scene(100);
        let mut held = [Held::default(), Held::default(), Held::default()];
        for (key, held) in held.iter_mut().enumerate() {
            slow.hold(key, held, 40);
        }
        assert_eq!(buffers.held(), 120);
        assert_eq!(slow.pop_over(), Some(0));
        assert_eq!(slow.pop_over(), None);
        assert_eq!(buffers.held(), 80);
        // What ends is not subtracted twice.
        slow.hold(0, &mut held[0], 0);
        assert_eq!(buffers.held(), 80);
        slow.hold(1, &mut held[1], 0);
        slow.hold(2, &mut held[2], 0);
        assert_eq!(buffers.held(), 0);
        assert!(slow.queue.is_empty());
    }

    #[test]
    fn who_has_been_served_in_between_goes_to_the_end() {
        let (_, mut slow) = scene(100);
        let (mut first, mut second) = (Held::default(), Held::default());
        slow.hold(1, &mut first, 60);
        slow.hold(2, &mut second, 10);
        slow.hold(1, &mut first, 0);
        slow.hold(1, &mut first, 60);
        slow.hold(2, &mut second, 90);
        assert_eq!(slow.pop_over(), Some(2));
        assert_eq!(slow.pop_over(), None);
    }

    #[test]
    fn workers_share_the_limit_and_end_only_their_own() {
        let (buffers, mut one) = scene(100);
        let mut other = Slow::new(Arc::clone(&buffers));
        let (mut a, mut b) = (Held::default(), Held::default());
        one.hold(1, &mut a, 80);
        other.hold(9, &mut b, 80);
        assert_eq!(other.pop_over(), Some(9));
        assert_eq!(one.pop_over(), None);
        assert_eq!(buffers.held(), 80);
    }
}
