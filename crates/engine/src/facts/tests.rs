//! How a stored person, event and run answer.

use std::collections::BTreeMap;

use waypost_codec::{
    inbox::{self, CartStatus},
    value::{object_to_proto, to_proto},
};
use waypost_types::{Span, WorkspaceId};

use super::*;
use crate::{
    condition::{Scope, compile},
    definitions::Policy,
};

const NOW: Timestamp = Timestamp::from_millis(1_000 * 86_400_000);

fn workspace() -> Workspace {
    Workspace {
        id: WorkspaceId::new(1),
        name: "shop".to_owned(),
        policy: Policy::default(),
        topics: BTreeMap::new(),
        channels: BTreeMap::new(),
        segments: BTreeMap::new(),
        segment_order: Vec::new(),
        templates: BTreeMap::new(),
        journeys: crate::definitions::Journeys::default(),
        sources: BTreeMap::new(),
    }
}

fn field(path: &str, value: &Value) -> inbox::Field {
    inbox::Field { path: path.to_owned(), value: Some(to_proto(value)), set_at: 1 }
}

fn line(product_id: &str) -> inbox::Line {
    let price_amount = Some(inbox::Amount { minor: 3_000, currency: "USD".to_owned() });
    inbox::Line { product_id: product_id.to_owned(), quantity: 2, price: Some(2_500), price_amount, ..inbox::Line::default() }
}

fn person() -> inbox::Person {
    let cart = |id: &str, status: CartStatus, lines| inbox::Cart {
        cart_id: id.to_owned(),
        status: status.into(),
        lines,
        value: Some(5_000),
        total: None,
        updated_at: 7,
        status_at: 7,
    };
    inbox::Person {
        fields: vec![
            field("extra.eye.colour", &Value::text("green")),
            field("extra.shoe_size", &Value::Int(42)),
            field("last_order_at", &Value::Time(NOW.minus(Span::from_days(3)))),
        ],
        carts: vec![cart("k1", CartStatus::InCheckout, vec![line("p1")]), cart("k2", CartStatus::Ordered, vec![])],
        orders: vec![inbox::Order {
            order_id: "o1".to_owned(),
            status: "placed".to_owned(),
            flags: vec!["delayed".to_owned()],
            value: Some(5_000),
            placed_at: NOW.millis(),
            ..inbox::Order::default()
        }],
        addresses: vec![inbox::Address { channel: "email".to_owned(), value: "ana@shop.example".to_owned(), ..inbox::Address::default() }],
        memberships: vec![inbox::Membership {
            segment: "vip".to_owned(),
            truth: inbox::Truth::Yes.into(),
            valid_until: NOW.millis() + 9,
            since: 1,
            version: 1,
        }],
        not_in: vec![membership::fingerprint("plain")],
        ..inbox::Person::default()
    }
}

fn event(name: &str) -> inbox::Event {
    let products = Value::List(vec![Value::object([("product_id".to_owned(), Value::text("p1"))])]);
    let properties = Value::object([
        ("cart_id".to_owned(), Value::text("k1")),
        ("products".to_owned(), products),
        ("gift".to_owned(), Value::object([("wrap.colour".to_owned(), Value::text("red"))])),
    ]);
    let context = Value::object([("page".to_owned(), Value::object([("path".to_owned(), Value::text("/sale"))]))]);
    let object = |value: Value| if let Value::Object(entries) = value { Some(object_to_proto(&entries)) } else { None };
    inbox::Event {
        message_id: "m1".to_owned(),
        name: name.to_owned(),
        event_time: 5,
        received_at: 6,
        properties: object(properties),
        context: object(context),
        source: "web".to_owned(),
        ..inbox::Event::default()
    }
}

#[test]
fn stored_people_and_events_answer() {
    let (person, workspace) = (person(), workspace());
    let (added, entry) = (event("Product Added"), event("Cart Updated"));
    let run = RunFacts { id: RunId::new([1; 16]), key: "k1".to_owned(), entered_at: NOW, version: 3 };
    let facts = PersonFacts::new(NOW, &person, &workspace).with_event(&added).with_entry(&entry).with_run(run);
    let scope = Scope::journey(Currency::EUR, ["vip".to_owned(), "new".to_owned(), "plain".to_owned()].into());
    for (source, truth) in [
        (r#"profile.email == "ana@shop.example""#, Truth::Yes),
        ("profile.extra[\"shoe_size\"] == 42 && profile.extra.shoe_size == 42", Truth::Yes),
        (r#"profile.extra["eye.colour"] == "green" && size(profile.extra) == 2"#, Truth::Yes),
        (r#"profile.extra["hat_size"] == 42"#, Truth::Unknown),
        ("profile.first_name == \"Ana\"", Truth::Unknown),
        (r#"profile.order_count == 0 && profile.ltv == money("0")"#, Truth::Yes),
        (r#"elapsed(profile.last_order_at, "3d")"#, Truth::Yes),
        (r#"profile.carts.exists(c, c.cart_id == "k2" && c.status == "ordered")"#, Truth::Yes),
        ("cart_open(event.cart_id) && cart(run.key).value == money(\"50.00\")", Truth::Yes),
        (r#"cart("k1").lines.all(l, l.quantity == 2 && l.price_base == money("25"))"#, Truth::Yes),
        (r#"cart_open("k2")"#, Truth::No),
        (r#"cart_open("k3")"#, Truth::Unknown),
        (r#""delayed" in order("o1").flags && order("o1").status == "placed""#, Truth::Yes),
        (r#"in_segment("vip")"#, Truth::Yes),
        (r#"in_segment("new")"#, Truth::Unknown),
        (r#"in_segment("plain")"#, Truth::No),
        (r#"event.meta.name == "Product Added" && entry.meta.name == "Cart Updated""#, Truth::Yes),
        (r#"event.meta.id == "m1" && event.meta.source == "web" && event.meta.time < event.meta.received_at"#, Truth::Yes),
        (r#"event.context.page.path == "/sale""#, Truth::Yes),
        (r#"event.gift["wrap.colour"] == "red""#, Truth::Yes),
        ("entry.products.exists(p, p.product_id == \"p1\")", Truth::Yes),
        (r#"run.version == 3 && run.key == "k1" && run.entered_at == run.entered_at"#, Truth::Yes),
    ] {
        let program = compile(source, &scope).unwrap_or_else(|e| panic!("{source}\n{e}"));
        assert_eq!(program.truth(&facts).0, truth, "{source}");
    }
    let vip = compile(r#"in_segment("vip")"#, &scope).expect("it is known");
    assert_eq!(vip.truth(&facts).1, Some(Timestamp::from_millis(NOW.millis() + 9)));
}

#[test]
fn without_an_event_or_a_run_they_are_unknown() {
    let (person, workspace) = (person(), workspace());
    let facts = PersonFacts::new(NOW, &person, &workspace);
    for path in [(Root::Event, "cart_id"), (Root::Event, "meta.name"), (Root::Entry, "products"), (Root::Run, "key"), (Root::Vars, "x")] {
        assert_eq!(facts.path(path.0, path.1), None, "{path:?}");
    }
}

#[test]
fn coverage_begins_where_the_policy_says_or_with_the_profile() {
    let (person, mut workspace) = (person(), workspace());
    let created = NOW.minus(Span::from_days(10));
    assert_eq!(PersonFacts::new(NOW, &person, &workspace).covered_since(), None);
    assert_eq!(PersonFacts::new(NOW, &person, &workspace).with_profile_created(created).covered_since(), Some(created));
    let seen = inbox::Person { fields: vec![field("first_seen_at", &Value::Time(created))], ..inbox::Person::default() };
    assert_eq!(PersonFacts::new(NOW, &seen, &workspace).covered_since(), Some(created));
    workspace.policy.covered_since = Some(Timestamp::ZERO);
    assert_eq!(PersonFacts::new(NOW, &person, &workspace).with_profile_created(created).covered_since(), Some(Timestamp::ZERO));
}
