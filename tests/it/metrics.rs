//! What each process shows of itself: figures that are what happened, health, and nobody's data.

use std::{
    collections::BTreeMap,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value as Json, json};

use crate::{
    http::Request,
    public::Event,
    shop::{ROLES, Shop},
    stack::{self, PATIENCE, alone, alone_on_empty_servers},
};

const KEYED: [&str; 4] = ["identity", "segmenter", "orchestrator", "sender"];
/// What must never be seen where operators look.
const USER: &str = "canary-user-81731";
const PHONE: &str = "1705550183";
const FIRST_NAME: &str = "Zebedee-Canary";

/// A process's metrics: values by name and labels.
#[derive(Debug)]
struct Scrape {
    text: String,
    series: BTreeMap<(String, BTreeMap<String, String>), f64>,
}

// === impl Scrape ===

impl Scrape {
    fn of(shop: &Shop, role: &str) -> Self {
        let answer = shop.admin(role, "/metrics");
        assert_eq!(answer.status, 200, "{role}: {}", answer.body);
        assert!(answer.head.contains("content-type: application/openmetrics-text"), "{}", answer.head);
        Self::parse(&answer.body)
    }

    /// As `OpenMetrics` has it: every series belongs to a family whose type came before.
    fn parse(body: &str) -> Self {
        let text = body.to_owned();
        let (mut series, mut family) = (BTreeMap::new(), None);
        assert!(text.ends_with("# EOF\n"), "it has an end");
        for line in text.lines().take_while(|line| *line != "# EOF") {
            if let Some(told) = line.strip_prefix("# TYPE ") {
                family = told.split_once(' ').map(|(name, kind)| (name.to_owned(), kind.to_owned()));
                continue;
            }
            if line.starts_with("# ") {
                continue;
            }
            let (named, value) = line.rsplit_once(' ').unwrap();
            let (name, labels) = named.split_once('{').unwrap_or((named, "}"));
            let (of, kind) = family.as_ref().expect("a type stands first");
            let end = name.strip_prefix(of.as_str()).unwrap_or_else(|| panic!("{name} below {of}"));
            let ends: &[&str] = match kind.as_str() {
                "counter" => &["_total"],
                "gauge" => &[""],
                "histogram" => &["_sum", "_count", "_bucket"],
                other => panic!("{of} is a {other}"),
            };
            assert!(ends.contains(&end), "{name} of {kind} {of}");
            let labels = labels.trim_end_matches('}').split(',').filter_map(|label| label.split_once('='));
            let labels = labels.map(|(name, value)| (name.to_owned(), value.trim_matches('"').to_owned())).collect();
            let before = series.insert((name.to_owned(), labels), value.parse().unwrap());
            assert_eq!(before, None, "{line} twice");
        }
        Self { text, series }
    }

    /// All series of this name whose labels are these, and maybe others, together.
    fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.each(name).filter(|(of, _)| labels.iter().all(|(l, v)| of.get(*l).is_some_and(|found| found == v))).map(|(_, v)| v).sum()
    }

    fn each<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (&'a BTreeMap<String, String>, f64)> {
        self.series.iter().filter(move |((of, _), _)| of == name).map(|((_, labels), value)| (labels, *value))
    }

    /// Exactly so much over all labels.
    fn is(&self, name: &str, expected: f64) {
        same(&self.sum(name, &[]), &expected).unwrap_or_else(|found| panic!("{name} is {found}:\n{}", self.text));
    }

    /// By two of its labels.
    fn by(&self, name: &str, labels: [&str; 2]) -> BTreeMap<[String; 2], f64> {
        let mut all = BTreeMap::new();
        for (of, value) in self.each(name) {
            *all.entry(labels.map(|label| of[label].clone())).or_default() += value;
        }
        all
    }
}

/// Decisions of a kind, by two of their fields.
fn decided(shop: &Shop, what: &str, fields: [&str; 2]) -> BTreeMap<[String; 2], f64> {
    let mut all = BTreeMap::new();
    for row in shop.decisions.rows(&shop.registry).into_iter().filter(|row| row["what"] == what) {
        let text = |field: &str| row[field].as_str().map_or_else(|| row[field].to_string(), ToOwned::to_owned);
        *all.entry(fields.map(text)).or_default() += 1.0;
    }
    all
}

fn user(name: &str) -> Json {
    json!({"userId": name})
}

/// Looks again until the figures are what they should be.
fn until(what: &str, mut look: impl FnMut() -> Result<(), String>) {
    let began = Instant::now();
    loop {
        match look() {
            Ok(()) => return,
            Err(found) => assert!(began.elapsed() < PATIENCE, "{what}: {found}"),
        }
        thread::sleep(Duration::from_millis(250));
    }
}

fn same<T: PartialEq + std::fmt::Debug>(found: &T, expected: &T) -> Result<(), String> {
    if found == expected { Ok(()) } else { Err(format!("{found:?} instead of {expected:?}")) }
}

/// What the story says at the door: how many events over HTTP, and how many over Kafka.
fn play(shop: &Shop) -> (f64, f64) {
    let address = shop.person(USER);
    shop.say("/v1/identify", json!({"userId": USER, "traits": {"phone": format!("+49{PHONE}"), "firstName": FIRST_NAME}}));
    shop.touch(&user(USER), "k-canary");
    shop.person("buys");
    shop.touch(&user("buys"), "k-buys");
    shop.order(&user("buys"), "o-buys");
    shop.say("/v1/identify", json!({"userId": "no-consent", "traits": {"email": "no-consent@mail.example"}}));
    shop.touch(&user("no-consent"), "k-no-consent");
    let who: &[(&str, &str)] = &[("user_id", "writes-avro")];
    let events = [
        shop.registry.event(&Event { message_id: "metrics-1", name: "Signed In", identifiers: who, ..Event::default() }),
        // which no schema can read
        bytes::Bytes::from_static(b"no Avro"),
    ];
    shop.events().write(events);
    // refused by the door
    let nameless = shop.request(&Request::post("/v1/track", json!({"userId": USER}).to_string()).key(&shop.backend));
    assert_eq!((nameless.status, nameless.reason().as_str()), (400, "NAME_MISSING"));
    let stranger = shop.request(&Request::post("/v1/track", "{}").key("wk_nobody"));
    assert_eq!(stranger.status, 401);
    shop.mail(&address, "again k-canary");
    for (key, reason) in [("k-canary", "COMPLETED"), ("k-buys", "GOAL"), ("k-no-consent", "COMPLETED")] {
        assert_eq!(shop.ended("cart-recovery", key), reason, "{key}");
    }
    // two people with three events each, one more of the first, one of whoever has no consent, three touches and an order
    (12.0, 1.0)
}

#[test]
fn figures_are_what_happened_and_name_nobody() {
    let alone = alone("metrics");
    let shop = &alone.shop;
    let (over_http, over_kafka) = play(shop);

    let received = |kind: &str| Scrape::of(shop, "ingest").sum("waypost_events_received_total", &[("source_kind", kind)]);
    until("events over HTTP", || same(&received("server"), &over_http));
    until("events over Kafka", || same(&received("kafka"), &over_kafka));
    let door = Scrape::of(shop, "ingest");
    for (reason, code) in [("NAME_MISSING", "400"), ("BAD_KEY", "401")] {
        assert!(door.sum("waypost_events_rejected_total", &[("reason", reason)]) >= 1.0, "{reason}: {}", door.text);
        assert!(door.sum("waypost_http_requests_total", &[("code", code)]) >= 1.0, "{code}: {}", door.text);
    }
    until("the letter of what was no Avro", || {
        let letters = Scrape::of(shop, "ingest").sum("waypost_dead_letters_total", &[("role", "ingest"), ("reason", "NOT_FRAMED")]);
        same(&letters, &1.0)
    });
    assert!(door.sum("waypost_http_request_duration_seconds_count", &[]) >= over_http);

    until("entries", || {
        let found = Scrape::of(shop, "orchestrator").by("waypost_journey_entries_total", ["journey", "version"]);
        same(&found, &decided(shop, "ENTERED", ["journey", "version"]))
    });
    until("exits", || {
        let found = Scrape::of(shop, "orchestrator").by("waypost_journey_exits_total", ["journey", "reason"]);
        same(&found, &decided(shop, "EXITED", ["journey", "reason"]))
    });
    until("stops", || {
        let found = Scrape::of(shop, "orchestrator").by("waypost_sends_stopped_total", ["channel", "reason"]);
        let expected: BTreeMap<_, _> = decided(shop, "STOPPED", ["what", "reason"])
            .into_iter()
            .map(|([_, reason], count)| (["email".to_owned(), reason], count))
            .collect();
        assert!(expected.keys().any(|[_, reason]| reason == "CONSENT_MISSING"));
        same(&found, &expected)
    });
    let mails = f64::from(u32::try_from(shop.sink.to(&format!("{USER}@mail.example")).len()).unwrap());
    until("sends", || same(&Scrape::of(shop, "sender").sum("waypost_sends_total", &[("channel", "email")]), &mails));
    assert!(mails >= 2.0);

    for role in KEYED {
        until(&format!("{role} to have nothing left"), || {
            let scrape = Scrape::of(shop, role);
            let led = scrape.sum("waypost_partitions_led", &[("role", role)]);
            let known = scrape.each("waypost_consumer_lag_frames").count();
            let lag = scrape.sum("waypost_consumer_lag_frames", &[]) + scrape.sum("waypost_consumer_lag_seconds", &[]);
            same(&(led, known, lag), &(4.0, 4, 0.0))
        });
        let scrape = Scrape::of(shop, role);
        assert!(scrape.sum("waypost_events_processed_total", &[("role", role)]) > 0.0);
        assert!(scrape.sum("waypost_event_processing_duration_seconds_count", &[("role", role)]) > 0.0);
        assert!(scrape.sum("waypost_commits_total", &[("role", role), ("result", "ok")]) > 0.0);
        assert!(scrape.sum("waypost_commit_duration_seconds_count", &[("role", role)]) > 0.0);
        let quiet =
            ["waypost_partition_halted", "waypost_channel_gap_seconds", "waypost_channel_mismatch_total", "waypost_digest_mismatch_total"];
        for name in quiet {
            scrape.is(name, 0.0);
        }
        scrape.is("waypost_store_up", 1.0);
    }
    let timers = Scrape::of(shop, "orchestrator");
    assert!(timers.sum("waypost_timer_lateness_seconds_count", &[]) >= 4.0, "{}", timers.text);
    let calls = Scrape::of(shop, "control");
    assert!(calls.sum("waypost_control_requests_total", &[("code", "OK")]) > 0.0, "{}", calls.text);

    for role in ROLES {
        let scrape = Scrape::of(shop, role);
        scrape.is("waypost_build_info", 1.0);
        scrape.is("waypost_kafka_brokers_up", 1.0);
        assert!(scrape.sum("process_resident_memory_bytes", &[]) > 1e6 && scrape.sum("process_open_fds", &[]) > 3.0);
        scrape.is("waypost_metrics_dropped_total", 0.0);
        let log = shop.log(role);
        for canary in [USER, PHONE, FIRST_NAME, "mail.example", &shop.backend, &shop.web, "k-canary", "wk_nobody"] {
            assert!(!scrape.text.contains(canary), "{role} shows {canary}");
            assert!(!log.contains(canary), "{role} logs {canary}");
        }
    }
}

#[test]
fn a_process_says_that_it_lives_and_is_ready() {
    let visit = stack::visit();
    let shop = &visit.shop;
    for role in ROLES {
        assert_eq!(shop.admin(role, "/livez").status, 200, "{role}");
        until(&format!("{role} to be ready"), || {
            let answer = shop.admin(role, "/readyz?verbose");
            same(&answer.status, &200).map_err(|found| format!("{found}: {}", answer.body))
        });
        let told = shop.admin(role, "/readyz?verbose").body;
        for check in ["drain", "doors", "definitions", "kafka", "redis"] {
            assert!(told.contains(&format!("[+] {check}: ")), "{role}: {told}");
            assert_eq!(shop.admin(role, &format!("/readyz/{check}")).status, 200, "{role} {check}");
        }
        assert_eq!(told.contains("[+] keys: "), role == "ingest", "{role}: {told}");
        assert_eq!(told.contains(&format!("[+] {role}: ")), KEYED.contains(&role), "{role}: {told}");
        assert_eq!(shop.admin(role, "/readyz/nothing").status, 404);
    }
    let health = |address: &str, arguments: &[&str]| {
        let mut command = Command::new(stack::variable("WAYPOST_BIN"));
        command.arg("health").args(arguments).env("WAYPOST_ADMIN_LISTEN", address).output().unwrap()
    };
    for arguments in [&[][..], &["--ready"]] {
        let output = health(&shop.admin_address("identity"), arguments);
        assert!(output.status.success(), "{output:?}");
    }
    assert_eq!(health("127.0.0.1:1", &[]).status.code(), Some(1));
}

/// A server that is away until this is dropped, whatever the test finds.
pub(crate) struct Felled;

// === impl Felled ===

impl Felled {
    pub(crate) fn new(server: &str) -> Self {
        stack::fell(server);
        Self
    }
}

impl Drop for Felled {
    fn drop(&mut self) {
        stack::raise();
    }
}

#[test]
fn a_log_that_is_away_closes_the_door_and_kills_nobody() {
    let alone = alone_on_empty_servers("metrics-away");
    let shop = &alone.shop;
    until("the door to be ready", || same(&shop.admin("ingest", "/readyz").status, &200));
    let felled = Felled::new("kafka");
    until("the door to close", || {
        let answer = shop.admin("ingest", "/readyz");
        same(&(answer.status, answer.body.trim()), &(503, "not ready: kafka"))
    });
    for role in ROLES {
        assert_eq!(shop.admin(role, "/livez").status, 200, "{role}");
        until(&format!("{role} to notice"), || same(&shop.admin(role, "/readyz/kafka").status, &503));
        Scrape::of(shop, role).is("waypost_kafka_brokers_up", 0.0);
        if role != "ingest" {
            let answer = shop.admin(role, "/readyz?verbose");
            assert!(answer.status == 200 && answer.body.contains("[!] kafka: no answer for "), "{role}: {}", answer.body);
        }
    }
    drop(felled);
    for role in ROLES {
        until(&format!("{role} to be well again"), || {
            let answer = shop.admin(role, "/readyz/kafka");
            same(&answer.status, &200)
                .and_then(|()| same(&shop.admin(role, "/readyz").status, &200))
                .map_err(|found| format!("{found}: {}", answer.body))
        });
    }
}
