//! Small worlds for the policies: instances with pickers, records that travel for a few milliseconds, clients. Seeded;
//! an assertion names the seed. The large worlds (partitions, restarts, storms) are in `tests/sim`.

use super::{
    Affinity, EndpointTraffic, Listing, PickReason, PickRequest, Picked, Picker, PickerSettings,
    Policy, Refusal, SlotKey, Standing,
};
use crate::logic::endpoint::EndpointId;
use crate::logic::event::ConnectFailure;
use crate::logic::peer::PeerCounts;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

const TICK: Duration = Duration::from_micros(100);

fn endpoint(index: usize) -> EndpointId {
    EndpointId(
        (
            Ipv4Addr::new(10, 0, 0, u8::try_from(index + 1).unwrap()),
            1883,
        )
            .into(),
    )
}

fn listing(index: usize) -> Listing {
    let standing = Standing::Open;
    Listing {
        id: endpoint(index),
        weight: 1,
        priority: 0,
        max_connections: None,
        standing,
    }
}

fn settings() -> PickerSettings {
    PickerSettings {
        policy: Policy::LeastConnections,
        affinity: Affinity::None,
        max_connections: None,
        pending_max: 64,
        join_rate: 1000,
    }
}

fn from(last: u8) -> PickRequest<'static> {
    PickRequest {
        excluded: &[],
        source: IpAddr::V4(Ipv4Addr::new(192, 0, 2, last)),
        route_key: None,
    }
}

fn picker_of(endpoints: usize, settings: PickerSettings, now: Instant) -> Picker {
    let mut picker = Picker::new(settings, 1, now);
    picker.set_endpoints(&(0..endpoints).map(listing).collect::<Vec<_>>());
    picker
}

fn traffic(picker: &Picker) -> Vec<EndpointTraffic> {
    let mut traffic = Vec::new();
    picker.traffic(&mut traffic);
    traffic
}

fn own(picker: &Picker) -> Vec<u32> {
    traffic(picker)
        .iter()
        .map(|endpoint| endpoint.own)
        .collect()
}

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
            id: self.id.clone(),
            taken_at: now,
            rate: self.picker.rate(now),
            counts: self.picker.counts(),
        }
    }
}

fn spread(counts: &[u32]) -> u32 {
    counts.iter().max().unwrap() - counts.iter().min().unwrap()
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
fn alone_every_pick_is_a_minimum_by_weight() {
    for seed in 0..5 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let now = Instant::now();
        let weights = [1_u16, 2, 3, 1, 5];
        let mut picker = Picker::new(
            PickerSettings {
                join_rate: 0,
                ..settings()
            },
            seed,
            now,
        );
        picker.set_endpoints(
            &(0..5)
                .map(|index| Listing {
                    weight: weights[index],
                    ..listing(index)
                })
                .collect::<Vec<_>>(),
        );
        let mut live: Vec<SlotKey> = Vec::new();
        for _ in 0..5000 {
            if rng.f64() < 0.45 && !live.is_empty() {
                picker.release(live.swap_remove(rng.usize(..live.len())), false);
                continue;
            }
            let before = own(&picker);
            let picked = picker.pick(now, &from(1)).unwrap();
            picker.established(picked.key, now);
            live.push(picked.key);
            let value = |index: usize| (f64::from(before[index]) + 0.5) / f64::from(weights[index]);
            let chosen = (0..5)
                .find(|index| endpoint(*index) == picked.endpoint)
                .unwrap();
            assert!(
                (0..5).all(|index| value(chosen) <= value(index) + 1e-9),
                "seed {seed}: {before:?}"
            );
            picker.check_invariants();
        }
    }
}

#[test]
fn alone_no_count_is_ever_more_than_one_above_another() {
    let now = Instant::now();
    let mut picker = picker_of(
        7,
        PickerSettings {
            join_rate: 0,
            ..settings()
        },
        now,
    );
    for _ in 0..300 {
        let picked = picker.pick(now, &from(1)).unwrap();
        picker.established(picked.key, now);
        assert!(spread(&own(&picker)) <= 1);
    }
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
fn beyond_the_join_rate_of_all_clients_are_spread_by_weight() {
    let now = Instant::now();
    let mut picker = Picker::new(
        PickerSettings {
            join_rate: 10,
            ..settings()
        },
        1,
        now,
    );
    picker.set_endpoints(&[
        listing(0),
        Listing {
            weight: 3,
            ..listing(1)
        },
    ]);
    for _ in 0..400 {
        let picked = picker.pick(now, &from(1)).unwrap();
        picker.established(picked.key, now);
    }
    let counts = own(&picker);
    assert!((97..=103).contains(&counts[0]), "{counts:?}");
}

/// Picks, and says how each ended.
fn outcome(
    picker: &mut Picker,
    now: Instant,
    request: &PickRequest<'_>,
) -> Result<(usize, PickReason), Refusal> {
    let Picked {
        endpoint: id, why, ..
    } = picker.pick(now, request)?;
    Ok(((0..9).find(|index| endpoint(*index) == id).unwrap(), why))
}

#[test]
fn the_lowest_priority_value_with_an_eligible_endpoint_is_used() {
    let now = Instant::now();
    let mut picker = picker_of(0, settings(), now);
    let mut listings = [
        Listing {
            priority: 20,
            ..listing(0)
        },
        Listing {
            priority: 10,
            ..listing(1)
        },
    ];
    picker.set_endpoints(&listings);
    assert_eq!(
        outcome(&mut picker, now, &from(1)),
        Ok((1, PickReason::OnlyOne))
    );
    listings[1].standing = Standing::Closed;
    picker.set_endpoints(&listings);
    assert_eq!(
        outcome(&mut picker, now, &from(1)),
        Ok((0, PickReason::OnlyOne))
    );
}

#[test]
fn unproven_endpoints_serve_when_nothing_proven_does() {
    let now = Instant::now();
    let mut picker = picker_of(0, settings(), now);
    let mut listings = [
        Listing {
            standing: Standing::Unproven,
            ..listing(0)
        },
        Listing {
            priority: 9,
            ..listing(1)
        },
    ];
    picker.set_endpoints(&listings);
    assert_eq!(
        outcome(&mut picker, now, &from(1)),
        Ok((1, PickReason::OnlyOne))
    );
    listings[1].standing = Standing::Closed;
    picker.set_endpoints(&listings);
    assert_eq!(
        outcome(&mut picker, now, &from(1)),
        Ok((0, PickReason::Unproven))
    );
}

#[test]
fn refusals_name_what_ends_soonest() {
    let now = Instant::now();
    let mut picker = picker_of(
        1,
        PickerSettings {
            max_connections: Some(2),
            pending_max: 1,
            ..settings()
        },
        now,
    );
    let excluded = [endpoint(0)];
    let excluding = PickRequest {
        excluded: &excluded,
        ..from(1)
    };
    assert_eq!(picker.pick(now, &excluding).unwrap_err(), Refusal::Excluded);
    let first = picker.pick(now, &from(1)).unwrap();
    assert_eq!(picker.pick(now, &from(1)).unwrap_err(), Refusal::Pending);
    picker.established(first.key, now);
    let second = picker.pick(now, &from(1)).unwrap();
    assert_eq!(picker.pick(now, &from(1)).unwrap_err(), Refusal::Full);
    picker.failed(second.key, ConnectFailure::Refused);
    picker.set_endpoints(&[Listing {
        standing: Standing::Closed,
        ..listing(0)
    }]);
    assert_eq!(picker.pick(now, &from(1)).unwrap_err(), Refusal::NoEndpoint);
}

#[test]
fn limits_are_over_the_tier() {
    let now = Instant::now();
    let mut picker = picker_of(
        1,
        PickerSettings {
            max_connections: Some(5),
            ..settings()
        },
        now,
    );
    let counts = vec![(endpoint(0), 4)];
    picker.set_peers(
        "a",
        vec![PeerCounts {
            id: "b".into(),
            taken_at: now,
            rate: 0.0,
            counts,
        }],
    );
    assert!(picker.pick(now, &from(1)).is_ok());
    assert_eq!(picker.pick(now, &from(1)).unwrap_err(), Refusal::Full);
}

#[test]
fn pending_is_bounded_more_tightly_in_silence_after_a_failure_and_on_trial() {
    let now = Instant::now();
    for (standing, failures, answers, expected) in [
        (Standing::Open, 0, true, 64),
        (Standing::Open, 0, false, 16),
        (Standing::Open, 1, false, 16),
        (Standing::Trial, 0, false, 1),
    ] {
        let mut picker = picker_of(0, settings(), now);
        picker.set_endpoints(&[Listing {
            standing,
            ..listing(0)
        }]);
        for _ in 0..failures {
            let picked = picker.pick(now, &from(1)).unwrap();
            picker.failed(picked.key, ConnectFailure::Refused);
        }
        let pending = (0..1000)
            .take_while(|_| {
                if answers && let Ok(picked) = picker.pick(now, &from(1)) {
                    picker.established(picked.key, now);
                }
                picker.pick(now, &from(1)).is_ok()
            })
            .count();
        assert_eq!(pending, expected, "{standing:?}, answers: {answers}");
    }
}

#[test]
fn endpoints_keep_their_connections_whatever_comes_and_goes() {
    let now = Instant::now();
    let mut picker = picker_of(3, settings(), now);
    let picks: Vec<Picked> = (0..6)
        .map(|_| picker.pick(now, &from(1)).unwrap())
        .collect();
    for picked in &picks {
        picker.established(picked.key, now);
    }
    // 0 vanishes, 3 comes, 1 and 2 change their index.
    picker.set_endpoints(&[listing(1), listing(2), listing(3)]);
    let counts = |picker: &Picker| {
        picker
            .counts()
            .iter()
            .map(|(_, count)| *count)
            .collect::<Vec<_>>()
    };
    assert_eq!(counts(&picker), [2, 2, 2, 0]);
    let gone: Vec<bool> = picks
        .iter()
        .filter(|picked| picked.endpoint == endpoint(0))
        .map(|picked| picker.release(picked.key, false))
        .collect();
    assert_eq!(
        gone,
        [false, true],
        "the last connection of a vanished endpoint is told"
    );
    for picked in picks.iter().filter(|picked| picked.endpoint != endpoint(0)) {
        assert_eq!(picker.endpoint(picked.key), picked.endpoint);
        assert!(!picker.release(picked.key, false));
    }
    picker.set_endpoints(&[listing(1), listing(2), listing(3)]);
    assert_eq!(counts(&picker), [0, 0, 0]);
    picker.check_invariants();
}

#[test]
fn round_robin_is_smooth_by_weight() {
    let now = Instant::now();
    let mut picker = Picker::new(
        PickerSettings {
            policy: Policy::RoundRobin,
            ..settings()
        },
        1,
        now,
    );
    picker.set_endpoints(&[
        Listing {
            weight: 5,
            ..listing(0)
        },
        listing(1),
        listing(2),
    ]);
    let order: Vec<usize> = (0..7)
        .map(|_| outcome(&mut picker, now, &from(1)).unwrap().0)
        .collect();
    assert_eq!(order, [0, 0, 1, 0, 2, 0, 0]);
}

#[test]
fn random_two_avoids_the_fullest_and_reaches_the_others() {
    let now = Instant::now();
    let mut picker = picker_of(
        4,
        PickerSettings {
            policy: Policy::RandomTwo,
            ..settings()
        },
        now,
    );
    let counts = vec![(endpoint(2), 1000)];
    picker.set_peers(
        "a",
        vec![PeerCounts {
            id: "b".into(),
            taken_at: now,
            rate: 0.0,
            counts,
        }],
    );
    for _ in 0..150 {
        let picked = picker.pick(now, &from(1)).unwrap();
        picker.established(picked.key, now);
    }
    let counts = own(&picker);
    assert_eq!(counts[2], 0);
    assert!(
        counts
            .iter()
            .enumerate()
            .all(|(index, count)| index == 2 || *count > 40),
        "{counts:?}"
    );
}

#[test]
fn source_hash_is_stable_and_a_lost_endpoint_moves_only_its_own() {
    let now = Instant::now();
    let settings = PickerSettings {
        policy: Policy::SourceHash,
        join_rate: 0,
        pending_max: 60_000,
        ..settings()
    };
    let homes = |endpoints: &[usize]| {
        let mut picker = picker_of(0, settings.clone(), now);
        picker.set_endpoints(
            &endpoints
                .iter()
                .map(|index| listing(*index))
                .collect::<Vec<_>>(),
        );
        (0..=255)
            .map(|last| {
                let picked = picker.pick(now, &from(last)).unwrap();
                picker.established(picked.key, now);
                picked.endpoint
            })
            .collect::<Vec<_>>()
    };
    let all = homes(&[0, 1, 2]);
    assert_eq!(all, homes(&[2, 0, 1]));
    for (before, after) in all.iter().zip(homes(&[0, 2])) {
        assert!(*before == endpoint(1) || *before == after);
    }
    assert!((0..3).all(|index| all.iter().filter(|home| **home == endpoint(index)).count() > 50));
}

#[test]
fn affinity_keeps_a_key_at_home_while_there_is_room_and_the_load_even() {
    let now = Instant::now();
    let settings = PickerSettings {
        affinity: Affinity::ClientId,
        join_rate: 0,
        ..settings()
    };
    let mut picker = picker_of(4, settings, now);
    let mut homes = Vec::new();
    for client in 0..400_u32 {
        let key = format!("client-{client}");
        let request = PickRequest {
            route_key: Some(key.as_bytes()),
            ..from(1)
        };
        let picked = picker.pick(now, &request).unwrap();
        picker.established(picked.key, now);
        homes.push((key, picked));
    }
    assert!(spread(&own(&picker)) <= 20, "{:?}", own(&picker));
    let mut back = 0;
    for (key, picked) in &homes {
        picker.release(picked.key, false);
        let request = PickRequest {
            route_key: Some(key.as_bytes()),
            ..from(1)
        };
        let again = picker.pick(now, &request).unwrap();
        picker.established(again.key, now);
        back += u32::from(again.endpoint == picked.endpoint);
    }
    assert!(back > 340, "{back} of 400 came home");
    assert_eq!(
        outcome(&mut picker, now, &from(1)).unwrap().1,
        PickReason::LeastConnections
    );
}
