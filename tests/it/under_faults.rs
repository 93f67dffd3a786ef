//! The promises while things are killed: every expected message once, or reported unknown where a call was
//! under way; none after a stop that came in time.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use prost::Message as _;
use serde_json::{Value as Json, json};
use waypost_codec::{frame::Frame, inbox::AttemptOutcome, kind};

use crate::{
    http::Request,
    shop::{ROLES, Said, Shop},
    stack::{self, alone, alone_on_empty_servers},
};

/// Delay before each send of the fixture journey.
const STEPS: [(&str, i64); 2] = [("remind", 4_000), ("again", 8_000)];
/// A stop acknowledged this long before the due instant is in time.
const SLACK: i64 = 2_000;

/// Everybody's carts, and what has to come of them.
pub(crate) struct Crowd<'a> {
    shop: &'a Shop,
    carts: Vec<Cart>,
}

struct Cart {
    key: String,
    user: String,
    touched: Said,
    ordered: Option<Said>,
}

/// What became of one send, as seen from outside.
#[derive(Debug, Default)]
struct Seen {
    mails: usize,
    accepted: usize,
    unknown: usize,
    other: Vec<String>,
}

// === impl Cart ===

impl Cart {
    /// Whether the order was acknowledged in time to prevent a send that is due so long after the touch.
    fn prevents(&self, delay: i64) -> bool {
        self.ordered.is_some_and(|said| said.acknowledged <= self.touched.first_tried + delay - SLACK)
    }
}

// === impl Crowd ===

impl<'a> Crowd<'a> {
    pub(crate) fn of(shop: &'a Shop) -> Self {
        Self { shop, carts: Vec::new() }
    }

    /// Somebody new fills a cart; its number. An order ends all runs of a person, so each has one.
    pub(crate) fn touch(&mut self) -> usize {
        let number = self.carts.len();
        let (key, user) = (format!("k{number}"), format!("u{number}"));
        self.shop.person(&user);
        let touched = self.shop.touch(&json!({"userId": user}), &key);
        self.carts.push(Cart { key, user, touched, ordered: None });
        number
    }

    /// Its owner orders, under her user id.
    pub(crate) fn order(&mut self, cart: usize) {
        let cart = &mut self.carts[cart];
        cart.ordered = Some(self.shop.order(&json!({"userId": cart.user}), &format!("o-{}", cart.key)));
    }

    /// Until the first mail about a cart.
    pub(crate) fn reminded(&self, cart: usize) {
        let cart = &self.carts[cart];
        self.shop.mail(&format!("{}@mail.example", cart.user), &format!("remind {}", cart.key));
    }

    /// Until all runs have ended and what they sent has an outcome.
    pub(crate) fn settle(&self) {
        for cart in &self.carts {
            self.shop.ended("cart-recovery", &cart.key);
        }
        self.shop.until("an outcome of each send", || {
            let rows = self.shop.decisions.rows(&self.shop.registry);
            let done = self.outcomes();
            let sent = rows.iter().filter(|row| row["what"] == "SENT");
            sent.map(|row| &row["send"]).all(|send| done.contains_key(send.as_str().unwrap())).then_some(())
        });
    }

    /// Names of the rows of `waypost.messages.v1` by send id.
    fn outcomes(&self) -> BTreeMap<String, Vec<String>> {
        let mut outcomes: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for row in self.shop.messages.rows(&self.shop.registry) {
            let said = format!("{} {}", row["name"].as_str().unwrap(), row["reason"].as_str().unwrap());
            outcomes.entry(row["send"].as_str().unwrap().to_owned()).or_default().push(said.trim().to_owned());
        }
        outcomes
    }

    /// Judges every cart; the sends that were reported as unknown. Some stops must have come in time, else
    /// nothing was shown of them.
    pub(crate) fn judge(&self) -> Vec<String> {
        let in_time = self.carts.iter().flat_map(|cart| STEPS.map(|(_, delay)| cart.prevents(delay))).filter(|p| *p).count();
        assert!(in_time > 0, "no stop came in time");
        let decisions = self.shop.decisions.rows(&self.shop.registry);
        let outcomes = self.outcomes();
        let mails = self.shop.sink.mails();
        let mut doubtful = Vec::new();
        for cart in &self.carts {
            let own = |what: &str, step: &str| -> Vec<&Json> {
                decisions
                    .iter()
                    .filter(|row| row["key"] == cart.key && row["what"] == what && (step.is_empty() || row["step"] == step))
                    .collect()
            };
            assert_eq!((own("ENTERED", "").len(), own("EXITED", "").len()), (1, 1), "runs of {}: {decisions:#?}", cart.key);
            for (step, delay) in STEPS {
                let name = format!("{step} {}", cart.key);
                let sent = own("SENT", step);
                assert!(sent.len() <= 1, "{name} was decided twice: {sent:#?}");
                let mut seen = Seen { mails: mails.iter().filter(|mail| mail.header("subject") == name).count(), ..Seen::default() };
                for said in sent.iter().flat_map(|row| &outcomes[row["send"].as_str().unwrap()]) {
                    match said.as_str() {
                        "Message Accepted" => seen.accepted += 1,
                        said if said.starts_with("Message Unknown") => seen.unknown += 1,
                        said => seen.other.push(said.to_owned()),
                    }
                }
                assert!(seen.mails <= 1, "{name} went out {} times", seen.mails);
                assert!(seen.mails == 1 || seen.accepted == 0, "{name} is reported accepted and never arrived: {seen:?}");
                if cart.prevents(delay) {
                    assert!(
                        sent.is_empty() && seen.mails == 0,
                        "{name} went out after a stop in time: {:?} {:?}",
                        cart.touched,
                        cart.ordered
                    );
                } else if cart.ordered.is_none() {
                    assert!(seen.accepted + seen.unknown >= 1 && seen.other.is_empty(), "{name} did not go out: {seen:?}");
                }
                if seen.unknown > 0 && seen.accepted == 0 {
                    let said: Vec<_> = sent.iter().map(|row| (&row["time"], &outcomes[row["send"].as_str().unwrap()])).collect();
                    doubtful.push(format!("{name}: {said:?}, {} arrived", seen.mails));
                }
            }
        }
        doubtful
    }
}

#[test]
fn a_killed_role_loses_nothing_and_doubles_nothing() {
    let alone = alone("kill");
    let shop = &alone.shop;
    let mut crowd = Crowd::of(shop);
    shop.sink.answer_after(Duration::from_millis(300));
    let mute = shop.person("mute");
    for role in ROLES {
        if role == "sender" {
            // a call that is under way for certain: the server has the message and never answers
            shop.track(&json!({"userId": "mute"}), "Signed Up", json!({}));
            shop.mail(&mute, "greet Ann");
        }
        // the first half is going out when the role dies, the second half is pending
        let [first, ..] = [(); 5].map(|()| crowd.touch());
        crowd.reminded(first);
        let pending = [(); 5].map(|()| crowd.touch());
        shop.kill(role);
        if role == "ingest" {
            shop.start(role);
            crowd.order(pending[0]);
        } else {
            // in time, while the role is away
            crowd.order(pending[0]);
            shop.start(role);
        }
        crowd.order(pending[1]);
        // it is at work again when it has dealt with a cart that came after it
        let fresh = crowd.touch();
        crowd.reminded(fresh);
    }
    shop.wait_for_control();
    crowd.settle();
    // Only the sender makes calls: the doubtful ones were in flight when it died.
    let unknown = crowd.judge();
    assert!(unknown.len() <= 5, "{unknown:?}");
    let row = shop.message("the end of the doubt", |row| row["step"] == "greet");
    assert_eq!((row["name"].as_str(), row["reason"].as_str()), (Some("Message Unknown"), Some("OUTCOME_UNKNOWN")));
    assert_eq!(shop.sink.to(&mute).len(), 1);
}

#[test]
fn a_crash_of_redis_or_kafka_loses_nothing_and_doubles_nothing() {
    let alone = alone_on_empty_servers("servers");
    let shop = &alone.shop;
    let mut crowd = Crowd::of(shop);
    shop.sink.answer_after(Duration::from_millis(100));
    for server in ["redis", "kafka"] {
        let [first, ..] = [(); 5].map(|()| crowd.touch());
        crowd.reminded(first);
        let pending = [(); 5].map(|()| crowd.touch());
        crowd.order(pending[0]);
        stack::fell(server);
        let call = json!({"event": "Page", "anonymousId": "in-the-dark", "properties": {}}).to_string();
        let answer = shop.request(&Request::post("/v1/track", call).key(&shop.backend));
        if server == "kafka" {
            assert_eq!((answer.status, answer.reason().as_str()), (503, "UNAVAILABLE"));
            assert!(answer.head.contains("retry-after: "), "{}", answer.head);
        } else {
            assert_eq!(answer.status, 200, "{}", answer.body);
        }
        stack::raise();
        crowd.order(pending[1]);
        let fresh = crowd.touch();
        crowd.reminded(fresh);
    }
    crowd.settle();
    // Nobody who was calling died: all is known.
    assert_eq!(crowd.judge(), Vec::<String>::new());
}

#[test]
fn a_clean_restart_of_each_role_leaves_no_doubt() {
    let alone = alone("restart");
    let shop = &alone.shop;
    let mut crowd = Crowd::of(shop);
    shop.sink.answer_after(Duration::from_millis(200));
    for role in ROLES {
        let ordered = crowd.touch();
        crowd.order(ordered);
        let [first, ..] = [(); 4].map(|()| crowd.touch());
        crowd.reminded(first);
        let status = shop.stop(role);
        assert!(status.success(), "{role}: {status}");
        shop.start(role);
    }
    stopped_in_mid_call(shop, &mut crowd);
    crowd.settle();
    assert_eq!(crowd.judge(), Vec::<String>::new());
}

/// A sender that is stopped while a slow server has its messages hears the answers and appends them before it goes: the
/// next one asks nobody again.
fn stopped_in_mid_call(shop: &Shop, crowd: &mut Crowd<'_>) {
    let outcomes = || -> usize {
        let frames = (0..4).flat_map(|partition| shop.topic("wp1.send").rows(partition, 0));
        let sections = frames.filter_map(|row| Frame::decode(row.payload).ok()).flat_map(|frame| frame.sections);
        let records = sections.flat_map(|section| section.records).filter(|record| record.kind == kind::OUTCOME);
        let told = records.map(|record| AttemptOutcome::decode(record.body).unwrap());
        // one may be appended twice, and counts once
        told.map(|outcome| (outcome.dispatch, outcome.number)).collect::<BTreeSet<_>>().len()
    };
    shop.sink.answer_after(Duration::from_secs(2));
    let carts = [(); 4].map(|()| crowd.touch());
    crowd.reminded(carts[0]);
    let (calls, before) = (shop.sink.mails().len(), outcomes());
    let asked = stack::now();
    assert!(shop.stop("sender").success());
    assert!(stack::now() - asked > 500, "no call was under way: nothing was shown");
    let known = outcomes();
    assert!(known > before, "the outcome was not appended: {before} of {calls} before, {known} after");
    assert_eq!(known, shop.sink.mails().len(), "every call that was begun is answered for in the log");
    shop.sink.answer_after(Duration::from_millis(200));
    shop.start("sender");
}
