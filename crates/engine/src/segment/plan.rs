//! Which segments an event can touch: an index from what conditions read to the segments that read it.

use std::{cell::LazyCell, collections::BTreeMap, sync::Arc};

use waypost_codec::inbox::{Person, Truth};
use waypost_types::{ContentHash, Timestamp};

use super::Draft;
use crate::{
    condition::{self, AGGREGATES, Program},
    definitions::Workspace,
    facts::PersonFacts,
    membership,
};

/// Bytes that an encoded membership takes beside its segment's name, at most; more than the fingerprint that may stand for it.
const MEMBERSHIP_BYTES: usize = 48;

/// A workspace's segments, made ready to be evaluated.
#[derive(Clone, Debug)]
pub struct Plan {
    pub(super) workspace: Arc<Workspace>,
    set: ContentHash,
    /// Each behind those it reads.
    pub(super) segments: Vec<Planned>,
    /// Sorted by name: the segment at each place.
    by_place: Vec<usize>,
    /// Ascending.
    pub(super) fingerprints: Vec<u32>,
    of_path: BTreeMap<String, Readers>,
    of_carts: Readers,
    of_orders: Readers,
    /// Those that time alone may change.
    of_time: Readers,
    /// Of each aggregate: those that hold from a number on, and nothing else, ascending by it.
    thresholds: [Vec<(i64, usize)>; AGGREGATES.len()],
    /// What a person is plainly not in of whom nothing is known, whatever the time; ascending.
    pub(super) blank_not_in: Vec<u32>,
    /// Those of which that cannot be said.
    pub(super) open: Vec<usize>,
    /// Bytes of all memberships when encoded, at most.
    pub(super) bytes: usize,
}

/// Segments that read one thing.
#[derive(Clone, Debug, Default)]
struct Readers {
    always: Vec<usize>,
    /// Those that are plainly no below a number of an aggregate, ascending by it.
    gated: [Vec<(i64, usize)>; AGGREGATES.len()],
}

/// The least and the most that each aggregate was and is.
type Ranges = [(i64, i64); AGGREGATES.len()];

/// A set of segments by index, one bit each.
#[derive(Debug)]
pub(super) struct Segments(Vec<u64>);

/// One segment.
#[derive(Clone, Debug)]
pub(super) struct Planned {
    pub(super) name: String,
    pub(super) fingerprint: u32,
    pub(super) version: u32,
    pub(super) condition: Arc<Program>,
    /// Among all by name.
    pub(super) place: usize,
    /// Segments that read it; all behind it.
    pub(super) readers: Vec<usize>,
    /// What it says of a person of whom nothing is known, where that is the same at all times, and no or unknown.
    pub(super) blank: Option<Truth>,
}

/// As of when a profile's memberships are what all conditions say of it. Not stored: where nothing is known, all of them are
/// evaluated, which comes to the same.
#[derive(Clone, Copy, Debug, Default)]
pub struct Judged {
    known: Option<Judgement>,
    /// Bytes of the person when encoded, segments left out, at most.
    bytes: Option<usize>,
}

/// What is known of how large a person is.
pub(super) struct Size<'a> {
    /// Bytes of all memberships, and of what stands for them, at most.
    pub(super) segments: usize,
    /// Bytes of the rest before this event, at most; to be kept for the next.
    pub(super) rest: &'a mut Option<usize>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Judgement {
    /// Under which definitions.
    pub(super) set: ContentHash,
    /// Log time. Answers hold from then on: at an earlier time, `within` may not have begun.
    pub(super) at: Timestamp,
    /// Since when the profile was seen.
    pub(super) created: Timestamp,
    /// Until then time alone changes no answer, nor how long it holds.
    pub(super) steady_until: Timestamp,
}

// === impl Plan ===

impl Plan {
    /// Of a workspace in the definition set with this content hash.
    pub fn new(set: ContentHash, workspace: Arc<Workspace>) -> Self {
        let in_order = workspace.segment_order.iter().filter_map(|name| workspace.segments.get(name));
        let mut segments: Vec<Planned> = in_order
            .map(|segment| Planned {
                name: segment.name.clone(),
                fingerprint: membership::fingerprint(&segment.name),
                version: segment.version,
                condition: Arc::clone(&segment.condition),
                place: 0,
                readers: Vec::new(),
                blank: None,
            })
            .collect();
        let mut by_place: Vec<usize> = (0..segments.len()).collect();
        by_place.sort_by(|a, b| segments[*a].name.cmp(&segments[*b].name));
        for (place, index) in by_place.iter().enumerate() {
            segments[*index].place = place;
        }
        let mut fingerprints: Vec<u32> = segments.iter().map(|s| s.fingerprint).collect();
        fingerprints.sort_unstable();
        let bytes = segments.iter().map(|s| s.name.len() + MEMBERSHIP_BYTES).sum();
        let mut plan = Self {
            workspace,
            set,
            segments,
            by_place,
            fingerprints,
            of_path: BTreeMap::new(),
            of_carts: Readers::default(),
            of_orders: Readers::default(),
            of_time: Readers::default(),
            thresholds: Default::default(),
            blank_not_in: Vec::new(),
            open: Vec::new(),
            bytes,
        };
        for index in 0..plan.segments.len() {
            plan.note(index);
        }
        let readers = plan.of_path.values_mut().chain([&mut plan.of_carts, &mut plan.of_orders, &mut plan.of_time]);
        for list in readers.flat_map(|readers| &mut readers.gated).chain(&mut plan.thresholds) {
            list.sort_unstable();
        }
        plan.judge_blank();
        plan
    }

    /// What is said of a person of whom nothing is known.
    fn judge_blank(&mut self) {
        let mut blank = Person::default();
        for index in 0..self.segments.len() {
            let condition = Arc::clone(&self.segments[index].condition);
            let reads = condition.reads();
            let is_settled = |name: &String| self.index(name).is_some_and(|read| self.segments[read].blank.is_some());
            let answer = if condition.gate().is_some_and(|gate| gate.least > 0) {
                Some(Truth::No)
            } else if !reads.time && reads.segments.iter().all(is_settled) {
                match condition.truth(&PersonFacts::new(Timestamp::ZERO, &blank, &self.workspace)) {
                    (condition::Truth::No, None) => Some(Truth::No),
                    (condition::Truth::Unknown, None) => Some(Truth::Unknown),
                    (condition::Truth::Yes | condition::Truth::No | condition::Truth::Unknown, _) => None,
                }
            } else {
                None
            };
            let segment = &mut self.segments[index];
            segment.blank = answer;
            match answer {
                Some(Truth::No) => membership::add(&mut blank.not_in, segment.fingerprint),
                Some(_) => {}
                None => self.open.push(index),
            }
        }
        self.blank_not_in = blank.not_in;
    }

    fn note(&mut self, index: usize) {
        let condition = Arc::clone(&self.segments[index].condition);
        let (reads, gate) = (condition.reads(), condition.gate());
        if let Some(gate) = gate.filter(|gate| gate.is_all) {
            self.thresholds[gate.aggregate].push((gate.least, index));
            return;
        }
        let note = |readers: &mut Readers| match gate {
            Some(gate) => readers.gated[gate.aggregate].push((gate.least, index)),
            None => readers.always.push(index),
        };
        for path in &reads.profile {
            note(self.of_path.entry(path.clone()).or_default());
        }
        for (is_read, list) in [(reads.carts, &mut self.of_carts), (reads.orders, &mut self.of_orders), (reads.time, &mut self.of_time)] {
            if is_read {
                note(list);
            }
        }
        for name in &reads.segments {
            if let Some(read) = self.index(name) {
                self.segments[read].readers.push(index);
            }
        }
    }

    fn index(&self, name: &str) -> Option<usize> {
        let place = self.by_place.binary_search_by(|at| self.segments[*at].name.as_str().cmp(name)).ok()?;
        Some(self.by_place[place])
    }

    /// Whether there is a segment of this name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.index(name).is_some()
    }

    /// The definition set it is of.
    pub(super) fn set(&self) -> ContentHash {
        self.set
    }

    /// Segments that read what has been touched, and with `time` those that time may change.
    pub(super) fn concerned(&self, draft: &Draft, time: bool) -> Segments {
        let mut concerned = Segments::none(self.segments.len());
        let touched = self.thresholds.iter().zip(AGGREGATES).filter(|(list, name)| !list.is_empty() && draft.has_touched_field(name));
        for (list, aggregate) in touched {
            let (least, most) = draft.range(aggregate);
            concerned.extend(below(list, most)[below(list, least).len()..].iter().map(|(_, index)| *index));
        }
        let ranges = LazyCell::new(|| AGGREGATES.map(|aggregate| draft.range(aggregate)));
        let mut read = |path: &str| {
            if let Some(readers) = self.of_path.get(path) {
                readers.collect(&ranges, &mut concerned);
            }
        };
        for path in draft.touched_fields() {
            read(path);
            // Read as a whole where the name of the trait is computed.
            if path.starts_with("extra.") {
                read("extra");
            }
        }
        if draft.has_touched_addresses() {
            read("email");
            read("phone");
        }
        for (is_touched, list) in
            [(draft.has_touched_carts(), &self.of_carts), (draft.has_touched_orders(), &self.of_orders), (time, &self.of_time)]
        {
            if is_touched {
                list.collect(&ranges, &mut concerned);
            }
        }
        concerned
    }
}

#[cfg(test)]
impl Plan {
    /// Looks at everything of everybody of whom nothing was judged.
    pub(super) fn without_shortcuts(mut self) -> Self {
        self.blank_not_in.clear();
        self.open = (0..self.segments.len()).collect();
        self.segments.iter_mut().for_each(|segment| segment.blank = None);
        self
    }
}

// === impl Readers ===

impl Readers {
    /// Those that may say anything but no, before or now.
    fn collect(&self, ranges: &LazyCell<Ranges, impl FnOnce() -> Ranges>, into: &mut Segments) {
        into.extend(self.always.iter().copied());
        for (aggregate, gated) in self.gated.iter().enumerate().filter(|(_, gated)| !gated.is_empty()) {
            let (_, most) = ranges[aggregate];
            into.extend(below(gated, most).iter().map(|(_, index)| *index));
        }
    }
}

// === impl Segments ===

impl Segments {
    /// None of so many.
    fn none(of: usize) -> Self {
        Self(vec![0; of.div_ceil(64)])
    }

    /// Returns whether it was not there.
    pub(super) fn insert(&mut self, index: usize) -> bool {
        let (word, bit) = (&mut self.0[index / 64], 1 << (index % 64));
        let is_new = *word & bit == 0;
        *word |= bit;
        is_new
    }

    /// Takes the first out.
    pub(super) fn pop_first(&mut self) -> Option<usize> {
        let (place, word) = self.0.iter_mut().enumerate().find(|(_, word)| **word != 0)?;
        let bit = word.trailing_zeros();
        *word &= *word - 1;
        Some(64 * place + bit as usize)
    }

    /// All of them, ascending.
    pub(super) fn iter(&self) -> impl Iterator<Item = usize> {
        let bits = |word: u64| (0..64).filter(move |bit| word >> bit & 1 == 1);
        self.0.iter().enumerate().flat_map(move |(place, word)| bits(*word).map(move |bit| 64 * place + bit))
    }
}

impl Extend<usize> for Segments {
    fn extend<T: IntoIterator<Item = usize>>(&mut self, indexes: T) {
        for index in indexes {
            self.insert(index);
        }
    }
}

/// Those that want no more than a number; ascending by what they want.
fn below(list: &[(i64, usize)], number: i64) -> &[(i64, usize)] {
    &list[..list.partition_point(|(least, _)| *least <= number)]
}

// === impl Judged ===

impl Judged {
    /// What is known, if these definitions and this time can go by it.
    pub(super) fn under(self, plan: &Plan, now: Timestamp) -> Option<Judgement> {
        self.known.filter(|known| known.set == plan.set && known.at <= now)
    }

    /// What is known of the size, if all segments are known to be of these definitions.
    pub(super) fn size_under(&mut self, plan: &Plan, now: Timestamp) -> Option<Size<'_>> {
        if self.under(plan, now).is_none() {
            // What this event adds would be missing in it.
            self.bytes = None;
            return None;
        }
        Some(Size { segments: plan.bytes, rest: &mut self.bytes })
    }

    pub(super) fn note(&mut self, known: Judgement) {
        self.known = Some(known);
    }

    /// Nothing is known any more.
    pub fn forget(&mut self) {
        *self = Self::default();
    }
}
