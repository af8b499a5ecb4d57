//! The cluster's one task: reads the socket, keeps the table of members, pushes the own record, publishes the view.
//!
//! One task and no lock: a datagram that arrives is in the view within the same turn. Gossip runs beside it
//! ([`super::gossip`]) and speaks to it through queues.

use super::clock::unix_ms;
use super::codec::{self, DecodeError};
use super::datagram::{Kind, Reject};
use super::gossip::{GossipEvent, Values};
use super::outbound::Outbound;
use super::signal::ChangeSignal;
use super::transport::{Inbound, Watch, Wire};
use crate::logic::endpoint::EndpointId;
use crate::logic::member::{ClusterView, MemberState};
use crate::logic::merge::{Applied, MemberTable};
use crate::logic::push_schedule::{Push, PushSchedule};
use crate::logic::read_pace::ReadPace;
use crate::logic::record::Phase;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use std::collections::BTreeSet;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

/// Datagrams taken in one turn before the view is published: under a flood of news it is published once for many.
const BATCH: usize = 64;

/// The goodbye is sent twice, this far apart: one lost datagram must not leave our counts for a second.
const GOODBYE_GAP: Duration = Duration::from_millis(20);

/// How often old drains are looked for.
const HOUSEKEEPING: Duration = Duration::from_secs(60);

/// A warning that datagrams can cause is written at most this often.
const WARN_EVERY: Duration = Duration::from_secs(60);

/// What the handle asks for.
#[derive(Debug)]
pub(super) enum Command {
    /// An operator drains an endpoint, or gives it back.
    Drain {
        pool: String,
        endpoint: EndpointId,
        drained: bool,
    },
    /// On the way out, still holding connections.
    AnnounceLeaving,
    /// Say goodbye, answer, stop.
    Leave(oneshot::Sender<()>),
}

/// The queues that the task reads.
pub(super) struct Queues {
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) changed: Arc<ChangeSignal>,
    pub(super) gossip_events: mpsc::Receiver<GossipEvent>,
}

/// Where the task's findings go.
pub(super) struct Ends {
    /// Opened messages, to chitchat.
    pub(super) gossip_messages: mpsc::Sender<(SocketAddr, Vec<u8>)>,
    /// Own values, to gossip.
    pub(super) values: watch::Sender<Arc<Values>>,
    /// The picture, to everybody.
    pub(super) view: watch::Sender<Arc<ClusterView>>,
}

/// The task's state.
pub(super) struct Core {
    wire: Arc<Wire>,
    inbound: Inbound,
    table: MemberTable,
    outbound: Outbound,
    schedule: PushSchedule,
    reading: ReadPace,
    /// Of the gossip: values are set at most this often.
    interval: Duration,
    ends: Ends,
    view_stale: bool,
    /// When values were set last.
    values_at: Option<Instant>,
    housekeeping_at: Instant,
    warned_at: Option<Instant>,
    /// Members and pools whose difference was warned of.
    differing: BTreeSet<(Arc<str>, Arc<str>)>,
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

impl Core {
    pub(super) fn new(
        wire: Arc<Wire>,
        outbound: Outbound,
        interval: Duration,
        ends: Ends,
        now: Instant,
    ) -> Self {
        Self {
            inbound: Inbound::new(Arc::clone(&wire)),
            wire,
            table: MemberTable::new(Arc::clone(outbound.id()), now),
            outbound,
            schedule: PushSchedule::default(),
            reading: ReadPace::default(),
            interval,
            ends,
            view_stale: false,
            values_at: None,
            housekeeping_at: now,
            warned_at: None,
            differing: BTreeSet::new(),
        }
    }

    pub(super) async fn run(mut self, mut queues: Queues, cancel: CancellationToken) {
        let guard = cancel.clone().drop_guard();
        let mut buffer = Inbound::buffer();
        let (mut watch, mut spare) = (None, None);
        loop {
            if self.reading.look_at().is_some() {
                spare = watch.take().map(Watch::stop).or(spare);
            } else if watch.is_none() {
                watch = self.watch(spare.take());
            }
            let wake = tokio::time::Instant::from_std(self.next_wake());
            tokio::select! {
                // The socket last: a flood of datagrams must not keep the own record or the goodbye waiting.
                biased;
                () = cancel.cancelled() => break,
                command = queues.commands.recv() => match command {
                    Some(Command::Leave(answer)) => {
                        self.leave(answer).await;
                        break;
                    }
                    Some(command) => self.obey(command),
                    None => break,
                },
                () = queues.changed.wait() => self.schedule.change(now()),
                event = queues.gossip_events.recv() => match event {
                    Some(event) => self.hear_gossip(event),
                    None => break,
                },
                () = tokio::time::sleep_until(wake) => self.keep_house(&mut buffer),
                () = datagrams(watch.as_ref()) => self.read_batch(&mut buffer),
            }
            self.push_if_due();
            self.publish();
        }
        drop(guard);
    }

    fn next_wake(&self) -> Instant {
        // While the socket is looked at by the clock, the own record leaves with a look: one wake-up for both.
        let look = self.reading.look_at();
        let push = self.schedule.due(self.members()).max(look);
        let expiry = self.table.next_expiry();
        [push, self.values_due(now()), expiry, look]
            .into_iter()
            .flatten()
            .fold(self.housekeeping_at, Instant::min)
    }

    /// When gossip is to be given new values; the first ones are due at once.
    fn values_due(&self, now: Instant) -> Option<Instant> {
        let wait = self.outbound.values_wait(self.interval)?;
        Some(self.values_at.map_or(now, |at| at + wait))
    }

    /// Members that count, with ourselves.
    fn members(&self) -> usize {
        self.ends.view.borrow().counting().count() + 1
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Drain {
                pool,
                endpoint,
                drained,
            } => {
                let wall_ms = unix_ms(self.wire.clock());
                if self.table.set_drain(&pool, endpoint, drained, wall_ms) {
                    tracing::info!(pool, %endpoint, drained, "drain told to the tier");
                } else {
                    tracing::warn!(pool, %endpoint, "too many drains, this one stays on this instance");
                }
                self.tell_all();
            }
            Command::AnnounceLeaving => {
                self.outbound.set_phase(Phase::Leaving);
                self.tell_all();
            }
            // Taken by the loop.
            Command::Leave(_) => {}
        }
    }

    fn tell_all(&mut self) {
        self.outbound.touch(now());
        self.schedule.change_all(now());
        self.view_stale = true;
    }

    async fn leave(&mut self, answer: oneshot::Sender<()>) {
        self.outbound.set_phase(Phase::Gone);
        self.tell_all();
        self.push(Push::All);
        tokio::time::sleep(GOODBYE_GAP).await;
        self.push(Push::All);
        if answer.send(()).is_err() {
            tracing::debug!("the goodbye took longer than its caller waited");
        }
    }

    /// Watches the socket. Where that fails it is looked at by the clock until it works.
    fn watch(&mut self, spare: Option<UdpSocket>) -> Option<Watch> {
        match Watch::new(&self.wire, spare) {
            Ok(watch) => Some(watch),
            Err(error) => {
                tracing::warn!(%error, "cannot watch the cluster's socket");
                self.reading = ReadPace::looking(now() + Duration::from_millis(10));
                None
            }
        }
    }

    fn read_batch(&mut self, buffer: &mut [u8]) {
        let mut taken = 0;
        while taken < BATCH
            && let Some((bytes, from)) = self.wire.try_receive(buffer)
        {
            if let Some(datagram) = buffer.get_mut(..bytes) {
                self.read(from, datagram);
            }
            taken += 1;
        }
        let members = self.members();
        self.reading.read(taken, taken == BATCH, members, now());
    }

    fn read(&mut self, from: SocketAddr, datagram: &mut [u8]) {
        let now = now();
        match self.inbound.open(from, datagram, now) {
            Some((Kind::Gossip, message)) => self.pass_on(from, message),
            Some((Kind::Push, message)) => self.hear(None, &message, now),
            None => {}
        }
    }

    fn pass_on(&self, from: SocketAddr, message: Vec<u8>) {
        if self.ends.gossip_messages.try_send((from, message)).is_err() {
            self.wire.stats().reject(Reject::Overflow);
        }
    }

    /// Takes in an update. `owner` is whose value gossip says it is.
    fn hear(&mut self, owner: Option<(&str, u64)>, message: &[u8], now: Instant) {
        let stats = self.wire.stats();
        let update = match codec::decode(message) {
            Ok(update) => update,
            Err(DecodeError::Version(_)) => return stats.reject(Reject::RecordVersion),
            Err(DecodeError::Malformed) => return stats.reject(Reject::Decode),
        };
        if owner.is_some_and(|(id, generation)| (id, generation) != (&update.id, update.generation))
        {
            return stats.reject(Reject::Decode);
        }
        let addr = update.addr;
        match self.table.apply(update, now, unix_ms(self.wire.clock())) {
            Applied::News => self.view_stale = true,
            Applied::Known | Applied::Outdated => {}
            Applied::Refused => stats.reject(Reject::Full),
            Applied::Own => {
                stats.reject(Reject::Name);
                if self.warned_at.is_none_or(|at| now >= at + WARN_EVERY) {
                    self.warned_at = Some(now);
                    tracing::warn!(name = &**self.outbound.id(), %addr, "another instance uses our name");
                }
            }
        }
    }

    fn hear_gossip(&mut self, event: GossipEvent) {
        let now = now();
        if self.outbound.set_generation(event.generation, now) {
            self.schedule.change_all(now);
            self.view_stale = true;
        }
        if self.table.set_live(&event.live, now) {
            // Whoever is new has nothing of ours yet.
            self.schedule.change_all(now);
            self.view_stale = true;
        }
        for (id, generation, value) in event.values {
            match STANDARD_NO_PAD.decode(value) {
                Ok(bytes) => self.hear(Some((&id, generation)), &bytes, now),
                Err(_) => self.wire.stats().reject(Reject::Decode),
            }
        }
    }

    fn keep_house(&mut self, buffer: &mut [u8]) {
        let now = now();
        if self.reading.look_at().is_some_and(|at| now >= at) {
            self.read_batch(buffer);
        }
        self.view_stale |= self.table.expire(now);
        if now >= self.housekeeping_at {
            self.housekeeping_at = now + HOUSEKEEPING;
            if self.table.expire_drains(unix_ms(self.wire.clock())) {
                self.tell_all();
            }
        }
    }

    fn push_if_due(&mut self) {
        let now = now();
        if let Some(push) = self.schedule.take(self.members(), now) {
            self.push(push);
        }
        if self.values_due(now).is_some_and(|due| now >= due) {
            self.values_at = Some(now);
            let values = self.outbound.values(self.table.drains(), self.wire.stats());
            self.ends.values.send_replace(Arc::new(values));
        }
    }

    fn push(&mut self, push: Push) {
        let messages = self
            .outbound
            .messages(push, self.table.drains(), now(), self.wire.stats());
        let targets = self.table.targets();
        if targets.is_empty() {
            return;
        }
        for message in messages {
            let datagrams = self.wire.seal(Kind::Push, &message);
            for to in &targets {
                self.wire.send(*to, Kind::Push, &datagrams);
            }
        }
    }

    fn publish(&mut self) {
        if !std::mem::take(&mut self.view_stale) {
            return;
        }
        let view = Arc::new(self.table.view(self.outbound.generation()));
        self.log_members(&view);
        self.log_differing(&view);
        self.ends.view.send_replace(view);
    }

    fn log_members(&self, view: &ClusterView) {
        let before = self.ends.view.borrow();
        for member in &view.members {
            // Both are sorted: with fifty members a search for each would be the larger half of this.
            let place = before
                .members
                .binary_search_by(|old| old.id.cmp(&member.id));
            let old = place.ok().and_then(|place| before.members.get(place));
            let same_start = old.is_some_and(|old| old.generation == member.generation);
            if same_start && old.is_some_and(|old| old.state == member.state) {
                continue;
            }
            let (id, addr, generation) = (&*member.id, member.addr, member.generation);
            match member.state {
                MemberState::Lost => tracing::warn!(member = id, %addr, generation, "member lost"),
                state => {
                    tracing::info!(member = id, %addr, generation, state = state.label(), "member");
                }
            }
        }
        match (before.is_alone(), view.is_alone()) {
            (false, true) => tracing::warn!("no other member is heard: serving alone"),
            (true, false) => tracing::info!(members = view.counting().count() + 1, "in company"),
            _ => {}
        }
    }

    /// A pool that is configured differently elsewhere is balanced differently: said loudly, by both sides, once.
    fn log_differing(&mut self, view: &ClusterView) {
        let mut found = BTreeSet::new();
        for (pool, fingerprint) in self.outbound.fingerprints() {
            for member in view.differing(pool, fingerprint) {
                found.insert((Arc::clone(&member.id), Arc::from(pool)));
            }
        }
        for (member, pool) in found.difference(&self.differing) {
            tracing::warn!(
                %member,
                %pool,
                "the pool is configured differently there; only endpoints that both have are counted together"
            );
        }
        for (member, pool) in self.differing.difference(&found) {
            tracing::info!(%member, %pool, "the pool's configuration no longer differs there");
        }
        self.differing = found;
    }
}

/// Returns when something is to be read; never while nobody watches.
async fn datagrams(watch: Option<&Watch>) {
    let Some(watch) = watch else {
        return std::future::pending().await;
    };
    if let Err(error) = watch.readable().await {
        // The runtime is shutting down.
        tracing::debug!(%error, "cluster socket");
        std::future::pending::<()>().await;
    }
}

impl Drop for Core {
    /// However the task ended, what it published last must not be believed for ever.
    fn drop(&mut self) {
        let own_id = Arc::clone(self.outbound.id());
        let drains = Arc::clone(&self.ends.view.borrow().drains);
        self.ends.view.send_replace(Arc::new(ClusterView {
            drains,
            ..ClusterView::alone(own_id, now())
        }));
    }
}
