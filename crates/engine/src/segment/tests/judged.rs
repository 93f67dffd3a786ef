//! What is evaluated, and told, by what was touched is what evaluating everything and comparing the whole person comes to.

use proptest::prelude::*;
use waypost_codec::inbox::{Object, Property};

use super::*;

const HOUR: i64 = 3_600_000;
const START: i64 = 1_000 * HOUR;

/// Every kind of read, and segments that read others.
const SEGMENTS: [(&str, &str); 28] = [
    ("all", "true"),
    ("bought", "profile.order_count > 0"),
    ("buying", r#"within(profile.last_order_at, "5h")"#),
    ("carts", r#"profile.carts.exists(c, c.status == "open" && elapsed(c.updated_at, "2h"))"#),
    ("coat", r#"default(profile.first_name, "Ada") == "Ada""#),
    ("doubt", r#"elapsed(profile.last_seen_at, "9h") ? profile.order_count > 1 : in_segment("carts")"#),
    ("extra", "size(profile.extra) > 1"),
    ("here", r#"within(profile.last_seen_at, "3h")"#),
    ("lapsed", r#"idle(profile.last_order_at, "30h")"#),
    ("late", r#"profile.last_seen_at + "1h" > profile.last_order_at"#),
    ("mail", r#"profile.email.endsWith(".example")"#),
    ("named", r#"profile.extra["vip"] == true"#),
    ("neither", r#"!in_segment("here") && !in_segment("buying")"#),
    ("one", r#"cart_open("c1") || order("o1").value > money("1.00")"#),
    ("quiet", r#"idle(profile.last_seen_at, "4h")"#),
    ("regular", r#"profile.orders.exists(o, o.value >= money("20.00"))"#),
    ("rich", r#"in_segment("here") || profile.ltv >= money("30.00")"#),
    ("shoes", "profile.extra.size > 2"),
    ("soon", r#"within(profile.created_at, "5h")"#),
    ("tangle", r#"in_segment("rich") && !in_segment("quiet") || in_segment("doubt")"#),
    ("unseen", "known(profile.phone)"),
    ("twice", "profile.order_count >= 2"),
    ("gold", r#"profile.ltv > money("15.00")"#),
    ("anybody", "profile.order_count >= 0"),
    ("faithful", r#"profile.order_count >= 2 && within(profile.last_seen_at, "3h")"#),
    ("lost", r#"idle(profile.last_seen_at, "4h") && profile.ltv >= money("10.00") && profile.first_name == "Ada""#),
    ("both", r#"in_segment("twice") && !in_segment("gold")"#),
    ("poor", r#"!in_segment("gold") && !in_segment("unseen")"#),
];

/// What happens to a profile next.
#[derive(Clone, Debug)]
enum Step {
    Event {
        name: &'static str,
        ago: i64,
        properties: Vec<(&'static str, V)>,
        traits: Vec<(&'static str, V)>,
        email: Option<u8>,
    },
    Wake,
    Import {
        orders: i64,
    },
    /// Other definitions come into force.
    Define {
        from: usize,
    },
}

fn property() -> impl Strategy<Value = (&'static str, V)> {
    let line = (0..4_u8, 0..3_000_i64).prop_map(|(id, price)| product(&format!("p{id}"), price));
    prop_oneof![
        (0..3_u8).prop_map(|id| ("cart_id", V::text(format!("c{id}")))),
        (0..5_u8).prop_map(|id| ("order_id", V::text(format!("o{id}")))),
        (0..4_u8).prop_map(|id| ("product_id", V::text(format!("p{id}")))),
        prop::collection::vec(line, 0..3).prop_map(|lines| ("products", V::List(lines))),
        (0..4_000_i64).prop_map(|minor| ("revenue", V::Money(minor))),
        prop::sample::select(vec!["email", "sms"]).prop_map(|channel| ("channel", V::text(channel))),
        prop::sample::select(vec!["granted", "denied"]).prop_map(|state| ("state", V::text(state))),
    ]
}

fn given() -> impl Strategy<Value = (&'static str, V)> {
    prop_oneof![
        prop::sample::select(vec!["Ada", "Eva"]).prop_map(|name| ("first_name", V::text(name))),
        (0..5_i64).prop_map(|size| ("size", V::Int(size))),
        any::<bool>().prop_map(|vip| ("vip", V::Bool(vip))),
        (0..9_i64).prop_map(|hours| ("created_at", V::Time(Timestamp::from_millis(START + hours * HOUR)))),
        Just(("phone", V::text("+4915112345"))),
        Just(("much", V::text("x".repeat(200)))),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let names = vec![
        "Page Viewed",
        "Page Viewed",
        "Product Added",
        "Product Removed",
        "Cart Updated",
        "Checkout Started",
        "Cart Viewed",
        "Order Completed",
        "Order Refunded",
        "Order Cancelled",
        "Consent Changed",
        "Message Opened",
        "",
    ];
    let event = (
        prop::sample::select(names),
        prop_oneof![3 => Just(0), 1 => 0..40 * HOUR],
        prop::collection::vec(property(), 0..4),
        prop::collection::vec(given(), 0..2),
        prop::option::of(0..8_u8),
    );
    prop_oneof![
        20 => event.prop_map(|(name, ago, properties, traits, email)| Step::Event { name, ago, properties, traits, email }),
        3 => Just(Step::Wake),
        1 => (0..25_i64).prop_map(|orders| Step::Import { orders }),
        1 => (0..3_usize).prop_map(|from| Step::Define { from }),
    ]
}

fn steps() -> impl Strategy<Value = Vec<(i64, Step)>> {
    let passes = prop_oneof![6 => 0..HOUR, 2 => 0..12 * HOUR, 1 => -2 * HOUR..0];
    prop::collection::vec((passes, step()), 1..30)
}

fn entries(mut entries: Vec<(&str, V)>) -> Object {
    entries.sort_by_key(|(name, _)| *name);
    entries.dedup_by_key(|(name, _)| *name);
    let property = |(name, value): (&str, V)| Property { name: name.to_owned(), value: Some(waypost_codec::value::to_proto(&value)) };
    Object { entries: entries.into_iter().map(property).collect() }
}

/// Without coverage, which `idle` then takes from the profile; a few segments fewer, in every version.
fn defined(from: usize) -> Plan {
    let segments: Vec<(&str, &str)> =
        SEGMENTS.into_iter().filter(|(name, _)| from == 0 || !["one", "late", "all"][..from].contains(name)).collect();
    let mut workspace = workspace(&segments);
    workspace.policy.covered_since = None;
    Plan::new(ContentHash::new([u8::try_from(from).unwrap(); 16]), Arc::new(workspace))
}

/// A profile with so many orders.
fn half(orders: i64, now: Timestamp, plan: &Plan) -> SegmentProfile {
    let mut profile = SegmentProfile::default();
    for n in 0..orders {
        let order = ordered(START + n, &format!("half{n}"), vec![("revenue", V::Money(10))]);
        super::super::event(&mut profile, &mut Judged::default(), &node(), &(&order).into(), now, plan);
    }
    profile
}

fn act(profile: &mut SegmentProfile, judged: &mut Judged, step: &Step, now: Timestamp, plan: &Plan) -> Outcome {
    match step {
        Step::Event { name, ago, properties, traits, email } => {
            let identifier = |n: &u8| Identifier {
                class: IdentifierClass::Email.number(),
                value: format!("{n}@shop.example{}", if *n > 5 { ".test" } else { "" }),
                ..Identifier::default()
            };
            let event = Event {
                name: (*name).to_owned(),
                event_time: now.millis() - ago,
                properties: Some(entries(properties.clone())),
                traits: (!traits.is_empty()).then(|| entries(traits.clone())),
                identifiers: email.iter().map(identifier).collect(),
                may_grant: true,
                ..Event::default()
            };
            super::super::event(profile, judged, &node(), &(&event).into(), now, plan)
        }
        Step::Wake => super::super::wake(profile, judged, now, plan),
        Step::Import { orders } => {
            let loser = Bytes::from_static(b"loser");
            super::super::import(profile, judged, half(*orders, now, plan), &loser, now, plan)
        }
        Step::Define { .. } => Outcome::default(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_was_judged_before_needs_no_second_look(steps in steps()) {
        let plans = [0, 1, 2].map(defined);
        let all = [0, 1, 2].map(|from| defined(from).without_shortcuts());
        let (mut plan, mut whole) = (&plans[0], &all[0]);
        let (mut profile, mut judged) = (SegmentProfile::default(), Judged::default());
        let mut now = START;
        for (passed, step) in steps {
            now += passed;
            if let Step::Define { from } = step {
                (plan, whole) = (&plans[from], &all[from]);
            }
            let at = Timestamp::from_millis(now);
            let before = profile.clone();
            let mut looked_at_all = profile.clone();
            let outcome = act(&mut profile, &mut judged, &step, at, plan);
            let expected = act(&mut looked_at_all, &mut Judged::default(), &step, at, whole);
            prop_assert_eq!(&outcome, &expected, "{:?}", step);
            prop_assert_eq!(&profile, &looked_at_all, "{:?}", step);
            if !matches!(step, Step::Import { .. }) {
                let (before, after) = (before.person.unwrap_or_default(), profile.person.clone().unwrap_or_default());
                prop_assert_eq!(&outcome.delta, &person::diff(&before, &after), "{:?}", step);
            }
        }
    }
}
