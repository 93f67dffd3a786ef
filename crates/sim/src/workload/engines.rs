//! Engine 2, put in force while people are at it (PROTOCOL §9.2): each partition changes at its own moment.

use bytes::Bytes;
use prost::Message as _;
use waypost_codec::{frame::Record, inbox::EngineActivate, kind};
use waypost_types::{Role, Timestamp, WorkspaceId};

use super::Append;
use crate::chance::Chance;

/// The engine that is activated.
const NEXT: u32 = 2;

/// What control appends, to every partition, to some twice; in most worlds nothing.
pub fn draw(chance: &mut Chance, start: Timestamp, partitions: u32) -> Vec<Append> {
    if chance.index(4) > 0 {
        return Vec::new();
    }
    let begins = start.plus(chance.span(0, 15_000));
    // Far enough apart that whole merges pass between partitions that have changed and some that have not.
    let spread = [100, 3_000, 12_000][chance.index(3)];
    let body = Bytes::from(EngineActivate { engine: NEXT }.encode_to_vec());
    let mut appends = Vec::new();
    for role in Role::KEYED {
        for partition in 0..partitions {
            for _ in 0..chance.small(2) {
                let at = begins.plus(chance.span(0, spread));
                let record = Record::new(kind::ENGINE_ACTIVATE, WorkspaceId::new(0), [0; 16], Bytes::new(), at, body.clone());
                let says = format!("engine {NEXT} at {role}/{partition}");
                appends.push(Append { at, role, partition: Some(partition), record, number: None, says });
            }
        }
    }
    appends.sort_by_key(|append| append.at);
    appends
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_partition_changes_or_none_does() {
        for seed in 0..40 {
            let drawn = draw(&mut Chance::new(seed), Timestamp::from_millis(1_000), 3);
            let has = |role, partition| drawn.iter().any(|append| (append.role, append.partition) == (role, Some(partition)));
            let all = Role::KEYED.into_iter().all(|role| (0..3).all(|partition| has(role, partition)));
            assert!(drawn.is_empty() || all, "seed {seed}");
        }
    }
}
