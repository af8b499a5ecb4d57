//! The phases of an instance and the drain between the signal and the exit.

use crate::config::DrainSettings;
use crate::logic::close_reason::CloseReason;
use crate::relay::Registry;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;

/// Where an instance is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Serving.
    Ready,
    /// Told to stop: not ready any more, still accepting for `drain.delay`.
    Leaving,
    /// Accepts nothing, lets connections end.
    Draining,
    /// Closes what is left and exits.
    Stopping,
}

impl Phase {
    /// The word in API and log.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Leaving => "leaving",
            Self::Draining => "draining",
            Self::Stopping => "stopping",
        }
    }
}

/// What the drain acts on.
#[derive(Debug)]
pub(super) struct Lifecycle {
    pub(super) settings: DrainSettings,
    pub(super) phase: watch::Sender<Phase>,
    pub(super) registries: Vec<Arc<Registry>>,
    /// Ends the accept loops.
    pub(super) stop_accepting: CancellationToken,
}

/// How often the drain looks at the connections that are left.
const LOOK: Duration = Duration::from_millis(100);
const LOOKS_PER_SECOND: u32 = 10;

impl Lifecycle {
    /// Runs the drain to its end. Readiness is the first thing that changes, so that balancers and DNS in front of us
    /// notice before a connect is refused.
    pub(super) async fn drain(&self) {
        let deadline = Instant::now() + self.settings.timeout;
        self.enter(Phase::Leaving);
        let _elapsed = timeout_at(deadline, sleep(self.settings.delay)).await;
        self.enter(Phase::Draining);
        self.stop_accepting.cancel();
        // An elapsed deadline is the end of patience, not an error: the rest is closed by the stop.
        let _elapsed = timeout_at(deadline, self.empty()).await;
        self.enter(Phase::Stopping);
    }

    /// Waits `grace` for connections to end by themselves, then closes them at `rate`: a mass close is a reconnect storm
    /// for the rest of the tier.
    async fn empty(&self) {
        let patience = Instant::now() + self.settings.grace;
        // What the kernel had accepted for us is on its way into the count.
        sleep(LOOK * 2).await;
        let per_look = usize::try_from(self.settings.rate / LOOKS_PER_SECOND)
            .unwrap_or(usize::MAX)
            .max(1);
        while self.open() > 0 {
            if Instant::now() >= patience {
                let mut left = per_look;
                for registry in &self.registries {
                    left -= registry.close_some(left, CloseReason::Drained);
                }
            }
            sleep(LOOK).await;
        }
    }

    pub(super) fn open(&self) -> usize {
        self.registries.iter().map(|registry| registry.open()).sum()
    }

    fn enter(&self, phase: Phase) {
        tracing::info!(
            phase = phase.label(),
            connections = self.open(),
            "instance phase"
        );
        self.phase.send_replace(phase);
    }
}
