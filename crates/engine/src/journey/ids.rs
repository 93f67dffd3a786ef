//! Ids of runs, sends and dispatches (PRODUCT §7.9, question 1): functions of the log, so that every
//! replay names them alike and no life can make a second one of the same.

use waypost_types::{DispatchId, ProfileId, RunId, SendId, WorkspaceId};

fn hash(context: &str, parts: &[&[u8]]) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new_derive_key(context);
    for part in parts {
        hasher.update(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
        hasher.update(part);
    }
    let mut bytes = [0; 16];
    hasher.finalize_xof().fill(&mut bytes);
    bytes
}

/// The run that this cause (an event's message id) starts.
pub fn run_id(workspace: WorkspaceId, journey: &str, profile: &ProfileId, key: &str, cause: &str) -> RunId {
    let parts: [&[u8]; 5] = [&workspace.number().to_be_bytes(), journey.as_bytes(), profile.as_bytes(), key.as_bytes(), cause.as_bytes()];
    RunId::new(hash("waypost run id v1", &parts))
}

/// The send of a run's visit at a step.
pub fn send_id(run: &[u8], step: &str, visit: u32) -> SendId {
    SendId::new(hash("waypost send id v1", &[run, step.as_bytes(), &visit.to_be_bytes()]))
}

/// One leg of a send to one address.
pub fn dispatch_id(send: &SendId, leg: u32, target: &[u8; 16]) -> DispatchId {
    DispatchId::new(hash("waypost dispatch id v1", &[send.as_bytes(), &leg.to_be_bytes(), target]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_names_a_run_is_in_its_id() {
        let id = |workspace, journey: &str, profile, key: &str, cause: &str| {
            run_id(WorkspaceId::new(workspace), journey, &ProfileId::new([profile; 31]), key, cause)
        };
        let one = id(1, "cart", 1, "k", "m");
        assert_eq!(one, id(1, "cart", 1, "k", "m"));
        for other in [
            id(2, "cart", 1, "k", "m"),
            id(1, "care", 1, "k", "m"),
            id(1, "cart", 2, "k", "m"),
            id(1, "cart", 1, "km", ""),
            id(1, "cart", 1, "", "km"),
        ] {
            assert_ne!(one, other);
        }
        assert_ne!(send_id(one.as_bytes(), "remind", 1), send_id(one.as_bytes(), "remind", 2));
    }
}
