//! `DefinitionService`: apply, get, list, diff.

use tonic::{Request, Response, Status};
use waypost_engine::{
    apply::{self, Change, DefinitionEntry, Plan, PlanItem, SetManifest, State},
    library::Library,
    manifest::{self, Kind, Manifest, Problem},
};
use waypost_proto::control::{self as pb, definition_service_server::DefinitionService};

use waypost_types::WorkspaceId;

use crate::{
    access::{Caller, admit},
    audit::{Act, Line},
    names,
    reading::ReadMask,
    server::{Control, workspace_in},
    status::Refusal,
};

/// Definitions on a page unless asked for fewer, and at most.
const PAGE_MAX: usize = 500;

#[tonic::async_trait]
impl DefinitionService for Control {
    async fn apply_definitions(
        &self,
        request: Request<pb::ApplyDefinitionsRequest>,
    ) -> Result<Response<pb::ApplyDefinitionsResponse>, Status> {
        let (caller, request) = admit(request)?;
        let manifests = parse(&request.manifests, &request.attachments)?;
        let now = self.clock.now();
        let plan = |current: &SetManifest, library: &Library| -> Result<Plan, Refusal> {
            if !request.etag.is_empty() && request.etag != current.etag() {
                return Err(Refusal::Etag);
            }
            let workspace = workspace_in(current, names::workspace(&request.parent)?)?;
            Ok(if request.prune {
                apply::plan_prune(current, library, workspace, &manifests, now)?
            } else {
                apply::plan_apply(current, library, workspace, &manifests)?
            })
        };
        let done = if request.validate_only {
            self.planned(plan)?
        } else {
            let line = |current: &SetManifest, plan: &Plan| {
                let line = Line::of(&caller, Act::Apply, &request.parent).changes(current.etag(), plan.next.etag());
                match plan.items.iter().filter(|item| item.change == Change::Deleted).count() {
                    0 => line,
                    pruned => line.note(format!("pruned {pruned}")),
                }
            };
            self.changes.change(&self.audit, plan, line).await?
        };
        let changes = done.items.iter().map(|item| change(item, false)).collect();
        Ok(Response::new(pb::ApplyDefinitionsResponse { changes, set: done.next.number, etag: done.next.etag() }))
    }

    async fn get_definition(&self, request: Request<pb::GetDefinitionRequest>) -> Result<Response<pb::Definition>, Status> {
        let (_, pb::GetDefinitionRequest { name, read_mask }) = admit(request)?;
        let mask = ReadMask::of("Definition", read_mask)?;
        let (workspace, kind, child) = names::definition(&name)?;
        let set = self.changes.current().map_err(Refusal::from)?;
        let id = workspace_in(&set, workspace)?;
        let found = kind_of(kind).and_then(|kind| set.shown(id, kind, child));
        let entry = found.ok_or_else(|| Refusal::NotFound(format!("there is no {kind} `{child}` in workspace `{workspace}`")))?;
        Ok(Response::new(mask.cut(definition(self.catalog.library(), &set, workspace, entry))?))
    }

    async fn list_definitions(
        &self,
        request: Request<pb::ListDefinitionsRequest>,
    ) -> Result<Response<pb::ListDefinitionsResponse>, Status> {
        let (_, request) = admit(request)?;
        let mask = ReadMask::of("Definition", request.read_mask)?;
        let workspace = names::workspace(&request.parent)?;
        let set = self.changes.current().map_err(Refusal::from)?;
        let id = workspace_in(&set, workspace)?;
        if request.page_size < 0 {
            return Err(Refusal::Invalid("INVALID_PAGE_SIZE", "page_size may not be negative".to_owned()).into());
        }
        let size = match usize::try_from(request.page_size) {
            Ok(0) | Err(_) => PAGE_MAX,
            Ok(size) => size.min(PAGE_MAX),
        };
        let start = page_start(&request.page_token, &set.etag())?;
        let wanted: Vec<_> = set
            .definitions
            .iter()
            .filter(|e| e.workspace == id.number() && (request.kind.is_empty() || e.kind.to_string().eq_ignore_ascii_case(&request.kind)))
            .collect();
        let page: Vec<_> = wanted.iter().skip(start).take(size).map(|e| definition(self.catalog.library(), &set, workspace, e)).collect();
        let end = start + page.len();
        let next_page_token = if end < wanted.len() { format!("{end}.{}", set.etag().trim_matches('"')) } else { String::new() };
        Ok(Response::new(pb::ListDefinitionsResponse { definitions: mask.cut_all(page)?, next_page_token }))
    }

    async fn diff_definitions(
        &self,
        request: Request<pb::DiffDefinitionsRequest>,
    ) -> Result<Response<pb::DiffDefinitionsResponse>, Status> {
        let (_, request) = admit(request)?;
        let manifests = parse(&request.manifests, &request.attachments)?;
        let current = self.changes.current().map_err(Refusal::from)?;
        let workspace = workspace_in(&current, names::workspace(&request.parent)?)?;
        let plan = apply::plan_apply(&current, &**self.catalog.library(), workspace, &manifests).map_err(Refusal::from)?;
        Ok(Response::new(pb::DiffDefinitionsResponse { changes: plan.items.iter().map(|item| change(item, true)).collect() }))
    }

    async fn delete_definition(
        &self,
        request: Request<pb::DeleteDefinitionRequest>,
    ) -> Result<Response<pb::DeleteDefinitionResponse>, Status> {
        let (caller, request) = admit(request)?;
        let (workspace, kind, name) = names::definition(&request.name)?;
        let now = self.clock.now();
        let plan = |current: &SetManifest, library: &Library| -> Result<Plan, Refusal> {
            let id = workspace_in(current, workspace)?;
            let kind = known(current, id, workspace, kind, name, &request.etag)?;
            apply::plan_delete(current, library, id, kind, name, now).map_err(Refusal::InUse)
        };
        let done = self.changed(&caller, Act::Delete, &request.name, request.validate_only, plan).await?;
        let change = done.items.first().map(|item| change(item, true));
        Ok(Response::new(pb::DeleteDefinitionResponse { change, set: done.next.number, etag: done.next.etag() }))
    }
}

// === impl Control ===

impl Control {
    /// Carries a plan out, with its line in the audit topic; or only makes it.
    pub(crate) async fn changed(
        &self,
        caller: &Caller,
        act: Act,
        subject: &str,
        only_check: bool,
        plan: impl FnOnce(&SetManifest, &Library) -> Result<Plan, Refusal> + Send,
    ) -> Result<Plan, Refusal> {
        if only_check {
            return self.planned(plan);
        }
        let line = |current: &SetManifest, plan: &Plan| Line::of(caller, act, subject).changes(current.etag(), plan.next.etag());
        self.changes.change(&self.audit, plan, line).await
    }

    /// What would be, and whether it may.
    fn planned(&self, plan: impl FnOnce(&SetManifest, &Library) -> Result<Plan, Refusal>) -> Result<Plan, Refusal> {
        let current = self.changes.current()?;
        let plan = plan(&current, self.catalog.library())?;
        self.changes.within_quota(&current, &plan)?;
        Ok(plan)
    }
}

/// The kind behind its word, if there is a definition of that name whose etag, where one is asked for, is still that.
pub(crate) fn known(set: &SetManifest, id: WorkspaceId, workspace: &str, kind: &str, name: &str, etag: &str) -> Result<Kind, Refusal> {
    let nothing = || Refusal::NotFound(format!("there is no {kind} `{name}` in workspace `{workspace}`"));
    let found = kind_of(kind).ok_or_else(nothing)?;
    let etags: Vec<_> = set.named(id, found, name).map(|e| e.etag.as_str()).collect();
    if etags.is_empty() {
        return Err(nothing());
    }
    if etag.is_empty() || etags.contains(&etag) { Ok(found) } else { Err(Refusal::Etag) }
}

fn parse(manifests: &[pb::File], attachments: &[pb::File]) -> Result<Vec<Manifest>, Refusal> {
    let files: Vec<_> = manifests.iter().map(|f| (f.path.clone(), f.text.clone())).collect();
    let attachment = |path: &str| attachments.iter().find(|f| f.path == path).map(|f| f.text.clone());
    manifest::parse_files(&files, &attachment).map_err(|problems: Vec<Problem>| Refusal::Problems(problems))
}

fn page_start(token: &str, etag: &str) -> Result<usize, Refusal> {
    if token.is_empty() {
        return Ok(0);
    }
    let start = token.split_once('.').filter(|(_, of)| *of == etag.trim_matches('"')).and_then(|(start, _)| start.parse().ok());
    start.ok_or_else(|| Refusal::Invalid("INVALID_PAGE_TOKEN", "the page token is not of this list as it is now: list again".to_owned()))
}

pub(crate) fn kind_of(word: &str) -> Option<Kind> {
    Kind::ALL.into_iter().find(|k| k.as_str().eq_ignore_ascii_case(word))
}

/// Of the version that is shown for its name, the state of the whole; of others their own.
fn state_of(set: &SetManifest, entry: &DefinitionEntry) -> State {
    let id = WorkspaceId::new(entry.workspace);
    let shown = set.shown(id, entry.kind, &entry.name).is_some_and(|s| s.version == entry.version);
    if shown { set.state(id, entry.kind, &entry.name).unwrap_or(entry.state) } else { entry.state }
}

pub(crate) fn state(state: State) -> pb::DefinitionState {
    match state {
        State::Draft => pb::DefinitionState::Draft,
        State::Active => pb::DefinitionState::Active,
        State::Pinned => pb::DefinitionState::Pinned,
        State::Archived => pb::DefinitionState::Archived,
        State::Paused => pb::DefinitionState::Paused,
        State::Killed => pb::DefinitionState::Killed,
    }
}

pub(crate) fn change(item: &PlanItem, with_diff: bool) -> pb::Change {
    pb::Change {
        kind: item.kind.to_string(),
        name: item.name.clone(),
        version: item.version,
        what: what(item.change).into(),
        state: state(item.state).into(),
        diff: if with_diff { item.diff.clone() } else { String::new() },
        reason: item.because.clone(),
    }
}

pub(crate) fn what(change: Change) -> pb::change::What {
    match change {
        Change::Created => pb::change::What::Created,
        Change::Changed => pb::change::What::Changed,
        Change::Unchanged => pb::change::What::Unchanged,
        Change::Deleted => pb::change::What::Deleted,
        Change::Kept => pb::change::What::Kept,
    }
}

pub(crate) fn definition(library: &Library, set: &SetManifest, workspace: &str, entry: &DefinitionEntry) -> pb::Definition {
    let body = library.body(&entry.hash).unwrap_or_default();
    pb::Definition {
        name: format!("workspaces/{workspace}/definitions/{}/{}", entry.kind, entry.name),
        kind: entry.kind.to_string(),
        version: entry.version,
        state: state(state_of(set, entry)).into(),
        manifest: String::from_utf8_lossy(&body).into_owned(),
        etag: entry.etag.clone(),
        content_hash: entry.hash.to_string(),
    }
}
