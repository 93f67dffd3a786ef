//! Rules of PROTOCOL §16.4 that the orchestrator keeps; the simulator switches them off one by one to find the hole.

/// All on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// At an import the runs of both halves are judged on the facts of both.
    pub recheck_at_import: bool,
    /// After a merge, what rests on something not having happened waits for what is on the old road.
    pub drain: bool,
    /// An erased profile does not move into another.
    pub erased_never_moves: bool,
}

// === impl Rules ===

impl Default for Rules {
    fn default() -> Self {
        Self { recheck_at_import: true, drain: true, erased_never_moves: true }
    }
}
