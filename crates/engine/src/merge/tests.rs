//! The union as a law: the order in which halves meet does not matter.

use proptest::prelude::*;
use waypost_codec::inbox::{CartStatus, Truth, Value};

use super::*;
use crate::{consent, definitions::Class};
use ConsentState::{Denied, Granted, Pending};

fn text(value: u8) -> Value {
    Value { kind: Some(Kind::Text(format!("v{value}"))) }
}

fn line(product: u8, quantity: i64) -> Line {
    Line { product_id: format!("p{product}"), price: Some(100), quantity, ..Line::default() }
}

prop_compose! {
    fn field()(path in 0_u8..4, value in 0_u8..3, at in 1_i64..6) -> Field {
        Field { path: format!("f{path}"), value: Some(text(value)), set_at: at }
    }
}

// A cart always holds the product of its own number: which orders share a product with it does not
// depend on which half's lines win.
prop_compose! {
    fn cart()(id in 0_u8..4, quantity in 1_i64..4, updated_at in 1_i64..9, mark in prop::option::of((1_i64..9, 0..2))) -> Cart {
        let (status_at, status) = match mark {
            Some((at, 0)) => (at, CartStatus::InCheckout),
            Some((at, _)) => (at, CartStatus::Ordered),
            None => (0, CartStatus::Open),
        };
        Cart { cart_id: format!("c{id}"), status: status.into(), lines: vec![line(id, quantity)], value: Some(100 * quantity), updated_at, status_at, ..Cart::default() }
    }
}

// Likewise an order's cart and products are its own.
prop_compose! {
    fn order()(id in 0_u8..6, stub in any::<bool>(), status in 0_usize..4, cancelled in any::<bool>(), value in 0_i64..3, updated_at in 1_i64..9, refunded in 0_i64..2) -> Order {
        let order = Order {
            order_id: format!("o{id}"),
            status: ["", "placed", "shipped", "delivered"][status].to_owned(),
            flags: if cancelled { vec!["cancelled".to_owned()] } else { Vec::new() },
            updated_at,
            refunded,
            stub,
            ..Order::default()
        };
        if stub {
            return order;
        }
        let lines = if id == 5 { Vec::new() } else { vec![line(id, 1)] };
        let cart_id = if id < 2 { format!("c{id}") } else { String::new() };
        Order { value: Some(value), placed_at: updated_at, lines, cart_id, ..order }
    }
}

prop_compose! {
    fn consent()(topic in 0_u8..3, state in 1..4, at in 1_i64..6, expires_at in 0_i64..3, basis in 0_u8..2) -> Consent {
        Consent { channel: "email".to_owned(), topic: format!("t{topic}"), state, at, expires_at, basis: format!("b{basis}"), ..Consent::default() }
    }
}

prop_compose! {
    fn address()(channel in 0_u8..2, value in 0_u8..5, verified in any::<bool>(), set_at in 1_i64..6) -> Address {
        Address { channel: format!("ch{channel}"), value: format!("a{value}"), verified, set_at }
    }
}

prop_compose! {
    fn membership()(segment in 0_u8..3, truth in 1..4, since in 1_i64..4, version in 1_u32..3) -> Membership {
        Membership { segment: format!("s{segment}"), truth, since, version, valid_until: 0 }
    }
}

prop_compose! {
    /// A canonical person, as a fold would leave it.
    fn person()(
        fields in prop::collection::vec(field(), 0..4),
        carts in prop::collection::vec(cart(), 0..4),
        orders in prop::collection::vec(order(), 0..4),
        consents in prop::collection::vec(consent(), 0..3),
        addresses in prop::collection::vec(address(), 0..8),
        memberships in prop::collection::vec(membership(), 0..3),
        not_in in prop::collection::btree_set(0_u8..5, 0..4),
    ) -> Person {
        let mut person = Person::default();
        for entry in &fields { person::upsert(&mut person.fields, entry); }
        for entry in &carts { person::upsert(&mut person.carts, entry); }
        for entry in &orders { person::upsert(&mut person.orders, entry); }
        for entry in &consents { person::upsert(&mut person.consents, entry); }
        for entry in &addresses { person::upsert(&mut person.addresses, entry); }
        for entry in &memberships { person::upsert(&mut person.memberships, entry); }
        for segment in not_in { membership::add(&mut person.not_in, membership::fingerprint(&format!("s{segment}"))); }
        persons(&person, &Person::default())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1_500) })]

    #[test]
    fn a_union_is_the_same_from_either_side(a in person(), b in person()) {
        prop_assert_eq!(persons(&a, &b), persons(&b, &a));
    }

    #[test]
    fn a_union_is_the_same_however_it_is_grouped(a in person(), b in person(), c in person()) {
        prop_assert_eq!(persons(&persons(&a, &b), &c), persons(&a, &persons(&b, &c)));
    }

    #[test]
    fn a_union_with_itself_or_with_what_it_holds_changes_nothing(a in person(), b in person()) {
        prop_assert_eq!(&persons(&a, &a), &a);
        let union = persons(&a, &b);
        prop_assert_eq!(persons(&union, &a), union);
    }

    #[test]
    fn a_delta_makes_the_one_into_the_other(a in person(), b in person()) {
        let mut person = a.clone();
        let delta = person::diff(&a, &b);
        // Addresses never go away by themselves.
        person.addresses.retain(|x| b.addresses.iter().any(|y| x.key() == y.key()));
        let mut again = person.clone();
        person::apply(&mut person, &delta);
        prop_assert_eq!(&person, &b);
        person::apply(&mut again, &person::whole(&a, &b));
        prop_assert_eq!(again, b);
    }
}

prop_compose! {
    fn many_consents()(deny in 1_u32..9)(
        all in prop::collection::vec((0_usize..8, 0_u8..90, 0_u32..10, 1_i64..50), 0..160), deny in Just(deny),
    ) -> Vec<Consent> {
        const CHANNELS: [&str; 8] = ["ads", "email", "push", "rcs", "sms", "viber", "webhook", "whatsapp"];
        all.into_iter().map(|(channel, topic, say, at)| {
            let state = if say < deny { Denied } else if say == 9 { Pending } else { Granted };
            let topic = if topic == 0 { person::WHOLE_CHANNEL.to_owned() } else { format!("t{topic:02}") };
            Consent { channel: CHANNELS[channel].to_owned(), topic, state: state.into(), basis: "express".to_owned(), at, ..Consent::default() }
        }).collect()
    }
}

prop_compose! {
    /// A person at the limits of every list: what a fold or a union before this one has left.
    fn full()(
        consents in many_consents(),
        carts in prop::collection::vec((0_u8..30, 1_i64..90), 0..12),
        orders in prop::collection::vec((0_u8..90, any::<bool>(), 1_i64..90), 0..60),
        addresses in prop::collection::vec(address(), 0..8),
    ) -> Person {
        let mut person = Person { addresses: Vec::new(), ..Person::default() };
        for entry in &consents { person::upsert(&mut person.consents, entry); }
        for entry in &addresses { person::upsert(&mut person.addresses, entry); }
        for (id, updated_at) in carts {
            let cart = Cart { cart_id: format!("c{id}"), lines: vec![line(id, 1)], value: Some(100), updated_at, ..Cart::default() };
            person::upsert(&mut person.carts, &cart);
        }
        for (id, stub, at) in orders {
            let order = Order { order_id: format!("o{id}"), stub, updated_at: at, ..Order::default() };
            let whole = Order { placed_at: at, status: "placed".to_owned(), cart_id: format!("c{id}"), ..order.clone() };
            person::upsert(&mut person.orders, if stub { &order } else { &whole });
        }
        persons(&person, &Person::default())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn beyond_the_limits_a_union_stays_within_them_and_loses_no_denial(a in full(), b in full()) {
        let union = persons(&a, &b);
        prop_assert_eq!(&union, &persons(&b, &a));
        prop_assert_eq!(&persons(&union, &union), &union);
        prop_assert!(union.consents.len() <= 64 && union.carts.len() <= 5 && union.orders.len() <= 20);
        for channel in ["ch0", "ch1"] {
            prop_assert!(union.addresses.iter().filter(|a| a.channel == channel).count() <= person::MAX_ADDRESSES);
        }
        for denial in a.consents.iter().chain(&b.consents).filter(|c| c.state() == Denied) {
            let question = consent::Question {
                person: &union, channel: &denial.channel, topic: Some(&denial.topic), definition: None,
                class: Class::Marketing, address: None, now: waypost_types::Timestamp::from_millis(100),
            };
            prop_assert_eq!(consent::resolve(&question).refusal, Some(consent::Refusal::Denied), "{:?}", denial);
        }
        let oldest = union.orders.iter().map(|o| (!o.stub, o.updated_at)).min();
        for order in a.orders.iter().chain(&b.orders).filter(|o| person::order(&union, &o.order_id).is_none()) {
            prop_assert!(union.orders.len() == 20 && Some((!order.stub, order.updated_at)) <= oldest, "{:?}", order);
        }
        let oldest = union.carts.iter().map(|c| c.updated_at).min();
        for cart in a.carts.iter().chain(&b.carts).filter(|c| person::cart(&union, &c.cart_id).is_none()) {
            prop_assert!(union.carts.len() == 5 && Some(cart.updated_at) <= oldest, "{:?}", cart);
        }
    }
}

#[test]
fn consent_of_a_union_is_the_most_restrictive_dated_the_later() {
    let say = |state: ConsentState, at| Person {
        consents: vec![Consent { channel: "email".into(), topic: "news".into(), state: state.into(), at, ..Consent::default() }],
        ..Person::default()
    };
    for (a, b, expected) in
        [((Denied, 1), (Granted, 5), (Denied, 5)), ((Pending, 9), (Granted, 5), (Pending, 9)), ((Granted, 1), (Granted, 2), (Granted, 2))]
    {
        let union = persons(&say(a.0, a.1), &say(b.0, b.1));
        assert_eq!((union.consents[0].state(), union.consents[0].at), expected);
        let one_sided = persons(&say(a.0, a.1), &Person::default());
        assert_eq!(one_sided.consents[0].state(), a.0, "unset states nothing");
    }
}

#[test]
fn memberships_are_kept_until_they_are_evaluated_again() {
    let of = |truth: Truth, since| Person {
        memberships: vec![Membership { segment: "s".into(), truth: truth.into(), since, version: 1, valid_until: 0 }],
        ..Person::default()
    };
    assert_eq!(persons(&of(Truth::No, 5), &of(Truth::Yes, 4)).memberships[0].truth(), Truth::No);
}
