//! What came of the sender's calls.

use prometheus_client::metrics::counter::Counter;

use super::{
    family::{Bounded, Level, reach},
    histogram::{CALLS, Histogram},
    labels::{Name, labels},
    register::Register,
    role::Counted,
};

labels! {
    Way { channel: Name, provider: Name }
    Failed { channel: Name, provider: Name, class: &'static str }
    Stopped { channel: Name, reason: Name }
    OfProvider { provider: Name }
}

/// What came of the calls of one way out since the process began.
#[derive(Clone, Copy, Debug)]
pub struct WayState<'a> {
    /// `email`.
    pub channel: &'a str,
    /// Name of the Channel definition.
    pub provider: &'a str,
    /// Taken by the provider.
    pub accepted: u64,
    /// Not taken, by class of failure.
    pub failed: &'a [(&'static str, u64)],
    /// Nobody knows.
    pub unknown: u64,
    /// What calls took.
    pub durations: Counted<'a>,
}

/// Metrics of sending; clones share them.
#[derive(Clone, Debug)]
pub struct SendMetrics {
    accepted: Bounded<Way, Counter>,
    failed: Bounded<Failed, Counter>,
    stopped: Bounded<Stopped, Counter>,
    unknown: Bounded<Way, Counter>,
    durations: Bounded<Way, Histogram>,
    circuits: Bounded<OfProvider, Level>,
}

// === impl SendMetrics ===

impl SendMetrics {
    pub(super) fn new(register: &mut Register) -> Self {
        Self {
            accepted: register.counters(
                "waypost_sends_total",
                "Messages that a provider has taken, by channel and provider (the Channel definition); exact: one a call",
            ),
            failed: register.counters(
                "waypost_sends_failed_total",
                "Calls of a provider that ended without it taking the message, by class (permanent_recipient, permanent_content, \
                 transient, throttled, auth); one message may fail several times before it is taken; exact",
            ),
            stopped: register.counters(
                "waypost_sends_stopped_total",
                "Sends that were stopped before any call, by reason: by a journey's gates, or at the address; exact: counted with the \
                 commit that holds them",
            ),
            unknown: register.counters(
                "waypost_sends_unknown_total",
                "Attempts of which nobody knows what came of them, those of killed processes included; exact but for a second process \
                 that gives the same one up after a kill",
            ),
            durations: register.histograms("waypost_send_duration_seconds", CALLS, "What a call of a provider took; exact"),
            circuits: register.gauges(
                "waypost_provider_circuit_state",
                "0: messages go to the provider; 1: this process holds them back after failures, and tries one now and then",
            ),
        }
    }

    /// Shows what came of a way's calls.
    pub fn show(&self, state: &WayState<'_>) {
        let (channel, provider) = (Name::of(state.channel), Name::of(state.provider));
        let way = Way { channel: channel.clone(), provider: provider.clone() };
        reach(&self.accepted.at(&way), state.accepted);
        reach(&self.unknown.at(&way), state.unknown);
        self.durations.at(&way).set(state.durations.bounds, state.durations.counts, state.durations.micros);
        for (class, count) in state.failed {
            reach(&self.failed.at(&Failed { channel: channel.clone(), provider: provider.clone(), class }), *count);
        }
    }

    /// So many sends of a channel were stopped for this reason.
    pub fn stopped(&self, channel: &str, reason: &str, count: u64) {
        reach(&self.stopped.at(&Stopped { channel: Name::of(channel), reason: Name::of(reason) }), count);
    }

    /// Whether a provider's circuit is open.
    pub fn circuit(&self, provider: &str, is_open: bool) {
        self.circuits.at(&OfProvider { provider: Name::of(provider) }).set(if is_open { 1.0 } else { 0.0 });
    }
}
