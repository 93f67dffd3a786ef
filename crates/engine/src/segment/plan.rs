//! Which segments an event can touch: an index from what conditions read to the segments that read it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use waypost_types::{ContentHash, Timestamp};

use super::Draft;
use crate::{condition::Program, definitions::Workspace, membership};

/// Bytes that an encoded membership takes beside its segment's name, at most.
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
    of_path: BTreeMap<String, Vec<usize>>,
    of_carts: Vec<usize>,
    of_orders: Vec<usize>,
    /// Those that time alone may change.
    of_time: Vec<usize>,
    /// Bytes of all memberships when encoded, at most.
    pub(super) bytes: usize,
}

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
}

/// As of when a profile's memberships are what all conditions say of it. Not stored: where nothing is known, all of them are
/// evaluated, which comes to the same.
#[derive(Clone, Copy, Debug, Default)]
pub struct Judged(Option<Judgement>);

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
            of_carts: Vec::new(),
            of_orders: Vec::new(),
            of_time: Vec::new(),
            bytes,
        };
        for index in 0..plan.segments.len() {
            plan.note(index);
        }
        plan
    }

    fn note(&mut self, index: usize) {
        let condition = Arc::clone(&self.segments[index].condition);
        let reads = condition.reads();
        for path in &reads.profile {
            self.of_path.entry(path.clone()).or_default().push(index);
        }
        for (is_read, list) in [(reads.carts, &mut self.of_carts), (reads.orders, &mut self.of_orders), (reads.time, &mut self.of_time)] {
            if is_read {
                list.push(index);
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
    pub(super) fn concerned(&self, draft: &Draft, time: bool) -> BTreeSet<usize> {
        let mut concerned = BTreeSet::new();
        let mut read = |path: &str| concerned.extend(self.of_path.get(path).into_iter().flatten());
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
                concerned.extend(list);
            }
        }
        concerned
    }
}

// === impl Judged ===

impl Judged {
    /// What is known, if these definitions and this time can go by it.
    pub(super) fn under(self, plan: &Plan, now: Timestamp) -> Option<Judgement> {
        self.0.filter(|known| known.set == plan.set && known.at <= now)
    }

    pub(super) fn note(&mut self, known: Judgement) {
        self.0 = Some(known);
    }

    /// Nothing is known any more.
    pub fn forget(&mut self) {
        self.0 = None;
    }
}
