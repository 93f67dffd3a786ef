//! Rules of names, labels and numbers of series, and the list that is published.

use std::{collections::BTreeSet, fs, path::Path};

use super::*;

fn metrics() -> Metrics {
    Metrics::new("1.2.3", 2)
}

const NOTHING: Counted<'static> = Counted { bounds: &[], counts: &[], micros: 0 };

fn state(partitions: &[PartitionState]) -> RoleState<'_> {
    RoleState {
        processed: 7,
        folds: Counted { bounds: &[10, 100], counts: &[1, 2, 3], micros: 400 },
        lateness: NOTHING,
        rewound: 1,
        channel_mismatches: 0,
        digest_mismatches: 0,
        led: partitions.len(),
        lag_seconds: 1.5,
        unacknowledged_bytes: 9,
        uncommitted_records: 3,
        rewind_headroom: Some(5.0),
        channel_gap: 0.0,
        timers_pending: 4,
        partitions,
    }
}

/// Everything that can be shown, at least once.
fn filled() -> Metrics {
    let metrics = metrics();
    metrics.process.look();
    metrics.process.brokers(3);
    metrics.process.store(true);
    metrics.door.received(SourceKind::of("browser"), "track", 2);
    metrics.door.rejected("NO_IDENTIFIER");
    metrics.door.set_aside("NO_IDENTIFIER");
    metrics.door.answered(200, 0.004);
    metrics.roles.committed("identity", CommitResult::Ok, 0.002);
    metrics.roles.show("identity", &state(&[PartitionState { partition: 3, lag_frames: Some(2), halted: false }]));
    metrics.roles.dead_letters("identity", "DECODE_FAILED", 1);
    metrics.roles.entries("shop", "cart", 3, 5);
    metrics.roles.exits("shop", "cart", "GOAL", 4);
    let way = WayState { channel: "email", provider: "mail", accepted: 1, failed: &[("transient", 2)], unknown: 0, durations: NOTHING };
    metrics.sends.show(&way);
    metrics.sends.stopped("email", "CONSENT_MISSING", 2);
    metrics.sends.circuit("mail", true);
    metrics.control.observe("JourneyService/GetJourney", "OK", 0.01);
    metrics.control.reports_lag(2.5);
    metrics
}

/// Lines of a text: name with labels, and value.
fn lines(text: &str) -> Vec<(&str, f64)> {
    let values = text.lines().filter(|line| !line.starts_with('#'));
    values.map(|line| line.rsplit_once(' ').map(|(series, value)| (series, value.parse().unwrap())).unwrap()).collect()
}

fn value(text: &str, series: &str) -> Option<f64> {
    lines(text).into_iter().find_map(|(name, value)| (name == series).then_some(value))
}

#[test]
fn names_say_what_they_are() {
    let mut seen = BTreeSet::new();
    for Described { name, kind, labels, help } in metrics().described() {
        assert!(seen.insert(*name), "{name} twice");
        let process = ["process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds"].contains(name);
        assert!(name.starts_with("waypost_") || process, "{name}");
        assert!(name.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{name}");
        assert_eq!(name.ends_with("_total"), *kind == Kind::Counter, "{name}");
        let has_unit = ["_seconds", "_bytes"].iter().any(|unit| name.trim_end_matches("_total").ends_with(unit));
        assert!(has_unit || *kind != Kind::Histogram, "{name} has no base unit");
        for other in ["_ms", "_millis", "_milliseconds", "_minutes", "_kb", "_mb", "_percent"] {
            assert!(!name.contains(other), "{name} is not in base units");
        }
        assert!(!help.is_empty() && !help.ends_with('.') && !help.contains('\n'), "{name}: {help}");
        for label in *labels {
            for banned in ["id", "ids", "address", "email", "phone", "profile", "user", "key", "token", "message", "event", "ip", "name"] {
                assert!(label.split('_').all(|word| word != banned), "{name} has a label {label}");
            }
        }
    }
}

#[test]
fn what_is_told_is_shown_and_the_text_can_be_read() {
    let text = filled().encode();
    assert!(text.ends_with("# EOF\n"));
    assert!(!lines(&text).is_empty());
    for (series, expected) in [
        ("waypost_build_info{version=\"1.2.3\",engine=\"2\"}", 1.0),
        ("waypost_events_received_total{source_kind=\"browser\",type=\"track\"}", 2.0),
        ("waypost_events_received_total{source_kind=\"kafka\",type=\"event\"}", 0.0),
        ("waypost_http_requests_total{code=\"200\"}", 1.0),
        ("waypost_http_request_duration_seconds_count", 1.0),
        ("waypost_dead_letters_total{role=\"ingest\",reason=\"NO_IDENTIFIER\"}", 1.0),
        ("waypost_dead_letters_total{role=\"identity\",reason=\"DECODE_FAILED\"}", 1.0),
        ("waypost_events_processed_total{role=\"identity\"}", 7.0),
        ("waypost_event_processing_duration_seconds_count{role=\"identity\"}", 6.0),
        ("waypost_event_processing_duration_seconds_bucket{le=\"+Inf\",role=\"identity\"}", 6.0),
        ("waypost_consumer_lag_frames{role=\"identity\",partition=\"3\"}", 2.0),
        ("waypost_partition_halted{role=\"identity\",partition=\"3\"}", 0.0),
        ("waypost_commits_total{role=\"identity\",result=\"ok\"}", 1.0),
        ("waypost_journey_entries_total{workspace=\"shop\",journey=\"cart\",version=\"3\"}", 5.0),
        ("waypost_journey_exits_total{workspace=\"shop\",journey=\"cart\",reason=\"GOAL\"}", 4.0),
        ("waypost_sends_failed_total{channel=\"email\",provider=\"mail\",class=\"transient\"}", 2.0),
        ("waypost_control_requests_total{method=\"JourneyService/GetJourney\",code=\"OK\"}", 1.0),
        ("waypost_kafka_brokers_up", 3.0),
        ("waypost_store_up", 1.0),
    ] {
        assert_eq!(value(&text, series), Some(expected), "{series} in\n{text}");
    }
}

#[test]
fn every_metric_is_shown_under_the_name_and_labels_it_is_described_by() {
    let metrics = filled();
    let text = metrics.encode();
    for Described { name, kind, labels, .. } in metrics.described() {
        let end = if *kind == Kind::Histogram { "_count" } else { "" };
        let shown =
            lines(&text).into_iter().map(|(series, _)| series).find(|series| series.split('{').next() == Some(&format!("{name}{end}")));
        let shown = shown.unwrap_or_else(|| panic!("{name} is not shown:\n{text}"));
        let inside = shown.split_once('{').map_or("", |(_, rest)| rest.trim_end_matches('}'));
        let named: Vec<&str> = inside.split(',').filter_map(|label| label.split_once('=').map(|(name, _)| name)).collect();
        assert_eq!(named, *labels, "{name}");
        let family = name.trim_end_matches("_total");
        assert!(text.contains(&format!("# TYPE {family} {}\n", kind.as_str())), "{name} is no {}", kind.as_str());
    }
}

#[test]
fn what_depends_on_others_is_not_shown_before_it_is_known() {
    let text = metrics().encode();
    for name in ["waypost_kafka_brokers_up", "waypost_store_up", "waypost_reports_lag_seconds"] {
        assert_eq!(value(&text, name), None, "{name}");
    }
}

#[test]
fn a_family_stops_at_its_limit_and_counts_what_comes_then() {
    let metrics = metrics();
    for n in 0..MOST_SERIES + 5 {
        metrics.roles.exits("shop", &format!("journey-{n}"), "GOAL", 1);
        metrics.control.observe(&format!("method-{n}"), "OK", 0.1);
    }
    metrics.roles.exits("shop", "journey-0", "GOAL", 9);
    let text = metrics.encode();
    let lines_of = |family: &str| lines(&text).iter().filter(|(series, _)| series.starts_with(family)).count();
    assert_eq!(lines_of("waypost_journey_exits_total"), MOST_SERIES);
    assert!(lines_of("waypost_control_request_duration_seconds") <= MOST_SERIES);
    assert_eq!(value(&text, "waypost_metrics_dropped_total{family=\"waypost_journey_exits_total\"}"), Some(5.0));
    assert_eq!(value(&text, "waypost_journey_exits_total{workspace=\"shop\",journey=\"journey-0\",reason=\"GOAL\"}"), Some(9.0));
}

#[test]
fn a_partition_that_goes_takes_its_lines_along() {
    let metrics = metrics();
    let at = |partition| PartitionState { partition, lag_frames: Some(1), halted: true };
    metrics.roles.show("sender", &state(&[at(1), at(2)]));
    metrics.roles.show("identity", &state(&[at(1)]));
    let left = [PartitionState { lag_frames: None, ..at(2) }];
    let gone = RoleState { rewind_headroom: None, ..state(&left) };
    metrics.roles.show("sender", &gone);
    let text = metrics.encode();
    let is_shown = |series: &str| value(&text, series).is_some();
    assert!(!is_shown("waypost_partition_halted{role=\"sender\",partition=\"1\"}"));
    assert!(is_shown("waypost_partition_halted{role=\"sender\",partition=\"2\"}"));
    assert!(is_shown("waypost_partition_halted{role=\"identity\",partition=\"1\"}"));
    assert!(!is_shown("waypost_consumer_lag_frames{role=\"sender\",partition=\"2\"}"), "nobody knows");
    assert!(
        !is_shown("waypost_rewind_headroom_seconds{role=\"sender\"}") && is_shown("waypost_rewind_headroom_seconds{role=\"identity\"}")
    );
}

#[test]
fn counters_never_fall() {
    let metrics = metrics();
    for count in [5, 3] {
        metrics.roles.entries("shop", "cart", 1, count);
    }
    assert_eq!(value(&metrics.encode(), "waypost_journey_entries_total{workspace=\"shop\",journey=\"cart\",version=\"1\"}"), Some(5.0));
}

#[test]
fn a_label_holds_nothing_that_names_somebody() {
    let metrics = metrics();
    metrics.roles.exits("shop", "ann@mail.example \"quoted\"\n+49 30 1", "GOAL", 1);
    let text = metrics.encode();
    assert!(!text.contains('@') && text.contains("ann_mail.example__quoted"), "{text}");
    assert!(lines(&text).len() > 1);
}

/// The list of docs/metrics.md: a row a metric.
#[test]
fn the_published_list_is_what_there_is() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/metrics.md");
    let text = fs::read_to_string(&file).unwrap();
    let published: Vec<&str> = text.lines().filter(|line| line.starts_with("| `waypost_") || line.starts_with("| `process_")).collect();
    let row = |metric: &Described| {
        let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        format!("| `{}` | {} | {} | {} |", metric.name, metric.kind.as_str(), labels.join(" "), metric.help)
    };
    let metrics = metrics();
    let mut expected: Vec<String> = metrics.described().map(row).collect();
    expected.sort();
    assert!(published == expected, "docs/metrics.md must have these rows:\n{}", expected.join("\n"));
}
