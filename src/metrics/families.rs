//! Writing whole metric families from a collector: a header and one sample per row of labels.

use prometheus_client::encoding::{DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue};
use prometheus_client::encoding::{MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use std::fmt;

/// The labels of one sample, in the order in which they are printed.
type Labels<'a, const N: usize> = [(&'static str, &'a str); N];

/// Writes families to a scrape.
///
/// A counter's name is given without `_total`, which the encoding adds; a help text without its full stop.
#[derive(Debug)]
pub struct Families<'e> {
    encoder: DescriptorEncoder<'e>,
}

impl<'e> Families<'e> {
    /// Wraps what [`super::Collector::encode`] was given.
    pub const fn new(encoder: DescriptorEncoder<'e>) -> Self {
        Self { encoder }
    }

    /// Writes one counter family: numbers that only grow while the process lives.
    ///
    /// # Errors
    /// As the writer behind the encoder.
    pub fn counter<'r, const N: usize, V: EncodeCounterValue>(
        &mut self,
        name: &str,
        help: &str,
        rows: impl IntoIterator<Item = (Labels<'r, N>, V)>,
    ) -> fmt::Result {
        let mut family = self.header(name, help, MetricType::Counter)?;
        for (labels, value) in rows {
            // An empty label set would print as `{}`, which is legal and ugly.
            if N == 0 {
                family.encode_counter::<NoLabelSet, V, u64>(&value, None)?;
            } else {
                let mut sample = family.encode_family(&labels)?;
                sample.encode_counter::<NoLabelSet, V, u64>(&value, None)?;
            }
        }
        Ok(())
    }

    /// Writes one gauge family: numbers that go up and down.
    ///
    /// # Errors
    /// As the writer behind the encoder.
    pub fn gauge<'r, const N: usize, V: EncodeGaugeValue>(
        &mut self,
        name: &str,
        help: &str,
        rows: impl IntoIterator<Item = (Labels<'r, N>, V)>,
    ) -> fmt::Result {
        let mut family = self.header(name, help, MetricType::Gauge)?;
        for (labels, value) in rows {
            if N == 0 {
                family.encode_gauge(&value)?;
            } else {
                family.encode_family(&labels)?.encode_gauge(&value)?;
            }
        }
        Ok(())
    }

    /// Writes one histogram family. A row is labels, sum, and counts per bucket (not cumulative) of `bounds` with one
    /// more for +Inf.
    ///
    /// # Errors
    /// As the writer behind the encoder.
    pub fn histogram<'r, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        bounds: &[f64],
        rows: impl IntoIterator<Item = (Labels<'r, N>, f64, &'r [u64])>,
    ) -> fmt::Result {
        let mut family = self.header(name, help, MetricType::Histogram)?;
        for (labels, sum, counts) in rows {
            debug_assert_eq!(counts.len(), bounds.len() + 1);
            let bounds = bounds.iter().copied().chain([f64::INFINITY]);
            let buckets: Vec<(f64, u64)> = bounds.zip(counts.iter().copied()).collect();
            // The count is the sum of the very buckets that are printed: read apart, they could disagree.
            let count = counts.iter().sum();
            let mut sample = family.encode_family(&labels)?;
            sample.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
        }
        Ok(())
    }

    fn header<'s>(
        &'s mut self,
        name: &'s str,
        help: &str,
        kind: MetricType,
    ) -> Result<MetricEncoder<'s>, fmt::Error> {
        self.encoder
            .encode_descriptor(name, &format!("{help}."), None, kind)
    }
}
