//! Metrics over OTLP: the same families under the same names as on `/metrics`, cumulative since the process began.

use opentelemetry_proto::tonic::{
    collector::metrics::v1::{ExportMetricsServiceRequest, metrics_service_client::MetricsServiceClient},
    common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value},
    metrics::v1::{
        AggregationTemporality, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, metric,
        number_data_point,
    },
    resource::v1::Resource,
};
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};
use waypost_types::Timestamp;

use super::{Collector, OtlpError, PATIENCE};
use crate::metrics::{Kind, Point, PointValue, Reading};

/// Sends what metrics say to a collector.
#[derive(Clone, Debug)]
pub struct OtlpMetrics {
    client: MetricsServiceClient<Channel>,
    endpoint: String,
    resource: Resource,
    began: Timestamp,
}

// === impl OtlpMetrics ===

impl OtlpMetrics {
    /// To this collector, of a process that began then. Connects with the first that is sent.
    ///
    /// # Errors
    /// An address that is none.
    pub fn new(collector: &Collector, began: Timestamp) -> Result<Self, OtlpError> {
        let wrong = |why: tonic::transport::Error| OtlpError { endpoint: collector.endpoint.clone(), why: why.to_string() };
        let mut at = Endpoint::from_shared(collector.endpoint.clone()).map_err(wrong)?.timeout(PATIENCE);
        if collector.endpoint.starts_with("https:") {
            at = at.tls_config(ClientTlsConfig::new().with_enabled_roots()).map_err(wrong)?;
        }
        let attributes = [("service.name", collector.service.as_str())].into_iter().chain(collector.attributes());
        let resource =
            Resource { attributes: attributes.map(|(name, value)| said(name, value.to_owned())).collect(), ..Resource::default() };
        Ok(Self { client: MetricsServiceClient::new(at.connect_lazy()), endpoint: collector.endpoint.clone(), resource, began })
    }

    /// Sends what they say at an instant.
    ///
    /// # Errors
    /// A collector that does not answer, or refuses some of it.
    pub async fn send(&self, readings: &[Reading], at: Timestamp) -> Result<(), OtlpError> {
        let wrong = |why: String| OtlpError { endpoint: self.endpoint.clone(), why };
        let answer = self.client.clone().export(request(&self.resource, readings, self.began, at)).await;
        let refused = answer.map_err(|status| wrong(status.to_string()))?.into_inner().partial_success.unwrap_or_default();
        if refused.rejected_data_points > 0 {
            return Err(wrong(format!("{} points were refused: {}", refused.rejected_data_points, refused.error_message)));
        }
        Ok(())
    }
}

fn request(resource: &Resource, readings: &[Reading], began: Timestamp, at: Timestamp) -> ExportMetricsServiceRequest {
    let scope =
        InstrumentationScope { name: "waypost".into(), version: env!("CARGO_PKG_VERSION").into(), ..InstrumentationScope::default() };
    let metrics = readings.iter().filter(|reading| !reading.points.is_empty()).map(|reading| metric(reading, nanos(began), nanos(at)));
    let of_scope = ScopeMetrics { scope: Some(scope), metrics: metrics.collect(), schema_url: String::new() };
    let all = ResourceMetrics { resource: Some(resource.clone()), scope_metrics: vec![of_scope], schema_url: String::new() };
    ExportMetricsServiceRequest { resource_metrics: vec![all] }
}

fn metric(reading: &Reading, began: u64, at: u64) -> Metric {
    let Reading { described, points } = reading;
    let cumulative = AggregationTemporality::Cumulative.into();
    let numbers = || points.iter().filter_map(|point| number(point, described.labels, began, at)).collect();
    let data = match described.kind {
        Kind::Counter => metric::Data::Sum(Sum { data_points: numbers(), aggregation_temporality: cumulative, is_monotonic: true }),
        Kind::Gauge => metric::Data::Gauge(Gauge { data_points: numbers() }),
        Kind::Histogram => {
            let data_points = points.iter().filter_map(|point| histogram(point, described.labels, began, at)).collect();
            metric::Data::Histogram(Histogram { data_points, aggregation_temporality: cumulative })
        }
    };
    Metric {
        name: described.name.to_owned(),
        description: described.help.to_owned(),
        unit: unit(described.name).to_owned(),
        data: Some(data),
        ..Metric::default()
    }
}

/// Units as UCUM writes them.
fn unit(name: &str) -> &'static str {
    let bare = name.strip_suffix("_total").unwrap_or(name);
    match bare.rsplit_once('_') {
        Some((_, "seconds")) => "s",
        Some((_, "bytes")) => "By",
        _ => "",
    }
}

fn number(point: &Point, labels: &[&str], began: u64, at: u64) -> Option<NumberDataPoint> {
    let PointValue::Number(value) = point.value else { return None };
    Some(NumberDataPoint {
        attributes: attributes(labels, point),
        start_time_unix_nano: began,
        time_unix_nano: at,
        value: Some(number_data_point::Value::AsDouble(value)),
        ..NumberDataPoint::default()
    })
}

fn histogram(point: &Point, labels: &[&str], began: u64, at: u64) -> Option<HistogramDataPoint> {
    let PointValue::Histogram { bounds, counts, sum } = &point.value else { return None };
    Some(HistogramDataPoint {
        attributes: attributes(labels, point),
        start_time_unix_nano: began,
        time_unix_nano: at,
        count: counts.iter().sum(),
        sum: Some(*sum),
        bucket_counts: counts.clone(),
        explicit_bounds: bounds.to_vec(),
        ..HistogramDataPoint::default()
    })
}

fn attributes(labels: &[&str], point: &Point) -> Vec<KeyValue> {
    labels.iter().zip(&point.labels).map(|(name, value)| said(name, value.clone())).collect()
}

fn said(name: &str, value: String) -> KeyValue {
    KeyValue { key: name.to_owned(), value: Some(AnyValue { value: Some(any_value::Value::StringValue(value)) }), ..KeyValue::default() }
}

fn nanos(at: Timestamp) -> u64 {
    u64::try_from(at.millis()).unwrap_or(0).saturating_mul(1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;

    fn sent(metrics: &Metrics) -> Vec<Metric> {
        let request = request(&Resource::default(), &metrics.read(), Timestamp::from_millis(1_000), Timestamp::from_millis(61_000));
        request.resource_metrics.into_iter().flat_map(|all| all.scope_metrics).flat_map(|scope| scope.metrics).collect()
    }

    #[test]
    fn what_prometheus_reads_is_what_is_sent() {
        let metrics = Metrics::new("1.2.3", 2);
        metrics.control.observe("JourneyService/GetJourney", "OK", 0.004);
        metrics.door.rejected("NO_IDENTIFIER");
        let sent = sent(&metrics);
        let one = |name: &str| sent.iter().find(|metric| metric.name == name).unwrap_or_else(|| panic!("no {name}")).data.clone().unwrap();

        let metric::Data::Sum(rejected) = one("waypost_events_rejected_total") else { panic!("counters are sums") };
        assert!(rejected.is_monotonic && rejected.aggregation_temporality() == AggregationTemporality::Cumulative);
        let point = &rejected.data_points[0];
        assert_eq!(point.attributes, [said("reason", "NO_IDENTIFIER".to_owned())]);
        assert_eq!(point.value, Some(number_data_point::Value::AsDouble(1.0)));
        assert_eq!((point.start_time_unix_nano, point.time_unix_nano), (1_000_000_000, 61_000_000_000));

        let metric::Data::Histogram(took) = one("waypost_control_request_duration_seconds") else { panic!("histograms are such") };
        let point = &took.data_points[0];
        assert_eq!((point.count, point.sum, point.bucket_counts[1]), (1, Some(0.004), 1));
        assert_eq!(point.bucket_counts.len(), point.explicit_bounds.len() + 1);

        let metric::Data::Gauge(build) = one("waypost_build_info") else { panic!("gauges are such") };
        let words = [said("version", "1.2.3".to_owned()), said("engine", "2".to_owned())];
        assert_eq!(build.data_points[0].attributes, words);

        // Every family that is shown as text is sent, and no other.
        let shown = metrics.encode();
        let series = |name: &str| shown.lines().any(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ', '_'])));
        assert!(sent.iter().all(|metric| series(&metric.name)), "{sent:#?}");
        let text = shown.lines().filter(|line| line.starts_with("# TYPE ")).count();
        assert_eq!(metrics.described().count(), text);
    }

    #[test]
    fn units_are_said() {
        assert_eq!(["process_cpu_seconds_total", "process_resident_memory_bytes", "waypost_store_up"].map(unit), ["s", "By", ""]);
    }
}
