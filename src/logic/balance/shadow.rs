//! Random operations on a picker against a shadow: a list of the connections that should be counted.

use super::tests::{endpoint, from, listing, own, picker_of, settings, traffic};
use super::{Listing, PickRequest, Picked, Picker, PickerSettings, Policy, Standing};
use crate::logic::event::ConnectFailure;
use crate::logic::peer::PeerCounts;
use std::sync::Arc;
use std::time::{Duration, Instant};

const ENDPOINTS: usize = 8;

struct Shadow {
    picker: Picker,
    now: Instant,
    rng: fastrand::Rng,
    /// What was picked and not released, and whether it is pending.
    live: Vec<(Picked, bool)>,
}

impl Shadow {
    fn new(seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let now = Instant::now();
        let policies = [
            Policy::LeastConnections,
            Policy::RoundRobin,
            Policy::RandomTwo,
            Policy::SourceHash,
        ];
        let policy = policies[rng.usize(..policies.len())];
        let picker = picker_of(
            5,
            PickerSettings {
                policy,
                ..settings()
            },
            now,
        );
        Self {
            picker,
            now,
            rng,
            live: Vec::new(),
        }
    }

    fn step(&mut self) {
        self.now += Duration::from_micros(self.rng.u64(0..5000));
        match self.rng.u8(0..12) {
            0 => self.list(),
            1 => self.hear(),
            2 | 3 if !self.live.is_empty() => {
                let gone = self.rng.usize(..self.live.len());
                let (picked, pending) = self.live.swap_remove(gone);
                self.picker.release(picked.key, pending);
            }
            4 => {
                if let Some(at) = self.live.iter().position(|(_, pending)| *pending) {
                    let (picked, _) = self.live.swap_remove(at);
                    self.picker.failed(picked.key, ConnectFailure::Refused);
                }
            }
            5..=7 => {
                if let Some((picked, pending)) = self.live.iter_mut().find(|(_, pending)| *pending)
                {
                    self.picker.established(picked.key, self.now);
                    *pending = false;
                }
            }
            _ => self.pick(),
        }
    }

    fn list(&mut self) {
        let standings = [
            Standing::Open,
            Standing::Closed,
            Standing::Unproven,
            Standing::Trial,
        ];
        let mut listings = Vec::new();
        for index in 0..ENDPOINTS {
            if self.rng.bool() {
                let standing = standings[self.rng.usize(..standings.len())];
                let (priority, weight) = (self.rng.u16(0..2), self.rng.u16(0..4));
                listings.push(Listing {
                    weight,
                    priority,
                    standing,
                    ..listing(index)
                });
            }
        }
        self.picker.set_endpoints(&listings);
    }

    fn hear(&mut self) {
        let counts = (0..ENDPOINTS)
            .map(|index| (endpoint(index), self.rng.u32(0..50)))
            .collect();
        let (taken_at, rate) = (self.now, self.rng.f64() * 500.0);
        let id = format!("peer-{}", self.rng.u8(0..3));
        self.picker.set_peers(
            "lb",
            vec![PeerCounts {
                id: id.into(),
                taken_at,
                rate,
                counts: Arc::new(counts),
            }],
        );
    }

    fn pick(&mut self) {
        let excluded = [endpoint(self.rng.usize(..ENDPOINTS))];
        let request = PickRequest {
            excluded: &excluded,
            ..from(self.rng.u8(..))
        };
        if let Ok(picked) = self.picker.pick(self.now, &request) {
            assert_ne!(picked.endpoint, excluded[0]);
            self.live.push((picked, true));
        }
    }

    fn compare(&self, seed: u64) {
        self.picker.check_invariants();
        for endpoint in traffic(&self.picker) {
            let here = || {
                self.live
                    .iter()
                    .filter(|(picked, _)| picked.endpoint == endpoint.id)
            };
            let pending = here().filter(|(_, pending)| *pending).count();
            let counted = (endpoint.own as usize, endpoint.pending as usize);
            assert_eq!(counted, (here().count(), pending), "seed {seed}");
        }
        let counted: u32 = own(&self.picker).iter().sum();
        assert_eq!(counted as usize, self.live.len(), "seed {seed}");
    }
}

#[test]
fn random_operations_keep_the_counts() {
    for seed in 0..20 {
        let mut shadow = Shadow::new(seed);
        for _ in 0..3000 {
            shadow.step();
            shadow.compare(seed);
        }
    }
}
