//! Where the tier is found at first: names and addresses from the configuration, resolved again and again.
//!
//! The tier's own round-robin name is a good seed. The look-up itself is the caller's (`discovery` is on the same
//! layer); here is only when to ask, and that a failed look-up keeps the last good answer.

use super::settings::{Seed, Settings};
use crate::logic::member::ClusterView;
use std::collections::BTreeSet;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// The answer to one seed.
pub type SeedFuture = Pin<Box<dyn Future<Output = Result<Vec<SocketAddr>, String>> + Send>>;

/// Looks up one seed; the error is for the log.
pub type SeedResolver = Arc<dyn Fn(Seed) -> SeedFuture + Send + Sync>;

/// A look-up that takes longer has failed.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);
/// The same, while the instance cannot start without it.
const FIRST_LOOKUP_TIMEOUT: Duration = Duration::from_secs(2);
const ALONE_EVERY: Duration = Duration::from_secs(10);
const TOGETHER_EVERY: Duration = Duration::from_secs(60);
/// After a failed look-up, doubling up to [`ALONE_EVERY`].
const RETRY: Duration = Duration::from_secs(1);
/// Addresses kept per seed.
const ADDRS_MAX: usize = 256;

/// Keeps the resolved seeds fresh.
pub(super) struct Seeds {
    pub(super) configured: Vec<Seed>,
    pub(super) resolver: SeedResolver,
    pub(super) addrs: watch::Sender<Arc<Vec<SocketAddr>>>,
    pub(super) view: watch::Receiver<Arc<ClusterView>>,
    pub(super) cancel: CancellationToken,
}

impl Seeds {
    pub(super) async fn run(mut self) {
        let cancel = self.cancel.clone();
        tokio::select! {
            () = cancel.cancelled() => {}
            () = self.keep_fresh() => {}
        }
    }

    async fn keep_fresh(&mut self) {
        let mut answers: Vec<Vec<SocketAddr>> = vec![Vec::new(); self.configured.len()];
        let mut retry = RETRY;
        loop {
            let mut failed = false;
            for (seed, answer) in self.configured.iter().zip(0..) {
                match resolve(&self.resolver, seed, LOOKUP_TIMEOUT).await {
                    Ok(addrs) => answers[answer] = addrs,
                    Err(error) => {
                        failed = true;
                        tracing::warn!(?seed, error, "seed not resolved, keeping the last answer");
                    }
                }
                // Published one by one: a dead name server behind one seed does not hold up the others.
                let all: BTreeSet<SocketAddr> = answers.iter().flatten().copied().collect();
                self.publish(all.into_iter().collect());
            }
            let waited_from = Instant::now();
            let longest = if failed { retry } else { TOGETHER_EVERY };
            retry = if failed {
                (retry * 2).min(ALONE_EVERY)
            } else {
                RETRY
            };
            if !self.wait(waited_from, longest).await {
                return;
            }
        }
    }

    fn publish(&self, addrs: Vec<SocketAddr>) {
        self.addrs.send_if_modified(|held| {
            let changed = **held != addrs;
            if changed {
                tracing::info!(seeds = ?addrs, "seeds resolved");
                *held = Arc::new(addrs);
            }
            changed
        });
    }

    /// Waits, shorter when we are or become alone; `false` when the cluster is over.
    async fn wait(&mut self, from: Instant, longest: Duration) -> bool {
        loop {
            let alone = self.view.borrow_and_update().is_alone();
            let until = from
                + if alone {
                    longest.min(ALONE_EVERY)
                } else {
                    longest
                };
            tokio::select! {
                () = tokio::time::sleep_until(until) => return true,
                changed = self.view.changed() => if changed.is_err() { return false },
            }
        }
    }
}

async fn resolve(
    resolver: &SeedResolver,
    seed: &Seed,
    timeout: Duration,
) -> Result<Vec<SocketAddr>, String> {
    if let Seed::Host { host, port } = seed
        && let Ok(ip) = host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .parse::<IpAddr>()
    {
        return Ok(vec![SocketAddr::new(ip, *port)]);
    }
    let answer = tokio::time::timeout(timeout, resolver(seed.clone())).await;
    let mut addrs = answer.map_err(|_| format!("no answer within {timeout:?}"))??;
    addrs.truncate(ADDRS_MAX);
    Ok(addrs)
}

/// What peers send to: as configured, else the bound address, else the local address that routes to the first seed.
/// Asked once: an instance whose seeds cannot be looked up at its start takes the address of its default route.
pub(super) async fn advertised(
    settings: &Settings,
    bound: SocketAddr,
    resolver: &SeedResolver,
) -> SocketAddr {
    if let Some(mut addr) = settings.advertise {
        if addr.port() == 0 {
            addr.set_port(bound.port());
        }
        return addr;
    }
    if !bound.ip().is_unspecified() {
        return bound;
    }
    let mut targets = Vec::new();
    for seed in &settings.seeds {
        let answer = resolve(resolver, seed, FIRST_LOOKUP_TIMEOUT)
            .await
            .unwrap_or_default();
        targets.extend(answer);
        if !targets.is_empty() {
            break;
        }
    }
    // Documentation addresses (RFC 5737, RFC 3849) are routed by default; connecting a UDP socket sends nothing.
    targets.push((Ipv4Addr::new(192, 0, 2, 1), 9).into());
    targets.push((Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1), 9).into());
    let local = targets
        .into_iter()
        .find_map(|target| local_ip_towards(bound.ip(), target));
    let ip = local.unwrap_or_else(|| {
        let loopback: IpAddr = if bound.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
        tracing::warn!(%loopback, "no route to the seeds, advertising loopback; set cluster.advertise");
        loopback
    });
    SocketAddr::new(ip, bound.port())
}

fn local_ip_towards(bind: IpAddr, target: SocketAddr) -> Option<IpAddr> {
    let socket = std::net::UdpSocket::bind((bind, 0)).ok()?;
    socket.connect(target).ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|ip| !ip.is_unspecified())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::keyring::generate_key;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn host(host: &str) -> Seed {
        Seed::Host {
            host: host.into(),
            port: 7946,
        }
    }

    fn settings(seeds: Vec<Seed>) -> Settings {
        Settings {
            id: "tier".into(),
            bind: ([0, 0, 0, 0], 0).into(),
            advertise: None,
            seeds,
            keys: vec![generate_key().unwrap()],
            keys_file: "keys".into(),
            interval: Duration::from_millis(100),
        }
    }

    fn refusing() -> SeedResolver {
        Arc::new(|_| Box::pin(async { Err("no such name".to_owned()) }))
    }

    #[tokio::test(start_paused = true)]
    async fn the_advertised_address_is_what_is_said_or_bound_or_routes_to_the_seeds() {
        let bound: SocketAddr = ([0, 0, 0, 0], 4000).into();
        let said = Settings {
            advertise: Some(([10, 0, 0, 5], 0).into()),
            ..settings(Vec::new())
        };
        assert_eq!(
            advertised(&said, bound, &refusing()).await,
            ([10, 0, 0, 5], 4000).into()
        );
        let here: SocketAddr = ([127, 0, 0, 7], 4000).into();
        assert_eq!(
            advertised(&settings(Vec::new()), here, &refusing()).await,
            here
        );
        let by_route = settings(vec![host("gone.example"), host("127.0.0.9")]);
        assert_eq!(
            advertised(&by_route, bound, &refusing()).await,
            ([127, 0, 0, 1], 4000).into()
        );
    }

    /// Times of the look-ups, in seconds, within 69 s.
    async fn lookups(alone: bool, fail_first: usize) -> Vec<u64> {
        let start = Instant::now();
        let times = Arc::new(std::sync::Mutex::new(Vec::new()));
        let asked = AtomicUsize::new(0);
        let noted = Arc::clone(&times);
        let resolver: SeedResolver = Arc::new(move |_| {
            noted.lock().unwrap().push(start.elapsed().as_secs());
            let fails = asked.fetch_add(1, Ordering::Relaxed) < fail_first;
            Box::pin(async move {
                if fails {
                    Err("down".into())
                } else {
                    Ok(vec![([10, 0, 0, 1], 1).into()])
                }
            })
        });
        let mut view = ClusterView::alone("me".into(), start.into_std());
        view.alone_since = view.alone_since.filter(|_| alone);
        let (_view, view) = watch::channel(Arc::new(view));
        let (addrs, answer) = watch::channel(Arc::default());
        let cancel = CancellationToken::new();
        let task = Seeds {
            configured: vec![host("tier.example")],
            resolver,
            addrs,
            view,
            cancel,
        };
        drop(tokio::time::timeout(Duration::from_secs(69), task.run()).await);
        assert_eq!(
            **answer.borrow(),
            vec![SocketAddr::from(([10, 0, 0, 1], 1))]
        );
        times.lock().unwrap().clone()
    }

    #[tokio::test(start_paused = true)]
    async fn seeds_are_asked_every_minute_in_company_and_every_ten_seconds_alone() {
        assert_eq!(lookups(false, 0).await, [0, 60]);
        assert_eq!(lookups(true, 0).await, [0, 10, 20, 30, 40, 50, 60]);
        assert_eq!(
            lookups(false, 3).await,
            [0, 1, 3, 7, 67],
            "1, 2, 4 s after failures"
        );
    }
}
