//! Logs: one subscriber for the process, text for people or JSON for machines, on standard error.
//!
//! Facts are fields, messages are lowercase; no personal data, no secrets.

mod lines;
pub mod metrics;
#[cfg(feature = "otlp")]
mod otlp;

use std::panic::{PanicHookInfo, set_hook};

use tracing::Span;
use tracing_subscriber::{EnvFilter, filter::ParseError, fmt};
use waypost_types::trace::TraceContext;

use self::lines::JsonLines;

#[cfg(feature = "otlp")]
pub use otlp::{Collector, OtlpError, OtlpMetrics, OtlpTraces};

/// Target of the span that carries a trace's ids.
const TRACED: &str = "waypost_telemetry::traced";

/// Form of the log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Text,
    /// For machines.
    Json,
}

/// Why logging could not begin.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter does not parse.
    #[error("log filter `{filter}` is not understood: {reason}")]
    Filter {
        /// As given.
        filter: String,
        /// Why.
        reason: String,
    },
    /// A subscriber was set before.
    #[error("logging began before")]
    Twice,
}

/// Begins logging for the whole process, panics included.
///
/// # Errors
/// [`TelemetryError`].
pub fn init(filter: &str, format: Format) -> Result<(), TelemetryError> {
    let builder = fmt().with_env_filter(lets_through(filter)?).with_writer(std::io::stderr).with_target(true);
    match format {
        Format::Text => builder.try_init(),
        Format::Json => builder.json().map_event_format(JsonLines::new).try_init(),
    }
    .map_err(|_| TelemetryError::Twice)?;
    set_hook(Box::new(tell_panic));
    Ok(())
}

/// The filter as given, which always lets the ids of traces through: what it says of targets and levels is meant for lines.
fn lets_through(filter: &str) -> Result<EnvFilter, TelemetryError> {
    let refused = |reason: String| TelemetryError::Filter { filter: filter.to_owned(), reason };
    let given = EnvFilter::try_new(filter).map_err(|e| refused(e.to_string()))?;
    let ids = format!("{TRACED}=error").parse().map_err(|e: ParseError| refused(e.to_string()))?;
    Ok(given.add_directive(ids))
}

/// What is logged within belongs to this place of a kept trace: its lines carry `trace_id` and `span_id`. Of no trace: nothing.
pub fn traced(place: Option<TraceContext>) -> Span {
    // With a target of its own, which no filter of lines takes away.
    place.map_or_else(Span::none, |at| tracing::error_span!(target: TRACED, "trace", trace_id = at.trace_hex(), span_id = at.span_hex()))
}

fn tell_panic(info: &PanicHookInfo<'_>) {
    let at = info.location().map(ToString::to_string);
    tracing::error!(at, why = why(info.payload()), "panic");
}

// Words that were put together may quote what was being worked on: `[..]` of a text quotes the text.
fn why(payload: &(dyn std::any::Any + Send)) -> &'static str {
    payload.downcast_ref::<&'static str>().copied().unwrap_or("not shown, it may hold personal data")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_does_not_quote_what_was_worked_on() {
        let of = |act: fn()| std::panic::catch_unwind(act).unwrap_err();
        let name = |at: usize| "Zoë"[..at].len();
        assert_eq!(why(&*of(|| panic!("no such thing"))), "no such thing");
        let quoting = std::panic::catch_unwind(|| name(3)).unwrap_err();
        assert!(!why(&*quoting).contains("Zo"), "{}", why(&*quoting));
    }

    #[test]
    fn a_bad_filter_is_named() {
        let error = init("info,waypost=loudly", Format::Text).unwrap_err().to_string();
        assert!(error.contains("loudly"), "{error}");
    }
}
