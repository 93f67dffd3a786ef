//! `DeadLetterService`: what was set aside, and putting it back.

use std::collections::BTreeSet;

use tonic::{Request, Response, Status};
use waypost_proto::control::{self as pb, dead_letter_service_server::DeadLetterService};

use super::{
    Letter, LetterId,
    history::{History, subject},
    redrive::{AT_ONCE, Redrive},
};
use crate::{
    access::{Caller, admit},
    audit::{Act, Line},
    reading::ReadMask,
    server::Control,
    status::Refusal,
};

/// Letters of an answer unless asked for fewer.
const PAGE: usize = 100;
/// Letters of an answer at most.
const PAGE_MAX: usize = 1_000;

#[tonic::async_trait]
impl DeadLetterService for Control {
    async fn list_dead_letters(
        &self,
        request: Request<pb::ListDeadLettersRequest>,
    ) -> Result<Response<pb::ListDeadLettersResponse>, Status> {
        let (caller, request) = admit(request)?;
        let arguments = arguments(&request);
        let mask = ReadMask::of("DeadLetter", request.read_mask)?;
        let size = match usize::try_from(request.page_size) {
            Ok(0) => PAGE,
            Ok(size) => size.min(PAGE_MAX),
            Err(_) => return Err(Refusal::Invalid("INVALID_PAGE_SIZE", "page_size may not be negative".to_owned()).into()),
        };
        let before = page_start(&request.page_token, &arguments)?;
        let mut letters = self.letters_for(&caller, &request.reason, &request.source).await?;
        let history = self.history().await?;
        letters.retain(|letter| request.discarded || history.discard(&subject(letter)).is_none());
        let total = letters.len() as u64;
        letters.retain(|letter| before.is_none_or(|before| letter.age() < before));
        let more = letters.len() > size;
        letters.truncate(size);
        let last = letters.last().filter(|_| more).map(Letter::age);
        let next_page_token = last.map_or_else(String::new, |(at, id)| format!("{at}.{id}.{arguments}"));
        let letters = mask.cut_all(letters.iter().map(|letter| told(letter, &history)).collect())?;
        Ok(Response::new(pb::ListDeadLettersResponse { letters, total, next_page_token }))
    }

    async fn get_dead_letter(&self, request: Request<pb::GetDeadLetterRequest>) -> Result<Response<pb::DeadLetter>, Status> {
        let (caller, request) = admit(request)?;
        let mask = ReadMask::of("DeadLetter", request.read_mask)?;
        let letter = self.letter(&caller, &request.id).await?;
        let history = self.history().await?;
        Ok(Response::new(mask.cut(pb::DeadLetter { content: letter.content(), ..told(&letter, &history) })?))
    }

    async fn redrive_dead_letters(
        &self,
        request: Request<pb::RedriveDeadLettersRequest>,
    ) -> Result<Response<pb::RedriveDeadLettersResponse>, Status> {
        let (caller, request) = admit(request)?;
        let letters = match (request.id.as_str(), request.reason.as_str()) {
            ("", "") => return Err(Refusal::Invalid("NOTHING_NAMED", "name a letter by its id, or a reason".to_owned()).into()),
            ("", reason) => self.letters_for(&caller, reason, "").await?,
            (id, _) => vec![self.letter(&caller, id).await?],
        };
        // oldest first, as they came
        let letters: Vec<Letter> = letters.into_iter().rev().collect();
        let log = self.changes.log();
        let line = Line::of(&caller, Act::Redrive, "");
        let mut redrive = Redrive::new(self, &*log, line, request.again).await?.only_checking(request.validate_only);
        let mut answer = Vec::new();
        for some in letters.chunks(AT_ONCE) {
            for (letter, outcome) in some.iter().zip(redrive.some(some).await?) {
                let (record, refused) = match outcome {
                    Ok(record) => (record, String::new()),
                    Err(why) => (String::new(), why),
                };
                answer.push(pb::Redriven { id: letter.id.to_string(), record, refused });
            }
        }
        Ok(Response::new(pb::RedriveDeadLettersResponse { letters: answer }))
    }

    async fn bulk_redrive_dead_letters(
        &self,
        request: Request<pb::BulkRedriveDeadLettersRequest>,
    ) -> Result<Response<pb::Operation>, Status> {
        let (caller, request) = admit(request)?;
        Ok(Response::new(self.bulk_redrive(&caller, request).await?))
    }

    async fn discard_dead_letters(
        &self,
        request: Request<pb::DiscardDeadLettersRequest>,
    ) -> Result<Response<pb::DiscardDeadLettersResponse>, Status> {
        let (caller, request) = admit(request)?;
        let ids = self.discard(&caller, &request).await?;
        Ok(Response::new(pb::DiscardDeadLettersResponse { ids }))
    }
}

// === impl Control ===

impl Control {
    /// The workspaces whose letters a caller sees; none: all, also those of no workspace.
    pub(crate) fn seen_by(&self, caller: &Caller) -> Result<Option<BTreeSet<u32>>, Refusal> {
        if caller.is_everywhere() {
            return Ok(None);
        }
        let set = self.changes.current()?;
        Ok(Some(set.workspaces.iter().filter(|w| caller.covers(&w.name)).map(|w| w.id).collect()))
    }

    pub(crate) async fn letters_for(&self, caller: &Caller, reason: &str, source: &str) -> Result<Vec<Letter>, Refusal> {
        let seen = self.seen_by(caller)?;
        let mut letters = self.letters.all(reason, source).await?;
        letters.retain(|letter| seen.as_ref().is_none_or(|seen| seen.contains(&letter.workspace)));
        Ok(letters)
    }

    /// One letter; where it is another workspace's, the answer is that of one that does not exist.
    pub(crate) async fn letter(&self, caller: &Caller, id: &str) -> Result<Letter, Refusal> {
        let seen = self.seen_by(caller)?;
        let id: LetterId =
            id.parse().map_err(|()| Refusal::Invalid("INVALID_ID", format!("`{id}` is no letter's id; they look like 3-1042")))?;
        self.letters
            .one(id)
            .await?
            .filter(|letter| seen.as_ref().is_none_or(|seen| seen.contains(&letter.workspace)))
            .ok_or_else(|| Refusal::NotFound(format!("there is no letter {id}, or no longer: they are kept for 30 days")))
    }
}

/// A page token is good for the same question alone.
fn arguments(request: &pb::ListDeadLettersRequest) -> String {
    let asked = format!("{}\0{}\0{}", request.reason, request.source, request.discarded);
    blake3::hash(asked.as_bytes()).to_hex()[..16].to_owned()
}

/// The last letter of the page before, by its age; letters that came meanwhile are newer than that.
fn page_start(token: &str, arguments: &str) -> Result<Option<(i64, LetterId)>, Refusal> {
    if token.is_empty() {
        return Ok(None);
    }
    let place = token.rsplit_once('.').filter(|(_, of)| *of == arguments).and_then(|(place, _)| place.split_once('.'));
    let age = place.and_then(|(at, id)| Some((at.parse().ok()?, id.parse().ok()?)));
    let refused = || Refusal::Invalid("INVALID_PAGE_TOKEN", "the page token is of another question: ask from the first page".to_owned());
    age.map(Some).ok_or_else(refused)
}

fn told(letter: &Letter, history: &History) -> pb::DeadLetter {
    let lines = history.of(&subject(letter));
    let discard = history.discard(&subject(letter)).map(|line| pb::Discard { at: line.at, by: line.by.clone(), note: line.note.clone() });
    let redrives = lines.iter().map(|(_, line)| pb::Redrive { at: line.at, by: line.by.clone(), record: line.record.clone() }).collect();
    pb::DeadLetter {
        id: letter.id.to_string(),
        reason: letter.reason.clone(),
        door: letter.door.clone(),
        origin: letter.origin.clone(),
        detail: letter.detail.clone(),
        workspace: letter.workspace,
        at: letter.at,
        bytes: letter.bytes.len() as u64,
        redrives,
        content: String::new(),
        discard,
    }
}
