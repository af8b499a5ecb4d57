//! The event loop, and how events reach an instance. Time is the time since the beginning.

use crate::clients::{Attempt, Clients};
use crate::clock::Clock;
use crate::gossip::{Digest, FANOUT, ROUND_US};
use crate::instance::{Instance, Process, endpoint, endpoint_index, name};
use crate::network::Network;
use crate::queue::Queue;
use crate::watch::Watch;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tidegate::logic::balance::{Affinity, PickerSettings, Policy};
use tidegate::logic::event::{PoolEvent, ProbeResult};
use tidegate::logic::health_state::Thresholds;
use tidegate::logic::outlier::OutlierSettings;
use tidegate::logic::read_pace::pace;
use tidegate::logic::record::MemberUpdate;

/// How often a [`Watch`] looks.
const SAMPLE: Duration = Duration::from_millis(5);

/// Between two probes of one endpoint, plus or minus a tenth.
const PROBE_INTERVAL_MS: u64 = 2000;

/// A world before it begins. The defaults are those of the configuration.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) seed: u64,
    pub(crate) instances: usize,
    pub(crate) endpoints: usize,
    pub(crate) picker: PickerSettings,
    pub(crate) outlier: OutlierSettings,
    pub(crate) thresholds: Thresholds,
    pub(crate) connack_timeout: Duration,
    /// Without peers each instance balances for itself.
    pub(crate) peers: bool,
    /// Check every invariant after every event.
    pub(crate) strict: bool,
}

impl Setup {
    pub(crate) fn new(instances: usize, endpoints: usize, seed: u64) -> Self {
        Self {
            seed,
            instances,
            endpoints,
            picker: PickerSettings {
                policy: Policy::LeastConnections,
                affinity: Affinity::None,
                max_connections: None,
                pending_max: 64,
                join_rate: 1000,
            },
            outlier: OutlierSettings::default(),
            thresholds: Thresholds { rise: 2, fall: 3 },
            connack_timeout: Duration::from_secs(5),
            peers: true,
            strict: false,
        }
    }

    /// The same without gossip, as other balancers do it.
    pub(crate) fn local_only(mut self) -> Self {
        self.peers = false;
        self
    }
}

/// What an endpoint does with connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Behaviour {
    /// Answers within 2 ms.
    Healthy,
    /// Refuses.
    Dead,
    /// Accepts and never answers; a TCP probe finds it well.
    Silent,
    /// Accepts and closes; a TCP probe finds it well.
    Full,
    /// Healthy, and its probe says that it is being evacuated.
    Evacuating,
}

#[derive(Debug)]
pub(crate) enum Event {
    Push {
        instance: usize,
        start: u64,
    },
    Update {
        to: usize,
        update: Rc<MemberUpdate>,
    },
    Round {
        instance: usize,
        start: u64,
    },
    Gossip {
        from: usize,
        to: usize,
        digest: Digest,
        answer: bool,
    },
    Probe {
        instance: usize,
        start: u64,
        endpoint: usize,
        chain: Option<u64>,
    },
    Timer {
        instance: usize,
        start: u64,
    },
    LookAgain {
        instance: usize,
        start: u64,
    },
    Answer {
        connection: usize,
        serial: u64,
    },
    Close {
        connection: usize,
        serial: u64,
    },
    Attempt(Attempt),
    /// The tier\'s view is brought into the pool.
    ReadView {
        instance: usize,
        start: u64,
    },
    Sample,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) setup: Setup,
    pub(crate) now: Duration,
    pub(crate) rng: fastrand::Rng,
    pub(crate) queue: Queue<Event>,
    pub(crate) network: Network,
    pub(crate) instances: Vec<Instance>,
    pub(crate) behaviours: Vec<Behaviour>,
    pub(crate) clients: Clients,
    pub(crate) watch: Option<Watch>,
    /// Events so far.
    pub(crate) events: u64,
}

impl World {
    /// All instances start at once and have a second to find each other and to probe.
    pub(crate) fn new(setup: Setup) -> Self {
        let indices = 0..setup.instances;
        let mut world = Self::asleep(setup);
        for index in indices {
            world.start(index);
        }
        world.run_for(Duration::from_secs(1));
        world
    }

    /// No instance runs yet.
    #[expect(clippy::disallowed_methods, reason = "any instant does as a beginning")]
    pub(crate) fn asleep(setup: Setup) -> Self {
        let mut rng = fastrand::Rng::with_seed(setup.seed);
        let zero = Instant::now();
        let instances = (0..setup.instances).map(|index| Instance {
            index,
            name: Arc::from(name(index)),
            clock: Clock::new(zero, &mut rng),
            starts: 0,
            resolved: (0..setup.endpoints).collect(),
            process: None,
        });
        Self {
            instances: instances.collect(),
            now: Duration::ZERO,
            rng,
            queue: Queue::new(),
            network: Network::local(),
            behaviours: vec![Behaviour::Healthy; setup.endpoints],
            clients: Clients::new(setup.instances, setup.endpoints),
            watch: None,
            events: 0,
            setup,
        }
    }

    pub(crate) fn run_for(&mut self, span: Duration) {
        let end = self.now + span;
        while let Some((at, event)) = self.queue.take(end) {
            debug_assert!(at >= self.now, "time does not go back");
            self.now = at;
            self.events += 1;
            self.handle(event);
            if self.setup.strict {
                self.check();
            }
        }
        self.now = end;
    }

    pub(crate) fn after(&mut self, span: Duration, event: Event) {
        self.queue.add(self.now + span, event);
    }

    /// A random span, microseconds.
    pub(crate) fn random_us(&mut self, range: std::ops::Range<u64>) -> Duration {
        Duration::from_micros(self.rng.u64(range))
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Push { instance, start } if self.runs(instance, start) => self.push(instance),
            Event::Update { to, update } => self.hear(to, vec![update]),
            Event::Round { instance, start } if self.runs(instance, start) => self.round(instance),
            Event::Gossip {
                from,
                to,
                digest,
                answer,
            } => self.gossip(from, to, digest, answer),
            Event::Probe {
                instance,
                start,
                endpoint,
                chain,
            } if self.runs(instance, start) => self.probe(instance, endpoint, chain),
            Event::Timer { instance, start } if self.runs(instance, start) => self.timer(instance),
            Event::LookAgain { instance, start } if self.runs(instance, start) => {
                self.look_again(instance);
            }
            Event::ReadView { instance, start } if self.runs(instance, start) => {
                self.view_is_due(instance);
            }
            Event::Answer { connection, serial } => self.answer(connection, serial),
            Event::Close { connection, serial } => self.close_if(connection, serial),
            Event::Attempt(attempt) => self.attempt(attempt),
            Event::Sample => self.sample(),
            // Of a process that has ended.
            Event::Push { .. }
            | Event::Round { .. }
            | Event::Probe { .. }
            | Event::Timer { .. }
            | Event::ReadView { .. }
            | Event::LookAgain { .. } => {}
        }
    }

    pub(crate) fn runs(&self, instance: usize, start: u64) -> bool {
        let instance = &self.instances[instance];
        instance.process.is_some() && instance.starts == start
    }

    /// The process of an instance that runs, and its clock.
    pub(crate) fn process(&mut self, instance: usize) -> Option<(&mut Process, Instant)> {
        let instance = &mut self.instances[instance];
        let now = instance.clock.at(self.now);
        instance.process.as_mut().map(|process| (process, now))
    }

    pub(crate) fn alive(&self) -> Vec<usize> {
        let alive = self
            .instances
            .iter()
            .filter(|instance| instance.process.is_some());
        alive.map(|instance| instance.index).collect()
    }

    /// An event into the pool of an instance, with what follows from it.
    pub(crate) fn tell(&mut self, instance: usize, event: PoolEvent) {
        let start = self.instances[instance].starts;
        let Some((process, now)) = self.process(instance) else {
            return;
        };
        for id in process.apply(event, now) {
            let probe = Event::Probe {
                instance,
                start,
                endpoint: endpoint_index(id),
                chain: None,
            };
            let delay = self.random_us(100..1000);
            self.after(delay, probe);
        }
        self.follow(instance);
    }

    /// Something may have changed: looks after the timer and the push.
    pub(crate) fn follow(&mut self, index: usize) {
        let peers = self.setup.peers;
        let now = self.now;
        let instance = &mut self.instances[index];
        let (start, clock) = (instance.starts, &instance.clock);
        let Some(process) = &mut instance.process else {
            return;
        };
        if let Some(timer) = process.state.next_timer() {
            let at = now + clock.until(now, timer);
            if process.timer_at.is_none_or(|known| at < known) {
                process.timer_at = Some(at);
                let timer = Event::Timer {
                    instance: index,
                    start,
                };
                self.queue.add(at, timer);
            }
        }
        if !peers {
            return;
        }
        // A task that is woken runs a little later.
        let wake = Duration::from_micros(self.rng.u64(20..300));
        let due = process.schedule.due(process.members);
        let at = now + wake + due.map_or(Duration::ZERO, |due| clock.until(now, due));
        if process.push_at.is_none_or(|known| at < known) {
            process.push_at = Some(at);
            let push = Event::Push {
                instance: index,
                start,
            };
            self.queue.add(at, push);
        }
    }

    fn timer(&mut self, instance: usize) {
        let now = self.now;
        if let Some((process, at)) = self.process(instance)
            && process.timer_at == Some(now)
        {
            process.timer_at = None;
            process.tick(at);
            self.follow(instance);
            self.let_in(instance);
        }
    }

    fn push(&mut self, instance: usize) {
        let time = self.now;
        let Some((process, now)) = self.process(instance) else {
            return;
        };
        if process.push_at != Some(time) {
            return;
        }
        process.push_at = None;
        if let Some(push) = process.schedule.take(process.members, now) {
            let drains = Arc::clone(process.table.drains());
            let facts = process.facts(now);
            let update = process.speech.push(push, facts, &drains, now);
            let targets = process.push_targets();
            if let Some(update) = update.map(Rc::new) {
                for to in targets {
                    let update = Rc::clone(&update);
                    self.send(instance, to, Event::Update { to, update });
                }
            }
        }
        self.follow(instance);
    }

    pub(crate) fn send(&mut self, from: usize, to: usize, event: Event) {
        if let Some(delay) = self.network.transit(from, to, &mut self.rng) {
            self.after(delay, event);
        }
    }

    fn hear(&mut self, to: usize, updates: Vec<Rc<MemberUpdate>>) {
        let wall_ms = self.instances[to].clock.wall_ms(self.now);
        let Some((process, now)) = self.process(to) else {
            return;
        };
        let mut news = false;
        for update in updates {
            let applied = process.table.apply((*update).clone(), now, wall_ms);
            news |= applied == tidegate::logic::merge::Applied::News;
        }
        if news {
            self.read_view(to);
        }
    }

    /// The view has changed: takes it now, or a little later if it was taken just before.
    pub(crate) fn read_view(&mut self, instance: usize) {
        let now = self.now;
        let start = self.instances[instance].starts;
        let Some((process, _)) = self.process(instance) else {
            return;
        };
        match process.view_read_at.map(|at| at + pace(process.members)) {
            Some(next) if now < next => {
                if !std::mem::replace(&mut process.view_stale, true) {
                    self.queue.add(next, Event::ReadView { instance, start });
                }
            }
            _ => {
                process.view_read_at = Some(now);
                self.take_view(instance);
            }
        }
    }

    fn view_is_due(&mut self, instance: usize) {
        let now = self.now;
        if let Some((process, _)) = self.process(instance) {
            process.view_stale = false;
            process.view_read_at = Some(now);
        }
        self.take_view(instance);
    }

    fn take_view(&mut self, index: usize) {
        let name = Arc::clone(&self.instances[index].name);
        let Some((process, _)) = self.process(index) else {
            return;
        };
        for event in process.read_view(&name) {
            self.tell(index, event);
        }
        self.follow(index);
    }

    fn round(&mut self, index: usize) {
        let start = self.instances[index].starts;
        let Some((process, _)) = self.process(index) else {
            return;
        };
        let drains = Arc::clone(process.table.drains());
        let digest = process.gossip.beat(&process.speech, &drains);
        self.judge_peers(index);
        let mut others: Vec<usize> = (0..self.instances.len()).filter(|i| *i != index).collect();
        self.rng.shuffle(&mut others);
        for to in others.into_iter().take(FANOUT) {
            let gossip = Event::Gossip {
                from: index,
                to,
                digest: digest.clone(),
                answer: false,
            };
            self.send(index, to, gossip);
        }
        let wait = self.random_us(ROUND_US);
        let round = Event::Round {
            instance: index,
            start,
        };
        self.after(wait, round);
    }

    /// What the failure detector says.
    fn judge_peers(&mut self, index: usize) {
        let time = self.now;
        let Some((process, now)) = self.process(index) else {
            return;
        };
        let live = process.gossip.live(time, name);
        let mut changed = process.table.set_live(&live, now);
        if changed {
            process.schedule.change_all(now);
        }
        changed |= process.table.expire(now);
        if changed {
            self.read_view(index);
        }
    }

    fn gossip(&mut self, from: usize, to: usize, digest: Digest, answer: bool) {
        let time = self.now;
        let Some((process, _)) = self.process(to) else {
            return;
        };
        let news = process.gossip.merge(digest, time);
        let digest = process.gossip.digest();
        if !news.is_empty() {
            self.hear(to, news);
        }
        self.judge_peers(to);
        if !answer {
            let gossip = Event::Gossip {
                from: to,
                to: from,
                digest,
                answer: true,
            };
            self.send(to, from, gossip);
        }
    }

    /// Tells an instance what its DNS answers, and probes what is new.
    pub(crate) fn resolve(&mut self, index: usize) {
        let targets = self.instances[index].targets();
        let start = self.instances[index].starts;
        let before: BTreeSet<usize> = match &self.instances[index].process {
            Some(process) => process
                .views
                .iter()
                .filter(|view| view.state != tidegate::logic::snapshot::EndpointState::Vanished)
                .map(|view| endpoint_index(view.id))
                .collect(),
            None => return,
        };
        self.tell(index, PoolEvent::Resolved(targets));
        let resolved = self.instances[index].resolved.clone();
        for endpoint in resolved.difference(&before).copied() {
            let delay = self.random_us(100..5000);
            if let Some((process, _)) = self.process(index) {
                process.probe_chains[endpoint] += 1;
                let chain = Some(process.probe_chains[endpoint]);
                let probe = Event::Probe {
                    instance: index,
                    start,
                    endpoint,
                    chain,
                };
                self.after(delay, probe);
            }
        }
        self.let_in(index);
    }

    fn probe(&mut self, instance: usize, index: usize, chain: Option<u64>) {
        let start = self.instances[instance].starts;
        let known = self.instances[instance].resolved.contains(&index);
        let Some((process, _)) = self.process(instance) else {
            return;
        };
        let current = process.probe_chains[index];
        if !known || chain.is_some_and(|chain| chain != current) {
            return;
        }
        let result = match self.behaviours[index] {
            Behaviour::Healthy | Behaviour::Silent | Behaviour::Full => {
                ProbeResult::Up(Duration::from_millis(1))
            }
            Behaviour::Dead => ProbeResult::Down("connection refused".to_owned()),
            Behaviour::Evacuating => ProbeResult::Draining("evacuated".to_owned()),
        };
        let bad = matches!(result, ProbeResult::Down(_));
        self.tell(instance, PoolEvent::Probed(endpoint(index), result));
        self.let_in(instance);
        if chain.is_some() {
            // A changing verdict is looked at four times as often.
            let interval = if bad {
                PROBE_INTERVAL_MS / 4
            } else {
                PROBE_INTERVAL_MS
            };
            let wait = self.random_us(interval * 900..interval * 1100);
            let probe = Event::Probe {
                instance,
                start,
                endpoint: index,
                chain,
            };
            self.after(wait, probe);
        }
    }

    /// Measures from now on.
    pub(crate) fn watch(&mut self, endpoints: impl IntoIterator<Item = usize>) {
        let idle = self.watch.is_none();
        self.watch = Some(Watch::over(endpoints));
        if idle {
            self.after(SAMPLE, Event::Sample);
        }
    }

    fn sample(&mut self) {
        if let Some(watch) = &mut self.watch {
            watch.sample(&self.clients.totals);
            self.after(SAMPLE, Event::Sample);
        }
    }
}
