//! Addresses that a provider has refused for good (gate 2): known here by the key the sender routes them by.

use std::collections::BTreeMap;

use bytes::Bytes;
use waypost_codec::state::Bounced;

/// Kept of one profile; a person has five addresses a channel. The oldest falls, and gate 10 asks at the address itself.
const MAX_BOUNCED: usize = 20;

/// Notes that what went to this address came back for good.
pub(crate) fn note(bounced: &mut Vec<Bounced>, address_key: &Bytes, at: i64) {
    let new = [Bounced { address_key: address_key.clone(), at }];
    *bounced = unite(bounced, &new);
}

/// Whether nothing is to go to this address any more.
pub(crate) fn has(bounced: &[Bounced], address_key: &[u8]) -> bool {
    bounced.iter().any(|b| b.address_key == address_key)
}

/// At a merge: what either half knows, newest last.
pub(crate) fn unite(a: &[Bounced], b: &[Bounced]) -> Vec<Bounced> {
    let mut latest: BTreeMap<&Bytes, i64> = BTreeMap::new();
    for bounced in a.iter().chain(b) {
        let at = latest.entry(&bounced.address_key).or_insert(bounced.at);
        *at = (*at).max(bounced.at);
    }
    let mut all: Vec<Bounced> = latest.into_iter().map(|(key, at)| Bounced { address_key: key.clone(), at }).collect();
    all.sort_by(|x, y| (x.at, &x.address_key).cmp(&(y.at, &y.address_key)));
    all.drain(..all.len().saturating_sub(MAX_BOUNCED));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bounced(keys: impl IntoIterator<Item = (u8, i64)>) -> Vec<Bounced> {
        keys.into_iter().map(|(key, at)| Bounced { address_key: Bytes::copy_from_slice(&[key; 16]), at }).collect()
    }

    #[test]
    fn the_newest_twenty_stay_each_once() {
        let mut all = Vec::new();
        for at in 0..30 {
            note(&mut all, &Bytes::copy_from_slice(&[u8::try_from(at).unwrap(); 16]), at);
        }
        note(&mut all, &Bytes::from_static(&[25; 16]), 5);
        assert_eq!(all, bounced((10..30).map(|key| (key, i64::from(key)))));
        assert!(has(&all, &[29; 16]) && !has(&all, &[1; 16]));
    }

    #[test]
    fn two_halves_know_what_either_knew() {
        let (a, b) = (bounced([(1, 5), (2, 9)]), bounced([(3, 6), (1, 7)]));
        let both = bounced([(3, 6), (1, 7), (2, 9)]);
        assert_eq!((unite(&a, &b), unite(&b, &a), unite(&both, &a)), (both.clone(), both.clone(), both));
    }
}
