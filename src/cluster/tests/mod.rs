//! Whole clusters in one process, over real UDP on loopback. Waits are on the published views, with a bound.

mod attack;
mod tier;

use super::Reject;
use crate::logic::endpoint::EndpointId;
use crate::logic::member::{ClusterView, MemberState};
use std::sync::Arc;
use std::time::Duration;
use tier::{Instance, Tier, endpoint};

/// How many connections of each peer an instance believes in.
fn believed(instance: &Instance) -> Vec<(String, u32)> {
    let sum = |counts: &[(EndpointId, u32)]| counts.iter().map(|(_, count)| count).sum();
    let view = instance.view();
    view.peer_counts("emqx")
        .into_iter()
        .map(|peer| (peer.id.to_string(), sum(&peer.counts)))
        .collect()
}

async fn believes(instance: &Instance, expected: &[(&str, u32)]) {
    let expected: Vec<(String, u32)> = expected
        .iter()
        .map(|(id, count)| ((*id).to_owned(), *count))
        .collect();
    instance
        .until("counts of the peers", |_| believed(instance) == expected)
        .await;
}

#[tokio::test]
async fn three_instances_find_each_other_and_see_each_others_counts() {
    let tier = Tier::new();
    let [a, b, c] = tier.start_three().await;
    a.hold(5);
    b.hold(7);
    c.hold(11);
    believes(&a, &[("b", 7), ("c", 11)]).await;
    believes(&b, &[("a", 5), ("c", 11)]).await;
    believes(&c, &[("a", 5), ("b", 7)]).await;
    assert!(!a.view().is_alone());
    assert_eq!(&*a.view().members[0].release, "test");
    for instance in [&a, &b, &c] {
        assert_eq!(instance.cluster.stats().rejected_total(), 0);
        assert_eq!(instance.cluster.stats().restarts(), 0);
    }
}

#[tokio::test]
async fn an_instance_without_peers_serves_alone_and_says_so() {
    let tier = Tier::new();
    let a = tier.start("a").await;
    a.until("its own generation", |view| view.own_generation > 0)
        .await;
    assert!(a.view().is_alone());
    let b = tier.start("b").await;
    b.until_state("a", MemberState::Alive).await;
    a.until("company", |view| !view.is_alone()).await;
    b.kill().await;
    a.until("being alone again", ClusterView::is_alone).await;
}

#[tokio::test]
async fn a_killed_instance_is_dropped_and_its_restart_is_counted_once() {
    let tier = Tier::new();
    let [a, b, c] = tier.start_three().await;
    c.hold(4);
    believes(&a, &[("b", 0), ("c", 4)]).await;
    let first = a.member("c").generation;
    c.kill().await;
    a.until_state("c", MemberState::Lost).await;
    believes(&b, &[("a", 0)]).await;
    let c = tier.start("c").await;
    c.hold(3);
    believes(&a, &[("b", 0), ("c", 3)]).await;
    assert!(a.member("c").generation > first);
    assert_eq!(a.view().members.len(), 2);
}

#[tokio::test]
async fn a_restart_before_the_death_is_seen_never_adds_two_generations() {
    let tier = Tier::new();
    let [a, _b, c] = tier.start_three().await;
    c.hold(4);
    believes(&a, &[("b", 0), ("c", 4)]).await;
    let mut views = a.cluster.view();
    let watch = async {
        loop {
            views.changed().await.unwrap();
            let count: u32 = views
                .borrow_and_update()
                .records("emqx")
                .map(|(_, held)| held.record.facts.counts[0].1)
                .sum();
            assert!(count <= 4, "{count}");
            if count == 3 {
                break;
            }
        }
    };
    let restart = async {
        c.kill().await;
        let c = tier.start("c").await;
        c.hold(3);
        c
    };
    let (_c, ()) = tokio::join!(restart, watch);
}

#[tokio::test]
async fn a_goodbye_drops_the_counts_at_once_and_leaving_does_not() {
    let tier = Tier::new();
    let [a, b, c] = tier.start_three().await;
    c.hold(4);
    believes(&a, &[("b", 0), ("c", 4)]).await;
    c.cluster.announce_leaving().unwrap();
    a.until_state("c", MemberState::Leaving).await;
    believes(&a, &[("b", 0), ("c", 4)]).await;
    c.hold(2);
    believes(&a, &[("b", 0), ("c", 2)]).await;
    c.cluster.leave().await;
    // Told directly: the failure detector would call it lost.
    a.until_state("c", MemberState::Gone).await;
    b.until_state("c", MemberState::Gone).await;
    believes(&a, &[("b", 0)]).await;
    assert!(
        c.view().is_alone(),
        "whoever has left believes nobody any more"
    );
    c.ended().await;
    c.cluster.leave().await;
}

#[tokio::test]
async fn a_partition_halves_the_tier_and_heals_without_a_restart() {
    let tier = Tier::new();
    let [a, b, c] = tier.start_three().await;
    a.hold(1);
    b.hold(2);
    c.hold(4);
    believes(&a, &[("b", 2), ("c", 4)]).await;
    for other in [&a, &b] {
        c.cut_off(other);
        other.cut_off(&c);
    }
    believes(&a, &[("b", 2)]).await;
    believes(&b, &[("a", 1)]).await;
    c.until("being alone", ClusterView::is_alone).await;
    c.hold(8);
    for instance in [&a, &b, &c] {
        instance.heal();
    }
    believes(&a, &[("b", 2), ("c", 8)]).await;
    believes(&c, &[("a", 1), ("b", 2)]).await;
    assert_eq!(c.cluster.stats().restarts(), 0);
}

#[tokio::test]
async fn a_drain_survives_the_instance_where_it_was_said() {
    let tier = Tier::new();
    let [a, b, c] = tier.start_three().await;
    a.cluster.set_drain("emqx", endpoint(1), true).unwrap();
    a.cluster.set_drain("emqx", endpoint(2), true).unwrap();
    b.until("two drains", |view| view.drained("emqx").len() == 2)
        .await;
    c.until("two drains", |view| view.drained("emqx").len() == 2)
        .await;
    a.kill().await;
    b.until_state("a", MemberState::Lost).await;
    c.cluster.set_drain("emqx", endpoint(2), false).unwrap();
    b.until("one drain", |view| {
        view.drained("emqx") == [endpoint(1)].into()
    })
    .await;
    let d = tier.start("d").await;
    d.until("one drain", |view| {
        view.drained("emqx") == [endpoint(1)].into()
    })
    .await;
    let word = d
        .view()
        .drains
        .iter()
        .find(|fact| fact.endpoint == endpoint(1))
        .cloned()
        .unwrap();
    assert_eq!(word.by, "a");
}

#[tokio::test]
async fn keys_are_rotated_without_a_member_leaving() {
    let tier = Tier::new();
    let instances = tier.start_three().await;
    let [a, b, c] = &instances;
    let mut count = 0;
    let old = tier.keys()[0].clone();
    let new = super::generate_key().unwrap();
    for keys in [
        vec![old.clone(), new.clone()],
        vec![new.clone(), old],
        vec![new],
    ] {
        for instance in &instances {
            instance.cluster.set_keys(&keys).unwrap();
            // Between any two of these reloads everybody still hears everybody.
            count += 1;
            c.hold(count);
            believes(a, &[("b", 0), ("c", count)]).await;
            believes(b, &[("a", 0), ("c", count)]).await;
            assert!(
                instances
                    .iter()
                    .all(|instance| instance.view().counting().count() == 2)
            );
        }
    }
    for instance in &instances {
        assert_eq!(instance.cluster.stats().rejected_total(), 0);
    }
    assert!(a.cluster.set_keys(&[]).is_err());
}

#[tokio::test]
async fn hundreds_of_endpoints_arrive_in_parts_by_push_and_by_gossip() {
    let tier = Tier::new();
    let [a, b, c] = tier.start_three().await;
    let many = (0..=255u8)
        .flat_map(|high| (0..4u8).map(move |low| EndpointId(([10, 1, high, low], 1883).into())));
    let counts: Vec<_> = many.zip(1000..).collect();
    let expected: u32 = counts.iter().map(|(_, count)| count).sum();
    a.facts.lock().unwrap().counts = Arc::new(counts);
    a.cluster.changed();
    believes(&b, &[("a", expected), ("c", 0)]).await;
    believes(&c, &[("a", expected), ("b", 0)]).await;
    let d = tier.start("d").await;
    believes(&d, &[("a", expected), ("b", 0), ("c", 0)]).await;
    assert_eq!(b.cluster.stats().rejected_total(), 0);
}

#[tokio::test]
async fn health_evacuation_and_differing_configuration_are_seen() {
    let tier = Tier::new();
    let [a, b, c] = tier.start_three().await;
    {
        let mut facts = c.facts.lock().unwrap();
        facts.down = vec![endpoint(1)];
        facts.evacuating = vec![endpoint(2)];
    }
    c.cluster.changed();
    let verdict = |view: &ClusterView| {
        view.verdicts("emqx")
            .first()
            .map(|verdict| (verdict.down, verdict.seen))
    };
    a.until("c's verdict", |view| verdict(view) == Some((1, 2)))
        .await;
    a.until("c's evacuation", |view| {
        view.evacuating("emqx") == [endpoint(2)].into()
    })
    .await;
    assert_eq!(a.view().differing("emqx", tier::FINGERPRINT).count(), 0);
    assert_eq!(a.view().differing("emqx", 0).count(), 2);
    b.until("c's verdict", |view| verdict(view) == Some((1, 2)))
        .await;
}

#[tokio::test]
async fn facts_travel_by_gossip_alone_when_pushes_are_lost() {
    let tier = Tier::new();
    let [a, b, c] = tier.start_three().await;
    // a and c do not hear each other; b relays.
    a.cut_off(&c);
    c.cut_off(&a);
    c.hold(9);
    believes(&b, &[("a", 0), ("c", 9)]).await;
    a.until("c's counts by way of b", |_| {
        believed(&a).contains(&("c".to_owned(), 9))
    })
    .await;
}

#[tokio::test]
async fn tasks_end_with_the_token() {
    let tier = Tier::new();
    let a = tier.start("a").await;
    a.kill().await;
    let ended = tokio::time::timeout(Duration::from_secs(5), a.ended()).await;
    assert!(ended.is_ok());
    assert!(a.cluster.set_drain("emqx", endpoint(1), true).is_err());
}

#[tokio::test]
async fn a_restart_with_a_clock_that_was_set_back_is_heard() {
    let tier = Tier::new();
    let [a, _b, c] = tier.start_three().await;
    let first = a.member("c").generation;
    c.kill().await;
    let c = tier.start_behind("c", Duration::from_secs(10)).await;
    c.hold(3);
    believes(&a, &[("b", 0), ("c", 3)]).await;
    assert!(a.member("c").generation > first);
    assert_eq!(c.cluster.stats().restarts(), 1);
}

#[tokio::test]
async fn an_instance_whose_clock_is_wrong_stays_alone_and_everybody_counts_why() {
    let tier = Tier::new();
    let [a, _b, _c] = tier.start_three().await;
    let d = tier.start_behind("d", Duration::from_secs(40)).await;
    attack::counted(&a, Reject::Stale, 1).await;
    assert!(d.view().is_alone());
    assert_eq!(a.view().members.len(), 2);
}
