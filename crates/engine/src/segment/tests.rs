//! What events do to a person, as tables of short stories.

use std::{collections::BTreeMap, sync::Arc};

use prost::Message as _;
use waypost_codec::{
    inbox::{CartStatus, Consent, ConsentState, Event, Identifier, Membership, Truth},
    value::object_to_proto,
    view,
};
use waypost_types::{ContentHash, IdentifierClass, Span, Value as V, WorkspaceId};

use super::*;
use crate::{
    condition::{Scope, compile},
    definitions::{Policy, Segment, Workspace},
};

mod judged;

fn workspace(segments: &[(&str, &str)]) -> Workspace {
    let names = segments.iter().map(|(n, _)| (*n).to_owned()).collect();
    let scope = Scope::segment(Policy::default().currency, names);
    let compiled = segments.iter().map(|(name, condition)| {
        let condition = Arc::new(compile(condition, &scope).unwrap());
        ((*name).to_owned(), Segment { name: (*name).to_owned(), describe: String::new(), version: 1, condition })
    });
    Workspace {
        id: WorkspaceId::new(1),
        name: "shop".to_owned(),
        policy: Policy { covered_since: Some(Timestamp::from_millis(1)), ..Policy::default() },
        topics: BTreeMap::new(),
        channels: BTreeMap::new(),
        segments: compiled.collect(),
        segment_order: segments.iter().map(|(n, _)| (*n).to_owned()).collect(),
        templates: BTreeMap::new(),
        journeys: crate::definitions::Journeys::default(),
        sources: BTreeMap::new(),
    }
}

fn plan(workspace: &Workspace) -> Plan {
    Plan::new(ContentHash::new([1; 16]), Arc::new(workspace.clone()))
}

// The folds where nothing is known of what was judged before.

fn event(profile: &mut SegmentProfile, node: &Bytes, event: &Event, now: Timestamp, workspace: &Workspace) -> Outcome {
    super::event(profile, &mut Judged::default(), node, &event.into(), now, &plan(workspace))
}

fn wake(profile: &mut SegmentProfile, now: Timestamp, workspace: &Workspace) -> Outcome {
    super::wake(profile, &mut Judged::default(), now, &plan(workspace))
}

fn import(profile: &mut SegmentProfile, moved: SegmentProfile, loser: &Bytes, now: Timestamp, workspace: &Workspace) -> Outcome {
    super::import(profile, &mut Judged::default(), moved, loser, now, &plan(workspace))
}

fn object(entries: Vec<(&str, V)>) -> V {
    V::object(entries.into_iter().map(|(n, v)| (n.to_owned(), v)))
}

fn named(name: &str, at: i64, properties: Vec<(&str, V)>) -> Event {
    let V::Object(entries) = object(properties) else { unreachable!() };
    Event {
        name: name.to_owned(),
        event_time: at,
        properties: Some(object_to_proto(&entries)),
        source: "server".to_owned(),
        ..Event::default()
    }
}

fn product(id: &str, price: i64) -> V {
    object(vec![("product_id", V::text(id)), ("price", V::Money(price)), ("quantity", V::Int(1))])
}

fn added(at: i64, cart: &str, id: &str) -> Event {
    named("Product Added", at, vec![("cart_id", V::text(cart)), ("product_id", V::text(id)), ("price", V::Money(1_000))])
}

fn updated(at: i64, cart: &str, ids: &[&str]) -> Event {
    named("Cart Updated", at, vec![("cart_id", V::text(cart)), ("products", V::List(ids.iter().map(|i| product(i, 1_000)).collect()))])
}

fn checkout(at: i64, cart: &str, ids: &[&str]) -> Event {
    Event { name: "Checkout Started".to_owned(), ..updated(at, cart, ids) }
}

fn ordered(at: i64, order: &str, more: Vec<(&str, V)>) -> Event {
    let mut properties = vec![("order_id", V::text(order))];
    properties.extend(more);
    named("Order Completed", at, properties)
}

fn node() -> Bytes {
    Bytes::from_static(&[2; 31])
}

/// Folds events in the order given, at a log time behind all of them.
fn person(events: &[Event]) -> Person {
    let mut profile = SegmentProfile::default();
    let mut followed = Person::default();
    for one in events {
        let outcome = event(&mut profile, &node(), one, Timestamp::from_millis(1_000_000), &workspace(&[]));
        person::apply(&mut followed, &outcome.delta);
    }
    let person = profile.person.unwrap_or_default();
    assert_eq!(followed, person, "the orchestrator follows by deltas");
    person
}

#[test]
fn carts_follow_their_events() {
    use CartStatus::{Emptied, InCheckout, Open, Ordered};
    let cart = |id: &str| vec![("cart_id", V::text(id))];
    for (story, events, status, lines) in [
        ("a product opens it", vec![added(1, "c", "p")], Open, 1),
        ("the same product counts up", vec![added(1, "c", "p"), added(2, "c", "p")], Open, 1),
        ("a snapshot replaces", vec![added(1, "c", "p"), updated(2, "c", &["q", "r"])], Open, 2),
        ("an older snapshot does not", vec![updated(2, "c", &["q", "r"]), updated(1, "c", &["p"])], Open, 2),
        ("an empty snapshot empties", vec![added(1, "c", "p"), updated(2, "c", &[])], Emptied, 0),
        ("removing the last empties", vec![added(1, "c", "p"), Event { name: "Product Removed".into(), ..added(2, "c", "p") }], Emptied, 0),
        ("a checkout marks it", vec![added(1, "c", "p"), checkout(2, "c", &["p", "q"])], InCheckout, 2),
        ("adding opens it again", vec![checkout(2, "c", &["p"]), added(3, "c", "q")], Open, 2),
        ("what was added before the checkout is part of it", vec![checkout(2, "c", &["p"]), added(1, "c", "q")], InCheckout, 1),
        ("an order that names it ends it", vec![added(1, "c", "p"), ordered(2, "o", cart("c"))], Ordered, 1),
        ("also when its products come late", vec![ordered(2, "o", cart("c")), added(1, "c", "p")], Ordered, 1),
        ("after an order it starts afresh", vec![added(1, "c", "p"), ordered(2, "o", cart("c")), added(3, "c", "q")], Open, 1),
        ("an order of another cart leaves it", vec![added(1, "c", "p"), ordered(2, "o", cart("d"))], Open, 1),
        ("an order naming none ends all", vec![added(1, "c", "p"), ordered(2, "o", vec![])], Ordered, 1),
        (
            "or those that share a product",
            vec![added(1, "c", "p"), ordered(2, "o", vec![("products", V::List(vec![product("p", 5)]))])],
            Ordered,
            1,
        ),
        ("and no others", vec![added(1, "c", "p"), ordered(2, "o", vec![("products", V::List(vec![product("x", 5)]))])], Open, 1),
        ("a view changes nothing", vec![added(1, "c", "p"), named("Cart Viewed", 2, cart("c"))], Open, 1),
    ] {
        let person = person(&events);
        let cart = person::cart(&person, "c").expect(story);
        assert_eq!((cart.status(), cart.lines.len()), (status, lines), "{story}");
    }
}

#[test]
fn a_cart_is_worth_its_lines() {
    let person = person(&[added(1, "c", "p"), added(2, "c", "p"), updated(1, "d", &["a", "b", "a"])]);
    let value = |id| person::cart(&person, id).and_then(|c| c.value);
    assert_eq!((value("c"), value("d")), (Some(2_000), Some(3_000)));
    let bare = named("Product Added", 1, vec![("cart_id", V::text("c")), ("product_id", V::text("p"))]);
    assert_eq!(tests::person(&[bare]).carts[0].value, None);
}

#[test]
fn cart_events_get_the_cart_they_touch() {
    for (story, before, touching, expected) in [
        ("the default one", vec![], named("Product Added", 5, vec![("product_id", V::text("p"))]), Some("default")),
        ("the one touched last", vec![added(1, "a", "p"), added(2, "b", "q")], named("Cart Viewed", 5, vec![]), Some("b")),
        (
            "the one that shares a product",
            vec![added(1, "a", "p"), added(2, "b", "q")],
            { named("Checkout Started", 5, vec![("products", V::List(vec![product("p", 5)]))]) },
            Some("a"),
        ),
        ("none", vec![], named("Cart Viewed", 5, vec![]), None),
        ("its own", vec![added(1, "a", "p")], added(5, "b", "p"), None),
        ("no cart event", vec![added(1, "a", "p")], named("Product Viewed", 5, vec![("product_id", V::text("p"))]), None),
    ] {
        let mut profile = SegmentProfile::default();
        for one in &before {
            event(&mut profile, &node(), one, Timestamp::from_millis(9), &workspace(&[]));
        }
        let outcome = event(&mut profile, &node(), &touching, Timestamp::from_millis(9), &workspace(&[]));
        let rewritten = outcome.cart_id.map(|cart_id| with_cart(touching.clone(), cart_id));
        let view = rewritten.as_ref().map(view::Event::from);
        let properties = view.as_ref().map(|e| Properties::new(e.properties.as_ref(), Policy::default().currency));
        assert_eq!(properties.and_then(|p| p.text("cart_id")).as_deref(), expected, "{story}");
    }
}

#[test]
fn the_oldest_of_too_many_carts_falls() {
    let events: Vec<_> = (1..=7).map(|n| added(n, &format!("c{n}"), "p")).collect();
    let person = person(&events);
    assert_eq!(person.carts.iter().map(|c| c.cart_id.as_str()).collect::<Vec<_>>(), ["c3", "c4", "c5", "c6", "c7"]);
}

#[test]
fn orders_follow_their_events() {
    let about = |name: &str, at, more: Vec<(&str, V)>| {
        let mut properties = vec![("order_id", V::text("o"))];
        properties.extend(more);
        named(name, at, properties)
    };
    let revenue = |minor| vec![("revenue", V::Money(minor))];
    for (story, events, status, flags, value, refunded) in [
        ("placed", vec![ordered(1, "o", revenue(50))], "placed", vec![], Some(50), 0),
        ("a repeat updates", vec![ordered(1, "o", revenue(50)), ordered(2, "o", revenue(60))], "placed", vec![], Some(60), 0),
        ("an older repeat does not", vec![ordered(2, "o", revenue(60)), ordered(1, "o", revenue(50))], "placed", vec![], Some(60), 0),
        (
            "a lower status never overwrites",
            vec![ordered(1, "o", revenue(1)), about("Order Delivered", 2, vec![]), about("Order Shipped", 3, vec![])],
            "delivered",
            vec![],
            Some(1),
            0,
        ),
        (
            "an update names a life event",
            vec![ordered(1, "o", revenue(1)), about("Order Updated", 2, vec![("status", V::text("shipped"))])],
            "shipped",
            vec![],
            Some(1),
            0,
        ),
        (
            "cancelled is a flag",
            vec![ordered(1, "o", revenue(1)), about("Order Cancelled", 2, vec![])],
            "placed",
            vec!["cancelled"],
            Some(1),
            0,
        ),
        (
            "a bare refund is full",
            vec![ordered(1, "o", revenue(50)), about("Order Refunded", 2, vec![])],
            "placed",
            vec!["refunded"],
            Some(50),
            50,
        ),
        (
            "a part",
            vec![ordered(1, "o", revenue(50)), about("Order Refunded", 2, vec![("total", V::Money(20))])],
            "placed",
            vec!["partially_refunded"],
            Some(50),
            20,
        ),
        ("a stub is filled", vec![about("Order Shipped", 2, vec![]), ordered(1, "o", revenue(5))], "shipped", vec![], Some(5), 0),
        (
            "total less shipping and tax",
            vec![ordered(1, "o", vec![("total", V::Money(50)), ("tax", V::Money(8)), ("shipping", V::Money(5))])],
            "placed",
            vec![],
            Some(37),
            0,
        ),
        (
            "subtotal less discount",
            vec![ordered(1, "o", vec![("subtotal", V::Money(50)), ("discount", V::Money(8))])],
            "placed",
            vec![],
            Some(42),
            0,
        ),
        (
            "its lines",
            vec![ordered(1, "o", vec![("products", V::List(vec![product("p", 5), product("q", 6)]))])],
            "placed",
            vec![],
            Some(11),
            0,
        ),
        (
            "workspace currency only",
            vec![ordered(1, "o", vec![("revenue", V::Amount { minor: 9, currency: "USD".into() }), ("revenue_base", V::Money(8))])],
            "placed",
            vec![],
            Some(8),
            0,
        ),
    ] {
        let person = person(&events);
        let order = person::order(&person, "o").expect(story);
        assert_eq!((order.status.as_str(), order.flags.iter().map(String::as_str).collect::<Vec<_>>()), (status, flags), "{story}");
        assert_eq!((order.value, order.refunded, order.stub), (value, refunded, false), "{story}");
    }
}

#[test]
fn derived_traits_follow_the_orders() {
    let order = |at, id: &str, minor| ordered(at, id, vec![("revenue", V::Money(minor))]);
    let about = |name: &str, id: &str| named(name, 90, vec![("order_id", V::text(id))]);
    let all = person(&[
        order(20, "b", 200),
        order(10, "a", 100),
        order(30, "c", 400),
        about("Order Cancelled", "c"),
        about("Order Refunded", "a"),
    ]);
    let field = |person: &Person, path: &str| person::field(person, path).and_then(waypost_codec::value::from_proto);
    for (path, value) in [
        ("order_count", V::Int(1)),
        ("ltv", V::Money(200)),
        ("first_order_at", V::Time(Timestamp::from_millis(20))),
        ("last_order_at", V::Time(Timestamp::from_millis(20))),
        ("last_seen_at", V::Time(Timestamp::from_millis(90))),
        ("first_seen_at", V::Time(Timestamp::from_millis(1_000_000))),
    ] {
        assert_eq!(field(&all, path), Some(value), "{path}");
    }
    // Orders that fall out of the list still count.
    let many: Vec<_> = (1..=30).map(|n| order(n, &format!("o{n:02}"), 10)).collect();
    let many = person(&many);
    assert_eq!(many.orders.len(), 20);
    assert_eq!((field(&many, "order_count"), field(&many, "ltv")), (Some(V::Int(30)), Some(V::Money(300))));
    assert_eq!(field(&many, "first_order_at"), Some(V::Time(Timestamp::from_millis(1))));
    assert_eq!(field(&person(&[order(1, "a", 5), about("Order Cancelled", "a")]), "order_count"), None);
}

#[test]
fn consent_is_the_newest_word_and_at_equal_time_the_denial() {
    use ConsentState::{Denied, Granted, Pending};
    let say = |name: &str, at, may_grant, more: Vec<(&str, V)>| {
        let mut properties = vec![("channel", V::text("email")), ("topic", V::text("news"))];
        properties.extend(more);
        Event { may_grant, ..named(name, at, properties) }
    };
    let subscribed = |at| say("Subscribed", at, true, vec![]);
    let unsubscribed = |at| say("Unsubscribed", at, false, vec![]);
    for (story, events, expected) in [
        ("granted", vec![subscribed(1)], Some(Granted)),
        ("denied later", vec![subscribed(1), unsubscribed(2)], Some(Denied)),
        ("denied earlier", vec![subscribed(2), unsubscribed(1)], Some(Granted)),
        ("denied at the same time", vec![unsubscribed(1), subscribed(1)], Some(Denied)),
        ("a browser may not grant", vec![say("Subscribed", 1, false, vec![])], None),
        ("a browser may deny", vec![subscribed(1), say("Consent Changed", 2, false, vec![("state", V::text("denied"))])], Some(Denied)),
        ("pending", vec![say("Consent Changed", 2, true, vec![("state", V::text("pending"))])], Some(Pending)),
        ("no such state", vec![say("Consent Changed", 2, true, vec![("state", V::text("maybe"))])], None),
    ] {
        let person = person(&events);
        assert_eq!(person::consent(&person, "email", "news").map(Consent::state), expected, "{story}");
    }
    let implied = |more: Vec<Event>| {
        let mut events = more;
        events.push(say("Subscribed", 10, true, vec![("basis", V::text("implied"))]));
        Span::from_millis(person(&events).consents[0].expires_at)
    };
    assert_eq!(implied(vec![]), Span::from_millis(10 + 183 * 86_400_000));
    assert_eq!(implied(vec![ordered(5, "o", vec![])]), Span::from_millis(5 + 730 * 86_400_000));
    let whole = person(&[named("Unsubscribed", 1, vec![("channel", V::text("email"))])]);
    assert_eq!(whole.consents[0].topic, person::WHOLE_CHANNEL);
}

#[test]
fn fields_come_from_identifiers_traits_and_context() {
    let V::Object(traits) = object(vec![
        ("firstName", V::text("Ada")),
        ("email", V::text("ADA@shop.example ")),
        ("shoe_size", V::Int(38)),
        ("address", object(vec![("city", V::text("Graz")), ("street", V::text("x"))])),
        ("tags", V::List(vec![])),
    ]) else {
        unreachable!()
    };
    let V::Object(context) = object(vec![("timezone", V::text("Europe/Vienna"))]) else { unreachable!() };
    let phone = Identifier { class: IdentifierClass::Phone.number(), value: "+436601234567".to_owned(), ..Identifier::default() };
    let identify = Event {
        traits: Some(object_to_proto(&traits)),
        context: Some(object_to_proto(&context)),
        identifiers: vec![phone],
        ..named("Profile Updated", 5, vec![])
    };
    let person = person(&[identify]);
    let found: Vec<_> = person.fields.iter().map(|f| f.path.as_str()).collect();
    assert_eq!(found, ["city", "extra.shoe_size", "first_name", "first_seen_at", "last_seen_at", "timezone"]);
    assert_eq!(person::email(&person).map(|a| a.value.as_str()), Some("ada@shop.example"));
    assert_eq!(person::address(&person, person::SMS).map(|a| a.value.as_str()), Some("+436601234567"));
}

#[test]
fn the_last_word_by_event_time_stays() {
    let say = |at, name: &str| {
        let V::Object(traits) = object(vec![("first_name", V::text(name))]) else { unreachable!() };
        Event { traits: Some(object_to_proto(&traits)), historical: at == 1, ..named("Profile Updated", at, vec![]) }
    };
    for events in [[say(1, "Old"), say(2, "New")], [say(2, "New"), say(1, "Old")]] {
        let person = person(&events);
        assert_eq!(person::field(&person, "first_name").and_then(|v| v.kind.clone()), Some(Kind::Text("New".to_owned())));
    }
}

#[test]
fn memberships_begin_by_event_and_end_by_time() {
    let day = 86_400_000;
    let workspace =
        workspace(&[("buyer", "profile.order_count >= 1"), ("fresh", r#"in_segment("buyer") && within(profile.last_order_at, "7d")"#)]);
    let mut profile = SegmentProfile::default();
    let at = Timestamp::from_millis;
    let first = event(&mut profile, &node(), &named("Product Viewed", day, vec![]), at(day), &workspace);
    assert_eq!(first.changes, []);
    let bought = event(&mut profile, &node(), &ordered(2 * day, "o", vec![]), at(2 * day), &workspace);
    assert_eq!(
        bought.changes.iter().map(|c| (c.segment.as_str(), c.after)).collect::<Vec<_>>(),
        [("buyer", Truth::Yes), ("fresh", Truth::Yes)]
    );
    assert_eq!(next_timer(&profile), Some(Timer::Flips(at(9 * day))));
    let lapsed = wake(&mut profile, at(9 * day), &workspace);
    assert_eq!(lapsed.changes, [Change { segment: "fresh".into(), version: 1, before: Truth::Yes, after: Truth::No }]);
    assert_eq!((&lapsed.delta.memberships[..], lapsed.delta.not_in.len()), (&[][..], 1));
    assert_eq!(next_timer(&profile), None);
}

#[test]
fn a_segment_no_longer_in_force_is_left() {
    let mut profile = SegmentProfile::default();
    let seen = named("Product Viewed", 5, vec![]);
    event(&mut profile, &node(), &seen, Timestamp::from_millis(5), &workspace(&[("all", "known(profile.last_seen_at)")]));
    let after = event(&mut profile, &node(), &seen, Timestamp::from_millis(6), &workspace(&[]));
    assert_eq!(after.changes.iter().map(|c| c.after).collect::<Vec<_>>(), [Truth::Unspecified]);
    assert_eq!(after.delta.memberships.iter().map(Membership::truth).collect::<Vec<_>>(), [Truth::Unspecified]);
}

#[test]
fn a_union_knows_both_halves_and_closes_the_cart() {
    let workspace = workspace(&[("buyer", "profile.order_count >= 1")]);
    let fold = |events: &[Event]| {
        let mut profile = SegmentProfile::default();
        for one in events {
            event(&mut profile, &node(), one, Timestamp::from_millis(10), &workspace);
        }
        profile
    };
    let cookie = fold(&[added(1, "c", "p")]);
    let mut email = fold(&[named("Signed Up", 3, vec![])]);
    let buyer = fold(&[ordered(2, "o", vec![("products", V::List(vec![product("p", 5)]))])]);
    let one = import(&mut email, cookie, &Bytes::from_static(b"cookie"), Timestamp::from_millis(20), &workspace);
    assert_eq!(one.delta.carts[0].status(), CartStatus::Open);
    let two = import(&mut email, buyer, &Bytes::from_static(b"buyer"), Timestamp::from_millis(21), &workspace);
    assert_eq!(two.delta.carts[0].status(), CartStatus::Ordered);
    assert_eq!(two.changes.len(), 1);
    assert_eq!(email.losers.len(), 2);
    assert_eq!(email.events, 3);
}

#[test]
fn a_profile_stays_small() {
    let long = "x".repeat(400);
    let line = |n: usize| object(vec![("product_id", V::text(format!("p{n}"))), ("name", V::text(&long)), ("price", V::Money(5))]);
    let order = |n: i64| ordered(n, &format!("o{n:02}"), vec![("products", V::List((0..60).map(line).collect()))]);
    let events: Vec<_> = (1..=20).map(order).collect();
    let person = person(&events);
    assert!(person.encoded_len() <= 64 * 1_024, "{}", person.encoded_len());
    assert_eq!(person.orders.len(), 20);
    assert_eq!(person::field(&person, "ltv").and_then(|v| v.kind.clone()), Some(Kind::Money(20 * 50 * 5)));
}

/// A consent event of a server.
fn consent(name: &str, at: i64, channel: &str, topic: &str) -> Event {
    Event { may_grant: true, ..named(name, at, vec![("channel", V::text(channel)), ("topic", V::text(topic))]) }
}

#[test]
fn consent_is_kept_for_channels_and_topics_that_there_can_be() {
    let long = "t".repeat(64);
    for (channel, topic, reason) in [
        ("email", "news", None),
        ("whatsapp", "*", None),
        ("ads", "a-1", None),
        ("fax", "news", Some("CHANNEL_UNKNOWN")),
        ("Email", "news", Some("CHANNEL_UNKNOWN")),
        ("email", "News", Some("TOPIC_INVALID")),
        ("email", "1st", Some("TOPIC_INVALID")),
        ("email", "a b", Some("TOPIC_INVALID")),
        ("email", &long, Some("TOPIC_INVALID")),
    ] {
        let mut profile = SegmentProfile::default();
        let word = consent("Subscribed", 1, channel, topic);
        let outcome = event(&mut profile, &node(), &word, Timestamp::from_millis(9), &workspace(&[]));
        assert_eq!(outcome.refused.first().copied(), reason, "{channel} {topic}");
        assert_eq!(profile.person.unwrap().consents.len(), usize::from(reason.is_none()), "{channel} {topic}");
    }
}

#[test]
fn a_full_ledger_takes_no_more_grants_and_every_denial() {
    let mut profile = SegmentProfile::default();
    let mut say = |name: &str, at: i64, channel: &str, topic: &str| {
        let outcome = event(&mut profile, &node(), &consent(name, at, channel, topic), Timestamp::from_millis(9_999), &workspace(&[]));
        let person = profile.person.clone().unwrap();
        assert!(person.consents.len() <= 64);
        (outcome.refused, person)
    };
    for n in 0..64 {
        assert_eq!(say("Subscribed", n + 1, "email", &format!("t{n:02}")).0, [""; 0]);
    }
    assert_eq!(say("Subscribed", 100, "sms", "one").0, ["PROFILE_TOO_LARGE"]);
    assert_eq!(say("Subscribed", 100, "email", "t00").0, [""; 0], "what is known may change");
    let (refused, person) = say("Unsubscribed", 101, "sms", "*");
    assert_eq!(refused, [""; 0]);
    assert_eq!(person::consent(&person, "sms", "*").map(Consent::state), Some(ConsentState::Denied));
    assert_eq!(person::consent(&person, "email", "t01"), None, "the oldest grant gave way");
    for n in 0..70 {
        say("Unsubscribed", 200 + n, "email", &format!("u{n:02}"));
    }
    let (_, person) = say("Unsubscribed", 300, "push", "*");
    assert_eq!(person.consents.iter().filter(|c| c.state() != ConsentState::Denied).count(), 0);
    for (channel, topic) in [("sms", "*"), ("push", "*"), ("email", "u00"), ("email", "u69")] {
        let no = [topic, person::WHOLE_CHANNEL].iter().any(|t| person::consent(&person, channel, t).is_some());
        assert!(no, "{channel} {topic} is still denied");
    }
    // Also where two halves come together.
    let half = |prefix: &str| Person {
        consents: (0..64)
            .map(|n| Consent {
                channel: "email".to_owned(),
                topic: format!("{prefix}{n:02}"),
                state: ConsentState::Denied.into(),
                at: n,
                ..Consent::default()
            })
            .collect(),
        ..Person::default()
    };
    let union = merge::persons(&half("a"), &half("b"));
    assert_eq!(union.consents.iter().map(|c| c.topic.as_str()).collect::<Vec<_>>(), ["*"]);
}

#[test]
fn what_people_can_make_long_stays_small() {
    let long = |n: usize| format!("{n:03}{}", "x".repeat(250));
    let line = |n: usize| object(vec![("product_id", V::text(long(n))), ("sku", V::text(long(n))), ("price", V::Money(5))]);
    let lines = || V::List((0..50).map(line).collect());
    let mut events: Vec<_> =
        (1..=5).map(|n| named("Cart Updated", n, vec![("cart_id", V::text(format!("c{n}"))), ("products", lines())])).collect();
    events.extend((10..30).map(|n| ordered(n, &format!("o{n}"), vec![("cart_id", V::text("none")), ("products", lines())])));
    events.extend((0..70).map(|n| consent("Unsubscribed", 100 + n, "email", &format!("t{n}{}", "y".repeat(50)))));
    events.push(named("Cart Updated", 200, vec![("cart_id", V::text("last")), ("products", lines())]));
    let person = person(&events);
    assert!(person.encoded_len() <= 64 * 1_024, "{}", person.encoded_len());
    assert_eq!(person.orders.len(), 20);
    assert!(person::cart(&person, "last").is_some_and(|c| c.value == Some(250)), "the newest cart stays");

    let mut profile = SegmentProfile::default();
    let huge = ordered(1, &"o".repeat(300), vec![]);
    let outcome = event(&mut profile, &node(), &huge, Timestamp::from_millis(9), &workspace(&[]));
    assert_eq!((outcome.refused, profile.person.unwrap().orders.len()), (vec!["ID_TOO_LONG"], 0));
}

#[test]
fn orders_that_find_no_room_in_a_union_still_count() {
    let half = |from: i64, count: i64| {
        let mut profile = SegmentProfile::default();
        for n in from..from + count {
            event(
                &mut profile,
                &node(),
                &ordered(n, &format!("o{n}"), vec![("revenue", V::Money(10))]),
                Timestamp::from_millis(9),
                &workspace(&[]),
            );
        }
        profile
    };
    for (a, b) in [(30, 15), (15, 30), (30, 25), (3, 4)] {
        let mut profile = half(1, a);
        let outcome = import(&mut profile, half(100, b), &Bytes::from_static(b"loser"), Timestamp::from_millis(20), &workspace(&[]));
        let person = profile.person.unwrap();
        let field = |path: &str| person::field(&person, path).and_then(waypost_codec::value::from_proto);
        assert_eq!((field("order_count"), field("ltv")), (Some(V::Int(a + b)), Some(V::Money(10 * (a + b)))), "{a} and {b}");
        assert_eq!(field("first_order_at"), Some(V::Time(Timestamp::from_millis(1))));
        assert_eq!(person::field(&outcome.delta, "order_count"), person::field(&person, "order_count"));
    }
}

#[test]
fn of_a_union_the_newest_orders_keep_whole_cards() {
    let half = |from: i64| {
        let mut profile = SegmentProfile::default();
        for n in from..from + 3 {
            let order = ordered(n, &format!("o{n}"), vec![("products", V::List(vec![product("p", 10)]))]);
            event(&mut profile, &node(), &order, Timestamp::from_millis(9), &workspace(&[]));
        }
        profile
    };
    let mut profile = half(1);
    import(&mut profile, half(4), &Bytes::from_static(b"loser"), Timestamp::from_millis(20), &workspace(&[]));
    let orders = profile.person.unwrap().orders;
    let whole: Vec<_> = orders.iter().map(|o| o.lines.iter().all(|line| line.price_amount.is_some())).collect();
    assert_eq!(whole, [false, false, false, true, true, true]);
}

#[test]
fn what_time_may_change_waits_while_the_profile_drains() {
    let workspace = workspace(&[("fresh", r#"within(profile.last_order_at, "7d")"#)]);
    let at = Timestamp::from_millis;
    let mut profile = SegmentProfile::default();
    event(&mut profile, &node(), &ordered(5, "o", vec![]), at(5), &workspace);
    let flips = next_timer(&profile);
    assert_eq!(flips, Some(Timer::Flips(at(5 + 7 * 86_400_000))));
    drain::begin(&mut profile, &[node()], at(9));
    assert_eq!(next_timer(&profile), Some(Timer::DrainEnds(at(9).plus(drain::LONGEST))));
    drain::settled(&mut profile, &node(), 0);
    assert_eq!(next_timer(&profile), flips);
}

#[test]
fn of_an_erased_profile_the_mark_stays_and_others_are_told() {
    let workspace = workspace(&[("buyer", "profile.order_count >= 1"), ("big", "profile.order_count >= 9")]);
    let id = |n: u8| Bytes::copy_from_slice(&[n; 31]);
    let at = Timestamp::from_millis;
    let mut profile = SegmentProfile::default();
    let ana = Identifier { class: IdentifierClass::Email.number(), value: "ana@shop.example".into(), ..Identifier::default() };
    let bought = Event { identifiers: vec![ana], ..ordered(5, "o", vec![]) };
    event(&mut profile, &id(3), &bought, at(5), &workspace);
    import(&mut profile, SegmentProfile { ids: vec![id(7)], losers: vec![id(8)], ..SegmentProfile::default() }, &id(7), at(6), &workspace);
    let wiped = erase(&mut profile, &id(1), true, at(9));
    assert_eq!((wiped.ids, wiped.losers), (vec![id(1), id(3), id(7)], vec![id(7), id(8)]));
    assert_eq!(wiped.addresses.iter().map(|a| a.value.as_str()).collect::<Vec<_>>(), ["ana@shop.example"]);
    assert_eq!(wiped.changes.iter().map(|c| (c.segment.as_str(), c.after)).collect::<Vec<_>>(), [("buyer", Truth::No)]);
    let mark = SegmentProfile { erased: true, erased_at: 9, now: 9, suppress: true, ..SegmentProfile::default() };
    assert_eq!(profile, mark);
    assert_eq!(next_timer(&profile), Some(Timer::MarkGoes(at(9).plus(MARK))));

    let mut tombstone = SegmentProfile { moved_to: id(1), ids: vec![id(7)], ..SegmentProfile::default() };
    assert_eq!(erase(&mut tombstone, &id(7), false, at(9)), Wiped::default(), "its nodes moved on with its state");
    assert_eq!(tombstone, SegmentProfile { suppress: false, ..mark });
}
