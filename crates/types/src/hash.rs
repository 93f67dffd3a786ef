//! XXH3 of something that lies in several places (<https://github.com/Cyan4973/xxHash>).

use xxhash_rust::xxh3::{Xxh3, xxh3_64, xxh3_128};

/// What is hashed in one go. Above this the state of a hasher costs little beside what it is fed.
const SHORT: usize = 512;

/// `xxh3_64` of these parts, one behind the other.
pub fn hash64(parts: &[&[u8]]) -> u64 {
    together(parts, xxh3_64, Xxh3::digest)
}

/// `xxh3_128` of these parts, one behind the other.
pub fn hash128(parts: &[&[u8]]) -> u128 {
    together(parts, xxh3_128, Xxh3::digest128)
}

fn together<H>(parts: &[&[u8]], short: impl FnOnce(&[u8]) -> H, long: impl FnOnce(&Xxh3) -> H) -> H {
    let mut buffer = [0; SHORT];
    let mut end = 0;
    for part in parts {
        let Some(room) = buffer.get_mut(end..end + part.len()) else {
            let mut hasher = Xxh3::new();
            for part in parts {
                hasher.update(part);
            }
            return long(&hasher);
        };
        room.copy_from_slice(part);
        end += part.len();
    }
    short(&buffer[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_that_of_the_whole_however_long_it_is_and_wherever_it_is_cut() {
        let bytes: Vec<u8> = (0..3 * SHORT).map(|i| u8::try_from(i % 251).unwrap()).collect();
        for end in [0, 1, 20, SHORT - 1, SHORT, SHORT + 1, 3 * SHORT] {
            let whole = &bytes[..end];
            for cut in [0, end / 3, end] {
                let parts = [&whole[..cut], &[], &whole[cut..]];
                assert_eq!((hash64(&parts), hash128(&parts)), (xxh3_64(whole), xxh3_128(whole)), "{end} {cut}");
            }
        }
    }
}
