//! Static tokens: random texts, of which the access file keeps a hash.

use sha2::{Digest as _, Sha256};
/// In a time that does not tell where the first difference is.
pub(crate) use waypost_codec::write_key::same;

/// SHA-256 of a token.
pub type Hash = [u8; 32];

/// What ours begin with, so that a scanner finds one that lies about.
const BEGINNING: &str = "wpt_";

/// A token of these random bytes.
pub fn token(random: &[u8; 32]) -> String {
    format!("{BEGINNING}{}", hex::encode(random))
}

/// Its hash. Tokens are long and random, so it needs no salt and no stretching.
pub fn hash(token: &str) -> Hash {
    Sha256::digest(token.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_what_sha256sum_says() {
        assert_eq!(hex::encode(hash("test")), "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08");
        assert!(token(&[7; 32]).starts_with("wpt_0707"));
        assert!(same(&hash("a"), &hash("a")) && !same(&hash("a"), &hash("b")));
    }
}
