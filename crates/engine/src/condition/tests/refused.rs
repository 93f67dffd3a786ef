//! What is refused, with code, place and suggestion.

use proptest::prelude::*;

use super::*;

/// Source, code, line and column, suggestion.
type Refusal<'a> = (&'a str, &'a str, (u32, u32), Option<&'a str>);

fn refuse(scope: &Scope, table: &[Refusal<'_>]) {
    for (source, code, place, suggestion) in table {
        let error = compile(source, scope).map(|p| p.result().clone()).expect_err(source);
        assert_eq!(
            (error.code, (error.line, error.column), error.suggestion.as_deref()),
            (*code, *place, *suggestion),
            "{source}\n{error}"
        );
    }
}

#[test]
fn syntax() {
    refuse(
        &scope(),
        &[
            ("", "SYNTAX", (1, 1), None),
            ("true &&", "SYNTAX", (1, 8), None),
            ("true and false", "SYNTAX", (1, 6), Some("&&")),
            ("event.a = 1", "SYNTAX", (1, 9), Some("==")),
            ("true &&\n  (false", "SYNTAX", (2, 9), None),
            ("\"é\" == #", "SYNTAX", (1, 8), None),
            ("\"abc", "SYNTAX", (1, 1), None),
            ("\"a\nb\" == \"\"", "SYNTAX", (1, 1), None),
            ("\"a\\d\" == \"\"", "SYNTAX", (1, 3), None),
            ("60d", "SYNTAX", (1, 1), None),
            ("event.a == null", "SYNTAX", (1, 12), None),
            ("event.", "SYNTAX", (1, 7), None),
            ("1 2", "SYNTAX", (1, 3), None),
            ("f(1,)", "SYNTAX", (1, 5), None),
            (r#"event.product_id.matches("(")"#, "SYNTAX", (1, 26), None),
            ("entry.products.exists(p, entry.products.exists(q, true))", "SYNTAX", (1, 26), None),
            ("entry.products.exists(1, true)", "SYNTAX", (1, 23), None),
            ("entry.products.exists(run, true)", "SYNTAX", (1, 23), None),
        ],
    );
}

#[test]
fn names() {
    refuse(
        &scope(),
        &[
            ("profile.order_cuont > 1", "UNKNOWN_REFERENCE", (1, 1), Some("profile.order_count")),
            ("profile.shoe_size > 1", "UNKNOWN_REFERENCE", (1, 1), None),
            ("true &&\n profil.ltv > money(\"1\")", "UNKNOWN_REFERENCE", (2, 2), Some("profile")),
            ("event.meta.tiem == event.meta.time", "UNKNOWN_REFERENCE", (1, 1), Some("event.meta.time")),
            ("run.kye == \"a\"", "UNKNOWN_REFERENCE", (1, 1), Some("run.key")),
            ("cart(run.key).valeu > money(\"1\")", "UNKNOWN_REFERENCE", (1, 1), Some("value")),
            ("entry.products.exists(p, p.product == \"x\")", "UNKNOWN_REFERENCE", (1, 26), None),
            ("in_segment(\"vpi\")", "UNKNOWN_REFERENCE", (1, 12), Some("vip")),
            ("elapsd(run.entered_at, \"1d\")", "UNKNOWN_REFERENCE", (1, 1), Some("elapsed")),
            ("run.entered_at.elapsed(\"1d\")", "UNKNOWN_REFERENCE", (1, 16), Some("elapsed(run.entered_at, …)")),
            ("run.key.startswith(\"k\")", "UNKNOWN_REFERENCE", (1, 9), Some("startsWith")),
            ("cart.value > money(\"1\")", "UNKNOWN_REFERENCE", (1, 1), Some("cart(…)")),
            ("cart(run.key).status == open", "UNKNOWN_REFERENCE", (1, 25), None),
            ("timestamp(\"2026-01-01\") > run.entered_at", "UNKNOWN_REFERENCE", (1, 1), None),
        ],
    );
    let segment = Scope::segment(Currency::EUR, BTreeSet::new());
    refuse(
        &segment,
        &[
            ("event.cart_id == \"a\"", "UNKNOWN_REFERENCE", (1, 1), None),
            ("profile.order_count > 1 && run.version == 1", "UNKNOWN_REFERENCE", (1, 28), None),
        ],
    );
    let vars = scope().with_vars(BTreeMap::from([("worth_it".to_owned(), Type::Bool)]));
    assert!(compile("vars.worth_it", &vars).is_ok());
    refuse(
        &vars,
        &[("vars.worth", "UNKNOWN_REFERENCE", (1, 1), None), ("vars.worthit", "UNKNOWN_REFERENCE", (1, 1), Some("vars.worth_it"))],
    );
}

#[test]
fn types() {
    refuse(
        &scope(),
        &[
            ("event.price > money(\"1\")", "TYPE_MISMATCH", (1, 1), Some("event.price_base")),
            ("cart(run.key).total > money(\"1\")", "TYPE_MISMATCH", (1, 1), Some("cart(run.key).value")),
            ("event.price + event.tax == event.total", "TYPE_MISMATCH", (1, 1), Some("event.price_base")),
            ("profile.ltv > 60", "TYPE_MISMATCH", (1, 1), Some("money(\"60\")")),
            ("money(60) < profile.ltv", "TYPE_MISMATCH", (1, 7), Some("money(\"60\")")),
            ("money(\"1.005\") < profile.ltv", "TYPE_MISMATCH", (1, 7), None),
            ("money(\"a\") < profile.ltv", "TYPE_MISMATCH", (1, 7), None),
            ("profile.order_count > 1.5", "TYPE_MISMATCH", (1, 1), Some("double(profile.order_count)")),
            ("profile.order_count + 1.5 > 2.0", "TYPE_MISMATCH", (1, 1), Some("double(profile.order_count)")),
            ("true && profile.order_count", "TYPE_MISMATCH", (1, 9), None),
            ("profile.order_count == \"1\"", "TYPE_MISMATCH", (1, 1), None),
            ("true < false", "TYPE_MISMATCH", (1, 1), None),
            ("cart(run.key) == cart(run.key)", "TYPE_MISMATCH", (1, 1), None),
            ("cart(run.version).value > money(\"1\")", "TYPE_MISMATCH", (1, 6), None),
            ("\"k\" in run.key", "TYPE_MISMATCH", (1, 1), Some("run.key.contains(\"k\")")),
            ("1 in [\"a\"]", "TYPE_MISMATCH", (1, 1), None),
            ("order(run.key).flags.contains(\"a\")", "TYPE_MISMATCH", (1, 1), Some("\"a\" in order(run.key).flags")),
            ("[1, \"a\"] == 1", "TYPE_MISMATCH", (1, 5), None),
            ("true ? 1 : \"a\"", "TYPE_MISMATCH", (1, 1), None),
            ("within(profile.last_order_at, \"60\")", "TYPE_MISMATCH", (1, 31), None),
            ("within(profile.last_order_at, 60)", "TYPE_MISMATCH", (1, 31), None),
            ("within(profile.order_count, \"60d\")", "TYPE_MISMATCH", (1, 8), None),
            ("within(profile.birthday, \"60d\")", "TYPE_MISMATCH", (1, 8), None),
            ("within(profile.last_order_at)", "TYPE_MISMATCH", (1, 1), Some("within(time, duration)")),
            ("profile.last_order_at + 5 == run.entered_at", "TYPE_MISMATCH", (1, 1), None),
            ("profile.last_order_at - run.entered_at == days(1)", "TYPE_MISMATCH", (1, 1), None),
            ("days(1) == event.anything", "TYPE_MISMATCH", (1, 1), None),
            ("in_segment(run.key)", "TYPE_MISMATCH", (1, 12), None),
            ("run.key.matches(run.key)", "TYPE_MISMATCH", (1, 17), None),
            ("has(1 + 1)", "TYPE_MISMATCH", (1, 5), Some("known(1 + 1)")),
            ("event.cart_id.name == \"x\"", "TYPE_MISMATCH", (1, 1), None),
            ("entry.products.product_id == \"x\"", "TYPE_MISMATCH", (1, 1), None),
            ("entry.products[0].product_id == \"x\"", "TYPE_MISMATCH", (1, 16), None),
            ("run == 1", "TYPE_MISMATCH", (1, 1), None),
            ("-run.key == \"x\"", "TYPE_MISMATCH", (1, 2), None),
            ("size(1) == 1", "TYPE_MISMATCH", (1, 6), None),
        ],
    );
}

#[test]
fn what_is_not_built_yet_says_so() {
    for function in vocabulary::words(vocabulary::FUNCTIONS_NOT_YET) {
        let error = compile(&format!("true && {function}(1, 2)"), &scope()).map(|p| p.cost()).expect_err(function);
        assert_eq!((error.code, error.column), ("NOT_YET_SUPPORTED", 9), "{error}");
    }
    refuse(
        &scope(),
        &[
            ("profile.offers_90d == 0", "NOT_YET_SUPPORTED", (1, 1), None),
            ("profile.lifecycle_stage == \"new\"", "NOT_YET_SUPPORTED", (1, 1), None),
            ("\"a\" in profile.tags", "NOT_YET_SUPPORTED", (1, 8), None),
            ("global.sale", "NOT_YET_SUPPORTED", (1, 1), None),
            ("vars.worth_it", "NOT_YET_SUPPORTED", (1, 1), None),
            ("elapsed(order(run.key).delivered_at, \"1d\")", "NOT_YET_SUPPORTED", (1, 9), None),
        ],
    );
}

#[test]
fn limits() {
    let long = format!("true{}", " ".repeat(MAX_SOURCE));
    let parentheses = format!("{}true{}", "(".repeat(33), ")".repeat(33));
    let nots = format!("{}true", "!".repeat(60));
    let sum = format!("0{} == 0", " + 0".repeat(40));
    let path = format!("event{} == 0", ".a".repeat(40));
    let keys = format!("event.a{} == 0", "[run.key]".repeat(40));
    let choices = format!("{}true", "true ? true : ".repeat(40));
    let operands = format!("event.a == 1{}", " || event.a == 1".repeat(200));
    let costly = format!("entry.products.exists(p, p.name.matches(\"a\"){})", " || p.name.matches(\"a\")".repeat(3));
    refuse(
        &scope(),
        &[
            (&long, "LIMIT_EXCEEDED", (1, 1), None),
            (&parentheses, "LIMIT_EXCEEDED", (1, 33), None),
            (&nots, "LIMIT_EXCEEDED", (1, 33), None),
            (&sum, "LIMIT_EXCEEDED", (1, 1), None),
            (&path, "LIMIT_EXCEEDED", (1, 1), None),
            (&keys, "LIMIT_EXCEEDED", (1, 1), None),
            (&choices, "LIMIT_EXCEEDED", (1, 442), None),
            (&operands, "LIMIT_EXCEEDED", (1, 3_201), None),
            ("9223372036854775808 > 1", "LIMIT_EXCEEDED", (1, 1), None),
            ("1.1234567 > 1.0", "LIMIT_EXCEEDED", (1, 1), None),
            (r#"run.key.matches(r"(\w{100}){100}")"#, "LIMIT_EXCEEDED", (1, 17), None),
        ],
    );
    let error = compile(&costly, &scope()).map(|p| p.cost());
    assert_eq!(error.map_err(|e| e.code), Err("COST_TOO_HIGH"));
    // Long is not deep.
    let chain = format!("true{}", " && true".repeat(400));
    assert!(compile(&chain, &scope()).is_ok());
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(source in "\\PC{0,80}") {
        compile(&source, &scope()).map(|p| p.explain(&given())).ok();
    }

    #[test]
    fn no_mix_of_its_own_words_makes_it_panic(pieces in prop::collection::vec(prop::sample::select(vec![
        "profile.", "order_count", "event", ".", "price_base", "entry.products", ".exists(p, ", ".all(", "p.quantity", "run.key", "cart(", "cart_open(",
        "order(", ").value", "within(", "idle(", "elapsed(", "profile.last_order_at", ", \"1d\")", "days(", "money(\"1\")", "default(", "known(",
        "has(", "(", ")", "[", "]", ",", "?", ":", "!", "-", "+", "*", "/", "%", "==", "!=", "<", ">=", "&&", "||", " in ", "1", "2.5", "\"é\"",
        "9223372036854775807", "true", ".matches(\"a+\")", ".contains(", "size(", "double(", "in_segment(\"vip\")", "event.x", "['k']", "\n",
    ]), 0..24)) {
        compile(&pieces.concat(), &scope()).map(|p| p.explain(&given())).ok();
    }
}
