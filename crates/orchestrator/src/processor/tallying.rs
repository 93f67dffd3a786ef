//! What of the decisions is counted for operators.

use waypost_codec::public::Decision;
use waypost_runtime::{figures::Tally, processor::Fold};
use waypost_types::WorkspaceId;

use crate::{
    Profile,
    tallies::{ENTERED, EXITED, STOPPED},
};

/// Entries by version; exits and sends that were stopped by their reason.
pub(super) fn tally(fold: &mut Fold<'_, Profile>, decision: Decision) {
    let Decision { workspace, journey, version, what, reason, .. } = decision;
    let workspace = WorkspaceId::new(workspace);
    let tally = match what.as_str() {
        "ENTERED" => Tally { what: ENTERED, workspace, name: journey, version, reason: String::new() },
        "EXITED" => Tally { what: EXITED, workspace, name: journey, version: 0, reason },
        "STOPPED" => Tally { what: STOPPED, workspace, name: String::new(), version: 0, reason },
        _ => return,
    };
    fold.tally(tally);
}
