//! The log's promises.

use std::{future::Future, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use waypost_runtime::ports::{Append, AppendError, Consumer, Delivery, Log, LogError, Membership, Offset, Producer, TopicSpec};
use waypost_types::Timestamp;

/// A log that the suite may meddle with.
#[async_trait]
pub trait LogFixture: Send + Sync {
    /// The log.
    fn log(&self) -> Arc<dyn Log>;
    /// A name that nobody else uses, for a topic or a group.
    fn name(&self, what: &str) -> String;
    /// Retention removes everything before `start`.
    async fn trim(&self, topic: &str, partition: u32, start: Offset);
}

/// How long anything may take before it counts as broken.
const PATIENCE: Duration = Duration::from_secs(30);

/// Every promise of the log.
pub async fn log_suite(fixture: &dyn LogFixture) {
    topics_are_created_once(fixture).await;
    what_goes_in_comes_out(fixture).await;
    order_holds_within_a_life(fixture).await;
    an_error_ends_a_life(fixture).await;
    positions_outside_the_log_are_errors(fixture).await;
    starts_are_honoured(fixture).await;
    an_unread_partition_holds_up_nobody(fixture).await;
    a_start_outside_the_log_fails_alone(fixture).await;
    members_share_in_order(fixture).await;
    subscriptions_go_on_where_they_committed(fixture).await;
}

/// The future's result, or a panic that says what did not come.
async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    let Ok(value) = tokio::time::timeout(PATIENCE, future).await else {
        panic!("{what}: nothing within {} s", PATIENCE.as_secs());
    };
    value
}

async fn topic(fixture: &dyn LogFixture, what: &str, partitions: u32) -> String {
    let name = fixture.name(what);
    let settings =
        vec![("message.timestamp.type".to_owned(), "LogAppendTime".to_owned()), ("max.message.bytes".to_owned(), "2097152".to_owned())];
    let spec = TopicSpec { name: name.clone(), partitions, replication: 1, settings };
    assert_eq!(fixture.log().create(&[spec]).await, Ok(vec![name.clone()]));
    name
}

fn record(topic: &str, partition: u32, payload: &str) -> Append {
    Append { topic: topic.to_owned(), partition, key: None, headers: Vec::new(), payload: Bytes::copy_from_slice(payload.as_bytes()) }
}

async fn append(producer: &Arc<dyn Producer>, record: Append) -> Offset {
    soon("acknowledgement", producer.append(record)).await.expect("appended")
}

/// Appends `count` numbered records to each of the partitions.
async fn fill(fixture: &dyn LogFixture, topic: &str, partitions: u32, count: u64) {
    let producer = fixture.log().producer().expect("a producer");
    for partition in 0..partitions {
        for n in 0..count {
            assert_eq!(append(&producer, record(topic, partition, &n.to_string())).await, n, "offsets are dense from 0");
        }
    }
}

async fn topics_are_created_once(fixture: &dyn LogFixture) {
    let name = topic(fixture, "created", 3).await;
    let spec = TopicSpec { name: name.clone(), partitions: 9, replication: 1, settings: Vec::new() };
    assert_eq!(fixture.log().create(&[spec]).await, Ok(Vec::new()), "what is there stays as it is");
    let described = fixture.log().describe(&name).await.expect("described").expect("there");
    assert_eq!((described.partitions, described.replication), (3, 1));
    assert!(described.settings.contains(&("message.timestamp.type".into(), "LogAppendTime".into())));
    assert!(described.settings.contains(&("max.message.bytes".into(), "2097152".into())));
    assert_eq!(fixture.log().describe(&fixture.name("absent")).await, Ok(None));
}

async fn what_goes_in_comes_out(fixture: &dyn LogFixture) {
    let name = topic(fixture, "roundtrip", 2).await;
    let producer = fixture.log().producer().expect("a producer");
    let sent = Append {
        key: Some(Bytes::from_static(b"\x00key")),
        headers: vec![("ce_id".into(), Bytes::from_static(b"1")), ("empty".into(), Bytes::new())],
        ..record(&name, 1, "\u{0}payload")
    };
    assert_eq!(append(&producer, sent.clone()).await, 0);
    assert_eq!(append(&producer, record(&name, 1, "")).await, 1);
    let mut tail = fixture.log().tail(&name, 1, 0).await.expect("a tail");
    let first = soon("first record", tail.next()).await.expect("read").expect("a record");
    assert_eq!((first.partition, first.offset), (1, 0));
    assert_eq!((first.key, first.headers, first.payload), (sent.key, sent.headers, sent.payload));
    assert!(first.appended > Timestamp::ZERO);
    let second = soon("second record", tail.next()).await.expect("read").expect("a record");
    assert_eq!((second.offset, second.key, second.payload), (1, None, Bytes::new()));
    assert!(second.appended >= first.appended, "append time never decreases");
    assert_eq!(soon("end", tail.next()).await, Ok(None), "the present end");
    append(&producer, record(&name, 1, "later")).await;
    let third = soon("record behind the end", tail.next()).await.expect("read").expect("a record");
    assert_eq!((third.offset, third.payload), (2, Bytes::from_static(b"later")));
    assert_eq!(soon("watermarks", fixture.log().watermarks(&name, 1)).await, Ok((0, 3)));
    assert_eq!(soon("watermarks", fixture.log().watermarks(&name, 0)).await, Ok((0, 0)));
    assert_eq!(fixture.log().watermarks(&name, 7).await, Err(LogError::Unknown));
}

async fn order_holds_within_a_life(fixture: &dyn LogFixture) {
    let name = topic(fixture, "order", 2).await;
    let producer = fixture.log().producer().expect("a producer");
    let mut waiting = Vec::new();
    for n in 0..2_000_u64 {
        for partition in 0..2 {
            waiting.push((n, producer.append(record(&name, partition, &n.to_string()))));
        }
    }
    for (n, acknowledged) in waiting {
        assert_eq!(soon("acknowledgement", acknowledged).await, Ok(n), "each by itself, in the order of appending");
    }
}

async fn an_error_ends_a_life(fixture: &dyn LogFixture) {
    let name = topic(fixture, "errors", 1).await;
    let small = TopicSpec {
        name: fixture.name("small"),
        partitions: 1,
        replication: 1,
        settings: vec![("max.message.bytes".into(), "1000".into())],
    };
    fixture.log().create(std::slice::from_ref(&small)).await.expect("created");
    let big = "x".repeat(3 << 20);
    let cases = [(record(&name, 0, &big), true), (record(&small.name, 0, &big[..5_000]), true), (record(&name, 5, "x"), false)];
    for (bad, large) in cases {
        let producer = fixture.log().producer().expect("a producer");
        let error = soon("refusal", producer.append(bad)).await.expect_err("refused");
        match error {
            AppendError::TooLarge { .. } => assert!(large, "{error}"),
            AppendError::UnknownPartition { partition, .. } => assert!(!large && partition == 5, "{error}"),
            AppendError::Full | AppendError::Failed(_) => panic!("{error}"),
        }
        assert!(soon("refusal", producer.append(record(&name, 0, "x"))).await.is_err(), "an error ends that life");
    }
    let producer = fixture.log().producer().expect("a producer");
    let acknowledged = producer.append(record(&name, 0, "before"));
    soon("acknowledgement", acknowledged).await.expect("appended");
    producer.purge();
    assert!(soon("refusal", producer.append(record(&name, 0, "x"))).await.is_err(), "a purge ends it too");
    let producer = fixture.log().producer().expect("a producer");
    assert_eq!(append(&producer, record(&name, 0, "next life")).await, 1, "nothing of the ended lives was appended");
}

async fn positions_outside_the_log_are_errors(fixture: &dyn LogFixture) {
    let name = topic(fixture, "range", 1).await;
    fill(fixture, &name, 1, 6).await;
    let at = async |from| {
        let mut tail = fixture.log().tail(&name, 0, from).await.expect("a tail");
        soon("an answer", tail.next()).await.map(|d| d.map(|d| d.offset))
    };
    assert_eq!(at(6).await, Ok(None), "the end is a position");
    assert_eq!(at(9).await, Err(LogError::OutOfRange), "beyond the end");
    fixture.trim(&name, 0, 4).await;
    assert_eq!(fixture.log().watermarks(&name, 0).await, Ok((4, 6)), "a trimmed start is visible");
    assert_eq!(at(4).await, Ok(Some(4)));
    assert_eq!(at(2).await, Err(LogError::OutOfRange), "below the start, never a reset");
}

/// A member that has been given partitions, and the news of it.
async fn news(consumer: &mut Box<dyn Consumer>) -> Membership {
    soon("membership news", async {
        loop {
            if let Some(news) = consumer.membership() {
                return news;
            }
            consumer.ready().await;
        }
    })
    .await
}

async fn assigned(consumer: &mut Box<dyn Consumer>, starts: &[(u32, Option<Offset>)]) -> Vec<u32> {
    match news(consumer).await {
        Membership::Assign { mut partitions, starts: answer } => {
            partitions.sort_unstable();
            answer.send(starts.to_vec()).expect("somebody waits for the starts");
            partitions
        }
        other @ (Membership::Revoke { .. } | Membership::Lost(_) | Membership::Failed { .. }) => {
            panic!("instead of an assignment: {other:?}")
        }
    }
}

async fn take(consumer: &mut Box<dyn Consumer>, partition: u32) -> Delivery {
    soon(&format!("a record of partition {partition}"), async {
        loop {
            if let Some(delivery) = consumer.take(partition) {
                return delivery;
            }
            consumer.ready().await;
        }
    })
    .await
}

async fn starts_are_honoured(fixture: &dyn LogFixture) {
    let name = topic(fixture, "starts", 3).await;
    fill(fixture, &name, 3, 5).await;
    let mut consumer = fixture.log().consumer(&name, &fixture.name("g")).await.expect("a member");
    assert_eq!(assigned(&mut consumer, &[(0, Some(0)), (1, Some(3)), (2, None)]).await, [0, 1, 2]);
    assert_eq!(take(&mut consumer, 0).await.offset, 0);
    assert_eq!(take(&mut consumer, 1).await.offset, 3);
    assert_eq!(take(&mut consumer, 1).await.offset, 4);
    assert!(consumer.take(2).is_none(), "without a start it stands at the end");
    consumer.seek(2, 1).expect("an assigned partition");
    assert_eq!(take(&mut consumer, 2).await.offset, 1);
    consumer.seek(1, 0).expect("an assigned partition");
    let again: Vec<_> = [take(&mut consumer, 1).await.offset, take(&mut consumer, 1).await.offset].into();
    assert_eq!(again, [0, 1], "nothing from before a seek comes after it");
    assert_eq!(consumer.seek(9, 0), Err(LogError::Unknown));
    consumer.note(1, 2);
    soon("leaving", consumer.close()).await;
}

async fn an_unread_partition_holds_up_nobody(fixture: &dyn LogFixture) {
    let name = topic(fixture, "backpressure", 2).await;
    let producer = fixture.log().producer().expect("a producer");
    let large = "x".repeat(200_000);
    for _ in 0..40 {
        append(&producer, record(&name, 0, &large)).await;
    }
    let mut consumer = fixture.log().consumer(&name, &fixture.name("g")).await.expect("a member");
    assigned(&mut consumer, &[(0, Some(0)), (1, Some(0))]).await;
    assert_eq!(take(&mut consumer, 0).await.offset, 0);
    for n in 0..50 {
        append(&producer, record(&name, 1, "x")).await;
        assert_eq!(take(&mut consumer, 1).await.offset, n);
    }
    for n in 1..40 {
        assert_eq!(take(&mut consumer, 0).await.offset, n, "what was left lies there still");
    }
    soon("leaving", consumer.close()).await;
}

async fn a_start_outside_the_log_fails_alone(fixture: &dyn LogFixture) {
    let name = topic(fixture, "lost", 2).await;
    fill(fixture, &name, 2, 3).await;
    let mut consumer = fixture.log().consumer(&name, &fixture.name("g")).await.expect("a member");
    assigned(&mut consumer, &[(0, Some(77)), (1, Some(0))]).await;
    let failed = soon("a failure", async {
        loop {
            assert!(consumer.take(0).is_none(), "nothing is delivered beyond the end");
            if let Some(news) = consumer.membership() {
                return news;
            }
            consumer.ready().await;
        }
    })
    .await;
    assert!(matches!(failed, Membership::Failed { partition: 0, error: LogError::OutOfRange }), "{failed:?}");
    assert_eq!(take(&mut consumer, 1).await.offset, 0);
    consumer.seek(0, 2).expect("still assigned");
    assert_eq!(take(&mut consumer, 0).await.offset, 2, "a seek starts it again");
    soon("leaving", consumer.close()).await;
}

async fn members_share_in_order(fixture: &dyn LogFixture) {
    let name = topic(fixture, "members", 4).await;
    fill(fixture, &name, 4, 2).await;
    let group = fixture.name("g");
    let mut first = fixture.log().consumer(&name, &group).await.expect("a member");
    let all = assigned(&mut first, &[(0, Some(0)), (1, Some(0)), (2, Some(0)), (3, Some(0))]).await;
    assert_eq!(all, [0, 1, 2, 3]);
    let mut second = fixture.log().consumer(&name, &group).await.expect("a member");
    let Membership::Revoke { partitions: mut given, drained } = news(&mut first).await else { panic!("nothing is taken away") };
    given.sort_unstable();
    assert_eq!(given.len(), 2);
    assert!(second.membership().is_none(), "nobody gets them before they are drained");
    drained.send(()).expect("somebody waits");
    let starts: Vec<_> = given.iter().map(|p| (*p, Some(1))).collect();
    assert_eq!(assigned(&mut second, &starts).await, given);
    assert_eq!(take(&mut second, given[0]).await.offset, 1);
    soon("leaving", second.close()).await;
    let back: Vec<_> = given.iter().map(|p| (*p, Some(0))).collect();
    assert_eq!(assigned(&mut first, &back).await, given, "what a member leaves comes back");
    assert_eq!(take(&mut first, given[1]).await.offset, 0);
    soon("leaving", first.close()).await;
}

async fn subscriptions_go_on_where_they_committed(fixture: &dyn LogFixture) {
    let name = topic(fixture, "subscription", 1).await;
    fill(fixture, &name, 1, 5).await;
    let group = fixture.name("g");
    let mut reader = fixture.log().subscribe(&name, &group).await.expect("a subscription");
    for n in 0..4 {
        assert_eq!(soon("a record", reader.next()).await.map(|d| d.offset), Ok(n), "from the start where nothing is committed");
    }
    reader.back(0, 2).expect("an assigned partition");
    assert_eq!(soon("a record", reader.next()).await.map(|d| d.offset), Ok(2), "delivered again");
    soon("commit", reader.commit(0, 3)).await.expect("committed");
    drop(reader);
    let mut reader = fixture.log().subscribe(&name, &group).await.expect("a subscription");
    assert_eq!(soon("a record", reader.next()).await.map(|d| d.offset), Ok(3));
}
