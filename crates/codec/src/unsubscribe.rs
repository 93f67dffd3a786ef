//! The reference in an unsubscribe link: who, where, what; opaque, signed, without readable personal data.
//!
//! `base64url(version ‖ workspace u32 BE ‖ profile 31 ‖ len channel ‖ channel ‖ len topic ‖ topic ‖ MAC 16)`;
//! the MAC is keyed BLAKE3 over all before it. The profile id is a keyed hash with a position.

use std::{fmt, sync::Arc};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use waypost_types::{ProfileId, WorkspaceId};
use zeroize::Zeroize as _;

/// What one unsubscribe link stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsubscribe {
    /// Whose shop.
    pub workspace: WorkspaceId,
    /// Who.
    pub profile: ProfileId,
    /// `email`, ….
    pub channel: String,
    /// The consent topic; empty: the whole channel.
    pub topic: String,
}

/// Why a text is no token of ours. One case on purpose: a stranger learns nothing from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a valid link")]
pub struct TokenError;

/// The key that seals tokens; never shown, and wiped when it is let go.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenKey([u8; 32]);

/// Keys of which the first seals; a link is good under any of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenKeys {
    /// Seals.
    pub first: TokenKey,
    /// Sealed what may still lie in people's mail.
    pub others: Vec<TokenKey>,
}

/// The keys of links as they are at the moment; cheap to clone.
#[derive(Clone)]
pub struct LinkKeys(Arc<dyn Fn() -> Arc<TokenKeys> + Send + Sync>);

const VERSION: u8 = 1;
const MAC: usize = 16;
const HEAD: usize = 1 + 4 + 31;
const LONGEST: usize = 1_024;
const DOMAIN: &[u8] = b"waypost unsubscribe v1";

/// The token for `unsubscribe` under `key`. Names longer than 255 bytes do not fit and are cut; the
/// definitions allow 63.
pub fn seal(key: &[u8; 32], unsubscribe: &Unsubscribe) -> String {
    let mut bytes = Vec::with_capacity(HEAD + 2 + unsubscribe.channel.len() + unsubscribe.topic.len() + MAC);
    bytes.push(VERSION);
    bytes.extend_from_slice(&unsubscribe.workspace.number().to_be_bytes());
    bytes.extend_from_slice(unsubscribe.profile.as_bytes());
    for name in [&unsubscribe.channel, &unsubscribe.topic] {
        let length = u8::try_from(name.len()).unwrap_or(u8::MAX);
        bytes.push(length);
        bytes.extend_from_slice(&name.as_bytes()[..usize::from(length)]);
    }
    let mac = mac(key, &bytes);
    bytes.extend_from_slice(&mac.as_bytes()[..MAC]);
    URL_SAFE_NO_PAD.encode(bytes)
}

/// What `token` stands for, if it was sealed under `key` and not changed since.
pub fn open(key: &[u8; 32], token: &str) -> Result<Unsubscribe, TokenError> {
    if token.len() > LONGEST {
        return Err(TokenError);
    }
    let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| TokenError)?;
    let split = bytes.len().checked_sub(MAC).ok_or(TokenError)?;
    let (body, found) = bytes.split_at(split);
    if !same(&mac(key, body).as_bytes()[..MAC], found) {
        return Err(TokenError);
    }
    let (head, names) = body.split_at_checked(HEAD).ok_or(TokenError)?;
    if head[0] != VERSION {
        return Err(TokenError);
    }
    let workspace = WorkspaceId::new(u32::from_be_bytes([head[1], head[2], head[3], head[4]]));
    let profile = ProfileId::from_slice(&head[5..]).map_err(|_| TokenError)?;
    let (channel, rest) = name(names)?;
    let (topic, rest) = name(rest)?;
    if rest.is_empty() { Ok(Unsubscribe { workspace, profile, channel, topic }) } else { Err(TokenError) }
}

fn name(bytes: &[u8]) -> Result<(String, &[u8]), TokenError> {
    let (length, rest) = bytes.split_first().ok_or(TokenError)?;
    let (text, rest) = rest.split_at_checked(usize::from(*length)).ok_or(TokenError)?;
    Ok((String::from_utf8(text.to_vec()).map_err(|_| TokenError)?, rest))
}

// The key of the installation has other uses; a domain keeps them apart.
fn mac(key: &[u8; 32], body: &[u8]) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new_keyed(key);
    hasher.update(DOMAIN);
    hasher.update(body);
    hasher.finalize()
}

// In a time that does not tell where the first difference is.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |all, (x, y)| all | (x ^ y)) == 0
}

// === impl TokenKey ===

impl TokenKey {
    /// From its bytes.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// For [`seal`] and [`open`].
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl Drop for TokenKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenKey(…)")
    }
}

// === impl LinkKeys ===

impl LinkKeys {
    /// Asked for each link.
    pub fn new(now: impl Fn() -> Arc<TokenKeys> + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// [`seal`] under the first key.
    pub fn seal(&self, unsubscribe: &Unsubscribe) -> String {
        seal((self.0)().first.as_bytes(), unsubscribe)
    }

    /// [`open`] under whichever key it was sealed.
    ///
    /// # Errors
    /// It was under none of them.
    pub fn open(&self, token: &str) -> Result<Unsubscribe, TokenError> {
        let keys = (self.0)();
        std::iter::once(&keys.first).chain(&keys.others).find_map(|key| open(key.as_bytes(), token).ok()).ok_or(TokenError)
    }
}

impl From<TokenKey> for LinkKeys {
    fn from(key: TokenKey) -> Self {
        let keys = Arc::new(TokenKeys { first: key, others: Vec::new() });
        Self::new(move || Arc::clone(&keys))
    }
}

impl fmt::Debug for LinkKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LinkKeys(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; 32] = [7; 32];

    fn unsubscribe() -> Unsubscribe {
        Unsubscribe {
            workspace: WorkspaceId::new(3),
            profile: ProfileId::new([9; 31]),
            channel: "email".to_owned(),
            topic: "cart-reminders".to_owned(),
        }
    }

    #[test]
    fn tokens_come_back() {
        for one in [unsubscribe(), Unsubscribe { topic: String::new(), ..unsubscribe() }] {
            assert_eq!(open(&KEY, &seal(&KEY, &one)), Ok(one));
        }
    }

    #[test]
    fn a_link_is_good_under_the_key_that_sealed_it_for_as_long_as_it_is_there() {
        let keys = |first: u8, others: &[u8]| {
            let key = |of: u8| TokenKey::new([of; 32]);
            let keys = Arc::new(TokenKeys { first: key(first), others: others.iter().copied().map(key).collect() });
            LinkKeys::new(move || Arc::clone(&keys))
        };
        let sealed = keys(7, &[]).seal(&unsubscribe());
        assert_eq!(sealed, seal(&KEY, &unsubscribe()));
        assert_eq!(keys(8, &[9, 7]).open(&sealed), Ok(unsubscribe()));
        assert_eq!(keys(8, &[9]).open(&sealed), Err(TokenError));
        assert_eq!(keys(7, &[8]).open(&keys(8, &[7]).seal(&unsubscribe())), Ok(unsubscribe()));
    }

    #[test]
    fn tokens_fit_a_url_path() {
        let token = seal(&KEY, &unsubscribe());
        assert!(token.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'), "{token}");
    }

    #[test]
    fn any_changed_bit_is_refused() {
        let bytes = URL_SAFE_NO_PAD.decode(seal(&KEY, &unsubscribe())).expect("ours");
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(open(&KEY, &URL_SAFE_NO_PAD.encode(changed)), Err(TokenError), "bit {bit}");
        }
    }

    #[test]
    fn another_key_and_garbage_are_refused() {
        let token = seal(&KEY, &unsubscribe());
        assert_eq!(open(&[8; 32], &token), Err(TokenError));
        let long = "A".repeat(5_000);
        for bad in ["", "A", "====", "not base64!", &token[..token.len() - 4], &long] {
            assert_eq!(open(&KEY, bad), Err(TokenError), "{bad}");
        }
    }

    #[test]
    fn keys_do_not_print() {
        assert!(!format!("{:?}", TokenKey::new(KEY)).contains('7'));
    }
}
