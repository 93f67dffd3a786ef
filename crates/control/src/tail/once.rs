//! Rows may stand in a topic twice, under the same numbers of the same source; each is shown once.

use std::collections::BTreeMap;

use waypost_runtime::ports::Delivery;

/// The last number of each source in one partition.
#[derive(Debug, Default)]
pub(super) struct Once(BTreeMap<String, u64>);

// === impl Once ===

impl Once {
    /// Of one source the next number only, as `ce_sequence` promises; whatever its first one is.
    pub(super) fn is_new(&mut self, delivery: &Delivery) -> bool {
        let header = |name: &str| {
            let found = delivery.headers.iter().find(|(header, _)| header == name);
            found.and_then(|(_, value)| std::str::from_utf8(value).ok())
        };
        let (Some(source), Some(number)) = (header("ce_source"), header("ce_sequence").and_then(|n| n.parse::<u64>().ok())) else {
            return false;
        };
        match self.0.get_mut(source) {
            Some(last) if number == *last + 1 => *last = number,
            Some(_) => return false,
            None => {
                self.0.insert(source.to_owned(), number);
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use waypost_types::Timestamp;

    use super::*;

    #[test]
    fn what_a_source_repeats_is_shown_once() {
        let mut once = Once::default();
        let mut is_new = |source: &str, number: u64| {
            let headers = [("ce_source", source.to_owned()), ("ce_sequence", number.to_string())];
            let headers = headers.map(|(name, value)| (name.to_owned(), Bytes::from(value))).to_vec();
            once.is_new(&Delivery { partition: 0, offset: 0, appended: Timestamp::ZERO, key: None, headers, payload: Bytes::new() })
        };
        let shown: Vec<bool> = [("a", 7), ("a", 8), ("a", 7), ("b", 1), ("a", 10), ("a", 9), ("a", 10)].map(|(s, n)| is_new(s, n)).to_vec();
        assert_eq!(shown, [true, true, false, true, false, true, true]);
    }
}
