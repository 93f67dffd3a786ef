//! Putting letters back. The audit topic remembers what was put back, so that it happens twice only where somebody asks for it.

mod appends;

use std::{collections::BTreeMap, sync::Arc};

use waypost_codec::frame::Record;
use waypost_engine::apply::SetManifest;
use waypost_runtime::ports::{Append, Log, LogError, Offset, Producer};
use waypost_types::{Role, WorkspaceId};

use self::appends::No;
use super::{
    Letter,
    back::{Back, back, cut},
    history::{Choice, History, subject},
    originals::Originals,
};
use crate::{
    audit::{Line, Lines},
    operations::{Doubt, Hold},
    server::Control,
    status::Refusal,
};

/// Letters whose lines are written together: so many may stand in the audit topic and not be put back, where the process ends
/// between the two.
pub(crate) const AT_ONCE: usize = 100;

/// Of two at once, what the later one hears.
const ELSEWHERE: &str = "somebody else puts it back at this moment";

/// The redrives of one request, or of one operation.
pub(crate) struct Redrive<'a> {
    control: &'a Control,
    log: &'a dyn Log,
    /// What every line says; its note names the operation, if it is one.
    line: Line,
    /// For the names of workspaces.
    names: SetManifest,
    again: bool,
    only_check: bool,
    before: History,
    /// What comes behind those.
    lines: Lines,
    originals: Originals<'a>,
    producer: Option<Arc<dyn Producer>>,
    /// Of an operation: whether this process may still append for it.
    hold: Option<&'a Hold>,
}

/// A letter about to be put back: which one, how often it was before, and as what.
struct Ready {
    place: usize,
    subject: String,
    workspace: u32,
    before: usize,
    goes: Goes,
    /// An earlier attempt at the same operation wrote its line down: it may have been put back then, or not.
    begun: Option<Begun>,
    /// Where the partition of the public topic ended before the line was written.
    end: Option<Offset>,
}

/// Where what may have been put back is looked for.
struct Begun {
    /// When its line was written, ms.
    at: i64,
    /// In the public topic, the first offset at which it can be: neither the original nor what was put back before.
    from: Offset,
}

enum Goes {
    Inbox(Role, Box<Record>),
    Door(Append),
}

// === impl Redrive ===

impl<'a> Redrive<'a> {
    /// `line` is what every line in the audit topic says besides its letter.
    pub(crate) async fn new(control: &'a Control, log: &'a dyn Log, line: Line, again: bool) -> Result<Self, Refusal> {
        Self::open(control, log, line, again, None).await
    }

    /// As one attempt at an operation.
    pub(crate) async fn held(control: &'a Control, log: &'a dyn Log, line: Line, again: bool, hold: &'a Hold) -> Result<Self, Refusal> {
        Self::open(control, log, line, again, Some(hold)).await
    }

    async fn open(control: &'a Control, log: &'a dyn Log, line: Line, again: bool, hold: Option<&'a Hold>) -> Result<Self, Refusal> {
        let names = control.changes.current()?;
        let (before, lines) = control.history_open(|| moved(hold)).await?;
        let originals = Originals::new(log, control.changes.prefix());
        Ok(Self { control, log, line, names, again, only_check: false, before, lines, originals, producer: None, hold })
    }

    /// Without putting anything back.
    pub(crate) fn only_checking(self, only_check: bool) -> Self {
        Self { only_check, ..self }
    }

    /// Which letters are to be put back.
    pub(crate) fn choice(&self) -> Choice<'_> {
        Choice { before: &self.before, again: self.again, operation: &self.line.note }
    }

    /// Puts these letters back. Of each, the record it became, or a reason why not.
    pub(crate) async fn some(&mut self, letters: &[Letter]) -> Result<Vec<Result<String, String>>, Refusal> {
        let (mut outcomes, mut ready) = (Vec::new(), Vec::new());
        for (place, letter) in letters.iter().enumerate() {
            moved(self.hold);
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
        let (begun, mut fresh): (Vec<_>, Vec<_>) = ready.into_iter().partition(|one| one.begun.is_some());
        self.look_up_ends(&mut fresh).await?;
        let lines: Vec<Line> = fresh.iter().map(|one| self.line(one)).collect();
        let offsets = if lines.is_empty() { Vec::new() } else { self.control.audit.write_all(lines).await? };
        moved(self.hold);
        if let Some(last) = offsets.iter().max() {
            self.before.read_to(&mut self.lines, *last).await?;
        }
        let mut going = self.missing(begun).await?;
        for (one, offset) in fresh.into_iter().zip(offsets) {
            // Of two that were about to do the same the one whose line comes first does it.
            if self.before.of(&one.subject).get(one.before).is_none_or(|(first, _)| *first != offset) {
                if let Some(outcome) = outcomes.get_mut(one.place) {
                    *outcome = Err(ELSEWHERE.to_owned());
                }
                continue;
            }
            going.push(one);
        }
        let refused = match self.append(&going).await {
            Ok(refused) => refused,
            Err(refusal) => {
                // The next attempt at an operation settles these lines and does what they say.
                if self.hold.is_none() || !refusal.is_passing() {
                    let lines = going.iter().filter(|one| one.begun.is_none()).map(|one| self.line(one)).collect();
                    self.control.audit.failed(lines, &refusal).await;
                }
                return Err(refusal);
            }
        };
        for why in [No::Large, No::Partition] {
            let is_so = |one: &&Ready| refused.contains(&(one.place, why));
            let lines: Vec<Line> = going.iter().filter(is_so).map(|one| self.line(one)).collect();
            if !lines.is_empty() {
                self.control.audit.failed(lines, &Refusal::Precondition(why.code(), why.words().to_owned())).await;
            }
        }
        for (place, why) in refused {
            if let Some(outcome) = outcomes.get_mut(place) {
                *outcome = Err(why.words().to_owned());
            }
        }
        Ok(outcomes)
    }

    /// Where the public topic ends now: what is put back lies behind that.
    async fn look_up_ends(&mut self, fresh: &mut [Ready]) -> Result<(), Refusal> {
        let mut ends = BTreeMap::new();
        for one in fresh {
            let Goes::Door(append) = &one.goes else { continue };
            let end = if let Some(end) = ends.get(&append.partition) {
                *end
            } else {
                let end = match self.log.watermarks(&append.topic, append.partition).await {
                    // The append says so.
                    Err(LogError::Unknown) => 0,
                    bounds @ (Ok(_) | Err(LogError::OutOfRange | LogError::Unavailable(_))) => bounds?.1,
                };
                ends.insert(append.partition, end);
                end
            };
            one.end = Some(end);
        }
        Ok(())
    }

    fn line(&self, one: &Ready) -> Line {
        let before = one.end.map_or_else(String::new, |end| end.to_string());
        let line = Line { subject: one.subject.clone(), record: one.goes.record(), before, ..self.line.clone() };
        line.in_workspace(self.names.workspace_name(WorkspaceId::new(one.workspace)))
    }

    async fn prepare(&mut self, place: usize, letter: &Letter) -> Result<Result<Ready, String>, Refusal> {
        let subject = subject(letter);
        let begun = self.before.place_of(&subject, &self.line.note);
        let before = begun.unwrap_or_else(|| self.before.of(&subject).len());
        if begun.is_none() && before > 0 && !self.again {
            return Ok(Err("it was put back before: --again does it once more".to_owned()));
        }
        if begun.is_none() && !self.again && self.before.discard(&subject).is_some() {
            return Ok(Err("it was discarded: --again puts it back".to_owned()));
        }
        let (goes, behind) = match back(letter, before) {
            Ok(Back::Inbox(role, record)) => (Goes::Inbox(role, record), 0),
            Ok(Back::Door) => match self.originals.of(letter).await? {
                Some((append, _)) if !appends::fits(&append) => return Ok(Err(No::Large.words().to_owned())),
                Some((append, behind)) => (Goes::Door(append), behind),
                None => return Ok(Err(cut(letter.truncated.unwrap_or_default()))),
            },
            Err(why) => return Ok(Err(why)),
        };
        let begun = match begun.and_then(|place| self.before.of(&subject).get(place)) {
            // The line of somebody else took the place that this one was written for, and so its letter.
            Some((_, line)) if line.record != goes.record() => return Ok(Err(ELSEWHERE.to_owned())),
            Some((_, line)) => Some(Begun { at: line.at, from: line.before.parse().unwrap_or(0).max(behind) }),
            None => None,
        };
        Ok(Ok(Ready { place, subject, workspace: letter.workspace, before, goes, begun, end: None }))
    }

    /// What an earlier attempt has written down and not done.
    async fn missing(&mut self, begun: Vec<Ready>) -> Result<Vec<Ready>, Refusal> {
        let mut doubt = Doubt::default();
        for (number, one) in begun.iter().enumerate() {
            let Some(Begun { at: since, from }) = one.begun else { continue };
            match &one.goes {
                Goes::Inbox(role, record) => {
                    doubt.record(number, self.control.changes.prefix(), self.control.layout, *role, record, since);
                }
                Goes::Door(append) => doubt.append(number, append, since, from),
            }
        }
        let hold = self.hold;
        let there = doubt.settle(self.log, || moved(hold)).await?;
        Ok(begun.into_iter().enumerate().filter(|(number, _)| !there.contains(number)).map(|(_, one)| one).collect())
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

/// Says that an operation's attempt goes on.
fn moved(hold: Option<&Hold>) {
    if let Some(hold) = hold {
        hold.moved();
    }
}
