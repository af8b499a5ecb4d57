//! What an attacker on the network, and a broken member inside, can and cannot do.

use super::tier::{CLUSTER_ID, Instance, Tier};
use super::{believed, believes};
use crate::cluster::datagram::{ClusterTag, Kind, OVERHEAD_BYTES};
use crate::cluster::keyring::Keyring;
use crate::cluster::transport::Wire;
use crate::cluster::{Reject, Stats, generate_key, system_clock};
use crate::logic::secret::Secret;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UdpSocket;

/// Somebody with a socket and keys of some cluster.
fn stranger(cluster: &str, keys: &[Secret]) -> Wire {
    let keyring = Arc::new(Keyring::new(keys).unwrap());
    let bind = ([127, 0, 0, 1], 0).into();
    Wire::bind(
        bind,
        ClusterTag::new(cluster),
        keyring,
        system_clock(),
        Arc::new(Stats::default()),
    )
    .unwrap()
}

/// Waits for a counter, which has no watch, in steps of the gossip interval and with a bound.
pub(super) async fn counted(instance: &Instance, reason: Reject, least: u64) {
    eventually(reason.label(), || {
        instance.cluster.stats().rejected(reason) >= least
    })
    .await;
}

async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(
        tokio::time::timeout(Duration::from_secs(15), waiting)
            .await
            .is_ok(),
        "{what}"
    );
}

/// An Ack of chitchat's protocol that sets one key of one member: forged, 72 bytes with a name of 9 letters.
fn forged_ack(name: &str, generation: u64, addr: SocketAddr, key: &str) -> Vec<u8> {
    let text = |text: &str| {
        let mut bytes = u16::try_from(text.len()).unwrap().to_le_bytes().to_vec();
        bytes.extend_from_slice(text.as_bytes());
        bytes
    };
    let SocketAddr::V4(addr) = addr else {
        panic!("IPv4 only")
    };
    let mut operations = vec![0];
    operations.extend(text(name));
    operations.extend(generation.to_le_bytes());
    operations.push(4);
    operations.extend(addr.ip().octets());
    operations.extend(addr.port().to_le_bytes());
    // Last garbage collection, base version.
    operations.extend([0; 16]);
    operations.push(1);
    operations.extend(text(key));
    operations.extend(text("forged"));
    operations.extend(1_000_000u64.to_le_bytes());
    operations.push(0);
    let mut message = 45_139u16.to_le_bytes().to_vec();
    message.extend([0, 2, 2]);
    message.extend(u16::try_from(operations.len()).unwrap().to_le_bytes());
    message.extend(operations);
    message.push(0);
    message
}

/// As large as UDP takes: a message whose blocks claim to be compressed.
fn bomb() -> Vec<u8> {
    let mut message = 45_139u16.to_le_bytes().to_vec();
    message.extend([0, 2]);
    // Any block header; chitchat would allocate before it found out.
    message.extend([1, 255, 255].iter().cycle().take(65_000));
    message
}

#[tokio::test]
async fn nothing_that_is_not_sealed_for_this_cluster_changes_anything() {
    let tier = Tier::new();
    let [a, b, c] = tier.start_three().await;
    c.hold(4);
    believes(&a, &[("b", 0), ("c", 4)]).await;
    let before = a.view().members.len();
    let target = a.cluster.addr();
    let plain = UdpSocket::bind("127.0.0.1:0").await.unwrap();

    // The known killers of bare chitchat: each would end its task, or overwrite a member's state.
    let generation = b.member("a").generation;
    for killer in [
        forged_ack("a", generation, target, "é"),
        forged_ack("c", 1, target, "pool:emqx"),
        bomb(),
    ] {
        plain.send_to(&killer, target).await.unwrap();
    }
    counted(&a, Reject::Version, 3).await;
    plain.send_to(&[], target).await.unwrap();
    plain
        .send_to(&[0x7D; OVERHEAD_BYTES - 1], target)
        .await
        .unwrap();
    counted(&a, Reject::Short, 2).await;

    let foreign_key = stranger(CLUSTER_ID, &[generate_key().unwrap()]);
    foreign_key.send(target, Kind::Push, &foreign_key.seal(Kind::Push, b"facts"));
    counted(&a, Reject::Key, 1).await;
    let foreign_cluster = stranger("another", tier.keys());
    foreign_cluster.send(
        target,
        Kind::Push,
        &foreign_cluster.seal(Kind::Push, b"facts"),
    );
    counted(&a, Reject::Cluster, 1).await;

    // A datagram of b: truncated, altered, then recorded and played again.
    let real = b.cluster.wire().seal(Kind::Gossip, b"not a gossip message");
    plain
        .send_to(&real[0][..real[0].len() - 1], target)
        .await
        .unwrap();
    let mut altered = real[0].clone();
    altered[50] ^= 1;
    plain.send_to(&altered, target).await.unwrap();
    counted(&a, Reject::Auth, 2).await;
    plain.send_to(&real[0], target).await.unwrap();
    counted(&a, Reject::Decode, 1).await;
    plain.send_to(&real[0], target).await.unwrap();
    counted(&a, Reject::Replay, 1).await;

    c.hold(5);
    believes(&a, &[("b", 0), ("c", 5)]).await;
    assert_eq!(a.view().members.len(), before);
    assert_eq!(a.cluster.stats().restarts(), 0);
}

#[tokio::test]
async fn a_flood_of_noise_does_not_silence_the_tier() {
    let tier = Tier::new();
    let [a, b, c] = tier.start_three().await;
    let plain = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let noise = vec![0x7D; 60_000];
    let flooding = async {
        loop {
            for _ in 0..20 {
                plain.send_to(&noise, a.cluster.addr()).await.unwrap();
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let living = async {
        for count in 1..20 {
            c.hold(count);
            believes(&a, &[("b", 0), ("c", count)]).await;
            a.hold(count);
            believes(&b, &[("a", count), ("c", count)]).await;
        }
    };
    tokio::select! {
        () = flooding => {}
        () = living => {}
    }
    assert!(a.cluster.stats().rejected(Reject::Version) > 0);
}

#[tokio::test]
async fn a_gossip_task_that_a_member_kills_is_started_again() {
    let tier = Tier::new();
    let [a, b, c] = tier.start_three().await;
    c.hold(4);
    believes(&a, &[("b", 0), ("c", 4)]).await;
    let first = b.member("a").generation;
    // Authentic, decodable, and chitchat panics on the key: it slices a character in two.
    let insider = stranger(CLUSTER_ID, tier.keys());
    let c_generation = a.member("c").generation;
    let killer = forged_ack("c", c_generation, c.cluster.addr(), "é");
    insider.send(
        a.cluster.addr(),
        Kind::Gossip,
        &insider.seal(Kind::Gossip, &killer),
    );
    eventually("a restart", || a.cluster.stats().restarts() > 0).await;
    b.until("a's new generation", |view| {
        view.members
            .iter()
            .any(|member| &*member.id == "a" && member.generation > first && member.state.counts())
    })
    .await;
    a.hold(6);
    believes(&b, &[("a", 6), ("c", 4)]).await;
    believes(&a, &[("b", 0), ("c", 4)]).await;
}

#[tokio::test]
async fn authentic_nonsense_is_counted_and_dropped() {
    let tier = Tier::new();
    let [a, _b, _c] = tier.start_three().await;
    let before = believed(&a);
    let insider = stranger(CLUSTER_ID, tier.keys());
    for (kind, message, reason) in [
        (Kind::Gossip, &b"nonsense"[..], Reject::Decode),
        (Kind::Push, b"\x01nonsense", Reject::Decode),
        (Kind::Push, b"\x02a later release", Reject::RecordVersion),
    ] {
        let count = a.cluster.stats().rejected(reason);
        insider.send(a.cluster.addr(), kind, &insider.seal(kind, message));
        counted(&a, reason, count + 1).await;
    }
    assert_eq!(believed(&a), before);
    assert_eq!(a.cluster.stats().restarts(), 0);
}

#[tokio::test]
async fn two_instances_of_one_name_are_told_apart_and_counted() {
    let tier = Tier::new();
    let a = tier.start("a").await;
    a.until("its own generation", |view| view.own_generation > 0)
        .await;
    let b = tier.start("b").await;
    b.until("a", |view| !view.is_alone()).await;
    let twin = tier.start("a").await;
    counted(&a, Reject::Name, 1).await;
    assert_eq!(b.view().members.len(), 1, "one name is one member");
    drop(twin);
}
