//! What all probes share: one deadline, the connect, the PROXY header, a close in order.

use super::outcome::Failure;
use super::{ProxyHeader, wire};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

/// How long a probe that has its verdict waits for courtesies: the end of a body, the endpoint's FIN.
const GRACE: Duration = Duration::from_millis(200);

/// Most bytes read while waiting for the endpoint's FIN.
const FAREWELL_BYTES_MAX: usize = 8 * 1024;

/// The end of one probe as a whole. Every wait of a probe goes through it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadline {
    started: Instant,
    timeout: Duration,
}

impl Deadline {
    /// Starts now.
    pub(super) fn start(timeout: Duration) -> Self {
        Self {
            started: Instant::now(),
            timeout,
        }
    }

    /// Time since the start.
    pub(super) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Waits for one step, until the deadline.
    pub(super) async fn bound<T>(
        &self,
        step: &'static str,
        future: impl Future<Output = T>,
    ) -> Result<T, Failure> {
        timeout_at(self.started + self.timeout, future)
            .await
            .map_err(|_| Failure::TimedOut {
                step,
                timeout: self.timeout,
            })
    }

    /// Waits for something that cannot change the verdict any more: shortly, and until the deadline at most.
    pub(super) async fn courtesy(&self, future: impl Future<Output = ()>) {
        let at = (Instant::now() + GRACE).min(self.started + self.timeout);
        // Late or not, the verdict stands.
        timeout_at(at, future).await.unwrap_or(());
    }
}

/// Connects and sends the header.
pub(super) async fn open(
    addr: SocketAddr,
    header: ProxyHeader,
    deadline: &Deadline,
) -> Result<TcpStream, Failure> {
    let connected = deadline.bound("connect", TcpStream::connect(addr)).await?;
    let mut stream = connected.map_err(|error| Failure::io("connect", &error))?;
    // Without it a second small write waits for the ACK of the first; with it a probe is only quicker.
    stream
        .set_nodelay(true)
        .map_err(|error| Failure::io("connect", &error))?;
    if header != ProxyHeader::None {
        let local = stream
            .local_addr()
            .map_err(|error| Failure::io("connect", &error))?;
        send(
            &mut stream,
            &wire::proxy_header(header, local, addr),
            deadline,
        )
        .await?;
    }
    Ok(stream)
}

/// Sends bytes.
pub(super) async fn send(
    stream: &mut TcpStream,
    bytes: &[u8],
    deadline: &Deadline,
) -> Result<(), Failure> {
    let sent = deadline.bound("send", stream.write_all(bytes)).await?;
    sent.map_err(|error| Failure::io("send", &error))
}

/// Closes in order: FIN, then a short wait for the endpoint's FIN. A socket that is dropped with unread bytes sends
/// a RST instead, which brokers log at every probe.
pub(super) async fn close(mut stream: TcpStream, deadline: &Deadline) {
    deadline
        .courtesy(async {
            if stream.shutdown().await.is_err() {
                return;
            }
            let mut buffer = [0; 512];
            let mut left = FAREWELL_BYTES_MAX;
            while let Ok(count @ 1..) = stream.read(&mut buffer).await {
                left = left.saturating_sub(count);
                if left == 0 {
                    return;
                }
            }
        })
        .await;
}
