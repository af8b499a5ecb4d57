//! Both directions of a joined connection in one task: what one side sends is written to the other in the same poll.
//!
//! Per message: one read and one write on each leg, no other system call, no timer, no allocation, no lock. Back-pressure
//! is the rule that a side is read only when the other has taken everything.

use super::client::{Client, poll_read_plain};
use super::outbound::Outbound;
use super::registry::{End, Guard};
use super::slow::Load;
use super::thread::with_scratch;
use crate::logic::close_reason::CloseReason;
use crate::pool::Slot;
use crate::tls::Scratch;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context as Poller, Poll, ready};
use std::time::Duration;
use tokio::io::AsyncWrite;
use tokio::net::TcpStream;

/// A client and the broker that accepted it.
#[derive(Debug)]
pub(super) struct Joined {
    pub(super) client: Client,
    pub(super) endpoint: TcpStream,
    /// What is still to be sent to the broker: packets that came right behind the CONNECT.
    pub(super) to_endpoint: Outbound,
    pub(super) slot: Slot,
    pub(super) idle: Option<Duration>,
}

/// A poll ends when a direction has moved so many bytes, so that a bulk transfer leaves room for its neighbours; the last read
/// or pipe may go beyond. A small read counts as a full one.
const BYTES_PER_POLL: usize = 8 * Scratch::READ_BYTES;

/// Full reads in a row that make a bulk transfer of a direction: from then on the kernel moves its bytes, if both sides are
/// plain.
const BULK_AFTER: u8 = 4;

/// How far one side's sending direction has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Done {
    /// Bytes may come.
    Open,
    /// The end was read; the other side has not been told yet.
    Read,
    /// The other side knows.
    Passed,
}

/// The long part of a connection: moves bytes until the end. Dropping it closes both sides.
///
/// A struct and not an `async fn`, whose future would hold what it was called with beside what it made of it.
pub(super) struct Relay {
    client: Client,
    endpoint: TcpStream,
    to_endpoint: Outbound,
    slot: Option<Slot>,
    client_done: Done,
    endpoint_done: Done,
    /// Full reads in a row, up to [`BULK_AFTER`].
    full_up: u8,
    full_down: u8,
    /// Who closed first: the reason, when the other follows in order.
    first_end: Option<CloseReason>,
    listening: bool,
    /// Last: its drop counts and logs the end.
    guard: Guard,
}

impl Relay {
    pub(super) fn new(joined: Joined, guard: Guard) -> Self {
        guard.watch_idle(joined.idle);
        Self {
            client: joined.client,
            endpoint: joined.endpoint,
            to_endpoint: joined.to_endpoint,
            slot: Some(joined.slot),
            client_done: Done::Open,
            endpoint_done: Done::Open,
            full_up: 0,
            full_down: 0,
            first_end: None,
            listening: false,
            guard,
        }
    }

    /// Ready at the end, which is counted and logged when this is dropped.
    pub(super) fn poll(&mut self, cx: &mut Poller<'_>) -> Poll<()> {
        if !self.listening {
            self.listening = true;
            self.guard.connection.listen(cx.waker());
        }
        let end = ready!(self.poll_end(cx));
        self.guard.end_with(end);
        Poll::Ready(())
    }

    fn poll_end(&mut self, cx: &mut Poller<'_>) -> Poll<End> {
        if let Some(reason) = self.guard.connection.asked() {
            if self.client.says_goodbye() {
                // Without it the end would look like an attack to the client; as much of it as the socket takes now.
                let _best_effort = self.client.poll_shutdown(cx);
            }
            return Poll::Ready(match (reason, self.first_end) {
                (CloseReason::IdleTimeout, Some(_)) => CloseReason::HalfClosedTimeout.into(),
                _ => reason.into(),
            });
        }
        let before = self.first_end;
        let up = match self.poll_up(cx) {
            Poll::Ready(Err(end)) => return Poll::Ready(self.broken(end)),
            other => other.is_ready(),
        };
        let down = match self.poll_down(cx) {
            Poll::Ready(Err(end)) => return Poll::Ready(self.broken(end)),
            other => other.is_ready(),
        };
        let load = self.load();
        self.guard.hold(load);
        if up && down {
            return Poll::Ready(self.first_end.unwrap_or(CloseReason::ClientClosed).into());
        }
        if before.is_none() && self.first_end.is_some() {
            let patience = self.guard.context.settings.half_closed_timeout;
            self.guard.watch_idle(Some(patience));
        }
        Poll::Pending
    }

    /// What is kept here. The mark is that of the client first, so that what it sends does not hide that it takes nothing.
    fn load(&self) -> Load {
        let bytes = self.client.held() + self.to_endpoint.held();
        if bytes == 0 {
            return Load::default();
        }
        let marks = [
            self.client.unsent(),
            self.to_endpoint.unsent(),
            self.client.incomplete(),
        ];
        let mark = marks.into_iter().find(|mark| *mark > 0).unwrap_or(0);
        let short = |bytes| u32::try_from(bytes).unwrap_or(u32::MAX);
        Load {
            bytes: short(bytes),
            mark: short(mark),
        }
    }

    /// A reset that follows an orderly close is part of it: somebody wrote to a socket that its owner had closed.
    fn broken(&self, end: End) -> End {
        self.first_end.map_or(end, End::from)
    }

    /// Client to broker. Ready when this direction has ended in order.
    fn poll_up(&mut self, cx: &mut Poller<'_>) -> Poll<Result<(), End>> {
        let mut moved = 0;
        loop {
            ready!(self.to_endpoint.poll_flush(cx, &mut self.endpoint)).map_err(endpoint_failed)?;
            match self.client_done {
                Done::Passed => return Poll::Ready(Ok(())),
                Done::Read => {
                    // When the other direction is over too, closing says the same.
                    if self.endpoint_done != Done::Passed {
                        ready!(Pin::new(&mut self.endpoint).poll_shutdown(cx))
                            .map_err(endpoint_failed)?;
                    }
                    self.client_done = Done::Passed;
                    return Poll::Ready(Ok(()));
                }
                Done::Open => {}
            }
            if moved >= BYTES_PER_POLL {
                give_way(cx);
                return Poll::Pending;
            }
            let length = ready!(self.poll_move_up(cx))?;
            moved += length.max(Scratch::READ_BYTES);
            if length == 0 {
                self.client_done = Done::Read;
                self.first_end.get_or_insert(CloseReason::ClientClosed);
                if self.guard.context.parse_mqtt {
                    // MQTT ends with either side. The client is on its way to its next connection, and a broker that is out
                    // of reach may take until a time-out to say that this one is over.
                    self.slot = None;
                }
            } else {
                self.guard.moved_from_client(length);
            }
        }
    }

    /// One read of the client, passed on; 0 is its end.
    fn poll_move_up(&mut self, cx: &mut Poller<'_>) -> Poll<Result<usize, End>> {
        if self.full_up == BULK_AFTER
            && let Some(source) = self.client.plain_socket()
        {
            let pipes = self.guard.context.registry.buffers().pipes();
            let spliced = self.to_endpoint.poll_splice(cx, source, pipes);
            if let Some(done) = after_splice(spliced, &mut self.full_up) {
                return done.map_err(client_failed);
            }
        }
        let moved = with_scratch(|scratch| {
            let data = ready!(self.client.poll_read(cx, scratch)).map_err(client_failed)?;
            if !data.is_empty() {
                self.to_endpoint
                    .poll_send(cx, &mut self.endpoint, data)
                    .map_err(endpoint_failed)?;
            }
            Poll::Ready(Ok(data.len()))
        });
        let taken = self.to_endpoint.unsent() == 0;
        moved.map_ok(|length| count_full(length, taken, &mut self.full_up))
    }

    /// Broker to client. Ready when this direction has ended in order.
    fn poll_down(&mut self, cx: &mut Poller<'_>) -> Poll<Result<(), End>> {
        let mut moved = 0;
        loop {
            ready!(self.client.poll_flush(cx)).map_err(client_failed)?;
            match self.endpoint_done {
                Done::Passed => return Poll::Ready(Ok(())),
                Done::Read => {
                    if self.client_done != Done::Passed || self.client.says_goodbye() {
                        ready!(self.client.poll_shutdown(cx)).map_err(client_failed)?;
                    }
                    self.endpoint_done = Done::Passed;
                    return Poll::Ready(Ok(()));
                }
                Done::Open => {}
            }
            if moved >= BYTES_PER_POLL {
                give_way(cx);
                return Poll::Pending;
            }
            let length = ready!(self.poll_move_down(cx))?;
            moved += length.max(Scratch::READ_BYTES);
            if length == 0 {
                self.endpoint_done = Done::Read;
                self.first_end.get_or_insert(CloseReason::EndpointClosed);
                if self.guard.context.parse_mqtt {
                    // A broker that has closed serves this client no more, however long the client takes to notice.
                    self.slot = None;
                }
            } else {
                self.guard.moved_to_client(length);
            }
        }
    }

    /// One read of the broker, passed on; 0 is its end.
    fn poll_move_down(&mut self, cx: &mut Poller<'_>) -> Poll<Result<usize, End>> {
        if self.full_down == BULK_AFTER {
            let pipes = self.guard.context.registry.buffers().pipes();
            let spliced = self.client.poll_splice(cx, &self.endpoint, pipes);
            if let Some(done) = after_splice(spliced, &mut self.full_down) {
                return done.map_err(endpoint_failed);
            }
        }
        let moved = with_scratch(|scratch| {
            let data = ready!(poll_read_plain(&mut self.endpoint, cx, &mut scratch.plain))
                .map_err(endpoint_failed)?;
            if !data.is_empty() {
                self.client
                    .poll_send(cx, data, &mut scratch.sealed)
                    .map_err(client_failed)?;
            }
            Poll::Ready(Ok(data.len()))
        });
        let taken = self.client.unsent() == 0;
        moved.map_ok(|length| count_full(length, taken, &mut self.full_down))
    }
}

/// Goes on after everybody who is ready. A task that wakes itself runs up to 61 times (tokio's `event_interval`) before the
/// runtime looks for new events; one that yields waits for that look.
fn give_way(cx: &mut Poller<'_>) {
    let _pending = pin!(tokio::task::yield_now()).poll(cx);
}

/// `None`: a read is to be tried.
fn after_splice(
    spliced: Poll<io::Result<Option<usize>>>,
    full: &mut u8,
) -> Option<Poll<io::Result<usize>>> {
    if !matches!(spliced, Poll::Ready(Ok(Some(_)))) {
        // The source is slower than we are, or there is no pipe. One full read, and it counts as bulk again.
        *full = BULK_AFTER - 1;
    }
    match spliced {
        Poll::Ready(Ok(moved)) => moved.map(|length| Poll::Ready(Ok(length))),
        Poll::Ready(Err(error)) => Some(Poll::Ready(Err(error))),
        Poll::Pending => Some(Poll::Pending),
    }
}

/// A read counts as full when the other side has taken it, too: who is slow needs no pipe.
fn count_full(length: usize, taken: bool, full: &mut u8) -> usize {
    *full = if taken && length >= Scratch::READ_BYTES {
        (*full + 1).min(BULK_AFTER)
    } else {
        0
    };
    length
}

fn client_failed(error: io::Error) -> End {
    End::with(CloseReason::ClientError, error)
}

fn endpoint_failed(error: io::Error) -> End {
    End::with(CloseReason::EndpointError, error)
}
