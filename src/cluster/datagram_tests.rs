//! Claims about sealed datagrams.
#![expect(
    clippy::disallowed_methods,
    reason = "an arbitrary origin for virtual time"
)]

use super::*;
use crate::cluster::keyring::generate_key;
use proptest::prelude::*;

const NOW_MS: u64 = 1_700_000_000_000;

struct Bench {
    keyring: Keyring,
    cluster: ClusterTag,
    replay: ReplayWindow,
    now: Instant,
}

impl Bench {
    fn new() -> Self {
        Self {
            keyring: Keyring::new(&[generate_key().unwrap()]).unwrap(),
            cluster: ClusterTag::new("tier"),
            replay: ReplayWindow::default(),
            now: Instant::now(),
        }
    }

    fn seal(&self, counter: u64, body: &[u8]) -> Vec<u8> {
        let envelope = Envelope {
            kind: Kind::Push,
            part: 0,
            parts: 1,
            session: [3; 16],
            counter,
        };
        seal(&self.keyring, &self.cluster, &envelope, NOW_MS, body).unwrap()
    }

    fn open(&mut self, datagram: &[u8]) -> Result<Vec<u8>, Reject> {
        let mut copy = datagram.to_vec();
        open(
            &self.keyring,
            &self.cluster,
            &mut self.replay,
            NOW_MS,
            self.now,
            &mut copy,
        )
        .map(|(_, body)| body.to_vec())
    }
}

#[test]
fn what_is_sealed_opens_once() {
    let mut bench = Bench::new();
    let datagram = bench.seal(1, b"facts");
    assert_eq!(datagram.len(), 5 + OVERHEAD_BYTES);
    assert_eq!(bench.open(&datagram), Ok(b"facts".to_vec()));
    assert_eq!(bench.open(&datagram), Err(Reject::Replay));
}

#[test]
fn every_single_flipped_bit_is_refused() {
    let mut bench = Bench::new();
    let datagram = bench.seal(1, b"facts");
    for bit in 0..datagram.len() * 8 {
        let mut altered = datagram.clone();
        altered[bit / 8] ^= 1 << (bit % 8);
        assert!(bench.open(&altered).is_err(), "bit {bit}");
    }
    assert!(
        bench.open(&datagram).is_ok(),
        "and none of them used up the counter"
    );
}

#[test]
fn each_mistake_has_its_reason() {
    let mut bench = Bench::new();
    let good = bench.seal(1, b"facts");
    let altered = |at: usize| {
        let mut copy = good.clone();
        copy[at] ^= 1;
        copy
    };
    for (claim, datagram, reason) in [
        ("empty", Vec::new(), Reject::Short),
        (
            "one byte short",
            good[..OVERHEAD_BYTES - 1].to_vec(),
            Reject::Short,
        ),
        ("truncated", good[..good.len() - 1].to_vec(), Reject::Auth),
        ("magic", altered(0), Reject::Version),
        ("format version", altered(1), Reject::Version),
        ("cluster tag", altered(8), Reject::Cluster),
        ("key id", altered(12), Reject::Key),
        (
            "timestamp moved within the window",
            altered(16),
            Reject::Auth,
        ),
        ("body", altered(HEADER_BYTES), Reject::Auth),
        ("kind", altered(2), Reject::Auth),
    ] {
        assert_eq!(bench.open(&datagram), Err(reason), "{claim}");
    }
    let other = Bench::new();
    assert_eq!(bench.open(&other.seal(1, b"facts")), Err(Reject::Key));
    bench.cluster = ClusterTag::new("another tier");
    assert_eq!(bench.open(&good), Err(Reject::Cluster));
}

#[test]
fn an_authentic_datagram_of_an_unknown_kind_is_told_apart() {
    let mut bench = Bench::new();
    let mut datagram = bench.seal(1, b"");
    // Seal again by hand with kind 9.
    datagram.truncate(HEADER_BYTES);
    datagram[2] = 9;
    let associated = bench.cluster.associated(&datagram);
    let nonce = field(&datagram, 24);
    let tag = bench
        .keyring
        .sealing(|_, key| key.seal(&nonce, &associated, &mut []).unwrap())
        .unwrap();
    datagram.extend_from_slice(&tag);
    assert_eq!(bench.open(&datagram), Err(Reject::Kind));
}

#[test]
fn a_cluster_id_with_the_same_tag_still_does_not_open() {
    let mut bench = Bench::new();
    let good = bench.seal(1, b"facts");
    bench.cluster = ClusterTag {
        id: (*b"other").into(),
        tag: bench.cluster.tag,
    };
    assert_eq!(bench.open(&good), Err(Reject::Auth));
}

#[test]
fn the_time_window_is_thirty_seconds_both_ways() {
    for (shift_ms, expected) in [
        (-30_001, false),
        (-30_000, true),
        (30_000, true),
        (30_001, false),
    ] {
        let mut bench = Bench::new();
        let mut datagram = bench.seal(1, b"facts");
        let at = NOW_MS.checked_add_signed(shift_ms).unwrap();
        let opened = open(
            &bench.keyring,
            &bench.cluster,
            &mut bench.replay,
            at,
            bench.now,
            &mut datagram,
        );
        assert_eq!(opened.is_ok(), expected, "{shift_ms}");
        if !expected {
            assert_eq!(opened.unwrap_err(), Reject::Stale);
        }
    }
}

#[test]
fn labels_are_in_the_order_of_the_index() {
    for (index, reason) in Reject::ALL.into_iter().enumerate() {
        assert_eq!(reason.index(), index, "{}", reason.label());
    }
    for (index, kind) in Kind::ALL.into_iter().enumerate() {
        assert_eq!(kind.index(), index, "{}", kind.label());
        assert_eq!(Kind::from_code(kind as u8), Some(kind));
    }
}

proptest! {
    #[test]
    fn noise_never_opens(mut noise in proptest::collection::vec(any::<u8>(), 0..200), prefix in any::<bool>()) {
        let mut bench = Bench::new();
        if prefix {
            // Noise that knows the clear part of the header.
            let good = bench.seal(1, b"");
            for (byte, known) in noise.iter_mut().zip(&good[..24]) {
                *byte = *known;
            }
        }
        prop_assert!(bench.open(&noise).is_err());
    }
}
