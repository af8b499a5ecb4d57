//! The whole discovery task against a DNS server on loopback: what the pool is told, and what it is not.

#[path = "../../tests/support/dns.rs"]
mod dns_server;

use crate::discovery::name_servers::Origin;
use crate::discovery::{
    DnsSettings, DnsSource, FixedEndpoint, LookupError, Resolver, Source, Status, spawn,
};
use crate::logic::dns_answer::Miss;
use crate::logic::event::PoolEvent;
use dns_server::{DnsServer, Failure, RecordType, Service};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

const NAME: &str = "brokers.test";
const ONE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const TWO: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const SIX: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 6);
/// Far beyond what loopback needs; only a broken build waits for it.
const PATIENCE: Duration = Duration::from_secs(20);

/// TTL 0 is asked again after 20 ms, a failure after as long.
fn settings(servers: Vec<SocketAddr>) -> DnsSettings {
    DnsSettings {
        servers,
        timeout: Duration::from_millis(300),
        ttl_floor: Duration::from_millis(20),
        ttl_ceiling: Duration::from_millis(60),
        retry: Duration::from_millis(20),
    }
}

async fn server() -> DnsServer {
    DnsServer::start("127.0.0.1:0".parse().unwrap())
        .await
        .unwrap()
}

fn addresses(name: &str) -> Source {
    Source::Dns(DnsSource::Addresses {
        name: name.to_owned(),
        port: 1883,
        ipv4: true,
        ipv6: true,
    })
}

/// A running discovery task, seen from its pool.
struct Pool {
    events: mpsc::Receiver<PoolEvent>,
    status: watch::Receiver<Status>,
    tracker: TaskTracker,
    cancel: CancellationToken,
}

impl Pool {
    fn discovering(source: Source, dns: &Resolver) -> Self {
        let (to_pool, events) = mpsc::channel(8);
        let (status_sender, status) = watch::channel(Status::default());
        let (tracker, cancel) = (TaskTracker::new(), CancellationToken::new());
        spawn(
            "test",
            source,
            dns,
            to_pool,
            status_sender,
            &tracker,
            &cancel,
        );
        tracker.close();
        Self {
            events,
            status,
            tracker,
            cancel,
        }
    }

    fn asking(server: &DnsServer) -> Self {
        Self::discovering(
            addresses(NAME),
            &Resolver::new(&settings(vec![server.addr()])),
        )
    }

    async fn told_targets(&mut self) -> Vec<crate::logic::endpoint::Target> {
        let event = tokio::time::timeout(PATIENCE, self.events.recv())
            .await
            .expect("an event");
        match event {
            Some(PoolEvent::Resolved(targets)) => targets,
            other => panic!("expected a resolved list, got {other:?}"),
        }
    }

    /// The endpoints of the next event.
    async fn told(&mut self) -> Vec<String> {
        self.told_targets()
            .await
            .iter()
            .map(|target| target.id.to_string())
            .collect()
    }

    async fn until(&mut self, reached: impl FnMut(&Status) -> bool) -> Status {
        let status = tokio::time::timeout(PATIENCE, self.status.wait_for(reached));
        status
            .await
            .expect("the status in time")
            .expect("a running task")
            .clone()
    }

    /// Waits for two more look-ups of this outcome and checks that the pool heard nothing.
    async fn stays_quiet_through(&mut self, miss: Miss) -> Status {
        let outcome = miss.index();
        let before = self.status.borrow().lookups[outcome];
        let status = self
            .until(|status| status.lookups[outcome] >= before + 2)
            .await;
        assert!(
            self.events.try_recv().is_err(),
            "{miss:?} must tell nothing"
        );
        status
    }
}

#[tokio::test]
async fn endpoints_are_told_when_added_and_removed() {
    let server = server().await;
    server.set_a(NAME, vec![ONE], 0);
    let mut pool = Pool::asking(&server);
    let targets = pool.told_targets().await;
    assert_eq!(targets.len(), 1);
    assert_eq!(
        (targets[0].id.to_string().as_str(), targets[0].name.as_str()),
        ("10.0.0.1:1883", NAME)
    );

    server.set_a(NAME, vec![TWO, ONE], 0);
    assert_eq!(pool.told().await, ["10.0.0.1:1883", "10.0.0.2:1883"]);
    server.set_a(NAME, vec![TWO], 0);
    assert_eq!(pool.told().await, ["10.0.0.2:1883"]);

    let status = pool.until(|status| status.lookups[0] > 3).await;
    assert_eq!(
        (status.endpoints, status.stale_since, status.last_error),
        (1, None, None)
    );
    assert!(
        pool.events.try_recv().is_err(),
        "an unchanged answer tells nothing"
    );
}

#[tokio::test]
async fn failures_keep_the_last_good_set() {
    let server = server().await;
    server.set_a(NAME, vec![ONE, TWO], 0);
    let mut pool = Pool::asking(&server);
    pool.told().await;
    for (failure, miss, says) in [
        (Failure::NxDomain, Miss::NxDomain, "NXDOMAIN"),
        (Failure::Empty, Miss::NoData, "no A"),
        (Failure::ServFail, Miss::ServFail, "SERVFAIL"),
        (Failure::Refused, Miss::Other, "Query Refused"),
        (Failure::Silent, Miss::Timeout, "in time"),
    ] {
        server.fail(NAME, failure);
        let status = pool.stays_quiet_through(miss).await;
        assert!(
            status.stale_since.is_some() && status.endpoints == 2,
            "{failure:?} {status:?}"
        );
        let error = status.last_error.unwrap();
        assert!(
            error.contains(says) || (miss == Miss::NoData && error.contains("no AAAA")),
            "{failure:?}: {error}"
        );
        server.heal(NAME);
        pool.until(|status| status.stale_since.is_none()).await;
    }
    server.set_a(NAME, vec![TWO], 0);
    assert_eq!(pool.told().await, ["10.0.0.2:1883"]);
}

#[tokio::test]
async fn one_family_fails_and_the_other_is_still_followed() {
    let server = server().await;
    server.set_a(NAME, vec![ONE], 0);
    server.set_aaaa(NAME, vec![SIX], 0);
    let mut pool = Pool::asking(&server);
    assert_eq!(pool.told().await, ["10.0.0.1:1883", "[fd00::6]:1883"]);

    server.fail_only(NAME, RecordType::AAAA, Failure::ServFail);
    server.set_a(NAME, vec![TWO], 0);
    // `set_a` ends failures of the whole name only; AAAA stays broken.
    assert_eq!(pool.told().await, ["10.0.0.2:1883", "[fd00::6]:1883"]);
    pool.stays_quiet_through(Miss::ServFail).await;

    server.fail_only(NAME, RecordType::AAAA, Failure::Empty);
    assert_eq!(
        pool.told().await,
        ["10.0.0.2:1883"],
        "NODATA beside records is an answer"
    );
    pool.until(|status| status.stale_since.is_none()).await;
}

#[tokio::test]
async fn silent_family_does_not_hold_back_the_other() {
    let server = server().await;
    server.set_a(NAME, vec![ONE], 0);
    server.fail_only(NAME, RecordType::AAAA, Failure::Silent);
    let patient = DnsSettings {
        timeout: PATIENCE * 2,
        ..settings(vec![server.addr()])
    };
    let mut pool = Pool::discovering(addresses(NAME), &Resolver::new(&patient));
    assert_eq!(pool.told().await, ["10.0.0.1:1883"]);
    assert!(pool.status.borrow().stale_since.is_none());
}

#[tokio::test]
async fn dns_may_come_up_later() {
    let down = server().await;
    let addr = down.addr();
    down.stop().await;
    let mut pool = Pool::discovering(addresses(NAME), &Resolver::new(&settings(vec![addr])));
    let status = pool.stays_quiet_through(Miss::Timeout).await;
    assert!(status.last_success.is_none() && status.stale_since.is_some());

    let up = DnsServer::start(addr).await.unwrap();
    up.set_a(NAME, vec![ONE], 0);
    assert_eq!(pool.told().await, ["10.0.0.1:1883"]);
    pool.until(|status| status.last_success.is_some()).await;
}

#[tokio::test]
async fn ttl_over_the_ceiling_is_asked_again_at_the_ceiling() {
    let server = server().await;
    server.set_a(NAME, vec![ONE], 86_400);
    let mut pool = Pool::asking(&server);
    pool.told().await;
    server.set_a(NAME, vec![TWO], 86_400);
    assert_eq!(
        pool.told().await,
        ["10.0.0.2:1883"],
        "no cache may stand in between"
    );
}

fn service(host: &str, port: u16, priority: u16, weight: u16) -> Service {
    Service {
        priority,
        weight,
        port,
        host: host.to_owned(),
    }
}

#[tokio::test]
async fn srv_gives_port_priority_and_weight_and_keeps_each_host() {
    const SRV: &str = "_mqtt._tcp.brokers.test";
    let server = server().await;
    server.set_srv(
        SRV,
        vec![service("a.test", 1883, 0, 0), service("B.test", 1884, 1, 7)],
        0,
    );
    server.set_a("a.test", vec![ONE], 0);
    server.set_a("b.test", vec![TWO], 0);
    let dns = Resolver::new(&settings(vec![server.addr()]));
    let mut pool = Pool::discovering(
        Source::Dns(DnsSource::Srv {
            name: SRV.to_owned(),
        }),
        &dns,
    );
    let mut targets = pool.told_targets().await;
    if targets.len() < 2 {
        // One host's answer was lost on a busy machine; the next round has both.
        targets = pool.told_targets().await;
    }
    let seen: Vec<_> = targets
        .iter()
        .map(|t| (t.id.to_string(), t.priority, t.weight, t.name.as_str()))
        .collect();
    let expected = [
        ("10.0.0.1:1883".to_owned(), 0, 1, "a.test"),
        ("10.0.0.2:1884".to_owned(), 1, 7, "b.test"),
    ];
    assert_eq!(seen, expected);

    server.fail("b.test", Failure::ServFail);
    pool.stays_quiet_through(Miss::ServFail).await;
    server.heal("b.test");
    server.fail(SRV, Failure::NxDomain);
    pool.stays_quiet_through(Miss::NxDomain).await;
    server.set_srv(SRV, vec![service("b.test", 1884, 1, 7)], 0);
    assert_eq!(pool.told().await, ["10.0.0.2:1884"]);
}

#[tokio::test]
async fn changed_resolv_conf_is_read_again() {
    let first = server().await;
    let second_addr = SocketAddr::from(([127, 0, 0, 2], first.addr().port()));
    let second = DnsServer::start(second_addr).await.unwrap();
    first.set_a("broker.one.test", vec![ONE], 0);
    second.set_a("broker.two.test", vec![TWO], 0);
    let dir = std::env::temp_dir().join(format!("tidegate-resolv-{}", fastrand::u64(..)));
    std::fs::create_dir(&dir).unwrap();
    let resolv_conf = dir.join("resolv.conf");
    let origin = Origin::System {
        resolv_conf: resolv_conf.clone(),
        port: first.addr().port(),
    };
    let dns = Resolver::with_origin(&settings(Vec::new()), origin);
    // A compose service: no dots, found by the search list.
    let mut pool = Pool::discovering(addresses("broker"), &dns);
    let status = pool.stays_quiet_through(Miss::Other).await;
    assert!(
        status.last_error.unwrap().contains("resolv.conf"),
        "not there yet, and said so"
    );

    std::fs::write(
        &resolv_conf,
        "nameserver 127.0.0.1\nsearch none.test one.test\n",
    )
    .unwrap();
    assert_eq!(pool.told().await, ["10.0.0.1:1883"]);
    std::fs::write(&resolv_conf, "not a resolv.conf\n").unwrap();
    let before = pool.status.borrow().lookups[0];
    pool.until(|status| status.lookups[0] > before + 1).await;
    std::fs::write(&resolv_conf, "nameserver 127.0.0.2\nsearch two.test\n").unwrap();
    assert_eq!(pool.told().await, ["10.0.0.2:1883"]);
    std::fs::remove_dir_all(&dir).unwrap();
}

#[tokio::test]
async fn answer_too_large_for_a_datagram_comes_by_tcp() {
    let server = server().await;
    server.set_a(
        NAME,
        (0..300u16)
            .map(|n| Ipv4Addr::from(0x0a00_0000 + u32::from(n)))
            .collect(),
        0,
    );
    let mut pool = Pool::asking(&server);
    assert_eq!(pool.told().await.len(), 300);
}

#[tokio::test]
async fn quick_refusal_of_one_server_does_not_hide_the_other() {
    let (bad, good) = (server().await, server().await);
    bad.fail(NAME, Failure::Refused);
    good.set_a(NAME, vec![ONE], 0);
    let dns = Resolver::new(&settings(vec![bad.addr(), good.addr()]));
    for _ in 0..5 {
        assert_eq!(
            dns.lookup_addrs(NAME, 1).await.unwrap(),
            ["10.0.0.1:1".parse().unwrap()]
        );
    }
}

#[tokio::test]
async fn seeds_are_looked_up_once_with_their_error() {
    let server = server().await;
    server.set_a(NAME, vec![TWO, ONE, ONE], 0);
    server.set_aaaa(NAME, vec![SIX], 0);
    server.set_srv("_gossip._udp.test", vec![service(NAME, 7947, 0, 0)], 0);
    let dns = Resolver::new(&settings(vec![server.addr()]));
    let addrs = |texts: &[&str]| -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    };
    assert_eq!(
        dns.lookup_addrs(NAME, 7).await.unwrap(),
        addrs(&["10.0.0.1:7", "10.0.0.2:7", "[fd00::6]:7"])
    );
    assert_eq!(
        dns.lookup_srv("_gossip._udp.test").await.unwrap(),
        addrs(&["10.0.0.1:7947", "10.0.0.2:7947", "[fd00::6]:7947"])
    );
    assert_eq!(
        dns.lookup_addrs("192.0.2.1", 7).await.unwrap(),
        addrs(&["192.0.2.1:7"])
    );
    let error = dns.lookup_addrs("none.test", 7).await.unwrap_err();
    assert!(matches!(error, LookupError::NoSuchName(_)), "{error}");
    let error = dns.lookup_srv(NAME).await.unwrap_err();
    assert!(
        matches!(
            error,
            LookupError::NoRecords {
                kind: RecordType::SRV,
                ..
            }
        ),
        "{error}"
    );
    let error = dns.lookup_addrs("no name", 7).await.unwrap_err();
    assert!(
        matches!(error.miss(), Miss::Other | Miss::NxDomain),
        "{error}"
    );
}

#[tokio::test]
async fn fixed_list_is_told_once_and_cancel_ends_the_other() {
    let endpoint = FixedEndpoint {
        addr: "10.0.0.1:1883".parse().unwrap(),
        weight: 3,
        max_connections: Some(9),
    };
    let server = server().await;
    let dns = Resolver::new(&settings(vec![server.addr()]));
    let mut pool = Pool::discovering(Source::Fixed(vec![endpoint]), &dns);
    let targets = pool.told_targets().await;
    assert_eq!(
        (targets[0].weight, targets[0].max_connections),
        (3, Some(9))
    );
    assert_eq!(pool.status.borrow().endpoints, 1);
    pool.tracker.wait().await;
    assert_eq!(server.queries(), 0);

    let pool = Pool::asking(&server);
    pool.cancel.cancel();
    pool.tracker.wait().await;
}
