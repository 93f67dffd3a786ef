//! The message ids an identifier has seen: 7 days of log time, and no more than the limit.

use waypost_codec::state::SeenId;
use waypost_types::{Span, Timestamp};

const AGE: Span = Span::from_days(7);

/// Notes the id and says whether it is new. The oldest fall out, so that `most` remain.
pub(super) fn admit(seen: &mut Vec<SeenId>, now: Timestamp, id: &[u8; 16], most: usize) -> bool {
    let oldest = now.minus(AGE).millis();
    // They stand in order of their time.
    seen.drain(..seen.partition_point(|s| s.at <= oldest));
    let mut head = [0; 8];
    head.copy_from_slice(&id[..8]);
    let hash = u64::from_be_bytes(head);
    if seen.iter().any(|s| s.hash == hash) {
        return false;
    }
    let entry = SeenId { hash, at: now.millis() };
    let place = seen.partition_point(|s| (s.at, s.hash) < (entry.at, entry.hash));
    seen.insert(place, entry);
    if seen.len() > most {
        seen.remove(0);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: usize = 1_024;

    #[test]
    fn an_id_counts_once_in_seven_days() {
        let mut seen = Vec::new();
        let at = |days, ms| Timestamp::ZERO.plus(Span::from_days(days)).plus(Span::from_millis(ms));
        assert!(admit(&mut seen, at(1, 0), &[1; 16], MOST));
        assert!(!admit(&mut seen, at(7, 86_399_999), &[1; 16], MOST));
        assert!(admit(&mut seen, at(8, 0), &[1; 16], MOST));
    }

    #[test]
    fn the_oldest_of_too_many_falls_out() {
        let mut seen = Vec::new();
        let id = |n: u16| {
            let mut id = [0; 16];
            id[..2].copy_from_slice(&n.to_be_bytes());
            id
        };
        for n in 0..1_025 {
            assert!(admit(&mut seen, Timestamp::from_millis(i64::from(n)), &id(n), MOST));
        }
        assert_eq!(seen.len(), MOST);
        assert!(admit(&mut seen, Timestamp::from_millis(2_000), &id(0), MOST));
        assert!(!admit(&mut seen, Timestamp::from_millis(2_000), &id(1_024), MOST));
    }
}
