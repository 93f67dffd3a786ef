//! `DeadLetterService`: what was set aside, and putting it back. The audit topic remembers what was put back, so that
//! it happens twice only where somebody asks for it.

use std::collections::BTreeMap;

use bytes::Bytes;
use tonic::{Request, Response, Status};
use waypost_proto::control::{self as pb, dead_letter_service_server::DeadLetterService};
use waypost_runtime::ports::{Append, Offset};

use crate::{
    audit::{self, Act, Line},
    letters::{Letter, LetterId},
    redriving::{Back, back},
    server::Control,
    status::Refusal,
};

/// Letters of an answer unless asked for fewer.
const PAGE: usize = 100;
/// Letters of an answer at most.
const PAGE_MAX: usize = 1_000;
/// The topic of the Kafka door.
const EVENTS: &str = "waypost.events.v1";

#[tonic::async_trait]
impl DeadLetterService for Control {
    async fn list_dead_letters(
        &self,
        request: Request<pb::ListDeadLettersRequest>,
    ) -> Result<Response<pb::ListDeadLettersResponse>, Status> {
        let request = request.into_inner();
        let size = match usize::try_from(request.page_size) {
            Ok(0) => PAGE,
            Ok(size) => size.min(PAGE_MAX),
            Err(_) => return Err(Refusal::Invalid("INVALID_PAGE_SIZE", "page_size may not be negative".to_owned()).into()),
        };
        let letters = self.letters.all(&request.reason, &request.source).await.map_err(Refusal::from)?;
        let redrives = self.redrives().await?;
        let total = letters.len() as u64;
        let letters = letters.iter().take(size).map(|letter| told(letter, &redrives)).collect();
        Ok(Response::new(pb::ListDeadLettersResponse { letters, total }))
    }

    async fn get_dead_letter(&self, request: Request<pb::GetDeadLetterRequest>) -> Result<Response<pb::DeadLetter>, Status> {
        let letter = self.letter(&request.into_inner().id).await?;
        let redrives = self.redrives().await?;
        Ok(Response::new(pb::DeadLetter { content: letter.content(), ..told(&letter, &redrives) }))
    }

    async fn redrive_dead_letters(
        &self,
        request: Request<pb::RedriveDeadLettersRequest>,
    ) -> Result<Response<pb::RedriveDeadLettersResponse>, Status> {
        let (by, request) = (audit::asks(&request), request.into_inner());
        let letters = match (request.id.as_str(), request.reason.as_str()) {
            ("", "") => return Err(Refusal::Invalid("NOTHING_NAMED", "name a letter by its id, or a reason".to_owned()).into()),
            ("", reason) => self.letters.all(reason, "").await.map_err(Refusal::from)?,
            (id, _) => vec![self.letter(id).await?],
        };
        let mut answer = Vec::new();
        // oldest first, as they came
        for letter in letters.into_iter().rev() {
            let outcome = self.redrive(&by, &letter, request.again, request.validate_only).await?;
            let (record, refused) = match outcome {
                Ok(record) => (record, String::new()),
                Err(why) => (String::new(), why),
            };
            answer.push(pb::Redriven { id: letter.id.to_string(), record, refused });
        }
        Ok(Response::new(pb::RedriveDeadLettersResponse { letters: answer }))
    }
}

/// Redrives by letter, in the order of the audit topic.
type Redrives = BTreeMap<String, Vec<(Offset, Line)>>;

// === impl Control ===

impl Control {
    async fn letter(&self, id: &str) -> Result<Letter, Refusal> {
        let id: LetterId =
            id.parse().map_err(|()| Refusal::Invalid("INVALID_ID", format!("`{id}` is no letter's id; they look like 3-1042")))?;
        self.letters
            .one(id)
            .await?
            .ok_or_else(|| Refusal::NotFound(format!("there is no letter {id}, or no longer: they are kept for 30 days")))
    }

    async fn redrives(&self) -> Result<Redrives, Refusal> {
        let mut redrives = Redrives::new();
        for (offset, line) in self.audit.lines().await? {
            if line.act == Act::Redrive {
                redrives.entry(line.subject.clone()).or_default().push((offset, line));
            }
        }
        Ok(redrives)
    }

    /// Puts one letter back. The inner error is a reason why not.
    async fn redrive(&self, by: &str, letter: &Letter, again: bool, only_check: bool) -> Result<Result<String, String>, Refusal> {
        let before = self.redrives().await?.get(&subject(letter)).map_or(0, Vec::len);
        let done = "it was put back before: --again does it once more";
        if before > 0 && !again {
            return Ok(Err(done.to_owned()));
        }
        let back = match back(letter, before) {
            Ok(back) => back,
            Err(why) => return Ok(Err(why)),
        };
        let id = if let Back::Inbox(_, record) = &back { hex::encode(record.id) } else { String::new() };
        if only_check {
            return Ok(Ok(id));
        }
        let line = Line { record: id.clone(), ..Line::new(by, Act::Redrive, subject(letter)) };
        let offset = self.audit.write(line).await?;
        // Of two that were about to do the same the one whose line comes first does it.
        let lines = self.redrives().await?.remove(&subject(letter)).unwrap_or_default();
        if lines.get(before).is_none_or(|(first, _)| *first != offset) {
            return Ok(Err("somebody else puts it back at this moment".to_owned()));
        }
        match back {
            Back::Inbox(role, record) => self.door.append(vec![(role, *record)]).await?,
            Back::Door => self.to_door(letter).await?,
        }
        Ok(Ok(id))
    }

    /// To the public topic, as the shop's program wrote it.
    async fn to_door(&self, letter: &Letter) -> Result<(), Refusal> {
        let producer = self.changes.log().producer()?;
        let append = Append {
            topic: format!("{}{EVENTS}", self.changes.prefix()),
            partition: 0,
            key: None::<Bytes>,
            headers: Vec::new(),
            payload: letter.bytes.clone(),
        };
        producer.append(append).await.map(drop).map_err(|e| Refusal::Unavailable(e.to_string()))
    }
}

fn subject(letter: &Letter) -> String {
    format!("deadletters/{}", letter.id)
}

fn told(letter: &Letter, redrives: &Redrives) -> pb::DeadLetter {
    let lines = redrives.get(&subject(letter)).map_or(&[][..], Vec::as_slice);
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
    }
}
