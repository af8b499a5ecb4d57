//! Brokers that misbehave on command, and records of what they were sent.

use super::packet::{self, Packet, Version, kind};
use super::wait;
use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, TcpStream as StdStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// What a fake broker does with one connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Script {
    /// Accepts and closes: a broker at its `max_connections`.
    Close,
    /// Reads the CONNECT, then closes.
    CloseAfterConnect,
    /// Reads and never answers.
    Mute,
    /// Answers the CONNECT with this code and stays; a code other than 0 is followed by a close.
    Connack(u8),
    /// Answers the CONNECT with these bytes and stays.
    Answer(Vec<u8>),
    /// A small broker: CONNACK 0, SUBACK, PUBACK, PINGRESP; messages go nowhere.
    Serve,
    /// Sends back what comes, whatever it is.
    Echo,
}

/// A scripted broker on the caller's runtime. Dropping it closes everything.
pub struct FakeBroker {
    addr: SocketAddr,
    shared: Arc<Shared>,
    end: CancellationToken,
    tasks: TaskTracker,
}

struct Shared {
    state: Mutex<State>,
}

struct State {
    /// What every connection gets after `next` is used up.
    script: Script,
    /// What the next connections get, one each.
    next: VecDeque<Script>,
    /// Bytes received, by connection in the order of their arrival.
    received: Vec<Vec<u8>>,
    open: usize,
}

impl FakeBroker {
    /// Listens on `addr`; port 0 takes a free one.
    pub async fn start(addr: SocketAddr, script: Script) -> io::Result<Self> {
        let listener = TcpListener::bind(addr).await?;
        let addr = listener.local_addr()?;
        let state = State {
            script,
            next: VecDeque::new(),
            received: Vec::new(),
            open: 0,
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
        });
        let end = CancellationToken::new();
        let tasks = TaskTracker::new();
        tasks.spawn(accept(
            listener,
            Arc::clone(&shared),
            end.clone(),
            tasks.clone(),
        ));
        Ok(Self {
            addr,
            shared,
            end,
            tasks,
        })
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Connections from now on get this.
    pub fn set(&self, script: Script) {
        self.shared.lock().script = script;
    }

    /// The next `count` connections get this, the ones after them what was set.
    pub fn next(&self, count: usize, script: &Script) {
        self.shared
            .lock()
            .next
            .extend(std::iter::repeat_n(script.clone(), count));
    }

    /// Connections accepted ever.
    pub fn accepted(&self) -> usize {
        self.shared.lock().received.len()
    }

    /// Connections open now.
    pub fn open(&self) -> usize {
        self.shared.lock().open
    }

    /// Everything that the connection with this number (from 0) sent so far.
    pub fn received(&self, connection: usize) -> Vec<u8> {
        self.shared
            .lock()
            .received
            .get(connection)
            .cloned()
            .unwrap_or_default()
    }

    pub async fn wait_accepted(&self, count: usize) {
        wait::until(&format!("{count} connections"), || self.accepted() >= count).await;
    }

    pub async fn wait_open(&self, count: usize) {
        wait::until(&format!("{count} open connections"), || {
            self.open() == count
        })
        .await;
    }

    pub async fn wait_received(&self, connection: usize, bytes: usize) -> Vec<u8> {
        let what = format!("{bytes} bytes on connection {connection}");
        wait::until(&what, || self.received(connection).len() >= bytes).await;
        self.received(connection)
    }

    /// Closes everything and returns when the port is free again.
    pub async fn stop(self) {
        self.end.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Drop for FakeBroker {
    fn drop(&mut self) {
        self.end.cancel();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Numbers a new connection and chooses its script.
    fn admit(&self) -> (usize, Script) {
        let mut state = self.lock();
        state.received.push(Vec::new());
        state.open += 1;
        let script = state
            .next
            .pop_front()
            .unwrap_or_else(|| state.script.clone());
        (state.received.len() - 1, script)
    }
}

async fn accept(
    listener: TcpListener,
    shared: Arc<Shared>,
    end: CancellationToken,
    tasks: TaskTracker,
) {
    loop {
        let stream = tokio::select! {
            () = end.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = stream else { continue };
        let (number, script) = shared.admit();
        let (shared, end) = (Arc::clone(&shared), end.clone());
        tasks.spawn(async move {
            let mut connection = Connection {
                stream,
                number,
                shared: &shared,
                unread: Vec::new(),
            };
            tokio::select! {
                () = end.cancelled() => {}
                // An error is the other side's end, which is no news to a fake.
                result = connection.play(&script) => drop(result),
            }
            drop(connection);
            shared.lock().open -= 1;
        });
    }
}

struct Connection<'a> {
    stream: TcpStream,
    number: usize,
    shared: &'a Shared,
    /// Received and not yet taken as a packet.
    unread: Vec<u8>,
}

impl Connection<'_> {
    async fn play(&mut self, script: &Script) -> io::Result<()> {
        match script {
            Script::Close => Ok(()),
            Script::Mute => self.swallow().await,
            Script::Echo => loop {
                let fresh = self.receive().await?;
                self.stream.write_all(&fresh).await?;
            },
            Script::CloseAfterConnect => self.connect().await.map(drop),
            Script::Answer(bytes) => {
                self.connect().await?;
                self.stream.write_all(bytes).await?;
                self.swallow().await
            }
            Script::Connack(code) => {
                let version = self.connect().await?;
                self.stream
                    .write_all(&packet::connack(version, *code))
                    .await?;
                if *code == 0 {
                    self.swallow().await
                } else {
                    Ok(())
                }
            }
            Script::Serve => {
                let version = self.connect().await?;
                self.stream.write_all(&packet::connack(version, 0)).await?;
                self.serve(version).await
            }
        }
    }

    /// Reads what is there, records it, and ends with an error when the other side closes.
    async fn receive(&mut self) -> io::Result<Vec<u8>> {
        let mut buffer = vec![0; 16 * 1024];
        let length = self.stream.read(&mut buffer).await?;
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        buffer.truncate(length);
        self.shared.lock().received[self.number].extend_from_slice(&buffer);
        Ok(buffer)
    }

    async fn swallow(&mut self) -> io::Result<()> {
        loop {
            self.receive().await?;
        }
    }

    /// Skips a PROXY header and reads the CONNECT.
    async fn connect(&mut self) -> io::Result<Version> {
        let header = loop {
            match packet::proxy_header_length(&self.unread) {
                Some(length) if !self.unread.is_empty() => break length,
                _ => {
                    let fresh = self.receive().await?;
                    self.unread.extend(fresh);
                }
            }
        };
        self.unread.drain(..header);
        self.packet().await?.connect_version()
    }

    async fn packet(&mut self) -> io::Result<Packet> {
        loop {
            let mut rest = self.unread.as_slice();
            if let Ok(Some(packet)) = packet::read(&mut rest).await {
                let taken = self.unread.len() - rest.len();
                self.unread.drain(..taken);
                return Ok(packet);
            }
            let fresh = self.receive().await?;
            self.unread.extend(fresh);
        }
    }

    async fn serve(&mut self, version: Version) -> io::Result<()> {
        loop {
            let packet = self.packet().await?;
            let answer = match packet.kind() {
                kind::PINGREQ => packet::bare(kind::PINGRESP),
                kind::SUBSCRIBE => packet::suback(version, packet.id()?, 0),
                kind::PUBLISH => match packet.published(version)? {
                    message if message.qos == 1 => packet::ack(kind::PUBACK, message.id),
                    message if message.qos == 2 => packet::ack(kind::PUBREC, message.id),
                    _ => continue,
                },
                kind::PUBREL => packet::ack(kind::PUBCOMP, packet.id()?),
                kind::DISCONNECT => return Ok(()),
                _ => continue,
            };
            self.stream.write_all(&answer).await?;
        }
    }
}

/// An address where every connect is refused: bound, so that nobody else gets the port, and not listening.
pub struct ClosedPort {
    addr: SocketAddr,
    _socket: TcpSocket,
}

impl ClosedPort {
    pub fn new(addr: SocketAddr) -> io::Result<Self> {
        let socket = if addr.is_ipv4() {
            TcpSocket::new_v4()?
        } else {
            TcpSocket::new_v6()?
        };
        socket.bind(addr)?;
        Ok(Self {
            addr: socket.local_addr()?,
            _socket: socket,
        })
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }
}

/// An address where a connect gets no answer at all: its queue is full, and the kernel drops the next SYN.
pub struct BlackHole {
    addr: SocketAddr,
    _listener: socket2::Socket,
    _queue: Vec<StdStream>,
}

impl BlackHole {
    /// Blocks for some 50 ms: that a connect hangs is seen by waiting.
    pub fn new(addr: SocketAddr) -> io::Result<Self> {
        let listener = socket2::Socket::new(
            socket2::Domain::for_address(addr),
            socket2::Type::STREAM,
            None,
        )?;
        listener.bind(&addr.into())?;
        listener.listen(0)?;
        let addr = listener
            .local_addr()?
            .as_socket()
            .ok_or(io::ErrorKind::AddrNotAvailable)?;
        let mut queue = Vec::new();
        for _ in 0..8 {
            match StdStream::connect_timeout(&addr, Duration::from_millis(50)) {
                Ok(stream) => queue.push(stream),
                Err(_) => {
                    return Ok(Self {
                        addr,
                        _listener: listener,
                        _queue: queue,
                    });
                }
            }
        }
        Err(io::Error::other("the accept queue does not fill up"))
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }
}
