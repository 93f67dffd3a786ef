//! What the sender holds: of the person's addresses why and since when they are not written to and what went there for this person,
//! and messages, as long as the sender knows them.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde_json::{Value as Json, json};
use waypost_codec::{inbox, state};
use waypost_engine::{address, journey};
use waypost_runtime::ports::Owners;
use waypost_types::{Currency, Layout, SendId, WorkspaceId};

use super::{Identified, id, instant, stored, word};
use crate::lookup::{self, Found, LookupError};

/// Routing key at the sender.
type Key = [u8; 16];

/// What the sender keeps.
#[derive(Debug, Default)]
pub(crate) struct Sending {
    addresses: BTreeMap<Key, state::AddressState>,
    dispatches: BTreeMap<Bytes, state::DispatchState>,
}

/// Asks the sender for every address that the stored states name, and for the messages that went or are to go there.
///
/// # Errors
/// [`LookupError`].
pub(crate) async fn sending(
    owners: &dyn Owners,
    layout: Layout,
    workspace: WorkspaceId,
    found: &Found,
    identified: &Identified,
) -> Result<Sending, LookupError> {
    let mut sending = Sending::default();
    let mut wanted: BTreeSet<(Key, Bytes)> =
        runs(found).filter_map(|send| Some((key(&send.address_key)?, send.dispatch.clone()))).collect();
    for key in keys(found) {
        wanted.extend(queued(found).map(|send| (key, Bytes::copy_from_slice(journey::dispatch_id(&send, 0, &key).as_bytes()))));
        let Some(mut address) = lookup::at_sender::<state::AddressState>(owners, layout, workspace, b'a', &key, &key).await? else {
            continue;
        };
        // Of whoever else has this address there is nothing to tell.
        address.last_sends.retain(|send| identified.is_called(&send.profile));
        address.erasures.retain(|erased| identified.is_called(&erased.profile));
        wanted.extend(address.last_sends.iter().map(|send| (key, send.dispatch.clone())));
        sending.addresses.insert(key, address);
    }
    for (key, id) in wanted {
        let read = lookup::at_sender::<state::DispatchState>(owners, layout, workspace, b'd', &id, &key).await?;
        if let Some(dispatch) = read {
            sending.dispatches.insert(id, dispatch);
        }
    }
    Ok(sending)
}

// === impl Sending ===

impl Sending {
    /// Its part of the document.
    pub(super) fn document(&self, currency: Currency) -> Json {
        let addresses: Vec<_> = self.addresses.iter().map(|(key, state)| at_address(key, state)).collect();
        let messages: Vec<_> = self.dispatches.iter().map(|(id, state)| message(id, state, currency)).collect();
        json!({"addresses": addresses, "messages": messages})
    }
}

/// Where somebody may have been written to: her addresses, those of messages of her runs, and those that a provider refused.
fn keys(found: &Found) -> BTreeSet<Key> {
    let people = found.segment.iter().filter_map(|s| s.person.as_ref()).chain(found.journey.iter().filter_map(|j| j.person.as_ref()));
    let own = people.flat_map(|person| &person.addresses).map(|a| address::key(&a.channel, &a.value));
    let refused = found.journey.iter().flat_map(|j| &j.bounced).filter_map(|bounced| key(&bounced.address_key));
    own.chain(refused).chain(runs(found).filter_map(|send| key(&send.address_key))).collect()
}

fn runs(found: &Found) -> impl Iterator<Item = &state::RunSend> {
    let sends = found.journey.iter().flat_map(|journey| &journey.runs).flat_map(|run| &run.sends);
    sends.filter(|send| !send.dispatch.is_empty())
}

/// Messages of which nobody has heard yet what became of them, also of runs that are forgotten.
fn queued(found: &Found) -> impl Iterator<Item = SendId> {
    let is_open = |send: &&state::SendLogEntry| matches!(send.state(), state::SendState::Decided | state::SendState::Recalling);
    let sends = found.journey.iter().flat_map(|journey| &journey.sends).filter(is_open);
    sends.filter_map(|send| SendId::from_slice(&send.id).ok())
}

fn key(bytes: &[u8]) -> Option<Key> {
    Key::try_from(bytes).ok()
}

fn at_address(key: &Key, state: &state::AddressState) -> Json {
    let state::AddressState { suppressions, last_sends, now, erasures } = state;
    let suppression = |suppression: &state::Suppression| {
        let state::Suppression { reason, topic, at, until } = suppression;
        json!({"reason": reason, "topic": topic, "at": instant(*at), "until": instant(*until)})
    };
    let last = |send: &state::LastSend| {
        let state::LastSend { journey, step, run_key, profile, at, dispatch } = send;
        json!({
            "journey": journey, "step": step, "key": run_key, "profile": id(profile), "at": instant(*at), "dispatch": id(dispatch),
        })
    };
    let erased = |erasure: &state::Erasure| {
        let state::Erasure { profile, at } = erasure;
        json!({"profile": id(profile), "at": instant(*at)})
    };
    json!({
        "addressKey": id(key), "updatedAt": instant(*now), "suppressions": suppressions.iter().map(suppression).collect::<Vec<_>>(),
        "lastMessages": last_sends.iter().map(last).collect::<Vec<_>>(), "erasures": erasures.iter().map(erased).collect::<Vec<_>>(),
    })
}

fn message(dispatch_id: &[u8], state: &state::DispatchState, currency: Currency) -> Json {
    // How attempts are counted and what the provider promised of them is how the sender works and nothing of the person.
    let state::DispatchState {
        dispatch,
        phase: _,
        attempt,
        leader: _,
        due,
        reason,
        provider_id,
        created_at,
        now,
        raced: _,
        address_key,
        first_attempt_at,
        unanswered: _,
        attempted_at,
        promise: _,
        doubted_at: _,
        doubted: _,
        asked: _,
        heard,
    } = state;
    let told = ["", "delivered", "opened", "complained", "bounced"].get(*heard as usize);
    json!({
        "dispatch": id(dispatch_id), "content": dispatch.as_ref().map_or(Json::Null, |body| content(body, currency)),
        "phase": word(state.phase().as_str_name(), "DISPATCH_PHASE_"), "attempts": attempt, "due": instant(*due), "reason": reason,
        "providerId": provider_id, "createdAt": instant(*created_at), "updatedAt": instant(*now), "addressKey": id(address_key),
        "firstAttemptAt": instant(*first_attempt_at), "attemptedAt": instant(*attempted_at),
        "heard": told,
    })
}

/// What is to be sent, and where; the sender drops it when the message is through.
fn content(dispatch: &inbox::Dispatch, currency: Currency) -> Json {
    let inbox::Dispatch {
        dispatch: _,
        send,
        run,
        profile,
        journey,
        journey_version,
        step,
        run_key,
        channel,
        provider,
        address,
        template,
        template_hash: _,
        variables,
        decided_at,
        valid_until,
        class,
        topic,
        channel_hash: _,
    } = dispatch;
    json!({
        "message": id(send), "run": id(run), "profile": id(profile), "journey": journey, "version": journey_version, "step": step,
        "key": run_key, "channel": channel, "provider": provider, "address": address, "template": template,
        "variables": stored(variables.as_ref(), currency), "decidedAt": instant(*decided_at), "validUntil": instant(*valid_until),
        "class": class, "topic": topic,
    })
}
