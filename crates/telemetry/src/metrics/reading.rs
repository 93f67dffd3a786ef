//! What each metric says now, for whoever takes it otherwise than as Prometheus' text.

use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::counter::Counter;

use super::{
    Described,
    family::{Bounded, Level, Series, Single},
    histogram::Histogram,
    labels::Labels,
};

/// One metric with all its series.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// What it is.
    pub described: Described,
    /// By label set.
    pub points: Vec<Point>,
}

/// One series.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// In the order of [`Described::labels`].
    pub labels: Vec<String>,
    /// What it says.
    pub value: PointValue,
}

/// What a series says.
#[derive(Clone, Debug, PartialEq)]
pub enum PointValue {
    /// Of a counter or a gauge.
    Number(f64),
    /// Of a histogram: upper ends in seconds, how many in each bucket and beyond the last, and all seconds together.
    Histogram {
        /// Upper ends.
        bounds: &'static [f64],
        /// One more than there are upper ends.
        counts: Vec<u64>,
        /// Of all that was observed.
        sum: f64,
    },
}

/// A metric that can say what it says.
pub(crate) trait Read {
    /// All its series.
    fn read(&self) -> Vec<Point>;
}

/// A metric without labels.
pub(crate) trait ReadOne {
    /// What it says.
    fn read_one(&self) -> PointValue;
}

// === impl Read ===

impl<M: ReadOne> Read for M {
    fn read(&self) -> Vec<Point> {
        vec![Point { labels: Vec::new(), value: self.read_one() }]
    }
}

impl<L: Labels, M: Series> Read for Bounded<L, M> {
    fn read(&self) -> Vec<Point> {
        self.map(|labels, metric| Point { labels: labels.values(), value: metric.read_one() })
    }
}

impl<M: Series> Read for Single<M> {
    fn read(&self) -> Vec<Point> {
        self.known().iter().flat_map(Read::read).collect()
    }
}

// === impl ReadOne ===

impl ReadOne for Counter {
    #[expect(clippy::cast_precision_loss, reason = "whole below 2⁵³")]
    fn read_one(&self) -> PointValue {
        PointValue::Number(self.get() as f64)
    }
}

impl ReadOne for Counter<f64, AtomicU64> {
    fn read_one(&self) -> PointValue {
        PointValue::Number(self.get())
    }
}

impl ReadOne for Level {
    fn read_one(&self) -> PointValue {
        PointValue::Number(self.get())
    }
}

impl ReadOne for Histogram {
    fn read_one(&self) -> PointValue {
        let (bounds, counts, sum) = self.taken();
        PointValue::Histogram { bounds, counts, sum }
    }
}
