//! Rows may stand in a topic twice, under the same numbers of the same source; each is shown once.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use waypost_runtime::ports::Delivery;

/// The last number of each source in one partition.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Once(BTreeMap<String, Last>);

/// The last number of one source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Last {
    number: u64,
    /// Whether some that follow are gone for good: the next may be any later one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    gap: bool,
}

/// Which row of which source a record is, as its headers say; none: nobody's.
pub(crate) fn numbered(delivery: &Delivery) -> Option<(&str, u64)> {
    let header = |name: &str| {
        let found = delivery.headers.iter().find(|(header, _)| header == name);
        found.and_then(|(_, value)| std::str::from_utf8(value).ok())
    };
    Some((header("ce_source")?, header("ce_sequence")?.parse().ok()?))
}

// === impl Once ===

impl Once {
    /// Of one source the next number only, as `ce_sequence` promises; whatever its first one is.
    pub(super) fn is_new(&mut self, delivery: &Delivery) -> bool {
        let Some((source, number)) = numbered(delivery) else { return false };
        let is_new = self.expects(source, number);
        if is_new {
            self.note(source, number);
        }
        is_new
    }

    /// Whether this row comes next.
    pub(crate) fn expects(&self, source: &str, number: u64) -> bool {
        match self.0.get(source) {
            Some(Last { number: last, gap: false }) => number == *last + 1,
            Some(Last { number: last, gap: true }) => number > *last,
            None => true,
        }
    }

    /// It was taken.
    pub(crate) fn note(&mut self, source: &str, number: u64) {
        let last = Last { number, gap: false };
        match self.0.get_mut(source) {
            Some(known) => *known = last,
            None => drop(self.0.insert(source.to_owned(), last)),
        }
    }

    /// Rows are gone for good that may have been anybody's.
    pub(crate) fn after_gap(&mut self) {
        self.0.values_mut().for_each(|last| last.gap = true);
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

    #[test]
    fn behind_a_gap_any_later_number_is_the_next_and_then_again_only_one() {
        let mut once = Once::default();
        once.note("a", 7);
        once.after_gap();
        assert_eq!([7, 8, 12].map(|number| once.expects("a", number)), [false, true, true]);
        once.note("a", 12);
        assert_eq!([12, 13, 14].map(|number| once.expects("a", number)), [false, true, false]);
    }
}
