//! Write keys are stored as hashes only; both the control plane and the doors hash them here.

/// Bytes of a hash.
pub type KeyHash = [u8; 32];

const DOMAIN: &str = "waypost 2026 write key v1";

/// The hash of a write key. Keys are long and random, so it needs no salt and no stretching.
pub fn hash(key: &str) -> KeyHash {
    blake3::derive_key(DOMAIN, key.as_bytes())
}

/// Whether two hashes are equal, in a time that does not tell where the first difference is.
pub fn same(a: &KeyHash, b: &KeyHash) -> bool {
    a.iter().zip(b).fold(0, |all, (x, y)| all | (x ^ y)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_keys_have_equal_hashes() {
        assert!(same(&hash("wk_1"), &hash("wk_1")));
        assert!(!same(&hash("wk_1"), &hash("wk_2")));
    }
}
