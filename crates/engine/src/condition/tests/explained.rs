//! What explain shows.

use super::*;

#[test]
fn operands_are_shown_with_their_values() {
    for (source, expected) in [
        (
            r#"cart_open(event.cart_id) && cart(event.cart_id).value >= money("60.00") && profile.order_count == 0"#,
            &[r#"cart_open("k1") = yes"#, r#"cart("k1").value = 70.00 EUR"#, "profile.order_count = 2"][..],
        ),
        (
            r#"!in_segment("vip") || idle(profile.last_seen_at, "60d")"#,
            &[r#"in_segment("vip") = yes"#, "profile.last_seen_at = unknown", r#"idle(profile.last_seen_at, "60d") = yes"#],
        ),
        (
            "entry.products.exists(p, p.product_id == event.product_id)",
            &[
                r#"entry.products = [{"p1", …}, {"p2", …}]"#,
                "event.product_id = \"p2\"",
                "entry.products.exists(p, p.product_id == event.product_id) = yes",
            ],
        ),
        (r#"cart("k9").status == "open""#, &[r#"cart("k9").status = unknown"#]),
        ("order(event.missing).status == \"placed\"", &["order(unknown).status = unknown"]),
        ("elapsed(run.entered_at,\n  \"3h\")", &["run.entered_at = 1972-09-26T22:00:00Z", "elapsed(run.entered_at, \"3h\") = no"]),
        ("event.flag == event.flag", &["event.flag = yes"]),
        (r#"profile.extra["shoe_size"] > 40"#, &[r#"profile.extra["shoe_size"] = 42.5"#]),
    ] {
        let (_, _, operands) = program(source).explain(&given());
        let shown: Vec<_> = operands.into_iter().map(|o| format!("{} = {}", o.what, o.value)).collect();
        assert_eq!(shown, expected, "{source}");
    }
}

#[test]
fn explaining_does_not_change_the_answer() {
    for source in ["false && event.flag", "event.missing == 1 || event.flag", r#"within(profile.last_order_at, "30d") || event.flag"#] {
        let program = program(source);
        let (truth, until, _) = program.explain(&given());
        assert_eq!((truth, until), program.truth(&given()), "{source}");
    }
}
