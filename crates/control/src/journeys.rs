//! `JourneyService`: publish, archive, pause, resume, kill, plan, stats.

use tonic::{Request, Response, Status};
use waypost_engine::{
    apply::{self, Plan, SetManifest},
    library::Library,
    manifest::{Kind, Problem, codes},
};
use waypost_proto::control::{self as pb, journey_service_server::JourneyService};
use waypost_types::WorkspaceId;

use crate::{
    access::{Caller, admit},
    audit::Act,
    definitions::{change, definition, known},
    names,
    server::{Control, workspace_in},
    status::Refusal,
};

/// What all requests that change a journey have.
#[derive(Clone, Copy)]
struct Asked<'a> {
    name: &'a str,
    etag: &'a str,
    validate_only: bool,
}

/// Of one of these requests, whose types are five.
macro_rules! asked {
    ($request:expr) => {
        Asked { name: &$request.name, etag: &$request.etag, validate_only: $request.validate_only }
    };
}

#[tonic::async_trait]
impl JourneyService for Control {
    async fn publish_journey(&self, request: Request<pb::PublishJourneyRequest>) -> Result<Response<pb::Definition>, Status> {
        let (caller, request) = admit(request)?;
        let now = self.clock.now();
        let answer = self
            .change_journey(&caller, Act::Publish, asked!(request), |set, library, workspace, journey| {
                apply::plan_publish(set, library, workspace, journey, now)
            })
            .await?;
        Ok(Response::new(answer))
    }

    async fn archive_journey(&self, request: Request<pb::ArchiveJourneyRequest>) -> Result<Response<pb::Definition>, Status> {
        let (caller, request) = admit(request)?;
        let now = self.clock.now();
        let answer = self
            .change_journey(&caller, Act::Archive, asked!(request), |set, _, workspace, journey| {
                apply::plan_archive(set, workspace, journey, now)
            })
            .await?;
        Ok(Response::new(answer))
    }

    async fn plan_journey(&self, request: Request<pb::PlanJourneyRequest>) -> Result<Response<pb::PlanJourneyResponse>, Status> {
        let (_, request) = admit(request)?;
        let (workspace, journey) = names::child(&request.name, "journeys")?;
        let set = self.changes.current().map_err(Refusal::from)?;
        let id = workspace_in(&set, workspace)?;
        known(&set, id, workspace, Kind::Journey.as_str(), journey, "")?;
        let seen = apply::outlook(&set, &**self.catalog.library(), id, journey, self.clock.now()).map_err(Refusal::from)?;
        Ok(Response::new(pb::PlanJourneyResponse {
            change: Some(change(&seen.journey, true)),
            active: seen.active.unwrap_or_default(),
            templates: seen.templates.iter().map(|item| change(item, true)).collect(),
            pinned: seen.pinned.iter().map(|(version, until)| pb::PinnedVersion { version: *version, until: until.millis() }).collect(),
            etag: set.etag(),
        }))
    }

    async fn pause_journey(&self, request: Request<pb::PauseJourneyRequest>) -> Result<Response<pb::Definition>, Status> {
        let (caller, request) = admit(request)?;
        let plan = |set: &SetManifest, _: &Library, workspace, journey: &str| apply::plan_pause(set, workspace, journey);
        let answer = self.change_journey(&caller, Act::Pause, asked!(request), plan).await?;
        Ok(Response::new(answer))
    }

    async fn resume_journey(&self, request: Request<pb::ResumeJourneyRequest>) -> Result<Response<pb::Definition>, Status> {
        let (caller, request) = admit(request)?;
        let plan = |set: &SetManifest, _: &Library, workspace, journey: &str| apply::plan_resume(set, workspace, journey);
        let answer = self.change_journey(&caller, Act::Resume, asked!(request), plan).await?;
        Ok(Response::new(answer))
    }

    async fn kill_journey(&self, request: Request<pb::KillJourneyRequest>) -> Result<Response<pb::Definition>, Status> {
        let (caller, request) = admit(request)?;
        let now = self.clock.now();
        let plan = |set: &SetManifest, _: &Library, workspace, journey: &str| apply::plan_kill(set, workspace, journey, now);
        let answer = self.change_journey(&caller, Act::Kill, asked!(request), plan).await?;
        Ok(Response::new(answer))
    }

    async fn get_journey_stats(&self, request: Request<pb::GetJourneyStatsRequest>) -> Result<Response<pb::JourneyStats>, Status> {
        let (_, request) = admit(request)?;
        Ok(Response::new(self.stats(&request).await?))
    }
}

/// What is wrong with a plan: with what was asked for, or with how things stand.
fn refused(problems: Vec<Problem>) -> Refusal {
    match problems.as_slice() {
        [Problem { code: code @ codes::STATE_CONFLICT, file, message, .. }] => Refusal::Precondition(code, format!("{file}: {message}")),
        _ => problems.into(),
    }
}

// === impl Control ===

impl Control {
    async fn change_journey(
        &self,
        caller: &Caller,
        act: Act,
        asked: Asked<'_>,
        plan: impl Fn(&SetManifest, &Library, WorkspaceId, &str) -> Result<Plan, Vec<Problem>> + Send + Sync,
    ) -> Result<pb::Definition, Refusal> {
        let (workspace, journey) = names::child(asked.name, "journeys")?;
        let checked = |set: &SetManifest, library: &Library| {
            let id = workspace_in(set, workspace)?;
            let known = set.definitions.iter().filter(|e| e.workspace == id.number() && e.kind == Kind::Journey && e.name == journey);
            let etags: Vec<_> = known.map(|e| e.etag.clone()).collect();
            if etags.is_empty() {
                return Err(Refusal::NotFound(format!("there is no journey `{journey}` in workspace `{workspace}`")));
            }
            if !asked.etag.is_empty() && !etags.iter().any(|e| e == asked.etag) {
                return Err(Refusal::Etag);
            }
            plan(set, library, id, journey).map_err(refused)
        };
        let done = self.changed(caller, act, asked.name, asked.validate_only, checked).await?;
        let item = done.items.first().ok_or(Refusal::Internal)?;
        let id = workspace_in(&done.next, workspace)?;
        let entry = done.next.named(id, Kind::Journey, journey).find(|e| e.version == item.version).ok_or(Refusal::Internal)?;
        Ok(definition(self.catalog.library(), &done.next, workspace, entry))
    }
}
