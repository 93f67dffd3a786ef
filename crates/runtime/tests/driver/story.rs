//! Three toy stages, each under its own driver, over any log and store: started, killed, drained.

use std::{
    collections::BTreeMap,
    future::Future,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use waypost_codec::frame::Frame;
use waypost_runtime::{
    Config, Entity, Machine, RoleMachine,
    driver::{Driver, Exit, Handle, Jobs, NoJobs, Ports, SchemaIds, Settings},
    host::{OsEntropy, SystemClock},
    install::{InitSettings, InstallRecord, doctor, init, load_install},
    ports::{Append, ClaimReply, Clock, Log, Offset, Store, Token},
    processor::{Job, Proposal},
    progress::{Directory, Speaker},
};
use waypost_types::{PartitionId, Role, Span, trace::NoTraces};

use super::toy::{Counter, LAST, OUTCOME, TOPIC, Toy, W, counter_id, record};

const KEYS: u64 = 7;

/// A registry whose first answer fails.
#[derive(Default)]
struct Moody(AtomicU64);

#[async_trait]
impl SchemaIds for Moody {
    async fn prefix(&self, topic: &str, version: u32) -> Result<[u8; 5], String> {
        assert_eq!((topic, version), (TOPIC, 1));
        if self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 0 { Err("away".into()) } else { Ok([0, 0, 0, 0, 7]) }
    }
}

struct Rig {
    log: Arc<dyn Log>,
    store: Arc<dyn Store>,
    prefix: String,
    record: InstallRecord,
    directory: Arc<Directory>,
    jobs: Arc<dyn Jobs>,
}

/// Answers for every job of a toy.
struct Answering;

#[async_trait]
impl Jobs for Answering {
    async fn run(&self, _: PartitionId, job: Job) -> Vec<Proposal> {
        if job.kind == LAST {
            Vec::new()
        } else {
            vec![Proposal { workspace: W, kind: OUTCOME, key: job.body, body: Bytes::new(), trace: Bytes::new() }]
        }
    }
}

type Running = (Handle, tokio::task::JoinHandle<Exit>);

impl Rig {
    fn machine(&self, role: Role) -> Box<dyn Machine> {
        let available = Arc::new(AtomicU64::new(u64::MAX));
        let config = Config { commit_interval: Span::from_millis(50), ..Config::default() };
        let (install, layout) = (self.record.install(), self.record.layout());
        let entropy = Box::new(OsEntropy);
        match role {
            Role::Identity => Box::new(RoleMachine::new(config, install, layout, entropy, Box::new(move |_| Toy::<0>::new(&available)))),
            Role::Segmenter => Box::new(RoleMachine::new(config, install, layout, entropy, Box::new(move |_| Toy::<1>::new(&available)))),
            Role::Orchestrator | Role::Sender | Role::Ingest | Role::Control => {
                Box::new(RoleMachine::new(config, install, layout, entropy, Box::new(move |_| Toy::<2>::new(&available))))
            }
        }
    }

    fn start(&self, role: Role) -> Running {
        let ports = Ports {
            log: Arc::clone(&self.log),
            store: Arc::clone(&self.store),
            clock: Arc::new(SystemClock),
            jobs: Arc::clone(&self.jobs),
            schemas: Arc::new(Moody::default()),
            directory: Arc::clone(&self.directory),
            speaker: Arc::new(Speaker::new(&self.prefix, format!("127.0.0.1:{}", 9_000 + role.number()))),
            traces: Arc::new(NoTraces),
        };
        let settings = Settings { prefix: self.prefix.clone(), install: self.record.install(), grace: Span::from_secs(20) };
        let (driver, handle) = Driver::new(self.machine(role), ports, settings);
        (handle, tokio::spawn(async move { driver.run().await.expect("the driver runs") }))
    }

    async fn say(&self, from: u64, to: u64) {
        let producer = self.log.producer().expect("a producer");
        let mut waiting = Vec::new();
        for n in from..to {
            let key = format!("key{}", n % KEYS);
            let body = Bytes::copy_from_slice(&n.to_be_bytes());
            let partition = self.record.layout().partition(W, key.as_bytes());
            let payload = Frame::unsourced(vec![record(key.as_bytes(), SystemClock.now(), body)]).encode();
            let topic = format!("{}wp1.identity", self.prefix);
            waiting.push(producer.append(Append { topic, partition, key: None, headers: Vec::new(), payload }));
        }
        for acknowledged in waiting {
            acknowledged.await.expect("appended");
        }
    }

    /// Public records, each once: a reader that takes last + 1 per source and partition only.
    async fn public(&self) -> Vec<Bytes> {
        let topic = format!("{}{TOPIC}", self.prefix);
        let mut all = Vec::new();
        for partition in 0..self.record.public_partitions {
            // a log that is away has nothing to show; whoever waits looks again
            let Ok((start, end)) = self.log.watermarks(&topic, partition).await else { continue };
            if start == end {
                continue;
            }
            let mut last: BTreeMap<Bytes, u64> = BTreeMap::new();
            let mut tail = self.log.tail(&topic, partition, start).await.expect("a tail");
            while let Ok(Ok(Some(delivery))) = tokio::time::timeout(Duration::from_secs(5), tail.next()).await {
                let header = |name: &str| delivery.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone()).expect("a header");
                let sequence: u64 = String::from_utf8_lossy(&header("ce_sequence")).parse().expect("a number");
                let last = last.entry(header("ce_source")).or_default();
                if sequence == *last + 1 {
                    *last = sequence;
                    assert_eq!(delivery.payload[..5], [0, 0, 0, 0, 7], "the registry's prefix");
                    all.push(delivery.payload.slice(5..));
                }
            }
        }
        all.sort();
        all
    }

    async fn await_public(&self, count: u64) {
        let expected: Vec<Bytes> = (0..count).map(|n| Bytes::copy_from_slice(&n.to_be_bytes())).collect();
        for _ in 0..300 {
            let found = self.public().await;
            assert!(found.len() as u64 <= count, "nothing comes twice");
            if found == expected {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("{} of {count} records came through", self.public().await.len());
    }

    async fn counts(&self, running: &Running, role: Role) -> (u64, Offset) {
        let (mut sum, mut offsets) = (0, 0);
        for n in 0..KEYS {
            let key = format!("key{n}");
            let index = self.record.layout().partition(W, key.as_bytes());
            let answer = patiently(async || running.0.read(index, counter_id(key.as_bytes())).await).await;
            if let Some(bytes) = answer.0 {
                sum += Counter::decode(&counter_id(key.as_bytes()), &bytes).expect("a counter").count;
            }
            offsets += answer.1;
            let partition = PartitionId { role, index };
            let owner = patiently(async || self.directory.owner(partition, SystemClock.now())).await;
            assert_eq!(owner.address, format!("127.0.0.1:{}", 9_000 + role.number()));
        }
        (sum, offsets)
    }
}

async fn patiently<T, F: Future<Output = Option<T>>>(look: impl Fn() -> F) -> T {
    for _ in 0..300 {
        if let Some(found) = look().await {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("not there in time")
}

/// A few hundred records through three stages, with every stage killed and drained on the way.
pub(crate) async fn story(log: Arc<dyn Log>, store: Arc<dyn Store>, prefix: String) {
    let settings = InitSettings::new(prefix.clone(), 4, 1);
    assert!(load_install(&*log, &prefix).await.is_err(), "nothing before init");
    let first = init(&*log, &*store, &mut OsEntropy, &settings).await.expect("initialised");
    assert!(first.new && first.partitions == 16 && first.topics.len() == 16, "{first:?}");
    let second = init(&*log, &*store, &mut OsEntropy, &settings).await.expect("again");
    assert!(!second.new && second.partitions == 0 && second.topics.is_empty() && second.record == first.record, "{second:?}");
    assert!(init(&*log, &*store, &mut OsEntropy, &InitSettings::new(prefix.clone(), 8, 1)).await.is_err(), "V never changes");
    assert_eq!(load_install(&*log, &prefix).await, Ok(first.record.clone()));
    let findings = doctor(&*log, &SystemClock, &settings).await.expect("looked at");
    assert!(findings.iter().all(|f| !f.refuses()), "{findings:?}");

    let directory = Directory::follow(Arc::clone(&log), &prefix);
    let rig = Rig { log, store, prefix, record: first.record, directory, jobs: Arc::new(NoJobs) };
    let roles = [Role::Identity, Role::Segmenter, Role::Orchestrator];
    let mut running: Vec<Running> = roles.map(|role| rig.start(role)).into();
    rig.say(0, 100).await;
    rig.await_public(100).await;
    for (role, running) in roles.iter().zip(&running) {
        assert_eq!(rig.counts(running, *role).await.0, 100, "{role}");
    }

    // killed in the middle, one after the other
    let mut said = 100;
    for (place, role) in roles.iter().enumerate() {
        rig.say(said, said + 50).await;
        running[place].1.abort();
        rig.say(said + 50, said + 100).await;
        said += 100;
        running[place] = rig.start(*role);
        rig.await_public(said).await;
    }
    for (role, running) in roles.iter().zip(&running) {
        assert_eq!(rig.counts(running, *role).await.0, said, "{role}");
    }

    // drained and started again
    for (handle, task) in running {
        handle.drain().await;
        assert_eq!(task.await.expect("no panic"), Exit::Drained);
    }
    let running: Vec<Running> = roles.map(|role| rig.start(role)).into();
    rig.say(said, said + 20).await;
    rig.await_public(said + 20).await;
    for (handle, task) in running {
        handle.drain().await;
        assert_eq!(task.await.expect("no panic"), Exit::Drained);
    }
}

/// Somebody keeps claiming what a running process owns, until it has left its group and joined it again, which `joins` counts.
#[allow(dead_code, reason = "not every adapter shows it")]
pub(crate) async fn duel(log: Arc<dyn Log>, store: Arc<dyn Store>, prefix: String, joins: Arc<AtomicU64>) {
    let settings = InitSettings::new(prefix.clone(), 4, 1);
    let record = init(&*log, &*store, &mut OsEntropy, &settings).await.expect("initialised").record;
    let directory = Directory::follow(Arc::clone(&log), &prefix);
    let rig = Rig { log, store, prefix, record, directory, jobs: Arc::new(NoJobs) };
    let running: Vec<Running> = [Role::Identity, Role::Segmenter, Role::Orchestrator].map(|role| rig.start(role)).into();
    let mut said = 20;
    rig.say(0, said).await;
    rig.await_public(said).await;
    let before = joins.load(std::sync::atomic::Ordering::SeqCst);
    for round in 0_u8.. {
        assert!(round < 100, "the duel does not end");
        for index in 0..4 {
            let partition = PartitionId { role: Role::Segmenter, index };
            let claimed = rig.store.claim(partition, Token([round; 16]), &rig.record.install()).await;
            assert!(matches!(claimed, Ok(ClaimReply::Ok(_))), "{claimed:?}");
        }
        rig.say(said, said + 7).await;
        said += 7;
        tokio::time::sleep(Duration::from_millis(600)).await;
        if joins.load(std::sync::atomic::Ordering::SeqCst) > before {
            break;
        }
    }
    rig.await_public(said).await;
    assert_eq!(rig.counts(&running[1], Role::Segmenter).await.0, said);
    for (handle, task) in running {
        handle.drain().await;
        assert_eq!(task.await.expect("no panic"), Exit::Drained);
    }
}

/// What many jobs bring at once is appended at once.
#[allow(dead_code, reason = "the same over every adapter")]
pub(crate) async fn together(log: Arc<dyn Log>, store: Arc<dyn Store>, prefix: String) {
    const JOBS: usize = 50;
    let installed = init(&*log, &*store, &mut OsEntropy, &InitSettings::new(prefix.clone(), 4, 1)).await.expect("initialised").record;
    let directory = Directory::follow(Arc::clone(&log), &prefix);
    let rig = Rig { log, store, prefix, record: installed, directory, jobs: Arc::new(Answering) };
    let (handle, task) = rig.start(Role::Identity);
    let index = rig.record.layout().partition(W, b"key");
    patiently(async || handle.read(index, counter_id(b"key")).await).await;
    let topic = format!("{}wp1.identity", rig.prefix);
    let asking = vec![record(b"key", SystemClock.now(), Bytes::from_static(b"j")); JOBS];
    let producer = rig.log.producer().expect("a producer");
    let payload = Frame::unsourced(asking).encode();
    producer.append(Append { topic: topic.clone(), partition: index, key: None, headers: Vec::new(), payload }).await.expect("appended");
    let outcomes = patiently(async || {
        let mut tail = rig.log.tail(&topic, index, 0).await.expect("a tail");
        let mut frames = Vec::new();
        while let Some(delivery) = tail.next().await.expect("readable") {
            let frame = Frame::decode(delivery.payload).expect("a frame");
            let records = frame.sections.iter().flat_map(|section| &section.records);
            frames.push(records.filter(|record| record.kind == OUTCOME).count());
        }
        frames.retain(|outcomes| *outcomes > 0);
        (frames.iter().sum::<usize>() >= JOBS).then_some(frames)
    });
    assert_eq!(outcomes.await, [JOBS], "in one frame");
    handle.drain().await;
    assert_eq!(task.await.expect("no panic"), Exit::Drained);
}
