//! What the people of a run do, as `wp1.identity` records: what ingest would write for such calls of a shop's own service.

use bytes::Bytes;
use waypost_codec::{frame::Record, inbox};
use waypost_ingest::normalise::record;
use waypost_types::{IdentifierClass, Timestamp};

use super::plan::{Run, Turn};

/// In minor units of the workspace's currency.
const PRICE: i64 = 8_900;

/// The record of an event, said and received `now`.
pub(super) fn of(run: &Run, key: &[u8; 32], number: u64, turn: Turn, now: Timestamp) -> Record {
    let identifier = inbox::Identifier {
        class: IdentifierClass::UserId.number(),
        custom: String::new(),
        value: run.user(turn.person),
        hash: Bytes::copy_from_slice(run.hash(key, turn.person).as_bytes()),
    };
    let event = inbox::Event {
        message_id: format!("bench-{}-{number}", run.name()),
        name: turn.name.to_owned(),
        identifiers: vec![identifier],
        event_time: now.millis(),
        received_at: now.millis(),
        properties: object(properties(run, turn)),
        context: object(vec![("page_path", text("/waypost/bench")), ("user_agent", text("waypost bench"))]),
        source: "waypost-bench".to_owned(),
        // nothing of a bench can be a consent
        may_grant: false,
        ..inbox::Event::default()
    };
    record(&event, run.workspace, now)
}

fn properties(run: &Run, turn: Turn) -> Vec<(&'static str, inbox::value::Kind)> {
    let of = |what: &str| text(format!("bench-{what}-{}-{}", run.name(), turn.person));
    let product =
        || vec![("product_id", text("waypost-bench")), ("name", text("Waypost bench")), ("price", money()), ("category", text("Bench"))];
    match turn.name {
        "Page Viewed" => vec![("title", text("Waypost bench")), ("url", text("https://waypost-bench.invalid/"))],
        "Products Searched" => vec![("query", text("waypost bench"))],
        "Product Viewed" => product(),
        "Product Added" => [product(), vec![("cart_id", of("cart")), ("quantity", inbox::value::Kind::Int(1))]].concat(),
        "Checkout Started" => vec![("checkout_id", of("checkout")), ("cart_id", of("cart")), ("value", money())],
        "Order Completed" => vec![("order_id", of("order")), ("cart_id", of("cart")), ("total", money()), ("revenue", money())],
        _ => Vec::new(),
    }
}

fn text(text: impl Into<String>) -> inbox::value::Kind {
    inbox::value::Kind::Text(text.into())
}

fn money() -> inbox::value::Kind {
    inbox::value::Kind::Money(PRICE)
}

/// Names in order, as the codec wants them.
fn object(mut values: Vec<(&'static str, inbox::value::Kind)>) -> Option<inbox::Object> {
    values.sort_by_key(|(name, _)| *name);
    let entry = |(name, kind): (&str, inbox::value::Kind)| inbox::Property {
        name: name.to_owned(),
        value: Some(inbox::Value { kind: Some(kind) }),
    };
    (!values.is_empty()).then(|| inbox::Object { entries: values.into_iter().map(entry).collect() })
}

#[cfg(test)]
mod tests {
    use prost::Message as _;
    use waypost_runtime::host::OsEntropy;
    use waypost_types::WorkspaceId;

    use super::{super::plan::Plan, *};

    /// Nobody can be written to, whatever the journeys are: that rests on what is not said of anybody here.
    #[test]
    fn nobody_has_an_address_a_consent_or_a_name() {
        let plan = Plan { events: 2_000, at_a_time: 50 };
        let run = Run::draw(&mut OsEntropy, WorkspaceId::new(1), plan.people());
        for number in 0..plan.events {
            let record = of(&run, &[7; 32], number, plan.turn(number), Timestamp::from_millis(1));
            let body = inbox::IdentityEvent::decode(record.body.clone()).unwrap();
            let event = inbox::Event::decode(body.event).unwrap();
            assert_eq!(event.identifiers.iter().map(|i| i.class).collect::<Vec<_>>(), [IdentifierClass::UserId.number()]);
            assert!(event.traits.is_none() && !event.may_grant, "{event:?}");
            assert!(!["Subscribed", "Consent Changed"].contains(&event.name.as_str()));
            let said = format!("{} {:?} {:?}", event.identifiers[0].value, event.properties, event.context);
            assert!(!said.contains('@'), "an address in {said}");
            assert!(event.message_id.contains(run.name()) && event.message_id.len() <= 100);
        }
    }
}
