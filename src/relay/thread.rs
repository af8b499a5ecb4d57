//! What all connections of one worker thread share: its buffers and its coarse clock.

use super::registry::Registry;
use crate::tls::Scratch;
use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch::new());
}

/// Lends the thread's buffers to one poll. Never held over an `.await`: the closure is not async.
pub(super) fn with_scratch<R>(use_it: impl FnOnce(&mut Scratch) -> R) -> R {
    SCRATCH.with(|scratch| use_it(&mut scratch.borrow_mut()))
}

/// Ticks since the worker started. Activity is stamped with it, so that a message costs no clock read and no timer.
#[derive(Clone, Debug, Default)]
pub struct Clock(Arc<AtomicU32>);

impl Clock {
    /// One tick. Idle time-outs are exact to this.
    pub const TICK: Duration = Duration::from_millis(250);

    /// The current tick; wraps after 34 years.
    pub(super) fn now(&self) -> u32 {
        self.0.load(Relaxed)
    }

    /// At least this long, in ticks: the current one may be about to end.
    pub(super) fn ticks(span: Duration) -> u32 {
        let ticks = span.as_millis().div_ceil(Self::TICK.as_millis());
        u32::try_from(ticks)
            .unwrap_or(u32::MAX / 2)
            .min(u32::MAX / 2)
            + 1
    }
}

/// Advances the clock of a worker for ever and ends its idle connections; one task per worker.
pub async fn run_clock(clock: Clock, registry: Arc<Registry>) {
    let mut interval = tokio::time::interval(Clock::TICK);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Burst);
    loop {
        interval.tick().await;
        let now = clock.0.fetch_add(1, Relaxed).wrapping_add(1);
        while !registry.close_idle(now) {
            tokio::task::yield_now().await;
        }
    }
}
