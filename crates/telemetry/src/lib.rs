//! Logs: one subscriber for the process, text for people or JSON for machines, on standard error.
//!
//! Facts are fields, messages are lowercase; no personal data, no secrets.

use tracing_subscriber::{EnvFilter, fmt};

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

/// Begins logging for the whole process.
///
/// # Errors
/// [`TelemetryError`].
pub fn init(filter: &str, format: Format) -> Result<(), TelemetryError> {
    let filter = EnvFilter::try_new(filter).map_err(|e| TelemetryError::Filter { filter: filter.to_owned(), reason: e.to_string() })?;
    let builder = fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(true);
    match format {
        Format::Text => builder.try_init(),
        Format::Json => builder.json().try_init(),
    }
    .map_err(|_| TelemetryError::Twice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_filter_is_named() {
        let error = init("info,waypost=loudly", Format::Text).unwrap_err().to_string();
        assert!(error.contains("loudly"), "{error}");
    }
}
