//! What a leading owner does outside the fold: it renders and proposes attempts, and calls providers.
//! What comes of it goes into the log before anybody counts on it.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use futures::FutureExt as _;
use prost::Message as _;
use tracing::Instrument as _;
use waypost_codec::{
    inbox::{Attempt, AttemptOutcome, Dispatch, Outcome, Promise},
    kind,
    state::DispatchState,
    unsubscribe::{LinkKeys, Unsubscribe},
    value,
};
use waypost_engine::{
    definitions::{Channel, DefinitionSet, Standing},
    dispatch::NOT_BEGUN,
    library::Library,
    template,
};
use waypost_runtime::{
    ports::Clock,
    processor::{Job, Proposal},
};
use waypost_telemetry::traced;
use waypost_types::{
    ContentHash, PartitionId, ProfileId, Timestamp, WorkspaceId,
    trace::{NoTraces, SpanKind, Told, TraceContext, Traces, Value},
};

use crate::{
    circuit::Circuit,
    job,
    message::{self, Around},
    permits::{Admission, Permits, Proposed},
    provider::{Capabilities, OutgoingEmail, Provider, ProviderOutcome},
    tally::{Tally, WayFigures},
};

/// Where compiled sets of definitions are found by name.
pub trait Shelf: Send + Sync + 'static {
    /// The set, if all its bodies have arrived.
    fn set(&self, defv: &str) -> Option<Arc<DefinitionSet>>;
}

/// What links in messages are made of.
#[derive(Clone, Debug)]
pub struct Links {
    /// Where ingest is reached from outside, without a slash at the end.
    pub public_url: String,
    /// Seal the references in them.
    pub keys: LinkKeys,
}

/// Does the sender's jobs.
pub struct Calls {
    shelf: Arc<dyn Shelf>,
    // By name of the Channel definition, else by its `provider`.
    providers: BTreeMap<String, Arc<dyn Provider>>,
    links: Links,
    clock: Arc<dyn Clock>,
    rendered: Mutex<VecDeque<(Bytes, OutgoingEmail)>>,
    permits: Permits,
    circuits: Mutex<BTreeMap<Way, Circuit>>,
    tally: Mutex<Tally>,
    // Channels of which it was said that they have no provider here.
    missed: Mutex<BTreeSet<(WorkspaceId, String)>>,
    traces: Arc<dyn Traces>,
}

/// Whose channel, and its name.
type Way = (WorkspaceId, String);

// Attempts that may follow on the end of one call, so that those that waited come back as fast as calls end.
const FOLLOWERS: usize = 4;
// Messages kept between their proposal and their call, so that most are rendered once.
const KEPT: usize = 256;

/// Gate 1 again, for what was queued when its journey was killed.
const JOURNEY_KILLED: &str = "JOURNEY_KILLED";

enum Rendered {
    Message(Box<OutgoingEmail>),
    // Gate 11 says no, or there is no way out.
    Refused(&'static str),
    // The definitions have not arrived, or this process lacks a provider that another may have.
    NotYet,
}

// === impl Shelf ===

impl Shelf for Library {
    fn set(&self, defv: &str) -> Option<Arc<DefinitionSet>> {
        Self::set(self, defv)
    }
}

// === impl Calls ===

impl Calls {
    /// With these providers, by name of the channel or by its `provider`.
    pub fn new(shelf: Arc<dyn Shelf>, providers: BTreeMap<String, Arc<dyn Provider>>, links: Links, clock: Arc<dyn Clock>) -> Self {
        Self {
            shelf,
            providers,
            links,
            clock,
            rendered: Mutex::default(),
            permits: Permits::default(),
            circuits: Mutex::default(),
            tally: Mutex::default(),
            missed: Mutex::default(),
            traces: Arc::new(NoTraces),
        }
    }

    /// Calls of traces that are kept are told.
    #[must_use]
    pub fn telling(self, traces: Arc<dyn Traces>) -> Self {
        Self { traces, ..self }
    }

    /// Does one job; what comes back is appended to `partition`, whoever owns it by then. Never fails:
    /// a call that was begun always comes to an outcome.
    pub async fn run(&self, partition: PartitionId, job: Job) -> Vec<Proposal> {
        if job.kind == job::LAST {
            return self.permits.close(partition, job.leader).iter().map(not_begun).collect();
        }
        let Ok(body) = job::Body::decode(job.body.clone()) else {
            tracing::error!(%partition, kind = job.kind, "a job that is none");
            return Vec::new();
        };
        let leader = job.leader;
        let mut proposals = match job.kind {
            job::RENDER => return self.propose(partition, job, &body).into_iter().collect(),
            job::RELEASE => {
                self.permits.free(partition, &body.dispatch);
                Vec::new()
            }
            job::UNKNOWN => {
                if let Some((state, dispatch)) = body.state.as_ref().and_then(|state| Some((state, state.dispatch.as_ref()?))) {
                    let way = (dispatch.channel.clone(), dispatch.provider.clone());
                    self.tally().given_up(&way, &dispatch.dispatch, &state.unanswered);
                }
                return Vec::new();
            }
            job::LOOK_UP => return self.look_up(&body).await,
            job::CALL => self.call(partition, &body, leader, &job.trace).await.into_iter().collect(),
            other => {
                tracing::error!(%partition, kind = other, "a job of no known kind");
                return Vec::new();
            }
        };
        // A permit has come free.
        for _ in 0..FOLLOWERS {
            let Some(waited) = self.permits.next(partition, leader) else { break };
            let Ok(body) = job::Body::decode(waited.body.clone()) else { break };
            proposals.extend(self.propose(partition, waited, &body));
        }
        proposals
    }

    /// How many calls of this process came to which outcome, by channel; among the unknown ones those of processes
    /// that are gone and whose partitions this one leads.
    pub fn outcomes(&self) -> BTreeMap<(String, Outcome), u64> {
        self.tally().outcomes()
    }

    /// What came of this process's calls, by way out; as [`Self::outcomes`] counts them.
    pub fn ways(&self) -> BTreeMap<(String, String), WayFigures> {
        self.tally().ways()
    }

    /// Whether messages are held back, by name of the Channel definition; of two workspaces' one is enough.
    pub fn circuits_open(&self) -> BTreeMap<String, bool> {
        let mut open = BTreeMap::new();
        for ((_, channel), circuit) in &*self.circuits() {
            *open.entry(channel.clone()).or_default() |= circuit.is_open();
        }
        open
    }

    // Renders, and says which attempt will send what.
    fn propose(&self, partition: PartitionId, job: Job, body: &job::Body) -> Option<Proposal> {
        let workspace = WorkspaceId::new(body.workspace);
        let state = body.state.as_ref()?;
        let dispatch = state.dispatch.as_ref()?;
        let planned = planned(workspace, state, state.attempt + 1, job.leader);
        let now = self.clock.now();
        let way = (workspace, dispatch.provider.clone());
        if !self.circuits().get_mut(&way).is_none_or(|circuit| circuit.admits(now)) {
            self.permits.wait(partition, &dispatch.dispatch, job);
            return None;
        }
        let untried = || {
            if let Some(circuit) = self.circuits().get_mut(&way) {
                circuit.untried(now);
            }
        };
        match self.permits.take(partition, &planned, now) {
            Admission::Taken => {}
            Admission::Full => {
                untried();
                self.permits.wait(partition, &dispatch.dispatch, job);
                return None;
            }
            Admission::Over => {
                untried();
                return None;
            }
        }
        let attempt = self.attempt(workspace, &body.defv, state, dispatch, job.leader);
        if attempt.as_ref().is_none_or(|attempt| !attempt.refused.is_empty()) {
            untried();
        }
        if attempt.is_none() {
            self.permits.free(partition, &dispatch.dispatch);
        }
        let body = attempt?.encode_to_vec().into();
        Some(Proposal { workspace, kind: kind::ATTEMPT, key: state.address_key.clone(), body, trace: job.trace })
    }

    fn attempt(&self, workspace: WorkspaceId, defv: &str, state: &DispatchState, dispatch: &Dispatch, leader: u64) -> Option<Attempt> {
        let attempt = Attempt {
            dispatch: dispatch.dispatch.clone(),
            number: state.attempt + 1,
            leader,
            provider: dispatch.provider.clone(),
            ..Attempt::default()
        };
        match self.render(workspace, defv, dispatch) {
            Rendered::Message(message) => {
                let render_hash = hash(&message);
                self.keep(render_hash.clone(), *message);
                let promise = self.way_out(workspace, defv, dispatch).map(|(channel, provider)| promise(&channel, &*provider));
                Some(Attempt { render_hash, promise, ..attempt })
            }
            Rendered::Refused(code) => Some(Attempt { refused: code.to_owned(), ..attempt }),
            // Nothing is proposed; the dispatch asks again.
            Rendered::NotYet => None,
        }
    }

    async fn call(&self, partition: PartitionId, body: &job::Body, leader: u64, trace: &Bytes) -> Option<Proposal> {
        let workspace = WorkspaceId::new(body.workspace);
        let state = body.state.as_ref()?;
        let dispatch = state.dispatch.as_ref()?;
        let attempt = planned(workspace, state, state.attempt, leader);
        let Some(_calling) = self.permits.call(partition, &attempt) else { return Some(not_begun(&attempt)) };
        let from = self.clock.now();
        let parent = TraceContext::from_bytes(trace);
        let place = parent.map(|parent| parent.child(&[b"call", &state.attempt.to_be_bytes()]));
        let calling = async {
            let outcome = self.answer(workspace, body, state, dispatch).await;
            tracing::debug!(%partition, attempt = state.attempt, outcome = outcome.class.as_str_name(), reason = outcome.reason, "provider called");
            outcome
        };
        let outcome = calling.instrument(traced(place)).await;
        if let Some(context) = place {
            self.tell(context, parent, &dispatch.provider, state.attempt, from, outcome.class);
        }
        let trace = place.map(|place| Bytes::copy_from_slice(&place.to_bytes())).unwrap_or_default();
        Some(Proposal { trace, ..self.outcome(&attempt, outcome) })
    }

    async fn answer(&self, workspace: WorkspaceId, body: &job::Body, state: &DispatchState, dispatch: &Dispatch) -> ProviderOutcome {
        if body.until != 0 && self.clock.now().millis() >= body.until {
            // It lay in the log until its key was forgotten.
            ProviderOutcome::other(Outcome::Transient, "KEY_FORGOTTEN")
        } else {
            self.send(workspace, body, dispatch, state.attempt).await
        }
    }

    /// Tells of a call whose trace is kept.
    fn tell(&self, context: TraceContext, parent: Option<TraceContext>, channel: &str, attempt: u32, from: Timestamp, outcome: Outcome) {
        self.traces.tell(Told {
            name: format!("call {channel}"),
            kind: SpanKind::Client,
            context,
            parent,
            links: Vec::new(),
            from,
            until: self.clock.now(),
            attributes: vec![
                ("waypost.channel", Value::Text(channel.to_owned())),
                ("waypost.attempt", Value::Number(i64::from(attempt))),
                ("waypost.outcome", Value::Text(outcome.as_str_name().to_owned())),
            ],
            failed: outcome != Outcome::Accepted,
        });
    }

    async fn send(&self, workspace: WorkspaceId, body: &job::Body, dispatch: &Dispatch, attempt: u32) -> ProviderOutcome {
        let (defv, wanted) = (body.defv.as_str(), &body.render_hash);
        if self.is_killed(workspace, defv, dispatch) {
            return ProviderOutcome::other(Outcome::Transient, JOURNEY_KILLED);
        }
        let message = match self.kept(wanted).map_or_else(|| self.render(workspace, defv, dispatch), |m| Rendered::Message(Box::new(m))) {
            Rendered::Message(message) if hash(&message) == *wanted => message,
            // Definitions or links changed since: another attempt says what it will send now.
            Rendered::Message(_) | Rendered::NotYet => return ProviderOutcome::other(Outcome::Transient, "RENDER_CHANGED"),
            Rendered::Refused(code) => return ProviderOutcome::other(Outcome::Transient, code),
        };
        let Some((channel, provider)) = self.way_out(workspace, defv, dispatch) else {
            return ProviderOutcome::other(Outcome::Transient, "no provider");
        };
        let began = self.clock.now();
        // Whoever panics in a call has maybe made it.
        let outcome = AssertUnwindSafe(provider.send(&channel, &message))
            .catch_unwind()
            .await
            .unwrap_or_else(|_| ProviderOutcome::other(Outcome::Unknown, "panic in the provider"));
        if outcome.class == Outcome::Unknown {
            tracing::warn!(%workspace, channel = channel.name, reason = outcome.reason, "nobody knows what came of a call");
        }
        let micros = u64::try_from(self.clock.now().since(began).millis()).unwrap_or(0).saturating_mul(1_000);
        let way_out = (dispatch.channel.clone(), channel.name.clone());
        self.tally().called(way_out, &dispatch.dispatch, attempt, outcome.class, micros);
        self.circuits().entry((workspace, channel.name)).or_default().heard(outcome.class, self.clock.now());
        outcome
    }

    // What the provider says of the dispatch holds for every attempt that nobody has answered for.
    async fn look_up(&self, body: &job::Body) -> Vec<Proposal> {
        let workspace = WorkspaceId::new(body.workspace);
        let Some(state) = &body.state else { return Vec::new() };
        let Some(dispatch) = &state.dispatch else { return Vec::new() };
        let Some((channel, provider)) = self.way_out(workspace, &body.defv, dispatch) else { return Vec::new() };
        let promised = state.doubted.as_ref().map(|promise| promise.way.clone());
        if promised != Some(way(&channel)) {
            // Another provider knows nothing of it, and would say so.
            return Vec::new();
        }
        let id = message::dispatch_id(&dispatch.dispatch);
        let found = AssertUnwindSafe(provider.look_up(&channel, &id)).catch_unwind().await;
        let Ok(found) = found.map_err(|_| tracing::error!(%workspace, "panic in a look-up")) else { return Vec::new() };
        let mut doubted = state.unanswered.clone();
        doubted.sort_unstable();
        match found.class {
            Outcome::Unknown | Outcome::Unspecified => return Vec::new(),
            Outcome::Accepted => drop(doubted.drain(..doubted.len().saturating_sub(1))),
            Outcome::PermanentRecipient
            | Outcome::PermanentContent
            | Outcome::Transient
            | Outcome::Throttled
            | Outcome::Auth
            | Outcome::Stopped => {}
        }
        doubted.into_iter().map(|number| self.outcome(&planned(workspace, state, number, 0), found.clone())).collect()
    }

    fn outcome(&self, attempt: &Proposed, outcome: ProviderOutcome) -> Proposal {
        let retry_at = outcome.retry_after.map_or(0, |after| self.clock.now().plus(after).millis());
        let body = AttemptOutcome {
            dispatch: attempt.dispatch.clone(),
            number: attempt.number,
            outcome: outcome.class.into(),
            retry_at,
            provider_id: outcome.provider_id,
            reason: outcome.reason,
            leader: attempt.leader,
        };
        let (workspace, key, body) = (attempt.workspace, attempt.key.clone(), body.encode_to_vec().into());
        Proposal { workspace, kind: kind::OUTCOME, key, body, trace: Bytes::new() }
    }

    fn way_out(&self, workspace: WorkspaceId, defv: &str, dispatch: &Dispatch) -> Option<(Channel, Arc<dyn Provider>)> {
        let set = self.shelf.set(defv)?;
        let channel = set.workspaces.get(&workspace)?.channels.get(&dispatch.provider)?;
        Some((channel.clone(), Arc::clone(self.provider(channel).ok()?)))
    }

    /// Whether the journey was killed since this was decided: its next attempt says so, and ends it.
    fn is_killed(&self, workspace: WorkspaceId, defv: &str, dispatch: &Dispatch) -> bool {
        let Some(set) = self.shelf.set(defv) else { return false };
        let journey = set.workspaces.get(&workspace).and_then(|here| here.journeys.get(&dispatch.journey));
        journey.and_then(|j| j.versions.get(&dispatch.journey_version)).is_some_and(|version| version.standing == Standing::Killed)
    }

    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn circuits(&self) -> MutexGuard<'_, BTreeMap<Way, Circuit>> {
        self.circuits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn provider(&self, channel: &Channel) -> Result<&Arc<dyn Provider>, String> {
        let named = self.providers.get(&channel.name).or_else(|| self.providers.get(&channel.provider));
        let provider = named.ok_or("this process has no such provider")?;
        provider.serves(channel).map(|()| provider)
    }

    fn render(&self, workspace: WorkspaceId, defv: &str, dispatch: &Dispatch) -> Rendered {
        if self.is_killed(workspace, defv, dispatch) {
            return Rendered::Refused(JOURNEY_KILLED);
        }
        let Some(set) = self.shelf.set(defv) else { return Rendered::NotYet };
        let Some(here) = set.workspaces.get(&workspace) else { return Rendered::NotYet };
        let Some(channel) = here.channels.get(&dispatch.provider) else { return Rendered::Refused("PROVIDER_UNAVAILABLE") };
        if let Err(why) = self.provider(channel) {
            let mut missed = self.missed.lock().unwrap_or_else(PoisonError::into_inner);
            if missed.insert((workspace, channel.name.clone())) {
                tracing::warn!(%workspace, channel = channel.name, provider = channel.provider, why, "this process cannot serve the channel: its sends wait");
            }
            // Of this process, not of the send: another owner, or this one set up anew, may send it while it is valid.
            return Rendered::NotYet;
        }
        let hash = ContentHash::from_slice(&dispatch.template_hash);
        let Some(template) = hash.ok().and_then(|hash| here.templates.get(&hash)) else { return Rendered::Refused("CONTENT_REFUSED") };
        let Ok(profile) = ProfileId::from_slice(&dispatch.profile) else { return Rendered::Refused("CONTENT_REFUSED") };
        let Some(variables) = dispatch.variables.as_ref().and_then(value::from_proto) else { return Rendered::Refused("CONTENT_REFUSED") };
        let token = Unsubscribe { workspace, profile, channel: dispatch.channel.clone(), topic: dispatch.topic.clone() };
        let token = self.links.keys.seal(&token);
        let unsubscribe_url = format!("{}/u/{token}", self.links.public_url.trim_end_matches('/'));
        let links = template::Links {
            unsubscribe_url: unsubscribe_url.clone(),
            restore_url: here.policy.restore_url.clone(),
            product_url: here.policy.product_url.clone(),
        };
        let topic_title = here.topics.get(&dispatch.topic).map_or("", |topic| topic.title.as_str());
        let around = Around { dispatch, from: &channel.from, workspace: &here.name, topic_title, unsubscribe_url: &unsubscribe_url };
        let rendered = std::panic::catch_unwind(AssertUnwindSafe(|| {
            let email = template::render_email(template, &variables, &links, &here.policy)?;
            Ok(message::build(around, &email))
        }));
        match rendered {
            Ok(Ok(Ok(message))) => Rendered::Message(Box::new(message)),
            Ok(Ok(Err(refused))) => {
                tracing::warn!(%workspace, template = template.name, field = refused.0, "message refused");
                Rendered::Refused("CONTENT_REFUSED")
            }
            Ok(Err(error)) => {
                let error: template::RenderError = error;
                tracing::warn!(%workspace, template = template.name, code = error.code, path = error.path, "not rendered");
                Rendered::Refused(error.code)
            }
            Err(_) => {
                tracing::error!(%workspace, template = template.name, "panic while rendering");
                Rendered::Refused("CONTENT_REFUSED")
            }
        }
    }

    #[cfg(test)]
    pub(crate) fn said_missing(&self) -> usize {
        self.missed.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    fn keep(&self, hash: Bytes, message: OutgoingEmail) {
        let mut kept = self.rendered.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= KEPT {
            kept.pop_front();
        }
        kept.push_back((hash, message));
    }

    fn kept(&self, hash: &Bytes) -> Option<OutgoingEmail> {
        let mut kept = self.rendered.lock().unwrap_or_else(PoisonError::into_inner);
        let at = kept.iter().position(|(known, _)| known == hash)?;
        kept.remove(at).map(|(_, message)| message)
    }
}

fn planned(workspace: WorkspaceId, state: &DispatchState, number: u32, leader: u64) -> Proposed {
    let dispatch = state.dispatch.as_ref().map(|dispatch| dispatch.dispatch.clone()).unwrap_or_default();
    Proposed { workspace, dispatch, number, key: state.address_key.clone(), leader }
}

// Nobody else may call for this attempt, and this process will not.
fn not_begun(attempt: &Proposed) -> Proposal {
    let body = AttemptOutcome {
        dispatch: attempt.dispatch.clone(),
        number: attempt.number,
        outcome: Outcome::Transient.into(),
        reason: NOT_BEGUN.to_owned(),
        leader: attempt.leader,
        ..AttemptOutcome::default()
    };
    let (workspace, key, body) = (attempt.workspace, attempt.key.clone(), body.encode_to_vec().into());
    Proposal { workspace, kind: kind::OUTCOME, key, body, trace: Bytes::new() }
}

fn promise(channel: &Channel, provider: &dyn Provider) -> Promise {
    let Capabilities { key, lookup, longest_call } = provider.capabilities(channel);
    Promise { key_window: key.map_or(0, |key| key.window.millis()), lookup, longest_call: longest_call.millis(), way: way(channel) }
}

// Where a key or a dispatch id is known: another provider, or another place, knows nothing of it.
fn way(channel: &Channel) -> Bytes {
    let mut hasher = blake3::Hasher::new_derive_key("waypost way out v1");
    let url = channel.http.as_ref().map_or("", |http| http.url.as_str());
    for part in [channel.name.as_str(), &channel.provider, url] {
        hasher.update(&(part.len() as u64).to_be_bytes());
        hasher.update(part.as_bytes());
    }
    Bytes::copy_from_slice(&hasher.finalize().as_bytes()[..8])
}

fn hash(message: &OutgoingEmail) -> Bytes {
    // Envelope and bytes: what reaches whom.
    let mut hasher = blake3::Hasher::new();
    for part in [message.from.as_bytes(), message.to.as_bytes(), &message.raw] {
        hasher.update(&(part.len() as u64).to_be_bytes());
        hasher.update(part);
    }
    Bytes::copy_from_slice(&hasher.finalize().as_bytes()[..16])
}

impl fmt::Debug for Calls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Calls").field("providers", &self.providers.keys()).finish_non_exhaustive()
    }
}
