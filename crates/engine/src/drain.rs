//! Drain (PROTOCOL §10.5): a merge brings a state faster than what its identifiers had sent by their old
//! road. Until each of them has settled here by the new one, what rests on something not having
//! happened waits; 15 minutes at most.

use bytes::Bytes;
use waypost_codec::state::{JourneyProfile, SegmentProfile};
use waypost_types::{Span, Timestamp};

/// How long timers wait for identifiers that do not answer; as long as for an upstream partition (PROTOCOL §8.4).
pub const LONGEST: Span = Span::from_secs(15 * 60);

/// The profile of either stage: the nodes it waits for, sorted, and since when.
pub trait Draining {
    /// Both, to be read.
    fn draining(&self) -> (&[Bytes], i64);
    /// Both, to be changed.
    fn draining_mut(&mut self) -> (&mut Vec<Bytes>, &mut i64);
}

/// Waits for these nodes from now on; the 15 minutes begin anew.
pub fn begin<'n>(profile: &mut impl Draining, nodes: impl IntoIterator<Item = &'n Bytes>, now: Timestamp) {
    let (draining, since) = profile.draining_mut();
    for node in nodes {
        if let Err(at) = draining.binary_search(node) {
            draining.insert(at, node.clone());
        }
    }
    if !draining.is_empty() {
        *since = now.millis().max(*since);
    }
}

/// A node's `settled` has been folded. If it came straight, all the node ever sent by other roads has been folded here,
/// and watermarks tell of the rest; by a detour (`via`) it says nothing of what follows on that road.
pub fn settled(profile: &mut impl Draining, node: &Bytes, via: u32) {
    if via > 0 {
        return;
    }
    let (draining, since) = profile.draining_mut();
    if let Ok(at) = draining.binary_search(node) {
        draining.remove(at);
    }
    if draining.is_empty() {
        *since = 0;
    }
}

/// Waits no longer. Returns how many nodes have not answered.
pub fn give_up(profile: &mut impl Draining) -> usize {
    let (draining, since) = profile.draining_mut();
    let silent = draining.len();
    draining.clear();
    *since = 0;
    silent
}

/// When waiting ends at the latest; none if nothing is waited for.
pub fn ends(profile: &impl Draining) -> Option<Timestamp> {
    let (draining, since) = profile.draining();
    (!draining.is_empty()).then(|| Timestamp::from_millis(since).plus(LONGEST))
}

impl Draining for SegmentProfile {
    fn draining(&self) -> (&[Bytes], i64) {
        (&self.draining, self.draining_since)
    }
    fn draining_mut(&mut self) -> (&mut Vec<Bytes>, &mut i64) {
        (&mut self.draining, &mut self.draining_since)
    }
}

impl Draining for JourneyProfile {
    fn draining(&self) -> (&[Bytes], i64) {
        (&self.draining, self.draining_since)
    }
    fn draining_mut(&mut self) -> (&mut Vec<Bytes>, &mut i64) {
        (&mut self.draining, &mut self.draining_since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(n: u8) -> Bytes {
        Bytes::copy_from_slice(&[n; 31])
    }

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millis(ms)
    }

    #[test]
    fn a_profile_waits_for_every_node_and_fifteen_minutes_at_most() {
        let mut profile = SegmentProfile::default();
        begin(&mut profile, [], at(5));
        assert_eq!((ends(&profile), profile.draining_since), (None, 0), "nobody to wait for");
        begin(&mut profile, &[node(3), node(1), node(3)], at(5));
        assert_eq!((profile.draining.clone(), ends(&profile)), (vec![node(1), node(3)], Some(at(5).plus(LONGEST))));
        settled(&mut profile, &node(2), 0);
        settled(&mut profile, &node(1), 1);
        settled(&mut profile, &node(3), 0);
        assert_eq!(profile.draining, [node(1)]);
        begin(&mut profile, &[node(4)], at(9));
        assert_eq!(ends(&profile), Some(at(9).plus(LONGEST)), "another merge, another quarter of an hour");
        settled(&mut profile, &node(4), 0);
        settled(&mut profile, &node(1), 0);
        assert_eq!(profile, SegmentProfile::default());
    }

    #[test]
    fn who_gives_up_knows_how_many_were_silent() {
        let mut profile = JourneyProfile::default();
        begin(&mut profile, &[node(3), node(1)], at(5));
        assert_eq!((give_up(&mut profile), profile), (2, JourneyProfile::default()));
    }
}
