//! One look-up: a name in, addresses or SRV records out, the families apart, every failure told from the others.
//!
//! Absent on purpose: memory. What is kept when a look-up fails is decided in `logic::dns_answer`.

use crate::discovery::error::LookupError;
use crate::discovery::name_servers::{Clients, NameServers, Origin};
use crate::discovery::question::{Asked, Families, ask, both_families, service_record};
use crate::discovery::search::candidates;
use crate::discovery::settings::DnsSettings;
use crate::logic::dns_answer::{AddressAnswer, Answer, Found, Miss, ServiceRecord};
use hickory_resolver::proto::rr::RecordType;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Asks name servers. Cheap to clone; all clones share the name servers and their sockets.
///
/// hickory spawns its connections on the runtime of the caller, so use one resolver per runtime.
#[derive(Clone)]
pub struct Resolver {
    shared: Arc<Shared>,
}

struct Shared {
    settings: DnsSettings,
    name_servers: NameServers,
}

/// What came of looking up addresses.
#[derive(Clone, Debug)]
pub struct Addresses {
    /// For the memory.
    pub answer: AddressAnswer,
    /// The worst error, for people.
    pub error: Option<LookupError>,
    /// The absolute name that brought records.
    pub via: Option<String>,
}

/// What came of looking up SRV records.
#[derive(Clone, Debug)]
pub struct Services {
    /// For the memory.
    pub answer: Answer<ServiceRecord>,
    /// The error, for people.
    pub error: Option<LookupError>,
    /// The absolute name that brought records.
    pub via: Option<String>,
}

impl Resolver {
    /// A resolver for the `[dns]` table. Nothing is read or asked yet, and nothing can fail: with DNS down, look-ups do.
    pub fn new(settings: &DnsSettings) -> Self {
        let origin = if settings.servers.is_empty() {
            Origin::System {
                resolv_conf: PathBuf::from("/etc/resolv.conf"),
                port: 53,
            }
        } else {
            Origin::Configured(settings.servers.clone())
        };
        Self::with_origin(settings, origin)
    }

    pub(super) fn with_origin(settings: &DnsSettings, origin: Origin) -> Self {
        let name_servers = NameServers::new(origin, settings);
        Self {
            shared: Arc::new(Shared {
                settings: settings.clone(),
                name_servers,
            }),
        }
    }

    /// The settings it was made from.
    pub fn settings(&self) -> &DnsSettings {
        &self.shared.settings
    }

    /// Looks a name up under the search rules, each family by a question of its own. `preferred` is the earlier
    /// [`Addresses::via`]. An IP address in place of a name answers for itself. Cancel-safe.
    pub async fn addresses(
        &self,
        name: &str,
        ipv4: bool,
        ipv6: bool,
        preferred: Option<&str>,
    ) -> Addresses {
        if let Ok(ip) = name.parse::<IpAddr>() {
            return literal(ip);
        }
        let clients = match self.clients() {
            Ok(clients) => clients,
            Err(error) => {
                let families = [ipv4, ipv6].map(|asked| asked.then(|| Err(error.clone())));
                return summary(families, None);
            }
        };
        let mut worst: Families = [None, None];
        for candidate in candidates(name, &clients.search, preferred) {
            let families = both_families(&clients, &candidate, ipv4, ipv6).await;
            if families.iter().flatten().any(Result::is_ok) {
                return summary(families, Some(candidate));
            }
            let last = stops_search(
                &candidate,
                preferred,
                families.iter().flatten().filter_map(|a| a.as_ref().err()),
            );
            for (kept, new) in worst.iter_mut().zip(families) {
                keep_worst(kept, new);
            }
            if last {
                break;
            }
        }
        summary(worst, None)
    }

    /// Looks SRV records up under the search rules. Cancel-safe.
    pub async fn services(&self, name: &str, preferred: Option<&str>) -> Services {
        let clients = match self.clients() {
            Ok(clients) => clients,
            Err(error) => {
                return Services {
                    answer: Err(error.miss()),
                    error: Some(error),
                    via: None,
                };
            }
        };
        let mut worst: Option<Asked<ServiceRecord>> = None;
        for candidate in candidates(name, &clients.search, preferred) {
            match ask(&clients, &candidate, RecordType::SRV, service_record).await {
                Ok(found) => {
                    return Services {
                        answer: Ok(found),
                        error: None,
                        via: Some(candidate),
                    };
                }
                Err(error) => {
                    let last = stops_search(&candidate, preferred, std::iter::once(&error));
                    keep_worst(&mut worst, Some(Err(error)));
                    if last {
                        break;
                    }
                }
            }
        }
        let error = worst.and_then(Result::err);
        Services {
            answer: Err(error.as_ref().map_or(Miss::Other, LookupError::miss)),
            error,
            via: None,
        }
    }

    /// All addresses of a name, sorted, with a port: for callers that keep their own last good list (cluster seeds).
    ///
    /// # Errors
    /// Neither family has an address.
    pub async fn lookup_addrs(
        &self,
        name: &str,
        port: u16,
    ) -> Result<Vec<SocketAddr>, LookupError> {
        let Addresses { answer, error, .. } = self.addresses(name, true, true, None).await;
        let found = [answer.ipv4, answer.ipv6]
            .into_iter()
            .flatten()
            .filter_map(Result::ok);
        let mut addrs: Vec<_> = found
            .flat_map(|found| found.items)
            .map(|ip| SocketAddr::new(ip, port))
            .collect();
        addrs.sort_unstable();
        addrs.dedup();
        match error {
            Some(error) if addrs.is_empty() => Err(error),
            _ => Ok(addrs),
        }
    }

    /// All addresses behind the SRV records of a name, sorted.
    ///
    /// # Errors
    /// There are no records, or no host of theirs has an address.
    pub async fn lookup_srv(&self, name: &str) -> Result<Vec<SocketAddr>, LookupError> {
        let Services { answer, error, .. } = self.services(name, None).await;
        let mut first_error = error;
        let mut addrs = Vec::new();
        for record in answer.map(|found| found.items).unwrap_or_default() {
            match self
                .lookup_addrs(&format!("{}.", record.host), record.port)
                .await
            {
                Ok(more) => addrs.extend(more),
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        addrs.sort_unstable();
        addrs.dedup();
        match first_error {
            Some(error) if addrs.is_empty() => Err(error),
            _ => Ok(addrs),
        }
    }

    fn clients(&self) -> Result<Arc<Clients>, LookupError> {
        self.shared
            .name_servers
            .clients()
            .map_err(LookupError::NoNameServer)
    }
}

impl std::fmt::Debug for Resolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Resolver")
            .field("settings", &self.shared.settings)
            .finish_non_exhaustive()
    }
}

/// An IP address is its own answer, until the end of time.
fn literal(ip: IpAddr) -> Addresses {
    let found = Some(Ok(Found {
        items: vec![ip],
        ttl: Duration::MAX,
    }));
    let answer = match ip {
        IpAddr::V4(_) => AddressAnswer {
            ipv4: found,
            ipv6: None,
        },
        IpAddr::V6(_) => AddressAnswer {
            ipv4: None,
            ipv6: found,
        },
    };
    Addresses {
        answer,
        error: None,
        via: None,
    }
}

/// Whether the rest of the search list would be asked in vain or by mistake. After a time-out the server does not
/// answer the next name either. When the name that answered last time fails, another name's records (a wildcard
/// under a search domain) must not take its place; NXDOMAIN and NODATA are answers, and the search goes on.
fn stops_search<'a>(
    candidate: &str,
    preferred: Option<&str>,
    mut errors: impl Iterator<Item = &'a LookupError>,
) -> bool {
    errors.any(|error| match error.miss() {
        Miss::Timeout => true,
        Miss::ServFail | Miss::Other => preferred == Some(candidate),
        Miss::NoData | Miss::NxDomain => false,
    })
}

/// Of several names' failures the most alarming one is remembered: one SERVFAIL among NXDOMAINs means "not known".
fn keep_worst<T>(kept: &mut Option<Asked<T>>, new: Option<Asked<T>>) {
    let rank = |asked: &Option<Asked<T>>| match asked {
        Some(Err(error)) => Some(error.miss()),
        _ => None,
    };
    // NODATA says that the name exists, which is more than the NXDOMAIN of another name.
    let is_worse = match (rank(kept), rank(&new)) {
        (Some(Miss::NoData), Some(Miss::NxDomain)) => false,
        (Some(Miss::NxDomain), Some(Miss::NoData)) => true,
        (kept, new) => new > kept,
    };
    if is_worse {
        *kept = new;
    }
}

fn summary(families: Families, via: Option<String>) -> Addresses {
    let error = families
        .iter()
        .flatten()
        .filter_map(|asked| asked.as_ref().err())
        .max_by_key(|e| e.miss())
        .cloned();
    let [ipv4, ipv6] = families.map(|asked| asked.map(|asked| asked.map_err(|error| error.miss())));
    Addresses {
        answer: AddressAnswer { ipv4, ipv6 },
        error,
        via,
    }
}
