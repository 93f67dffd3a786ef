//! What a leading owner does outside the fold: it renders and proposes attempts, and calls providers.
//! What comes of it goes into the log before anybody counts on it.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use futures::FutureExt as _;
use prost::Message as _;
use waypost_codec::{
    inbox::{Attempt, AttemptOutcome, Dispatch, Outcome},
    kind,
    state::DispatchState,
    unsubscribe::{self, TokenKey, Unsubscribe},
    value,
};
use waypost_engine::{
    definitions::{Channel, DefinitionSet},
    library::Library,
    template,
};
use waypost_runtime::{
    ports::Clock,
    processor::{Job, Proposal},
};
use waypost_types::{ContentHash, PartitionId, ProfileId, WorkspaceId};

use crate::{
    job,
    message::{self, Around},
    permits::Permits,
    provider::{OutgoingEmail, Provider, ProviderOutcome},
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
    /// Seals the references in them.
    pub key: TokenKey,
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
    // Channels of which it was said that they have no provider here.
    missed: Mutex<BTreeSet<(WorkspaceId, String)>>,
}

// Messages kept between their proposal and their call, so that most are rendered once.
const KEPT: usize = 256;

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
        Self { shelf, providers, links, clock, rendered: Mutex::default(), permits: Permits::default(), missed: Mutex::default() }
    }

    /// Does one job; what comes back is appended to `partition`, whoever owns it by then. Never fails:
    /// a call that was begun always comes to an outcome.
    pub async fn run(&self, partition: PartitionId, job: Job) -> Vec<Proposal> {
        let Ok(body) = job::Body::decode(job.body.clone()) else {
            tracing::error!(%partition, kind = job.kind, "a job that is none");
            return Vec::new();
        };
        if job.kind == job::RELEASE {
            self.permits.free(partition, &body.dispatch);
            return Vec::new();
        }
        let workspace = WorkspaceId::new(body.workspace);
        let Some(state) = body.state else { return Vec::new() };
        let Some(dispatch) = &state.dispatch else { return Vec::new() };
        let proposal = match job.kind {
            job::RENDER => {
                // With no permit free nothing is proposed; the dispatch asks again.
                if !self.permits.take(partition, &dispatch.dispatch, self.clock.now()) {
                    return Vec::new();
                }
                let attempt = self.attempt(workspace, &body.defv, &state, dispatch, job.leader);
                if attempt.as_ref().is_none_or(|attempt| !attempt.refused.is_empty()) {
                    self.permits.free(partition, &dispatch.dispatch);
                }
                let Some(attempt) = attempt else { return Vec::new() };
                (kind::ATTEMPT, attempt.encode_to_vec())
            }
            job::CALL => {
                let _calling = self.permits.call(partition, &dispatch.dispatch);
                let outcome = self.call(workspace, &body.defv, &state, dispatch, &body.render_hash).await;
                tracing::debug!(%partition, attempt = state.attempt, outcome = outcome.outcome().as_str_name(), reason = outcome.reason, "provider called");
                (kind::OUTCOME, outcome.encode_to_vec())
            }
            other => {
                tracing::error!(%partition, kind = other, "a job of no known kind");
                return Vec::new();
            }
        };
        vec![Proposal { workspace, kind: proposal.0, key: state.address_key.clone(), body: proposal.1.into() }]
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
                Some(Attempt { render_hash, ..attempt })
            }
            Rendered::Refused(code) => Some(Attempt { refused: code.to_owned(), ..attempt }),
            // Nothing is proposed; the dispatch asks again.
            Rendered::NotYet => None,
        }
    }

    async fn call(&self, workspace: WorkspaceId, defv: &str, state: &DispatchState, dispatch: &Dispatch, wanted: &Bytes) -> AttemptOutcome {
        let outcome = match self.kept(wanted).map_or_else(|| self.render(workspace, defv, dispatch), |m| Rendered::Message(Box::new(m))) {
            Rendered::Message(message) if hash(&message) == *wanted => self.send(workspace, defv, dispatch, &message).await,
            // Definitions or links changed since: another attempt says what it will send now.
            Rendered::Message(_) | Rendered::NotYet => ProviderOutcome::other(Outcome::Transient, "RENDER_CHANGED"),
            Rendered::Refused(code) => ProviderOutcome::other(Outcome::Transient, code),
        };
        let retry_at = outcome.retry_after.map_or(0, |after| self.clock.now().plus(after).millis());
        AttemptOutcome {
            dispatch: dispatch.dispatch.clone(),
            number: state.attempt,
            outcome: outcome.class.into(),
            retry_at,
            provider_id: outcome.provider_id,
            reason: outcome.reason,
        }
    }

    async fn send(&self, workspace: WorkspaceId, defv: &str, dispatch: &Dispatch, message: &OutgoingEmail) -> ProviderOutcome {
        let set = self.shelf.set(defv);
        let channel = set.as_ref().and_then(|set| set.workspaces.get(&workspace)).and_then(|here| here.channels.get(&dispatch.provider));
        let found = channel.and_then(|channel| Some((channel, self.provider(channel).ok()?)));
        let Some((channel, provider)) = found else { return ProviderOutcome::other(Outcome::Transient, "no provider") };
        // Whoever panics in a call has maybe made it.
        AssertUnwindSafe(provider.send(channel, message))
            .catch_unwind()
            .await
            .unwrap_or_else(|_| ProviderOutcome::other(Outcome::Unknown, "panic in the provider"))
    }

    fn provider(&self, channel: &Channel) -> Result<&Arc<dyn Provider>, String> {
        let named = self.providers.get(&channel.name).or_else(|| self.providers.get(&channel.provider));
        let provider = named.ok_or("this process has no such provider")?;
        provider.serves(channel).map(|()| provider)
    }

    fn render(&self, workspace: WorkspaceId, defv: &str, dispatch: &Dispatch) -> Rendered {
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
        let token = unsubscribe::seal(self.links.key.as_bytes(), &token);
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
