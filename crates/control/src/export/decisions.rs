//! What the orchestrator holds: runs, messages, what is remembered of events, and the trail of decisions.

use prost::Message as _;
use serde_json::{Value as Json, json};
use waypost_codec::{inbox, state};
use waypost_types::{Currency, RunId, SendId};

use super::{event, id, instant, object, word};

/// The orchestrator's state of a profile.
pub(super) fn decided(journey: Option<&state::JourneyProfile>, currency: Currency) -> Json {
    let Some(journey) = journey else { return Json::Null };
    // What the orchestrator knows of the person is the segmenter's, as it was when its last item came through.
    let state::JourneyProfile {
        moved_to: _,
        erased: _,
        person: _,
        runs,
        past,
        sends,
        facts,
        trail,
        ids: _,
        losers,
        now,
        events,
        draining,
        draining_since,
        erased_at: _,
        bounced,
    } = journey;
    json!({
        "updatedAt": instant(*now), "events": events, "joined": losers.iter().map(|profile| id(profile)).collect::<Vec<_>>(),
        "joiningSince": instant(*draining_since), "joining": draining.iter().map(|node| id(node)).collect::<Vec<_>>(),
        "runs": runs.iter().map(|r| run(r, currency)).collect::<Vec<_>>(),
        "endedRuns": past.iter().map(ended).collect::<Vec<_>>(),
        "messages": sends.iter().map(sent).collect::<Vec<_>>(),
        "remembered": facts.iter().map(|f| fact(f, currency)).collect::<Vec<_>>(),
        "refusedAddresses": bounced.iter().map(refused).collect::<Vec<_>>(),
        "trail": trail.iter().map(decision).collect::<Vec<_>>(),
    })
}

fn run(run: &state::Run, currency: Currency) -> Json {
    let state::Run {
        id,
        journey,
        version,
        key,
        entry_id,
        entry,
        entered_at,
        entry_time,
        step,
        visits,
        arrived_at,
        previous_at,
        timers,
        satisfied,
        goal_met,
        sends,
        exit_reason,
        exited_at,
        since,
    } = run;
    let visits: Vec<_> = visits.iter().map(|state::Visit { step, count }| json!({"step": step, "count": count})).collect();
    let timer = |timer: &state::RunTimer| {
        let state::RunTimer { due, kind: _, what } = timer;
        json!({"due": instant(*due), "kind": word(timer.kind().as_str_name(), "TIMER_KIND_"), "what": what})
    };
    // What a run keeps of its entry was written by the fold; bytes that are no event would show as null.
    let entered_on = inbox::Event::decode(entry.clone()).map_or(Json::Null, |entry| event(&entry, currency));
    json!({
        "id": run_id(id), "journey": journey, "version": version, "key": key, "entry": entry_id, "enteredOn": entered_on,
        "enteredAt": instant(*entered_at), "entryTime": instant(*entry_time), "step": step, "visits": visits,
        "arrivedAt": instant(*arrived_at), "previousAt": instant(*previous_at), "timers": timers.iter().map(timer).collect::<Vec<_>>(),
        "satisfied": satisfied, "goalMet": goal_met, "messages": sends.iter().map(send_of_run).collect::<Vec<_>>(),
        "exitReason": exit_reason, "exitedAt": instant(*exited_at), "since": instant(*since),
    })
}

fn send_of_run(send: &state::RunSend) -> Json {
    let state::RunSend { id: send_id, step, visit, state: _, reason, decided_at, dispatch, channel, address_key } = send;
    json!({
        "id": send_text(send_id), "step": step, "visit": visit, "state": word(send.state().as_str_name(), "SEND_STATE_"),
        "reason": reason, "decidedAt": instant(*decided_at), "dispatch": id(dispatch), "channel": channel, "addressKey": id(address_key),
    })
}

fn ended(past: &state::PastRun) -> Json {
    let state::PastRun { journey, key, entered_at, exited_at, reason, id, entry_time } = past;
    json!({
        "id": run_id(id), "journey": journey, "key": key, "enteredAt": instant(*entered_at), "entryTime": instant(*entry_time),
        "exitedAt": instant(*exited_at), "exitReason": reason,
    })
}

fn sent(send: &state::SendLogEntry) -> Json {
    let state::SendLogEntry { id, journey, step, channel, at, state: _, class, run } = send;
    json!({
        "id": send_text(id), "journey": journey, "step": step, "channel": channel, "at": instant(*at),
        "state": word(send.state().as_str_name(), "SEND_STATE_"), "class": class, "run": run_id(run),
    })
}

fn fact(fact: &state::Fact, currency: Currency) -> Json {
    let state::Fact { name, at, event_time, message_id, properties, historical } = fact;
    json!({
        "name": name, "at": instant(*at), "eventTime": instant(*event_time), "messageId": message_id,
        "properties": object(properties.as_ref(), currency), "historical": historical,
    })
}

fn refused(bounced: &state::Bounced) -> Json {
    let state::Bounced { address_key, at } = bounced;
    json!({"addressKey": id(address_key), "at": instant(*at)})
}

fn decision(trail: &state::Trail) -> Json {
    let state::Trail { at, journey, version, run, key, what, step, reason, checks, offset, index, cause, send, note } = trail;
    let check = |check: &state::Check| {
        let state::Check { what, truth: _, operands, valid_until } = check;
        let truth = word(check.truth().as_str_name(), "TRUTH_");
        json!({"what": what, "truth": truth, "operands": operands, "validUntil": instant(*valid_until)})
    };
    json!({
        "at": instant(*at), "journey": journey, "version": version, "run": run_id(run), "key": key, "what": what, "step": step,
        "reason": reason, "checks": checks.iter().map(check).collect::<Vec<_>>(), "offset": offset, "index": index, "cause": cause,
        "message": send_text(send), "note": note,
    })
}

fn run_id(bytes: &[u8]) -> Json {
    RunId::from_slice(bytes).map_or_else(|_| id(bytes), |run| json!(run.to_string()))
}

fn send_text(bytes: &[u8]) -> Json {
    SendId::from_slice(bytes).map_or_else(|_| id(bytes), |send| json!(send.to_string()))
}
