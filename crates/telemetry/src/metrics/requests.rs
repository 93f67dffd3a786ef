//! The control API's calls.

use prometheus_client::metrics::counter::Counter;

use super::{
    family::Bounded,
    histogram::{Histogram, REQUESTS},
    labels::{Name, labels},
    register::Register,
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
        }
    }

    /// A call is answered. `method` is one that the API has, or `unknown`.
    pub fn observe(&self, method: &str, code: &'static str, seconds: f64) {
        let method = Name::of(method);
        self.requests.at(&Answered { method: method.clone(), code }).inc();
        self.durations.at(&Method { method }).observe(seconds);
    }
}
