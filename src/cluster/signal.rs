//! "Something changed", from any thread to the cluster's task, once per push.

use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::Notify;

/// A flag that wakes. Whoever raises it can wait until it is lowered, so that between two pushes nobody is woken for what
/// the next one tells anyway.
#[derive(Debug, Default)]
pub(super) struct ChangeSignal {
    raised: AtomicBool,
    wake: Notify,
    read: Notify,
}

impl ChangeSignal {
    pub(super) fn raise(&self) {
        if !self.raised.swap(true, Ordering::AcqRel) {
            self.wake.notify_one();
        }
    }

    /// Raises it and waits until it is lowered. Cancel-safe: it stays raised.
    pub(super) async fn raise_until_read(&self) {
        let mut read = std::pin::pin!(self.read.notified());
        // Before raising: the other side may lower it at once.
        read.as_mut().enable();
        self.raise();
        read.await;
    }

    /// Waits for the next one. Cancel-safe: a wake-up that nobody waited for is kept.
    pub(super) async fn wait(&self) {
        self.wake.notified().await;
    }

    /// To be called BEFORE the facts are read: a change in between raises it again. A swap and not a store, so that
    /// what was counted before it was raised is visible to that read.
    pub(super) fn lower(&self) {
        self.raised.swap(false, Ordering::AcqRel);
        self.read.notify_waiters();
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

    #[tokio::test(start_paused = true)]
    async fn who_waits_is_told_when_it_was_read() {
        let signal = std::sync::Arc::new(ChangeSignal::default());
        let raiser = std::sync::Arc::clone(&signal);
        #[expect(clippy::disallowed_methods, reason = "a test's task, awaited below")]
        let waiting = tokio::spawn(async move { raiser.raise_until_read().await });
        signal.wait().await;
        assert!(!waiting.is_finished());
        signal.lower();
        waiting.await.unwrap();
    }
}
