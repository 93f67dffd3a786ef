//! The value of an order, where the sender did not say `revenue` (PRODUCT §4.3).

use waypost_types::{Currency, Value};

use super::properties::{Properties, Typing, put_money};

/// Fills in `revenue`: `total − shipping − tax`; else `subtotal − discount`; else Σ price × quantity − discount.
pub(crate) fn fill(properties: &mut Properties, typing: &Typing) {
    if properties.contains_key("revenue") {
        return;
    }
    if let Some((minor, currency)) = computed(properties) {
        put_money(properties, "revenue", minor, currency, typing);
    }
}

fn computed(properties: &Properties) -> Option<(i64, Currency)> {
    let amount = |name: &str| match properties.get(name) {
        Some(Value::Amount { minor, currency }) => Some((*minor, Currency::parse(currency)?)),
        _ => None,
    };
    // Amounts of one event are in its one currency.
    let less = |name: &str| amount(name).map_or(0, |(minor, _)| minor);
    if let Some((total, currency)) = amount("total") {
        return Some((total.checked_sub(less("shipping"))?.checked_sub(less("tax"))?, currency));
    }
    if let Some((subtotal, currency)) = amount("subtotal") {
        return Some((subtotal.checked_sub(less("discount"))?, currency));
    }
    let Some(Value::List(lines)) = properties.get("products") else { return None };
    let mut sum: i64 = 0;
    let mut common = None;
    for line in lines {
        let (Some(Value::Amount { minor, currency }), Some(Value::Int(quantity))) = (line.get("price"), line.get("quantity")) else {
            return None;
        };
        let currency = Currency::parse(currency)?;
        if *common.get_or_insert(currency) != currency {
            return None;
        }
        sum = sum.checked_add(minor.checked_mul(*quantity)?)?;
    }
    Some((sum.checked_sub(less("discount"))?, common?))
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use super::{
        super::properties::{Qualities, event},
        *,
    };

    #[test]
    fn the_first_rule_that_applies_counts() {
        let typing = Typing { currency: Currency::EUR, zone: TimeZone::UTC };
        for (json, revenue) in [
            (r#"{"revenue": 5, "total": 10}"#, Some(500)),
            (r#"{"total": 70, "shipping": 5, "tax": "5.50"}"#, Some(5_950)),
            (r#"{"subtotal": 60, "discount": 10}"#, Some(5_000)),
            (r#"{"products": [{"sku": "a", "price": 1.5, "quantity": 2}, {"sku": "b", "price": 2}], "discount": 1}"#, Some(400)),
            (r#"{"products": [{"sku": "a"}]}"#, None),
            (r#"{"products": []}"#, None),
            (r#"{"total": 90000000000000000, "tax": -90000000000000000}"#, None),
        ] {
            let mut properties = event(&serde_json::from_str(json).unwrap(), &typing, &mut Qualities::default());
            fill(&mut properties, &typing);
            assert_eq!(properties.get("revenue_base"), revenue.map(Value::Money).as_ref(), "{json}");
        }
    }
}
