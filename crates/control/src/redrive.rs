//! `DeadLetterService`: what was set aside, and putting it back. The audit topic remembers what was put back, so that
//! it happens twice only where somebody asks for it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use futures::future::try_join_all;
use tonic::{Request, Response, Status};
use waypost_codec::frame::Record;
use waypost_engine::apply::SetManifest;
use waypost_proto::control::{self as pb, dead_letter_service_server::DeadLetterService};
use waypost_runtime::ports::{Append, Offset, Producer};
use waypost_types::{Role, WorkspaceId};

use crate::{
    access::{Caller, admit},
    audit::{Act, Line},
    letters::{Letter, LetterId},
    originals::Originals,
    redriving::{Back, back, cut},
    server::Control,
    status::Refusal,
};

/// Letters of an answer unless asked for fewer.
const PAGE: usize = 100;
/// Letters of an answer at most.
const PAGE_MAX: usize = 1_000;
/// Letters whose lines are written together: so many may stand in the audit topic and not be put back, where the process ends
/// between the two.
const AT_ONCE: usize = 100;

#[tonic::async_trait]
impl DeadLetterService for Control {
    async fn list_dead_letters(
        &self,
        request: Request<pb::ListDeadLettersRequest>,
    ) -> Result<Response<pb::ListDeadLettersResponse>, Status> {
        let (caller, request) = admit(request)?;
        let size = match usize::try_from(request.page_size) {
            Ok(0) => PAGE,
            Ok(size) => size.min(PAGE_MAX),
            Err(_) => return Err(Refusal::Invalid("INVALID_PAGE_SIZE", "page_size may not be negative".to_owned()).into()),
        };
        let mut letters = self.letters_for(&caller, &request.reason, &request.source).await?;
        let redrives = self.redrives().await?;
        letters.retain(|letter| request.discarded || redrives.discard(&subject(letter)).is_none());
        let total = letters.len() as u64;
        let letters = letters.iter().take(size).map(|letter| told(letter, &redrives)).collect();
        Ok(Response::new(pb::ListDeadLettersResponse { letters, total }))
    }

    async fn get_dead_letter(&self, request: Request<pb::GetDeadLetterRequest>) -> Result<Response<pb::DeadLetter>, Status> {
        let (caller, request) = admit(request)?;
        let letter = self.letter(&caller, &request.id).await?;
        let redrives = self.redrives().await?;
        Ok(Response::new(pb::DeadLetter { content: letter.content(), ..told(&letter, &redrives) }))
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
        let mut redrive = Redrive {
            control: self,
            caller,
            names: self.changes.current().map_err(Refusal::from)?,
            again: request.again,
            only_check: request.validate_only,
            before: self.redrives().await?,
            originals: Originals::new(&*log, self.changes.prefix()),
            producer: None,
        };
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

    async fn discard_dead_letters(
        &self,
        request: Request<pb::DiscardDeadLettersRequest>,
    ) -> Result<Response<pb::DiscardDeadLettersResponse>, Status> {
        let (caller, request) = admit(request)?;
        let ids = self.discard(&caller, &request).await?;
        Ok(Response::new(pb::DiscardDeadLettersResponse { ids }))
    }
}

/// Redrives by letter, in the order of the audit topic, and which letters were discarded since.
#[derive(Default)]
pub(crate) struct Redrives {
    lines: BTreeMap<String, Vec<(Offset, Line)>>,
    discards: BTreeMap<String, Line>,
    /// Up to where the topic was read.
    next: Offset,
}

/// One request's redrives.
struct Redrive<'a> {
    control: &'a Control,
    caller: Caller,
    /// For the names of workspaces.
    names: SetManifest,
    again: bool,
    only_check: bool,
    before: Redrives,
    originals: Originals<'a>,
    producer: Option<Arc<dyn Producer>>,
}

/// A letter about to be put back: which one, how often it was before, and as what.
struct Ready {
    place: usize,
    subject: String,
    workspace: u32,
    before: usize,
    goes: Goes,
}

enum Goes {
    Inbox(Role, Box<Record>),
    Door(Append),
}

// === impl Control ===

impl Control {
    /// The workspaces whose letters a caller sees; none: all, also those of no workspace.
    fn seen_by(&self, caller: &Caller) -> Result<Option<BTreeSet<u32>>, Refusal> {
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

    pub(crate) async fn redrives(&self) -> Result<Redrives, Refusal> {
        let mut redrives = Redrives::default();
        redrives.read_on(self).await?;
        Ok(redrives)
    }
}

// === impl Redrives ===

impl Redrives {
    /// Takes in what has been written since.
    async fn read_on(&mut self, control: &Control) -> Result<(), Refusal> {
        for (offset, line) in control.audit.lines(self.next).await? {
            self.next = offset + 1;
            // A line that says that another came to nothing is no redrive.
            if !line.outcome.is_empty() {
                continue;
            }
            if line.act == Act::Redrive {
                self.discards.remove(&line.subject);
                self.lines.entry(line.subject.clone()).or_default().push((offset, line));
            } else if line.act == Act::Discard {
                self.discards.insert(line.subject.clone(), line);
            }
        }
        Ok(())
    }

    /// The line that discarded it, unless it was put back since.
    pub(crate) fn discard(&self, subject: &str) -> Option<&Line> {
        self.discards.get(subject)
    }

    fn of(&self, subject: &str) -> &[(Offset, Line)] {
        self.lines.get(subject).map_or(&[], Vec::as_slice)
    }
}

// === impl Redrive ===

impl Redrive<'_> {
    /// Puts these letters back. Of each, the record it became, or a reason why not.
    async fn some(&mut self, letters: &[Letter]) -> Result<Vec<Result<String, String>>, Refusal> {
        let (mut outcomes, mut ready) = (Vec::new(), Vec::new());
        for (place, letter) in letters.iter().enumerate() {
            outcomes.push(match self.prepare(place, letter).await? {
                Ok(one) => {
                    let record = one.goes.record();
                    ready.push(one);
                    Ok(record)
                }
                Err(why) => Err(why),
            });
        }
        if self.only_check || ready.is_empty() {
            return Ok(outcomes);
        }
        let line = |one: &Ready| {
            let workspace = self.names.workspace_name(WorkspaceId::new(one.workspace));
            let line = Line::of(&self.caller, Act::Redrive, one.subject.as_str()).in_workspace(workspace);
            Line { record: one.goes.record(), ..line }
        };
        let lines: Vec<Line> = ready.iter().map(line).collect();
        let offsets = self.control.audit.write_all(lines.clone()).await?;
        self.before.read_on(self.control).await?;
        let (mut records, mut appends, mut going) = (Vec::new(), Vec::new(), Vec::new());
        for ((one, offset), line) in ready.into_iter().zip(offsets).zip(lines) {
            // Of two that were about to do the same the one whose line comes first does it.
            if self.before.of(&one.subject).get(one.before).is_none_or(|(first, _)| *first != offset) {
                if let Some(outcome) = outcomes.get_mut(one.place) {
                    *outcome = Err("somebody else puts it back at this moment".to_owned());
                }
                continue;
            }
            going.push(line);
            match one.goes {
                Goes::Inbox(role, record) => records.push((role, *record)),
                Goes::Door(append) => appends.push(append),
            }
        }
        if let Err(refusal) = self.append(records, appends).await {
            self.control.audit.failed(going, &refusal).await;
            return Err(refusal);
        }
        Ok(outcomes)
    }

    async fn prepare(&mut self, place: usize, letter: &Letter) -> Result<Result<Ready, String>, Refusal> {
        let subject = subject(letter);
        let before = self.before.of(&subject).len();
        if before > 0 && !self.again {
            return Ok(Err("it was put back before: --again does it once more".to_owned()));
        }
        if !self.again && self.before.discard(&subject).is_some() {
            return Ok(Err("it was discarded: --again puts it back".to_owned()));
        }
        let goes = match back(letter, before) {
            Ok(Back::Inbox(role, record)) => Goes::Inbox(role, record),
            Ok(Back::Door) => match self.originals.of(letter).await? {
                Some(append) => Goes::Door(append),
                None => return Ok(Err(cut(letter.truncated.unwrap_or_default()))),
            },
            Err(why) => return Ok(Err(why)),
        };
        Ok(Ok(Ready { place, subject, workspace: letter.workspace, before, goes }))
    }

    async fn append(&mut self, records: Vec<(Role, Record)>, events: Vec<Append>) -> Result<(), Refusal> {
        self.control.door.append(records).await?;
        self.write_events(events).await
    }

    /// To the public topic, as the shop's program wrote them.
    async fn write_events(&mut self, appends: Vec<Append>) -> Result<(), Refusal> {
        if appends.is_empty() {
            return Ok(());
        }
        let producer = match &self.producer {
            Some(producer) => producer,
            None => self.producer.insert(self.control.changes.log().producer()?),
        };
        // Each is on its way before the first answer is waited for, so they stand there in this order.
        let appending: Vec<_> = appends.into_iter().map(|append| producer.append(append)).collect();
        try_join_all(appending).await.map(drop).map_err(|e| Refusal::Unavailable(e.to_string()))
    }
}

// === impl Goes ===

impl Goes {
    /// Id of the record, where it is one of ours.
    fn record(&self) -> String {
        match self {
            Self::Inbox(_, record) => hex::encode(record.id),
            Self::Door(_) => String::new(),
        }
    }
}

pub(crate) fn subject(letter: &Letter) -> String {
    format!("deadletters/{}", letter.id)
}

fn told(letter: &Letter, redrives: &Redrives) -> pb::DeadLetter {
    let lines = redrives.of(&subject(letter));
    let discard = redrives.discard(&subject(letter)).map(|line| pb::Discard { at: line.at, by: line.by.clone(), note: line.note.clone() });
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
