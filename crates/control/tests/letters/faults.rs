//! What goes wrong on the way: letters that no log takes, processes that die or panic, a topic that is made anew.

use std::{
    future::pending,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use tonic::Code;
use waypost_codec::{frame::Record, kind};
use waypost_control::Control;
use waypost_memory::{LogPort, MemoryLog, VirtualClock};
use waypost_proto::control::{
    self as pb, OperationState, dead_letter_service_server::DeadLetterService as _, operation::Result as Outcome,
    operation_service_server::OperationService as _,
};
use waypost_runtime::{
    door::{Door, DoorError, LogDoor},
    ports::{Append, AppendError, Consumer, Delivery, Log, LogError, Offset, Producer, Subscription, Tail, TopicSpec},
};
use waypost_types::{Role, Timestamp, WorkspaceId};

use super::{
    common::{LAYOUT, audit, by, control, control_by, log},
    operations::{ended, fill, put_back, redrive, result, state, work},
    set_aside,
};

const EVENTS: &str = "waypost.events.v1";

/// Sets an event of the Kafka door aside, with the place of its original if it has one.
fn event_aside(log: &MemoryLog, original: Option<Offset>, payload: &Bytes) {
    let header = |name: &str, value: String| (name.to_owned(), Bytes::from(value));
    let mut headers = vec![header("reason", "SCHEMA_UNKNOWN".to_owned()), header("door", "kafka".to_owned())];
    headers.extend(original.map(|offset| header("position", format!("2/{offset}"))));
    log.append(Append { topic: "wp1.dead".to_owned(), partition: 6, key: None, headers, payload: payload.clone() }).unwrap();
}

fn event(payload: Bytes, headers: Vec<(String, Bytes)>) -> Append {
    Append { topic: EVENTS.to_owned(), partition: 2, key: Some(Bytes::from_static(b"key")), headers, payload }
}

/// An operation over all of them, to its end.
async fn all_put_back(port: &Arc<dyn Log>, clock: &VirtualClock) -> pb::Operation {
    let (control, _following) = control(port, clock).await;
    let _working = work(&control);
    let begun = control.bulk_redrive_dead_letters(redrive("SCHEMA_UNKNOWN")).await.unwrap().into_inner();
    ended(&control, &begun.name).await
}

#[tokio::test(start_paused = true)]
async fn what_our_producer_does_not_send_is_refused_and_the_others_go() {
    let (log, port, clock) = log();
    let headers = vec![("h".repeat(500_000), Bytes::from(vec![7; 480_000]))];
    for one in [
        event(Bytes::from_static(b"first"), Vec::new()),
        event(Bytes::from(vec![7; 1_200_000]), Vec::new()),
        event(Bytes::from(vec![7; 20_000]), headers),
        event(Bytes::from_static(b"last"), Vec::new()),
    ] {
        let payload = one.payload.clone();
        event_aside(&log, Some(log.append(one).unwrap()), &payload);
    }
    let done = all_put_back(&port, &clock).await;
    let result = result(&done);
    assert_eq!((state(&done), result.redriven, result.refused), (OperationState::Succeeded, 2, 2));
    let refused: Vec<_> = result.refusals.iter().map(|one| (one.id.as_str(), one.why.contains("too large"))).collect();
    assert_eq!(refused, [("6-1", true), ("6-2", true)]);
    let back: Vec<Bytes> = log.all(EVENTS, 2).split_off(4).into_iter().map(|event| event.payload).collect();
    assert_eq!(back, [&b"first"[..], b"last"]);
    assert_eq!(audit(&log).len(), 3, "the operation, and one of each that goes");
}

#[tokio::test(start_paused = true)]
async fn what_the_topic_does_not_take_is_refused_and_the_others_go() {
    let (_, _, clock) = log();
    let log = MemoryLog::new(&clock);
    let topics = [("wp1.control", 1), ("wp1.definitions", 8), ("wp1.audit", 1), ("wp1.dead", 8), ("wp1.operations", 1)];
    for (topic, partitions) in topics {
        log.create_plain(topic, partitions);
    }
    let settings = vec![("max.message.bytes".to_owned(), "9".to_owned())];
    log.create(&[TopicSpec { name: EVENTS.to_owned(), partitions: 8, replication: 1, settings }]);
    for payload in ["first", "larger than that", "second", "also larger", "last"] {
        event_aside(&log, None, &Bytes::from_static(payload.as_bytes()));
    }
    let port: Arc<dyn Log> = Arc::new(LogPort::new(log.clone()));
    let done = all_put_back(&port, &clock).await;
    let result = result(&done);
    assert_eq!((state(&done), result.redriven, result.refused), (OperationState::Succeeded, 3, 2));
    assert_eq!((result.refusals[0].id.as_str(), result.refusals[1].id.as_str()), ("6-1", "6-3"));
    let back: Vec<Bytes> = log.all(EVENTS, 0).into_iter().map(|event| event.payload).collect();
    assert_eq!(back, [&b"first"[..], b"second", b"last"]);
    let failed = audit(&log).into_iter().filter(|line| line.contains(r#""outcome":"failed: TOO_LARGE""#)).count();
    assert_eq!(failed, 2, "{:?}", audit(&log));
}

/// A door that takes no record with this body.
struct Narrow(LogDoor, [u8; 1]);

#[async_trait]
impl Door for Narrow {
    async fn append(&self, records: Vec<(Role, Record)>) -> Result<(), DoorError> {
        if records.iter().any(|(_, record)| record.body[..] == self.1) {
            return Err(DoorError::TooLarge);
        }
        self.0.append(records).await
    }
}

fn record(reason: &str, n: u8, log: &MemoryLog) {
    let (key, body) = (Bytes::from(format!("person {n}")), Bytes::copy_from_slice(&[n]));
    set_aside(log, "segmenter", reason, &Record::new(kind::ITEM, WorkspaceId::new(1), [n; 16], key, Timestamp::from_millis(3), body));
}

#[tokio::test(start_paused = true)]
async fn what_an_inbox_does_not_take_is_refused_and_the_others_go() {
    let (log, port, clock) = log();
    for n in 0..5 {
        record("ENGINE_PANIC", n, &log);
    }
    let door = Narrow(LogDoor::new(port.clone(), String::new(), LAYOUT), [3]);
    let (control, _following) = control_by(&port, &clock, None, Arc::new(door)).await;
    let _working = work(&control);
    let begun = control.bulk_redrive_dead_letters(redrive("ENGINE_PANIC")).await.unwrap().into_inner();
    let done = ended(&control, &begun.name).await;
    assert_eq!((state(&done), result(&done).redriven, put_back(&log).len()), (OperationState::Succeeded, 4, 4));
    assert!(result(&done).refusals[0].why.contains("too large"), "{done:?}");
}

/// A log whose producers take nothing for the public topic and never answer, a process that dies behind its lines; or one whose
/// dead letters nobody can read at first, or that says late that it has the first words about operations.
struct Mute {
    log: Arc<dyn Log>,
    /// How many readers of dead letters hear nothing, for ever.
    deaf: AtomicUsize,
    late: Arc<AtomicUsize>,
}

struct DeafTail;

#[async_trait]
impl Tail for DeafTail {
    async fn next(&mut self) -> Result<Option<Delivery>, LogError> {
        pending().await
    }
}

struct MuteProducer(Arc<dyn Producer>, Arc<AtomicUsize>);

impl Mute {
    fn over(log: &Arc<dyn Log>, deaf: usize, late: usize) -> Arc<dyn Log> {
        Arc::new(Self { log: log.clone(), deaf: AtomicUsize::new(deaf), late: Arc::new(AtomicUsize::new(late)) })
    }
}

/// Whether it is one of the first so many.
fn is_first(left: &AtomicUsize) -> bool {
    left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
}

impl Producer for MuteProducer {
    fn append(&self, record: Append) -> Pin<Box<dyn Future<Output = Result<Offset, AppendError>> + Send + 'static>> {
        if record.topic == EVENTS {
            return Box::pin(pending());
        }
        let is_late = record.topic == "wp1.operations" && is_first(&self.1);
        let appended = self.0.append(record);
        Box::pin(async move {
            if is_late {
                tokio::time::sleep(Duration::from_secs(20)).await;
            }
            appended.await
        })
    }
    fn purge(&self) {
        self.0.purge();
    }
}

#[async_trait]
impl Log for Mute {
    fn producer(&self) -> Result<Arc<dyn Producer>, LogError> {
        Ok(Arc::new(MuteProducer(self.log.producer()?, Arc::clone(&self.late))))
    }
    async fn consumer(&self, topic: &str, group: &str) -> Result<Box<dyn Consumer>, LogError> {
        self.log.consumer(topic, group).await
    }
    async fn tail(&self, topic: &str, partition: u32, from: Offset) -> Result<Box<dyn Tail>, LogError> {
        if topic == "wp1.dead" && is_first(&self.deaf) { Ok(Box::new(DeafTail)) } else { self.log.tail(topic, partition, from).await }
    }
    async fn subscribe(&self, topic: &str, group: &str) -> Result<Box<dyn Subscription>, LogError> {
        self.log.subscribe(topic, group).await
    }
    async fn watermarks(&self, topic: &str, partition: u32) -> Result<(Offset, Offset), LogError> {
        self.log.watermarks(topic, partition).await
    }
    async fn create(&self, topics: &[TopicSpec]) -> Result<Vec<String>, LogError> {
        self.log.create(topics).await
    }
    async fn describe(&self, topic: &str) -> Result<Option<TopicSpec>, LogError> {
        self.log.describe(topic).await
    }
}

#[tokio::test(start_paused = true)]
async fn neither_a_young_original_nor_an_earlier_redrive_is_taken_for_what_a_dead_process_had_begun() {
    for earlier in [false, true] {
        let (log, port, clock) = log();
        let payload = Bytes::from_static(b"event");
        event_aside(&log, Some(log.append(event(payload.clone(), Vec::new())).unwrap()), &payload);
        let (second, _b) = control(&port, &clock).await;
        let _working = work(&second);
        if earlier {
            let one = pb::RedriveDeadLettersRequest { id: "6-0".to_owned(), ..pb::RedriveDeadLettersRequest::default() };
            second.redrive_dead_letters(by("ben", one)).await.unwrap();
        }
        let (there, lines) = (log.all(EVENTS, 2).len(), audit(&log).len());
        let (first, _a) = control(&Mute::over(&port, 0, 0), &clock).await;
        let working = work(&first);
        let request = pb::BulkRedriveDeadLettersRequest { again: earlier, ..redrive("SCHEMA_UNKNOWN").into_inner() };
        let begun = first.bulk_redrive_dead_letters(by("ana", request)).await.unwrap().into_inner();
        // that of the operation, and that of the letter
        while audit(&log).len() < lines + 2 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        working.abort();
        let done = ended(&second, &begun.name).await;
        assert_eq!((result(&done).redriven, done.metadata.unwrap().attempts), (1, 2));
        assert_eq!((there, log.all(EVENTS, 2).len()), (1 + usize::from(earlier), there + 1));
    }
}

/// A door at whose first calls something panics.
struct Panicking(LogDoor, AtomicUsize);

#[async_trait]
impl Door for Panicking {
    async fn append(&self, records: Vec<(Role, Record)>) -> Result<(), DoorError> {
        assert!(self.1.fetch_add(1, Ordering::SeqCst) >= 2, "meant to");
        self.0.append(records).await
    }
}

#[tokio::test(start_paused = true)]
async fn an_operation_that_panics_has_failed_and_its_place_is_free() {
    let (log, port, clock) = log();
    let reasons = ["FIRST", "SECOND", "THIRD"];
    for (n, reason) in (0..).zip(reasons) {
        record(reason, n, &log);
    }
    let door = Panicking(LogDoor::new(port.clone(), String::new(), LAYOUT), AtomicUsize::new(0));
    let (control, _following) = control_by(&port, &clock, None, Arc::new(door)).await;
    let _working = work(&control);
    for (reason, ends) in reasons.into_iter().zip([OperationState::Failed, OperationState::Failed, OperationState::Succeeded]) {
        let begun = control.bulk_redrive_dead_letters(redrive(reason)).await.unwrap().into_inner();
        let done = ended(&control, &begun.name).await;
        assert_eq!(state(&done), ends, "{done:?}");
        if ends == OperationState::Failed {
            assert!(matches!(&done.result, Some(Outcome::Error(error)) if error.reason == "INTERNAL"), "{done:?}");
        }
    }
    assert_eq!(put_back(&log).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn whoever_was_asked_waits_for_another_that_was_asked_the_same() {
    let (log, port, clock) = log();
    fill(&log, 3);
    let (control, _following) = control(&port, &clock).await;
    let _working = work(&control);
    let begun = control.bulk_redrive_dead_letters(redrive("ENGINE_PANIC")).await.unwrap().into_inner();
    tokio::time::sleep(Duration::from_millis(100)).await;
    // The other's word, of the same attempt, which counts more.
    let word = log.all("wp1.operations", 0).pop().unwrap();
    let mut other: serde_json::Value = serde_json::from_slice(&word.payload).unwrap();
    assert_eq!(other["attempt"], 1);
    other["worker"] = "zz".into();
    let payload = serde_json::to_vec(&other).unwrap().into();
    log.append(Append { topic: "wp1.operations".to_owned(), partition: 0, key: None, headers: Vec::new(), payload }).unwrap();
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert!(put_back(&log).is_empty(), "two would work on it");
    let done = ended(&control, &begun.name).await;
    assert_eq!((result(&done).redriven, done.metadata.unwrap().attempts, put_back(&log).len()), (3, 2, 3));
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_is_made_anew_begins_with_nothing() {
    let (log, port, clock) = log();
    fill(&log, 2);
    let (control, _following) = control(&port, &clock).await;
    let _working = work(&control);
    let first = control.bulk_redrive_dead_letters(redrive("ENGINE_PANIC")).await.unwrap().into_inner();
    ended(&control, &first.name).await;
    log.cut("wp1.operations", 0, 0);
    let list = || by("ben", pb::ListOperationsRequest::default());
    assert_eq!(control.list_operations(list()).await.unwrap_err().code(), Code::Unavailable, "not what is no longer there");
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(control.list_operations(list()).await.unwrap().into_inner().operations.is_empty());
    fill(&log, 1);
    let second = control.bulk_redrive_dead_letters(redrive("ENGINE_PANIC")).await.unwrap().into_inner();
    assert_eq!(result(&ended(&control, &second.name).await).redriven, 1);
}

#[tokio::test]
async fn what_is_named_is_one_short_line() {
    let (log, port, clock) = log();
    let (control, _following) = control(&port, &clock).await;
    for wrong in ["x".repeat(201), "two\nlines".to_owned()] {
        for (reason, source) in [(wrong.clone(), String::new()), (String::new(), wrong.clone()), ("R".to_owned(), wrong.clone())] {
            let request = pb::BulkRedriveDeadLettersRequest { reason, source, ..pb::BulkRedriveDeadLettersRequest::default() };
            assert_eq!(control.bulk_redrive_dead_letters(by("ana", request)).await.unwrap_err().code(), Code::InvalidArgument);
        }
    }
    assert!(audit(&log).is_empty() && log.all("wp1.operations", 0).is_empty());
    let request = pb::BulkRedriveDeadLettersRequest { validate_only: true, ..redrive(&"x".repeat(200)).into_inner() };
    control.bulk_redrive_dead_letters(by("ana", request)).await.unwrap();
}

async fn note(control: &Control, name: &str) -> String {
    let request = pb::GetOperationRequest { name: name.to_owned() };
    control.get_operation(by("ben", request)).await.unwrap().into_inner().metadata.unwrap().note
}

#[tokio::test(start_paused = true)]
async fn a_log_that_never_answers_ends_an_attempt_and_the_next_one_goes_on() {
    let (log, port, clock) = log();
    fill(&log, 3);
    let (control, _following) = control(&Mute::over(&port, 1, 0), &clock).await;
    let _working = work(&control);
    let begun = control.bulk_redrive_dead_letters(redrive("ENGINE_PANIC")).await.unwrap().into_inner();
    tokio::time::sleep(Duration::from_secs(50)).await;
    assert_eq!(note(&control, &begun.name).await, "", "it may yet answer");
    tokio::time::sleep(Duration::from_secs(30)).await;
    let stopped = note(&control, &begun.name).await;
    assert!(stopped.contains("a log has not answered for 60 s"), "{stopped}");
    let done = ended(&control, &begun.name).await;
    assert_eq!((result(&done).redriven, put_back(&log).len()), (3, 3));
    let metadata = done.metadata.unwrap();
    assert_eq!((metadata.attempts, metadata.note.as_str()), (2, ""));
}

#[tokio::test(start_paused = true)]
async fn an_end_is_heard_while_a_log_does_not_answer() {
    let (log, port, clock) = log();
    fill(&log, 3);
    let (control, _following) = control(&Mute::over(&port, 1, 0), &clock).await;
    let _working = work(&control);
    let begun = control.bulk_redrive_dead_letters(redrive("ENGINE_PANIC")).await.unwrap().into_inner();
    tokio::time::sleep(Duration::from_secs(5)).await;
    let asked = tokio::time::Instant::now();
    control.cancel_operation(by("ben", pb::CancelOperationRequest { name: begun.name.clone() })).await.unwrap();
    let done = ended(&control, &begun.name).await;
    assert_eq!((state(&done), put_back(&log).len()), (OperationState::Cancelled, 0));
    assert!(asked.elapsed() < Duration::from_secs(5), "while they are counted, too");
}

#[tokio::test(start_paused = true)]
async fn a_process_ends_in_order_while_a_log_does_not_answer() {
    let (log, port, clock) = log();
    fill(&log, 3);
    let (first, _a) = control(&Mute::over(&port, 1, 0), &clock).await;
    let working = work(&first);
    let begun = first.bulk_redrive_dead_letters(redrive("ENGINE_PANIC")).await.unwrap().into_inner();
    tokio::time::sleep(Duration::from_secs(5)).await;
    let (second, _b) = control(&port, &clock).await;
    let _working = work(&second);
    let closed = tokio::time::Instant::now();
    first.close();
    working.await.unwrap();
    assert_eq!(result(&ended(&second, &begun.name).await).redriven, 3);
    assert!(closed.elapsed() < Duration::from_secs(10), "handed over while they are counted, too");
}

#[tokio::test(start_paused = true)]
async fn whoever_hears_late_that_its_word_is_there_begins_nothing() {
    let (log, port, clock) = log();
    fill(&log, 3);
    // That of the call, and those of its first attempts.
    let (control, _following) = control(&Mute::over(&port, 0, 12), &clock).await;
    let _working = work(&control);
    let begun = control.bulk_redrive_dead_letters(redrive("ENGINE_PANIC")).await.unwrap().into_inner();
    tokio::time::sleep(Duration::from_secs(40)).await;
    assert!(put_back(&log).is_empty(), "somebody else has had its word for longer");
    let done = ended(&control, &begun.name).await;
    assert_eq!((result(&done).redriven, put_back(&log).len()), (3, 3));
    assert!(done.metadata.unwrap().attempts > 1);
}

#[tokio::test(start_paused = true)]
async fn a_partition_that_is_no_more_is_one_letters_matter() {
    let (log, port, clock) = log();
    let (whole, cut) = (Bytes::from_static(b"whole"), Bytes::from_static(b"part"));
    let aside = |more: &[(&str, &str)], payload: &Bytes| {
        let facts = [("reason", "SCHEMA_UNKNOWN"), ("door", "kafka"), ("position", "40/7")];
        let header = |(name, value): &(&str, &str)| ((*name).to_owned(), Bytes::copy_from_slice(value.as_bytes()));
        let headers = facts.iter().chain(more).map(header).collect();
        log.append(Append { topic: "wp1.dead".to_owned(), partition: 6, key: None, headers, payload: payload.clone() }).unwrap();
    };
    aside(&[], &whole);
    aside(&[("truncated", "9")], &cut);
    event_aside(&log, None, &Bytes::from_static(b"last"));
    let done = all_put_back(&port, &clock).await;
    let result = result(&done);
    assert_eq!((state(&done), result.redriven, result.refused), (OperationState::Succeeded, 1, 2));
    let refused: Vec<_> = result.refusals.iter().map(|one| (one.id.as_str(), one.why.contains("no longer has the partition"))).collect();
    assert_eq!(refused, [("6-0", true), ("6-1", false)], "{result:?}");
    assert_eq!(done.metadata.unwrap().refusals, result.refusals);
    assert!(audit(&log).iter().any(|line| line.contains(r#""outcome":"failed: NO_PARTITION""#)), "{:?}", audit(&log));
}

/// A door that is away at its first call.
struct Away(LogDoor, AtomicUsize);

#[async_trait]
impl Door for Away {
    async fn append(&self, records: Vec<(Role, Record)>) -> Result<(), DoorError> {
        if self.1.fetch_add(1, Ordering::SeqCst) == 0 {
            return Err(DoorError::Unavailable("away".to_owned()));
        }
        self.0.append(records).await
    }
}

#[tokio::test(start_paused = true)]
async fn of_what_the_next_attempt_does_nobody_says_that_it_failed() {
    for again in [false, true] {
        let (log, port, clock) = log();
        fill(&log, 3);
        let door = Away(LogDoor::new(port.clone(), String::new(), LAYOUT), AtomicUsize::new(0));
        let (control, _following) = control_by(&port, &clock, None, Arc::new(door)).await;
        let _working = work(&control);
        if again {
            let one = pb::RedriveDeadLettersRequest { reason: "ENGINE_PANIC".to_owned(), ..pb::RedriveDeadLettersRequest::default() };
            assert_eq!(control.redrive_dead_letters(by("ben", one)).await.unwrap_err().code(), Code::Unavailable);
        }
        let request = pb::BulkRedriveDeadLettersRequest { again, ..redrive("ENGINE_PANIC").into_inner() };
        let begun = control.bulk_redrive_dead_letters(by("ana", request)).await.unwrap().into_inner();
        let done = ended(&control, &begun.name).await;
        let failed = audit(&log).into_iter().filter(|line| line.contains(r#""outcome":"failed: "#)).count();
        let attempts = if again { 1 } else { 2 };
        assert_eq!((result(&done).redriven, done.metadata.unwrap().attempts, put_back(&log).len()), (3, attempts, 3));
        assert_eq!(failed, if again { 3 } else { 0 }, "of a call somebody has to hear it");
    }
}
