//! One picker alone: eligibility, limits, and each policy.

use super::{
    Affinity, EndpointTraffic, Listing, PickReason, PickRequest, Picked, Picker, PickerSettings,
    Policy, Refusal, SlotKey, Standing,
};
use crate::logic::endpoint::EndpointId;
use crate::logic::event::ConnectFailure;
use crate::logic::peer::PeerCounts;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Instant;

pub(super) fn endpoint(index: usize) -> EndpointId {
    EndpointId(
        (
            Ipv4Addr::new(10, 0, 0, u8::try_from(index + 1).unwrap()),
            1883,
        )
            .into(),
    )
}

pub(super) fn listing(index: usize) -> Listing {
    let standing = Standing::Open;
    Listing {
        id: endpoint(index),
        weight: 1,
        priority: 0,
        max_connections: None,
        standing,
    }
}

pub(super) fn settings() -> PickerSettings {
    PickerSettings {
        policy: Policy::LeastConnections,
        affinity: Affinity::None,
        max_connections: None,
        pending_max: 64,
        join_rate: 1000,
    }
}

pub(super) fn from(last: u8) -> PickRequest<'static> {
    PickRequest {
        excluded: &[],
        source: IpAddr::V4(Ipv4Addr::new(192, 0, 2, last)),
        route_key: None,
    }
}

pub(super) fn picker_of(endpoints: usize, settings: PickerSettings, now: Instant) -> Picker {
    let mut picker = Picker::new(settings, 1, now);
    picker.set_endpoints(&(0..endpoints).map(listing).collect::<Vec<_>>());
    picker
}

pub(super) fn traffic(picker: &Picker) -> Vec<EndpointTraffic> {
    let mut traffic = Vec::new();
    picker.traffic(&mut traffic);
    traffic
}

pub(super) fn own(picker: &Picker) -> Vec<u32> {
    traffic(picker)
        .iter()
        .map(|endpoint| endpoint.own)
        .collect()
}

pub(super) fn spread(counts: &[u32]) -> u32 {
    counts.iter().max().unwrap() - counts.iter().min().unwrap()
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
            counts: Arc::new(counts),
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
            counts: Arc::new(counts),
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
