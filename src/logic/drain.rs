//! Drains that survive the instance where they were said: every member keeps all of them, the last writer wins.
//!
//! Wall clocks order the writers. A writer's stamp is pushed past what it has seen, so that an operator's word always
//! beats what the operator could see, whatever the clocks say. A drain that was taken back is remembered for an hour;
//! a member that was cut off for longer brings it back, and the operator sees that in `tidegate pools`.

use crate::logic::endpoint::EndpointId;
use crate::logic::record::DrainFact;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

/// How long a taken-back drain is remembered, milliseconds.
pub const UNDRAINED_KEPT_MS: u64 = 3_600_000;

/// More drains than this are refused: the list must fit into one gossip value.
pub const DRAINS_MAX: usize = 256;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Word {
    stamp_ms: u64,
    by: String,
    drained: bool,
}

/// The table that all members converge to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DrainTable {
    words: BTreeMap<(String, EndpointId), Word>,
}

impl DrainTable {
    /// Takes over what another member knows. `true` when something changed.
    pub fn merge(&mut self, fact: DrainFact, wall_ms: u64) -> bool {
        let full = self.words.len() >= DRAINS_MAX;
        let expired = !fact.drained && fact.stamp_ms.saturating_add(UNDRAINED_KEPT_MS) < wall_ms;
        let word = Word {
            stamp_ms: fact.stamp_ms,
            by: fact.by,
            drained: fact.drained,
        };
        match self.words.entry((fact.pool, fact.endpoint)) {
            Entry::Occupied(mut held) if *held.get() < word => {
                if expired {
                    held.remove();
                } else {
                    held.insert(word);
                }
                true
            }
            // What is expired must not come back from a member that forgets a moment later.
            Entry::Vacant(free) if !full && !expired => {
                free.insert(word);
                true
            }
            Entry::Occupied(_) | Entry::Vacant(_) => false,
        }
    }

    /// An operator speaks on this member. `false` when the table is full.
    pub fn set(
        &mut self,
        pool: &str,
        endpoint: EndpointId,
        drained: bool,
        wall_ms: u64,
        by: &str,
    ) -> bool {
        let key = (pool.to_owned(), endpoint);
        let seen = self
            .words
            .get(&key)
            .map_or(0, |word| word.stamp_ms.saturating_add(1));
        if seen == 0 && self.words.len() >= DRAINS_MAX {
            return false;
        }
        self.words.insert(
            key,
            Word {
                stamp_ms: wall_ms.max(seen),
                by: by.to_owned(),
                drained,
            },
        );
        true
    }

    /// Forgets what was taken back long ago. `true` when something changed.
    pub fn expire(&mut self, wall_ms: u64) -> bool {
        let before = self.words.len();
        self.words.retain(|_, word| {
            word.drained || word.stamp_ms.saturating_add(UNDRAINED_KEPT_MS) >= wall_ms
        });
        self.words.len() != before
    }

    /// All facts, sorted by pool and endpoint.
    pub fn facts(&self) -> Vec<DrainFact> {
        self.words
            .iter()
            .map(|((pool, endpoint), word)| DrainFact {
                pool: pool.clone(),
                endpoint: *endpoint,
                drained: word.drained,
                stamp_ms: word.stamp_ms,
                by: word.by.clone(),
            })
            .collect()
    }

    /// Nothing to tell.
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn endpoint(last: u8) -> EndpointId {
        EndpointId(([10, 0, 0, last], 1883).into())
    }

    fn fact(last: u8, drained: bool, stamp_ms: u64, by: &str) -> DrainFact {
        DrainFact {
            pool: "emqx".into(),
            endpoint: endpoint(last),
            drained,
            stamp_ms,
            by: by.into(),
        }
    }

    #[test]
    fn an_operator_beats_a_stamp_from_the_future() {
        let mut table = DrainTable::default();
        assert!(table.merge(fact(1, true, 90_000, "b"), 1000));
        assert!(table.set("emqx", endpoint(1), false, 1000, "a"));
        assert_eq!(table.facts(), vec![fact(1, false, 90_001, "a")]);
        assert!(!table.merge(fact(1, true, 90_000, "b"), 1000));
    }

    #[test]
    fn taken_back_drains_are_forgotten_after_an_hour_and_stay_forgotten() {
        let mut table = DrainTable::default();
        assert!(table.merge(fact(1, false, 0, "a"), 0));
        assert!(table.merge(fact(2, true, 0, "a"), 0));
        assert!(!table.expire(UNDRAINED_KEPT_MS));
        assert!(table.expire(UNDRAINED_KEPT_MS + 1));
        assert!(!table.merge(fact(1, false, 0, "b"), UNDRAINED_KEPT_MS + 1));
        assert_eq!(table.facts(), vec![fact(2, true, 0, "a")]);
    }

    #[test]
    fn the_table_is_bounded() {
        let mut table = DrainTable::default();
        for index in 0..DRAINS_MAX {
            let last = u8::try_from(index % 256).unwrap();
            assert!(table.set(
                &format!("pool{}", index / 256),
                endpoint(last),
                true,
                1,
                "a"
            ));
        }
        assert!(!table.set("one more", endpoint(0), true, 1, "a"));
        assert!(!table.merge(
            DrainFact {
                pool: "one more".into(),
                ..fact(0, true, 1, "a")
            },
            1
        ));
        assert!(
            table.set("pool0", endpoint(0), false, 1, "a"),
            "known ones still change"
        );
    }

    proptest! {
        #[test]
        fn the_order_of_merging_does_not_matter(
            facts in proptest::collection::vec((0u8..3, any::<bool>(), 0u64..5, 0u8..3), 0..12),
            seed in any::<u64>(),
        ) {
            let mut facts: Vec<_> =
                facts.into_iter().map(|(last, on, stamp, by)| fact(last, on, stamp, &by.to_string())).collect();
            let merged = |facts: &[DrainFact]| {
                let mut table = DrainTable::default();
                for fact in facts {
                    table.merge(fact.clone(), 5);
                }
                table
            };
            let one = merged(&facts);
            fastrand::Rng::with_seed(seed).shuffle(&mut facts);
            prop_assert_eq!(one, merged(&facts));
        }
    }
}
