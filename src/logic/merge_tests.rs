//! Claims about [`MemberTable`].
#![expect(
    clippy::disallowed_methods,
    reason = "an arbitrary origin for virtual time"
)]

use super::*;
use crate::logic::endpoint::EndpointId;
use crate::logic::peer::PoolFacts;
use proptest::prelude::*;

const MS: Duration = Duration::from_millis(1);

fn addr(port: u16) -> SocketAddr {
    ([127, 0, 0, 1], port).into()
}

fn record(version: u64, count: u32) -> PoolRecord {
    let endpoint = EndpointId(([10, 0, 0, 1], 1883).into());
    PoolRecord {
        version,
        fingerprint: 1,
        facts: PoolFacts {
            counts: Arc::new(vec![(endpoint, count)]),
            ..PoolFacts::default()
        },
    }
}

fn update(id: &str, generation: u64, version: u64, count: u32) -> MemberUpdate {
    MemberUpdate {
        id: id.into(),
        generation,
        addr: addr(1),
        release: "1".into(),
        phase: Phase::Serving,
        complete: false,
        sent_us: version,
        pools: vec![("emqx".into(), record(version, count))],
        drains: Vec::new(),
    }
}

fn live(id: &str, generation: u64) -> LiveMember {
    LiveMember {
        id: id.into(),
        generation,
        addr: addr(1),
    }
}

fn table() -> (MemberTable, Instant) {
    let now = Instant::now();
    (
        MemberTable::new("me".into(), now),
        now + Duration::from_secs(100),
    )
}

/// Sum of all counts that the view holds.
fn total(table: &MemberTable) -> u32 {
    table
        .view(1)
        .peer_counts("emqx")
        .iter()
        .flat_map(|peer| peer.counts.iter())
        .map(|(_, count)| count)
        .sum()
}

fn state(table: &MemberTable, id: &str) -> MemberState {
    table
        .view(1)
        .members
        .iter()
        .find(|member| &*member.id == id)
        .expect("member")
        .state
}

#[test]
fn a_restarted_member_is_counted_once_from_its_first_word() {
    let (mut table, now) = table();
    assert!(table.set_live(&[live("a", 1)], now));
    assert_eq!(table.apply(update("a", 1, 10, 7), now, 0), Applied::News);
    assert_eq!(table.apply(update("a", 2, 1, 2), now, 0), Applied::News);
    assert_eq!(total(&table), 2);
    // The dead generation still gossips through others, and the failure detector still lists both.
    assert_eq!(
        table.apply(update("a", 1, 11, 9), now, 0),
        Applied::Outdated
    );
    table.set_live(&[live("a", 1), live("a", 2)], now);
    assert_eq!((total(&table), table.view(1).members.len()), (2, 1));
    // The old one dies in the list: nothing happens to the new one.
    table.set_live(&[live("a", 2)], now);
    assert_eq!(total(&table), 2);
}

#[test]
fn an_unknown_member_counts_for_a_second_unless_membership_confirms_it() {
    let (mut table, now) = table();
    table.apply(update("a", 1, 10, 7), now, 0);
    table.apply(update("b", 1, 10, 1), now, 0);
    assert_eq!(table.next_expiry(), Some(now + UNCONFIRMED_MAX));
    table.set_live(&[live("b", 1)], now + 500 * MS);
    assert_eq!(total(&table), 8);
    assert!(table.expire(now + UNCONFIRMED_MAX));
    assert_eq!((total(&table), state(&table, "a")), (1, MemberState::Lost));
    // Its pushes go on: it does not come back by itself.
    table.apply(update("a", 1, 20, 9), now + UNCONFIRMED_MAX, 0);
    assert_eq!(total(&table), 1);
    table.set_live(&[live("a", 1), live("b", 1)], now + UNCONFIRMED_MAX);
    assert_eq!(total(&table), 10);
}

#[test]
fn lost_members_are_dropped_at_detection_and_counted_again_after_the_heal() {
    let (mut table, now) = table();
    table.set_live(&[live("a", 1)], now);
    table.apply(update("a", 1, 10, 7), now, 0);
    assert!(!table.view(1).is_alone());
    assert!(table.set_live(&[], now));
    assert_eq!(total(&table), 0);
    assert_eq!(table.view(1).alone_since, Some(now));
    assert!(table.targets().is_empty());
    table.set_live(&[live("a", 1)], now + MS);
    assert_eq!(total(&table), 0, "what it said before is not believed");
    table.apply(update("a", 1, 11, 8), now + MS, 0);
    assert_eq!(total(&table), 8);
    assert!(!table.view(1).is_alone());
    table.set_live(&[], now + 2 * MS);
    assert!(table.expire(now + 2 * MS + LOST_KEPT));
    assert!(table.view(1).members.is_empty());
}

#[test]
fn leaving_is_counted_and_gone_is_not_and_neither_is_taken_back() {
    let (mut table, now) = table();
    table.set_live(&[live("a", 1)], now);
    let say = |phase, version| MemberUpdate {
        phase,
        ..update("a", 1, version, 5)
    };
    for (phase, version, expected, sum) in [
        (Phase::Serving, 1, MemberState::Alive, 5),
        (Phase::Leaving, 2, MemberState::Leaving, 5),
        (Phase::Gone, 3, MemberState::Gone, 0),
        (Phase::Serving, 4, MemberState::Gone, 0),
    ] {
        table.apply(say(phase, version), now, 0);
        assert_eq!(
            (state(&table, "a"), total(&table)),
            (expected, sum),
            "{phase:?}"
        );
    }
    table.apply(update("a", 2, 1, 3), now, 0);
    assert_eq!(total(&table), 3, "a new start serves again");
}

#[test]
fn a_complete_list_removes_pools_that_are_gone_but_none_that_are_younger() {
    let (mut table, now) = table();
    table.set_live(&[live("a", 1)], now);
    table.apply(update("a", 1, 10, 7), now, 0);
    let complete = |sent_us| MemberUpdate {
        complete: true,
        sent_us,
        pools: Vec::new(),
        ..update("a", 1, 0, 0)
    };
    assert_eq!(table.apply(complete(9), now, 0), Applied::Known);
    assert_eq!(total(&table), 7);
    assert_eq!(table.apply(complete(11), now, 0), Applied::News);
    assert_eq!(total(&table), 0);
}

#[test]
fn our_own_name_is_never_a_peer() {
    let (mut table, now) = table();
    assert_eq!(table.apply(update("me", 9, 1, 1), now, 0), Applied::Own);
    assert!(!table.set_live(&[live("me", 1)], now));
    assert!(table.view(1).members.is_empty());
}

#[test]
fn members_are_bounded() {
    let (mut table, now) = table();
    for index in 0..MEMBERS_MAX {
        assert_eq!(
            table.apply(update(&index.to_string(), 1, 1, 1), now, 0),
            Applied::News
        );
    }
    assert_eq!(
        table.apply(update("one more", 1, 1, 1), now, 0),
        Applied::Refused
    );
    assert_eq!(table.apply(update("0", 1, 2, 1), now, 0), Applied::News);
}

#[test]
fn a_relayed_record_is_dated_by_its_origin() {
    let (mut table, now) = table();
    table.set_live(&[live("a", 1)], now);
    table.apply(update("a", 1, 1_000_000, 1), now, 0);
    // Said 80 ms later, heard 200 ms later: 120 ms were spent on the way.
    table.apply(update("a", 1, 1_080_000, 2), now + 200 * MS, 0);
    assert_eq!(table.view(1).peer_counts("emqx")[0].taken_at, now + 80 * MS);
}

proptest! {
    /// What is held in the end does not depend on the order, and never on two generations at once.
    #[test]
    fn the_order_of_messages_does_not_matter(
        said in proptest::collection::vec((0u8..3, 1u64..4, 1u64..6), 0..24),
        seed in any::<u64>(),
    ) {
        // A member says one thing at one version, so the count follows from the rest.
        let mut updates: Vec<_> = said
            .into_iter()
            .map(|(id, generation, version)| {
                let count = u32::try_from(generation * 100 + version).unwrap();
                update(&id.to_string(), generation, version, count)
            })
            .collect();
        let expected: BTreeMap<String, (u64, u64)> = updates.iter().fold(BTreeMap::new(), |mut map, update| {
            let order = (update.generation, update.sent_us);
            let held = map.entry(update.id.clone()).or_insert(order);
            *held = order.max(*held);
            map
        });
        let merged = |updates: &[MemberUpdate]| {
            let (mut table, now) = table();
            for update in updates {
                table.apply(update.clone(), now, 0);
            }
            let view = table.view(1);
            let held = view.members.iter().map(|member| {
                let held = &member.pools["emqx"].record;
                assert_eq!(held.facts.counts[0].1, u32::try_from(member.generation * 100 + held.version).unwrap());
                (member.id.to_string(), (member.generation, held.version))
            });
            held.collect::<BTreeMap<_, _>>()
        };
        prop_assert_eq!(&merged(&updates), &expected);
        fastrand::Rng::with_seed(seed).shuffle(&mut updates);
        prop_assert_eq!(&merged(&updates), &expected);
    }
}
