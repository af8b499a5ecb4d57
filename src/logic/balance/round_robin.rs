//! Smooth weighted round robin: everybody gains its weight, the highest is taken and pays the sum.

use super::row::Row;

/// The endpoint whose turn it is.
pub(super) fn choose(rows: &mut [Row], tier: u32) -> Option<usize> {
    let mut sum = 0.0;
    let mut best: Option<(usize, f64)> = None;
    for (index, row) in rows
        .iter_mut()
        .enumerate()
        .filter(|(_, row)| row.takes(tier))
    {
        row.turn += row.weight;
        sum += row.weight;
        if best.is_none_or(|(_, turn)| row.turn > turn) {
            best = Some((index, row.turn));
        }
    }
    let (index, _) = best?;
    rows[index].turn -= sum;
    Some(index)
}
