//! A collector of traces and metrics inside the test process: OTLP over gRPC, kept in memory.

use std::sync::{LazyLock, Mutex, PoisonError};

use opentelemetry_proto::tonic::{
    collector::{
        metrics::v1::{
            ExportMetricsServiceRequest, ExportMetricsServiceResponse,
            metrics_service_server::{MetricsService, MetricsServiceServer},
        },
        trace::v1::{
            ExportTraceServiceRequest, ExportTraceServiceResponse,
            trace_service_server::{TraceService, TraceServiceServer},
        },
    },
    common::v1::{KeyValue, any_value},
    metrics::v1::Metric,
    trace::v1::Span,
};
use tonic::{Request, Response, Status, transport::Server};
use waypost_tests::process::free_port;

use crate::public::RUNTIME;

static SPANS: Mutex<Vec<Span>> = Mutex::new(Vec::new());
static METRICS: Mutex<Vec<Metric>> = Mutex::new(Vec::new());
static ADDRESS: LazyLock<String> = LazyLock::new(|| {
    let address = format!("127.0.0.1:{}", free_port());
    let services = Server::builder().add_service(TraceServiceServer::new(Collector)).add_service(MetricsServiceServer::new(Collector));
    let serving = services.serve(address.parse().unwrap());
    drop(RUNTIME.spawn(async move { serving.await.expect("the collector serves") }));
    format!("http://{address}")
});

#[derive(Debug)]
struct Collector;

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(&self, request: Request<ExportTraceServiceRequest>) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let spans = request.into_inner().resource_spans.into_iter().flat_map(|r| r.scope_spans).flat_map(|s| s.spans);
        SPANS.lock().unwrap_or_else(PoisonError::into_inner).extend(spans);
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl MetricsService for Collector {
    async fn export(&self, request: Request<ExportMetricsServiceRequest>) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        let metrics = request.into_inner().resource_metrics.into_iter().flat_map(|r| r.scope_metrics).flat_map(|s| s.metrics);
        METRICS.lock().unwrap_or_else(PoisonError::into_inner).extend(metrics);
        Ok(Response::new(ExportMetricsServiceResponse::default()))
    }
}

/// Where it listens, `http://127.0.0.1:port`.
pub(crate) fn address() -> &'static str {
    &ADDRESS
}

/// Every span of a trace that has come so far.
pub(crate) fn of(trace: &[u8]) -> Vec<Span> {
    let spans = SPANS.lock().unwrap_or_else(PoisonError::into_inner);
    spans.iter().filter(|span| span.trace_id == trace).cloned().collect()
}

/// How many spans have come of all traces.
pub(crate) fn len() -> usize {
    SPANS.lock().unwrap_or_else(PoisonError::into_inner).len()
}

/// Every metric of a name that has come so far, of whichever process.
pub(crate) fn metrics(name: &str) -> Vec<Metric> {
    let metrics = METRICS.lock().unwrap_or_else(PoisonError::into_inner);
    metrics.iter().filter(|metric| metric.name == name).cloned().collect()
}

/// All that has come so far, as text.
pub(crate) fn everything() -> String {
    let spans = SPANS.lock().unwrap_or_else(PoisonError::into_inner);
    let metrics = METRICS.lock().unwrap_or_else(PoisonError::into_inner);
    format!("{spans:?} {metrics:?}")
}

/// What a span says under a name.
pub(crate) fn attribute(span: &Span, name: &str) -> String {
    let found = span.attributes.iter().find(|KeyValue { key, .. }| key == name);
    match found.and_then(|found| found.value.as_ref()?.value.as_ref()) {
        Some(any_value::Value::StringValue(text)) => text.clone(),
        Some(any_value::Value::IntValue(number)) => number.to_string(),
        other => format!("{other:?}"),
    }
}
