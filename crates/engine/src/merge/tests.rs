//! The union as a law: the order in which halves meet does not matter.

use proptest::prelude::*;
use waypost_codec::inbox::{CartStatus, Truth, Value};

use super::*;
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
    ) -> Person {
        let mut person = Person::default();
        for entry in &fields { person::upsert(&mut person.fields, entry); }
        for entry in &carts { person::upsert(&mut person.carts, entry); }
        for entry in &orders { person::upsert(&mut person.orders, entry); }
        for entry in &consents { person::upsert(&mut person.consents, entry); }
        for entry in &addresses { person::upsert(&mut person.addresses, entry); }
        for entry in &memberships { person::upsert(&mut person.memberships, entry); }
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
