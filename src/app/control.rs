//! The control thread: pools, discovery, health, cluster, admin, and the life of the instance.

use super::fingerprint::fingerprint;
use super::instance::{Signals, StartError};
use super::lifecycle::Lifecycle;
use super::pools::{self, WiredPool};
use super::reload::{Counts, Reload};
use super::source::InstanceSource;
use super::supervisor;
use super::tier;
use crate::admin;
use crate::cluster::Cluster;
use crate::config::Config;
use crate::discovery::Resolver;
use crate::metrics::Registry as Metrics;
use crate::tls;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The control thread's belongings.
pub(super) struct Control {
    pub(super) config: Config,
    pub(super) metrics: Metrics,
    pub(super) lifecycle: Lifecycle,
    pub(super) signals: Signals,
    pub(super) drain: CancellationToken,
    pub(super) stop: CancellationToken,
    pub(super) admin_socket: TcpListener,
    /// Where each listener really is.
    pub(super) listeners: Vec<SocketAddr>,
    pub(super) stores: Vec<Arc<tls::Store>>,
}

/// What the rest of the instance needs of it.
pub(super) struct Built {
    pub(super) pools: Vec<WiredPool>,
    pub(super) cluster: Option<Cluster>,
}

type Started = Result<Built, StartError>;

/// What runs on the control thread once everything has started.
struct Running {
    pools: Vec<WiredPool>,
    cluster: Option<Cluster>,
    /// Ends the cluster, after its goodbye.
    cluster_cancel: CancellationToken,
    admin: admin::Handle,
}

impl Control {
    /// Starts the thread and waits until the pools exist.
    pub(super) fn start(self) -> Result<(JoinHandle<()>, Built), StartError> {
        let (report, started) = sync_channel::<Started>(1);
        let thread = std::thread::Builder::new()
            .name("tidegate-control".into())
            .spawn(move || self.run(&report))
            .map_err(StartError::Thread)?;
        let lost = |_gone| StartError::Thread(io::ErrorKind::BrokenPipe.into());
        let built = started.recv().map_err(lost)??;
        Ok((thread, built))
    }

    fn run(self, report: &SyncSender<Started>) {
        let stop = self.stop.clone();
        // Whatever ends this thread ends the instance, a panic included.
        let _with_us = stop.clone().drop_guard();
        let runtime = match tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
        {
            Ok(runtime) => runtime,
            Err(error) => {
                // The starter waits for this word.
                report.send(Err(StartError::Thread(error))).ok();
                return;
            }
        };
        runtime.block_on(async {
            let started = self.build().await;
            match started {
                Err(error) => {
                    report.send(Err(error)).ok();
                }
                Ok(running) => {
                    let cluster = running.cluster.clone();
                    report
                        .send(Ok(Built {
                            pools: running.pools.clone(),
                            cluster,
                        }))
                        .ok();
                    self.live(running).await;
                }
            }
        });
    }

    async fn build(&self) -> Result<Running, StartError> {
        let config = &self.config;
        let tracker = TaskTracker::new();
        let cancel = self.stop.child_token();
        let resolver = Resolver::new(&config.dns);
        let pools = pools::start(config, &resolver, &self.metrics, &tracker, &cancel);
        let cluster_cancel = CancellationToken::new();
        let cluster = match &config.cluster {
            None => None,
            Some(settings) => {
                let joined = tier::join(
                    settings.clone(),
                    config,
                    &pools,
                    &resolver,
                    &tracker,
                    &cluster_cancel,
                );
                let cluster = joined
                    .await
                    .map_err(|error| StartError::Cluster(Box::new(error)))?;
                self.metrics.collector(Box::new(cluster.collector()));
                Some(cluster)
            }
        };
        let admin_socket = self.admin_socket.try_clone().map_err(StartError::Thread)?;
        let source = InstanceSource {
            fingerprint: fingerprint(config),
            started: tokio::time::Instant::now(),
            phase: self.lifecycle.phase.subscribe(),
            metrics: self.metrics.clone(),
            pools: pools.clone(),
            cluster: cluster.clone(),
            listeners: self.listeners.clone(),
            config: config.clone(),
        };
        let admin = admin::start(config.admin.clone(), Arc::new(source), admin_socket)
            .map_err(StartError::Admin)?;
        Ok(Running {
            pools,
            cluster,
            cluster_cancel,
            admin,
        })
    }

    async fn live(self, running: Running) {
        let cluster = running.cluster.as_ref();
        tokio::select! {
            () = self.stop.cancelled() => {}
            () = self.until_drained(cluster) => {}
            () = self.obey_reloads(cluster) => {}
            () = self.feed_watchdog() => {}
        }
        // Connections first: the goodbye says that there are none.
        self.stop.cancel();
        if let Some(cluster) = cluster {
            cluster.leave().await;
        }
        running.cluster_cancel.cancel();
        running.admin.stop();
    }

    /// Waits for the word to drain, and drains; a second signal ends it.
    async fn until_drained(&self, cluster: Option<&Cluster>) {
        tokio::select! {
            () = self.drain.cancelled() => {}
            () = signal(&self.signals) => {}
        }
        if self.signals != Signals::Ignore {
            supervisor::stopping();
        }
        if let Some(cluster) = cluster
            && let Err(error) = cluster.announce_leaving()
        {
            tracing::warn!(%error, "cannot tell the tier that this instance leaves");
        }
        let lifecycle = &self.lifecycle;
        tokio::select! {
            () = lifecycle.drain() => {}
            () = signal(&self.signals) => {
                tracing::warn!(connections = lifecycle.open(), "second signal: stopping at once");
            }
        }
    }

    /// For ever. An instance inside somebody else's process does not speak for it.
    async fn feed_watchdog(&self) {
        if self.signals == Signals::Ignore {
            return std::future::pending().await;
        }
        supervisor::feed_watchdog().await;
    }

    /// SIGHUP, for ever.
    async fn obey_reloads(&self, cluster: Option<&Cluster>) {
        use tokio::signal::unix::{SignalKind, signal};
        let Signals::Obey { path } = &self.signals else {
            return std::future::pending().await;
        };
        let counts = Counts::default();
        self.metrics.collector(Box::new(counts.clone()));
        let reload = Reload {
            counts: &counts,
            path,
            running: &self.config,
            stores: &self.stores,
            cluster,
        };
        let mut hangup = match signal(SignalKind::hangup()) {
            Ok(hangup) => hangup,
            Err(error) => {
                tracing::error!(%error, "cannot listen for SIGHUP: it will not reload");
                return std::future::pending().await;
            }
        };
        while hangup.recv().await.is_some() {
            reload.run();
        }
        std::future::pending::<()>().await;
    }
}

/// SIGTERM or SIGINT.
async fn signal(signals: &Signals) {
    use tokio::signal::unix::{SignalKind, signal};
    if *signals == Signals::Ignore {
        return std::future::pending().await;
    }
    let (Ok(mut terminate), Ok(mut interrupt)) = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
    ) else {
        tracing::error!("cannot listen for signals: SIGTERM will not drain");
        return std::future::pending().await;
    };
    let name = tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    };
    tracing::info!(signal = name, "signal received");
}
