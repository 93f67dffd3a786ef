//! JSON as it comes in: depth before parsing, canonical text for derived ids.

use std::{collections::BTreeMap, fmt::Write as _};

use serde_json::Value;

pub(crate) type Map = serde_json::Map<String, Value>;

/// How deep an event may nest, itself the first level.
pub(crate) const MAX_DEPTH: usize = 32;

/// Whether a JSON text nests deeper than `limit`. It need not be valid, and nothing is parsed.
pub(crate) fn deeper_than(text: &[u8], limit: usize) -> bool {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in text {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => {
                depth += 1;
                if depth > limit {
                    return true;
                }
            }
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

/// The text of an object without white space, names sorted at every level, without the top-level `skip`.
pub(crate) fn canonical(map: &Map, skip: &[&str]) -> String {
    let mut out = String::new();
    object(&mut out, map, skip);
    out
}

fn object(out: &mut String, map: &Map, skip: &[&str]) {
    let sorted: BTreeMap<_, _> = map.iter().filter(|(name, _)| !skip.contains(&name.as_str())).collect();
    out.push('{');
    for (index, (name, value)) in sorted.into_iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        let _infallible = write!(out, "{}:", Value::String(name.clone()));
        canonical_value(out, value);
    }
    out.push('}');
}

fn canonical_value(out: &mut String, value: &Value) {
    match value {
        Value::Object(map) => object(out, map, &[]),
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                canonical_value(out, item);
            }
            out.push(']');
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            let _infallible = write!(out, "{value}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_counts_brackets_outside_of_texts() {
        assert!(!deeper_than(br#"{"a":[{"b":"[[[[\"[["}]}"#, 3));
        assert!(deeper_than(br#"{"a":[{"b":1}]}"#, 2));
        assert!(deeper_than(&b"[".repeat(100_000), MAX_DEPTH));
        assert!(!deeper_than(b"]]]]}", 0));
    }

    #[test]
    fn equal_objects_have_one_canonical_text() {
        let of = |text| canonical(&serde_json::from_str(text).unwrap(), &["sentAt"]);
        assert_eq!(of(r#"{"b":[1,{"d":1.50,"c":"x"}], "sentAt":"now", "a":null}"#), r#"{"a":null,"b":[1,{"c":"x","d":1.50}]}"#);
    }
}
