//! Folding a partition's recorded log again, beside its owner, and comparing what comes out with what is stored.
//!
//! The role's real machine runs in a sandbox: the log is only read, the store is a [`Snapshot`] in memory, and what it
//! puts out goes to a closure and counts as acknowledged. It claims nothing and never leads, so it calls nobody.
//! An audit of I1, and how `repair` gets back what a log has lost (PROTOCOL §7.3, §13.3).

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use waypost_codec::frame::Frame;
use waypost_types::{PartitionId, Span, Timestamp};

use crate::{
    machine::{Command, Destination, Input, Machine, Produced},
    ports::{Audit, AuditReply, CommitReply, Delivery, Log, LogError, Offset, ReadReply, ReleaseReply, Tail},
    upkeep::Snapshot,
};

/// So many times in a row a machine is woken without getting any further before it is given up.
const PATIENCE: u32 = 10_000;
/// Frames between two calls of the progress closure.
const STRIDE: u64 = 1_000;

/// What is folded, how far, and by whom.
pub struct Refold<'a> {
    /// The log; it is only read.
    pub log: &'a dyn Log,
    /// Before every topic.
    pub prefix: &'a str,
    /// Whose log.
    pub partition: PartitionId,
    /// The role's machine without any partition, made for the snapshot's installation. It sees a clock that stands
    /// still between its wake-ups.
    pub machine: Box<dyn Machine>,
    /// Where it begins.
    pub from: Snapshot,
    /// Where it ends: the first offset not folded.
    pub to: Offset,
}

/// Why a log could not be folded again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RefoldError {
    /// Its beginning is gone.
    #[error(
        "the log begins at offset {start}, and the fold would begin at {from}: give it a backup that ends at {start} or later (--from)"
    )]
    Trimmed {
        /// First offset there.
        start: Offset,
        /// Where the fold would begin.
        from: Offset,
    },
    /// There is nothing to fold.
    #[error("the fold would begin at offset {from}, behind its end at {to}: take an older backup")]
    Ahead {
        /// Where the fold would begin.
        from: Offset,
        /// Where it would end.
        to: Offset,
    },
    /// Its end is gone.
    #[error("the log ends at offset {end}, before {to}: it has lost its tail, or is another one")]
    Short {
        /// Next offset to be written there.
        end: Offset,
        /// Where the fold would end.
        to: Offset,
    },
    /// The machine stopped at something.
    #[error("the fold stopped behind offset {off}: {why}")]
    Halted {
        /// First offset not folded.
        off: Offset,
        /// Why.
        why: String,
    },
    /// The machine waits for something that does not come.
    #[error(
        "the fold gets no further than offset {off}: the definitions that are in force there (`{defv}`), or are put in force there, are not in wp1.definitions"
    )]
    Stuck {
        /// First offset not folded.
        off: Offset,
        /// The definitions in force.
        defv: String,
    },
    /// The log does not answer.
    #[error("the log does not answer: {0}")]
    Log(#[from] LogError),
}

/// One thing that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// What: an entity by its hashed id, a wake-up, a sequence, a field of the meta.
    pub what: String,
    /// What the fold gives.
    pub folded: String,
    /// What is stored.
    pub stored: String,
}

/// Takes what is put out, in order.
pub type Sink<'a> = &'a mut (dyn FnMut(&Destination, &Produced) + Send);
/// Is told the next offset now and then.
pub type Watch<'a> = &'a mut (dyn FnMut(Offset) + Send);

// === impl Refold ===

impl std::fmt::Debug for Refold<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Refold")
            .field("partition", &self.partition)
            .field("from", &self.from.off)
            .field("to", &self.to)
            .finish_non_exhaustive()
    }
}

impl Refold<'_> {
    /// Folds, and says what is there at the end.
    ///
    /// # Errors
    /// [`RefoldError`].
    pub async fn run(self, sink: Sink<'_>, watch: Watch<'_>) -> Result<Snapshot, RefoldError> {
        let (from, to) = (self.from.off, self.to);
        if from > to {
            return Err(RefoldError::Ahead { from, to });
        }
        let topic = format!("{}{}", self.prefix, self.partition.role.inbox().unwrap_or_default());
        let (start, end) = self.log.watermarks(&topic, self.partition.index).await?;
        if start > from {
            return Err(RefoldError::Trimmed { start, from });
        }
        if end < to {
            return Err(RefoldError::Short { end, to });
        }
        if from == to {
            return Ok(self.from);
        }
        let marks = (start, end);
        let now = Timestamp::from_millis(1);
        let Self { log, partition, machine, from, to, .. } = self;
        let mut sandbox = Sandbox { log, topic, index: partition.index, marks, machine, state: from, position: None, tail: None, now };
        sandbox.run(to, sink, watch).await?;
        Ok(sandbox.state)
    }
}

/// A machine and its little world.
struct Sandbox<'a> {
    log: &'a dyn Log,
    topic: String,
    index: u32,
    marks: (Offset, Offset),
    machine: Box<dyn Machine>,
    state: Snapshot,
    /// What is delivered next, once the machine has said so.
    position: Option<Offset>,
    /// Open at this offset.
    tail: Option<(Offset, Box<dyn Tail>)>,
    now: Timestamp,
}

/// Whether it is of no partition channel: a leader record, a tick, what a job brought.
fn proposes(produced: &Produced) -> bool {
    let Produced::Frame(payload) = produced else { return false };
    Frame::decode(payload.clone()).is_ok_and(|frame| frame.sections.iter().all(|section| section.source.is_none()))
}

// === impl Sandbox ===

impl Sandbox<'_> {
    async fn run(&mut self, to: Offset, sink: Sink<'_>, watch: Watch<'_>) -> Result<(), RefoldError> {
        self.handle(Input::Assigned(vec![self.index]), sink)?;
        let (mut naps, mut told) = (0, self.state.off);
        while self.state.off < to {
            let before = self.state.off;
            match self.position.filter(|position| *position < to && self.machine.wants(self.index)) {
                Some(position) => {
                    let delivery = self.next(position).await?;
                    self.position = Some(position + 1);
                    self.handle(Input::Delivered(delivery), sink)?;
                }
                None => self.nap(sink)?,
            }
            naps = if self.state.off > before || self.position.is_some_and(|p| p < to && self.machine.wants(self.index)) {
                0
            } else {
                naps + 1
            };
            if naps > PATIENCE {
                return Err(RefoldError::Stuck { off: self.state.off, defv: self.state.meta.defv.clone() });
            }
            if self.state.off >= told + STRIDE || self.state.off == to {
                told = self.state.off;
                watch(told);
            }
        }
        Ok(())
    }

    /// Lets time pass to where the machine wants to be woken.
    fn nap(&mut self, sink: Sink<'_>) -> Result<(), RefoldError> {
        let next = self.machine.next_wake().unwrap_or(self.now);
        self.now = next.max(self.now.plus(Span::from_millis(1)));
        self.handle(Input::Wake, sink)
    }

    async fn next(&mut self, offset: Offset) -> Result<Delivery, RefoldError> {
        let mut tail = match self.tail.take() {
            Some((at, tail)) if at == offset => tail,
            Some(_) | None => self.log.tail(&self.topic, self.index, offset).await?,
        };
        // The end was there before: nothing but a record comes.
        loop {
            if let Some(delivery) = tail.next().await? {
                self.tail = Some((delivery.offset + 1, tail));
                return Ok(delivery);
            }
        }
    }

    /// One input, and everything that the machine wants done upon it.
    fn handle(&mut self, input: Input, sink: Sink<'_>) -> Result<(), RefoldError> {
        let (mut inputs, mut commands) = (VecDeque::from([input]), Vec::new());
        while let Some(input) = inputs.pop_front() {
            self.machine.handle(self.now, input, &mut commands);
            for command in commands.drain(..) {
                inputs.extend(self.perform(command, sink)?);
            }
        }
        Ok(())
    }

    fn perform(&mut self, command: Command, sink: Sink<'_>) -> Result<Option<Input>, RefoldError> {
        Ok(match command {
            Command::Claim(p, token) => Some(Input::Claimed(p, token, Ok(self.state.claimed()))),
            Command::Release(p, token) => Some(Input::Released(p, token, Ok(ReleaseReply::Ok))),
            Command::Commit(p, commit) => {
                let fits = commit.expected == self.state.off;
                if fits {
                    self.state.apply(&commit);
                }
                Some(Input::Committed(p, commit.token, Ok(if fits { CommitReply::Ok } else { CommitReply::Moved(self.state.off) })))
            }
            Command::Read(p, number, read) => {
                let reply: ReadReply = self.state.read(&read);
                Some(Input::Loaded(p, read.token, number, Ok(reply)))
            }
            Command::Audit(p, token, part) => {
                let (off, digest, sum) = (self.state.off, self.state.meta.digest.clone(), self.state.digest().sum(part));
                Some(Input::Audited(p, token, part, Ok(AuditReply::Ok(Audit { own: Some(token), off, digest, sum }))))
            }
            Command::Seek(_, offset) => {
                self.position = Some(offset);
                None
            }
            Command::Produce(number, destination, produced) => {
                sink(&destination, &produced);
                // What it proposes to itself never comes back, so the log must not say that it has it.
                (!proposes(&produced)).then_some(Input::Produced(number, Ok(0)))
            }
            Command::NewProducer(life) => Some(Input::ProducerReady(life)),
            Command::Watermarks(p) => Some(Input::Watermarks(p, self.marks.0, self.marks.1)),
            Command::Halted(_, why) | Command::Exit(why) | Command::Rejoin(why) => {
                return Err(RefoldError::Halted { off: self.state.off, why });
            }
            // It never leads, so it starts no jobs; nobody asks it anything; nothing takes its partition away.
            Command::Job(p, _) => Some(Input::JobDone(p, Vec::new())),
            // Nobody dies here, and what is wrong with a channel shows in what is compared.
            Command::Deaths(p, token) => Some(Input::Deaths(p, token, Ok(None))),
            Command::NoteDeaths(p, token, _) => Some(Input::DeathsNoted(p, token, Ok(()))),
            Command::Answer(..) | Command::Gone(_) | Command::Alarm(..) => None,
        })
    }
}

/// What differs between a fold and what is stored at the same offset, in a fixed order. A digest is compared where
/// both have one.
pub fn differences(folded: &Snapshot, stored: &Snapshot) -> Vec<Difference> {
    let mut all = Vec::new();
    let mut differ = |what: String, folded: String, stored: String| {
        if folded != stored {
            all.push(Difference { what, folded, stored });
        }
    };
    let (one, other) = (&folded.meta, &stored.meta);
    differ("off".into(), folded.off.to_string(), stored.off.to_string());
    for (name, one, other) in [
        ("clk", one.clk.millis().to_string(), other.clk.millis().to_string()),
        ("wm", one.wm.millis().to_string(), other.wm.millis().to_string()),
        ("ochain", one.ochain.to_string(), other.ochain.to_string()),
        ("eng", one.eng.to_string(), other.eng.to_string()),
        ("defv", one.defv.clone(), other.defv.clone()),
        ("leader", one.leader.to_string(), other.leader.to_string()),
        ("lastrec", one.lastrec.clone(), other.lastrec.clone()),
    ] {
        differ(name.into(), one, other);
    }
    if !one.digest.is_empty() && !other.digest.is_empty() {
        differ("digest".into(), hex::encode(&one.digest), hex::encode(&other.digest));
    }
    compare(&folded.sequences, &stored.sequences, &mut differ, |field| format!("sequence {field}"), |value| hex::encode(value));
    // Keys of entities are hashes and ids, so that they say nothing of anybody.
    let named = |what: &str, id: &waypost_types::EntityId| format!("{what} {}:{}", char::from(id.kind()), hex::encode(id.key()));
    compare(&folded.timers, &stored.timers, &mut differ, |id| named("wake-up", id), ToString::to_string);
    let told = |blob: &bytes::Bytes| format!("{} bytes, crc {:08x}", blob.len(), crc32c::crc32c(blob));
    compare(&folded.entities, &stored.entities, &mut differ, |id| named("entity", id), told);
    all
}

fn compare<K: Ord, V: PartialEq>(
    folded: &BTreeMap<K, V>,
    stored: &BTreeMap<K, V>,
    differ: &mut impl FnMut(String, String, String),
    name: impl Fn(&K) -> String,
    tell: impl Fn(&V) -> String,
) {
    let keys: BTreeSet<&K> = folded.keys().chain(stored.keys()).collect();
    for key in keys {
        let (one, other) = (folded.get(key), stored.get(key));
        if one != other {
            let told = |value: Option<&V>| value.map_or_else(|| "absent".to_owned(), &tell);
            differ(name(key), told(one), told(other));
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use waypost_types::{EntityId, WorkspaceId};

    use super::*;
    use crate::ports::{Install, Meta};

    #[test]
    fn every_part_of_the_state_is_compared_and_named_without_its_content() {
        type Change = fn(&mut Snapshot);
        let id = |key: &[u8]| EntityId::new(WorkspaceId::new(1), b'p', key);
        let mut stored = Snapshot::empty(Install { id: "00".repeat(16), layout: 1, format: 1 });
        stored.entities.insert(id(b"\x01"), Bytes::from_static(b"ana@mail.example"));
        stored.timers.insert(id(b"\x01"), Timestamp::from_millis(5));
        stored.sequences.insert("i:identity:0".into(), [1; 16]);
        assert_eq!(differences(&stored, &stored), []);
        let changes: [(&str, Change); 6] = [
            ("off", |s| s.off = 9),
            ("ochain", |s| s.meta.ochain = 9),
            ("lastrec", |s| s.meta.lastrec = "0:1:2".into()),
            ("sequence i:identity:0", |s| s.sequences.values_mut().for_each(|tip| *tip = [2; 16])),
            ("wake-up p:01", |s| s.timers.clear()),
            ("entity p:01", |s| s.entities.values_mut().for_each(|blob| *blob = Bytes::from_static(b"ben@mail.example"))),
        ];
        for (what, change) in changes {
            let mut folded = stored.clone();
            change(&mut folded);
            let found = differences(&folded, &stored);
            assert_eq!(found.iter().map(|d| d.what.as_str()).collect::<Vec<_>>(), [what]);
            assert!(!format!("{found:?}").contains("mail.example"), "{found:?}");
        }
        let digest =
            |digest: &'static [u8]| Snapshot { meta: Meta { digest: Bytes::from_static(digest), ..Meta::default() }, ..stored.clone() };
        assert_eq!(differences(&digest(b"a"), &digest(b"")), [], "one that has no digest yet");
        assert_eq!(differences(&digest(b"a"), &digest(b"b")).len(), 1);
    }
}
