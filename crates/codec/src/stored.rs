//! The envelope of a stored entity: version u16 BE ‖ crc32c u32 BE of (version ‖ body) ‖ body.
//!
//! A store that loses or alters a byte is noticed when the entity is read, not when a decision is wrong.

use bytes::{BufMut as _, Bytes, BytesMut};

const HEAD: usize = 6;

/// Why stored bytes are not an entity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoredError {
    /// Too short for an envelope.
    #[error("stored entity of {0} bytes has no envelope")]
    Short(usize),
    /// The checksum does not match: restore the store, or replay.
    #[error("stored entity is damaged: checksum {found:08x}, expected {expected:08x}")]
    Damaged {
        /// Of the bytes.
        found: u32,
        /// In the envelope.
        expected: u32,
    },
}

fn checksum(version: [u8; 2], body: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&version), body)
}

/// A body under its version.
pub fn seal(version: u16, body: &[u8]) -> Bytes {
    let mut sealed = BytesMut::with_capacity(HEAD + body.len());
    sealed.put_u16(version);
    sealed.put_u32(checksum(version.to_be_bytes(), body));
    sealed.put_slice(body);
    sealed.freeze()
}

/// Version and body; whether the version can be read is the caller's to say.
pub fn open(sealed: &Bytes) -> Result<(u16, Bytes), StoredError> {
    let &[v1, v2, c1, c2, c3, c4, ..] = sealed.as_ref() else { return Err(StoredError::Short(sealed.len())) };
    let body = sealed.slice(HEAD..);
    let (found, expected) = (checksum([v1, v2], &body), u32::from_be_bytes([c1, c2, c3, c4]));
    if found == expected { Ok((u16::from_be_bytes([v1, v2]), body)) } else { Err(StoredError::Damaged { found, expected }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_come_back_under_their_version() {
        for body in [&b""[..], b"x", b"a longer body"] {
            assert_eq!(open(&seal(3, body)), Ok((3, Bytes::copy_from_slice(body))));
        }
    }

    #[test]
    fn every_altered_byte_is_noticed() {
        let sealed = seal(1, b"body");
        for at in 0..sealed.len() {
            let mut bytes = sealed.to_vec();
            bytes[at] ^= 1;
            assert!(matches!(open(&bytes.into()), Err(StoredError::Damaged { .. })), "{at}");
        }
        assert_eq!(open(&Bytes::from_static(b"12345")), Err(StoredError::Short(5)));
    }
}
