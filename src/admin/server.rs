//! The sockets of the admin API, on a thread of their own, bounded against clients that hang on.
//!
//! At most `connections` at once; one more waits with its request while the idle ones are asked to go, so that nobody
//! can hold the port with silence. A request has `request_timeout` from its first byte to its last, an answer and the
//! pause after it `idle_timeout`. hyper's own header time-out is not used: it counts the pause between two requests as
//! time to read the next head, and would close every scraper's connection.

use super::deadline::{Deadline, Watched};
use super::routes;
use super::settings::Settings;
use super::source::Source;
use crate::logic::secret::Secret;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, header};
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// What clients of the admin API may use up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Connections at once.
    pub(super) connections: usize,
    /// From the first byte of a request (or the accept) to its last.
    pub(super) request_timeout: Duration,
    /// From an answer to the first byte of the next request, the time to send the answer included.
    pub(super) idle_timeout: Duration,
    /// Request line and header fields.
    pub(super) header_bytes_max: usize,
    /// Request body.
    pub(super) body_bytes_max: usize,
    /// What answers in progress get when the server stops.
    pub(super) stop_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 64,
            request_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(60),
            header_bytes_max: 16 * 1024,
            body_bytes_max: 64 * 1024,
            stop_timeout: Duration::from_secs(1),
        }
    }
}

/// After an accept that failed for want of descriptors or memory: they don't come back sooner.
const ACCEPT_PAUSE: Duration = Duration::from_millis(250);

/// Why the server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The runtime could not be built.
    #[error("cannot build the runtime of the admin api")]
    Runtime(#[source] io::Error),
    /// The socket could not be handed to the runtime.
    #[error("cannot use the socket of the admin api")]
    Listener(#[source] io::Error),
    /// The thread could not be started.
    #[error("cannot start the thread of the admin api")]
    Thread(#[source] io::Error),
}

/// Binds the admin socket; apart from [`start`], so that a taken port is an error of start-up with its cause.
pub fn bind(settings: &Settings) -> io::Result<std::net::TcpListener> {
    use socket2::{Domain, Protocol, Socket, Type};
    let domain = Domain::for_address(settings.bind);
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    // A restart finds connections of its predecessor in TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.bind(&settings.bind.into())?;
    socket.listen(128)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Serves on its own thread until [`Handle::stop`].
pub fn start(
    settings: Settings,
    source: Arc<dyn Source>,
    listener: std::net::TcpListener,
) -> Result<Handle, StartError> {
    start_with(Limits::default(), settings, source, listener)
}

pub(super) fn start_with(
    limits: Limits,
    settings: Settings,
    source: Arc<dyn Source>,
    listener: std::net::TcpListener,
) -> Result<Handle, StartError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .map_err(StartError::Runtime)?;
    listener
        .set_nonblocking(true)
        .map_err(StartError::Listener)?;
    let listener = {
        let _context = runtime.enter();
        TcpListener::from_std(listener).map_err(StartError::Listener)?
    };
    let cancel = CancellationToken::new();
    let server = Server {
        shared: Arc::new(Shared {
            source,
            token: settings.token,
            limits,
        }),
        cancel: cancel.clone(),
        pressure: watch::Sender::new(()),
        permits: Arc::new(Semaphore::new(limits.connections)),
        tasks: TaskTracker::new(),
    };
    let thread = std::thread::Builder::new()
        .name("admin".to_owned())
        .spawn(move || runtime.block_on(server.run(listener)))
        .map_err(StartError::Thread)?;
    Ok(Handle {
        cancel,
        thread: Some(thread),
    })
}

/// The running server. Dropping it stops the server too, without waiting.
#[derive(Debug)]
#[must_use = "dropping the handle stops the server"]
pub struct Handle {
    cancel: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl Handle {
    /// Stops accepting, gives answers in progress a second, joins the thread. Blocks for that long: not for a runtime
    /// that has other work.
    pub fn stop(mut self) {
        self.cancel.cancel();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the admin thread had panicked");
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

struct Shared {
    source: Arc<dyn Source>,
    token: Option<Secret>,
    limits: Limits,
}

struct Server {
    shared: Arc<Shared>,
    cancel: CancellationToken,
    /// Sent to when connections run out: whoever is idle closes.
    pressure: watch::Sender<()>,
    permits: Arc<Semaphore>,
    tasks: TaskTracker,
}

impl Server {
    async fn run(self, listener: TcpListener) {
        while let Some((stream, permit)) = self.next(&listener).await {
            let connection = Connection {
                shared: Arc::clone(&self.shared),
                cancel: self.cancel.clone(),
                pressure: self.pressure.subscribe(),
                _permit: permit,
            };
            self.tasks.spawn(connection.serve(stream));
        }
        drop(listener);
        self.tasks.close();
        let stop_timeout = self.shared.limits.stop_timeout;
        if tokio::time::timeout(stop_timeout, self.tasks.wait())
            .await
            .is_err()
        {
            tracing::debug!(
                connections = self.tasks.len(),
                "admin connections cut at the stop"
            );
        }
    }

    /// The next connection with its permit; `None` when the server stops. One accepted connection may wait here for a
    /// permit, the others wait in the kernel's queue.
    async fn next(&self, listener: &TcpListener) -> Option<(TcpStream, OwnedSemaphorePermit)> {
        let stream = loop {
            let accepted = tokio::select! {
                () = self.cancel.cancelled() => return None,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => break stream,
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    tracing::warn!(%error, "the admin api cannot accept");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        };
        if self.permits.available_permits() == 0 {
            self.pressure.send_replace(());
        }
        tokio::select! {
            () = self.cancel.cancelled() => None,
            permit = Arc::clone(&self.permits).acquire_owned() => Some((stream, permit.ok()?)),
        }
    }
}

struct Connection {
    shared: Arc<Shared>,
    cancel: CancellationToken,
    pressure: watch::Receiver<()>,
    _permit: OwnedSemaphorePermit,
}

impl Connection {
    /// Serves requests until the client goes, a deadline passes or someone else needs the place.
    async fn serve(mut self, stream: TcpStream) {
        let limits = self.shared.limits;
        let deadline = Arc::new(Deadline::new(limits.request_timeout, limits.idle_timeout));
        let io = TokioIo::new(Watched::new(stream, Arc::clone(&deadline)));
        let service = service_fn(|request| {
            let (shared, deadline) = (Arc::clone(&self.shared), Arc::clone(&deadline));
            async move {
                let reply = answer(&shared, request).await;
                deadline.answered();
                Ok::<_, Infallible>(reply)
            }
        });
        let mut connection = pin!(
            http1::Builder::new()
                .max_header_size(limits.header_bytes_max)
                .max_buf_size(2 * limits.header_bytes_max.max(8 * 1024))
                .header_read_timeout(None)
                .serve_connection(io, service)
        );
        let mut leave = pin!(async {
            tokio::select! {
                () = self.cancel.cancelled() => {}
                _changed = self.pressure.changed() => {}
            }
        });
        let mut leaving = false;
        let mut alarm = pin!(tokio::time::sleep_until(deadline.at()));
        poll_fn(|context| {
            if !leaving && leave.as_mut().poll(context).is_ready() {
                leaving = true;
                connection.as_mut().graceful_shutdown();
            }
            if let Poll::Ready(ended) = connection.as_mut().poll(context) {
                if let Err(error) = ended {
                    tracing::debug!(%error, "admin connection ended");
                }
                return Poll::Ready(());
            }
            // The poll above may have moved the deadline either way.
            if alarm.deadline() != deadline.at() {
                alarm.as_mut().reset(deadline.at());
            }
            alarm.as_mut().poll(context)
        })
        .await;
    }
}

async fn answer(shared: &Shared, request: Request<Incoming>) -> routes::Reply {
    let (parts, body) = request.into_parts();
    // No route takes a body; a small one is read and ignored so that the connection lives on.
    let has_body = parts.headers.contains_key(header::CONTENT_LENGTH)
        || parts.headers.contains_key(header::TRANSFER_ENCODING);
    if has_body && parts.method != Method::HEAD {
        let mut body = Limited::new(body, shared.limits.body_bytes_max);
        while let Some(frame) = body.frame().await {
            if let Err(error) = frame {
                return routes::unreadable(error.is::<LengthLimitError>());
            }
        }
    }
    routes::respond(&*shared.source, shared.token.as_ref(), &parts)
}
