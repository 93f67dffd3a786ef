//! Kinds of records (PROTOCOL §3.5). The numbers are in the log for ever.

/// An event at its identifier.
pub const EVENT: u32 = 1;
/// Two identifiers were seen together.
pub const LINK: u32 = 2;
/// An identifier stopped being one person's.
pub const SHARED: u32 = 3;
/// The orchestrator has imported a loser's state.
pub const MERGE_DONE: u32 = 4;
/// A flush has passed both stages.
pub const FLUSHED: u32 = 5;
/// A node's profile is gone.
pub const ERASE_NODE: u32 = 6;
/// An event that a journey or a fold puts back through the front door.
pub const EMIT: u32 = 7;
/// What became of a dispatch.
pub const RECEIPT: u32 = 8;
/// Erase the person behind an identifier.
pub const ERASE: u32 = 9;
/// Give an identifier a new, empty profile.
pub const DETACH: u32 = 10;
/// Erase without suppression.
pub const EXPIRE: u32 = 11;

/// Begin or end runs of the person behind an identifier.
pub const RUN_COMMAND: u32 = 12;

/// Identity's items for a profile.
pub const ITEM: u32 = 20;
/// The profile is to move into another.
pub const MERGE_BEGIN: u32 = 21;
/// Marks the end of an identifier's old road.
pub const FLUSH: u32 = 22;
/// A loser's state on its way to the winner.
pub const MERGE_STATE: u32 = 23;
/// Erase a loser's tombstone.
pub const BURY: u32 = 24;

/// An item that is a command about runs.
pub const RUN_ITEM: u32 = 25;

/// An item with the delta the segmenter computed.
pub const JOURNEY_ITEM: u32 = 30;
/// A change that time alone made.
pub const DELTA: u32 = 31;
/// The profile moves; with the segmenter's state.
pub const JOURNEY_MERGE_BEGIN: u32 = 32;
/// The loser's journey state at the winner.
pub const JOURNEY_MERGE_STATE: u32 = 33;
/// A flush, at the orchestrator.
pub const JOURNEY_FLUSH: u32 = 34;
/// A record that met a tombstone.
pub const PASS: u32 = 35;
/// The profile was erased.
pub const ERASED: u32 = 36;
/// Nodes whose profile is gone.
pub const GONE: u32 = 37;

/// A command about runs, with its delta.
pub const JOURNEY_RUN_ITEM: u32 = 38;
/// A command about runs that met a tombstone.
pub const PASS_RUN: u32 = 39;

/// One send to one address.
pub const DISPATCH: u32 = 50;
/// Take a dispatch back.
pub const RECALL: u32 = 51;
/// Never use this address for this.
pub const SUPPRESS: u32 = 52;
/// Lift a suppression.
pub const UNSUPPRESS: u32 = 53;
/// A later receipt.
pub const FEEDBACK: u32 = 54;
/// Forget an address.
pub const ERASE_ADDRESS: u32 = 55;
/// A provider call is about to be made.
pub const ATTEMPT: u32 = 56;
/// What came of it.
pub const OUTCOME: u32 = 57;

/// Time passes.
pub const TICK: u32 = 100;
/// Somebody claimed the partition.
pub const LEADER: u32 = 101;
/// A background scan goes on.
pub const SCAN: u32 = 102;
/// From here on, this engine.
pub const ENGINE_ACTIVATE: u32 = 103;
/// From here on, these definitions.
pub const DEF_ACTIVATE: u32 = 104;
/// The upstream watermark, in band.
pub const MARK: u32 = 105;

/// The lowest engine that reads a record of this kind (its `eng_min`); 0: any. A binary without it waits at the record. What
/// carries such a record, or its content, has a kind of its own.
pub const fn engine(kind: u32) -> u32 {
    match kind {
        RUN_COMMAND | RUN_ITEM | JOURNEY_RUN_ITEM | PASS_RUN => 3,
        _ => 0,
    }
}
