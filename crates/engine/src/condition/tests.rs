//! The language by tables: what holds and until when; what is refused, where and why.

mod answers;
mod explained;
mod lasting;
mod refused;

use std::collections::{BTreeMap, BTreeSet};

use super::*;

const HOUR: i64 = 3_600_000;
const DAY: i64 = 24 * HOUR;
/// Log time of every test.
const NOW: i64 = 1_000 * DAY;

/// Facts by full path.
#[derive(Default)]
struct Given {
    paths: BTreeMap<String, Value>,
    carts: BTreeMap<String, Value>,
    orders: BTreeMap<String, Value>,
    segments: BTreeMap<String, (Truth, Option<Timestamp>)>,
    covered: Option<Timestamp>,
    now: i64,
}

impl Facts for Given {
    fn now(&self) -> Timestamp {
        at(self.now)
    }

    fn path(&self, root: Root, path: &str) -> Option<Value> {
        self.paths.get(&format!("{}.{path}", root.as_str())).cloned()
    }

    fn segment(&self, name: &str) -> (Truth, Option<Timestamp>) {
        self.segments.get(name).copied().unwrap_or((Truth::Unknown, None))
    }

    fn cart(&self, id: &str) -> Option<Value> {
        self.carts.get(id).cloned()
    }

    fn order(&self, id: &str) -> Option<Value> {
        self.orders.get(id).cloned()
    }

    fn covered_since(&self) -> Option<Timestamp> {
        self.covered
    }

    fn currency(&self) -> Currency {
        Currency::EUR
    }
}

fn at(ms: i64) -> Timestamp {
    Timestamp::from_millis(ms)
}

fn record<const N: usize>(entries: [(&str, Value); N]) -> Value {
    Value::object(entries.map(|(name, value)| (name.to_owned(), value)))
}

fn line(product: &str, quantity: i64) -> Value {
    record([("product_id", Value::text(product)), ("quantity", Value::Int(quantity)), ("price_base", Value::Money(2_500))])
}

/// A shopper with a cart `k1`, an order `o1`, no engagement, seen since day 900.
fn given() -> Given {
    let amount = Value::Amount { minor: 8_000, currency: "USD".to_owned() };
    let lines = Value::List(vec![line("p1", 1), line("p2", 3)]);
    let paths = [
        ("profile.order_count", Value::Int(2)),
        ("profile.ltv", Value::Money(12_050)),
        ("profile.last_order_at", Value::Time(at(NOW - 10 * DAY))),
        ("profile.email", Value::text("ana@shop.example")),
        ("profile.extra.shoe_size", Value::Decimal(42_500_000)),
        ("profile.extra", record([("shoe_size", Value::Decimal(42_500_000)), ("eye.colour", Value::text("green"))])),
        ("event.cart_id", Value::text("k1")),
        ("event.product_id", Value::text("p2")),
        ("event.price", amount.clone()),
        ("event.price_base", Value::Money(7_000)),
        ("event.paid", amount.clone()),
        ("event.flag", Value::Bool(true)),
        ("event.score", Value::Int(7)),
        ("event.gift.wrap", Value::text("red")),
        ("event.meta.name", Value::text("Product Added")),
        ("event.meta.time", Value::Time(at(NOW - HOUR))),
        ("event.context.page.path", Value::text("/sale/boots")),
        ("event.products", Value::List(vec![line("p3", 1)])),
        ("entry.products", lines.clone()),
        ("run.key", Value::text("k1")),
        ("run.entered_at", Value::Time(at(NOW - 2 * HOUR))),
        ("run.version", Value::Int(4)),
    ];
    let cart = record([
        ("cart_id", Value::text("k1")),
        ("status", Value::text("open")),
        ("lines", lines),
        ("value", Value::Money(7_000)),
        ("total", amount),
        ("updated_at", Value::Time(at(NOW - HOUR))),
    ]);
    let emptied = record([("cart_id", Value::text("k2")), ("status", Value::text("emptied")), ("lines", Value::List(vec![]))]);
    let order = record([
        ("order_id", Value::text("o1")),
        ("status", Value::text("placed")),
        ("flags", Value::List(vec![Value::text("delayed"), Value::text("refunded")])),
        ("placed_at", Value::Time(at(NOW - 10 * DAY))),
    ]);
    Given {
        paths: paths.into_iter().map(|(path, value)| (path.to_owned(), value)).collect(),
        carts: BTreeMap::from([("k1".to_owned(), cart), ("k2".to_owned(), emptied)]),
        orders: BTreeMap::from([("o1".to_owned(), order)]),
        segments: BTreeMap::from([
            ("vip".to_owned(), (Truth::Yes, Some(at(NOW + 5 * DAY)))),
            ("lapsed-60d".to_owned(), (Truth::No, Some(at(NOW - 1)))),
        ]),
        covered: Some(at(NOW - 100 * DAY)),
        now: NOW,
    }
}

fn scope() -> Scope {
    Scope::journey(Currency::EUR, ["vip", "lapsed-60d", "never-seen"].map(str::to_owned).into())
}

fn program(source: &str) -> Program {
    compile(source, &scope()).unwrap_or_else(|e| panic!("{source}\n{e}"))
}

#[test]
fn what_is_read_is_known() {
    let reads = program(
        r#"profile.order_count > 1 && profile.extra["shoe size"] == 1 && has(event.context.page.path) && event.meta.name == "x"
           && entry.products.exists(p, p.product_id == event.product_id) && cart_open(event.cart_id) && in_segment("vip")"#,
    )
    .reads()
    .clone();
    let set = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(reads.profile, set(&["order_count", "extra.shoe size"]));
    assert_eq!(reads.event, set(&["context.page.path", "meta.name", "product_id", "cart_id"]));
    assert_eq!(reads.entry, set(&["products"]));
    assert_eq!(reads.segments, set(&["vip"]));
    assert_eq!((reads.carts, reads.orders), (true, false));
    assert!(program("profile.orders.exists(o, o.status == \"placed\")").reads().orders);
}

#[test]
fn results_are_typed() {
    for (source, ty) in [
        ("event.cart_id", Type::Text),
        ("event.revenue_base", Type::Money),
        ("cart(run.key).lines", Type::list(Type::Line)),
        ("cart(run.key).total", Type::Amount),
        ("profile.ltv / profile.order_count", Type::Money),
        ("profile.last_order_at + \"7d\"", Type::Time),
        ("profile.extra[\"x\"]", Type::Any),
        ("[1, 2]", Type::list(Type::Int)),
        ("event.product_id + \"-\" + run.key", Type::Text),
        ("days(3) + days(4)", Type::Duration),
    ] {
        assert_eq!(program(source).result(), &ty, "{source}");
    }
    assert!(compile_as("event.cart_id", &scope(), &Type::Text).is_ok());
    assert_eq!(compile_as("event.cart_id", &scope(), &Type::Bool).map_err(|e| e.code).err(), Some("TYPE_MISMATCH"));
    assert!(compile_as("event.anything", &scope(), &Type::Bool).is_ok());
}

#[test]
fn conditions_of_the_library_are_bools() {
    for source in [
        r#"cart_open(event.cart_id) && cart(event.cart_id).value >= money("5.00")"#,
        r#"cart(run.key).status == "in_checkout""#,
        r#"!in_segment("vip")"#,
        "event.order_id == run.key",
        r#""refunded" in order(run.key).flags"#,
        "entry.products.exists(p, p.product_id == event.product_id)",
        r#"profile.order_count >= 1 && idle(profile.last_order_at, "60d")"#,
        r#"event.revenue_base >= money("60.00")"#,
        r#"profile.ltv >= money("500.00")"#,
    ] {
        assert_eq!(program(source).result(), &Type::Bool, "{source}");
    }
}

#[test]
fn programs_are_plain_data() {
    fn plain<T: Clone + std::fmt::Debug + Send + Sync>() {}
    plain::<Program>();
}
