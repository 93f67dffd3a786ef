//! The control API's calls.

use prometheus_client::metrics::counter::Counter;

use super::{
    family::{Bounded, Level, Single},
    histogram::{Histogram, REQUESTS},
    labels::{Name, labels},
    register::{Kind, Register},
};

labels! {
    Answered { method: Name, code: &'static str }
    Method { method: Name }
}

/// Metrics of the control API; clones share them.
#[derive(Clone, Debug)]
pub struct ControlMetrics {
    requests: Bounded<Answered, Counter>,
    durations: Bounded<Method, Histogram>,
    reports: Single<Level>,
}

// === impl ControlMetrics ===

impl ControlMetrics {
    pub(super) fn new(register: &mut Register) -> Self {
        Self {
            requests: register.counters(
                "waypost_control_requests_total",
                "Calls of the control API by method (service and method, `unknown` for what it does not have) and gRPC code; exact",
            ),
            durations: register.histograms(
                "waypost_control_request_duration_seconds",
                REQUESTS,
                "From when a call of the control API has come until its answer begins; exact",
            ),
            reports: register.known_later(
                "waypost_reports_lag_seconds",
                Kind::Gauge,
                "How far what this process has counted of journeys lies behind now, by the partition that is furthest behind; at rest up \
                 to the 5 s between two looks at the ends. Only of control processes that count",
            ),
        }
    }

    /// A call is answered. `method` is one that the API has, or `unknown`.
    pub fn observe(&self, method: &str, code: &'static str, seconds: f64) {
        let method = Name::of(method);
        self.requests.at(&Answered { method: method.clone(), code }).inc();
        self.durations.at(&Method { method }).observe(seconds);
    }

    /// How far what is counted of journeys lies behind.
    pub fn reports_lag(&self, seconds: f64) {
        self.reports.shown().set(seconds);
    }
}
