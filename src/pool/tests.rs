//! The pool as others see it, on paused time.

use super::*;
use crate::logic::endpoint::{EndpointId, Target};
use crate::logic::event::{ConnectFailure, PoolEvent, ProbeResult};
use crate::logic::health_state::Thresholds;
use crate::logic::peer::PeerCounts;
use crate::logic::snapshot::EndpointState;
use prometheus_client::registry::Registry;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

fn id(index: u8) -> EndpointId {
    EndpointId((Ipv4Addr::new(10, 0, 0, index), 1883).into())
}

fn request() -> PickRequest<'static> {
    PickRequest {
        excluded: &[],
        source: IpAddr::V4(Ipv4Addr::LOCALHOST),
        route_key: None,
    }
}

struct Scene {
    pool: Arc<Pool>,
    recheck: mpsc::Receiver<EndpointId>,
    tracker: TaskTracker,
    cancel: CancellationToken,
}

impl Scene {
    /// A pool of so many endpoints, all up.
    async fn up(endpoints: u8, settings: Settings) -> Self {
        let (tracker, cancel) = (TaskTracker::new(), CancellationToken::new());
        let (sender, recheck) = mpsc::channel(16);
        let thresholds = Thresholds { rise: 2, fall: 3 };
        let pool = Pool::spawn(settings, thresholds, sender, 1, &tracker, &cancel);
        let scene = Self {
            pool,
            recheck,
            tracker,
            cancel,
        };
        scene.resolve(endpoints).await;
        for index in 1..=endpoints {
            scene
                .probe(index, ProbeResult::Up(Duration::from_millis(1)))
                .await;
        }
        scene
    }

    /// Sends, and waits until the actor has gone through it.
    async fn send(&self, event: PoolEvent) {
        self.pool.events().send(event).await.unwrap();
        settle().await;
    }

    async fn resolve(&self, endpoints: u8) {
        self.send(PoolEvent::Resolved(
            (1..=endpoints)
                .map(|index| Target::plain(id(index)))
                .collect(),
        ))
        .await;
    }

    async fn probe(&self, index: u8, result: ProbeResult) {
        self.send(PoolEvent::Probed(id(index), result)).await;
    }

    fn pick(&self) -> Result<Slot, PickError> {
        self.pool.pick(Instant::now().into_std(), &request())
    }

    /// Fails once on the given endpoint, whatever the policy would pick.
    fn fail(&self, index: u8, failure: ConnectFailure) {
        let excluded: Vec<EndpointId> = (1..=9).filter(|other| *other != index).map(id).collect();
        let request = PickRequest {
            excluded: &excluded,
            ..request()
        };
        self.pool
            .pick(Instant::now().into_std(), &request)
            .unwrap()
            .failed(failure);
    }

    fn states(&self) -> Vec<&'static str> {
        let snapshot = Arc::clone(&self.pool.snapshot().borrow());
        snapshot
            .endpoints
            .iter()
            .map(|view| view.state.label())
            .collect()
    }
}

/// Lets every task that can run, run.
async fn settle() {
    for _ in 0..5 {
        tokio::task::yield_now().await;
    }
}

fn must_be_send<T: Send>(value: T) -> T {
    value
}

fn settings() -> Settings {
    Settings::named("emqx")
}

#[tokio::test(start_paused = true)]
async fn slots_count_for_as_long_as_they_live() {
    let scene = Scene::up(3, settings()).await;
    let mut slots: Vec<Slot> = (0..30).map(|_| scene.pick().unwrap()).collect();
    slots.iter_mut().skip(1).for_each(Slot::established);
    let report = scene.pool.report();
    assert_eq!(
        report
            .iter()
            .map(|endpoint| endpoint.cluster)
            .collect::<Vec<_>>(),
        [10, 10, 10]
    );
    assert_eq!(
        report
            .iter()
            .map(|endpoint| endpoint.pending)
            .collect::<Vec<_>>(),
        [1, 0, 0]
    );
    assert_eq!(
        report
            .iter()
            .map(|endpoint| endpoint.picks_total)
            .sum::<u64>(),
        30
    );
    drop(slots);
    assert!(
        scene
            .pool
            .report()
            .iter()
            .all(|endpoint| endpoint.cluster == 0 && endpoint.pending == 0)
    );
}

#[tokio::test(start_paused = true)]
async fn a_pool_without_endpoints_refuses_after_a_short_grace() {
    let scene = Scene::up(0, settings()).await;
    assert_eq!(scene.pick().unwrap_err(), PickError::NoEndpoint);
    let start = Instant::now();
    let error = scene
        .pool
        .pick_until(&request(), start + Duration::from_secs(20))
        .await
        .unwrap_err();
    assert_eq!(
        (error, start.elapsed()),
        (PickError::NoEndpoint, Duration::from_secs(1))
    );
}

#[tokio::test(start_paused = true)]
async fn grace_ends_with_the_first_good_probe() {
    let scene = Scene::up(1, settings()).await;
    for _ in 0..3 {
        scene.probe(1, ProbeResult::Down("refused".into())).await;
    }
    let waiting = request();
    let pick = scene
        .pool
        .pick_until(&waiting, Instant::now() + Duration::from_secs(20));
    let recover = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        scene
            .probe(1, ProbeResult::Up(Duration::from_millis(1)))
            .await;
        scene
            .probe(1, ProbeResult::Up(Duration::from_millis(1)))
            .await;
    };
    let (slot, ()) = tokio::join!(pick, recover);
    assert_eq!(slot.unwrap().endpoint(), id(1));
}

#[tokio::test(start_paused = true)]
async fn a_client_waits_for_room_among_pending_connections() {
    let scene = Scene::up(
        1,
        Settings {
            pending_max: 1,
            ..settings()
        },
    )
    .await;
    let mut first = scene.pick().unwrap();
    assert_eq!(scene.pick().unwrap_err(), PickError::Saturated);
    let waiting = request();
    let start = Instant::now();
    let second = scene
        .pool
        .pick_until(&waiting, start + Duration::from_secs(20));
    let accept = async {
        tokio::time::sleep(Duration::from_secs(3)).await;
        first.established();
    };
    let (second, ()) = tokio::join!(second, accept);
    assert!(second.is_ok());
    assert_eq!(start.elapsed(), Duration::from_secs(3), "woken, not polled");
    let error = scene
        .pool
        .pick_until(&waiting, Instant::now() + Duration::from_secs(2))
        .await
        .unwrap_err();
    assert_eq!(error, PickError::Deadline);
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_wait_leaves_no_count() {
    let scene = Scene::up(
        1,
        Settings {
            pending_max: 1,
            ..settings()
        },
    )
    .await;
    let first = scene.pick().unwrap();
    let waiting = request();
    let wait = scene
        .pool
        .pick_until(&waiting, Instant::now() + Duration::from_secs(20));
    let wait = must_be_send(wait);
    assert!(
        tokio::time::timeout(Duration::from_secs(1), wait)
            .await
            .is_err()
    );
    drop(first);
    assert_eq!(scene.pool.report()[0].cluster, 0);
    assert!(scene.pick().is_ok());
}

#[tokio::test(start_paused = true)]
async fn who_has_excluded_everything_does_not_wait() {
    let scene = Scene::up(1, settings()).await;
    let excluded = [id(1)];
    let request = PickRequest {
        excluded: &excluded,
        ..request()
    };
    let start = Instant::now();
    let error = scene
        .pool
        .pick_until(&request, start + Duration::from_secs(20))
        .await
        .unwrap_err();
    assert_eq!(
        (error, start.elapsed()),
        (PickError::NoEndpoint, Duration::ZERO)
    );
}

#[tokio::test(start_paused = true)]
async fn failures_eject_and_a_trial_readmits() {
    let mut scene = Scene::up(2, settings()).await;
    for _ in 0..5 {
        scene.fail(1, ConnectFailure::ClosedBeforeConnack);
    }
    settle().await;
    assert_eq!(scene.states(), ["ejected", "up"]);
    assert_eq!(scene.recheck.try_recv(), Ok(id(1)));
    let report = scene.pool.report();
    assert_eq!(report[0].ejections_total, 1);
    assert_eq!(
        report[0].failures_total[ConnectFailure::ClosedBeforeConnack.index()],
        5
    );
    assert_eq!(scene.pick().unwrap().endpoint(), id(2));

    tokio::time::sleep(Duration::from_secs(7)).await;
    assert_eq!(scene.states(), ["half_open", "up"]);
    let mut slots: Vec<Slot> = (0..4).map(|_| scene.pick().unwrap()).collect();
    let on_trial: Vec<usize> = (0..4)
        .filter(|at| slots[*at].why() == PickReason::HalfOpen)
        .collect();
    assert_eq!(on_trial.len(), 1, "one pending connection at a time");
    slots[on_trial[0]].established();
    settle().await;
    assert_eq!(scene.states(), ["up", "up"]);
}

#[tokio::test(start_paused = true)]
async fn a_failure_from_before_the_trial_is_no_verdict_on_it() {
    let scene = Scene::up(2, settings()).await;
    let mut early: Vec<Slot> = (0..2).map(|_| scene.pick().unwrap()).collect();
    early.retain(|slot| slot.endpoint() == id(1));
    for _ in 0..5 {
        scene.fail(1, ConnectFailure::ClosedBeforeConnack);
    }
    tokio::time::sleep(Duration::from_secs(7)).await;
    assert_eq!(scene.states(), ["half_open", "up"]);
    early
        .pop()
        .unwrap()
        .failed(ConnectFailure::ClosedBeforeConnack);
    settle().await;
    assert_eq!(scene.states(), ["half_open", "up"]);
    let failures = scene.pool.report()[0].failures_total;
    assert_eq!(failures.iter().sum::<u64>(), 6, "counted all the same");

    scene.fail(1, ConnectFailure::ClosedBeforeConnack);
    settle().await;
    assert_eq!(scene.states(), ["ejected", "up"], "the trial's own failure");
}

#[tokio::test(start_paused = true)]
async fn vanished_endpoints_are_shown_until_their_last_connection_ends() {
    let scene = Scene::up(1, settings()).await;
    let mut slot = scene.pick().unwrap();
    slot.established();
    scene
        .send(PoolEvent::Resolved(vec![Target::plain(id(2))]))
        .await;
    assert_eq!(scene.states(), ["vanished", "unproven"]);
    assert_eq!(scene.pool.report()[0].established, 1);
    assert_eq!(slot.endpoint(), id(1));
    assert_eq!(scene.pick().unwrap().why(), PickReason::Unproven);
    drop(slot);
    settle().await;
    assert_eq!(scene.states(), ["unproven"]);
}

#[tokio::test(start_paused = true)]
async fn facts_tell_counts_verdicts_and_evacuations() {
    let scene = Scene::up(4, settings()).await;
    let _slots: Vec<Slot> = (0..4).map(|_| scene.pick().unwrap()).collect();
    for _ in 0..3 {
        scene.probe(2, ProbeResult::Down("refused".into())).await;
    }
    scene
        .probe(3, ProbeResult::Draining("evacuating".into()))
        .await;
    scene.send(PoolEvent::Drain(id(4), true)).await;
    let facts = scene.pool.facts();
    assert_eq!(*facts.counts, [1, 2, 3, 4].map(|index| (id(index), 1)));
    assert_eq!((facts.down, facts.evacuating), (vec![id(2)], vec![id(3)]));
    assert!(facts.rate > 3.0);
}

#[tokio::test(start_paused = true)]
async fn changes_are_announced() {
    let scene = Scene::up(1, settings()).await;
    scene.pool.changed().notified().await;
    let announced = || async {
        tokio::time::timeout(Duration::from_secs(1), scene.pool.changed().notified())
            .await
            .is_ok()
    };
    assert!(!announced().await);
    let mut slot = scene.pick().unwrap();
    assert!(announced().await);
    slot.established();
    drop(slot);
    assert!(announced().await);
    scene.probe(1, ProbeResult::Full("quota".into())).await;
    assert!(announced().await);
}

#[tokio::test(start_paused = true)]
async fn peers_connections_steer_picks_and_show_in_the_report() {
    let scene = Scene::up(2, settings()).await;
    let taken_at = Instant::now().into_std();
    let peer = PeerCounts {
        id: "b".into(),
        taken_at,
        rate: 0.0,
        counts: Arc::new(vec![(id(1), 5)]),
    };
    scene.pool.set_peers("a", vec![peer]);
    let slot = scene.pick().unwrap();
    assert_eq!(slot.endpoint(), id(2));
    let report = scene.pool.report();
    assert_eq!(
        report
            .iter()
            .map(|endpoint| endpoint.cluster)
            .collect::<Vec<_>>(),
        [5, 1]
    );
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_drops_and_counts_without_losing_the_connection_count() {
    let (tracker, cancel) = (TaskTracker::new(), CancellationToken::new());
    let (sender, _recheck) = mpsc::channel(1);
    let thresholds = Thresholds { rise: 1, fall: 1 };
    let pool = Pool::spawn(settings(), thresholds, sender, 1, &tracker, &cancel);
    pool.events()
        .send(PoolEvent::Resolved(vec![Target::plain(id(1))]))
        .await
        .unwrap();
    settle().await;
    // The actor does not run between these: nothing here awaits.
    for _ in 0..1100 {
        let slot = pool.pick(Instant::now().into_std(), &request()).unwrap();
        slot.failed(ConnectFailure::Refused);
    }
    assert_eq!(pool.events_dropped(), 1100 - 1024);
    assert_eq!(pool.report()[0].failures_total[0], 1100);
    assert_eq!(pool.report()[0].pending, 0);
}

#[tokio::test(start_paused = true)]
async fn the_actor_ends_when_cancelled_and_slots_outlive_it() {
    let scene = Scene::up(1, settings()).await;
    let slot = scene.pick().unwrap();
    scene.cancel.cancel();
    scene.tracker.close();
    scene.tracker.wait().await;
    slot.failed(ConnectFailure::Refused);
    assert_eq!(scene.pool.report()[0].cluster, 0);
}

#[tokio::test(start_paused = true)]
async fn metrics_are_encoded() {
    let scene = Scene::up(2, settings()).await;
    let mut slot = scene.pick().unwrap();
    slot.established();
    scene.fail(2, ConnectFailure::DialTimeout);
    let mut registry = Registry::default();
    registry.register_collector(Box::new(PoolCollector::new(vec![Arc::clone(&scene.pool)])));
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    for line in [
        r#"tidegate_endpoint_connections{pool="emqx",endpoint="10.0.0.1:1883",scope="own"} 1"#,
        r#"tidegate_endpoint_connections{pool="emqx",endpoint="10.0.0.1:1883",scope="cluster"} 1"#,
        r#"tidegate_endpoint_pending_connections{pool="emqx",endpoint="10.0.0.1:1883"} 0"#,
        r#"tidegate_endpoint_state{pool="emqx",endpoint="10.0.0.2:1883",state="up"} 1"#,
        r#"tidegate_endpoint_state{pool="emqx",endpoint="10.0.0.2:1883",state="down"} 0"#,
        r#"tidegate_endpoint_picks_total{pool="emqx",endpoint="10.0.0.2:1883"} 1"#,
        r#"tidegate_endpoint_connect_failures_total{pool="emqx",endpoint="10.0.0.2:1883",reason="dial_timeout"} 1"#,
        r#"tidegate_endpoint_ejections_total{pool="emqx",endpoint="10.0.0.2:1883"} 0"#,
        r#"tidegate_pool_spread_connections{pool="emqx"} 1.0"#,
        r#"tidegate_pool_events_dropped_total{pool="emqx"} 0"#,
    ] {
        assert!(
            text.lines().any(|have| have == line),
            "{line} is not in\n{text}"
        );
    }
    assert_eq!(scene.states().len(), 2);
    assert!(
        EndpointState::ALL
            .iter()
            .all(|state| text.contains(state.label()))
    );
}

/// 500 clients per second for 30 s over three endpoints, of which the first is ill. Gives the failed attempts.
async fn failures_with_one_ill(failure: ConnectFailure, fails_after: Duration) -> u64 {
    let scene = Scene::up(3, settings()).await;
    let mut joined = Vec::new();
    let mut waiting = std::collections::VecDeque::new();
    let start = Instant::now();
    for _ in 0..15_000 {
        tokio::time::sleep(Duration::from_millis(2)).await;
        while waiting
            .front()
            .is_some_and(|(due, _)| *due <= Instant::now())
        {
            let (_, slot): (Instant, Slot) = waiting.pop_front().unwrap();
            slot.failed(failure);
        }
        let mut slot = scene.pick().unwrap();
        if slot.endpoint() == id(1) {
            waiting.push_back((Instant::now() + fails_after, slot));
        } else {
            slot.established();
            joined.push(slot);
        }
    }
    assert!(start.elapsed() < Duration::from_secs(31));
    assert!(
        scene.pool.report()[0].ejections_total >= 2,
        "tried again, ejected again"
    );
    scene.pool.report()[0].failures_total.iter().sum()
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_never_answers_costs_few_attempts() {
    let failures =
        failures_with_one_ill(ConnectFailure::ConnackTimeout, Duration::from_secs(5)).await;
    assert!(failures <= 80, "{failures}");
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_accepts_and_closes_costs_few_attempts() {
    let fails_after = Duration::from_millis(3);
    let failures = failures_with_one_ill(ConnectFailure::ClosedBeforeConnack, fails_after).await;
    assert!(failures <= 20, "{failures}");
}

#[tokio::test(start_paused = true)]
async fn new_settings_rule_at_once() {
    let scene = Scene::up(1, settings()).await;
    let slots: Vec<Slot> = (0..3).map(|_| scene.pick().unwrap()).collect();
    let limited = Settings {
        max_connections: Some(3),
        ..settings()
    };
    scene
        .pool
        .reconfigure(limited, Thresholds { rise: 1, fall: 1 });
    settle().await;
    assert_eq!(scene.pick().unwrap_err(), PickError::Saturated);
    assert_eq!(scene.pool.settings().max_connections, Some(3));
    drop(slots);
    assert!(scene.pick().is_ok());
    scene.probe(1, ProbeResult::Down("refused".into())).await;
    assert_eq!(scene.states(), ["down"], "one bad probe is enough now");
}
