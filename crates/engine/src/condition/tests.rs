//! The language by tables: what holds and until when; what is refused, where and why.

use std::collections::BTreeSet;

use waypost_types::Currency;

use super::*;

fn scope() -> Scope {
    Scope::journey(Currency::EUR, BTreeSet::from(["vip".to_owned(), "lapsed-60d".to_owned()]))
}

#[test]
fn a_condition_of_the_library_compiles() {
    let program = compile(r#"cart_open(event.cart_id) && cart(event.cart_id).value >= money("5.00")"#, &scope());
    assert_eq!(program.map(|p| p.result().clone()), Ok(Type::Bool));
}
