//! One question for one absolute name, and the two questions that make up a name's addresses.

use crate::discovery::error::LookupError;
use crate::discovery::name_servers::Clients;
use crate::logic::dns_answer::{Found, Miss, ServiceRecord};
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use std::net::IpAddr;
use std::time::Duration;

/// How long the slower address family may take after the faster one brought records. A firewall that drops AAAA
/// questions would otherwise hold back every IPv4 answer for two time-outs.
const OTHER_FAMILY_WAIT: Duration = Duration::from_millis(500);

/// One question's records or why there are none.
pub(super) type Asked<T> = Result<Found<T>, LookupError>;
/// The A and the AAAA question; `None`: not asked.
pub(super) type Families = [Option<Asked<IpAddr>>; 2];

/// Both questions at once; the second answer gets [`OTHER_FAMILY_WAIT`] after a good first one.
pub(super) async fn both_families(
    clients: &Clients,
    name: &str,
    ipv4: bool,
    ipv6: bool,
) -> Families {
    let a = ask(clients, name, RecordType::A, |data| match data {
        RData::A(a) => Some(IpAddr::V4(a.0)),
        _ => None,
    });
    let aaaa = ask(clients, name, RecordType::AAAA, |data| match data {
        RData::AAAA(aaaa) => Some(IpAddr::V6(aaaa.0)),
        _ => None,
    });
    match (ipv4, ipv6) {
        (true, true) => {
            let (mut a, mut aaaa) = (Box::pin(a), Box::pin(aaaa));
            tokio::select! {
                first = &mut a => {
                    let second = second_answer(&first, aaaa, name, RecordType::AAAA).await;
                    [Some(first), Some(second)]
                }
                first = &mut aaaa => {
                    let second = second_answer(&first, a, name, RecordType::A).await;
                    [Some(second), Some(first)]
                }
            }
        }
        (true, false) => [Some(Box::pin(a).await), None],
        (false, true) => [None, Some(Box::pin(aaaa).await)],
        (false, false) => [None, None],
    }
}

async fn second_answer(
    first: &Asked<IpAddr>,
    second: impl Future<Output = Asked<IpAddr>>,
    name: &str,
    kind: RecordType,
) -> Asked<IpAddr> {
    if first.is_err() {
        return second.await;
    }
    let late = |_| {
        Err(LookupError::Timeout {
            name: name.to_owned(),
            kind,
        })
    };
    tokio::time::timeout(OTHER_FAMILY_WAIT, second)
        .await
        .unwrap_or_else(late)
}

/// One question for one absolute name.
///
/// hickory takes the first answer of several servers, and a SERVFAIL or REFUSED is an answer: a broken server that is
/// quick hides a good one. So each server is then asked alone. After a time-out all of them had their chance.
pub(super) async fn ask<T>(
    clients: &Clients,
    name: &str,
    kind: RecordType,
    pick: fn(&RData) -> Option<T>,
) -> Asked<T> {
    let mut absolute = Name::from_str_relaxed(name).map_err(|error| LookupError::BadName {
        name: name.to_owned(),
        reason: error.to_string(),
    })?;
    absolute.set_fqdn(true);
    let mut failed = None;
    for client in &clients.in_turn {
        let error = match client.lookup(absolute.clone(), kind).await {
            Ok(lookup) => {
                let records = lookup.answers().iter();
                // CNAME records on the way count: the alias may be what changes.
                let on_the_way = records
                    .clone()
                    .filter(|r| [kind, RecordType::CNAME].contains(&r.record_type()));
                let ttl = Duration::from_secs(
                    on_the_way
                        .map(|record| record.ttl)
                        .min()
                        .unwrap_or(0)
                        .into(),
                );
                let items: Vec<T> = records.filter_map(|record| pick(&record.data)).collect();
                if items.is_empty() {
                    return Err(LookupError::NoRecords {
                        name: name.to_owned(),
                        kind,
                    });
                }
                return Ok(Found { items, ttl });
            }
            Err(error) => LookupError::new(&error, &absolute, kind),
        };
        match error.miss() {
            Miss::ServFail | Miss::Other => failed = failed.or(Some(error)),
            Miss::Timeout | Miss::NoData | Miss::NxDomain => return Err(error),
        }
    }
    let none = || LookupError::NoNameServer("the list is empty".to_owned());
    Err(failed.unwrap_or_else(none))
}

/// The SRV records of an answer.
pub(super) fn service_record(data: &RData) -> Option<ServiceRecord> {
    match data {
        RData::SRV(srv) => Some(ServiceRecord {
            host: srv
                .target
                .to_ascii()
                .trim_end_matches('.')
                .to_ascii_lowercase(),
            port: srv.port,
            priority: srv.priority,
            weight: srv.weight,
        }),
        _ => None,
    }
}
