//! What is looked at before a record is skipped.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use prost::Message as _;
use tonic::Code;
use tonic_types::StatusExt as _;
use waypost_codec::{
    frame::{Frame, Record, Section, Source},
    inbox, kind,
};
use waypost_control::{Journal, NoSkip, Search};
use waypost_memory::{MemoryLog, MemoryStore, VirtualClock};
use waypost_proto::control::{self as pb, partition_service_server::PartitionService as _};
use waypost_runtime::{
    ports::{Append, Deaths, Install, Log, Meta},
    tip::Tip,
    upkeep::Head,
};
use waypost_types::{PartitionId, Position, Role, Timestamp, WorkspaceId};

use super::common::{LAYOUT, audit, by, control, log};

const SOURCE: PartitionId = PartitionId { role: Role::Sender, index: 1 };

fn head() -> Head {
    let sequences = BTreeMap::from([("x:identity:3".to_owned(), Tip { seq: 5, chain: 0 }.to_bytes())]);
    Head { install: Install { id: "00".repeat(16), layout: 1, format: 1 }, frozen: None, off: 1, meta: Meta::default(), sequences }
}

fn write(log: &MemoryLog, topic: &str, partition: u32, sections: Vec<Section>) {
    let payload = Frame { sections }.encode();
    log.append(Append { topic: topic.to_owned(), partition, key: None, headers: Vec::new(), payload }).unwrap();
}

fn record(kind: u32, body: Vec<u8>) -> Record {
    Record::new(kind, WorkspaceId::new(1), [1; 16], Bytes::from_static(b"k"), Timestamp::ZERO, body.into())
}

fn sent(first: u64) -> Vec<Section> {
    let source = Some(Source { role: SOURCE.role, partition: SOURCE.index, first, chain: 0 });
    vec![Section { source, records: vec![record(kind::RECEIPT, Vec::new())] }]
}

/// A log in which partition 1 of the sender stands at a frame of two records, the second a dispatch.
fn standing() -> (MemoryLog, Arc<dyn Log>) {
    let (log, port, _) = everywhere();
    write(&log, "wp1.send", 1, vec![Section { source: None, records: vec![record(kind::TICK, Vec::new())] }]);
    write(&log, "wp1.send", 1, frame());
    write(&log, "wp1.identity", 3, sent(5));
    (log, port)
}

/// A recall and a dispatch.
fn frame() -> Vec<Section> {
    let dispatch = inbox::Dispatch { dispatch: Bytes::from_static(b"d1"), ..inbox::Dispatch::default() }.encode_to_vec();
    let records = vec![record(kind::RECALL, Vec::new()), record(kind::DISPATCH, dispatch)];
    vec![Section { source: None, records }]
}

/// A log with the public topics too.
fn everywhere() -> (MemoryLog, Arc<dyn Log>, VirtualClock) {
    let (log, port, clock) = log();
    log.create_plain("waypost.decisions.v1", 8);
    log.create_plain("waypost.messages.v1", 8);
    log.create_plain("waypost.segment-changes.v1", 8);
    (log, port, clock)
}

async fn look(port: &Arc<dyn Log>, offset: u64, index: u32) -> Result<(), NoSkip> {
    let search = Search { log: &**port, prefix: "", layout: LAYOUT, public_partitions: 8 };
    search.nothing_of(SOURCE, &head(), Position { offset, index }).await
}

#[tokio::test]
async fn only_a_record_of_the_frame_at_hand_that_nobody_has_folded() {
    let (_, port) = standing();
    assert_eq!(look(&port, 1, 1).await, Ok(()), "what it sent up to number 5 is committed");
    assert!(matches!(look(&port, 0, 0).await, Err(NoSkip::Elsewhere { off: 1, asked: 0, .. })));
    assert!(matches!(look(&port, 1, 2).await, Err(NoSkip::Absent(_))));
}

#[tokio::test]
async fn outputs_above_the_committed_sequence_say_that_it_was_folded() {
    for (topic, partition, first) in [("wp1.identity", 3, 6), ("wp1.identity", 0, 1), ("wp1.send", 2, 1)] {
        let (log, port) = standing();
        write(&log, topic, partition, sent(first));
        assert!(matches!(look(&port, 1, 1).await, Err(NoSkip::Folded(_))), "{topic}/{partition}");
    }
    let public = |name: &'static str, number: &'static str| {
        let (log, port) = standing();
        let header = |name: &str, value: &'static str| (name.to_owned(), Bytes::from_static(value.as_bytes()));
        let headers = vec![header("ce_source", name), header("ce_sequence", number)];
        let topic = "waypost.messages.v1".to_owned();
        log.append(Append { topic, partition: 2, key: None, headers, payload: Bytes::new() }).unwrap();
        port
    };
    assert!(matches!(look(&public("/waypost/sender/1", "1"), 1, 1).await, Err(NoSkip::Folded(_))));
    assert_eq!(look(&public("/waypost/sender/2", "1"), 1, 1).await, Ok(()), "of another partition");
}

#[tokio::test]
async fn an_attempt_for_its_dispatch_says_so_too() {
    let attempt = |name: &'static [u8]| {
        let body = inbox::Attempt { dispatch: Bytes::from_static(name), ..inbox::Attempt::default() }.encode_to_vec();
        vec![Section { source: None, records: vec![record(kind::ATTEMPT, body)] }]
    };
    let (log, port) = standing();
    write(&log, "wp1.send", 1, attempt(b"d2"));
    assert_eq!(look(&port, 1, 1).await, Ok(()), "for another dispatch");
    write(&log, "wp1.send", 1, attempt(b"d1"));
    assert!(matches!(look(&port, 1, 1).await, Err(NoSkip::Folded(_))));
    assert_eq!(look(&port, 1, 0).await, Ok(()), "and nothing of the other record");
}

/// What the journal says is skipped.
fn skipped(log: &MemoryLog) -> Vec<(PartitionId, Position)> {
    let mut journal = Journal::default();
    for line in log.all("wp1.control", 0) {
        journal.fold(line.offset, &line.payload);
    }
    journal.skipped().collect()
}

/// Code and reason.
fn refusal(status: &tonic::Status) -> (Code, String) {
    (status.code(), status.get_error_details().error_info().map_or_else(String::new, |info| info.reason.clone()))
}

#[tokio::test]
async fn a_record_is_skipped_by_two_people_whom_the_api_knows() {
    let (log, port, clock) = everywhere();
    write(&log, "wp1.send", 1, frame());
    let (without, _a) = control(&port, &clock).await;
    let store = Arc::new(MemoryStore::new());
    store.init(SOURCE, &Install { id: "00".repeat(16), layout: 1, format: 1 }).unwrap();
    let (control, _b) = control(&port, &clock).await;
    let control = control.with_store(store, 8);
    let propose = |who: &str, offset, index, reason: &str, validate_only| {
        let (name, reason) = ("partitions/sender/1".to_owned(), reason.to_owned());
        by(who, pb::ProposeSkipRequest { name, offset, index, reason, validate_only })
    };
    let approve = |who: &str, validate_only| {
        by(who, pb::ApproveSkipRequest { name: "partitions/sender/1".to_owned(), offset: 0, index: 1, validate_only })
    };
    let no = |code: Code, reason: &str| (code, reason.to_owned());
    let precondition = |reason: &str| no(Code::FailedPrecondition, reason);
    assert_eq!(refusal(&without.propose_skip(propose("ana", 0, 1, "kills", false)).await.unwrap_err()), precondition("ONE_PROCESS"));
    for (request, expected) in [
        (propose("ana", 1, 1, "kills", false), precondition("NOT_AT_RECORD")),
        (propose("ana", 0, 2, "kills", false), precondition("NO_SUCH_RECORD")),
        (propose("ana", 0, 1, "", false), no(Code::InvalidArgument, "INVALID_REASON")),
    ] {
        assert_eq!(refusal(&control.propose_skip(request).await.unwrap_err()), expected);
    }
    for name in ["sender/1", "partitions/sender", "partitions/sender/4", "partitions/ingest/0", "partitions/sender/x"] {
        let request = pb::RetryPartitionRequest { name: name.to_owned(), validate_only: false };
        assert_eq!(
            refusal(&control.retry_partition(by("ana", request)).await.unwrap_err()),
            no(Code::InvalidArgument, "INVALID_NAME"),
            "{name}"
        );
    }
    assert_eq!(refusal(&control.approve_skip(approve("ben", false)).await.unwrap_err()), precondition("NOT_PROPOSED"));
    control.propose_skip(propose("ana", 0, 1, "", true)).await.unwrap();
    assert!(audit(&log).is_empty() && log.all("wp1.control", 0).is_empty(), "only checked");

    let proposed = control.propose_skip(propose("ana", 0, 1, "kills", false)).await.unwrap().into_inner();
    assert_eq!((proposed.proposed_by.as_str(), proposed.approved_by.as_str()), ("ana", ""));
    assert_eq!(refusal(&control.propose_skip(propose("ben", 0, 1, "too", false)).await.unwrap_err()), precondition("ALREADY_PROPOSED"));
    assert_eq!(refusal(&control.approve_skip(approve("ana", false)).await.unwrap_err()), precondition("SAME_PERSON"));
    control.approve_skip(approve("ben", true)).await.unwrap();
    assert_eq!(skipped(&log).len(), 0, "one person is not enough");
    control.approve_skip(approve("ben", false)).await.unwrap();
    assert_eq!(skipped(&log), [(SOURCE, Position { offset: 0, index: 1 })]);
    assert_eq!(refusal(&control.approve_skip(approve("cid", false)).await.unwrap_err()), precondition("ALREADY_SKIPPED"));
    let listed = control.list_skips(by("cid", pb::ListSkipsRequest {})).await.unwrap().into_inner().skips;
    assert_eq!((listed.len(), listed[0].approved_by.as_str(), listed[0].reason.as_str()), (1, "ben", "kills"));
    let lines = audit(&log);
    assert!(lines.len() == 2 && lines[0].contains(r#""by":"ana","act":"skip.propose","subject":"partitions/sender/1""#), "{lines:?}");
    assert!(lines[1].contains(r#""by":"ben","act":"skip.approve""#), "{lines:?}");
}

#[tokio::test]
async fn what_somebody_has_folded_is_not_skipped_between_proposal_and_approval() {
    let (log, port, clock) = everywhere();
    write(&log, "wp1.send", 1, frame());
    let store = Arc::new(MemoryStore::new());
    store.init(SOURCE, &Install { id: "00".repeat(16), layout: 1, format: 1 }).unwrap();
    let (control, _following) = control(&port, &clock).await;
    let control = control.with_store(store, 8);
    let name = "partitions/sender/1".to_owned();
    let propose = pb::ProposeSkipRequest { name: name.clone(), offset: 0, index: 1, reason: "kills".to_owned(), validate_only: false };
    control.propose_skip(by("ana", propose)).await.unwrap();
    write(&log, "wp1.identity", 0, sent(1));
    let approve = pb::ApproveSkipRequest { name, offset: 0, index: 1, validate_only: false };
    let refused = control.approve_skip(by("ben", approve)).await.unwrap_err();
    assert_eq!(refusal(&refused), (Code::FailedPrecondition, "FOLDED_ALREADY".to_owned()));
    assert_eq!(skipped(&log).len(), 0);
}

#[tokio::test]
async fn deaths_are_forgotten_behind_their_line() {
    let (log, port, clock) = everywhere();
    let store = Arc::new(MemoryStore::new());
    let deaths = Deaths { offset: 7, count: 6, processes: vec![1], index: Some(0) };
    store.note_deaths(SOURCE, Some(deaths)).unwrap();
    let (control, _following) = control(&port, &clock).await;
    let control = control.with_store(Arc::clone(&store) as Arc<dyn waypost_runtime::upkeep::Upkeep>, 8);
    let retry = |validate_only| by("ana", pb::RetryPartitionRequest { name: "partitions/sender/1".to_owned(), validate_only });
    for validate_only in [true, false] {
        let answer = control.retry_partition(retry(validate_only)).await.unwrap().into_inner();
        assert_eq!((answer.offset, answer.deaths), (7, 6));
        assert_eq!(store.deaths(SOURCE).unwrap().is_some(), validate_only);
    }
    let refused = control.retry_partition(retry(false)).await.unwrap_err();
    assert_eq!(refusal(&refused), (Code::FailedPrecondition, "NO_DEATHS".to_owned()));
    let lines = audit(&log);
    assert!(
        lines.len() == 1 && lines[0].contains(r#""act":"skip.retry","subject":"partitions/sender/1","note":"offset 7, 6 deaths""#),
        "{lines:?}"
    );
}
