//! One trace from the request to the call of the provider, across all hops; and metrics by the same way.

use std::collections::BTreeSet;

use opentelemetry_proto::tonic::metrics::v1::{metric::Data, number_data_point::Value};
use serde_json::{Value as Json, json};

use tonic::{Code, client::Grpc, transport::Endpoint};
use tonic_prost::ProstCodec;

use crate::{
    collector,
    http::Request,
    public::{RUNTIME, header},
    shop::Shop,
    stack::{beside, visit},
};

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
        format!("send {}wp1.identity", shop.prefix()),
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
    // What is done for many records at once names those whose trace is kept.
    let commit = shop.until("the commit of identity", || {
        let spans = collector::of(&TRACE.to_be_bytes());
        spans.into_iter().find(|span| span.name == format!("commit {}wp1.identity", shop.prefix()))
    });
    assert!(commit.links.iter().any(|link| link.span_id == fold.span_id), "{commit:?}");
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

/// Asks the control API for something that it has not, under a `traceparent`.
fn ask_in_vain(shop: &Shop, traceparent: &str) {
    let asked = async {
        let channel = Endpoint::from_shared(format!("http://127.0.0.1:{}", shop.control)).unwrap().connect().await.unwrap();
        let mut client = Grpc::new(channel);
        client.ready().await.unwrap();
        let mut request = tonic::Request::new(());
        request.metadata_mut().insert("traceparent", traceparent.parse().unwrap());
        let path = "/waypost.control.v1.NoService/NoMethod".parse().unwrap();
        client.unary::<(), (), _>(request, path, ProstCodec::<(), ()>::default()).await.unwrap_err().code()
    };
    assert_eq!(RUNTIME.block_on(asked), Code::PermissionDenied);
}

#[test]
fn a_log_line_says_of_which_trace_it_is() {
    let set = |name: &str, value: &str| (format!("WAYPOST_LOG_{name}"), value.to_owned());
    let lines = beside("lines", vec![set("FORMAT", "json"), set("FILTER", "info,waypost_ingest=debug,waypost_sender=debug")]);
    let shop = &lines.shop;
    let address = shop.person("lines");
    let parent = |trace: u128| format!("00-{trace:032x}-00f067aa0ba902b7-01");
    let [mailed, refused, asked] = [10, 11, 12].map(|n| TRACE + n);
    sign_up(shop, "lines", &shop.backend, parent(mailed));
    let nameless = json!({"userId": "lines", "messageId": "nameless"}).to_string();
    let answer = shop.request(&Request::post("/v1/track", nameless).key(&shop.backend).header("traceparent", parent(refused)));
    assert_eq!(answer.status, 400, "{}", answer.body);
    ask_in_vain(shop, &parent(asked));
    shop.mail(&address, "greet Ann");

    let within = |role: &str, trace: u128, message: &str, span: &str| {
        let line: Json = shop.until(&format!("`{message}` of {role} in its trace"), || {
            let log = shop.log(role);
            let lines = log.lines().map(|line| serde_json::from_str::<Json>(line).unwrap());
            let mut of = lines.filter(|line| line["trace_id"] == format!("{trace:032x}"));
            of.find(|line| line["fields"]["message"] == message)
        });
        let told = shop.until(&format!("the span `{span}`"), || collector::of(&trace.to_be_bytes()).into_iter().find(|s| s.name == span));
        let id = u64::from_be_bytes(told.span_id.try_into().unwrap());
        assert_eq!(line["span_id"], format!("{id:016x}"), "{line}");
    };
    within("sender", mailed, "provider called", "call email");
    within("control", asked, "refused", "unknown");
    // A request of which nothing is kept has no span of its own, but its line says of which trace it is.
    shop.until("the door's line", || {
        let log = shop.log("ingest");
        log.lines().any(|line| line.contains("event rejected") && line.contains(&format!("{refused:032x}"))).then_some(())
    });
    let of_none = shop.log("sender").lines().filter(|line| line.contains("\"serving\"") && !line.contains("trace_id")).count();
    assert_eq!(of_none, 1, "a line of no trace says nothing of one");
}
