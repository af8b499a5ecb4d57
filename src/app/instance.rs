//! One instance: its threads, and what connects them.
//!
//! | thread | runtime | runs |
//! |---|---|---|
//! | `tidegate-0` ... | one each | listeners and connections: the data path |
//! | `tidegate-control` | its own | pools, discovery, health, cluster, lifecycle |
//! | `tidegate-admin` | its own | the admin API |
//! | `tidegate-log` | none | writes log lines |

use super::control::{Built, Control};
use super::lifecycle::{Lifecycle, Phase};
use super::limits::{self, Limits};
use super::pools::WiredPool;
use super::source::{self, VERSION};
use crate::admin;
use crate::cluster::Cluster;
use crate::config::Config;
use crate::listener::{self, Gate, Plan, Worker};
use crate::metrics::Registry as Metrics;
use crate::relay::{self, Clock, Registry};
use crate::tls;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

/// Why an instance did not start. Nothing of it is left behind.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A listener's address.
    #[error(transparent)]
    Bind(#[from] listener::BindError),
    /// The admin API's address.
    #[error("admin.bind: cannot bind {addr}")]
    AdminBind {
        /// Where.
        addr: SocketAddr,
        /// What the kernel says.
        source: io::Error,
    },
    /// The certificate of a listener.
    #[error("listener {listener}: tls")]
    Certificate {
        /// Which one.
        listener: String,
        /// What is wrong with it.
        source: Box<tls::CertificateError>,
    },
    /// The gossip socket or its keys.
    #[error("cluster")]
    Cluster(#[source] Box<crate::cluster::ClusterError>),
    /// The admin API.
    #[error("admin")]
    Admin(#[source] admin::StartError),
    /// A thread or runtime.
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
}

/// What the signals do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signals {
    /// SIGTERM and SIGINT drain, the second one skips to the end; SIGHUP reads the file again.
    Obey {
        /// The configuration file.
        path: PathBuf,
    },
    /// Nothing: the process belongs to somebody else (demo, tests).
    Ignore,
}

/// A running instance. Dropping it does not stop it: [`Instance::drain`] or [`Instance::stop`], then [`Instance::wait`].
#[derive(Debug)]
pub struct Instance {
    listeners: Vec<(String, SocketAddr)>,
    admin: SocketAddr,
    phase: watch::Receiver<Phase>,
    pools: Vec<WiredPool>,
    cluster: Option<Cluster>,
    drain: CancellationToken,
    stop: CancellationToken,
    control: JoinHandle<()>,
    workers: Vec<Worker>,
}

impl Instance {
    /// Starts everything that `config` names. When this returns, connections are accepted.
    pub fn start(config: &Config, signals: Signals) -> Result<Self, StartError> {
        limits::raise_descriptor_limit();
        let metrics = Metrics::new(VERSION, &config.instance.name);
        let stores = load_certificates(config)?;
        metrics.collector(Box::new(tls::Collector(
            stores.iter().flatten().cloned().collect(),
        )));
        let (admin_socket, admin) = bind_admin(config)?;
        let worker_count = worker_count(config);
        let sockets = bind_listeners(config, worker_count)?;
        let addrs: Vec<_> = sockets.iter().map(|(addr, _)| *addr).collect();

        let (phase, phases) = watch::channel(Phase::Ready);
        let drain = CancellationToken::new();
        let stop = CancellationToken::new();
        let limits = Limits::of(config, worker_count);
        let registries: Vec<_> = (0..worker_count)
            .map(|_| Arc::new(Registry::new(Arc::clone(&limits.buffers))))
            .collect();
        let lifecycle = Lifecycle {
            settings: config.drain.clone(),
            phase,
            registries: registries.clone(),
            stop_accepting: stop.child_token(),
        };
        let stop_accepting = lifecycle.stop_accepting.clone();
        let control = Control {
            config: config.clone(),
            metrics: metrics.clone(),
            lifecycle,
            signals,
            drain: drain.clone(),
            stop: stop.clone(),
            admin_socket,
            listeners: addrs.clone(),
            stores: stores.iter().flatten().cloned().collect(),
        };
        let (control, Built { pools, cluster }) = control.start()?;
        let staff = Staff {
            config,
            metrics: &metrics,
            pools: &pools,
            stores: &stores,
        };
        let plans = staff.plans(sockets, &registries, limits.connections_max);
        metrics.collector(Box::new(limits));
        let workers = Worker::spawn_all(plans, &stop_accepting, &stop).map_err(|error| {
            stop.cancel();
            StartError::Thread(error)
        })?;
        let names = config
            .listeners
            .iter()
            .map(|listener| listener.name.clone());
        let listeners: Vec<_> = names.zip(addrs).collect();
        for (name, addr) in &listeners {
            tracing::info!(listener = %name, %addr, workers = workers.len(), "listening");
        }
        tracing::info!(instance = %config.instance.name, version = VERSION, %admin, "started");
        Ok(Self {
            listeners,
            admin,
            phase: phases,
            pools,
            cluster,
            drain,
            stop,
            control,
            workers,
        })
    }

    /// Name and address of every listener, in the order of the configuration.
    pub fn listeners(&self) -> &[(String, SocketAddr)] {
        &self.listeners
    }

    /// Where the admin API is.
    pub const fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// Where the instance is in its life.
    pub fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Endpoints that are up or on trial, over all pools.
    pub fn eligible_endpoints(&self) -> usize {
        self.pools
            .iter()
            .flat_map(|wired| wired.pool.report())
            .filter(source::is_proven)
            .count()
    }

    /// Live members of the tier, this one included.
    pub fn members(&self) -> usize {
        let others = self
            .cluster
            .as_ref()
            .map_or(0, |cluster| cluster.view().borrow().counting().count());
        others + 1
    }

    /// Starts the drain, as SIGTERM does.
    pub fn drain(&self) {
        self.drain.cancel();
    }

    /// Ends at once; connections that are left are closed.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Waits for the end. `false`: a thread panicked.
    pub fn wait(self) -> bool {
        let mut clean = self.control.join().is_ok();
        for worker in self.workers {
            clean &= worker.join();
        }
        clean
    }
}

/// What is assigned to the workers.
struct Staff<'a> {
    config: &'a Config,
    metrics: &'a Metrics,
    pools: &'a [WiredPool],
    stores: &'a [Option<Arc<tls::Store>>],
}

impl Staff<'_> {
    /// Per worker: its registry, its clock and its share of every listener.
    fn plans(
        &self,
        sockets: Vec<(SocketAddr, Vec<TcpListener>)>,
        registries: &[Arc<Registry>],
        connections_max: usize,
    ) -> Vec<(Arc<Registry>, Clock, Vec<Plan>)> {
        let room = Arc::new(Semaphore::new(connections_max));
        let gates: Vec<_> = self
            .config
            .listeners
            .iter()
            .map(|listener| Gate::new(listener, Arc::clone(&room)))
            .collect();
        let mut per_listener: Vec<_> = sockets
            .into_iter()
            .map(|(_, sockets)| sockets.into_iter())
            .collect();
        registries
            .iter()
            .map(|registry| {
                let clock = Clock::default();
                let handshakes =
                    Arc::new(Semaphore::new(self.config.limits.handshakes_max as usize));
                let plans = self
                    .config
                    .listeners
                    .iter()
                    .enumerate()
                    .map(|(index, listener)| Plan {
                        socket: per_listener[index]
                            .next()
                            .expect("one socket per worker was bound"),
                        gate: Arc::clone(&gates[index]),
                        context: Arc::new(relay::Context {
                            listener: listener.name.clone(),
                            parse_mqtt: listener.protocol == listener::Protocol::Mqtt,
                            settings: listener.relay.clone(),
                            pool: self.pool(&listener.pool),
                            tls: self.stores[index].clone(),
                            tallies: self.metrics.listener(&listener.name, &listener.pool),
                            registry: Arc::clone(registry),
                            clock: clock.clone(),
                            handshakes: Arc::clone(&handshakes),
                            access: self.config.log.access,
                        }),
                    })
                    .collect();
                (Arc::clone(registry), clock, plans)
            })
            .collect()
    }

    fn pool(&self, name: &str) -> Arc<crate::pool::Pool> {
        let wired = self.pools.iter().find(|wired| wired.pool.name() == name);
        Arc::clone(
            &wired
                .expect("the configuration was checked: every listener's pool exists")
                .pool,
        )
    }
}

fn load_certificates(config: &Config) -> Result<Vec<Option<Arc<tls::Store>>>, StartError> {
    let load = |listener: &listener::Settings| {
        let Some(settings) = &listener.tls else {
            return Ok(None);
        };
        let store = tls::Store::load(&listener.name, settings).map_err(|source| {
            StartError::Certificate {
                listener: listener.name.clone(),
                source: Box::new(source),
            }
        })?;
        Ok(Some(Arc::new(store)))
    };
    config.listeners.iter().map(load).collect()
}

fn bind_listeners(
    config: &Config,
    workers: usize,
) -> Result<Vec<(SocketAddr, Vec<TcpListener>)>, StartError> {
    let mut bound = Vec::new();
    for listener in &config.listeners {
        let sockets = listener::bind_all(listener, workers)?;
        let addr = sockets
            .first()
            .and_then(|socket| socket.local_addr().ok())
            .unwrap_or(listener.bind);
        bound.push((addr, sockets));
    }
    Ok(bound)
}

fn bind_admin(config: &Config) -> Result<(TcpListener, SocketAddr), StartError> {
    let failed = |source| StartError::AdminBind {
        addr: config.admin.bind,
        source,
    };
    let socket = admin::bind(&config.admin).map_err(failed)?;
    let addr = socket.local_addr().map_err(failed)?;
    Ok((socket, addr))
}

fn worker_count(config: &Config) -> usize {
    match config.instance.workers {
        0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        workers => workers,
    }
}
