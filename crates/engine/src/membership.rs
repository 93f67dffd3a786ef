//! What is kept of a person's segments. Most people are in few of a shop's segments and will not get into most of the others
//! by time alone: of a plain no a fingerprint is kept instead of a membership; of a plain unknown nothing, since whoever asks
//! hears the same of a segment that was never evaluated.

use waypost_codec::inbox::{Membership, Person, Truth};
use xxhash_rust::xxh3::xxh3_64;

use crate::person;

/// What stands for a segment: the upper half of the xxh3 of its name. No two of a workspace have the same (refused at publish).
pub fn fingerprint(segment: &str) -> u32 {
    u32::try_from(xxh3_64(segment.as_bytes()) >> 32).unwrap_or(0)
}

/// Whether a person is in this segment, as last evaluated, and the instant at which time alone may change it (0: never).
pub(crate) fn of(person: &Person, segment: &str) -> (Truth, i64) {
    match person::membership(person, segment) {
        Some(membership) => (membership.truth(), membership.valid_until),
        None if is_in(&person.not_in, fingerprint(segment)) => (Truth::No, 0),
        None => (Truth::Unknown, 0),
    }
}

/// Whether an answer is kept as a membership.
pub(crate) fn is_entry(truth: Truth, valid_until: i64) -> bool {
    truth == Truth::Yes || valid_until > 0
}

/// Applies what a delta says of segments.
pub(crate) fn apply(person: &mut Person, delta: &Person) {
    for membership in &delta.memberships {
        remove(&mut person.not_in, fingerprint(&membership.segment));
        person::upsert(&mut person.memberships, membership);
    }
    let named = |m: &Membership| {
        let fingerprint = fingerprint(&m.segment);
        is_in(&delta.not_in, fingerprint) || is_in(&delta.removed_not_in, fingerprint)
    };
    let is_silent = delta.not_in.is_empty() && delta.removed_not_in.is_empty();
    let gone = |m: &Membership| !is_silent && named(m) && person::membership(delta, &m.segment).is_none();
    if !is_silent || delta.memberships.iter().any(|m| m.truth() == Truth::Unspecified) {
        person.memberships.retain(|m| m.truth() != Truth::Unspecified && !gone(m));
    }
    if person.not_in.is_empty() {
        person.not_in.clone_from(&delta.not_in);
    }
    for fingerprint in &delta.not_in {
        add(&mut person.not_in, *fingerprint);
    }
    for fingerprint in &delta.removed_not_in {
        remove(&mut person.not_in, *fingerprint);
    }
}

/// What a delta says of segments that makes `after` of `before`; both canonical.
pub(crate) fn diff(before: &Person, after: &Person, delta: &mut Person) {
    delta.memberships = person::changed(&before.memberships, &after.memberships);
    delta.not_in = without(&after.not_in, &before.not_in);
    for gone in person::gone(&before.memberships, &after.memberships) {
        if !is_in(&after.not_in, fingerprint(&gone.segment)) {
            person::upsert(&mut delta.memberships, &removal(&gone.segment));
        }
    }
    delta.removed_not_in = without(&before.not_in, &after.not_in);
    for membership in &after.memberships {
        remove(&mut delta.removed_not_in, fingerprint(&membership.segment));
    }
}

/// Of the segments of two persons: whatever says more than a fingerprint stands.
pub(crate) fn union(a: &[u32], b: &[u32], memberships: &[Membership]) -> Vec<u32> {
    let mut union = a.to_vec();
    for fingerprint in b {
        add(&mut union, *fingerprint);
    }
    for membership in memberships {
        remove(&mut union, fingerprint(&membership.segment));
    }
    union
}

/// What a delta says of a segment that nothing is known of any more.
pub(crate) fn removal(segment: &str) -> Membership {
    Membership { segment: segment.to_owned(), ..Membership::default() }
}

pub(crate) fn is_in(list: &[u32], fingerprint: u32) -> bool {
    list.binary_search(&fingerprint).is_ok()
}

pub(crate) fn add(list: &mut Vec<u32>, fingerprint: u32) {
    if let Err(place) = list.binary_search(&fingerprint) {
        list.insert(place, fingerprint);
    }
}

pub(crate) fn remove(list: &mut Vec<u32>, fingerprint: u32) {
    if let Ok(place) = list.binary_search(&fingerprint) {
        list.remove(place);
    }
}

/// What of a list is not in the other; both ascending.
fn without(list: &[u32], other: &[u32]) -> Vec<u32> {
    list.iter().copied().filter(|fingerprint| !is_in(other, *fingerprint)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(segment: &str, truth: Truth) -> Membership {
        Membership { segment: segment.to_owned(), truth: truth.into(), ..Membership::default() }
    }

    /// In some segments, and plainly not in others.
    fn person(memberships: &[(&str, Truth)], not_in: &[&str]) -> Person {
        let mut person = Person::default();
        for (segment, truth) in memberships {
            person::upsert(&mut person.memberships, &entry(segment, *truth));
        }
        for segment in not_in {
            add(&mut person.not_in, fingerprint(segment));
        }
        person
    }

    #[test]
    fn a_fingerprint_is_a_no_that_stays() {
        let person = person(&[("vip", Truth::Yes)], &["new"]);
        let answers = ["vip", "new", "other"].map(|segment| of(&person, segment));
        assert_eq!(answers, [(Truth::Yes, 0), (Truth::No, 0), (Truth::Unknown, 0)]);
    }

    #[test]
    fn a_delta_takes_segments_from_one_form_to_the_other() {
        use Truth::{Unknown, Yes};
        let persons = [
            person(&[], &[]),
            person(&[("a", Yes), ("b", Unknown)], &["c"]),
            person(&[("c", Yes)], &["a", "b"]),
            person(&[("a", Unknown)], &["d"]),
            person(&[], &["a", "b", "c"]),
        ];
        for before in &persons {
            for after in &persons {
                let (delta, whole) = (person::diff(before, after), person::whole(before, after));
                for delta in [delta, whole] {
                    let mut person = before.clone();
                    person::apply(&mut person, &delta);
                    assert_eq!(person, *after, "{before:?} with {delta:?}");
                }
            }
        }
    }

    #[test]
    fn what_a_fingerprint_took_the_place_of_goes_with_it() {
        // an entry where the sender has a fingerprint: from a log of before there were fingerprints
        let mut old = person(&[("a", Truth::No), ("b", Truth::No), ("c", Truth::No)], &[]);
        let delta = Person { not_in: vec![fingerprint("b")], removed_not_in: vec![fingerprint("a")], ..Person::default() };
        apply(&mut old, &delta);
        assert_eq!(old, person(&[("c", Truth::No)], &["b"]));
    }

    #[test]
    fn what_says_more_stands_in_a_union() {
        let united = crate::merge::persons(&person(&[("a", Truth::Yes)], &["b"]), &person(&[], &["a", "c"]));
        assert_eq!(united, person(&[("a", Truth::Yes)], &["b", "c"]));
    }
}
