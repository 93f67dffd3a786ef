//! Compressed bodies: gzip, and no bombs.

use std::io::Read as _;

use axum::{
    body::Bytes,
    http::{HeaderMap, header},
};

use super::answer::Refusal;
use crate::Reason;

/// A body may become so many times larger.
const RATIO_MAX: usize = 20;

/// The body as its sender meant it; at most `limit` bytes, and at most twenty times what came in.
pub(super) fn decoded(headers: &HeaderMap, body: Bytes, limit: usize) -> Result<Bytes, Refusal> {
    let encoding =
        headers.get(header::CONTENT_ENCODING).map_or(Ok("identity"), |e| e.to_str()).unwrap_or_default().trim().to_ascii_lowercase();
    match encoding.as_str() {
        "" | "identity" => Ok(body),
        "gzip" | "x-gzip" => {
            let most = limit.min(body.len().saturating_mul(RATIO_MAX));
            let mut plain = Vec::new();
            let decoder = flate2::read::MultiGzDecoder::new(&*body);
            let ended = decoder.take(most as u64 + 1).read_to_end(&mut plain);
            if plain.len() > most {
                return Err(Refusal::new(
                    Reason::BodyTooLarge,
                    format!("at most {limit} bytes, and {RATIO_MAX} times the compressed size"),
                ));
            }
            ended.map_err(|_| Refusal::new(Reason::BadJson, "the body is not gzip"))?;
            Ok(plain.into())
        }
        _ => Err(Refusal::new(Reason::BadJson, "expected content-encoding gzip, or none")),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::{Compression, write::GzEncoder};

    use super::*;

    fn packed(plain: &[u8]) -> Bytes {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap().into()
    }

    fn decode(encoding: &'static str, body: Bytes) -> Result<Bytes, Refusal> {
        let headers = HeaderMap::from_iter([(header::CONTENT_ENCODING, encoding.parse().unwrap())]);
        decoded(&headers, body, 10_000)
    }

    #[test]
    fn gzip_is_unpacked_and_bombs_are_not() {
        let text = b"{\"event\": \"Product Viewed\"}";
        assert_eq!(decode("gzip", packed(text)).ok().as_deref(), Some(&text[..]));
        assert_eq!(decode("identity", Bytes::from_static(text)).ok().as_deref(), Some(&text[..]));
        assert!(decode("gzip", packed(&[b'x'; 9_999])).is_err(), "over twenty times");
        assert!(decode("gzip", Bytes::from_static(text)).is_err());
        assert!(decode("br", Bytes::from_static(text)).is_err());
    }
}
