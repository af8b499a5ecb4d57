//! The decisions on the way of one connection, by themselves: `cargo bench --bench micro [NAME]`.
//!
//! divan gives the mean cost of each; the table after it gives the distribution of single picks, because the picker's lock
//! is held for one, and a design number says that 99 of 100 take less than a microsecond among 100 endpoints.
//!
//! Time is virtual, 10 us from pick to pick: 100 000 connections a second, at which every 500th pick finds the peers' view
//! older than 5 ms and rebuilds it.

#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "an instrument: it reads the clock and prints"
)]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tidegate::logic;
use tidegate::logic::balance::{
    Affinity, Listing, PickRequest, Picker, PickerSettings, Policy, SlotKey, Standing,
};
use tidegate::logic::endpoint::EndpointId;
use tidegate::logic::peer::{PeerCounts, PoolFacts};
use tidegate::logic::record::{MemberUpdate, Phase, PoolRecord};
use tidegate::logic::{mqtt, proxy_protocol};

// Private to the cluster; here it is compiled once more, as the fuzz targets do with theirs.
#[path = "../src/cluster/codec.rs"]
#[expect(
    dead_code,
    reason = "without a test harness its tests are cut out, not what they use"
)]
mod codec;

const ENDPOINTS: [usize; 4] = [3, 30, 100, 300];
const MEMBERS: [usize; 3] = [1, 3, 10];
/// Between two picks.
const PACE: Duration = Duration::from_micros(10);

fn main() {
    divan::main();
    // `cargo test` and filters ask for less.
    if std::env::args().skip(1).eq(["--bench".to_owned()]) {
        distribution();
    }
}

fn endpoints(count: usize) -> Vec<EndpointId> {
    (0..count)
        .map(|index| {
            let [.., high, low] = index.to_be_bytes();
            EndpointId(SocketAddr::from(([10, 0, high, low], 1883)))
        })
        .collect()
}

/// As a record has them: `count` connections on each endpoint.
fn counts(endpoint_count: usize, count: u32) -> Arc<Vec<(EndpointId, u32)>> {
    let counts = endpoints(endpoint_count).into_iter().map(|id| (id, count));
    Arc::new(counts.collect())
}

/// A picker in the middle of its life, and 1000 connections through it.
struct World {
    picker: Picker,
    now: Instant,
    held: std::collections::VecDeque<SlotKey>,
}

impl World {
    fn new(endpoint_count: usize, members: usize, affinity: Affinity) -> Self {
        let now = Instant::now();
        let settings = PickerSettings {
            policy: Policy::LeastConnections,
            affinity,
            max_connections: None,
            pending_max: 64,
            join_rate: 1_000_000,
        };
        let mut picker = Picker::new(settings, 7, now);
        let listing = |id| Listing {
            id,
            weight: 1,
            priority: 0,
            max_connections: None,
            standing: Standing::Open,
        };
        let listings: Vec<_> = endpoints(endpoint_count).into_iter().map(listing).collect();
        picker.set_endpoints(&listings);
        picker.set_peers("lb-0", peers(endpoint_count, members, now));
        let mut world = Self {
            picker,
            now,
            held: std::collections::VecDeque::new(),
        };
        for _ in 0..1000 {
            world.open(None);
        }
        world
    }

    fn open(&mut self, route_key: Option<&[u8]>) {
        self.now += PACE;
        let request = PickRequest {
            excluded: &[],
            source: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7)),
            route_key,
        };
        let picked = self
            .picker
            .pick(self.now, &request)
            .expect("all are eligible");
        self.picker.established(picked.key, self.now);
        self.held.push_back(picked.key);
    }

    /// One comes, the oldest goes.
    fn turn(&mut self, route_key: Option<&[u8]>) {
        self.open(route_key);
        if let Some(oldest) = self.held.pop_front() {
            self.picker.release(oldest, false);
        }
    }
}

fn peers(endpoint_count: usize, members: usize, now: Instant) -> Vec<PeerCounts> {
    (1..members)
        .map(|member| PeerCounts {
            id: format!("lb-{member}").into(),
            taken_at: now,
            rate: 1000.0,
            counts: counts(endpoint_count, 10),
        })
        .collect()
}

/// A connection's pick, its CONNACK and the end of another one.
#[divan::bench(args = ENDPOINTS, consts = MEMBERS)]
fn pick<const MEMBERS: usize>(bencher: divan::Bencher<'_, '_>, endpoint_count: usize) {
    let mut world = World::new(endpoint_count, MEMBERS, Affinity::None);
    bencher.bench_local(|| world.turn(None));
}

/// The same with affinity by client id.
#[divan::bench(args = ENDPOINTS)]
fn pick_sticky(bencher: divan::Bencher<'_, '_>, endpoint_count: usize) {
    let mut world = World::new(endpoint_count, 3, Affinity::ClientId);
    let mut number = 0_u32;
    bencher.bench_local(|| {
        number += 1;
        world.turn(Some(&number.to_be_bytes()));
    });
}

/// A peer's record arrives, and the next pick.
#[divan::bench(args = ENDPOINTS, consts = MEMBERS)]
fn pick_after_a_record<const MEMBERS: usize>(
    bencher: divan::Bencher<'_, '_>,
    endpoint_count: usize,
) {
    let mut world = World::new(endpoint_count, MEMBERS, Affinity::None);
    bencher
        .with_inputs(|| peers(endpoint_count, MEMBERS, Instant::now()))
        .bench_local_values(|peers| {
            world.picker.set_peers("lb-0", peers);
            world.turn(None);
        });
}

#[divan::bench]
fn connect_decode(bencher: divan::Bencher<'_, '_>) {
    // MQTT 3.1.1, clean, user name and password, client id of 22 bytes.
    let mut packet = vec![0x10, 0, 0, 4, b'M', b'Q', b'T', b'T', 4, 0xc2, 0, 60];
    for text in [
        "sensor-0123456789abcde",
        "user-0001",
        "a-password-of-20-byt",
    ] {
        packet.extend([0, u8::try_from(text.len()).expect("short")]);
        packet.extend_from_slice(text.as_bytes());
    }
    packet[1] = u8::try_from(packet.len() - 2).expect("short");
    bencher.bench_local(|| {
        let decoded = mqtt::decode_connect(divan::black_box(&packet), 65536);
        assert!(matches!(decoded, Ok(mqtt::Decoded::Complete { .. })));
    });
}

fn update(endpoint_count: usize) -> MemberUpdate {
    let facts = PoolFacts {
        counts: counts(endpoint_count, 1234),
        rate: 123.4,
        down: endpoints(1),
        evacuating: Vec::new(),
    };
    let record = PoolRecord {
        version: 1_000_000,
        fingerprint: 42,
        facts,
    };
    MemberUpdate {
        id: "lb-1".into(),
        generation: 1_795_466_502_235_135_509,
        addr: SocketAddr::from(([10, 0, 0, 5], 7946)),
        release: "0.1.0".into(),
        phase: Phase::Serving,
        complete: true,
        sent_us: 1_000_100,
        pools: vec![("emqx".into(), record)],
        drains: Vec::new(),
    }
}

#[divan::bench(args = ENDPOINTS)]
fn record_encode(bencher: divan::Bencher<'_, '_>, endpoint_count: usize) {
    let update = update(endpoint_count);
    bencher.bench_local(|| codec::encode(divan::black_box(&update)).expect("it fits"));
}

#[divan::bench(args = ENDPOINTS)]
fn record_decode(bencher: divan::Bencher<'_, '_>, endpoint_count: usize) {
    let bytes = codec::encode(&update(endpoint_count)).expect("it fits");
    bencher.bench_local(|| codec::decode(divan::black_box(&bytes)).expect("our own"));
}

const HEADER: proxy_protocol::Header<'_> = proxy_protocol::Header {
    source: SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7)), 50123),
    destination: SocketAddr::new(IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1)), 8883),
    tls: Some(proxy_protocol::TlsInfo {
        version: "TLSv1.3",
        cipher: "TLS_AES_256_GCM_SHA384",
        alpn: Some(b"mqtt"),
        authority: Some("mqtt.example.com"),
        client_cn: Some("sensor-0123456789"),
        client_cert_presented: true,
        resumed: false,
        verified: true,
    }),
};

#[divan::bench]
fn proxy_v1_encode() -> Vec<u8> {
    proxy_protocol::encode_v1(divan::black_box(&HEADER))
}

#[divan::bench]
fn proxy_v2_encode() -> Vec<u8> {
    proxy_protocol::encode_v2(divan::black_box(&HEADER))
}

#[divan::bench]
fn proxy_v2_decode(bencher: divan::Bencher<'_, '_>) {
    let bytes = proxy_protocol::encode_v2(&HEADER);
    bencher.bench_local(|| {
        proxy_protocol::decode(divan::black_box(&bytes), 536).expect("our own");
    });
}

/// Single picks, each between two readings of the clock, whose own time is in the figures.
fn distribution() {
    println!("\n| endpoints | members | pick p50, ns | p99 | p99.9 |");
    println!("|---|---|---|---|---|");
    for endpoint_count in ENDPOINTS {
        for members in MEMBERS {
            let mut world = World::new(endpoint_count, members, Affinity::None);
            let mut times: Vec<u128> = (0..200_000)
                .map(|_| {
                    let begun = Instant::now();
                    world.open(None);
                    let taken = begun.elapsed().as_nanos();
                    let oldest = world.held.pop_front().expect("a thousand are held");
                    world.picker.release(oldest, false);
                    taken
                })
                .collect();
            times.sort_unstable();
            let at = |per_mille: usize| times[times.len() * per_mille / 1000];
            println!(
                "| {endpoint_count} | {members} | {} | {} | {} |",
                at(500),
                at(990),
                at(999)
            );
        }
    }
}
