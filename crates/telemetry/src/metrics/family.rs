//! A metric by its labels, of which there are only so many; and one without labels.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use prometheus_client::{
    encoding::{EncodeMetric, MetricEncoder},
    metrics::{MetricType, TypedMetric, counter::Counter, gauge::Gauge},
};

use super::{labels::Labels, reading::ReadOne};

/// Lines of one family in one process. A label set for which there is no room is not shown, and counted as dropped.
pub const MOST_SERIES: usize = 2_000;

/// A gauge of any number.
pub(crate) type Level = Gauge<f64, AtomicU64>;

/// What stands behind a label set.
pub(crate) trait Series: EncodeMetric + ReadOne + TypedMetric + Clone + fmt::Debug + Send + Sync + 'static {
    /// How many lines it takes.
    const LINES: usize;

    /// A new one.
    fn new(bounds: &'static [f64]) -> Self;
}

/// A metric by its labels.
pub(crate) struct Bounded<L, M> {
    bounds: &'static [f64],
    dropped: Counter,
    series: Arc<Mutex<BTreeMap<L, M>>>,
}

/// A metric without labels that may have no value: then nothing is shown.
#[derive(Debug)]
pub(crate) struct Single<M> {
    series: Arc<Mutex<Option<M>>>,
}

// === impl Series ===

impl Series for Counter {
    const LINES: usize = 1;

    fn new(_: &'static [f64]) -> Self {
        Self::default()
    }
}

impl Series for Level {
    const LINES: usize = 1;

    fn new(_: &'static [f64]) -> Self {
        Self::default()
    }
}

/// Brings a counter to what somebody else has counted since the process began.
pub(crate) fn reach(counter: &Counter, count: u64) {
    counter.inner().fetch_max(count, Ordering::Relaxed);
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

// === impl Bounded ===

impl<L: Labels, M: Series> Bounded<L, M> {
    /// An empty family; `bounds` are those of its histograms, `dropped` counts what has no place.
    pub(crate) fn new(bounds: &'static [f64], dropped: Counter) -> Self {
        Self { bounds, dropped, series: Arc::default() }
    }

    /// The metric of these labels. Where there is no room for them it is shown to nobody.
    pub(crate) fn at(&self, labels: &L) -> M {
        let mut series = lock(&self.series);
        if let Some(metric) = series.get(labels) {
            return metric.clone();
        }
        let metric = M::new(self.bounds);
        let lines = if M::LINES == 0 { self.bounds.len() + 3 } else { M::LINES };
        if (series.len() + 1) * lines > MOST_SERIES {
            self.dropped.inc();
        } else {
            series.insert(labels.clone(), metric.clone());
        }
        metric
    }

    /// Of each label set, in order.
    pub(crate) fn map<T>(&self, mut of: impl FnMut(&L, &M) -> T) -> Vec<T> {
        lock(&self.series).iter().map(|(labels, metric)| of(labels, metric)).collect()
    }

    /// Forgets those labels that are not wanted any more.
    pub(crate) fn keep(&self, mut wanted: impl FnMut(&L) -> bool) {
        lock(&self.series).retain(|labels, _| wanted(labels));
    }
}

impl<L, M> Clone for Bounded<L, M> {
    fn clone(&self) -> Self {
        Self { bounds: self.bounds, dropped: self.dropped.clone(), series: Arc::clone(&self.series) }
    }
}

impl<L: Labels, M: Series> EncodeMetric for Bounded<L, M> {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        for (labels, metric) in lock(&self.series).iter() {
            metric.encode(encoder.encode_family(labels)?)?;
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        M::TYPE
    }
}

impl<L, M> fmt::Debug for Bounded<L, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bounded").field("dropped", &self.dropped.get()).finish_non_exhaustive()
    }
}

// === impl Single ===

impl<M: Series> Single<M> {
    pub(crate) fn new() -> Self {
        Self { series: Arc::default() }
    }

    /// The metric, from now on shown.
    pub(crate) fn shown(&self) -> M {
        lock(&self.series).get_or_insert_with(|| M::new(&[])).clone()
    }

    /// The metric, where it is shown.
    pub(crate) fn known(&self) -> Option<M> {
        lock(&self.series).clone()
    }
}

impl<M> Clone for Single<M> {
    fn clone(&self) -> Self {
        Self { series: Arc::clone(&self.series) }
    }
}

impl<M: Series> EncodeMetric for Single<M> {
    fn encode(&self, encoder: MetricEncoder<'_>) -> fmt::Result {
        let series = lock(&self.series);
        series.as_ref().map_or(Ok(()), |metric| metric.encode(encoder))
    }

    fn metric_type(&self) -> MetricType {
        M::TYPE
    }
}
