//! Embedded brokers: real MQTT 3.1.1 and 5.0, in memory, each on a thread and a runtime of its own.
//!
//! A runtime of its own is what makes [`Broker::kill`] honest: dropping it closes every socket at once, as a killed
//! process does, and leaves no task behind.

use mqtt5::broker::config::{AuthConfig, RateLimitConfig};
use mqtt5::broker::sys_topics::BrokerStats;
use mqtt5::broker::{BrokerConfig, BrokerShutdownHandle, MqttBroker, StorageConfig};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use tokio::sync::oneshot;

/// One running broker. Dropping it kills it.
pub struct Broker {
    addr: SocketAddr,
    stats: Arc<BrokerStats>,
    shutdown: BrokerShutdownHandle,
    kill: Option<oneshot::Sender<()>>,
    ended: Option<oneshot::Receiver<()>>,
}

/// What the broker's thread hands back once it listens.
struct Started {
    addr: SocketAddr,
    stats: Arc<BrokerStats>,
    shutdown: BrokerShutdownHandle,
}

impl Broker {
    /// Listens on `addr`; port 0 takes a free one. Blocks for the few milliseconds that this takes. Anyone may connect.
    pub fn start(addr: SocketAddr) -> io::Result<Self> {
        let (started, starting) = mpsc::sync_channel(1);
        let (kill, killed) = oneshot::channel();
        let (end, ended) = oneshot::channel::<()>();
        std::thread::Builder::new()
            .name(format!("broker {addr}"))
            .spawn(move || {
                serve(addr, &started, killed);
                // Dropping it is the message: it comes also when the thread panics.
                drop(end);
            })?;
        let Started {
            addr,
            stats,
            shutdown,
        } = starting
            .recv()
            .map_err(|_| io::Error::other("the broker's thread ended"))??;
        Ok(Self {
            addr,
            stats,
            shutdown,
            kill: Some(kill),
            ended: Some(ended),
        })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Clients connected now: from an accepted CONNECT to the end of the connection.
    pub fn connections(&self) -> usize {
        self.stats.clients_connected.load(Ordering::Relaxed)
    }

    /// Clients that ever connected.
    pub fn connections_total(&self) -> u64 {
        self.stats.clients_total.load(Ordering::Relaxed)
    }

    /// Messages that clients published.
    pub fn publishes_received(&self) -> u64 {
        self.stats.publish_received.load(Ordering::Relaxed)
    }

    /// Closes the connections in order, and returns when the port is free again.
    pub async fn stop(mut self) {
        self.shutdown.shutdown();
        self.wait_for_end().await;
    }

    /// Drops everything at once, as `kill -9` does, and returns when the port is free again.
    pub async fn kill(mut self) {
        self.kill = None;
        self.wait_for_end().await;
    }

    async fn wait_for_end(&mut self) {
        if let Some(ended) = self.ended.take() {
            let end = ended.await;
            assert!(end.is_err(), "nothing is ever sent");
        }
    }
}

/// The broker's thread, until it is stopped or killed.
fn serve(
    addr: SocketAddr,
    started: &mpsc::SyncSender<io::Result<Started>>,
    killed: oneshot::Receiver<()>,
) {
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return drop(started.send(Err(error))),
    };
    runtime.block_on(async {
        let mut broker = match MqttBroker::with_config(config(addr)).await {
            Ok(broker) => broker,
            Err(error) => return drop(started.send(Err(io::Error::other(error)))),
        };
        let Some(addr) = broker.local_addr() else {
            return drop(started.send(Err(io::Error::other("the broker does not listen"))));
        };
        let handles = Started {
            addr,
            stats: broker.stats(),
            shutdown: broker.shutdown_handle(),
        };
        let mut ready = broker.ready_receiver();
        // Not before it is ready: a shutdown that comes earlier is lost, and `stop` would wait for ever.
        let announce = async {
            let known = ready.wait_for(|ready| *ready).await.is_ok();
            assert!(known, "run() says when it is ready");
            drop(started.send(Ok(handles)));
            std::future::pending::<()>().await;
        };
        tokio::select! {
            _ = killed => {}
            result = broker.run() => drop(result),
            () = announce => {}
        }
    });
}

fn config(addr: SocketAddr) -> BrokerConfig {
    let unlimited = RateLimitConfig {
        enabled: false,
        ..RateLimitConfig::default()
    };
    let auth = AuthConfig {
        rate_limit: unlimited,
        ..AuthConfig::new()
    }
    .with_allow_anonymous(true);
    BrokerConfig::new()
        .with_bind_address(addr)
        .with_auth(auth)
        .with_storage(StorageConfig::new().with_persistence(false))
        .with_sys_topics_enabled(false)
}
