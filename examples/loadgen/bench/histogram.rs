//! Latencies in buckets of constant relative width: no allocation per value, any percentile within 1.6 %.

/// Buckets per power of two.
const STEPS: u64 = 64;
const STEP_BITS: u32 = STEPS.trailing_zeros();

pub(crate) struct Histogram {
    counts: Vec<u64>,
    total: u64,
    max: u64,
}

impl Histogram {
    pub(crate) fn new() -> Self {
        Self {
            counts: vec![0; 60 * 64],
            total: 0,
            max: 0,
        }
    }

    pub(crate) fn clear(&mut self) {
        self.counts.fill(0);
        self.total = 0;
        self.max = 0;
    }

    pub(crate) fn record(&mut self, nanos: u64) {
        self.counts[index(nanos)] += 1;
        self.total += 1;
        self.max = self.max.max(nanos);
    }

    pub(crate) const fn total(&self) -> u64 {
        self.total
    }

    /// Upper end of the bucket of the value below which `share` of all are.
    pub(crate) fn at(&self, share: f64) -> u64 {
        let wanted = (self.total as f64 * share).ceil() as u64;
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted.max(1) {
                return upper(index as u64).min(self.max);
            }
        }
        self.max
    }

    /// In microseconds.
    pub(crate) fn json(&self) -> serde_json::Value {
        let micros = |nanos: u64| (nanos as f64 / 100.0).round() / 10.0;
        serde_json::json!({
            "p50": micros(self.at(0.5)),
            "p99": micros(self.at(0.99)),
            "p999": micros(self.at(0.999)),
            "max": micros(self.max),
        })
    }
}

fn index(nanos: u64) -> usize {
    if nanos < STEPS {
        return nanos as usize;
    }
    let power = nanos.ilog2() - STEP_BITS;
    let step = (nanos >> power) - STEPS;
    ((u64::from(power) + 1) * STEPS + step) as usize
}

fn upper(index: u64) -> u64 {
    if index < STEPS {
        return index;
    }
    let power = index / STEPS - 1;
    ((STEPS + index % STEPS + 1) << power) - 1
}
