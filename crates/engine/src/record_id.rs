//! Ids of records that a fold makes: functions of the log, so that every life makes the same ones.

use waypost_types::{Position, Role, Timestamp};

/// The id of the `index`-th output of the record at `position` of a role's partition.
pub fn derived(role: Role, partition: u32, position: Position, index: usize) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"waypost record");
    hasher.update(&role.number().to_be_bytes());
    hasher.update(&partition.to_be_bytes());
    hasher.update(&position.offset.to_be_bytes());
    hasher.update(&position.index.to_be_bytes());
    hasher.update(&(index as u64).to_be_bytes());
    let mut id = [0; 16];
    hasher.finalize_xof().fill(&mut id);
    id
}

/// The id of what an entity's timer due at `due` makes.
pub fn of_timer(role: Role, entity: &[u8], due: Timestamp) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"waypost timer");
    hasher.update(&role.number().to_be_bytes());
    hasher.update(&due.millis().to_be_bytes());
    hasher.update(entity);
    let mut id = [0; 16];
    hasher.finalize_xof().fill(&mut id);
    id
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_differ_by_everything_that_names_them() {
        let at = |offset, index| Position { offset, index };
        let ids = [
            derived(Role::Identity, 0, at(1, 0), 0),
            derived(Role::Segmenter, 0, at(1, 0), 0),
            derived(Role::Identity, 1, at(1, 0), 0),
            derived(Role::Identity, 0, at(2, 0), 0),
            derived(Role::Identity, 0, at(1, 1), 0),
            derived(Role::Identity, 0, at(1, 0), 1),
        ];
        let different: std::collections::BTreeSet<_> = ids.into_iter().collect();
        assert_eq!(different.len(), ids.len());
    }
}
