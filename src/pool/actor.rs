//! The task that judges: events in, snapshot and eligibility out. The single writer of both.

use super::Pool;
use crate::logic::balance::EndpointTraffic;
use crate::logic::endpoint::EndpointId;
use crate::logic::event::PoolEvent;
use crate::logic::pool_state::{Effects, PoolState, PoolStateSettings, Transition};
use crate::logic::snapshot::{EndpointState, PoolSnapshot};
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

/// See the module.
pub(super) struct Actor {
    pool: Arc<Pool>,
    state: PoolState,
    publish: watch::Sender<Arc<PoolSnapshot>>,
    recheck: mpsc::Sender<EndpointId>,
    traffic: Vec<EndpointTraffic>,
    judging: watch::Receiver<PoolStateSettings>,
}

impl Actor {
    pub(super) fn new(
        pool: Arc<Pool>,
        state: PoolState,
        publish: watch::Sender<Arc<PoolSnapshot>>,
        recheck: mpsc::Sender<EndpointId>,
    ) -> Self {
        // Subscribed here and not in the task: a change before its first step must not be missed.
        let judging = pool.judging();
        Self {
            pool,
            state,
            publish,
            recheck,
            traffic: Vec::new(),
            judging,
        }
    }

    pub(super) async fn run(
        mut self,
        mut inbox: mpsc::Receiver<PoolEvent>,
        cancel: CancellationToken,
    ) {
        loop {
            let timer = self.state.next_timer();
            // The end first; then timers, which a stream of events must not hold up.
            tokio::select! {
                biased;
                () = cancel.cancelled() => return,
                () = at(timer) => self.tick(),
                () = self.pool.emptied().notified() => self.tick(),
                // The handle holds the senders, so both channels outlive the task.
                Ok(()) = self.judging.changed() => {
                    let settings = self.judging.borrow_and_update().clone();
                    self.state.configure(settings);
                    self.tell_picker();
                    self.tick();
                }
                Some(event) = inbox.recv() => self.apply(event),
            }
        }
    }

    fn apply(&mut self, event: PoolEvent) {
        let now = self.look();
        let effects = self.state.apply(event, &self.traffic, now);
        self.act(effects);
    }

    fn tick(&mut self) {
        let now = self.look();
        let effects = self.state.tick(&self.traffic, now);
        self.act(effects);
    }

    /// Reads the picker's counts and the clock.
    fn look(&mut self) -> Instant {
        self.traffic.clear();
        self.pool.picker().traffic(&mut self.traffic);
        tokio::time::Instant::now().into_std()
    }

    fn act(&mut self, effects: Effects) {
        if let Some(endpoint) = effects.drain_refused {
            tracing::warn!(pool = self.pool.name(), %endpoint, "too many drains are remembered, this one is not");
        }
        for endpoint in effects.ejected {
            self.pool.picker().count_ejection(endpoint);
        }
        if effects.changed {
            // The picker first: whoever reads the snapshot finds it obeyed.
            self.tell_picker();
            self.publish.send_replace(Arc::new(self.state.snapshot()));
            self.pool.changed().notify_one();
            self.pool.wake_all_waiting();
        }
        for transition in &effects.transitions {
            self.log(transition);
        }
        for endpoint in effects.recheck {
            if self.recheck.try_send(endpoint).is_err() {
                tracing::debug!(pool = self.pool.name(), %endpoint, "probe queue is full, the regular probe must do");
            }
        }
    }

    fn tell_picker(&self) {
        let listings = self.state.listings();
        self.pool.picker().set_endpoints(&listings);
    }

    fn log(&self, transition: &Transition) {
        let label = |state: Option<EndpointState>| state.map_or("none", EndpointState::label);
        tracing::info!(
            pool = self.pool.name(),
            endpoint = %transition.endpoint,
            from = label(transition.from),
            to = label(transition.to),
            why = transition.why,
            "endpoint state changed"
        );
    }
}

/// Waits until then, or for ever.
async fn at(timer: Option<Instant>) {
    match timer {
        Some(instant) => tokio::time::sleep_until(instant.into()).await,
        None => std::future::pending().await,
    }
}
