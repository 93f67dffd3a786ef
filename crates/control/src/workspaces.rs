//! `WorkspaceService`: which workspaces there are, what each has and may have.

use tonic::{Request, Response, Status};
use waypost_engine::{
    apply::{self, Plan, Quota, SetManifest, Usage, WorkspaceEntry, WorkspaceRefused},
    library::Library,
};
use waypost_proto::control::{self as pb, workspace_service_server::WorkspaceService};
use waypost_types::{ContentHash, WorkspaceId};

use crate::{
    access::{Caller, admit},
    audit::{Act, Line},
    journal::{Entry, Journal},
    names,
    server::{Control, workspace_in},
    status::Refusal,
};

/// Workspaces of an answer unless asked for fewer.
const PAGE: usize = 100;
/// Workspaces of an answer at most.
const PAGE_MAX: usize = 1_000;
/// Everything that can be set.
const FIELDS: [&str; 4] = ["quota.live_journeys", "quota.segments", "quota.definitions", "quota.events_per_second"];

#[tonic::async_trait]
impl WorkspaceService for Control {
    async fn list_workspaces(&self, request: Request<pb::ListWorkspacesRequest>) -> Result<Response<pb::ListWorkspacesResponse>, Status> {
        let (caller, request) = admit(request)?;
        let size = match usize::try_from(request.page_size) {
            Ok(0) => PAGE,
            Ok(size) => size.min(PAGE_MAX),
            Err(_) => return Err(Refusal::Invalid("INVALID_PAGE_SIZE", "page_size may not be negative".to_owned()).into()),
        };
        let set = self.changes.current().map_err(Refusal::from)?;
        let journal = self.catalog.journal().borrow().clone();
        let mut seen: Vec<&WorkspaceEntry> = set.workspaces.iter().filter(|workspace| caller.covers(&workspace.name)).collect();
        seen.sort_by(|a, b| a.name.cmp(&b.name));
        // A page begins behind the name that the one before ended with.
        seen.retain(|workspace| workspace.name > request.page_token);
        let more = seen.len() > size;
        seen.truncate(size);
        let next_page_token = seen.last().filter(|_| more).map_or_else(String::new, |last| last.name.clone());
        let workspaces = seen.into_iter().map(|entry| shown(&set, &journal, WorkspaceId::new(entry.id))).collect();
        Ok(Response::new(pb::ListWorkspacesResponse { workspaces, next_page_token }))
    }

    async fn get_workspace(&self, request: Request<pb::GetWorkspaceRequest>) -> Result<Response<pb::Workspace>, Status> {
        let (_, pb::GetWorkspaceRequest { name }) = admit(request)?;
        let set = self.changes.current().map_err(Refusal::from)?;
        let id = workspace_in(&set, names::workspace(&name)?)?;
        let journal = self.catalog.journal().borrow().clone();
        Ok(Response::new(shown(&set, &journal, id)))
    }

    async fn create_workspace(&self, request: Request<pb::CreateWorkspaceRequest>) -> Result<Response<pb::Workspace>, Status> {
        let (caller, request) = admit(request)?;
        everywhere(&caller, "a workspace is made")?;
        if request.workspace.is_some_and(|workspace| workspace.quota.is_some()) {
            let why = "workspace.quota: a workspace is made without one; set it with UpdateWorkspace";
            return Err(Refusal::Invalid("INVALID_QUOTA", why.to_owned()).into());
        }
        let name = request.workspace_id;
        let plan = |current: &SetManifest, _: &Library| -> Result<Plan, Refusal> { Ok(apply::plan_workspace(current, &name)?.1) };
        let subject = format!("workspaces/{name}");
        let done = self.changed(&caller, Act::CreateWorkspace, &subject, request.validate_only, plan).await?;
        let id = workspace_in(&done.next, &name)?;
        let journal = self.catalog.journal().borrow().clone();
        Ok(Response::new(shown(&done.next, &journal, id)))
    }

    async fn update_workspace(&self, request: Request<pb::UpdateWorkspaceRequest>) -> Result<Response<pb::Workspace>, Status> {
        let (caller, request) = admit(request)?;
        everywhere(&caller, "a quota is set")?;
        let asked = request.workspace.unwrap_or_default();
        let mask = request.update_mask.map(|mask| mask.paths).unwrap_or_default();
        let set = self.changes.current().map_err(Refusal::from)?;
        let id = workspace_in(&set, names::workspace(&asked.name)?)?;
        let mut journal = self.catalog.journal().borrow().clone();
        let before = quota_of(&journal, id);
        if !asked.etag.is_empty() && asked.etag != etag(&before) {
            return Err(Refusal::Etag.into());
        }
        let after = updated(&before, &asked.quota.unwrap_or_default(), &mask)?;
        if let Some((field, expected)) = after.wrong() {
            return Err(Refusal::Invalid("INVALID_QUOTA", format!("quota.{field}: {expected}")).into());
        }
        if !request.validate_only && after != before {
            let line = Line::of(&caller, Act::UpdateWorkspace, &asked.name).changes(etag(&before), etag(&after)).note(text(&after));
            // Follows the quota that was looked at: where another came first, this one is void.
            let entry = Entry::Quota { workspace: id.number(), after: journal.last_quota, quota: after.clone() };
            self.audit.acted(line, async { Ok(self.changes.enter(entry).await?) }).await?;
        }
        journal.quotas.insert(id, after);
        Ok(Response::new(shown(&set, &journal, id)))
    }
}

/// What there is and what each may have is the installation's to say.
fn everywhere(caller: &Caller, what: &str) -> Result<(), Refusal> {
    if caller.is_everywhere() {
        return Ok(());
    }
    Err(Refusal::Denied(format!("{what} by an admin of the whole installation (workspaces = [\"*\"]), not by one of a workspace")))
}

fn quota_of(journal: &Journal, id: WorkspaceId) -> Quota {
    journal.quotas.get(&id).cloned().unwrap_or_default()
}

impl From<WorkspaceRefused> for Refusal {
    fn from(refused: WorkspaceRefused) -> Self {
        let why = refused.to_string();
        match refused {
            WorkspaceRefused::Name(_) => Self::Invalid("INVALID_NAME", why),
            WorkspaceRefused::Taken(_) => Self::Exists(why),
            WorkspaceRefused::Full => Self::Precondition("TOO_MANY_WORKSPACES", why),
        }
    }
}

/// A quota as it is stored.
fn text(quota: &Quota) -> String {
    serde_json::to_string(quota).unwrap_or_default()
}

fn etag(quota: &Quota) -> String {
    hex::encode(ContentHash::of(text(quota).as_bytes()).as_bytes())
}

fn shown(set: &SetManifest, journal: &Journal, id: WorkspaceId) -> pb::Workspace {
    let Quota { live_journeys, segments, definitions, events_per_second } = quota_of(journal, id);
    let usage = Usage::of(set, id);
    pb::Workspace {
        name: format!("workspaces/{}", set.workspace_name(id)),
        number: id.number(),
        quota: Some(pb::Quota { live_journeys, segments, definitions, events_per_second }),
        usage: Some(pb::Usage { live_journeys: usage.live_journeys, segments: usage.segments, definitions: usage.definitions }),
        etag: etag(&quota_of(journal, id)),
    }
}

/// The quota with what a mask names taken from what is asked for.
fn updated(before: &Quota, asked: &pb::Quota, mask: &[String]) -> Result<Quota, Refusal> {
    let known = |path: &str| path == "*" || path == "quota" || FIELDS.contains(&path);
    if let Some(path) = mask.iter().find(|path| !known(path)) {
        let why = format!("update_mask: `{path}` cannot be set; what can: quota, {}", FIELDS.join(", "));
        return Err(Refusal::Invalid("INVALID_MASK", why));
    }
    let pick = |field: &str, before: Option<u32>, asked: Option<u32>| {
        let named = mask.iter().any(|path| path == "*" || path == "quota" || path == field);
        if named || (mask.is_empty() && asked.is_some()) { asked } else { before }
    };
    let [live_journeys, segments, definitions, events_per_second] = FIELDS;
    Ok(Quota {
        live_journeys: pick(live_journeys, before.live_journeys, asked.live_journeys),
        segments: pick(segments, before.segments, asked.segments),
        definitions: pick(definitions, before.definitions, asked.definitions),
        events_per_second: pick(events_per_second, before.events_per_second, asked.events_per_second),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_says_what_changes() {
        let before = Quota { live_journeys: Some(5), segments: Some(7), ..Quota::default() };
        let asked = pb::Quota { segments: Some(9), events_per_second: Some(100), ..pb::Quota::default() };
        let of = |mask: &[&str]| updated(&before, &asked, &mask.iter().map(|path| (*path).to_owned()).collect::<Vec<_>>()).unwrap();
        let both = Quota { segments: Some(9), events_per_second: Some(100), ..before.clone() };
        assert_eq!(of(&[]), both, "what is there");
        assert_eq!(of(&["quota.segments"]), Quota { segments: Some(9), ..before.clone() });
        assert_eq!(of(&["quota.live_journeys"]), Quota { live_journeys: None, ..before.clone() }, "named and absent: bounded no longer");
        for all in ["*", "quota"] {
            assert_eq!(of(&[all]), Quota { live_journeys: None, ..both.clone() });
        }
        for wrong in ["name", "usage", "quota.traits", ""] {
            assert!(matches!(updated(&before, &asked, &[wrong.to_owned()]), Err(Refusal::Invalid("INVALID_MASK", _))), "{wrong}");
        }
    }
}
