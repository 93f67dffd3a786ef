//! The role as a whole: records in, jobs done, records back, receipts out.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::executor::block_on;
use prost::Message as _;
use waypost_codec::{
    frame::Record,
    inbox::{Attempt, AttemptOutcome, Dispatch, EraseAddress, Feedback, Outcome, Recall, Receipt, Suppress},
    kind,
    state::{DispatchPhase, DispatchState},
    unsubscribe::{self, TokenKey},
    value,
};
use waypost_engine::{
    apply::{Plan, SetManifest, plan_apply, plan_kill, plan_publish},
    definitions::{Channel, DefinitionSet, EmailBody, Policy, Template, Workspace},
    library::Library,
    manifest::parse_files,
};
use waypost_runtime::{
    ports::Clock,
    processor::{Entity as _, Fireable, Fold, Job, Output, Processor as _, Proposal},
};
use waypost_types::{ContentHash, EntityId, PartitionId, Position, Role, Span, Timestamp, Value, WorkspaceId};

use crate::{
    Calls, Capabilities, Links, OutgoingEmail, Provider, ProviderOutcome, SenderEntity, SenderProcessor, Shelf, entity, job, permits,
};

const WORKSPACE: WorkspaceId = WorkspaceId::new(1);
const T0: Timestamp = Timestamp::from_millis(1_767_222_000_000);
const ADDRESS_KEY: [u8; 16] = [5; 16];
const PARTITION: PartitionId = PartitionId { role: Role::Sender, index: 0 };

struct Fixed(Arc<DefinitionSet>);

impl Shelf for Fixed {
    fn set(&self, defv: &str) -> Option<Arc<DefinitionSet>> {
        match defv {
            "1:x" => Some(self.0.clone()),
            "1:killed" => Some(Arc::new(killed())),
            _ => None,
        }
    }
}

struct Stopped;

#[async_trait]
impl Clock for Stopped {
    fn now(&self) -> Timestamp {
        T0
    }
    async fn sleep_until(&self, _: Timestamp) {}
}

#[derive(Default)]
struct Mailbox(Mutex<Vec<OutgoingEmail>>, Mutex<Vec<ProviderOutcome>>, Mutex<Option<ProviderOutcome>>);

#[async_trait]
impl Provider for Mailbox {
    fn capabilities(&self, _: &Channel) -> Capabilities {
        Capabilities::NONE
    }
    async fn send(&self, _: &Channel, message: &OutgoingEmail) -> ProviderOutcome {
        self.0.lock().unwrap().push(message.clone());
        let next = self.1.lock().unwrap().pop();
        assert!(next.as_ref().is_none_or(|o| o.reason != "panic"), "asked to");
        next.unwrap_or_else(|| ProviderOutcome::accepted("id-1"))
    }

    async fn look_up(&self, _: &Channel, _: &str) -> ProviderOutcome {
        self.2.lock().unwrap().clone().unwrap_or_else(|| ProviderOutcome::other(Outcome::Unknown, "no answer"))
    }
}

fn definitions() -> DefinitionSet {
    let hash = ContentHash::of(b"template");
    let template = Template {
        name: "remind".to_owned(),
        hash,
        version: 1,
        requires: vec!["profile.first_name".to_owned()],
        optional: BTreeMap::new(),
        data: Vec::new(),
        action: None,
        email: Some(EmailBody {
            subject: "Hi {{ profile.first_name }}".to_owned(),
            preheader: None,
            source: "<p>{{ profile.first_name }}</p><a href=\"{{ unsubscribe_url() }}\">Stop</a>".to_owned(),
            mjml: false,
        }),
    };
    let channel = Channel {
        name: "mail".to_owned(),
        kind: "email".to_owned(),
        provider: "catcher".to_owned(),
        from: "Shop <hello@news.shop.example>".to_owned(),
        secret: None,
        default: true,
        http: None,
        hash: ContentHash::of(b"channel"),
    };
    let workspace = Workspace {
        id: WORKSPACE,
        name: "main".to_owned(),
        policy: Policy::default(),
        topics: BTreeMap::new(),
        channels: BTreeMap::from([("mail".to_owned(), channel)]),
        segments: BTreeMap::new(),
        segment_order: Vec::new(),
        templates: BTreeMap::from([(hash, Arc::new(template))]),
        journeys: waypost_engine::definitions::Journeys::default(),
        sources: BTreeMap::new(),
    };
    DefinitionSet::new(1, hash, BTreeMap::from([(WORKSPACE, Arc::new(workspace))]))
}

/// The same, in which the first version of the journey `cart` was killed.
fn killed() -> DefinitionSet {
    const CART: &str = "apiVersion: waypost.dev/v1
kind: Journey
metadata: {name: cart}
spec:
  title: Cart
  describe: Does nothing for an hour.
  owner: ops@shop.example
  class: transactional
  entries: [{id: in, on_event: {name: Ping}}]
  steps: [{id: rest, delay: {for: 1h}}]
";
    let manifests = parse_files(&[("cart.yaml".to_owned(), CART.to_owned())], &|_| None).unwrap();
    let library = Library::default();
    let keep = |plan: Plan| {
        for (_, body) in plan.bodies {
            library.insert(body);
        }
        plan.next
    };
    let set = keep(plan_apply(&SetManifest::empty(WORKSPACE, "main"), &library, WORKSPACE, &manifests).unwrap());
    let set = keep(plan_publish(&set, &library, WORKSPACE, "cart", T0).unwrap());
    let set = keep(plan_kill(&set, WORKSPACE, "cart", T0).unwrap());
    library.insert(set.to_bytes());
    let compiled = library.set(&Library::defv(&set)).unwrap();
    let journeys = compiled.workspaces[&WORKSPACE].journeys.clone();
    let base = definitions();
    let workspace = Workspace { journeys, ..Workspace::clone(&base.workspaces[&WORKSPACE]) };
    DefinitionSet::new(2, base.hash, BTreeMap::from([(WORKSPACE, Arc::new(workspace))]))
}

fn dispatch() -> Dispatch {
    let profile = Value::object([("first_name".to_owned(), Value::text("Ann"))]);
    Dispatch {
        dispatch: Bytes::from_static(&[1; 16]),
        send: Bytes::from_static(&[2; 16]),
        run: Bytes::from_static(&[3; 16]),
        profile: Bytes::from_static(&[4; 31]),
        journey: "cart".to_owned(),
        step: "remind".to_owned(),
        channel: "email".to_owned(),
        provider: "mail".to_owned(),
        address: "ann@shop.example".to_owned(),
        template: "remind".to_owned(),
        template_hash: Bytes::copy_from_slice(ContentHash::of(b"template").as_bytes()),
        variables: Some(value::to_proto(&Value::object([("profile".to_owned(), profile)]))),
        decided_at: T0.millis(),
        valid_until: T0.millis() + 3_600_000,
        class: "marketing".to_owned(),
        topic: "cart-reminders".to_owned(),
        ..Dispatch::default()
    }
}

/// One partition, its executor and its mailbox.
struct Bench {
    processor: SenderProcessor,
    entities: BTreeMap<EntityId, Option<SenderEntity>>,
    calls: Calls,
    mailbox: Arc<Mailbox>,
    outputs: Vec<Output>,
    now: Timestamp,
}

impl Bench {
    fn new() -> Self {
        let mailbox = Arc::new(Mailbox::default());
        let providers = BTreeMap::from([("catcher".to_owned(), mailbox.clone() as Arc<dyn Provider>)]);
        let links = Links { public_url: "https://in.shop.example/".to_owned(), keys: TokenKey::new([7; 32]).into() };
        let calls = Calls::new(Arc::new(Fixed(Arc::new(definitions()))), providers, links, Arc::new(Stopped));
        let mut processor = SenderProcessor::new();
        processor.define("1:x");
        Self { processor, entities: BTreeMap::new(), calls, mailbox, outputs: Vec::new(), now: T0 }
    }

    fn fold(&mut self, kind: u32, body: Vec<u8>) -> Vec<Job> {
        let record = Record::new(kind, WORKSPACE, [0; 16], Bytes::copy_from_slice(&ADDRESS_KEY), self.now, body.into());
        let mut fold = Fold::new(self.now, Position { offset: 1, index: 0 }, &mut self.entities);
        self.processor.fold(&mut fold, &record).expect("folds");
        let jobs = fold.jobs().to_vec();
        self.outputs.extend(fold.outputs().to_vec());
        jobs
    }

    fn work(&self, jobs: Vec<Job>) -> Vec<Proposal> {
        jobs.into_iter().flat_map(|job| block_on(self.calls.run(PARTITION, job))).collect()
    }

    /// Folds and works until nothing is left to do.
    fn settle(&mut self, mut jobs: Vec<Job>) {
        while !jobs.is_empty() {
            let proposals = self.work(jobs);
            jobs = proposals.into_iter().flat_map(|p| self.fold(p.kind, p.body.to_vec())).collect();
        }
    }

    fn phase(&self) -> DispatchPhase {
        match self.entities.get(&entity::dispatch_id(WORKSPACE, &[1; 16])) {
            Some(Some(SenderEntity::Dispatch(state))) => state.phase(),
            other => panic!("{other:?}"),
        }
    }

    fn receipts(&self) -> Vec<(Outcome, String)> {
        let receipt = |o: &Output| match o {
            Output::Inbox { role: Role::Identity, kind: kind::RECEIPT, key, body, .. } => {
                assert_eq!(key[..], [4; 16]);
                Receipt::decode(body.clone()).ok()
            }
            Output::Inbox { .. } | Output::Public { .. } | Output::Dead(_) => None,
        };
        self.outputs.iter().filter_map(receipt).map(|r| (r.outcome(), r.reason)).collect()
    }
}

#[test]
fn a_dispatch_becomes_a_message_and_a_receipt() {
    let mut bench = Bench::new();
    let jobs = bench.fold(kind::DISPATCH, dispatch().encode_to_vec());
    bench.settle(jobs);
    assert_eq!(bench.phase(), DispatchPhase::Done);
    assert_eq!(bench.receipts(), [(Outcome::Accepted, String::new())]);
    assert_eq!(bench.outputs.len(), 2, "and a row");
    let sent = bench.mailbox.0.lock().unwrap().clone();
    assert_eq!((sent.len(), sent[0].to.as_str(), sent[0].subject.as_str()), (1, "ann@shop.example", "Hi Ann"));
    let raw = String::from_utf8(sent[0].raw.to_vec()).unwrap();
    let token = raw.split("List-Unsubscribe: <https://in.shop.example/u/").nth(1).and_then(|rest| rest.split('>').next()).unwrap();
    let opened = unsubscribe::open(&[7; 32], token).unwrap();
    assert_eq!((opened.profile.as_bytes(), opened.channel.as_str(), opened.topic.as_str()), (&[4; 31], "email", "cart-reminders"));
    assert!(bench.fold(kind::DISPATCH, dispatch().encode_to_vec()).is_empty(), "known");
}

#[test]
fn a_repeated_proposal_calls_once() {
    let mut bench = Bench::new();
    let jobs = bench.fold(kind::DISPATCH, dispatch().encode_to_vec());
    let proposals = bench.work(jobs);
    // as a producer does that was made anew before the log had answered the old one
    let calls: Vec<_> = [&proposals[..], &proposals[..]].concat().iter().flat_map(|p| bench.fold(p.kind, p.body.to_vec())).collect();
    assert_eq!(calls.iter().map(|j| j.kind).collect::<Vec<_>>(), [job::CALL]);
}

#[test]
fn timers_that_fire_late_all_at_once_propose_once() {
    for dispatch in [dispatch(), Dispatch { variables: Some(value::to_proto(&Value::object([]))), ..dispatch() }] {
        let mut bench = Bench::new();
        let mut jobs = bench.fold(kind::DISPATCH, dispatch.encode_to_vec());
        let id = entity::dispatch_id(WORKSPACE, &[1; 16]);
        // the partition was behind for 20 s: each firing is at its due, and the next one is due already
        let late = T0.plus(Span::from_secs(20));
        let limit = Fireable { plain: late, absent: late, proven: late, before: None };
        loop {
            let due = bench.entities[&id].as_ref().and_then(|e| e.wakeups().plain).unwrap();
            let mut fold = Fold::new(due, Position { offset: 9, index: 0 }, &mut bench.entities);
            if !bench.processor.fire(&mut fold, &id, limit).unwrap() {
                break;
            }
            jobs.extend(fold.jobs().to_vec());
        }
        assert_eq!(jobs.iter().map(|j| j.kind).collect::<Vec<_>>(), [job::RENDER; 4]);
        let proposals = bench.work(jobs.clone());
        assert_eq!(proposals.len(), 1);
        // the attempt is folded behind a timer that was due before it, and its answer comes after both
        let attempt = bench.fold(kind::ATTEMPT, proposals[0].body.to_vec());
        let kinds: Vec<_> = bench.work([&jobs[3..], &attempt[..]].concat()).iter().map(|p| p.kind).collect();
        assert!(!kinds.contains(&kind::ATTEMPT), "{kinds:?}");
    }
}

#[test]
fn every_attempt_sends_the_same_bytes() {
    let mut bench = Bench::new();
    bench.mailbox.1.lock().unwrap().push(ProviderOutcome::other(Outcome::Transient, "421"));
    let jobs = bench.fold(kind::DISPATCH, dispatch().encode_to_vec());
    bench.settle(jobs);
    assert_eq!(bench.phase(), DispatchPhase::Retry);
    let id = entity::dispatch_id(WORKSPACE, &[1; 16]);
    bench.now = bench.entities[&id].as_ref().and_then(|e| e.wakeups().plain).unwrap();
    let mut fold = Fold::new(bench.now, Position { offset: 9, index: 0 }, &mut bench.entities);
    let limit = Fireable { plain: bench.now, absent: bench.now, proven: bench.now, before: None };
    assert_eq!(bench.processor.fire(&mut fold, &id, Fireable { before: Some(bench.now), ..limit }), Ok(false));
    assert_eq!(bench.processor.fire(&mut fold, &id, limit), Ok(true));
    assert_eq!(bench.processor.fire(&mut fold, &id, limit), Ok(false));
    let jobs = fold.jobs().to_vec();
    bench.settle(jobs);
    assert_eq!(bench.phase(), DispatchPhase::Done);
    let sent = bench.mailbox.0.lock().unwrap().clone();
    assert_eq!((sent.len(), &sent[0]), (2, &sent[1]));
}

#[test]
fn stops_before_the_attempt_send_nothing() {
    for (kind, body, reason) in [
        (kind::RECALL, Recall { dispatch: Bytes::from_static(&[1; 16]), reason: "bought".to_owned() }.encode_to_vec(), "RECALLED"),
        (kind::SUPPRESS, Suppress { reason: "UNSUBSCRIBED".to_owned(), ..Suppress::default() }.encode_to_vec(), "SUPPRESSED_UNSUBSCRIBED"),
    ] {
        let mut bench = Bench::new();
        let jobs = bench.fold(kind::DISPATCH, dispatch().encode_to_vec());
        bench.fold(kind, body);
        bench.settle(jobs);
        assert_eq!(bench.receipts(), [(Outcome::Stopped, reason.to_owned())]);
        assert!(bench.mailbox.0.lock().unwrap().is_empty());
    }
}

#[test]
fn what_is_queued_when_its_journey_is_killed_is_stopped_and_other_versions_go_on() {
    let first = Dispatch { journey_version: 1, ..dispatch() };
    let mut bench = Bench::new();
    bench.processor.define("1:killed");
    let jobs = bench.fold(kind::DISPATCH, first.encode_to_vec());
    bench.settle(jobs);
    assert_eq!(bench.receipts(), [(Outcome::Stopped, "JOURNEY_KILLED".to_owned())]);

    // Killed behind the proposal: no provider is called, and the next attempt ends it.
    let mut bench = Bench::new();
    let jobs = bench.fold(kind::DISPATCH, first.encode_to_vec());
    let proposals = bench.work(jobs);
    bench.processor.define("1:killed");
    let call = proposals.into_iter().flat_map(|p| bench.fold(p.kind, p.body.to_vec())).collect();
    bench.settle(call);
    assert_eq!(bench.phase(), DispatchPhase::Retry);
    let id = entity::dispatch_id(WORKSPACE, &[1; 16]);
    bench.now = bench.entities[&id].as_ref().and_then(|e| e.wakeups().plain).unwrap();
    let mut fold = Fold::new(bench.now, Position { offset: 9, index: 0 }, &mut bench.entities);
    let limit = Fireable { plain: bench.now, absent: bench.now, proven: bench.now, before: None };
    assert_eq!(bench.processor.fire(&mut fold, &id, limit), Ok(true));
    let jobs = fold.jobs().to_vec();
    bench.settle(jobs);
    assert_eq!(bench.receipts(), [(Outcome::Stopped, "JOURNEY_KILLED".to_owned())]);
    assert!(bench.mailbox.0.lock().unwrap().is_empty());

    let mut bench = Bench::new();
    bench.processor.define("1:killed");
    let jobs = bench.fold(kind::DISPATCH, Dispatch { journey_version: 2, ..dispatch() }.encode_to_vec());
    bench.settle(jobs);
    assert_eq!(bench.receipts(), [(Outcome::Accepted, String::new())]);
}

#[test]
fn what_cannot_be_rendered_is_stopped_with_its_code() {
    let empty = Some(value::to_proto(&Value::object([])));
    for (dispatch, reason) in [
        (Dispatch { variables: empty, ..dispatch() }, "RENDER_MISSING_FIELD"),
        (Dispatch { variables: None, ..dispatch() }, "CONTENT_REFUSED"),
        (Dispatch { template_hash: Bytes::new(), ..dispatch() }, "CONTENT_REFUSED"),
        (Dispatch { address: "ann@shop.example\r\nBcc: x".to_owned(), ..dispatch() }, "CONTENT_REFUSED"),
        (Dispatch { provider: "nowhere".to_owned(), ..dispatch() }, "PROVIDER_UNAVAILABLE"),
    ] {
        let mut bench = Bench::new();
        let jobs = bench.fold(kind::DISPATCH, dispatch.encode_to_vec());
        bench.settle(jobs);
        assert_eq!(bench.receipts(), [(Outcome::Stopped, reason.to_owned())]);
    }
}

#[test]
fn definitions_that_have_not_arrived_are_waited_for() {
    let mut bench = Bench::new();
    bench.processor.define("2:y");
    let jobs = bench.fold(kind::DISPATCH, dispatch().encode_to_vec());
    assert!(bench.work(jobs).is_empty());
    assert_eq!(bench.phase(), DispatchPhase::Ready);
}

#[test]
fn a_process_without_the_provider_ends_nothing() {
    let mut bench = Bench::new();
    let links = Links { public_url: "https://in.shop.example/".to_owned(), keys: TokenKey::new([7; 32]).into() };
    let without = Calls::new(Arc::new(Fixed(Arc::new(definitions()))), BTreeMap::new(), links, Arc::new(Stopped));
    let with = std::mem::replace(&mut bench.calls, without);
    let jobs = bench.fold(kind::DISPATCH, dispatch().encode_to_vec());
    assert!(bench.work([jobs.clone(), jobs.clone()].concat()).is_empty());
    assert_eq!((bench.phase(), bench.calls.said_missing()), (DispatchPhase::Ready, 1));
    bench.calls = with;
    bench.settle(jobs);
    assert_eq!(bench.phase(), DispatchPhase::Done);
}

fn many(bench: &mut Bench) -> Vec<Job> {
    let dispatches = (0..=permits::CALLS).map(|n| {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&n.to_be_bytes());
        Dispatch { dispatch: Bytes::copy_from_slice(&id), run_key: n.to_string(), ..dispatch() }.encode_to_vec()
    });
    dispatches.collect::<Vec<_>>().into_iter().flat_map(|body| bench.fold(kind::DISPATCH, body)).collect()
}

#[test]
fn with_every_permit_taken_a_proposal_waits_for_the_end_of_a_call() {
    let mut bench = Bench::new();
    let jobs = many(&mut bench);
    let proposals = bench.work(jobs);
    assert_eq!(proposals.len(), permits::CALLS);
    // One is called; behind its outcome comes the attempt that waited.
    let calls = bench.fold(proposals[0].kind, proposals[0].body.to_vec());
    let kinds: Vec<_> = bench.work(calls).iter().map(|p| p.kind).collect();
    assert_eq!(kinds, [kind::OUTCOME, kind::ATTEMPT]);
    // One is stopped by its attempt, which makes room too.
    let again = bench.fold(kind::DISPATCH, dispatch().encode_to_vec());
    assert_eq!(bench.work(again).len(), 0);
    bench.fold(kind::SUPPRESS, Suppress { reason: "UNSUBSCRIBED".to_owned(), ..Suppress::default() }.encode_to_vec());
    let released = bench.fold(proposals[1].kind, proposals[1].body.to_vec());
    assert_eq!(released.iter().map(|j| j.kind).collect::<Vec<_>>(), [job::RELEASE]);
    assert_eq!(bench.work(released).iter().map(|p| p.kind).collect::<Vec<_>>(), [kind::ATTEMPT]);
}

#[test]
fn a_failing_provider_is_left_alone_and_what_waited_comes_back() {
    let mut bench = Bench::new();
    bench.mailbox.1.lock().unwrap().extend(vec![ProviderOutcome::other(Outcome::Transient, "451"); 8]);
    let mut proposals = Vec::new();
    for job in many(&mut bench).into_iter().take(12) {
        for proposal in bench.work(vec![job]) {
            let calls = bench.fold(proposal.kind, proposal.body.to_vec());
            proposals.extend(bench.work(calls));
        }
    }
    assert_eq!(bench.mailbox.0.lock().unwrap().len(), 8, "then its circuit is open");
    assert_eq!(proposals.iter().filter(|p| p.kind == kind::OUTCOME).count(), 8);
    assert_eq!(bench.calls.outcomes(), BTreeMap::from([(("mail".to_owned(), Outcome::Transient), 8)]));
    assert_eq!(bench.calls.circuits_open(), BTreeMap::from([("mail".to_owned(), true)]));
    let ways = bench.calls.ways();
    let figures = &ways[&("email".to_owned(), "mail".to_owned())];
    assert_eq!((ways.len(), figures.outcomes.get(&Outcome::Transient), figures.durations.total()), (1, Some(&8), 8));
}

/// What the timer of the dispatch starts, again and again until it has ended.
fn outlive(bench: &mut Bench) {
    let id = entity::dispatch_id(WORKSPACE, &[1; 16]);
    while bench.phase() != DispatchPhase::Unknown {
        bench.now = bench.entities[&id].as_ref().and_then(|e| e.wakeups().plain).unwrap();
        let limit = Fireable { plain: bench.now, absent: bench.now, proven: bench.now, before: None };
        let mut fold = Fold::new(bench.now, Position { offset: 9, index: 0 }, &mut bench.entities);
        assert_eq!(bench.processor.fire(&mut fold, &id, limit), Ok(true));
        let jobs = fold.jobs().to_vec();
        assert_eq!(bench.work(jobs), []);
    }
}

#[test]
fn what_nobody_knows_is_counted_once_whoever_called() {
    let counted = |bench: &Bench| bench.calls.outcomes().get(&("mail".to_owned(), Outcome::Unknown)).copied();
    let change = |bench: &mut Bench, to: fn(&mut DispatchState)| match bench.entities.get_mut(&entity::dispatch_id(WORKSPACE, &[1; 16])) {
        Some(Some(SenderEntity::Dispatch(state))) => to(state),
        other => panic!("{other:?}"),
    };
    // Its process was killed in the call: the fold alone decides.
    let mut bench = Bench::new();
    let jobs = bench.fold(kind::DISPATCH, dispatch().encode_to_vec());
    let attempt = bench.work(jobs).remove(0);
    bench.fold(attempt.kind, attempt.body.to_vec());
    change(&mut bench, |state| state.leader = 7);
    outlive(&mut bench);
    assert_eq!(counted(&bench), Some(1));

    // Its call heard nothing, and nothing else did: by the call at once, and by the fold once the doubt has ended.
    for (asks, at_first) in [(false, DispatchPhase::Unknown), (true, DispatchPhase::InDoubt)] {
        let mut bench = Bench::new();
        bench.mailbox.1.lock().unwrap().push(ProviderOutcome::other(Outcome::Unknown, "no answer"));
        let jobs = bench.fold(kind::DISPATCH, dispatch().encode_to_vec());
        let attempt = bench.work(jobs).remove(0);
        let calls = bench.fold(attempt.kind, attempt.body.to_vec());
        if asks {
            change(&mut bench, |state| state.promise.as_mut().unwrap().lookup = true);
        }
        let outcome = bench.work(calls).remove(0);
        let told = bench.fold(outcome.kind, outcome.body.to_vec());
        assert_eq!(bench.work(told), []);
        assert_eq!(bench.phase(), at_first);
        outlive(&mut bench);
        assert_eq!(counted(&bench), Some(1));
    }
}

#[test]
fn a_partition_that_is_given_back_says_what_it_did_not_begin() {
    let mut bench = Bench::new();
    let jobs = bench.fold(kind::DISPATCH, dispatch().encode_to_vec());
    // Leaders count from 1.
    let under = |leader, job: &Job| Job { leader, ..job.clone() };
    let attempts = bench.work(vec![under(1, &jobs[0])]);
    assert_eq!(attempts.iter().map(|p| p.kind).collect::<Vec<_>>(), [kind::ATTEMPT]);
    let said = bench.work(vec![Job { kind: job::LAST, body: Bytes::new(), leader: 1, trace: Bytes::new() }]);
    let outcome = AttemptOutcome::decode(said[0].body.clone()).unwrap();
    assert_eq!((outcome.outcome(), outcome.number, outcome.leader, outcome.reason.as_str()), (Outcome::Transient, 1, 1, "NOT_BEGUN"));
    // What comes after it under the same leader is neither proposed nor called.
    assert!(bench.work(vec![under(1, &jobs[0])]).is_empty());
    let attempt = Attempt { leader: 0, ..Attempt::decode(attempts[0].body.clone()).unwrap() };
    let calls = bench.fold(kind::ATTEMPT, attempt.encode_to_vec());
    let late = bench.work(vec![under(1, &calls[0])]);
    assert_eq!(AttemptOutcome::decode(late[0].body.clone()).unwrap().reason, "NOT_BEGUN");
    assert!(bench.mailbox.0.lock().unwrap().is_empty());
}

#[test]
fn a_look_up_answers_for_every_attempt_in_doubt() {
    for (found, expected) in [
        (Some(ProviderOutcome::other(Outcome::Transient, "not taken")), vec![(1, Outcome::Transient), (3, Outcome::Transient)]),
        (Some(ProviderOutcome::accepted("id-1")), vec![(3, Outcome::Accepted)]),
        (None, vec![]),
    ] {
        let mut bench = Bench::new();
        let jobs = bench.fold(kind::DISPATCH, dispatch().encode_to_vec());
        let proposed = Attempt::decode(bench.work(jobs.clone())[0].body.clone()).unwrap();
        let mut body = job::Body::decode(jobs[0].body.clone()).unwrap();
        let state = body.state.as_mut().unwrap();
        (state.unanswered, state.doubted) = (vec![3, 1], proposed.promise);
        *bench.mailbox.2.lock().unwrap() = found.clone();
        let ask = |body: &job::Body| Job { kind: job::LOOK_UP, body: body.to_bytes(), leader: 0, trace: Bytes::new() };
        let outcomes: Vec<_> = bench.work(vec![ask(&body)]).iter().map(|p| AttemptOutcome::decode(p.body.clone()).unwrap()).collect();
        assert_eq!(outcomes.iter().map(|o| (o.number, o.outcome())).collect::<Vec<_>>(), expected);
        assert!(outcomes.iter().all(|o| o.leader == 0));
        body.state.as_mut().unwrap().doubted.as_mut().unwrap().way = Bytes::from_static(b"elsewhere");
        assert!(bench.work(vec![ask(&body)]).is_empty(), "this provider never knew of it");
    }
}

#[test]
fn a_call_that_comes_too_late_for_its_key_is_not_made() {
    let mut bench = Bench::new();
    let jobs = bench.fold(kind::DISPATCH, dispatch().encode_to_vec());
    let attempt = bench.work(jobs).remove(0);
    let call = bench.fold(attempt.kind, attempt.body.to_vec()).remove(0);
    let body = job::Body { until: T0.millis(), ..job::Body::decode(call.body.clone()).unwrap() };
    let outcome = bench.work(vec![Job { body: body.to_bytes(), ..call }]).remove(0);
    let outcome = AttemptOutcome::decode(outcome.body).unwrap();
    assert_eq!((outcome.outcome(), outcome.reason.as_str()), (Outcome::Transient, "KEY_FORGOTTEN"));
    assert!(bench.mailbox.0.lock().unwrap().is_empty());
}

#[test]
fn feedback_corrects_an_unknown_outcome_with_a_further_receipt() {
    let mut bench = Bench::new();
    bench.mailbox.1.lock().unwrap().push(ProviderOutcome::other(Outcome::Unknown, "no answer"));
    let jobs = bench.fold(kind::DISPATCH, dispatch().encode_to_vec());
    bench.settle(jobs);
    let dispatch = Bytes::from_static(&[1; 16]);
    let feedback = Feedback { dispatch, what: "delivered".to_owned(), profile: Bytes::from_static(&[4; 31]), ..Feedback::default() };
    bench.fold(kind::FEEDBACK, feedback.encode_to_vec());
    assert_eq!(bench.receipts(), [(Outcome::Unknown, "OUTCOME_UNKNOWN".to_owned()), (Outcome::Accepted, String::new())]);
    assert_eq!(bench.outputs.len(), 5, "two receipts with their rows, and a row of the delivery");
    bench.fold(kind::FEEDBACK, feedback.encode_to_vec());
    assert_eq!(bench.outputs.len(), 5, "it comes twice");
}

#[test]
fn what_was_to_go_to_an_erased_person_is_stopped() {
    for suppress in [false, true] {
        let mut bench = Bench::new();
        let jobs = bench.fold(kind::DISPATCH, dispatch().encode_to_vec());
        let erase = EraseAddress { suppress, profile: Bytes::from_static(&[4; 31]), channel: "email".to_owned() };
        bench.fold(kind::ERASE_ADDRESS, erase.encode_to_vec());
        bench.settle(jobs);
        assert_eq!(bench.receipts(), [(Outcome::Stopped, "ERASED".to_owned())]);
        assert!(bench.mailbox.0.lock().unwrap().is_empty());
    }
}

#[test]
fn a_recall_that_comes_first_stops_its_dispatch() {
    let mut bench = Bench::new();
    let recall = Recall { dispatch: Bytes::from_static(&[1; 16]), reason: "bought".to_owned() };
    assert!(bench.fold(kind::RECALL, recall.encode_to_vec()).is_empty());
    assert_eq!(bench.phase(), DispatchPhase::Stopped);
    assert!(bench.outputs.is_empty(), "nobody knows yet whom to tell");
    assert!(bench.fold(kind::DISPATCH, dispatch().encode_to_vec()).is_empty());
    assert_eq!(bench.receipts(), [(Outcome::Stopped, "RECALLED".to_owned())]);
    assert!(bench.fold(kind::DISPATCH, dispatch().encode_to_vec()).is_empty());
    assert_eq!(bench.receipts().len(), 1, "told once");
}

#[test]
fn a_provider_that_panics_leaves_an_unknown_outcome() {
    let mut bench = Bench::new();
    bench.mailbox.1.lock().unwrap().push(ProviderOutcome::other(Outcome::Transient, "panic"));
    let jobs = bench.fold(kind::DISPATCH, dispatch().encode_to_vec());
    bench.settle(jobs);
    assert_eq!(bench.receipts(), [(Outcome::Unknown, "OUTCOME_UNKNOWN".to_owned())]);
}

#[test]
fn what_cannot_be_folded_has_a_reason() {
    let good = dispatch();
    for (kind, body, reason) in [
        (kind::DISPATCH, vec![0xff], "DECODE_FAILED"),
        (kind::DISPATCH, Dispatch { dispatch: Bytes::new(), ..good.clone() }.encode_to_vec(), "DECODE_FAILED"),
        (kind::DISPATCH, Dispatch { profile: Bytes::new(), ..good.clone() }.encode_to_vec(), "DECODE_FAILED"),
        (kind::DISPATCH, Dispatch { channel: "sms".to_owned(), ..good }.encode_to_vec(), "NOT_YET_SUPPORTED"),
        (kind::FEEDBACK, Vec::new(), "DECODE_FAILED"),
        (kind::ERASE_ADDRESS, vec![0xff], "DECODE_FAILED"),
        (kind::EVENT, Vec::new(), "UNKNOWN_KIND"),
    ] {
        let processor = SenderProcessor::new();
        let record = Record::new(kind, WORKSPACE, [0; 16], Bytes::copy_from_slice(&ADDRESS_KEY), T0, body.into());
        let mut entities = BTreeMap::new();
        let mut fold = Fold::new(T0, Position::default(), &mut entities);
        assert_eq!(processor.fold(&mut fold, &record).map_err(|p| p.reason), Err(reason), "kind {kind}");
    }
}

#[test]
fn attempts_and_outcomes_of_unknown_dispatches_change_nothing() {
    let mut bench = Bench::new();
    let id = Bytes::from_static(&[1; 16]);
    for (kind, body) in [
        (kind::ATTEMPT, Attempt { dispatch: id.clone(), number: 1, ..Attempt::default() }.encode_to_vec()),
        (kind::OUTCOME, AttemptOutcome { dispatch: id, number: 1, ..AttemptOutcome::default() }.encode_to_vec()),
    ] {
        assert!(bench.fold(kind, body).is_empty());
    }
    assert!(bench.outputs.is_empty() && bench.entities.values().all(Option::is_none));
}

#[test]
fn stored_entities_come_back() {
    let mut bench = Bench::new();
    let jobs = bench.fold(kind::DISPATCH, dispatch().encode_to_vec());
    bench.settle(jobs);
    assert_eq!(bench.entities.len(), 2);
    for (id, stored) in bench.entities.iter().filter_map(|(id, e)| Some((id, e.as_ref()?))) {
        let bytes = stored.encode().unwrap();
        assert_eq!(SenderEntity::decode(id, &bytes).as_ref(), Ok(stored));
        let raw = String::from_utf8_lossy(&bytes).to_string();
        assert!(!raw.contains("ann@shop.example"), "what is final keeps no address");
    }
}
