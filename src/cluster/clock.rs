//! Wall time, for the timestamps of datagrams and drains alone; everything else is monotonic.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Reads the wall clock as time since the Unix epoch. A parameter, so that tests have clocks that are wrong.
pub type WallClock = Arc<dyn Fn() -> Duration + Send + Sync>;

/// The system's clock.
pub fn system_clock() -> WallClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place of the cluster that reads wall time"
    )]
    Arc::new(|| {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
    })
}

/// Unix milliseconds.
pub(super) fn unix_ms(clock: &WallClock) -> u64 {
    u64::try_from(clock().as_millis()).unwrap_or(u64::MAX)
}

/// Unix nanoseconds, which last until the year 2554.
pub(super) fn unix_nanos(clock: &WallClock) -> u64 {
    u64::try_from(clock().as_nanos()).unwrap_or(u64::MAX)
}
