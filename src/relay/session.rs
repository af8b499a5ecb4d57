//! The story of one connection: preface, join, copy, close.

use super::registry::{End, Guard, Registry};
use super::settings::{AccessLog, Settings};
use super::thread::Clock;
use super::{copy, join, preface};
use crate::metrics::ListenerTallies;
use crate::pool::Pool;
use crate::tls;
use std::net::SocketAddr;
use std::sync::Arc;
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

/// Serves one accepted connection to its end. Dropping the future ends it with
/// [`CloseReason::Shutdown`](crate::logic::close_reason::CloseReason::Shutdown).
pub async fn serve(context: Arc<Context>, socket: TcpStream, client: SocketAddr) {
    let accepted = Instant::now();
    let mut guard = Guard::open(context, client, accepted.into_std());
    // The set-up's state is many times what the copy needs; in a box of its own it is given back before the long part.
    let joined = Box::pin(establish(&mut guard, socket, client, accepted)).await;
    let end = match joined {
        Ok(joined) => {
            copy::run(
                joined,
                Arc::clone(&guard.context),
                Arc::clone(&guard.connection),
            )
            .await
        }
        Err(end) => end,
    };
    guard.close(end);
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
