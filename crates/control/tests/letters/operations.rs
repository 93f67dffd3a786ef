//! Many letters as an operation: whatever becomes of the process that works on it, each is put back once.

use std::{
    collections::BTreeSet,
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::task::JoinHandle;
use tonic::Code;
use tonic_types::StatusExt as _;
use waypost_codec::{
    frame::{Frame, Record},
    kind,
};
use waypost_control::Control;
use waypost_memory::{LogPort, MemoryLog, VirtualClock};
use waypost_proto::control::{
    self as pb, OperationState, dead_letter_service_server::DeadLetterService as _, operation::Result as Outcome, operation_response::Kind,
    operation_service_server::OperationService as _,
};
use waypost_runtime::{
    door::{Door, DoorError, LogDoor},
    ports::{Append, Log},
};
use waypost_types::{Role, Span, Timestamp, WorkspaceId};

use super::{
    common::{LAYOUT, audit, by, control, control_by, log},
    set_aside,
};

/// A door of a process that dies at its call of this number: half of the records are on their way, and it never answers.
struct Dying {
    door: LogDoor,
    calls: AtomicUsize,
    at: usize,
}

#[async_trait]
impl Door for Dying {
    async fn append(&self, mut records: Vec<(Role, Record)>) -> Result<(), DoorError> {
        if self.calls.fetch_add(1, Ordering::SeqCst) < self.at {
            return self.door.append(records).await;
        }
        records.truncate(records.len() / 2);
        self.door.append(records).await?;
        pending().await
    }
}

/// Sets so many records aside, each of somebody else.
pub(super) fn fill(log: &MemoryLog, count: u8) {
    for n in 0..count {
        let key = Bytes::from(format!("person {n}"));
        let record = Record::new(kind::ITEM, WorkspaceId::new(1), [n; 16], key, Timestamp::from_millis(3), Bytes::from_static(b"body"));
        set_aside(log, "segmenter", "ENGINE_PANIC", &record);
    }
}

/// Keys of what was put back, as often as it was.
pub(super) fn put_back(log: &MemoryLog) -> Vec<Bytes> {
    let frames = (0..LAYOUT.partitions).flat_map(|partition| log.all("wp1.segment", partition));
    let sections = frames.flat_map(|frame| Frame::decode(frame.payload).unwrap().sections);
    sections.flat_map(|section| section.records.into_iter().map(|record| record.key)).collect()
}

pub(super) fn redrive(reason: &str) -> tonic::Request<pb::BulkRedriveDeadLettersRequest> {
    by("ana", pb::BulkRedriveDeadLettersRequest { reason: reason.to_owned(), ..pb::BulkRedriveDeadLettersRequest::default() })
}

async fn get(control: &Control, name: &str) -> pb::Operation {
    control.get_operation(by("ben", pb::GetOperationRequest { name: name.to_owned() })).await.unwrap().into_inner()
}

/// Until it is done, for half an hour at most.
pub(super) async fn ended(control: &Control, name: &str) -> pb::Operation {
    for _ in 0..36 {
        let request = pb::WaitOperationRequest { name: name.to_owned(), timeout_ms: 50_000 };
        let operation = control.wait_operation(by("ben", request)).await.unwrap().into_inner();
        if operation.done {
            return operation;
        }
    }
    panic!("{:?}", get(control, name).await);
}

pub(super) fn work(control: &Control) -> JoinHandle<()> {
    let control = control.clone();
    tokio::spawn(async move { control.operate().await })
}

pub(super) fn result(operation: &pb::Operation) -> pb::RedriveResult {
    match &operation.result {
        Some(Outcome::Response(pb::OperationResponse { kind: Some(Kind::Redrive(result)) })) => result.clone(),
        other => panic!("{other:?}"),
    }
}

pub(super) fn state(operation: &pb::Operation) -> OperationState {
    operation.metadata.as_ref().unwrap().state()
}

async fn dying(log: &MemoryLog, port: &Arc<dyn Log>, clock: &VirtualClock, at: usize) -> (Control, waypost_control::Following) {
    assert!(log.all("wp1.operations", 0).is_empty());
    let door = Dying { door: LogDoor::new(port.clone(), String::new(), LAYOUT), calls: AtomicUsize::new(0), at };
    control_by(port, clock, None, Arc::new(door)).await
}

#[tokio::test(start_paused = true)]
async fn many_letters_are_put_back_behind_the_answer_and_every_process_says_how_far_it_is() {
    let (log, port, clock) = log();
    fill(&log, 250);
    let (first, _a) = control(&port, &clock).await;
    let (second, _b) = control(&port, &clock).await;
    let _working = (work(&first), work(&second));
    let one = pb::RedriveDeadLettersRequest { id: "2-7".to_owned(), ..pb::RedriveDeadLettersRequest::default() };
    first.redrive_dead_letters(by("ben", one)).await.unwrap();
    let counted = pb::BulkRedriveDeadLettersRequest { validate_only: true, ..redrive("ENGINE_PANIC").into_inner() };
    let counted = second.bulk_redrive_dead_letters(by("ana", counted)).await.unwrap().into_inner();
    assert_eq!((counted.name.as_str(), counted.done, result(&counted).redriven), ("", true, 249));
    assert_eq!(put_back(&log).len(), 1, "only counted");

    let begun = first.bulk_redrive_dead_letters(redrive("ENGINE_PANIC")).await.unwrap().into_inner();
    assert!(!begun.done && begun.name.starts_with("operations/"), "{begun:?}");
    // what comes later is another's
    fill(&log, 1);
    let done = ended(&second, &begun.name).await;
    let metadata = done.metadata.clone().unwrap();
    assert_eq!((metadata.total, metadata.done, metadata.failed, metadata.attempts), (249, 249, 0, 1));
    assert_eq!((metadata.by.as_str(), metadata.what.as_str(), state(&done)), ("ana", "reason ENGINE_PANIC", OperationState::Succeeded));
    assert_eq!((put_back(&log).len(), put_back(&log).into_iter().collect::<BTreeSet<_>>().len()), (250, 250));
    let lines: Vec<_> = audit(&log).into_iter().filter(|line| line.contains(&format!(r#""note":"{}""#, begun.name))).collect();
    assert_eq!(lines.len(), 249, "each letter says of which operation it was");
    assert!(audit(&log).iter().any(|line| line.contains(&format!(r#""by":"ana","act":"deadletter.redrive","subject":"{}""#, begun.name))));
    let listed = second.list_operations(by("ben", pb::ListOperationsRequest::default())).await.unwrap().into_inner().operations;
    assert_eq!(listed, [done]);
    let open = pb::ListOperationsRequest { open: true, ..pb::ListOperationsRequest::default() };
    assert!(second.list_operations(by("ben", open)).await.unwrap().into_inner().operations.is_empty());
}

#[tokio::test(start_paused = true)]
async fn letters_of_a_process_that_dies_are_put_back_once_by_another() {
    for at in 0..3 {
        let (log, port, clock) = log();
        fill(&log, 250);
        let (first, _a) = dying(&log, &port, &clock, at).await;
        let working = work(&first);
        let begun = first.bulk_redrive_dead_letters(redrive("ENGINE_PANIC")).await.unwrap().into_inner();
        let reached = 100 * at + if at == 2 { 25 } else { 50 };
        while put_back(&log).len() < reached {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        working.abort();
        // its lines stand there, and half of what they speak of was done
        clock.advance(Span::from_secs(20));
        let (second, _b) = control(&port, &clock).await;
        let _working = work(&second);
        let left = get(&second, &begun.name).await;
        assert_eq!((state(&left), left.metadata.as_ref().unwrap().done), (OperationState::Interrupted, 100 * at as u64), "{left:?}");
        assert!(left.metadata.unwrap().note.contains("goes on with it"));
        let done = ended(&second, &begun.name).await;
        assert_eq!((result(&done).redriven, result(&done).refused, done.metadata.unwrap().attempts), (250, 0, 2));
        let keys = put_back(&log);
        assert_eq!((keys.len(), keys.into_iter().collect::<BTreeSet<_>>().len()), (250, 250), "died at {at}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_process_that_stops_in_order_hands_over_at_once_and_two_that_take_over_do_it_once() {
    let (log, port, clock) = log();
    fill(&log, 250);
    let (first, _a) = dying(&log, &port, &clock, usize::MAX).await;
    let begun = first.bulk_redrive_dead_letters(by(
        "ana",
        pb::BulkRedriveDeadLettersRequest { source: "segmenter".to_owned(), ..pb::BulkRedriveDeadLettersRequest::default() },
    ));
    let working = work(&first);
    let begun = begun.await.unwrap().into_inner();
    first.close();
    working.await.unwrap();
    let before = get_state(&log);
    let (second, _b) = control(&port, &clock).await;
    let (third, _c) = control(&port, &clock).await;
    let takeover = tokio::time::Instant::now();
    let _working = (work(&second), work(&third));
    let done = ended(&third, &begun.name).await;
    assert_eq!(result(&done).redriven, 250);
    assert!(before.contains(r#""free":true"#), "{before}");
    assert!(takeover.elapsed() < Duration::from_secs(30), "nobody waits for somebody who has said that it goes");
    let keys = put_back(&log);
    assert_eq!((keys.len(), keys.into_iter().collect::<BTreeSet<_>>().len()), (250, 250));
}

/// The last word in the topic.
fn get_state(log: &MemoryLog) -> String {
    String::from_utf8(log.all("wp1.operations", 0).last().unwrap().payload.to_vec()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn an_end_is_asked_for_and_begun_again_it_does_the_rest() {
    let (log, port, clock) = log();
    fill(&log, 250);
    let (first, _a) = dying(&log, &port, &clock, 1).await;
    let working = work(&first);
    let begun = first.bulk_redrive_dead_letters(redrive("ENGINE_PANIC")).await.unwrap().into_inner();
    while put_back(&log).len() < 150 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    working.abort();
    let (second, _b) = control(&port, &clock).await;
    let _working = work(&second);
    let cancel = || by("ben", pb::CancelOperationRequest { name: begun.name.clone() });
    let asked = second.cancel_operation(cancel()).await.unwrap().into_inner();
    assert_eq!((state(&asked), asked.metadata.unwrap().cancelled_by.as_str()), (OperationState::Cancelling, "ben"));
    second.cancel_operation(cancel()).await.unwrap();
    let done = ended(&second, &begun.name).await;
    assert_eq!(state(&done), OperationState::Cancelled);
    assert!(matches!(&done.result, Some(Outcome::Error(error)) if error.reason == "CANCELLED"), "{done:?}");
    let cancels = audit(&log).into_iter().filter(|line| line.contains(r#""by":"ben","act":"operation.cancel""#)).count();
    assert_eq!((put_back(&log).len(), cancels), (200, 1), "what was begun is done, and no more");
    assert_eq!(second.cancel_operation(cancel()).await.unwrap().into_inner(), done, "what is done stays so");

    let again = second.bulk_redrive_dead_letters(redrive("ENGINE_PANIC")).await.unwrap().into_inner();
    assert_eq!(result(&ended(&second, &again.name).await).redriven, 50);
    let keys = put_back(&log);
    assert_eq!((keys.len(), keys.into_iter().collect::<BTreeSet<_>>().len()), (250, 250));
}

#[tokio::test(start_paused = true)]
async fn the_same_request_is_the_same_operation_and_a_wrong_one_is_refused() {
    let (log, port, clock) = log();
    fill(&log, 3);
    let (control, _following) = control(&port, &clock).await;
    let _working = work(&control);
    let request_id = "0b6fd1f0-3d0f-4a2e-8f64-9a1a52c3a8e7".to_owned();
    let request = pb::BulkRedriveDeadLettersRequest { request_id, ..redrive("ENGINE_PANIC").into_inner() };
    let first = control.bulk_redrive_dead_letters(by("ana", request.clone())).await.unwrap().into_inner();
    ended(&control, &first.name).await;
    let second = control.bulk_redrive_dead_letters(by("ana", request.clone())).await.unwrap().into_inner();
    assert_eq!((second.name == first.name, second.done), (true, true));
    let hers = control.bulk_redrive_dead_letters(by("ben", request.clone())).await.unwrap().into_inner();
    assert_ne!(hers.name, first.name);
    for wrong in
        [pb::BulkRedriveDeadLettersRequest::default(), pb::BulkRedriveDeadLettersRequest { request_id: "often".to_owned(), ..request }]
    {
        assert_eq!(control.bulk_redrive_dead_letters(by("ana", wrong)).await.unwrap_err().code(), Code::InvalidArgument);
    }
    for (name, code) in [
        ("operations/00", Code::InvalidArgument),
        ("", Code::InvalidArgument),
        ("operations/00000000000000000000000000000000", Code::NotFound),
    ] {
        let answer = control.get_operation(by("ana", pb::GetOperationRequest { name: name.to_owned() })).await;
        assert_eq!(answer.unwrap_err().code(), code, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_put_back_is_counted_with_why() {
    let (log, port, clock) = log();
    let (control, _following) = control(&port, &clock).await;
    let _working = work(&control);
    fill(&log, 2);
    let record = Record::new(kind::MERGE_STATE, WorkspaceId::new(1), [9; 16], Bytes::from_static(b"k"), Timestamp::ZERO, Bytes::new());
    set_aside(&log, "segmenter", "ENGINE_PANIC", &record);
    let begun = control.bulk_redrive_dead_letters(redrive("ENGINE_PANIC")).await.unwrap().into_inner();
    let result = result(&ended(&control, &begun.name).await);
    assert_eq!((result.redriven, result.refused, result.refusals[0].id.as_str()), (2, 1, "2-2"));
    assert!(result.refusals[0].why.contains("order"), "{result:?}");
}

#[tokio::test]
async fn an_installation_of_before_says_what_makes_the_topic() {
    let clock = VirtualClock::new(Timestamp::from_millis(1_774_594_800_000));
    let log = MemoryLog::new(&clock);
    for (topic, partitions) in [("wp1.control", 1), ("wp1.definitions", 8), ("wp1.audit", 1), ("wp1.dead", 8)] {
        log.create_plain(topic, partitions);
    }
    let port: Arc<dyn Log> = Arc::new(LogPort::new(log.clone()));
    let (control, _following) = control(&port, &clock).await;
    let refused = control.bulk_redrive_dead_letters(redrive("ENGINE_PANIC")).await.unwrap_err();
    let reason = refused.get_error_details().error_info().unwrap().reason.clone();
    assert_eq!((refused.code(), reason.as_str()), (Code::FailedPrecondition, "NO_TOPIC"));
    assert!(refused.message().contains("waypost init") && audit(&log).is_empty(), "{}", refused.message());
    let letter = Append { topic: "wp1.dead".to_owned(), partition: 0, key: None, headers: Vec::new(), payload: Bytes::new() };
    log.append(letter).unwrap();
    let listed = control.list_dead_letters(by("ana", pb::ListDeadLettersRequest::default())).await.unwrap().into_inner();
    assert_eq!(listed.letters[0].id, "0-0", "everything else works");
}
