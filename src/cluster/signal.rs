//! "Something changed", from any thread to the cluster's task, once per push.

use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::Notify;

/// A flag that wakes. Workers raise it for every connection; only the first one between two pushes pays for the wake-up.
#[derive(Debug, Default)]
pub(super) struct ChangeSignal {
    raised: AtomicBool,
    wake: Notify,
}

impl ChangeSignal {
    pub(super) fn raise(&self) {
        if !self.raised.swap(true, Ordering::AcqRel) {
            self.wake.notify_one();
        }
    }

    /// Waits for the next one. Cancel-safe: a wake-up that nobody waited for is kept.
    pub(super) async fn wait(&self) {
        self.wake.notified().await;
    }

    /// To be called BEFORE the facts are read: a change in between raises it again. A swap and not a store, so that
    /// what was counted before it was raised is visible to that read.
    pub(super) fn lower(&self) {
        self.raised.swap(false, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn wakes_once_until_it_is_lowered() {
        let signal = ChangeSignal::default();
        let woken = || async {
            tokio::time::timeout(std::time::Duration::from_secs(1), signal.wait())
                .await
                .is_ok()
        };
        assert!(!woken().await);
        signal.raise();
        assert!(woken().await, "kept for who comes later");
        signal.raise();
        assert!(!woken().await);
        signal.lower();
        signal.raise();
        assert!(woken().await);
    }
}
