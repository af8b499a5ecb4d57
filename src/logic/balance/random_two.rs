//! The better of two random endpoints: needs no rank and no record to avoid herds.

use super::row::Row;

/// Two eligible endpoints by reservoir sampling, then the one with fewer connections per weight.
pub(super) fn choose(rows: &[Row], tier: u32, rng: &mut fastrand::Rng) -> Option<usize> {
    let mut sample = [0_usize; 2];
    let mut seen = 0_usize;
    for (index, _) in rows.iter().enumerate().filter(|(_, row)| row.takes(tier)) {
        let place = if seen < sample.len() {
            seen
        } else {
            rng.usize(..=seen)
        };
        if let Some(place) = sample.get_mut(place) {
            *place = index;
        }
        seen += 1;
    }
    match seen {
        0 => None,
        1 => Some(sample[0]),
        _ => {
            let [a, b] = sample.map(|index| rows[index].total() * rows[index].weight_inverse);
            // A tie is tossed: the sample is in the order of the table.
            let first = if a < b {
                true
            } else if b < a {
                false
            } else {
                rng.bool()
            };
            Some(if first { sample[0] } else { sample[1] })
        }
    }
}
