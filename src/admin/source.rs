//! What the admin API needs from the rest of the process. `app` implements it; `admin` knows nobody else.

use super::views::{ListenerView, MemberView, PoolView, Readiness, StatusView};
use crate::logic::endpoint::EndpointId;

/// Answers for the API. Every method is called on the admin thread and must not wait: read what is published, put into
/// a queue, return.
pub trait Source: Send + Sync + 'static {
    /// Who and how this instance is.
    fn status(&self) -> StatusView;

    /// Whether clients should be sent here.
    fn ready(&self) -> Readiness;

    /// All pools, sorted by name.
    fn pools(&self) -> Vec<PoolView>;

    /// All known members; without a cluster this instance alone.
    fn members(&self) -> Vec<MemberView>;

    /// All listeners, sorted by name.
    fn listeners(&self) -> Vec<ListenerView>;

    /// The configuration in force, every default filled in, secrets redacted.
    fn config(&self) -> serde_json::Value;

    /// A scrape, in the `OpenMetrics` text format.
    fn metrics(&self) -> String;

    /// Takes an endpoint out (`on`) or back in, in one pool or in all that know it. Gives the pools that were told.
    fn drain(
        &self,
        endpoint: EndpointId,
        pool: Option<&str>,
        on: bool,
    ) -> Result<Vec<String>, DrainError>;
}

/// Why a drain was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DrainError {
    /// No such pool.
    #[error("no pool of this name")]
    UnknownPool,
    /// No pool knows it, or not the one that was named.
    #[error("no such endpoint in the pool")]
    UnknownEndpoint,
    /// The pool's queue is full: try again.
    #[error("the pool is busy, try again")]
    Busy,
}
