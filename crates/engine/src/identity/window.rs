//! The message ids an identifier has seen: 7 days of log time, and no more than the limit.

use waypost_codec::state::IdentifierState;
use waypost_types::{Span, Timestamp};

const AGE: Span = Span::from_days(7);

/// Notes the id and says whether it is new. The oldest fall out, so that `most` remain.
pub(super) fn admit(state: &mut IdentifierState, now: Timestamp, id: &[u8; 16], most: usize) -> bool {
    let IdentifierState { seen_at: times, seen_hash: hashes, .. } = state;
    // They stand in order of their time.
    let over = times.partition_point(|at| *at <= now.minus(AGE).millis());
    times.drain(..over);
    hashes.drain(..over);
    let mut head = [0; 8];
    head.copy_from_slice(&id[..8]);
    let (hash, at) = (u64::from_be_bytes(head), now.millis());
    if hashes.contains(&hash) {
        return false;
    }
    let same_time = times.partition_point(|t| *t < at)..times.partition_point(|t| *t <= at);
    let place = same_time.start + hashes[same_time].partition_point(|h| *h < hash);
    times.insert(place, at);
    hashes.insert(place, hash);
    if times.len() > most {
        times.remove(0);
        hashes.remove(0);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: usize = 1_024;

    #[test]
    fn an_id_counts_once_in_seven_days() {
        let mut seen = IdentifierState::default();
        let at = |days, ms| Timestamp::ZERO.plus(Span::from_days(days)).plus(Span::from_millis(ms));
        assert!(admit(&mut seen, at(1, 0), &[1; 16], MOST));
        assert!(!admit(&mut seen, at(7, 86_399_999), &[1; 16], MOST));
        assert!(admit(&mut seen, at(8, 0), &[1; 16], MOST));
    }

    #[test]
    fn the_oldest_of_too_many_falls_out() {
        let mut seen = IdentifierState::default();
        let id = |n: u16| {
            let mut id = [0; 16];
            id[..2].copy_from_slice(&n.to_be_bytes());
            id
        };
        for n in 0..1_025 {
            assert!(admit(&mut seen, Timestamp::from_millis(i64::from(n)), &id(n), MOST));
        }
        assert_eq!((seen.seen_at.len(), seen.seen_hash.len()), (MOST, MOST));
        assert!(admit(&mut seen, Timestamp::from_millis(2_000), &id(0), MOST));
        assert!(!admit(&mut seen, Timestamp::from_millis(2_000), &id(1_024), MOST));
    }
}
