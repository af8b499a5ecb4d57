//! The fleet and its checkers on paused time, with a prober that needs no socket.

use super::super::outcome::Outcome;
use super::*;
use crate::logic::event::ProbeResult;
use crate::logic::snapshot::EndpointView;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// Answers from a script, and then with its last word; remembers when it was asked.
#[derive(Clone, Default)]
struct Scripted {
    script: Arc<Vec<Word>>,
    asked: Arc<Mutex<Vec<(EndpointId, Instant)>>>,
}

#[derive(Clone, Copy, PartialEq)]
enum Word {
    Up,
    Down,
    Local,
    Hang,
}

impl Prober for Scripted {
    async fn probe(&self, target: &Target) -> Outcome {
        let position = {
            let mut asked = self.asked.lock().unwrap();
            asked.push((target.id, Instant::now()));
            asked.iter().filter(|(id, _)| *id == target.id).count() - 1
        };
        let word = self
            .script
            .get(position)
            .or_else(|| self.script.last())
            .copied();
        match word.unwrap_or(Word::Up) {
            Word::Up => ProbeResult::Up(Duration::ZERO).into(),
            Word::Down => ProbeResult::Down("scripted".to_owned()).into(),
            Word::Local => Outcome::Local("scripted".to_owned()),
            Word::Hang => std::future::pending().await,
        }
    }
}

struct Bench {
    prober: Scripted,
    snapshot: watch::Sender<Arc<PoolSnapshot>>,
    events: mpsc::Receiver<PoolEvent>,
    recheck: mpsc::Sender<EndpointId>,
    shared: watch::Sender<ProberSet>,
    tracker: TaskTracker,
    cancel: CancellationToken,
    started: Instant,
}

fn settings() -> Settings {
    Settings {
        interval: Duration::from_secs(10),
        fast_interval: Duration::from_secs(1),
        rise: 2,
        fall: 3,
        ..Settings::default()
    }
}

fn endpoint(last: u8) -> EndpointId {
    SocketAddr::from(([127, 0, 0, last], 1883)).into()
}

fn picture(endpoints: &[(u8, EndpointState)]) -> Arc<PoolSnapshot> {
    let endpoints = endpoints.iter().map(|(last, state)| EndpointView {
        target: Target::plain(endpoint(*last)),
        state: *state,
        why: String::new(),
        drain: false,
        second_hand: false,
        latency: None,
    });
    Arc::new(PoolSnapshot {
        number: 1,
        pool: "emqx".to_owned(),
        endpoints: endpoints.collect(),
    })
}

fn up(lasts: impl IntoIterator<Item = u8>) -> Arc<PoolSnapshot> {
    picture(
        &lasts
            .into_iter()
            .map(|last| (last, EndpointState::Up))
            .collect::<Vec<_>>(),
    )
}

impl Bench {
    fn start(script: &[Word], first: Arc<PoolSnapshot>) -> Self {
        Self::start_shared(script, first, None)
    }

    fn start_shared(script: &[Word], first: Arc<PoolSnapshot>, set: Option<ProberSet>) -> Self {
        let prober = Scripted {
            script: Arc::new(script.to_vec()),
            ..Scripted::default()
        };
        let (snapshot, snapshot_receiver) = watch::channel(first);
        let (events_sender, events) = mpsc::channel(1024);
        let (recheck, recheck_receiver) = mpsc::channel(1024);
        let with_shared = set.is_some();
        let everybody = ProberSet::new("lb-1".to_owned(), [], 1);
        let (shared, shared_receiver) = watch::channel(set.unwrap_or(everybody));
        let tracker = TaskTracker::new();
        let cancel = CancellationToken::new();
        let fleet = Fleet {
            pool: "emqx".to_owned(),
            settings: settings(),
            snapshot: snapshot_receiver,
            events: events_sender,
            recheck: recheck_receiver,
            shared: with_shared.then_some(shared_receiver),
            seed: 42,
        };
        fleet.spawn_with(prober.clone(), &tracker, &cancel);
        let started = Instant::now();
        Self {
            prober,
            snapshot,
            events,
            recheck,
            shared,
            tracker,
            cancel,
            started,
        }
    }

    /// When one endpoint was asked, since the start.
    fn asked(&self, last: u8) -> Vec<Duration> {
        let asked = self.prober.asked.lock().unwrap();
        let of_it = asked.iter().filter(|(id, _)| *id == endpoint(last));
        of_it.map(|(_, at)| *at - self.started).collect()
    }

    /// The times between the probes of one endpoint.
    fn gaps(&self, last: u8) -> Vec<Duration> {
        let asked = self.prober.asked.lock().unwrap();
        let of_it = asked.iter().filter(|(id, _)| *id == endpoint(last));
        let instants: Vec<_> = of_it.map(|(_, at)| *at).collect();
        instants.windows(2).map(|pair| pair[1] - pair[0]).collect()
    }

    fn told(&mut self) -> Vec<PoolEvent> {
        std::iter::from_fn(|| self.events.try_recv().ok()).collect()
    }
}

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn a_new_endpoint_is_probed_at_once() {
    let mut bench = Bench::start(&[], up([1]));
    sleep(SECOND / 10).await;
    assert_eq!(bench.asked(1), [Duration::ZERO]);
    let told = bench.told();
    assert_eq!(
        told,
        [PoolEvent::Probed(
            endpoint(1),
            ProbeResult::Up(Duration::ZERO)
        )]
    );
    bench.snapshot.send_replace(up([1, 2]));
    sleep(SECOND / 10).await;
    assert_eq!(bench.asked(1).len(), 1, "the old one is left in peace");
    assert_eq!(bench.asked(2), [SECOND / 10]);
}

#[tokio::test(start_paused = true)]
async fn vanished_and_missing_endpoints_are_probed_no_more() {
    let bench = Bench::start(&[], up([1, 2, 3]));
    sleep(SECOND / 10).await;
    bench.snapshot.send_replace(picture(&[
        (1, EndpointState::Vanished),
        (3, EndpointState::Draining),
    ]));
    sleep(60 * SECOND).await;
    assert_eq!(bench.asked(1).len(), 1);
    assert_eq!(bench.asked(2).len(), 1);
    assert!(
        bench.asked(3).len() >= 5,
        "a draining endpoint may come back"
    );
    bench.snapshot.send_replace(up([1, 3]));
    sleep(SECOND / 10).await;
    assert_eq!(bench.asked(1).len(), 2, "it came back");
}

#[tokio::test(start_paused = true)]
async fn intervals_vary_by_a_tenth_and_phases_differ() {
    let bench = Bench::start(&[], up(1..=20));
    sleep(100 * SECOND).await;
    let mut seconds = Vec::new();
    for last in 1..=20 {
        let asked = bench.asked(last);
        seconds.push(asked[1].as_millis());
        assert!((SECOND..=10 * SECOND).contains(&asked[1]), "{asked:?}");
        for gap in &bench.gaps(last)[1..] {
            assert!(
                (9 * SECOND..=11 * SECOND + SECOND / 100).contains(gap),
                "{gap:?}"
            );
        }
    }
    seconds.sort_unstable();
    seconds.dedup();
    assert!(
        seconds.len() >= 18,
        "the second probes are spread: {seconds:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_change_is_looked_at_fast_until_it_is_settled() {
    let bench = Bench::start(&[Word::Up, Word::Down], up([1]));
    sleep(60 * SECOND).await;
    let gaps: Vec<_> = bench.gaps(1).iter().map(Duration::as_secs_f64).collect();
    for (position, gap) in gaps.iter().enumerate().skip(1) {
        let range = if position < 3 { 0.9..1.11 } else { 9.0..11.1 };
        assert!(range.contains(gap), "gap {position} of {gaps:?}");
    }
    assert!(gaps.len() >= 6, "{gaps:?}");
}

#[tokio::test(start_paused = true)]
async fn a_recheck_is_at_once_and_a_storm_is_a_few_probes() {
    let bench = Bench::start(&[], up([1, 2]));
    sleep(SECOND / 2).await;
    bench.recheck.send(endpoint(1)).await.unwrap();
    sleep(SECOND / 100).await;
    assert_eq!(bench.asked(1), [Duration::ZERO, SECOND / 2]);
    for _ in 0..1000 {
        bench.recheck.send(endpoint(1)).await.unwrap();
        sleep(SECOND / 1000).await;
    }
    let asked = bench.asked(1);
    let pause = settings().fast_interval / 5;
    assert!(
        (5..=8).contains(&asked.len()),
        "a second of storm, a pause of {pause:?}: {asked:?}"
    );
    assert!(bench.gaps(1).iter().all(|gap| *gap >= pause), "{asked:?}");
    assert_eq!(bench.asked(2).len(), 1, "the other one is left in peace");
    bench.recheck.send(endpoint(99)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn probing_goes_on_when_nobody_asks_for_rechecks_any_more() {
    let mut bench = Bench::start(&[], up([1]));
    bench.recheck = mpsc::channel(1).0;
    sleep(60 * SECOND).await;
    assert!(bench.asked(1).len() >= 5);
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_could_not_be_made_is_not_told() {
    let mut bench = Bench::start(&[Word::Local], up([1]));
    sleep(60 * SECOND).await;
    assert!(bench.asked(1).len() >= 5);
    assert_eq!(bench.told(), []);
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_makes_checkers_wait_and_cancel_ends_them() {
    let bench = Bench::start(&[], up(1..=20));
    // Nobody reads the queue of 1024 places; 20 endpoints fill it in about 520 s.
    sleep(2000 * SECOND).await;
    let before: usize = (1..=20).map(|last| bench.asked(last).len()).sum();
    assert_eq!(before, 1024 + 20, "each checker holds one result in hand");
    bench.cancel.cancel();
    bench.tracker.close();
    timeout(SECOND, bench.tracker.wait()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn cancel_ends_a_probe_that_hangs() {
    let bench = Bench::start(&[Word::Hang], up([1]));
    sleep(SECOND).await;
    bench.cancel.cancel();
    bench.tracker.close();
    timeout(SECOND, bench.tracker.wait()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn everything_ends_with_the_pool() {
    let Bench {
        snapshot,
        tracker,
        cancel,
        ..
    } = Bench::start(&[], up([1, 2]));
    drop(snapshot);
    tracker.close();
    timeout(SECOND, tracker.wait()).await.unwrap();
    assert!(!cancel.is_cancelled(), "the pool's end is nobody else's");
}

#[tokio::test(start_paused = true)]
async fn a_new_name_is_asked_at_once() {
    let bench = Bench::start(&[], up([1]));
    sleep(SECOND / 10).await;
    bench.snapshot.send_modify(|snapshot| {
        Arc::make_mut(snapshot).endpoints[0].target.name = "other.internal".to_owned();
    });
    sleep(SECOND / 10).await;
    assert_eq!(bench.asked(1), [Duration::ZERO, SECOND / 10]);
}

#[tokio::test(start_paused = true)]
async fn shared_probing_follows_the_set() {
    let peers = || (1..=5).map(|number| format!("lb-{number}"));
    let crowd = ProberSet::new("lb-1".to_owned(), peers(), 1);
    let alone = ProberSet::new("lb-1".to_owned(), [], 1);
    let bench = Bench::start_shared(&[], up(1..=50), Some(crowd.clone()));
    sleep(SECOND / 10).await;
    let mine = |last: &u8| crowd.probes(endpoint(*last));
    for last in 1..=50 {
        assert_eq!(bench.asked(last).len(), usize::from(mine(&last)), "{last}");
    }
    bench.shared.send_replace(alone);
    sleep(SECOND / 10).await;
    assert!(
        (1..=50).all(|last| bench.asked(last).len() == 1),
        "the others are gone"
    );
    bench.shared.send_replace(crowd.clone());
    sleep(60 * SECOND).await;
    for last in 1..=50 {
        assert_eq!(bench.asked(last).len() > 1, mine(&last), "{last}");
    }
}
