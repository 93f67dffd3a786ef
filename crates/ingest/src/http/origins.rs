//! Pages that may call: the headers by which browsers let them (CORS), and whose browser keys are taken.

use std::time::Duration;

use axum::http::{HeaderName, HeaderValue, Method, header};
use tower_http::cors::{AllowOrigin, CorsLayer};

/// How long a browser may remember that it may call; none remembers it longer.
const REMEMBERED: Duration = Duration::from_hours(2);

/// Origins of pages that may call with a browser key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Origins {
    /// None is named: no header says anything, so only pages of the door's own origin get an answer.
    #[default]
    Unnamed,
    /// Any.
    Any,
    /// These, and browser keys from other pages are refused.
    These(Vec<HeaderValue>),
}

/// Why a list of origins is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no origin: expected them as browsers write them, https://shop.example or http://localhost:3000, or `*` alone")]
pub struct NotAnOrigin(String);

// === impl Origins ===

impl Origins {
    /// Origins with a comma between two, or `*`; empty: none is named.
    ///
    /// # Errors
    /// What no browser would send.
    pub fn parse(text: &str) -> Result<Self, NotAnOrigin> {
        let entries: Vec<_> = text.split(',').map(str::trim).filter(|entry| !entry.is_empty()).collect();
        match entries[..] {
            [] => Ok(Self::Unnamed),
            ["*"] => Ok(Self::Any),
            _ => entries.into_iter().map(origin).collect::<Result<_, _>>().map(Self::These),
        }
    }

    /// Whether a browser key is taken from a page of this origin.
    pub(super) fn allows(&self, origin: &HeaderValue) -> bool {
        match self {
            Self::Unnamed | Self::Any => true,
            Self::These(list) => list.contains(origin),
        }
    }

    /// What tells browsers so. Cookies are none of it: a key says who calls.
    pub(super) fn layer(&self) -> Option<CorsLayer> {
        let origins = match self {
            Self::Unnamed => return None,
            Self::Any => AllowOrigin::any(),
            Self::These(list) => AllowOrigin::list(list.iter().cloned()),
        };
        let cors = CorsLayer::new().allow_origin(origins).allow_methods([Method::POST]).max_age(REMEMBERED);
        let cors = cors.allow_headers([header::CONTENT_TYPE, header::AUTHORIZATION]);
        Some(cors.expose_headers([header::RETRY_AFTER, HeaderName::from_static("x-ratelimit-reset")]))
    }
}

/// Scheme, host and port, as a browser writes them: lower case, no path, no port that the scheme implies.
fn origin(entry: &str) -> Result<HeaderValue, NotAnOrigin> {
    let refused = || NotAnOrigin(entry.to_owned());
    let (scheme, authority) = entry.split_once("://").ok_or_else(refused)?;
    let implied = match scheme {
        "https" => ":443",
        "http" => ":80",
        _ => "",
    };
    let is_scheme = scheme.starts_with(|c: char| c.is_ascii_lowercase())
        && scheme.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'+' | b'-' | b'.'));
    let is_authority = !authority.is_empty()
        && authority.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-' | b':' | b'[' | b']'));
    if !is_scheme || !is_authority || (!implied.is_empty() && authority.ends_with(implied)) {
        return Err(refused());
    }
    HeaderValue::from_str(entry).map_err(|_| refused())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_as_browsers_write_them() {
        assert_eq!(Origins::parse(" "), Ok(Origins::Unnamed));
        assert_eq!(Origins::parse("*"), Ok(Origins::Any));
        let Ok(Origins::These(list)) =
            Origins::parse("https://shop.example, http://localhost:3000,capacitor://localhost, http://[::1]:3000")
        else {
            panic!("four origins")
        };
        assert_eq!(list, ["https://shop.example", "http://localhost:3000", "capacitor://localhost", "http://[::1]:3000"]);
        for bad in [
            "shop.example",
            "https://",
            "https://shop.example/",
            "https://shop.example/cart",
            "https://Shop.example",
            "https://shop.example:443",
            "http://shop.example:80",
            "https://*.shop.example",
            "https://user@shop.example",
            "null",
        ] {
            assert_eq!(Origins::parse(&format!("https://a.example, {bad}")), Err(NotAnOrigin(bad.to_owned())));
        }
        assert_eq!(Origins::parse("https://a.example, *"), Err(NotAnOrigin("*".to_owned())));
    }

    #[test]
    fn only_a_list_refuses() {
        let other = HeaderValue::from_static("https://other.example");
        assert!(Origins::Unnamed.allows(&other) && Origins::Any.allows(&other));
        assert!(!Origins::parse("https://shop.example").unwrap().allows(&other));
        assert!(Origins::parse("https://shop.example,https://other.example").unwrap().allows(&other));
    }
}
