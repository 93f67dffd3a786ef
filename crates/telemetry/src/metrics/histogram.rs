//! Histograms that can be observed, and that can take over what somebody else has counted.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use prometheus_client::{
    encoding::{EncodeMetric, MetricEncoder, NoLabelSet},
    metrics::{MetricType, TypedMetric},
};

use super::family::Series;

/// Upper ends for what takes microseconds.
pub(crate) const FOLDS: &[f64] = &[0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.1, 1.0];
/// For commits.
pub(crate) const COMMITS: &[f64] = &[0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
/// For requests; OpenTelemetry's, and one below.
pub(crate) const REQUESTS: &[f64] = &[0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// For calls of providers.
pub(crate) const CALLS: &[f64] = &[0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0];
/// For what should be on time.
pub(crate) const LATENESS: &[f64] = &[0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3_600.0, 14_400.0];

/// How often something took how long, in seconds.
#[derive(Clone, Debug)]
pub(crate) struct Histogram {
    bounds: &'static [f64],
    seen: Arc<Mutex<Seen>>,
}

#[derive(Debug)]
struct Seen {
    /// By bucket; the last one holds what is beyond all bounds.
    counts: Vec<u64>,
    sum: f64,
}

// === impl Histogram ===

impl Histogram {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Upper ends, how many in each bucket and beyond, and all seconds together.
    pub(crate) fn taken(&self) -> (&'static [f64], Vec<u64>, f64) {
        let seen = self.seen();
        (self.bounds, seen.counts.clone(), seen.sum)
    }

    fn bucket(&self, seconds: f64) -> usize {
        self.bounds.partition_point(|bound| *bound < seconds)
    }

    /// One took so long.
    pub(crate) fn observe(&self, seconds: f64) {
        let bucket = self.bucket(seconds);
        let mut seen = self.seen();
        seen.counts[bucket] += 1;
        seen.sum += seconds;
    }

    /// Takes over all that somebody else has counted since the process began: upper ends in microseconds, how many up to each,
    /// one count more for what is beyond, and all of them together. Upper ends that this histogram does not have count for its next one.
    pub(crate) fn set(&self, bounds: &[u64], counts: &[u64], micros: u64) {
        let mut all = vec![0; self.bounds.len() + 1];
        for (index, count) in counts.iter().enumerate() {
            // a thousandth of a bucket below its end, which is not the same number in both writings
            let bucket = bounds.get(index).map_or(self.bounds.len(), |end| self.bucket(seconds(*end) * 0.999));
            all[bucket] += count;
        }
        let mut seen = self.seen();
        seen.counts = all;
        seen.sum = seconds(micros);
    }
}

#[expect(clippy::cast_precision_loss, reason = "whole microseconds of 285 years")]
fn seconds(micros: u64) -> f64 {
    micros as f64 / 1_000_000.0
}

impl TypedMetric for Histogram {
    const TYPE: MetricType = MetricType::Histogram;
}

impl EncodeMetric for Histogram {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let seen = self.seen();
        let ends = self.bounds.iter().copied().chain([f64::MAX]);
        let buckets: Vec<(f64, u64)> = ends.zip(seen.counts.iter().copied()).collect();
        encoder.encode_histogram::<NoLabelSet>(seen.sum, seen.counts.iter().sum(), &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

impl Series for Histogram {
    // As many as it has bounds, and three.
    const LINES: usize = 0;

    fn new(bounds: &'static [f64]) -> Self {
        Self { bounds, seen: Arc::new(Mutex::new(Seen { counts: vec![0; bounds.len() + 1], sum: 0.0 })) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(histogram: &Histogram) -> Vec<u64> {
        histogram.seen().counts.clone()
    }

    #[test]
    fn what_took_as_long_as_a_bucket_is_in_it() {
        let histogram = Histogram::new(&[0.1, 1.0]);
        for seconds in [0.0, 0.1, 0.100_1, 1.0, 7.0] {
            histogram.observe(seconds);
        }
        assert_eq!(counts(&histogram), [2, 2, 1]);
    }

    #[test]
    fn counts_are_taken_over_by_their_upper_ends() {
        let histogram = Histogram::new(&[0.1, 1.0]);
        for _ in 0..2 {
            histogram.set(&[10, 100_000, 250_000, 1_000_000, 2_500_000], &[1, 2, 3, 4, 5, 6], 7_000_000);
        }
        assert_eq!(counts(&histogram), [3, 7, 11], "once, however often they are told");
        assert!((histogram.seen().sum - 7.0).abs() < f64::EPSILON);
    }
}
