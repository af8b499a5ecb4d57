//! What the service manager is told, by the protocol of `sd_notify(3)`: that the instance serves, that it is stopping, and
//! that the control thread is alive. Without `NOTIFY_SOCKET` in the environment nobody is told anything.
//!
//! Deliberately absent: RELOADING. `Type=notify-reload` needs systemd 253, and a refused reload changes nothing anyway.

use sd_notify::NotifyState;
use std::time::Duration;
use tokio::time::sleep;

/// Listeners accept.
pub(super) fn ready() {
    tell(NotifyState::Ready);
}

/// The drain has begun. The manager stops counting the watchdog only when the process ends.
pub(super) fn stopping() {
    tell(NotifyState::Stopping);
}

/// For ever: a sign of life at half of the time after which the manager kills, as `sd_watchdog_enabled(3)` advises. It is
/// given on the control thread, where all decisions are made; a worker that hangs is seen by the probes of the tier.
pub(super) async fn feed_watchdog() {
    let Some(limit) = sd_notify::watchdog_enabled() else {
        return std::future::pending().await;
    };
    loop {
        tell(NotifyState::Watchdog);
        sleep(pause(limit)).await;
    }
}

/// Not shorter than 10 ms, so that an odd `WATCHDOG_USEC` costs no core.
fn pause(limit: Duration) -> Duration {
    (limit / 2).max(Duration::from_millis(10))
}

fn tell(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(%error, "cannot tell the service manager");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_of_life_come_twice_per_limit_and_never_in_a_tight_loop() {
        assert_eq!(pause(Duration::from_secs(20)), Duration::from_secs(10));
        assert_eq!(pause(Duration::ZERO), Duration::from_millis(10));
    }
}
