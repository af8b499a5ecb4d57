//! One task per endpoint: probe, tell the pool, wait.

use super::outcome::{Kind, Outcome};
use super::pace::Pace;
use super::prober::Prober;
use super::stats::Stats;
use crate::logic::endpoint::Target;
use crate::logic::event::PoolEvent;
use std::sync::Arc;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

/// What a checker needs.
pub(super) struct Checker<P> {
    pub(super) pool: String,
    pub(super) target: Target,
    pub(super) prober: Arc<P>,
    pub(super) pace: Pace,
    pub(super) events: mpsc::Sender<PoolEvent>,
    /// One permit at most: a thousand requests during a probe are one request after it.
    pub(super) recheck: Arc<Notify>,
    pub(super) stats: Arc<Stats>,
}

impl<P: Prober> Checker<P> {
    /// Probes until cancelled. A probe under way is abandoned, and its result is not told.
    pub(super) async fn run(self, cancel: CancellationToken) {
        // `None`: cancelled. `Some`: the pool is gone, which is an end as well.
        cancel
            .run_until_cancelled(self.check_for_ever())
            .await
            .unwrap_or(());
    }

    async fn check_for_ever(mut self) {
        let mut said = None;
        loop {
            let started = Instant::now();
            let outcome = self.prober.probe(&self.target).await;
            let ended = Instant::now();
            let kind = Kind::of(&outcome);
            self.stats.record(self.target.id, kind, ended - started);
            if let Some((message, reason)) = news(&outcome, &mut said) {
                tracing::warn!(pool = self.pool, endpoint = %self.target.id, reason, "{message}");
            }
            if let Outcome::Verdict { result, .. } = outcome {
                tracing::debug!(pool = self.pool, endpoint = %self.target.id, ?result, "probed");
                // A full queue makes the checker wait: results are not worth more than the pool can take.
                if self
                    .events
                    .send(PoolEvent::Probed(self.target.id, result))
                    .await
                    .is_err()
                {
                    return;
                }
            }
            let next = started + self.pace.after(kind);
            let earliest = ended + self.pace.pause();
            sleep_until(earliest).await;
            tokio::select! {
                () = sleep_until(next) => {}
                () = self.recheck.notified() => {}
            }
        }
    }
}

/// What the operator should look at; `Some` when it appears or changes, and not at every probe.
fn news<'a>(outcome: &'a Outcome, said: &mut Option<String>) -> Option<(&'static str, &'a str)> {
    let (message, now) = match outcome {
        Outcome::Verdict { advice, .. } => ("probe credentials refused", advice.as_deref()),
        Outcome::Local(reason) => ("probe not made", Some(reason.as_str())),
    };
    if now == said.as_deref() {
        return None;
    }
    *said = now.map(str::to_owned);
    now.map(|reason| (message, reason))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logic::event::ProbeResult;
    use std::time::Duration;

    #[test]
    fn a_warning_is_said_once_until_it_changes_or_comes_back() {
        let outcome = |advice: Option<&str>| Outcome::Verdict {
            result: ProbeResult::Up(Duration::ZERO),
            advice: advice.map(str::to_owned),
        };
        let mut said = None;
        for (outcome, expected) in [
            (outcome(None), None),
            (outcome(Some("0x86")), Some("0x86")),
            (outcome(Some("0x86")), None),
            (outcome(Some("0x87")), Some("0x87")),
            (outcome(None), None),
            (outcome(Some("0x87")), Some("0x87")),
            (Outcome::Local("no port".to_owned()), Some("no port")),
            (Outcome::Local("no port".to_owned()), None),
        ] {
            assert_eq!(
                news(&outcome, &mut said).map(|(_, reason)| reason),
                expected
            );
        }
    }
}
