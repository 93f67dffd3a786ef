//! A provider that counts what it did for whom, and is silent when told to be.
//!
//! What it offers against sending twice is drawn anew for each world: nothing, a key that it honours for a while and
//! whose repeats it answers as the first time or with an error, or a look-up that may never answer.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use waypost_codec::inbox::Outcome;
use waypost_memory::VirtualClock;
use waypost_sender::{Capabilities, Channel, Idempotency, OnRepeat, OutgoingEmail, Provider, ProviderOutcome};
use waypost_types::{Span, Timestamp};

use crate::{
    chance::Chance,
    faults::{Dice, Fault},
};

/// One provider of a world; clones are the same.
#[derive(Clone)]
pub struct SimProvider(Arc<Mutex<Inner>>);

/// What a provider offers against sending twice.
#[derive(Clone, Copy, Debug)]
pub struct Offers {
    capabilities: Capabilities,
    /// It has a look-up, and that never answers.
    deaf: bool,
}

/// What a provider has done for one dispatch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Messages that went out.
    pub sent: u32,
    /// Of these, those that went out again because their key was forgotten.
    pub forgotten: u32,
    /// Calls that it did not answer.
    pub silent: u32,
    /// Look-ups that it did not answer.
    pub unheard: u32,
}

struct Inner {
    dice: Dice,
    offers: Offers,
    clock: VirtualClock,
    /// By dispatch.
    done: BTreeMap<String, Done>,
    /// When it first knew a key that it still knows.
    keys: BTreeMap<String, Timestamp>,
    calls: u64,
    repeats: u64,
    look_ups: u64,
}

// === impl Offers ===

impl Offers {
    /// A key in one world of three; of the others, a look-up in half.
    pub fn draw(key: &mut Chance, more: &mut Chance) -> Self {
        // The longest call of a world is one of a process that sleeps before it begins it.
        let longest_call = if more.index(2) == 0 { Span::from_secs(30) } else { Capabilities::NONE.longest_call };
        let capabilities = Capabilities { longest_call, ..Capabilities::NONE };
        if key.index(3) == 0 {
            let long = more.index(2) == 0;
            let on_repeat = if more.index(2) == 0 { OnRepeat::Replay } else { OnRepeat::Error };
            // A short one may have ended before the doubt has; one below its margin always has.
            let short = Span::from_secs(if more.index(2) == 0 { 110 } else { 20 });
            let window = if long { Span::from_hours(24) } else { short };
            return Self { capabilities: Capabilities { key: Some(Idempotency { window, on_repeat }), ..capabilities }, deaf: false };
        }
        let lookup = more.index(2) == 0;
        Self { capabilities: Capabilities { lookup, ..capabilities }, deaf: more.index(4) == 0 }
    }

    /// Whether it honours keys.
    pub fn key(&self) -> bool {
        self.capabilities.key.is_some()
    }

    /// Whether it can be asked.
    pub fn lookup(&self) -> bool {
        self.capabilities.lookup
    }
}

// === impl SimProvider ===

impl SimProvider {
    /// One whose silence and refusals these dice decide.
    pub fn new(dice: Dice, offers: Offers, clock: VirtualClock) -> Self {
        let inner = Inner { dice, offers, clock, done: BTreeMap::new(), keys: BTreeMap::new(), calls: 0, repeats: 0, look_ups: 0 };
        Self(Arc::new(Mutex::new(inner)))
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

    /// What it did, by dispatch (text form of its id).
    pub fn done(&self) -> BTreeMap<String, Done> {
        self.inner().done.clone()
    }

    /// What it offers.
    pub fn offers(&self) -> Offers {
        self.inner().offers
    }

    /// How often it was called, asked for what it had done already and knew by its key, and asked what it had done.
    pub fn counts(&self) -> (u64, u64, u64) {
        let inner = self.inner();
        (inner.calls, inner.repeats, inner.look_ups)
    }
}

impl Inner {
    fn of(&mut self, dispatch: &str) -> &mut Done {
        self.done.entry(dispatch.to_owned()).or_default()
    }

    /// Sends, unless it knows the key. Says what it answers to who hears it.
    fn take(&mut self, dispatch: &str) -> ProviderOutcome {
        let Some(Idempotency { window, .. }) = self.offers.capabilities.key else {
            self.of(dispatch).sent += 1;
            return ProviderOutcome::accepted("sim");
        };
        let now = self.clock.now();
        let known = self.keys.get(dispatch).copied();
        if known.is_some_and(|since| now < since.plus(window)) {
            self.repeats += 1;
            // An error that says "a repeat" comes as a success from whoever speaks to a provider of that kind, who
            // knows no more of the first than that.
            return ProviderOutcome::accepted(if self.answers_as_before() { "sim" } else { "" });
        }
        self.keys.insert(dispatch.to_owned(), now);
        let done = self.of(dispatch);
        done.sent += 1;
        done.forgotten += u32::from(known.is_some());
        ProviderOutcome::accepted("sim")
    }

    fn answers_as_before(&self) -> bool {
        self.offers.capabilities.key.is_some_and(|key| key.on_repeat == OnRepeat::Replay)
    }
}

#[async_trait]
impl Provider for SimProvider {
    fn capabilities(&self, _: &Channel) -> Capabilities {
        self.inner().offers.capabilities
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
            inner.of(&message.dispatch).silent += 1;
            return ProviderOutcome::other(Outcome::Unknown, "no answer");
        }
        let outcome = inner.take(&message.dispatch);
        if inner.dice.strike(Fault::SilentAfter).is_some() {
            inner.of(&message.dispatch).silent += 1;
            return ProviderOutcome::other(Outcome::Unknown, "no answer");
        }
        outcome
    }

    async fn look_up(&self, _: &Channel, dispatch: &str) -> ProviderOutcome {
        let mut inner = self.inner();
        inner.look_ups += 1;
        if inner.offers.deaf || inner.dice.strike(Fault::LookUpFails).is_some() {
            inner.of(dispatch).unheard += 1;
            return ProviderOutcome::other(Outcome::Unknown, "no answer");
        }
        if inner.of(dispatch).sent > 0 { ProviderOutcome::accepted("sim") } else { ProviderOutcome::other(Outcome::Transient, "not taken") }
    }
}

impl fmt::Debug for SimProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimProvider").field("done", &self.inner().done).finish_non_exhaustive()
    }
}
