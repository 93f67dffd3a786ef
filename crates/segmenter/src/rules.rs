//! Rules of PROTOCOL §16.4 that the segmenter keeps; the simulator switches them off one by one to find the hole.

/// All on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is the switch of one independent rule")]
pub struct Rules {
    /// After a merge, what rests on something not having happened waits for what is on the old road.
    pub drain: bool,
    /// What still reaches an erased profile is answered, so that its nodes are forgotten too.
    pub answer_erased: bool,
    /// An erased profile does not move into another.
    pub erased_never_moves: bool,
    /// What meets a tombstone goes by the orchestrator, behind the state that went before it.
    pub one_road: bool,
}

// === impl Rules ===

impl Default for Rules {
    fn default() -> Self {
        Self { drain: true, answer_erased: true, erased_never_moves: true, one_road: true }
    }
}
