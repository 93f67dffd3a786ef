//! What a workspace may have, where that is less than the product allows.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use waypost_types::WorkspaceId;

use super::{JOURNEYS_MAX, SEGMENTS_MAX, SetManifest};
use crate::manifest::Kind;

/// Of each at most so many; none: what the product allows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Quota {
    /// Journeys in force, paused ones too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub live_journeys: Option<u32>,
    /// Segments.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub segments: Option<u32>,
    /// Names of all kinds together, drafts too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub definitions: Option<u32>,
    /// Events at each ingest process, of all write keys together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub events_per_second: Option<u32>,
}

/// What a workspace has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Journeys in force, paused ones too.
    pub live_journeys: u32,
    /// Segments.
    pub segments: u32,
    /// Names of all kinds together, drafts too.
    pub definitions: u32,
}

/// Something of which there would be too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Excess {
    /// Of what, as [`Quota`]'s field is called.
    pub what: &'static str,
    /// So many there may be,
    pub limit: u32,
    /// and so many there would be.
    pub count: u32,
}

// === impl Quota ===

impl Quota {
    /// Events a second that may be set at most.
    pub const EVENTS_MAX: u32 = 1_000_000;

    /// The first field that may not be so, and what it may be: a quota only lowers what the product allows.
    pub fn wrong(&self) -> Option<(&'static str, String)> {
        let above = |what, value: Option<u32>, most: usize| {
            let above = value.is_some_and(|value| value as usize > most);
            above.then(|| (what, format!("at most {most}, which is what the product allows")))
        };
        let events = self.events_per_second.is_some_and(|events| !(1..=Self::EVENTS_MAX).contains(&events));
        above("live_journeys", self.live_journeys, JOURNEYS_MAX)
            .or_else(|| above("segments", self.segments, SEGMENTS_MAX))
            .or_else(|| events.then(|| ("events_per_second", format!("from 1 to {}", Self::EVENTS_MAX))))
    }

    /// Of what there would be more than may be, and more than there is: what was there before the quota stays, and may change.
    pub fn exceeded(&self, now: Usage, then: Usage) -> Vec<Excess> {
        let rows = [
            ("live_journeys", self.live_journeys, now.live_journeys, then.live_journeys),
            ("segments", self.segments, now.segments, then.segments),
            ("definitions", self.definitions, now.definitions, then.definitions),
        ];
        let over = rows.into_iter().filter_map(|(what, limit, now, count)| {
            let limit = limit.filter(|limit| count > *limit && count > now)?;
            Some(Excess { what, limit, count })
        });
        over.collect()
    }
}

// === impl Usage ===

impl Usage {
    /// Counts.
    pub fn of(set: &SetManifest, workspace: WorkspaceId) -> Self {
        let ours = || set.definitions.iter().filter(|entry| entry.workspace == workspace.number());
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let names = |kind: Option<Kind>| {
            let some = ours().filter(|entry| kind.is_none_or(|kind| entry.kind == kind));
            count(some.map(|entry| (entry.kind, entry.name.as_str())).collect::<BTreeSet<_>>().len())
        };
        Self {
            live_journeys: count(ours().filter(|entry| entry.kind == Kind::Journey && entry.state.is_in_force()).count()),
            segments: names(Some(Kind::Segment)),
            definitions: names(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apply::{DefinitionEntry, State};

    fn usage(live_journeys: u32, segments: u32, definitions: u32) -> Usage {
        Usage { live_journeys, segments, definitions }
    }

    #[test]
    fn names_count_once_and_only_of_their_workspace() {
        let entry = |workspace, kind, name: &str, version, state| {
            DefinitionEntry::new(WorkspaceId::new(workspace), kind, name, version, waypost_types::ContentHash::of(b"x"), state)
        };
        let mut set = SetManifest::empty(WorkspaceId::new(1), "default");
        set.definitions = vec![
            entry(1, Kind::Journey, "a", 1, State::Pinned),
            entry(1, Kind::Journey, "a", 2, State::Paused),
            entry(1, Kind::Journey, "a", 3, State::Draft),
            entry(1, Kind::Journey, "b", 1, State::Draft),
            entry(1, Kind::Segment, "s", 1, State::Active),
            entry(2, Kind::Segment, "t", 1, State::Active),
        ];
        assert_eq!(Usage::of(&set, WorkspaceId::new(1)), usage(1, 1, 3));
    }

    #[test]
    fn what_grows_over_its_limit_is_too_much_and_what_stays_or_shrinks_is_not() {
        let quota = Quota { live_journeys: Some(2), definitions: Some(10), ..Quota::default() };
        assert_eq!(quota.exceeded(usage(2, 0, 9), usage(2, 900, 10)), []);
        assert_eq!(quota.exceeded(usage(2, 0, 9), usage(3, 0, 9)), [Excess { what: "live_journeys", limit: 2, count: 3 }]);
        assert_eq!(quota.exceeded(usage(5, 0, 20), usage(5, 0, 19)), [], "there were more before the quota came");
        assert_eq!(quota.exceeded(usage(5, 0, 20), usage(6, 0, 21)).len(), 2);
        assert_eq!(Quota { segments: Some(0), ..Quota::default() }.exceeded(usage(0, 0, 0), usage(0, 1, 1)).len(), 1);
    }

    #[test]
    fn a_quota_only_lowers_what_the_product_allows() {
        let wrong = |quota: Quota| quota.wrong().map(|(what, _)| what);
        assert_eq!(wrong(Quota::default()), None);
        assert_eq!(wrong(Quota { live_journeys: Some(1_000), segments: Some(0), ..Quota::default() }), None);
        assert_eq!(wrong(Quota { live_journeys: Some(1_001), ..Quota::default() }), Some("live_journeys"));
        assert_eq!(wrong(Quota { segments: Some(1_001), ..Quota::default() }), Some("segments"));
        assert_eq!(wrong(Quota { events_per_second: Some(0), ..Quota::default() }), Some("events_per_second"));
    }
}
