//! Who the brokers are: DNS names that are looked up for ever, or a fixed list.
//!
//! A discovery task sends [`PoolEvent::Resolved`] only when the answer differs, and publishes its [`Status`] for
//! metrics and the admin API. DNS is never health.
//!
//! Reading order: `dns` (the loop), `resolver` (one look-up), `search` (which names), `question` (one question),
//! `name_servers` (whom to ask), `status`. The decisions are in `logic::dns_answer` and `logic::dns_schedule`.

mod dns;
mod error;
mod fixed;
mod name_servers;
mod question;
mod resolver;
mod search;
mod settings;
mod status;

#[cfg(test)]
mod tests;

pub use error::LookupError;
pub use resolver::{Addresses, Resolver, Services};
pub use settings::{DnsSettings, DnsSource, FixedEndpoint, Source};
pub use status::{DiscoveryCollector, Status, collector};

use crate::logic::event::PoolEvent;
use crate::logic::published::{ENDPOINTS_MAX, Published};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Starts the discovery of one pool on the current runtime. It ends with `cancel`, or when the pool's queue is closed.
/// A fixed list is told once, and its task ends at once.
///
/// `pool` names the pool in logs. The queue may be full: discovery waits.
#[expect(
    clippy::too_many_arguments,
    reason = "app connects these ends once; a struct would only name them again"
)]
pub fn spawn(
    pool: &str,
    source: Source,
    dns: &Resolver,
    events: mpsc::Sender<PoolEvent>,
    status: watch::Sender<Status>,
    tracker: &TaskTracker,
    cancel: &CancellationToken,
) {
    let cancel = cancel.clone();
    match source {
        Source::Fixed(endpoints) => {
            tracker.spawn(async move {
                cancel
                    .run_until_cancelled(tell_once(&endpoints, events, status))
                    .await;
            });
        }
        Source::Dns(source) => {
            let lookups = dns::Lookups::new(pool, source, dns, events, status);
            tracker.spawn(async move {
                cancel.run_until_cancelled(lookups.run()).await;
            });
        }
    }
}

async fn tell_once(
    endpoints: &[FixedEndpoint],
    events: mpsc::Sender<PoolEvent>,
    status: watch::Sender<Status>,
) {
    let Some(change) = Published::default().replace(fixed::targets(endpoints)) else {
        return;
    };
    if change.dropped > 0 {
        tracing::warn!(
            dropped = change.dropped,
            limit = ENDPOINTS_MAX,
            "too many fixed endpoints"
        );
    }
    // No `last_success`: a list that is never asked again has no age.
    status.send_modify(|status| status.endpoints = change.targets.len());
    // A closed queue means that the pool is gone, and with it whoever wanted to know.
    events.send(PoolEvent::Resolved(change.targets)).await.ok();
}
