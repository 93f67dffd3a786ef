//! The door of the pipeline: appends records that come from outside to inboxes, and says when they are there.
//!
//! The records of concurrent requests to one partition share a frame; a request is answered when the frames that
//! hold its records are acknowledged. Nothing outlives its request here.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::{StreamExt as _, stream::FuturesUnordered};
use tokio::sync::{mpsc, oneshot};
use waypost_codec::frame::{Frame, Record};
use waypost_types::{Layout, Role};

use crate::ports::{Append, AppendError, Log, Producer};

/// Requests that may wait for the packer; above, callers wait to be taken.
const WAITING_MAX: usize = 1_024;
/// Records of a frame at most.
const FRAME_RECORDS: usize = 1_000;
/// Bytes of a frame, roughly; a larger record goes alone.
const FRAME_BYTES: usize = 256 * 1024;
/// Bytes of a record alone; a little below what a producer sends.
const RECORD_BYTES: usize = 990_000;
/// How long an append may take before the caller is told to come again.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why records are not known to be in the log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DoorError {
    /// The log does not answer, or refused; whether they were appended is unknown. Come again.
    #[error("the log does not answer: {0}")]
    Unavailable(String),
    /// A record is larger than an inbox takes.
    #[error("a record is too large for its inbox")]
    TooLarge,
}

/// Appends records to inboxes, each at the partition of its workspace and key.
#[async_trait]
pub trait Door: Send + Sync + 'static {
    /// Answers when all of them are acknowledged.
    ///
    /// # Errors
    /// [`DoorError`]; some of the records may be there all the same, and a repeat is dropped by its id.
    async fn append(&self, records: Vec<(Role, Record)>) -> Result<(), DoorError>;
}

type Answer = oneshot::Sender<Result<(), DoorError>>;

/// The door over a log; cheap to clone. The packer is a task that ends with the last clone.
#[derive(Clone, Debug)]
pub struct LogDoor {
    requests: mpsc::Sender<(Vec<(Role, Record)>, Answer)>,
}

// === impl LogDoor ===

impl LogDoor {
    /// A door to the inboxes of this installation, with its packer running.
    pub fn new(log: Arc<dyn Log>, prefix: String, layout: Layout) -> Self {
        let (requests, waiting) = mpsc::channel(WAITING_MAX);
        drop(tokio::task::spawn(Packer { log, prefix, layout, producer: None, life: 0 }.run(waiting)));
        Self { requests }
    }
}

#[async_trait]
impl Door for LogDoor {
    async fn append(&self, records: Vec<(Role, Record)>) -> Result<(), DoorError> {
        let (answer, answered) = oneshot::channel();
        let away = |what: &str| DoorError::Unavailable(what.to_owned());
        let patient = tokio::time::timeout(PATIENCE, async {
            self.requests.send((records, answer)).await.map_err(|_| away("stopping"))?;
            answered.await.map_err(|_| away("stopping"))?
        });
        patient.await.map_err(|_| away("no acknowledgement in time"))?
    }
}

/// What one request still waits for.
struct Pending {
    frames: usize,
    outcome: Result<(), DoorError>,
    answer: Option<Answer>,
}

struct Packer {
    log: Arc<dyn Log>,
    prefix: String,
    layout: Layout,
    producer: Option<Arc<dyn Producer>>,
    /// Counts producers, so that what fails with an old one does not end the life of the next.
    life: u64,
}

// === impl Packer ===

impl Packer {
    async fn run(mut self, mut waiting: mpsc::Receiver<(Vec<(Role, Record)>, Answer)>) {
        let mut pending: BTreeMap<u64, Pending> = BTreeMap::new();
        let mut flying = FuturesUnordered::new();
        let mut next = 0_u64;
        let mut open = true;
        let mut taken = Vec::new();
        while open || !flying.is_empty() {
            tokio::select! {
                biased;
                Some((life, requests, outcome)) = flying.next(), if !flying.is_empty() => {
                    let life: u64 = life;
                    let requests: Vec<u64> = requests;
                    let outcome: Result<u64, AppendError> = outcome;
                    // Any error but a full queue ends a producer's life; the next request begins a new one.
                    if life == self.life && outcome.as_ref().is_err_and(|e| *e != AppendError::Full) {
                        self.end_life();
                    }
                    for id in requests {
                        settle(&mut pending, id, &outcome);
                    }
                }
                count = waiting.recv_many(&mut taken, WAITING_MAX), if open => {
                    open = count > 0;
                    let mut boxes: BTreeMap<(Role, u32), Vec<(u64, Record)>> = BTreeMap::new();
                    for (records, answer) in taken.drain(..) {
                        pending.insert(next, Pending { frames: 0, outcome: Ok(()), answer: Some(answer) });
                        for (role, record) in records {
                            let partition = self.layout.partition(record.workspace, &record.key);
                            boxes.entry((role, partition)).or_default().push((next, record));
                        }
                        next += 1;
                    }
                    for ((role, partition), records) in boxes {
                        for (requests, frame) in frames(records) {
                            for id in &requests {
                                if let Some(p) = pending.get_mut(id) {
                                    p.frames += 1;
                                }
                            }
                            match self.send(role, partition, &frame) {
                                Ok(sent) => {
                                    let life = self.life;
                                    flying.push(async move { (life, requests, sent.await) });
                                }
                                Err(error) => {
                                    for id in requests {
                                        settle(&mut pending, id, &Err(error.clone()));
                                    }
                                }
                            }
                        }
                    }
                    answer_empty(&mut pending);
                }
            }
        }
    }

    fn send(
        &mut self,
        role: Role,
        partition: u32,
        frame: &Frame,
    ) -> Result<futures::future::BoxFuture<'static, Result<u64, AppendError>>, AppendError> {
        let inbox = role.inbox().ok_or_else(|| AppendError::Failed(format!("{role} has no inbox")))?;
        let (topic, payload) = (format!("{}{inbox}", self.prefix), frame.encode());
        // known before it is sent, because a refusal ends the producer's life and fails whatever else is under way
        if payload.len() > RECORD_BYTES {
            return Err(AppendError::TooLarge { topic, bytes: payload.len() });
        }
        let producer = if let Some(producer) = &self.producer {
            producer
        } else {
            self.producer.insert(self.log.producer().map_err(|e| AppendError::Failed(e.to_string()))?)
        };
        Ok(producer.append(Append { topic, partition, key: None, headers: Vec::new(), payload }))
    }

    fn end_life(&mut self) {
        if let Some(producer) = self.producer.take() {
            producer.purge();
        }
        self.life += 1;
    }
}

fn settle(pending: &mut BTreeMap<u64, Pending>, id: u64, outcome: &Result<u64, AppendError>) {
    let Some(request) = pending.get_mut(&id) else { return };
    request.frames = request.frames.saturating_sub(1);
    if let Err(error) = outcome {
        request.outcome = Err(match error {
            AppendError::TooLarge { .. } => DoorError::TooLarge,
            AppendError::UnknownPartition { .. } | AppendError::Full | AppendError::Failed(_) => DoorError::Unavailable(error.to_string()),
        });
    }
    if request.frames == 0
        && let Some(done) = pending.remove(&id)
    {
        done.finish();
    }
}

/// Requests without records are done as soon as they are taken.
fn answer_empty(pending: &mut BTreeMap<u64, Pending>) {
    let empty: Vec<u64> = pending.iter().filter(|(_, p)| p.frames == 0).map(|(id, _)| *id).collect();
    for id in empty {
        if let Some(done) = pending.remove(&id) {
            done.finish();
        }
    }
}

/// Cuts the records of one partition into frames, in order, each with the requests it serves.
fn frames(records: Vec<(u64, Record)>) -> Vec<(Vec<u64>, Frame)> {
    let mut frames = Vec::new();
    let (mut requests, mut held, mut bytes) = (Vec::new(), Vec::new(), 0_usize);
    for (id, record) in records {
        let size = record.body.len() + record.key.len() + 64;
        if !held.is_empty() && (held.len() >= FRAME_RECORDS || bytes + size > FRAME_BYTES) {
            frames.push((std::mem::take(&mut requests), Frame::unsourced(std::mem::take(&mut held))));
            bytes = 0;
        }
        if requests.last() != Some(&id) {
            requests.push(id);
        }
        bytes += size;
        held.push(record);
    }
    if !held.is_empty() {
        frames.push((requests, Frame::unsourced(held)));
    }
    frames
}

// === impl Pending ===

impl Pending {
    fn finish(mut self) {
        if let Some(answer) = self.answer.take() {
            // The caller may have given up waiting.
            drop(answer.send(self.outcome));
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use waypost_types::{Timestamp, WorkspaceId};

    use super::*;

    fn record(size: usize) -> Record {
        Record::new(1, WorkspaceId::new(1), [0; 16], Bytes::from_static(b"k"), Timestamp::ZERO, vec![0; size].into())
    }

    #[test]
    fn records_are_cut_into_frames_in_order() {
        let cut = frames(vec![(1, record(10)), (1, record(200_000)), (2, record(100_000)), (3, record(300_000)), (3, record(5))]);
        let shape: Vec<_> = cut.iter().map(|(requests, frame)| (requests.clone(), frame.sections[0].records.len())).collect();
        assert_eq!(shape, [(vec![1], 2), (vec![2], 1), (vec![3], 1), (vec![3], 1)]);
    }
}
