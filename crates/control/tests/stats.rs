//! What journeys have done, counted from public topics in memory: over crashes, by several processes, longer than the topics last.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends with the place")]

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use tonic::Code;
use tonic_types::StatusExt as _;
use waypost_codec::{
    avro,
    public::{Decision, Message},
};
use waypost_control::{Catalog, Changes, Control, Following, Reports, access::Caller};
use waypost_memory::{LogPort, MemoryLog, VirtualClock};
use waypost_proto::control::{self as pb, journey_service_server::JourneyService as _};
use waypost_runtime::{
    door::LogDoor,
    ports::{Append, Clock, Log, Offset, Owners, OwnersError},
};
use waypost_types::{EntityId, IdentifierClass, Layout, PartitionId, Role, Span, Timestamp};

const LAYOUT: Layout = Layout { number: 1, partitions: 4 };
/// Begin of an hour, and of a day of UTC.
const MIDNIGHT: i64 = 20_539 * 24 * HOUR;
const HOUR: i64 = 3_600_000;
const JOURNEY: &str = "workspaces/default/journeys/cart";

struct Nobody;

#[async_trait]
impl Owners for Nobody {
    async fn read(&self, _: PartitionId, _: EntityId) -> Result<(Option<Bytes>, Offset), OwnersError> {
        Ok((None, 0))
    }
}

/// A log and its clock, and what has been written to the public topics.
struct World {
    log: MemoryLog,
    port: Arc<dyn Log>,
    clock: VirtualClock,
    numbers: u64,
}

/// A control process.
struct Process {
    control: Control,
    counting: tokio::task::JoinHandle<()>,
    _following: Following,
}

// === impl World ===

impl World {
    fn new() -> Self {
        let world = Self::before();
        world.log.create_plain("wp1.reports", 1);
        world
    }

    /// As an installation from before there were reports.
    fn before() -> Self {
        let clock = VirtualClock::new(Timestamp::from_millis(MIDNIGHT + 30 * HOUR));
        let log = MemoryLog::new(&clock);
        for role in Role::KEYED {
            log.create_plain(role.inbox().unwrap(), LAYOUT.partitions);
        }
        for (topic, partitions) in [("wp1.control", 1), ("wp1.definitions", 8), ("wp1.audit", 1), ("wp1.dead", 8)] {
            log.create_plain(topic, partitions);
        }
        for topic in [Decision::TOPIC, Message::TOPIC] {
            log.create_plain(topic, 3);
        }
        let port: Arc<dyn Log> = Arc::new(LogPort::new(log.clone()));
        Self { log, port, clock, numbers: 0 }
    }

    /// A process; `life` tells it from others.
    async fn start(&self, life: u64) -> Process {
        let reports = Reports::new(self.port.clone(), Arc::new(self.clock.clone()), "", life, 400).every(Duration::from_secs(1));
        let counting = tokio::spawn(reports.clone().run());
        let (control, following) = self.control().await;
        Process { control: control.with_reports(reports), counting, _following: following }
    }

    async fn control(&self) -> (Control, Following) {
        let (catalog, following) = Catalog::follow(&self.port, "").await.unwrap();
        let clock: Arc<dyn Clock> = Arc::new(self.clock.clone());
        let changes = Changes::new(self.port.clone(), clock.clone(), catalog.clone(), String::new(), LAYOUT);
        let normalise = |_: IdentifierClass, value: &str| Some(value.to_owned());
        let door = Arc::new(LogDoor::new(self.port.clone(), String::new(), LAYOUT));
        (Control::new(changes, catalog, Arc::new(Nobody), clock, LAYOUT, [7; 32], normalise, Arc::new(|| [9; 24]), door), following)
    }

    fn write(&self, topic: &str, number: u64, body: &[u8]) {
        let partition = u32::try_from(number % 3).unwrap();
        // One source a partition, whose numbers have no holes.
        let header = |name: &str, value: String| (name.to_owned(), Bytes::from(value));
        let headers = vec![header("ce_source", format!("/s/{partition}")), header("ce_sequence", (number / 3 + 1).to_string())];
        let append = Append { topic: topic.to_owned(), partition, key: None, headers, payload: avro::write(1, body) };
        self.log.append(append).unwrap();
    }

    /// `EXITED GOAL` at a step, so many hours behind midnight.
    fn decide(&mut self, what: &str, step: &str, hour: i64) {
        let (what, reason) = what.split_once(' ').unwrap_or((what, ""));
        let decision = Decision { what: what.to_owned(), step: step.to_owned(), reason: reason.to_owned(), ..decision(hour) };
        self.write(Decision::TOPIC, self.numbers, &decision.encode());
        self.numbers += 1;
    }

    /// Of all partitions what has been written to `wp1.reports`.
    fn progress(&self) -> usize {
        let is_progress = |key: &Bytes| key.starts_with(br#"{"kind":"progress""#);
        self.log.all("wp1.reports", 0).iter().filter(|record| record.key.as_ref().is_some_and(is_progress)).count()
    }
}

fn decision(hour: i64) -> Decision {
    let at = Timestamp::from_millis(MIDNIGHT + hour * HOUR + 5);
    Decision { workspace: 1, at, journey: "cart".to_owned(), version: 2, ..Decision::default() }
}

// === impl Process ===

impl Process {
    async fn ask(&self, request: pb::GetJourneyStatsRequest) -> Result<pb::JourneyStats, tonic::Status> {
        self.control.get_journey_stats(Caller::process("test").asks(request)).await.map(tonic::Response::into_inner)
    }

    /// When everything that is there now has been counted.
    async fn asked(&self, world: &World, request: &pb::GetJourneyStatsRequest) -> pb::JourneyStats {
        world.clock.advance(Span::from_millis(1));
        let now = world.clock.now().millis();
        for _ in 0..1_000 {
            match self.ask(request.clone()).await {
                Ok(answer) if answer.as_of >= now => return answer,
                Ok(_) => {}
                Err(status) => assert_eq!(status.code(), Code::Unavailable, "{status}"),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("it is never counted");
    }
}

fn total() -> pb::GetJourneyStatsRequest {
    by(pb::StatsInterval::Total)
}

fn by(interval: pb::StatsInterval) -> pb::GetJourneyStatsRequest {
    pb::GetJourneyStatsRequest { name: JOURNEY.to_owned(), interval: interval.into(), ..pb::GetJourneyStatsRequest::default() }
}

/// A line a row: hours behind midnight, step, entered, refused, exited.
fn lines(answer: &pb::JourneyStats) -> Vec<String> {
    let line =
        |row: &pb::JourneyStatsRow| format!("{} {} {} {} {}", (row.from - MIDNIGHT) / HOUR, row.step, row.entered, row.refused, row.exited);
    answer.rows.iter().map(line).collect()
}

fn reason(status: &tonic::Status) -> String {
    status.get_error_details().error_info().unwrap().reason.clone()
}

#[tokio::test(start_paused = true)]
async fn several_processes_tell_what_the_rows_say_each_once() {
    let mut world = World::new();
    for (what, step, hour) in [
        ("ENTERED", "first", 0),
        ("ENTERED", "first", 1),
        ("REFUSED NO_CONSENT", "", 1),
        ("EXITED GOAL", "last", 25),
        ("WAITING", "first", 1),
    ] {
        world.decide(what, step, hour);
    }
    // Another version's, another journey's, another workspace's; and one that comes twice.
    let others = [
        Decision { version: 1, what: "ENTERED".to_owned(), ..decision(1) },
        Decision { journey: "carts".to_owned(), what: "ENTERED".to_owned(), ..decision(1) },
        Decision { workspace: 2, what: "ENTERED".to_owned(), ..decision(1) },
    ];
    for decision in others {
        world.write(Decision::TOPIC, world.numbers, &decision.encode());
        world.numbers += 1;
    }
    world.write(Decision::TOPIC, 0, &Decision { what: "ENTERED".to_owned(), ..decision(0) }.encode());
    let accepted =
        Message { workspace: 1, at: decision(2).at, name: "Message Accepted".to_owned(), journey: "cart".to_owned(), ..Message::default() };
    world.write(Message::TOPIC, 0, &accepted.encode());
    let (first, second) = (world.start(1).await, world.start(2).await);
    for process in [&first, &second] {
        let answer = process.asked(&world, &total()).await;
        assert_eq!((answer.live, answer.missed, answer.rows.len(), answer.rows[0].accepted), (2, 0, 1, 1));
        assert_eq!((answer.rows[0].entered, answer.rows[0].refused, answer.rows[0].exited), (3, 1, 1));
        assert_eq!(lines(&process.asked(&world, &by(pb::StatsInterval::Hour)).await), ["0  1 0 0", "1  2 1 0", "2  0 0 0", "25  0 0 1"]);
        assert_eq!(lines(&process.asked(&world, &by(pb::StatsInterval::Day)).await), ["0  3 1 0", "24  0 0 1"]);
        let steps = pb::GetJourneyStatsRequest { steps: true, ..by(pb::StatsInterval::Day) };
        assert_eq!(lines(&process.asked(&world, &steps).await), ["0  1 1 0", "0 first 2 0 0", "24 last 0 0 1"]);
        let version = pb::GetJourneyStatsRequest { version: 2, ..total() };
        let answer = process.asked(&world, &version).await;
        assert_eq!((answer.rows[0].entered, answer.rows[0].accepted, answer.live), (2, 0, 1));
        let some = pb::GetJourneyStatsRequest { from: MIDNIGHT + HOUR, until: MIDNIGHT + 2 * HOUR, ..total() };
        let answer = process.asked(&world, &some).await;
        assert_eq!((lines(&answer), answer.from, answer.until), (vec!["1  2 1 0".to_owned()], some.from, some.until));
    }
}

#[tokio::test(start_paused = true)]
async fn pages_follow_one_another_and_are_of_one_question() {
    let mut world = World::new();
    for hour in 0..7 {
        world.decide("ENTERED", "a.b", hour);
        world.decide("ENTERED", "c", hour);
    }
    let process = world.start(1).await;
    let mut request = pb::GetJourneyStatsRequest { steps: true, page_size: 3, ..by(pb::StatsInterval::Hour) };
    process.asked(&world, &request).await;
    let mut all = Vec::new();
    loop {
        let page = process.ask(request.clone()).await.unwrap();
        assert!(page.rows.len() <= 3);
        all.extend(lines(&page));
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
        let foreign = pb::GetJourneyStatsRequest { steps: false, ..request.clone() };
        assert_eq!(reason(&process.ask(foreign).await.unwrap_err()), "INVALID_PAGE_TOKEN");
    }
    let expected: Vec<_> = (0..7).flat_map(|hour| [format!("{hour} a.b 1 0 0"), format!("{hour} c 1 0 0")]).collect();
    assert_eq!(all, expected);
}

#[tokio::test(start_paused = true)]
async fn figures_outlive_their_rows_and_their_process() {
    let mut world = World::new();
    for _ in 0..9 {
        world.decide("ENTERED", "first", 0);
    }
    let process = world.start(1).await;
    process.asked(&world, &total()).await;
    // Long enough for a write behind the last row.
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(world.progress() >= 3);
    process.counting.abort();
    // What was counted falls to retention, and more comes while nobody counts.
    for partition in 0..3 {
        world.log.trim(Decision::TOPIC, partition, 3);
    }
    for _ in 0..6 {
        world.decide("ENTERED", "first", 1);
    }
    let process = world.start(2).await;
    let answer = process.asked(&world, &by(pb::StatsInterval::Hour)).await;
    assert_eq!((lines(&answer), answer.live, answer.missed), (vec!["0  9 0 0".to_owned(), "1  6 0 0".to_owned()], 15, 0));
    // One that is killed before it writes leaves its rows to the next.
    let written = world.log.all("wp1.reports", 0).len();
    process.counting.abort();
    world.decide("EXITED GOAL", "first", 2);
    let process = world.start(3).await;
    let answer = process.asked(&world, &total()).await;
    assert_eq!((answer.rows[0].entered, answer.rows[0].exited, answer.live), (15, 1, 14));
    assert!(world.log.all("wp1.reports", 0).len() >= written);
}

#[tokio::test(start_paused = true)]
async fn rows_that_went_before_they_were_counted_are_told() {
    let mut world = World::new();
    world.decide("ENTERED", "first", 0);
    let process = world.start(1).await;
    process.asked(&world, &total()).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    process.counting.abort();
    for _ in 0..9 {
        world.decide("ENTERED", "first", 1);
    }
    world.log.trim(Decision::TOPIC, 0, 3);
    let process = world.start(2).await;
    let answer = process.asked(&world, &total()).await;
    assert_eq!((answer.rows[0].entered, answer.missed), (1 + 9 - 2, 2));
}

#[tokio::test(start_paused = true)]
async fn without_a_topic_it_says_how_to_get_one_and_then_counts() {
    let mut world = World::before();
    world.decide("ENTERED", "first", 0);
    let process = world.start(1).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let refused = process.ask(total()).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::FailedPrecondition, "NO_TOPIC"));
    assert!(refused.message().contains("`waypost init`"), "{}", refused.message());
    world.log.create_plain("wp1.reports", 1);
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert_eq!(process.asked(&world, &total()).await.rows[0].entered, 1);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_answered_is_refused() {
    let world = World::new();
    let (control, _following) = world.control().await;
    let refused = control.get_journey_stats(Caller::process("test").asks(total())).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::FailedPrecondition, "NOT_COUNTED"));
    let process = world.start(1).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let request = total();
    for (request, code, why) in [
        (pb::GetJourneyStatsRequest { name: "cart".to_owned(), ..request.clone() }, Code::InvalidArgument, "INVALID_NAME"),
        (request.clone(), Code::NotFound, "NOT_FOUND"),
        (pb::GetJourneyStatsRequest { name: "workspaces/none/journeys/cart".to_owned(), ..request.clone() }, Code::NotFound, "NOT_FOUND"),
        (pb::GetJourneyStatsRequest { from: 5, until: 5, ..request.clone() }, Code::InvalidArgument, "INVALID_INTERVAL"),
        (pb::GetJourneyStatsRequest { from: i64::MAX, ..request.clone() }, Code::InvalidArgument, "INVALID_INTERVAL"),
        (pb::GetJourneyStatsRequest { interval: 9, ..request.clone() }, Code::InvalidArgument, "INVALID_ARGUMENT"),
        (pb::GetJourneyStatsRequest { page_size: -1, ..request.clone() }, Code::InvalidArgument, "INVALID_PAGE_SIZE"),
        (pb::GetJourneyStatsRequest { page_token: "x".to_owned(), ..request.clone() }, Code::InvalidArgument, "INVALID_PAGE_TOKEN"),
    ] {
        let refused = process.ask(request.clone()).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (code, why), "{request:?}");
    }
}
