//! One connection's place on an endpoint: counted for exactly as long as this lives.

use super::{PickReason, Pool};
use crate::logic::balance::{Picked, SlotKey};
use crate::logic::endpoint::EndpointId;
use crate::logic::event::{ConnectFailure, PoolEvent};
use std::fmt;
use std::sync::Arc;

/// Counts as pending until [`Slot::established`], and as a connection until dropped. One lives per connection, so it
/// holds a key and not the address.
pub struct Slot {
    pool: Arc<Pool>,
    key: SlotKey,
    why: PickReason,
    stage: Stage,
}

const _: () = assert!(size_of::<Slot>() <= 32);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Pending,
    Established,
    /// Counted out already.
    Over,
}

impl Slot {
    pub(super) fn new(pool: Arc<Pool>, picked: &Picked) -> Self {
        Self {
            pool,
            key: picked.key,
            why: picked.why,
            stage: Stage::Pending,
        }
    }

    /// Where to connect. Takes the picker's mutex: keep the answer.
    pub fn endpoint(&self) -> EndpointId {
        self.pool.picker().endpoint(self.key)
    }

    /// Why there.
    pub const fn why(&self) -> PickReason {
        self.why
    }

    /// The broker has accepted the client. A second call changes nothing.
    pub fn established(&mut self) {
        if self.stage != Stage::Pending {
            return;
        }
        self.stage = Stage::Established;
        let now = tokio::time::Instant::now().into_std();
        let mut picker = self.pool.picker();
        let trial = picker
            .established(self.key, now)
            .then(|| picker.endpoint(self.key));
        drop(picker);
        if let Some(endpoint) = trial {
            self.pool.tell(PoolEvent::TrialPassed(endpoint));
        }
        self.pool.freed(false);
    }

    /// The attempt failed. After [`Slot::established`] it is an end like any other, and nobody's failure.
    pub fn failed(self, failure: ConnectFailure) {
        if let Some(suspicion) = self.suspected(failure) {
            suspicion.confirm();
        }
    }

    /// The attempt failed in a way that the client may have caused: the place is given back at once, and the endpoint is
    /// blamed by [`Suspicion::confirm`] alone.
    pub fn suspected(mut self, failure: ConnectFailure) -> Option<Suspicion> {
        if self.stage != Stage::Pending {
            return None;
        }
        self.stage = Stage::Over;
        let mut picker = self.pool.picker();
        let endpoint = picker.endpoint(self.key);
        // One failure on trial ejects for twice as long. An attempt from before the ejection, which a hung broker has kept
        // waiting until now, says nothing about how the broker is doing on trial.
        let outdated = picker.is_on_trial(self.key) && self.why != PickReason::HalfOpen;
        let emptied = picker.suspected(self.key, failure);
        drop(picker);
        self.pool.freed(emptied);
        Some(Suspicion {
            pool: Arc::clone(&self.pool),
            endpoint,
            failure,
            outdated,
        })
    }
}

/// A failed attempt that is not held against its endpoint yet. Dropped unconfirmed, it never is.
pub struct Suspicion {
    pool: Arc<Pool>,
    endpoint: EndpointId,
    failure: ConnectFailure,
    outdated: bool,
}

impl Suspicion {
    /// It was the endpoint's fault.
    pub fn confirm(self) {
        if self.failure != ConnectFailure::Local {
            self.pool.picker().blame(self.endpoint);
        }
        if !self.outdated {
            self.pool
                .tell(PoolEvent::ConnectFailed(self.endpoint, self.failure));
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if self.stage != Stage::Over {
            let emptied = self
                .pool
                .picker()
                .release(self.key, self.stage == Stage::Pending);
            self.pool.freed(emptied);
        }
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot")
            .field("pool", &self.pool.name())
            .field("endpoint", &self.endpoint())
            .field("stage", &self.stage)
            .finish_non_exhaustive()
    }
}
