//! `RunService`: a person's runs, from what the orchestrator's owner holds; starts and cancels are records at the identifier.

use std::cmp::Reverse;

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
use waypost_types::{RunId, SendId, Timestamp, WorkspaceId};

use crate::{
    access::{Caller, admit},
    audit::{Act, Line},
    lookup::Found,
    names,
    people::Place,
    server::Control,
    status::Refusal,
};

#[tonic::async_trait]
impl RunService for Control {
    async fn list_runs(&self, request: Request<pb::ListRunsRequest>) -> Result<Response<pb::ListRunsResponse>, Status> {
        let (_, request) = admit(request)?;
        let (_, found) = self.find(&request.parent, &request.identifier).await?;
        let wanted = |run: &pb::RunDetail| {
            (request.journey.is_empty() || run.journey == request.journey) && (!request.live || run.state() == pb::RunState::Live)
        };
        let runs = runs(&found).into_iter().filter(wanted).collect();
        Ok(Response::new(pb::ListRunsResponse { profile: found.profile.to_string(), runs, journey_offset: found.journey_offset }))
    }

    async fn get_run(&self, request: Request<pb::GetRunRequest>) -> Result<Response<pb::RunDetail>, Status> {
        let (_, request) = admit(request)?;
        let id = id_of(&request.run)?.to_string();
        let (_, found) = self.find(&request.parent, &request.identifier).await?;
        let run = runs(&found).into_iter().find(|run| run.id == id);
        Ok(Response::new(run.ok_or_else(|| Refusal::NotFound("nothing is known of such a run of this person".to_owned()))?))
    }

    async fn start_run(&self, request: Request<pb::StartRunRequest>) -> Result<Response<pb::StartRunResponse>, Status> {
        let (caller, request) = admit(request)?;
        let (workspace, place) = self.someone(&request.parent, &request.identifier).await?;
        let version = self.startable(workspace, &request.journey, &request.key)?;
        let start = inbox::StartRun { journey: request.journey.clone(), key: request.key };
        let line = Line::of(&caller, Act::StartRun, "").note(format!("journey {}", request.journey));
        let asked = Asked { parent: &request.parent, workspace, place, validate_only: request.validate_only };
        let acknowledged = self.command(line, &asked, What::Start(start)).await?;
        Ok(Response::new(pb::StartRunResponse { acknowledged, version }))
    }

    async fn cancel_run(&self, request: Request<pb::CancelRunRequest>) -> Result<Response<pb::CancelRunResponse>, Status> {
        let (caller, request) = admit(request)?;
        let asked = Cancel::read(&request)?;
        let (workspace, place) = self.someone(&request.parent, &request.identifier).await?;
        let (_, found) = self.find(&request.parent, &request.identifier).await?;
        let mut going = found.journey.iter().flat_map(|journey| &journey.runs).filter(|run| run.exit_reason.is_empty());
        if !going.any(|run| asked.fits(run)) {
            return Err(Refusal::NotFound("this person has no such live run".to_owned()).into());
        }
        let line = asked.line(&caller);
        let what = What::Cancel(inbox::CancelRuns { run: asked.run(), journey: request.journey.clone() });
        let asked = Asked { parent: &request.parent, workspace, place, validate_only: request.validate_only };
        Ok(Response::new(pb::CancelRunResponse { acknowledged: self.command(line, &asked, what).await? }))
    }
}

/// Whose runs a command is about, and whether it is only checked.
struct Asked<'a> {
    parent: &'a str,
    workspace: WorkspaceId,
    place: Place,
    validate_only: bool,
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
        match (key.is_empty(), journey.entries.iter().any(|entry| entry.key.is_some() != key.is_empty())) {
            _ if key.len() > MAX_KEY => wrong("a key has 128 bytes at most"),
            (true, false) => wrong("runs of this journey have a key: say which"),
            (false, false) => wrong("runs of this journey have no key"),
            (_, true) => Ok(journey.version),
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

    async fn command(&self, line: Line, asked: &Asked<'_>, what: What) -> Result<Option<pb::Acknowledged>, Refusal> {
        self.can_be_read(kind::RUN_COMMAND)?;
        if asked.validate_only {
            return Ok(None);
        }
        let Asked { workspace, place, .. } = *asked;
        let record = |id, at| record(workspace, place, what, id, at);
        Ok(Some(self.tell(line.in_workspace(names::workspace(asked.parent)?), place, record).await?))
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

/// The command's record. The node has no generation: whoever the identifier is when it is folded.
fn record(workspace: WorkspaceId, place: Place, what: What, id: [u8; 16], at: Timestamp) -> Record {
    let hash = Bytes::copy_from_slice(place.hash.as_bytes());
    let node = inbox::NodeRef { class: place.class.number(), hash: hash.clone(), ..inbox::NodeRef::default() };
    let body = inbox::RunCommand { node: Some(node), what: Some(what) }.encode_to_vec();
    let record = Record::new(kind::RUN_COMMAND, workspace, id, hash, at, body.into());
    Record { eng_min: kind::engine(kind::RUN_COMMAND), ..record }
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
