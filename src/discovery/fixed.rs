//! The fixed list of a configuration file: told once.

use crate::discovery::settings::FixedEndpoint;
use crate::logic::endpoint::Target;

/// The list as targets.
pub(super) fn targets(endpoints: &[FixedEndpoint]) -> Vec<Target> {
    endpoints
        .iter()
        .map(|endpoint| Target {
            weight: endpoint.weight.max(1),
            max_connections: endpoint.max_connections,
            ..Target::plain(endpoint.addr.into())
        })
        .collect()
}
