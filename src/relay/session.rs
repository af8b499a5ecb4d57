//! The story of one connection: preface, join, copy, close.

use super::registry::{End, Guard, Registry};
use super::settings::{AccessLog, Settings};
use super::thread::Clock;
use super::{copy, join, preface};
use crate::metrics::ListenerTallies;
use crate::pool::Pool;
use crate::tls;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as Poller, Poll, ready};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::Instant;

/// What all connections of one listener on one worker share.
#[derive(Debug)]
pub struct Context {
    /// The listener's name.
    pub listener: String,
    /// Read the CONNECT before picking; `false` relays bytes as they are.
    pub parse_mqtt: bool,
    /// Time-outs and caps.
    pub settings: Settings,
    /// Where its connections go.
    pub pool: Arc<Pool>,
    /// Terminate TLS with this identity.
    pub tls: Option<Arc<tls::Store>>,
    /// The worker's counters for the listener.
    pub tallies: Arc<ListenerTallies>,
    /// The worker's connections.
    pub registry: Arc<Registry>,
    /// The worker's clock.
    pub clock: Clock,
    /// The worker's cap on TLS handshakes under way.
    pub handshakes: Arc<Semaphore>,
    /// Which ends are logged.
    pub access: AccessLog,
}

/// One accepted connection, served to its end. Dropping it ends the connection with [`CloseReason::Shutdown`](crate::logic::close_reason::CloseReason::Shutdown).
///
/// A state machine by hand. The set-up's state is many times what the copy needs, so it lies in a box of its own that is
/// given back before the long part; and what is left is all that a connection holds for days.
pub struct Session<P> {
    stage: Stage,
    /// Gives back what was taken for the connection when it has ended.
    _pass: P,
}

type SetUp = Pin<Box<dyn Future<Output = Option<copy::Relay>> + Send>>;

enum Stage {
    SetUp(SetUp),
    Copy(copy::Relay),
    Over,
}

/// Serves an accepted connection; `pass` is dropped at its end.
pub fn serve<P: Unpin>(
    context: Arc<Context>,
    socket: TcpStream,
    client: SocketAddr,
    pass: P,
) -> Session<P> {
    Session {
        stage: Stage::SetUp(Box::pin(set_up(context, socket, client))),
        _pass: pass,
    }
}

impl<P: Unpin> Future for Session<P> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Poller<'_>) -> Poll<()> {
        if let Stage::SetUp(set_up) = &mut self.stage {
            self.stage = match ready!(set_up.as_mut().poll(cx)) {
                Some(relay) => Stage::Copy(relay),
                None => Stage::Over,
            };
        }
        if let Stage::Copy(relay) = &mut self.stage {
            ready!(relay.poll(cx));
            self.stage = Stage::Over;
        }
        Poll::Ready(())
    }
}

/// `None`: the connection has ended before there was anything to copy.
async fn set_up(
    context: Arc<Context>,
    socket: TcpStream,
    client: SocketAddr,
) -> Option<copy::Relay> {
    let accepted = Instant::now();
    let mut guard = Guard::open(context, client, accepted.into_std());
    match establish(&mut guard, socket, client, accepted).await {
        Ok(joined) => Some(copy::Relay::new(joined, guard)),
        Err(end) => {
            guard.end_with(end);
            None
        }
    }
}

async fn establish(
    guard: &mut Guard,
    socket: TcpStream,
    client: SocketAddr,
    accepted: Instant,
) -> Result<copy::Joined, End> {
    let preface = preface::read(guard, socket, client, accepted).await?;
    join::join(guard, preface).await
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Everything that lies in memory for each idle plain connection is this, the parts of [`Guard`], and two registrations
    /// of tokio. With 100 000 connections each byte here is 100 KB.
    #[test]
    fn a_connection_at_rest_is_small() {
        assert!(size_of::<Session<[usize; 4]>>() <= 320);
        assert!(size_of::<super::super::registry::Connection>() <= 192);
    }
}
