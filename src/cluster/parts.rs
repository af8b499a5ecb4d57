//! Messages larger than one datagram: cut on the way out, put together on the way in.
//!
//! A push is cut below the usual MTU, so that no IP fragment can be lost on its own unseen; gossip messages are small
//! as a rule, and cut only where sealing would push them over the limit of UDP. There is no retransmission: a message
//! with a lost part is lost, the next push or gossip round brings newer facts. One message per sender and kind is put
//! together at a time, so memory is bounded by the number of senders.

use super::datagram::{DATAGRAM_BYTES_MAX, Envelope, Kind, OVERHEAD_BYTES, Reject};
use crate::logic::replay::{SESSION_IDLE, Session};
use std::collections::HashMap;
use std::time::Instant;

/// The largest message of any kind; the gossip library's own limit is 65 507 and a header.
pub(super) const MESSAGE_BYTES_MAX: usize = 68_000;

/// Messages that are being put together at once.
const PARTIAL_MAX: usize = 256;

/// Body bytes of one datagram.
pub(super) const fn part_bytes_max(kind: Kind) -> usize {
    match kind {
        // Beyond the MTU it is the kernel that cuts: gossip messages are rarely that long.
        Kind::Gossip => DATAGRAM_BYTES_MAX - OVERHEAD_BYTES,
        Kind::Push => 1200,
    }
}

const _: () = assert!(MESSAGE_BYTES_MAX.div_ceil(part_bytes_max(Kind::Push)) <= u8::MAX as usize);

/// Cuts a message; `None` when it is too large to send. An empty message is one empty part.
pub(super) fn cut(kind: Kind, message: &[u8]) -> Option<Vec<&[u8]>> {
    if message.len() > MESSAGE_BYTES_MAX {
        return None;
    }
    if message.is_empty() {
        return Some(vec![message]);
    }
    Some(message.chunks(part_bytes_max(kind)).collect())
}

struct Partial {
    first_counter: u64,
    parts: Vec<Option<Box<[u8]>>>,
    missing: usize,
    bytes: usize,
    begun_at: Instant,
}

/// The receiving half.
#[derive(Default)]
pub(super) struct Assembler {
    partial: HashMap<(Session, Kind), Partial>,
}

impl Assembler {
    /// Takes one opened part; a complete message comes back.
    pub(super) fn take(
        &mut self,
        envelope: &Envelope,
        body: &[u8],
        now: Instant,
    ) -> Result<Option<Vec<u8>>, Reject> {
        let parts = usize::from(envelope.parts);
        let part = usize::from(envelope.part);
        if parts == 0 || part >= parts || body.len() > MESSAGE_BYTES_MAX {
            return Err(Reject::Parts);
        }
        if parts == 1 {
            return Ok(Some(body.to_vec()));
        }
        let first_counter = envelope
            .counter
            .checked_sub(u64::from(envelope.part))
            .ok_or(Reject::Parts)?;
        let key = (envelope.session, envelope.kind);
        self.make_room(now);
        if !self.partial.contains_key(&key) && self.partial.len() >= PARTIAL_MAX {
            return Err(Reject::Parts);
        }
        let fresh = || Partial {
            first_counter,
            parts: vec![None; parts],
            missing: parts,
            bytes: 0,
            begun_at: now,
        };
        let partial = self.partial.entry(key).or_insert_with(fresh);
        if partial.first_counter > first_counter {
            // A straggler of a message that was overtaken.
            return Ok(None);
        }
        if partial.first_counter < first_counter {
            *partial = fresh();
        }
        let slot = partial.parts.get_mut(part).ok_or(Reject::Parts)?;
        if slot.is_none() {
            *slot = Some(body.into());
            partial.missing -= 1;
            partial.bytes += body.len();
        }
        if partial.bytes > MESSAGE_BYTES_MAX {
            self.partial.remove(&key);
            return Err(Reject::Parts);
        }
        if partial.missing > 0 {
            return Ok(None);
        }
        let whole = self
            .partial
            .remove(&key)
            .map(|partial| partial.parts)
            .unwrap_or_default();
        Ok(Some(
            whole.into_iter().flatten().collect::<Vec<_>>().concat(),
        ))
    }

    fn make_room(&mut self, now: Instant) {
        if self.partial.len() >= PARTIAL_MAX {
            self.partial.retain(|_, partial| {
                now.saturating_duration_since(partial.begun_at) < SESSION_IDLE
            });
        }
    }
}

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "an arbitrary origin for virtual time"
)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn envelope(kind: Kind, first: u64, part: usize, parts: usize) -> Envelope {
        let (part, parts) = (u8::try_from(part).unwrap(), u8::try_from(parts).unwrap());
        Envelope {
            kind,
            part,
            parts,
            session: [1; 16],
            counter: first + u64::from(part),
        }
    }

    #[test]
    fn a_message_that_is_overtaken_is_given_up() {
        let now = Instant::now();
        let mut assembler = Assembler::default();
        let mut take = |first, part, body: &[u8]| {
            assembler.take(&envelope(Kind::Push, first, part, 2), body, now)
        };
        assert_eq!(take(1, 0, b"old"), Ok(None));
        assert_eq!(take(3, 1, b"B"), Ok(None));
        assert_eq!(take(1, 1, b"old"), Ok(None), "a straggler");
        assert_eq!(take(3, 0, b"A"), Ok(Some(b"AB".to_vec())));
    }

    #[test]
    fn parts_that_do_not_fit_together_are_refused() {
        let now = Instant::now();
        let mut assembler = Assembler::default();
        for (part, parts) in [(0, 0), (1, 1), (2, 2)] {
            let refused = assembler.take(&envelope(Kind::Push, 9, part, parts), b"", now);
            assert_eq!(refused, Err(Reject::Parts), "{part} of {parts}");
        }
        assert_eq!(
            assembler.take(&envelope(Kind::Push, 9, 0, 2), b"", now),
            Ok(None)
        );
        assert_eq!(
            assembler.take(&envelope(Kind::Push, 9, 2, 3), b"", now),
            Err(Reject::Parts)
        );
        assert!(cut(Kind::Gossip, &vec![0; MESSAGE_BYTES_MAX + 1]).is_none());
    }

    proptest! {
        #[test]
        fn any_order_of_parts_gives_the_message_once(length in 0usize..20_000, seed in any::<u64>()) {
            let now = Instant::now();
            let mut rng = fastrand::Rng::with_seed(seed);
            let message: Vec<u8> = (0..length).map(|_| rng.u8(..)).collect();
            let parts = cut(Kind::Push, &message).unwrap();
            let mut order: Vec<usize> = (0..parts.len()).collect();
            rng.shuffle(&mut order);
            let mut assembler = Assembler::default();
            let mut whole = Vec::new();
            for part in order {
                let envelope = envelope(Kind::Push, 1, part, parts.len());
                whole.extend(assembler.take(&envelope, parts[part], now).unwrap());
            }
            prop_assert_eq!(whole, vec![message]);
            prop_assert!(assembler.partial.is_empty());
        }
    }
}
