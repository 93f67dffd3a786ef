//! Comparing and computing with values: exact, never through a float; what does not fit is unknown.

use std::cmp::Ordering;

use waypost_types::{Span, Timestamp, Value};

use super::tree::{Comparison, Operation};

const MILLION: i128 = 1_000_000;

/// How two values compare; none where they cannot.
pub(super) fn order(a: &Value, b: &Value) -> Option<Ordering> {
    match (a, b) {
        (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(b)),
        (Value::Int(a), Value::Int(b)) | (Value::Decimal(a), Value::Decimal(b)) | (Value::Money(a), Value::Money(b)) => Some(a.cmp(b)),
        // Only where one of them is typed at run time.
        (Value::Int(a), Value::Decimal(b)) => Some((i128::from(*a) * MILLION).cmp(&i128::from(*b))),
        (Value::Decimal(a), Value::Int(b)) => Some(i128::from(*a).cmp(&(i128::from(*b) * MILLION))),
        (Value::Text(a), Value::Text(b)) => Some(a.cmp(b)),
        (Value::Time(a), Value::Time(b)) => Some(a.cmp(b)),
        (Value::Date(a), Value::Date(b)) => Some(a.cmp(b)),
        _ => None,
    }
}

/// Whether a comparison holds.
pub(super) fn compare(comparison: Comparison, a: &Value, b: &Value) -> Option<bool> {
    let booleans = matches!((a, b), (Value::Bool(_), Value::Bool(_)));
    let order = order(a, b)?;
    match comparison {
        Comparison::Equal => Some(order == Ordering::Equal),
        Comparison::NotEqual => Some(order != Ordering::Equal),
        _ if booleans => None,
        Comparison::Less => Some(order == Ordering::Less),
        Comparison::LessOrEqual => Some(order != Ordering::Greater),
        Comparison::Greater => Some(order == Ordering::Greater),
        Comparison::GreaterOrEqual => Some(order != Ordering::Less),
    }
}

/// The result of an operation; none where it has none: overflow, division by zero, values that do
/// not go together. `durations`: ints beside a time are durations, which the check made sure of.
pub(super) fn compute(operation: Operation, a: &Value, b: &Value, durations: bool) -> Option<Value> {
    use Operation::{Add, Divide, Multiply, Remainder, Subtract};
    match (operation, a, b) {
        (Add, Value::Int(a), Value::Int(b)) => a.checked_add(*b).map(Value::Int),
        (Subtract, Value::Int(a), Value::Int(b)) => a.checked_sub(*b).map(Value::Int),
        (Multiply, Value::Int(a), Value::Int(b)) => a.checked_mul(*b).map(Value::Int),
        (Divide, Value::Int(a), Value::Int(b)) => a.checked_div(*b).map(Value::Int),
        (Remainder, Value::Int(a), Value::Int(b)) => a.checked_rem(*b).map(Value::Int),
        (Add, Value::Money(a), Value::Money(b)) => a.checked_add(*b).map(Value::Money),
        (Subtract, Value::Money(a), Value::Money(b)) => a.checked_sub(*b).map(Value::Money),
        (Multiply, Value::Money(a), Value::Int(b)) | (Multiply, Value::Int(a), Value::Money(b)) => a.checked_mul(*b).map(Value::Money),
        (Divide, Value::Money(a), Value::Int(b)) => divide(i128::from(*a), i128::from(*b)).map(Value::Money),
        (Add, Value::Text(a), Value::Text(b)) => Some(Value::Text(format!("{a}{b}"))),
        (Add, Value::Time(t), Value::Int(d)) | (Add, Value::Int(d), Value::Time(t)) if durations => moved(*t, *d),
        (Subtract, Value::Time(t), Value::Int(d)) if durations => moved(*t, d.checked_neg()?),
        (_, Value::Decimal(a), Value::Int(b)) => decimals(operation, i128::from(*a), i128::from(*b) * MILLION),
        (_, Value::Int(a), Value::Decimal(b)) => decimals(operation, i128::from(*a) * MILLION, i128::from(*b)),
        (_, Value::Decimal(a), Value::Decimal(b)) => decimals(operation, i128::from(*a), i128::from(*b)),
        _ => None,
    }
}

/// The negative of a number.
pub(super) fn negate(value: &Value) -> Option<Value> {
    match value {
        Value::Int(i) => i.checked_neg().map(Value::Int),
        Value::Decimal(d) => d.checked_neg().map(Value::Decimal),
        Value::Money(m) => m.checked_neg().map(Value::Money),
        Value::Bool(_) | Value::Text(_) | Value::Amount { .. } | Value::Time(_) | Value::Date(_) | Value::List(_) | Value::Object(_) => {
            None
        }
    }
}

/// An int in millionths.
pub(super) fn millionths(int: i64) -> Option<i64> {
    int.checked_mul(1_000_000)
}

fn moved(t: Timestamp, d: i64) -> Option<Value> {
    let end = t.millis().checked_add(d)?;
    (end < Timestamp::MAX.millis()).then(|| Value::Time(t.plus(Span::from_millis(d))))
}

fn decimals(operation: Operation, a: i128, b: i128) -> Option<Value> {
    let result = match operation {
        Operation::Add => i64::try_from(a + b).ok(),
        Operation::Subtract => i64::try_from(a - b).ok(),
        Operation::Multiply => divide(a.checked_mul(b)?, MILLION),
        Operation::Divide => divide(a.checked_mul(MILLION)?, b),
        Operation::Remainder => None,
    };
    result.map(Value::Decimal)
}

// Half to even.
fn divide(a: i128, b: i128) -> Option<i64> {
    let (quotient, rest) = (a.checked_div(b)?, a.checked_rem(b)?);
    let away = match (rest.abs() * 2).cmp(&b.abs()) {
        Ordering::Less => false,
        Ordering::Equal => quotient % 2 != 0,
        Ordering::Greater => true,
    };
    let step = if (a < 0) == (b < 0) { 1 } else { -1 };
    i64::try_from(quotient + if away { step } else { 0 }).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn division_rounds_half_to_even() {
        for (a, b, expected) in [(7, 2, 4), (5, 2, 2), (-5, 2, -2), (-7, 2, -4), (1, 3, 0), (2, 3, 1), (-2, 3, -1), (5, -2, -2)] {
            assert_eq!(divide(a, b), Some(expected), "{a} / {b}");
        }
        assert_eq!(divide(1, 0), None);
    }
}
