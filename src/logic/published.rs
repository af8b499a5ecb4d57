//! The list of endpoints that a pool was told last: sorted, bounded, replaced only by a different one.

use crate::logic::endpoint::{EndpointId, Target};
use std::cmp::Reverse;

/// Endpoints that one name may bring; more are dropped and reported. A name with more is a mistake or an attack, and
/// every count that is gossiped grows with it.
pub const ENDPOINTS_MAX: usize = 1024;

/// A difference that the pool should hear of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The complete new list, sorted by endpoint, each endpoint once.
    pub targets: Vec<Target>,
    /// What is new.
    pub added: Vec<EndpointId>,
    /// What has vanished.
    pub removed: Vec<EndpointId>,
    /// How many were dropped because of [`ENDPOINTS_MAX`].
    pub dropped: usize,
}

/// The list that the pool was told last.
#[derive(Clone, Debug, Default)]
pub struct Published {
    targets: Vec<Target>,
}

impl Published {
    /// Sorts, removes duplicates and compares. `None`: nothing to tell, which includes the list that became empty:
    /// endpoints are never taken away without a replacement.
    pub fn replace(&mut self, mut targets: Vec<Target>) -> Option<Change> {
        // An endpoint named twice gets its best priority and, within it, its largest weight.
        targets.sort_by(|a, b| {
            (a.id, a.priority, Reverse(a.weight), &a.name).cmp(&(
                b.id,
                b.priority,
                Reverse(b.weight),
                &b.name,
            ))
        });
        targets.dedup_by_key(|target| target.id);
        let dropped = targets.len().saturating_sub(ENDPOINTS_MAX);
        targets.truncate(ENDPOINTS_MAX);
        if targets.is_empty() || targets == self.targets {
            return None;
        }
        let added = missing_from(&self.targets, &targets);
        let removed = missing_from(&targets, &self.targets);
        self.targets.clone_from(&targets);
        Some(Change {
            targets,
            added,
            removed,
            dropped,
        })
    }

    /// How many endpoints the pool knows.
    pub fn len(&self) -> usize {
        self.targets.len()
    }

    /// Whether the pool was never told anything.
    pub fn is_empty(&self) -> bool {
        self.targets.is_empty()
    }
}

/// The ids of `new` that the sorted `old` does not have.
fn missing_from(old: &[Target], new: &[Target]) -> Vec<EndpointId> {
    new.iter()
        .map(|target| target.id)
        .filter(|id| old.binary_search_by_key(id, |target| target.id).is_err())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(addr: &str, priority: u16, weight: u16) -> Target {
        Target {
            weight,
            priority,
            ..Target::plain(EndpointId(addr.parse().unwrap()))
        }
    }

    #[test]
    fn only_a_difference_is_published() {
        let mut published = Published::default();
        assert_eq!(published.replace(Vec::new()), None);
        let change = published
            .replace(vec![target("10.0.0.2:1", 0, 1), target("10.0.0.1:1", 0, 1)])
            .unwrap();
        assert_eq!(
            change.targets,
            [target("10.0.0.1:1", 0, 1), target("10.0.0.2:1", 0, 1)]
        );
        assert_eq!((change.added.len(), change.removed.len()), (2, 0));

        let rotated = vec![
            target("10.0.0.1:1", 0, 1),
            target("10.0.0.2:1", 0, 1),
            target("10.0.0.1:1", 0, 1),
        ];
        assert_eq!(
            published.replace(rotated),
            None,
            "order and repetition are no difference"
        );
        assert_eq!(
            published.replace(Vec::new()),
            None,
            "an empty list replaces nothing"
        );
        assert_eq!(published.len(), 2);

        let change = published
            .replace(vec![target("10.0.0.1:1", 0, 9), target("10.0.0.3:1", 0, 1)])
            .unwrap();
        assert_eq!(change.added, [EndpointId("10.0.0.3:1".parse().unwrap())]);
        assert_eq!(change.removed, [EndpointId("10.0.0.2:1".parse().unwrap())]);
        let change = published
            .replace(vec![target("10.0.0.1:1", 0, 8), target("10.0.0.3:1", 0, 1)])
            .unwrap();
        assert!(
            change.added.is_empty() && change.removed.is_empty(),
            "a weight alone is a change"
        );
    }

    #[test]
    fn endpoint_named_twice_gets_its_best_priority() {
        let list = vec![
            target("10.0.0.1:1", 2, 9),
            target("10.0.0.1:1", 1, 3),
            target("10.0.0.1:1", 1, 5),
        ];
        let change = Published::default().replace(list).unwrap();
        assert_eq!(change.targets, [target("10.0.0.1:1", 1, 5)]);
    }

    #[test]
    fn endpoints_over_the_limit_are_dropped() {
        let list = (0..ENDPOINTS_MAX + 3)
            .map(|n| target(&format!("10.0.{}.{}:1", n / 256, n % 256), 0, 1))
            .collect();
        let change = Published::default().replace(list).unwrap();
        assert_eq!((change.targets.len(), change.dropped), (ENDPOINTS_MAX, 3));
    }
}
