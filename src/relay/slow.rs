//! Peers that do not take what is sent to them: what is kept for them over the instance, and who has been slow for longest.
//!
//! One connection keeps no more than one read for each side (or one pipe, of which there are few). Thousands of them together
//! are bounded by `buffers_max`: over it, those end whose peer has taken nothing for longest.

use super::pipe;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// What all workers of an instance keep for slow peers.
#[derive(Debug)]
pub struct Buffers {
    max: usize,
    workers: usize,
    held: AtomicUsize,
}

impl Buffers {
    /// `max`: bytes, `limits.buffers_max`; `workers` share it.
    pub fn new(max: usize, workers: usize) -> Self {
        Self {
            max,
            workers: workers.max(1),
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

    /// How many pipes a worker may have lent; 0 while half of the limit is in use, for a pipe keeps much for a slow peer.
    pub(super) fn pipes(&self) -> usize {
        if self.held() + pipe::CAPACITY > self.max / 2 {
            return 0;
        }
        (pipe::PIPES_MAX / self.workers).clamp(1, pipe::WORKER_PIPES_MAX)
    }

    /// From `before` to `after` in one step, so that nobody sees both.
    fn change(&self, before: u32, after: u32) {
        let difference = (after as usize).wrapping_sub(before as usize);
        self.held.fetch_add(difference, Relaxed);
    }
}

/// What is kept for one connection, at one look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Load {
    /// Memory.
    pub(super) bytes: u32,
    /// Bytes that its slow side has still to take (or, when none has, to bring). It changes when that side moves.
    pub(super) mark: u32,
}

/// The same, as it was counted. The turn is the connection's place in the queue of its worker, from when its slow side moved
/// last.
#[derive(Debug, Default)]
pub(super) struct Held {
    turn: u64,
    load: Load,
}

impl Held {
    pub(super) const fn load(&self) -> Load {
        self.load
    }
}

/// The connections of one worker that something is kept for.
#[derive(Debug)]
pub(super) struct Slow {
    buffers: Arc<Buffers>,
    /// By turn: the connection's key, and its bytes.
    queue: BTreeMap<u64, (usize, u32)>,
    /// The sum of the queue's bytes.
    own: usize,
    turn: u64,
}

impl Slow {
    pub(super) const fn new(buffers: Arc<Buffers>) -> Self {
        Self {
            buffers,
            queue: BTreeMap::new(),
            own: 0,
            turn: 0,
        }
    }

    /// From now on `load` is kept for the connection `key`, which goes to the end of the queue; without bytes it leaves it. A
    /// connection that was asked to end stays out.
    pub(super) fn hold(&mut self, key: usize, held: &mut Held, load: Load) {
        let before = match self.queue.remove(&held.turn) {
            Some((_, before)) => before,
            None if held.load.bytes == 0 => 0,
            None => return,
        };
        self.buffers.change(before, load.bytes);
        self.own = self.own - before as usize + load.bytes as usize;
        held.load = load;
        if load.bytes > 0 {
            self.turn += 1;
            held.turn = self.turn;
            self.queue.insert(held.turn, (key, load.bytes));
        }
    }

    /// While more than `buffers_max` is kept, and more than its share of it by this worker: the connection that has been slow
    /// for longest. Its bytes are no longer counted, because it is to end.
    pub(super) fn pop_over(&mut self) -> Option<usize> {
        let Buffers { max, workers, .. } = *self.buffers;
        if self.buffers.held() <= max || self.own <= max / workers {
            return None;
        }
        let (_, (key, bytes)) = self.queue.pop_first()?;
        self.buffers.change(bytes, 0);
        self.own -= bytes as usize;
        Some(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scene(max: usize, workers: usize) -> (Arc<Buffers>, Slow) {
        let buffers = Arc::new(Buffers::new(max, workers));
        (Arc::clone(&buffers), Slow::new(buffers))
    }

    const fn load(bytes: u32, mark: u32) -> Load {
        Load { bytes, mark }
    }

    const NOTHING: Load = load(0, 0);

    #[test]
    fn over_the_limit_the_longest_slow_goes_first() {
        let (buffers, mut slow) = scene(100, 1);
        let mut held = [Held::default(), Held::default(), Held::default()];
        for (key, held) in held.iter_mut().enumerate() {
            slow.hold(key, held, load(40, 40));
        }
        assert_eq!(buffers.held(), 120);
        assert_eq!(slow.pop_over(), Some(0));
        assert_eq!(slow.pop_over(), None);
        assert_eq!(buffers.held(), 80);
        // What ends is neither subtracted twice nor counted again.
        slow.hold(0, &mut held[0], load(70, 70));
        slow.hold(0, &mut held[0], NOTHING);
        assert_eq!(buffers.held(), 80);
        slow.hold(1, &mut held[1], NOTHING);
        slow.hold(2, &mut held[2], NOTHING);
        assert_eq!((buffers.held(), slow.own), (0, 0));
        assert!(slow.queue.is_empty());
    }

    #[test]
    fn whose_peer_takes_some_goes_to_the_end() {
        let (_, mut slow) = scene(100, 1);
        let (mut taking, mut stuck) = (Held::default(), Held::default());
        slow.hold(1, &mut taking, load(60, 60));
        slow.hold(2, &mut stuck, load(10, 10));
        // The same memory, fewer bytes to send.
        slow.hold(1, &mut taking, load(60, 20));
        slow.hold(3, &mut Held::default(), load(40, 40));
        assert_eq!(slow.pop_over(), Some(2));
        assert_eq!(slow.pop_over(), None);
    }

    #[test]
    fn workers_share_the_limit_and_who_is_over_its_share_sheds() {
        let (buffers, mut one) = scene(100, 2);
        let mut other = Slow::new(Arc::clone(&buffers));
        let (mut a, mut b) = (Held::default(), Held::default());
        one.hold(1, &mut a, load(90, 90));
        other.hold(9, &mut b, load(20, 20));
        assert_eq!(other.pop_over(), None);
        assert_eq!(one.pop_over(), Some(1));
        assert_eq!(buffers.held(), 20);
    }

    #[test]
    fn pipes_are_few_and_none_when_half_of_the_limit_is_in_use() {
        let (buffers, mut slow) = scene(64 << 20, 1);
        assert_eq!(buffers.pipes(), pipe::WORKER_PIPES_MAX);
        slow.hold(1, &mut Held::default(), load(32 << 20, 1));
        assert_eq!(buffers.pipes(), 0);
        assert_eq!(Buffers::new(64 << 20, 8).pipes(), 8);
        assert_eq!(Buffers::new(64 << 20, 500).pipes(), 1);
        assert_eq!(Buffers::new(64 << 10, 1).pipes(), 0);
    }
}
