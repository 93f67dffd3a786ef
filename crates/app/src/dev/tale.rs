//! What the screen tells of a story: a progress line, a handful of lives in full, a table at the end.

use std::{collections::BTreeMap, io::Write as _, time::Duration};

use prost::Message as _;
use serde_json::Value;
use waypost_codec::{
    public::{Decision, Message},
    state, stored,
};
use waypost_types::{EntityId, IdentifierClass, IdentifierHash, PartitionId, Role, Span, Timestamp, WorkspaceId};

use super::{
    shop::{Scene, Story},
    world::World,
};
use crate::screen;

/// So many lives are told in full.
const TOLD: usize = 6;
/// Pause between progress lines on a screen that is no terminal.
const PAUSE: Duration = Duration::from_secs(2);

/// What the script counts.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) accepted: usize,
    pub(super) refused: usize,
    pub(super) repeats: usize,
    pub(super) unsubscribed: usize,
}

/// What has been told and counted.
pub(super) struct Tale {
    told: BTreeMap<usize, String>,
    /// Profile id (text) → shopper, for those told.
    profiles: BTreeMap<String, Option<usize>>,
    decisions: BTreeMap<u32, u64>,
    messages: BTreeMap<u32, u64>,
    totals: BTreeMap<String, usize>,
    stops: BTreeMap<String, usize>,
    last: Duration,
    terminal: bool,
    start: Timestamp,
}

// === impl Tale ===

impl Tale {
    /// Chooses whose lives are told: one of each of the first habits.
    pub(super) fn new(story: &Story) -> Self {
        let mut told = BTreeMap::new();
        let mut habits = std::collections::BTreeSet::new();
        for (index, shopper) in story.shoppers.iter().enumerate() {
            if told.len() < TOLD && !shopper.habit.is_empty() && habits.insert(shopper.habit) {
                told.insert(index, shopper.name.clone());
            }
        }
        for (index, name) in &told {
            let shopper = &story.shoppers[*index];
            screen(&format!("  {name} ({}): {}", shopper.email, shopper.habit), false);
        }
        screen("", false);
        let terminal = std::io::IsTerminal::is_terminal(&std::io::stdout());
        Self {
            told,
            profiles: BTreeMap::new(),
            decisions: BTreeMap::new(),
            messages: BTreeMap::new(),
            totals: BTreeMap::new(),
            stops: BTreeMap::new(),
            last: Duration::ZERO,
            terminal,
            start: story.start,
        }
    }

    fn line(&self, at: Timestamp, shopper: usize, arrow: &str, text: &str) {
        if let Some(name) = self.told.get(&shopper) {
            self.clear();
            screen(&format!("{}  {name:<6} {arrow} {text}", clock(self.start, at)), false);
        }
    }

    /// A call came in.
    pub(super) fn came(&self, scene: &Scene, body: &Value) {
        let event = body["event"].as_str().unwrap_or("identify");
        let p = &body["properties"];
        let detail = ["cart_id", "product_id", "order_id", "topic"].into_iter().filter_map(|n| p[n].as_str()).collect::<Vec<_>>().join(" ");
        let who = body["userId"].as_str().or_else(|| body["anonymousId"].as_str()).unwrap_or_default();
        self.line(scene.at, scene.shopper, "→", &format!("{event} {detail} (as {who})"));
    }

    /// She used the unsubscribe link.
    pub(super) fn left(&self, shopper: usize, at: Timestamp) {
        self.line(at, shopper, "→", "one-click unsubscribe");
    }

    /// Reads what was decided and sent since the last look.
    pub(super) fn watch(&mut self, world: &mut World, story: &Story) {
        for partition in 0..world.record.public_partitions {
            let mut next = self.decisions.get(&partition).copied().unwrap_or(0);
            while let Ok(Some(record)) = world.log.read(Decision::TOPIC, partition, next) {
                next = record.offset + 1;
                if let Some(decision) = record.payload.get(5..).and_then(Decision::decode) {
                    self.decided(world, story, &decision);
                }
            }
            self.decisions.insert(partition, next);
            let mut next = self.messages.get(&partition).copied().unwrap_or(0);
            while let Ok(Some(record)) = world.log.read(Message::TOPIC, partition, next) {
                next = record.offset + 1;
                if let Some(message) = record.payload.get(5..).and_then(Message::decode) {
                    *self.totals.entry(message.name).or_default() += 1;
                }
            }
            self.messages.insert(partition, next);
        }
    }

    fn decided(&mut self, world: &mut World, story: &Story, decision: &Decision) {
        *self.totals.entry(decision.what.clone()).or_default() += 1;
        if matches!(decision.what.as_str(), "STOPPED" | "EXITED" | "REFUSED") {
            *self.stops.entry(format!("{} {}", decision.what.to_lowercase(), decision.reason)).or_default() += 1;
        }
        let Some(shopper) = self.shopper_of(world, story, &decision.profile) else { return };
        let step = if decision.step.is_empty() { String::new() } else { format!(" step {}", decision.step) };
        let arrow = match decision.what.as_str() {
            "SENT" => "✉",
            "STOPPED" | "EXITED" | "REFUSED" | "RECALLED" => "✗",
            _ => "·",
        };
        let cause = if decision.cause.is_empty() { String::new() } else { format!("  [{}]", decision.cause) };
        self.line(decision.at, shopper, arrow, &format!("{}{step} {} {}{cause}", decision.journey, decision.what, decision.reason));
    }

    fn shopper_of(&mut self, world: &mut World, story: &Story, profile: &str) -> Option<usize> {
        if let Some(known) = self.profiles.get(profile) {
            return *known;
        }
        for shopper in self.told.keys().copied().collect::<Vec<_>>() {
            for id in identities(world, story, shopper) {
                self.profiles.insert(id, Some(shopper));
            }
        }
        *self.profiles.entry(profile.to_owned()).or_insert(None)
    }

    fn clear(&self) {
        if self.terminal {
            let mut out = std::io::stdout();
            drop(out.write_all(b"\r\x1b[K").and_then(|()| out.flush()));
        }
    }

    /// One line on how far it is, now and then.
    pub(super) fn progress(&mut self, world: &World, counts: &Counts, wall: Duration) {
        let pause = if self.terminal { Duration::from_millis(100) } else { PAUSE };
        if wall < self.last + pause {
            return;
        }
        self.last = wall;
        let text = format!(
            "… {}  {} events, {} messages, {} runs live or ended, {}",
            clock(self.start, world.pipeline.now()),
            counts.accepted,
            self.total("Message Accepted"),
            self.total("ENTERED"),
            seconds(wall)
        );
        if self.terminal {
            let mut out = std::io::stdout();
            drop(write!(out, "\r\x1b[K{text}").and_then(|()| out.flush()));
        } else {
            screen(&text, false);
        }
    }

    fn total(&self, what: &str) -> usize {
        self.totals.get(what).copied().unwrap_or(0)
    }

    /// The table at the end.
    pub(super) fn summary(&self, world: &World, counts: &Counts, wall: Duration) {
        self.clear();
        let (profiles, merges) = population(world);
        let dead: usize = (0..world.record.public_partitions).map(|p| world.log.all("wp1.dead", p).len()).sum();
        let mut rows = vec![
            ("events accepted", counts.accepted.to_string()),
            ("  of them repeats of an SDK", counts.repeats.to_string()),
            ("calls refused at the door", counts.refused.to_string()),
            ("unsubscribes by link", counts.unsubscribed.to_string()),
            ("profiles", profiles.to_string()),
            ("merges", merges.to_string()),
            ("runs entered", self.total("ENTERED").to_string()),
            ("sends decided", self.total("SENT").to_string()),
            ("messages accepted", self.total("Message Accepted").to_string()),
            ("dead letters", dead.to_string()),
        ];
        let stops: Vec<_> = self.stops.iter().map(|(reason, count)| (format!("  {reason}"), count.to_string())).collect();
        rows.push(("stops by reason", self.stops.values().sum::<usize>().to_string()));
        let wide = rows.iter().map(|(n, _)| n.len()).chain(stops.iter().map(|(n, _)| n.len())).max().unwrap_or(0);
        let lines = rows.iter().map(|(n, v)| ((*n).to_owned(), v.clone())).chain(stops).map(|(n, v)| format!("  {n:<wide$}  {v:>7}"));
        let days = world.pipeline.now().since(self.start).millis() / Span::from_days(1).millis();
        screen(&format!("\n{days} days in {}:\n{}", seconds(wall), lines.collect::<Vec<_>>().join("\n")), false);
    }
}

/// As people say it.
fn seconds(wall: Duration) -> String {
    format!("{}.{} s", wall.as_secs(), wall.subsec_millis() / 100)
}

/// Day of the story and time of day, both UTC.
fn clock(start: Timestamp, at: Timestamp) -> String {
    let date = |t: Timestamp| t.millis().div_euclid(86_400_000);
    let text = at.to_string();
    format!("day {:>2} {}", date(at) - date(start) + 1, text.get(11..19).unwrap_or(&text))
}

/// Profiles a shopper's identifiers lead to now.
fn identities(world: &mut World, story: &Story, shopper: usize) -> Vec<String> {
    let key = world.record.hash_key();
    let workspace = WorkspaceId::new(1);
    let layout = world.record.layout();
    let handles = [
        (IdentifierClass::UserId, format!("u-{shopper}")),
        (IdentifierClass::Anonymous, format!("c-{shopper}")),
        (IdentifierClass::Anonymous, format!("m-{shopper}")),
        (IdentifierClass::Email, story.shoppers[shopper].email.clone()),
    ];
    let mut found = Vec::new();
    for (class, value) in handles {
        let hash = IdentifierHash::of(&key, workspace, class, "", &value);
        let partition = PartitionId { role: Role::Identity, index: layout.partition(workspace, hash.as_bytes()) };
        let answer = world.pipeline.query_at(partition, EntityId::new(workspace, b'i', hash.as_bytes()));
        let Some((Some(bytes), _)) = answer else { continue };
        let Some(state) = stored::open(&bytes).ok().and_then(|(_, body)| state::IdentifierState::decode(body).ok()) else { continue };
        for node in state.generations {
            for id in [node.id, node.route, node.parent] {
                if let Ok(profile) = waypost_types::ProfileId::from_slice(&id) {
                    found.push(profile.to_string());
                }
            }
        }
    }
    found
}

/// Live profiles, and profiles that were joined into another.
fn population(world: &World) -> (usize, usize) {
    let (mut live, mut joined) = (0, 0);
    for index in 0..world.record.partitions {
        let Some(dump) = world.pipeline.store().dump(PartitionId { role: Role::Segmenter, index }) else { continue };
        for bytes in dump.entities.values() {
            let Some(state) = stored::open(bytes).ok().and_then(|(_, body)| state::SegmentProfile::decode(body).ok()) else { continue };
            if state.moved_to.is_empty() { live += 1 } else { joined += 1 }
        }
    }
    (live, joined)
}
