//! How a metric gets into the registry: under its full name, with what is said of it.

use prometheus_client::{
    encoding::EncodeMetric,
    metrics::{TypedMetric, counter::Counter},
    registry::{Registry, Unit},
};

use super::{
    family::{Bounded, Level, Series, Single},
    histogram::Histogram,
    labels::{Labels, labels},
    reading::{Point, Read},
};

labels! {
    /// A family of this registry.
    Family { family: &'static str }
}

/// How a metric behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only rises.
    Counter,
    /// Rises and falls.
    Gauge,
    /// How often something took how long.
    Histogram,
}

/// One metric of the registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Described {
    /// As it is asked for.
    pub name: &'static str,
    /// How it behaves.
    pub kind: Kind,
    /// Names of its labels.
    pub labels: &'static [&'static str],
    /// What it says.
    pub help: &'static str,
}

/// Whatever is in the registry, readable.
pub(crate) type Readers = Vec<(Described, Box<dyn Fn() -> Vec<Point> + Send + Sync>)>;

/// A registry that is being filled.
pub(crate) struct Register {
    registry: Registry,
    readers: Readers,
    dropped: Bounded<Family, Counter>,
}

// === impl Kind ===

impl Kind {
    /// Its word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

// === impl Register ===

impl Default for Register {
    fn default() -> Self {
        let dropped = Bounded::new(&[], Counter::default());
        let mut register = Self { registry: Registry::default(), readers: Vec::new(), dropped };
        let help = "Values of a family that were not shown because it has 2,000 series already; `tallies`: decisions that a role had no \
                    room to count by their words; exact";
        register.add("waypost_metrics_dropped_total", Kind::Counter, Family::NAMES, help, register.dropped.clone());
        register
    }
}

impl Register {
    fn add(
        &mut self,
        name: &'static str,
        kind: Kind,
        labels: &'static [&'static str],
        help: &'static str,
        metric: impl EncodeMetric + Read + Clone + std::fmt::Debug + Send + Sync + 'static,
    ) {
        let reader = metric.clone();
        self.readers.push((Described { name, kind, labels, help }, Box::new(move || reader.read())));
        // The text's writer puts both ends on again.
        let bare = name.strip_suffix("_total").unwrap_or(name);
        let with_unit = [("_seconds", Unit::Seconds), ("_bytes", Unit::Bytes)]
            .into_iter()
            .find_map(|(end, unit)| Some((bare.strip_suffix(end)?, unit)));
        match with_unit {
            Some((bare, unit)) => self.registry.register_with_unit(bare, help, unit, metric),
            None => self.registry.register(bare, help, metric),
        }
    }

    /// What was dropped of something.
    pub(crate) fn dropped(&self, family: &'static str) -> Counter {
        self.dropped.at(&Family { family })
    }

    fn family<L: Labels, M: Series>(
        &mut self,
        name: &'static str,
        kind: Kind,
        bounds: &'static [f64],
        help: &'static str,
    ) -> Bounded<L, M> {
        let family = Bounded::new(bounds, self.dropped(name));
        self.add(name, kind, L::NAMES, help, family.clone());
        family
    }

    pub(crate) fn counters<L: Labels>(&mut self, name: &'static str, help: &'static str) -> Bounded<L, Counter> {
        self.family(name, Kind::Counter, &[], help)
    }

    pub(crate) fn gauges<L: Labels>(&mut self, name: &'static str, help: &'static str) -> Bounded<L, Level> {
        self.family(name, Kind::Gauge, &[], help)
    }

    pub(crate) fn histograms<L: Labels>(
        &mut self,
        name: &'static str,
        bounds: &'static [f64],
        help: &'static str,
    ) -> Bounded<L, Histogram> {
        self.family(name, Kind::Histogram, bounds, help)
    }

    /// One without labels.
    pub(crate) fn single<M: EncodeMetric + TypedMetric + Read + Clone + std::fmt::Debug + Send + Sync + 'static>(
        &mut self,
        name: &'static str,
        kind: Kind,
        help: &'static str,
        metric: &M,
    ) {
        self.add(name, kind, &[], help, metric.clone());
    }

    /// One without labels that is shown from its first value on.
    pub(crate) fn known_later<M: Series>(&mut self, name: &'static str, kind: Kind, help: &'static str) -> Single<M> {
        let single = Single::new();
        self.add(name, kind, &[], help, single.clone());
        single
    }

    pub(crate) fn end(self) -> (Registry, Readers) {
        (self.registry, self.readers)
    }
}
