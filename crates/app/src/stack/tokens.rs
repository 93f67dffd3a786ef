//! Tokens for Kafka by client credentials, fetched before they are needed: clients ask for them where nobody may wait for an answer over
//! the network.

use std::{
    fmt,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak},
    thread,
    time::Duration,
};

use waypost_kafka::{Token, Tokens};
use waypost_providers::oauth::{ClientCredentials, Granted};
use waypost_runtime::{host::SystemClock, ports::Clock as _};
use waypost_types::Timestamp;

/// The first one is waited for.
const FIRST: Duration = Duration::from_secs(10);
/// Behind a failure.
const AGAIN: Duration = Duration::from_secs(5);

/// A token that is renewed on a thread of its own, when three quarters of its time have passed. Clients come for the next one
/// after four fifths.
pub(super) struct Kept(Arc<Shared>);

#[derive(Default)]
struct Shared {
    held: Mutex<Held>,
    changed: Condvar,
}

#[derive(Default)]
struct Held {
    token: Option<Token>,
    /// Why the last attempt came to nothing.
    trouble: Option<String>,
}

// === impl Kept ===

impl Kept {
    /// Begins to fetch.
    pub(super) fn start(credentials: ClientCredentials, principal: String) -> anyhow::Result<Self> {
        let shared = Arc::new(Shared::default());
        let keeper = Arc::downgrade(&shared);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        thread::Builder::new().name("kafka tokens".to_owned()).spawn(move || runtime.block_on(keep(&credentials, &principal, &keeper)))?;
        Ok(Self(shared))
    }
}

impl Tokens for Kept {
    fn token(&self) -> Result<Token, String> {
        let held = self.0.held.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = self.0.changed.wait_timeout_while(held, FIRST, |held| held.token.is_none() && held.trouble.is_none());
        let (held, _) = waiting.unwrap_or_else(PoisonError::into_inner);
        let good = held.token.clone().filter(|token| token.expires > SystemClock.now());
        good.ok_or_else(|| held.trouble.clone().unwrap_or_else(|| format!("kafka.token_url: no token within {} s", FIRST.as_secs())))
    }
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Kept")
    }
}

// === impl Shared ===

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps what was fetched, and says how long to rest. An old token stays until its end where there is no new one.
    fn take(&self, fetched: Result<Granted, String>, principal: &str) -> Duration {
        let mut held = self.lock();
        let rest = match fetched {
            Ok(Granted { token: value, lifetime }) => {
                let lifetime_ms = i64::try_from(lifetime.as_millis()).unwrap_or(i64::MAX);
                let expires = Timestamp::from_millis(SystemClock.now().millis().saturating_add(lifetime_ms));
                *held = Held { token: Some(Token { value, expires, principal: principal.to_owned() }), trouble: None };
                (lifetime * 3 / 4).max(Duration::from_secs(1))
            }
            Err(why) => {
                tracing::warn!(why, "no token for Kafka");
                held.trouble = Some(why);
                AGAIN
            }
        };
        self.changed.notify_all();
        rest
    }
}

/// Until nobody wants tokens any more.
async fn keep(credentials: &ClientCredentials, principal: &str, shared: &Weak<Shared>) {
    loop {
        let fetched = credentials.fetch().await;
        let Some(shared) = shared.upgrade() else { return };
        let rest = shared.take(fetched, principal);
        drop(shared);
        tokio::time::sleep(rest).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn granted(token: &str, lifetime: u64) -> Granted {
        Granted { token: token.to_owned(), lifetime: Duration::from_secs(lifetime) }
    }

    #[test]
    fn an_old_token_is_shown_until_its_end_where_there_is_no_new_one() {
        let kept = Kept(Arc::default());
        let value = || kept.token().map(|token| token.value);
        assert_eq!(kept.0.take(Err("down".to_owned()), "ana"), AGAIN);
        assert_eq!(value(), Err("down".to_owned()));
        assert_eq!(kept.0.take(Ok(granted("one", 60)), "ana"), Duration::from_secs(45));
        assert_eq!(value(), Ok("one".to_owned()));
        kept.0.take(Err("down again".to_owned()), "ana");
        assert_eq!(value(), Ok("one".to_owned()));
        kept.0.take(Ok(granted("short", 0)), "ana");
        kept.0.take(Err("down again".to_owned()), "ana");
        assert_eq!(value(), Err("down again".to_owned()));
        assert_eq!(kept.0.take(Ok(granted("two", 60)), "ana"), Duration::from_secs(45));
        assert_eq!(value(), Ok("two".to_owned()));
    }
}
