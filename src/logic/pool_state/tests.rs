//! Scenarios over one pool: events in, states out.

use super::*;
use crate::logic::balance::Standing;
use crate::logic::snapshot::EndpointView;
use std::net::Ipv4Addr;

fn id(index: u8) -> EndpointId {
    EndpointId((Ipv4Addr::new(10, 0, 0, index), 1883).into())
}

fn view_of(state: &PoolState, id: EndpointId) -> EndpointView {
    state.members.get(&id).expect("known").view.clone()
}

struct Scene {
    state: PoolState,
    now: Instant,
    traffic: Vec<EndpointTraffic>,
}

impl Scene {
    /// A pool of so many endpoints, all up.
    fn up(endpoints: u8) -> Self {
        let settings = PoolStateSettings {
            name: "emqx".into(),
            thresholds: Thresholds { rise: 2, fall: 3 },
            outlier: OutlierSettings::default(),
            connect_timeout: Duration::from_secs(2),
            connack_timeout: Duration::from_secs(5),
        };
        let traffic = (1..=endpoints)
            .map(|index| EndpointTraffic {
                id: id(index),
                listed: true,
                own: 0,
                pending: 0,
                peers: 0,
                picks_total: 0,
                ejections_total: 0,
                failures_total: [0; 7],
                failures_in_row: 0,
                last_success: None,
            })
            .collect();
        let mut scene = Self {
            state: PoolState::new(settings, 1),
            now: Instant::now(),
            traffic,
        };
        scene.resolve(endpoints);
        for index in 1..=endpoints {
            scene.probe(index, ProbeResult::Up(Duration::from_millis(1)));
        }
        scene
    }

    fn apply(&mut self, event: PoolEvent) -> Effects {
        self.state.apply(event, &self.traffic, self.now)
    }

    fn resolve(&mut self, endpoints: u8) -> Effects {
        let targets = (1..=endpoints)
            .map(|index| Target::plain(id(index)))
            .collect();
        self.apply(PoolEvent::Resolved(targets))
    }

    fn probe(&mut self, index: u8, result: ProbeResult) -> Effects {
        self.apply(PoolEvent::Probed(id(index), result))
    }

    fn down(&mut self, index: u8) {
        for _ in 0..3 {
            self.probe(index, ProbeResult::Down("refused".into()));
        }
    }

    fn fail(&mut self, index: u8, times: u32, failure: ConnectFailure) -> Effects {
        let mut effects = Effects::default();
        for _ in 0..times {
            self.traffic[usize::from(index) - 1].failures_in_row += 1;
            effects = self.apply(PoolEvent::ConnectFailed(id(index), failure));
        }
        effects
    }

    fn pass(&mut self, seconds: u64) -> Effects {
        self.now += Duration::from_secs(seconds);
        self.state.tick(&self.traffic, self.now)
    }

    fn states(&self) -> Vec<&'static str> {
        self.state
            .snapshot()
            .endpoints
            .iter()
            .map(|view| view.state.label())
            .collect()
    }
}

#[test]
fn new_endpoints_are_unproven_until_their_first_probe() {
    let mut scene = Scene::up(1);
    let effects = scene.resolve(2);
    assert_eq!(scene.states(), ["up", "unproven"]);
    assert_eq!(effects.transitions.len(), 1);
    assert_eq!(effects.transitions[0].from, None);
    scene.probe(2, ProbeResult::Down("refused".into()));
    assert_eq!(scene.states(), ["up", "down"]);
    assert_eq!(view_of(&scene.state, id(2)).why, "refused");
}

#[test]
fn the_number_grows_with_visible_changes_only() {
    let mut scene = Scene::up(2);
    let number = scene.state.snapshot().number;
    let effects = scene.probe(1, ProbeResult::Up(Duration::from_micros(1100)));
    assert_eq!(
        (effects.changed, scene.state.snapshot().number),
        (false, number)
    );
    let effects = scene.resolve(2);
    assert_eq!(
        (effects.changed, scene.state.snapshot().number),
        (false, number)
    );
    let effects = scene.probe(1, ProbeResult::Full("quota".into()));
    assert_eq!(
        (effects.changed, scene.state.snapshot().number),
        (true, number + 1)
    );
    let effects = scene.probe(1, ProbeResult::Up(Duration::from_millis(90)));
    assert!(effects.changed);
}

#[test]
fn vanished_endpoints_stay_until_their_last_connection_ends() {
    let mut scene = Scene::up(2);
    scene.traffic[1].own = 1;
    scene.resolve(1);
    assert_eq!(scene.states(), ["up", "vanished"]);
    assert_eq!(
        scene.state.listings().len(),
        1,
        "the index of the echo policy leaves it out"
    );
    scene.traffic[1].own = 0;
    let effects = scene.pass(0);
    assert_eq!(scene.states(), ["up"]);
    assert_eq!(effects.transitions[0].to, None);
}

#[test]
fn who_returns_is_unproven_again() {
    let mut scene = Scene::up(2);
    scene.traffic[1].own = 1;
    scene.resolve(1);
    scene.resolve(2);
    assert_eq!(scene.states(), ["up", "unproven"]);
}

#[test]
fn a_drain_outlives_the_endpoint_and_its_health() {
    let mut scene = Scene::up(2);
    scene.apply(PoolEvent::Drain(id(2), true));
    assert_eq!(scene.states(), ["up", "draining"]);
    scene.resolve(1);
    assert_eq!(scene.states(), ["up"]);
    scene.resolve(2);
    assert_eq!(scene.states(), ["up", "draining"]);
    scene.down(2);
    assert_eq!(scene.states(), ["up", "down"]);
    assert!(view_of(&scene.state, id(2)).drain);
    scene.apply(PoolEvent::Drain(id(2), false));
    scene.probe(2, ProbeResult::Up(Duration::from_millis(1)));
    scene.probe(2, ProbeResult::Up(Duration::from_millis(1)));
    assert_eq!(scene.states(), ["up", "up"]);
}

#[test]
fn drains_are_bounded() {
    let mut scene = Scene::up(1);
    for port in 0..DRAINS_MAX {
        let far = EndpointId((Ipv4Addr::new(10, 1, 0, 1), u16::try_from(port).unwrap()).into());
        assert_eq!(scene.apply(PoolEvent::Drain(far, true)).drain_refused, None);
    }
    assert_eq!(
        scene.apply(PoolEvent::Drain(id(1), true)).drain_refused,
        Some(id(1))
    );
}

#[test]
fn failures_eject_then_a_trial_decides() {
    let mut scene = Scene::up(3);
    let effects = scene.fail(1, 5, ConnectFailure::ClosedBeforeConnack);
    assert_eq!(scene.states(), ["ejected", "up", "up"]);
    assert_eq!(effects.ejected, [id(1)]);
    assert!(scene.state.next_timer().is_some());
    scene.pass(7);
    assert_eq!(scene.states(), ["half_open", "up", "up"]);
    scene.fail(1, 1, ConnectFailure::ClosedBeforeConnack);
    assert_eq!(
        scene.states(),
        ["ejected", "up", "up"],
        "one failure is enough on trial"
    );
    scene.pass(7);
    assert_eq!(scene.states(), ["ejected", "up", "up"], "and lasts longer");
    scene.pass(6);
    scene.apply(PoolEvent::TrialPassed(id(1)));
    assert_eq!(scene.states(), ["up", "up", "up"]);
    assert_eq!(scene.state.next_timer(), None);
}

#[test]
fn good_probes_do_not_end_an_ejection() {
    let mut scene = Scene::up(2);
    scene.fail(1, 5, ConnectFailure::ClosedBeforeConnack);
    scene.probe(1, ProbeResult::Up(Duration::from_millis(1)));
    assert_eq!(scene.states(), ["ejected", "up"]);
}

#[test]
fn no_more_than_the_share_is_ejected() {
    let mut scene = Scene::up(4);
    for index in 1..=4 {
        scene.fail(index, 20, ConnectFailure::Refused);
    }
    assert_eq!(scene.states(), ["ejected", "ejected", "up", "up"]);
}

#[test]
fn the_last_eligible_endpoint_is_never_ejected() {
    let mut scene = Scene::up(1);
    scene.fail(1, 100, ConnectFailure::Refused);
    assert_eq!(scene.states(), ["up"]);

    let mut scene = Scene::up(3);
    scene.down(1);
    scene.apply(PoolEvent::Drain(id(2), true));
    scene.fail(3, 100, ConnectFailure::Refused);
    assert_eq!(scene.states(), ["down", "draining", "up"]);
}

#[test]
fn an_ejected_endpoint_is_tried_when_nothing_else_is_left() {
    let mut scene = Scene::up(2);
    scene.fail(1, 5, ConnectFailure::Refused);
    scene.down(2);
    assert_eq!(scene.states(), ["half_open", "down"]);
    scene.fail(1, 5, ConnectFailure::Refused);
    assert_eq!(scene.states(), ["half_open", "down"]);
}

#[test]
fn slowness_of_all_ejects_none() {
    let mut scene = Scene::up(3);
    let before = scene.now;
    scene
        .traffic
        .iter_mut()
        .for_each(|endpoint| endpoint.last_success = Some(before));
    scene.now += Duration::from_secs(5);
    for index in 1..=3 {
        scene.fail(index, 20, ConnectFailure::ConnackTimeout);
    }
    assert_eq!(scene.states(), ["up", "up", "up"]);
    scene.traffic[1].last_success = Some(scene.now);
    scene.fail(1, 1, ConnectFailure::ConnackTimeout);
    assert_eq!(
        scene.states(),
        ["ejected", "up", "up"],
        "another one answered"
    );
}

#[test]
fn failures_ask_for_a_check_but_not_each() {
    let mut scene = Scene::up(2);
    assert_eq!(scene.fail(1, 1, ConnectFailure::Refused).recheck, [id(1)]);
    assert_eq!(scene.fail(1, 1, ConnectFailure::Refused).recheck, []);
    assert_eq!(scene.fail(2, 1, ConnectFailure::Local).recheck, []);
    scene.now += RECHECK_GAP;
    assert_eq!(scene.fail(1, 1, ConnectFailure::Refused).recheck, [id(1)]);
}

fn verdict(index: u8, down: u16, seen: u16) -> PoolEvent {
    PoolEvent::PeersSee(vec![PeerVerdict {
        endpoint: id(index),
        down,
        evacuating: 0,
        seen,
    }])
}

#[test]
fn a_peers_report_triggers_a_check_and_a_majority_reduces_use() {
    let mut scene = Scene::up(2);
    let effects = scene.apply(verdict(1, 1, 4));
    assert_eq!(
        (effects.recheck, scene.states()),
        (vec![id(1)], vec!["up", "up"])
    );
    scene.now += RECHECK_GAP;
    assert_eq!(scene.apply(verdict(1, 1, 4)).recheck, [], "nothing new");
    let effects = scene.apply(verdict(1, 3, 4));
    assert_eq!(
        (effects.recheck, scene.states()),
        (vec![id(1)], vec!["half_open", "up"])
    );
    scene.apply(PoolEvent::TrialPassed(id(1)));
    assert_eq!(
        scene.states(),
        ["half_open", "up"],
        "the others still say so"
    );
    scene.apply(verdict(1, 2, 4));
    assert_eq!(scene.states(), ["up", "up"]);
}

#[test]
fn one_peer_against_one_is_no_majority() {
    let mut scene = Scene::up(2);
    scene.apply(verdict(1, 1, 1));
    assert_eq!(scene.states(), ["up", "up"]);
}

#[test]
fn peers_doubt_everywhere_still_leaves_something_to_use() {
    let mut scene = Scene::up(2);
    let verdicts = [1, 2].map(|index| PeerVerdict {
        endpoint: id(index),
        down: 4,
        evacuating: 0,
        seen: 4,
    });
    scene.apply(PoolEvent::PeersSee(verdicts.to_vec()));
    assert_eq!(scene.states(), ["half_open", "half_open"]);
}

#[test]
fn an_evacuation_that_a_peer_sees_is_drain_here_and_ends_with_its_word() {
    let mut scene = Scene::up(2);
    let seen = |evacuating| {
        PoolEvent::PeersSee(vec![PeerVerdict {
            endpoint: id(1),
            down: 0,
            evacuating,
            seen: 2,
        }])
    };
    scene.apply(seen(1));
    assert_eq!(scene.states(), ["draining", "up"]);
    assert!(view_of(&scene.state, id(1)).second_hand, "not our own word");
    scene.apply(seen(0));
    assert_eq!(scene.states(), ["up", "up"]);
}

#[test]
fn a_verdict_of_other_probers_counts_at_once_and_is_not_told_on() {
    let mut scene = Scene::up(2);
    scene.apply(PoolEvent::ProbedByPeers(
        id(1),
        ProbeResult::Down("2 of 3".into()),
    ));
    assert_eq!(scene.states(), ["down", "up"]);
    assert!(view_of(&scene.state, id(1)).second_hand);
    scene.apply(PoolEvent::Probed(
        id(1),
        ProbeResult::Down("refused".into()),
    ));
    assert!(
        !view_of(&scene.state, id(1)).second_hand,
        "our own probe says the same"
    );
}

/// Anything may happen in any order: the invariants (checked at the end of each step) hold, and what is told to the
/// picker is what is shown.
#[test]
fn random_events_leave_a_consistent_pool() {
    for seed in 0..20 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut scene = Scene::up(6);
        let mut number = 0;
        for _ in 0..2000 {
            let index = rng.u8(1..=6);
            scene.now += Duration::from_millis(rng.u64(0..2000));
            scene.traffic[usize::from(index) - 1].own = rng.u32(0..3);
            let failure = match rng.u8(0..3) {
                0 => ConnectFailure::Refused,
                1 => ConnectFailure::ConnackTimeout,
                _ => ConnectFailure::ClosedBeforeConnack,
            };
            match rng.u8(0..9) {
                0 => scene.resolve(rng.u8(0..=6)),
                1 | 2 => scene.probe(index, ProbeResult::Up(Duration::from_millis(1))),
                3 => scene.probe(index, ProbeResult::Down("refused".into())),
                4 => scene.probe(index, ProbeResult::Draining("evacuating".into())),
                5 => scene.apply(PoolEvent::Drain(id(index), rng.bool())),
                6 => scene.apply(PoolEvent::TrialPassed(id(index))),
                7 => scene.apply(verdict(index, rng.u16(0..4), 4)),
                _ => scene.fail(index, rng.u32(1..8), failure),
            };
            let snapshot = scene.state.snapshot();
            assert!(snapshot.number >= number, "seed {seed}");
            number = snapshot.number;
            let open = |standing: Standing| standing != Standing::Closed;
            for listing in scene.state.listings() {
                let view = snapshot
                    .endpoints
                    .iter()
                    .find(|view| view.id() == listing.id)
                    .unwrap();
                assert_eq!(
                    open(listing.standing),
                    takes_connections(view.state),
                    "seed {seed}"
                );
            }
        }
    }
}
