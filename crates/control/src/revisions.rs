//! `RevisionService`: what each set changed, what differs between two, and going back.

use std::collections::BTreeMap;

use tonic::{Request, Response, Status};
use waypost_engine::{
    apply::{self, DefinitionEntry, Plan, Revised, SetManifest, State},
    library::Library,
    manifest::{Kind, diff, to_yaml},
};
use waypost_proto::control::{self as pb, revision_service_server::RevisionService};
use waypost_types::WorkspaceId;

use crate::{
    access::admit,
    audit::{Act, Line},
    definitions::{change, kind_of, known, state, what},
    names,
    server::{Control, workspace_in},
    status::Refusal,
};

/// Revisions of an answer unless asked for fewer.
const PAGE: usize = 50;
/// Revisions of an answer at most.
const PAGE_MAX: usize = 500;
/// Sets that are looked into for one answer: a definition that changes rarely takes several.
const LOOKED_MAX: usize = 500;

#[tonic::async_trait]
impl RevisionService for Control {
    async fn list_revisions(&self, request: Request<pb::ListRevisionsRequest>) -> Result<Response<pb::ListRevisionsResponse>, Status> {
        let (_, request) = admit(request)?;
        let current = self.changes.current().map_err(Refusal::from)?;
        let of = Of::read(&current, &request.parent)?;
        let size = match usize::try_from(request.page_size) {
            Ok(0) => PAGE,
            Ok(size) => size.min(PAGE_MAX),
            Err(_) => return Err(Refusal::Invalid("INVALID_PAGE_SIZE", "page_size may not be negative".to_owned()).into()),
        };
        let mut number = page_start(&request, current.number)?;
        let told = self.told().await?;
        let (mut revisions, mut looked) = (Vec::new(), 0);
        let mut after = self.changes.set(number)?;
        while number > 0 && revisions.len() < size && looked < LOOKED_MAX {
            let before = self.changes.set(self.number_before(number))?;
            let changes: Vec<_> = apply::revised(&before, &after, of.workspace).into_iter().filter(|r| of.fits(r)).collect();
            if !changes.is_empty() {
                revisions.push(revision(&after, &changes, told.get(&after.etag())));
            }
            (number, after) = (before.number, before);
            looked += 1;
            // Sets of large shops take a while to read.
            tokio::task::yield_now().await;
        }
        let next_page_token = if number > 0 { format!("{number}.{}", arguments(&request.parent)) } else { String::new() };
        Ok(Response::new(pb::ListRevisionsResponse { revisions, next_page_token }))
    }

    async fn diff_revisions(&self, request: Request<pb::DiffRevisionsRequest>) -> Result<Response<pb::DiffRevisionsResponse>, Status> {
        let (_, request) = admit(request)?;
        let (workspace, kind, name) = names::definition(&request.name)?;
        let current = self.changes.current().map_err(Refusal::from)?;
        let id = workspace_in(&current, workspace)?;
        let from = self.changes.set(request.from)?;
        let until = if request.until == 0 { current } else { self.changes.set(request.until)? };
        let nothing = || Refusal::NotFound(format!("there was no {kind} `{name}` in workspace `{workspace}` in either set"));
        let kind = kind_of(kind).ok_or_else(nothing)?;
        let newest = |set: &SetManifest| set.named(id, kind, name).max_by_key(|e| e.version).cloned();
        let revised = Revised { kind, name: name.to_owned(), before: newest(&from), after: newest(&until) };
        if revised.before.is_none() && revised.after.is_none() {
            return Err(nothing().into());
        }
        let lines = diff(&self.yaml(revised.before.as_ref())?, &self.yaml(revised.after.as_ref())?);
        Ok(Response::new(pb::DiffRevisionsResponse { change: Some(revision_change(&revised)), diff: lines }))
    }

    async fn rollback_definition(
        &self,
        request: Request<pb::RollbackDefinitionRequest>,
    ) -> Result<Response<pb::RollbackDefinitionResponse>, Status> {
        let (caller, request) = admit(request)?;
        let (workspace, kind, name) = names::definition(&request.name)?;
        let now = self.clock.now();
        let plan = |current: &SetManifest, library: &Library| -> Result<Plan, Refusal> {
            let id = workspace_in(current, workspace)?;
            let kind = known(current, id, workspace, kind, name, &request.etag)?;
            let from = self.version(current, id, kind, name, request.version)?;
            Ok(apply::plan_rollback(current, library, id, &from, now)?)
        };
        let done = self.changed(&caller, Act::Rollback, &request.name, request.validate_only, plan).await?;
        let change = done.items.first().map(|item| change(item, true));
        Ok(Response::new(pb::RollbackDefinitionResponse { change, set: done.next.number, etag: done.next.etag() }))
    }
}

/// Of which definitions revisions are asked for.
struct Of<'a> {
    workspace: WorkspaceId,
    one: Option<(Kind, &'a str)>,
}

// === impl Of ===

impl<'a> Of<'a> {
    fn read(current: &SetManifest, parent: &'a str) -> Result<Self, Refusal> {
        let Ok((workspace, kind, name)) = names::definition(parent) else {
            return Ok(Self { workspace: workspace_in(current, names::workspace(parent)?)?, one: None });
        };
        let unknown = || Refusal::Invalid("INVALID_NAME", format!("there is no kind `{kind}`"));
        Ok(Self { workspace: workspace_in(current, workspace)?, one: Some((kind_of(kind).ok_or_else(unknown)?, name)) })
    }

    fn fits(&self, revised: &Revised) -> bool {
        self.one.is_none_or(|(kind, name)| revised.kind == kind && revised.name == name)
    }
}

// === impl Control ===

impl Control {
    /// The set before this one; numbers rise by one, and 0 is the set before all.
    fn number_before(&self, number: u64) -> u64 {
        self.catalog.journal().borrow().sets.range(..number).next_back().map_or(0, |(number, _)| *number)
    }

    /// The lines of the audit topic by the set that they led to. What came to nothing led to none.
    async fn told(&self) -> Result<BTreeMap<String, Line>, Refusal> {
        let mut told = BTreeMap::new();
        let mut lines = self.audit.lines(0).await?;
        while let Some((_, line)) = lines.next().await? {
            if line.before == line.after {
                continue;
            }
            if line.outcome.is_empty() {
                told.entry(line.after.clone()).or_insert(line);
            } else if told.get(&line.after).is_some_and(|other| other.by == line.by && other.act == line.act) {
                told.remove(&line.after);
            }
        }
        Ok(told)
    }

    fn yaml(&self, entry: Option<&DefinitionEntry>) -> Result<String, Refusal> {
        let Some(entry) = entry else { return Ok(String::new()) };
        let body = self.catalog.library().body(&entry.hash);
        let away = || Refusal::Unavailable("the body of a version has not arrived here yet; try again".to_owned());
        body.map(|b| to_yaml(&b)).ok_or_else(away)
    }

    /// A version as it last was when it was more than a draft, in whatever set.
    fn version(&self, current: &SetManifest, id: WorkspaceId, kind: Kind, name: &str, version: u32) -> Result<DefinitionEntry, Refusal> {
        let in_set = |set: &SetManifest| set.named(id, kind, name).find(|e| e.version == version && e.state != State::Draft).cloned();
        let mut number = current.number;
        let mut found = in_set(current);
        while found.is_none() && number > 0 {
            number = self.number_before(number);
            found = in_set(&self.changes.set(number)?);
        }
        found.ok_or_else(|| {
            Refusal::NotFound(format!("version {version} of {kind} `{name}` was never in force; ListRevisions shows which were"))
        })
    }
}

/// A page token is good for the same question alone.
fn arguments(parent: &str) -> String {
    blake3::hash(parent.as_bytes()).to_hex()[..16].to_owned()
}

fn page_start(request: &pb::ListRevisionsRequest, newest: u64) -> Result<u64, Refusal> {
    if request.page_token.is_empty() {
        return Ok(newest);
    }
    let of_this = request.page_token.split_once('.').filter(|(_, of)| *of == arguments(&request.parent));
    let start = of_this.and_then(|(start, _)| start.parse().ok()).filter(|start| (1..=newest).contains(start));
    start.ok_or_else(|| Refusal::Invalid("INVALID_PAGE_TOKEN", "the page token is of another question: ask from the first page".to_owned()))
}

fn revision(set: &SetManifest, changes: &[Revised], line: Option<&Line>) -> pb::Revision {
    pb::Revision {
        set: set.number,
        etag: set.etag(),
        at: line.map_or(0, |line| line.at),
        by: line.map_or_else(String::new, |line| line.by.clone()),
        act: line.map_or_else(String::new, |line| line.act.word()),
        changes: changes.iter().map(revision_change).collect(),
    }
}

fn revision_change(revised: &Revised) -> pb::RevisionChange {
    let version = |entry: Option<&DefinitionEntry>| entry.map_or(0, |e| e.version);
    let in_state = |entry: Option<&DefinitionEntry>| entry.map_or(0, |e| state(e.state).into());
    let hash = |entry: Option<&DefinitionEntry>| entry.map_or_else(String::new, |e| e.hash.to_string());
    let (before, after) = (revised.before.as_ref(), revised.after.as_ref());
    pb::RevisionChange {
        kind: revised.kind.to_string(),
        name: revised.name.clone(),
        what: if before == after { pb::change::What::Unchanged } else { what(revised.change()) }.into(),
        version_before: version(before),
        state_before: in_state(before),
        hash_before: hash(before),
        version: version(after),
        state: in_state(after),
        hash: hash(after),
    }
}
