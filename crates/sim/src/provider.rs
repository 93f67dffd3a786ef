//! A provider that counts what it did for whom, and is silent when told to be.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use waypost_codec::inbox::Outcome;
use waypost_sender::{Capabilities, Channel, Idempotency, OnRepeat, OutgoingEmail, Provider, ProviderOutcome};
use waypost_types::Span;

use crate::faults::{Dice, Fault};

/// One provider of a world; clones are the same.
#[derive(Clone)]
pub struct SimProvider(Arc<Mutex<Inner>>);

struct Inner {
    dice: Dice,
    /// Messages that went out, by dispatch.
    sent: BTreeMap<String, u32>,
    calls: u64,
    silent: u64,
    /// It honours keys: what it has done it does not do again.
    knows_keys: bool,
    repeats: u64,
}

// === impl SimProvider ===

impl SimProvider {
    /// One whose silence and refusals these dice decide.
    pub fn new(dice: Dice, knows_keys: bool) -> Self {
        Self(Arc::new(Mutex::new(Inner { dice, sent: BTreeMap::new(), calls: 0, silent: 0, knows_keys, repeats: 0 })))
    }

    /// What became of its dice.
    pub fn dice(&self) -> Dice {
        self.inner().dice.clone()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on it works.
    pub fn heal(&self) {
        self.inner().dice.end();
    }

    /// How many messages went out, by dispatch (text form of its id).
    pub fn sent(&self) -> BTreeMap<String, u32> {
        self.inner().sent.clone()
    }

    /// Whether it honours keys.
    pub fn knows_keys(&self) -> bool {
        self.inner().knows_keys
    }

    /// How often it was asked for what it had done already, and knew it by its key.
    pub fn repeats(&self) -> u64 {
        self.inner().repeats
    }

    /// How often it was called, and how often it did not answer.
    pub fn calls(&self) -> (u64, u64) {
        let inner = self.inner();
        (inner.calls, inner.silent)
    }
}

#[async_trait]
impl Provider for SimProvider {
    fn capabilities(&self, _: &Channel) -> Capabilities {
        let key = self.inner().knows_keys.then_some(Idempotency { window: Span::from_hours(24), on_repeat: OnRepeat::Replay });
        Capabilities { key, ..Capabilities::NONE }
    }

    async fn send(&self, _: &Channel, message: &OutgoingEmail) -> ProviderOutcome {
        let mut inner = self.inner();
        inner.calls += 1;
        if inner.dice.strike(Fault::Transient).is_some() {
            return ProviderOutcome::other(Outcome::Transient, "451 later");
        }
        if let Some(mut chance) = inner.dice.strike(Fault::Throttled) {
            let retry_after = (chance.index(2) == 0).then(|| chance.span(100, 5_000));
            return ProviderOutcome { retry_after, ..ProviderOutcome::other(Outcome::Throttled, "429 too many") };
        }
        if inner.dice.strike(Fault::SilentBefore).is_some() {
            inner.silent += 1;
            return ProviderOutcome::other(Outcome::Unknown, "no answer");
        }
        let repeat = inner.knows_keys && inner.sent.contains_key(&message.dispatch);
        inner.repeats += u64::from(repeat);
        if !repeat {
            *inner.sent.entry(message.dispatch.clone()).or_default() += 1;
        }
        if inner.dice.strike(Fault::SilentAfter).is_some() {
            inner.silent += 1;
            return ProviderOutcome::other(Outcome::Unknown, "no answer");
        }
        ProviderOutcome::accepted("sim")
    }
}

impl fmt::Debug for SimProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimProvider").field("sent", &self.inner().sent).finish_non_exhaustive()
    }
}
