//! Measures how even the tier is, over a span of time.

/// Figures over the samples that were taken.
#[derive(Clone, Debug, Default)]
pub(crate) struct Watch {
    /// Endpoints that are compared.
    pub(crate) endpoints: Vec<usize>,
    /// Samples.
    pub(crate) samples: u32,
    /// Largest max - min.
    pub(crate) spread_max: u32,
    /// Sum of max - min.
    pub(crate) spread_sum: u64,
    /// Largest (max - min) / mean.
    pub(crate) relative_max: f64,
    /// Largest max / mean.
    pub(crate) peak_max: f64,
}

impl Watch {
    pub(crate) fn over(endpoints: impl IntoIterator<Item = usize>) -> Self {
        Self {
            endpoints: endpoints.into_iter().collect(),
            ..Self::default()
        }
    }

    /// Takes the connections per endpoint.
    pub(crate) fn sample(&mut self, totals: &[u32]) {
        let counts = || self.endpoints.iter().map(|endpoint| totals[*endpoint]);
        let (Some(least), Some(most)) = (counts().min(), counts().max()) else {
            return;
        };
        let mean = counts().map(f64::from).sum::<f64>() / self.endpoints.len() as f64;
        self.samples += 1;
        self.spread_max = self.spread_max.max(most - least);
        self.spread_sum += u64::from(most - least);
        if mean > 0.0 {
            self.relative_max = self.relative_max.max(f64::from(most - least) / mean);
            self.peak_max = self.peak_max.max(f64::from(most) / mean);
        }
    }

    pub(crate) fn spread_mean(&self) -> f64 {
        self.spread_sum as f64 / f64::from(self.samples.max(1))
    }
}
