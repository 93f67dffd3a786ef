//! One trace from the request to the call of the provider, across all hops; and metrics by the same way.

use std::collections::BTreeSet;

use opentelemetry_proto::tonic::metrics::v1::{metric::Data, number_data_point::Value};
use serde_json::json;

use crate::{collector, http::Request, public::header, shop::Shop, stack::visit};

const TRACE: u128 = 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736;

/// Says that somebody signed up, under a `traceparent`.
fn sign_up(shop: &Shop, who: &str, key: &str, traceparent: String) {
    let call = json!({"userId": who, "event": "Signed Up", "messageId": format!("traced-{who}"), "properties": {}}).to_string();
    let answer = shop.request(&Request::post("/v1/track", call).key(key).header("traceparent", traceparent));
    assert_eq!(answer.status, 200, "{}", answer.body);
}

#[test]
fn a_trace_goes_from_the_request_to_the_call_of_the_provider() {
    let visit = visit();
    let shop = &visit.shop;
    let address = shop.person("traced");
    sign_up(shop, "traced", &shop.backend, format!("00-{TRACE:032x}-00f067aa0ba902b7-01"));
    shop.mail(&address, "greet Ann");

    // The receipt is the last that comes of a call.
    let inbox = |name: &str| format!("process {}{name}", shop.prefix());
    let way = [
        "POST /v1/track".to_owned(),
        "send wp1.identity".to_owned(),
        inbox("wp1.identity"),
        inbox("wp1.segment"),
        inbox("wp1.journey"),
        inbox("wp1.send"),
        "call email".to_owned(),
    ];
    let spans = shop.until("the whole trace", || {
        let spans = collector::of(&TRACE.to_be_bytes());
        way.iter().all(|name| spans.iter().any(|span| span.name == *name)).then_some(spans)
    });

    // From the call upwards everybody names who came before, up to the caller's own span.
    let mut at = spans.iter().find(|span| span.name == way[6]).unwrap();
    let mut above = vec![at.name.clone()];
    while let Some(parent) = spans.iter().find(|span| span.span_id == at.parent_span_id) {
        at = parent;
        above.push(at.name.clone());
        assert!(above.len() < 20, "{above:?}");
    }
    assert_eq!(at.parent_span_id, 0x00f0_67aa_0ba9_02b7_u64.to_be_bytes(), "{above:?}");
    above.dedup();
    let mut down = way.to_vec();
    down.reverse();
    assert_eq!(above, down);

    let fold = spans.iter().find(|span| span.name == way[2]).unwrap();
    assert_eq!(collector::attribute(fold, "messaging.system"), "kafka");
    assert_eq!(collector::attribute(fold, "messaging.operation.type"), "process");
    let told = format!("{spans:?}");
    assert!(!told.contains("traced@mail.example") && !told.contains(&shop.backend), "nothing of a person, no key");

    // Others read on from the public topics.
    let entered = shop.decisions.raw().into_iter().find(|row| header(row, "traceparent").contains(&format!("{TRACE:032x}")));
    assert!(entered.is_some(), "a decision says of which trace it is");
}

#[test]
fn what_is_not_sampled_is_not_told_and_a_page_does_not_decide() {
    let visit = visit();
    let shop = &visit.shop;
    let (unsampled, page) = (TRACE + 1, TRACE + 2);
    sign_up(shop, "unsampled", &shop.backend, format!("00-{unsampled:032x}-00f067aa0ba902b7-00"));
    sign_up(shop, "by-a-page", &shop.web, format!("00-{page:032x}-00f067aa0ba902b7-01"));
    // What came later is told, what came before is not.
    let later = TRACE + 3;
    sign_up(shop, "sampled-later", &shop.backend, format!("00-{later:032x}-00f067aa0ba902b7-01"));
    shop.until("the later trace", || (collector::of(&later.to_be_bytes()).len() >= 4).then_some(()));
    assert!(collector::of(&unsampled.to_be_bytes()).is_empty() && collector::of(&page.to_be_bytes()).is_empty());
    assert!(collector::len() > 0);
}

#[test]
fn metrics_go_to_the_collector_too() {
    let visit = visit();
    let shop = &visit.shop;
    sign_up(shop, "counted", &shop.backend, format!("00-{:032x}-00f067aa0ba902b7-00", TRACE + 4));
    let received = shop.until("events of a server's key at the collector", || {
        let sums = collector::metrics("waypost_events_received_total").into_iter().map(|metric| match metric.data {
            Some(Data::Sum(sum)) => sum,
            other => panic!("counters are sums: {other:?}"),
        });
        let mut points = sums.flat_map(|sum| sum.data_points);
        points.find(|point| point.attributes.iter().any(|said| said.key == "source_kind") && point.value != Some(Value::AsDouble(0.0)))
    });
    assert!(received.start_time_unix_nano > 0 && received.start_time_unix_nano <= received.time_unix_nano);
    shop.until("each role's folds at the collector", || {
        let points = collector::metrics("waypost_event_processing_duration_seconds").into_iter().map(|metric| match metric.data {
            Some(Data::Histogram(histogram)) => histogram.data_points,
            other => panic!("histograms are such: {other:?}"),
        });
        let roles: BTreeSet<String> =
            points.flatten().filter(|point| point.count > 0).map(|point| format!("{:?}", point.attributes)).collect();
        (roles.len() >= 4).then_some(())
    });
}
