//! Whom to ask: hickory clients made from the configured servers, or from resolv.conf whenever it changes.
//!
//! hickory reads resolv.conf once. Here its stamp is compared before every look-up: a laptop that changes networks and
//! a container whose runtime rewrites the file need no restart.

use crate::discovery::settings::DnsSettings;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::system_conf::parse_resolv_conf;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Where the name servers come from.
#[derive(Clone, Debug)]
pub(super) enum Origin {
    /// `[dns] servers`. No search list and no hosts file: these servers are the whole truth.
    Configured(Vec<SocketAddr>),
    /// The system's files. The hosts file is read by hickory from its usual place; its stamp is watched here.
    System {
        /// `/etc/resolv.conf`, another file in tests.
        resolv_conf: PathBuf,
        /// 53, another port in tests: resolv.conf cannot name one.
        port: u16,
    },
}

/// Clients for one state of the configuration.
pub(super) struct Clients {
    /// The first asks all servers; with several servers, the others ask one of them each (`Resolver::ask`).
    pub(super) in_turn: Vec<TokioResolver>,
    /// Search domains.
    pub(super) search: Vec<String>,
}

/// The current clients.
pub(super) struct NameServers {
    origin: Origin,
    timeout: Duration,
    current: Mutex<Current>,
}

/// What identifies a state of a file; `None` for a file that is not there.
type Stamp = Option<[i128; 5]>;

#[derive(Default)]
struct Current {
    stamps: Option<[Stamp; 2]>,
    /// Shared with the look-ups under way, which end with the clients that they began with.
    clients: Option<Arc<Clients>>,
    problem: String,
}

const HOSTS: &str = "/etc/hosts";

impl NameServers {
    pub(super) fn new(origin: Origin, settings: &DnsSettings) -> Self {
        Self {
            origin,
            timeout: settings.timeout,
            current: Mutex::default(),
        }
    }

    /// The clients for the configuration as it is now. A file that has become unusable leaves the earlier clients in
    /// place; the text of the error says what is wrong when there never were any.
    pub(super) fn clients(&self) -> Result<Arc<Clients>, String> {
        let stamps = match &self.origin {
            Origin::Configured(_) => [None, None],
            Origin::System { resolv_conf, .. } => [stamp(resolv_conf), stamp(Path::new(HOSTS))],
        };
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.stamps.as_ref() != Some(&stamps) {
            match self.build() {
                Ok(clients) => {
                    if current.stamps.is_some() {
                        tracing::info!(origin = ?self.origin, "name servers read again");
                    }
                    current.clients = Some(Arc::new(clients));
                }
                Err(problem) => {
                    tracing::warn!(origin = ?self.origin, %problem, "name servers unusable");
                    current.problem = problem;
                }
            }
            current.stamps = Some(stamps);
        }
        current
            .clients
            .clone()
            .ok_or_else(|| current.problem.clone())
    }

    fn build(&self) -> Result<Clients, String> {
        let (servers, search) = match &self.origin {
            Origin::Configured(addrs) => (addrs.iter().copied().map(server).collect(), Vec::new()),
            Origin::System { resolv_conf, port } => read(resolv_conf, *port)?,
        };
        let hosts = match self.origin {
            Origin::Configured(_) => ResolveHosts::Never,
            Origin::System { .. } => ResolveHosts::Always,
        };
        let options = options(self.timeout, hosts);
        let mut in_turn = vec![client(servers.clone(), options.clone())?];
        if servers.len() > 1 {
            for server in servers {
                in_turn.push(client(vec![server], options.clone())?);
            }
        }
        Ok(Clients { in_turn, search })
    }
}

/// The servers and search domains of a resolv.conf.
fn read(path: &Path, port: u16) -> Result<(Vec<NameServerConfig>, Vec<String>), String> {
    let problem = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let bytes = std::fs::read(path).map_err(|error| problem(&error))?;
    // Its options are not taken: they switch EDNS off, and time-outs are ours to set.
    let (config, _) = parse_resolv_conf(bytes).map_err(|error| problem(&error))?;
    let addrs = config
        .name_servers()
        .iter()
        .map(|server| SocketAddr::new(server.ip, port));
    let servers = addrs.map(server).collect();
    let search = match (config.search(), config.domain()) {
        ([], Some(domain)) => vec![domain.to_ascii()],
        (search, _) => search
            .iter()
            .map(hickory_resolver::proto::rr::Name::to_ascii)
            .collect(),
    };
    Ok((servers, search))
}

/// UDP first, TCP for answers that do not fit.
fn server(addr: SocketAddr) -> NameServerConfig {
    let mut udp = ConnectionConfig::udp();
    let mut tcp = ConnectionConfig::tcp();
    udp.port = addr.port();
    tcp.port = addr.port();
    let ip: IpAddr = addr.ip();
    NameServerConfig::new(ip, true, vec![udp, tcp])
}

fn options(timeout: Duration, hosts: ResolveHosts) -> ResolverOpts {
    let mut options = ResolverOpts::default();
    options.timeout = timeout;
    // One more try: it goes to the server that looks best after the first one failed.
    options.attempts = 1;
    options.edns0 = true;
    // The next look-up is ours to time, by the TTLs that the server sends.
    options.cache_size = 0;
    options.use_hosts_file = hosts;
    options
}

fn client(servers: Vec<NameServerConfig>, options: ResolverOpts) -> Result<TokioResolver, String> {
    TokioResolver::builder_with_config(
        ResolverConfig::from_name_servers(servers),
        TokioRuntimeProvider::default(),
    )
    .with_options(options)
    .build()
    .map_err(|error: NetError| error.to_string())
}

/// Modification and change time, length, inode: an editor's rename, a rewrite in place and a bind mount all show.
fn stamp(path: &Path) -> Stamp {
    let meta = std::fs::metadata(path).ok()?;
    let nanos = |seconds: i64, nanos: i64| i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
    Some([
        nanos(meta.mtime(), meta.mtime_nsec()),
        nanos(meta.ctime(), meta.ctime_nsec()),
        i128::from(meta.len()),
        i128::from(meta.ino()),
        i128::from(meta.dev()),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolv_conf_without_edns_option_still_uses_edns() {
        let options = options(Duration::from_secs(1), ResolveHosts::Never);
        assert!(options.edns0);
        assert_eq!(options.cache_size, 0);
    }

    #[test]
    fn missing_resolv_conf_is_said_by_its_path() {
        let origin = Origin::System {
            resolv_conf: PathBuf::from("/nonexistent/resolv.conf"),
            port: 53,
        };
        let problem = NameServers::new(origin, &DnsSettings::default())
            .clients()
            .err()
            .unwrap();
        assert!(
            problem.starts_with("/nonexistent/resolv.conf: "),
            "{problem}"
        );
    }
}
