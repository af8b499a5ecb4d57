//! Small worlds for the echo policy: instances with pickers, records that travel for a few milliseconds, clients. Seeded;
//! an assertion names the seed. The large worlds (partitions, restarts, storms) are in `tests/sim`.

use super::tests::{endpoint, from, listing, own, picker_of, settings, spread};
use super::{Picker, PickerSettings, SlotKey};
use crate::logic::endpoint::EndpointId;
use crate::logic::peer::PeerCounts;
use std::sync::Arc;
use std::time::{Duration, Instant};

const TICK: Duration = Duration::from_micros(100);

struct Instance {
    id: String,
    picker: Picker,
    pushed_at: Option<Instant>,
    pushed: Vec<(EndpointId, u32)>,
    /// Last record of each other instance.
    peers: Vec<PeerCounts>,
}

/// A tier in one network.
struct World {
    now: Instant,
    rng: fastrand::Rng,
    instances: Vec<Instance>,
    in_flight: Vec<(Instant, usize, PeerCounts)>,
}

impl World {
    fn new(instances: usize, endpoints: usize, settings: &PickerSettings, seed: u64) -> Self {
        let now = Instant::now();
        let mut instances: Vec<Instance> = (0..instances)
            .map(|index| Instance {
                id: format!("lb-{index}"),
                picker: picker_of(endpoints, settings.clone(), now),
                pushed_at: None,
                pushed: Vec::new(),
                peers: Vec::new(),
            })
            .collect();
        let records: Vec<PeerCounts> = instances
            .iter()
            .map(|instance| instance.record(now))
            .collect();
        for (index, instance) in instances.iter_mut().enumerate() {
            instance.peers = records.clone();
            instance.peers.remove(index);
            instance
                .picker
                .set_peers(&instance.id, instance.peers.clone());
        }
        Self {
            now,
            rng: fastrand::Rng::with_seed(seed),
            instances,
            in_flight: Vec::new(),
        }
    }

    /// One connection through one instance; its CONNACK comes at once.
    fn connect(&mut self, instance: usize) -> (EndpointId, SlotKey) {
        let picker = &mut self.instances[instance].picker;
        let picked = picker.pick(self.now, &from(1)).unwrap();
        picker.established(picked.key, self.now);
        (picked.endpoint, picked.key)
    }

    /// Lets time pass: pushes and deliveries.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now = end.min(self.now + TICK);
            self.push();
            self.deliver();
        }
    }

    fn push(&mut self) {
        let members = u32::try_from(self.instances.len()).unwrap();
        let gap = (Duration::from_millis(2) * members)
            .clamp(Duration::from_millis(10), Duration::from_millis(100));
        for index in 0..self.instances.len() {
            let instance = &mut self.instances[index];
            let due = instance
                .pushed_at
                .is_none_or(|at| self.now.duration_since(at) >= gap);
            if !due || instance.pushed == instance.picker.counts() {
                continue;
            }
            instance.pushed_at = Some(self.now);
            instance.pushed = instance.picker.counts();
            let record = instance.record(self.now);
            for peer in (0..self.instances.len()).filter(|peer| *peer != index) {
                let delay = Duration::from_micros(self.rng.u64(200..4000));
                self.in_flight
                    .push((self.now + delay, peer, record.clone()));
            }
        }
    }

    fn deliver(&mut self) {
        let (due, in_flight) = std::mem::take(&mut self.in_flight)
            .into_iter()
            .partition(|(at, _, _)| *at <= self.now);
        self.in_flight = in_flight;
        for (_, to, record) in due {
            let instance = &mut self.instances[to];
            let known = instance
                .peers
                .iter_mut()
                .find(|peer| peer.id == record.id)
                .unwrap();
            if known.taken_at < record.taken_at {
                *known = record;
                instance
                    .picker
                    .set_peers(&instance.id, instance.peers.clone());
            }
        }
    }

    fn totals(&self) -> Vec<u32> {
        let mut totals = Vec::new();
        for instance in &self.instances {
            let counts = own(&instance.picker);
            totals.resize(counts.len(), 0);
            totals
                .iter_mut()
                .zip(counts)
                .for_each(|(total, count)| *total += count);
        }
        totals
    }

    fn spread(&self) -> u32 {
        spread(&self.totals())
    }
}

impl Instance {
    fn record(&self, now: Instant) -> PeerCounts {
        PeerCounts {
            id: Arc::from(self.id.as_str()),
            taken_at: now,
            rate: self.picker.rate(now),
            counts: Arc::new(self.picker.counts()),
        }
    }
}

#[test]
fn thirty_connections_over_three_by_three_are_ten_each() {
    for spacing_ms in [0, 10, 100] {
        for seed in 0..20 {
            let mut world = World::new(3, 3, &settings(), seed);
            world.pass(Duration::from_millis(20 + seed));
            for client in 0..30 {
                world.connect(client % 3);
                world.pass(Duration::from_millis(spacing_ms));
            }
            assert_eq!(
                world.totals(),
                [10, 10, 10],
                "{spacing_ms} ms apart, seed {seed}"
            );
        }
    }
}

#[test]
fn random_instances_ten_milliseconds_apart_are_ten_each_nearly_always() {
    let even = (0..40)
        .filter(|seed| {
            let mut world = World::new(3, 3, &settings(), *seed);
            for _ in 0..30 {
                let instance = world.rng.usize(..3);
                world.connect(instance);
                let pause = Duration::from_millis(10 + world.rng.u64(..5));
                world.pass(pause);
            }
            world.totals() == [10, 10, 10]
        })
        .count();
    assert!(even >= 38, "{even} of 40");
}

/// Five instances, ten endpoints, 10 000 connections per second for two seconds.
fn ramp(join_rate: u32, seed: u64) -> u32 {
    let settings = PickerSettings {
        join_rate,
        pending_max: 60_000,
        ..settings()
    };
    let mut world = World::new(5, 10, &settings, seed);
    for _ in 0..20_000 {
        let instance = world.rng.usize(..5);
        world.connect(instance);
        world.pass(TICK);
    }
    world.pass(Duration::from_millis(50));
    world.spread()
}

#[test]
fn a_ramp_over_five_by_ten_stays_within_ten() {
    for seed in 0..3 {
        let spread = ramp(0, seed);
        assert!(spread <= 6, "spread {spread}, seed {seed}");
    }
}

#[test]
fn a_ramp_at_the_join_cap_stays_within_ten() {
    for seed in 0..3 {
        let spread = ramp(1000, seed);
        assert!(spread <= 10, "spread {spread}, seed {seed}");
    }
}

#[test]
fn churn_over_five_by_ten_stays_even() {
    let mut world = World::new(5, 10, &settings(), 3);
    let mut live: Vec<(usize, SlotKey)> = Vec::new();
    for _ in 0..3000 {
        let instance = world.rng.usize(..5);
        let (_, key) = world.connect(instance);
        live.push((instance, key));
        world.pass(TICK * 10);
    }
    let mut sum = 0;
    for _ in 0..2000 {
        let gone = world.rng.usize(..live.len());
        let (instance, key) = live.swap_remove(gone);
        world.instances[instance].picker.release(key, false);
        let instance = world.rng.usize(..5);
        let (_, key) = world.connect(instance);
        live.push((instance, key));
        world.pass(Duration::from_millis(2));
        sum += world.spread();
    }
    assert!(sum <= 8 * 2000, "mean spread {}", f64::from(sum) / 2000.0);
}

#[test]
fn a_newcomer_in_a_storm_gets_no_more_than_the_join_rate() {
    let settings = PickerSettings {
        pending_max: 60_000,
        ..settings()
    };
    let mut world = World::new(3, 3, &settings, 5);
    for instance in &mut world.instances {
        instance
            .picker
            .set_endpoints(&(0..2).map(listing).collect::<Vec<_>>());
    }
    let mut joined = Vec::new();
    for step in 0..20_000_usize {
        if step == 10_000 {
            for instance in &mut world.instances {
                instance
                    .picker
                    .set_endpoints(&(0..3).map(listing).collect::<Vec<_>>());
            }
        }
        let instance = world.rng.usize(..3);
        if world.connect(instance).0 == endpoint(2) {
            joined.push(step);
        }
        // 2500 per second over three endpoints with 1000 each.
        world.pass(TICK * 4);
    }
    let half_second = 1250;
    let most = joined.iter().map(|start| {
        joined
            .iter()
            .filter(|at| (*start..start + half_second).contains(at))
            .count()
    });
    let most = most.max().unwrap();
    assert!((500..=650).contains(&most), "{most} in half a second");
}

#[test]
fn a_global_limit_is_overshot_by_no_more_than_peers_dispatch_unseen() {
    for seed in 0..5 {
        let settings = PickerSettings {
            max_connections: Some(200),
            join_rate: 0,
            ..settings()
        };
        let mut world = World::new(3, 3, &settings, seed);
        for _ in 0..1000 {
            let instance = world.rng.usize(..3);
            let picker = &mut world.instances[instance].picker;
            if let Ok(picked) = picker.pick(world.now, &from(1)) {
                picker.established(picked.key, world.now);
            }
            world.pass(TICK * 5);
        }
        // 2000 per second, two of three instances, one of three endpoints, for a push gap and the longest delay: 6 in
        // the mean; three standard deviations more for the random instances.
        let unseen = 14;
        for total in world.totals() {
            assert!(
                (200..=200 + unseen).contains(&total),
                "{total}, seed {seed}"
            );
        }
    }
}
