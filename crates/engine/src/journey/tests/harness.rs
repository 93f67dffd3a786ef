//! A story is lines of `<time> <what comes in>`; what it tells is lines of `<time> <what was decided>`.
//!
//! ```text
//! 0m event Product Added cart_id=k1 with cart k1 open      an event, and what the segmenter made of it
//! 0m address ana@shop.example · cart k1 emptied · order o1 placed refunded · segment vip yes
//! 0m consent email/news granted · field timezone Asia/Tokyo               changes without an event
//! 1h receipt accepted                                       of the last message that went out
//! 1h start cart k1 · cancel cart                            an operator wants it
//! 2h .                                                      time passes
//! ```
//! An event takes `id=` (its message id), `ago=10m` (it happened then), `historical=yes` and
//! `browser=yes` (its source may not grant consent) beside its properties.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use waypost_codec::{
    inbox::{
        Address, CancelRuns, Cart, CartStatus, Consent, ConsentState, Event, Field, Membership, Object, Order, Outcome, Person, Property,
        Receipt, RunCommand, StartRun, Truth, Value, run_command, value::Kind,
    },
    public::Decision,
    state::JourneyProfile,
};
use waypost_types::{Position, ProfileId, Span, Timestamp, WorkspaceId};

use crate::{
    apply::{SetManifest, plan_apply, plan_publish},
    definitions::{Standing, Workspace},
    journey::{Context, Effect, Input, Limit, concerns, erase, fire, fold, import},
    library::Library,
    manifest::parse_files,
    version::Version,
};

pub(super) const SHOP: WorkspaceId = WorkspaceId::new(1);
/// 1 June 2026, 08:00 UTC, a Monday.
pub(super) const START: &str = "2026-06-01T08:00:00Z";

/// What every shop of these tests has.
const BASE: &str = r"
apiVersion: waypost.dev/v1
kind: Topic
metadata: {name: news}
spec: {title: News, class: marketing, inherit: true}
---
apiVersion: waypost.dev/v1
kind: Channel
metadata: {name: mail}
spec: {type: email, provider: catcher, from: Shop <hello@shop.example>, default: true}
---
apiVersion: waypost.dev/v1
kind: Segment
metadata: {name: vip}
spec: {describe: Buyers, where: profile.order_count >= 1}
---
apiVersion: waypost.dev/v1
kind: Template
metadata: {name: hello}
spec:
  optional: {profile.first_name: there}
  action: {label: Go, url: 'https://shop.example'}
  channels: {email: {subject: 'Hello {{ profile.first_name }}', html: hello.html}}
---
apiVersion: waypost.dev/v1
kind: Template
metadata: {name: strict}
spec:
  requires: [profile.first_name]
  action: {label: Go, url: 'https://shop.example'}
  channels: {email: {subject: 'Hello {{ profile.first_name }}', html: hello.html}}
---
apiVersion: waypost.dev/v1
kind: Policy
metadata: {name: policy}
spec: {currency: EUR, timezone: Europe/Berlin, shop: {postal_address: 'Shop GmbH, Street 1, Berlin'}}
";
const BODY: &str = "<p>Hello {{ profile.first_name }}</p><p><a href=\"{{ action.url }}\">{{ action.label }}</a></p><p><a href=\"{{ unsubscribe_url() }}\">unsubscribe</a> {{ postal_address() }}</p>";

/// One profile and its shop.
pub(super) struct World {
    ws: Arc<Workspace>,
    pub(super) profile: ProfileId,
    pub(super) state: JourneyProfile,
    start: Timestamp,
    pub(super) now: Timestamp,
    offset: u64,
    last: Option<waypost_codec::inbox::Dispatch>,
    pub(super) told: Vec<String>,
    pub(super) decisions: Vec<Decision>,
    /// Whether imports judge runs again.
    pub(super) rechecks: bool,
    pub(super) engine: Version,
    /// Events that did not concern the profile.
    pub(super) passed: usize,
    /// Up to when upstream is known to have told everything; none: it always has.
    pub(super) proven: Option<Timestamp>,
}

/// A shop with these journeys: `name: spec…` each, the indented rest being the spec.
pub(super) fn shop(journeys: &str) -> Arc<Workspace> {
    let names: Vec<&str> = journeys.lines().filter(|l| l.starts_with("journey ")).map(|l| l["journey ".len()..].trim()).collect();
    let mut manifests = BASE.to_owned();
    for line in journeys.lines() {
        if let Some(name) = line.strip_prefix("journey ") {
            let head = format!(
                "---\napiVersion: waypost.dev/v1\nkind: Journey\nmetadata: {{name: {}}}\nspec:\n  title: Test\n  describe: A test.\n  owner: ops@shop.example\n",
                name.trim()
            );
            manifests.push_str(&head);
        } else {
            manifests.push_str(line);
            manifests.push('\n');
        }
    }
    let shown = |problems: Vec<crate::manifest::Problem>| problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    let files = [("shop.yaml".to_owned(), manifests)];
    let parsed =
        parse_files(&files, &|path| (path == "hello.html").then(|| BODY.to_owned())).map_err(shown).unwrap_or_else(|e| panic!("{e}"));
    let library = Library::default();
    let plan = plan_apply(&SetManifest::empty(SHOP, "shop"), &library, SHOP, &parsed).map_err(shown).unwrap_or_else(|e| panic!("{e}"));
    for (_, body) in plan.bodies {
        library.insert(body);
    }
    let mut set = plan.next;
    for name in names {
        set = plan_publish(&set, &library, SHOP, name, Timestamp::ZERO).map_err(shown).unwrap_or_else(|e| panic!("{e}")).next;
    }
    let defv = Library::defv(&set);
    library.insert(set.to_bytes());
    library.set(&defv).expect("every body is here").workspaces[&SHOP].clone()
}

/// What a story tells, from an empty profile.
pub(super) fn play(journeys: &str, story: &str) -> String {
    World::new(&shop(journeys)).with(story).told.join("\n")
}

/// Compares what a story tells with what it should; both without indentation.
#[track_caller]
pub(super) fn check(journeys: &str, story: &str, expected: &str) {
    let trimmed = |text: &str| text.lines().map(str::trim).filter(|l| !l.is_empty()).collect::<Vec<_>>().join("\n");
    let told = play(journeys, story);
    assert_eq!(trimmed(&told), trimmed(expected), "\n--- told:\n{told}\n");
}

fn timestamp(text: &str) -> Timestamp {
    Timestamp::from_millis(text.parse::<jiff::Timestamp>().unwrap().as_millisecond())
}

fn text(value: &str) -> Value {
    Value { kind: Some(Kind::Text(value.to_owned())) }
}

// === impl World ===

impl World {
    pub(super) fn new(ws: &Arc<Workspace>) -> Self {
        Self::of(ws, 1)
    }

    /// The profile with this number.
    pub(super) fn of(ws: &Arc<Workspace>, number: u8) -> Self {
        let start = timestamp(START);
        Self {
            ws: ws.clone(),
            profile: ProfileId::new([number; 31]),
            state: JourneyProfile::default(),
            start,
            now: start,
            offset: u64::from(number) * 1_000,
            last: None,
            told: Vec::new(),
            decisions: Vec::new(),
            rechecks: true,
            engine: Version::default(),
            passed: 0,
            proven: None,
        }
    }

    pub(super) fn starting(mut self, start: &str) -> Self {
        self.start = timestamp(start);
        self.now = self.start;
        self
    }

    pub(super) fn with(mut self, story: &str) -> Self {
        self.play(story);
        self
    }

    pub(super) fn play(&mut self, story: &str) {
        for line in story.lines().map(str::trim).filter(|l| !l.is_empty()) {
            let (time, what) = line.split_once(' ').unwrap();
            let at = self.start.plus(time.parse::<Span>().unwrap());
            self.pass(at);
            for what in what.split(" · ") {
                self.line(what.trim());
            }
        }
    }

    fn context(&mut self) -> Context {
        self.offset += 1;
        Context {
            now: self.now,
            position: Position { offset: self.offset, index: 0 },
            profile: self.profile,
            workspace: SHOP,
            engine: self.engine,
        }
    }

    /// Own timers first: those due before `until`.
    fn pass(&mut self, until: Timestamp) {
        let proven = self.proven.unwrap_or(until);
        let limit = Limit { plain: until, absent: until, proven, before: Some(until) };
        loop {
            let (plain, absent) = crate::journey::wakeups(&self.state);
            let Some(due) = plain.into_iter().chain(absent).min().filter(|due| *due < until) else { break };
            self.now = self.now.max(due);
            let cx = self.context();
            let ws = self.ws.clone();
            let effects = fire(&mut self.state, &ws, &cx, &limit).expect("a timer is due");
            self.tell(effects);
        }
        self.now = until;
    }

    fn line(&mut self, what: &str) {
        if what == "." {
            return;
        }
        let (cause, with) = what.split_once(" with ").map_or((what, None), |(a, b)| (a, Some(b)));
        let delta = with.map(|w| self.delta(w)).unwrap_or_default();
        let cx = self.context();
        let ws = self.ws.clone();
        let effects = if let Some(event) = cause.strip_prefix("event ") {
            let event = self.event(event);
            let delta = Some(&delta);
            let unread = (!concerns(&self.state, &ws, &event.name, &event.source)).then(|| {
                let mut state = self.state.clone();
                let effects = fold(&mut state, &ws, &cx, Input::Passing { name: &event.name, delta });
                (state, effects)
            });
            let effects = fold(&mut self.state, &ws, &cx, Input::Event { event: &event, delta });
            if let Some(unread) = unread {
                assert_eq!(unread, (self.state.clone(), effects.clone()), "{what}: it does not concern the profile");
                self.passed += 1;
            }
            effects
        } else if let Some(receipt) = cause.strip_prefix("receipt ") {
            let receipt = self.receipt(receipt);
            fold(&mut self.state, &ws, &cx, Input::Receipt { receipt: &receipt, delta: None })
        } else if let Some(command) = command(cause) {
            let mut record = [0; 16];
            record[..8].copy_from_slice(&self.offset.to_be_bytes());
            fold(&mut self.state, &ws, &cx, Input::Command { command: &command, record: &record, delta: None })
        } else {
            let delta = self.delta(cause);
            fold(&mut self.state, &ws, &cx, Input::Delta(&delta))
        };
        self.tell(effects);
    }

    fn event(&self, text_: &str) -> Event {
        let words: Vec<&str> = text_.split(' ').collect();
        let name: Vec<&str> = words.iter().take_while(|w| !w.contains('=')).copied().collect();
        let mut properties: BTreeMap<&str, &str> = words[name.len()..].iter().filter_map(|w| w.split_once('=')).collect();
        let id = properties.remove("id").map_or_else(|| format!("m{}", self.offset), str::to_owned);
        let ago = properties.remove("ago").map_or(Span::ZERO, |a| a.parse().unwrap());
        let historical = properties.remove("historical").is_some();
        let may_grant = properties.remove("browser").is_none();
        let entries = properties.into_iter().map(|(n, v)| Property { name: n.to_owned(), value: Some(text(v)) });
        Event {
            message_id: id,
            name: name.join(" "),
            event_time: self.now.minus(ago).millis(),
            received_at: self.now.millis(),
            properties: Some(Object { entries: entries.collect() }),
            historical,
            may_grant,
            ..Event::default()
        }
    }

    fn receipt(&self, text: &str) -> Receipt {
        let (word, reason) = text.split_once(' ').unwrap_or((text, ""));
        let sent = self.last.as_ref().expect("something went out");
        let outcome = match word {
            "accepted" => Outcome::Accepted,
            "failed" => Outcome::PermanentRecipient,
            "unknown" => Outcome::Unknown,
            "stopped" => Outcome::Stopped,
            "transient" => Outcome::Transient,
            other => panic!("{other}"),
        };
        Receipt {
            profile: sent.profile.clone(),
            dispatch: sent.dispatch.clone(),
            send: sent.send.clone(),
            outcome: outcome.into(),
            reason: reason.to_owned(),
            run: sent.run.clone(),
            journey: sent.journey.clone(),
            step: sent.step.clone(),
            ..Receipt::default()
        }
    }

    fn delta(&self, text_: &str) -> Person {
        let words: Vec<&str> = text_.split(' ').collect();
        let at = self.now.millis();
        let mut person = Person::default();
        match words[0] {
            "cart" => {
                let status = match words[2] {
                    "open" => CartStatus::Open,
                    "in_checkout" => CartStatus::InCheckout,
                    "emptied" => CartStatus::Emptied,
                    "ordered" => CartStatus::Ordered,
                    other => panic!("{other}"),
                };
                person.carts.push(Cart {
                    cart_id: words[1].to_owned(),
                    status: status.into(),
                    value: Some(7_000),
                    updated_at: at,
                    ..Cart::default()
                });
            }
            "order" => person.orders.push(Order {
                order_id: words[1].to_owned(),
                status: words[2].to_owned(),
                flags: words[3..].iter().map(|f| (*f).to_owned()).collect(),
                placed_at: at,
                ..Order::default()
            }),
            "consent" => {
                let (channel, topic) = words[1].split_once('/').unwrap();
                let state = match words[2] {
                    "granted" => ConsentState::Granted,
                    "denied" => ConsentState::Denied,
                    "pending" => ConsentState::Pending,
                    other => panic!("{other}"),
                };
                person.consents.push(Consent {
                    channel: channel.to_owned(),
                    topic: topic.to_owned(),
                    state: state.into(),
                    basis: "express".to_owned(),
                    at,
                    ..Consent::default()
                });
            }
            "address" => {
                let (channel, value) = words[1].split_once(':').unwrap_or(("email", words[1]));
                let address = Address { channel: channel.to_owned(), value: value.to_owned(), verified: false, set_at: at };
                person.addresses.push(address);
            }
            "segment" => {
                let truth = if words[2] == "yes" { Truth::Yes } else { Truth::No };
                person.memberships.push(Membership {
                    segment: words[1].to_owned(),
                    truth: truth.into(),
                    since: at,
                    ..Membership::default()
                });
            }
            "field" => person.fields.push(Field { path: words[1].to_owned(), value: Some(text(words[2])), set_at: at }),
            other => panic!("{other}"),
        }
        person
    }

    /// Takes in another profile of the same shop, as of this one's time; what it was due until then it does first.
    pub(super) fn merge(&mut self, mut other: Self, delta: Option<&Person>) {
        if other.now < self.now {
            other.pass(self.now);
        }
        let mut incoming = other.state;
        incoming.losers.push(Bytes::copy_from_slice(other.profile.as_bytes()));
        if self.last.is_none() {
            self.last = other.last;
        }
        let cx = self.context();
        let ws = self.ws.clone();
        let effects = import(&mut self.state, &incoming, delta, &ws, &cx, self.rechecks);
        self.tell(effects);
    }

    /// These definitions come into force.
    pub(super) fn under(&mut self, ws: &Arc<Workspace>) {
        self.ws = ws.clone();
    }

    /// All versions of all journeys stand like this from now on.
    pub(super) fn stands(&mut self, standing: Standing) {
        let mut journeys = BTreeMap::clone(&self.ws.journeys);
        for version in journeys.values_mut().flat_map(|versions| versions.versions.values_mut()) {
            Arc::make_mut(version).standing = standing;
        }
        self.ws = Arc::new(Workspace { journeys: journeys.into(), ..Workspace::clone(&self.ws) });
    }

    /// An operator wants this done now.
    pub(super) fn follow(&mut self, command: &RunCommand) {
        let cx = self.context();
        let ws = self.ws.clone();
        let effects = fold(&mut self.state, &ws, &cx, Input::Command { command, record: &[9; 16], delta: None });
        self.tell(effects);
    }

    /// The person is to be forgotten.
    pub(super) fn erase(&mut self) {
        let cx = self.context();
        let ws = self.ws.clone();
        let effects = erase(&mut self.state, &ws, &cx);
        self.tell(effects);
    }

    fn tell(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            let at = self.now.since(self.start);
            match effect {
                Effect::Decision(decision) => {
                    let said = [&decision.what, &decision.journey, &decision.step, &decision.reason];
                    let said: Vec<&str> = said.into_iter().map(String::as_str).filter(|s| !s.is_empty()).collect();
                    self.told.push(format!("{at} {}", said.join(" ")));
                    self.decisions.push(*decision);
                }
                Effect::Dispatch { dispatch, .. } => self.last = Some(*dispatch),
                Effect::Recall { recall, .. } => self.told.push(format!("{at} recall {}", recall.reason)),
                Effect::Suppress { suppress, .. } => self.told.push(format!("{at} suppress {} {}", suppress.reason, suppress.topic)),
                Effect::Feedback { feedback, .. } => self.told.push(format!("{at} feedback {}", feedback.what)),
                Effect::Unsuppress { unsuppress, .. } => self.told.push(format!("{at} unsuppress {}", unsuppress.reason)),
            }
        }
    }

    /// Steps of sends that went out, in order.
    pub(super) fn sent(&self) -> Vec<&str> {
        self.decisions.iter().filter(|d| d.what == "SENT").map(|d| d.step.as_str()).collect()
    }

    /// How runs ended, in order.
    pub(super) fn exits(&self) -> Vec<&str> {
        self.decisions.iter().filter(|d| d.what == "EXITED").map(|d| d.reason.as_str()).collect()
    }
}

/// `start JOURNEY [KEY]`, `cancel JOURNEY`.
fn command(text: &str) -> Option<RunCommand> {
    let mut words = text.split(' ').map(str::to_owned);
    let (verb, journey) = (words.next()?, words.next().unwrap_or_default());
    let what = match verb.as_str() {
        "start" => run_command::What::Start(StartRun { journey, key: words.next().unwrap_or_default() }),
        "cancel" => run_command::What::Cancel(CancelRuns { run: Bytes::new(), journey }),
        _ => return None,
    };
    Some(RunCommand { node: None, what: Some(what) })
}
