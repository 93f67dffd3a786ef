//! `AuditService`: the audit topic, newest line first.

use std::collections::VecDeque;

use tonic::{Request, Response, Status};
use waypost_proto::control::{self as pb, audit_service_server::AuditService};
use waypost_runtime::ports::Offset;

use crate::{
    access::{Caller, admit},
    audit::{Act, Line},
    names,
    server::Control,
    status::Refusal,
};

/// Lines of an answer unless asked for fewer.
const PAGE: usize = 100;
/// Lines of an answer at most.
const PAGE_MAX: usize = 1_000;

#[tonic::async_trait]
impl AuditService for Control {
    async fn list_audit_entries(
        &self,
        request: Request<pb::ListAuditEntriesRequest>,
    ) -> Result<Response<pb::ListAuditEntriesResponse>, Status> {
        let (caller, request) = admit(request)?;
        let wanted = Wanted::read(&caller, &request)?;
        let mut newest = VecDeque::new();
        let mut older = false;
        let mut lines = self.audit.lines(0).await.map_err(Refusal::from)?;
        while let Some((offset, line)) = lines.next().await.map_err(Refusal::from)? {
            if offset < wanted.before && wanted.fits(&line) {
                newest.push_back((offset, line));
                if newest.len() > wanted.size {
                    newest.pop_front();
                    older = true;
                }
            }
        }
        let last = newest.front().map(|(offset, _)| *offset).filter(|_| older);
        let next_page_token = last.map_or_else(String::new, |offset| format!("{offset}.{}", wanted.arguments));
        let entries = newest.into_iter().rev().map(|(offset, line)| entry(offset, line)).collect();
        Ok(Response::new(pb::ListAuditEntriesResponse { entries, next_page_token }))
    }
}

/// Which lines are wanted.
struct Wanted<'a> {
    caller: &'a Caller,
    workspace: Option<&'a str>,
    request: &'a pb::ListAuditEntriesRequest,
    act: Option<Act>,
    size: usize,
    /// Only lines before this offset: those behind were on an earlier page.
    before: Offset,
    /// A page token is good for the same question alone.
    arguments: String,
}

// === impl Wanted ===

impl<'a> Wanted<'a> {
    fn read(caller: &'a Caller, request: &'a pb::ListAuditEntriesRequest) -> Result<Self, Refusal> {
        let workspace = if request.parent.is_empty() { None } else { Some(names::workspace(&request.parent)?) };
        let size = match usize::try_from(request.page_size) {
            Ok(0) => PAGE,
            Ok(size) => size.min(PAGE_MAX),
            Err(_) => return Err(Refusal::Invalid("INVALID_PAGE_SIZE", "page_size may not be negative".to_owned())),
        };
        let act = (!request.act.is_empty()).then(|| Act::parse(&request.act)).transpose()?;
        let asked = pb::ListAuditEntriesRequest { page_size: 0, page_token: String::new(), ..request.clone() };
        let arguments = blake3::hash(format!("{asked:?}").as_bytes()).to_hex()[..16].to_owned();
        let before = if request.page_token.is_empty() {
            Offset::MAX
        } else {
            let of_this = request.page_token.split_once('.').filter(|(_, of)| *of == arguments);
            of_this.and_then(|(offset, _)| offset.parse().ok()).ok_or_else(|| {
                Refusal::Invalid("INVALID_PAGE_TOKEN", "the page token is of another question: ask from the first page".to_owned())
            })?
        };
        Ok(Self { caller, workspace, request, act, size, before, arguments })
    }

    fn fits(&self, line: &Line) -> bool {
        let (request, workspace) = (self.request, line.workspace_name());
        let seen = self.caller.is_everywhere() || (!workspace.is_empty() && self.caller.covers(workspace));
        seen && self.workspace.is_none_or(|wanted| wanted == workspace)
            && line.subject.starts_with(&request.subject_prefix)
            && (request.by.is_empty() || request.by == line.by)
            && self.act.is_none_or(|act| act == line.act)
            && line.at >= request.from
            && (request.until == 0 || line.at < request.until)
    }
}

fn entry(id: Offset, line: Line) -> pb::AuditEntry {
    let workspace = line.workspace_name().to_owned();
    pb::AuditEntry {
        id,
        at: line.at,
        by: line.by,
        how: line.how,
        from: line.from,
        act: line.act.word(),
        subject: line.subject,
        workspace,
        record: line.record,
        before: line.before,
        after: line.after,
        outcome: line.outcome,
        note: line.note,
    }
}
