//! The write key, in one of three places (CONVENTIONS §1.1).

use axum::http::{HeaderMap, header};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::value::RawValue;

use super::answer::Refusal;
use crate::Reason;

/// The user of HTTP Basic; none without such a header. `Bearer` leaves the key to the body.
pub(super) fn header_key(headers: &HeaderMap) -> Result<Option<String>, Refusal> {
    let bad = || Refusal::new(Reason::BadKey, "expected `Authorization: Basic` of the write key and a colon");
    let Some(value) = headers.get(header::AUTHORIZATION) else { return Ok(None) };
    let value = value.to_str().map_err(|_| bad())?.trim();
    let (scheme, rest) = value.split_once(' ').unwrap_or((value, ""));
    if scheme.eq_ignore_ascii_case("bearer") {
        return Ok(None);
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return Err(bad());
    }
    let decoded = STANDARD.decode(rest.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok()).ok_or_else(bad)?;
    let key = decoded.split_once(':').map_or(decoded.as_str(), |(user, _)| user);
    if key.is_empty() { Err(bad()) } else { Ok(Some(key.to_owned())) }
}

/// `writeKey` of the body.
pub(super) fn body_key(raw: Option<&RawValue>) -> Result<String, Refusal> {
    raw.and_then(|raw| serde_json::from_str::<String>(raw.get()).ok())
        .filter(|key| !key.is_empty())
        .ok_or_else(|| Refusal::new(Reason::BadKey, "expected a write key: HTTP Basic, or `writeKey` in the body"))
}
