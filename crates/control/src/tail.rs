//! `DecisionService`, `MessageService` and `EventService`: rows of the public topics as they are written, beside all consumer groups.

mod event;
pub(crate) mod once;
mod part;
mod row;
mod wanted;

use std::{pin::Pin, sync::Arc, time::Duration};

use futures::{StreamExt as _, future::try_join_all, stream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::{Request, Response, Status};
use waypost_codec::{
    public::{Decision, Message},
    schemas::Schemas,
};
use waypost_proto::control::{
    self as pb, decision_service_server::DecisionService, event_service_server::EventService, message_service_server::MessageService,
};
use waypost_runtime::ports::Log;

use self::{
    event::{Event, Events, Identifier},
    part::{Budget, Part},
    row::{Row, Told},
    wanted::Wanted,
};
use crate::{
    access::{Permission, admit},
    names,
    server::Control,
    status::Refusal,
};

/// Tails under way at once: each has a reader for every partition of its topic.
const AT_ONCE: usize = 8;
/// How long one may last: what the caller may do is looked at when it begins.
const LONGEST: Duration = Duration::from_hours(1);
/// Rows that one may give.
const ROWS_MAX: usize = 100_000;
/// Rows that wait for a client that reads slowly; then reading waits too.
const ROOM: usize = 64;

/// What a call gives.
type Rows<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The room that tails take, and whether they may go on; cheap to clone.
#[derive(Clone)]
pub(crate) struct Tails {
    room: Arc<Semaphore>,
    closing: Arc<watch::Sender<bool>>,
}

/// Where rows go.
struct Sink<T> {
    rows: mpsc::Sender<Result<T, Status>>,
    left: usize,
    /// What is said when no more may go; nothing where the caller asked for no more.
    spent: Option<Refusal>,
}

// === impl Tails ===

impl Default for Tails {
    fn default() -> Self {
        Self { room: Arc::new(Semaphore::new(AT_ONCE)), closing: Arc::new(watch::Sender::new(false)) }
    }
}

impl Tails {
    /// Ends all of them: a process that stops does not wait for them.
    pub(crate) fn close(&self) {
        self.room.close();
        self.closing.send_replace(true);
    }

    /// Done when all are closed.
    pub(crate) fn closing(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut closing = self.closing.subscribe();
        async move { drop(closing.wait_for(|closing| *closing).await) }
    }

    /// Begins one. It ends when its reader has gone, when its time is over and when all are closed.
    async fn begin<R: Row>(
        &self,
        log: Arc<dyn Log>,
        schemas: &Arc<dyn Schemas>,
        topic: String,
        wanted: Wanted<R::Filter>,
    ) -> Result<Rows<R::Shown>, Refusal> {
        let room = Arc::clone(&self.room).try_acquire_owned();
        let room = room.map_err(|_| Refusal::Exhausted("too many tails at once; try again when another has ended"))?;
        let parts = open(&*log, schemas, &topic, &wanted).await?;
        // One place is kept for how it ends: that never waits for the reader.
        let (rows, receiver) = mpsc::channel(ROOM + 1);
        let last = rows.clone().try_reserve_owned().map_err(|_| Refusal::Internal)?;
        let (left, spent) = match wanted.limit {
            Some(limit) if limit <= ROWS_MAX => (limit, None),
            _ => (ROWS_MAX, Some(Refusal::Exhausted("one tail gives 100000 rows: go on from the last one's time"))),
        };
        let mut sink = Sink { rows: rows.clone(), left, spent };
        let lasting = wanted.deadline.map_or(LONGEST, |deadline| deadline.min(LONGEST));
        let mut closing = self.closing.subscribe();
        tokio::spawn(async move {
            let ended = tokio::select! {
                () = rows.closed() => Ok(()),
                _ = closing.wait_for(|closing| *closing) => Err(Refusal::Unavailable("this server stops; another goes on".to_owned())),
                ended = tokio::time::timeout(lasting, run::<R>(parts, &wanted, &mut sink)) => ended.unwrap_or(Err(Refusal::Deadline)),
            };
            if let Err(refusal) = ended {
                last.send(Err(refusal.into()));
            }
            drop(room);
        });
        Ok(Box::pin(ReceiverStream::new(receiver)))
    }
}

/// Readers of all partitions.
async fn open<F: Sync>(log: &dyn Log, schemas: &Arc<dyn Schemas>, topic: &str, wanted: &Wanted<F>) -> Result<Vec<Part>, Refusal> {
    let known = log.describe(topic).await?;
    let known = known.ok_or_else(|| Refusal::Precondition("NO_TOPIC", format!("there is no topic {topic}: `waypost init` makes it")))?;
    let parts = try_join_all((0..known.partitions).map(|partition| Part::open(log, Arc::clone(schemas), topic, partition, wanted))).await?;
    Ok(parts.into_iter().flatten().collect())
}

/// What is there, by its time; then what comes.
async fn run<R: Row>(mut parts: Vec<Part>, wanted: &Wanted<R::Filter>, sink: &mut Sink<R::Shown>) -> Result<(), Refusal> {
    let budget = Budget::default();
    let mut heads = try_join_all(parts.iter_mut().map(|part| part.earlier::<R>(wanted, &budget))).await?;
    while let Some(first) = earliest(&heads) {
        let (Some(part), Some(head)) = (parts.get_mut(first), heads.get_mut(first)) else { break };
        let next = part.earlier(wanted, &budget).await?;
        if let Some(row) = std::mem::replace(head, next)
            && !sink.put(row.shown(&wanted.filter)).await?
        {
            return Ok(());
        }
    }
    if !wanted.follow {
        return Ok(());
    }
    let coming = parts.into_iter().map(|part| {
        Box::pin(stream::unfold(part, async |mut part| {
            let row = part.later::<R>(wanted).await;
            Some((row, part))
        }))
    });
    let mut coming = stream::select_all(coming);
    while let Some(row) = coming.next().await {
        if !sink.put(row?.shown(&wanted.filter)).await? {
            break;
        }
    }
    Ok(())
}

/// Which of the rows at hand comes first.
fn earliest<R: Row>(heads: &[Option<R>]) -> Option<usize> {
    let rows = heads.iter().enumerate().filter_map(|(index, head)| Some((head.as_ref()?.at(), index)));
    rows.min().map(|(_, index)| index)
}

// === impl Sink ===

impl<T> Sink<T> {
    /// Whether more may follow.
    async fn put(&mut self, row: T) -> Result<bool, Refusal> {
        if self.left == 0 {
            return self.spent.take().map_or(Ok(false), Err);
        }
        self.left -= 1;
        let heard = self.rows.send(Ok(row)).await.is_ok();
        Ok(heard && (self.left > 0 || self.spent.is_some()))
    }
}

// === impl Control ===

impl Control {
    /// Ends what would last: tails, and operations that are under way here.
    pub fn close(&self) {
        self.tails.close();
        self.operations.close();
    }

    async fn tail<R: Row>(&self, wanted: Wanted<R::Filter>) -> Result<Response<Rows<R::Shown>>, Status> {
        let topic = format!("{}{}", self.changes.prefix(), R::TOPIC);
        Ok(Response::new(self.tails.begin::<R>(self.changes.log(), &self.schemas, topic, wanted).await?))
    }
}

#[tonic::async_trait]
impl DecisionService for Control {
    type TailDecisionsStream = Rows<pb::DecisionRow>;

    async fn tail_decisions(&self, request: Request<pb::TailDecisionsRequest>) -> Result<Response<Self::TailDecisionsStream>, Status> {
        let deadline = wanted::deadline(request.metadata());
        let (_, asked) = admit(request)?;
        let pb::TailDecisionsRequest { parent, journey, profile, since, follow, limit } = asked;
        let workspace = self.workspace(names::workspace(&parent)?)?;
        let wanted = Wanted::new(Told { workspace, journey, profile }, since, follow, limit, deadline)?;
        self.tail::<Decision>(wanted).await
    }
}

#[tonic::async_trait]
impl MessageService for Control {
    type TailMessagesStream = Rows<pb::MessageRow>;

    async fn tail_messages(&self, request: Request<pb::TailMessagesRequest>) -> Result<Response<Self::TailMessagesStream>, Status> {
        let deadline = wanted::deadline(request.metadata());
        let (_, asked) = admit(request)?;
        let pb::TailMessagesRequest { parent, journey, profile, since, follow, limit } = asked;
        let workspace = self.workspace(names::workspace(&parent)?)?;
        let wanted = Wanted::new(Told { workspace, journey, profile }, since, follow, limit, deadline)?;
        self.tail::<Message>(wanted).await
    }
}

#[tonic::async_trait]
impl EventService for Control {
    type TailEventsStream = Rows<pb::EventRow>;

    async fn tail_events(&self, request: Request<pb::TailEventsRequest>) -> Result<Response<Self::TailEventsStream>, Status> {
        let deadline = wanted::deadline(request.metadata());
        let (caller, asked) = admit(request)?;
        let pb::TailEventsRequest { parent, event, source, identifier, since, follow, limit, values } = asked;
        let name = names::workspace(&parent)?;
        if (values || !identifier.is_empty()) && !caller.may(Permission::ReadPeople, name) {
            let why = "values, and the events of one person, need the permission read-people, which the caller does not hold there";
            return Err(Refusal::Denied(why.to_owned()).into());
        }
        let workspace = self.workspace(name)?;
        let identifier = (!identifier.is_empty()).then(|| Identifier::read(&identifier, self.normalise)).transpose()?;
        let filter = Events { workspace, event, source, identifier, values };
        self.tail::<Event>(Wanted::new(filter, since, follow, limit, deadline)?).await
    }
}
