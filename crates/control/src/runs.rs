//! `RunService`: a person's runs, from what the orchestrator's owner holds; starts and cancels are records at the identifier.

use std::{cmp::Reverse, future::ready};

use bytes::Bytes;
use prost::Message as _;
use tonic::{Request, Response, Status};
use waypost_codec::{
    frame::Record,
    inbox::{self, run_command::What},
    kind, state,
};
use waypost_engine::{definitions::Journey, journey::MAX_KEY};
use waypost_proto::control::{self as pb, run_service_server::RunService};
use waypost_types::{RunId, SendId, WorkspaceId};

use crate::{
    access::{Caller, admit},
    audit::{Act, Line},
    lookup::Found,
    names,
    people::Whom,
    reading::ReadMask,
    server::Control,
    status::Refusal,
};

#[tonic::async_trait]
impl RunService for Control {
    async fn list_runs(&self, request: Request<pb::ListRunsRequest>) -> Result<Response<pb::ListRunsResponse>, Status> {
        let (_, request) = admit(request)?;
        let mask = ReadMask::of("RunDetail", request.read_mask)?;
        let (_, found) = self.find(&request.parent, &request.identifier).await?;
        let wanted = |run: &pb::RunDetail| {
            (request.journey.is_empty() || run.journey == request.journey) && (!request.live || run.state() == pb::RunState::Live)
        };
        let runs = mask.cut_all(runs(&found).into_iter().filter(wanted).collect())?;
        Ok(Response::new(pb::ListRunsResponse { profile: found.profile.to_string(), runs, journey_offset: found.journey_offset }))
    }

    async fn get_run(&self, request: Request<pb::GetRunRequest>) -> Result<Response<pb::RunDetail>, Status> {
        let (_, request) = admit(request)?;
        let id = id_of(&request.run)?.to_string();
        let mask = ReadMask::of("RunDetail", request.read_mask)?;
        let (_, found) = self.find(&request.parent, &request.identifier).await?;
        let run = runs(&found).into_iter().find(|run| run.id == id);
        let run = run.ok_or_else(|| Refusal::NotFound("nothing is known of such a run of this person".to_owned()))?;
        Ok(Response::new(mask.cut(run)?))
    }

    async fn start_run(&self, request: Request<pb::StartRunRequest>) -> Result<Response<pb::StartRunResponse>, Status> {
        let (caller, request) = admit(request)?;
        let whom = self.whom(&request.parent, &request.identifier)?;
        let version = self.startable(whom.workspace, &request.journey, &request.key)?;
        let start = inbox::StartRun { journey: request.journey.clone(), key: request.key };
        let line = Line::of(&caller, Act::StartRun, "").note(format!("journey {}", request.journey));
        let record = self.command(&whom, What::Start(start), &request.request_id)?;
        let acknowledged = self.tell(line, &whom, ready(Ok(())), (!request.validate_only).then_some(record)).await?;
        Ok(Response::new(pb::StartRunResponse { acknowledged, version }))
    }

    async fn cancel_run(&self, request: Request<pb::CancelRunRequest>) -> Result<Response<pb::CancelRunResponse>, Status> {
        let (caller, request) = admit(request)?;
        let asked = Cancel::read(&request)?;
        let whom = self.whom(&request.parent, &request.identifier)?;
        let what = What::Cancel(inbox::CancelRuns { run: asked.run(), journey: request.journey.clone() });
        let record = self.command(&whom, what, &request.request_id)?;
        let is_live = async {
            let (_, found) = self.find(&request.parent, &request.identifier).await?;
            let mut going = found.journey.iter().flat_map(|journey| &journey.runs).filter(|run| run.exit_reason.is_empty());
            let missing = || Refusal::NotFound("this person has no such live run".to_owned());
            going.find(|run| asked.fits(run)).map(drop).ok_or_else(missing)
        };
        let acknowledged = self.tell(asked.line(&caller), &whom, is_live, (!request.validate_only).then_some(record)).await?;
        Ok(Response::new(pb::CancelRunResponse { acknowledged }))
    }
}

/// Which runs are to end.
enum Cancel<'a> {
    Run(RunId),
    Journey(&'a str),
}

// === impl Control ===

impl Control {
    /// The version that would take an entry with this key.
    fn startable(&self, workspace: WorkspaceId, name: &str, key: &str) -> Result<u32, Refusal> {
        let set = self.in_force();
        let versions = set.as_ref().and_then(|set| set.workspaces.get(&workspace)?.journeys.get(name));
        let versions =
            versions.ok_or_else(|| Refusal::NotFound(format!("there is no journey `{name}` of which a version was published")))?;
        let journey: &Journey = versions
            .entered()
            .ok_or_else(|| Refusal::Precondition("NOT_IN_FORCE", format!("no version of `{name}` takes entries: publish one first")))?;
        let wrong = |why: &str| Err(Refusal::Invalid("KEY_INVALID", why.to_owned()));
        match journey.entry_keyed_as(key) {
            _ if key.len() > MAX_KEY => wrong("a key has 128 bytes at most"),
            Some(_) => Ok(journey.version),
            None if key.is_empty() => wrong("runs of this journey have a key: say which"),
            None => wrong("runs of this journey have no key"),
        }
    }

    /// Nobody is too old for records of this kind: a partition of such a process would halt at one.
    fn can_be_read(&self, kind: u32) -> Result<(), Refusal> {
        let wanted = kind::engine(kind);
        let Some((address, has)) = self.owners.engines().into_iter().find(|(_, has)| *has.end() < wanted) else { return Ok(()) };
        let why = format!(
            "the process at {address} has engines {} to {} and would halt at this: roll out a binary that has engine {wanted}, then ask again",
            has.start(),
            has.end()
        );
        Err(Refusal::Precondition("ENGINE_LACKING", why))
    }

    /// The command's record.
    fn command(&self, whom: &Whom<'_>, what: What, request_id: &str) -> Result<Record, Refusal> {
        self.can_be_read(kind::RUN_COMMAND)?;
        let body = inbox::RunCommand { node: Some(whom.place.node()), what: Some(what) }.encode_to_vec();
        let id = if request_id.is_empty() { self.drawn() } else { repeated(whom.workspace, request_id, &body)? };
        let record = Record::new(kind::RUN_COMMAND, whom.workspace, id, whom.place.key(), self.clock.now(), body.into());
        Ok(Record { eng_min: kind::engine(kind::RUN_COMMAND), ..record })
    }
}

// === impl Cancel ===

impl<'a> Cancel<'a> {
    fn read(request: &'a pb::CancelRunRequest) -> Result<Self, Refusal> {
        match (&*request.run, &*request.journey) {
            ("", "") => Err(Refusal::Invalid("INVALID_RUN", "name a run, or a journey for all of its live ones".to_owned())),
            ("", journey) => Ok(Self::Journey(journey)),
            (run, "") => Ok(Self::Run(id_of(run)?)),
            (_, _) => Err(Refusal::Invalid("INVALID_RUN", "name a run or a journey, not both".to_owned())),
        }
    }

    fn fits(&self, run: &state::Run) -> bool {
        match self {
            Self::Run(id) => run.id == id.as_bytes()[..],
            Self::Journey(journey) => run.journey == *journey,
        }
    }

    fn run(&self) -> Bytes {
        match self {
            Self::Run(id) => Bytes::copy_from_slice(id.as_bytes()),
            Self::Journey(_) => Bytes::new(),
        }
    }

    fn line(&self, caller: &Caller) -> Line {
        let which = match self {
            Self::Run(id) => id.to_string(),
            Self::Journey(journey) => format!("journey {journey}"),
        };
        Line::of(caller, Act::CancelRun, "").note(which)
    }
}

/// The record id of a request that may come again. What it asks is in it: another request under the same id is not taken for done.
fn repeated(workspace: WorkspaceId, request_id: &str, body: &[u8]) -> Result<[u8; 16], Refusal> {
    let request = names::request_id(request_id)?;
    let mut hasher = blake3::Hasher::new_derive_key("waypost request id v1");
    hasher.update(&workspace.number().to_be_bytes());
    hasher.update(request.as_bytes());
    hasher.update(body);
    let mut id = [0; 16];
    hasher.finalize_xof().fill(&mut id);
    Ok(id)
}

fn id_of(run: &str) -> Result<RunId, Refusal> {
    run.parse().map_err(|_| Refusal::Invalid("INVALID_RUN", "a run is `run_` and 32 digits, as `waypostctl run list` shows it".to_owned()))
}

/// Live ones, oldest first, then ended ones, newest first; each once.
fn runs(found: &Found) -> Vec<pb::RunDetail> {
    let Some(journey) = &found.journey else { return Vec::new() };
    let (mut live, mut ended): (Vec<_>, Vec<_>) =
        journey.runs.iter().map(|run| detail(run, &journey.trail)).partition(|run| run.state() == pb::RunState::Live);
    // Of a run whose goal is still looked for more is kept than of one that is only remembered.
    let known: Vec<_> = ended.iter().map(|run| run.id.clone()).collect();
    let past = journey.past.iter().map(|past| remembered(past, &journey.trail)).filter(|run| !known.contains(&run.id));
    ended.extend(past);
    ended.sort_by(|a, b| (Reverse(a.exited_at), &a.id).cmp(&(Reverse(b.exited_at), &b.id)));
    live.extend(ended);
    live
}

fn detail(run: &state::Run, trail: &[state::Trail]) -> pb::RunDetail {
    let is_live = run.exit_reason.is_empty();
    let mut waits: Vec<_> = run.timers.iter().map(|timer| pb::RunWait { what: timer.what.clone(), due: timer.due }).collect();
    waits.sort_by(|a, b| (a.due, &a.what).cmp(&(b.due, &b.what)));
    let messages = run.sends.iter().map(|send| pb::RunMessage {
        id: SendId::from_slice(&send.id).map(|id| id.to_string()).unwrap_or_default(),
        step: send.step.clone(),
        channel: send.channel.clone(),
        state: send.state().as_str_name().trim_start_matches("SEND_STATE_").to_lowercase(),
        reason: send.reason.clone(),
        decided_at: send.decided_at,
    });
    pb::RunDetail {
        id: id(&run.id),
        journey: run.journey.clone(),
        version: run.version,
        key: run.key.clone(),
        state: if is_live { pb::RunState::Live } else { pb::RunState::Ended }.into(),
        entered_at: run.entered_at,
        entry: run.entry_id.clone(),
        step: run.step.clone(),
        step_at: run.arrived_at,
        waits: if is_live { waits } else { Vec::new() },
        messages: messages.collect(),
        goal_met: run.goal_met,
        exited_at: run.exited_at,
        exit_reason: run.exit_reason.clone(),
        latest: latest(&run.id, trail),
    }
}

fn remembered(past: &state::PastRun, trail: &[state::Trail]) -> pb::RunDetail {
    pb::RunDetail {
        id: id(&past.id),
        journey: past.journey.clone(),
        key: past.key.clone(),
        state: pb::RunState::Ended.into(),
        entered_at: past.entered_at,
        exited_at: past.exited_at,
        exit_reason: past.reason.clone(),
        latest: latest(&past.id, trail),
        ..pb::RunDetail::default()
    }
}

fn latest(run: &[u8], trail: &[state::Trail]) -> String {
    let told = trail.iter().rev().find(|decision| !run.is_empty() && decision.run == *run);
    told.map_or_else(String::new, |decision| format!("{} {}", decision.what, decision.reason).trim_end().to_owned())
}

fn id(bytes: &[u8]) -> String {
    RunId::from_slice(bytes).map(|id| id.to_string()).unwrap_or_default()
}
