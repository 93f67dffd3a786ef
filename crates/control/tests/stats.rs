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
    ports::{Append, Clock, Consumer, Log, LogError, Offset, Owners, OwnersError, Producer, Subscription, Tail, TopicSpec},
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
        self.start_that_writes(life, Duration::from_secs(1)).await
    }

    async fn start_that_writes(&self, life: u64, every: Duration) -> Process {
        let reports = Reports::new(self.port.clone(), Arc::new(self.clock.clone()), "", life, 400).every(every);
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

    /// What a process's life has written of hours.
    fn hours_of(&self, life: u64) -> usize {
        let life = format!(r#""life":"{life:016x}""#);
        let is_its = |key: &Bytes| std::str::from_utf8(key).unwrap().contains(&life);
        self.log.all("wp1.reports", 0).iter().filter(|record| record.key.as_ref().is_some_and(is_its)).count()
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

    /// Lines of all pages.
    async fn all(&self, mut request: pb::GetJourneyStatsRequest) -> Vec<String> {
        let mut all = Vec::new();
        loop {
            let page = self.ask(request.clone()).await.unwrap();
            assert!(page.rows.len() <= usize::try_from(request.page_size).unwrap());
            all.extend(lines(&page));
            request.page_token = page.next_page_token;
            if request.page_token.is_empty() {
                return all;
            }
        }
    }

    /// When it tells so many entries and ends.
    async fn told(&self, entered: u64, exited: u64) {
        for _ in 0..1_000 {
            let answer = self.ask(total()).await;
            if answer.is_ok_and(|answer| answer.rows.iter().any(|row| (row.entered, row.exited) == (entered, exited))) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("it is never told");
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

/// A log that has a defect: whoever reads a certain partition dies of it.
struct Broken(Arc<dyn Log>);

#[async_trait]
impl Log for Broken {
    fn producer(&self) -> Result<Arc<dyn Producer>, LogError> {
        self.0.producer()
    }

    async fn consumer(&self, topic: &str, group: &str) -> Result<Box<dyn Consumer>, LogError> {
        self.0.consumer(topic, group).await
    }

    async fn tail(&self, topic: &str, partition: u32, from: Offset) -> Result<Box<dyn Tail>, LogError> {
        assert!(topic != Message::TOPIC || partition != 1, "the defect");
        self.0.tail(topic, partition, from).await
    }

    async fn subscribe(&self, topic: &str, group: &str) -> Result<Box<dyn Subscription>, LogError> {
        self.0.subscribe(topic, group).await
    }

    async fn watermarks(&self, topic: &str, partition: u32) -> Result<(Offset, Offset), LogError> {
        self.0.watermarks(topic, partition).await
    }

    async fn create(&self, topics: &[TopicSpec]) -> Result<Vec<String>, LogError> {
        self.0.create(topics).await
    }

    async fn describe(&self, topic: &str) -> Result<Option<TopicSpec>, LogError> {
        self.0.describe(topic).await
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
async fn pages_reach_over_hours_in_which_nothing_happened() {
    let mut world = World::new();
    let hours = [-2_000, -301, -300, -5, 0, 1, 25];
    for hour in hours {
        world.decide("ENTERED", "a", hour);
    }
    let process = world.start(1).await;
    process.asked(&world, &total()).await;
    for size in 1..9 {
        let request = pb::GetJourneyStatsRequest { page_size: size, ..by(pb::StatsInterval::Hour) };
        assert_eq!(process.all(request).await, hours.map(|hour| format!("{hour}  1 0 0")));
        let request = pb::GetJourneyStatsRequest { page_size: size, ..by(pb::StatsInterval::Day) };
        let expected = ["-2016  1 0 0", "-312  2 0 0", "-24  1 0 0", "0  2 0 0", "24  1 0 0"];
        assert_eq!(process.all(request).await, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_forgotten_between_two_pages_shows_no_row_again() {
    let mut world = World::new();
    for step in ["a", "b", "c"] {
        world.decide("ENTERED", step, 0);
    }
    let process = world.start(1).await;
    let mut request = pb::GetJourneyStatsRequest { steps: true, page_size: 1, ..total() };
    let mut all = Vec::new();
    let mut kept_from = Vec::new();
    for _ in 0..3 {
        let page = process.asked(&world, &request).await;
        all.extend(page.rows.iter().map(|row| row.step.clone()));
        request.page_token = page.next_page_token;
        kept_from.push(process.asked(&world, &total()).await.from);
        world.clock.advance(Span::from_hours(1));
        world.decide("SENT", "c", 30);
    }
    assert_eq!((all, request.page_token.as_str()), (vec!["a".to_owned(), "b".to_owned(), "c".to_owned()], ""));
    assert!(kept_from[0] < kept_from[1] && kept_from[1] < kept_from[2], "{kept_from:?}");
}

#[tokio::test(start_paused = true)]
async fn a_topic_of_figures_that_was_made_anew_gets_all_of_them_again() {
    let mut world = World::new();
    for _ in 0..9 {
        world.decide("ENTERED", "first", 0);
    }
    let process = world.start(1).await;
    process.asked(&world, &total()).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let written = world.log.all("wp1.reports", 0).len();
    assert!(written > 0);
    // Deleted and made between two writes; what it had fell to the public topics' retention long ago.
    world.log.cut("wp1.reports", 0, 0);
    for partition in 0..3 {
        world.log.trim(Decision::TOPIC, partition, 3);
    }
    for _ in 0..3 {
        world.decide("ENTERED", "first", 1);
    }
    process.asked(&world, &total()).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    process.counting.abort();
    let process = world.start(2).await;
    let answer = process.asked(&world, &by(pb::StatsInterval::Hour)).await;
    assert_eq!((lines(&answer), answer.live, answer.missed), (vec!["0  9 0 0".to_owned(), "1  3 0 0".to_owned()], 12, 0));
    // The same while nothing happens.
    tokio::time::sleep(Duration::from_secs(3)).await;
    world.log.cut("wp1.reports", 0, 0);
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(world.log.all("wp1.reports", 0).len() >= written);
}

#[tokio::test(start_paused = true)]
async fn counting_ends_where_a_partition_is_read_by_nobody_any_more() {
    let world = World::new();
    let log: Arc<dyn Log> = Arc::new(Broken(world.port.clone()));
    let reports = Reports::new(log, Arc::new(world.clock.clone()), "", 1, 400);
    tokio::time::timeout(Duration::from_mins(1), reports.run()).await.unwrap();
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
}

#[tokio::test(start_paused = true)]
async fn one_that_is_killed_before_it_writes_leaves_its_rows_to_the_next() {
    let mut world = World::new();
    world.decide("ENTERED", "first", 0);
    let process = world.start(1).await;
    process.asked(&world, &total()).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    process.counting.abort();
    // Of the second nothing is written, but it has counted.
    let process = world.start_that_writes(2, Duration::from_hours(24)).await;
    world.decide("ENTERED", "first", 1);
    world.decide("EXITED GOAL", "first", 2);
    process.told(2, 1).await;
    process.counting.abort();
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(world.hours_of(1) > 0);
    assert_eq!((world.hours_of(2), world.hours_of(3)), (0, 0));
    let process = world.start(3).await;
    let answer = process.asked(&world, &total()).await;
    assert_eq!((answer.rows[0].entered, answer.rows[0].exited, answer.live, answer.missed), (2, 1, 1, 0));
    // And it writes them: the next finds them there when the rows have gone.
    tokio::time::sleep(Duration::from_secs(3)).await;
    process.counting.abort();
    assert!(world.hours_of(3) > 0);
    for partition in 0..3 {
        world.log.trim(Decision::TOPIC, partition, 1);
    }
    let process = world.start(4).await;
    let answer = process.asked(&world, &total()).await;
    assert_eq!((answer.rows[0].entered, answer.rows[0].exited, answer.live, answer.missed), (2, 1, 1, 0));
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
