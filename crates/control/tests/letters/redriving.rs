//! Letters that are put back, one by one, and those that somebody is done with.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use async_trait::async_trait;
use bytes::Bytes;
use tonic::Code;
use waypost_codec::{
    frame::{Frame, Record},
    kind,
};
use waypost_memory::MemoryLog;
use waypost_proto::control::{self as pb, dead_letter_service_server::DeadLetterService as _};
use waypost_runtime::ports::{Append, Consumer, Delivery, Log, LogError, Offset, Producer, Subscription, Tail, TopicSpec};
use waypost_types::WorkspaceId;

use super::{
    common::{LAYOUT, audit, by, control, log},
    set_aside,
};

/// Sets one aside that has no content.
fn empty_letter(log: &MemoryLog, reason: &'static str) {
    let header = |name: &str, value: &'static str| (name.to_owned(), Bytes::from_static(value.as_bytes()));
    let headers = vec![header("reason", reason), header("door", "identity"), header("workspace", "1")];
    log.append(Append { topic: "wp1.dead".to_owned(), partition: 2, key: None, headers, payload: Bytes::new() }).unwrap();
}

#[tokio::test]
async fn letters_come_in_pages_and_what_comes_meanwhile_moves_none() {
    let (log, port, clock) = log();
    let (control, _following) = control(&port, &clock).await;
    for _ in 0..5 {
        empty_letter(&log, "BAD_KEY");
    }
    let (mut pages, mut token) = (Vec::new(), String::new());
    loop {
        let asked = pb::ListDeadLettersRequest { page_size: 2, page_token: token.clone(), ..pb::ListDeadLettersRequest::default() };
        let page = control.list_dead_letters(by("ana", asked)).await.unwrap().into_inner();
        pages.push(page.letters.into_iter().map(|letter| letter.id).collect::<Vec<_>>());
        if page.next_page_token.is_empty() {
            break;
        }
        token = page.next_page_token;
        empty_letter(&log, "BAD_KEY");
    }
    assert_eq!(pages, [vec!["2-4", "2-3"], vec!["2-2", "2-1"], vec!["2-0"]]);
    let other = pb::ListDeadLettersRequest { reason: "OTHER".into(), page_token: token, ..pb::ListDeadLettersRequest::default() };
    assert_eq!(control.list_dead_letters(by("ana", other)).await.unwrap_err().code(), Code::InvalidArgument, "of another question");
}

#[tokio::test]
async fn letters_that_are_done_with_are_passed_over_and_stay() {
    let (log, port, clock) = log();
    let (control, _following) = control(&port, &clock).await;
    let set_aside = |reason| empty_letter(&log, reason);
    for reason in ["DECODE_FAILED", "DECODE_FAILED", "BAD_KEY"] {
        set_aside(reason);
    }
    let discard = |expected, note: &str, validate_only| {
        let reason = "DECODE_FAILED".to_owned();
        let note = note.to_owned();
        by("ana", pb::DiscardDeadLettersRequest { reason, note, expected, validate_only, ..pb::DiscardDeadLettersRequest::default() })
    };
    let list = |discarded| by("ana", pb::ListDeadLettersRequest { discarded, ..pb::ListDeadLettersRequest::default() });
    let checked = control.discard_dead_letters(discard(0, "", true)).await.unwrap().into_inner().ids;
    assert_eq!(checked, ["2-0", "2-1"]);
    assert!(audit(&log).is_empty(), "only checked");
    assert_eq!(control.discard_dead_letters(discard(2, "", false)).await.unwrap_err().code(), Code::InvalidArgument, "no reason given");
    set_aside("DECODE_FAILED");
    assert_eq!(control.discard_dead_letters(discard(2, "test data", false)).await.unwrap_err().code(), Code::FailedPrecondition);
    assert_eq!(control.list_dead_letters(list(false)).await.unwrap().into_inner().total, 4);
    let done = control.discard_dead_letters(discard(3, "test data", false)).await.unwrap().into_inner().ids;
    assert_eq!(done.len(), 3);
    let left = control.list_dead_letters(list(false)).await.unwrap().into_inner();
    assert_eq!((left.total, left.letters[0].reason.as_str()), (1, "BAD_KEY"));
    let all = control.list_dead_letters(list(true)).await.unwrap().into_inner();
    let mark = all.letters.iter().find(|letter| letter.id == "2-0").unwrap().discard.clone().unwrap();
    assert_eq!((all.total, mark.by.as_str(), mark.note.as_str()), (4, "ana", "test data"));
    assert_eq!(log.all("wp1.dead", 2).len(), 4, "nothing is taken out");
    let lines = audit(&log);
    assert!(lines.len() == 3 && lines[0].contains(r#""act":"deadletter.discard","subject":"deadletters/2-0""#), "{lines:?}");
    assert_eq!(control.discard_dead_letters(discard(0, "again", false)).await.unwrap().into_inner().ids, [""; 0]);
    let request = pb::RedriveDeadLettersRequest { id: "2-0".to_owned(), ..pb::RedriveDeadLettersRequest::default() };
    let refused = control.redrive_dead_letters(by("ana", request)).await.unwrap().into_inner().letters[0].refused.clone();
    assert!(refused.contains("discarded"), "{refused}");
}

/// A log that counts its producers, and the readers of each topic.
struct Counting {
    log: Arc<dyn Log>,
    producers: AtomicUsize,
    readers: Mutex<Vec<String>>,
}

#[async_trait]
impl Log for Counting {
    fn producer(&self) -> Result<Arc<dyn Producer>, LogError> {
        self.producers.fetch_add(1, Ordering::SeqCst);
        self.log.producer()
    }
    async fn consumer(&self, topic: &str, group: &str) -> Result<Box<dyn Consumer>, LogError> {
        self.log.consumer(topic, group).await
    }
    async fn tail(&self, topic: &str, partition: u32, from: Offset) -> Result<Box<dyn Tail>, LogError> {
        self.readers.lock().unwrap().push(format!("{topic}/{partition}@{from}"));
        self.log.tail(topic, partition, from).await
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

#[tokio::test]
async fn letters_of_the_kafka_door_are_put_back_as_they_lay_there() {
    let (log, port, clock) = log();
    let header = |name: &str, value: &str| (name.to_owned(), Bytes::copy_from_slice(value.as_bytes()));
    // Five events with keys and headers, each set aside with no more than the place where it lies.
    let events: Vec<Append> = (0..5_u32)
        .map(|n| Append {
            topic: "waypost.events.v1".to_owned(),
            partition: 2 + n % 2,
            key: (n < 4).then(|| Bytes::from(format!("key {n}"))),
            headers: vec![header("source", "theirs"), header("__value_schema_id", &n.to_string()), header("source", "twice")],
            payload: Bytes::from(format!("event {n}")),
        })
        .collect();
    let aside = |position: &str, more: &[(&str, &str)], payload: Bytes| {
        let facts = [("reason", "SCHEMA_UNKNOWN"), ("door", "kafka"), ("source", ""), ("position", position)];
        let headers = facts.iter().chain(more).map(|(name, value)| header(name, value)).collect();
        log.append(Append { topic: "wp1.dead".to_owned(), partition: 6, key: None, headers, payload }).unwrap();
    };
    for event in &events {
        let offset = log.append(event.clone()).unwrap();
        aside(&format!("{}/{offset}", event.partition), &[], event.payload.clone());
    }
    // One whose original has gone, another record there now; one that is cut; one that is both.
    aside("2/0", &[], Bytes::from_static(b"event of before"));
    aside("3/1", &[("truncated", "7")], Bytes::from_static(b"even"));
    aside("3/999", &[("truncated", "7")], Bytes::from_static(b"even"));

    let counting = Arc::new(Counting { log: port, producers: AtomicUsize::new(0), readers: Mutex::default() });
    let (control, _following) = control(&(Arc::clone(&counting) as Arc<dyn Log>), &clock).await;
    counting.readers.lock().unwrap().clear();
    let redrive = |validate_only| {
        let request = pb::RedriveDeadLettersRequest { reason: "SCHEMA_UNKNOWN".to_owned(), validate_only, ..Default::default() };
        control.redrive_dead_letters(by("somebody", request))
    };
    let checked = redrive(true).await.unwrap().into_inner().letters;
    assert_eq!((checked.len(), counting.producers.load(Ordering::SeqCst), audit(&log).len()), (8, 0, 0), "a dry run writes nothing");
    counting.readers.lock().unwrap().clear();
    let done = redrive(false).await.unwrap().into_inner().letters;
    assert_eq!(done, checked);
    let refused: Vec<_> = done.iter().filter(|letter| !letter.refused.is_empty()).collect();
    assert!(refused.len() == 1 && refused[0].id == "6-7" && refused[0].refused.contains("part of its 7 bytes"), "{refused:?}");

    let back = |partition: u32, written: usize| log.all("waypost.events.v1", partition).split_off(written);
    let (even, odd) = (back(2, 3), back(3, 2));
    let expected = |delivery: &Delivery, event: &Append| {
        assert_eq!((&delivery.key, &delivery.headers, &delivery.payload), (&event.key, &event.headers, &event.payload));
    };
    for (delivery, event) in
        even.iter().zip([&events[0], &events[2], &events[4]]).chain(odd.iter().zip([&events[1], &events[3], &events[3]]))
    {
        expected(delivery, event);
    }
    assert_eq!((even.len(), odd.len()), (4, 3));
    assert_eq!((&even[3].payload[..], &even[3].key, even[3].headers.len()), (&b"event of before"[..], &None, 0));
    // One producer for the events and one for the audit, which one reader read to its end, and then what came behind it.
    assert_eq!(counting.producers.load(Ordering::SeqCst), 2);
    let mut readers = counting.readers.lock().unwrap().clone();
    readers.retain(|reader| !reader.starts_with("wp1.dead"));
    readers.sort();
    assert_eq!(
        readers,
        ["waypost.events.v1/2@0", "waypost.events.v1/2@0", "waypost.events.v1/3@0", "waypost.events.v1/3@1", "wp1.audit/0@0"]
    );
    assert_eq!(audit(&log).len(), 7);
}

#[tokio::test]
async fn a_dead_letter_is_put_back_once_unless_asked_again() {
    let (log, port, clock) = log();
    let (control, _following) = control(&port, &clock).await;
    let key = Bytes::from_static(b"ana@mail.example");
    let item = Record::new(kind::ITEM, WorkspaceId::new(1), [7; 16], key.clone(), clock.now(), Bytes::from_static(b"body"));
    set_aside(&log, "segmenter", "ENGINE_PANIC", &item);
    set_aside(&log, "segmenter", "ENGINE_PANIC", &Record { kind: kind::MERGE_STATE, ..item.clone() });
    set_aside(&log, "identity", "DECODE_FAILED", &item);
    let list = |reason: &str, source: &str| {
        let (control, reason, source) = (control.clone(), reason.to_owned(), source.to_owned());
        async move {
            let request = pb::ListDeadLettersRequest { reason, source, ..pb::ListDeadLettersRequest::default() };
            control.list_dead_letters(by("somebody", request)).await.unwrap().into_inner().letters
        }
    };
    assert_eq!(list("", "").await.len(), 3);
    assert_eq!(list("ENGINE_PANIC", "segmenter/3").await.len(), 2);
    assert_eq!(list("", "identity").await.len(), 1);
    let shown = control
        .get_dead_letter(by("somebody", pb::GetDeadLetterRequest { id: "2-0".to_owned(), read_mask: None }))
        .await
        .unwrap()
        .into_inner();
    assert!(shown.content.contains("body of 4 bytes") && !shown.content.contains("ana@"), "{}", shown.content);

    let redrive = |id: &str, reason: &str, again| {
        let (control, id, reason) = (control.clone(), id.to_owned(), reason.to_owned());
        async move {
            let request = pb::RedriveDeadLettersRequest { id, reason, again, validate_only: false };
            control.redrive_dead_letters(by("ben", request)).await.unwrap().into_inner().letters
        }
    };
    let first = redrive("2-0", "", false).await;
    assert_eq!((first.len(), first[0].refused.as_str()), (1, ""));
    assert!(redrive("2-0", "", false).await[0].refused.contains("--again"));
    let again = redrive("2-0", "", true).await;
    assert!(again[0].refused.is_empty() && again[0].record != first[0].record);
    let all = redrive("", "ENGINE_PANIC", false).await;
    assert_eq!(all.iter().filter(|l| l.refused.is_empty()).count(), 0, "one was put back, the other cannot be: {all:?}");
    let partition = LAYOUT.partition(WorkspaceId::new(1), &key);
    let records: Vec<Record> = log
        .all("wp1.segment", partition)
        .into_iter()
        .flat_map(|d| Frame::decode(d.payload).unwrap().sections)
        .flat_map(|s| {
            assert!(s.source.is_none());
            s.records
        })
        .collect();
    assert_eq!(records.iter().map(|r| hex::encode(r.id)).collect::<Vec<_>>(), [first[0].record.clone(), again[0].record.clone()]);
    assert!(records.iter().all(|r| r.body == item.body && r.id != item.id));
    assert_eq!(list("", "").await.iter().map(|l| l.redrives.len()).sum::<usize>(), 2);
    assert!(audit(&log).iter().all(|line| line.contains(r#""by":"ben","act":"deadletter.redrive","subject":"deadletters/2-0""#)));
}
