//! A short plot of a shop, played through the four roles without a runtime: what they write to each other and what
//! they keep are the seeds. With `WRITE_SEEDS=1` they are written; else each that is made here must be there.

use std::{
    collections::{BTreeMap, VecDeque},
    fs,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::executor::block_on;
use prost::Message as _;
use waypost_codec::{
    avro::{self, EventInput},
    frame::{Frame, Record, Section, Source, chain},
    inbox::{Delta, Detach, Erase, Event, Expire, IdentityEvent, JourneyItem, NodeRef},
    kind, stored,
    unsubscribe::{self, TokenKey, Unsubscribe},
};
use waypost_control::{Entry, Journal, KeyLine, SkipPlace};
use waypost_engine::{apply::SetManifest, journey::CALLBACKS};
use waypost_identity::IdentityProcessor;
use waypost_ingest::{
    Env,
    segment_call::{self, CallKind, Shared},
};
use waypost_orchestrator::OrchestratorProcessor;
use waypost_providers::catcher::Catcher;
use waypost_runtime::{
    backup::Backup,
    install::{InitSettings, InstallRecord},
    ports::{Clock, Entropy, Install, Meta},
    processor::{Fireable, Fold, Job, Output, Processor},
    upkeep::Snapshot,
};
use waypost_segmenter::SegmenterProcessor;
use waypost_sender::{Calls, Links, Provider, SenderProcessor};
use waypost_types::{EntityId, Layout, PartitionId, Position, ProfileId, Role, Span, Timestamp, WorkspaceId};

use crate::{
    TARGETS,
    doors::{INSTALL, WEB},
    folds::MAX_RECORDS,
    shop::{NOW, PUBLISHED, SHOP},
};

/// What `make fuzz` reads of a seed.
const MAX_SEED: usize = 16_384;
const PARTITION: PartitionId = PartitionId { role: Role::Sender, index: 0 };

/// A role, what it keeps, and everything that it has folded.
struct Stage<P: Processor> {
    processor: P,
    entities: BTreeMap<EntityId, Option<P::Entity>>,
    log: Vec<Record>,
    /// Of each kind of entity the largest state there was, and the smallest.
    states: BTreeMap<u8, (Bytes, Bytes)>,
}

/// All four, and the time.
struct Plot {
    clock: Arc<Hand>,
    identity: Stage<IdentityProcessor>,
    segmenter: Stage<SegmenterProcessor>,
    orchestrator: Stage<OrchestratorProcessor>,
    sender: Stage<SenderProcessor>,
    todo: VecDeque<(Role, Record)>,
    catcher: Arc<Catcher>,
    calls: Calls,
    /// While providers are away jobs wait here.
    waiting: Vec<Job>,
    away: bool,
    number: u8,
}

type Put = (Vec<Output>, Vec<Job>);

/// Time as it is set.
struct Hand(Mutex<Timestamp>);

#[async_trait]
impl Clock for Hand {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap()
    }
    async fn sleep_until(&self, _: Timestamp) {}
}

// === impl Stage ===

impl<P: Processor> Stage<P> {
    fn new(mut processor: P) -> Self {
        processor.define(&PUBLISHED.1);
        Self { processor, entities: BTreeMap::new(), log: Vec::new(), states: BTreeMap::new() }
    }

    fn position(&self) -> Position {
        Position { offset: self.log.len() as u64, index: 0 }
    }

    fn fold(&mut self, record: Record) -> Put {
        let wanted = self.processor.entities(&record).unwrap_or_else(|poison| panic!("kind {}: {poison}", record.kind));
        for id in &wanted {
            self.entities.entry(id.clone()).or_insert(None);
        }
        let position = self.position();
        let mut fold = Fold::new(record.at.unwrap(), position, &mut self.entities);
        self.processor.fold(&mut fold, &record).unwrap_or_else(|poison| panic!("kind {}: {poison}", record.kind));
        let put = (fold.outputs().to_vec(), fold.jobs().to_vec());
        self.log.push(Record { cause: position, ..record });
        for id in wanted {
            self.remember(&id);
        }
        put
    }

    fn remember(&mut self, id: &EntityId) {
        let Some(sealed) = self.entities[id].as_ref().and_then(waypost_runtime::Entity::encode) else { return };
        let (_, body) = stored::open(&sealed).unwrap();
        let (large, small) = self.states.entry(id.kind()).or_insert_with(|| (body.clone(), body.clone()));
        if body.len() > large.len() {
            *large = body;
        } else if body.len() < small.len() {
            *small = body;
        }
    }

    fn fire(&mut self, now: Timestamp) -> Put {
        let position = self.position();
        let (mut outputs, mut jobs) = (Vec::new(), Vec::new());
        let ids: Vec<EntityId> = self.entities.keys().cloned().collect();
        for id in ids {
            let limit = Fireable { plain: now, absent: now, proven: now, before: None };
            loop {
                let mut fold = Fold::new(now, position, &mut self.entities);
                let fired = self.processor.fire(&mut fold, &id, limit).unwrap();
                outputs.extend_from_slice(fold.outputs());
                jobs.extend_from_slice(fold.jobs());
                if !fired {
                    break;
                }
            }
        }
        (outputs, jobs)
    }

    /// For each kind of record the longest history of its entities that is no longer than the target takes.
    fn histories(&self) -> BTreeMap<u32, Vec<&Record>> {
        let mut best: BTreeMap<u32, Vec<&Record>> = BTreeMap::new();
        for (at, last) in self.log.iter().enumerate() {
            let wanted = self.processor.entities(last).unwrap();
            let concerns = |r: &&Record| self.processor.entities(r).unwrap().iter().any(|id| wanted.contains(id));
            let history: Vec<&Record> = self.log[..=at].iter().filter(concerns).collect();
            let best = best.entry(last.kind).or_default();
            if history.len() <= MAX_RECORDS && written(0, &history).len() <= MAX_SEED && history.len() > best.len() {
                *best = history;
            }
        }
        best
    }

    fn frame(&self, role: Role) -> Vec<u8> {
        let records: Vec<Record> = self.log.iter().take(12).cloned().collect();
        let chain = records.iter().fold(0, |before, r| chain(before, r.kind, &r.key, &r.body));
        let (first, second) = records.split_at(4);
        let source = Some(Source { role, partition: 0, first: 1, chain });
        let sections = vec![Section { source, records: first.to_vec() }, Section { source: None, records: second.to_vec() }];
        Frame { sections }.encode().to_vec()
    }

    fn backup(&self) -> Vec<u8> {
        let mut snapshot = Snapshot::empty(Install { id: "07".repeat(16), layout: 1, format: 1 });
        snapshot.off = self.log.len() as u64;
        let digest = Bytes::from_static(&[5; 32]);
        snapshot.meta =
            Meta { clk: NOW, wm: NOW, digest, eng: 1, defv: PUBLISHED.1.clone(), lastrec: "7:99:1".to_owned(), ..Meta::default() };
        snapshot.sequences.insert("x:identity:0".to_owned(), [1; 16]);
        let mut bytes = 0;
        for (id, entity) in &self.entities {
            let Some(blob) = entity.as_ref().and_then(waypost_runtime::Entity::encode).filter(|blob| bytes + blob.len() < 6_000) else {
                continue;
            };
            bytes += blob.len();
            snapshot.timers.insert(id.clone(), NOW);
            snapshot.entities.insert(id.clone(), blob);
        }
        let backup = Backup { partition: PartitionId { role: P::ROLE, index: 0 }, taken: NOW, snapshot };
        let mut encoded = backup.encode();
        encoded.truncate(encoded.len() - 16);
        encoded.insert(0, 0);
        encoded
    }
}

/// As the target `fold` reads them.
fn written(role: u8, records: &[&Record]) -> Vec<u8> {
    let mut seed = vec![role];
    for record in records {
        let minute = record.at.unwrap().since(NOW).millis() / 60_000;
        seed.push(u8::try_from(record.kind).unwrap());
        seed.push(u8::try_from(record.cause.offset % 256).unwrap());
        seed.extend_from_slice(&u16::try_from(minute).unwrap().to_be_bytes());
        seed.push(u8::try_from(record.key.len()).unwrap());
        seed.extend_from_slice(&u16::try_from(record.body.len()).unwrap().to_be_bytes());
        seed.extend_from_slice(&record.key);
        seed.extend_from_slice(&record.body);
    }
    seed
}

// === impl Plot ===

impl Plot {
    fn new() -> Self {
        let clock = Arc::new(Hand(Mutex::new(NOW)));
        let catcher = Arc::new(Catcher::in_memory());
        let providers = BTreeMap::from([("catcher".to_owned(), Arc::clone(&catcher) as Arc<dyn Provider>)]);
        let links = Links { public_url: "https://shop.example".to_owned(), keys: TokenKey::new(INSTALL).into() };
        let library = || Arc::clone(&PUBLISHED.0);
        Self {
            calls: Calls::new(library() as Arc<_>, providers, links, Arc::clone(&clock) as Arc<_>),
            clock,
            identity: Stage::new(IdentityProcessor::new(Layout { number: 1, partitions: 4 })),
            segmenter: Stage::new(SegmenterProcessor::new(library())),
            orchestrator: Stage::new(OrchestratorProcessor::new(library())),
            sender: Stage::new(SenderProcessor::new()),
            todo: VecDeque::new(),
            catcher,
            waiting: Vec::new(),
            away: false,
            number: 0,
        }
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Time passes, a quarter of an hour after the other.
    fn wait(&mut self, minutes: i64) {
        let end = self.now().plus(Span::from_secs(60 * minutes));
        while self.now() < end {
            let next = self.now().plus(Span::from_secs(900)).min(end);
            *self.clock.0.lock().unwrap() = next;
            let all = [self.identity.fire(next), self.segmenter.fire(next), self.orchestrator.fire(next), self.sender.fire(next)];
            for put in all {
                self.put(put);
            }
            self.run();
        }
    }

    /// A call of the shop, and all that comes of it; how identity knows who it is of.
    fn say(&mut self, kind: CallKind, json: &str) -> NodeRef {
        let node = self.queue(kind, json, None);
        self.run();
        node
    }

    fn queue(&mut self, kind: CallKind, json: &str, source: Option<&str>) -> NodeRef {
        let env = Env { install: &INSTALL, now: self.now() };
        let accepted = segment_call::read(Some(kind), json, &Shared::default(), &WEB, env).unwrap_or_else(|e| panic!("{json}: {e:?}"));
        let mut body = IdentityEvent::decode(accepted.record.body.clone()).unwrap();
        if let Some(source) = source {
            let event = Event { source: source.to_owned(), ..accepted.event };
            body.event = event.encode_to_vec().into();
        }
        let node = body.identifiers[0].clone();
        self.todo.push_back((Role::Identity, Record { at: Some(self.now()), body: body.encode_to_vec().into(), ..accepted.record }));
        self.wait(1);
        node
    }

    fn control(&mut self, kind: u32, node: &NodeRef, body: Vec<u8>) {
        let record = self.record(kind, node.hash.clone(), body.into());
        self.todo.push_back((Role::Identity, record));
        self.run();
    }

    fn record(&mut self, kind: u32, key: Bytes, body: Bytes) -> Record {
        self.number = self.number.wrapping_add(1);
        Record { at: Some(self.now()), ..Record::new(kind, SHOP, [self.number; 16], key, self.now(), body) }
    }

    fn put(&mut self, (outputs, jobs): Put) {
        let now = self.now();
        for output in outputs {
            if let Output::Inbox { role, workspace, key, kind, body, id, via, at } = output {
                let record = Record { at: Some(at.unwrap_or(now)), via, ..Record::new(kind, workspace, id, key, now, body) };
                self.todo.push_back((role, record));
            }
        }
        self.waiting.extend(jobs);
    }

    fn run(&mut self) {
        loop {
            if let Some((role, record)) = self.todo.pop_front() {
                let put = match role {
                    Role::Identity => self.identity.fold(record),
                    Role::Segmenter => self.segmenter.fold(record),
                    Role::Orchestrator => self.orchestrator.fold(record),
                    Role::Sender => self.sender.fold(record),
                    other @ (Role::Ingest | Role::Control) => panic!("{other} has no inbox here"),
                };
                self.put(put);
            } else if !self.away && !self.waiting.is_empty() {
                let job = self.waiting.remove(0);
                for proposal in block_on(self.calls.run(PARTITION, job)) {
                    let record = self.record(proposal.kind, proposal.key, proposal.body);
                    self.todo.push_back((Role::Sender, record));
                }
            } else {
                return;
            }
        }
    }

    /// What a provider says of the last message.
    fn called_back(&mut self, what: &str) {
        let message = self.catcher.messages().pop().expect("a message went out");
        let (dispatch, to) = (message.dispatch, message.to);
        let json = format!(
            r#"{{"userId":"u-1","messageId":"cb-{what}","event":"Message {what}","properties":{{"dispatch_id":"{dispatch}","address":"{to}","channel":"email"}}}}"#
        );
        self.queue(CallKind::Track, &json, Some(CALLBACKS));
    }

    /// What was sent to a profile before comes once more, when the profile is not there any longer.
    fn late(&mut self, profile: &Bytes) {
        let items = self.segmenter.log.iter().filter(|r| r.kind == kind::ITEM && r.key == profile);
        let item = items.last().expect("it had items").clone();
        let late = self.record(kind::ITEM, item.key, item.body);
        self.todo.push_back((Role::Segmenter, late));
        self.run();
    }

    fn cart(&mut self, who: &str, cart: &str) -> NodeRef {
        let product = r#""product_id":"p1","name":"Lamp","price":"30.00","quantity":2,"currency":"EUR""#;
        self.say(CallKind::Track, &format!(r#"{{{who},"event":"Product Added","properties":{{"cart_id":"{cart}",{product}}}}}"#))
    }

    /// Whoever it is says something, is erased, and something of them comes late.
    fn erase(&mut self, user: &str) {
        let node = self.say(CallKind::Track, &format!(r#"{{"userId":"{user}","event":"Signed In"}}"#));
        let profile = self.segmenter.log.iter().rfind(|r| r.kind == kind::ITEM).expect("they were here").key.clone();
        self.control(kind::ERASE, &node, Erase { node: Some(current(&node)), suppress: true }.encode_to_vec());
        self.late(&profile);
    }

    /// What time alone would change of a person; the shop has no segment.
    fn delta(&mut self) {
        let last = self.orchestrator.log.iter().rfind(|r| r.kind == kind::JOURNEY_ITEM).expect("there was an item");
        let (key, item) = (last.key.clone(), JourneyItem::decode(last.body.clone()).unwrap());
        let delta = self.record(kind::DELTA, key, Delta { delta: item.delta }.encode_to_vec().into());
        self.todo.push_back((Role::Orchestrator, delta));
        self.run();
    }

    /// Somebody looks around on two devices, signs up, buys, unsubscribes, is erased.
    fn play(&mut self) {
        let (user, phone, desk) = (r#""userId":"u-1""#, r#""anonymousId":"c-1""#, r#""anonymousId":"c-2""#);
        self.cart(phone, "k1");
        self.say(CallKind::Identify, &format!(r#"{{{user},{phone},"traits":{{"email":"ann@shop.example","first_name":"Ann"}}}}"#));
        for topic in ["cart-reminders", "welcome"] {
            let event = format!(r#"{{{user},"event":"Subscribed","properties":{{"channel":"email","topic":"{topic}"}}}}"#);
            self.say(CallKind::Track, &event);
        }
        self.called_back("Delivered");
        self.delta();
        // A second device with a run of its own.
        let desk_node = self.cart(desk, "k2");
        self.wait(20);
        self.say(CallKind::Identify, &format!("{{{user},{desk}}}"));
        self.wait(90);
        let moved = self.segmenter.log.iter().rfind(|r| r.kind == kind::MERGE_BEGIN).expect("two halves met").key.clone();
        self.late(&moved);
        self.called_back("Opened");
        // What is decided while no provider answers is taken back by an order.
        self.away = true;
        self.wait(25 * 60);
        let order = r#""order_id":"o1","cart_id":"k1","total":"60.00","currency":"EUR","products":[{"product_id":"p1","price":"30.00","quantity":2}]"#;
        self.say(CallKind::Track, &format!(r#"{{{user},"event":"Order Completed","properties":{{{order}}}}}"#));
        self.away = false;
        self.wait(15);
        for event in ["Unsubscribed", "Subscribed"] {
            let json = format!(r#"{{{user},"event":"{event}","properties":{{"channel":"email","topic":"cart-reminders"}}}}"#);
            self.say(CallKind::Track, &json);
            self.wait(15);
        }
        // Somebody else signs in on the first device.
        self.say(CallKind::Identify, &format!(r#"{{"userId":"u-2",{phone},"traits":{{"email":"bob@shop.example"}}}}"#));
        self.wait(30);
        self.control(kind::DETACH, &desk_node.clone(), Detach { node: Some(current(&desk_node)) }.encode_to_vec());
        let third = self.cart(r#""anonymousId":"c-3""#, "k3");
        self.control(kind::EXPIRE, &third.clone(), Expire { node: Some(current(&third)) }.encode_to_vec());
        self.wait(30);
        for user in ["u-1", "u-3"] {
            self.erase(user);
        }
        self.wait(60);
    }
}

/// As control names it: whoever the identifier is by then.
fn current(node: &NodeRef) -> NodeRef {
    NodeRef { generation: Bytes::new(), ..node.clone() }
}

type Seeds = BTreeMap<(&'static str, String), Vec<u8>>;

fn folds_of<P: Processor>(seeds: &mut Seeds, role: u8, stage: &Stage<P>) {
    for (kind, history) in stage.histories() {
        let seed = written(role, &history);
        seeds.insert(("fold", format!("role{role}-kind{kind}")), seed);
    }
    let source = if role == 0 { Role::Sender } else { Role::Identity };
    seeds.insert(("frame", P::ROLE.to_string()), stage.frame(source));
    seeds.insert(("backup", P::ROLE.to_string()), stage.backup());
    for (selector, kind) in [(0, b'i'), (1, b'p'), (2, b'p'), (3, b'd'), (4, b'a')] {
        let its = if selector == 4 { 3 } else { selector };
        let Some((large, small)) = stage.states.get(&kind).filter(|_| its == role) else { continue };
        for (name, body) in [("large", large), ("small", small)] {
            seeds.insert(("state", format!("role{role}-{}-{name}", char::from(kind))), [&[selector], &body[..]].concat());
        }
    }
}

fn avro_events(seeds: &mut Seeds) {
    let event = |id: &str, name: &str, by: &[(&str, &str)]| EventInput {
        message_id: id.to_owned(),
        name: name.to_owned(),
        identifiers: by.iter().map(|(class, value)| ((*class).to_owned(), (*value).to_owned())).collect(),
        event_time: Some(NOW),
        properties: "{}".to_owned(),
        context: "{}".to_owned(),
        traits: "{}".to_owned(),
        source: "shop-backend".to_owned(),
        historical: false,
        workspace: i64::from(SHOP.number()),
    };
    let user = [("user_id", "u-1")];
    let product = r#"{"product_id":"p1","name":"Lamp","price":"30.00","quantity":2}"#;
    let events = [
        ("cart", EventInput { properties: format!(r#"{{"cart_id":"k1","products":[{product}]}}"#), ..event("m1", "Cart Updated", &user) }),
        (
            "order",
            EventInput {
                properties: format!(r#"{{"order_id":"o1","total":"60.00","currency":"EUR","products":[{product}]}}"#),
                context: r#"{"timezone":"Europe/Berlin","locale":"de-DE"}"#.to_owned(),
                ..event("m2", "Order Completed", &[("user_id", "u-1"), ("anonymous", "c-1")])
            },
        ),
        (
            "traits",
            EventInput {
                traits: r#"{"email":"ann@shop.example","first_name":"Ann","birthday":"1990-02-28"}"#.to_owned(),
                ..event("m3", "Signed Up", &[("user_id", "u-1"), ("email", "ann@shop.example")])
            },
        ),
        ("consent", EventInput { properties: r#"{"channel":"email","topic":"welcome"}"#.to_owned(), ..event("m4", "Subscribed", &user) }),
        ("historical", EventInput { historical: true, ..event("m5", "Signed In", &user) }),
    ];
    for (name, event) in events {
        seeds.insert(("avro_event", name.to_owned()), avro::write(1, &event.encode()).to_vec());
    }
}

/// The set in force with all its bodies, and one without its journeys.
fn definitions(seeds: &mut Seeds) {
    let set = PUBLISHED.0.manifest(&PUBLISHED.1).unwrap();
    let all = |set: &SetManifest| {
        let mut seed = set.to_bytes().to_vec();
        for definition in &set.definitions {
            seed.push(0);
            seed.extend_from_slice(&PUBLISHED.0.body(&definition.hash).unwrap());
        }
        seed
    };
    let of = |names: &[&str]| {
        let named = set.definitions.iter().filter(|d| names.is_empty() || names.contains(&d.name.as_str()));
        SetManifest { definitions: named.cloned().collect(), ..set.clone() }
    };
    let shop = of(&["shop", "cart-reminders", "web", "shop-backend", "kafka", "email"]);
    for (name, set) in [("whole", of(&[])), ("shop", shop), ("welcome", of(&["shop", "welcome", "first-steps", "email"]))] {
        let seed = all(&set);
        if seed.len() <= MAX_SEED {
            seeds.insert(("definitions", name.to_owned()), seed);
        }
    }
}

/// Numbers that are no secret.
struct Sevens;

impl Entropy for Sevens {
    fn next(&mut self) -> u64 {
        0x0707_0707_0707_0707
    }
}

fn control(seeds: &mut Seeds) {
    let retention = Span::from_days(7);
    let settings = InitSettings { prefix: String::new(), partitions: 4, public_partitions: 2, replication: 1, min_isr: 1, retention };
    let install = InstallRecord::draw(&mut Sevens, &settings);
    let mut lines = vec![install.to_bytes().to_vec()];
    let mut journal = Journal::default();
    journal.fold(0, &lines[0]);
    let place = SkipPlace { role: "sender".to_owned(), partition: 2, offset: 9, index: 1 };
    let (by, reason) = ("ann".to_owned(), "kills the process".to_owned());
    let entries = [
        Entry::Activate { set: 1, hash: "01".repeat(16) },
        Entry::Key(KeyLine::new(WorkspaceId::new(1), "web", "02".repeat(32))),
        Entry::SkipProposed { place: place.clone(), reason: reason.clone(), by: by.clone() },
        Entry::Skip { place, proposed_by: by, approved_by: "bob".to_owned(), reason },
        Entry::Activate { set: 2, hash: "03".repeat(16) },
    ];
    for (offset, entry) in (1..).zip(entries) {
        let line = journal.line(entry);
        journal.fold(offset, &line);
        lines.push(line);
    }
    seeds.insert(("control", "journal".to_owned()), lines.join(&b'\n'));
}

fn seeds() -> Seeds {
    let mut plot = Plot::new();
    plot.play();
    let mut seeds = Seeds::new();
    folds_of(&mut seeds, 0, &plot.identity);
    folds_of(&mut seeds, 1, &plot.segmenter);
    folds_of(&mut seeds, 2, &plot.orchestrator);
    folds_of(&mut seeds, 3, &plot.sender);
    avro_events(&mut seeds);
    definitions(&mut seeds);
    control(&mut seeds);
    let profile = ProfileId::new([4; 31]);
    let link = Unsubscribe { workspace: SHOP, profile, channel: "email".to_owned(), topic: "cart-reminders".to_owned() };
    seeds.insert(("unsubscribe_token", "whole".to_owned()), unsubscribe::seal(&INSTALL, &link).into_bytes());
    seeds
}

#[test]
fn seeds_come_from_a_plot_that_has_every_kind_of_record_and_state() {
    let seeds = seeds();
    let names: Vec<&str> = seeds.keys().filter(|(target, _)| *target == "fold").map(|(_, name)| name.as_str()).collect();
    let kinds: [&[u32]; 4] =
        [&[1, 2, 3, 4, 5, 6, 8, 9, 10, 11], &[20, 21, 22, 23, 24], &[30, 31, 32, 33, 34, 35, 36, 37], &[50, 51, 52, 53, 54, 55, 56, 57]];
    let wanted = kinds.iter().enumerate().flat_map(|(role, kinds)| kinds.iter().map(move |kind| format!("role{role}-kind{kind}")));
    let lacking: Vec<String> = wanted.filter(|name| !names.contains(&name.as_str())).collect();

    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("seeds");
    let writes = std::env::var_os("WRITE_SEEDS").is_some();
    let (mut refused, mut missing) = (Vec::new(), Vec::new());
    for ((target, name), seed) in &seeds {
        let run = TARGETS.iter().find(|t| t.name == *target).unwrap().run;
        let file = folder.join(target).join(name);
        if writes {
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(&file, seed).unwrap();
        }
        if !run(seed) || seed.len() > MAX_SEED {
            refused.push(format!("{target}/{name} of {} bytes", seed.len()));
        }
        if !file.exists() {
            missing.push(format!("{target}/{name}"));
        }
    }
    assert!(
        lacking.is_empty() && refused.is_empty() && missing.is_empty(),
        "not in the plot: {lacking:?}; not taken in: {refused:?}; not there: {missing:?} (WRITE_SEEDS=1 cargo test -p waypost-fuzz --lib)"
    );
}
