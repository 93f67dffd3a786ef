//! An issuer's keys: fetched through a port, kept, fetched again when they are old or one is asked for that is not among them.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use async_trait::async_trait;
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::Mutex;
use waypost_runtime::ports::Clock;
use waypost_types::{Span, Timestamp};

use super::claims::algorithm;
use crate::status::Refusal;

/// How often the issuer is asked at most, whatever callers present.
const PAUSE: Span = Span::from_secs(30);
/// When keys are fetched again though nobody asks for another one: withdrawn ones go.
const OLD: Span = Span::from_secs(600);
/// How long a caller waits for somebody else's question to the issuer.
const PATIENCE: Duration = Duration::from_secs(1);
/// Keys of an issuer at most.
const KEYS_MAX: usize = 100;

/// Where an issuer's keys are had from.
#[async_trait]
pub trait Keys: Send + Sync {
    /// The key set as the issuer gives it at present: a JWKS, JSON.
    async fn fetch(&self) -> Result<Vec<u8>, KeysError>;
}

/// Why there are no keys at present.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the issuer's keys cannot be had: {0}")]
pub struct KeysError(pub String);

/// A key and what it is for.
pub(crate) struct Key {
    pub(crate) algorithm: Algorithm,
    pub(crate) key: DecodingKey,
}

/// The issuer's keys by their names.
pub(crate) struct KeyCache {
    port: Arc<dyn Keys>,
    clock: Arc<dyn Clock>,
    state: RwLock<State>,
    asking: Mutex<()>,
}

#[derive(Default)]
struct State {
    keys: BTreeMap<String, Arc<Key>>,
    asked: Option<Timestamp>,
    fetched: Option<Timestamp>,
}

#[derive(Deserialize)]
struct Set {
    keys: Vec<Value>,
}

#[derive(Deserialize)]
struct Jwk {
    kid: String,
    kty: String,
    #[serde(rename = "use")]
    purpose: Option<String>,
    alg: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

// === impl Key ===

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

// === impl Jwk ===

impl Jwk {
    /// Its name and the key; none if it is not for signatures that are believed.
    fn key(self) -> Option<(String, Key)> {
        let (name, key) = match (self.kty.as_str(), self.crv.as_deref()) {
            ("RSA", _) => ("RS256", DecodingKey::from_rsa_components(&self.n?, &self.e?)),
            ("EC", Some("P-256")) => ("ES256", DecodingKey::from_ec_components(&self.x?, &self.y?)),
            ("OKP", Some("Ed25519")) => ("EdDSA", DecodingKey::from_ed_components(&self.x?)),
            (_, _) => return None,
        };
        let signs = self.purpose.is_none_or(|purpose| purpose == "sig");
        if !signs || self.alg.is_some_and(|alg| alg != name) {
            return None;
        }
        Some((self.kid, Key { algorithm: algorithm(name)?, key: key.ok()? }))
    }
}

fn parse(jwks: &[u8]) -> Result<BTreeMap<String, Arc<Key>>, KeysError> {
    let set: Set = serde_json::from_slice(jwks).map_err(|_| KeysError("its answer is no key set".to_owned()))?;
    // One key that is of no use, as one for encryption, spoils no other.
    let keys = set.keys.into_iter().filter_map(|key| serde_json::from_value::<Jwk>(key).ok()?.key());
    Ok(keys.take(KEYS_MAX).map(|(kid, key)| (kid, Arc::new(key))).collect())
}

// === impl State ===

impl State {
    /// Whether the issuer is to be asked before one answers for `kid`.
    fn is_to_ask(&self, kid: &str, now: Timestamp) -> bool {
        let pausing = self.asked.is_some_and(|asked| now.since(asked) < PAUSE);
        let old = self.fetched.is_none_or(|fetched| now.since(fetched) >= OLD);
        !pausing && (old || !self.keys.contains_key(kid))
    }
}

// === impl KeyCache ===

impl fmt::Debug for KeyCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyCache").finish_non_exhaustive()
    }
}

impl KeyCache {
    pub(crate) fn new(port: Arc<dyn Keys>, clock: Arc<dyn Clock>) -> Self {
        Self { port, clock, state: RwLock::default(), asking: Mutex::default() }
    }

    /// The key of this name. Keys that were had once hold while the issuer is away.
    pub(crate) async fn find(&self, kid: &str) -> Result<Arc<Key>, Refusal> {
        if self.is_to_ask(kid) {
            let known = self.known(kid);
            // Whoever has a key already does not wait for others.
            let patience = if known.is_some() { Duration::ZERO } else { PATIENCE };
            match tokio::time::timeout(patience, self.asking.lock()).await {
                Ok(_turn) => {
                    if self.is_to_ask(kid) {
                        self.ask().await;
                    }
                }
                Err(_) if known.is_some() => {}
                Err(_) => return Err(Refusal::Unavailable("the issuer of tokens is being asked for its keys; try again".to_owned())),
            }
        }
        match (self.known(kid), self.state.read().unwrap_or_else(PoisonError::into_inner).fetched) {
            (Some(key), _) => Ok(key),
            (None, Some(_)) => Err(Refusal::Unauthenticated("the token's issuer has no key of that name (`kid`)".to_owned())),
            (None, None) => Err(Refusal::Unavailable("the issuer of tokens does not give its keys; try again".to_owned())),
        }
    }

    /// What time it is, for what is signed.
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn known(&self, kid: &str) -> Option<Arc<Key>> {
        self.state.read().unwrap_or_else(PoisonError::into_inner).keys.get(kid).cloned()
    }

    fn is_to_ask(&self, kid: &str) -> bool {
        self.state.read().unwrap_or_else(PoisonError::into_inner).is_to_ask(kid, self.clock.now())
    }

    async fn ask(&self) {
        let now = self.clock.now();
        self.state.write().unwrap_or_else(PoisonError::into_inner).asked = Some(now);
        match self.port.fetch().await.and_then(|jwks| parse(&jwks)) {
            Ok(keys) => {
                tracing::debug!(keys = keys.len(), "the issuer's keys");
                let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
                state.keys = keys;
                state.fetched = Some(now);
            }
            Err(error) => tracing::warn!(%error, "the keys that were had before stay in force"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use serde_json::json;
    use waypost_memory::VirtualClock;

    use super::*;

    /// An issuer whose keys are replaced, and who goes away.
    #[derive(Default)]
    struct Fake {
        answer: std::sync::Mutex<Option<Value>>,
        asked: AtomicUsize,
    }

    #[async_trait]
    impl Keys for Fake {
        async fn fetch(&self) -> Result<Vec<u8>, KeysError> {
            self.asked.fetch_add(1, Ordering::SeqCst);
            let answer = self.answer.lock().unwrap().clone();
            answer.map(|value| value.to_string().into_bytes()).ok_or_else(|| KeysError("away".to_owned()))
        }
    }

    fn ed(kid: &str) -> Value {
        json!({"kid": kid, "kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo", "use": "sig"})
    }

    fn answers(issuer: &Fake, answer: Option<Value>) {
        *issuer.answer.lock().unwrap() = answer;
    }

    #[tokio::test]
    async fn keys_are_fetched_when_asked_for_and_no_oftener_than_every_half_minute() {
        let clock = VirtualClock::new(Timestamp::from_millis(1_774_594_800_000));
        let later = |seconds: i64| clock.advance_to(clock.now().plus(Span::from_secs(seconds)));
        let issuer = Arc::new(Fake::default());
        let cache = KeyCache::new(issuer.clone(), Arc::new(clock.clone()));
        let asked = || issuer.asked.load(Ordering::SeqCst);

        assert!(matches!(cache.find("a").await, Err(Refusal::Unavailable(_))), "the issuer is away");
        answers(&issuer, Some(json!({"keys": [ed("a")]})));
        assert!(cache.find("a").await.is_err() && asked() == 1, "it was asked a moment ago");
        later(30);
        assert!(cache.find("a").await.is_ok() && cache.find("a").await.is_ok());
        assert_eq!(asked(), 2);

        // It rotates: the new key is fetched at once if it was not asked lately, and made-up names do not make it work.
        answers(&issuer, Some(json!({"keys": [ed("b")]})));
        later(31);
        assert!(cache.find("b").await.is_ok());
        for made_up in ["x", "y", "z"] {
            assert!(matches!(cache.find(made_up).await, Err(Refusal::Unauthenticated(_))));
        }
        assert_eq!(asked(), 3);
        assert!(cache.find("a").await.is_err(), "withdrawn");

        // It goes away: what was had stays in force, also when it is old.
        answers(&issuer, None);
        later(3_600);
        assert!(cache.find("b").await.is_ok());
        assert_eq!(asked(), 4);
        answers(&issuer, Some(json!({"keys": "none"})));
        later(31);
        assert!(cache.find("b").await.is_ok());
        assert_eq!(asked(), 5);
    }

    #[test]
    fn only_keys_for_signatures_that_are_believed_are_kept() {
        let with = |changes: Value| {
            let mut key = ed("k");
            for (name, value) in changes.as_object().unwrap() {
                key[name] = value.clone();
            }
            parse(json!({"keys": [key, {"kty": "oct"}, 7]}).to_string().as_bytes()).unwrap().len()
        };
        assert_eq!(with(json!({})), 1);
        assert_eq!(with(json!({"alg": "EdDSA", "exp": 1_774_594_800})), 1);
        for other in [json!({"use": "enc"}), json!({"alg": "HS256"}), json!({"crv": "Ed448"}), json!({"kty": "oct"}), json!({"x": null})] {
            assert_eq!(with(other.clone()), 0, "{other}");
        }
    }
}
