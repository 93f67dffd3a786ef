//! Log lines for machines: one JSON object a line, and of which trace it is beside its time.

use std::fmt;

use tracing::{Event, Subscriber};
use tracing_subscriber::{
    fmt::{
        FmtContext, FormatEvent, FormatFields, FormattedFields,
        format::{Format, Json, Writer},
    },
    registry::LookupSpan,
};

/// As the crate writes them, with the ids of the trace first: `trace_id` and `span_id`, where there is one, also within other spans.
#[derive(Debug)]
pub(crate) struct JsonLines(Format<Json>);

// === impl JsonLines ===

impl JsonLines {
    pub(crate) fn new(format: Format<Json>) -> Self {
        Self(format.with_current_span(false).with_span_list(false))
    }
}

impl<S, N> FormatEvent<S, N> for JsonLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let traced = context.event_scope().and_then(|mut scope| scope.find(|span| span.metadata().target() == crate::TRACED));
        let Some(span) = traced else { return self.0.format_event(context, writer, event) };
        let mut line = String::new();
        self.0.format_event(context, Writer::new(&mut line), event)?;
        let extensions = span.extensions();
        let fields = extensions.get::<FormattedFields<N>>().map_or("", |fields| fields.fields.as_str());
        // Both are objects: the span's fields go to the front of the line's.
        match fields.strip_prefix('{').and_then(|fields| fields.strip_suffix('}')).filter(|fields| !fields.is_empty()) {
            Some(fields) => write!(writer, "{{{fields},{}", line.strip_prefix('{').unwrap_or_default()),
            None => writer.write_str(&line),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{Arc, Mutex},
    };

    use tracing_subscriber::fmt::fmt;
    use waypost_types::trace::TraceContext;

    use super::*;
    use crate::{lets_through, traced};

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What is written under a filter.
    fn written(filter: &str, act: impl FnOnce(TraceContext)) -> String {
        let kept = Kept::default();
        let writer = kept.clone();
        let builder = fmt().with_env_filter(lets_through(filter).unwrap()).with_writer(move || writer.clone());
        let subscriber = builder.json().map_event_format(JsonLines::new).finish();
        let (place, _) = TraceContext::from_header("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01").unwrap();
        tracing::subscriber::with_default(subscriber, || act(place));
        String::from_utf8(kept.0.lock().unwrap().clone()).unwrap()
    }

    fn has_ids(line: &str) -> bool {
        let Some((ids, _)) = line.split_once(r#","timestamp":""#) else { return false };
        let wanted = [r#""trace_id":"4bf92f3577b34da6a3ce929d0e0e4736""#, r#""span_id":"00f067aa0ba902b7""#];
        ids.starts_with('{') && wanted.iter().all(|id| ids.contains(id))
    }

    #[test]
    fn a_line_within_a_trace_says_of_which() {
        let text = written("warn", |place| {
            traced(Some(place)).in_scope(|| tracing::warn!(what = "{\"}", "within"));
            traced(None).in_scope(|| tracing::warn!("in none"));
            tracing::warn!("without");
        });
        let lines: Vec<&str> = text.lines().collect();
        let rest = r#","fields":{"message":"within","what":"{\"}"},"target":"waypost_telemetry::lines::tests"}"#;
        assert!(has_ids(lines[0]) && lines[0].ends_with(rest), "{text}");
        assert!(lines[1..].iter().all(|line| line.starts_with(r#"{"timestamp":""#)) && lines.len() == 3, "{text}");
    }

    #[test]
    fn no_filter_of_lines_takes_the_ids() {
        for filter in
            ["waypost_ingest=debug", "off,waypost_ingest=warn", "waypost_telemetry=off,waypost_ingest=warn", "error,waypost_ingest=info"]
        {
            let text = written(filter, |place| {
                traced(Some(place)).in_scope(|| tracing::warn!(target: "waypost_ingest", "within"));
                traced(Some(place)).in_scope(|| tracing::warn!(target: "elsewhere", "of a target that is filtered out"));
            });
            assert!(text.lines().count() == 1 && has_ids(&text), "{filter}: {text}");
        }
    }

    #[test]
    fn spans_of_others_do_not_hide_the_ids() {
        let text = written("debug", |place| {
            traced(Some(place)).in_scope(|| {
                tracing::debug_span!(target: "h2", "trace", stream = 1).in_scope(|| tracing::warn!("within both"));
            });
            tracing::debug_span!(target: "h2", "trace", stream = 2).in_scope(|| tracing::warn!("in another's"));
        });
        let lines: Vec<&str> = text.lines().collect();
        assert!(has_ids(lines[0]) && lines[1].starts_with(r#"{"timestamp":""#) && lines.len() == 2, "{text}");
    }
}
