//! (source, facts) → truth and validity.

use Truth::{No, Unknown, Yes};

use super::*;

const NEVER: Option<i64> = None;

fn hold(table: &[(&str, Truth, Option<i64>)]) {
    let facts = given();
    for (source, truth, until) in table {
        assert_eq!(program(source).truth(&facts), (*truth, until.map(at)), "{source}");
    }
}

#[test]
fn operators() {
    let yes = [
        "1 + 2 * 3 == 7",
        "(1 + 2) * 3 == 9",
        "-7 / 2 == -3 && -7 % 2 == -1",
        "10 - 3 - 2 == 5",
        "1.5 + 2.25 == 3.75",
        "2.0 * 0.000001 == 0.000002",
        "1.0 / 3.0 == 0.333333",
        "double(3) / 2.0 == 1.5",
        r#""a" + 'b' == "ab""#,
        r#""Z" < "a" && "a" <= "a" && !("b" > "c")"#,
        "true ? 1 == 1 : 1 == 2",
        "!false && (false || true) && true != false",
        "2 in [1, 2, 3] && !(4 in [1, 2, 3])",
        "!(1 in [])",
        r#""red".startsWith("r") && "red".endsWith("d") && "red".contains("e") && size("réd") == 3"#,
        r#""KV-1234".matches(r"^KV-\d{4}$") && !"x".matches("^y")"#,
        r#""\u0041\t" == "A	" && 'it\'s' == "it's""#,
        "days(2) == days(1) + \"24h\" && days(1) < \"2d\" + days(0)",
        r#"money("60") == money("60.00") && money("1.50") * 2 == money("3") && money("-1") < money("0")"#,
        r#"money("10.01") / 2 == money("5.00") && money("10.03") / 2 == money("5.02")"#,
        "default(false, true) == false",
    ];
    let facts = given();
    for source in yes {
        assert_eq!(program(source).truth(&facts), (Yes, None), "{source}");
    }
}

#[test]
fn paths_and_records() {
    hold(&[
        ("profile.order_count >= 2", Yes, NEVER),
        (r#"profile.ltv > money("120.50")"#, No, NEVER),
        (r#"profile.ltv / profile.order_count == money("60.25")"#, Yes, NEVER),
        (r#""delayed" in order("o1").flags"#, Yes, NEVER),
        (r#"profile.extra["shoe_size"] > 42"#, Yes, NEVER),
        (r#"profile.extra["shoe_size"] > 42.5"#, No, NEVER),
        (r#"profile.extra["eye.colour"] == "green""#, Yes, NEVER),
        (r#"profile.extra["shoe" + "_size"] == 42.5"#, Yes, NEVER),
        (r#"profile.extra["hat_size"] == 1"#, Unknown, NEVER),
        ("event.flag", Yes, NEVER),
        ("event.score", Unknown, NEVER),
        ("event.score + 1 == 8", Yes, NEVER),
        (r#"event.score == "7""#, Unknown, NEVER),
        (r#"event.gift.wrap == "red" && event["gift"]["wrap"] == "red""#, Yes, NEVER),
        (r#"event.meta.name in ["Product Added", "Cart Updated"]"#, Yes, NEVER),
        (r#"event.context.page.path.startsWith("/sale/")"#, Yes, NEVER),
        (r#"event.price_base >= money("60.00")"#, Yes, NEVER),
        (r#"cart_open(event.cart_id) && cart(event.cart_id).value >= money("5.00")"#, Yes, NEVER),
        (r#"cart_open("k2")"#, No, NEVER),
        (r#"cart("k2").status == "emptied""#, Yes, NEVER),
        (r#"cart_open("k9")"#, Unknown, NEVER),
        (r#"cart("k9").value > money("1")"#, Unknown, NEVER),
        (r#"cart("k2").value > money("1")"#, Unknown, NEVER),
        ("size(cart(run.key).lines) == 2", Yes, NEVER),
        (r#""refunded" in order("o1").flags"#, Yes, NEVER),
        (r#""cancelled" in order("o1").flags"#, No, NEVER),
        (r#""cancelled" in order("o2").flags"#, Unknown, NEVER),
        ("run.version == 4", Yes, NEVER),
    ]);
}

#[test]
fn lists() {
    hold(&[
        ("entry.products.exists(p, p.product_id == event.product_id)", Yes, NEVER),
        ("event.products.exists(p, p.product_id == event.product_id)", No, NEVER),
        ("entry.products.all(p, p.quantity >= 1)", Yes, NEVER),
        ("entry.products.all(p, p.quantity > 1)", No, NEVER),
        (r#"entry.products.exists(p, p.price_base * p.quantity > money("70"))"#, Yes, NEVER),
        (r#"entry.products.exists(p, p.brand == "x")"#, Unknown, NEVER),
        (r#"entry.products.all(p, p.brand == "x" || p.quantity < 4)"#, Yes, NEVER),
        ("entry.missing.exists(p, p.a == 1)", Unknown, NEVER),
        (r#"cart("k2").lines.exists(l, l.quantity > 0)"#, No, NEVER),
        (r#"cart("k2").lines.all(l, l.quantity > 0)"#, Yes, NEVER),
        (r#"order("o1").flags.exists(t, t.startsWith("del"))"#, Yes, NEVER),
        // One entry decides for as long as it does; else each may flip.
        (r#"order("o1").flags.exists(t, t == "refunded" && within(profile.last_order_at, "30d"))"#, Yes, Some(NOW + 20 * DAY)),
    ]);
    let mut facts = given();
    facts.paths.insert("event.many".to_owned(), Value::List(vec![Value::Int(1); MAX_LIST + 1]));
    assert_eq!(program("event.many.exists(x, x == 1)").truth(&facts), (Unknown, None));
}

#[test]
fn unknown_is_never_yes() {
    let unknown = "(event.missing == 1)";
    let facts = given();
    for (source, truth) in [
        ("X", Unknown),
        ("!X", Unknown),
        ("!(!X)", Unknown),
        ("X && true", Unknown),
        ("X && false", No),
        ("false && X", No),
        ("X || true", Yes),
        ("true || X", Yes),
        ("X || false", Unknown),
        ("X ? true : true", Unknown),
        ("event.missing != 1", Unknown),
        ("event.missing in [1]", Unknown),
        ("1 in [event.missing, 1]", Yes),
        ("2 in [event.missing, 1]", Unknown),
        ("default(X, true)", Yes),
        ("known(X)", No),
        ("known(event.score) && has(event.score)", Yes),
        ("has(event.missing)", No),
        ("has(cart(\"k9\").value)", No),
        ("default(event.missing, 3) == 3", Yes),
        ("1 / 0 == 1", Unknown),
        ("9223372036854775807 + 1 > 0", Unknown),
        ("9223372036854.0 * 10.0 > 0.0", Unknown),
        ("event.price_base == event.missing", Unknown),
        // What is typed at run time is not compared with what it does not go with.
        ("event.paid == event.paid", Unknown),
        ("event.paid + event.score > 1", Unknown),
        ("event.score == true", Unknown),
        ("event.flag < event.flag", Unknown),
        ("in_segment(\"never-seen\")", Unknown),
    ] {
        let source = source.replace('X', unknown);
        assert_eq!(program(&source).truth(&facts).0, truth, "{source}");
    }
}

#[test]
fn time_flips_at_its_exact_instant() {
    hold(&[
        // Ordered 10 days ago.
        (r#"within(profile.last_order_at, "30d")"#, Yes, Some(NOW + 20 * DAY)),
        (r#"within(profile.last_order_at, "10d")"#, No, NEVER),
        (r#"within(profile.last_order_at + "20d", "5d")"#, No, Some(NOW + 10 * DAY)),
        (r#"within(profile.last_order_at, "0s")"#, No, NEVER),
        (r#"elapsed(profile.last_order_at, "10d")"#, Yes, NEVER),
        (r#"elapsed(profile.last_order_at, "11d")"#, No, Some(NOW + DAY)),
        (r#"idle(profile.last_order_at, "60d")"#, No, Some(NOW + 50 * DAY)),
        ("idle(profile.last_order_at, days(profile.order_count))", Yes, NEVER),
        (r#"!idle(profile.last_order_at, "60d")"#, Yes, Some(NOW + 50 * DAY)),
        // Seen nothing for the 100 days that are covered.
        (r#"idle(profile.last_seen_at, "60d")"#, Yes, NEVER),
        (r#"idle(profile.last_seen_at, "100d")"#, Yes, NEVER),
        (r#"idle(profile.last_seen_at, "101d")"#, Unknown, Some(NOW + DAY)),
        (r#"idle(cart("k9").updated_at, "101d")"#, Unknown, Some(NOW + DAY)),
        // Of an event nothing can be said that it does not say.
        (r#"idle(event.expires_at, "1d")"#, Unknown, NEVER),
        (r#"within(profile.last_seen_at, "1d")"#, Unknown, NEVER),
        (r#"elapsed(event.meta.time, "2h")"#, No, Some(NOW + HOUR)),
        (r#"elapsed(event.score, "2h")"#, Unknown, NEVER),
        // Memberships carry their own instant; one that has passed says nothing any more.
        (r#"in_segment("vip")"#, Yes, Some(NOW + 5 * DAY)),
        (r#"in_segment("lapsed-60d")"#, No, NEVER),
    ]);
    let uncovered = Given { covered: None, ..given() };
    assert_eq!(program(r#"idle(profile.last_seen_at, "1d")"#).truth(&uncovered), (Unknown, None));
}

#[test]
fn an_answer_lasts_until_the_first_flip_that_matters() {
    // a: yes until +20 d; b: no until +10 d; c: no until +50 d; d: unknown until +1 d.
    let parts = [
        ('a', r#"within(profile.last_order_at, "30d")"#),
        ('b', r#"elapsed(profile.last_order_at, "20d")"#),
        ('c', r#"idle(profile.last_order_at, "60d")"#),
        ('d', r#"idle(profile.last_seen_at, "101d")"#),
        ('x', "event.missing == 1"),
    ];
    let facts = given();
    for (formula, truth, days) in [
        ("(a) && true", Yes, Some(20)),
        ("(a) && (b)", No, Some(10)),
        ("(b) && (c)", No, Some(50)),
        ("(b) && (c) && false", No, None),
        ("(b) || (c)", No, Some(10)),
        ("(a) || (b)", Yes, Some(20)),
        ("(a) || true", Yes, None),
        ("(a) && (d)", Unknown, Some(1)),
        ("(b) && (d)", No, Some(10)),
        ("(a) || (d)", Yes, Some(20)),
        ("(a) && (x)", Unknown, Some(20)),
        ("(x) || (c)", Unknown, Some(50)),
        ("(a) ? (b) : (c)", No, Some(10)),
        ("(d) ? (a) : (a)", Unknown, Some(1)),
        ("default(d, a)", Yes, Some(1)),
        ("known(d)", No, Some(1)),
        ("(a) == (b)", No, Some(10)),
        ("!((b) || (c))", Yes, Some(10)),
    ] {
        let source: String = formula.split_inclusive(|c: char| !c.is_ascii_lowercase()).map(|piece| substitute(piece, &parts)).collect();
        assert_eq!(program(&source).truth(&facts), (truth, days.map(|d| at(NOW + d * DAY))), "{formula}");
    }
}

// Replaces a piece that is one letter, with what follows it.
fn substitute(piece: &str, parts: &[(char, &str)]) -> String {
    let word = piece.trim_end_matches(|c: char| !c.is_ascii_lowercase());
    match parts.iter().find(|(name, _)| word.len() == 1 && word.starts_with(*name)) {
        Some((_, source)) => piece.replacen(word, source, 1),
        None => piece.to_owned(),
    }
}

#[test]
fn until_the_flip_nothing_changes_and_then_it_may() {
    let sources = [
        r#"within(profile.last_order_at, "30d")"#,
        r#"elapsed(profile.last_order_at, "20d") && !idle(profile.last_order_at, "60d")"#,
        r#"idle(profile.last_seen_at, "110d") || within(profile.last_order_at + "15d", "10d")"#,
        r#"profile.order_count > 1 && (elapsed(run.entered_at, "3h") || within(run.entered_at, "2h"))"#,
    ];
    for source in sources {
        let program = program(source);
        let mut facts = given();
        let mut flips = 0;
        while let (truth, Some(until)) = program.truth(&facts) {
            assert!(until.millis() > facts.now, "{source}");
            for instant in [facts.now + 1, i64::midpoint(facts.now, until.millis()), until.millis() - 1] {
                facts.now = instant.clamp(facts.now, until.millis() - 1);
                assert_eq!(program.truth(&facts).0, truth, "{source} at {instant}");
            }
            facts.now = until.millis();
            flips += 1;
            assert!(flips < 10, "{source}");
        }
        let settled = program.truth(&facts).0;
        facts.now += 10_000 * DAY;
        assert_eq!(program.truth(&facts).0, settled, "{source}");
    }
}

#[test]
fn values_are_computed() {
    let facts = given();
    for (source, value) in [
        ("event.product_id + \"/\" + run.key", Value::text("p2/k1")),
        ("cart(run.key).total", Value::Amount { minor: 8_000, currency: "USD".to_owned() }),
        ("profile.last_order_at + days(10)", Value::Time(at(NOW))),
        ("days(2)", Value::Int(2 * DAY)),
        ("[1, 2]", Value::List(vec![Value::Int(1), Value::Int(2)])),
        ("-event.score", Value::Int(-7)),
    ] {
        assert_eq!(program(source).evaluate(&facts), Answer { value: Some(value), valid_until: None }, "{source}");
    }
}
